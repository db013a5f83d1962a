//! The third column of `PGPOOL SHOW`.

use crate::config::{Release, parameter::Parameter};

/// As the original prints it, where that is known; else our own line about the parameter.
pub(super) fn of(parameter: &'static Parameter, release: Release) -> &'static str {
    let newer = NEWER
        .iter()
        .find(|(since, name, _)| *name == parameter.name && *since <= release);
    match newer {
        Some((_, _, description)) => description,
        None if parameter.description.is_empty() => parameter.help,
        None => parameter.description,
    }
}

/// Texts that are not those of 4.3, as recorded on 4.7.2.
#[rustfmt::skip]
const NEWER: &[(Release, &str, &str)] = &[
    (Release::V4_4, "delay_threshold_by_time", "standby delay threshold by time."),
    (Release::V4_4, "delegate_ip", "Delegate IP address to be used when pgpool node become a watchdog cluster leader."),
    (Release::V4_7, "failover_require_consensus", "Only do failover when majority agrees."),
    (Release::V4_4, "listen_addresses", "hostname(s) or IP address(es) on which pgpool will listen on."),
    (Release::V4_6, "log_backend_messages", "Logs any backend messages in the pgpool logs."),
    (Release::V4_5, "log_pcp_processes", "Logs PCP process forks and a normal exit status to the log"),
    (Release::V4_4, "max_spare_children", "Maximum number of spare child processes."),
    (Release::V4_4, "min_spare_children", "Minimum number of spare child processes."),
    (Release::V4_1, "notice_per_node_statement", "Logs notice message for per node detailed SQL statements."),
    (Release::V4_4, "num_init_children", "Maximim number of child process to handle client connections."),
    (Release::V4_5, "pcp_socket_dir", "The directories to create the UNIX domain socket for accepting pgpool-II PCP connections."),
    (Release::V4_4, "process_management_mode", "child process management mode."),
    (Release::V4_4, "process_management_strategy", "child process management strategy."),
    (Release::V4_7, "recovery_database", "The database name for online recovery."),
    (Release::V4_4, "trusted_server_command", "Command to excute when communicate with trusted server."),
    (Release::V4_4, "unix_socket_directories", "The directories to create the UNIX domain sockets for accepting pgpool-II client connections."),
    (Release::V4_4, "unix_socket_group", "The owning user of the sockets that always starts the server."),
    (Release::V4_4, "unix_socket_permissions", "The access permissions of the Unix domain sockets."),
    (Release::V4_5, "user_redirect_preference_list", "redirect by user name."),
    (Release::V4_7, "wd_heartbeat_listen_addresses", "hostname(s) or IP address(es) which heartbeat will listen on."),
    (Release::V4_7, "wd_heartbeat_listen_port", "tcp/IP port number which heartbeat will listen on."),
    (Release::V4_7, "wd_listen_address", "hostname(s) or IP address which watchdog will listen on."),
    (Release::V4_7, "wd_listen_port", "tcp/IP port number which watchdog will listen on."),
    (Release::V4_7, "work_dir", "directory to create pgpool_status and lock files."),
];
