//! A session that balances: carries out what its [`Router`] decides.

use std::{cell::Cell, ops::Range, sync::Arc, task::Context};

use super::{
    admin::Turn,
    client_side::{Message, Next, Stop},
    links::backend_pid,
    lookup::LookUp,
    relay::{Exit, Held, Relay},
    router::{Effects, Env, Explanation, Ledger, Router, Sending, Step},
};
use crate::{
    admin::SessionSettings,
    cluster::{ClusterView, NodeId, NodeStatus},
    config::Config,
    dataplane::{
        catalogs::Known,
        pool::{PoolEntry, PoolFacts},
        worker::Worker,
    },
    observe::Severity,
    protocol::messages,
    routing::{
        balance::{self, Situation, Who},
        policy::Rule,
        relcache::{Answer, Question},
        settings::Switches,
    },
};

/// What a session that balances begins with.
pub struct Balancing {
    pub config: Arc<Config>,
    pub view: Arc<ClusterView>,
    pub load_balance_node: NodeId,
}

impl Balancing {
    /// Chooses the load balance node of a new session. `None`: it does not balance.
    pub fn begin(
        worker: &Worker,
        view: &Arc<ClusterView>,
        target: NodeId,
        entry: &PoolEntry,
    ) -> Option<Balancing> {
        let config = worker.shared.config.load_full();
        let settings = &config.settings.routing;
        if !settings.load_balance_mode || !view.mode.balances() {
            return None;
        }
        let view = of_session(view, entry);
        let replication = worker.shared.replication.load();
        let situation = Situation {
            view: &view,
            replication: &replication,
        };
        let who = who(&entry.facts);
        let node = balance::choose(settings, &situation, &who, &mut || worker.random())?;
        // Who works on the primary alone has nothing to decide.
        let balances = node != target
            || settings.statement_level_load_balance && view.valid_nodes().count() > 1;
        balances.then_some(Balancing {
            config,
            view,
            load_balance_node: node,
        })
    }
}

/// See the module.
pub(super) struct Routed {
    pub router: Router,
    config: Arc<Config>,
    switches: Switches,
    /// The cluster as far as this session has connections.
    view: Arc<ClusterView>,
    look_up: Option<Box<LookUp>>,
    /// [`Known::generation`] when it was sent.
    asked: u64,
    /// Notifications and changed parameters that wait for the end of another message.
    pub aside: Vec<u8>,
}

impl Routed {
    pub fn new(balancing: Balancing, target: NodeId, entry: &PoolEntry) -> Routed {
        let mut router = Router::new(target, Some(balancing.load_balance_node));
        let says = |status: &[u8]| {
            let mut parts = entry.parameter_status.windows(status.len());
            parts.any(|part| part == status)
        };
        router.set_standard_strings(!says(b"standard_conforming_strings\0off\0"));
        router.set_utf8(says(b"client_encoding\0UTF8\0"));
        Routed {
            router,
            switches: balancing.config.settings.routing.switches,
            config: balancing.config,
            view: balancing.view,
            look_up: None,
            asked: 0,
            aside: Vec::new(),
        }
    }

    /// Settings as this session has them now.
    pub fn configure(&mut self, settings: &SessionSettings, config: Arc<Config>) {
        self.switches = settings.switches(&config);
        self.config = config;
    }

    pub fn view_changed(&mut self, view: &Arc<ClusterView>, entry: &PoolEntry) {
        self.view = of_session(view, entry);
    }

    pub fn node_lost(&mut self, node: NodeId, ledgers: &mut [Ledger], entry: &PoolEntry) {
        self.router.node_lost(node, ledgers);
        if self.look_up.as_ref().is_some_and(|l| l.node == node) {
            self.look_up = None;
            self.router.look_up_overtaken();
        }
        self.view = of_session(&self.view, entry);
    }

    pub fn may_go_on(&self, ledgers: &[Ledger]) -> bool {
        self.look_up.is_none() && self.router.may_go_on(ledgers)
    }

    /// Whether the body of a message is looked at, besides those that always are.
    pub fn wants_body(&self, node: NodeId, kind: u8, ledgers: &[Ledger]) -> bool {
        match kind {
            b'A' => node == self.router.primary() && !self.router.shows(node, kind, ledgers),
            b'D' => self.look_up.as_ref().is_some_and(|l| l.node == node),
            _ => false,
        }
    }

    pub fn node_message(&mut self, node: NodeId, kind: u8, body: &[u8], ledgers: &mut [Ledger]) {
        let settings = &self.config.settings.routing;
        let is_primary = node == self.router.primary();
        match kind {
            // What comes of its own accord comes from the primary, whatever else it does.
            b'A' | b'S' if is_primary && !self.router.shows(node, kind, ledgers) => {
                messages::frame(kind, &mut self.aside, |out| out.extend_from_slice(body));
            }
            _ => {}
        }
        if kind == b'S' && is_primary {
            if let Some(value) = body.strip_prefix(b"standard_conforming_strings\0") {
                self.router.set_standard_strings(value != b"off\0");
            } else if let Some(value) = body.strip_prefix(b"client_encoding\0") {
                self.router.set_utf8(value == b"UTF8\0");
            }
        }
        self.router.answer(node, kind, body, ledgers, settings);
        if let Some(look_up) = &mut self.look_up
            && look_up.node == node
        {
            look_up.received(kind, body);
        }
    }
}

impl Relay {
    /// Sends each message of the client to where it belongs; keeps what cannot be sent yet.
    pub(super) fn routed_bytes(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Exit> {
        // Neighbouring bytes for one node go out in one write.
        let mut run = Run::default();
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let message = match self.client_side.next(rest, self.statements.any()) {
                Next::Body(len) => {
                    run.add(self, cx, bytes, self.current(), at..at + len);
                    at += len;
                    continue;
                }
                Next::Message(message) => message,
                Next::Stop(Stop::MaybeAdmin { len }) => {
                    run.finish(self, cx, bytes);
                    let (message, behind) = rest.split_at(len);
                    match self.admin_turn(cx, message, behind) {
                        Turn::NotOurs => Message {
                            kind: b'Q',
                            body_len: len - crate::protocol::frame::HEADER_LEN,
                            bytes: message,
                        },
                        Turn::Later | Turn::Begun => return Ok(()),
                    }
                }
                Next::Stop(stop) => {
                    run.finish(self, cx, bytes);
                    return self.stopped(stop, rest);
                }
            };
            let step = self.step(message);
            if self.has_effects() {
                run.finish(self, cx, bytes);
                self.carry_out_effects(cx);
            }
            match step {
                Step::Send(sending) => {
                    self.client_side.accept(message);
                    let range = at..at + message.bytes.len();
                    self.observe(&sending, message);
                    if !sending.before.is_empty() || !sending.followers.is_empty() {
                        run.finish(self, cx, bytes);
                        self.send_besides(cx, &sending, message);
                    }
                    run.add(self, cx, bytes, sending.leader, range);
                    at += message.bytes.len();
                }
                Step::NeedsMore => {
                    run.finish(self, cx, bytes);
                    self.held = rest.to_vec();
                    return Ok(());
                }
                Step::Wait => {
                    run.finish(self, cx, bytes);
                    self.held = rest.to_vec();
                    self.held_until = Held::Router;
                    return Ok(());
                }
                Step::LookUp(questions) => {
                    run.finish(self, cx, bytes);
                    self.held = rest.to_vec();
                    self.held_until = Held::Router;
                    self.look_up(cx, questions);
                    return Ok(());
                }
            }
        }
        run.finish(self, cx, bytes);
        Ok(())
    }

    fn step(&mut self, message: Message<'_>) -> Step {
        let before = self.current();
        let step = self.with_router(|router, ledgers, env| router.step(message, ledgers, env));
        if self.current() != before {
            let node = self
                .routed
                .as_ref()
                .and_then(|r| r.router.load_balance_node());
            self.control.load_balance_node.set(node);
            self.tell_cancel_target();
        }
        // Only a session without a router has none.
        step.unwrap_or(Step::NeedsMore)
    }

    /// Runs `f` with all that decisions are made of. `None`: this session does not balance.
    fn with_router(
        &mut self,
        f: impl Fn(&mut Router, &mut [Ledger], &mut Env<'_, Known<'_>>) -> Step,
    ) -> Option<Step> {
        let routed = self.routed.as_mut()?;
        let worker = &self.worker;
        let replication = worker.shared.replication.load();
        let facts = &self.entry.facts;
        let ledgers = &mut self.ledgers;
        Some(
            worker.with_catalog(&facts.startup.database, |buffer, catalog| {
                let mut env = Env {
                    view: &routed.view,
                    replication: &replication,
                    settings: &routed.config.settings.routing,
                    switches: routed.switches,
                    who: who(facts),
                    catalog,
                    facts: buffer,
                    random: &mut || worker.random(),
                };
                let step = f(&mut routed.router, ledgers, &mut env);
                // Known from other sessions of the same user, unless this one begins otherwise.
                if let Step::LookUp(questions) = &step
                    && !facts.has_options()
                    && let Some(serializable) = env.catalog.default_isolation(questions)
                {
                    routed.router.set_begins_serializable(serializable);
                    return f(&mut routed.router, ledgers, &mut env);
                }
                step
            }),
        )
    }

    /// The answer to `PGPOOL EXPLAIN`, without ReadyForQuery. `None`: the primary has to be asked first.
    pub(super) fn explain(&mut self, cx: &mut Context<'_>, sql: &[u8]) -> Option<Vec<u8>> {
        let explanation = Cell::new(None);
        let step =
            self.with_router(
                |router, ledgers, env| match router.explain(sql, ledgers, env) {
                    Ok(found) => {
                        explanation.set(Some(found));
                        Step::NeedsMore
                    }
                    Err(step) => step,
                },
            );
        let view = self.worker.shared.view.load();
        if let Some(Explanation { nodes, rule }) = explanation.take() {
            let nodes: Vec<NodeId> = nodes.iter().collect();
            return Some(crate::admin::explanation(&nodes, &view, rule));
        }
        match step {
            None => {
                let config = self.worker.shared.config.load();
                let rule = if !view.mode.balances() {
                    Rule::NotBalancedMode
                } else if !config.settings.routing.load_balance_mode {
                    Rule::BalancingOff
                } else {
                    Rule::PrimaryChosen
                };
                Some(crate::admin::explanation(&[self.target], &view, rule))
            }
            Some(Step::LookUp(questions)) => {
                self.look_up(cx, questions);
                None
            }
            Some(_) => None,
        }
    }

    fn has_effects(&self) -> bool {
        self.routed
            .as_ref()
            .is_some_and(|routed| routed.router.has_effects())
    }

    /// Counts and logs a message for each node that it goes to.
    fn observe(&mut self, sending: &Sending, message: Message<'_>) {
        let mut nodes = sending.followers;
        nodes.insert(sending.leader);
        if nodes.contains(self.target) && self.covers() {
            self.cover.sent(message.kind, message.body());
        }
        for node in nodes.iter() {
            self.statements
                .observe(
                    self.worker.counters(node),
                    &self.reporter,
                    node,
                    backend_pid(&self.entry, node),
                )
                .message(message.kind, message.body());
        }
    }

    /// What goes out besides the message to the leader.
    fn send_besides(&mut self, cx: &mut Context<'_>, sending: &Sending, message: Message<'_>) {
        for (nodes, before) in &sending.before {
            let bytes = before.encode();
            for node in nodes.iter() {
                self.forward(cx, node, &bytes);
            }
        }
        let plain = sending.plain_begin.then(|| plain_begin(message));
        for node in sending.followers.iter() {
            let bytes = plain.as_deref().unwrap_or(message.bytes);
            self.forward(cx, node, bytes);
        }
    }

    fn look_up(&mut self, cx: &mut Context<'_>, questions: Vec<Question>) {
        let Some(routed) = &mut self.routed else {
            return;
        };
        let settings = &routed.config.settings.routing;
        let look_up = LookUp::new(routed.router.catalog_node(settings), questions);
        let (node, bytes) = (look_up.node, look_up.encode());
        routed
            .router
            .look_up_sent(node, look_up.message_count(), &mut self.ledgers);
        routed.look_up = Some(Box::new(look_up));
        let database = &self.entry.facts.startup.database;
        routed.asked = self
            .worker
            .with_catalog(database, |_, known| known.generation());
        self.forward(cx, node, &bytes);
    }

    /// What the router wants besides the sending of messages.
    pub(super) fn carry_out_effects(&mut self, cx: &mut Context<'_>) {
        self.look_up_done();
        let Some(routed) = &mut self.routed else {
            return;
        };
        if !routed.router.has_effects() {
            return;
        }
        let Effects {
            orders,
            forget,
            catalog_changed,
            diverged,
        } = routed.router.take_effects();
        for (node, order) in orders {
            self.forward(cx, node, &order.encode());
        }
        if !forget.is_empty() {
            let database = &self.entry.facts.startup.database;
            self.worker.with_catalog(database, |_, mut known| {
                forget.iter().for_each(|name| known.forget(name));
            });
        }
        if catalog_changed {
            self.worker.plane.catalog.changed();
        }
        for node in diverged {
            self.reporter.emit(
                Severity::Warning,
                format_args!(
                    "DB node {node} may not have what this session has set: a statement or transaction that \
                     went to several nodes has ended differently there"
                ),
                "One of the nodes has refused or undone what the other has done.",
                "Reads of this session go to the primary from now on. If a server has refused something, its \
                 log has the error.",
            );
        }
    }

    fn look_up_done(&mut self) {
        let Some(routed) = &mut self.routed else {
            return;
        };
        let is_done = |l: &mut Box<LookUp>| {
            self.ledgers
                .get(l.node)
                .is_none_or(|ledger| !ledger.owed.owes_ready())
        };
        let Some(look_up) = routed.look_up.take_if(is_done) else {
            return;
        };
        let (node, refusal) = (look_up.node, look_up.refusal().to_owned());
        let Some(answers) = look_up.answers() else {
            if routed.router.look_up_failed() {
                self.reporter.emit(
                    Severity::Warning,
                    format_args!(
                        "DB node {node} has not said what is in its catalog, so that a statement of this session \
                         goes to the primary: {refusal}"
                    ),
                    "Which tables and functions a statement names decides where it goes. Within transactions this \
                     session asks no more, and later refusals are not logged.",
                    "If the user lacks SELECT on tables of pg_catalog, grant it; else look at the time limits of the \
                     session and at the log of the server.",
                );
            }
            return;
        };
        let facts = &self.entry.facts;
        let database = &facts.startup.database;
        let asked = routed.asked;
        let now = self.worker.with_catalog(database, |_, mut known| {
            for (question, answer) in &answers {
                if let Answer::DefaultIsolation { serializable } = *answer {
                    routed.router.set_begins_serializable(serializable);
                    if facts.has_options() {
                        continue;
                    }
                }
                if let Answer::Temporary { more } = *answer {
                    routed.router.set_untraced(more);
                    continue;
                }
                known.learn(question, *answer, asked);
            }
            known.generation()
        });
        if now != asked {
            // Asking anew could go on for ever where catalogs change all the time.
            routed.router.look_up_overtaken();
        }
    }
}

/// The message with `BEGIN` as its statement.
pub(super) fn plain_begin(message: Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    if message.kind == b'P' {
        let body = message.body();
        let end = body.iter().position(|&b| b == 0).unwrap_or(0);
        messages::parse(body.get(..end).unwrap_or_default(), b"BEGIN", &mut out);
    } else {
        messages::query("BEGIN", &mut out);
    }
    out
}

/// Bytes that go to one node in one write.
#[derive(Default)]
struct Run {
    node: NodeId,
    range: Range<usize>,
}

impl Run {
    fn add(
        &mut self,
        relay: &mut Relay,
        cx: &mut Context<'_>,
        bytes: &[u8],
        node: NodeId,
        range: Range<usize>,
    ) {
        if self.node == node && self.range.end == range.start && !self.range.is_empty() {
            self.range.end = range.end;
            return;
        }
        self.finish(relay, cx, bytes);
        *self = Run { node, range };
    }

    fn finish(&mut self, relay: &mut Relay, cx: &mut Context<'_>, bytes: &[u8]) {
        let run = std::mem::take(self);
        let bytes = bytes.get(run.range).unwrap_or_default();
        relay.forward(cx, run.node, bytes);
    }
}

/// The view with those nodes down that this session has no connection to.
fn of_session(view: &Arc<ClusterView>, entry: &PoolEntry) -> Arc<ClusterView> {
    let connected = |node: NodeId| entry.backends.get(node).is_some_and(Option::is_some);
    if view.valid_nodes().all(connected) {
        return view.clone();
    }
    let mut view = ClusterView::clone(view);
    for node in &mut view.nodes {
        if !connected(node.id) {
            node.status = NodeStatus::Down;
        }
    }
    Arc::new(view)
}

fn who(facts: &PoolFacts) -> Who<'_> {
    let startup = &facts.startup;
    let application_name = startup
        .parameters
        .iter()
        .find(|(name, _)| name == "application_name")
        .map_or("", |(_, value)| value);
    Who {
        user: startup.user.as_bytes(),
        database: startup.database.as_bytes(),
        application_name: application_name.as_bytes(),
    }
}
