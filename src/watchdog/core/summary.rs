//! One line for the log that says who leads, the quorum, who holds the address and why; when it changes.
//! It says no more than is known here: of another node's address only what that one claims.

use std::time::{Duration, Instant};

use super::{Core, Leader, PeerId, State};

/// An election is shorter, and its end is what counts.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first one after a start, of a node that finds itself alone, takes 14 s.
const PATIENCE_AT_START: Duration = Duration::from_secs(20);

/// What the line is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Summary {
    Leads {
        quorum: i32,
        escalated: bool,
        /// There would be a quorum, but for the write lease.
        lease_is_missing: bool,
        /// Who has joined, and who could.
        joined: usize,
        members: usize,
    },
    Follows {
        leader: PeerId,
        quorum: i32,
        escalated: bool,
    },
    Nobody,
}

/// The last line, and what the next one depends on.
#[derive(Debug, Default)]
pub(super) struct Summaries {
    /// `bool`: the address was on this host.
    said: Option<(Summary, bool)>,
    nobody_since: Option<Instant>,
    pub address_is_here: bool,
}

impl Summaries {
    /// When a line is due about nobody.
    pub fn next(&self) -> Option<Instant> {
        let is_said = self.said.is_some_and(|(said, _)| said == Summary::Nobody);
        self.nobody_since
            .filter(|_| !is_said)
            .map(|since| since + self.patience())
    }

    fn patience(&self) -> Duration {
        match self.said {
            Some(_) => PATIENCE,
            None => PATIENCE_AT_START,
        }
    }
}

impl Core {
    pub(super) fn summarise(&mut self) {
        let summary = match (self.state, self.leader) {
            (State::Leader, Some(Leader::Own)) => Summary::Leads {
                quorum: self.quorum,
                escalated: self.escalated,
                lease_is_missing: self.lease_is_awaited(),
                joined: self.standbys.len(),
                members: self.member_count(),
            },
            (State::Standby, Some(Leader::Peer(leader))) => Summary::Follows {
                leader,
                quorum: self.peers[leader].standing.quorum,
                escalated: self.peers[leader].standing.escalated,
            },
            _ => Summary::Nobody,
        };
        if summary == Summary::Nobody {
            let since = *self.summaries.nobody_since.get_or_insert(self.now);
            if self.now < since + self.summaries.patience() {
                return;
            }
        } else {
            self.summaries.nobody_since = None;
        }
        let known = Some((summary, self.summaries.address_is_here));
        if std::mem::replace(&mut self.summaries.said, known) != known {
            let line = self.line(summary);
            self.log(line);
        }
    }

    fn line(&self, summary: Summary) -> String {
        let here = self.summaries.address_is_here;
        match summary {
            Summary::Leads {
                quorum,
                escalated,
                lease_is_missing,
                joined,
                members,
            } => format!(
                "watchdog: this node leads, {}{} ({joined} of {members} other nodes have joined), {}",
                quorum_text(quorum),
                if lease_is_missing {
                    " without the write lease, which no majority has granted yet"
                } else {
                    ""
                },
                self.address(match (escalated, here) {
                    (true, true) => "is on this host, because this node leads with quorum",
                    (true, false) =>
                        "belongs here, because this node leads with quorum, and is not here yet",
                    (false, true) =>
                        "is still on this host and is given up, because there is no quorum",
                    (false, false) => "is not on this host, because there is no quorum",
                }),
            ),
            Summary::Follows {
                leader,
                quorum,
                escalated,
            } => format!(
                "watchdog: {} leads, {}, {}",
                self.peer_label(leader),
                quorum_text(quorum),
                self.address(match (escalated, here) {
                    (true, false) => "is claimed by that node",
                    (true, true) => "is claimed by that node and still on this host",
                    (false, false) => "is claimed by nobody",
                    (false, true) => "is claimed by nobody and still on this host",
                }),
            ),
            Summary::Nobody => format!(
                "watchdog: nobody leads, as far as this node knows (it is in state {}), {}",
                self.state.name(self.settings.local_numbers),
                self.address(if here {
                    "is still on this host"
                } else {
                    "is not on this host"
                }),
            ),
        }
    }

    fn address(&self, text: &str) -> String {
        match self.settings.delegate_ip.as_str() {
            "" => "there is no virtual IP".to_owned(),
            ip => format!("the virtual IP {ip} {text}"),
        }
    }
}

fn quorum_text(quorum: i32) -> &'static str {
    match quorum {
        1.. => "the quorum exists",
        0 => "the quorum is on the edge",
        -1 => "there is no quorum",
        _ => "the quorum is not known yet",
    }
}
