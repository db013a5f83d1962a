//! Rows of the parameter table: connections, sockets, files, backends and pools.

use super::build::{INT_MAX, bool, choice, group, int, list, real, text};
use crate::config::{
    Release,
    parameter::{Context, Parameter, Unit},
};

pub(super) const ROWS: &[Parameter] = &[
    int(
        "authentication_timeout",
        "connection",
        Context::Startup,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V3_7, Some("0")), (Release::V4_3, Some("60"))])
    .description("Time out value in seconds for client authentication.")
    .help("Seconds a client may take to finish authentication; 0 disables"),
    group("backend").help("SHOW group name: all backend_* values"),
    text("backend_application_name", "connection", Context::Reload)
        .indexed(128)
        .defaults(&[(Release::V4_1, Some(""))])
        .first(Release::V4_1)
        .description("application_name of the backend.")
        .help(
            "application_name with which the standby shows up in \
             pg_stat_replication of the primary",
        ),
    text("backend_data_directory", "connection", Context::Reload)
        .indexed(128)
        .defaults(&[(Release::V3_7, Some(""))])
        .description("data directory of the backend.")
        .help(
            "Data directory of the backend; handed to hooks as %D / %R and to \
             online recovery",
        ),
    text("backend_flag", "connection", Context::Reload)
        .indexed(128)
        .defaults(&[(Release::V3_7, Some("ALLOW_TO_FAILOVER"))])
        .description("Controls various backend behavior.")
        .help(
            "'|'-separated flags without blanks: ALLOW_TO_FAILOVER, \
             DISALLOW_TO_FAILOVER, ALWAYS_PRIMARY (named ALWAYS_MASTER before 4.2)",
        ),
    text("backend_hostname", "connection", Context::Reload)
        .indexed(128)
        .defaults(&[(Release::V3_7, Some(""))])
        .description("hostname or IP address of PostgreSQL backend.")
        .help(
            "Host name, IP address or (leading slash) socket directory of a \
             PostgreSQL server; empty means the default socket directory",
        ),
    int(
        "backend_port",
        "connection",
        Context::Reload,
        1024,
        65535,
        Unit::None,
    )
    .indexed(128)
    .defaults(&[(Release::V3_7, Some("0"))])
    .description("port number of PostgreSQL backend.")
    .help("Port of the backend; 0 (the default) means the slot is unused"),
    real(
        "backend_weight",
        "connection",
        Context::Reload,
        0.0,
        100_000_000.0,
    )
    .indexed(128)
    .defaults(&[(Release::V3_7, Some("0"))])
    .description("load balance weight of backend.")
    .help("Relative share of balanced reads for the node"),
    bool("enable_pool_hba", "connection", Context::Reload)
        .defaults(&[(Release::V3_7, Some("off"))])
        .description("Use pool_hba.conf for client authentication.")
        .help("Authenticate clients with pool_hba.conf"),
    list("listen_addresses", "connection", Context::Startup, ',')
        .defaults(&[(Release::V3_7, Some("localhost"))])
        .description("hostname or IP address on which pgpool will listen on.")
        .help(
            "Where to listen for clients: '*' for all, '' for none (socket only), \
             since 4.4 a comma list",
        ),
    int(
        "listen_backlog_multiplier",
        "connection",
        Context::Startup,
        1,
        INT_MAX,
        Unit::None,
    )
    .defaults(&[(Release::V3_7, Some("32")), (Release::V4_3, Some("2"))])
    .description("length of connection queue from frontend to pgpool-II")
    .help("listen(2) backlog is num_init_children times this value"),
    list("pcp_listen_addresses", "connection", Context::Startup, ',')
        .defaults(&[(Release::V3_7, Some("localhost"))])
        .description("hostname(s) or IP address(es) on which pcp will listen on.")
        .help("Where the PCP process listens; '' means socket only"),
    int(
        "pcp_port",
        "connection",
        Context::Startup,
        1024,
        65535,
        Unit::None,
    )
    .defaults(&[(Release::V3_7, Some("9898"))])
    .description("tcp/IP port number on which pgpool PCP process will listen on.")
    .help("PCP port"),
    list("pcp_socket_dir", "connection", Context::Startup, ',')
        .defaults(&[(Release::V3_7, Some("/tmp"))])
        .debian_default("/var/run/postgresql")
        .description(
            "The directory to create the UNIX domain socket for accepting pgpool-II \
             PCP connections.",
        )
        .help("Directory of the PCP unix socket"),
    int(
        "port",
        "connection",
        Context::Startup,
        1024,
        65535,
        Unit::None,
    )
    .defaults(&[(Release::V3_7, Some("9999"))])
    .description("tcp/IP port number on which pgpool will listen on.")
    .help("Client port"),
    bool("serialize_accept", "connection", Context::Startup)
        .defaults(&[(Release::V3_7, Some("off"))])
        .description("whether to serialize accept() call to avoid thundering herd problem")
        .help("Serialise accept() between children with a lock"),
    text("socket_dir", "connection", Context::Startup)
        .defaults(&[(Release::V3_7, Some("/tmp"))])
        .last(Release::V4_3)
        .debian_default("/var/run/postgresql")
        .counterparts(&["unix_socket_directories"])
        .description(
            "The directory to create the UNIX domain socket for accepting pgpool-II \
             client connections.",
        )
        .help("Directory of the client unix socket (until 4.3)"),
    list(
        "unix_socket_directories",
        "connection",
        Context::Startup,
        ',',
    )
    .defaults(&[(Release::V4_4, Some("/tmp"))])
    .first(Release::V4_4)
    .debian_default("/var/run/postgresql")
    .counterparts(&["socket_dir"])
    .description(
        "The directories to create the UNIX domain sockets for accepting \
             pgpool-II client connections.",
    )
    .help("Comma list of directories in which a client socket is created"),
    text("unix_socket_group", "connection", Context::Startup)
        .defaults(&[(Release::V4_4, Some(""))])
        .first(Release::V4_4)
        .description("The owning user of the sockets that always starts the server.")
        .help("Group owner of the sockets"),
    int(
        "unix_socket_permissions",
        "connection",
        Context::Startup,
        0,
        0o777,
        Unit::Mode,
    )
    .defaults(&[(Release::V4_4, Some("0777"))])
    .first(Release::V4_4)
    .description("The access permissions of the Unix domain sockets.")
    .help("Permission bits of the sockets"),
    text("wd_ipc_socket_dir", "connection", Context::Startup)
        .defaults(&[(Release::V3_7, Some("/tmp"))])
        .debian_default("/var/run/postgresql")
        .description(
            "The directory to create the UNIX domain socket for accepting pgpool-II \
             watchdog IPC connections.",
        )
        .help("Directory of the watchdog's local control socket"),
    list(
        "black_function_list",
        "connection_pool",
        Context::Reload,
        ',',
    )
    .defaults(&[(Release::V3_7, Some("nextval,setval"))])
    .last(Release::V4_1)
    .counterparts(&["write_function_list"])
    .description("list of functions that writes to database.")
    .help("Regex list of functions that write (old name of write_function_list)"),
    list(
        "black_query_pattern_list",
        "connection_pool",
        Context::Reload,
        ';',
    )
    .defaults(&[(Release::V4_0, None)])
    .first(Release::V4_0)
    .last(Release::V4_1)
    .counterparts(&["primary_routing_query_pattern_list"])
    .description("list of query patterns that should be sent to primary node.")
    .help(
        "Semicolon list of regexes of queries sent to the primary only (old \
             name of primary_routing_query_pattern_list)",
    ),
    int(
        "child_life_time",
        "connection_pool",
        Context::Startup,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V3_7, Some("300"))])
    .description("pgpool-II child process life time in seconds.")
    .help("Seconds an idle child process may live before it is replaced; 0 disables"),
    int(
        "child_max_connections",
        "connection_pool",
        Context::Startup,
        0,
        INT_MAX,
        Unit::None,
    )
    .defaults(&[(Release::V3_7, Some("0"))])
    .description(
        "A pgpool-II child process will be terminated after this many \
             connections from clients.",
    )
    .help("Client connections a child serves before it is replaced; 0 disables"),
    int(
        "client_idle_limit",
        "connection_pool",
        Context::Session,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V3_7, Some("0"))])
    .description("idle time in seconds to disconnects a client.")
    .help(
        "Seconds a client may stay idle between statements before it is \
             disconnected; 0 disables",
    ),
    bool("connection_cache", "connection_pool", Context::Startup)
        .defaults(&[(Release::V3_7, Some("on"))])
        .description("Caches connections to backends.")
        .help("Keep backend connections open after the client leaves"),
    int(
        "connection_life_time",
        "connection_pool",
        Context::Startup,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V3_7, Some("0"))])
    .description("Cached connections expiration time in seconds.")
    .help("Seconds a cached backend connection may stay idle; 0 keeps it for ever"),
    int(
        "max_pool",
        "connection_pool",
        Context::Startup,
        0,
        INT_MAX,
        Unit::None,
    )
    .defaults(&[(Release::V3_7, Some("4"))])
    .description("Maximum number of connection pools per child process.")
    .help("Cached backend connections (user/database pairs) per child"),
    int(
        "max_spare_children",
        "connection_pool",
        Context::Reload,
        1,
        INT_MAX,
        Unit::None,
    )
    .defaults(&[(Release::V4_4, Some("10"))])
    .first(Release::V4_4)
    .description("Maximum number of spare child processes.")
    .help("Upper bound of idle children in dynamic process management"),
    int(
        "min_spare_children",
        "connection_pool",
        Context::Reload,
        1,
        INT_MAX,
        Unit::None,
    )
    .defaults(&[(Release::V4_4, Some("5"))])
    .first(Release::V4_4)
    .description("Minimum number of spare child processes.")
    .help("Lower bound of idle children in dynamic process management"),
    int(
        "num_init_children",
        "connection_pool",
        Context::Startup,
        1,
        INT_MAX,
        Unit::None,
    )
    .defaults(&[(Release::V3_7, Some("32"))])
    .description("Number of children pre-forked for client connections.")
    .help("Number of child processes; also the maximum of concurrent clients"),
    list(
        "primary_routing_query_pattern_list",
        "connection_pool",
        Context::Reload,
        ';',
    )
    .defaults(&[(Release::V4_2, None)])
    .first(Release::V4_2)
    .counterparts(&["black_query_pattern_list"])
    .description("list of query patterns that should be sent to primary node.")
    .help("Semicolon list of regexes; matching queries go to the primary"),
    choice(
        "process_management_mode",
        "connection_pool",
        Context::Reload,
        &[("static", 1), ("dynamic", 2)],
    )
    .defaults(&[(Release::V4_4, Some("static"))])
    .first(Release::V4_4)
    .description("child process management mode.")
    .help(
        "Static keeps num_init_children processes, dynamic varies them between \
             the spare limits",
    ),
    choice(
        "process_management_strategy",
        "connection_pool",
        Context::Reload,
        &[("aggressive", 1), ("gentle", 2), ("lazy", 3)],
    )
    .defaults(&[(Release::V4_4, Some("gentle"))])
    .first(Release::V4_4)
    .description("child process management strategy.")
    .help("How fast surplus children are ended in dynamic mode"),
    list(
        "read_only_function_list",
        "connection_pool",
        Context::Reload,
        ',',
    )
    .defaults(&[(Release::V4_2, None), (Release::V4_3, Some(""))])
    .first(Release::V4_2)
    .counterparts(&["white_function_list"])
    .description("list of functions that does not writes to database.")
    .help(
        "Regex list of functions that do not write; all others are taken as \
             writing if this is set",
    ),
    int(
        "reserved_connections",
        "connection_pool",
        Context::Startup,
        0,
        INT_MAX,
        Unit::None,
    )
    .defaults(&[(Release::V4_1, Some("0"))])
    .first(Release::V4_1)
    .description("Number of reserved connections.")
    .help(
        "Refuse clients with an error instead of queueing when fewer than this \
             many children are free; 0 queues",
    ),
    list("reset_query_list", "connection_pool", Context::Reload, ';')
        .defaults(&[(Release::V3_7, Some("ABORT;DISCARD ALL"))])
        .description(
            "list of commands sent to reset the backend connection when user \
             session exits.",
        )
        .help(
            "Semicolon list of statements run when a client leaves and its backend \
             connection returns to the cache",
        ),
    list(
        "white_function_list",
        "connection_pool",
        Context::Reload,
        ',',
    )
    .defaults(&[(Release::V3_7, None)])
    .last(Release::V4_1)
    .counterparts(&["read_only_function_list"])
    .description("list of functions that does not writes to database.")
    .help("Old name of read_only_function_list"),
    list(
        "write_function_list",
        "connection_pool",
        Context::Reload,
        ',',
    )
    .defaults(&[
        (Release::V4_2, Some("nextval,setval")),
        (Release::V4_3, Some("")),
    ])
    .first(Release::V4_2)
    .counterparts(&["black_function_list"])
    .description("list of functions that writes to database.")
    .help(
        "Regex list of functions that write; SELECTs that call them go to the \
             primary",
    ),
    text("pid_file_name", "file_location", Context::Startup)
        .defaults(&[(Release::V3_7, Some("/var/run/pgpool/pgpool.pid"))])
        .debian_default("/var/run/postgresql/pgpool.pid")
        .description("Path to store pgpool-II pid file.")
        .help("Path of the pid file; relative to the directory of pgpool.conf"),
    text("pool_passwd", "file_location", Context::Startup)
        .defaults(&[(Release::V3_7, Some("pool_passwd"))])
        .secret()
        .description("File name of pool_passwd for md5 authentication.")
        .help(
            "Path of the password file, relative to the directory of pgpool.conf; \
             '' disables it",
        ),
    bool("allow_clear_text_frontend_auth", "general", Context::Reload)
        .defaults(&[(Release::V4_0, Some("off"))])
        .first(Release::V4_0)
        .description(
            "allow to use clear text password authentication with clients, when \
             pool_passwd does not contain the user password.",
        )
        .help(
            "When a user is missing from pool_passwd and pool_hba does not decide, \
             ask the client for a clear-text password so it can be replayed to the \
             backends",
        ),
    bool("check_temp_table", "general", Context::Session)
        .defaults(&[(Release::V3_7, Some("on"))])
        .last(Release::V4_0)
        .description("Enables temporary table check.")
        .help("How SELECTs on temporary tables are recognised (boolean before 4.1)"),
    choice(
        "check_temp_table",
        "general",
        Context::Reload,
        &[
            ("catalog", 1),
            ("trace", 2),
            ("none", 3),
            ("on", 4),
            ("off", 5),
        ],
    )
    .defaults(&[(Release::V4_1, Some("catalog"))])
    .first(Release::V4_1)
    .description("Enables temporary table check.")
    .help("How SELECTs on temporary tables are recognised (boolean before 4.1)"),
    bool("check_unlogged_table", "general", Context::Session)
        .defaults(&[(Release::V3_7, Some("on"))])
        .description("Enables unlogged table check.")
        .help(
            "Look up whether a table is unlogged and, if so, send SELECTs to the \
             primary",
        ),
];
