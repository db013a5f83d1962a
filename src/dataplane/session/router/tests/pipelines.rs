//! What a pipeline has done on another node, or an answer that has not come may undo.

use super::{READ, Session, WRITE};

/// What goes to a standby, then is answered up to the end of an Execute.
fn read_on_standby(s: &mut Session) {
    assert_eq!(s.run(READ), ["1", "1", "1"]);
    s.says(1, "12DC");
}

#[test]
fn a_name_that_an_unanswered_sequence_has_made_is_waited_for() {
    let mut s = Session::new();
    assert_eq!(s.parse("s", READ), "1");
    assert_eq!(s.sync(), "1");
    assert_eq!(s.bind("", "s"), "wait", "whether there is one");
    s.says(1, "1ZI");
    assert_eq!(s.bind("", "s"), "1");
    assert_eq!(s.sync(), "1");
    assert_eq!(s.bind("", "s"), "1", "binding changes no name");
}

#[test]
fn a_portal_that_a_skipped_message_was_to_close_ends_with_its_sequence() {
    let mut s = Session::new();
    assert_eq!(s.parse("s", READ), "1");
    assert_eq!(s.sync(), "1");
    s.says(1, "1ZI");
    assert_eq!(s.bind("p", "s"), "1");
    assert_eq!(s.message(b'D', "Snothing\0"), "wait", "asks the primary");
    s.says(1, "2");
    assert_eq!(s.message(b'D', "Snothing\0"), "0");
    assert_eq!(s.message(b'C', "Pp\0"), "wait", "which is on the standby");
    s.says(0, "E").says(1, "EZI");
    assert_eq!(s.message(b'C', "Pp\0"), "0", "skipped");
    s.sync();
    s.says(0, "ZI").says(1, "ZI");
    assert!(s.router.portals.named.is_empty());
}

#[test]
fn the_name_of_a_portal_on_a_standby_is_taken_on_the_primary_too() {
    let mut s = Session::new();
    s.begin();
    assert_eq!(s.parse("r", READ), "1");
    assert_eq!(s.bind("p", "r"), "1");
    s.says(1, "12");
    assert_eq!(s.parse("w", WRITE), "0");
    assert_eq!(s.bind("p", "w"), "wait");
    s.says(0, "1");
    assert_eq!(s.bind("p", "w"), "occupy on 0, 0");
    // Close, Parse and Bind of ours, none of which the client sees.
    for kind in *b"312" {
        assert!(!s.router.shows(0, kind, &s.ledgers));
        s.says(0, char::from(kind).to_string().as_str());
    }
    assert!(s.router.shows(0, b'E', &s.ledgers));
}

#[test]
fn a_bind_that_fails_behind_the_making_of_its_portal_leaves_it() {
    for (code, leaves) in [("22P02", true), ("26000", false), ("08P01", false)] {
        let mut s = Session::new();
        s.begin();
        assert_eq!(s.parse("r", READ), "1");
        assert_eq!(s.bind("p", "r"), "1");
        s.says(1, "1");
        let error = format!("SERROR\0C{code}\0Mno\0\0");
        s.router
            .answer(1, b'E', error.as_bytes(), &mut s.ledgers, &s.settings);
        assert_eq!(s.router.portals.get(b"p").is_some(), leaves, "{code}");
    }
}

#[test]
fn an_isolation_level_finds_the_snapshot_that_a_standby_has_taken() {
    let mut s = Session::new();
    read_on_standby(&mut s);
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
    assert_eq!(s.parse("", begin), "0+1");
    assert_eq!(s.bind("", ""), "0+1");
    s.says(0, "12").says(1, "12");
    assert_eq!(s.execute(""), "join on 0, 0+1");
    // The same with a Query, and in a transaction.
    let mut s = Session::new();
    s.begin();
    assert_eq!(s.query(READ), "1");
    s.says(1, "TDCZT");
    let set = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ";
    assert_eq!(s.query(set), "join on 0, 0+1");
    // No query, no snapshot.
    let mut s = Session::new();
    s.begin();
    assert_eq!(s.query("SHOW work_mem"), "1");
    s.says(1, "TDCZT");
    assert_eq!(s.query(set), "0+1");
}

#[test]
fn discard_all_is_refused_in_a_pipeline_that_has_executed_something_elsewhere() {
    let mut s = Session::new();
    read_on_standby(&mut s);
    assert_eq!(s.parse("", "DISCARD ALL"), "0+1");
    assert_eq!(s.bind("", ""), "0+1");
    s.says(0, "12").says(1, "12");
    assert_eq!(s.execute(""), "join on 0, 0", "the standby would obey");
    // On its own it is not.
    let mut s = Session::new();
    assert_eq!(s.run("DISCARD ALL"), ["0+1", "0+1", "0+1"]);
}

#[test]
fn a_statement_that_a_node_could_not_be_told_to_forget_is_closed_before_it_is_made() {
    let mut s = Session::new();
    assert_eq!(s.parse("s", READ), "1");
    assert_eq!(s.sync(), "1");
    s.says(1, "1ZI");
    s.begin();
    assert_eq!(s.query("SELECT 1; DEALLOCATE s"), "parse on 0, 0");
    s.says(0, "31ZTTDCCZT");
    assert_eq!(s.orders(), []);
    assert_eq!(s.query("ROLLBACK"), "0+1");
    s.says(0, "CZI").says(1, "CZI");
    assert_eq!(s.parse("s", READ), "close on 1, 1");
}
