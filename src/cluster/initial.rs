//! The first picture of the cluster: nodes of the configuration with the statuses of the status file.

use std::time::SystemTime;

use super::{ClusterView, Node, NodeId, NodeStatus};
use crate::config::Settings;

/// One node per slot number. `status` gives the status of a slot that is in use.
pub fn nodes(
    settings: &Settings,
    status: impl Fn(NodeId) -> NodeStatus,
    now: SystemTime,
) -> Vec<Node> {
    let sum: f64 = settings
        .backends
        .iter()
        .filter(|b| b.used)
        .map(|b| b.weight)
        .sum();
    settings
        .backends
        .iter()
        .enumerate()
        .map(|(id, backend)| Node {
            id,
            hostname: backend.hostname.clone(),
            port: backend.port,
            data_directory: backend.data_directory.clone(),
            application_name: backend.application_name.clone(),
            weight: if backend.used && sum > 0.0 {
                backend.weight / sum
            } else {
                0.0
            },
            flag: backend.flag,
            status: if backend.used {
                status(id)
            } else {
                NodeStatus::Unused
            },
            quarantine: false,
            status_changed: now,
        })
        .collect()
}

/// `statuses` as [`super::status_file::read`] gives them.
pub fn initial_view(settings: &Settings, statuses: &[NodeStatus], now: SystemTime) -> ClusterView {
    let status = |id| statuses.get(id).copied().unwrap_or(NodeStatus::Waiting);
    let mut view = ClusterView {
        version: 1,
        mode: settings.clustering_mode,
        nodes: nodes(settings, status, now),
        primary: None,
        primary_search_running: false,
    };
    if view.main_node().is_none() {
        // The living slots of the file are not configured any more.
        for node in view
            .nodes
            .iter_mut()
            .filter(|n| n.status == NodeStatus::Down)
        {
            node.status = NodeStatus::Waiting;
        }
    }
    view.primary_search_running = view.has_primary() && view.main_node().is_some();
    view
}
