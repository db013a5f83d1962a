//! What waits for what, and what goes on.

use super::{super::Order, ABORT, FLUSH, READ, Session, WRITE};

#[test]
fn a_message_for_another_node_waits_until_the_node_before_it_has_answered() {
    let mut s = Session::new();
    assert_eq!(s.query(READ), "1");
    assert_eq!(s.query(WRITE), "wait");
    assert!(!s.says(1, "TDC").may_go_on());
    assert!(s.router.shows(1, b'Z', &s.ledgers) && !s.router.shows(0, b'C', &s.ledgers));
    assert!(s.says(1, "ZI").may_go_on());
    assert_eq!(s.query(WRITE), "0");
    assert!(s.router.shows(0, b'C', &s.ledgers) && !s.router.shows(1, b'C', &s.ledgers));
}

#[test]
fn amid_a_pipeline_a_flush_makes_the_answers_come() {
    let mut s = Session::new();
    assert_eq!(s.run(READ), ["1", "1", "1"]);
    assert_eq!(s.parse("", WRITE), "wait");
    assert_eq!(s.orders(), [(1, FLUSH)]);
    assert_eq!(s.parse("", WRITE), "wait");
    assert_eq!(s.orders(), [], "one is enough");
    s.says(1, "12DC");
    assert_eq!(s.run(WRITE), ["0", "0", "0"]);
    assert_eq!(
        s.sync(),
        "wait",
        "if the write fails, so has the other part to"
    );
    assert_eq!(s.orders(), [(0, FLUSH)]);
    s.says(0, "12C");
    assert_eq!(s.sync(), "0+1", "both have a sequence open");
}

#[test]
fn an_error_is_known_before_anything_behind_it_goes_elsewhere() {
    let mut s = Session::new();
    s.run(READ);
    assert_eq!(s.parse("", WRITE), "wait");
    s.says(1, "12E");
    assert_eq!(s.parse("", WRITE), "1", "for that node to ignore");
    assert_eq!(s.sync(), "1");
}

#[test]
fn what_waits_behind_a_copy_goes_on_when_the_copy_begins() {
    let mut s = Session::new();
    assert_eq!(s.query("COPY t FROM STDIN"), "0");
    assert_eq!(s.query(READ), "wait");
    assert!(s.says(0, "G").may_go_on());
    assert_eq!(s.query(READ), "0", "the copy fails with it");
    s.says(0, "EZI");
    assert_eq!(s.query(READ), "1");
}

#[test]
fn a_sync_that_a_copy_swallows_ends_no_sequence() {
    let mut s = Session::new();
    s.run("COPY t FROM STDIN");
    assert_eq!(s.sync(), "wait", "whether it is the copy's");
    assert_eq!(s.orders(), [(0, FLUSH)]);
    assert!(s.says(0, "12G").may_go_on());
    assert_eq!(s.sync(), "0");
    assert_eq!(s.message(b'c', ""), "0");
    assert_eq!(s.parse("", "DISCARD ALL"), "wait");
    assert_eq!(s.orders(), [(0, FLUSH)]);
    s.says(0, "C");
    assert_eq!(s.parse("", "DISCARD ALL"), "0+1");
    assert_eq!(s.bind("", ""), "0+1");
    s.says(0, "12").says(1, "12");
    assert_eq!(s.execute(""), "0", "the standby has executed nothing");
}

#[test]
fn a_statement_that_settles_what_there_is_has_the_pipeline_to_itself() {
    let mut s = Session::new();
    s.run(WRITE);
    assert_eq!(s.parse("", "PREPARE p AS SELECT 1"), "0");
    assert_eq!(s.bind("", ""), "0", "nothing is carried out yet");
    assert_eq!(s.execute(""), "wait");
    s.says(0, "12C12");
    assert_eq!(s.execute(""), "0");
    assert_eq!(s.parse("", WRITE), "wait");
    assert_eq!(s.sync(), "0");
}

#[test]
fn what_follows_a_command_of_several_nodes_waits_for_all_of_them() {
    let mut s = Session::new();
    assert_eq!(s.query("BEGIN"), "0+1");
    s.says(0, "CZT");
    assert_eq!(s.query(WRITE), "wait");
    s.says(1, "CZT");
    assert_eq!(s.query(WRITE), "0");
}

#[test]
fn the_unnamed_statement_of_an_earlier_sequence_is_waited_for() {
    let mut s = Session::new();
    s.parse("", "SELECT nonsense");
    s.sync();
    assert_eq!(s.bind("", ""), "wait");
    s.says(1, "EZI");
    assert_eq!(s.bind("", ""), "close on 0, 0", "there is none");
}

#[test]
fn which_statements_are_left_is_known_before_the_next_one_is_named() {
    let mut s = Session::new();
    s.parse("s", READ);
    s.sync();
    s.says(1, "1ZI");
    assert_eq!(s.query("DEALLOCATE ALL"), "0+1");
    assert_eq!(s.bind("", "s"), "wait");
    s.says(0, "CZI").says(1, "CZI");
    assert_eq!(s.bind("", "s"), "0", "for the primary to refuse");
}

#[test]
fn what_several_nodes_carry_out_waits_for_what_went_to_one_alone() {
    let mut s = Session::new();
    s.begin();
    assert_eq!(s.query(WRITE), "0");
    assert_eq!(s.query("COMMIT"), "wait");
    s.says(0, "EZE");
    assert_eq!(s.orders(), [(1, ABORT)], "before the COMMIT");
    assert_eq!(s.query("COMMIT"), "wait", "the answer to that");
    s.says(1, "EZE");
    assert_eq!(s.query("COMMIT"), "0+1");
}

#[test]
fn the_primary_does_not_take_a_client_for_idle_that_works_on_a_standby() {
    let mut s = Session::new();
    s.begin();
    assert_eq!(s.query(READ), "1");
    s.router.keep_awake(&mut s.ledgers);
    assert_eq!(s.orders(), [(0, Order::Sync)]);
    s.router.keep_awake(&mut s.ledgers);
    assert_eq!(s.orders(), [], "the first is not answered");
    assert!(!s.router.shows(0, b'Z', &s.ledgers));
    s.says(1, "TDCZT");
    assert_eq!(s.query(WRITE), "wait");
    s.says(0, "ZT");
    assert_eq!(s.query(WRITE), "0");
    s.router.keep_awake(&mut s.ledgers);
    assert_eq!(s.orders(), [], "it has something to do");
}

#[test]
fn a_pipeline_of_one_node_waits_for_nothing() {
    for (sql, node) in [(READ, "1"), (WRITE, "0")] {
        let mut s = Session::new();
        for _ in 0..2 {
            assert_eq!(s.parse("", sql), node);
            assert_eq!(s.bind("", ""), node);
            assert_eq!(s.message(b'D', "P\0"), node);
            assert_eq!(s.execute(""), node);
            assert_eq!(s.sync(), node);
        }
        assert_eq!(s.query(sql), node);
        assert_eq!(s.orders(), []);
    }
}

#[test]
fn a_command_of_several_nodes_is_described_and_executed_without_waiting() {
    let mut s = Session::new();
    assert_eq!(s.parse("", "COMMIT"), "0+1");
    assert_eq!(s.message(b'D', "S\0"), "0+1");
    assert_eq!(s.bind("", ""), "0+1");
    assert_eq!(s.message(b'D', "P\0"), "0+1");
    assert_eq!(s.message(b'C', "Pelsewhere\0"), "0+1");
    assert_eq!(s.execute(""), "0+1");
    assert_eq!(s.sync(), "0+1");
    assert_eq!(s.orders(), []);
}
