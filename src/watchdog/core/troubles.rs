//! Why another node cannot be reached or understood: one line for each change, however often it is tried.

use super::{Conn, Core, PeerId, State, strangers::short};

/// Of one other node.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    /// Attempts to connect that have failed since the last one that did not.
    failures: u32,
    /// The last reason that the log has.
    unreachable: Option<String>,
    /// Why packets could not be read, each once until the node introduces itself anew.
    unreadable: Vec<String>,
}

/// Reasons of unreadable packets that are kept for a node; whoever sends more kinds of them is told of no
/// more.
const KINDS: usize = 8;

impl Core {
    /// An attempt to connect has failed.
    pub(super) fn unreachable(&mut self, conn: Conn, why: String) {
        let Some(peer) = self.links.peer(conn) else {
            return;
        };
        let record = &mut self.peers[peer];
        record.troubles.failures = record.troubles.failures.saturating_add(1);
        // One that has said that it goes is expected to be away, and nodes that are started together are not all
        // there at once.
        let is_news = record.state != State::Shutdown
            && record.troubles.failures > 1
            && record.troubles.unreachable.as_ref() != Some(&why);
        if is_news {
            let member = &record.member;
            let text = format!(
                "watchdog node \"{}\" cannot be reached at {}:{}: {why}",
                record.label(),
                member.host,
                member.wd_port
            );
            record.troubles.unreachable = Some(why);
            self.warn(
                text,
                "is pgpool running there? Compare host name and wd_port, and look at firewalls between the hosts",
            );
        }
    }

    pub(super) fn reached(&mut self, peer: PeerId) {
        let record = &mut self.peers[peer];
        record.troubles.failures = 0;
        if record.troubles.unreachable.take().is_some() {
            let text = format!("watchdog node \"{}\" can be reached now", record.label());
            self.log(text);
        }
    }

    /// `why`: completes "packet from NODE". Strangers are not worth a line: whoever reaches the port could
    /// fill the log.
    pub(super) fn unreadable(&mut self, conn: Conn, why: String) {
        let Some(peer) = self.links.peer(conn) else {
            return;
        };
        let why = short(&why);
        let record = &mut self.peers[peer];
        let known = &mut record.troubles.unreadable;
        if known.len() >= KINDS || known.contains(&why) {
            return;
        }
        let text = format!(
            "a packet from watchdog node \"{}\" cannot be read and is dropped: {why}",
            record.label()
        );
        record.troubles.unreadable.push(why);
        self.warn(
            text,
            "are the nodes of releases that work together? The same is not said again until that node reconnects",
        );
    }

    pub(super) fn introduced_anew(&mut self, peer: PeerId) {
        self.peers[peer].troubles.unreadable.clear();
    }
}
