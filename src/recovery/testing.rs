//! Builders for tests of this folder.

use std::time::Duration;

use super::core::{Answer, Installed, REMOTE_START, Settings};
use crate::{
    cluster::{ClusterView, NodeStatus},
    config::{Release, settings::ClusteringMode},
    failover::testing,
};

/// Three nodes, primary 0, node 1 down.
pub(super) fn view() -> ClusterView {
    let mut view = testing::view(3);
    view.primary = Some(0);
    view.nodes[1].status = NodeStatus::Down;
    view
}

/// The same in native replication mode.
pub(super) fn replicating() -> ClusterView {
    ClusterView {
        mode: ClusteringMode::NativeReplication,
        primary: None,
        ..view()
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        dialect: Release::V4_3,
        user: "postgres".to_owned(),
        first_stage: "first.sh".to_owned(),
        second_stage: "second.sh".to_owned(),
        timeout: Duration::from_secs(6),
    }
}

pub(super) fn installed() -> Installed {
    Installed {
        recovery: vec![3, 4, 5, 6, 7],
        remote_start: true,
        missing: Vec::new(),
        data_directory: "/data0".to_owned(),
    }
}

/// Everything is there but `script`.
pub(super) fn without(script: &str) -> Answer {
    assert!([REMOTE_START, "first.sh", "second.sh"].contains(&script));
    Answer::Source(Installed {
        missing: vec![script.to_owned()],
        ..installed()
    })
}
