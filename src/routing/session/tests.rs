use super::*;

struct Session {
    state: SessionState,
    settings: Settings,
}

impl Session {
    fn new(on_write: OnWrite) -> Session {
        Session {
            state: SessionState::new(),
            settings: Settings {
                on_write,
                ..Settings::default()
            },
        }
    }

    fn send(&mut self, sql: &str, writes: bool) -> Facts {
        let facts = Facts::of(sql.as_bytes());
        self.state
            .sent(&facts, &self.settings, writes, NodeSet::of(0));
        facts
    }

    /// Sent, done, and answered by ReadyForQuery.
    fn run(&mut self, sql: &str, writes: bool, ready: u8) {
        let facts = self.send(sql, writes);
        self.state
            .succeeded(&facts, &self.settings, writes, NodeSet::of(0));
        self.ready(ready);
    }

    fn ready(&mut self, status: u8) {
        let status = TransactionStatus::from_byte(status);
        self.state.node_ready(0, status);
        self.state.ready(status, &self.settings);
    }
}

#[test]
fn a_write_counts_when_it_is_sent_and_a_begin_as_well() {
    let mut s = Session::new(OnWrite::Transaction);
    s.send("begin", false);
    assert!(s.state.is_in_transaction() && !s.state.has_unsynced_write());
    s.send("insert into t values (1)", true);
    assert!(s.state.has_unsynced_write() && !s.state.has_written());
}

#[test]
fn the_end_counts_when_it_is_answered() {
    let mut s = Session::new(OnWrite::Transaction);
    s.run("begin", false, b'T');
    s.run("insert into t values (1)", true, b'T');
    let commit = s.send("commit", false);
    assert!(s.state.has_written());
    s.state
        .succeeded(&commit, &s.settings, false, NodeSet::of(0));
    assert!(!s.state.has_written() && !s.state.is_in_transaction());
}

#[test]
fn a_failure_stays_until_the_server_says_otherwise() {
    let mut s = Session::new(OnWrite::Transaction);
    s.run("begin", false, b'T');
    s.run("savepoint a", true, b'T');
    s.state.failed();
    s.ready(b'E');
    assert!(s.state.has_failed());
    s.run("rollback to a", false, b'T');
    assert!(!s.state.has_failed() && !s.state.has_written());
    s.state.failed();
    s.ready(b'E');
    s.run("commit", false, b'I');
    assert!(!s.state.is_in_transaction());
}

#[test]
fn a_savepoint_remembers_whether_there_was_a_write_before_it() {
    let mut s = Session::new(OnWrite::Transaction);
    s.run("begin", false, b'T');
    s.run("savepoint a", true, b'T');
    s.run("insert into t values (1)", true, b'T');
    s.run("savepoint b", true, b'T');
    s.run("rollback to b", false, b'T');
    assert!(s.state.has_written());
    s.run("rollback to a", false, b'T');
    assert!(!s.state.has_written());
    s.run("release a", true, b'T');
    assert!(s.state.has_written());
}

#[test]
fn the_five_values_of_disable_load_balance_on_write() {
    for (on_write, within, after, next, lone) in [
        (OnWrite::Off, false, false, false, false),
        (OnWrite::Transaction, true, false, false, false),
        (OnWrite::TransTransaction, true, true, true, false),
        (OnWrite::Always, true, true, true, true),
        (OnWrite::DmlAdaptive, false, false, false, false),
    ] {
        let mut s = Session::new(on_write);
        s.run("insert into t values (1)", true, b'I');
        assert_eq!(s.state.has_written(), lone, "{on_write:?}");
        let mut s = Session::new(on_write);
        s.run("begin", false, b'T');
        s.run("insert into t values (1)", true, b'T');
        assert_eq!(s.state.has_written(), within, "{on_write:?}");
        s.run("rollback", false, b'I');
        assert_eq!(s.state.has_written(), after, "{on_write:?}");
        s.run("begin", false, b'T');
        assert_eq!(s.state.has_written(), next, "{on_write:?}");
    }
}

#[test]
fn dml_adaptive_remembers_what_was_written_and_what_depends_on_it() {
    let mut s = Session::new(OnWrite::DmlAdaptive);
    s.settings.relationships =
        super::super::settings::relationships("t1:v1, t1:v2,t4:v4,public.f_vol():\"T2\"").0;
    s.run("begin", false, b'T');
    s.run(
        "update T1 set a = (select max(a) from t3) from t4",
        true,
        b'T',
    );
    for (name, want) in [
        ("t1", true),
        ("V1", true),
        ("v2", true),
        ("t3", false),
        ("t4", true),
        ("v4", false),
    ] {
        assert_eq!(s.state.has_written_object(name.as_bytes()), want, "{name}");
    }
    s.run(
        "with x as (select 1) insert into s.t5 select * from t6",
        true,
        b'T',
    );
    assert!(s.state.has_written_object(b"t5") && !s.state.has_written_object(b"t6"));
    s.run("savepoint a", true, b'T');
    s.run("select s.f_vol()", true, b'T');
    assert!(s.state.has_written_object(b"t2"));
    s.run("rollback to a", false, b'T');
    assert!(!s.state.has_written_object(b"t2") && s.state.has_written_object(b"t1"));
    s.run("commit", false, b'I');
    assert!(!s.state.has_written_object(b"t1"));
}

#[test]
fn temporary_tables_are_traced_through_transactions() {
    let mut s = Session::new(OnWrite::Transaction);
    s.run("create temp table a(i int)", true, b'I');
    s.run("begin", false, b'T');
    s.run("drop table a", true, b'T');
    s.run("select 1 into temp b", true, b'T');
    assert!(!s.state.is_temporary(b"a") && s.state.is_temporary(b"b"));
    s.run("rollback", false, b'I');
    assert!(s.state.is_temporary(b"a") && !s.state.is_temporary(b"b"));
    s.run("discard temp", true, b'I');
    assert!(!s.state.is_temporary(b"a"));
}

#[test]
fn prepared_statements_know_their_nodes() {
    let mut s = Session::new(OnWrite::Transaction);
    s.run("prepare A as select 1", true, b'I');
    let parsed = Rc::new(Parsed {
        facts: Facts::of(b"select 2"),
        message: Box::default(),
    });
    s.state.parsed(b"B", NodeSet::of(1), parsed);
    s.state.parsed_also(b"B", NodeSet::of(0));
    assert!(
        s.state
            .prepared(b"a")
            .is_some_and(|p| p.parsed.is_none() && p.nodes == NodeSet::of(0))
    );
    assert_eq!(
        s.state.prepared(b"B").map(|p| p.nodes),
        Some([0, 1].into_iter().collect())
    );
    s.run("deallocate a", true, b'I');
    assert!(s.state.prepared(b"a").is_none() && s.state.prepared(b"B").is_some());
    s.run("discard plans", true, b'I');
    assert!(s.state.prepared(b"B").is_some());
    s.run("discard all", true, b'I');
    assert!(s.state.prepared(b"B").is_none());
}

#[test]
fn the_isolation_level_of_transaction_and_session() {
    let mut s = Session::new(OnWrite::Transaction);
    assert_eq!(s.state.is_serializable(), None);
    s.state.begins_serializable = Some(false);
    s.run("set transaction isolation level serializable", false, b'I');
    assert_eq!(s.state.is_serializable(), Some(false));
    s.run("begin isolation level serializable", false, b'T');
    assert_eq!(s.state.is_serializable(), Some(true));
    s.run("commit and chain", false, b'T');
    assert_eq!(s.state.is_serializable(), Some(true));
    s.run("commit", false, b'I');
    s.run(
        "set default_transaction_isolation = 'serializable'",
        false,
        b'I',
    );
    assert_eq!(s.state.is_serializable(), Some(true));
    assert_eq!(s.state.standby_is_serializable(), Some(false));
    s.run("reset all", true, b'I');
    assert_eq!(s.state.is_serializable(), Some(false));
}

#[test]
fn a_write_before_begin_in_the_same_pipeline_is_of_the_transaction() {
    let mut s = Session::new(OnWrite::Transaction);
    s.send("insert into t values (1)", true);
    let begin = s.send("begin", false);
    s.state
        .succeeded(&begin, &s.settings, false, NodeSet::of(0));
    s.ready(b'T');
    assert!(s.state.has_written());
}

#[test]
fn what_was_written_before_begin_is_answered_is_remembered() {
    let mut s = Session::new(OnWrite::DmlAdaptive);
    let begin = s.send("begin", false);
    s.send("insert into t values (1)", true);
    s.state
        .succeeded(&begin, &s.settings, false, NodeSet::of(0));
    s.ready(b'T');
    assert!(s.state.has_written_object(b"t"));
    s.run("commit", false, b'I');
    assert!(!s.state.has_written_object(b"t"));
}

#[test]
fn a_temporary_table_with_on_commit_drop_goes_with_its_transaction() {
    let mut s = Session::new(OnWrite::Transaction);
    s.run("begin", false, b'T');
    s.run("create temp table t (a int) on commit drop", true, b'T');
    assert!(s.state.is_temporary(b"t"));
    s.run("commit", false, b'I');
    assert!(!s.state.has_temporary_tables());
    s.run("create temp table t on commit drop as select 1", true, b'I');
    assert!(!s.state.has_temporary_tables());
    s.run(
        "create temp table t (a int) on commit delete rows",
        true,
        b'I',
    );
    assert!(s.state.is_temporary(b"t"));
}

#[test]
fn a_default_isolation_level_is_undone_with_its_transaction() {
    let set = "set default_transaction_isolation to 'read committed'";
    let mut s = Session::new(OnWrite::Transaction);
    s.state.begins_serializable = Some(true);
    // Of a pipeline.
    let facts = s.send(set, true);
    s.state.succeeded(&facts, &s.settings, true, NodeSet::of(0));
    s.state.failed();
    s.ready(b'I');
    assert_eq!(s.state.standby_is_serializable(), Some(true));
    // Of a transaction, which itself stays as it was begun.
    s.run("begin", false, b'T');
    s.run(set, true, b'T');
    assert_eq!(s.state.standby_is_serializable(), Some(true));
    s.run("commit", false, b'I');
    assert_eq!(s.state.standby_is_serializable(), Some(false));
}

#[test]
fn a_temporary_table_whose_drop_is_rolled_back_is_temporary() {
    let mut s = Session::new(OnWrite::Transaction);
    s.run("create temp table tmp (i int)", true, b'I');
    let drop = s.send("drop table tmp", true);
    s.state.succeeded(&drop, &s.settings, true, NodeSet::of(0));
    assert!(!s.state.is_temporary(b"tmp"));
    s.state.failed();
    s.ready(b'I');
    assert!(s.state.is_temporary(b"tmp"), "of a pipeline");
    s.run("begin", false, b'T');
    s.run("savepoint a", true, b'T');
    s.run("drop table tmp", true, b'T');
    s.run("rollback to a", false, b'T');
    assert!(s.state.is_temporary(b"tmp"));
}

#[test]
fn an_answer_amid_more_that_was_sent_forgets_none_of_it() {
    let mut s = Session::new(OnWrite::Transaction);
    s.send("insert into t values (1)", true);
    s.state.ready_amid(TransactionStatus::Idle, &s.settings);
    assert!(s.state.has_unsynced_write());
}
