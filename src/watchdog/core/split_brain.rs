//! Two leaders have met: who stays, section 12.1 of the protocol.

use super::{Core, Leader, Message, PeerId, State};
use crate::watchdog::codec::Service;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Winner {
    Own,
    Other,
    /// The other is of an old release and does not say enough.
    Unknown,
}

/// What decides, of one leader.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub escalated: bool,
    pub quorum: i32,
    pub standbys: i32,
    /// Seconds as leader; `None`: not said.
    pub age: Option<i64>,
}

/// The first difference counts; without one the judge stays.
pub(super) fn judge(own: Claim, other: Claim) -> Winner {
    let (Some(mine), Some(theirs)) = (own.age, other.age) else {
        return Winner::Unknown;
    };
    let own = (own.escalated, own.quorum, own.standbys, mine);
    let other = (other.escalated, other.quorum, other.standbys, theirs);
    if own >= other {
        Winner::Own
    } else {
        Winner::Other
    }
}

impl Core {
    /// This node is in state LEADER and hears another.
    pub(super) fn decide_split_brain(&mut self, peer: PeerId) {
        let standing = self.standing();
        let own = Claim {
            escalated: standing.escalated,
            quorum: standing.quorum,
            standbys: standing.alive,
            age: Some(standing.since_state),
        };
        let record = &self.peers[peer];
        let other = Claim {
            escalated: record.standing.escalated,
            quorum: record.standing.quorum,
            standbys: record.standing.alive,
            age: record.state_age(self.now),
        };
        let label = self.peer_label(peer);
        match judge(own, other) {
            Winner::Own => {
                self.warn(
                    format!(
                        "We are in split brain, and I am the best candidate for leader/coordinator: \"{label}\" leads, too, and is asked to step down"
                    ),
                    "the network between the nodes was interrupted",
                );
                self.send_new(peer, Message::Service(Service::IAmTrueLeader));
            }
            Winner::Other => {
                self.warn(
                    format!(
                        "We are in split brain, and \"{label}\" node is the best candidate for leader/coordinator: this node gives way"
                    ),
                    "the network between the nodes was interrupted",
                );
                self.broadcast_service(Service::IAmNotTrueLeader, None);
                self.enter(State::Joining);
            }
            Winner::Unknown => {
                self.warn(
                    format!(
                        "We are in split brain, and not able to decide the best candidate for leader/coordinator: \"{label}\" does not say for how long it leads, and a new election is held"
                    ),
                    "is it of a release before 4.0?",
                );
                self.send_new(peer, Message::Service(Service::NeedsElection));
                self.enter(State::Joining);
            }
        }
    }

    /// The leader in the eyes of logs and tools.
    pub(super) fn leader_is_own(&self) -> bool {
        self.leader == Some(Leader::Own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_decides_and_a_tie_keeps_the_judge() {
        let base = Claim {
            escalated: false,
            quorum: 0,
            standbys: 1,
            age: Some(10),
        };
        let other = |change: fn(&mut Claim)| {
            let mut claim = base;
            change(&mut claim);
            judge(base, claim)
        };
        assert_eq!(other(|_| {}), Winner::Own);
        assert_eq!(other(|c| c.age = Some(11)), Winner::Other);
        assert_eq!(other(|c| c.age = Some(9)), Winner::Own);
        assert_eq!(other(|c| c.age = None), Winner::Unknown);
        assert_eq!(other(|c| (c.standbys, c.age) = (2, Some(1))), Winner::Other);
        assert_eq!(other(|c| (c.quorum, c.standbys) = (1, 0)), Winner::Other);
        assert_eq!(
            other(|c| (c.escalated, c.quorum) = (true, -1)),
            Winner::Other
        );
    }
}
