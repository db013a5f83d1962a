//! Who knows which server is the primary, and the pause before that changes.

use super::{Adopting, Held};
use crate::watchdog::{
    codec::{
        message::{Picture, Reign},
        status::{BackendStatus, RemoteStatus},
    },
    core::{Action, Core, Leader, Message, PeerId, State, quorum::majority},
};

impl Core {
    pub(in crate::watchdog::core) fn lease_leading(&mut self) {
        self.lease.patience = Some(self.now + self.lease.acquisition());
        self.lease.next_round = Some(self.now);
    }

    /// Who leads a minority has none: nobody could support it, and the number would only make others begin
    /// anew.
    pub(super) fn has_reign(&mut self) -> bool {
        let enough = majority(self.peers.len() + 1);
        if !self.lease.reigns && 1 + self.standbys.len() >= enough {
            self.begin_reign(self.lease.reign);
        }
        self.lease.reigns
    }

    /// Higher than this one.
    pub(super) fn begin_reign(&mut self, above: Reign) {
        let lease = &mut self.lease;
        lease.renumbers = lease.decides(self.now) && lease.is_held(self.now);
        lease.reigns = true;
        lease.reign = Reign {
            number: above.number.saturating_add(1),
            node: self.settings.node_id,
        };
        lease.forget_answers();
        lease.patience = Some(self.now + lease.acquisition());
        lease.next_round = Some(self.now);
        self.remember();
    }

    /// A majority has answered in this reign. True when there is nothing more to learn from it.
    pub(super) fn establish(&mut self) -> bool {
        if self.lease.established {
            return true;
        }
        if self.lease.learning.is_some() || self.lease.adopting.is_some() {
            return false;
        }
        let newest = self
            .lease
            .pictures
            .iter()
            .max_by_key(|(_, picture)| **picture);
        if let Some((&peer, &picture)) = newest
            && picture > self.lease.picture
        {
            self.learn(peer, picture);
            return false;
        }
        let lease = &mut self.lease;
        lease.established = true;
        lease.renumbers = false;
        lease.picture = Picture {
            reign: lease.reign,
            change: 1,
        };
        lease.next_round = Some(self.now);
        self.remember();
        true
    }

    /// Asks for what the other node knows; until then what is known here may be outdated.
    fn learn(&mut self, peer: PeerId, picture: Picture) {
        self.lease.stop_serving(Held::Picture);
        self.lease.renumbers = false;
        self.lease.learning = Some((peer, picture));
        self.ask_backends_of(peer);
    }

    /// Of a standby: its leader has this picture.
    pub(super) fn take_picture(&mut self, leader: PeerId, picture: Picture) {
        self.lease.leaders_picture = Some(picture);
        let coming = self.lease.learning.map(|(_, picture)| picture);
        if picture > self.lease.picture.max(coming.unwrap_or_default()) {
            self.learn(leader, picture);
        }
    }

    /// The supervisor has taken over what it was told to. Before that this node knows no more than it did:
    /// its sessions go by what is published, and its next process by the status file.
    pub(in crate::watchdog::core) fn adopted(&mut self, number: u64) {
        let adopting = &mut self.lease.adopting;
        let Some(done) = adopting.take_if(|adopting| adopting.number == number) else {
            return;
        };
        if let Some(picture) = done.picture {
            let reached = |(_, wanted): &mut (PeerId, Picture)| *wanted <= picture;
            self.lease.learning.take_if(reached);
            self.lease.picture = self.lease.picture.max(picture);
            self.remember();
        }
        self.lease.next_round = Some(self.now);
        for (peer, id) in done.asked {
            self.data_asked(peer, id);
        }
    }

    /// Another node asks for the status of the backends. While that is being taken over from elsewhere,
    /// the answer waits.
    pub(in crate::watchdog::core) fn data_asked(&mut self, peer: PeerId, id: u32) {
        if let Some(adopting) = &mut self.lease.adopting {
            return adopting.asked.push((peer, id));
        }
        let data = self.backend_status();
        self.send(peer, id, data.map_or(Message::Error, Message::Data));
    }

    /// Does what the node says of the backends count? A new leader may know less than this standby: until it has
    /// shown its picture it may only learn.
    pub(in crate::watchdog::core) fn lease_believes(&self, peer: PeerId) -> bool {
        let learns = self.lease.learning.is_some_and(|(of, _)| of == peer);
        let knows = |picture: Picture| picture >= self.lease.picture;
        let follows = self.state == State::Standby && self.leader == Some(Leader::Peer(peer));
        learns || (follows && (!self.lease.on || self.lease.leaders_picture.is_some_and(knows)))
    }

    /// Of a leader: another node has this picture.
    pub(super) fn note_picture(&mut self, peer: PeerId, picture: Picture) {
        let before = self.picture_is_known();
        self.lease.pictures.insert(peer, picture);
        self.serve_as_leader();
        if !before && self.picture_is_known() {
            // Standbys that have asked too early ask again when their leader says something of itself.
            self.broadcast_info();
        }
    }

    /// A majority has the leader's.
    pub(super) fn picture_is_known(&self) -> bool {
        let lease = &self.lease;
        let have_it = lease.pictures.values().filter(|p| **p == lease.picture);
        lease.established && 1 + have_it.count() >= majority(self.peers.len() + 1)
    }

    /// What this node knows of the backends now.
    pub(in crate::watchdog::core) fn backends_came(&mut self, status: BackendStatus) {
        for (node, now) in status.nodes.iter().enumerate() {
            let before = self.backends.nodes.get(node);
            if *now == RemoteStatus::Down && before != Some(&RemoteStatus::Down) {
                // When it is attached again, old votes against it mean nothing.
                self.votes.drop_backend(node);
            }
        }
        let old = std::mem::replace(&mut self.backends, status);
        self.failovers.backends_came(old, &self.backends);
        self.note_primary();
    }

    /// That there is none any more is news as well: who does not know it would serve the one that is gone. But
    /// not before the failover is over: whoever leads next begins it anew, if this node is lost meanwhile.
    pub(in crate::watchdog::core) fn note_primary(&mut self) {
        let primary = self.backends.known_primary();
        let is_to_come = primary.is_none() && self.failovers.is_under_way();
        if is_to_come || primary == self.lease.primary {
            return;
        }
        self.lease.primary = primary;
        if !self.lease.on || !self.leader_is_own() {
            return;
        }
        self.lease
            .stop_serving(self.lease.paused.map_or(Held::Picture, |_| Held::Pause));
        if self.lease.established {
            self.lease.picture.change = self.lease.picture.change.saturating_add(1);
            self.lease.next_round = Some(self.now);
            self.remember();
        }
    }

    /// Nobody serves while a promotion waits or goes on.
    pub(in crate::watchdog::core) fn watch_pause(&mut self) {
        let wanted = self.lease.on && self.state == State::Leader && self.failovers.pauses();
        if wanted && self.lease.paused.is_none() {
            self.lease.paused = Some(self.lease.round.wrapping_add(1));
            self.lease.stop_serving(Held::Pause);
            self.lease.next_round = Some(self.now);
        } else if !wanted && self.lease.paused.take().is_some() {
            self.lease.next_round = Some(self.now);
            self.serve_as_leader();
        }
    }

    /// May a promotion begin? Nobody else serves by a lease or share any more.
    pub(in crate::watchdog::core) fn lease_allows_promotion(&self) -> bool {
        let lease = &self.lease;
        !lease.on
            || (lease.holds(self.now)
                && lease.paused.is_some()
                && self.all_are_bound()
                && lease.shares.values().all(|at| *at <= self.now))
    }

    /// Asked for what it knows of the backends, also by a leader that has to learn.
    pub(in crate::watchdog::core) fn ask_backends_of(&mut self, peer: PeerId) {
        let request = Message::DataRequest(Default::default());
        let id = self.send_new(peer, request);
        self.failovers.asked(id, self.now);
    }

    /// This node decides about the backends: it leads, and knows what a majority knows.
    pub fn coordinates(&self) -> bool {
        let lease = &self.lease;
        self.leader_is_own() && lease.adopting.is_none() && (!lease.on || lease.decides(self.now))
    }

    pub(in crate::watchdog::core) fn adopt(&mut self, status: BackendStatus, peer: PeerId) {
        self.give_up_failovers();
        let lease = &mut self.lease;
        lease.adoptions += 1;
        let number = lease.adoptions;
        let learned = lease.learning.filter(|(of, _)| *of == peer);
        let asked = lease.adopting.take().map(|before| before.asked);
        lease.adopting = Some(Adopting {
            number,
            picture: learned.map(|(_, picture)| picture),
            asked: asked.unwrap_or_default(),
        });
        self.out.push(Action::Adopt { number, status });
    }

    /// A node goes in order: it has stopped serving before it says so.
    pub(in crate::watchdog::core) fn lease_gone(&mut self, peer: PeerId) {
        self.lease.shares.remove(&peer);
    }

    /// A node is lost, or has restarted: what it has said counts no more, and neither does what it was asked.
    /// Its answers would make a majority whose pictures are not all known.
    pub(in crate::watchdog::core) fn lease_lost(&mut self, peer: PeerId) {
        self.lease.pictures.remove(&peer);
        self.lease.ready.remove(&peer);
        self.lease.unable.remove(&peer);
        // Its next process counts rounds from one again, and would take the answer for its own.
        self.lease.waiting.retain(|waiting| waiting.peer != peer);
        for round in &mut self.lease.rounds {
            round.answered.remove(&peer);
        }
        self.lease.learning.take_if(|(of, _)| *of == peer);
    }
}
