//! Rows of the parameter table: watchdog and its lifecheck.

use super::build::{INT_MAX, bool, choice, group, int, list, text};
use crate::config::{
    Release,
    parameter::{Context, Parameter, Unit},
};

pub(super) const ROWS: &[Parameter] = &[
    text("arping_cmd", "watchdog", Context::Startup)
        .defaults(&[
            (Release::V3_7, Some("arping -U $_IP_$ -w 1")),
            (
                Release::V4_1,
                Some("/usr/bin/sudo /usr/sbin/arping -U $_IP_$ -w 1 -I eth0"),
            ),
        ])
        .description("arping command.")
        .help(
            "Command run after the virtual IP came up to announce it; $_IP_$ is \
             replaced by the address",
        ),
    text("arping_path", "watchdog", Context::Startup)
        .defaults(&[(Release::V3_7, Some("/usr/sbin"))])
        .description("path to arping command.")
        .help(
            "Directory that holds the arping program (ignored when arping_cmd \
             starts with an absolute path)",
        ),
    bool("clear_memqcache_on_escalation", "watchdog", Context::Reload)
        .defaults(&[(Release::V3_7, Some("off")), (Release::V4_3, Some("on"))])
        .description(
            "Clears the query cache in the shared memory when pgpool-II escalates \
             to leader watchdog node.",
        )
        .help("Empty the shared query cache when this watchdog node becomes leader"),
    text("delegate_IP", "watchdog", Context::Startup)
        .defaults(&[(Release::V3_7, Some(""))])
        .hidden()
        .counterparts(&["delegate_ip"])
        .description(
            "Delegate IP address to be used when pgpool node become a watchdog \
             cluster leader.",
        )
        .help("Virtual IP address taken over by the watchdog leader (old spelling)"),
    text("delegate_ip", "watchdog", Context::Startup)
        .defaults(&[(Release::V4_4, Some(""))])
        .first(Release::V4_4)
        .counterparts(&["delegate_IP"])
        .description(
            "Delegate IP address to be used when pgpool node become a watchdog \
             cluster leader.",
        )
        .help("Virtual IP address taken over by the watchdog leader; empty disables"),
    text("hostname", "watchdog", Context::Reload)
        .indexed(128)
        .defaults(&[(Release::V4_2, Some("localhost"))])
        .first(Release::V4_2)
        .counterparts(&["wd_hostname", "other_pgpool_hostname"])
        .description("Hostname of pgpool node for watchdog connection.")
        .help("Host/IP of watchdog node N (all nodes listed, own included)"),
    text("if_cmd_path", "watchdog", Context::Startup)
        .defaults(&[(Release::V3_7, Some("/sbin"))])
        .description("Path to interface command.")
        .help(
            "Directory that holds the program of if_up_cmd/if_down_cmd (ignored \
             when that starts with an absolute path)",
        ),
    text("if_down_cmd", "watchdog", Context::Startup)
        .defaults(&[
            (Release::V3_7, Some("ip addr del $_IP_$/24 dev eth0")),
            (
                Release::V4_1,
                Some("/usr/bin/sudo /sbin/ip addr del $_IP_$/24 dev eth0"),
            ),
        ])
        .description("Complete command to bring down virtual interface.")
        .help("Command that removes the virtual IP; $_IP_$ is replaced; killed after 5 s"),
    text("if_up_cmd", "watchdog", Context::Startup)
        .defaults(&[
            (
                Release::V3_7,
                Some("ip addr add $_IP_$/24 dev eth0 label eth0:0"),
            ),
            (
                Release::V4_1,
                Some("/usr/bin/sudo /sbin/ip addr add $_IP_$/24 dev eth0 label eth0:0"),
            ),
        ])
        .description("Complete command to bring UP virtual interface.")
        .help("Command that adds the virtual IP; $_IP_$ is replaced; killed after 10 s"),
    group("other_pgpool")
        .last(Release::V4_1)
        .counterparts(&["watchdog"])
        .help("SHOW group name: other watchdog nodes (old layout)"),
    int(
        "other_pgpool_port",
        "watchdog",
        Context::Reload,
        1024,
        65535,
        Unit::None,
    )
    .indexed(128)
    .defaults(&[(Release::V3_7, Some("0"))])
    .last(Release::V4_1)
    .counterparts(&["pgpool_port"])
    .description("tcp/ip pgpool port number of other pgpool node for watchdog connection.")
    .help("Client port of another watchdog node (old layout)"),
    int(
        "other_wd_port",
        "watchdog",
        Context::Reload,
        1024,
        65535,
        Unit::None,
    )
    .indexed(128)
    .defaults(&[(Release::V3_7, Some("0"))])
    .last(Release::V4_1)
    .counterparts(&["wd_port"])
    .description(
        "tcp/ip watchdog port number of other pgpool node for watchdog \
             connection..",
    )
    .help("Watchdog port of another node (old layout)"),
    int(
        "pgpool_port",
        "watchdog",
        Context::Reload,
        1024,
        65535,
        Unit::None,
    )
    .indexed(128)
    .defaults(&[(Release::V4_2, Some("0"))])
    .first(Release::V4_2)
    .counterparts(&["other_pgpool_port"])
    .description("tcp/ip pgpool port number of other pgpool node for watchdog connection.")
    .help("Client port of watchdog node N"),
    text("ping_path", "watchdog", Context::Startup)
        .defaults(&[(Release::V3_7, Some("/bin"))])
        .description("path to ping command.")
        .help("Directory that holds the ping program"),
    text("trusted_server_command", "watchdog", Context::Reload)
        .defaults(&[(Release::V4_4, Some("ping -q -c3 %h"))])
        .first(Release::V4_4)
        .description("Command to excute when communicate with trusted server.")
        .help("Ping command with %h for the host"),
    text("trusted_servers", "watchdog", Context::Startup)
        .defaults(&[(Release::V3_7, Some(""))])
        .description("List of servers to verify connectivity.")
        .help("Comma list of hosts pinged to find out whether this node is cut off"),
    bool("use_watchdog", "watchdog", Context::Startup)
        .defaults(&[(Release::V3_7, Some("off"))])
        .description("Enables the pgpool-II watchdog.")
        .help("Switch the watchdog on"),
    group("watchdog")
        .first(Release::V4_2)
        .counterparts(&["other_pgpool"])
        .help("SHOW group name: watchdog node values"),
    text("wd_authkey", "watchdog", Context::Reload)
        .defaults(&[(Release::V3_7, Some(""))])
        .description("Authentication key to be used in watchdog communication.")
        .help("Shared secret of the watchdog messages; empty disables"),
    text("wd_de_escalation_command", "watchdog", Context::Reload)
        .defaults(&[(Release::V3_7, Some(""))])
        .description(
            "Command to execute when watchdog node resigns from the cluster leader \
             node.",
        )
        .help("Command run when the leader resigns"),
    text("wd_escalation_command", "watchdog", Context::Reload)
        .defaults(&[(Release::V3_7, Some(""))])
        .description("Command to execute when watchdog node becomes cluster leader node.")
        .help("Command run when a node becomes leader, before the virtual IP is taken"),
    int(
        "wd_heartbeat_deadtime",
        "watchdog",
        Context::Startup,
        1,
        INT_MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V3_7, Some("30"))])
    .description("Deadtime interval in seconds for heartbeat signal.")
    .help("Seconds without heartbeat after which a peer is dead"),
    int(
        "wd_heartbeat_keepalive",
        "watchdog",
        Context::Startup,
        1,
        INT_MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V3_7, Some("2"))])
    .description("Time interval in seconds between sending the heartbeat signal.")
    .help("Seconds between heartbeats"),
    int(
        "wd_heartbeat_port",
        "watchdog",
        Context::Startup,
        1024,
        65535,
        Unit::None,
    )
    .defaults(&[(Release::V3_7, Some("9694"))])
    .last(Release::V4_1)
    .counterparts(&["heartbeat_port"])
    .help("Local UDP port on which heartbeats are received (old layout)"),
    text("wd_hostname", "watchdog", Context::Startup)
        .defaults(&[(Release::V3_7, Some(""))])
        .last(Release::V4_1)
        .counterparts(&["hostname"])
        .help("Own host/IP for the watchdog (old layout)"),
    int(
        "wd_initial_node_showup_time",
        "watchdog",
        Context::Reload,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V4_3, Some("0"))])
    .first(Release::V4_3)
    .last(Release::V4_3)
    .counterparts(&["wd_no_show_node_removal_timeout"])
    .description(
        "Timeout in seconds to revoke the cluster membership of NO-SHOW \
             watchdog nodes.",
    )
    .help(
        "Seconds to wait for first contact of a node (only 4.3.0; became \
             wd_no_show_node_removal_timeout in 4.3.1)",
    ),
    int(
        "wd_interval",
        "watchdog",
        Context::Startup,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V3_7, Some("10"))])
    .description("Time interval in seconds between life check.")
    .help("Seconds between life checks"),
    int(
        "wd_life_point",
        "watchdog",
        Context::Startup,
        0,
        INT_MAX,
        Unit::None,
    )
    .defaults(&[(Release::V3_7, Some("3"))])
    .description("Maximum number of retries before failing the life check.")
    .help("Failed life-check queries before a peer is dead (method query)"),
    text("wd_lifecheck_dbname", "watchdog", Context::Reload)
        .defaults(&[
            (Release::V3_7, Some("postgres")),
            (Release::V4_3, Some("template1")),
        ])
        .description("Database name to be used for by watchdog lifecheck.")
        .help("Database of the life-check query"),
    choice(
        "wd_lifecheck_method",
        "watchdog",
        Context::Startup,
        &[("query", 1), ("heartbeat", 2), ("external", 3)],
    )
    .defaults(&[(Release::V3_7, Some("heartbeat"))])
    .description("method for watchdog lifecheck.")
    .help("How peers are checked"),
    text("wd_lifecheck_password", "watchdog", Context::Reload)
        .defaults(&[(Release::V3_7, Some("postgres")), (Release::V4_0, Some(""))])
        .secret()
        .description("Password for watchdog user in lifecheck.")
        .help("Password of the life-check query; empty takes it from pool_passwd"),
    text("wd_lifecheck_query", "watchdog", Context::Startup)
        .defaults(&[(Release::V3_7, Some("SELECT 1"))])
        .description("SQL query to be used by watchdog lifecheck.")
        .help("Statement of the life check"),
    text("wd_lifecheck_user", "watchdog", Context::Reload)
        .defaults(&[(Release::V3_7, Some("nobody")), (Release::V4_6, Some(""))])
        .description("User name to be used for by watchdog lifecheck.")
        .help("User of the life-check query"),
    text("wd_listen_address", "watchdog", Context::Startup)
        .defaults(&[(Release::V4_7, Some(""))])
        .first(Release::V4_7)
        .description("hostname(s) or IP address which watchdog will listen on.")
        .help("Local address on which the watchdog listens"),
    int(
        "wd_listen_port",
        "watchdog",
        Context::Startup,
        1024,
        65535,
        Unit::None,
    )
    .defaults(&[(Release::V4_7, Some("0"))])
    .first(Release::V4_7)
    .description("tcp/IP port number which watchdog will listen on.")
    .help("Local port on which the watchdog listens (0: use the own wd_port)"),
    int(
        "wd_lost_node_removal_timeout",
        "watchdog",
        Context::Reload,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V4_3, Some("0"))])
    .first(Release::V4_3)
    .description(
        "Timeout in seconds to revoke the cluster membership of LOST watchdog \
             nodes.",
    )
    .help(
        "Seconds after which a lost node is taken out of the quorum count; 0 \
             disables",
    ),
    list(
        "wd_monitoring_interfaces_list",
        "watchdog",
        Context::Startup,
        ',',
    )
    .defaults(&[(Release::V3_7, None)])
    .description(
        "List of network device names, to be monitored by the watchdog process \
             for the network link state.",
    )
    .help("Comma list of network devices to watch; 'any' for all; '' disables"),
    int(
        "wd_no_show_node_removal_timeout",
        "watchdog",
        Context::Reload,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .defaults(&[(Release::V4_3, Some("0"))])
    .first(Release::V4_3)
    .counterparts(&["wd_initial_node_showup_time"])
    .description(
        "Timeout in seconds to revoke the cluster membership of NO-SHOW \
             watchdog nodes.",
    )
    .help(
        "Seconds after which a configured node that never showed up is taken \
             out of the quorum count; 0 disables",
    ),
    int(
        "wd_port",
        "watchdog",
        Context::Startup,
        1024,
        INT_MAX,
        Unit::None,
    )
    .defaults(&[(Release::V3_7, Some("9000"))])
    .last(Release::V4_1)
    .description(
        "tcp/ip watchdog port number of other pgpool node for watchdog \
             connection..",
    )
    .help("Watchdog TCP port: scalar own port until 4.1, indexed per node since 4.2"),
    int(
        "wd_port",
        "watchdog",
        Context::Reload,
        1024,
        65535,
        Unit::None,
    )
    .indexed(128)
    .defaults(&[(Release::V4_2, Some("0"))])
    .first(Release::V4_2)
    .description(
        "tcp/ip watchdog port number of other pgpool node for watchdog \
             connection..",
    )
    .help("Watchdog TCP port: scalar own port until 4.1, indexed per node since 4.2"),
    int(
        "wd_priority",
        "watchdog",
        Context::Startup,
        0,
        INT_MAX,
        Unit::None,
    )
    .defaults(&[(Release::V3_7, Some("1"))])
    .description("Watchdog node priority for leader election.")
    .help("Higher value wins the leader election"),
    bool("wd_remove_shutdown_nodes", "watchdog", Context::Reload)
        .defaults(&[(Release::V4_3, Some("off"))])
        .first(Release::V4_3)
        .description("Revoke the cluster membership of properly shutdown watchdog nodes.")
        .help("Take properly stopped nodes out of the quorum count at once"),
    group("heartbeat").help("SHOW group name: heartbeat values"),
    text(
        "heartbeat_destination",
        "watchdog_lifecheck",
        Context::Reload,
    )
    .indexed(256)
    .defaults(&[(Release::V3_7, Some(""))])
    .last(Release::V4_1)
    .counterparts(&["heartbeat_hostname"])
    .description("Hostname for sending heartbeat signal.")
    .help("Peer to which heartbeats are sent (old layout: peers only)"),
    int(
        "heartbeat_destination_port",
        "watchdog_lifecheck",
        Context::Reload,
        1024,
        65535,
        Unit::None,
    )
    .indexed(256)
    .defaults(&[(Release::V3_7, Some("0"))])
    .last(Release::V4_1)
    .counterparts(&["heartbeat_port"])
    .description("Port for sending heartbeat.")
    .help("UDP port of that peer"),
    text("heartbeat_device", "watchdog_lifecheck", Context::Reload)
        .indexed(256)
        .defaults(&[(Release::V3_7, Some(""))])
        .description("Name of NIC device for sending heartbeat.")
        .help(
            "Network device for heartbeat packets; optional; several separated by \
             ';' since 4.2",
        ),
    text("heartbeat_hostname", "watchdog_lifecheck", Context::Reload)
        .indexed(256)
        .defaults(&[(Release::V4_2, Some(""))])
        .first(Release::V4_2)
        .counterparts(&["heartbeat_destination"])
        .description("Hostname for sending heartbeat signal.")
        .help(
            "Host/IP of node N for heartbeats; the line for the own node is \
             ignored; several separated by ';'",
        ),
    int(
        "heartbeat_port",
        "watchdog_lifecheck",
        Context::Reload,
        1024,
        65535,
        Unit::None,
    )
    .indexed(256)
    .defaults(&[(Release::V4_2, Some("0"))])
    .first(Release::V4_2)
    .counterparts(&["heartbeat_destination_port", "wd_heartbeat_port"])
    .description("Port for sending heartbeat.")
    .help(
        "UDP port of node N for heartbeats; the own node's line gives the \
             listening port",
    ),
    text(
        "other_pgpool_hostname",
        "watchdog_lifecheck",
        Context::Reload,
    )
    .indexed(128)
    .defaults(&[(Release::V3_7, Some("localhost"))])
    .last(Release::V4_1)
    .counterparts(&["hostname"])
    .help("Host of another watchdog node (old layout: peers only)"),
    text(
        "wd_heartbeat_listen_addresses",
        "watchdog_lifecheck",
        Context::Startup,
    )
    .defaults(&[(Release::V4_7, Some(""))])
    .first(Release::V4_7)
    .description("hostname(s) or IP address(es) which heartbeat will listen on.")
    .help("Local addresses on which heartbeats are received"),
    int(
        "wd_heartbeat_listen_port",
        "watchdog_lifecheck",
        Context::Startup,
        0,
        INT_MAX,
        Unit::None,
    )
    .defaults(&[(Release::V4_7, Some("0"))])
    .first(Release::V4_7)
    .description("tcp/IP port number which heartbeat will listen on.")
    .help(
        "Local UDP port on which heartbeats are received (0: use the own \
             heartbeat_port)",
    ),
];
