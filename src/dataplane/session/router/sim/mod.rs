//! Random histories of a session that balances: a client that sends anything in any order and in any
//! pieces, a router, and model servers that answer whenever they like. One more server, alone, gets
//! all that the client sends: what the client reads must be the same.
//!
//! `SIM_SEED` repeats one history, `SIM_HISTORIES` sets their number (default 100,000 in the
//! simulation profile, 2,000 otherwise). A failure prints the seed and the whole history.
//!
//! What is left out, since it differs on purpose: replication that lags (the standbys have at once
//! what is committed), snapshots of REPEATABLE READ, `set_config()`, Sync within the data of a COPY
//! that fails, PREPARE or EXECUTE of what the catalog cannot be asked about; see [`client`] for what
//! settings exclude. ParameterStatus may come earlier or later than from one server; its last
//! values are compared.

mod client;
mod commands;
mod extended;
mod server;
mod shell;
mod sql;
mod state;
mod transaction;

use std::{cell::RefCell, rc::Rc, time::SystemTime};

use self::{
    client::Item,
    server::Server,
    shell::{Shell, shown},
    state::Database,
    transaction::Block,
};
use crate::{
    cluster::NodeId,
    failover::{sim::random::Random, testing},
    protocol::{Header, frame::HEADER_LEN},
    routing::settings::{CheckTempTable, Object, OnWrite, Relationship, Settings, Switches},
};

/// The client's end of its connection.
#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    /// Without ParameterStatus.
    messages: Vec<Vec<u8>>,
    /// The last values of ParameterStatus.
    parameters: std::collections::BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Received {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        while let Some(header) = Header::read(&self.bytes).expect("a message") {
            let len = HEADER_LEN + header.body_len;
            if self.bytes.len() < len {
                return;
            }
            let message: Vec<u8> = self.bytes.drain(..len).collect();
            if header.kind == b'S' {
                let body = &message[HEADER_LEN..];
                let end = body.iter().position(|&b| b == 0).expect("a name");
                self.parameters
                    .insert(body[..end].to_vec(), body[end + 1..].to_vec());
            } else {
                self.messages.push(message);
            }
        }
    }
}

struct World {
    random: Random,
    script: Vec<Item>,
    /// How many messages of the oracle the client has read before it sends item `i`.
    known_before: Vec<usize>,
    expected: Received,
    oracle: Server,
    oracle_database: Rc<RefCell<Database>>,
    sent: usize,
    received: Received,
    client_wire: Vec<u8>,
    shell: Shell,
    database: Rc<RefCell<Database>>,
    servers: Vec<Option<Server>>,
    node_wires: Vec<Vec<u8>>,
    /// How likely each node is to make a step.
    speeds: Vec<u64>,
    checked: usize,
    /// There is nothing more to compare.
    over: bool,
}

fn settings(random: &mut Random) -> Settings {
    let on_write = [
        OnWrite::Off,
        OnWrite::Transaction,
        OnWrite::Transaction,
        OnWrite::TransTransaction,
        OnWrite::Always,
        OnWrite::DmlAdaptive,
    ][random.node(6)];
    let check = [
        CheckTempTable::Catalog,
        CheckTempTable::Catalog,
        CheckTempTable::Trace,
        CheckTempTable::None,
    ][random.node(4)];
    Settings {
        statement_level_load_balance: random.chance(30),
        on_write,
        switches: Switches {
            allow_sql_comments: random.chance(30),
            check_temp_table: check,
            check_unlogged_table: true,
        },
        relationships: vec![Relationship {
            object: Object::Function(b"f_write".to_vec()),
            dependent: b"w1".to_vec(),
        }],
        delay_threshold: random.chance(30).then_some(10),
        prefer_lower_delay_standby: random.chance(50),
        asks_load_balance_node: random.chance(15),
        ..Settings::default()
    }
}

impl World {
    fn new(seed: u64, explained: bool) -> World {
        let mut random = Random(seed);
        let settings = settings(&mut random);
        let count = [1, 2, 2, 2, 3, 4][random.node(6)];
        let primary = random.node(count);
        let serializable = random.chance(5);
        let mut view = testing::view(count);
        view.primary = Some(primary);
        // Who works on the primary alone has no router.
        let balance = if settings.statement_level_load_balance && random.chance(20) {
            primary
        } else {
            (primary + 1) % count
        };
        let script = client::script(&mut random, &settings);
        let oracle_database = Database::new(serializable);
        let mut oracle = Server::new(false, oracle_database.clone());
        let mut expected = Received::default();
        let mut known_before = vec![0];
        for item in &script {
            oracle.receive(&item.bytes);
            expected.add(&oracle.take_flushed());
            let before = known_before.last().copied().unwrap_or(0);
            known_before.push(if item.waits {
                expected.messages.len()
            } else {
                before
            });
        }
        let database = Database::new(serializable);
        let servers = (0..count)
            .map(|id| Some(Server::new(id != primary, database.clone())))
            .collect();
        let mut shell = Shell::new(view, settings, balance, explained);
        if random.chance(50) {
            shell.router.set_begins_serializable(serializable);
        }
        shell.note(|| format!("seed {seed}, {count} nodes, primary {primary}, {balance} balances"));
        let what = format!("{:?}", shell.settings);
        shell.note(|| what);
        World {
            script,
            known_before,
            expected,
            oracle,
            oracle_database,
            sent: 0,
            received: Received::default(),
            client_wire: Vec::new(),
            shell,
            database,
            servers,
            node_wires: vec![Vec::new(); count],
            speeds: (0..count).map(|_| [1, 5, 30][random.node(3)]).collect(),
            checked: 0,
            over: false,
            random,
        }
    }

    /// Some of these bytes: all, or a piece.
    fn piece(&mut self, len: usize) -> usize {
        if len < 2 || self.random.chance(70) {
            len
        } else {
            1 + self.random.node(len - 1)
        }
    }

    fn client_sends(&mut self) -> bool {
        if self.sent == self.script.len()
            || self.received.messages.len() < self.known_before[self.sent]
        {
            return false;
        }
        let bytes = self.script[self.sent].bytes.clone();
        self.shell.note(|| format!("client: {}", shown(&bytes)));
        self.client_wire.extend(bytes);
        self.sent += 1;
        true
    }

    fn shell_reads_client(&mut self) -> bool {
        if self.random.chance(3) {
            self.shell.keep_awake();
        }
        if !self.shell.may_read_client() || self.client_wire.is_empty() && !self.shell.has_held() {
            return false;
        }
        let len = if self.shell.has_held() {
            0
        } else {
            self.piece(self.client_wire.len())
        };
        let bytes: Vec<u8> = self.client_wire.drain(..len).collect();
        let random = &mut self.random;
        let mut number =
            || f64::from(u32::try_from(random.below(1 << 20)).expect("small")) / f64::from(1 << 20);
        self.shell.client_bytes(&mut number, &bytes);
        for (text, question) in std::mem::take(&mut self.shell.asked) {
            self.database.borrow_mut().questions.insert(text, question);
            // A look-up that fails inside a transaction makes that fail; no proxy could help it.
            let node = self.shell.router.catalog_node(&self.shell.settings);
            let refuses = self.random.chance(5);
            if let Some(server) = &mut self.servers[node]
                && server.transaction.block == Block::None
            {
                server.refuses_question = refuses;
            }
        }
        true
    }

    fn node_works(&mut self, node: NodeId) -> bool {
        let len = self.shell.to_nodes[node].len();
        if len == 0 {
            return false;
        }
        let len = self.piece(len);
        let bytes: Vec<u8> = self.shell.to_nodes[node].drain(..len).collect();
        let Some(server) = &mut self.servers[node] else {
            return true;
        };
        server.receive(&bytes);
        self.node_wires[node].extend(server.take_flushed());
        assert_eq!(server.misled, None, "a write has gone to standby {node}");
        true
    }

    fn shell_reads_node(&mut self, node: NodeId) -> bool {
        let len = self.node_wires[node].len();
        if len == 0 {
            return false;
        }
        let len = self.piece(len);
        let bytes: Vec<u8> = self.node_wires[node].drain(..len).collect();
        self.shell.node_bytes(node, &bytes);
        let bytes = std::mem::take(&mut self.shell.to_client);
        self.received.add(&bytes);
        self.compare();
        true
    }

    /// What has come so far is what PostgreSQL alone would have sent.
    fn compare(&mut self) {
        while let Some(message) = self.received.messages.get(self.checked) {
            let expected = self.expected.messages.get(self.checked);
            let same = expected == Some(message);
            // Who describes what a standby has prepared, which is prepared on the primary for that, has taken
            // the snapshot of the pipeline's transaction, and cannot set its isolation level.
            let too_late = b"isolation level must be set before any query";
            let says = |m: &[u8], text: &[u8]| m.windows(text.len()).any(|w| w == text);
            // A Bind message of a statement that its node has to prepare first fails by what the statement
            // names, if that is gone, before its parameters are looked at.
            let gone = expected.is_some_and(|e| says(e, b"invalid input syntax"))
                && says(message, b"does not exist");
            if !same && self.shell.prepared_anew && (says(message, too_late) || gone) {
                self.over = true;
                return;
            }
            assert!(
                same,
                "the client reads {}, PostgreSQL alone says {}",
                shown(message),
                expected.map_or("nothing".to_owned(), |m| shown(m)),
            );
            self.checked += 1;
        }
    }

    /// One random step; false: nothing moves any more.
    fn step(&mut self) -> bool {
        let count = self.servers.len();
        let total: u64 = 40 + 4 * self.speeds.iter().sum::<u64>();
        let mut chosen = self.random.below(total);
        for _ in 0..total {
            let mut left = chosen;
            chosen = (chosen + 7) % total;
            if left < 20 {
                if self.client_sends() {
                    return true;
                }
                continue;
            }
            if left < 40 {
                if self.shell_reads_client() {
                    return true;
                }
                continue;
            }
            left -= 40;
            for node in 0..count {
                let speed = self.speeds[node];
                if left < 2 * speed {
                    if self.node_works(node) {
                        return true;
                    }
                    break;
                }
                left -= 2 * speed;
                if left < 2 * speed {
                    if self.shell_reads_node(node) {
                        return true;
                    }
                    break;
                }
                left -= 2 * speed;
            }
        }
        (0..count).any(|node| self.node_works(node) || self.shell_reads_node(node))
            || self.client_sends()
            || self.shell_reads_client()
    }

    /// Something happens from outside. False: the session is over.
    fn chance(&mut self) -> bool {
        let node = self.random.node(self.servers.len());
        match self.random.below(40) {
            0 if Some(node) != self.shell.view.primary && self.servers[node].is_some() => {
                self.shell.note(|| format!("node {node} is lost"));
                self.servers[node] = None;
                self.node_wires[node].clear();
                return self.shell.lose(node);
            }
            1 => self.shell.known.forget_all(),
            2 => self.shell.replication[node].delay_bytes = self.random.below(20),
            _ => {}
        }
        true
    }

    fn run(&mut self) {
        // The longest take some thousand steps.
        for _ in 0..200_000 {
            if self.over || self.random.chance(5) && !self.chance() {
                return;
            }
            if !self.step() {
                return self.check_end();
            }
        }
        panic!("the session turns in circles");
    }

    /// All is sent and answered.
    fn check_end(&mut self) {
        assert_eq!(self.sent, self.script.len(), "the client waits for ever");
        assert!(
            self.client_wire.is_empty() && !self.shell.has_held(),
            "a message of the client waits for ever"
        );
        if let Some(message) = self.expected.messages.get(self.checked) {
            panic!("the client waits for {} for ever", shown(message));
        }
        assert!(
            self.received.bytes.is_empty(),
            "part of a message has been sent"
        );
        let changed = |received: &Received| {
            let mut parameters = received.parameters.clone();
            parameters.retain(|_, value| *value != b"0\0");
            parameters
        };
        assert_eq!(changed(&self.received), changed(&self.expected));
        let (got, want) = (self.database.borrow(), self.oracle_database.borrow());
        assert_eq!(got.tables, want.tables, "what is committed");
        assert_eq!(got.prepared, want.prepared);
        let primary = self.shell.router.primary();
        let of_primary = self.servers[primary].as_ref().expect("the primary");
        let alone = &self.oracle.transaction;
        assert_eq!(of_primary.transaction.status(), alone.status());
        assert_eq!(of_primary.transaction.state.shown(), alone.state.shown());
        for (node, server) in self.servers.iter().enumerate() {
            let Some(server) = server else { continue };
            if alone.block != Block::None {
                continue;
            }
            assert_eq!(
                server.transaction.block,
                Block::None,
                "node {node} has a transaction open"
            );
            let router = &self.shell.router;
            let reads = router.load_balance_node() != Some(primary)
                || self.shell.settings.statement_level_load_balance;
            if reads && !router.unfit.contains(node) {
                assert_eq!(
                    server.transaction.state.shown(),
                    alone.state.shown(),
                    "parameters of node {node}, which is still read from"
                );
            }
        }
    }
}

/// Prints the history when a check fails.
struct Explain<'a>(&'a mut World);

impl Drop for Explain<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for line in self.0.shell.notes.iter().flatten() {
                println!("{line}");
            }
        }
    }
}

/// One history; every check panics.
fn history(seed: u64, explained: bool) {
    let mut world = World::new(seed, explained);
    let explain = Explain(&mut world);
    let world = &mut *explain.0;
    world.run();
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn in_random_histories_the_client_reads_what_one_server_would_say() {
    if let Some(seed) = number_from("SIM_SEED") {
        history(seed, true);
        return;
    }
    let default = if cfg!(debug_assertions) {
        2_000
    } else {
        100_000
    };
    let count = number_from("SIM_HISTORIES").unwrap_or(default);
    let first = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs() << 20);
    println!("{count} histories from seed {first}; SIM_SEED repeats one");
    for seed in first..first + count {
        if std::panic::catch_unwind(|| history(seed, false)).is_err() {
            println!("SIM_SEED={seed} fails:");
            history(seed, true);
        }
    }
}

/// Kinds of failures of many histories, each with its shortest history.
#[test]
#[ignore = "for whoever looks for faults"]
fn survey() {
    let first = number_from("SIM_SEED").unwrap_or(1);
    let count = number_from("SIM_HISTORIES").unwrap_or(20_000);
    let mut kinds: std::collections::BTreeMap<String, (u64, usize, u64)> = Default::default();
    std::panic::set_hook(Box::new(|_| ()));
    for seed in first..first + count {
        let length = std::cell::Cell::new(0);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut world = World::new(seed, false);
            length.set(world.script.len());
            world.run();
        }));
        let Err(payload) = result else { continue };
        let text = payload
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_default();
        let kind: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
        let entry = kinds.entry(kind).or_insert((0, usize::MAX, 0));
        entry.0 += 1;
        if length.get() < entry.1 {
            (entry.1, entry.2) = (length.get(), seed);
        }
    }
    let _ = std::panic::take_hook();
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, (n, ..))| std::cmp::Reverse(*n));
    for (kind, (times, length, seed)) in kinds {
        println!("{times} times, SIM_SEED={seed} ({length} messages): {kind}");
    }
}
