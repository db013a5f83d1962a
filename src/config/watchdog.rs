//! The parameters of the watchdog: members from either dialect, and what is wrong with them.

mod announced;
mod checks;
mod members;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::{Release, parameter::Values, typed};
use crate::{
    config::settings::CompatVersion,
    watchdog::{
        codec::{AuthKey, heartbeat::Size},
        settings::{
            ConsensusSettings, EscalationSettings, HeartbeatSettings, LifecheckMethod,
            LifecheckSettings, Member, QuorumSettings, Settings,
        },
    },
};

pub(super) use checks::findings;

/// A vote is never forgotten sooner than this.
const SHORTEST_VOTE: Duration = Duration::from_secs(15);

/// `None` without `use_watchdog`, and where this node cannot be told from the settings; the
/// findings say why.
pub(super) fn settings(values: &Values, dialect: Release) -> Option<Settings> {
    if !values.bool("use_watchdog") {
        return None;
    }
    let members::Members {
        own,
        others,
        node_id,
        ..
    } = members::members(values, dialect).ok()?;
    let old = dialect < Release::V4_2;
    let listen_port = match port(values, "wd_listen_port", None) {
        0 => own.wd_port,
        port => port,
    };
    let nodes: Vec<&Member> = std::iter::once(&own).chain(&others).collect();
    let announced = announced::announced(values, dialect, node_id, &nodes);
    Some(Settings {
        announced,
        others,
        node_id,
        local_numbers: old,
        priority: i32::try_from(values.int("wd_priority", None)).unwrap_or(i32::MAX),
        authkey: AuthKey::new(values.text("wd_authkey", None)),
        delegate_ip: delegate_ip(values, dialect),
        listen_address: values.text("wd_listen_address", None).to_owned(),
        listen_port,
        ipc_socket_dir: values.text("wd_ipc_socket_dir", None).into(),
        monitored_interfaces: values.list("wd_monitoring_interfaces_list"),
        heartbeat: HeartbeatSettings {
            size: heartbeat_size(values),
            destinations: members::destinations(values, dialect, node_id),
            listen_addresses: words(values.text("wd_heartbeat_listen_addresses", None), ','),
            listen_port: members::heartbeat_port(values, dialect, node_id),
            keepalive: seconds(values, "wd_heartbeat_keepalive"),
        },
        lifecheck: lifecheck(values, dialect),
        quorum: QuorumSettings {
            half_votes: dialect < Release::V4_1 || values.bool("enable_consensus_with_half_votes"),
            remove_shutdown_nodes: values.bool("wd_remove_shutdown_nodes"),
            lost_removal: positive(values, "wd_lost_node_removal_timeout"),
            no_show_removal: positive(values, "wd_no_show_node_removal_timeout")
                .or_else(|| positive(values, "wd_initial_node_showup_time")),
        },
        consensus: ConsensusSettings {
            when_quorum_exists: values.bool("failover_when_quorum_exists"),
            require_consensus: values.bool("failover_require_consensus"),
            allow_multiple: values.bool("allow_multiple_failover_requests_from_node"),
            vote_lifetime: vote_lifetime(values),
        },
        escalation: escalation(values, dialect),
        write_lease: positive(values, "wd_write_lease"),
        own,
    })
}

/// `src/watchdog/watchdog.c @ V4_3_5`: a vote must outlive a round of every health check.
fn vote_lifetime(values: &Values) -> Duration {
    let slots = super::checks::used_slots(values);
    let slots = std::iter::once(None).chain(slots.into_iter().map(Some));
    let round = |slot| {
        let number = |name| u64::try_from(values.int(name, slot)).unwrap_or_default();
        let retries = number("health_check_max_retries");
        let delays = number("health_check_retry_delay").saturating_mul(retries);
        Duration::from_secs(number("health_check_period").saturating_add(delays))
    };
    slots.map(round).fold(SHORTEST_VOTE, Duration::max)
}

fn lifecheck(values: &Values, dialect: Release) -> LifecheckSettings {
    let text = |name: &str| values.text(name, None).to_owned();
    LifecheckSettings {
        method: match values.word("wd_lifecheck_method") {
            "query" => LifecheckMethod::Query,
            "external" => LifecheckMethod::External,
            _ => LifecheckMethod::Heartbeat,
        },
        interval: seconds(values, "wd_interval").max(Duration::from_secs(1)),
        deadtime: seconds(values, "wd_heartbeat_deadtime"),
        life_point: u32::try_from(values.int("wd_life_point", None)).unwrap_or(u32::MAX),
        query: text("wd_lifecheck_query"),
        database: text("wd_lifecheck_dbname"),
        user: text("wd_lifecheck_user"),
        password: text("wd_lifecheck_password"),
        trusted_servers: words(values.text("trusted_servers", None), ','),
        trusted_server_command: (dialect >= Release::V4_4).then(|| text("trusted_server_command")),
        ping_path: text("ping_path"),
    }
}

fn escalation(values: &Values, dialect: Release) -> EscalationSettings {
    let text = |name: &str| values.text(name, None).to_owned();
    EscalationSettings {
        escalation_command: text("wd_escalation_command"),
        de_escalation_command: text("wd_de_escalation_command"),
        clear_query_cache: values.bool("clear_memqcache_on_escalation"),
        if_cmd_path: text("if_cmd_path"),
        if_up_cmd: text("if_up_cmd"),
        if_down_cmd: text("if_down_cmd"),
        arping_path: text("arping_path"),
        arping_cmd: text("arping_cmd"),
        ping_path: text("ping_path"),
        always_prefix_path: dialect < Release::V4_1,
    }
}

fn heartbeat_size(values: &Values) -> Size {
    match values.text("compat_version", None).parse() {
        Ok(CompatVersion { release, patch }) => {
            Size::of_release(release.major, release.minor, patch)
        }
        Err(_) => Size::Long,
    }
}

fn delegate_ip(values: &Values, dialect: Release) -> String {
    let name = if dialect >= Release::V4_4 {
        "delegate_ip"
    } else {
        "delegate_IP"
    };
    values.text(name, None).trim().to_owned()
}

fn words(text: &str, separator: char) -> Vec<String> {
    let items = text.split(separator).map(|item| item.trim().to_owned());
    items.filter(|item| !item.is_empty()).collect()
}

fn port(values: &Values, name: &str, index: Option<usize>) -> u16 {
    u16::try_from(values.int(name, index)).unwrap_or_default()
}

fn positive(values: &Values, name: &str) -> Option<Duration> {
    typed::some(typed::unsigned(values.int(name, None))).map(Duration::from_secs)
}

fn seconds(values: &Values, name: &str) -> Duration {
    positive(values, name).unwrap_or_default()
}
