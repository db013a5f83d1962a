//! Quorum: how many nodes are enough, and which nodes count at all.

use std::time::Instant;

use super::{Action, Core, PeerId, State, leader::NOT_LOOKED};
use crate::watchdog::{codec::ipc_answer::Membership, settings::QuorumSettings};

/// 1 there is one, 0 on the edge (half of an even number), -1 none. `remote`: members besides the
/// leader; `standbys`: how many of them have joined it.
pub fn quorum(remote: usize, standbys: usize, half_votes: bool) -> i32 {
    let least = least(remote);
    let even_total = remote % 2 == 1;
    match standbys.cmp(&least) {
        std::cmp::Ordering::Greater => 1,
        std::cmp::Ordering::Less => -1,
        std::cmp::Ordering::Equal if !even_total => 1,
        std::cmp::Ordering::Equal if half_votes => 0,
        std::cmp::Ordering::Equal => -1,
    }
}

/// Votes that make a consensus, the leader's own among them.
pub fn votes_needed(remote: usize, half_votes: bool) -> usize {
    let even_total = remote % 2 == 1;
    least(remote) + 1 + usize::from(even_total && !half_votes)
}

fn least(remote: usize) -> usize {
    remote / 2
}

/// More than half of all nodes, whatever is configured: what two sides can never both have.
pub fn majority(nodes: usize) -> usize {
    nodes / 2 + 1
}

impl Core {
    pub(super) fn member_count(&self) -> usize {
        self.peers.iter().filter(|p| p.is_member()).count()
    }

    pub(super) fn votes_needed(&self) -> usize {
        votes_needed(self.member_count(), self.settings.quorum.half_votes)
    }

    fn quorum_settings(&self) -> QuorumSettings {
        self.settings.quorum
    }

    /// By who has joined.
    fn counted_quorum(&self) -> i32 {
        let half_votes = self.quorum_settings().half_votes;
        quorum(self.member_count(), self.standbys.len(), half_votes)
    }

    /// As leader: enough have joined or had joined, and there is no write lease for which those who are here have stood.
    /// What is left of one from before the quorum was lost brings no address: those who have joined since may
    /// not count for another one yet when it ends, and the address would go again.
    pub(super) fn lease_is_awaited(&self) -> bool {
        let before = self.quorum_lost;
        self.lease.is_missing(self.now)
            || (self.counted_quorum() >= 0
                && before.is_some_and(|lost| self.lease.is_from_before(lost)))
    }

    /// Of a leader that has been confirmed.
    pub(super) fn update_quorum(&mut self) {
        if self.state != State::Leader || !self.leader_is_own() {
            return;
        }
        let quorum = if self.lease_is_awaited() {
            -1
        } else {
            self.counted_quorum()
        };
        if quorum != self.quorum {
            let before = std::mem::replace(&mut self.quorum, quorum);
            let lost = self.quorum_lost.take();
            self.quorum_lost = (before >= 0 && quorum < 0).then_some(self.now);
            self.say_quorum(before == NOT_LOOKED, before, quorum);
            if quorum >= 0 {
                self.escalate();
            } else {
                self.deescalate();
            }
            self.broadcast_info();
            if before < 0 && quorum >= 0 {
                self.failovers.led();
                self.out.push(Action::ReleaseQuarantined);
                // One that is still dead is not due to be checked for long. A new leader lets all look anyway.
                if lost.is_some() {
                    self.out.push(Action::CheckBackends);
                }
            }
        } else if quorum >= 0 && !self.escalated {
            self.escalate();
        }
    }

    pub(super) fn revoke(&mut self, peer: PeerId, membership: Membership) {
        self.log(format!(
            "watchdog node {} does not count for the quorum any more: {}",
            self.peer_label(peer),
            membership.name()
        ));
        self.peers[peer].membership = membership;
        self.lease_members_changed();
    }

    fn removal(&self, peer: PeerId) -> Option<(Instant, Membership)> {
        let settings = self.quorum_settings();
        let record = &self.peers[peer];
        if !record.is_member() {
            return None;
        }
        match record.state {
            State::Lost => {
                let at = record.lost_since? + settings.lost_removal?;
                Some((at, Membership::RevokedLost))
            }
            State::Dead | State::AddMessageSent if record.info.is_none() => {
                let at = self.started + settings.no_show_removal?;
                Some((at, Membership::RevokedNoShow))
            }
            _ => None,
        }
    }

    pub(super) fn remove_members(&mut self) {
        for peer in 0..self.peers.len() {
            if let Some((at, membership)) = self.removal(peer)
                && at <= self.now
            {
                self.revoke(peer, membership);
            }
        }
    }

    pub(super) fn next_removal(&self) -> Option<Instant> {
        let all = 0..self.peers.len();
        all.filter_map(|peer| self.removal(peer).map(|(at, _)| at))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_original() {
        // (remote nodes, half votes) -> quorum by number of standbys.
        let row = |remote, half| -> Vec<i32> {
            (0..=remote)
                .map(|standbys| quorum(remote, standbys, half))
                .collect()
        };
        assert_eq!(row(0, false), [1]);
        assert_eq!(row(1, false), [-1, 1]);
        assert_eq!(row(1, true), [0, 1]);
        assert_eq!(row(2, false), [-1, 1, 1]);
        assert_eq!(row(2, true), [-1, 1, 1]);
        assert_eq!(row(3, false), [-1, -1, 1, 1]);
        assert_eq!(row(3, true), [-1, 0, 1, 1]);
        assert_eq!(row(4, false), [-1, -1, 1, 1, 1]);
    }

    #[test]
    fn votes_for_a_consensus() {
        let needed = |nodes: usize, half| votes_needed(nodes - 1, half);
        assert_eq!((needed(2, false), needed(2, true)), (2, 1));
        assert_eq!(needed(3, false), 2);
        assert_eq!((needed(4, false), needed(4, true)), (3, 2));
        assert_eq!(needed(5, false), 3);
        assert_eq!(needed(1, false), 1);
    }

    #[test]
    fn two_sides_never_both_have_a_majority() {
        for nodes in 1..20 {
            assert!(2 * majority(nodes) > nodes);
            assert!(2 * (majority(nodes) - 1) <= nodes);
        }
    }
}
