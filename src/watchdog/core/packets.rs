//! Packets: what every state makes of them, section 6.4 of the protocol.

use super::{Action, Core, Leader, Message, PeerId, State, peer::LostReason};
use crate::watchdog::codec::{
    Service,
    node_info::{Beacon, NodeInfo},
};

impl Core {
    pub(super) fn packet(&mut self, peer: PeerId, id: u32, message: Message) {
        if let Message::NodeInfo(info) = message {
            let is_reply = self.told(peer, id, info);
            if !is_reply && self.state == State::Loading {
                self.told_while_loading();
            }
            return;
        }
        if self.is_reply(peer, id, &message) || self.is_forwarded_answer(peer, id, &message) {
            return;
        }
        match message {
            Message::AddNode(info) => {
                self.peers[peer].take_over(info, self.now);
                self.added(peer, id);
            }
            Message::GoingDown => {
                self.peers[peer].state = State::Shutdown;
                self.lose(peer, LostReason::Shutdown);
            }
            Message::RequestInfo => {
                let info = Message::NodeInfo(Box::new(self.info()));
                self.send(peer, id, info);
            }
            Message::StandForLeader => self.stands(peer, id),
            Message::DeclareLeader => self.declares(peer, id),
            Message::JoinLeader => self.joins(peer, id),
            Message::Beacon(beacon) => self.beacon_came(peer, id, beacon),
            Message::Service(service) => self.service(peer, id, service),
            Message::AskConfig => self.answer_config(peer, id),
            Message::Config(data) => self.config_came(peer, &data),
            Message::DataRequest(_) => self.data_asked(peer, id),
            Message::Data(status) => self.data_came(peer, id, status),
            Message::WaitingForConsensus => self.consensus_is_missing(),
            Message::FailoverEnd if self.state == State::Standby => self.ask_backends(),
            Message::Failover(request) => self.voted(peer, id, request),
            Message::ClusterCommand(command) => {
                let from_leader =
                    self.state == State::Standby && self.peers[peer].state == State::Leader;
                self.out.push(Action::Run {
                    command,
                    from_leader,
                });
            }
            Message::LeaseAsk(ask) => self.lease_asked(peer, id, ask),
            Message::LeaseGrant(grant) => self.lease_granted(peer, grant),
            // The second stage of online recovery, which no mode of ours uses.
            Message::Recovery(_) => {
                self.send(peer, id, Message::Reject);
            }
            // FAILOVER START says nothing that END does not; the rest is nobody's question.
            _ => {}
        }
    }

    /// `I` in LOADING: the cluster lives, no need to wait for the others.
    fn told_while_loading(&mut self) {
        let waits = self.peers.iter().any(|p| p.state == State::AddMessageSent);
        if !waits {
            self.enter(State::Initializing);
        }
    }

    /// NODE INFO, whether asked for or not. True if it answers a command of ours.
    fn told(&mut self, peer: PeerId, id: u32, info: Box<NodeInfo>) -> bool {
        let before = self.peers[peer].state;
        let quorum_before = self.peers[peer].standing.quorum;
        let announced = info.state;
        self.peers[peer].take_over(info, self.now);
        self.lease_members_changed();
        let by_lifecheck = self.peers[peer].lost == Some(LostReason::Lifecheck);
        if before == State::Lost && by_lifecheck {
            self.peers[peer].state = State::Lost;
        } else {
            if announced == State::Leader {
                self.leader_announced(peer);
            } else if self.leader == Some(Leader::Peer(peer)) {
                self.leader = None;
                if self.state == State::Standby {
                    self.enter(State::Joining);
                }
            } else if announced != State::Standby {
                self.remove_standby(peer);
            }
            if self.leader == Some(Leader::Peer(peer)) {
                let quorum = self.peers[peer].standing.quorum;
                if quorum_before < 0 && quorum >= 0 {
                    self.out.push(Action::ReleaseQuarantined);
                }
                self.lease_leader_spoke();
            }
            if before == State::Lost {
                self.found(peer);
            }
        }
        let is_reply = self.is_reply(peer, id, &Message::Accept);
        if is_reply {
            self.recall_forgotten(peer);
        }
        is_reply
    }

    /// Who answers our beacon as a standby believes that it has joined us. When its request went
    /// unanswered, which counts as a yes, we know nothing of it.
    fn recall_forgotten(&mut self, peer: PeerId) {
        let believes = self.peers[peer].state == State::Standby;
        if believes && self.leader == Some(Leader::Own) && !self.standbys.contains(&peer) {
            self.recall(peer);
        }
    }

    /// A node says that it leads.
    pub(super) fn leader_announced(&mut self, peer: PeerId) {
        match self.leader {
            None if self.state == State::Leader => self.decide_split_brain(peer),
            None => self.leader = Some(Leader::Peer(peer)),
            Some(Leader::Peer(known)) if known == peer => {}
            Some(Leader::Own) => self.decide_split_brain(peer),
            Some(Leader::Peer(_)) => self.broadcast_service(Service::SplitBrain, None),
        }
    }

    /// An introduction that is more than the first packet of a connection.
    pub(super) fn added(&mut self, peer: PeerId, id: u32) {
        if self.state == State::Leader {
            self.remove_standby(peer);
        }
        let info = Message::NodeInfo(Box::new(self.info()));
        self.send(peer, id, info);
        let restarted = self.peers[peer].state != State::Leader;
        if restarted && self.leader == Some(Leader::Peer(peer)) && self.state == State::Standby {
            self.leader = None;
            self.enter(State::Joining);
        }
    }

    fn joins(&mut self, peer: PeerId, id: u32) {
        if self.state != State::Leader {
            self.send(peer, id, Message::Reject);
            return;
        }
        if self.peers[peer].state == State::Lost {
            self.send(peer, id, Message::Reject);
            return;
        }
        self.send(peer, id, Message::Accept);
        self.send_new(peer, Message::AskConfig);
        self.peers[peer].missed_beacons = 0;
        if !self.standbys.contains(&peer) {
            self.log(format!(
                "adding watchdog node \"{}\" to the standby list",
                self.peer_label(peer)
            ));
            self.standbys.push(peer);
        }
        self.lease_new_standby(peer);
    }

    fn beacon_came(&mut self, peer: PeerId, id: u32, beacon: Option<Beacon>) {
        let take = |core: &mut Core| {
            if let Some(beacon) = beacon {
                let now = core.now;
                let record = &mut core.peers[peer];
                record.state = beacon.state;
                record.standing = beacon.standing;
                record.told_at = Some(now);
            }
        };
        let lost = self.peers[peer].state == State::Lost;
        match (self.state, self.leader) {
            (State::Leader, _) => {
                if beacon.is_none() {
                    let service = Message::Service(Service::NeedsElection);
                    self.send(peer, id, service);
                    return self.enter(State::Joining);
                }
                take(self);
                self.decide_split_brain(peer);
            }
            (_, Some(Leader::Peer(leader))) if leader == peer => {
                take(self);
                let info = Message::NodeInfo(Box::new(self.info()));
                self.send(peer, id, info);
            }
            (_, Some(_)) => self.broadcast_service(Service::SplitBrain, Some(id)),
            (State::ParticipateInElection, None) if !lost => {
                take(self);
                self.enter(State::Joining);
            }
            (_, None) => {}
        }
    }
}
