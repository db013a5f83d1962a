//! Rows of the parameter table: what pgpool-rs.conf may set, and pgpool.conf may not.

use super::build::{int, text};
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
