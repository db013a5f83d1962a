//! Votes for a failover, on the leader: each node has one per backend and kind of request.

use std::time::{Duration, Instant};

use super::PeerId;
use crate::{
    cluster::NodeId,
    watchdog::codec::{
        config_data::ConfigData,
        function::{FailoverKind, FailoverRequest},
    },
};

/// Whatever a node says of its health checks: a vote that nobody joins in so long says nothing any more.
const LONGEST: Duration = Duration::from_secs(3600);

/// Who votes. The leader has no vote that it does not cast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voter {
    Own,
    Peer(PeerId),
}

/// What a vote has led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There are enough: do it.
    Passed,
    /// It counts, and others are missing. `first`: nobody has voted so before.
    Building { first: bool },
    /// This node had voted already, and others are still missing.
    Duplicate,
}

#[derive(Debug)]
struct Ballot {
    request: FailoverRequest,
    began: Instant,
    voters: Vec<Voter>,
    count: usize,
}

#[derive(Debug)]
pub struct Votes {
    /// Of the own settings, and the longest that any standby has told.
    lifetime: Duration,
    ballots: Vec<Ballot>,
}

/// A vote that found no consensus.
#[derive(Debug, PartialEq, Eq)]
pub struct Expired {
    pub kind: FailoverKind,
    pub node: NodeId,
    pub own_vote: bool,
}

impl Votes {
    pub fn new(lifetime: Duration) -> Votes {
        Votes {
            lifetime: lifetime.min(LONGEST),
            ballots: Vec::new(),
        }
    }

    /// A standby's health checks may take longer than ours: its vote must find ours still there.
    pub fn heed(&mut self, data: &ConfigData) {
        let round = |period: i64, delay: i64, retries: i64| {
            let seconds = period.saturating_add(delay.saturating_mul(retries));
            Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
        };
        let number = |name| data.number(name).unwrap_or_default();
        let mut longest = round(
            number("health_check_period"),
            number("health_check_retry_delay"),
            number("health_check_max_retries"),
        );
        for check in &data.health_checks {
            let of_backend = round(check.period, check.retry_delay, check.max_retries);
            longest = longest.max(of_backend);
        }
        self.lifetime = self.lifetime.max(longest).min(LONGEST);
    }

    pub fn cast(
        &mut self,
        request: &FailoverRequest,
        voter: Voter,
        needed: usize,
        allow_multiple: bool,
        now: Instant,
    ) -> Outcome {
        let same = |ballot: &Ballot| {
            ballot.request.kind == request.kind && ballot.request.node == request.node
        };
        let first = !self.ballots.iter().any(same);
        if first {
            self.ballots.push(Ballot {
                request: request.clone(),
                began: now,
                voters: Vec::new(),
                count: 0,
            });
        }
        let Some(place) = self.ballots.iter().position(same) else {
            return Outcome::Building { first };
        };
        let ballot = &mut self.ballots[place];
        let duplicate = ballot.voters.contains(&voter);
        if !duplicate {
            ballot.voters.push(voter);
        }
        if !duplicate || allow_multiple {
            ballot.count += 1;
        }
        if ballot.count >= needed {
            self.ballots.remove(place);
            return Outcome::Passed;
        }
        if duplicate && !allow_multiple {
            Outcome::Duplicate
        } else {
            Outcome::Building { first }
        }
    }

    /// Votes so far for what this request asks for.
    pub fn count(&self, request: &FailoverRequest) -> usize {
        let mut all = self.ballots.iter();
        let same = all.find(|b| (b.request.kind, b.request.node) == (request.kind, request.node));
        same.map_or(0, |ballot| ballot.count)
    }

    /// The backend has gone down by another way.
    pub fn drop_backend(&mut self, node: NodeId) {
        self.ballots.retain(|ballot| ballot.request.node != node);
    }

    /// A node that is gone votes no more.
    pub fn drop_voter(&mut self, voter: Voter) {
        for ballot in &mut self.ballots {
            if ballot.voters.contains(&voter) {
                ballot.voters.retain(|known| *known != voter);
                ballot.count = ballot.count.saturating_sub(1);
            }
        }
        self.ballots.retain(|ballot| !ballot.voters.is_empty());
    }

    pub fn expire(&mut self, now: Instant) -> Vec<Expired> {
        let lifetime = self.lifetime;
        let old = |ballot: &Ballot| ballot.began + lifetime <= now;
        let mut expired = Vec::new();
        self.ballots.retain(|ballot| {
            if old(ballot) {
                expired.push(Expired {
                    kind: ballot.request.kind,
                    node: ballot.request.node,
                    own_vote: ballot.voters.contains(&Voter::Own),
                });
            }
            !old(ballot)
        });
        expired
    }

    pub fn next(&self) -> Option<Instant> {
        let all = self.ballots.iter();
        all.map(|ballot| ballot.began + self.lifetime).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::codec::function::Flags;

    fn down(node: NodeId, flags: Flags) -> FailoverRequest {
        FailoverRequest {
            credentials: Default::default(),
            kind: FailoverKind::Degenerate,
            flags,
            node,
        }
    }

    #[test]
    fn each_node_counts_once_and_the_first_flags_are_used() {
        let now = Instant::now();
        let mut votes = Votes::new(Duration::from_secs(15));
        let mut cast = |request: FailoverRequest, voter| votes.cast(&request, voter, 2, false, now);
        assert_eq!(
            cast(down(0, Flags::SWITCHOVER), Voter::Peer(1)),
            Outcome::Building { first: true }
        );
        assert_eq!(
            cast(down(0, Flags::SWITCHOVER), Voter::Peer(1)),
            Outcome::Duplicate
        );
        assert_eq!(
            cast(down(1, Flags::default()), Voter::Own),
            Outcome::Building { first: true },
            "another backend is another vote"
        );
        assert_eq!(
            cast(down(0, Flags::UPDATE), Voter::Own),
            Outcome::Passed,
            "a vote for a backend that the voter has in quarantine is one like any other"
        );
        assert_eq!(
            cast(down(0, Flags::UPDATE), Voter::Own),
            Outcome::Building { first: true },
            "the vote that has passed is gone"
        );
    }

    #[test]
    fn several_votes_of_a_node_count_where_that_is_allowed() {
        let now = Instant::now();
        let mut votes = Votes::new(Duration::from_secs(15));
        let request = down(0, Flags::default());
        assert_eq!(
            votes.cast(&request, Voter::Own, 2, true, now),
            Outcome::Building { first: true }
        );
        assert_eq!(
            votes.cast(&request, Voter::Own, 2, true, now),
            Outcome::Passed
        );
    }

    #[test]
    fn a_vote_ends_with_its_lifetime_and_says_whether_the_leader_had_voted() {
        let now = Instant::now();
        let mut votes = Votes::new(Duration::from_secs(15));
        let _ = votes.cast(&down(0, Flags::default()), Voter::Own, 2, false, now);
        assert!(votes.expire(now + Duration::from_secs(14)).is_empty());
        assert_eq!(
            votes.expire(now + Duration::from_secs(15)),
            [Expired {
                kind: FailoverKind::Degenerate,
                node: 0,
                own_vote: true
            }]
        );
        assert_eq!(votes.next(), None);
    }

    #[test]
    fn the_slowest_health_check_of_all_nodes_sets_the_lifetime() {
        let now = Instant::now();
        let mut votes = Votes::new(Duration::from_secs(15));
        votes.heed(&ConfigData {
            numbers: vec![
                ("health_check_period", 10),
                ("health_check_max_retries", 3),
                ("health_check_retry_delay", 10),
            ],
            ..ConfigData::default()
        });
        let _ = votes.cast(&down(0, Flags::default()), Voter::Own, 2, false, now);
        assert_eq!(votes.next(), Some(now + Duration::from_secs(40)));
    }

    #[test]
    fn no_health_check_makes_a_vote_live_for_ever() {
        let now = Instant::now();
        for huge in [i64::from(i32::MAX), i64::MAX] {
            let mut votes = Votes::new(Duration::from_secs(15));
            votes.heed(&ConfigData {
                numbers: vec![("health_check_period", huge)],
                ..ConfigData::default()
            });
            let _ = votes.cast(&down(0, Flags::default()), Voter::Own, 2, false, now);
            assert_eq!(votes.next(), Some(now + LONGEST));
        }
        let mut votes = Votes::new(Duration::from_secs(u64::MAX));
        let _ = votes.cast(&down(0, Flags::default()), Voter::Own, 2, false, now);
        assert_eq!(votes.next(), Some(now + LONGEST));
    }

    #[test]
    fn the_vote_of_a_lost_node_is_taken_back() {
        let now = Instant::now();
        let mut votes = Votes::new(Duration::from_secs(15));
        let request = down(0, Flags::default());
        let _ = votes.cast(&request, Voter::Peer(1), 2, false, now);
        votes.drop_voter(Voter::Peer(1));
        assert_eq!(
            votes.cast(&request, Voter::Peer(0), 2, false, now),
            Outcome::Building { first: true }
        );
    }
}
