//! Which node a message of the client goes to, and whose answers are the client's.
//!
//! A core: no socket, no clock. It is told each message of the client ([`Router::step`]) and of each
//! node ([`Router::answer`]) and keeps three promises.
//!
//! * **The answers of one node at a time are the client's.** A message for another node waits until
//!   the node before it has answered all it has been sent; in the middle of a pipeline it gets a
//!   Flush for that. So an error is known before anything behind it goes elsewhere.
//! * **What goes to several nodes is answered by one**, the leader, which is the primary if it is
//!   among them. The answers of the followers are swallowed; one that fails where the leader did
//!   not is not read from any more.
//! * **A transaction fails as a whole.** An error of a standby inside a transaction makes the primary's part
//!   of it fail, too.
//!
//! A statement that was prepared on one node and is bound on another is prepared there first. A node
//! that was not told of a SET is never taken for a load balance node afterwards.

mod answers;
mod extended;
mod ledger;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, rc::Rc};

pub use ledger::{Entry, Ledger};
use ledger::{Executed, Parsing, Replay};

use super::client_side::Message;
use crate::{
    cluster::{ClusterView, NodeId, NodeReplication},
    protocol::frame::HEADER_LEN,
    routing::{
        balance::{self, Situation, Who},
        facts::{Copy, Discard, Facts, Set, Statement},
        lexer::{self, StatementKind},
        policy::{self, Catalog, Decision, Destination, Inputs, Protocol, Rule, Verdict},
        relcache::Question,
        session::{NodeSet, Parsed, SessionState},
        settings::{Settings, Switches},
    },
};

/// Longer statements are not looked at and go to the primary: reading one takes 3 ns a byte, and other
/// sessions of the worker wait meanwhile.
const STATEMENT_LIMIT: usize = 256 * 1024;

const NONE: NodeSet = NodeSet::EMPTY;

/// What decisions are made of, besides the session's own state.
pub struct Env<'a, C> {
    /// Nodes without a connection of this session are down in it.
    pub view: &'a ClusterView,
    pub replication: &'a [NodeReplication],
    pub settings: &'a Settings,
    pub switches: Switches,
    pub who: Who<'a>,
    pub catalog: C,
    /// A buffer to read statements into.
    pub facts: &'a mut Facts,
    /// Numbers from 0 up to, not including, 1.
    pub random: &'a mut dyn FnMut() -> f64,
}

impl<C> Env<'_, C> {
    fn situation(&self) -> Situation<'_> {
        Situation {
            view: self.view,
            replication: self.replication,
        }
    }
}

/// What to do with a message of the client.
#[derive(Debug)]
pub enum Step {
    Send(Sending),
    /// Keep it until more of it has arrived.
    NeedsMore,
    /// Keep it until [`Router::may_go_on`].
    Wait,
    /// Put these to [`Router::catalog_node`], then offer the message again.
    LookUp(Vec<Question>),
}

#[derive(Debug)]
pub struct Sending {
    /// Its answer is the client's.
    pub leader: NodeId,
    pub followers: NodeSet,
    /// What the nodes need to be sent first.
    pub before: Option<(NodeSet, Before)>,
    /// Followers get a plain `BEGIN` instead.
    pub plain_begin: bool,
}

#[derive(Clone, Debug)]
pub enum Before {
    /// This statement, which they lack. A Close of its name goes first, in case that they have one
    /// all the same.
    Parse {
        name: Box<[u8]>,
        parsed: Rc<Parsed>,
        /// A Sync behind it: a Query comes next.
        sync: bool,
    },
    /// Close the statement of this name: PostgreSQL alone would have none.
    Close { name: Box<[u8]> },
}

impl Before {
    fn close_unnamed() -> Before {
        Before::Close {
            name: Box::default(),
        }
    }
}

/// Bytes that a node is to be sent on the router's own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Flush,
    Sync,
    /// Makes the open transaction fail.
    Abort {
        sync: bool,
    },
    Rollback,
    /// Runs these statements.
    Replay(Box<[u8]>),
}

/// What a caller has to do after [`Router::answer`] or [`Router::step`].
#[derive(Debug, Default)]
pub struct Effects {
    pub orders: Vec<(NodeId, Order)>,
    /// Temporary tables of these names have come or gone.
    pub forget: Vec<Box<[u8]>>,
    /// What is known of the catalog of this database may be wrong now.
    pub catalog_changed: bool,
    /// Followers that failed where the leader did not: they are not read from any more.
    pub diverged: Vec<NodeId>,
}

/// Where the statement of an `EXPLAIN` would go.
#[derive(Debug, PartialEq, Eq)]
pub struct Explanation {
    pub nodes: NodeSet,
    pub rule: Rule,
}

#[derive(Debug)]
struct Portal {
    /// How many savepoints there were.
    savepoints: usize,
    parsed: Option<Rc<Parsed>>,
    decision: Decision,
    leader: NodeId,
    followers: NodeSet,
}

/// A statement with followers, until all have answered.
#[derive(Debug)]
struct Comparison {
    leader: NodeId,
    /// `None`: it has not answered.
    leader_failed: Option<bool>,
    pending: NodeSet,
    failed: NodeSet,
    /// They have no transaction open and have not failed: what they did is done.
    ended: NodeSet,
    /// [`Router::changes`] when it was sent.
    changes: u32,
}

/// See the module. One per session that balances.
#[derive(Debug)]
pub struct Router {
    state: SessionState,
    primary: NodeId,
    /// Whose answers are the client's.
    current: NodeId,
    standard_strings: bool,
    unnamed: Option<(Rc<Parsed>, NodeSet)>,
    portal: Option<Box<Portal>>,
    portals: HashMap<Box<[u8]>, Portal>,
    /// Nodes with an open sequence of the extended protocol: they need the next Sync.
    used: NodeSet,
    /// Nodes that were not told of a change of the session.
    unfit: NodeSet,
    /// Nodes that this session has lost its connection to.
    lost: NodeSet,
    /// Nodes that have to answer before the next message.
    waits: NodeSet,
    comparison: Option<Box<Comparison>>,
    /// Something was sent to [`Router::current`] alone that may make a transaction fail.
    lone: bool,
    /// What the next message is depends on answers that have not come: of PREPARE, DEALLOCATE or DISCARD
    /// ALL which statements there are, of COPY whether it belongs to the copy.
    in_doubt: bool,
    /// Nodes that may have a statement of this name though the client has none.
    doubtful: HashMap<Box<[u8]>, NodeSet>,
    /// A Parse message of our own is on its way.
    lacked: bool,
    /// How many changes of the session have been sent to several nodes.
    changes: u32,
    /// So many of them are there to stay, or undone by all.
    settled_changes: u32,
    /// How often the unnamed statement has changed.
    unnamed_turn: u32,
    /// It is of the sequence that is open.
    unnamed_here: bool,
    /// Nobody could tell what the names in the message at hand are.
    unanswered: bool,
    /// The open transaction has changed the catalog.
    catalog_changed: bool,
    effects: Effects,
}

/// What is decided for a statement.
#[derive(Clone, Copy)]
struct Plan {
    decision: Decision,
    leader: NodeId,
    followers: NodeSet,
}

impl Plan {
    fn nodes(&self) -> NodeSet {
        self.followers.union(NodeSet::of(self.leader))
    }
}

impl Router {
    pub fn new(primary: NodeId, load_balance_node: Option<NodeId>) -> Router {
        let mut state = SessionState::new();
        state.load_balance_node = load_balance_node;
        Router {
            state,
            primary,
            current: primary,
            standard_strings: true,
            unnamed: None,
            portal: None,
            portals: HashMap::new(),
            used: NodeSet::default(),
            unfit: NodeSet::default(),
            lost: NodeSet::default(),
            waits: NodeSet::default(),
            comparison: None,
            lone: false,
            in_doubt: false,
            doubtful: HashMap::new(),
            lacked: false,
            changes: 0,
            settled_changes: 0,
            unnamed_turn: 0,
            unnamed_here: false,
            unanswered: false,
            catalog_changed: false,
            effects: Effects::default(),
        }
    }

    /// The node whose answers are the client's.
    pub fn current(&self) -> NodeId {
        self.current
    }

    pub fn load_balance_node(&self) -> Option<NodeId> {
        self.state.load_balance_node
    }

    /// ParameterStatus standard_conforming_strings.
    pub fn set_standard_strings(&mut self, on: bool) {
        self.standard_strings = on;
    }

    /// Whether a session of this user begins with an isolation level of SERIALIZABLE.
    pub fn set_begins_serializable(&mut self, serializable: bool) {
        self.state.begins_serializable = Some(serializable);
    }

    /// The look-up that the last step asked for has failed: decide without.
    pub fn look_up_failed(&mut self) {
        self.unanswered = true;
    }

    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    pub fn has_effects(&self) -> bool {
        let e = &self.effects;
        !(e.orders.is_empty() && e.forget.is_empty() && e.diverged.is_empty()) || e.catalog_changed
    }

    /// Whether what the last message waited for has come.
    pub fn may_go_on(&self, ledgers: &[Ledger]) -> bool {
        self.waits
            .iter()
            .all(|node| ledger(ledgers, node).is_none_or(|l| l.owed.is_settled()))
            // The copy waits for the client, and its next message is the copy's.
            || ledger(ledgers, self.current).is_some_and(|l| l.owed.is_copying_in())
    }

    /// Decides about the next message of the client. After [`Step::Send`] it counts as sent.
    pub fn step<C: Catalog>(
        &mut self,
        message: Message<'_>,
        ledgers: &mut [Ledger],
        env: &mut Env<'_, C>,
    ) -> Step {
        let at_current = ledger(ledgers, self.current);
        let (copying, skipping) = at_current.map_or((false, false), |l| {
            (l.owed.is_copying_in(), l.owed.is_skipping())
        });
        if self.in_doubt
            && !copying
            && !skipping
            && b"QFPBEDC".contains(&message.kind)
            && let Some(step) = self.wait_for_current(ledgers)
        {
            return step;
        }
        let step = match message.kind {
            // The copy's own, or for the server to refuse.
            _ if copying => self.send_to_current(message.kind, ledgers),
            b'S' => self.sync(ledgers),
            // Ignored by the server up to the Sync.
            _ if skipping => self.send_to_current(message.kind, ledgers),
            b'Q' => self.query(message, ledgers, env),
            b'F' => self.function_call(ledgers, env),
            b'P' => self.parse(message, ledgers, env),
            b'B' => self.bind(message, ledgers, env),
            b'E' => self.execute(message, ledgers, env),
            b'D' => self.describe(message, ledgers),
            b'C' => self.close(message, ledgers),
            _ => self.send_to_current(message.kind, ledgers),
        };
        match step {
            Step::LookUp(_) => self.ask_when_free(step, ledgers, env.settings),
            step => step,
        }
    }

    /// Who is asked what the relation caches do not know (`relcache_query_target`).
    pub fn catalog_node(&self, settings: &Settings) -> NodeId {
        let fit = |node: &NodeId| !self.unfit.union(self.lost).contains(*node);
        match self.state.load_balance_node.filter(fit) {
            Some(node) if settings.asks_load_balance_node => node,
            _ => self.primary,
        }
    }

    /// A node is asked when it has answered what it was sent.
    fn ask_when_free(&mut self, ask: Step, ledgers: &mut [Ledger], settings: &Settings) -> Step {
        let node = self.catalog_node(settings);
        let busy = |l: &Ledger| !l.owed.is_settled();
        if !ledger(ledgers, node).is_some_and(busy) {
            return ask;
        }
        self.waits = NodeSet::of(node);
        Step::Wait
    }

    /// The node has been sent so many messages of the extended protocol, and a Sync, that ask what
    /// [`Step::LookUp`] wants to know.
    pub fn look_up_sent(&mut self, node: NodeId, messages: usize, ledgers: &mut [Ledger]) {
        self.waits = NodeSet::of(node);
        if let Some(ledger) = ledgers.get_mut(node) {
            ledger.hidden = true;
            for _ in 0..messages {
                ledger.owed.sent_ours(Entry::Nothing);
            }
            ledger.owed.sent_our_sync();
        }
    }

    pub fn primary(&self) -> NodeId {
        self.primary
    }

    fn send_to_current(&mut self, kind: u8, ledgers: &mut [Ledger]) -> Step {
        if let Some(ledger) = ledgers.get_mut(self.current) {
            // Not carried out, or no statement: nothing has to be known of its answer.
            ledger.flushed = false;
            ledger.owed.sent(kind, Entry::Nothing);
        }
        Step::Send(Sending::to(self.current))
    }

    fn query<C: Catalog>(
        &mut self,
        message: Message<'_>,
        ledgers: &mut [Ledger],
        env: &mut Env<'_, C>,
    ) -> Step {
        if !message.is_whole() && message.body_len <= STATEMENT_LIMIT {
            return Step::NeedsMore;
        }
        if let Some(step) = self.wait_in_sequence(ledgers) {
            return step;
        }
        let facts = std::mem::take(env.facts);
        let step = self.query_with(message, facts, ledgers, env);
        step.unwrap_or_else(|step| step)
    }

    fn query_with<C: Catalog>(
        &mut self,
        message: Message<'_>,
        mut facts: Facts,
        ledgers: &mut [Ledger],
        env: &mut Env<'_, C>,
    ) -> Result<Step, Step> {
        let sql = text(message.body());
        if message.body_len <= STATEMENT_LIMIT {
            facts.read(sql, self.standard_strings);
        } else {
            facts.read_unknown();
        }
        // EXECUTE of what a Parse message made goes where that statement goes.
        let prepared = match facts.first() {
            Statement::Execute(name) if facts.count() == 1 => {
                let name = facts.text(name);
                let parsed = self.state.prepared(name).and_then(|p| p.parsed.clone());
                parsed.map(|parsed| (Box::<[u8]>::from(name), parsed))
            }
            _ => None,
        };
        let plan = match &prepared {
            Some((_, parsed)) => {
                let sql = statement_of(parsed);
                self.plan(&parsed.facts, sql, Protocol::Simple, NONE, ledgers, env)
            }
            None => self.plan(&facts, sql, Protocol::Simple, NONE, ledgers, env),
        };
        let facts = match &prepared {
            Some(_) => {
                *env.facts = facts;
                None
            }
            None => Some(facts),
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(step) => {
                give_back(env, facts);
                return Err(step);
            }
        };
        let taken = facts.as_ref().and_then(|facts| self.taken(facts));
        let wait = self.wait_for_earlier(self.lone, &plan, ledgers);
        let wait = wait.or_else(|| self.place(&plan, true, ledgers));
        if let Some(step) = wait.or_else(|| self.end_sequences(&plan, ledgers)) {
            give_back(env, facts);
            return Err(step);
        }
        let replay = facts
            .as_ref()
            .and_then(|facts| self.replay(facts, sql, &plan, ledgers));
        let told = replay.as_ref().map(|replay| replay.node);
        let mut executed = match (&prepared, &facts) {
            (Some((_, parsed)), _) => self.executed(&parsed.facts, statement_of(parsed), &plan),
            (None, Some(facts)) => self.executed(facts, sql, &plan),
            (None, None) => None,
        };
        if let Some(facts) = prepared.as_ref().map(|(_, p)| &p.facts).or(facts.as_ref()) {
            let nodes = plan.nodes();
            self.state
                .sent(facts, env.settings, plan.decision.writes, nodes);
            self.note_sent(facts, &plan, told, env.view);
            self.end_portals(facts);
        }
        if let Some(executed) = &mut executed {
            executed.replay = replay;
        }
        give_back(env, facts);
        self.commit(&plan, ledgers);
        let mut before = prepared
            .or(taken)
            .and_then(|(name, parsed)| self.lacking(&name, &parsed, &plan));
        if let Some((nodes, Before::Parse { name, sync, .. })) = &mut before {
            *sync = true;
            for node in nodes.iter() {
                if let Some(ledger) = ledgers.get_mut(node) {
                    ledger.owed.sent_ours(Entry::Nothing);
                    ledger.owed.sent_ours(Entry::Lacked(name.clone()));
                    ledger.owed.sent_our_sync();
                }
            }
        }
        let compare = !plan.followers.is_empty();
        let entry = match executed {
            Some(executed) => Entry::Executed(executed),
            None if compare => Entry::Compare,
            None => Entry::Nothing,
        };
        for (node, entry) in std::iter::once((plan.leader, entry)).chain(nothing(plan.followers)) {
            if let Some(ledger) = ledgers.get_mut(node) {
                ledger.owed.sent(b'Q', entry);
            }
        }
        self.compare(&plan);
        self.lone = plan.followers.is_empty();
        // PostgreSQL drops the unnamed statement and portal at each Query.
        self.set_unnamed(None);
        self.portal = None;
        Ok(Step::Send(Sending {
            leader: plan.leader,
            followers: plan.followers,
            before,
            plain_begin: plan.decision.plain_begin_on_standbys,
        }))
    }

    /// A function is called by its number: it may do anything.
    fn function_call<C: Catalog>(&mut self, ledgers: &mut [Ledger], env: &mut Env<'_, C>) -> Step {
        let plan = self.to_primary(true);
        let wait = self.wait_in_sequence(ledgers);
        let wait = wait.or_else(|| self.place(&plan, true, ledgers));
        if let Some(step) = wait.or_else(|| self.end_sequences(&plan, ledgers)) {
            return step;
        }
        env.facts.read_unknown();
        let executed = self.executed(env.facts, b"", &plan);
        self.state.sent(env.facts, env.settings, true, plan.nodes());
        self.commit(&plan, ledgers);
        if let Some(ledger) = ledgers.get_mut(plan.leader) {
            let entry = executed.map_or(Entry::Nothing, Entry::Executed);
            ledger.owed.sent(b'F', entry);
        }
        self.lone = true;
        Step::Send(Sending::to(plan.leader))
    }

    /// To all that have an open sequence; one of them answers the client.
    fn sync(&mut self, ledgers: &mut [Ledger]) -> Step {
        // The primary says whether a write is committed.
        let commits = self.state.has_unsynced_write() && !self.state.is_in_transaction();
        // So does it whether a transaction is open, if the other has no part in it.
        let apart = self.current != self.primary
            && self.state.is_node_in_transaction(self.current) != self.state.is_in_transaction();
        let leader = if commits && self.used.contains(self.primary) || apart {
            self.primary
        } else if self.used.is_empty() || self.used.contains(self.current) {
            self.current
        } else if self.used.contains(self.primary) {
            self.primary
        } else {
            self.used.first().unwrap_or(self.primary)
        };
        let plan = Plan {
            followers: self.used.without(NodeSet::of(leader)),
            leader,
            ..self.to_primary(false)
        };
        // In an open transaction nothing is done yet that the others could not undo.
        let wait = commits
            .then(|| self.wait_for_earlier(self.lone, &plan, ledgers))
            .flatten();
        if let Some(step) = wait.or_else(|| self.place(&plan, true, ledgers)) {
            return step;
        }
        self.commit(&plan, ledgers);
        for node in plan.nodes().iter() {
            if let Some(ledger) = ledgers.get_mut(node) {
                let entry = if node == leader && !plan.followers.is_empty() {
                    Entry::Compare
                } else {
                    Entry::Nothing
                };
                ledger.owed.sent(b'S', entry);
            }
        }
        self.compare(&plan);
        self.used = NodeSet::default();
        self.unnamed_here = false;
        if !self.state.is_in_transaction() {
            // Outside a transaction none outlives its sequence.
            self.portals.clear();
        }
        Step::Send(Sending {
            followers: plan.followers,
            ..Sending::to(leader)
        })
    }

    fn to_primary(&self, writes: bool) -> Plan {
        Plan {
            decision: Decision {
                destination: Destination::Primary,
                rule: Rule::NotARead,
                skip_idle_standbys: false,
                plain_begin_on_standbys: false,
                writes,
            },
            leader: self.primary,
            followers: NodeSet::default(),
        }
    }

    /// Where this statement goes.
    fn plan<C: Catalog>(
        &mut self,
        facts: &Facts,
        sql: &[u8],
        protocol: Protocol,
        parsed_on: NodeSet,
        ledgers: &[Ledger],
        env: &mut Env<'_, C>,
    ) -> Result<Plan, Step> {
        if let Some(plan) = self.at_portals(facts) {
            return Ok(plan);
        }
        let mut decision = self.decide(facts, sql, protocol, env)?;
        let unfit = |node| self.unfit.contains(node);
        if self.state.load_balance_node.is_some_and(unfit) {
            self.state.load_balance_node = Some(self.primary);
        }
        // A statement that was parsed a moment ago stays where it is.
        let stays = self.state.load_balance_node.is_some_and(|node| {
            parsed_on.contains(node) && env.view.is_valid(node) && !self.unfit.contains(node)
        });
        if !stays && decision.wants_new_node(&self.state, env.settings, &env.situation()) {
            self.choose(env);
        }
        if decision.destination == Destination::LoadBalance && self.stands_apart(ledgers) {
            decision.destination = Destination::Primary;
            decision.rule = Rule::NodeNotInTransaction;
        }
        // By protocol: what it does is not looked at. Whatever it names is made on the primary.
        if matches!(decision.destination, Destination::Nodes(_))
            && matches!(facts.first(), Statement::Execute(_))
        {
            decision.destination = Destination::Primary;
        }
        let nodes = decision.nodes(&self.state, &env.situation());
        // Only the primary knows of every transaction.
        let forgets = matches!(facts.first(), Statement::Deallocate(Some(_)));
        let leader = if nodes.contains(self.primary) || forgets {
            self.primary
        } else {
            nodes.first().unwrap_or(self.primary)
        };
        // One of those that have the statement runs it.
        let followers = match facts.first() {
            Statement::Execute(_) => NONE,
            _ => nodes.without(NodeSet::of(leader)),
        };
        Ok(Plan {
            decision,
            leader,
            followers,
        })
    }

    /// Whether the load balance node has no part in the open transaction, or one in a transaction that
    /// the primary has ended.
    fn stands_apart(&self, ledgers: &[Ledger]) -> bool {
        let Some(node) = self.state.load_balance_node else {
            return false;
        };
        let settled = ledger(ledgers, node).is_some_and(|l| l.owed.is_settled());
        node != self.primary
            && settled
            && self.state.is_node_in_transaction(node) != self.state.is_in_transaction()
    }

    fn decide<C: Catalog>(
        &self,
        facts: &Facts,
        sql: &[u8],
        protocol: Protocol,
        env: &mut Env<'_, C>,
    ) -> Result<Decision, Step> {
        let inputs = Inputs {
            facts,
            sql,
            protocol,
            state: &self.state,
            settings: env.settings,
            switches: env.switches,
            situation: Situation {
                view: env.view,
                replication: env.replication,
            },
            user: env.who.user,
        };
        match policy::decide(&inputs, &mut env.catalog) {
            Verdict::Decided(decision) => Ok(decision),
            // In the middle of a sequence a node cannot be asked.
            Verdict::NeedCatalog(_)
                if self.unanswered || self.used.contains(self.catalog_node(env.settings)) =>
            {
                Ok(Decision::without_catalog(facts))
            }
            Verdict::NeedCatalog(questions) => Err(Step::LookUp(questions)),
        }
    }

    /// Takes another load balance node, if one is fit.
    fn choose<C>(&mut self, env: &mut Env<'_, C>) {
        let situation = Situation {
            view: env.view,
            replication: env.replication,
        };
        let chosen = balance::choose(env.settings, &situation, &env.who, env.random)
            .filter(|&node| !self.unfit.contains(node));
        self.state.load_balance_node = Some(chosen.unwrap_or(self.primary));
    }

    /// Where a statement would go, without sending it.
    ///
    /// # Errors
    ///
    /// [`Step::LookUp`] or [`Step::Wait`]
    pub fn explain<C: Catalog>(
        &mut self,
        sql: &[u8],
        ledgers: &mut [Ledger],
        env: &mut Env<'_, C>,
    ) -> Result<Explanation, Step> {
        let mut facts = std::mem::take(env.facts);
        facts.read(sql, self.standard_strings);
        let chosen = self.state.load_balance_node;
        let plan = self.plan(&facts, sql, Protocol::Simple, NONE, ledgers, env);
        // Asking changes nothing.
        if !env.settings.statement_level_load_balance {
            self.state.load_balance_node = chosen;
        }
        *env.facts = facts;
        match plan {
            Ok(plan) => {
                self.unanswered = false;
                Ok(Explanation {
                    nodes: plan.nodes(),
                    rule: plan.decision.rule,
                })
            }
            Err(step) => Err(self.ask_when_free(step, ledgers, env.settings)),
        }
    }

    /// What several nodes carry out waits for what was sent to one of them alone: if that fails, the
    /// transaction of all of them has to fail first, or it fails before one begins.
    fn wait_for_earlier(
        &mut self,
        lone: bool,
        plan: &Plan,
        ledgers: &mut [Ledger],
    ) -> Option<Step> {
        // An error of an earlier sequence must not find the followers in this one.
        let owes = ledger(ledgers, self.current).is_some_and(|l| l.owed.owes_ready());
        if !(lone || owes) || plan.followers.is_empty() {
            return None;
        }
        self.wait_for_current(ledgers)
    }

    /// `None`: the current node has answered all.
    fn wait_for_current(&mut self, ledgers: &mut [Ledger]) -> Option<Step> {
        let ledger = ledgers.get_mut(self.current)?;
        if ledger.owed.is_settled() {
            self.lone = false;
            self.in_doubt = false;
            self.lacked = false;
            return None;
        }
        if ledger.wants_flush() {
            self.effects.orders.push((self.current, Order::Flush));
        }
        self.waits = NodeSet::of(self.current);
        Some(Step::Wait)
    }

    /// Whether a Query or FunctionCall amid a sequence is skipped has to be known first.
    fn wait_in_sequence(&mut self, ledgers: &mut [Ledger]) -> Option<Step> {
        if self.used.is_empty() {
            return None;
        }
        self.wait_for_current(ledgers)
    }

    /// A Query or FunctionCall ends the transaction of the sequence that it stands in, that of other
    /// nodes as well.
    fn end_sequences(&mut self, plan: &Plan, ledgers: &mut [Ledger]) -> Option<Step> {
        let others = self.used.without(plan.nodes());
        if others.is_empty() {
            return None;
        }
        let wait = self.wait_for_current(ledgers);
        if wait.is_some() {
            return wait;
        }
        // If it fails, the transaction is undone where it stands.
        if self.changes != self.settled_changes {
            self.diverge(others);
        }
        for node in others.iter() {
            if let Some(ledger) = ledgers.get_mut(node) {
                ledger.hidden = true;
                ledger.owed.sent_our_sync();
                self.effects.orders.push((node, Order::Sync));
            }
            self.used.remove(node);
        }
        None
    }

    /// FETCH, MOVE, CLOSE and DECLARE find the portals of the extended protocol by their names.
    fn at_portals(&self, facts: &Facts) -> Option<Plan> {
        if facts.count() != 1 || self.portals.is_empty() {
            return None;
        }
        let mut plan = self.to_primary(false);
        match facts.first() {
            Statement::Fetch(Some(name))
            | Statement::ClosePortal(Some(name))
            | Statement::Declare(name) => {
                plan.leader = self.portals.get(facts.text(name))?.leader;
            }
            Statement::ClosePortal(None) => {
                let nodes: NodeSet = self.portals.values().map(|p| p.leader).collect();
                plan.followers = nodes.without(NodeSet::of(plan.leader));
            }
            _ => return None,
        }
        Some(plan)
    }

    /// The statement of a Parse message that an EXECUTE or DEALLOCATE names, or a PREPARE, which is
    /// refused where that is.
    fn taken(&self, facts: &Facts) -> Option<(Box<[u8]>, Rc<Parsed>)> {
        let named = |statement: &Statement| match *statement {
            Statement::Prepare(name) | Statement::Execute(name) if facts.count() == 1 => Some(name),
            // In a string of several as well, which the primary alone gets.
            Statement::Deallocate(Some(name)) => Some(name),
            _ => None,
        };
        let name = facts.text(facts.statements().iter().find_map(named)?);
        let parsed = self.state.prepared(name)?.parsed.clone()?;
        Some((name.into(), parsed))
    }

    /// `Some`: something has to be answered before a message can go to these nodes. `boundary`: it
    /// is one that ReadyForQuery answers.
    fn place(&mut self, plan: &Plan, boundary: bool, ledgers: &mut [Ledger]) -> Option<Step> {
        let mut waits = NodeSet::default();
        let busy = |node: NodeId| ledger(ledgers, node).is_some_and(|l| !l.owed.is_settled());
        if plan.leader != self.current && busy(self.current) {
            waits.insert(self.current);
        }
        if ledger(ledgers, plan.leader).is_some_and(|l| l.hidden) && busy(plan.leader) {
            waits.insert(plan.leader);
        }
        for node in plan.followers.iter() {
            if ledger(ledgers, node).is_some_and(|l| l.owed.owes_ready()) {
                waits.insert(node);
            }
        }
        if boundary
            && !plan.followers.is_empty()
            && let Some(comparison) = &self.comparison
        {
            waits.insert(comparison.leader);
            waits = waits.union(comparison.pending);
        }
        // Whoever has answered already is not waited for: it may be gone.
        let waits: NodeSet = waits.iter().filter(|&node| busy(node)).collect();
        if waits.is_empty() {
            return None;
        }
        for node in waits.iter() {
            if let Some(ledger) = ledgers.get_mut(node)
                && ledger.wants_flush()
            {
                self.effects.orders.push((node, Order::Flush));
            }
        }
        self.waits = waits;
        Some(Step::Wait)
    }

    /// From now on the leader's answers are the client's, those of the followers nobody's.
    fn commit(&mut self, plan: &Plan, ledgers: &mut [Ledger]) {
        self.current = plan.leader;
        self.waits = NodeSet::default();
        self.unanswered = false;
        for (node, ledger) in ledgers.iter_mut().enumerate() {
            if node == plan.leader {
                ledger.hidden = false;
            } else if plan.followers.contains(node) {
                ledger.hidden = true;
            }
        }
    }

    fn compare(&mut self, plan: &Plan) {
        if !plan.followers.is_empty() {
            self.comparison = Some(Box::new(Comparison {
                leader: plan.leader,
                leader_failed: None,
                pending: plan.followers,
                failed: NodeSet::default(),
                ended: NodeSet::default(),
                changes: self.changes,
            }));
        }
    }

    /// What has to be known of a statement when it is answered; `None`: nothing.
    fn executed(&self, facts: &Facts, sql: &[u8], plan: &Plan) -> Option<Box<Executed>> {
        let plain = facts.count() <= 1
            && matches!(
                facts.first(),
                Statement::Empty
                    | Statement::Select
                    | Statement::Show
                    | Statement::Copy(_)
                    | Statement::Explain { .. }
            );
        if plain && !plan.decision.writes && plan.followers.is_empty() {
            return None;
        }
        let catalog = lexer::kind(sql) == StatementKind::Ddl
            || facts.count() > 1 && facts.statements().contains(&Statement::Other);
        Some(Box::new(Executed {
            facts: facts.clone(),
            writes: plan.decision.writes,
            nodes: plan.nodes(),
            catalog,
            replay: None,
        }))
    }

    /// What the load balance node has to be told when this string of several statements has
    /// succeeded. `None`: nothing, or that cannot be done, and it lags behind for good.
    fn replay(&self, facts: &Facts, sql: &[u8], plan: &Plan, ledgers: &[Ledger]) -> Option<Replay> {
        let node = self.state.load_balance_node?;
        // Whoever has a statement has to forget it.
        let forgets = |statement: &Statement| match *statement {
            Statement::Deallocate(Some(name)) => self
                .state
                .prepared(facts.text(name))
                .is_some_and(|p| p.nodes.contains(node)),
            _ => false,
        };
        let concerns = |statement: &Statement| changes_session(statement) || forgets(statement);
        if facts.count() < 2
            || !facts.statements().iter().any(concerns)
            || facts.statements().iter().any(is_transaction_command)
            || self.state.is_in_transaction()
            || plan.leader != self.primary
            || node == self.primary
            || self.unfit.union(self.lost).contains(node)
            || !ledger(ledgers, node)?.owed.is_quiescent()
        {
            return None;
        }
        let mut changes = Vec::new();
        for part in Facts::split(sql, self.standard_strings) {
            let facts = Facts::of(part);
            let first = facts.first();
            let named = matches!(first, Statement::Deallocate(Some(_)));
            if (changes_session(&first) || named) && !is_for_the_primary(first) {
                changes.extend_from_slice(part);
                changes.push(b';');
            }
        }
        let sql = changes.into();
        Some(Replay { node, sql })
    }

    /// A statement is sent. Nodes that are not told of a change of the session lag behind it for
    /// good.
    fn note_sent(
        &mut self,
        facts: &Facts,
        plan: &Plan,
        replayed: Option<NodeId>,
        view: &ClusterView,
    ) {
        let mut told = plan.nodes();
        if let Some(node) = replayed {
            told.insert(node);
        }
        let changes = facts.statements().iter().any(changes_session);
        self.in_doubt |= facts.statements().iter().any(|statement| {
            matches!(
                statement,
                Statement::Prepare(_)
                    | Statement::Deallocate(_)
                    | Statement::Discard(Discard::All)
                    | Statement::Copy(Copy { from: true, .. })
            )
        });
        let several = facts.count() > 1;
        let mut missed = NONE;
        // What only the primary takes changes nothing for reads.
        if changes && plan.decision.rule != Rule::PrimaryOnlySet {
            missed = view.valid_nodes().collect();
            self.changes = self.changes.wrapping_add(1);
        }
        // What becomes of the transaction is the primary's secret.
        if several && facts.statements().iter().any(is_transaction_command) {
            missed = missed.union(self.state.nodes_in_transaction());
        }
        // It keeps what the others lose, or the other way round.
        if facts.first() == Statement::PrepareTransaction && self.changes != self.settled_changes {
            missed = view.valid_nodes().collect();
        }
        missed = missed.without(told).without(NodeSet::of(self.primary));
        self.unfit = self.unfit.union(missed);
    }

    fn set_unnamed(&mut self, unnamed: Option<(Rc<Parsed>, NodeSet)>) {
        self.unnamed = unnamed;
        self.unnamed_turn = self.unnamed_turn.wrapping_add(1);
    }

    /// The nodes of a plan that do not have the statement; they have it from now on.
    fn lacking(
        &mut self,
        name: &[u8],
        parsed: &Rc<Parsed>,
        plan: &Plan,
    ) -> Option<(NodeSet, Before)> {
        let have = if name.is_empty() {
            self.unnamed.as_ref().map(|(_, nodes)| *nodes)
        } else {
            self.state.prepared(name).map(|p| p.nodes)
        };
        let lacking = plan.nodes().without(have.unwrap_or_default());
        if lacking.is_empty() || parsed.message.is_empty() {
            return None;
        }
        match &mut self.unnamed {
            Some((_, nodes)) if name.is_empty() => *nodes = nodes.union(lacking),
            _ => self.state.parsed_also(name, lacking),
        }
        let parsed = parsed.clone();
        let name = name.into();
        let sync = false;
        Some((lacking, Before::Parse { name, parsed, sync }))
    }

    /// For messages of the extended protocol.
    fn before_sent(&mut self, before: Option<&(NodeSet, Before)>, ledgers: &mut [Ledger]) {
        let Some((nodes, before)) = before else {
            return;
        };
        for node in nodes.iter() {
            let Some(ledger) = ledgers.get_mut(node) else {
                continue;
            };
            self.used.insert(node);
            ledger.flushed = false;
            ledger.owed.sent_ours(Entry::Nothing);
            if let Before::Parse { name, .. } = before {
                self.lacked = true;
                ledger.owed.sent_ours(Entry::Lacked(name.clone()));
            }
        }
    }

    /// The connection to a node is gone, and the session lives on: the node had nothing of the client's.
    pub fn node_lost(&mut self, node: NodeId, ledgers: &mut [Ledger]) {
        if let Some(ledger) = ledgers.get_mut(node) {
            *ledger = Ledger::default();
        }
        self.state.node_lost(node);
        self.lost.insert(node);
        self.used.remove(node);
        self.waits.remove(node);
        if let Some((_, nodes)) = &mut self.unnamed {
            nodes.remove(node);
        }
        self.portals.retain(|_, portal| portal.leader != node);
        if self.portal.as_ref().is_some_and(|p| p.leader == node) {
            self.portal = None;
        }
        for portal in self.portals.values_mut().chain(self.portal.as_deref_mut()) {
            portal.followers.remove(node);
        }
        if self.current == node {
            self.current = self.primary;
        }
        if let Some(comparison) = &mut self.comparison {
            comparison.pending.remove(node);
            comparison.failed.remove(node);
            comparison.ended.remove(node);
        }
        self.resolve_comparison();
    }

    /// Whether the client is in the middle of something that only this node can finish.
    pub fn depends_on(&self, node: NodeId, ledgers: &[Ledger]) -> bool {
        node == self.primary
            || node == self.current
                && ledger(ledgers, node)
                    .is_some_and(|l| !l.owed.is_settled() || l.owed.needs_sync())
    }
}

/// Whether it changes the session as long as that lasts, wherever it is sent.
fn changes_session(statement: &Statement) -> bool {
    match statement {
        Statement::Reset(_) | Statement::Discard(_) | Statement::Deallocate(None) => true,
        Statement::Set(set) => {
            !matches!(set, Set::Transaction(_) | Set::Constraints | Set::Snapshot)
        }
        _ => false,
    }
}

/// A change that a standby refuses, and that changes nothing for reads.
fn is_for_the_primary(statement: Statement) -> bool {
    match statement {
        Statement::Set(Set::TransactionReadOnly(Some(false))) => true,
        Statement::Set(Set::DefaultIsolation { serializable }) => serializable,
        Statement::Set(Set::Characteristics(modes)) => {
            modes.read_only == Some(false) || modes.serializable == Some(true)
        }
        _ => false,
    }
}

impl Sending {
    fn to(leader: NodeId) -> Sending {
        Sending {
            leader,
            followers: NodeSet::default(),
            before: None,
            plain_begin: false,
        }
    }
}

fn give_back<C>(env: &mut Env<'_, C>, facts: Option<Facts>) {
    if let Some(facts) = facts {
        *env.facts = facts;
    }
}

fn is_transaction_command(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Begin(_)
            | Statement::Commit { .. }
            | Statement::Rollback { .. }
            | Statement::Savepoint(_)
            | Statement::Release(_)
            | Statement::RollbackTo(_)
            | Statement::PrepareTransaction
    )
}

fn nothing(nodes: NodeSet) -> impl Iterator<Item = (NodeId, Entry)> {
    nodes.iter().map(|node| (node, Entry::Nothing))
}

fn ledger(ledgers: &[Ledger], node: NodeId) -> Option<&Ledger> {
    ledgers.get(node)
}

/// Up to the first NUL.
fn text(bytes: &[u8]) -> &[u8] {
    split_cstr(bytes).map_or(bytes, |(text, _)| text)
}

/// Up to the first NUL, and what is behind it.
fn split_cstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&b| b == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// The query string of a Parse message.
fn statement_of(parsed: &Parsed) -> &[u8] {
    let body = parsed.message.get(HEADER_LEN..).unwrap_or_default();
    split_cstr(body).map_or(&[], |(_, rest)| text(rest))
}
