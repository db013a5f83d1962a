//! One line for the log that says who leads, the quorum, who holds the address and why; when it changes.

use super::{Core, Leader, State};

/// What the line is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    leader: Leader,
    quorum: i32,
    escalated: bool,
    /// Of a leader: who has joined, and who could.
    joined: usize,
    members: usize,
}

impl Core {
    pub(super) fn summarise(&mut self) {
        let summary = match (self.state, self.leader) {
            (State::Leader, Some(Leader::Own)) => Summary {
                leader: Leader::Own,
                quorum: self.quorum,
                escalated: self.escalated,
                joined: self.standbys.len(),
                members: self.member_count(),
            },
            (State::Standby, Some(Leader::Peer(peer))) => Summary {
                leader: Leader::Peer(peer),
                quorum: self.peers[peer].standing.quorum,
                escalated: self.peers[peer].standing.escalated,
                joined: 0,
                members: 0,
            },
            _ => return,
        };
        if self.summary != Some(summary) {
            self.summary = Some(summary);
            let line = self.line(summary);
            self.log(line);
        }
    }

    fn line(&self, summary: Summary) -> String {
        let quorum = match summary.quorum {
            1.. => "the quorum exists",
            0 => "the quorum is on the edge",
            -1 => "there is no quorum",
            _ => "the quorum is not known yet",
        };
        let ip = &self.settings.delegate_ip;
        let address = |text: &str| match ip.as_str() {
            "" => "there is no virtual IP".to_owned(),
            ip => format!("the virtual IP {ip} {text}"),
        };
        match summary.leader {
            Leader::Own => format!(
                "watchdog: this node leads, {quorum} ({} of {} other nodes have joined), {}",
                summary.joined,
                summary.members,
                address(if summary.escalated {
                    "belongs here, because this node leads with quorum"
                } else {
                    "does not belong here, because there is no quorum"
                }),
            ),
            Leader::Peer(peer) => format!(
                "watchdog: {} leads, {quorum}, {}",
                self.peer_label(peer),
                address(if summary.escalated {
                    "is held there"
                } else {
                    "is held by nobody"
                }),
            ),
        }
    }
}
