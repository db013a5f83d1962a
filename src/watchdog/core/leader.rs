//! Leading: becoming leader, beacons, the list of standbys, escalation.

use std::time::{Duration, Instant};

use super::{
    Action, Core, Leader, Message, PeerId, State,
    commands::{End, Kind},
    peer::LostReason,
    times,
};
use crate::watchdog::codec::Service;

/// The quorum of a leader that was confirmed just now.
pub(super) const NOT_LOOKED: i32 = -2;

impl Core {
    pub(super) fn begin_leading(&mut self) {
        self.priority = self.settings.priority;
        self.quorum = 0;
        self.quorum_lost = None;
        self.standbys.clear();
        // A node that was removed before this one leads counts from now on.
        self.lease_members_changed();
        self.votes = super::Votes::new(self.settings.consensus.vote_lifetime);
        for peer in &mut self.peers {
            peer.missed_beacons = 0;
            if peer.lost_since.is_some() {
                peer.lost_since = Some(self.now);
            }
        }
        self.timer = Some(self.now + times::REPLY);
        let active = self.active();
        self.say_declaring(active.is_empty());
        if active.is_empty() {
            // Nobody can object. Stock nodes wait for four seconds all the same.
            return self.confirm_leadership();
        }
        self.command(Kind::Declare, &active);
    }

    /// Nobody has objected.
    pub(super) fn confirm_leadership(&mut self) {
        self.leader = Some(Leader::Own);
        // So that the first look at the quorum sees a change, whatever it finds.
        self.quorum = NOT_LOOKED;
        self.lease_leading();
        self.settle_down();
    }

    pub(super) fn stop_leading(&mut self) {
        self.leader = None;
        self.quorum = 0;
        self.deescalate();
        self.standbys.clear();
        self.votes = super::Votes::new(self.settings.consensus.vote_lifetime);
        self.drop_failovers();
        self.lease.stop_leading();
    }

    /// Ten seconds, or less with a short dead time: a leader that is cut off one way must know before
    /// the others have another one for long.
    pub(super) fn beacon_interval(&self) -> Duration {
        let quarter = self.settings.lifecheck.silence() / (times::TOLERATED + 1);
        quarter.clamp(Duration::from_secs(1), times::BEACON)
    }

    pub(super) fn time_for_beacon(&mut self) {
        self.timer = Some(self.now + self.beacon_interval());
        self.send_beacon();
    }

    pub(super) fn send_beacon(&mut self) {
        // A round that is replaced by the next one has gone unanswered.
        let active = self.active();
        self.command(Kind::Beacon, &active);
    }

    pub(super) fn beacon_finished(&mut self, replies: &[(PeerId, bool)], end: &End) {
        if let End::Rejected(by) | End::Errored(by) = end {
            self.remove_standby(*by);
        }
        for (peer, replied) in replies {
            let record = &mut self.peers[*peer];
            if *replied {
                record.missed_beacons = 0;
            } else if record.state == State::Standby && *end == End::TimedOut {
                record.missed_beacons += 1;
                if record.missed_beacons > times::TOLERATED {
                    self.lose(*peer, LostReason::MissingBeaconReplies);
                }
            }
        }
    }

    pub(super) fn remove_standby(&mut self, peer: PeerId) {
        self.lease_lost(peer);
        if self.standbys.contains(&peer) {
            self.standbys.retain(|known| *known != peer);
            if self.peers[peer].state == State::Lost {
                self.peers[peer].lost_since = Some(self.now);
            }
            self.log(format!(
                "removing watchdog node \"{}\" from the standby list",
                self.peer_label(peer)
            ));
        }
    }

    pub(super) fn escalate(&mut self) {
        if !self.escalated {
            self.escalated = true;
            self.out.push(Action::Escalate);
        }
    }

    pub(super) fn deescalate(&mut self) {
        if self.escalated {
            self.escalated = false;
            self.out.push(Action::DeEscalate);
        }
    }

    /// A standby whose leader is silent asks it after 20 s, and gives it up after 30 s, closing the
    /// connections so that the leader learns of it (as 4.3.17 and its siblings). One that answers no questions about
    /// the write lease is given up after the dead time.
    pub(super) fn watch_leader(&mut self) {
        if let Some((leader, at)) = self.lease_silence()
            && at <= self.now
        {
            return self.lose(leader, LostReason::Silence);
        }
        let Some((leader, heard)) = self.watched() else {
            return;
        };
        let silence = self.now.saturating_duration_since(heard);
        if silence >= times::LEADER_SILENT {
            self.lose(leader, LostReason::Silence);
        } else if silence >= times::LEADER_QUIET {
            let recently = self
                .asked_leader
                .is_some_and(|at| self.now.saturating_duration_since(at) < times::REPLY);
            if !recently {
                self.asked_leader = Some(self.now);
                self.send_new(leader, Message::RequestInfo);
            }
        }
    }

    fn watched(&self) -> Option<(PeerId, Instant)> {
        match (self.state, self.leader) {
            (State::Standby, Some(Leader::Peer(leader))) => {
                let heard = self.peers[leader].heard.unwrap_or(self.state_since);
                Some((leader, heard.max(self.state_since)))
            }
            _ => None,
        }
    }

    pub(super) fn next_silence(&self) -> Option<Instant> {
        let (_, heard) = self.watched()?;
        let quiet = heard + times::LEADER_QUIET;
        let next = if quiet > self.now {
            quiet
        } else {
            let again = self.asked_leader.unwrap_or(self.now) + times::REPLY;
            again.min(heard + times::LEADER_SILENT)
        };
        let deaf = self.lease_silence().map(|(_, at)| at);
        deaf.into_iter().chain([next]).min()
    }

    /// This leader cannot reach the primary, and the others can.
    pub(super) fn resign(&mut self) {
        self.warn(
            "the vote against the primary, which this leader cannot reach, found no consensus: another node shall lead",
            "look at the network between this host and the primary",
        );
        self.priority = -1;
        self.broadcast_service(Service::IResign, None);
        self.enter(State::Joining);
    }

    pub(super) fn tell_failover(&mut self, message: Message) {
        if self.state == State::Leader {
            self.broadcast(message);
        }
    }

    /// Marks a request that comes from the watchdog, so that it is not asked again.
    pub(super) fn begin_failover(&mut self, mut request: super::FailoverRequest) {
        use crate::watchdog::codec::function::{Credentials, Flags};
        request.credentials = Credentials::default();
        request.flags = request.flags.with(Flags::WATCHDOG);
        self.out.push(Action::Failover(request));
    }
}
