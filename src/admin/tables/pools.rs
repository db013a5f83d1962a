//! `SHOW pool_pools`: one row per slot, cached set and node. `pcp_proc_info` prints the same fields.

use super::{Since, of_release, processes};
use crate::{
    admin::{Inputs, Table, text},
    cluster::NodeId,
    config::Release,
    dataplane::{PoolInfo, SlotInfo},
};

pub(super) fn table(inputs: &Inputs) -> Table {
    let release = inputs.config.dialect;
    let mut table = Table::new(&of_release(release, columns(release)));
    for slot in &inputs.slots {
        for pool_id in 0..inputs.config.settings.max_pool {
            for node in 0..inputs.view.nodes.len() {
                table
                    .rows
                    .push(fields(inputs, release, slot, pool_id, node));
            }
        }
    }
    table
}

/// One row in the layout of `release`: 12 fields up to 4.2, 17 in 4.3 and 4.4, 18 in 4.5 and 4.6, 21 in 4.7.
pub fn fields(
    inputs: &Inputs,
    release: Release,
    slot: &SlotInfo,
    pool_id: usize,
    node: NodeId,
) -> Vec<String> {
    let pool = slot.pools.get(pool_id).and_then(Option::as_ref);
    // A set without a connection to this node is shown like an empty place.
    let backend_pid = pool.and_then(|p| p.backend_pids.get(node).copied().flatten());
    let pool = pool.filter(|_| backend_pid.is_some());
    let of_pool = |field: fn(&PoolInfo) -> String| pool.map(field).unwrap_or_default();
    let number = |field: fn(&PoolInfo) -> u64| pool.map_or(0, field).to_string();
    let oldest = Release::V3_7;
    of_release(
        release,
        [
            Since(oldest, slot.pid.to_string()),
            Since(oldest, processes::start_time(slot, release)),
            Since(Release::V4_3, slot.client_connection_count.to_string()),
            Since(oldest, pool_id.to_string()),
            Since(oldest, node.to_string()),
            Since(oldest, of_pool(|p| p.database.clone())),
            Since(oldest, of_pool(|p| p.username.clone())),
            Since(oldest, of_pool(|p| text::time(p.backend_connection_time))),
            Since(
                Release::V4_3,
                of_pool(|p| text::time_or_empty(p.client_connection_time)),
            ),
            Since(
                Release::V4_3,
                of_pool(|p| text::time_or_empty(p.client_disconnection_time)),
            ),
            Since(Release::V4_3, idle_duration(inputs, pool)),
            Since(oldest, number(|p| p.major.into())),
            Since(oldest, number(|p| p.minor.into())),
            Since(oldest, number(|p| p.pool_counter)),
            Since(oldest, backend_pid.unwrap_or(0).to_string()),
            Since(oldest, number(|p| p.connected.into())),
            Since(Release::V4_3, processes::status(slot, release).to_owned()),
            Since(
                Release::V4_5,
                u8::from(pool.is_some_and(|p| p.load_balance_node == Some(node))).to_string(),
            ),
            // These are the client's, and stand in all rows of its process.
            Since(Release::V4_7, slot.client_host.clone()),
            Since(Release::V4_7, slot.client_port.clone()),
            Since(Release::V4_7, statement(inputs, slot, node)),
        ],
    )
}

fn columns(release: Release) -> [Since<&'static str>; 21] {
    let oldest = Release::V3_7;
    let connection_time = if release < Release::V4_3 {
        "create_time"
    } else {
        "backend_connection_time"
    };
    [
        Since(oldest, "pool_pid"),
        Since(oldest, "start_time"),
        Since(Release::V4_3, "client_connection_count"),
        Since(oldest, "pool_id"),
        Since(oldest, "backend_id"),
        Since(oldest, "database"),
        Since(oldest, "username"),
        Since(oldest, connection_time),
        Since(Release::V4_3, "client_connection_time"),
        Since(Release::V4_3, "client_disconnection_time"),
        Since(Release::V4_3, "client_idle_duration"),
        Since(oldest, "majorversion"),
        Since(oldest, "minorversion"),
        Since(oldest, "pool_counter"),
        Since(oldest, "pool_backendpid"),
        Since(oldest, "pool_connected"),
        Since(Release::V4_3, "status"),
        Since(Release::V4_5, "load_balance_node"),
        Since(Release::V4_7, "client_host"),
        Since(Release::V4_7, "client_port"),
        Since(Release::V4_7, "statement"),
    ]
}

/// The original keeps the last statement per node; those of a session go to one node, which shows it.
fn statement(inputs: &Inputs, slot: &SlotInfo, node: NodeId) -> String {
    let mut connected = slot.pools.iter().flatten().filter(|pool| pool.connected);
    let target = connected
        .next()
        .and_then(|pool| pool.load_balance_node)
        .or_else(|| inputs.view.write_node());
    match target {
        Some(target) if target == node => slot.statement.clone(),
        _ => String::new(),
    }
}

/// Seconds, with the time that `client_idle_limit` leaves to a connected client.
fn idle_duration(inputs: &Inputs, pool: Option<&PoolInfo>) -> String {
    let Some(pool) = pool else {
        return "0".to_owned();
    };
    let idle = pool.client_idle_duration;
    let left = inputs
        .config
        .settings
        .client_idle_limit
        .filter(|_| pool.connected)
        .map(|limit| limit.saturating_sub(idle));
    format!(
        "{}{}",
        idle.as_secs(),
        text::remaining(left, "client disconnected")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layouts_have_twelve_seventeen_eighteen_and_twenty_one_columns() {
        for (release, count) in [
            (Release::V4_0, 12),
            (Release::V4_2, 12),
            (Release::V4_3, 17),
            (Release::V4_4, 17),
            (Release::V4_5, 18),
            (Release::V4_6, 18),
            (Release::V4_7, 21),
        ] {
            assert_eq!(
                of_release(release, columns(release)).len(),
                count,
                "{release:?}"
            );
        }
    }
}
