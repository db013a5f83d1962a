//! Questions and answers: support for the leader, shares for its standbys.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{Held, KEPT_ROUNDS, Round, Waiting};
use crate::watchdog::{
    codec::message::{LeaseAsk, LeaseGrant},
    core::{Core, Leader, Message, PeerId, State, quorum::majority},
};

/// What is told in milliseconds is told as too early rather than as too late.
const ROUNDED: Duration = Duration::from_micros(999);
/// Of a leader without lease: its standby may serve as it likes. Of a standby: it can keep no lease, and so does
/// as it likes, because it knows a node that keeps none.
const UNLIMITED: u32 = i32::MAX as u32;

impl Core {
    /// Sends the next round, if it is time.
    pub(in crate::watchdog::core) fn tick_lease(&mut self) {
        self.end_lease_if_due();
        if !self.lease.on {
            return;
        }
        self.watch_pause();
        self.cover_if_due();
        if self.lease.next_round.is_none_or(|at| at > self.now) {
            return;
        }
        let to = match (self.state, self.leader) {
            (State::Leader, Some(Leader::Own)) if self.has_reign() => self.standbys.clone(),
            (State::Standby, Some(Leader::Peer(leader))) => vec![leader],
            _ => {
                // Leading, joining or being joined begins the rounds anew.
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
        let number = lease.round;
        lease.rounds.push(Round {
            number,
            sent: self.now,
            answered: BTreeSet::new(),
            done: false,
        });
        let fresh = std::mem::take(&mut lease.cover);
        let ask = LeaseAsk {
            round: number,
            reign: lease.reign,
            picture: lease.picture,
            pause: lease.paused.is_some(),
            fresh: fresh && self.state == State::Standby,
        };
        if self.state == State::Leader {
            self.lease.own_support = Some(self.now);
        }
        for peer in to {
            if self.peers[peer].best().is_some() {
                self.send_new(peer, Message::LeaseAsk(ask));
            }
        }
        self.count_round(number);
    }

    /// Somebody asks: our leader for support, or a standby of ours for its share.
    pub(in crate::watchdog::core) fn lease_asked(&mut self, peer: PeerId, id: u32, ask: LeaseAsk) {
        self.lease.bound.insert(peer);
        let follows = self.state == State::Standby && self.leader == Some(Leader::Peer(peer));
        if follows && self.lease.joined && self.lease.own.is_some() {
            // Support does not reach a leader that does not hear us, and would keep the next one waiting.
            let hears = |at: Instant| self.now < at + self.lease.surely_over();
            if !self.lease.on || self.lease.answered.is_none_or(hears) {
                self.support(peer, id, ask);
            }
        } else if self.state == State::Leader && self.standbys.contains(&peer) {
            let may_wait = ask.fresh && self.lease.holds(self.now);
            if may_wait && self.lease.paused.is_none() && self.picture_is_known() {
                let came = self.now;
                self.lease.waiting.push(Waiting {
                    peer,
                    id,
                    ask,
                    came,
                });
                self.lease_cover();
            } else {
                self.share(peer, id, ask, self.now);
            }
        }
    }

    /// Those whose questions came before the last round that a majority has answered.
    fn answer_waiting(&mut self) {
        let waiting = std::mem::take(&mut self.lease.waiting);
        for wish in waiting {
            if self.lease.heard.is_some_and(|heard| heard >= wish.came) {
                self.share(wish.peer, wish.id, wish.ask, wish.came);
            } else {
                self.lease.waiting.push(wish);
            }
        }
    }

    /// The leader asks.
    fn support(&mut self, leader: PeerId, id: u32, ask: LeaseAsk) {
        // What this node knows counts more than what the leader has not heard of.
        let keeps = !self.cannot_keep_lease();
        self.lease.refused = !keeps;
        if keeps {
            self.switch_lease(true);
        }
        let lease = &mut self.lease;
        let mut grant = LeaseGrant {
            round: ask.round,
            remaining_ms: 0,
            heard_before_ms: 0,
            idle_ms: 0,
            reign: lease.reign,
            picture: lease.picture,
            paused: false,
        };
        if !keeps {
            grant.remaining_ms = UNLIMITED;
        } else if ask.reign >= lease.reign {
            if ask.reign > lease.reign {
                lease.reign = ask.reign;
                self.remember();
            }
            let lease = &mut self.lease;
            let idle = lease.other_support(Leader::Peer(leader));
            lease.supported.insert(leader, self.now);
            grant.idle_ms = millis(self.now.saturating_duration_since(idle));
            grant.reign = lease.reign;
            if ask.pause {
                lease.stop_serving(Held::Pause);
                lease.refused_before = Some(self.now);
                grant.paused = true;
            }
            self.take_picture(leader, ask.picture);
        }
        self.send(leader, id, Message::LeaseGrant(grant));
    }

    /// A standby has asked, when this `came`.
    fn share(&mut self, peer: PeerId, id: u32, ask: LeaseAsk, came: Instant) {
        self.lease.unable.remove(&peer);
        self.keep_lease_as_standbys_do();
        let now = self.now;
        let remaining = if self.lease.on {
            self.note_picture(peer, ask.picture);
            let up_to_date = ask.picture == self.lease.picture && ask.reign <= self.lease.reign;
            let may = up_to_date && self.lease.paused.is_none() && self.picture_is_known();
            let until = self
                .lease
                .held_until
                .filter(|_| may && self.lease.holds(now));
            let remaining = until.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
            // It asks twice as often; a promotion need not wait longer for one that is lost.
            let remaining = remaining.min(self.lease.shortest / 2);
            if !remaining.is_zero() {
                let over = now + remaining + remaining / 8;
                let known = self.lease.shares.entry(peer).or_insert(over);
                *known = over.max(*known);
            }
            millis(remaining)
        } else {
            UNLIMITED
        };
        let grant = LeaseGrant {
            round: ask.round,
            remaining_ms: remaining,
            heard_before_ms: self.lease.heard.map_or(UNLIMITED, |heard| {
                millis(came.saturating_duration_since(heard) + ROUNDED)
            }),
            idle_ms: 0,
            reign: self.lease.reign,
            picture: self.lease.picture,
            paused: false,
        };
        self.send(peer, id, Message::LeaseGrant(grant));
    }

    pub(in crate::watchdog::core) fn lease_granted(&mut self, peer: PeerId, grant: LeaseGrant) {
        let mut rounds = self.lease.rounds.iter();
        let Some(sent) = rounds.find(|r| r.number == grant.round).map(|r| r.sent) else {
            return;
        };
        let leads = self.state == State::Leader;
        for round in &mut self.lease.rounds {
            round.done |= !leads && round.number == grant.round;
        }
        if self.state == State::Standby && self.leader == Some(Leader::Peer(peer)) {
            self.granted_by_leader(peer, sent, grant);
        } else if self.state == State::Leader && self.standbys.contains(&peer) {
            self.granted_by_standby(peer, grant);
        }
    }

    fn granted_by_leader(&mut self, leader: PeerId, sent: Instant, grant: LeaseGrant) {
        self.lease.answered = self.lease.answered.max(Some(sent));
        if grant.remaining_ms == UNLIMITED {
            return self.switch_lease(false);
        }
        // Paused since it was asked: what the leader gave before counts no more.
        let since_pause = self.lease.refused_before.is_none_or(|at| sent > at);
        if grant.reign < self.lease.reign || !since_pause {
            return;
        }
        self.take_picture(leader, grant.picture);
        if grant.picture == self.lease.picture && self.lease.learning.is_none() {
            let until = sent + Duration::from_millis(grant.remaining_ms.into());
            if until > self.now {
                let before = Duration::from_millis(grant.heard_before_ms.into());
                let heard = sent.checked_sub(before).unwrap_or(self.lease.started);
                self.lease.serve(until, heard, Leader::Peer(leader));
            }
        }
    }

    fn granted_by_standby(&mut self, peer: PeerId, grant: LeaseGrant) {
        if grant.remaining_ms == UNLIMITED {
            self.lease.unable.insert(peer);
            return self.lease_members_changed();
        }
        self.lease.bound.insert(peer);
        if grant.reign > self.lease.reign {
            return self.begin_reign(grant.reign);
        }
        if grant.reign < self.lease.reign {
            // Of before.
            return;
        }
        let idle = Duration::from_millis(grant.idle_ms.into());
        let ready = self.now + self.lease.surely_over().saturating_sub(idle);
        self.lease.ready.insert(peer, ready);
        self.note_picture(peer, grant.picture);
        if grant.paused && self.lease.paused.is_some_and(|since| grant.round >= since) {
            self.lease.shares.remove(&peer);
        }
        for round in &mut self.lease.rounds {
            if round.number == grant.round {
                round.answered.insert(peer);
            }
        }
        self.count_round(grant.round);
    }

    pub(super) fn count_round(&mut self, number: u32) {
        if self.state != State::Leader {
            return;
        }
        let mut rounds = self.lease.rounds.iter();
        let Some(round) = rounds.find(|r| r.number == number) else {
            return;
        };
        let sent = round.sent;
        let own = self.lease.other_support(Leader::Own) + self.lease.surely_over();
        let ready = &self.lease.ready;
        let mut ready: Vec<Instant> = round
            .answered
            .iter()
            .filter_map(|peer| ready.get(peer).copied())
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
        for round in &mut self.lease.rounds {
            round.done |= round.number == number;
        }
        if !self.establish() {
            return;
        }
        self.lease.heard = self.lease.heard.max(Some(sent));
        let until = sent + self.lease.shortest;
        let held_before = self.lease.holds(self.now);
        self.lease.held_until = self.lease.held_until.max(Some(until));
        self.lease.patience = None;
        self.serve_as_leader();
        if !held_before && self.lease.holds(self.now) {
            // Standbys that have asked too early ask again when their leader says something of itself.
            self.broadcast_info();
        }
        self.answer_waiting();
        self.cover_if_due();
    }

    /// Its lease is what a leader serves by itself, while its picture is the majority's.
    pub(super) fn serve_as_leader(&mut self) {
        let known = self.lease.paused.is_none() && self.picture_is_known();
        if let Some(until) = self.lease.held_until
            && known
            && self.lease.holds(self.now)
        {
            let heard = self.lease.heard.unwrap_or(self.lease.started);
            self.lease.serve(until, heard, Leader::Own);
        }
    }

    /// Of a standby: its leader has news; if there is no share yet, this may be it.
    pub(in crate::watchdog::core) fn lease_leader_spoke(&mut self) {
        if self.lease.on && self.lease.joined && !self.lease.serves(self.now) {
            self.lease.next_round = Some(self.now);
        }
    }
}

fn millis(duration: Duration) -> u32 {
    // The reader takes signed numbers; the highest means something else.
    u32::try_from(duration.as_millis())
        .unwrap_or(u32::MAX)
        .min(UNLIMITED - 1)
}
