//! What the messages of the nodes mean for where the next statements go.

use super::{Elsewhere, Entry, Executed, Ledger, Order, Router};
use crate::{
    cluster::NodeId,
    dataplane::session::owed::Answer,
    routing::{
        facts::{Discard, Statement},
        session::{NodeSet, TransactionStatus},
        settings::Settings,
    },
};

/// With more names in doubt their nodes are not read from any more, and the names forgotten.
const DOUBTFUL: usize = 1024;

impl Router {
    /// Whether a message of a node that begins with this kind is the client's.
    pub fn shows(&self, node: NodeId, kind: u8, ledgers: &[Ledger]) -> bool {
        node == self.current
            && ledgers
                .get(node)
                .is_some_and(|l| !l.hidden && !l.owed.next_is_ours(kind))
    }

    /// A message of a node. `body` is empty for kinds that nobody looks into.
    pub fn answer(
        &mut self,
        node: NodeId,
        kind: u8,
        body: &[u8],
        ledgers: &mut [Ledger],
        settings: &Settings,
    ) {
        let Some(ledger) = ledgers.get_mut(node) else {
            return;
        };
        let hidden = ledger.hidden || node != self.current;
        match kind {
            b'E' => {
                ledger.failed = true;
                match ledger.owed.received(kind) {
                    Answer::OursFailed(skipped) => {
                        self.none_carried_out(skipped, node, body);
                        return;
                    }
                    Answer::Failed { skipped, .. } => self.none_carried_out(skipped, node, body),
                    _ => {}
                }
                if !hidden {
                    self.failed_at(node, ledgers);
                }
            }
            b'Z' => {
                let status = TransactionStatus::from_byte(body.first().copied().unwrap_or(b'I'));
                let failed = std::mem::take(&mut ledger.failed);
                ledger.flushed = false;
                let answer = ledger.owed.received(kind);
                let more = !ledger.owed.is_settled();
                let ours = matches!(answer, Answer::Ours);
                if let Answer::Ready(Some(entry)) = answer {
                    self.ready_for(entry, node, failed, settings, ledgers);
                }
                let ready = Ready {
                    node,
                    status,
                    failed,
                    hidden: hidden || ours,
                    more,
                };
                self.ready(&ready, settings, ledgers);
            }
            _ => {
                let answer = ledger.owed.received(kind);
                // What comes now is the copy's, up to its end.
                if kind == b'G' {
                    self.copy_ahead = false;
                }
                if let Answer::End(entry) = answer {
                    self.carried_out(entry, kind, settings);
                }
            }
        }
    }

    /// An error of the node whose answers are the client's: PostgreSQL alone would have aborted all
    /// of the transaction.
    fn failed_at(&mut self, node: NodeId, ledgers: &mut [Ledger]) {
        let open = self.state.is_in_transaction();
        let skipping = ledgers.get(node).is_some_and(|l| l.owed.is_skipping());
        self.state.failed();
        for (other, ledger) in ledgers.iter_mut().enumerate() {
            let used = self.used.contains(other);
            let concerned = used || open && self.state.is_node_in_transaction(other);
            if other == node || !concerned {
                continue;
            }
            // Behind a Query that has failed the client goes on without a Sync.
            let sync = !(used && skipping);
            ledger.hidden = true;
            ledger.owed.sent_ours(Entry::Nothing);
            if sync {
                ledger.owed.sent_our_sync();
                self.used.remove(other);
            }
            self.effects.orders.push((other, Order::Abort { sync }));
        }
    }

    /// `entries`: in the order of their messages. The first one has failed itself, with this error.
    fn none_carried_out(&mut self, entries: Vec<Entry>, node: NodeId, error: &[u8]) {
        if let Some(Entry::Executed(executed)) = entries.first() {
            self.commit_failed(executed);
        }
        for (at, entry) in entries.into_iter().enumerate().rev() {
            self.not_carried_out(entry, node, (at == 0).then_some(error));
        }
    }

    /// Undoes what was taken for granted of a message that a node has not carried out. `error`: it has
    /// failed itself; else it was skipped.
    fn not_carried_out(&mut self, entry: Entry, node: NodeId, error: Option<&[u8]>) {
        match entry {
            // The one before is dropped first.
            Entry::Unnamed(_) if error.is_some() => self.unnamed_known = None,
            Entry::Lacked(name) if name.is_empty() => self.has_no_unnamed(node),
            Entry::Lacked(name) => self.state.not_parsed(&name, node),
            // What it has made lasts as long as the transaction that has failed.
            Entry::Bind(..)
                if self.state.is_in_transaction() && error.is_some_and(leaves_a_portal) => {}
            Entry::Bind(name, number) => {
                self.portals.not_bound(&name, number);
            }
            Entry::Unbound(closed) => {
                let (name, portal) = *closed;
                self.portals.not_closed(name, portal, self.lost);
            }
            Entry::Parse(parsing) if parsing.fresh => {
                let same = self
                    .state
                    .prepared(&parsing.name)
                    .and_then(|p| p.parsed.as_ref())
                    .is_some_and(|p| std::rc::Rc::ptr_eq(p, &parsing.parsed));
                if same {
                    self.state.closed(&parsing.name);
                }
                let others = parsing.nodes.without(NodeSet::of(node));
                self.may_have(parsing.name, others);
            }
            Entry::Closing(name) => self.may_have(name, NodeSet::of(node)),
            Entry::Close(closed) => {
                let (name, mut prepared) = *closed;
                prepared.nodes = prepared.nodes.without(self.lost);
                // Followers may have closed it.
                if prepared.nodes.contains(node) {
                    let others = prepared.nodes.without(NodeSet::of(node));
                    prepared.nodes = NodeSet::of(node);
                    self.may_have(name.clone(), others);
                }
                self.state.reopened(&name, prepared);
            }
            _ => {}
        }
    }

    /// These nodes may have a statement of this name, whatever the client knows.
    pub(super) fn may_have(&mut self, name: Box<[u8]>, nodes: NodeSet) {
        if !nodes.is_empty() {
            let doubtful = self.doubtful.entry(name).or_default();
            *doubtful = doubtful.union(nodes);
        }
        if self.doubtful.len() > DOUBTFUL {
            let all = |all: NodeSet, one: &NodeSet| all.union(*one);
            let standbys = self.doubtful.values().fold(NodeSet::EMPTY, all);
            self.has_none(standbys.without(NodeSet::of(self.primary)));
            self.diverge(standbys);
        }
    }

    /// These nodes have no statements, or none that matter any more.
    fn has_none(&mut self, nodes: NodeSet) {
        self.doubtful.retain(|_, doubtful| {
            *doubtful = doubtful.without(nodes);
            !doubtful.is_empty()
        });
    }

    /// The end of an answer in the extended protocol.
    fn carried_out(&mut self, entry: Entry, kind: u8, settings: &Settings) {
        match entry {
            Entry::Parse(parsing) if !parsing.fresh => {
                let parsing = *parsing;
                let nodes = parsing.nodes.without(self.lost);
                self.state.parsed(&parsing.name, nodes, parsing.parsed);
            }
            Entry::Unnamed(unnamed) => self.has_unnamed(unnamed),
            // A statement that writes has written when its first rows have come.
            Entry::Executed(executed) if matches!(kind, b'C' | b'I' | b's') => {
                self.succeeded(&executed, settings);
            }
            _ => {}
        }
    }

    fn succeeded(&mut self, executed: &Executed, settings: &Settings) {
        let Executed {
            facts,
            writes,
            nodes,
            catalog,
            is_query: _,
            replay: _,
        } = executed;
        for statement in facts.statements() {
            // Those that have it and were not told to forget it.
            if let Statement::Deallocate(Some(name)) = statement
                && let Some(prepared) = self.state.prepared(facts.text(*name))
            {
                let others = prepared.nodes.without(*nodes);
                self.may_have(facts.text(*name).into(), others);
            }
        }
        self.end_portals(facts);
        self.state.succeeded(facts, settings, *writes, *nodes);
        let all = |s: &Statement| {
            matches!(
                s,
                Statement::Discard(Discard::All) | Statement::Deallocate(None)
            )
        };
        if facts.statements().iter().any(all) {
            self.has_none(*nodes);
        }
        for statement in facts.statements() {
            if let Statement::CreateTemporary(name) | Statement::Drop(name) = statement {
                self.effects.forget.push(facts.text(*name).into());
            }
        }
        if *catalog {
            self.effects.catalog_changed = true;
            self.catalog_changed = self.state.is_in_transaction();
        }
    }

    /// ReadyForQuery answers a Query or Sync.
    fn ready_for(
        &mut self,
        entry: Entry,
        node: NodeId,
        failed: bool,
        settings: &Settings,
        ledgers: &mut [Ledger],
    ) {
        let compared = match entry {
            Entry::Executed(mut executed) => {
                if failed {
                    self.commit_failed(&executed);
                    if executed.facts.count() > 1 {
                        self.state.partly_succeeded(&executed.facts);
                    }
                } else {
                    self.succeeded(&executed, settings);
                    if let Some(replay) = executed.replay.take() {
                        self.tell(replay, ledgers);
                    }
                }
                if executed.is_query {
                    self.unnamed_known = None;
                }
                executed.nodes.iter().count() > 1
            }
            Entry::Unnamed(unnamed) => {
                self.has_unnamed(unnamed);
                false
            }
            Entry::Compare => true,
            _ => false,
        };
        if compared
            && let Some(comparison) = &mut self.comparison
            && comparison.leader == node
        {
            comparison.leader_failed = Some(failed);
        }
    }

    fn ready(&mut self, ready: &Ready, settings: &Settings, ledgers: &mut [Ledger]) {
        let Ready {
            node,
            status,
            failed,
            hidden,
            more,
        } = *ready;
        self.state.node_ready(node, status);
        let decides = if node == self.primary {
            Some(status)
        } else {
            (!hidden && !self.state.is_in_transaction()).then_some(TransactionStatus::Idle)
        };
        match decides {
            Some(status) if more => self.state.ready_amid(status, settings),
            Some(status) => self.state.ready(status, settings),
            None => {}
        }
        if let Some(comparison) = &mut self.comparison
            && comparison.pending.contains(node)
            && hidden
        {
            comparison.pending.remove(node);
            if failed {
                comparison.failed.insert(node);
            } else if status == TransactionStatus::Idle {
                comparison.ended.insert(node);
            }
        }
        self.resolve_comparison();
        if self.state.is_in_transaction() {
            return;
        }
        if !hidden && !more {
            self.portals.end();
            self.elsewhere_earlier = Elsewhere::default();
        }
        if std::mem::take(&mut self.catalog_changed) {
            // What was learnt from uncommitted changes may be wrong, and what others learnt as well.
            self.effects.catalog_changed = true;
        }
        if self.end_strays(ledgers) {
            self.settled_changes = self.changes;
        }
    }

    /// Ends transactions of standbys that the primary does not have (any more), as after PREPARE
    /// TRANSACTION: nobody else would, and they hold back the clean-up of old rows. False: not all is
    /// answered.
    pub(super) fn end_strays(&mut self, ledgers: &mut [Ledger]) -> bool {
        if self.state.is_in_transaction() || !ledgers.iter().all(|l| l.owed.is_settled()) {
            return false;
        }
        let mut strays = NodeSet::EMPTY;
        for node in self.state.nodes_in_transaction().iter() {
            if node == self.primary {
                continue;
            }
            if let Some(ledger) = ledgers.get_mut(node)
                && ledger.owed.is_quiescent()
            {
                ledger.hidden = true;
                ledger.owed.sent(b'Q', Entry::Nothing);
                self.effects.orders.push((node, Order::Rollback));
                strays.insert(node);
                // A Query drops it.
                self.has_no_unnamed(node);
                if self.current == node {
                    self.current = self.primary;
                }
            }
        }
        if self.changes != self.settled_changes {
            self.diverge(strays);
        }
        true
    }
}

/// Whether a Bind message that has failed so has made its portal all the same. PostgreSQL makes it
/// before it looks at the values of parameters (`exec_bind_message` in `src/backend/tcop/postgres.c`).
fn leaves_a_portal(error: &[u8]) -> bool {
    let mut fields = error.split(|&b| b == 0);
    let code = fields.find_map(|field| field.strip_prefix(b"C"));
    // No such statement, another number of parameters, a failed transaction, a name that is taken.
    let before: [&[u8]; 4] = [b"26000", b"08P01", b"25P02", b"42P03"];
    !code.is_none_or(|code| before.contains(&code))
}

/// A ReadyForQuery.
struct Ready {
    node: NodeId,
    status: TransactionStatus,
    /// An error has come since the last one.
    failed: bool,
    /// It is not the client's.
    hidden: bool,
    /// The node has been sent more behind what this answers.
    more: bool,
}
