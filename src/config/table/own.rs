//! Rows of the parameter table: what pgpool-rs.conf may set, and pgpool.conf may not.

use super::build::{INT_MAX, choice, int, text};
use crate::config::{
    Release,
    parameter::{Context, Parameter, Unit},
};

pub(super) const ROWS: &[Parameter] = &[
    text("admin_database", "pgpool-rs", Context::Reload)
        .ours()
        .defaults(&[(Release::V3_7, Some("pgpool_admin"))])
        .help(
            "Sessions to this database speak admin SQL only and need no free slot; \
             empty switches that off",
        ),
    choice(
        "backend_sslmode",
        "pgpool-rs",
        Context::Reload,
        &[
            ("", 0),
            ("disable", 1),
            ("prefer", 2),
            ("require", 3),
            ("verify-ca", 4),
            ("verify-full", 5),
        ],
    )
    .optionally_indexed(128)
    .ours()
    .defaults(&[(Release::V3_7, Some(""))])
    .help(
        "TLS to the backends, as sslmode of libpq, for new connections over TCP; verify-full \
         compares the certificate with backend_hostname, prefer does not go back to plain text when a \
         handshake fails. Empty: tried if ssl is on, plain if the server has none",
    ),
    choice(
        "backend_sslnegotiation",
        "pgpool-rs",
        Context::Reload,
        &[("postgres", 0), ("direct", 1)],
    )
    .optionally_indexed(128)
    .ours()
    .defaults(&[(Release::V3_7, Some("postgres"))])
    .help(
        "direct begins TLS without asking for it, which PostgreSQL 17 and later understand; \
         a server that does not is an error",
    ),
    text("backend_ssl_ca_cert", "pgpool-rs", Context::Reload)
        .optionally_indexed(128)
        .ours()
        .defaults(&[(Release::V3_7, Some(""))])
        .help(
            "CA certificates that a backend's certificate is verified with, 'system' for those of \
             the operating system; empty: ssl_ca_cert and ssl_ca_cert_dir. The file is read again \
             at reload, as all files of certificates",
        ),
    text("backend_ssl_crl_file", "pgpool-rs", Context::Reload)
        .optionally_indexed(128)
        .ours()
        .defaults(&[(Release::V3_7, Some(""))])
        .help("Certificate revocation list for the backends' certificates"),
    text("backend_ssl_cert", "pgpool-rs", Context::Reload)
        .optionally_indexed(128)
        .ours()
        .defaults(&[(Release::V3_7, Some(""))])
        .help("Client certificate that is shown to the backends"),
    text("backend_ssl_key", "pgpool-rs", Context::Reload)
        .optionally_indexed(128)
        .ours()
        .defaults(&[(Release::V3_7, Some(""))])
        .help(
            "Private key of backend_ssl_cert; ssl_passphrase_command is asked for its pass phrase",
        ),
    text("compat_version", "pgpool-rs", Context::Startup)
        .ours()
        .defaults(&[(Release::V3_7, Some(""))])
        .help(
            "Release whose PCP replies are given, '4.3' or '4.3.5'; empty: that of the \
             installed pcp tools",
        ),
    int(
        "worker_threads",
        "pgpool-rs",
        Context::Startup,
        0,
        1024,
        Unit::None,
    )
    .ours()
    .defaults(&[(Release::V3_7, Some("0"))])
    .help("Threads that serve clients; 0 is one per processor core"),
    text("auth_user", "pgpool-rs", Context::Reload)
        .ours()
        .defaults(&[(Release::V3_7, Some(""))])
        .help(
            "User that looks up the passwords of users without an entry in pool_passwd by auth_query; \
             empty switches that off",
        ),
    text("auth_password", "pgpool-rs", Context::Reload)
        .ours()
        .secret()
        .defaults(&[(Release::V3_7, Some(""))])
        .help(
            "Password of auth_user, in any form of pool_passwd; empty: its entry in pool_passwd",
        ),
    text("auth_dbname", "pgpool-rs", Context::Reload)
        .ours()
        .defaults(&[(Release::V3_7, Some("postgres"))])
        .help("Database in which auth_query runs"),
    text("auth_query", "pgpool-rs", Context::Reload)
        .ours()
        .defaults(&[(
            Release::V3_7,
            Some(
                "SELECT usename, CASE WHEN valuntil < pg_catalog.now() THEN NULL ELSE passwd END \
                 FROM pg_catalog.pg_shadow WHERE usename = $1",
            ),
        )])
        .help(
            "Query that gives a user's name and its password as PostgreSQL stores it (md5 or \
             SCRAM-SHA-256); $1 is the user",
        ),
    int(
        "auth_query_cache_life_time",
        "pgpool-rs",
        Context::Reload,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .ours()
    .defaults(&[(Release::V3_7, Some("30"))])
    .help("How long an answer of auth_query is good for; a failed login ends it sooner"),
    int(
        "remembered_password_life_time",
        "pgpool-rs",
        Context::Reload,
        0,
        INT_MAX,
        Unit::Seconds,
    )
    .ours()
    .defaults(&[(Release::V3_7, Some("60"))])
    .help(
        "How long a password that a server has accepted, and that is in no file, lets clients use a \
         cached connection before a server judges it again; 0 is as long as the connection lives",
    ),
    int(
        "auth_failure_delay_max",
        "pgpool-rs",
        Context::Reload,
        0,
        60_000,
        Unit::Milliseconds,
    )
    .ours()
    .defaults(&[(Release::V3_7, Some("5000"))])
    .help(
        "Longest delay of the answer to a failed login; it grows with the failures of a user from an \
         address. 0 switches delays off",
    ),
    int("node_id", "pgpool-rs", Context::Startup, -1, 128, Unit::None)
        .ours()
        .defaults(&[(Release::V3_7, Some("-1"))])
        .help(
            "Number of this watchdog node when pgpool.conf is one of 4.0 or 4.1 and there is no file \
             pgpool_node_id; -1: found from the backends' hosts, or from the order of all nodes",
        ),
    int(
        "wd_write_lease",
        "pgpool-rs",
        Context::Startup,
        0,
        3600,
        Unit::Seconds,
    )
    .ours()
    .defaults(&[(Release::V3_7, Some("10"))])
    .help(
        "How long a watchdog node serves writes after its last sign of a majority, and how long a new \
         leader waits before it promotes a standby; the answer to a write waits for such a sign, too. In force \
         while all nodes are pgpool-rs and members of the cluster (of two nodes, one alone then serves no \
         writes), and not where half of an even number of nodes is a quorum. 0 switches it off",
    ),
];
