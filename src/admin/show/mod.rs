//! `PGPOOL SHOW`: one parameter, an array, a group, or all.

mod descriptions;
mod order;

use super::{SessionSettings, Table, wire};
use crate::{
    config::{
        Config, PARAMETERS, Release, Value,
        parameter::{Indexed, Kind, Parameter, find_in},
    },
    protocol::messages::ErrorMessage,
};

/// `PGPOOL SHOW name`: a single value under the name asked for; of an array or a group one row per
/// slot in use.
///
/// # Errors
///
/// `config variable "..." not found`, or an index that is too large.
pub fn one(asked: &str, config: &Config, session: &SessionSettings) -> Result<Table, ErrorMessage> {
    if let Some(members) = group(asked, config.dialect) {
        return Ok(Table::of_settings(members_by_slot(members, config)));
    }
    let not_found = || wire::error(format!("config variable \"{asked}\" not found"));
    let (parameter, index) = resolve(asked, config.dialect).ok_or_else(not_found)?;
    check_index(parameter, index)?;
    if parameter.indexed != Indexed::No && index.is_none() {
        return Ok(Table::of_settings(members_by_slot(
            &[parameter.name],
            config,
        )));
    }
    let value = session
        .value(in_force(parameter, config.dialect), index, config)
        .ok_or_else(not_found)?;
    Ok(Table {
        columns: vec![asked.to_owned().into()],
        rows: vec![vec![shown(parameter, value, config.dialect)]],
    })
}

/// `PGPOOL SHOW ALL`: the groups, then all other parameters.
pub fn all(config: &Config, session: &SessionSettings) -> Table {
    let release = config.dialect;
    let mut rows = Vec::new();
    let mut in_groups: Vec<&str> = Vec::new();
    for name in GROUPS {
        if let Some(members) = group(name, release) {
            rows.extend(members_by_slot(members, config));
            in_groups.extend(members);
        }
    }
    let mut names: Vec<&'static str> = PARAMETERS
        .iter()
        .filter(|p| p.indexed == Indexed::No && p.known_in(release))
        .filter(|p| is_shown(p) && !p.ours && !is_hidden(p, release))
        .map(|p| p.name)
        .filter(|name| !in_groups.contains(name))
        .collect();
    order::sort(&mut names, release);
    for name in names {
        if let Some(value) = session.value(name, None, config) {
            rows.extend(row(name, None, value, release));
        }
    }
    Table::of_settings(rows)
}

/// Finds the parameter that `asked` names, alone or with the number of a slot behind it.
fn resolve(asked: &str, release: Release) -> Option<(&'static Parameter, Option<usize>)> {
    let single = find_in(asked, release).or_else(|| {
        // Unquoted names come in lower case, but delegate_IP is not written so.
        PARAMETERS
            .iter()
            .find(|p| p.known_in(release) && p.name.to_ascii_lowercase() == asked)
    });
    if let Some(parameter) = single {
        return is_shown(parameter).then_some((parameter, None));
    }
    let base = asked.trim_end_matches(|c: char| c.is_ascii_digit());
    let index = asked.get(base.len()..)?.parse().ok()?;
    let parameter = find_in(base, release).filter(|p| p.indexed != Indexed::No)?;
    Some((parameter, Some(index)))
}

/// # Errors
///
/// The index is beyond the last slot that can be. The table's limits are those of files, where the
/// original allows one more.
fn check_index(parameter: &Parameter, index: Option<usize>) -> Result<(), ErrorMessage> {
    match index {
        Some(index) if index >= parameter.max_index => Err(wire::error(format!(
            "invalid index {index} for configuration parameter \"{}\"",
            parameter.name
        ))
        .detail(format!(
            "allowed index is between 0 and {}",
            parameter.max_index.saturating_sub(1)
        ))),
        _ => Ok(()),
    }
}

/// The slots of the array `name` that a configuration uses.
pub(super) fn used_slots(config: &Config, name: &str) -> Vec<usize> {
    let is_set = |key: &str, slot: usize| match config.values.get(key, Some(slot)) {
        Some(Value::Int(n)) => *n != 0,
        Some(Value::Text(text)) => !text.is_empty(),
        _ => false,
    };
    // What a slot cannot be without. A host name has a default in every slot.
    let key = match name {
        "hostname" | "pgpool_port" | "wd_port" => "wd_port",
        "other_pgpool_hostname" | "other_pgpool_port" | "other_wd_port" => "other_pgpool_hostname",
        "heartbeat_hostname" | "heartbeat_port" => "heartbeat_hostname",
        "heartbeat_destination" | "heartbeat_destination_port" => "heartbeat_destination",
        "heartbeat_device" if config.dialect < Release::V4_2 => "heartbeat_destination",
        "heartbeat_device" => "heartbeat_hostname",
        _ => {
            return config
                .settings
                .backends
                .iter()
                .enumerate()
                .filter(|(_, backend)| backend.used)
                .map(|(slot, _)| slot)
                .collect();
        }
    };
    (0..256).filter(|&slot| is_set(key, slot)).collect()
}

/// In the order in which SHOW ALL lists them.
const GROUPS: [&str; 5] = [
    "backend",
    "other_pgpool",
    "watchdog",
    "heartbeat",
    "health_check",
];

/// The members of a group in their order; `None`: no group of this release.
fn group(name: &str, release: Release) -> Option<&'static [&'static str]> {
    let old = release < Release::V4_2;
    Some(match name {
        "backend" => &[
            "backend_hostname",
            "backend_port",
            "backend_weight",
            "backend_data_directory",
            "backend_application_name",
            "backend_flag",
        ],
        "other_pgpool" if old => &[
            "other_pgpool_hostname",
            "other_pgpool_port",
            "other_wd_port",
        ],
        "watchdog" if !old => &["hostname", "pgpool_port", "wd_port"],
        "heartbeat" if old => &[
            "heartbeat_device",
            "heartbeat_destination",
            "heartbeat_destination_port",
        ],
        "heartbeat" => &["heartbeat_device", "heartbeat_hostname", "heartbeat_port"],
        "health_check" => &[
            "health_check_period",
            "health_check_timeout",
            "health_check_user",
            "health_check_password",
            "health_check_database",
            "health_check_max_retries",
            "health_check_retry_delay",
            "connect_timeout",
        ],
        _ => return None,
    })
}

/// The values for all slots where there are such, then slot by slot.
fn members_by_slot(members: &[&'static str], config: &Config) -> Vec<[String; 3]> {
    let release = config.dialect;
    let mut rows = Vec::new();
    for name in members {
        if find_in(name, release).is_some_and(|p| p.indexed == Indexed::Optional)
            && let Some(value) = config.values.get(name, None)
        {
            rows.extend(row(name, None, value, release));
        }
    }
    for slot in members
        .first()
        .map_or(vec![], |name| used_slots(config, name))
    {
        for name in members {
            if let Some(value) = config.values.get(name, Some(slot)) {
                rows.extend(row(name, Some(slot), value, release));
            }
        }
    }
    rows
}

fn row(
    name: &'static str,
    index: Option<usize>,
    value: &Value,
    release: Release,
) -> Option<[String; 3]> {
    let parameter = find_in(name, release)?;
    Some([
        match index {
            Some(index) => format!("{name}{index}"),
            None => name.to_owned(),
        },
        shown(parameter, value, release),
        descriptions::of(parameter, release).to_owned(),
    ])
}

/// The key of the watchdog is a password, too, although the original shows it.
fn shown(parameter: &Parameter, value: &Value, release: Release) -> String {
    match value.show_in(parameter, release) {
        text if parameter.name == "wd_authkey" && !text.is_empty() => "*****".to_owned(),
        text => text,
    }
}

fn is_shown(parameter: &Parameter) -> bool {
    // The second one is in the table of the original under another name, which nobody can ask for.
    !matches!(parameter.kind, Kind::Group) && parameter.name != "wd_initial_node_showup_time"
}

/// The name under which the value is kept: an old spelling sets the new one.
fn in_force(parameter: &Parameter, release: Release) -> &'static str {
    let mut spellings = parameter.counterparts.iter().copied();
    match spellings.find(|name| find_in(name, release).is_some()) {
        Some(new) if is_hidden(parameter, release) => new,
        _ => parameter.name,
    }
}

/// An old spelling is hidden from the release on that brought the new one.
fn is_hidden(parameter: &Parameter, release: Release) -> bool {
    match parameter.name {
        "fail_over_on_backend_error" => release >= Release::V4_0,
        "delegate_IP" => release >= Release::V4_4,
        "logdir" => release >= Release::V4_7,
        _ => parameter.hidden,
    }
}
