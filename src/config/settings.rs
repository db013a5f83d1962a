//! Settings as the rest of the program uses them: typed, with units, and already checked.
//!
//! Field names are the parameter names of release 4.3 (of the newest release, for newer ones).
//! `None` stands for the parameter's "off" or "never" value, usually zero.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::observe::Severity;

#[derive(Clone, Debug)]
pub struct Settings {
    pub clustering_mode: ClusteringMode,

    // Connections
    pub listen_addresses: Vec<String>,
    pub port: u16,
    pub unix_socket_directories: Vec<PathBuf>,
    pub unix_socket_group: String,
    pub unix_socket_permissions: u32,
    pub listen_backlog_multiplier: u32,
    pub serialize_accept: bool,
    pub reserved_connections: usize,
    pub pcp_listen_addresses: Vec<String>,
    pub pcp_port: u16,
    pub pcp_socket_dirs: Vec<PathBuf>,
    /// One per slot number; gaps have `used = false`. The index is the node id.
    pub backends: Vec<BackendSettings>,
    pub enable_pool_hba: bool,
    pub authentication_timeout: Option<Duration>,
    pub allow_clear_text_frontend_auth: bool,
    pub ssl: bool,
    pub tls: SslSettings,

    // Pools
    pub num_init_children: usize,
    pub max_pool: usize,
    pub child_life_time: Option<Duration>,
    pub child_max_connections: Option<u64>,
    pub connection_life_time: Option<Duration>,
    pub client_idle_limit: Option<Duration>,
    /// Seconds; -1 means at once, 0 never.
    pub client_idle_limit_in_recovery: i64,
    pub connection_cache: bool,
    pub reset_query_list: Vec<String>,

    // Load balancing
    pub load_balance_mode: bool,
    pub allow_sql_comments: bool,
    /// All that decides where statements go, with its lists compiled.
    pub routing: Arc<crate::routing::settings::Settings>,

    // Logging
    pub log_to_stderr: bool,
    pub log_to_syslog: bool,
    pub log_line_prefix: String,
    pub log_connections: bool,
    pub log_disconnections: bool,
    pub log_hostname: bool,
    pub log_statement: bool,
    pub log_per_node_statement: bool,
    pub log_client_messages: bool,
    pub log_error_verbosity: Verbosity,
    pub client_min_messages: Severity,
    pub log_min_messages: Severity,
    /// `LOCAL0` and so on, as written.
    pub syslog_facility: String,
    pub syslog_ident: String,
    pub logging_collector: bool,
    pub log_directory: PathBuf,
    pub log_filename: String,
    pub log_file_mode: u32,
    pub log_truncate_on_rotation: bool,
    pub log_rotation_age: Option<Duration>,
    /// Bytes.
    pub log_rotation_size: Option<u64>,
    pub log_standby_delay: LogStandbyDelay,

    // Files
    pub pid_file_name: PathBuf,
    /// `logdir`, `work_dir` since 4.7: the status file and `backend_down_request` live here.
    pub work_dir: PathBuf,

    // Failover
    pub failover_command: String,
    pub failback_command: String,
    pub follow_primary_command: String,
    pub failover_on_backend_error: bool,
    /// `Some` only when the file sets it; see docs/differences.md on 57P01.
    pub failover_on_backend_shutdown: Option<bool>,
    pub detach_false_primary: bool,
    /// `None`: search for ever.
    pub search_primary_node_timeout: Option<Duration>,
    pub auto_failback: bool,
    pub auto_failback_interval: Duration,

    // Replication check
    pub sr_check_period: Option<Duration>,
    pub sr_check_user: String,
    pub sr_check_password: String,
    pub sr_check_database: String,
    /// Bytes of WAL.
    pub delay_threshold: Option<u64>,
    pub delay_threshold_by_time: Option<Duration>,
    pub health_check_test: bool,

    // Online recovery
    pub recovery_user: String,
    pub recovery_password: String,
    /// Empty before 4.7, which does not know it.
    pub recovery_database: String,
    pub recovery_1st_stage_command: String,
    pub recovery_2nd_stage_command: String,
    pub recovery_timeout: Duration,

    /// From pgpool-rs.conf.
    /// `None`: off, or this node is not told by the settings.
    pub watchdog: Option<Arc<crate::watchdog::settings::Settings>>,

    pub own: OwnSettings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusteringMode {
    StreamingReplication,
    NativeReplication,
    LogicalReplication,
    Slony,
    Raw,
    SnapshotIsolation,
}

impl ClusteringMode {
    /// Whether reads may go to a standby while writes go to one node.
    pub fn balances(self) -> bool {
        matches!(
            self,
            ClusteringMode::StreamingReplication
                | ClusteringMode::LogicalReplication
                | ClusteringMode::Slony
        )
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackendSettings {
    /// A slot whose port is set.
    pub used: bool,
    /// Host name, address, or (leading slash) socket directory; empty: the default socket directory.
    pub hostname: String,
    pub port: u16,
    pub weight: f64,
    pub data_directory: String,
    pub application_name: String,
    pub flag: BackendFlag,
    pub health_check: HealthCheckSettings,
    pub tls: BackendSslSettings,
}

/// `ssl_*`. Paths are absolute; an empty one is an empty parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SslSettings {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub ca_cert: PathBuf,
    pub ca_cert_dir: PathBuf,
    pub crl_file: PathBuf,
    pub ciphers: String,
    pub prefer_server_ciphers: bool,
    /// Empty in files of releases that do not know it.
    pub ecdh_curve: String,
    pub dh_params_file: PathBuf,
    pub passphrase_command: String,
}

/// `backend_ssl*` of one node, from pgpool-rs.conf. Paths as in [`SslSettings`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendSslSettings {
    pub mode: BackendSslMode,
    /// `backend_sslnegotiation = direct`: TLS without asking for it first.
    pub direct: bool,
    /// `system`: the certificates of the operating system.
    pub ca_cert: PathBuf,
    pub crl_file: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// `backend_sslmode`, in the words of libpq.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendSslMode {
    /// Not set: as the original, which tries it when `ssl` is on.
    #[default]
    Stock,
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendFlag {
    pub disallow_to_failover: bool,
    pub always_primary: bool,
}

/// `health_check_*` and `connect_timeout` of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthCheckSettings {
    pub period: Option<Duration>,
    pub timeout: Option<Duration>,
    pub user: String,
    pub password: String,
    pub database: String,
    /// Attempts after the first.
    pub max_retries: u32,
    pub retry_delay: Duration,
    /// Limit of one TCP connect; `None`: none.
    pub connect_timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    Terse,
    Default,
    Verbose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStandbyDelay {
    None,
    Always,
    IfOverThreshold,
}

/// Settings that stock does not know, from the optional file `pgpool-rs.conf` beside pgpool.conf.
#[derive(Clone, Debug)]
pub struct OwnSettings {
    /// Sessions to this database speak admin SQL only, outside the slots. Default `pgpool_admin`.
    pub admin_database: String,
    /// Emulated release of the PCP layouts, `4.3` or `4.3.5`; `None`: found out at start.
    pub compat_version: Option<CompatVersion>,
    /// Data plane threads; default one per core.
    pub worker_threads: usize,
    /// `None` while `auth_user` is empty.
    pub auth_query: Option<AuthQuerySettings>,
    /// How long a remembered password is good for; `None`: as long as the connection lives.
    pub remembered_password_life_time: Option<Duration>,
    /// Longest delay of the answer to a failed login; zero: none.
    pub auth_failure_delay_max: Duration,
}

/// `auth_query` and what belongs to it.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthQuerySettings {
    pub user: String,
    /// In any form of pool_passwd; empty: the entry of the user there.
    pub password: String,
    pub dbname: String,
    pub query: String,
    pub cache_life_time: Duration,
}

impl std::fmt::Debug for AuthQuerySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthQuerySettings")
            .field("user", &self.user)
            .field("dbname", &self.dbname)
            .field("query", &self.query)
            .finish_non_exhaustive()
    }
}

/// A release whose PCP layouts, role words and texts are emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CompatVersion {
    pub release: super::Release,
    /// Without one in the setting: the last of its series.
    pub patch: u8,
}
