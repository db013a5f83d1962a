//! What must hold at every moment, and when all is well again.

use std::time::Duration;

use super::{World, node::Node};
use crate::{
    cluster::NodeId,
    watchdog::{
        codec::node_info::State,
        core::{Leader, quorum::majority},
        write_lease::Serving,
    },
};

/// Commands of the virtual IP and messages under way.
const SLACK: Duration = Duration::from_secs(8);
/// Requests that are made again during an election, votes that wait for others, shares of a lease that are waited
/// out. What a cut holds back in TCP comes when that ends, and nobody can tell its age.
const REASON_LASTS: Duration = Duration::from_secs(45);

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
        self.note_support();
        if self.two_majorities {
            return;
        }
        self.check_lease();
        self.check_written();
        self.check_cover();
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

    /// A leader keeps the address while a majority supports it and has joined it.
    pub(super) fn check_given_up(&self, node: usize) {
        let record = &self.nodes[node];
        let (_, joined) = record.core.majority();
        let supported = record.held_until.is_some_and(|until| self.now() < until);
        assert!(
            !supported || !joined || record.core.state() != State::Leader,
            "node {node} gives the address up, and leads a majority"
        );
    }

    /// For [`World::check_given_up`]: what a leader has known at any time since it leads.
    fn note_support(&mut self) {
        for record in &mut self.nodes {
            let (until, _) = record.core.majority();
            let leads = record.up && record.core.state() == State::Leader;
            record.held_until = until.max(record.held_until).filter(|_| leads);
        }
        for failover in self.failed_over.values_mut() {
            let record = &self.nodes[failover.node];
            let is_it = record.up && record.life == failover.life;
            failover.is_known |= is_it && record.core.is_known();
        }
    }

    /// One leader at most holds the lease, and all that serve writes have it from one.
    pub(super) fn check_lease(&self) {
        if !self.lease_is_possible {
            return;
        }
        let now = self.now();
        let holds = |record: &&Node| {
            let (until, _) = record.core.majority();
            record.up && until.is_some_and(|until| now < until)
        };
        let holders = self.nodes.iter().filter(holds).count();
        assert!(holders <= 1, "{holders} leaders hold the lease");
        let mut one = None;
        for node in 0..self.nodes.len() {
            let record = &self.nodes[node];
            let core = &record.core;
            if !record.up || !core.keeps_lease() || !core.may_serve(now) {
                continue;
            }
            let source = match core.lease_source() {
                Some(Leader::Peer(peer)) => peer + usize::from(peer >= node),
                _ => node,
            };
            let known = *one.get_or_insert(source);
            assert_eq!(known, source, "two leaders let their nodes serve writes");
        }
    }

    /// All write to one server, and never again to one that another has taken over from.
    fn check_written(&mut self) {
        if !self.lease_is_possible {
            return;
        }
        let now = self.now();
        for node in 0..self.nodes.len() {
            let record = &self.nodes[node];
            if !record.up || !record.core.keeps_lease() || !record.core.may_serve(now) {
                continue;
            }
            let Some(primary) = record.backends.written_to() else {
                continue;
            };
            let written = *self.written.get_or_insert(primary);
            if written == primary {
                continue;
            }
            assert!(
                self.changes.contains(&(written, primary)),
                "node {node} writes to {primary}, and {written} was written to, of which no failover has led there"
            );
            self.written = Some(primary);
            self.changes.clear();
        }
    }

    /// A leader that says when it has heard of a majority has heard of one since then, and a standby of its
    /// leader: what is acknowledged by that was written before the node was cut off.
    fn check_cover(&self) {
        let count = self.nodes.len();
        for node in 0..count {
            let record = &self.nodes[node];
            let Serving::Until { heard, .. } = record.core.serving() else {
                continue;
            };
            if !record.up || record.suspended || !record.core.may_serve(self.now()) {
                continue;
            }
            let heard = heard.saturating_duration_since(self.base);
            // A standby goes by its leader, which may not have the memory any more.
            let leader = match record.core.lease_source() {
                Some(Leader::Peer(peer)) => peer + usize::from(peer >= node),
                _ => node,
            };
            let judge = &self.nodes[leader];
            if !judge.up || judge.awake_since > heard {
                continue;
            }
            let since = judge.contact.iter().filter(|at| **at >= heard).count();
            assert!(
                since + 1 >= majority(count),
                "node {node} says that node {leader} has heard of a majority at {heard:?}, and it has heard of {since}"
            );
        }
    }

    /// A failover has made another server the primary.
    pub(super) fn has_changed(&mut self, from: NodeId, to: NodeId) {
        let longer: Vec<NodeId> = self
            .changes
            .iter()
            .filter(|c| c.1 == from)
            .map(|c| c.0)
            .collect();
        self.changes.insert((from, to));
        self.changes
            .extend(longer.into_iter().map(|first| (first, to)));
    }

    /// A standby is about to be promoted: nobody serves writes, and its primary is not one that has been well
    /// for long.
    pub(super) fn check_promotion(&mut self, node: usize, backend: NodeId) {
        self.promotions += 1;
        if self.two_majorities {
            return;
        }
        let now = self.now();
        let known = self.failed_over.get(&backend).is_some_and(|f| f.is_known);
        // One that has never heard of all is no part of that majority, and does what the operator says.
        assert!(
            !known || !self.nodes[node].core.keeps_lease(),
            "node {node} fails over backend {backend} once more, and a majority knew that it was"
        );
        let age = self.time - self.found_down[backend];
        assert!(
            age <= REASON_LASTS + self.longest_cut,
            "node {node} fails over backend {backend}, which nobody has found down for {age:?}"
        );
        if !self.lease_is_possible || !self.nodes[node].core.keeps_lease() {
            return;
        }
        for other in 0..self.nodes.len() {
            let record = &self.nodes[other];
            if !record.up || (!record.core.keeps_lease() && self.nodes[node].core.bound_by_time()) {
                continue;
            }
            let source = record.core.lease_source();
            assert!(
                !record.core.may_serve(now),
                "node {other} serves writes for {source:?} while node {node} promotes"
            );
        }
    }

    fn peer(&self, of: usize, node: usize) -> usize {
        node - usize::from(node > of)
    }

    /// When everything has been repaired: what is not as it shall be.
    pub(super) fn what_is_wrong(&self) -> Option<String> {
        let count = self.nodes.len();
        let leaders: Vec<usize> = (0..count)
            .filter(|n| self.nodes[*n].core.leads_with_quorum())
            .collect();
        let [leader] = leaders[..] else {
            let states: Vec<State> = self.nodes.iter().map(|n| n.core.state()).collect();
            return Some(format!("there is no single leader: {states:?}"));
        };
        let alive = self.nodes[leader].core.node_list(None).alive_nodes;
        if usize::try_from(alive) != Ok(count - 1) {
            return Some(format!("{alive} nodes have joined the leader"));
        }
        let known = &self.nodes[leader].backends;
        let could_be = |backend: usize| self.backends[backend] && !known.nodes[backend].down;
        if known.primary.is_none() && (0..self.backends.len()).any(could_be) {
            return Some("no server is made the primary".to_owned());
        }
        (0..count).find_map(|node| self.wrong_with(node, leader))
    }

    fn wrong_with(&self, node: usize, leader: usize) -> Option<String> {
        let record = &self.nodes[node];
        let core = &record.core;
        let follows = || core.leader() == Some(Leader::Peer(self.peer(node, leader)));
        let wrong = if !record.up {
            "does not run"
        } else if node != leader && (core.state() != State::Standby || !follows()) {
            "follows nobody"
        } else if !core.may_serve(self.now()) {
            "serves no writes"
        } else if record.address != (node == leader) {
            "has or misses the address"
        } else if record.backends.running.is_some() || !record.backends.queue.is_empty() {
            "still fails over"
        } else if !record.asked.is_empty() {
            "has no answer to a request"
        } else {
            let all = 0..self.backends.len();
            return all
                .clone()
                .find_map(|backend| self.wrong_about(backend, node, leader));
        };
        Some(format!("node {node} {wrong}"))
    }

    fn wrong_about(&self, backend: usize, node: usize, leader: usize) -> Option<String> {
        let view = self.nodes[node].backends.nodes[backend];
        let truth = self.nodes[leader].backends.nodes[backend];
        let wrong = if view.down != truth.down {
            "is not what it is on the leader"
        } else if view.quarantined {
            "is in quarantine"
        } else if !self.backends[backend] && !view.down {
            "is dead and was not failed over"
        } else {
            return None;
        };
        Some(format!("backend {backend} on node {node} {wrong}"))
    }
}
