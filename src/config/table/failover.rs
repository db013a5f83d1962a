//! Rows of the parameter table: health check, failover and online recovery.

use super::build::{INT_MAX, bool, group, int, text};
use crate::config::{
    Release,
    parameter::{Context, Parameter, Unit},
};

pub(super) const ROWS: &[Parameter] = &[
    int(
        "connect_timeout",
        "health_check",
        Context::Reload,
        0,
        INT_MAX,
        Unit::Milliseconds,
    )
    .optionally_indexed(128)
    .defaults(&[(Release::V3_7, Some("10000"))])
    .description("Timeout in milliseconds before giving up connecting to backend.")
    .help(
        "Milliseconds to wait for a TCP connection to a backend; 0 means wait \
             without limit",
    ),
    group("health_check").help("SHOW group name: all health-check values"),
    text("health_check_database", "health_check", Context::Reload)
        .optionally_indexed(128)
        .defaults(&[(Release::V3_7, Some("postgres"))])
        .description("The database name to be used to perform PostgreSQL backend health check.")
        .help("Database used by health check; empty tries postgres, then template1"),
    int(
        "health_check_max_retries",
        "health_check",
        Context::Reload,
        0,
        INT_MAX,
        Unit::None,
    )
    .optionally_indexed(128)
    .defaults(&[(Release::V3_7, Some("0"))])
    .description(
        "The maximum number of times to retry a failed health check before \
             giving up and initiating failover.",
    )
    .help("Further attempts after a failed health check before the node is detached"),
    text("health_check_password", "health_check", Context::Reload)
        .optionally_indexed(128)
        .defaults(&[(Release::V3_7, Some(""))])
        .secret()
        .description("Password for PostgreSQL backend health check database user.")
        .help("Password for health check; empty takes it from pool_passwd"),
    int(
        "health_check_period",
        "health_check",
        Context::Reload,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .optionally_indexed(128)
    .defaults(&[(Release::V3_7, Some("0"))])
    .description("Time interval in seconds between the health checks.")
    .help("Seconds between health checks of a node; 0 disables"),
    int(
        "health_check_retry_delay",
        "health_check",
        Context::Reload,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .optionally_indexed(128)
    .defaults(&[(Release::V3_7, Some("1"))])
    .description(
        "The amount of time in seconds to wait between failed health check \
             retries.",
    )
    .help("Seconds between the retries"),
    bool("health_check_test", "health_check", Context::Startup)
        .defaults(&[(Release::V3_7, Some("off"))])
        .description("If on, enable health check testing.")
        .help(
            "Developer switch: simulate a failing health check through a file named \
             backend_down_request in the log/work directory",
        ),
    int(
        "health_check_timeout",
        "health_check",
        Context::Reload,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .optionally_indexed(128)
    .defaults(&[(Release::V3_7, Some("20"))])
    .description("Backend node health check timeout value in seconds.")
    .help("Seconds a health check may take; 0 means no limit"),
    text("health_check_user", "health_check", Context::Reload)
        .optionally_indexed(128)
        .defaults(&[(Release::V3_7, Some("nobody")), (Release::V4_6, Some(""))])
        .description("User name for PostgreSQL backend health check.")
        .help("User of health check; empty disables the login part"),
    bool(
        "allow_multiple_failover_requests_from_node",
        "failover",
        Context::Startup,
    )
    .defaults(&[(Release::V3_7, Some("off"))])
    .description("A Pgpool-II node can send multiple failover requests to build consensus.")
    .help(
        "Let one watchdog node cast several votes for the same failover so that \
             repeated requests count towards consensus",
    ),
    bool("auto_failback", "failover", Context::Reload)
        .defaults(&[(Release::V4_1, Some("off"))])
        .first(Release::V4_1)
        .description(
            "Enables nodes automatically reattach, when detached node continue \
             streaming replication.",
        )
        .help("Re-attach a detached standby automatically once it streams again"),
    int(
        "auto_failback_interval",
        "failover",
        Context::Reload,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V4_1, Some("60"))])
    .first(Release::V4_1)
    .description("min interval of executing auto_failback in seconds")
    .help("Minimum seconds between two automatic failbacks of the same node"),
    bool("detach_false_primary", "failover", Context::Reload)
        .defaults(&[(Release::V4_0, Some("off"))])
        .first(Release::V4_0)
        .description("Automatically detaches false primary node.")
        .help("Detach a node that claims to be primary but does not feed the standbys"),
    bool(
        "enable_consensus_with_half_votes",
        "failover",
        Context::Startup,
    )
    .defaults(&[(Release::V4_1, Some("off"))])
    .first(Release::V4_1)
    .description(
        "apply majority rule for consensus and quorum computation at 50% of \
             votes in a cluster with an even number of nodes.",
    )
    .help("Accept exactly half of the votes as majority in an even-sized cluster"),
    bool("fail_over_on_backend_error", "failover", Context::Reload)
        .defaults(&[(Release::V3_7, Some("on"))])
        .hidden()
        .counterparts(&["failover_on_backend_error"])
        .description("Triggers fail over when reading/writing to backend socket fails.")
        .help(
            "Old spelling of failover_on_backend_error; still accepted, with a \
             warning",
        ),
    text("failback_command", "failover", Context::Reload)
        .defaults(&[(Release::V3_7, Some(""))])
        .description("Command to execute when backend node is attached.")
        .help("Command run when a node is attached (after its status became up)"),
    text("failover_command", "failover", Context::Reload)
        .defaults(&[(Release::V3_7, Some(""))])
        .description("Command to execute when backend node is detached.")
        .help("Command run when a node is detached or a promote was asked for"),
    bool("failover_on_backend_error", "failover", Context::Reload)
        .defaults(&[(Release::V4_0, Some("on"))])
        .first(Release::V4_0)
        .counterparts(&["fail_over_on_backend_error"])
        .description("Triggers fail over when reading/writing to backend socket fails.")
        .help("Detach a backend on the first error while reading from or writing to it"),
    bool("failover_on_backend_shutdown", "failover", Context::Reload)
        .defaults(&[(Release::V4_3, Some("off"))])
        .first(Release::V4_3)
        .description("Triggers fail over when backend is shutdown.")
        .help(
            "Detach a backend when a session is told that it is shut down by the \
             administrator (57P01/57P02)",
        ),
    bool("failover_require_consensus", "failover", Context::Startup)
        .defaults(&[(Release::V3_7, Some("off")), (Release::V4_3, Some("on"))])
        .description("Only do failover when majority aggrees.")
        .help("With the watchdog, fail over only when a majority of nodes voted for it"),
    bool("failover_when_quorum_exists", "failover", Context::Startup)
        .defaults(&[(Release::V3_7, Some("off")), (Release::V4_3, Some("on"))])
        .description("Do failover only when cluster has the quorum.")
        .help(
            "With the watchdog, fail over only while the cluster holds the quorum; under \
             wd_write_lease a standby is promoted only then, whatever this says",
        ),
    text("follow_master_command", "failover", Context::Reload)
        .defaults(&[(Release::V3_7, Some(""))])
        .last(Release::V4_1)
        .counterparts(&["follow_primary_command"])
        .description(
            "Command to execute in streaming replication mode after a master node \
             failover.",
        )
        .help("Old name of follow_primary_command"),
    text("follow_primary_command", "failover", Context::Reload)
        .defaults(&[(Release::V4_2, Some(""))])
        .first(Release::V4_2)
        .counterparts(&["follow_master_command"])
        .description(
            "Command to execute in streaming replication mode after a primary node \
             failover.",
        )
        .help(
            "Command run for every standby that is left after a new primary was \
             chosen",
        ),
    int(
        "search_primary_node_timeout",
        "failover",
        Context::Reload,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V3_7, Some("300"))])
    .description("Max time in seconds to search for primary node after failover.")
    .help("Seconds to look for a primary after start or failover; 0 is for ever"),
    int(
        "client_idle_limit_in_recovery",
        "recovery",
        Context::Session,
        -1,
        INT_MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V3_7, Some("0"))])
    .description(
        "Time limit is seconds for the child connection, before it is \
             terminated during the 2nd stage recovery.",
    )
    .help(
        "Like client_idle_limit but during the second stage of online recovery; \
             -1 disconnects at once",
    ),
    text("recovery_1st_stage_command", "recovery", Context::Reload)
        .defaults(&[(Release::V3_7, Some(""))])
        .description("Command to execute in first stage recovery.")
        .help(
            "Script name in the primary's data directory run by the first stage of \
             online recovery; pgpool_remote_start beside it then starts the node",
        ),
    text("recovery_2nd_stage_command", "recovery", Context::Reload)
        .defaults(&[(Release::V3_7, Some(""))])
        .description("Command to execute in second stage recovery.")
        .help("Script name run by the second stage (replication modes only)"),
    text("recovery_database", "recovery", Context::Reload)
        .defaults(&[(Release::V4_7, Some("postgres"))])
        .first(Release::V4_7)
        .description("The database name for online recovery.")
        .help("Database used to run the recovery functions"),
    text("recovery_password", "recovery", Context::Reload)
        .defaults(&[(Release::V3_7, Some(""))])
        .secret()
        .description("Password for online recovery.")
        .help("Password of recovery_user; empty takes it from pool_passwd"),
    int(
        "recovery_timeout",
        "recovery",
        Context::Reload,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V3_7, Some("90"))])
    .description("Maximum time in seconds to wait for the recovering PostgreSQL node.")
    .help(
        "Seconds that online recovery waits for the second stage and for the \
             new node to accept connections",
    ),
    text("recovery_user", "recovery", Context::Reload)
        .defaults(&[
            (Release::V3_7, Some("")),
            (Release::V4_1, Some("nobody")),
            (Release::V4_6, Some("")),
        ])
        .description("User name for online recovery.")
        .help("Superuser that runs online recovery"),
];
