//! Who is the primary: judges what the servers answered. Asking them is [`super::ask`].
//!
//! Rules of `verify_backend_node_status` and `find_primary_node` in
//! `src/main/pgpool_main.c @ V4_3_5`, with one exception: a primary that is known, valid and still
//! says that it is a primary stays the primary. The original lets the highest number win, so that
//! attaching an old primary that was restarted by mistake moves all writes to it.

use crate::cluster::{ClusterView, NodeId};

/// What a server said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `pg_is_in_recovery()` is false.
    Primary,
    Standby(Receiver),
    /// No connection.
    Unreachable(String),
    /// The server lives and does not let us ask: login refused, too many connections, no such database.
    Refused(String),
}

/// A standby's row in `pg_stat_wal_receiver`; asked for with `detach_false_primary` only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// Not asked for, or the server is older than 9.6.
    Unknown,
    /// No row, not streaming, or conninfo is hidden from the user.
    None,
    Streaming {
        host: String,
        port: String,
    },
}

/// The numbers are those of the log lines `node status[i]: n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Unused = 0,
    Primary = 1,
    Standby = 2,
    /// A primary that does not feed the standbys.
    Invalid = 3,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// One per slot.
    pub verdicts: Vec<Verdict>,
    /// Texts of severity LOG.
    pub remarks: Vec<String>,
}

impl Judgement {
    /// The primary to use. `known`: the primary of the view, if it is valid.
    pub fn primary(&self, known: Option<NodeId>) -> Option<NodeId> {
        let is_primary = |id: &NodeId| self.verdicts.get(*id) == Some(&Verdict::Primary);
        known
            .filter(is_primary)
            .or_else(|| (0..self.verdicts.len()).rev().find(is_primary))
    }

    pub fn invalid_nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        (0..self.verdicts.len()).filter(|&id| self.verdicts.get(id) == Some(&Verdict::Invalid))
    }
}

/// `answers`: one per slot, `None` for nodes that were not asked.
pub fn judge(
    answers: &[Option<Answer>],
    view: &ClusterView,
    known: Option<NodeId>,
    detach_false_primary: bool,
) -> Judgement {
    let mut verdicts: Vec<Verdict> = answers
        .iter()
        .map(|answer| match answer {
            Some(Answer::Primary) => Verdict::Primary,
            Some(Answer::Standby(_)) => Verdict::Standby,
            Some(Answer::Unreachable(_) | Answer::Refused(_)) | None => Verdict::Unused,
        })
        .collect();
    let mut remarks = Vec::new();
    let primaries = with(&verdicts, Verdict::Primary);
    let standbys = with(&verdicts, Verdict::Standby);

    if standbys.is_empty() && primaries.len() > 1 {
        // Nobody can tell which one is right.
        let stays = known
            .filter(|k| primaries.contains(k))
            .or_else(|| primaries.first().copied());
        let other = if detach_false_primary {
            Verdict::Invalid
        } else {
            Verdict::Unused
        };
        for &id in primaries.iter().filter(|&&id| Some(id) != stays) {
            set(&mut verdicts, id, other);
        }
    } else if !standbys.is_empty() && !primaries.is_empty() && detach_false_primary {
        let receivers: Vec<(NodeId, &Receiver)> = answers
            .iter()
            .enumerate()
            .filter_map(|(id, answer)| match answer {
                Some(Answer::Standby(receiver)) => Some((id, receiver)),
                _ => None,
            })
            .collect();
        if receivers.iter().any(|(_, r)| **r != Receiver::Unknown) {
            let owned: Vec<usize> = primaries
                .iter()
                .map(|&primary| owned_standbys(primary, &receivers, view, &mut remarks))
                .collect();
            let all = standbys.len();
            let true_primary_exists = owned.contains(&all);
            for (&primary, &count) in primaries.iter().zip(&owned) {
                if count < all {
                    remarks.push(format!(
                        "verify_backend_node_status: primary {primary} owns only {count} standbys out of {all}"
                    ));
                    if true_primary_exists {
                        set(&mut verdicts, primary, Verdict::Invalid);
                    }
                }
            }
        }
    }
    Judgement { verdicts, remarks }
}

fn with(verdicts: &[Verdict], wanted: Verdict) -> Vec<NodeId> {
    (0..verdicts.len())
        .filter(|&id| verdicts.get(id) == Some(&wanted))
        .collect()
}

fn set(verdicts: &mut [Verdict], id: NodeId, verdict: Verdict) {
    if let Some(slot) = verdicts.get_mut(id) {
        *slot = verdict;
    }
}

fn owned_standbys(
    primary: NodeId,
    receivers: &[(NodeId, &Receiver)],
    view: &ClusterView,
    remarks: &mut Vec<String>,
) -> usize {
    let Some(node) = view.node(primary) else {
        return 0;
    };
    let on_socket = node.hostname.is_empty() || node.hostname.starts_with('/');
    let mut count = 0;
    for (standby, receiver) in receivers {
        let Receiver::Streaming { host, port } = receiver else {
            continue;
        };
        let same_host =
            *host == node.hostname || (on_socket && (host.is_empty() || host == "localhost"));
        if same_host && port.parse() == Ok(node.port) {
            count += 1;
        } else {
            remarks.push(format!(
                "verify_backend_node_status: primary {primary} does not connect to standby {standby}"
            ));
        }
    }
    count
}

/// Host and port of a `conninfo` string as `pg_stat_wal_receiver` shows it; missing ones are empty.
pub fn conninfo_host_port(conninfo: &str) -> (String, String) {
    let (mut host, mut port) = (String::new(), String::new());
    let mut chars = conninfo.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut key = String::new();
        while let Some(c) = chars.next_if(|&c| c != '=') {
            key.push(c);
        }
        if chars.next().is_none() {
            return (host, port);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        while let Some(c) = chars.next() {
            match c {
                '\\' => value.extend(chars.next()),
                '\'' if quoted => break,
                c if !quoted && c.is_whitespace() => break,
                c => value.push(c),
            }
        }
        match key.trim() {
            "host" => host = value,
            "port" => port = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::testing::view;
    use Verdict::{Invalid, Primary, Standby, Unused};

    fn standby() -> Option<Answer> {
        Some(Answer::Standby(Receiver::Unknown))
    }

    fn fed_by(node: NodeId) -> Option<Answer> {
        Some(Answer::Standby(Receiver::Streaming {
            host: format!("host{node}"),
            port: (11002 + node).to_string(),
        }))
    }

    fn primary() -> Option<Answer> {
        Some(Answer::Primary)
    }

    fn verdicts(answers: &[Option<Answer>], known: Option<NodeId>, detach: bool) -> Vec<Verdict> {
        judge(answers, &view(3), known, detach).verdicts
    }

    #[test]
    fn a_server_out_of_recovery_is_the_primary() {
        let j = judge(&[standby(), primary(), standby()], &view(3), None, false);
        assert_eq!(j.verdicts, [Standby, Primary, Standby]);
        assert_eq!(j.primary(None), Some(1));
    }

    #[test]
    fn of_two_primaries_the_highest_number_wins_beside_a_standby() {
        let j = judge(&[primary(), standby(), primary()], &view(3), None, false);
        assert_eq!(j.primary(None), Some(2));
    }

    #[test]
    fn a_known_primary_stays_when_another_claims_to_be_one() {
        let j = judge(&[primary(), standby(), primary()], &view(3), Some(0), false);
        assert_eq!(j.primary(Some(0)), Some(0));
        let j = judge(&[standby(), standby(), primary()], &view(3), Some(0), false);
        assert_eq!(j.primary(Some(0)), Some(2), "it became a standby");
    }

    #[test]
    fn without_a_standby_the_lowest_primary_stays_and_the_others_do_not_count() {
        let answers = [None, primary(), primary()];
        assert_eq!(verdicts(&answers, None, false), [Unused, Primary, Unused]);
        assert_eq!(verdicts(&answers, None, true), [Unused, Primary, Invalid]);
        assert_eq!(
            verdicts(&answers, Some(2), true),
            [Unused, Invalid, Primary],
            "the known one is never called false for its number"
        );
    }

    #[test]
    fn a_primary_without_standbys_is_false_when_another_feeds_them_all() {
        let j = judge(&[primary(), fed_by(0), primary()], &view(3), None, true);
        assert_eq!(j.verdicts, [Primary, Standby, Invalid]);
        assert_eq!(
            j.remarks,
            [
                "verify_backend_node_status: primary 2 does not connect to standby 1",
                "verify_backend_node_status: primary 2 owns only 0 standbys out of 1"
            ]
        );
        assert_eq!(j.invalid_nodes().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn nobody_is_false_when_no_primary_feeds_all_standbys() {
        let answers = [primary(), primary(), Some(Answer::Standby(Receiver::None))];
        assert_eq!(verdicts(&answers, None, true), [Primary, Primary, Standby]);
        assert_eq!(
            verdicts(&[primary(), primary(), standby()], None, true),
            [Primary, Primary, Standby],
            "servers before 9.6 are not asked"
        );
    }

    #[test]
    fn a_socket_directory_matches_a_conninfo_without_host_or_with_localhost() {
        let mut view = view(2);
        view.nodes[0].hostname = "/tmp".into();
        for (host, owned) in [("", 1), ("localhost", 1), ("/tmp", 1), ("other", 0)] {
            let receiver = Receiver::Streaming {
                host: host.into(),
                port: "11002".into(),
            };
            assert_eq!(
                owned_standbys(0, &[(1, &receiver)], &view, &mut Vec::new()),
                owned,
                "{host:?}"
            );
        }
    }

    #[test]
    fn conninfo_is_read_with_quotes_blanks_and_escapes() {
        assert_eq!(
            conninfo_host_port("user=rep password='a b' host = 'x\\'y' port=5433 dbname=r"),
            ("x'y".into(), "5433".into())
        );
        assert_eq!(conninfo_host_port(""), (String::new(), String::new()));
        assert_eq!(
            conninfo_host_port("host=a hostaddr=1 port"),
            ("a".into(), String::new())
        );
        assert_eq!(
            conninfo_host_port("host='open"),
            ("open".into(), String::new())
        );
    }
}
