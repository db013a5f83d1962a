use std::time::SystemTime;

use super::*;
use crate::routing::session::TransactionStatus;
use crate::{
    cluster::{ClusterView, Node, NodeStatus},
    config::settings::{BackendFlag, ClusteringMode},
};

/// `seq` is a sequence; `lock_view` calls a function of the primary; `own_stable` is a function of the user's.
struct Names;

impl Catalog for Names {
    fn relation(&mut self, _: Option<&[u8]>, name: &[u8]) -> Option<Relation> {
        Some(Relation {
            sequence: name == b"seq",
            primary_only: name == b"lock_view",
            own_function: name == b"own_stable",
            ..Relation::default()
        })
    }

    fn volatile(&mut self, _: Option<&[u8]>, _: &[u8]) -> Option<bool> {
        Some(false)
    }
}

fn view() -> ClusterView {
    let node = |id: usize| Node {
        id,
        hostname: String::new(),
        port: 5432,
        data_directory: String::new(),
        application_name: String::new(),
        weight: 0.5,
        flag: BackendFlag::default(),
        status: NodeStatus::Up,
        quarantine: false,
        status_changed: SystemTime::UNIX_EPOCH,
    };
    ClusterView {
        version: 1,
        mode: ClusteringMode::StreamingReplication,
        nodes: (0..2).map(node).collect(),
        primary: Some(0),
        primary_search_running: false,
    }
}

/// The rule for `sql` in a session that has carried out the statements before it.
fn rule_after(before: &[&str], sql: &str) -> Rule {
    let settings = Settings::default();
    let mut state = state();
    for sql in before {
        let facts = Facts::of(sql.as_bytes());
        let nodes = NodeSet::of(0);
        let first = facts.first();
        let writes = matches!(first, Statement::Insert | Statement::Other);
        state.sent(&facts, &settings, writes, nodes);
        state.succeeded(&facts, &settings, writes, nodes);
        state.ready(TransactionStatus::Idle, &settings);
    }
    rule_in(&state, sql)
}

fn state() -> SessionState {
    let mut state = SessionState::new();
    state.load_balance_node = Some(1);
    state.begins_serializable = Some(false);
    state
}

/// The rule for `sql` in a transaction that both nodes have begun so.
fn rule_within(begin: &str, sql: &str) -> Rule {
    let settings = Settings::default();
    let mut state = state();
    let facts = Facts::of(begin.as_bytes());
    let nodes = [0, 1].into_iter().collect();
    state.sent(&facts, &settings, false, nodes);
    state.succeeded(&facts, &settings, false, nodes);
    state.ready(TransactionStatus::Active, &settings);
    rule_in(&state, sql)
}

fn rule_in(state: &SessionState, sql: &str) -> Rule {
    let (view, settings) = (view(), Settings::default());
    let facts = Facts::of(sql.as_bytes());
    let inputs = Inputs {
        facts: &facts,
        sql: sql.as_bytes(),
        protocol: Protocol::Simple,
        state,
        settings: &settings,
        switches: settings.switches,
        situation: Situation {
            view: &view,
            replication: &[],
        },
        user: b"app",
    };
    match decide(&inputs, &mut Names) {
        Verdict::Decided(decision) => decision.rule,
        Verdict::NeedCatalog(questions) => panic!("{sql}: {questions:?}"),
    }
}

fn rule(sql: &str) -> Rule {
    rule_after(&[], sql)
}

#[test]
fn the_modes_of_a_transaction_are_those_of_the_primary() {
    let read = "SELECT * FROM t";
    assert_eq!(rule_within("BEGIN READ WRITE", read), Rule::Balanced);
    let level = "BEGIN ISOLATION LEVEL REPEATABLE READ";
    assert_eq!(rule_within(level, read), Rule::Balanced);
    // The standby refuses READ WRITE, and got a plain BEGIN.
    let both = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ WRITE";
    assert_eq!(rule_within(both, read), Rule::ModesOfPrimary);
    let isolation = "show TRANSACTION isolation level";
    for (begin, want) in [
        ("BEGIN", Rule::Balanced),
        (level, Rule::Balanced),
        (both, Rule::ModesOfPrimary),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", Rule::ModesOfPrimary),
    ] {
        assert_eq!(rule_within(begin, isolation), want, "{begin}");
    }
    for mode in [
        "SHOW transaction_deferrable",
        "SHOW default_transaction_isolation",
    ] {
        assert_eq!(rule_within("BEGIN", mode), Rule::ModesOfPrimary, "{mode}");
    }
    assert_eq!(rule(isolation), Rule::Balanced);
    let read_only = "SHOW transaction_read_only";
    assert_eq!(rule(read_only), Rule::ModesOfPrimary, "a standby says on");
    assert_eq!(rule_within("BEGIN", "SHOW work_mem"), Rule::Balanced);
}

#[test]
fn copy_of_a_query_goes_where_the_query_goes() {
    assert_eq!(rule("COPY (SELECT * FROM t) TO STDOUT"), Rule::Balanced);
    assert_eq!(
        rule("COPY (SELECT * FROM t FOR UPDATE) TO STDOUT"),
        Rule::LockingClause
    );
    assert_eq!(
        rule("COPY (WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a) TO STDOUT"),
        Rule::DataModifyingWith
    );
    assert_eq!(
        rule("COPY (SELECT * FROM lock_view) TO STDOUT"),
        Rule::PrimaryView
    );
}

#[test]
fn what_a_standby_answers_otherwise_is_asked_of_the_primary() {
    assert_eq!(rule("SELECT last_value FROM seq"), Rule::Balanced);
    let moved = &["INSERT INTO t DEFAULT VALUES"];
    let sequence = "SELECT last_value FROM seq";
    assert_eq!(rule_after(moved, sequence), Rule::Sequence);
    assert_eq!(
        rule("SELECT * FROM t JOIN lock_view USING (i)"),
        Rule::PrimaryView
    );
    assert_eq!(rule_after(moved, "SELECT * FROM t"), Rule::Balanced);
}

#[test]
fn a_temporary_table_is_seen_in_constants_types_and_functions() {
    const MADE: &[&str] = &["CREATE TEMP TABLE tmp (i int)"];
    for sql in [
        "SELECT * FROM tmp",
        "SELECT 'tmp'::regclass",
        "SELECT has_table_privilege('pg_temp.TMP', 'select')",
        "SELECT row(1)::tmp",
        "SELECT own_stable()",
        "SELECT pg_my_temp_schema()",
        "SELECT pg_get_indexdef('an_index_of_it'::regclass)",
    ] {
        assert_eq!(rule_after(MADE, sql), Rule::TemporaryTable, "{sql}");
    }
    for sql in ["SELECT * FROM t", "SELECT 'tmp1', tmpi, count(*) FROM t"] {
        assert_eq!(rule_after(MADE, sql), Rule::Balanced, "{sql}");
    }
    let dropped = &[MADE[0], "DROP TABLE tmp"];
    assert_eq!(
        rule_after(dropped, "SELECT own_stable(), 'tmp'"),
        Rule::Balanced
    );
    let odd = &["CREATE TEMP TABLE \"a b\" (i int)"];
    assert_eq!(
        rule_after(odd, "SELECT '\"a b\"'::regclass"),
        Rule::TemporaryTable
    );
}

#[test]
fn the_temporary_schema_is_the_primarys() {
    assert_eq!(rule("SELECT pg_temp.f()"), Rule::TemporaryTable);
    let made = &["CREATE DOMAIN pg_temp.d AS int"];
    for sql in ["SELECT 1::pg_temp.d", "SELECT CAST(1 AS PG_TEMP.d)"] {
        assert_eq!(rule_after(made, sql), Rule::TemporaryTable, "{sql}");
    }
    assert_eq!(rule_after(made, "SELECT 1::d"), Rule::Balanced);
    let path = &["SET search_path = pg_temp, public"];
    assert_eq!(
        rule_after(path, "SELECT ''::nonempty"),
        Rule::TemporaryTable
    );
    assert_eq!(
        rule_after(&["SET search_path TO 'pg_temp'"], "SELECT f()"),
        Rule::TemporaryTable
    );
    let back = &[path[0], "DISCARD ALL"];
    assert_eq!(rule_after(back, "SELECT ''::nonempty"), Rule::Balanced);
    assert_eq!(
        rule_after(&["SET search_path = public"], "SELECT 1"),
        Rule::Balanced
    );
}
