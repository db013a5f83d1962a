//! One consistent set of facts from which the tables of admin SQL and the replies of PCP are made.

use std::{
    sync::{Arc, PoisonError},
    time::SystemTime,
};

use super::{probe, tables, words};
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
    /// Of this process.
    pub start_time: SystemTime,
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
        let config = shared.config.load_full();
        let view = shared.view.load_full();
        let health = shared
            .health
            .iter()
            .take(view.nodes.len())
            .map(|stats| stats.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .collect();
        let totals = (0..view.nodes.len())
            .map(|node| shared.totals(node))
            .collect();
        let compat = config
            .settings
            .own
            .compat_version
            .unwrap_or_else(|| words::last_of_series(config.dialect));
        Inputs {
            compat,
            config,
            view,
            replication: shared.replication.load_full(),
            health,
            totals,
            slots: Vec::new(),
            probes: Vec::new(),
            start_time: shared.start_time,
        }
    }

    pub async fn gather_with_slots(shared: &Shared) -> Inputs {
        let mut inputs = Inputs::gather(shared).await;
        if let Some(dataplane) = shared.dataplane() {
            inputs.slots = dataplane.slots().await;
        }
        inputs
    }

    /// Asks every node side by side (a connection with the health check user, then
    /// `pg_is_in_recovery()` with the `sr_check_user`), within `connect_timeout`.
    pub async fn gather_with_probes(shared: &Shared) -> Inputs {
        let mut inputs = Inputs::gather(shared).await;
        let (passwd, tls) = (shared.passwd.load_full(), shared.tls.load_full());
        inputs.probes = probe::all(&inputs.config, &inputs.view, &passwd, &tls).await;
        inputs
    }

    /// Rows of `SHOW pool_status` and `pcp_pool_status`: item, value, description (at most 79 characters).
    pub fn pool_status_rows(&self) -> Vec<[String; 3]> {
        tables::status_rows(self)
    }

    /// The 20 fields of `SHOW pool_health_check_stats` and `pcp_health_check_stats`;
    /// none for a number that is no node's.
    pub fn health_check_stats_row(&self, node: usize) -> Vec<String> {
        tables::health_check_row(self, node)
    }

    /// What `SHOW pool_version` names: of the series of the file's dialect, because some tools choose
    /// their column layouts by it.
    pub fn version(&self) -> CompatVersion {
        let series = self.config.dialect;
        if self.compat.release == series {
            self.compat
        } else {
            words::last_of_series(series)
        }
    }
}
