//! The states of a node and what moves it between them, as section 6.3 of the protocol has it.

use super::{
    Action, Core, Leader, Message, PeerId, State,
    commands::{End, Kind},
    peer::{LostReason, Peer},
    times,
};
use crate::watchdog::codec::{Service, ipc_answer::Membership};

impl Core {
    /// Moves on and does what a state begins with. The same state again is no change.
    pub(super) fn enter(&mut self, state: State) {
        if self.state == state || self.ended {
            return;
        }
        if self.state == State::Leader {
            self.stop_leading();
        }
        let before = std::mem::replace(&mut self.state, state);
        let followed = before == State::Standby;
        self.say_state(before, state);
        self.state_since = self.now;
        self.pending.clear();
        self.timer = None;
        self.lease.stop_following();
        if followed {
            // Without a leader nobody's word stands against the lease.
            self.lease_members_changed();
        }
        match state {
            State::Loading => self.timer = Some(self.now + times::REPLY),
            State::Joining => {
                self.leader = None;
                for peer in 0..self.peers.len() {
                    let record = &self.peers[peer];
                    if record.state != State::Shutdown && record.best().is_none() {
                        self.dial(peer);
                    }
                }
                self.timer = Some(self.now + times::REPLY);
                let active = self.active();
                self.command(Kind::RequestInfo, &active);
            }
            State::Initializing => self.timer = Some(self.now + times::INITIALIZING),
            State::StandForLeader => {
                self.timer = Some(self.now + times::REPLY);
                let active = self.active();
                self.command(Kind::Stand, &active);
            }
            State::ParticipateInElection => self.timer = Some(self.now + times::REPLY),
            State::Leader => self.begin_leading(),
            State::Standby => {
                self.priority = self.settings.priority;
                self.timer = Some(self.now + times::STANDBY);
                if let Some(Leader::Peer(leader)) = self.leader {
                    self.follows(leader);
                }
                self.join();
            }
            State::NetworkIsolation => self.timer = Some(self.now + times::ISOLATION),
            _ => {}
        }
        self.broadcast_info();
    }

    pub(super) fn state_timeout(&mut self) {
        match self.state {
            State::Loading | State::ParticipateInElection | State::NetworkIsolation => {
                self.enter(State::Joining);
            }
            State::Joining => self.enter(State::Initializing),
            State::Initializing => self.initialized(),
            State::StandForLeader => self.enter(State::Leader),
            State::Leader => self.time_for_beacon(),
            State::Standby => self.timer = Some(self.now + times::STANDBY),
            _ => {}
        }
    }

    fn initialized(&mut self) {
        let active = self.active();
        let standing = |peer: &PeerId| self.peers[*peer].state == State::StandForLeader;
        self.enter(if self.leader.is_some() {
            State::Standby
        } else if active.is_empty() {
            State::Leader
        } else if active.iter().any(standing) {
            State::ParticipateInElection
        } else {
            State::StandForLeader
        });
    }

    /// Somebody stands for leader.
    pub(super) fn stands(&mut self, peer: PeerId, id: u32) {
        let theirs = self.peers[peer].priority();
        match self.state {
            State::Loading | State::Joining => {
                if self.priority > theirs {
                    self.send(peer, id, Message::Reject);
                    self.enter(State::StandForLeader);
                } else {
                    self.send(peer, id, Message::Accept);
                    self.enter(State::ParticipateInElection);
                }
            }
            // Stock nodes are silent here, and the candidate waits for four seconds.
            State::Initializing if self.leader.is_none() => {
                let equal = self.priority == theirs;
                let before = equal && self.comes_before(peer) == Some(true);
                if self.priority > theirs || before {
                    self.send(peer, id, Message::Reject);
                    self.enter(State::StandForLeader);
                } else {
                    self.send(peer, id, Message::Accept);
                    self.enter(State::ParticipateInElection);
                }
            }
            // It wants to lead itself only when it has joined the others again.
            State::NetworkIsolation if self.leader.is_none() => {
                self.send(peer, id, Message::Accept);
            }
            State::StandForLeader => {
                if self.has_more_right_than(peer) {
                    self.send(peer, id, Message::Reject);
                } else {
                    self.send(peer, id, Message::Accept);
                    self.enter(State::ParticipateInElection);
                }
            }
            State::ParticipateInElection => {
                if theirs >= self.priority {
                    self.send(peer, id, Message::Accept);
                } else {
                    self.send(peer, id, Message::Reject);
                    self.enter(State::StandForLeader);
                }
            }
            State::Leader => {
                self.send(peer, id, Message::Reject);
            }
            State::Standby => match self.leader {
                None => {
                    self.send(peer, id, Message::Accept);
                    self.enter(State::ParticipateInElection);
                }
                Some(_) => self.defend_leader(peer, id),
            },
            // Silence is how stock nodes answer, too.
            _ => {}
        }
    }

    /// Somebody says that it is the leader now.
    pub(super) fn declares(&mut self, peer: PeerId, id: u32) {
        let theirs = self.peers[peer].priority();
        match self.state {
            State::StandForLeader => {
                if self.priority > theirs {
                    self.send(peer, id, Message::Reject);
                } else {
                    self.send(peer, id, Message::Accept);
                    self.enter(State::Joining);
                }
            }
            State::ParticipateInElection => {
                if theirs >= self.priority {
                    self.send(peer, id, Message::Accept);
                    self.enter(State::Initializing);
                } else {
                    self.send(peer, id, Message::Reject);
                    self.enter(State::StandForLeader);
                }
            }
            State::Leader => {
                self.send(peer, id, Message::Error);
            }
            // Who has stood meanwhile is not stood against; it says itself that it leads. Stock nodes are
            // silent, which counts as a yes after four seconds.
            State::Loading | State::Joining | State::Initializing | State::NetworkIsolation
                if self.leader.is_none() =>
            {
                self.send(peer, id, Message::Accept);
            }
            State::Standby if self.leader != Some(Leader::Peer(peer)) => {
                self.defend_leader(peer, id);
            }
            _ => {}
        }
    }

    /// Among candidates. Of equals the older one leads, by whole seconds; of the same second a node of ours gives way
    /// to a stock node, which rejects it.
    fn has_more_right_than(&self, peer: PeerId) -> bool {
        let theirs = self.peers[peer].priority();
        if self.priority != theirs {
            return self.priority > theirs;
        }
        if let Some(before) = self.comes_before(peer) {
            return before;
        }
        let record = &self.peers[peer];
        let (mine, theirs) = (self.seconds(self.started), record.age(self.now));
        mine > theirs || (mine == theirs && is_ours(record) && self.has_lower_number(peer))
    }

    /// Among equals, when all that are known are nodes of ours: the lower number leads. Their ages are read at
    /// different times, so that both may take themselves for the older one, reject each other and lose five
    /// seconds. `None`: there is a stock node, and all go by one order, which is that of the ages.
    fn comes_before(&self, peer: PeerId) -> Option<bool> {
        let mut known = self.peers.iter().filter(|peer| peer.info.is_some());
        known.all(is_ours).then(|| self.has_lower_number(peer))
    }

    fn has_lower_number(&self, peer: PeerId) -> bool {
        let info = self.peers[peer].info.as_ref();
        let number = info.and_then(|info| info.node_id);
        number.is_some_and(|number| self.settings.node_id < number)
    }

    /// A standby that has a leader wants no other, and looks whether its own still lives.
    fn defend_leader(&mut self, peer: PeerId, id: u32) {
        self.send(peer, id, Message::Error);
        if let Some(Leader::Peer(leader)) = self.leader {
            self.send_new(leader, Message::RequestInfo);
        }
    }

    pub(super) fn join(&mut self) {
        if let Some(Leader::Peer(leader)) = self.leader {
            self.command(Kind::Join, &[leader]);
        }
    }

    pub(super) fn join_finished(&mut self, end: &End) {
        match end {
            // No answer counts as a yes.
            End::AllReplied | End::TimedOut => {
                let leader = match self.leader {
                    Some(Leader::Peer(leader)) => Some(leader),
                    _ => None,
                };
                self.say_joined(leader);
                self.lease_joined();
                self.settle_down();
                self.broadcast_info();
                self.ask_backends();
            }
            End::Rejected(by) | End::Errored(by) => {
                self.enter(if self.peers[*by].has_lost_us {
                    State::NetworkIsolation
                } else {
                    State::Joining
                });
            }
        }
    }

    pub(super) fn settle_down(&mut self) {
        if !self.settled {
            self.settled = true;
            self.out.push(Action::Settled);
        }
    }

    pub(super) fn service(&mut self, peer: PeerId, id: u32, service: Service) {
        let from_leader = self.leader == Some(Leader::Peer(peer));
        match service {
            Service::SplitBrain => {
                for peer in 0..self.peers.len() {
                    if self.peers[peer].best().is_none() {
                        self.dial(peer);
                    }
                }
                if self.state == State::Leader {
                    self.send_beacon();
                }
            }
            Service::NeedsElection => self.enter(State::Joining),
            Service::IAmTrueLeader => {
                if self.state == State::Leader {
                    self.broadcast_service(Service::IResign, None);
                    self.enter(State::Joining);
                } else if self.leader.is_some() && !from_leader {
                    self.broadcast_service(Service::NeedsElection, None);
                }
            }
            Service::IAmNotTrueLeader | Service::IResign => {
                if from_leader {
                    self.enter(State::Joining);
                }
            }
            Service::InvalidVersion => self.warn(
                format!(
                    "{} could not read a packet of this node (command {id})",
                    self.peer_label(peer)
                ),
                "stock nodes end here; this one goes on. Are all nodes of releases that work together?",
            ),
            Service::RequireReload => match self.state {
                State::Standby => self.join(),
                State::NetworkIsolation => self.enter(State::Joining),
                _ => {}
            },
            Service::YouAppearLost => {
                self.peers[peer].has_lost_us = true;
                if self.state == State::Leader {
                    self.remove_standby(peer);
                } else if self.state == State::Standby && from_leader {
                    self.enter(State::Joining);
                }
            }
            Service::YouAreFoundAgain => {
                self.peers[peer].has_lost_us = false;
                match self.state {
                    State::Standby => {
                        let info = Message::NodeInfo(Box::new(self.info()));
                        self.send_new(peer, info);
                    }
                    State::Leader => self.recall(peer),
                    State::NetworkIsolation => self.enter(State::Joining),
                    _ => {}
                }
            }
            Service::QuorumLost | Service::QuorumFound => {}
        }
    }

    /// The lifecheck's word.
    pub(super) fn lifecheck(&mut self, peer: PeerId, alive: bool) {
        let Some(record) = self.peers.get(peer) else {
            return;
        };
        if alive {
            if record.state == State::Lost && record.lost == Some(LostReason::Lifecheck) {
                self.found(peer);
            }
        } else if !matches!(record.state, State::Dead | State::Lost | State::Shutdown) {
            self.lose(peer, LostReason::Lifecheck);
        } else if record.state == State::Lost {
            self.peers[peer].lost = Some(LostReason::Lifecheck);
        }
    }

    pub(super) fn lose(&mut self, peer: PeerId, reason: LostReason) {
        let label = self.peer_label(peer);
        if reason == LostReason::Shutdown {
            self.log(format!("remote node \"{label}\" is shutting down"));
            self.lease_gone(peer);
            if self.settings.quorum.remove_shutdown_nodes {
                self.revoke(peer, Membership::RevokedShutdown);
            }
        } else {
            self.warn(
                format!("remote node \"{label}\" is lost: {}", reason.text()),
                reason.hint(),
            );
            let record = &mut self.peers[peer];
            record.state = State::Lost;
            record.lost = Some(reason);
            record.lost_since = Some(self.now);
            if self.peers[peer].best().is_some() {
                self.send_new(peer, Message::Service(Service::YouAppearLost));
            }
        }
        let was_leader = self.leader == Some(Leader::Peer(peer));
        if was_leader {
            self.say_leader_lost(peer);
            self.leader = None;
        }
        self.close_both(peer);
        let record = &mut self.peers[peer];
        record.send_failures = 0;
        record.missed_beacons = 0;
        self.remove_standby(peer);
        self.forget_forwards(peer);
        if was_leader && self.state == State::Standby {
            self.enter(State::Joining);
        }
    }

    pub(super) fn found(&mut self, peer: PeerId) {
        self.log(format!(
            "remote node \"{}\" became reachable again",
            self.peer_label(peer)
        ));
        let record = &mut self.peers[peer];
        record.state = State::Loading;
        record.lost = None;
        record.lost_since = None;
        record.membership = Membership::Member;
        self.lease_members_changed();
        self.send_new(peer, Message::Service(Service::YouAreFoundAgain));
        match self.state {
            State::Leader => {
                self.send_new(peer, Message::RequestInfo);
                self.recall(peer);
            }
            State::NetworkIsolation => self.enter(State::Joining),
            _ => {}
        }
    }

    /// Asks a node that was away to join anew.
    pub(super) fn recall(&mut self, peer: PeerId) {
        let service = if self.peers[peer].knows_reload() {
            Service::RequireReload
        } else {
            Service::NeedsElection
        };
        self.send_new(peer, Message::Service(service));
    }
}

/// Only nodes of ours say how long their write lease is, if they keep none, too.
fn is_ours(peer: &Peer) -> bool {
    peer.info
        .as_ref()
        .is_some_and(|info| info.write_lease_ms.is_some())
}
