//! The data plane: accepting clients, slots, sessions, the relay.

pub mod info;

use crate::{cluster::NodeId, control::StopMode, observe::counters::NodeTotals};

pub use info::{PoolInfo, SlotInfo, SlotStatus};

/// What the control plane holds of the data plane.
#[derive(Clone)]
pub struct Handle {}

impl Handle {
    /// Statement and error counters of `node`, summed over all workers.
    pub fn totals(&self, node: NodeId) -> NodeTotals {
        let _ = node;
        NodeTotals::default()
    }

    /// All slots in the order of their numbers, as they are now.
    pub async fn slots(&self) -> Vec<SlotInfo> {
        Vec::new()
    }

    /// The numbers shown as pids, one per slot (`pcp_proc_count`).
    pub fn slot_pids(&self) -> Vec<u32> {
        Vec::new()
    }

    /// Clients that hold a slot.
    pub fn connected_clients(&self) -> usize {
        0
    }

    /// Clients that wait for a slot.
    pub fn waiting_clients(&self) -> usize {
        0
    }

    /// The supervisor has published a new [`crate::cluster::ClusterView`]: sessions that the
    /// change touches end or drop the node, idle cached connections to nodes that are gone close.
    pub fn view_changed(&self) {}

    /// The supervisor has published a new [`crate::config::Config`].
    pub fn config_changed(&self) {}

    /// Stops accepting; smart lets sessions finish, the other modes cut them.
    pub fn stop(&self, mode: StopMode) {
        let _ = mode;
    }

    /// Returns when all sessions have ended after [`Handle::stop`].
    pub async fn stopped(&self) {}
}
