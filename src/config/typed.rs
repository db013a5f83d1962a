//! Values by name into [`Settings`], with the meaning that the file's dialect gives them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    Config, Release, checks,
    parameter::{Value, Values},
    paths::Paths,
    settings::{
        AuthQuerySettings, BackendSettings, BackendSslMode, BackendSslSettings, ClusteringMode,
        HealthCheckSettings, LogStandbyDelay, OwnSettings, Settings, SslSettings, Verbosity,
    },
};
use crate::observe::Severity;

pub(super) fn config(values: Values, dialect: Release, paths: &Paths) -> Config {
    let pool_passwd = values.text("pool_passwd", None);
    Config {
        dialect,
        settings: settings(&values, dialect, paths),
        path: paths.config.clone(),
        hba_path: paths.hba.clone(),
        pcp_path: paths.pcp.clone(),
        pool_passwd_path: (!pool_passwd.is_empty()).then(|| paths.beside_config(pool_passwd)),
        pool_key_path: paths.key.clone(),
        values,
    }
}

fn settings(values: &Values, dialect: Release, paths: &Paths) -> Settings {
    let v = View { values };
    let work_dir = if dialect >= Release::V4_7 {
        "work_dir"
    } else {
        "logdir"
    };
    let follow = if dialect >= Release::V4_2 {
        "follow_primary_command"
    } else {
        "follow_master_command"
    };
    let destinations = v.text("log_destination");
    let destination = |word| destinations.split(',').any(|d| d == word);
    Settings {
        clustering_mode: clustering_mode(values, dialect),

        listen_addresses: v.addresses("listen_addresses"),
        port: v.port("port", None),
        unix_socket_directories: if dialect >= Release::V4_4 {
            v.directories("unix_socket_directories")
        } else {
            vec![v.text("socket_dir").into()]
        },
        unix_socket_group: v.text("unix_socket_group"),
        unix_socket_permissions: if dialect >= Release::V4_4 {
            v.unsigned("unix_socket_permissions")
        } else {
            0o777
        },
        listen_backlog_multiplier: v.unsigned("listen_backlog_multiplier"),
        serialize_accept: values.bool("serialize_accept"),
        reserved_connections: v.count("reserved_connections"),
        pcp_listen_addresses: v.addresses("pcp_listen_addresses"),
        pcp_port: v.port("pcp_port", None),
        pcp_socket_dirs: v.directories("pcp_socket_dir"),
        backends: backends(values, paths),
        enable_pool_hba: values.bool("enable_pool_hba"),
        authentication_timeout: v.seconds("authentication_timeout"),
        allow_clear_text_frontend_auth: values.bool("allow_clear_text_frontend_auth"),
        ssl: values.bool("ssl"),
        tls: tls(values, paths),

        num_init_children: v.count("num_init_children"),
        max_pool: v.count("max_pool"),
        child_life_time: v.seconds("child_life_time"),
        child_max_connections: v.positive("child_max_connections"),
        connection_life_time: v.seconds("connection_life_time"),
        client_idle_limit: v.seconds("client_idle_limit"),
        client_idle_limit_in_recovery: values.int("client_idle_limit_in_recovery", None),
        connection_cache: values.bool("connection_cache"),
        reset_query_list: values
            .list("reset_query_list")
            .iter()
            .map(|query| query.trim().to_owned())
            .filter(|query| !query.is_empty())
            .collect(),

        load_balance_mode: values.bool("load_balance_mode"),
        allow_sql_comments: values.bool("allow_sql_comments"),
        routing: Arc::new(super::routing::settings(values, dialect)),

        log_to_stderr: destination("stderr"),
        log_to_syslog: destination("syslog"),
        log_line_prefix: v.text("log_line_prefix"),
        log_connections: values.bool("log_connections"),
        log_disconnections: values.bool("log_disconnections"),
        log_hostname: values.bool("log_hostname"),
        log_statement: values.bool("log_statement"),
        log_per_node_statement: values.bool("log_per_node_statement"),
        log_client_messages: values.bool("log_client_messages"),
        log_error_verbosity: match values.word("log_error_verbosity") {
            "terse" => Verbosity::Terse,
            "verbose" => Verbosity::Verbose,
            _ => Verbosity::Default,
        },
        client_min_messages: Severity::named(values.word("client_min_messages"))
            .unwrap_or(Severity::Notice),
        log_min_messages: Severity::named(values.word("log_min_messages"))
            .unwrap_or(Severity::Warning),
        syslog_facility: values.word("syslog_facility").to_owned(),
        syslog_ident: v.text("syslog_ident"),
        logging_collector: values.bool("logging_collector"),
        log_directory: v.text("log_directory").into(),
        log_filename: v.text("log_filename"),
        log_file_mode: v.unsigned("log_file_mode"),
        log_truncate_on_rotation: values.bool("log_truncate_on_rotation"),
        log_rotation_age: v
            .positive("log_rotation_age")
            .map(|minutes| Duration::from_secs(60 * minutes)),
        log_rotation_size: v.positive("log_rotation_size").map(|kb| 1024 * kb),
        log_standby_delay: match values.word("log_standby_delay") {
            "always" => LogStandbyDelay::Always,
            "if_over_threshold" => LogStandbyDelay::IfOverThreshold,
            _ => LogStandbyDelay::None,
        },

        pid_file_name: paths.beside_config(values.text("pid_file_name", None)),
        work_dir: v.text(work_dir).into(),

        failover_command: v.text("failover_command"),
        failback_command: v.text("failback_command"),
        follow_primary_command: v.text(follow),
        failover_on_backend_error: values.bool("failover_on_backend_error"),
        failover_on_backend_shutdown: values
            .place("failover_on_backend_shutdown", None)
            .map(|_| values.bool("failover_on_backend_shutdown")),
        detach_false_primary: values.bool("detach_false_primary"),
        search_primary_node_timeout: v.seconds("search_primary_node_timeout"),
        auto_failback: values.bool("auto_failback"),
        auto_failback_interval: v.duration("auto_failback_interval"),

        sr_check_period: v.seconds("sr_check_period"),
        sr_check_user: v.text("sr_check_user"),
        sr_check_password: v.text("sr_check_password"),
        sr_check_database: v.text("sr_check_database"),
        delay_threshold: v.positive("delay_threshold"),
        delay_threshold_by_time: v.positive("delay_threshold_by_time").map(|number| {
            if dialect >= Release::V4_5 {
                Duration::from_millis(number)
            } else {
                Duration::from_secs(number)
            }
        }),
        health_check_test: values.bool("health_check_test"),

        recovery_user: v.text("recovery_user"),
        recovery_password: v.text("recovery_password"),
        recovery_database: v.text("recovery_database"),
        recovery_1st_stage_command: v.text("recovery_1st_stage_command"),
        recovery_2nd_stage_command: v.text("recovery_2nd_stage_command"),
        recovery_timeout: v.duration("recovery_timeout"),

        watchdog: super::watchdog::settings(values, dialect).map(Arc::new),
        own: own(values),
    }
}

/// Before 4.2 three parameters say it, since then one.
pub(super) fn clustering_mode(values: &Values, dialect: Release) -> ClusteringMode {
    if dialect < Release::V4_2 {
        return if values.bool("replication_mode") {
            ClusteringMode::NativeReplication
        } else if values.bool("master_slave_mode") {
            match values.word("master_slave_sub_mode") {
                "slony" => ClusteringMode::Slony,
                "logical" => ClusteringMode::LogicalReplication,
                _ => ClusteringMode::StreamingReplication,
            }
        } else {
            ClusteringMode::Raw
        };
    }
    match values.word("backend_clustering_mode") {
        "native_replication" => ClusteringMode::NativeReplication,
        "logical_replication" => ClusteringMode::LogicalReplication,
        "slony" => ClusteringMode::Slony,
        "raw" => ClusteringMode::Raw,
        "snapshot_isolation" => ClusteringMode::SnapshotIsolation,
        _ => ClusteringMode::StreamingReplication,
    }
}

/// One per slot up to the highest one in use; gaps are there and unused.
fn backends(values: &Values, paths: &Paths) -> Vec<BackendSettings> {
    let v = View { values };
    let used = checks::used_slots(values);
    let count = used.last().map_or(0, |last| last + 1);
    (0..count)
        .map(|slot| {
            if !used.contains(&slot) {
                return BackendSettings::default();
            }
            let text = |name: &str| values.text(name, Some(slot)).to_owned();
            BackendSettings {
                used: true,
                hostname: text("backend_hostname"),
                port: v.port("backend_port", Some(slot)),
                weight: values.real("backend_weight", Some(slot)),
                data_directory: text("backend_data_directory"),
                application_name: text("backend_application_name"),
                flag: checks::flag_of(values, slot),
                health_check: health_check(values, slot),
                tls: backend_tls(values, slot, paths),
            }
        })
        .collect()
}

fn tls(values: &Values, paths: &Paths) -> SslSettings {
    let text = |name: &str| values.text(name, None).to_owned();
    let file = |name: &str| file(values.text(name, None), paths);
    SslSettings {
        cert: file("ssl_cert"),
        key: file("ssl_key"),
        ca_cert: file("ssl_ca_cert"),
        ca_cert_dir: file("ssl_ca_cert_dir"),
        crl_file: file("ssl_crl_file"),
        ciphers: text("ssl_ciphers"),
        prefer_server_ciphers: values.bool("ssl_prefer_server_ciphers"),
        ecdh_curve: text("ssl_ecdh_curve"),
        dh_params_file: file("ssl_dh_params_file"),
        passphrase_command: text("ssl_passphrase_command"),
    }
}

fn backend_tls(values: &Values, slot: usize, paths: &Paths) -> BackendSslSettings {
    let word = |name: &str| match values.get(name, Some(slot)) {
        Some(Value::Enum { word, .. }) => *word,
        _ => "",
    };
    let file = |name: &str| file(values.text(name, Some(slot)), paths);
    BackendSslSettings {
        mode: match word("backend_sslmode") {
            "disable" => BackendSslMode::Disable,
            "prefer" => BackendSslMode::Prefer,
            "require" => BackendSslMode::Require,
            "verify-ca" => BackendSslMode::VerifyCa,
            "verify-full" => BackendSslMode::VerifyFull,
            _ => BackendSslMode::Stock,
        },
        direct: word("backend_sslnegotiation") == "direct",
        ca_cert: match values.text("backend_ssl_ca_cert", Some(slot)) {
            "system" => PathBuf::from("system"),
            path => self::file(path, paths),
        },
        crl_file: file("backend_ssl_crl_file"),
        cert: file("backend_ssl_cert"),
        key: file("backend_ssl_key"),
    }
}

fn file(path: &str, paths: &Paths) -> PathBuf {
    if path.is_empty() {
        return PathBuf::new();
    }
    paths.beside_config(path)
}

fn health_check(values: &Values, slot: usize) -> HealthCheckSettings {
    let text = |name: &str| values.text(name, Some(slot)).to_owned();
    let number = |name: &str| unsigned(values.int(name, Some(slot)));
    let seconds = |name: &str| some(number(name)).map(Duration::from_secs);
    HealthCheckSettings {
        period: seconds("health_check_period"),
        timeout: seconds("health_check_timeout"),
        user: text("health_check_user"),
        password: text("health_check_password"),
        database: text("health_check_database"),
        max_retries: u32::try_from(number("health_check_max_retries")).unwrap_or(u32::MAX),
        retry_delay: Duration::from_secs(number("health_check_retry_delay")),
        connect_timeout: some(number("connect_timeout")).map(Duration::from_millis),
    }
}

fn own(values: &Values) -> OwnSettings {
    let view = View { values };
    let threads = view.count("worker_threads");
    let auth_user = view.text("auth_user");
    OwnSettings {
        admin_database: values.text("admin_database", None).to_owned(),
        compat_version: values.text("compat_version", None).parse().ok(),
        worker_threads: match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        },
        auth_query: (!auth_user.is_empty()).then(|| AuthQuerySettings {
            user: auth_user,
            password: view.text("auth_password"),
            dbname: view.text("auth_dbname"),
            query: view.text("auth_query"),
            cache_life_time: view.duration("auth_query_cache_life_time"),
        }),
        remembered_password_life_time: view.seconds("remembered_password_life_time"),
        auth_failure_delay_max: Duration::from_millis(
            view.positive("auth_failure_delay_max").unwrap_or_default(),
        ),
    }
}

/// Values as the fields of [`Settings`] want them. Ranges have been checked when they were read.
struct View<'a> {
    values: &'a Values,
}

impl View<'_> {
    fn text(&self, name: &str) -> String {
        self.values.text(name, None).to_owned()
    }

    fn addresses(&self, name: &str) -> Vec<String> {
        let items = self.values.list(name);
        let trimmed = items.iter().map(|item| item.trim().to_owned());
        trimmed.filter(|item| !item.is_empty()).collect()
    }

    fn directories(&self, name: &str) -> Vec<PathBuf> {
        self.addresses(name)
            .into_iter()
            .map(PathBuf::from)
            .collect()
    }

    fn port(&self, name: &str, index: Option<usize>) -> u16 {
        u16::try_from(self.values.int(name, index)).unwrap_or_default()
    }

    fn unsigned(&self, name: &str) -> u32 {
        u32::try_from(self.values.int(name, None)).unwrap_or_default()
    }

    fn count(&self, name: &str) -> usize {
        usize::try_from(self.values.int(name, None)).unwrap_or_default()
    }

    /// `None` for zero, which means "off" or "no limit".
    fn positive(&self, name: &str) -> Option<u64> {
        some(unsigned(self.values.int(name, None)))
    }

    fn seconds(&self, name: &str) -> Option<Duration> {
        self.positive(name).map(Duration::from_secs)
    }

    fn duration(&self, name: &str) -> Duration {
        self.seconds(name).unwrap_or_default()
    }
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

pub(super) fn some(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}
