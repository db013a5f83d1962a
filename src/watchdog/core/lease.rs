//! The write lease: no two sides of a divided cluster serve writes.
//!
//! Stock nodes of a minority go on serving the old primary while the majority promotes another: what is
//! written there is lost. A node of ours serves writes only until its lease ends, and a leader promotes
//! only when every lease that is not of its own side must have ended.
//!
//! * The leader asks its standbys in rounds. A standby's answer supports the leader; with it the standby says
//!   how long ago it last supported another leader, or has started.
//! * A round that a majority of all configured nodes answers, the leader among them, gives it the lease from
//!   the moment when the round was *sent*, for `wd_write_lease`; but only those answers count whose nodes
//!   have supported nobody else for the length of a lease. So no two leaders ever hold it at a time:
//!   the one that is cut off has got it by one of this majority, and longer ago than it lasts.
//! * A standby asks its leader, which answers for how long its own lease still holds. That, counted from
//!   the sending of the question, is the standby's share: it never ends after the leader's.
//! * Who has neither lease nor share lets no writes through, and a leader without lease promotes nobody.
//!
//! After a change of leaders the old shares last while the new leader waits for them to end: writes stand
//! still for an eighth of a lease and a round, not for the election.
//!
//! What it does not do: a leader that is cut off in the middle of a promotion may have a new primary that
//! the next leader knows nothing of. What is written there ends with its lease.
//!
//! All times are differences on one node's clock that only runs forward; an eighth is added for clocks that
//! run unevenly. The lease is on while every member has announced itself as ours with a lease, nobody's
//! membership is revoked, and half of the votes is not enough. What was on at the end of a process is on at
//! its next start, until a stock node appears: one that starts alone must not serve.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{Action, Core, Leader, Message, PeerId, State, quorum::majority};
use crate::watchdog::codec::message::{LeaseAsk, LeaseGrant};

/// More rounds than this are not under way.
const KEPT_ROUNDS: usize = 8;

#[derive(Debug)]
pub(super) struct Lease {
    /// Of the own setting; `None`: never.
    own: Option<Duration>,
    on: bool,
    /// Shortest and longest of all members.
    shortest: Duration,
    longest: Duration,
    started: Instant,
    round: u32,
    next_round: Option<Instant>,
    /// When rounds were sent: number, time, who has answered.
    rounds: Vec<(u32, Instant, Vec<PeerId>)>,
    /// End of the lease of this node as leader.
    held_until: Option<Instant>,
    /// Until then a leader without lease has not had the time to get one.
    patience: Option<Instant>,
    /// End of what this node may serve, whoever gave it.
    serve_until: Option<Instant>,
    source: Option<Leader>,
    /// When each leader was last supported; the own rounds by `own_support`.
    supported: BTreeMap<PeerId, Instant>,
    own_support: Option<Instant>,
    /// From when on a standby's support stands in nobody's way.
    ready: BTreeMap<PeerId, Instant>,
    joined: bool,
}

impl Lease {
    pub fn new(own: Option<Duration>, now: Instant) -> Lease {
        let length = own.unwrap_or_default();
        Lease {
            own,
            on: false,
            shortest: length,
            longest: length,
            started: now,
            round: 0,
            next_round: None,
            rounds: Vec::new(),
            held_until: None,
            patience: None,
            serve_until: None,
            source: None,
            supported: BTreeMap::new(),
            own_support: None,
            ready: BTreeMap::new(),
            joined: false,
        }
    }

    pub fn start(&mut self, was_on: bool, now: Instant) {
        self.on = was_on && self.own.is_some();
        self.started = now;
    }

    pub fn is_on(&self) -> bool {
        self.on
    }

    pub fn serves(&self, now: Instant) -> bool {
        self.serve_until.is_some_and(|until| now < until)
    }

    pub fn source(&self) -> Option<Leader> {
        self.source
    }

    fn serve(&mut self, until: Instant, source: Leader) {
        if self.serve_until.is_none_or(|known| until > known) {
            self.serve_until = Some(until);
            self.source = Some(source);
        }
    }

    /// As leader.
    pub fn holds(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// As leader: it has had the time to get a lease, and has none. Standbys that do not answer are none.
    pub fn is_missing(&self, now: Instant) -> bool {
        self.on && !self.holds(now) && self.patience.is_none_or(|at| at <= now)
    }

    pub fn stop_leading(&mut self) {
        // What was given to standbys is good until its end, and so is our own.
        self.held_until = None;
        self.rounds.clear();
        self.ready.clear();
    }

    /// In no state but STANDBY, after its leader has accepted it, another node is supported.
    pub fn stop_following(&mut self) {
        self.joined = false;
    }

    /// How soon a leader must have its lease, waiting for older ones to end included.
    fn acquisition(&self) -> Duration {
        self.surely_over() + 2 * self.pace()
    }

    fn pace(&self) -> Duration {
        (self.shortest / 4).max(Duration::from_millis(250))
    }

    /// Time after which a lease of any node has ended for sure.
    fn surely_over(&self) -> Duration {
        self.longest + self.longest / 8
    }

    /// When this node last supported somebody other than `leader`, or lost its memory.
    fn other_support(&self, leader: Leader) -> Instant {
        let peers = self.supported.iter();
        let peers = peers.filter(|(peer, _)| leader != Leader::Peer(**peer));
        let own = self.own_support.filter(|_| leader != Leader::Own);
        let last = peers.map(|(_, at)| *at).chain(own).max();
        last.unwrap_or(self.started).max(self.started)
    }

    pub fn next(&self, state: State, now: Instant) -> Option<Instant> {
        if !self.on {
            return None;
        }
        let round = self
            .next_round
            .filter(|_| matches!(state, State::Leader | State::Standby));
        let ends = [self.held_until, self.serve_until, self.patience];
        let ends = ends.into_iter().flatten().filter(|at| *at > now);
        ends.chain(round).min()
    }
}

impl Core {
    /// Who belongs to the cluster has changed, or what a node says of itself.
    pub(super) fn lease_members_changed(&mut self) {
        let Some(own) = self.lease.own else { return };
        let half = self.settings.quorum.half_votes && self.peers.len() % 2 == 1;
        let revoked = self.peers.iter().any(|p| !p.is_member());
        let stock = |peer: &super::Peer| peer.info.is_some() && peer.write_lease().is_none();
        let stock = self.peers.iter().any(stock);
        let unknown = self.peers.iter().any(|p| p.info.is_none());
        let on = if half || revoked || stock {
            false
        } else {
            // Until all have been heard of it is as it was.
            self.lease.on || !unknown
        };
        let lengths = self.peers.iter().filter_map(super::Peer::write_lease);
        let lengths: Vec<Duration> = lengths.chain([own]).collect();
        self.lease.shortest = lengths.iter().copied().min().unwrap_or(own);
        self.lease.longest = lengths.iter().copied().max().unwrap_or(own);
        if on != self.lease.on {
            self.lease.on = on;
            self.lease.patience = Some(self.now + self.lease.acquisition());
            self.lease.next_round = Some(self.now);
            self.out.push(Action::Remember { lease_is_on: on });
            if on {
                self.log("all watchdog nodes keep the write lease, which is on from now");
            } else {
                self.log("the write lease is off: not all watchdog nodes are members that keep it");
            }
        }
    }

    pub(super) fn lease_leading(&mut self) {
        self.lease.patience = Some(self.now + self.lease.acquisition());
        self.lease.next_round = Some(self.now);
        self.lease.ready.clear();
        self.lease.rounds.clear();
    }

    pub(super) fn lease_joined(&mut self) {
        self.lease.joined = true;
        self.lease.next_round = Some(self.now);
    }

    /// Of a leader: ask it at once.
    pub(super) fn lease_new_standby(&mut self, peer: PeerId) {
        self.lease.ready.remove(&peer);
        self.lease.next_round = Some(self.now);
    }

    /// Sends the next round, if it is time.
    pub(super) fn tick_lease(&mut self) {
        if !self.lease.on || self.lease.next_round.is_none_or(|at| at > self.now) {
            return;
        }
        let to = match (self.state, self.leader) {
            (State::Leader, Some(Leader::Own)) => self.standbys.clone(),
            (State::Standby, Some(Leader::Peer(leader))) => vec![leader],
            _ => {
                // Leading or joining begins the rounds anew.
                self.lease.next_round = None;
                return;
            }
        };
        let lease = &mut self.lease;
        lease.round = lease.round.wrapping_add(1);
        lease.next_round = Some(self.now + lease.pace());
        if lease.rounds.len() >= KEPT_ROUNDS {
            lease.rounds.remove(0);
        }
        let ask = LeaseAsk { round: lease.round };
        lease.rounds.push((ask.round, self.now, Vec::new()));
        if self.state == State::Leader {
            self.lease.own_support = Some(self.now);
        }
        for peer in to {
            if self.peers[peer].best().is_some() {
                self.send_new(peer, Message::LeaseAsk(ask));
            }
        }
        self.count_round(ask.round);
    }

    /// Somebody asks: our leader for support, or a standby of ours for its share.
    pub(super) fn lease_asked(&mut self, peer: PeerId, id: u32, ask: LeaseAsk) {
        let follows = self.state == State::Standby && self.leader == Some(Leader::Peer(peer));
        let grant = if follows && self.lease.joined {
            let idle = self.lease.other_support(Leader::Peer(peer));
            self.lease.supported.insert(peer, self.now);
            LeaseGrant {
                round: ask.round,
                remaining_ms: 0,
                idle_ms: millis(self.now.saturating_duration_since(idle)),
            }
        } else if self.state == State::Leader && self.standbys.contains(&peer) {
            let until = self.lease.held_until.unwrap_or(self.now);
            LeaseGrant {
                round: ask.round,
                remaining_ms: millis(until.saturating_duration_since(self.now)),
                idle_ms: 0,
            }
        } else {
            return;
        };
        self.send(peer, id, Message::LeaseGrant(grant));
    }

    pub(super) fn lease_granted(&mut self, peer: PeerId, grant: LeaseGrant) {
        let mut rounds = self.lease.rounds.iter();
        let Some(sent) = rounds.find(|r| r.0 == grant.round).map(|r| r.1) else {
            return;
        };
        if self.state == State::Standby && self.leader == Some(Leader::Peer(peer)) {
            let until = sent + Duration::from_millis(grant.remaining_ms.into());
            self.lease.serve(until, Leader::Peer(peer));
        } else if self.state == State::Leader && self.standbys.contains(&peer) {
            let idle = Duration::from_millis(grant.idle_ms.into());
            let ready = self.now + self.lease.surely_over().saturating_sub(idle);
            self.lease.ready.insert(peer, ready);
            for (round, _, answered) in &mut self.lease.rounds {
                if *round == grant.round && !answered.contains(&peer) {
                    answered.push(peer);
                }
            }
            self.count_round(grant.round);
        }
    }

    fn count_round(&mut self, round: u32) {
        if self.state != State::Leader {
            return;
        }
        let mut rounds = self.lease.rounds.iter();
        let Some((_, sent, answered)) = rounds.find(|r| r.0 == round) else {
            return;
        };
        let sent = *sent;
        let own = self.lease.other_support(Leader::Own) + self.lease.surely_over();
        let mut ready: Vec<Instant> = answered
            .iter()
            .filter_map(|peer| self.lease.ready.get(peer).copied())
            .collect();
        ready.sort_unstable();
        // From when on a majority, this node among them, supports nobody else.
        let others = majority(self.peers.len() + 1) - 1;
        let from = match others.checked_sub(1) {
            None => own,
            Some(last) => match ready.get(last) {
                Some(at) => own.max(*at),
                None => return,
            },
        };
        if from > self.now {
            // Older leases have not ended yet: ask again when they have.
            self.lease.next_round = self.lease.next_round.min(Some(from)).or(Some(from));
            return;
        }
        let until = sent + self.lease.shortest;
        let held_before = self.lease.holds(self.now);
        self.lease.held_until = self.lease.held_until.max(Some(until));
        self.lease.patience = None;
        self.lease.serve(until, Leader::Own);
        if !held_before && self.lease.holds(self.now) {
            // Standbys that have asked too early ask again when their leader says something of itself.
            self.broadcast_info();
        }
    }

    /// Of a standby: its leader has news; if there is no share yet, this may be it.
    pub(super) fn lease_leader_spoke(&mut self) {
        if self.lease.on && self.lease.joined && !self.lease.serves(self.now) {
            self.lease.next_round = Some(self.now);
        }
    }
}

fn millis(duration: Duration) -> u32 {
    // The reader takes signed numbers.
    u32::try_from(duration.as_millis())
        .unwrap_or(u32::MAX)
        .min(i32::MAX as u32)
}

#[cfg(test)]
impl Core {
    /// Of the last question, whoever was asked.
    pub(super) fn lease_round(&self) -> u32 {
        self.lease.round
    }
}
