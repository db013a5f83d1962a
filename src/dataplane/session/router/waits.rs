//! What has to be answered before a message may go on, and whose answers are the client's then.

use super::*;

impl Router {
    /// What several nodes carry out waits for what was sent to one of them alone: if that fails, the
    /// transaction of all of them has to fail first, or it fails before one begins.
    pub(super) fn wait_for_earlier(
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
    pub(super) fn wait_for_current(&mut self, ledgers: &mut [Ledger]) -> Option<Step> {
        let ledger = ledgers.get_mut(self.current)?;
        if ledger.owed.is_settled() {
            self.settled();
            return None;
        }
        if ledger.wants_flush() {
            self.effects.orders.push((self.current, Order::Flush));
        }
        self.waits = NodeSet::of(self.current);
        Some(Step::Wait)
    }

    /// Whether a failed transaction has ended is told by what is not answered yet, of the primary if the
    /// current node has no part in it.
    pub(super) fn wait_for_end(&mut self, ledgers: &mut [Ledger]) -> Option<Step> {
        if let Some(step) = self.wait_for_current(ledgers) {
            return Some(step);
        }
        let ledger = ledgers.get_mut(self.primary)?;
        if !ledger.owed.owes_ready() {
            return None;
        }
        self.waits = NodeSet::of(self.primary);
        Some(Step::Wait)
    }

    /// Whatever was sent is answered: nothing is in doubt.
    pub(super) fn settled(&mut self) {
        self.lone = false;
        self.in_doubt = false;
        self.lacked = false;
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
        self.wait_for_current(ledgers)
    }

    /// A Query or FunctionCall ends the transaction of the sequence that it stands in, that of other
    /// nodes as well.
    pub(super) fn end_sequences(&mut self, plan: &Plan, ledgers: &mut [Ledger]) -> Option<Step> {
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

    /// `Some`: something has to be answered before a message can go to these nodes. `boundary`: it
    /// is one that ReadyForQuery answers.
    pub(super) fn place(
        &mut self,
        plan: &Plan,
        boundary: bool,
        ledgers: &mut [Ledger],
    ) -> Option<Step> {
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
        // Who has done what the leader has not is no place to read from.
        if let Some(comparison) = &self.comparison
            && comparison.leader_failed == Some(true)
            && plan.leader != self.primary
        {
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
    pub(super) fn commit(&mut self, plan: &Plan, ledgers: &mut [Ledger]) {
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
}
