//! What the messages of the nodes mean for where the next statements go.

use super::{Entry, Executed, Ledger, Order, Router};
use crate::{
    cluster::NodeId,
    dataplane::session::owed::Answer,
    routing::{facts::Statement, session::TransactionStatus, settings::Settings},
};

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
                    Answer::Ours => return,
                    Answer::Failed { skipped, .. } => {
                        for entry in skipped.into_iter().rev() {
                            self.not_carried_out(entry, node);
                        }
                    }
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
                let ours = matches!(answer, Answer::Ours);
                if let Answer::Ready(Some(entry)) = answer {
                    self.ready_for(entry, node, failed, settings);
                }
                self.ready(node, status, failed, hidden || ours, settings, ledgers);
            }
            _ => {
                if let Answer::End(entry) = ledger.owed.received(kind) {
                    self.carried_out(entry, kind, settings);
                }
            }
        }
    }

    /// An error of the node whose answers are the client's.
    fn failed_at(&mut self, node: NodeId, ledgers: &mut [Ledger]) {
        self.state.failed();
        if node == self.primary
            || !self.state.is_in_transaction()
            || !self.state.is_node_in_transaction(self.primary)
        {
            return;
        }
        // PostgreSQL alone would have aborted all of the transaction.
        let sync = !self.used.contains(self.primary);
        if let Some(primary) = ledgers.get_mut(self.primary) {
            primary.hidden = true;
            primary.owed.sent_ours();
            if sync {
                primary.owed.sent_our_sync();
            }
        }
        self.effects
            .orders
            .push((self.primary, Order::Abort { sync }));
    }

    /// Undoes what was taken for granted of a message that a node has not carried out.
    fn not_carried_out(&mut self, entry: Entry, node: NodeId) {
        match entry {
            Entry::Parse(parsing) if parsing.fresh => {
                let same = self
                    .state
                    .prepared(&parsing.name)
                    .and_then(|p| p.parsed.as_ref())
                    .is_some_and(|p| std::rc::Rc::ptr_eq(p, &parsing.parsed));
                if same {
                    self.state.closed(&parsing.name);
                }
            }
            Entry::Close(closed) => {
                let (name, mut prepared) = *closed;
                // Followers may have closed it.
                if prepared.nodes.contains(node) {
                    prepared.nodes = crate::routing::session::NodeSet::of(node);
                }
                self.state.reopened(&name, prepared);
            }
            _ => {}
        }
    }

    /// The end of an answer in the extended protocol.
    fn carried_out(&mut self, entry: Entry, kind: u8, settings: &Settings) {
        match entry {
            Entry::Parse(parsing) if !parsing.fresh => {
                let parsing = *parsing;
                self.state
                    .parsed(&parsing.name, parsing.nodes, parsing.parsed);
            }
            Entry::Executed(executed) if kind == b'C' || kind == b'I' => {
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
        } = executed;
        self.state.succeeded(facts, settings, *writes, *nodes);
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
    fn ready_for(&mut self, entry: Entry, node: NodeId, failed: bool, settings: &Settings) {
        let compared = match entry {
            Entry::Executed(executed) => {
                if !failed {
                    self.succeeded(&executed, settings);
                }
                executed.nodes.iter().count() > 1
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

    fn ready(
        &mut self,
        node: NodeId,
        status: TransactionStatus,
        failed: bool,
        hidden: bool,
        settings: &Settings,
        ledgers: &mut [Ledger],
    ) {
        self.state.node_ready(node, status);
        if node == self.primary {
            self.state.ready(status, settings);
        } else if !hidden && !self.state.is_in_transaction() {
            self.state.ready(TransactionStatus::Idle, settings);
        }
        if let Some(comparison) = &mut self.comparison
            && comparison.pending.contains(node)
            && hidden
        {
            comparison.pending.remove(node);
            if failed {
                comparison.failed.insert(node);
            }
        }
        self.resolve_comparison();
        if self.state.is_in_transaction() {
            return;
        }
        if !hidden && !self.portals.is_empty() {
            // Outside a transaction none outlives its sequence.
            self.portals.clear();
        }
        if std::mem::take(&mut self.catalog_changed) {
            // What was learnt from uncommitted changes may be wrong, and what others learnt as well.
            self.effects.catalog_changed = true;
        }
        self.end_strays(ledgers);
    }

    /// All have answered a statement that went to several nodes.
    pub(super) fn resolve_comparison(&mut self) {
        let done = self
            .comparison
            .as_ref()
            .is_some_and(|c| c.pending.is_empty() && c.leader_failed.is_some());
        if !done {
            return;
        }
        if let Some(comparison) = self.comparison.take()
            && comparison.leader_failed == Some(false)
        {
            for node in comparison.failed.iter() {
                if !self.unfit.contains(node) {
                    self.unfit.insert(node);
                    self.effects.diverged.push(node);
                }
            }
        }
    }

    /// Ends transactions of standbys that the primary does not have (any more), as after PREPARE
    /// TRANSACTION: nobody else would, and they hold back the clean-up of old rows.
    fn end_strays(&mut self, ledgers: &mut [Ledger]) {
        if ledgers.iter().any(|l| !l.owed.is_quiescent()) {
            return;
        }
        for node in self.state.nodes_in_transaction().iter() {
            if node == self.primary {
                continue;
            }
            if let Some(ledger) = ledgers.get_mut(node) {
                ledger.hidden = true;
                ledger.owed.sent(b'Q', Entry::Nothing);
                self.effects.orders.push((node, Order::Rollback));
                // A Query drops it.
                if let Some((_, nodes)) = &mut self.unnamed {
                    nodes.remove(node);
                }
                if self.current == node {
                    self.current = self.primary;
                }
            }
        }
    }
}
