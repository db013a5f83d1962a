//! Whether all nodes that a statement went to have ended it alike.

use super::{Entry, Executed, Ledger, Order, Plan, Replay, Router};
use crate::{
    cluster::NodeId,
    routing::{facts::Statement, session::NodeSet},
};

/// A statement with followers, until all have answered.
#[derive(Debug)]
pub struct Comparison {
    pub(super) leader: NodeId,
    /// `None`: it has not answered.
    pub(super) leader_failed: Option<bool>,
    pub(super) pending: NodeSet,
    pub(super) failed: NodeSet,
    /// They have no transaction open and have not failed: what they did is done.
    pub(super) ended: NodeSet,
    /// [`Router::changes`] when it was sent.
    pub(super) changes: u32,
}

impl Router {
    /// A statement or Sync of this plan is sent.
    pub(super) fn compare(&mut self, plan: &Plan) {
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

    /// All have answered a statement that went to several nodes.
    pub(super) fn resolve_comparison(&mut self) {
        let Some(comparison) = &self.comparison else {
            return;
        };
        let (true, Some(leader_failed)) = (comparison.pending.is_empty(), comparison.leader_failed)
        else {
            return;
        };
        let changes = comparison.changes;
        let diverged = if !leader_failed {
            comparison.failed
        } else if changes != self.settled_changes {
            // What the leader has undone is done there.
            comparison.ended
        } else {
            NodeSet::EMPTY
        };
        let open = self.state.nodes_in_transaction();
        if !self.state.is_in_transaction() && open.is_empty() {
            self.settled_changes = changes;
        }
        self.comparison = None;
        self.diverge(diverged);
    }

    /// Followers of a COMMIT that has failed have committed what the session has set.
    pub(super) fn commit_failed(&mut self, executed: &Executed) {
        if self.changes != self.settled_changes
            && matches!(executed.facts.first(), Statement::Commit { .. })
        {
            self.diverge(executed.nodes);
        }
    }

    /// Has the load balance node change its session as the primary has.
    pub(super) fn tell(&mut self, replay: Replay, ledgers: &mut [Ledger]) {
        let Replay { node, sql } = replay;
        if self.lost.contains(node) {
            return;
        }
        let ledger = ledgers.get_mut(node).filter(|l| l.owed.is_quiescent());
        let (Some(ledger), None) = (ledger, &self.comparison) else {
            return self.diverge(NodeSet::of(node));
        };
        ledger.hidden = true;
        ledger.owed.sent(b'Q', Entry::Nothing);
        self.effects.orders.push((node, Order::Replay(sql)));
        self.comparison = Some(Box::new(Comparison {
            leader: self.primary,
            leader_failed: Some(false),
            pending: NodeSet::of(node),
            failed: NodeSet::EMPTY,
            ended: NodeSet::EMPTY,
            changes: self.changes,
        }));
    }

    /// The sessions of these nodes are not what the client thinks.
    pub(super) fn diverge(&mut self, nodes: NodeSet) {
        let nodes = nodes.without(self.unfit).without(NodeSet::of(self.primary));
        self.unfit = self.unfit.union(nodes);
        self.effects.diverged.extend(nodes.iter());
    }
}
