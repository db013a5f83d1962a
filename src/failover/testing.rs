//! Builders for tests of this folder.

use std::time::SystemTime;

use crate::{
    cluster::{ClusterView, Node, NodeStatus},
    config::settings::{BackendFlag, ClusteringMode},
};

/// `count` nodes in use: host0(11002) with /data0, and so on; streaming replication, no primary yet.
pub(crate) fn view(count: usize) -> ClusterView {
    ClusterView {
        version: 1,
        mode: ClusteringMode::StreamingReplication,
        nodes: (0..count)
            .map(|id| Node {
                id,
                hostname: format!("host{id}"),
                port: 11002 + u16::try_from(id).expect("few nodes"),
                data_directory: format!("/data{id}"),
                application_name: format!("server{id}"),
                weight: 1.0 / count.to_string().parse::<f64>().expect("a number"),
                flag: BackendFlag::default(),
                status: NodeStatus::Up,
                quarantine: false,
                status_changed: SystemTime::UNIX_EPOCH,
            })
            .collect(),
        primary: None,
        primary_search_running: false,
    }
}

/// Commands that show all placeholders, a search of ten seconds, dialect 4.3.
pub(crate) fn settings() -> super::core::Settings {
    let arguments = "%d %h %p %D %m %H %M %P %r %R %N %S";
    super::core::Settings {
        dialect: crate::config::Release::V4_3,
        failover_command: format!("failover {arguments}"),
        failback_command: format!("failback {arguments}"),
        follow_primary_command: String::new(),
        search_primary_node_timeout: Some(std::time::Duration::from_secs(10)),
        detach_false_primary: false,
        pid: 4711,
    }
}
