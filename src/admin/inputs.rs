//! One consistent set of facts from which the tables of admin SQL and the replies of PCP are made.

use std::sync::Arc;

use crate::{
    cluster::{ClusterView, NodeReplication},
    config::{Config, settings::CompatVersion},
    control::Shared,
    dataplane::SlotInfo,
    observe::{HealthStats, counters::NodeTotals},
};

pub struct Inputs {
    pub config: Arc<Config>,
    pub view: Arc<ClusterView>,
    pub replication: Arc<Vec<NodeReplication>>,
    pub health: Vec<HealthStats>,
    pub totals: Vec<NodeTotals>,
    /// Filled by [`Inputs::gather_with_slots`] only.
    pub slots: Vec<SlotInfo>,
    /// Filled by [`Inputs::gather_with_probes`] only.
    pub probes: Vec<NodeProbe>,
    /// Release whose PCP layouts are emulated.
    pub compat: CompatVersion,
}

/// What a node itself says while the command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeProbe {
    /// `up`, `down`, `unknown`.
    pub pg_status: &'static str,
    /// `primary`, `standby`, `unknown`; outside streaming replication the same word as the role.
    pub pg_role: &'static str,
}

impl Inputs {
    pub async fn gather(shared: &Shared) -> Inputs {
        let _ = shared;
        unimplemented!("written with the admin module")
    }

    pub async fn gather_with_slots(shared: &Shared) -> Inputs {
        Inputs::gather(shared).await
    }

    /// Asks every node side by side (a connection with the health check user, then
    /// `pg_is_in_recovery()` with the `sr_check_user`), within `connect_timeout`.
    pub async fn gather_with_probes(shared: &Shared) -> Inputs {
        Inputs::gather(shared).await
    }

    /// Rows of `SHOW pool_status` and `pcp_pool_status`: item, value, description (at most 79 characters).
    pub fn pool_status_rows(&self) -> Vec<[String; 3]> {
        Vec::new()
    }

    /// The 20 fields of `SHOW pool_health_check_stats` and `pcp_health_check_stats`.
    pub fn health_check_stats_row(&self, node: usize) -> Vec<String> {
        let _ = node;
        Vec::new()
    }
}
