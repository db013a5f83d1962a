//! Rows of the parameter table: where and what to log.

use super::build::{INT_MAX, bool, choice, int, text};
use crate::config::{
    Release,
    parameter::{Context, Parameter, Unit},
};

pub(super) const ROWS: &[Parameter] = &[
    choice(
        "client_min_messages",
        "logging",
        Context::Session,
        &[
            ("debug", 13),
            ("debug5", 10),
            ("debug4", 11),
            ("debug3", 12),
            ("debug2", 13),
            ("debug1", 14),
            ("info", 17),
            ("notice", 18),
            ("warning", 19),
            ("error", 20),
            ("log", 15),
            ("fatal", 21),
            ("panic", 22),
        ],
    )
    .defaults(&[(Release::V3_7, Some("notice"))])
    .description("Which messages should be sent to client.")
    .help("Least severity of messages sent to the client"),
    choice(
        "log_backend_messages",
        "logging",
        Context::Session,
        &[("none", 1), ("terse", 2), ("verbose", 3)],
    )
    .defaults(&[(Release::V4_6, Some("none"))])
    .first(Release::V4_6)
    .description("Logs any backend messages in the pgpool logs.")
    .help("Log messages received from the backends; terse folds repeats"),
    bool("log_client_messages", "logging", Context::Session)
        .defaults(&[(Release::V4_0, Some("off"))])
        .first(Release::V4_0)
        .description("Logs any client messages in the pgpool logs.")
        .help("Log every message received from clients"),
    bool("log_connections", "logging", Context::Reload)
        .defaults(&[(Release::V3_7, Some("off"))])
        .description("Logs each successful connection.")
        .help("Log each accepted client connection"),
    text("log_destination", "logging", Context::Reload)
        .defaults(&[(Release::V3_7, Some("stderr"))])
        .description("destination of pgpool-II log")
        .help("Comma list without blanks of stderr and syslog"),
    text("log_directory", "logging", Context::Reload)
        .defaults(&[(Release::V4_2, Some("/tmp/pgpool_logs"))])
        .first(Release::V4_2)
        .context_before(Release::V4_6, Context::Startup)
        .description("directory where log files are written.")
        .help("Directory of the collector's log files"),
    bool("log_disconnections", "logging", Context::Reload)
        .defaults(&[(Release::V4_2, Some("off"))])
        .first(Release::V4_2)
        .description("Logs end of a session.")
        .help("Log the end of each session"),
    choice(
        "log_error_verbosity",
        "logging",
        Context::Session,
        &[("terse", 0), ("default", 1), ("verbose", 2)],
    )
    .defaults(&[(Release::V3_7, Some("default"))])
    .description("How much details about error should be emitted.")
    .help("Amount of detail per logged message"),
    int(
        "log_file_mode",
        "logging",
        Context::Reload,
        0,
        INT_MAX,
        Unit::None,
    )
    .defaults(&[(Release::V4_2, Some("0600"))])
    .first(Release::V4_2)
    .context_before(Release::V4_6, Context::Startup)
    .description("creation mode for log files.")
    .help(
        "Permission bits of log files (write it in octal with leading 0; SHOW \
             prints decimal)",
    ),
    text("log_filename", "logging", Context::Reload)
        .defaults(&[(Release::V4_2, Some("pgpool-%Y-%m-%d_%H%M%S.log"))])
        .first(Release::V4_2)
        .context_before(Release::V4_6, Context::Startup)
        .description("log file name pattern.")
        .help("Strftime pattern of log files"),
    bool("log_hostname", "logging", Context::Reload)
        .defaults(&[(Release::V3_7, Some("off"))])
        .description("Logs the host name in the connection logs.")
        .help("Show host names instead of addresses in ps and log"),
    text("log_line_prefix", "logging", Context::Reload)
        .defaults(&[
            (Release::V3_7, Some("%t: pid %p: ")),
            (Release::V4_3, Some("%m: %a pid %p: ")),
        ])
        .description("printf-style string to output at beginning of each log line.")
        .help("Printf-like prefix of log lines: %a %p %P %t %m %d %u %l %%"),
    choice(
        "log_min_messages",
        "logging",
        Context::Session,
        &[
            ("debug", 13),
            ("debug5", 10),
            ("debug4", 11),
            ("debug3", 12),
            ("debug2", 13),
            ("debug1", 14),
            ("info", 17),
            ("notice", 18),
            ("warning", 19),
            ("error", 20),
            ("log", 15),
            ("fatal", 21),
            ("panic", 22),
        ],
    )
    .defaults(&[(Release::V3_7, Some("warning"))])
    .description("Which messages should be emitted to server log.")
    .help("Least severity that is logged"),
    bool("log_pcp_processes", "logging", Context::Reload)
        .defaults(&[(Release::V4_5, Some("on")), (Release::V4_7, Some("off"))])
        .first(Release::V4_5)
        .description("Logs PCP process forks and a normal exit status to the log")
        .help("Log start and end of pcp workers"),
    bool("log_per_node_statement", "logging", Context::Session)
        .defaults(&[(Release::V3_7, Some("off"))])
        .description("Logs per node detailed SQL statements.")
        .help("Log each statement once per node it is sent to"),
    int(
        "log_rotation_age",
        "logging",
        Context::Reload,
        0,
        INT_MAX,
        Unit::Minutes,
    )
    .defaults(&[(Release::V4_2, Some("1440"))])
    .first(Release::V4_2)
    .context_before(Release::V4_6, Context::Startup)
    .description("Automatic rotation of logfiles will happen after that (minutes) time.")
    .help("Minutes after which the log file is rotated; 0 disables"),
    int(
        "log_rotation_size",
        "logging",
        Context::Reload,
        0,
        2097151,
        Unit::Kilobytes,
    )
    .defaults(&[(Release::V4_2, Some("10240"))])
    .first(Release::V4_2)
    .context_before(Release::V4_6, Context::Startup)
    .description(
        "Automatic rotation of logfiles will happen after that much (kilobytes) \
             log output.",
    )
    .help("Kilobytes after which the log file is rotated; 0 disables"),
    bool("log_statement", "logging", Context::Session)
        .defaults(&[(Release::V3_7, Some("off"))])
        .description("Logs all statements in the pgpool logs.")
        .help("Log all statements"),
    bool("log_truncate_on_rotation", "logging", Context::Reload)
        .defaults(&[(Release::V4_2, Some("off"))])
        .first(Release::V4_2)
        .context_before(Release::V4_6, Context::Startup)
        .description("If on, an existing log file gets truncated on time based log rotation.")
        .help("Overwrite an existing file of the same name on time-based rotation"),
    text("logdir", "logging", Context::Startup)
        .defaults(&[(Release::V3_7, Some("/tmp")), (Release::V4_7, Some(""))])
        .debian_default("/var/log/postgresql")
        .hidden()
        .counterparts(&["work_dir"])
        .description("PgPool status file logging directory.")
        .help("Directory of the pgpool_status file (renamed to work_dir in 4.7)"),
    bool("logging_collector", "logging", Context::Startup)
        .defaults(&[(Release::V4_2, Some("off"))])
        .first(Release::V4_2)
        .description("Enable capturing of stderr into log files.")
        .help("Write stderr into files with an own collector process"),
    bool("notice_per_node_statement", "logging", Context::Session)
        .defaults(&[(Release::V4_1, Some("off"))])
        .first(Release::V4_1)
        .description("Logs notice message for per node detailed SQL statements.")
        .help("Send a NOTICE to the client for every per-node statement"),
    bool("replication_mode", "logging", Context::Startup)
        .defaults(&[(Release::V3_7, Some("off"))])
        .counterparts(&["backend_clustering_mode"])
        .description("Enables replication mode.")
        .help(
            "Boolean: native replication mode (superseded by \
             backend_clustering_mode in 4.2, still in the table)",
        ),
    choice(
        "syslog_facility",
        "logging",
        Context::Reload,
        &[
            ("LOCAL0", 128),
            ("LOCAL1", 136),
            ("LOCAL2", 144),
            ("LOCAL3", 152),
            ("LOCAL4", 160),
            ("LOCAL5", 168),
            ("LOCAL6", 176),
            ("LOCAL7", 184),
        ],
    )
    .defaults(&[(Release::V3_7, Some("LOCAL0"))])
    .description("syslog local facility.")
    .help("Facility used with log_destination syslog"),
    text("syslog_ident", "logging", Context::Reload)
        .defaults(&[(Release::V3_7, Some("pgpool"))])
        .description("syslog program ident string.")
        .help("Program name shown in syslog"),
    text("work_dir", "logging", Context::Startup)
        .defaults(&[(Release::V4_7, Some("/tmp"))])
        .first(Release::V4_7)
        .debian_default("/var/log/postgresql")
        .counterparts(&["logdir"])
        .description("directory to create pgpool_status and lock files.")
        .help("Directory of the pgpool_status file (new name of logdir)"),
];
