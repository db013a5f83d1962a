//! Changes of the cluster for the history of events: who leads, whether anything can be decided, and
//! whether this node has the virtual IP.

use std::time::{Duration, Instant};

use crate::{
    events::{History, Kind, Note, Step},
    watchdog::codec::ipc_answer::NodeList,
};

/// What has not lasted so long is a step of an election.
const LASTS: Duration = Duration::from_secs(2);

/// What the history was told last.
#[derive(Debug, Default)]
pub struct Told {
    line: String,
    /// What it is about to be told, and since when that is so.
    next: Option<(String, Instant)>,
}

impl Told {
    /// To be called again and again. `address`: the virtual IP, if there is one, and whether it was seen
    /// on this host.
    pub fn tell(
        &mut self,
        list: &NodeList,
        address: Option<(&str, bool)>,
        events: &History,
        now: Instant,
    ) {
        let Some(line) = line(list, address).filter(|line| *line != self.line) else {
            self.next = None;
            return;
        };
        match &self.next {
            Some((next, since)) if *next == line => {
                if now.saturating_duration_since(*since) < LASTS {
                    return;
                }
                let note = Note::new(Kind::Watchdog, Step::Ended).with_result(line.clone());
                events.record(None, note);
                self.line = line;
                self.next = None;
            }
            _ => self.next = Some((line, now)),
        }
    }
}

/// `None` while nobody leads: an election takes some seconds, and says nothing by itself.
fn line(list: &NodeList, address: Option<(&str, bool)>) -> Option<String> {
    let (leader, _) = list.leader.as_ref()?;
    let quorum = match list.quorum {
        1.. => "the quorum exists",
        0 => "the quorum is on the edge",
        _ => "there is no quorum",
    };
    let address = match address {
        None => String::new(),
        Some((ip, true)) => format!(", the virtual IP {ip} is on this host"),
        Some((ip, false)) => format!(", the virtual IP {ip} is not on this host"),
    };
    Some(format!("{leader} leads, {quorum}{address}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::history::Query;

    fn list(leader: Option<&str>, quorum: i32, alive: i32) -> NodeList {
        NodeList {
            remote_nodes: 2,
            member_remote_nodes: 2,
            required_for_quorum: 2,
            quorum,
            alive_nodes: alive,
            escalated: false,
            leader: leader.map(|name| (name.to_owned(), String::new())),
            nodes: Vec::new(),
        }
    }

    #[test]
    fn each_change_that_lasts_is_told_once_and_an_election_is_none() {
        let (mut told, events) = (Told::default(), History::default());
        let mut now = Instant::now();
        let mut tell = |list: &NodeList, held, seconds| {
            for _ in 0..=seconds {
                told.tell(list, Some(("192.0.2.9", held)), &events, now);
                now += Duration::from_secs(1);
            }
        };
        tell(&list(None, -2, 0), false, 5);
        tell(&list(Some("a"), 0, 1), false, 1);
        tell(&list(Some("a"), 1, 1), false, 5);
        tell(&list(None, -2, 0), false, 5);
        tell(&list(Some("a"), 1, 2), false, 5);
        tell(&list(Some("a"), 1, 2), true, 5);
        tell(&list(Some("a"), -1, 0), false, 5);
        let results: Vec<String> = events
            .events(Query::default())
            .iter()
            .map(|event| event.note.result.clone())
            .collect();
        assert_eq!(
            results,
            [
                "a leads, the quorum exists, the virtual IP 192.0.2.9 is not on this host",
                "a leads, the quorum exists, the virtual IP 192.0.2.9 is on this host",
                "a leads, there is no quorum, the virtual IP 192.0.2.9 is not on this host",
            ]
        );
    }
}
