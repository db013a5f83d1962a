//! Which node a message of the client goes to, and whose answers are the client's.
//!
//! A core: no socket, no clock. It is told each message of the client ([`Router::step`]) and of each
//! node ([`Router::answer`]) and keeps three promises.
//!
//! * **What is unanswered has all gone to the same nodes.** A message for others waits until every node
//!   has answered all it has been sent; in the middle of a pipeline they get a Flush for that. So the
//!   answers of one node at a time are the client's, and an error is known before anything behind it
//!   goes elsewhere. A statement that decides what later messages mean ([`kinds::settles`]) has the pipeline
//!   to itself.
//! * **What goes to several nodes is answered by one**, the leader, which is the primary if it is
//!   among them. The answers of the followers are swallowed; one that fails where the leader did
//!   not, or that has done what the leader has undone, is not read from any more.
//! * **A transaction fails as a whole**, also the one that a pipeline is. An error of one node makes
//!   the parts of all others fail.
//!
//! A statement that was prepared on one node and is bound on another is prepared there first, and what
//! a statement would find of its pipeline is done for it first ([`join`]). A node that was not told of
//! a SET is never taken for a load balance node afterwards.
//!
//! What is taken for granted when a message is sent is undone when an error turns out to have skipped
//! it. Behind its Sync nobody relies on it before it is answered ([`names`]).
//!
//! `sim` compares all of this with one server alone, in random histories.

mod answers;
mod comparison;
mod extended;
mod join;
mod kinds;
mod ledger;
mod names;
mod orders;
mod plan;
mod portals;
#[cfg(test)]
mod sim;
mod simple;
mod statements;
#[cfg(test)]
mod tests;
mod waits;

use std::{collections::HashMap, rc::Rc};

use comparison::Comparison;
use join::Elsewhere;
pub use ledger::{Entry, Ledger};
use ledger::{Executed, Parsing, Replay};
use names::Touched;
pub use orders::{Before, Order};
use portals::Portals;

use super::{client_side::Message, owed::Owed};
use crate::{
    cluster::{ClusterView, NodeId, NodeReplication},
    protocol::frame::HEADER_LEN,
    routing::{
        balance::{Situation, Who},
        facts::Facts,
        policy::{Catalog, Decision, Destination, Rule},
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
    pub before: Vec<(NodeSet, Before)>,
    /// Followers get a plain `BEGIN` instead.
    pub plain_begin: bool,
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

/// See the module. One per session that balances.
#[derive(Debug)]
pub struct Router {
    state: SessionState,
    primary: NodeId,
    /// Whose answers are the client's.
    current: NodeId,
    standard_strings: bool,
    unnamed: Unnamed,
    portals: Portals,
    touched: Touched,
    /// In the sequence that is open.
    elsewhere: Elsewhere,
    /// In earlier ones of the open transaction.
    elsewhere_earlier: Elsewhere,
    /// The sequence that is open has executed something, anywhere.
    pipelining: bool,
    /// Nodes with an open sequence of the extended protocol: they need the next Sync.
    used: NodeSet,
    /// Nodes that were not told of a change of the session.
    unfit: NodeSet,
    /// Nodes that this session has lost its connection to.
    lost: NodeSet,
    /// Nodes that have to answer before the next message.
    waits: NodeSet,
    comparison: Option<Box<Comparison>>,
    /// Where the last message has gone: whatever is unanswered has gone to these.
    recent: NodeSet,
    /// Something that was sent to be carried out is not answered.
    executing: bool,
    /// What the next message means depends on an answer that has not come ([`kinds::settles`]).
    in_doubt: bool,
    /// So does whether it belongs to a copy.
    copy_ahead: bool,
    /// Nodes that may have a statement of this name though the client has none.
    doubtful: HashMap<Box<[u8]>, NodeSet>,
    /// A Parse message of our own is on its way.
    lacked: bool,
    /// How many changes of the session have been sent to several nodes.
    changes: u32,
    /// So many of them are there to stay, or undone by all.
    settled_changes: u32,
    /// As far as it is answered.
    unnamed_known: Unnamed,
    /// It is of the sequence that is open.
    unnamed_here: bool,
    /// Nobody could tell what the names in the message at hand are.
    unanswered: bool,
    /// A look-up has failed: no more of them within transactions, which they would make fail.
    look_ups_fail: bool,
    /// The open transaction has changed the catalog.
    catalog_changed: bool,
    effects: Effects,
}

/// The unnamed statement, and which nodes have it.
type Unnamed = Option<(Rc<Parsed>, NodeSet)>;

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
            portals: Portals::default(),
            touched: Touched::default(),
            elsewhere: Elsewhere::default(),
            elsewhere_earlier: Elsewhere::default(),
            pipelining: false,
            used: NodeSet::default(),
            unfit: NodeSet::default(),
            lost: NodeSet::default(),
            waits: NodeSet::default(),
            comparison: None,
            recent: NodeSet::default(),
            executing: false,
            in_doubt: false,
            copy_ahead: false,
            doubtful: HashMap::new(),
            lacked: false,
            changes: 0,
            settled_changes: 0,
            unnamed_known: None,
            unnamed_here: false,
            unanswered: false,
            look_ups_fail: false,
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

    /// Whether the session has temporary tables that no statement has shown.
    pub fn set_untraced(&mut self, more: bool) {
        self.state.set_untraced(more);
    }

    /// Whether the client_encoding is UTF8.
    pub fn set_utf8(&mut self, utf8: bool) {
        self.state.other_encoding = !utf8;
    }

    /// The node has refused the look-up that the last step asked for: decide without. Within
    /// transactions nothing is asked any more, since the client's would fail. True: for the first time.
    pub fn look_up_failed(&mut self) -> bool {
        self.unanswered = true;
        !std::mem::replace(&mut self.look_ups_fail, true)
    }

    /// What the last step asked for has no answer, or none that counts: decide without.
    pub fn look_up_overtaken(&mut self) {
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
        let at_current = ledger(ledgers, self.current).map(|l| &l.owed);
        let copying = at_current.is_some_and(Owed::is_copying_in);
        let skipping = at_current.is_some_and(Owed::is_skipping);
        if ledgers.iter().all(|l| l.owed.is_settled()) {
            self.settled();
            self.end_strays(ledgers);
        }
        let names_statement = match message.kind {
            b'D' => message.body().first() == Some(&b'S'),
            kind => matches!(kind, b'Q' | b'B'),
        };
        let doubt = self.in_doubt && b"QFPBEDC".contains(&message.kind)
            || self.copy_ahead && b"Sdcf".contains(&message.kind)
            || self.lacked && names_statement;
        if doubt
            && !copying
            && !skipping
            && let Some(step) = self.wait_for_all(ledgers)
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
            Step::LookUp(_) => self.ask_when_free(step, ledgers),
            step => step,
        }
    }

    /// Who is asked what the relation caches do not know (`relcache_query_target`).
    pub fn catalog_node(&self, settings: &Settings) -> NodeId {
        let fit = |node: &NodeId| !self.unfit.union(self.lost).contains(*node);
        // Temporary tables are the primary's.
        let anywhere = self.state.has_untraced_tables().is_some();
        match self.state.load_balance_node.filter(fit) {
            Some(node) if settings.asks_load_balance_node && anywhere => node,
            _ => self.primary,
        }
    }

    /// The catalog is asked when all have answered: by then it is known which transaction there is.
    fn ask_when_free(&mut self, ask: Step, ledgers: &mut [Ledger]) -> Step {
        self.wait_for_all(ledgers).unwrap_or(ask)
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

    /// The client works. Nodes that it depends on while it works on another are sent a Sync, whose
    /// answer starts their time for idling anew (idle_session_timeout, idle_in_transaction_session_timeout).
    pub fn keep_awake(&mut self, ledgers: &mut [Ledger]) {
        if self.comparison.is_some() {
            return;
        }
        for node in 0..ledgers.len() {
            let busy = node == self.current || self.used.union(self.lost).contains(node);
            if busy || !self.depends_on(node, ledgers) {
                continue;
            }
            if let Some(ledger) = ledgers.get_mut(node)
                && ledger.owed.is_quiescent()
            {
                ledger.hidden = true;
                ledger.owed.sent_our_sync();
                self.effects.orders.push((node, Order::Sync));
            }
        }
    }

    fn send_to_current(&mut self, kind: u8, ledgers: &mut [Ledger]) -> Step {
        if let Some(ledger) = ledgers.get_mut(self.current) {
            // Not carried out, or no statement: nothing has to be known of its answer.
            ledger.flushed = false;
            ledger.owed.sent(kind, Entry::Nothing);
        }
        Step::Send(Sending::to(self.current))
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

    /// The connection to a node is gone, and the session lives on: the node had nothing of the client's.
    pub fn node_lost(&mut self, node: NodeId, ledgers: &mut [Ledger]) {
        if let Some(ledger) = ledgers.get_mut(node) {
            *ledger = Ledger::default();
        }
        self.state.node_lost(node);
        self.lost.insert(node);
        self.recent.remove(node);
        self.used.remove(node);
        self.waits.remove(node);
        self.has_no_unnamed(node);
        self.portals.node_lost(node);
        if self.current == node {
            self.current = self.primary;
        }
        if let Some(comparison) = &mut self.comparison {
            comparison.pending.remove(node);
            comparison.failed.remove(node);
            comparison.ended.remove(node);
        }
        self.resolve_comparison();
        self.end_strays(ledgers);
    }

    /// Whether the client is in the middle of something that only this node can finish.
    pub fn depends_on(&self, node: NodeId, ledgers: &[Ledger]) -> bool {
        node == self.primary
            || self
                .portals
                .named
                .values()
                .any(|portal| portal.leader == node)
            || node == self.current
                && ledger(ledgers, node)
                    .is_some_and(|l| !l.owed.is_settled() || l.owed.needs_sync())
    }
}

impl Sending {
    fn to(leader: NodeId) -> Sending {
        Sending {
            leader,
            followers: NodeSet::default(),
            before: Vec::new(),
            plain_begin: false,
        }
    }
}

fn give_back<C>(env: &mut Env<'_, C>, facts: Option<Facts>) {
    if let Some(facts) = facts {
        *env.facts = facts;
    }
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
