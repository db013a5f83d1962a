//! The recorded routing cases, against the core of routing with a model of the servers.
//!
//! `fixtures/routing` says how the cases were recorded. Node 0 is the primary, node 1 the only
//! node with a weight.

use std::{collections::BTreeMap, fs, path::PathBuf, time::SystemTime};

use pgpool_rs::{
    cluster::{ClusterView, Node, NodeStatus},
    config::{
        Config, LoadMode, Paths,
        settings::{BackendFlag, ClusteringMode},
    },
    routing::{
        balance::{self, Situation, Who},
        facts::{Facts, Statement},
        policy::{Catalog, Decision, Inputs, Protocol, Verdict, decide},
        relcache::{Question, Relation},
        session::{NodeSet, SessionState, TransactionStatus},
        settings::Settings,
    },
};

/// What the catalog of the fixture says; temporary tables are the session's.
struct Fixture {
    temporary: Vec<String>,
}

const VOLATILE: [&str; 24] = [
    "f_vol",
    "f_write",
    "f_write2",
    "random",
    "clock_timestamp",
    "nextval",
    "setval",
    "lastval",
    "currval",
    "pg_sleep",
    "pg_advisory_lock",
    "pg_is_in_recovery",
    "pg_notify",
    "set_config",
    "lo_creat",
    "pg_current_wal_lsn",
    "pg_relation_size",
    "gen_random_uuid",
    "pg_terminate_backend",
    "pg_cancel_backend",
    "timeofday",
    "lo_unlink",
    "pg_try_advisory_lock",
    "pg_switch_wal",
];

impl Catalog for Fixture {
    fn relation(&mut self, _: Option<&[u8]>, name: &[u8]) -> Option<Relation> {
        let name = String::from_utf8_lossy(name);
        Some(Relation {
            system: name.starts_with("pg_") && name != "pg_nosuch",
            temporary: self.temporary.iter().any(|t| *t == name),
            unlogged: name == "u1",
            view: name == "v1" || name == "mv1",
            sequence: name == "s1",
            primary_only: false,
            own_function: name.starts_with("f_") || name == "get_thing",
            missing: false,
        })
    }

    fn volatile(&mut self, schema: Option<&[u8]>, name: &[u8]) -> Option<bool> {
        let name = std::str::from_utf8(name).unwrap_or("");
        let right = match schema {
            Some(b"sch") => name == "f_write2",
            Some(b"public") => name.starts_with("f_"),
            _ => true,
        };
        Some(right && VOLATILE.contains(&name))
    }
}

struct Case {
    id: String,
    settings: String,
    application_name: String,
    preceding: Vec<String>,
    statement: String,
    protocol: Protocol,
    destination: String,
    sqlstate: String,
}

fn cases(file: &str) -> Vec<Case> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/routing")
        .join(file);
    let text = fs::read_to_string(path).unwrap();
    let unescape = |s: &str| s.replace("\\n", "\n").replace("\\t", "\t");
    text.lines()
        .skip(1)
        .map(|line| {
            let f: Vec<&str> = line.split('\t').collect();
            Case {
                id: f[0].to_owned(),
                settings: f[1].to_owned(),
                application_name: f[2]
                    .strip_prefix("application_name=")
                    .unwrap_or("routing")
                    .to_owned(),
                preceding: f[3]
                    .split(";;")
                    .filter(|p| !p.trim().is_empty())
                    .map(unescape)
                    .collect(),
                statement: unescape(f[4]),
                protocol: if f[6].starts_with("ext") {
                    Protocol::Extended
                } else {
                    Protocol::Simple
                },
                destination: f[7].to_owned(),
                sqlstate: f.get(8).unwrap_or(&"").to_string(),
            }
        })
        .filter(|c| !c.settings.contains("memory_cache_enabled"))
        .collect()
}

fn view() -> ClusterView {
    let node = |id: usize| Node {
        id,
        hostname: "localhost".into(),
        port: 5432,
        data_directory: String::new(),
        application_name: format!("server{id}"),
        weight: if id == 1 { 1.0 } else { 0.0 },
        flag: BackendFlag::default(),
        status: NodeStatus::Up,
        quarantine: false,
        status_changed: SystemTime::UNIX_EPOCH,
    };
    ClusterView {
        version: 1,
        mode: ClusteringMode::StreamingReplication,
        nodes: (0..3).map(node).collect(),
        primary: Some(0),
        primary_search_running: false,
    }
}

fn config(settings: &str) -> Config {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pgpool.conf");
    let mut text = "backend_clustering_mode = 'streaming_replication'\nbackend_hostname0 = 'a'\nbackend_port0 = 5432\n".to_owned();
    // A semicolon inside quotes separates nothing.
    let mut quoted = false;
    for c in settings.chars() {
        quoted ^= c == '\'';
        text.push(if c == ';' && !quoted { '\n' } else { c });
    }
    text.push('\n');
    fs::write(&path, text).unwrap();
    let paths = Paths {
        config: path,
        pcp: "/nonexistent".into(),
        hba: "/nonexistent".into(),
        key: None,
    };
    match Config::load(&paths, LoadMode::Check) {
        Ok((config, _)) => config,
        Err(error) => panic!("{settings}: {error}"),
    }
}

/// A session and the servers behind it, as far as routing sees them.
struct Session<'a> {
    settings: &'a Settings,
    view: ClusterView,
    state: SessionState,
    status: [TransactionStatus; 3],
    catalog: Fixture,
    who: Who<'a>,
}

impl<'a> Session<'a> {
    fn new(settings: &'a Settings, application_name: &'a str) -> Session<'a> {
        let view = view();
        let who = Who {
            user: b"postgres",
            database: b"test",
            application_name: application_name.as_bytes(),
        };
        let situation = Situation {
            view: &view,
            replication: &[],
        };
        let mut state = SessionState::new();
        state.load_balance_node = balance::choose(settings, &situation, &who, &mut || 0.5);
        Session {
            settings,
            view,
            state,
            status: [TransactionStatus::Idle; 3],
            catalog: Fixture {
                temporary: Vec::new(),
            },
            who,
        }
    }

    fn decide(&mut self, sql: &str, facts: &Facts, protocol: Protocol) -> (Decision, NodeSet) {
        for _ in 0..3 {
            let inputs = Inputs {
                facts,
                sql: sql.as_bytes(),
                protocol,
                state: &self.state,
                settings: self.settings,
                switches: self.settings.switches,
                situation: Situation {
                    view: &self.view,
                    replication: &[],
                },
                user: self.who.user,
            };
            match decide(&inputs, &mut self.catalog) {
                Verdict::Decided(decision) => {
                    let nodes = decision.nodes(&self.state, &inputs.situation);
                    return (decision, nodes);
                }
                Verdict::NeedCatalog(questions) => {
                    for question in questions {
                        match question {
                            Question::DefaultIsolation { .. } => {
                                self.state.begins_serializable = Some(false);
                            }
                            Question::Temporary { .. } => self.state.set_untraced(false),
                            other => panic!("{other:?}"),
                        }
                    }
                }
            }
        }
        panic!("{sql}: asks again");
    }

    fn execute(&mut self, sql: &str) {
        let facts = Facts::of(sql.as_bytes());
        let (decision, nodes) = self.decide(sql, &facts, Protocol::Simple);
        self.state
            .sent(&facts, self.settings, decision.writes, nodes);
        let fails = sql.contains("1/0") || sql.contains("nosuch");
        for node in nodes.iter() {
            self.status[node] = self.server(node, &facts, fails);
        }
        if fails {
            // A failure on one node makes the transaction fail on all.
            for status in &mut self.status {
                if *status == TransactionStatus::Active {
                    *status = TransactionStatus::Failed;
                }
            }
            self.state.failed();
        } else {
            self.state
                .succeeded(&facts, self.settings, decision.writes, nodes);
            self.tables(&facts);
        }
        for node in 0..3 {
            self.state.node_ready(node, self.status[node]);
        }
        self.state.ready(self.status[0], self.settings);
    }

    fn server(&self, node: usize, facts: &Facts, fails: bool) -> TransactionStatus {
        use TransactionStatus as S;
        let mut status = self.status[node];
        for statement in facts.statements() {
            status = match (statement, status) {
                _ if fails && status != S::Idle => S::Failed,
                (Statement::Begin(_), S::Idle) => S::Active,
                (Statement::Commit { chain: true } | Statement::Rollback { chain: true }, _) => {
                    S::Active
                }
                (
                    Statement::Commit { .. }
                    | Statement::Rollback { .. }
                    | Statement::PrepareTransaction,
                    _,
                ) => S::Idle,
                (Statement::RollbackTo(_), S::Failed) => S::Active,
                (_, status) => status,
            };
        }
        status
    }

    /// The catalog sees what the session made.
    fn tables(&mut self, facts: &Facts) {
        for statement in facts.statements() {
            match *statement {
                Statement::CreateTemporary(name) => {
                    self.catalog
                        .temporary
                        .push(String::from_utf8_lossy(facts.text(name)).into_owned());
                }
                Statement::Drop(name) => {
                    let name = String::from_utf8_lossy(facts.text(name)).into_owned();
                    self.catalog.temporary.retain(|t| *t != name);
                }
                Statement::Discard(_) | Statement::Rollback { .. } => {
                    self.catalog.temporary.clear()
                }
                _ => {}
            }
        }
    }
}

fn destination(nodes: NodeSet) -> String {
    match nodes.iter().collect::<Vec<_>>()[..] {
        [0] => "primary".into(),
        [1] => "lb".into(),
        [0, 1] => "primary+lb".into(),
        [0, 1, 2] => "all".into(),
        [2] => "node2".into(),
        [0, 2] => "primary+node2".into(),
        ref other => format!("{other:?}"),
    }
}

/// The cases that differ: id and a line about it.
fn differing(file: &str) -> BTreeMap<String, String> {
    let mut configs: BTreeMap<String, Config> = BTreeMap::new();
    let mut wrong = BTreeMap::new();
    for case in cases(file) {
        let config = configs
            .entry(case.settings.clone())
            .or_insert_with(|| config(&case.settings));
        if pgpool_rs::admin::parse(case.statement.as_bytes(), config.dialect).is_some() {
            if case.destination != "pgpool" {
                wrong.insert(case.id.clone(), "answered by us".to_owned());
            }
            continue;
        }
        let mut session = Session::new(&config.settings.routing, &case.application_name);
        for sql in &case.preceding {
            session.execute(sql);
        }
        let facts = Facts::of(case.statement.as_bytes());
        let (decision, nodes) = session.decide(&case.statement, &facts, case.protocol);
        let seen = destination(nodes);
        let instead = !case.sqlstate.is_empty() && seen == "primary" && case.destination == "lb";
        if seen != case.destination && !instead {
            wrong.insert(
                case.id,
                format!(
                    "[{}] {:?} => {:?}: expected {} {}, decided {seen} by rule {} ({})",
                    case.settings,
                    case.preceding,
                    case.statement,
                    case.destination,
                    case.sqlstate,
                    decision.rule.number(),
                    decision.rule
                ),
            );
        }
    }
    wrong
}

#[test]
fn every_recorded_case_is_decided_as_stock_decides_it() {
    let wrong = differing("cases.tsv");
    assert!(
        wrong.is_empty(),
        "{}",
        wrong.into_values().collect::<Vec<_>>().join("\n")
    );
}

/// Cases on purpose decided in another way than stock; docs/differences.md has the reasons.
const ON_PURPOSE: [&str; 17] = [
    // COPY (SELECT f()) follows its functions.
    "X024", "X160", // A snapshot is known on the primary only.
    "X044", // transaction_read_only = 1 is on.
    "X048", // A standby is always read only.
    "X104", // A write before the savepoint is still there when it is rolled back to.
    "X142", "X143", // The failed transaction's answer is the server's.
    "X151", // A transaction that one node only has begun stays there.
    "X177", "X192", // BEGIN inside a transaction begins nothing.
    "X183",
    // dml_adaptive: TRUNCATE and COPY FROM write; COPY TO reads; every pair of the relationship list counts.
    "X284", "X285", "X289", "X314", // LOCK TABLE: the standby would wait for this transaction.
    "X286", // DISCARD TEMP drops.
    "X451",
];

#[test]
fn more_cases_differ_only_where_they_should() {
    let mut wrong = differing("more-cases.tsv");
    for id in ON_PURPOSE {
        assert!(wrong.remove(id).is_some(), "{id} does not differ any more");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
