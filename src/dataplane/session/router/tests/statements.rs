//! Statements and portals follow the client.

use super::{READ, Session, WRITE};
use crate::{cluster::NodeStatus, routing::settings::Settings};

#[test]
fn a_statement_is_prepared_where_it_is_bound() {
    let mut s = Session::new();
    assert_eq!(s.parse("s", READ), "1");
    s.sync();
    s.says(1, "1ZI").begin();
    s.query(WRITE);
    s.says(0, "CZT");
    assert_eq!(s.bind("", "s"), "parse on 0, 0");
    assert!(s.router.shows(1, b'2', &s.ledgers) || !s.router.shows(0, b'3', &s.ledgers));
    s.says(0, "312");
    assert_eq!(s.bind("", "s"), "0", "once");
}

#[test]
fn what_an_error_has_skipped_is_not_there() {
    let mut s = Session::new();
    s.parse("s", READ);
    s.sync();
    s.says(1, "1ZI").begin();
    s.query(WRITE);
    s.says(0, "CZT");
    // Our own Parse fails with the client's transaction.
    assert_eq!(s.bind("", "s"), "parse on 0, 0");
    s.says(0, "3E");
    s.sync();
    s.says(0, "ZE").says(1, "EZE");
    assert_eq!(s.query("ROLLBACK"), "0+1");
    s.says(0, "CZI").says(1, "CZI").begin();
    s.query(WRITE);
    s.says(0, "CZT");
    assert_eq!(s.bind("", "s"), "parse on 0, 0");
}

#[test]
fn a_name_that_is_taken_on_another_node_is_refused() {
    let mut s = Session::new();
    s.parse("s", READ);
    s.sync();
    s.says(1, "1ZI");
    assert_eq!(s.query("PREPARE s AS SELECT 1"), "parse on 0, 0");
    s.says(0, "31ZIEZI");
    assert_eq!(s.parse("s", WRITE), "0");
}

#[test]
fn a_name_that_only_a_follower_may_have_is_closed_before_it_is_made() {
    let mut s = Session::new();
    assert_eq!(s.parse("s", "SET a = 1"), "0+1");
    // The leader refuses what the follower takes.
    s.says(0, "E").says(1, "1");
    s.sync();
    s.says(0, "ZI").says(1, "EZI");
    assert_eq!(s.parse("s", READ), "close on 1, 1");
}

#[test]
fn a_statement_of_a_lost_node_is_described_elsewhere() {
    let mut s = Session::with(3, Settings::default());
    s.parse("s", READ);
    s.sync();
    s.says(1, "1ZI");
    s.router.node_lost(1, &mut s.ledgers);
    assert_eq!(s.message(b'D', "Ss\0"), "parse on 0, 0");
}

/// A session whose statement `s` only a lost node has had, in a transaction that has failed.
fn failed_without(sql: &str) -> Session {
    let mut s = Session::with(3, Settings::default());
    s.parse("s", sql);
    s.sync();
    s.says(1, "1ZI");
    s.view.nodes[1].status = NodeStatus::Down;
    s.router.node_lost(1, &mut s.ledgers);
    assert_eq!(s.query("BEGIN"), "0");
    s.says(0, "CZT");
    assert_eq!(s.query(WRITE), "0");
    s.says(0, "EZE");
    s
}

#[test]
fn in_a_failed_transaction_the_empty_string_stands_in_for_a_statement_that_no_node_has() {
    const COPY: &str = "COPY (SELECT 1) TO STDOUT";
    let mut s = failed_without(COPY);
    assert_eq!(s.message(b'D', "Ss\0"), "empty on 0, 0");
    s.says(0, "31tn");
    assert_eq!(s.bind("", "s"), "empty on 0, 0", "which refuses it");
    s.says(0, "31E");
    assert_eq!(s.sync(), "0");
    s.says(0, "ZE");
    assert_eq!(
        s.parse("s", "ROLLBACK"),
        "empty on 0, 0",
        "a name that is taken"
    );
    s.says(0, "31E");
    assert_eq!(s.sync(), "0");
    s.says(0, "ZE");
    assert_eq!(s.parse("s", READ), "0", "refused whatever the name");
    s.says(0, "E");
    assert_eq!(s.sync(), "0");
    s.says(0, "ZE");
    assert_eq!(s.query("ROLLBACK"), "0");
    s.says(0, "CZI");
    assert_eq!(
        s.message(b'D', "Ss\0"),
        "parse on 0, 0",
        "it is not the statement"
    );
}

#[test]
fn what_stands_in_for_a_statement_is_closed_before_another_one_of_its_name_is_made() {
    let mut s = failed_without("COPY (SELECT 1) TO STDOUT");
    s.message(b'D', "Ss\0");
    s.says(0, "31tn");
    assert_eq!(s.sync(), "0");
    s.says(0, "ZE");
    assert_eq!(s.query("ROLLBACK"), "0");
    s.says(0, "CZI");
    assert_eq!(s.message(b'C', "Ss\0"), "0");
    s.says(0, "3");
    assert_eq!(s.parse("s", WRITE), "close on 0, 0");
}

#[test]
fn nothing_stands_in_for_rows_or_an_unknown_number_of_parameters() {
    let mut s = failed_without(READ);
    assert_eq!(s.message(b'D', "Ss\0"), "parse on 0, 0", "to be refused");
    let mut s = failed_without("SELECT * FROM t WHERE a = $1");
    assert_eq!(s.bind("", "s"), "parse on 0, 0");
}

#[test]
fn a_portal_ends_with_the_savepoint_that_it_was_made_behind() {
    let mut s = Session::new();
    s.begin();
    s.query("SAVEPOINT a");
    s.says(0, "CZT").says(1, "CZT");
    s.parse("", READ);
    s.bind("p", "");
    s.sync();
    // SAVEPOINT counts as a write: reads of this transaction are the primary's.
    s.says(0, "12ZT");
    s.query("ROLLBACK TO a");
    s.says(0, "CZT").says(1, "CZT");
    assert!(s.router.portals.named.is_empty());
}

#[test]
fn every_execute_finds_its_statement_on_the_primary() {
    for (sql, want) in [
        ("EXPLAIN EXECUTE p", "parse on 0, 0"),
        ("CREATE TEMP TABLE zz AS EXECUTE p", "parse on 0, 0"),
        ("CREATE TABLE zz (a) AS EXECUTE p(1)", "parse on 0, 0"),
        (
            "EXPLAIN ANALYZE CREATE TABLE zz AS EXECUTE p",
            "parse on 0, 0",
        ),
        ("EXECUTE p; EXECUTE p2", "parse on 0, parse on 0, 0"),
        ("SELECT 2; EXECUTE p", "parse on 0, 0"),
        ("EXECUTE p(f_vol())", "parse on 0, 0"),
        ("EXECUTE p(1)", "1"),
    ] {
        let mut s = Session::new();
        assert_eq!(s.parse("p", READ), "1");
        assert_eq!(s.parse("p2", READ), "1");
        assert_eq!(s.sync(), "1");
        s.says(1, "11ZI");
        assert_eq!(s.query(sql), want, "{sql}");
    }
}

#[test]
fn names_in_doubt_are_forgotten_when_all_statements_go() {
    let mut s = Session::new();
    assert_eq!(s.parse("s", "SET a = 1"), "0+1");
    s.says(0, "E").says(1, "1");
    s.sync();
    s.says(0, "ZI").says(1, "EZI");
    assert!(!s.router.doubtful.is_empty());
    assert_eq!(s.query("DEALLOCATE ALL"), "0+1");
    s.says(0, "CZI").says(1, "CZI");
    assert!(s.router.doubtful.is_empty());
}

#[test]
fn there_is_a_bound_to_names_in_doubt() {
    let mut s = Session::new();
    for at in 0..2000 {
        let sent = s.parse(&format!("s{at}"), "SET a = 1");
        if sent == "0" {
            break;
        }
        s.says(0, "E").says(1, "1");
        s.sync();
        s.says(0, "ZI").says(1, "EZI");
    }
    assert!(s.router.doubtful.len() < 1100);
    s.sync();
    s.says(0, "1ZI");
    assert_eq!(s.query(READ), "0");
}
