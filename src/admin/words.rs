//! Status and role words, role codes.

use crate::{
    cluster::{ClusterView, Node, NodeId},
    config::Release,
};

/// `unused`, `waiting`, `up`, `down`, `quarantine`.
pub fn status_word(node: &Node) -> &'static str {
    let _ = node;
    ""
}

/// PCP's code: 0 main, 1 replica, 2 primary, 3 standby.
pub fn role_code(view: &ClusterView, node: NodeId) -> u8 {
    let _ = (view, node);
    0
}

/// `primary`/`standby` in streaming replication; else `main`/`replica` (`master`/`slave` up to 4.1).
pub fn role_word(view: &ClusterView, node: NodeId, release: Release) -> &'static str {
    let _ = (view, node, release);
    ""
}
