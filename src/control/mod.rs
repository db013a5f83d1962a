//! The control plane: what all parts share, and the messages between them.

pub mod backend_client;
pub mod messages;
pub mod reload;
pub mod runtime;
pub mod supervisor;

use std::{
    sync::{
        Mutex, OnceLock, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

pub use messages::{Command, Refusal, Report, StopMode, SupervisorMessage};
pub use reload::{ConfigLoader, Reloaded};
pub use supervisor::Supervisor;

use crate::{
    auth::{hba::Hba, passwd::PoolPasswd},
    cluster::{ClusterView, NodeId, NodeReplication},
    config::Config,
    dataplane,
    events::History,
    observe::{HealthStats, counters::NodeTotals},
    tls::Tls,
    watchdog::{self, write_lease::WriteLease},
};

/// Everything that more than one task reads. One `Arc<Shared>` per process.
///
/// Each field has one writer, named here; readers load snapshots without a lock.
pub struct Shared {
    /// Supervisor, at reload.
    pub config: ArcSwap<Config>,
    /// Supervisor.
    pub view: ArcSwap<ClusterView>,
    /// Replication check; one entry per node.
    pub replication: ArcSwap<Vec<NodeReplication>>,
    /// Health check of each node; one entry per node id that can exist.
    pub health: Vec<Mutex<HealthStats>>,
    /// Supervisor, at reload. `Err`: the file is bad, all logins are refused.
    pub hba: ArcSwap<Result<Hba, String>>,
    /// Supervisor, at reload.
    pub passwd: ArcSwap<PoolPasswd>,
    /// Supervisor, at reload.
    pub tls: ArcSwap<Tls>,
    /// The watchdog.
    pub write_lease: WriteLease,
    /// Set once at start; counts and lists of sessions come from here.
    pub dataplane: RwLock<Option<dataplane::Handle>>,
    pub supervisor: mpsc::UnboundedSender<SupervisorMessage>,
    /// What was done to the cluster, and why. Supervisor, online recovery; main for the end.
    pub events: History,
    /// Set once at start, with `use_watchdog`.
    pub watchdog: OnceLock<watchdog::shell::Handle>,
    /// "pgpool-II successfully started" has been said; failover requests before that are ignored.
    pub started: AtomicBool,
    pub start_time: SystemTime,
}

impl Shared {
    /// Sends a report of the data plane; nobody waits for an answer.
    pub fn report(&self, report: Report) {
        // The supervisor lives as long as the process; at its end nobody needs the report.
        let _ = self.supervisor.send(SupervisorMessage::Report(report));
    }

    pub fn has_started(&self) -> bool {
        self.started.load(Relaxed)
    }

    /// Statement and error counters of `node`, summed over all workers.
    pub fn totals(&self, node: NodeId) -> NodeTotals {
        match &*self
            .dataplane
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
        {
            Some(handle) => handle.totals(node),
            None => NodeTotals::default(),
        }
    }

    pub fn dataplane(&self) -> Option<dataplane::Handle> {
        self.dataplane
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }
}
