//! Where the parts of the program meet the life of the process: one adapter function per part.
//!
//! [`super::start`] calls nothing else of configuration, authentication, control and data plane.

use std::{io, net::TcpListener, os::unix::net::UnixListener, sync::Arc, thread, time::SystemTime};

use tokio::sync::{mpsc, oneshot};

use super::{fatal::Fatal, log_sink::LogSink, signals};
use crate::{
    auth::{hba::Hba, passwd::PoolPasswd},
    cli::{paths::Paths, version},
    cluster::{ClusterView, Node, NodeStatus},
    config::{Config, settings::CompatVersion},
    control::{Command, Refusal, Shared, SupervisorMessage},
    dataplane,
    observe::Reporter,
};

/// Reads and checks the configuration; findings go to the log.
pub fn load_config(paths: &Paths, reporter: &Reporter) -> Result<Config, Fatal> {
    let _ = reporter;
    stub::load(paths)
}

/// `pgpool --check`: prints the findings; the exit status.
pub fn check(paths: &Paths) -> u8 {
    u8::from(stub::load(paths).is_err())
}

/// The release to be, for `--version`: works without any configuration.
pub fn version_without_start(paths: &Paths) -> CompatVersion {
    stub::load(paths).map_or(version::DEFAULT, |config| compat_version(&config))
}

/// The release to be.
pub fn compat_version(config: &Config) -> CompatVersion {
    config.settings.own.compat_version.unwrap_or(CompatVersion {
        release: config.dialect,
        patch: version::last_patch(config.dialect),
    })
}

/// pool_hba.conf. A bad file refuses all logins and does not stop the start.
pub fn read_hba(config: &Config) -> Result<Hba, String> {
    let _ = config;
    Ok(Hba::default())
}

/// pool_passwd and the key of its AES entries.
pub fn read_passwd(config: &Config) -> Result<PoolPasswd, Fatal> {
    let _ = config;
    Ok(PoolPasswd::default())
}

/// Nodes of the configuration, with the statuses of the status file unless that is to be discarded.
pub fn initial_view(config: &Config, discard_status: bool, reporter: &Reporter) -> ClusterView {
    let _ = (discard_status, reporter);
    ClusterView {
        version: 1,
        mode: config.settings.clustering_mode,
        nodes: (0..config.settings.backends.len())
            .map(|id| Node {
                id,
                hostname: String::new(),
                port: 0,
                data_directory: String::new(),
                application_name: String::new(),
                weight: 0.0,
                flag: Default::default(),
                status: NodeStatus::Waiting,
                quarantine: false,
                status_changed: SystemTime::now(),
            })
            .collect(),
        primary: None,
    }
}

/// Serves clients from now on.
pub fn start_dataplane(
    shared: &Arc<Shared>,
    tcp: Vec<TcpListener>,
    unix: Vec<UnixListener>,
) -> io::Result<dataplane::Handle> {
    let _ = shared;
    // The listeners must stay open while the process lives.
    Box::leak(Box::new((tcp, unix)));
    Ok(dataplane::Handle {})
}

/// The control plane's thread: supervisor, checks, PCP.
pub struct Control {
    started: Option<oneshot::Receiver<Result<(), Fatal>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

pub fn spawn_control(
    shared: Arc<Shared>,
    messages: mpsc::UnboundedReceiver<SupervisorMessage>,
    paths: Paths,
) -> io::Result<Control> {
    let (started_sender, started) = oneshot::channel();
    let (stop, stopped) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let thread = thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            let _ = started_sender.send(Ok(()));
            runtime.block_on(async {
                tokio::select! {
                    () = stub::supervise(shared, messages, paths) => {}
                    _ = stopped => {}
                }
            });
        })?;
    Ok(Control {
        started: Some(started),
        stop: Some(stop),
        thread: Some(thread),
    })
}

impl Control {
    /// The primary has been searched and PCP answers. Waits for ever when called again.
    pub async fn started(&mut self) -> Result<(), Fatal> {
        let Some(started) = &mut self.started else {
            return std::future::pending().await;
        };
        let result = started.await;
        self.started = None;
        result.unwrap_or_else(|_| Err(Fatal::new("the control plane has ended during the start")))
    }

    /// Ends checks, hooks and PCP.
    pub fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Stands in for the parts that are written elsewhere.
#[allow(clippy::cast_possible_truncation)]
mod stub {
    use std::{collections::HashMap, fs, path::PathBuf, time::Duration};

    use super::*;
    use crate::{
        config::{
            Release, Settings,
            parameter::Values,
            settings::{BackendSettings, ClusteringMode, LogStandbyDelay, OwnSettings, Verbosity},
        },
        observe::Severity,
    };

    pub async fn supervise(
        shared: Arc<Shared>,
        mut messages: mpsc::UnboundedReceiver<SupervisorMessage>,
        paths: Paths,
    ) {
        let reporter = Reporter::new("main");
        while let Some(message) = messages.recv().await {
            match message {
                SupervisorMessage::Command(Command::Reload { reply }) => {
                    reporter.log("reload config files.");
                    let result = load(&paths).map_err(|fatal| Refusal::error(fatal.message));
                    let _ = reply.send(result.map(|config| {
                        if let Some(sink) = LogSink::global() {
                            sink.reconfigure(&config.settings);
                        }
                        shared.config.store(Arc::new(config));
                    }));
                }
                SupervisorMessage::Command(Command::Stop { mode }) => signals::request_stop(mode),
                _ => {}
            }
        }
    }

    pub fn load(paths: &Paths) -> Result<Config, Fatal> {
        let text = fs::read_to_string(&paths.config).map_err(|error| {
            Fatal::new(format!(
                "could not open configuration file: \"{}\"",
                paths.config.display()
            ))
            .detail(error.to_string())
        })?;
        let mut set = HashMap::new();
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, value)) = line.split_once('=') else {
                return Err(Fatal::new(format!("syntax error in line: {line}")));
            };
            set.insert(
                name.trim().to_owned(),
                value.trim().trim_matches('\'').to_owned(),
            );
        }
        let text = |name: &str, default: &str| {
            set.get(name).cloned().unwrap_or_else(|| default.to_owned())
        };
        let number = |name: &str, default: u64| {
            let text = text(name, "");
            match text.strip_prefix("0") {
                Some(octal) if !octal.is_empty() => u64::from_str_radix(octal, 8).ok(),
                _ => text.parse().ok(),
            }
            .unwrap_or(default)
        };
        let flag = |name: &str| text(name, "off") == "on";
        let list = |name: &str, default: &str| -> Vec<String> {
            text(name, default).split(',').map(str::to_owned).collect()
        };
        let destination = text("log_destination", "stderr");
        let settings = Settings {
            clustering_mode: ClusteringMode::Raw,
            listen_addresses: list("listen_addresses", "localhost"),
            port: number("port", 9999) as u16,
            unix_socket_directories: list("socket_dir", "/tmp")
                .iter()
                .map(PathBuf::from)
                .collect(),
            unix_socket_group: String::new(),
            unix_socket_permissions: 0o777,
            listen_backlog_multiplier: 2,
            serialize_accept: false,
            reserved_connections: 0,
            pcp_listen_addresses: vec![],
            pcp_port: number("pcp_port", 9898) as u16,
            pcp_socket_dirs: list("pcp_socket_dir", "/tmp")
                .iter()
                .map(PathBuf::from)
                .collect(),
            backends: vec![BackendSettings {
                used: true,
                ..Default::default()
            }],
            enable_pool_hba: false,
            authentication_timeout: None,
            allow_clear_text_frontend_auth: false,
            ssl: false,
            num_init_children: number("num_init_children", 32) as usize,
            max_pool: 4,
            child_life_time: None,
            child_max_connections: None,
            connection_life_time: None,
            client_idle_limit: None,
            client_idle_limit_in_recovery: 0,
            connection_cache: true,
            reset_query_list: vec![],
            load_balance_mode: false,
            allow_sql_comments: false,
            log_to_stderr: destination.contains("stderr"),
            log_to_syslog: destination.contains("syslog"),
            log_line_prefix: text("log_line_prefix", "%m: %a pid %p: "),
            log_connections: false,
            log_disconnections: false,
            log_hostname: false,
            log_statement: false,
            log_per_node_statement: false,
            log_client_messages: false,
            log_error_verbosity: Verbosity::Default,
            client_min_messages: Severity::Notice,
            log_min_messages: match &*text("log_min_messages", "warning") {
                "fatal" => Severity::Fatal,
                "debug1" => Severity::Debug1,
                _ => Severity::Warning,
            },
            syslog_facility: text("syslog_facility", "LOCAL0"),
            syslog_ident: text("syslog_ident", "pgpool"),
            logging_collector: flag("logging_collector"),
            log_directory: text("log_directory", "/tmp/pgpool_logs").into(),
            log_filename: text("log_filename", "pgpool-%Y-%m-%d_%H%M%S.log"),
            log_file_mode: number("log_file_mode", 0o600) as u32,
            log_truncate_on_rotation: flag("log_truncate_on_rotation"),
            log_rotation_age: Some(Duration::from_secs(60 * number("log_rotation_age", 1440))),
            log_rotation_size: Some(1024 * number("log_rotation_size", 10240)),
            log_standby_delay: LogStandbyDelay::None,
            pid_file_name: text("pid_file_name", "/var/run/pgpool/pgpool.pid").into(),
            work_dir: text("logdir", "/tmp").into(),
            failover_command: String::new(),
            failback_command: String::new(),
            follow_primary_command: String::new(),
            failover_on_backend_error: true,
            failover_on_backend_shutdown: None,
            detach_false_primary: false,
            search_primary_node_timeout: None,
            auto_failback: false,
            auto_failback_interval: Duration::from_secs(60),
            sr_check_period: None,
            sr_check_user: String::new(),
            sr_check_password: String::new(),
            sr_check_database: String::new(),
            delay_threshold: None,
            delay_threshold_by_time: None,
            health_check_test: false,
            recovery_timeout: Duration::from_secs(90),
            own: OwnSettings {
                admin_database: "pgpool_admin".into(),
                compat_version: None,
                worker_threads: 1,
            },
        };
        Ok(Config {
            dialect: Release::V4_3,
            settings,
            values: Values::default(),
            path: paths.config.clone(),
            hba_path: paths.hba.clone(),
            pcp_path: paths.pcp.clone(),
            pool_passwd_path: None,
            pool_key_path: paths.key.clone(),
        })
    }
}
