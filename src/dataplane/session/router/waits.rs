//! What has to be answered before a message may go on, and whose answers are the client's then.

use super::{Ledger, NONE, Order, Plan, Router, Step, kinds::settles};
use crate::{
    cluster::NodeId,
    routing::{facts::Facts, session::NodeSet},
};

impl Router {
    /// `Some`: something has to be answered before a message can go to these nodes.
    pub(super) fn place(&mut self, plan: &Plan, ledgers: &mut [Ledger]) -> Option<Step> {
        if self.is_in_line(plan, ledgers) {
            return None;
        }
        self.wait_for_all(ledgers)
    }

    /// Whether all that is unanswered has gone to the same nodes, and if these are several, since the
    /// last Sync or Query: an error must not find the followers in a later sequence than the leader.
    fn is_in_line(&self, plan: &Plan, ledgers: &[Ledger]) -> bool {
        let nodes = plan.nodes();
        let same = plan.leader == self.current && nodes == self.recent;
        let in_line = |(node, ledger): (NodeId, &Ledger)| {
            ledger.owed.is_settled()
                || same
                    && nodes.contains(node)
                    && ledger.hidden == (node != plan.leader)
                    && (plan.followers.is_empty() || !ledger.owed.owes_ready())
        };
        ledgers.iter().enumerate().all(in_line)
    }

    /// `None`: all nodes have answered whatever they were sent.
    pub(super) fn wait_for_all(&mut self, ledgers: &mut [Ledger]) -> Option<Step> {
        let mut waits = NONE;
        for (node, ledger) in ledgers.iter_mut().enumerate() {
            if ledger.owed.is_settled() {
                continue;
            }
            waits.insert(node);
            if ledger.wants_flush() {
                self.effects.orders.push((node, Order::Flush));
            }
        }
        if waits.is_empty() {
            return None;
        }
        self.waits = waits;
        Some(Step::Wait)
    }

    /// `Some`: what was sent to be carried out has to be answered before this is carried out.
    pub(super) fn wait_to_settle(&mut self, facts: &Facts, ledgers: &mut [Ledger]) -> Option<Step> {
        if !self.executing || !settles(facts) {
            return None;
        }
        self.wait_for_all(ledgers)
    }

    /// Whatever was sent is answered: nothing is in doubt.
    pub(super) fn settled(&mut self) {
        self.executing = false;
        self.in_doubt = false;
        self.copy_ahead = false;
        self.lacked = false;
        self.unnamed.clone_from(&self.unnamed_known);
        self.touched.settled();
        self.state.settled();
        if !self.state.is_in_transaction() {
            self.portals.end_earlier();
        }
    }

    /// Whether a Query or FunctionCall amid a sequence is skipped has to be known first.
    pub(super) fn wait_in_sequence(&mut self, ledgers: &mut [Ledger]) -> Option<Step> {
        if self.used.is_empty() {
            return None;
        }
        self.wait_for_all(ledgers)
    }

    /// A Query or FunctionCall ends the transaction of the sequence that it stands in, that of other
    /// nodes as well. So do COMMIT and its like. All before it is answered, and it is sent now.
    pub(super) fn end_sequences(&mut self, plan: &Plan, ledgers: &mut [Ledger]) {
        let others = self.used.without(plan.nodes());
        if others.is_empty() {
            return;
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
    }

    /// From now on the leader's answers are the client's, those of the followers nobody's.
    pub(super) fn commit(&mut self, plan: &Plan, ledgers: &mut [Ledger]) {
        self.current = plan.leader;
        self.recent = plan.nodes();
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
}
