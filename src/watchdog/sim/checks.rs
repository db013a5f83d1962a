//! What must hold at every moment, and when all is well again.

use std::time::Duration;

use super::World;
use crate::watchdog::{codec::node_info::State, core::Leader};

/// Commands of the virtual IP and messages under way.
const SLACK: Duration = Duration::from_secs(8);

impl World {
    /// Runs, and has run for a while: what it shows is its own doing.
    fn is_awake(&self, node: usize) -> bool {
        let record = &self.nodes[node];
        record.up && !record.suspended && self.time > record.awake_since + SLACK
    }

    fn overlap_limit(&self) -> Duration {
        self.deadtime + SLACK
    }

    /// Two leaders with quorum, or two holders of the address, are only for as long as it takes to
    /// notice.
    pub(super) fn check(&mut self) {
        let count = self.nodes.len();
        let leaders = (0..count)
            .filter(|n| self.is_awake(*n) && self.nodes[*n].core.leads_with_quorum())
            .count();
        let holders = (0..count)
            .filter(|n| self.is_awake(*n) && self.nodes[*n].address)
            .count();
        let limit = self.overlap_limit();
        for (place, (number, what)) in [
            (leaders, "leaders with quorum"),
            (holders, "holders of the address"),
        ]
        .into_iter()
        .enumerate()
        {
            if number < 2 {
                self.two_since[place] = None;
                continue;
            }
            let since = *self.two_since[place].get_or_insert(self.time);
            let lasted = self.time - since;
            self.longest[place] = self.longest[place].max(lasted);
            assert!(lasted <= limit, "{number} {what} for {lasted:?}");
        }
    }

    /// A standby is about to be promoted: nobody of another side serves writes.
    pub(super) fn check_promotion(&mut self, node: usize) {
        self.promotions += 1;
        let now = self.now();
        if !self.lease_is_possible || !self.nodes[node].core.keeps_lease() {
            return;
        }
        for other in 0..self.nodes.len() {
            let record = &self.nodes[other];
            if other == node || !record.up || !record.core.keeps_lease() {
                continue;
            }
            let source = record.core.lease_source();
            let from_us = source == Some(Leader::Peer(self.peer(other, node)));
            assert!(
                from_us || !record.core.may_serve(now),
                "node {other} serves writes for {source:?} while node {node} promotes"
            );
        }
    }

    fn peer(&self, of: usize, node: usize) -> usize {
        node - usize::from(node > of)
    }

    /// Everything has been repaired for long enough.
    pub(super) fn check_healed(&self) {
        let count = self.nodes.len();
        let states: Vec<State> = self.nodes.iter().map(|n| n.core.state()).collect();
        let leaders: Vec<usize> = (0..count)
            .filter(|n| self.nodes[*n].core.leads_with_quorum())
            .collect();
        assert_eq!(leaders.len(), 1, "one leader: {states:?}");
        let leader = leaders[0];
        let now = self.now();
        for node in 0..count {
            let record = &self.nodes[node];
            assert!(record.up, "node {node} runs");
            assert!(record.core.may_serve(now), "node {node} serves writes");
            assert_eq!(record.address, node == leader, "address on {node}");
            if node != leader {
                assert_eq!(record.core.state(), State::Standby, "{states:?}");
                let wanted = Leader::Peer(self.peer(node, leader));
                assert_eq!(record.core.leader(), Some(wanted));
            }
            for backend in 0..self.backends.len() {
                let view = record.backends.nodes[backend];
                let truth = self.nodes[leader].backends.nodes[backend];
                assert_eq!(view.down, truth.down, "backend {backend} on node {node}");
                assert!(!view.quarantined, "backend {backend} on node {node}");
                assert!(
                    self.backends[backend] || view.down,
                    "the failover of backend {backend} was lost"
                );
            }
            assert!(record.backends.running.is_none());
            assert!(record.asked.is_empty(), "all requests are answered");
        }
        let list = self.nodes[leader].core.node_list(None);
        assert_eq!(list.alive_nodes, i32::try_from(count - 1).unwrap_or(0));
    }
}
