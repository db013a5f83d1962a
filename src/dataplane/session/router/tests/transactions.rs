//! A transaction fails as a whole, and its parts end with it.

use super::{super::Order, ABORT, ABORT_IN_SEQUENCE, READ, Session, WRITE};
use crate::routing::settings::Settings;

#[test]
fn an_error_of_a_standby_makes_the_part_of_the_primary_fail() {
    let mut s = Session::new();
    s.begin();
    assert_eq!(s.query(READ), "1");
    s.says(1, "EZE");
    assert_eq!(s.orders(), [(0, ABORT)]);
    assert!(!s.router.shows(0, b'E', &s.ledgers) && !s.router.shows(0, b'Z', &s.ledgers));
    s.says(0, "EZE");
    assert_eq!(
        s.query(WRITE),
        "0",
        "which says that the transaction has failed"
    );
}

#[test]
fn an_error_of_the_primary_makes_the_part_of_the_standby_fail() {
    let mut s = Session::new();
    s.begin();
    assert_eq!(s.query(WRITE), "0");
    s.says(0, "EZE");
    assert_eq!(s.orders(), [(1, ABORT)], "else COMMIT would keep its SETs");
}

#[test]
fn a_pipeline_is_a_transaction_as_well() {
    let mut s = Session::new();
    s.run("SET a = 1");
    s.says(0, "12C").says(1, "12C");
    assert_eq!(s.parse("", WRITE), "0");
    s.says(0, "E");
    assert_eq!(
        s.orders(),
        [(1, ABORT_IN_SEQUENCE)],
        "the client's Sync follows"
    );
    assert_eq!(s.sync(), "0+1");
}

#[test]
fn an_error_of_an_earlier_sequence_does_not_reach_the_next_transaction() {
    let mut s = Session::new();
    s.parse("", "INSERT INTO nothing VALUES (1)");
    s.sync();
    assert_eq!(s.query("BEGIN"), "wait");
    s.says(0, "EZI");
    assert_eq!(s.query("BEGIN"), "0+1");
    assert_eq!(s.orders(), []);
}

#[test]
fn a_standby_whose_transaction_the_primary_has_ended_is_rolled_back() {
    let mut s = Session::new();
    s.begin();
    assert_eq!(s.query("PREPARE TRANSACTION 'x'"), "0");
    s.says(0, "CZI");
    assert_eq!(s.orders(), [(1, Order::Rollback)]);
}

#[test]
fn reads_stay_out_of_transactions_that_their_node_has_no_part_in() {
    let settings = Settings {
        statement_level_load_balance: true,
        ..Settings::default()
    };
    let mut s = Session::with(3, settings);
    assert_eq!(s.query("SELECT 1; BEGIN"), "0");
    s.says(0, "TDCCZT");
    assert_eq!(s.query(READ), "0");
}
