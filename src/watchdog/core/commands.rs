//! Packets to several nodes whose answers are waited for: B, C, J, M, S.

use std::time::{Duration, Instant};

use super::{Core, Message, PeerId, State, times};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    RequestInfo,
    Declare,
    Join,
    Beacon,
    Stand,
}

#[derive(Debug)]
pub(super) struct Pending {
    pub kind: Kind,
    id: u32,
    /// Who has got it, and whether that one has answered.
    sent: Vec<(PeerId, bool)>,
    pub deadline: Instant,
}

/// How a command ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    AllReplied,
    TimedOut,
    /// With REJECT, by this node.
    Rejected(PeerId),
    /// With ERROR.
    Errored(PeerId),
}

impl Core {
    /// Sends to these nodes and waits; an earlier command of the kind is forgotten.
    pub(super) fn command(&mut self, kind: Kind, to: &[PeerId]) {
        let (message, patience) = match kind {
            Kind::RequestInfo => (Message::RequestInfo, times::COMMAND),
            Kind::Declare => (Message::DeclareLeader, times::COMMAND),
            Kind::Stand => (Message::StandForLeader, times::COMMAND),
            Kind::Join => (Message::JoinLeader, times::LONG_COMMAND),
            Kind::Beacon => (
                Message::Beacon(Some(self.beacon())),
                self.beacon_interval().min(times::LONG_COMMAND),
            ),
        };
        self.command_with(kind, message, patience, to);
    }

    fn command_with(&mut self, kind: Kind, message: Message, patience: Duration, to: &[PeerId]) {
        self.pending.retain(|p| p.kind != kind);
        let id = self.ticket();
        let mut sent = Vec::new();
        for peer in to {
            if self.send(*peer, id, message.clone()) {
                sent.push((*peer, false));
            }
        }
        self.pending.push(Pending {
            kind,
            id,
            sent,
            deadline: self.now + patience,
        });
    }

    /// Is this the answer to a command? Then it says nothing else.
    pub(super) fn is_reply(&mut self, peer: PeerId, id: u32, message: &Message) -> bool {
        let end = match message {
            Message::Error => Some(End::Errored(peer)),
            Message::Reject => Some(End::Rejected(peer)),
            Message::Accept | Message::NodeInfo(_) => None,
            _ => return false,
        };
        let Some(place) = self
            .pending
            .iter()
            .position(|pending| pending.id == id && pending.sent.iter().any(|(to, _)| *to == peer))
        else {
            return false;
        };
        let pending = &mut self.pending[place];
        for (to, replied) in &mut pending.sent {
            *replied |= *to == peer;
        }
        let all = pending.sent.iter().all(|(_, replied)| *replied);
        if let Some(end) = end.or(all.then_some(End::AllReplied)) {
            let done = self.pending.remove(place);
            self.finish(&done, &end);
        }
        true
    }

    /// A node has introduced itself, and so has said what JOINING asks for. The question may have gone to
    /// connections that the others have closed while this process was suspended.
    pub(super) fn introduction_answers(&mut self, peer: PeerId) {
        let asks = |pending: &&mut Pending| pending.kind == Kind::RequestInfo;
        let Some(pending) = self.pending.iter_mut().find(asks) else {
            return;
        };
        let asked = pending.sent.iter_mut().find(|(to, _)| *to == peer);
        let Some((_, replied)) = asked else { return };
        *replied = true;
        if pending.sent.iter().all(|(_, replied)| *replied) {
            let id = pending.id;
            if let Some(place) = self.pending.iter().position(|p| p.id == id) {
                let done = self.pending.remove(place);
                self.finish(&done, &End::AllReplied);
            }
        }
    }

    pub(super) fn expire_commands(&mut self) {
        while let Some(place) = self.pending.iter().position(|p| p.deadline <= self.now) {
            let done = self.pending.remove(place);
            self.finish(&done, &End::TimedOut);
        }
    }

    fn finish(&mut self, done: &Pending, end: &End) {
        let rejected = matches!(end, End::Rejected(_) | End::Errored(_));
        match (done.kind, self.state) {
            (Kind::RequestInfo, State::Joining) if !rejected => self.enter(State::Initializing),
            (Kind::Stand, State::StandForLeader) => self.enter(match end {
                End::AllReplied | End::TimedOut => State::Leader,
                End::Rejected(_) => State::ParticipateInElection,
                End::Errored(_) => State::NetworkIsolation,
            }),
            (Kind::Declare, State::Leader) => {
                if rejected {
                    self.enter(State::Joining);
                } else {
                    self.confirm_leadership();
                }
            }
            (Kind::Join, State::Standby) => self.join_finished(end),
            (Kind::Beacon, State::Leader) => {
                let replies: Vec<(PeerId, bool)> = done.sent.clone();
                self.beacon_finished(&replies, end);
            }
            _ => {}
        }
    }
}
