//! `SHOW pool_health_check_stats` (4.2 and later) and `pcp_health_check_stats`.

use super::node_fields;
use crate::{
    admin::{Inputs, Table, text},
    cluster::NodeId,
    observe::HealthStats,
};

const COLUMNS: [&str; 20] = [
    "node_id",
    "hostname",
    "port",
    "status",
    "role",
    "last_status_change",
    "total_count",
    "success_count",
    "fail_count",
    "skip_count",
    "retry_count",
    "average_retry_count",
    "max_retry_count",
    "max_duration",
    "min_duration",
    "average_duration",
    "last_health_check",
    "last_successful_health_check",
    "last_skip_health_check",
    "last_failed_health_check",
];

pub(super) fn table(inputs: &Inputs) -> Table {
    let mut table = Table::new(&COLUMNS);
    table.rows = (0..inputs.view.nodes.len())
        .map(|node| row(inputs, node))
        .collect();
    table
}

/// The 20 fields of one node; none for a number that is no node's.
pub fn row(inputs: &Inputs, node: NodeId) -> Vec<String> {
    let Some(node) = inputs.view.nodes.get(node) else {
        return Vec::new();
    };
    let never = HealthStats::default();
    let stats = inputs.health.get(node.id).unwrap_or(&never);
    let mut row = node_fields(inputs, node).to_vec();
    row.push(text::time(node.status_changed));
    row.extend(figures(stats));
    row
}

fn figures(stats: &HealthStats) -> [String; 14] {
    // Before the first check the original divides by zero ("-nan") and shows INT_MAX as the minimum.
    let average = |sum: f64| text::float(sum / stats.total as f64);
    [
        stats.total.to_string(),
        stats.success.to_string(),
        stats.fail.to_string(),
        stats.skip.to_string(),
        stats.retry.to_string(),
        average(stats.retry as f64),
        stats.max_retry.to_string(),
        stats.max_duration.as_millis().to_string(),
        stats
            .min_duration
            .unwrap_or_default()
            .as_millis()
            .to_string(),
        average(stats.total_duration.as_millis() as f64),
        text::time_or_empty(stats.last),
        text::time_or_empty(stats.last_success),
        text::time_or_empty(stats.last_skip),
        text::time_or_empty(stats.last_fail),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn nothing_checked_yet_shows_zeros_and_empty_times() {
        assert_eq!(
            figures(&HealthStats::default()),
            [
                "0", "0", "0", "0", "0", "0.000000", "0", "0", "0", "0.000000", "", "", "", ""
            ]
        );
    }

    #[test]
    fn averages_are_per_check() {
        let stats = HealthStats {
            total: 10,
            success: 10,
            retry: 5,
            max_duration: Duration::from_millis(8),
            min_duration: Some(Duration::from_millis(2)),
            total_duration: Duration::from_millis(36),
            ..HealthStats::default()
        };
        assert_eq!(
            figures(&stats)[5..10],
            ["0.500000", "0", "8", "2", "3.600000"]
        );
    }
}
