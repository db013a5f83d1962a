//! The settings that a node tells the leader, who warns of differences.

use super::port;
use crate::{
    config::{
        Release, checks,
        parameter::{Value, Values},
        settings::ClusteringMode,
        typed,
    },
    watchdog::{
        codec::config_data::{ConfigData, HealthCheckParams, WatchdogNode, settings_by_name},
        settings::Member,
    },
};

pub(super) fn announced(
    values: &Values,
    dialect: Release,
    node_id: u32,
    nodes: &[&Member],
) -> ConfigData {
    let numbers = settings_by_name()
        .map(|name| (name, number(values, dialect, node_id, name)))
        .collect();
    let slots = checks::used_slots(values);
    let health_check = |slot: &usize| {
        let number = |name| values.int(name, Some(*slot));
        HealthCheckParams {
            timeout: number("health_check_timeout"),
            period: number("health_check_period"),
            max_retries: number("health_check_max_retries"),
            retry_delay: number("health_check_retry_delay"),
            connect_timeout: number("connect_timeout"),
        }
    };
    let backend = |slot: &usize| {
        let host = values.text("backend_hostname", Some(*slot)).to_owned();
        (host, port(values, "backend_port", Some(*slot)))
    };
    let node = |member: &&Member| WatchdogNode {
        hostname: member.host.clone(),
        wd_port: member.wd_port,
        pgpool_port: member.pgpool_port,
    };
    ConfigData {
        numbers,
        health_checks: slots.iter().map(health_check).collect(),
        backends: slots.iter().map(backend).collect(),
        nodes: nodes.iter().map(node).collect(),
    }
}

/// A name that the dialect does not know counts as off, but for what another name says there.
fn number(values: &Values, dialect: Release, node_id: u32, name: &str) -> i64 {
    match name {
        "pgpool_node_id" => i64::from(node_id),
        "replication_mode" => i64::from(matches!(
            typed::clustering_mode(values, dialect),
            ClusteringMode::NativeReplication | ClusteringMode::SnapshotIsolation
        )),
        _ => match values.get(name, None) {
            Some(Value::Bool(on)) => i64::from(*on),
            Some(Value::Int(number) | Value::Enum { number, .. }) => *number,
            _ => 0,
        },
    }
}
