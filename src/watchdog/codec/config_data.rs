//! A node's settings as it tells them to the leader, who warns of differences.

use super::{
    DecodeError, EncodeError,
    json::{Object, Writer},
};

/// How a setting is read: booleans come in two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Int,
    Bool,
}

use Kind::{Bool, Int};

/// In the order of the wire; the reader of 4.3.5 wants all of them.
const BEFORE_LISTS: &[(&str, Kind)] = &[
    ("num_init_children", Int),
    ("listen_backlog_multiplier", Int),
    ("child_life_time", Int),
    ("connection_life_time", Int),
    ("child_max_connections", Int),
    ("client_idle_limit", Int),
    ("max_pool", Int),
    ("replication_mode", Bool),
    ("enable_pool_hba", Bool),
    ("load_balance_mode", Bool),
    ("allow_clear_text_frontend_auth", Bool),
    ("replication_stop_on_mismatch", Bool),
    ("failover_if_affected_tuples_mismatch", Bool),
    ("replicate_select", Bool),
    ("connection_cache", Bool),
    ("health_check_timeout", Int),
    ("health_check_period", Int),
    ("health_check_max_retries", Int),
    ("health_check_retry_delay", Int),
    ("failover_on_backend_error", Bool),
    ("recovery_timeout", Int),
    ("search_primary_node_timeout", Int),
    ("client_idle_limit_in_recovery", Int),
    ("insert_lock", Bool),
    ("memory_cache_enabled", Bool),
    ("use_watchdog", Bool),
    ("clear_memqcache_on_escalation", Bool),
    ("wd_priority", Int),
    ("pgpool_node_id", Int),
    ("failover_when_quorum_exists", Bool),
    ("failover_require_consensus", Bool),
    ("allow_multiple_failover_requests_from_node", Bool),
];

/// Required by leaders of 4.4 and later, skipped by others.
const SINCE_4_4: &[(&str, Kind)] = &[
    ("min_spare_children", Int),
    ("max_spare_children", Int),
    ("process_management_mode", Int),
    ("process_management_strategy", Int),
];

/// The settings of [`ConfigData::numbers`], by name.
pub fn settings_by_name() -> impl Iterator<Item = &'static str> {
    BEFORE_LISTS.iter().chain(SINCE_4_4).map(|(name, _)| *name)
}

/// Those without which a leader of 4.3 does not take any.
pub fn required_settings() -> impl Iterator<Item = &'static str> {
    BEFORE_LISTS.iter().map(|(name, _)| *name)
}

pub fn settings_since_4_4() -> impl Iterator<Item = &'static str> {
    SINCE_4_4.iter().map(|(name, _)| *name)
}

/// On or off.
pub fn is_switch(name: &str) -> bool {
    BEFORE_LISTS.contains(&(name, Bool))
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigData {
    /// Plain settings by name, booleans as 0 and 1. Received from another release some may be missing.
    pub numbers: Vec<(&'static str, i64)>,
    /// One per backend; releases before 4.3.4 and its siblings send none.
    pub health_checks: Vec<HealthCheckParams>,
    pub backends: Vec<(String, u16)>,
    pub nodes: Vec<WatchdogNode>,
}

/// Seconds, but for the milliseconds of `connect_timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheckParams {
    pub timeout: i64,
    pub period: i64,
    pub max_retries: i64,
    pub retry_delay: i64,
    pub connect_timeout: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogNode {
    pub hostname: String,
    pub wd_port: u16,
    pub pgpool_port: u16,
}

impl ConfigData {
    pub fn number(&self, name: &str) -> Option<i64> {
        let mut all = self.numbers.iter();
        all.find(|(known, _)| *known == name).map(|(_, n)| *n)
    }

    pub(super) fn encode(&self) -> Result<String, EncodeError> {
        let mut w = Writer::new();
        for (name, _) in BEFORE_LISTS.iter().chain(SINCE_4_4) {
            w.optional_int(name, self.number(name));
        }
        let checks: Vec<Writer> = self.health_checks.iter().map(health_check).collect();
        // Optional for all readers, and an empty array crashes them.
        if !checks.is_empty() {
            w.objects("health_check_params", checks)?;
        }
        let backend = |(host, port): &(String, u16)| {
            let mut item = Writer::new();
            item.text("backend_hostname", host)
                .int("backend_port", *port);
            item
        };
        w.objects("backend_desc", self.backends.iter().map(backend).collect())?;
        let node = |node: &WatchdogNode| {
            let mut item = Writer::new();
            item.text("hostname", &node.hostname)
                .int("wd_port", node.wd_port)
                .int("pgpool_port", node.pgpool_port);
            item
        };
        w.objects("wd_nodes", self.nodes.iter().map(node).collect())?;
        w.end()
    }

    /// Takes what is there: releases differ in what they send, and all of it is for warnings only.
    pub(super) fn decode(body: &[u8]) -> Result<ConfigData, DecodeError> {
        let o = Object::parse(body)?;
        let mut data = ConfigData::default();
        for (name, kind) in BEFORE_LISTS.iter().chain(SINCE_4_4) {
            let number = match kind {
                // More than 32 bits no node has, and nobody shall count with.
                Int => o.optional_int::<i32>(name)?.map(i64::from),
                Bool => o.optional_bool(name)?.map(i64::from),
            };
            data.numbers.extend(number.map(|number| (*name, number)));
        }
        for item in o.objects("health_check_params")?.unwrap_or_default() {
            let int = |key| item.int::<i32>(key).map(i64::from);
            data.health_checks.push(HealthCheckParams {
                timeout: int("health_check_timeout")?,
                period: int("health_check_period")?,
                max_retries: int("health_check_max_retries")?,
                retry_delay: int("health_check_retry_delay")?,
                connect_timeout: int("connect_timeout")?,
            });
        }
        for item in o.objects("backend_desc")?.unwrap_or_default() {
            let backend = (item.text("backend_hostname")?, item.int("backend_port")?);
            data.backends.push(backend);
        }
        for item in o.objects("wd_nodes")?.unwrap_or_default() {
            data.nodes.push(WatchdogNode {
                hostname: item.text("hostname")?,
                wd_port: item.int("wd_port")?,
                pgpool_port: item.int("pgpool_port")?,
            });
        }
        Ok(data)
    }
}

fn health_check(params: &HealthCheckParams) -> Writer {
    let mut item = Writer::new();
    item.int("health_check_timeout", params.timeout)
        .int("health_check_period", params.period)
        .int("health_check_max_retries", params.max_retries)
        .int("health_check_retry_delay", params.retry_delay)
        .int("connect_timeout", params.connect_timeout);
    item
}
