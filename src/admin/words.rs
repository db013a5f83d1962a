//! Words for status, role and release, and the role codes of PCP.

use crate::{
    cluster::{ClusterView, Node, NodeId, NodeStatus},
    config::{
        Release,
        settings::{ClusteringMode, CompatVersion},
    },
};

/// `unused`, `waiting`, `up`, `down`, `quarantine`.
pub fn status_word(node: &Node) -> &'static str {
    if node.quarantine {
        return "quarantine";
    }
    match node.status {
        NodeStatus::Unused => "unused",
        NodeStatus::Waiting => "waiting",
        NodeStatus::Up => "up",
        NodeStatus::Down => "down",
    }
}

/// PCP's code: 0 main, 1 replica, 2 primary, 3 standby.
pub fn role_code(view: &ClusterView, node: NodeId) -> u8 {
    if view.mode == ClusteringMode::StreamingReplication {
        // Without a primary all nodes are standbys.
        if view.primary == Some(node) { 2 } else { 3 }
    } else if view.main_node() == Some(node) {
        0
    } else {
        1
    }
}

/// `primary`/`standby` in streaming replication; else `main`/`replica` (`master`/`slave` up to 4.1).
pub fn role_word(view: &ClusterView, node: NodeId, release: Release) -> &'static str {
    match (role_code(view, node), release < Release::V4_2) {
        (2, _) => "primary",
        (3, _) => "standby",
        (0, true) => "master",
        (0, false) => "main",
        (_, true) => "slave",
        (_, false) => "replica",
    }
}

/// The name that each series of releases bears.
pub fn code_name(release: Release) -> &'static str {
    match (release.major, release.minor) {
        (..4, _) => "amefuriboshi",
        (4, 0) => "torokiboshi",
        (4, 1) => "karasukiboshi",
        (4, 2) => "chichiriboshi",
        (4, 3) => "tamahomeboshi",
        (4, 4) => "nurikoboshi",
        (4, 5) => "hotooriboshi",
        (4, 6) => "chirikoboshi",
        _ => "tasukiboshi",
    }
}

/// `4.3.5 (tamahomeboshi)`, as in `SHOW pool_version` and `--version`.
pub fn version_text(version: CompatVersion) -> String {
    let CompatVersion { release, patch } = version;
    format!(
        "{}.{}.{patch} ({})",
        release.major,
        release.minor,
        code_name(release)
    )
}

/// A release stands for the last of its series where no patch level is known.
pub fn last_of_series(release: Release) -> CompatVersion {
    CompatVersion {
        release,
        patch: release.last_patch(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn view(mode: ClusteringMode, primary: Option<NodeId>) -> ClusterView {
        let node = |id, status| Node {
            id,
            hostname: String::new(),
            port: 5432,
            data_directory: String::new(),
            application_name: String::new(),
            weight: 0.5,
            flag: Default::default(),
            status,
            quarantine: false,
            status_changed: SystemTime::UNIX_EPOCH,
        };
        ClusterView {
            version: 1,
            mode,
            nodes: vec![
                node(0, NodeStatus::Down),
                node(1, NodeStatus::Up),
                node(2, NodeStatus::Waiting),
            ],
            primary,
            primary_search_running: false,
        }
    }

    #[test]
    fn in_streaming_replication_all_but_the_primary_are_standbys() {
        let roles = |primary| {
            let view = view(ClusteringMode::StreamingReplication, primary);
            [0, 1, 2].map(|n| role_word(&view, n, Release::V4_0))
        };
        assert_eq!(roles(Some(2)), ["standby", "standby", "primary"]);
        assert_eq!(roles(None), ["standby", "standby", "standby"]);
    }

    #[test]
    fn in_other_modes_the_first_valid_node_is_main_or_master() {
        for mode in [
            ClusteringMode::Raw,
            ClusteringMode::LogicalReplication,
            ClusteringMode::Slony,
            ClusteringMode::NativeReplication,
            ClusteringMode::SnapshotIsolation,
        ] {
            let view = view(mode, Some(2));
            let roles = |release| [0, 1, 2].map(|n| role_word(&view, n, release));
            assert_eq!(roles(Release::V4_1), ["slave", "master", "slave"]);
            assert_eq!(roles(Release::V4_2), ["replica", "main", "replica"]);
            assert_eq!([0, 1, 2].map(|n| role_code(&view, n)), [1, 0, 1]);
        }
    }

    #[test]
    fn quarantine_wins_over_the_status() {
        let mut view = view(ClusteringMode::Raw, None);
        assert_eq!(status_word(&view.nodes[0]), "down");
        assert_eq!(status_word(&view.nodes[2]), "waiting");
        view.nodes[0].quarantine = true;
        assert_eq!(status_word(&view.nodes[0]), "quarantine");
    }

    #[test]
    fn a_version_names_its_series() {
        let version = CompatVersion {
            release: Release::V4_3,
            patch: 5,
        };
        assert_eq!(version_text(version), "4.3.5 (tamahomeboshi)");
        assert_eq!(
            version_text(last_of_series(Release::V4_7)),
            "4.7.2 (tasukiboshi)"
        );
    }
}
