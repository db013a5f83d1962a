//! The routing decision: well under 1 us per statement, beside 17 us of system calls.

use std::{hint::black_box, time::SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use pgpool_rs::{
    cluster::{ClusterView, Node, NodeStatus},
    config::settings::{BackendFlag, ClusteringMode},
    routing::{
        balance::Situation,
        facts::Facts,
        policy::{Catalog, Inputs, Protocol, decide},
        relcache::{Answer, Question, RelCache, Relation},
        session::SessionState,
        settings::Settings,
    },
};

const STATEMENTS: [(&str, &str); 8] = [
    ("begin", "BEGIN"),
    (
        "pgbench_select",
        "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
    ),
    (
        "pgbench_update",
        "UPDATE pgbench_accounts SET abalance = abalance + 17 WHERE aid = 12345;",
    ),
    (
        "pgbench_insert",
        "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, 4, CURRENT_TIMESTAMP);",
    ),
    (
        "function",
        "SELECT count(*), max(b) FROM s.t WHERE f(a) = 1",
    ),
    (
        "join",
        "SELECT o.id, o.total, c.name, sum(i.price * i.quantity) AS amount FROM orders o JOIN customers c ON c.id = o.customer_id \
         LEFT JOIN items i ON i.order_id = o.id WHERE o.created > '2024-01-01' AND c.region IN ('eu', 'us') GROUP BY o.id, c.name ORDER BY amount DESC LIMIT 10",
    ),
    (
        "locking",
        "SELECT id, payload FROM queue WHERE state = 'new' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED",
    ),
    ("prepared", "SELECT v FROM t1 WHERE i = $1 AND v = $2"),
];

fn read(c: &mut Criterion) {
    let mut facts = Facts::new();
    for (name, sql) in STATEMENTS {
        c.bench_function(&format!("routing/facts/{name}"), |b| {
            b.iter(|| {
                facts.read(black_box(sql.as_bytes()), true);
                black_box(facts.count())
            });
        });
    }
}

struct Cached<'a> {
    cache: &'a mut RelCache,
    now: std::time::Instant,
}

impl Catalog for Cached<'_> {
    fn relation(&mut self, schema: Option<&[u8]>, name: &[u8]) -> Option<Relation> {
        self.cache.relation(b"app", schema, name, self.now)
    }

    fn volatile(&mut self, schema: Option<&[u8]>, name: &[u8]) -> Option<bool> {
        self.cache.volatile(b"app", schema, name, self.now)
    }
}

/// Facts, policy and relation cache together.
fn whole(c: &mut Criterion) {
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
    let view = ClusterView {
        version: 1,
        mode: ClusteringMode::StreamingReplication,
        nodes: (0..3).map(node).collect(),
        primary: Some(0),
        primary_search_running: false,
    };
    let settings = Settings::default();
    let now = std::time::Instant::now();
    let mut cache = RelCache::new(256, None);
    let mut facts = Facts::new();
    let mut state = SessionState::new();
    state.load_balance_node = Some(1);
    state.begins_serializable = Some(false);
    for (name, sql) in STATEMENTS {
        facts.read(sql.as_bytes(), true);
        for &relation in facts.relations() {
            let question = Question::Relation {
                schema: relation.schema.map(|s| facts.text(s).into()),
                name: facts.text(relation.name).into(),
            };
            cache.put(
                b"app",
                &question,
                Answer::Relation(Relation::default()),
                now,
            );
        }
        for &function in facts.functions() {
            let question = Question::Function {
                schema: function.schema.map(|s| facts.text(s).into()),
                name: facts.text(function.name).into(),
            };
            let answer = Answer::Function {
                volatile: false,
                missing: false,
            };
            cache.put(b"app", &question, answer, now);
        }
        c.bench_function(&format!("routing/decision/{name}"), |b| {
            b.iter(|| {
                facts.read(black_box(sql.as_bytes()), true);
                let inputs = Inputs {
                    facts: &facts,
                    sql: sql.as_bytes(),
                    protocol: Protocol::Simple,
                    state: &state,
                    settings: &settings,
                    switches: settings.switches,
                    situation: Situation {
                        view: &view,
                        replication: &[],
                    },
                    user: b"app",
                };
                black_box(decide(
                    &inputs,
                    &mut Cached {
                        cache: &mut cache,
                        now,
                    },
                ))
            });
        });
    }
}

criterion_group!(benches, read, whole);
criterion_main!(benches);
