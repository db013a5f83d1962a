//! `SHOW pool_nodes`: one row per node, gaps in the numbering included.
//!
//! Source: `src/utils/pool_process_reporting.c` (`get_nodes`) @ V4_0_25, V4_1_23, V4_3_5, V4_7_2.

use std::time::Duration;

use super::{Since, of_release, role};
use crate::{
    admin::{Inputs, Table, text, words},
    cluster::{Node, NodeId},
    config::Release,
};

const OLDEST: Release = Release::V3_7;

pub(super) fn table(inputs: &Inputs, load_balance_node: Option<NodeId>) -> Table {
    let release = inputs.config.dialect;
    let mut table = Table::new(&of_release(release, columns()));
    for node in &inputs.view.nodes {
        let fields = fields(inputs, node, load_balance_node == Some(node.id));
        table.rows.push(of_release(release, fields));
    }
    table
}

fn columns() -> [Since<&'static str>; 14] {
    [
        Since(OLDEST, "node_id"),
        Since(OLDEST, "hostname"),
        Since(OLDEST, "port"),
        Since(OLDEST, "status"),
        Since(Release::V4_3, "pg_status"),
        Since(OLDEST, "lb_weight"),
        Since(OLDEST, "role"),
        Since(Release::V4_3, "pg_role"),
        Since(OLDEST, "select_cnt"),
        Since(OLDEST, "load_balance_node"),
        Since(OLDEST, "replication_delay"),
        Since(Release::V4_1, "replication_state"),
        Since(Release::V4_1, "replication_sync_state"),
        Since(Release::V4_0, "last_status_change"),
    ]
}

fn fields(inputs: &Inputs, node: &Node, balanced: bool) -> [Since<String>; 14] {
    let probe = inputs.probes.get(node.id);
    let replication = inputs.replication.get(node.id);
    let totals = inputs.totals.get(node.id).copied().unwrap_or_default();
    [
        Since(OLDEST, node.id.to_string()),
        Since(OLDEST, node.hostname.clone()),
        Since(OLDEST, node.port.to_string()),
        Since(OLDEST, words::status_word(node).to_owned()),
        Since(
            Release::V4_3,
            probe.map_or("unknown", |p| p.pg_status).to_owned(),
        ),
        Since(OLDEST, text::float(node.weight)),
        Since(OLDEST, role(inputs, node.id).to_owned()),
        Since(
            Release::V4_3,
            probe.map_or("unknown", |p| p.pg_role).to_owned(),
        ),
        Since(OLDEST, totals.select.to_string()),
        Since(OLDEST, balanced.to_string()),
        Since(OLDEST, delay(inputs, node.id)),
        Since(
            Release::V4_1,
            replication.map(|r| r.state.clone()).unwrap_or_default(),
        ),
        Since(
            Release::V4_1,
            replication
                .map(|r| r.sync_state.clone())
                .unwrap_or_default(),
        ),
        Since(Release::V4_0, text::time(node.status_changed)),
    ]
}

/// Bytes of WAL; seconds where the threshold is a time.
fn delay(inputs: &Inputs, node: NodeId) -> String {
    if inputs.view.primary == Some(node) {
        return "0".to_owned();
    }
    let Some(replication) = inputs.replication.get(node) else {
        return "0".to_owned();
    };
    let by_time = inputs.config.dialect >= Release::V4_4
        && inputs.config.settings.delay_threshold_by_time.is_some();
    if !by_time {
        return replication.delay_bytes.to_string();
    }
    seconds(replication.delay_time)
}

fn seconds(delay: Duration) -> String {
    let unit = if delay < Duration::from_secs(2) {
        "second"
    } else {
        "seconds"
    };
    format!("{:.6} {unit}", delay.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layouts_have_ten_twelve_and_fourteen_columns() {
        for (release, count) in [
            (Release::V4_0, 10),
            (Release::V4_1, 12),
            (Release::V4_2, 12),
            (Release::V4_3, 14),
            (Release::V4_7, 14),
        ] {
            assert_eq!(of_release(release, columns()).len(), count, "{release:?}");
        }
    }

    #[test]
    fn a_delay_in_time_is_singular_below_two_seconds() {
        assert_eq!(seconds(Duration::from_micros(123)), "0.000123 second");
        assert_eq!(seconds(Duration::from_millis(2500)), "2.500000 seconds");
    }
}
