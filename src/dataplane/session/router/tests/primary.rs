//! What a standby cannot know of the open transaction or of this session, or would wait for.

use super::{READ, Session, WRITE};
use crate::routing::settings::{OnWrite, Settings};

#[test]
fn what_prepare_has_made_may_write() {
    let mut s = Session::new();
    s.query("PREPARE s AS INSERT INTO t VALUES (1)");
    s.says(0, "CZI");
    s.bind("", "s");
    s.execute("");
    s.says(0, "2C");
    assert_eq!(s.parse("", READ), "0", "the write is not committed yet");
}

#[test]
fn a_lost_node_is_not_asked_about_the_catalog() {
    let settings = Settings {
        asks_load_balance_node: true,
        ..Settings::default()
    };
    let mut s = Session::with(3, settings);
    assert_eq!(s.router.catalog_node(&s.settings), 1);
    s.router.node_lost(1, &mut s.ledgers);
    assert_eq!(s.router.catalog_node(&s.settings), 0);
}

#[test]
fn reads_of_a_pipeline_see_its_writes_also_when_an_earlier_answer_comes_late() {
    let mut s = Session::new();
    s.run(WRITE);
    s.sync();
    s.run(WRITE);
    s.says(0, "12CZI");
    assert_eq!(s.parse("", READ), "0");
}

#[test]
fn behind_a_write_the_primary_describes_statements() {
    let mut s = Session::new();
    assert_eq!(s.parse("d", READ), "1");
    assert_eq!(s.sync(), "1");
    s.says(1, "1ZI");
    assert_eq!(s.message(b'D', "Sd\0"), "1");
    assert_eq!(s.sync(), "1");
    s.says(1, "tTZI").begin();
    assert_eq!(s.query("ALTER TABLE t ADD COLUMN z int"), "0");
    s.says(0, "CZT");
    assert_eq!(s.message(b'D', "Sd\0"), "parse on 0, 0");
}

#[test]
fn in_the_pipeline_of_a_write_as_well() {
    let mut s = Session::new();
    assert_eq!(s.parse("d", READ), "1");
    assert_eq!(s.sync(), "1");
    s.says(1, "1ZI");
    assert_eq!(s.run("ALTER TABLE t ADD COLUMN z int"), ["0", "0", "0"]);
    assert_eq!(s.message(b'D', "Sd\0"), "parse on 0, 0");
}

#[test]
fn a_table_that_the_transaction_has_locked_is_not_locked_on_a_standby() {
    let mut s = Session::new();
    s.begin();
    assert_eq!(s.query("LOCK TABLE t IN ACCESS SHARE MODE"), "0+1");
    s.says(0, "CZT").says(1, "CZT");
    assert_eq!(s.query("ALTER TABLE t ADD COLUMN z int"), "0");
    s.says(0, "CZT");
    assert_eq!(s.query("LOCK TABLE t IN ACCESS SHARE MODE"), "0");
}

#[test]
fn dml_adaptive_reads_from_the_primary_behind_what_is_no_dml() {
    let adaptive = || Settings {
        on_write: OnWrite::DmlAdaptive,
        ..Settings::default()
    };
    for sql in [
        "ALTER TABLE u ADD COLUMN z int",
        "DO 'BEGIN END'",
        "CALL p()",
        "LOCK TABLE u",
        "SELECT 1 INTO u",
    ] {
        let mut s = Session::with(2, adaptive());
        s.begin();
        assert_eq!(s.query("INSERT INTO u VALUES (1)"), "0");
        s.says(0, "CZT");
        assert_eq!(s.query(READ), "1");
        s.says(1, "TDCZT");
        assert_eq!(s.query(sql), "0");
        s.says(0, "CZT");
        assert_eq!(s.query(READ), "0", "{sql}");
        s.says(0, "TDCZT");
        assert_eq!(s.query("COMMIT"), "0+1");
        s.says(0, "CZI").says(1, "CZI");
        s.router.set_untraced(false);
        assert_eq!(s.query(READ), "1", "{sql}");
    }
}

#[test]
fn behind_a_string_that_is_too_long_to_be_read_the_primary_reads() {
    let filler = "x".repeat(270 * 1024);
    let mut s = Session::new();
    assert_eq!(
        s.query(&format!(
            "INSERT INTO t VALUES ('{filler}'); SET search_path = s"
        )),
        "0"
    );
    s.says(0, "CCZI");
    assert!(s.router.take_effects().catalog_changed);
    assert_eq!(s.query(READ), "0");
}

#[test]
fn one_that_is_a_single_write_of_rows_changes_nothing_else() {
    let filler = "x".repeat(270 * 1024);
    let mut s = Session::new();
    assert_eq!(
        s.run(&format!("INSERT INTO t VALUES ('{filler}')")),
        ["0", "0", "0"]
    );
    assert_eq!(s.sync(), "0");
    s.says(0, "12CZI");
    assert!(s.query(READ).starts_with("LookUp([Temporary"));
    s.router.set_untraced(false);
    assert_eq!(s.query(READ), "1");
    s.says(1, "TDCZI");
    assert_eq!(
        s.run(&format!("SET search_path = s /* {filler} */")),
        ["0", "0", "0"]
    );
    assert_eq!(s.sync(), "0");
    s.says(0, "12CZI");
    assert_eq!(s.query(READ), "0");
}

#[test]
fn repeatable_read_with_read_write_is_for_the_primary_alone() {
    let mut s = Session::new();
    assert_eq!(
        s.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE"),
        "0+1"
    );
    s.says(0, "CZT").says(1, "CZT");
    assert_eq!(s.query(READ), "0");
    s.says(0, "TDCZT");
    assert_eq!(s.query("COMMIT"), "0+1");
    s.says(0, "CZI").says(1, "CZI");
    let default =
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE";
    assert_eq!(s.query(default), "0");
    s.says(0, "CZI");
    assert_eq!(s.query("BEGIN"), "0+1");
    s.says(0, "CZT").says(1, "CZT");
    assert_eq!(s.query(READ), "0");
}

#[test]
fn what_needs_no_snapshot_asks_nothing() {
    let mut s = Session::new();
    s.router.state.begins_serializable = None;
    s.begin();
    assert_eq!(s.query("SHOW work_mem"), "1");
    s.says(1, "TDCZT");
    assert_eq!(s.query(""), "1");
    s.says(1, "IZT");
    assert!(s.query(READ).starts_with("LookUp"));
}

#[test]
fn code_that_nobody_sees_may_have_made_temporary_tables() {
    for sql in [
        "DO 'BEGIN END'",
        "CALL p()",
        "SELECT f_vol()",
        "INSERT INTO t SELECT f_any()",
    ] {
        let mut s = Session::new();
        assert_eq!(s.query(sql), "0");
        s.says(0, "CZI");
        assert_eq!(s.query("SELECT 1"), "1", "it names nothing");
        s.says(1, "TDCZI");
        assert!(s.query(READ).starts_with("LookUp([Temporary"), "{sql}");
        s.router.set_untraced(false);
        assert_eq!(s.query(READ), "1", "once is enough");
        s.says(1, "TDCZI");
        assert_eq!(s.query(sql), "0");
        s.says(0, "CZI");
        assert!(s.query(READ).starts_with("LookUp([Temporary"), "{sql}");
        s.router.set_untraced(true);
        assert_eq!(s.query(READ), "0", "{sql}");
        s.says(0, "TDCZI");
        assert_eq!(s.query("DISCARD ALL"), "0+1");
        s.says(0, "CZI").says(1, "CZI");
        assert_eq!(s.query(READ), "1", "{sql}");
    }
}

#[test]
fn functions_of_postgresql_make_none() {
    let mut s = Session::new();
    assert_eq!(s.query("INSERT INTO t VALUES (nextval('s'))"), "0");
    s.says(0, "CZI");
    assert_eq!(s.query(READ), "1");
}
