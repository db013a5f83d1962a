//! Rows of the parameter table: clustering mode, replication, load balancing and replication checks.

use super::build::{INT_MAX, bool, choice, int, text};
use crate::config::{
    Release,
    parameter::{Context, Parameter, Unit},
};

pub(super) const ROWS: &[Parameter] = &[
    choice(
        "backend_clustering_mode",
        "main_replica",
        Context::Startup,
        &[
            ("streaming_replication", 1),
            ("native_replication", 2),
            ("logical_replication", 3),
            ("slony", 4),
            ("raw", 5),
            ("snapshot_isolation", 6),
        ],
    )
    .defaults(&[(Release::V4_2, Some("streaming_replication"))])
    .first(Release::V4_2)
    .counterparts(&[
        "master_slave_mode",
        "master_slave_sub_mode",
        "replication_mode",
    ])
    .description("backend clustering mode.")
    .help(
        "Which replication scheme the backends form; replaces \
             master_slave_mode, master_slave_sub_mode and replication_mode",
    ),
    choice(
        "log_standby_delay",
        "main_replica",
        Context::Reload,
        &[("always", 1), ("if_over_threshold", 2), ("none", 3)],
    )
    .defaults(&[
        (Release::V3_7, Some("none")),
        (Release::V4_3, Some("if_over_threshold")),
    ])
    .description("When to log standby delay.")
    .help("When to log the standby lag"),
    bool("master_slave_mode", "main_replica", Context::Startup)
        .defaults(&[(Release::V3_7, Some("off"))])
        .last(Release::V4_1)
        .counterparts(&["backend_clustering_mode"])
        .help("Boolean: primary/standby mode (old; see backend_clustering_mode)"),
    choice(
        "master_slave_sub_mode",
        "main_replica",
        Context::Startup,
        &[("slony", 1), ("stream", 2), ("logical", 3)],
    )
    .defaults(&[(Release::V3_7, Some("stream"))])
    .last(Release::V4_1)
    .counterparts(&["backend_clustering_mode"])
    .help("Stream, slony or logical (old; see backend_clustering_mode)"),
    bool(
        "failover_if_affected_tuples_mismatch",
        "replication",
        Context::Reload,
    )
    .defaults(&[(Release::V3_7, Some("off"))])
    .description(
        "Starts degeneration, If there's a data mismatch between primary and \
             secondary.",
    )
    .help(
        "In replication mode detach the nodes whose row count of a write \
             differs from the majority; off only raises an error",
    ),
    bool("insert_lock", "replication", Context::Reload)
        .defaults(&[(Release::V3_7, Some("on"))])
        .description("Automatically locks table with INSERT to keep SERIAL data consistency")
        .help(
            "In replication mode lock the table automatically for INSERT into \
             tables with a serial column",
        ),
    text("lobj_lock_table", "replication", Context::Reload)
        .defaults(&[(Release::V3_7, Some(""))])
        .description("Table name used for large object replication control.")
        .help(
            "Table locked to make large-object creation consistent in replication \
             mode",
        ),
    bool("replicate_select", "replication", Context::Reload)
        .defaults(&[(Release::V3_7, Some("off"))])
        .description("Replicate SELECT statements when load balancing is disabled.")
        .help("In replication mode send SELECTs to all nodes"),
    bool(
        "replication_stop_on_mismatch",
        "replication",
        Context::Reload,
    )
    .defaults(&[(Release::V3_7, Some("off"))])
    .description(
        "Starts degeneration and stops replication, If there's a data mismatch \
             between primary and secondary.",
    )
    .help("In replication mode detach nodes on a packet kind mismatch"),
    bool("allow_sql_comments", "load_balance", Context::Session)
        .defaults(&[(Release::V3_7, Some("off"))])
        .description(
            "Ignore SQL comments, while judging if load balance or query cache is \
             possible.",
        )
        .help(
            "If off, a statement that starts with a comment is never load balanced \
             nor cached; on ignores the comment",
        ),
    choice(
        "disable_load_balance_on_write",
        "load_balance",
        Context::Reload,
        &[
            ("off", 1),
            ("transaction", 2),
            ("trans_transaction", 3),
            ("always", 4),
            ("dml_adaptive", 5),
        ],
    )
    .defaults(&[(Release::V4_0, Some("transaction"))])
    .first(Release::V4_0)
    .description("Load balance behavior when write query is received.")
    .help("How far a write in a session stops later reads from being balanced"),
    bool(
        "ignore_leading_white_space",
        "load_balance",
        Context::Reload,
    )
    .defaults(&[(Release::V3_7, Some("on"))])
    .description("Ignores leading white spaces of each query string.")
    .help("Skip leading blanks when deciding whether a query is a SELECT"),
    bool("load_balance_mode", "load_balance", Context::Startup)
        .defaults(&[(Release::V3_7, Some("off")), (Release::V4_3, Some("on"))])
        .description("Enables load balancing of queries.")
        .help("Spread SELECTs over the backends"),
    choice(
        "relcache_query_target",
        "load_balance",
        Context::Reload,
        &[("primary", 1), ("master", 1), ("load_balance_node", 2)],
    )
    .defaults(&[
        (Release::V4_1, Some("master")),
        (Release::V4_2, Some("primary")),
    ])
    .first(Release::V4_1)
    .description("Target node to send relache queries.")
    .help("Where catalog look-ups are sent (primary was called master in 4.1)"),
    bool(
        "statement_level_load_balance",
        "load_balance",
        Context::Reload,
    )
    .defaults(&[(Release::V4_1, Some("off"))])
    .first(Release::V4_1)
    .description("Enables statement level load balancing")
    .help("Choose the node anew for every statement rather than per session"),
    text(
        "app_name_redirect_preference_list",
        "streaming_replication",
        Context::Reload,
    )
    .defaults(&[(Release::V3_7, None)])
    .description("redirect by application name.")
    .help(
        "Comma list of application_name-regex:node[(ratio)] pairs; node is \
             primary, standby or a node id; read queries of matching sessions go \
             there",
    ),
    text(
        "database_redirect_preference_list",
        "streaming_replication",
        Context::Reload,
    )
    .defaults(&[(Release::V3_7, None)])
    .description("redirect by database name.")
    .help(
        "Comma list of database-regex:node[(ratio)] pairs that choose the node \
             for reads",
    ),
    int(
        "delay_threshold",
        "streaming_replication",
        Context::Reload,
        0,
        i64::MAX,
        Unit::Bytes,
    )
    .defaults(&[(Release::V3_7, Some("0"))])
    .description("standby delay threshold in bytes.")
    .help("Bytes of WAL lag above which a standby gets no reads; 0 disables"),
    int(
        "delay_threshold_by_time",
        "streaming_replication",
        Context::Reload,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V4_4, Some("0"))])
    .first(Release::V4_4)
    .last(Release::V4_4)
    .description("standby delay threshold by time.")
    .help(
        "Time lag above which a standby gets no reads (needs \
             pg_stat_replication.replay_lag); 0 disables",
    ),
    int(
        "delay_threshold_by_time",
        "streaming_replication",
        Context::Reload,
        0,
        INT_MAX,
        Unit::Milliseconds,
    )
    .defaults(&[(Release::V4_5, Some("0"))])
    .first(Release::V4_5)
    .description("standby delay threshold by time.")
    .help(
        "Time lag above which a standby gets no reads (needs \
             pg_stat_replication.replay_lag); 0 disables",
    ),
    text(
        "dml_adaptive_object_relationship_list",
        "streaming_replication",
        Context::Reload,
    )
    .defaults(&[(Release::V4_2, None)])
    .first(Release::V4_2)
    .description("list of relationships between objects.")
    .help("Comma list of object:dependent pairs used by dml_adaptive"),
    bool(
        "prefer_lower_delay_standby",
        "streaming_replication",
        Context::Reload,
    )
    .defaults(&[(Release::V4_3, Some("off"))])
    .first(Release::V4_3)
    .description(
        "If the load balance node is delayed over delay_threshold on SR, pgpool \
             find another standby node which is lower delayed.",
    )
    .help(
        "If the chosen standby lags too much, pick the standby with the least \
             lag instead of the primary",
    ),
    text(
        "sr_check_database",
        "streaming_replication",
        Context::Reload,
    )
    .defaults(&[(Release::V3_7, Some("postgres"))])
    .description("The database name to perform streaming replication delay check.")
    .help("Database used by the replication check"),
    text(
        "sr_check_password",
        "streaming_replication",
        Context::Reload,
    )
    .defaults(&[(Release::V3_7, Some(""))])
    .secret()
    .description("The password for user to perform streaming replication delay check.")
    .help("Password used by the replication check"),
    int(
        "sr_check_period",
        "streaming_replication",
        Context::Reload,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V3_7, Some("0")), (Release::V4_3, Some("10"))])
    .description("Time interval in seconds between the streaming replication delay checks.")
    .help("Seconds between replication-lag checks; 0 disables"),
    text("sr_check_user", "streaming_replication", Context::Reload)
        .defaults(&[(Release::V3_7, Some("nobody")), (Release::V4_6, Some(""))])
        .description("The User name to perform streaming replication delay check.")
        .help("User of the replication check; empty disables"),
    text(
        "user_redirect_preference_list",
        "streaming_replication",
        Context::Reload,
    )
    .defaults(&[(Release::V4_5, None)])
    .first(Release::V4_5)
    .description("redirect by user name.")
    .help(
        "Comma list of user-regex:node[(ratio)] pairs that choose the node for \
             reads",
    ),
];
