//! What goes to several nodes is answered by one.

use super::{super::Order, READ, Session, WRITE};
use crate::routing::settings::{OnWrite, Settings};

#[test]
fn the_primary_answers_what_goes_to_several_nodes() {
    let mut s = Session::new();
    assert_eq!(s.query("SET a = 1"), "0+1");
    assert!(s.router.shows(0, b'C', &s.ledgers) && !s.router.shows(1, b'C', &s.ledgers));
    s.says(0, "CZI");
    assert_eq!(s.query(READ), "wait", "node 1 has not answered the SET");
    s.says(1, "CZI");
    assert_eq!(s.query(READ), "1");
}

#[test]
fn a_follower_that_fails_where_the_leader_did_not_is_not_read_from() {
    let mut s = Session::new();
    s.query("SET a = 1");
    s.says(0, "CZI").says(1, "EZI");
    assert_eq!(s.diverged(), [1]);
    assert_eq!(s.query(READ), "0");
}

#[test]
fn a_follower_that_has_done_what_the_leader_has_undone_is_not_read_from() {
    let mut s = Session::new();
    assert_eq!(s.run("SET a = 1"), ["0+1", "0+1", "0+1"]);
    assert_eq!(s.sync(), "0+1");
    // A constraint that is looked at when the transaction is committed.
    s.says(0, "12CEZI").says(1, "12CZI");
    assert_eq!(s.diverged(), [1]);
}

#[test]
fn the_load_balance_node_is_told_what_a_string_of_statements_has_set() {
    let mut s = Session::new();
    assert_eq!(s.query("SET a = 1; SELECT 1; RESET b"), "0");
    s.says(0, "CTDCCZI");
    assert_eq!(
        s.orders(),
        [(1, Order::Replay(b"SET a = 1; RESET b;".as_slice().into()))]
    );
    assert_eq!(s.query(READ), "wait");
    s.says(1, "CCZI");
    assert_eq!(s.query(READ), "1");
}

#[test]
fn who_is_not_told_of_a_set_is_not_read_from() {
    let mut s = Session::new();
    assert_eq!(s.query("BEGIN; SET a = 1; COMMIT"), "0");
    s.says(0, "CCCZI");
    assert_eq!(s.query(READ), "0");
    // What a standby refuses changes nothing for what it is asked.
    let mut s = Session::new();
    assert_eq!(
        s.query("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"),
        "0"
    );
    s.says(0, "CZI");
    assert_eq!(s.query(READ), "1");
}

#[test]
fn the_primary_answers_the_sync_that_commits_a_write() {
    let mut s = Session::new();
    s.parse("s", READ);
    s.bind("p", "s");
    s.says(1, "12");
    s.run(WRITE);
    s.says(0, "12C");
    assert_eq!(s.message(b'D', "Pp\0"), "1", "where it is");
    assert_eq!(s.sync(), "wait");
    s.says(1, "T");
    assert_eq!(
        s.sync(),
        "0+1",
        "that the commit fails must not be swallowed"
    );
}

#[test]
fn a_query_ends_the_sequences_of_other_nodes() {
    let mut s = Session::new();
    s.run(READ);
    s.says(1, "12DC");
    assert_eq!(s.query(WRITE), "0");
    assert_eq!(s.orders(), [(1, Order::Sync)]);
}

#[test]
fn set_local_in_a_string_ends_with_its_transaction() {
    for set in ["SET LOCAL work_mem = '1MB'", "SET LOCAL search_path = s"] {
        let settings = Settings {
            on_write: OnWrite::Off,
            ..Settings::default()
        };
        let mut s = Session::with(2, settings);
        assert_eq!(s.query(&format!("BEGIN; {set}; SELECT 1; COMMIT")), "0");
        s.says(0, "CCTDCCZI");
        assert_eq!(s.query(READ), "1");
        s.says(1, "TDCZI");
        assert_eq!(s.query(&format!("{set}; SELECT 1")), "0");
        s.says(0, "CTDCZI");
        assert_eq!(s.query(READ), "1");
        s.says(1, "TDCZI").begin();
        assert_eq!(s.query(set), "0+1");
        s.says(0, "CZT").says(1, "CZT");
        assert_eq!(s.query(READ), "1");
        s.says(1, "TDCZT");
        assert_eq!(s.query(&format!("{set}; SELECT 1")), "0");
        s.says(0, "CTDCZT");
        assert_eq!(s.query(READ), "0", "the standby was not told");
    }
}
