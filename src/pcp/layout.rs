//! The reply layouts of the releases: node info in seven forms, process info in two.
//!
//! Rows are plain values here; [`super::commands`] fills them. The minor releases at which the
//! node info changed were found in the source of every tag (`src/pcp_con/pcp_worker.c`).

use std::time::SystemTime;

use bytes::BytesMut;

use super::codec;
use crate::config::{Release, settings::CompatVersion};

/// `RAND_MAX` of glibc: the weight of a node travels as its share of this number.
const WEIGHT_SCALE: f64 = 2_147_483_647.0;

/// Which fields a node info reply has, and whether it is a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeInfoLayout {
    /// 4.3 and newer: a list of rows; before: one packet for one node.
    list: bool,
    quarantine: bool,
    /// `pg_status` and `pg_role`.
    live_words: bool,
    standby_delay_by_time: bool,
    /// `replication_state` and `replication_sync_state`.
    replication: bool,
}

/// What every layout is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRow<'a> {
    pub hostname: &'a str,
    pub port: u16,
    pub status: u8,
    pub quarantine: bool,
    pub pg_status: &'a str,
    /// Share of the sum of all weights.
    pub weight: f64,
    pub role: u8,
    pub pg_role: &'a str,
    pub delay: StandbyDelay,
    pub replication_state: &'a str,
    pub replication_sync_state: &'a str,
    pub status_changed: SystemTime,
}

/// How far a standby is behind. Layouts before 4.4 carry bytes only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandbyDelay {
    pub bytes: u64,
    /// Set when `delay_threshold_by_time` rules.
    pub microseconds: Option<u128>,
}

impl NodeInfoLayout {
    pub fn of(version: CompatVersion) -> NodeInfoLayout {
        let from = |major, minor, patch| {
            version
                >= CompatVersion {
                    release: Release::new(major, minor),
                    patch,
                }
        };
        // Back-patched to all branches at once, so "since" has one patch level per series.
        let quarantine = match version.release {
            r if r <= Release::V4_0 => from(4, 0, 18),
            Release::V4_1 => from(4, 1, 11),
            Release::V4_2 => from(4, 2, 8),
            _ => from(4, 3, 1),
        };
        NodeInfoLayout {
            list: from(4, 3, 0),
            quarantine,
            live_words: from(4, 3, 0),
            standby_delay_by_time: from(4, 4, 0),
            replication: from(4, 1, 0),
        }
    }

    /// A request for all nodes can only come from a tool of 4.3 or newer: if an older release is
    /// emulated, it gets the list of 4.3.1, whose columns most of these tools read right.
    pub fn for_all_nodes(version: CompatVersion) -> NodeInfoLayout {
        NodeInfoLayout::of(if version.release < Release::V4_3 {
            CompatVersion {
                release: Release::V4_3,
                patch: 1,
            }
        } else {
            version
        })
    }

    pub fn has_live_words(&self) -> bool {
        self.live_words
    }

    /// The whole reply. Without a list only the first row is sent.
    pub fn encode(&self, out: &mut BytesMut, rows: &[NodeRow<'_>]) {
        if !self.list {
            let mut texts = vec!["CommandComplete".to_owned()];
            if let Some(row) = rows.first() {
                self.fields(row, &mut texts);
            }
            codec::put_texts(out, b'i', &texts);
            return;
        }
        codec::put_array_size(out, b'i', rows.len());
        for row in rows {
            let mut texts = vec!["NodeInfo".to_owned()];
            self.fields(row, &mut texts);
            codec::put_texts(out, b'i', &texts);
        }
        codec::put_command_complete(out, b'i');
    }

    fn fields(&self, row: &NodeRow<'_>, texts: &mut Vec<String>) {
        let mut put = |text: String| texts.push(text);
        put(row.hostname.to_owned());
        put(row.port.to_string());
        put(row.status.to_string());
        if self.quarantine {
            put(u8::from(row.quarantine).to_string());
        }
        if self.live_words {
            put(row.pg_status.to_owned());
        }
        put(format!("{:.6}", row.weight * WEIGHT_SCALE));
        put(row.role.to_string());
        if self.live_words {
            put(row.pg_role.to_owned());
        }
        if self.standby_delay_by_time {
            put(u8::from(row.delay.microseconds.is_some()).to_string());
        }
        put(match row.delay.microseconds {
            Some(microseconds) if self.standby_delay_by_time => microseconds.to_string(),
            _ => row.delay.bytes.to_string(),
        });
        if self.replication {
            put(row.replication_state.to_owned());
            put(row.replication_sync_state.to_owned());
        }
        put(unix_seconds(Some(row.status_changed)).to_string());
    }
}

/// Seconds since 1970; 0 for a time that never was.
pub fn unix_seconds(time: Option<SystemTime>) -> u64 {
    time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn version(minor: u8, patch: u8) -> CompatVersion {
        CompatVersion {
            release: Release::new(4, minor),
            patch,
        }
    }

    fn standby() -> NodeRow<'static> {
        NodeRow {
            hostname: "db1.example",
            port: 5432,
            status: 2,
            quarantine: false,
            pg_status: "up",
            weight: 0.5,
            role: 3,
            pg_role: "standby",
            delay: StandbyDelay {
                bytes: 8,
                microseconds: None,
            },
            replication_state: "streaming",
            replication_sync_state: "async",
            status_changed: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        }
    }

    fn fields(layout: NodeInfoLayout, row: &NodeRow<'_>) -> String {
        let mut texts = Vec::new();
        layout.fields(row, &mut texts);
        texts.join(" ")
    }

    #[test]
    fn each_series_has_its_fields_and_its_minor_release_that_changed_them() {
        let weight = "1073741823.500000";
        for (versions, expected) in [
            (
                &[(0, 0), (0, 17)][..],
                format!("db1.example 5432 2 {weight} 3 8 1700000000"),
            ),
            (
                &[(0, 18), (0, 25)],
                format!("db1.example 5432 2 0 {weight} 3 8 1700000000"),
            ),
            (
                &[(1, 0), (1, 10), (2, 0), (2, 7)],
                format!("db1.example 5432 2 {weight} 3 8 streaming async 1700000000"),
            ),
            (
                &[(1, 11), (1, 23), (2, 8), (2, 24)],
                format!("db1.example 5432 2 0 {weight} 3 8 streaming async 1700000000"),
            ),
            (
                &[(3, 0)],
                format!("db1.example 5432 2 up {weight} 3 standby 8 streaming async 1700000000"),
            ),
            (
                &[(3, 1), (3, 20)],
                format!("db1.example 5432 2 0 up {weight} 3 standby 8 streaming async 1700000000"),
            ),
            (
                &[(4, 0), (5, 12), (6, 0), (7, 2)],
                format!(
                    "db1.example 5432 2 0 up {weight} 3 standby 0 8 streaming async 1700000000"
                ),
            ),
        ] {
            for &(minor, patch) in versions {
                assert_eq!(
                    fields(NodeInfoLayout::of(version(minor, patch)), &standby()),
                    expected,
                    "4.{minor}.{patch}"
                );
            }
        }
    }

    #[test]
    fn a_delay_by_time_is_in_microseconds_where_the_layout_can_say_so() {
        let mut row = standby();
        row.delay.microseconds = Some(2_500_000);
        let new = fields(NodeInfoLayout::of(version(7, 2)), &row);
        assert!(new.contains("standby 1 2500000 streaming"), "{new}");
        let old = fields(NodeInfoLayout::of(version(3, 5)), &row);
        assert!(old.contains("standby 8 streaming"), "{old}");
    }

    #[test]
    fn up_to_4_2_the_reply_is_one_packet_and_from_4_3_a_list() {
        let mut out = BytesMut::new();
        NodeInfoLayout::of(version(2, 24)).encode(&mut out, &[standby()]);
        let only = codec::take_reply(&mut out).unwrap();
        assert_eq!(only.texts().len(), 11);
        assert_eq!(only.texts()[0], b"CommandComplete");
        assert!(out.is_empty());

        NodeInfoLayout::of(version(3, 5)).encode(&mut out, &[standby(), standby()]);
        let kinds: Vec<Vec<u8>> = std::iter::from_fn(|| codec::take_reply(&mut out))
            .map(|frame| frame.texts()[0].to_vec())
            .collect();
        assert_eq!(
            kinds,
            [
                &b"ArraySize"[..],
                b"NodeInfo",
                b"NodeInfo",
                b"CommandComplete"
            ]
        );
    }

    #[test]
    fn a_request_for_all_nodes_gets_a_list_whatever_is_emulated() {
        assert_eq!(
            NodeInfoLayout::for_all_nodes(version(0, 25)),
            NodeInfoLayout::of(version(3, 5))
        );
        assert_eq!(
            NodeInfoLayout::for_all_nodes(version(7, 2)),
            NodeInfoLayout::of(version(7, 2))
        );
    }
}
