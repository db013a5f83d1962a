//! What the servers said in one round of the replication check, turned into delays, states and
//! log lines. Asks nobody.
//!
//! Statements and rules of `src/streaming_replication/pool_worker_child.c @ V4_3_5`, with these
//! differences: WAL positions are subtracted as 64-bit numbers (the original loses 16 MiB + 1 at
//! each 4 GiB), a node that cannot be asked does not spoil the round for the others, and functions
//! are always named with their schema.

use std::time::Duration;

use crate::{
    cluster::{ClusterView, NodeId, NodeReplication},
    config::{Release, settings::LogStandbyDelay},
    control::backend_client::Field,
    observe::Severity,
};

/// The context line of everything said here.
pub const CONTEXT: &str = "while checking replication time lag";

#[derive(Clone, Debug)]
pub struct Settings {
    pub dialect: Release,
    pub delay_threshold: Option<u64>,
    pub delay_threshold_by_time: Option<Duration>,
    pub log_standby_delay: LogStandbyDelay,
}

/// What one server said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// No connection: message and detail.
    pub unreachable: Option<(String, String)>,
    /// A statement failed; the other fields hold what came before.
    pub error: Option<String>,
    /// Position written (primary) or replayed (standby).
    pub lsn: Option<u64>,
    /// Rows of pg_stat_replication, from the primary.
    pub senders: Vec<Sender>,
}

/// A row of pg_stat_replication. State and sync state are empty for a user without privilege.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    pub application_name: String,
    pub state: String,
    pub sync_state: String,
    pub replay_lag: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub severity: Severity,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

/// The statement for the position of a server in the WAL.
pub fn lsn_query(version: u32, primary: bool) -> &'static str {
    match (primary, version >= 100_000) {
        (true, true) => "SELECT pg_catalog.pg_current_wal_lsn()",
        (true, false) => "SELECT pg_catalog.pg_current_xlog_location()",
        (false, true) => "SELECT pg_catalog.pg_last_wal_replay_lsn()",
        (false, false) => "SELECT pg_catalog.pg_last_xlog_replay_location()",
    }
}

/// The statement for the standbys that a primary feeds; `None` before 9.1.
pub fn senders_query(version: u32) -> Option<&'static str> {
    match version {
        100_000.. => Some(
            "SELECT application_name, state, sync_state, (EXTRACT(EPOCH FROM replay_lag) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 FROM pg_catalog.pg_stat_replication",
        ),
        90_200.. => Some(
            "SELECT application_name, state, sync_state, NULL FROM pg_catalog.pg_stat_replication",
        ),
        90_100.. => Some(
            "SELECT application_name, state, '' AS sync_state, NULL FROM pg_catalog.pg_stat_replication",
        ),
        _ => None,
    }
}

/// Rows of [`senders_query`].
pub fn senders(rows: Vec<Vec<Field>>) -> Vec<Sender> {
    rows.into_iter()
        .map(|row| {
            let mut fields = row.into_iter();
            let mut text = || fields.next().flatten();
            Sender {
                application_name: text().unwrap_or_default(),
                state: text().unwrap_or_default(),
                sync_state: text().unwrap_or_default(),
                replay_lag: text()
                    .and_then(|t| t.parse().ok())
                    .map(Duration::from_micros),
            }
        })
        .collect()
}

/// `16/B374D848` as a number of bytes.
pub fn parse_lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let high = u32::from_str_radix(high, 16).ok()?;
    let low = u32::from_str_radix(low, 16).ok()?;
    Some((u64::from(high) << 32) | u64::from(low))
}

/// One round: a value for every node, and what to log. `samples`: one per slot, `None` if not asked.
pub fn evaluate(
    samples: &[Option<Sample>],
    view: &ClusterView,
    settings: &Settings,
) -> (Vec<NodeReplication>, Vec<Line>) {
    let mut lines = complaints(samples);
    let mut result = vec![NodeReplication::default(); view.nodes.len()];
    let Some((primary, sample)) = view
        .primary
        .filter(|&p| view.is_valid(p))
        .and_then(|p| Some((p, samples.get(p)?.as_ref()?)))
    else {
        return (result, lines);
    };
    for (node, entry) in view.nodes.iter().zip(&mut result) {
        if node.id == primary {
            continue;
        }
        // The last match wins. Nodes that are down count too: auto_failback asks for their state.
        if let Some(sender) = sample
            .senders
            .iter()
            .rfind(|s| s.application_name == node.application_name)
        {
            entry.state.clone_from(&sender.state);
            entry.sync_state.clone_from(&sender.sync_state);
            entry.delay_time = sender.replay_lag.unwrap_or_default();
        }
        let standby_lsn = samples
            .get(node.id)
            .and_then(Option::as_ref)
            .and_then(|s| s.lsn);
        if let (Some(written), Some(replayed)) = (sample.lsn, standby_lsn) {
            entry.delay_bytes = written.saturating_sub(replayed);
        }
        if node.is_valid() {
            lines.extend(delay_line(node.id, primary, entry, settings));
        }
    }
    (result, lines)
}

fn complaints(samples: &[Option<Sample>]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (id, sample) in samples.iter().enumerate() {
        let Some(sample) = sample else { continue };
        if let Some((message, detail)) = &sample.unreachable {
            lines.push(Line {
                severity: Severity::Log,
                message: message.clone(),
                detail: detail.clone(),
                hint: String::new(),
            });
            lines.push(Line {
                severity: Severity::Error,
                message: "Failed to check replication time lag".to_owned(),
                detail: format!("No persistent db connection for the node {id}"),
                hint: "check sr_check_user and sr_check_password".to_owned(),
            });
        }
        if let Some(error) = &sample.error {
            lines.push(Line {
                severity: Severity::Error,
                message: "Backend throw an error message".to_owned(),
                detail: format!("node {id} answers the replication check with: {error}"),
                hint: String::new(),
            });
        }
    }
    lines
}

fn delay_line(
    node: NodeId,
    primary: NodeId,
    delay: &NodeReplication,
    settings: &Settings,
) -> Option<Line> {
    let framed = settings.dialect >= Release::V4_4;
    let by_time = settings.delay_threshold_by_time.filter(|_| framed);
    let (is_behind, is_over) = match by_time {
        Some(threshold) => (
            delay.delay_time > Duration::ZERO,
            delay.delay_time > threshold,
        ),
        None => (
            delay.delay_bytes > 0,
            delay.delay_bytes > settings.delay_threshold.unwrap_or(0),
        ),
    };
    let wanted = match settings.log_standby_delay {
        LogStandbyDelay::None => false,
        LogStandbyDelay::Always => is_behind,
        LogStandbyDelay::IfOverThreshold => is_over,
    };
    let amount = match by_time {
        Some(_) => format!("{:.6} second(s)", delay.delay_time.as_secs_f64()),
        None => format!("{} bytes", delay.delay_bytes),
    };
    wanted.then(|| Line {
        severity: Severity::Log,
        message: if framed {
            format!(
                "Replication of node: {node} is behind {amount} from the primary server (node: {primary})"
            )
        } else {
            format!(
                "Replication of node:{node} is behind {amount} from the primary server (node:{primary})"
            )
        },
        detail: String::new(),
        hint: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster::NodeStatus, failover::testing::view};

    fn settings() -> Settings {
        Settings {
            dialect: Release::V4_3,
            delay_threshold: Some(1000),
            delay_threshold_by_time: None,
            log_standby_delay: LogStandbyDelay::IfOverThreshold,
        }
    }

    fn cluster() -> ClusterView {
        let mut view = view(3);
        view.primary = Some(0);
        view
    }

    fn sender(node: NodeId, state: &str) -> Sender {
        Sender {
            application_name: format!("server{node}"),
            state: state.into(),
            sync_state: "async".into(),
            replay_lag: Some(Duration::from_micros(123_456)),
        }
    }

    fn samples(lsn: [u64; 3]) -> Vec<Option<Sample>> {
        lsn.iter()
            .enumerate()
            .map(|(id, &lsn)| {
                Some(Sample {
                    lsn: Some(lsn),
                    senders: if id == 0 {
                        vec![sender(1, "streaming"), sender(2, "catchup")]
                    } else {
                        Vec::new()
                    },
                    ..Sample::default()
                })
            })
            .collect()
    }

    fn messages(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|l| l.message.as_str()).collect()
    }

    #[test]
    fn positions_are_64_bit_numbers() {
        assert_eq!(parse_lsn("0/0"), Some(0));
        assert_eq!(parse_lsn("16/B374D848"), Some(0x16_b374_d848));
        assert_eq!(
            parse_lsn("1/0").unwrap() - parse_lsn("0/FFFFFFFF").unwrap(),
            1
        );
        for text in ["", "/", "1", "1/", "x/1", "1/100000000", "-1/1"] {
            assert_eq!(parse_lsn(text), None, "{text:?}");
        }
    }

    #[test]
    fn delay_is_the_difference_to_the_primary_and_never_negative() {
        let (nodes, _) = evaluate(&samples([5000, 3000, 6000]), &cluster(), &settings());
        assert_eq!(
            nodes.iter().map(|n| n.delay_bytes).collect::<Vec<_>>(),
            [0, 2000, 0]
        );
        assert_eq!(nodes[1].state, "streaming");
        assert_eq!(nodes[2].state, "catchup");
        assert_eq!(nodes[1].delay_time, Duration::from_micros(123_456));
        assert_eq!(nodes[0], NodeReplication::default());
    }

    #[test]
    fn a_node_that_is_down_has_a_state_for_auto_failback_but_no_delay() {
        let mut cluster = cluster();
        cluster.nodes[1].status = NodeStatus::Down;
        let mut samples = samples([5000, 0, 5000]);
        samples[1] = None;
        let (nodes, lines) = evaluate(&samples, &cluster, &settings());
        assert_eq!(
            (nodes[1].delay_bytes, nodes[1].state.as_str()),
            (0, "streaming")
        );
        assert_eq!(lines, []);
    }

    #[test]
    fn delays_are_logged_as_asked_for() {
        let texts = |log_standby_delay| {
            let settings = Settings {
                log_standby_delay,
                ..settings()
            };
            let (_, lines) = evaluate(&samples([5000, 3000, 4500]), &cluster(), &settings);
            messages(&lines).join("\n")
        };
        assert_eq!(texts(LogStandbyDelay::None), "");
        assert_eq!(
            texts(LogStandbyDelay::IfOverThreshold),
            "Replication of node:1 is behind 2000 bytes from the primary server (node:0)"
        );
        assert_eq!(texts(LogStandbyDelay::Always).lines().count(), 2);
    }

    #[test]
    fn from_4_4_on_the_line_has_blanks_and_may_count_seconds() {
        let mut settings = settings();
        settings.dialect = Release::V4_4;
        let samples = samples([5000, 3000, 5000]);
        let (_, lines) = evaluate(&samples, &cluster(), &settings);
        assert_eq!(
            messages(&lines),
            ["Replication of node: 1 is behind 2000 bytes from the primary server (node: 0)"]
        );
        settings.delay_threshold_by_time = Some(Duration::from_millis(100));
        let (_, lines) = evaluate(&samples, &cluster(), &settings);
        assert_eq!(
            messages(&lines)[0],
            "Replication of node: 1 is behind 0.123456 second(s) from the primary server (node: 0)"
        );
    }

    #[test]
    fn a_node_that_cannot_be_asked_is_named_and_the_others_are_measured() {
        let mut samples = samples([5000, 0, 4000]);
        samples[1] = Some(Sample {
            unreachable: Some(("failed to connect".into(), "Connection refused".into())),
            ..Sample::default()
        });
        let (nodes, lines) = evaluate(&samples, &cluster(), &settings());
        assert_eq!(nodes[2].delay_bytes, 1000);
        assert_eq!(
            lines,
            [
                Line {
                    severity: Severity::Log,
                    message: "failed to connect".into(),
                    detail: "Connection refused".into(),
                    hint: String::new(),
                },
                Line {
                    severity: Severity::Error,
                    message: "Failed to check replication time lag".into(),
                    detail: "No persistent db connection for the node 1".into(),
                    hint: "check sr_check_user and sr_check_password".into(),
                }
            ]
        );
    }

    #[test]
    fn without_a_primary_everything_is_unknown() {
        let (nodes, lines) = evaluate(&samples([1, 2, 3]), &view(3), &settings());
        assert_eq!(nodes, vec![NodeReplication::default(); 3]);
        assert_eq!(lines, []);
    }

    #[test]
    fn rows_without_privilege_have_empty_states() {
        let rows = vec![
            vec![Some("server1".into()), None, None, None],
            vec![
                Some("server2".into()),
                Some("streaming".into()),
                Some("sync".into()),
                Some("36000000000000".into()),
            ],
            vec![],
        ];
        let senders = senders(rows);
        assert_eq!(senders[0].state, "");
        assert_eq!(
            senders[1].replay_lag,
            Some(Duration::from_secs(36_000_000)),
            "more than a year does not overflow"
        );
        assert_eq!(senders[2], Sender::default());
    }

    #[test]
    fn statements_follow_the_version_of_the_server() {
        assert_eq!(
            lsn_query(150_000, true),
            "SELECT pg_catalog.pg_current_wal_lsn()"
        );
        assert_eq!(
            lsn_query(90_600, false),
            "SELECT pg_catalog.pg_last_xlog_replay_location()"
        );
        assert!(senders_query(90_000).is_none());
        assert!(senders_query(90_600).is_some_and(|q| !q.contains("replay_lag")));
    }
}
