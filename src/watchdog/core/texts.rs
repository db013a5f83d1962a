//! Lines of the log that operators and monitors look for, in the words of stock nodes. A DETAIL of theirs
//! stands behind a colon in the same line.

use super::{Core, PeerId, State};
use crate::watchdog::codec::function::FailoverRequest;

impl Core {
    /// Releases before 4.2 have another word for it.
    fn leader_word(&self) -> &'static str {
        if self.settings.local_numbers {
            "master"
        } else {
            "leader"
        }
    }

    pub(super) fn say_state(&mut self, before: State, state: State) {
        let old = self.settings.local_numbers;
        self.log(format!(
            "watchdog node state changed from [{}] to [{}]",
            before.name(old),
            state.name(old)
        ));
    }

    pub(super) fn say_declaring(&mut self, alone: bool) {
        let word = self.leader_word();
        if alone {
            self.log("I am the only alive node in the watchdog cluster");
        }
        self.log(format!(
            "I am announcing my self as {word}/coordinator watchdog node"
        ));
    }

    /// The leader's quorum, when it is seen for the first time or has changed.
    pub(super) fn say_quorum(&mut self, first: bool, before: i32, quorum: i32) {
        let word = self.leader_word();
        let node = format!("I am the cluster {word} node");
        match (first, quorum >= 0) {
            (true, true) => self.log(format!("{node}. Starting escalation process")),
            (true, false) => self.log(format!(
                "{node} but we do not have enough nodes in cluster: waiting for the quorum to start escalation process"
            )),
            (false, true) if before < 0 => self.log("quorum found: starting escalation process"),
            (false, false) => self.warn(
                "We have lost the quorum",
                "look at the other nodes and at the network between them",
            ),
            (false, true) => {}
        }
    }

    pub(super) fn say_joined(&mut self, leader: Option<PeerId>) {
        let leader = leader.map(|leader| self.peer_label(leader));
        self.log(format!(
            "successfully joined the watchdog cluster as standby node: our join coordinator request is accepted by cluster {} node \"{}\"",
            self.leader_word(),
            leader.unwrap_or_default()
        ));
    }

    pub(super) fn say_leader_lost(&mut self, peer: PeerId) {
        self.log("watchdog cluster has lost the coordinator node");
        if self.state == State::Standby {
            self.log(format!(
                "We have lost the cluster {} node \"{}\"",
                self.leader_word(),
                self.peer_label(peer)
            ));
        }
    }

    /// `from`: the node that asks; `None`: this one.
    pub(super) fn say_processing(&mut self, request: &FailoverRequest, from: Option<PeerId>) {
        let from = match from {
            Some(peer) => self.peer_label(peer),
            None => "local pgpool-II on IPC interface".to_owned(),
        };
        self.log(format!(
            "watchdog is processing the failover command [{}] received from {from}: node {}",
            request.kind.word(),
            request.node
        ));
    }
}
