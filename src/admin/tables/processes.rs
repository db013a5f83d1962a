//! `SHOW pool_processes`: one row per slot, which is our child process.

use super::{Since, of_release};
use crate::{
    admin::{Inputs, Table, text},
    config::Release,
    dataplane::{SlotInfo, SlotStatus},
};

pub(super) fn table(inputs: &Inputs) -> Table {
    let release = inputs.config.dialect;
    let mut table = Table::new(columns(release));
    table.rows = inputs
        .slots
        .iter()
        .map(|slot| of_release(release, fields(slot, release)))
        .collect();
    table
}

fn columns(release: Release) -> &'static [&'static str] {
    if release < Release::V4_3 {
        &[
            "pool_pid",
            "start_time",
            "database",
            "username",
            "create_time",
            "pool_counter",
        ]
    } else {
        &[
            "pool_pid",
            "start_time",
            "client_connection_count",
            "database",
            "username",
            "backend_connection_time",
            "pool_counter",
            "status",
        ]
    }
}

fn fields(slot: &SlotInfo, release: Release) -> [Since<String>; 8] {
    // Of a slot without a client only the process itself is shown.
    let pool = slot.pools.iter().flatten().rfind(|pool| pool.connected);
    let database = pool.map(|p| p.database.clone()).unwrap_or_default();
    let username = pool.map(|p| p.username.clone()).unwrap_or_default();
    let since = text::time_or_empty(pool.map(|p| p.backend_connection_time));
    let counter = pool.map(|p| p.pool_counter.to_string()).unwrap_or_default();
    let oldest = Release::V3_7;
    [
        Since(oldest, slot.pid.to_string()),
        Since(oldest, start_time(slot, release)),
        Since(Release::V4_3, slot.client_connection_count.to_string()),
        Since(oldest, database),
        Since(oldest, username),
        Since(oldest, since),
        Since(oldest, counter),
        Since(Release::V4_3, status(slot, release).to_owned()),
    ]
}

/// From 4.3 on with the time until the process is renewed.
pub(super) fn start_time(slot: &SlotInfo, release: Release) -> String {
    let mut shown = text::time(slot.start_time);
    if release >= Release::V4_3 {
        shown.push_str(&text::remaining(slot.restarts_in, "process restarting"));
    }
    shown
}

/// `Connecting` came with 4.4.
pub(super) fn status(slot: &SlotInfo, release: Release) -> &'static str {
    match slot.status {
        SlotStatus::Connecting if release < Release::V4_4 => SlotStatus::ExecuteCommand.text(),
        status => status.text(),
    }
}
