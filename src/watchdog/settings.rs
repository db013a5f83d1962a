//! The watchdog's settings, as the rest of this folder uses them. [`crate::config`] makes them from
//! either dialect.

use std::{path::PathBuf, time::Duration};

use super::codec::{AuthKey, config_data::ConfigData, heartbeat::Size};

/// Words of `if_up_cmd`, `if_down_cmd` and `arping_cmd` that are run; the original drops the rest.
pub const MAX_COMMAND_WORDS: usize = 23;

#[derive(Clone, Debug)]
pub struct Settings {
    pub own: Member,
    /// All other nodes, in the order of the configuration.
    pub others: Vec<Member>,
    /// How this node is counted on the wire; always announced, as 4.2 and later want it.
    pub node_id: u32,
    /// Local tools number nodes by this configuration and not by `node_id`: itself 0, then the others.
    /// In files of 4.0 and 4.1.
    pub local_numbers: bool,
    pub priority: i32,
    pub authkey: AuthKey,
    /// Empty: there is no virtual IP.
    pub delegate_ip: String,
    /// Where the TCP listener binds; empty: all addresses.
    pub listen_address: String,
    pub listen_port: u16,
    pub ipc_socket_dir: PathBuf,
    /// Network devices whose loss ends this node; `any` stands for all.
    pub monitored_interfaces: Vec<String>,
    pub heartbeat: HeartbeatSettings,
    pub lifecheck: LifecheckSettings,
    pub quorum: QuorumSettings,
    pub consensus: ConsensusSettings,
    pub escalation: EscalationSettings,
    /// What this node tells a leader of its settings.
    pub announced: ConfigData,
    /// How long writes are served after the last sign of a majority; `None`: no lease is kept.
    pub write_lease: Option<Duration>,
}

/// A node as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// `None`: a file of 4.0 or 4.1 does not tell that of other nodes.
    pub node_id: Option<u32>,
    /// Compared as text with what the node says of itself, and with its address.
    pub host: String,
    /// 0: a gap in the numbers, which counts as a node that never appears.
    pub wd_port: u16,
    pub pgpool_port: u16,
}

impl Member {
    /// As in log lines.
    pub fn label(&self) -> String {
        format!("{}:{}", self.host, self.pgpool_port)
    }

    pub fn is_gap(&self) -> bool {
        self.wd_port == 0
    }
}

#[derive(Clone, Debug)]
pub struct HeartbeatSettings {
    pub size: Size,
    pub destinations: Vec<Destination>,
    /// Where the UDP socket binds; empty: all addresses.
    pub listen_addresses: Vec<String>,
    pub listen_port: u16,
    pub keepalive: Duration,
}

/// Where heartbeats go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub host: String,
    pub port: u16,
    /// Bind to this device; empty: none.
    pub device: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecheckMethod {
    Heartbeat,
    Query,
    /// A program tells it through the local socket.
    External,
}

#[derive(Clone, Debug)]
pub struct LifecheckSettings {
    pub method: LifecheckMethod,
    pub interval: Duration,
    /// Without a heartbeat for longer than this a node is dead.
    pub deadtime: Duration,
    /// Failures in a row that make a node dead, for the method query.
    pub life_point: u32,
    pub query: String,
    pub database: String,
    pub user: String,
    pub password: String,
    pub trusted_servers: Vec<String>,
    /// With `%h`, run by the shell; since 4.4. Before, `ping_path` is used.
    pub trusted_server_command: Option<String>,
    pub ping_path: String,
}

impl LifecheckSettings {
    /// For how long a node may show no sign of life until others call it dead, and take the virtual IP.
    pub fn silence(&self) -> Duration {
        match self.method {
            LifecheckMethod::Query => self.interval.saturating_mul(self.life_point.max(1)),
            // An external program has a time of its own, of which nothing is known here.
            LifecheckMethod::Heartbeat | LifecheckMethod::External => self.deadtime,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumSettings {
    /// Exactly half of an even number is enough (always so in 4.0).
    pub half_votes: bool,
    pub remove_shutdown_nodes: bool,
    pub lost_removal: Option<Duration>,
    pub no_show_removal: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsensusSettings {
    pub when_quorum_exists: bool,
    pub require_consensus: bool,
    pub allow_multiple: bool,
    /// What a vote is good for at least, by the own health check parameters.
    pub vote_lifetime: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscalationSettings {
    pub escalation_command: String,
    pub de_escalation_command: String,
    pub clear_query_cache: bool,
    pub if_cmd_path: String,
    pub if_up_cmd: String,
    pub if_down_cmd: String,
    pub arping_path: String,
    pub arping_cmd: String,
    pub ping_path: String,
    /// 4.0 puts the path before absolute programs, too.
    pub always_prefix_path: bool,
}
