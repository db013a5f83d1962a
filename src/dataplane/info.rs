//! What `SHOW pool_processes`, `SHOW pool_pools`, `pcp_proc_count` and `pcp_proc_info` show of a slot.

use std::time::{Duration, SystemTime};

use crate::{cluster::NodeId, tls::TlsInfo};

/// One slot: it plays the part of a child process of the original.
#[derive(Clone, Debug)]
pub struct SlotInfo {
    /// Shown as pid; from 4194305 on, above all pids that Linux hands out.
    pub pid: u32,
    pub start_time: SystemTime,
    /// Sessions served since `start_time`.
    pub client_connection_count: u64,
    pub status: SlotStatus,
    /// Time until `child_life_time` renews an idle slot that has served a client.
    pub restarts_in: Option<Duration>,
    /// Remote address of the connected client; empty when none or on a unix socket.
    pub client_host: String,
    pub client_port: String,
    /// When the client has come by TLS.
    pub client_tls: Option<TlsInfo>,
    /// Last statement of the connected client.
    pub statement: String,
    /// `max_pool` entries; `None` where nothing is cached.
    pub pools: Vec<Option<PoolInfo>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotStatus {
    WaitForConnection,
    Connecting,
    ExecuteCommand,
    Idle,
    IdleInTransaction,
}

impl SlotStatus {
    /// `Connecting` exists from 4.4 on; callers of older layouts print it as `Execute command`.
    pub fn text(self) -> &'static str {
        match self {
            SlotStatus::WaitForConnection => "Wait for connection",
            SlotStatus::Connecting => "Connecting",
            SlotStatus::ExecuteCommand => "Execute command",
            SlotStatus::Idle => "Idle",
            SlotStatus::IdleInTransaction => "Idle in transaction",
        }
    }
}

/// One cached set of backend connections for a (user, database).
#[derive(Clone, Debug)]
pub struct PoolInfo {
    pub database: String,
    pub username: String,
    /// When the backend connections were made.
    pub backend_connection_time: SystemTime,
    pub client_connection_time: Option<SystemTime>,
    pub client_disconnection_time: Option<SystemTime>,
    /// Since the last message of the connected client.
    pub client_idle_duration: Duration,
    /// Protocol version.
    pub major: u16,
    pub minor: u16,
    /// Sessions that have used this set.
    pub pool_counter: u64,
    /// A client is using it now.
    pub connected: bool,
    pub load_balance_node: Option<NodeId>,
    /// PostgreSQL's pid per node; `None` where the set has no connection to the node.
    pub backend_pids: Vec<Option<u32>>,
}
