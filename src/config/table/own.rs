//! Rows of the parameter table: what pgpool-rs.conf may set, and pgpool.conf may not.

use super::build::{choice, int, text};
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
         compares the certificate with backend_hostname. Empty: tried if ssl is on, plain if the \
         server has none",
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
];
