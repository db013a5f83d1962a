//! An immutable picture of all nodes. The supervisor publishes a new one at each change.

use std::time::SystemTime;

use crate::config::settings::{BackendFlag, ClusteringMode};

/// Backend number as in `backend_hostname0`.
pub type NodeId = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeStatus {
    /// Slot without a backend.
    Unused,
    /// Configured; no client session has used it since start or attach.
    Waiting,
    Up,
    Down,
}

impl NodeStatus {
    /// The number in PCP replies and log texts.
    pub fn code(self) -> u8 {
        match self {
            NodeStatus::Unused => 0,
            NodeStatus::Waiting => 1,
            NodeStatus::Up => 2,
            NodeStatus::Down => 3,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Node {
    pub id: NodeId,
    pub hostname: String,
    pub port: u16,
    pub data_directory: String,
    pub application_name: String,
    /// Share of the sum of all weights, 0 to 1.
    pub weight: f64,
    pub flag: BackendFlag,
    pub status: NodeStatus,
    /// Watchdog only: locally unreachable, not failed over.
    pub quarantine: bool,
    pub status_changed: SystemTime,
}

impl Node {
    /// Waiting or up: sessions connect to it.
    pub fn is_valid(&self) -> bool {
        matches!(self.status, NodeStatus::Waiting | NodeStatus::Up)
    }
}

/// All nodes at one moment. A session compares [`ClusterView::version`] to learn of changes.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// Grows with each change of a status or role.
    pub version: u64,
    pub mode: ClusteringMode,
    /// Index is the node id; gaps are `Unused`.
    pub nodes: Vec<Node>,
    /// Found by the primary search; always `None` outside streaming and logical replication.
    pub primary: Option<NodeId>,
    /// No primary is known and one is being looked for, or a hook that may make one runs: there is
    /// no node to write to. New sessions and statements that need the primary wait until this ends.
    /// False again as soon as waiting cannot help (no server says that it is a standby, or one does
    /// not let us ask), and when the search has given up.
    pub primary_search_running: bool,
}

impl ClusterView {
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// Waiting or up.
    pub fn is_valid(&self, id: NodeId) -> bool {
        self.node(id).is_some_and(Node::is_valid)
    }

    /// Whether sessions connect to the node, its health is checked and it can be detached: each
    /// valid node, but in raw mode the main node alone; the others are spares that need not even run
    /// (`VALID_BACKEND` of `src/include/pool.h @ V4_3_5`).
    pub fn takes_part(&self, id: NodeId) -> bool {
        match self.mode {
            ClusteringMode::Raw => self.main_node() == Some(id),
            _ => self.is_valid(id),
        }
    }

    /// Ids of all valid nodes, ascending.
    pub fn valid_nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().filter(|n| n.is_valid()).map(|n| n.id)
    }

    /// Whether this mode has a primary that is found by asking the servers
    /// (`SL_MODE` of `src/include/pool.h @ V4_3_5`).
    pub fn has_primary(&self) -> bool {
        matches!(
            self.mode,
            ClusteringMode::StreamingReplication | ClusteringMode::LogicalReplication
        )
    }

    /// The valid node with the lowest id ("main node" of the manual).
    pub fn main_node(&self) -> Option<NodeId> {
        self.nodes.iter().find(|n| n.is_valid()).map(|n| n.id)
    }

    /// Where statements go that are not balanced: the primary if it is valid, else the main node;
    /// `None` while the primary is being looked for, so that nothing is written to a standby.
    pub fn write_node(&self) -> Option<NodeId> {
        if self.primary_search_running {
            return None;
        }
        self.primary
            .filter(|&p| self.nodes.get(p).is_some_and(Node::is_valid))
            .or_else(|| self.main_node())
    }
}

/// Replication facts of a node; refreshed each `sr_check_period`, published apart from the view
/// because they change all the time and end no session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeReplication {
    /// Bytes of WAL behind the primary.
    pub delay_bytes: u64,
    /// `replay_lag` of pg_stat_replication.
    pub delay_time: std::time::Duration,
    /// `state` of pg_stat_replication on the primary; empty when not known.
    pub state: String,
    /// `sync_state`, likewise.
    pub sync_state: String,
}
