//! What the module promises, in a session of two nodes: 0 is the primary, 1 the load balance node.

mod pipelines;
mod primary;
mod several;
mod statements;
mod transactions;
mod waits;

use super::{Before, Env, Ledger, NodeSet, Order, Router, Step, statement_of};
use crate::{
    cluster::{ClusterView, NodeId},
    dataplane::session::client_side::Message,
    failover::testing,
    protocol::{
        frame::HEADER_LEN,
        messages::{self, SYNC, frame},
    },
    routing::{
        balance::Who,
        facts::Facts,
        policy::Catalog,
        relcache::Relation,
        settings::{Settings, Switches},
    },
};

/// Knows every name: functions that begin with `f_vol` are volatile.
struct Known;

impl Catalog for Known {
    fn relation(&mut self, _: Option<&[u8]>, _: &[u8]) -> Option<Relation> {
        Some(Relation::default())
    }

    fn volatile(&mut self, _: Option<&[u8]>, name: &[u8]) -> Option<bool> {
        Some(name.starts_with(b"f_vol"))
    }
}

struct Session {
    router: Router,
    ledgers: Vec<Ledger>,
    view: ClusterView,
    settings: Settings,
}

impl Session {
    fn new() -> Session {
        Session::with(2, Settings::default())
    }

    fn with(nodes: usize, settings: Settings) -> Session {
        let mut view = testing::view(nodes);
        view.primary = Some(0);
        let mut router = Router::new(0, Some(1));
        router.set_begins_serializable(false);
        Session {
            router,
            ledgers: (0..nodes).map(|_| Ledger::default()).collect(),
            view,
            settings,
        }
    }

    /// Where a message goes: the leader, then `+` each follower, or `wait`. What is put before it
    /// comes first.
    fn send(&mut self, bytes: &[u8]) -> String {
        let message = Message {
            kind: bytes[0],
            body_len: bytes.len() - HEADER_LEN,
            bytes,
        };
        let mut env = Env {
            view: &self.view,
            replication: &[],
            settings: &self.settings,
            switches: Switches::default(),
            who: Who::default(),
            catalog: Known,
            facts: &mut Facts::new(),
            random: &mut || 0.9,
        };
        match self.router.step(message, &mut self.ledgers, &mut env) {
            Step::Send(sending) => {
                let mut text = String::new();
                for (nodes, before) in &sending.before {
                    let what = match before {
                        Before::Parse { parsed, .. } if statement_of(parsed).is_empty() => "empty",
                        Before::Parse { .. } => "parse",
                        Before::Close { .. } => "close",
                        Before::Occupy { .. } => "occupy",
                        Before::Join { .. } => "join",
                    };
                    text += &format!("{what} on {}, ", list(*nodes));
                }
                text += &sending.leader.to_string();
                for node in sending.followers.iter() {
                    text += &format!("+{node}");
                }
                text
            }
            Step::Wait => "wait".to_owned(),
            other => format!("{other:?}"),
        }
    }

    fn query(&mut self, sql: &str) -> String {
        let mut bytes = Vec::new();
        messages::query(sql, &mut bytes);
        self.send(&bytes)
    }

    fn parse(&mut self, name: &str, sql: &str) -> String {
        let mut bytes = Vec::new();
        messages::parse(name.as_bytes(), sql.as_bytes(), &mut bytes);
        self.send(&bytes)
    }

    fn message(&mut self, kind: u8, body: &str) -> String {
        let mut bytes = Vec::new();
        frame(kind, &mut bytes, |out| {
            out.extend_from_slice(body.as_bytes())
        });
        self.send(&bytes)
    }

    fn bind(&mut self, portal: &str, name: &str) -> String {
        self.message(b'B', &format!("{portal}\0{name}\0\0\0\0\0\0\0"))
    }

    fn execute(&mut self, portal: &str) -> String {
        self.message(b'E', &format!("{portal}\0\0\0\0\0"))
    }

    /// Parse, Bind and Execute.
    fn run(&mut self, sql: &str) -> [String; 3] {
        [self.parse("", sql), self.bind("", ""), self.execute("")]
    }

    fn sync(&mut self) -> String {
        self.send(&SYNC)
    }

    /// A node says messages of these kinds; behind a Z stands its status.
    fn says(&mut self, node: NodeId, kinds: &str) -> &mut Session {
        let mut kinds = kinds.bytes();
        while let Some(kind) = kinds.next() {
            let status = if kind == b'Z' { kinds.next() } else { None };
            let body = status.as_slice();
            self.router
                .answer(node, kind, body, &mut self.ledgers, &self.settings);
        }
        self
    }

    fn orders(&mut self) -> Vec<(NodeId, Order)> {
        self.router.take_effects().orders
    }

    fn diverged(&mut self) -> Vec<NodeId> {
        self.router.take_effects().diverged
    }

    fn may_go_on(&self) -> bool {
        self.router.may_go_on(&self.ledgers)
    }

    /// In a transaction on both nodes, all answered.
    fn begin(&mut self) -> &mut Session {
        assert_eq!(self.query("BEGIN"), "0+1");
        self.says(0, "CZT").says(1, "CZT")
    }
}

fn list(nodes: NodeSet) -> String {
    let nodes: Vec<String> = nodes.iter().map(|node| node.to_string()).collect();
    nodes.join("+")
}

const READ: &str = "SELECT * FROM t";
const WRITE: &str = "INSERT INTO t VALUES (1)";
const FLUSH: Order = Order::Flush;
const ABORT: Order = Order::Abort { sync: true };
const ABORT_IN_SEQUENCE: Order = Order::Abort { sync: false };
