//! `SHOW pool_status` and `pcp_pool_status`: the settings in force, in their internal form.

use super::status_items::{AFTER_WATCHDOG, ITEMS, Item};
use crate::{
    admin::{Inputs, show, text, words},
    cluster::Node,
    config::{Release, Value, parameter::find_in},
};

/// Item, value, description. Passwords have no item.
pub fn rows(inputs: &Inputs) -> Vec<[String; 3]> {
    let release = inputs.config.dialect;
    let mut rows = Vec::with_capacity(ITEMS.len() + 8 * inputs.view.nodes.len());
    for item in ITEMS {
        if item.name == AFTER_WATCHDOG {
            rows.extend(watchdog_rows(inputs));
        }
        if (item.first..=item.last).contains(&release)
            && let Some(value) = value(inputs, item)
        {
            rows.push([item.name.to_owned(), value, item.description.to_owned()]);
        }
    }
    for node in inputs.view.nodes.iter().filter(|node| node.port != 0) {
        rows.extend(node_rows(inputs, node));
    }
    rows
}

/// `None`: the release does not know the parameter.
fn value(inputs: &Inputs, item: &Item) -> Option<String> {
    let release = inputs.config.dialect;
    match item.name {
        // Where the original has it from C's ctime(), which ends with a newline.
        "memqcache_stats_start_time" if release < Release::V4_7 => {
            Some(text::ctime(inputs.start_time) + "\n")
        }
        "memqcache_stats_start_time" => Some(text::ctime(inputs.start_time)),
        // There is no query cache yet.
        "memqcache_no_cache_hits" | "memqcache_cache_hits" => Some("0".to_owned()),
        "memqcache_cache_oiddir" => setting(inputs, "memqcache_oiddir", None),
        name => setting(inputs, name, None),
    }
}

fn setting(inputs: &Inputs, name: &str, index: Option<usize>) -> Option<String> {
    let parameter = find_in(name, inputs.config.dialect)?;
    let value = inputs.config.values.get(name, index)?;
    Some(value.internal(parameter))
}

fn node_rows(inputs: &Inputs, node: &Node) -> Vec<[String; 3]> {
    let id = node.id;
    let delay = match inputs.replication.get(id) {
        Some(replication) if inputs.config.settings.delay_threshold_by_time.is_some() => {
            replication.delay_time.as_micros().to_string()
        }
        Some(replication) => replication.delay_bytes.to_string(),
        None => "0".to_owned(),
    };
    let flag = setting(inputs, "backend_flag", Some(id)).unwrap_or_default();
    let mut rows = vec![
        (
            "backend_hostname",
            node.hostname.clone(),
            format!("backend #{id} hostname"),
        ),
        (
            "backend_port",
            node.port.to_string(),
            format!("backend #{id} port number"),
        ),
        (
            "backend_weight",
            text::float(node.weight),
            format!("weight of backend #{id}"),
        ),
        (
            "backend_data_directory",
            node.data_directory.clone(),
            format!("data directory for backend #{id}"),
        ),
        (
            "backend_status",
            words::status_word(node).to_owned(),
            format!("status of backend #{id}"),
        ),
        (
            "standby_delay",
            delay,
            format!("standby delay of backend #{id}"),
        ),
        ("backend_flag", flag, format!("backend #{id} flag")),
    ];
    if inputs.config.dialect >= Release::V4_1 {
        rows.push((
            "backend_application_name",
            node.application_name.clone(),
            format!("application_name for backend #{id}"),
        ));
    }
    numbered(id, rows)
}

/// Only with `use_watchdog`.
fn watchdog_rows(inputs: &Inputs) -> Vec<[String; 3]> {
    if inputs.config.values.get("use_watchdog", None) != Some(&Value::Bool(true)) {
        return Vec::new();
    }
    let mut rows = Vec::new();
    let (nodes, heartbeats): (&[_], &[_]) = if inputs.config.dialect < Release::V4_2 {
        (
            &[
                ("other_pgpool_hostname", "hostname or IP address of"),
                ("other_pgpool_port", "port number of"),
                ("other_wd_port", "watchdog port number of"),
            ],
            &[
                (
                    "heartbeat_destination",
                    "destination IP address or hostname for sending heartbeat to",
                ),
                (
                    "heartbeat_destination_port",
                    "destination port for sending heartbeat to",
                ),
                (
                    "heartbeat_device",
                    "name of NIC device for sending heartbeat to",
                ),
            ],
        )
    } else {
        (
            &[
                ("hostname", "hostname or IP address of"),
                ("pgpool_port", "pgpool port number of"),
                ("wd_port", "watchdog port number of"),
            ],
            &[
                (
                    "heartbeat_hostname",
                    "destination IP address or hostname for sending heartbeat to",
                ),
                (
                    "heartbeat_device",
                    "name of NIC device for sending hearbeat to",
                ),
                (
                    "heartbeat_port",
                    "destination port for sending heartbeat to",
                ),
            ],
        )
    };
    for items in [nodes, heartbeats] {
        let name = items.first().map_or("", |&(name, _)| name);
        for index in show::used_slots(&inputs.config, name) {
            rows.extend(numbered(
                index,
                items.iter().map(|&(name, what)| {
                    let value = setting(inputs, name, Some(index)).unwrap_or_default();
                    (name, value, format!("{what} pgpool node #{index}"))
                }),
            ));
        }
    }
    rows
}

/// Appends the number to the items' names.
fn numbered(
    number: usize,
    rows: impl IntoIterator<Item = (&'static str, String, String)>,
) -> Vec<[String; 3]> {
    rows.into_iter()
        .map(|(name, value, description)| [format!("{name}{number}"), value, description])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DYNAMIC: [&str; 4] = [
        "memqcache_stats_start_time",
        "memqcache_no_cache_hits",
        "memqcache_cache_hits",
        "memqcache_cache_oiddir",
    ];

    #[test]
    fn every_item_is_a_parameter_of_the_releases_that_show_it() {
        for item in ITEMS.iter().filter(|item| !DYNAMIC.contains(&item.name)) {
            let known = Release::ALL
                .into_iter()
                .filter(|release| (item.first..=item.last).contains(release))
                .filter(|release| find_in(item.name, *release).is_some())
                .count();
            assert!(known > 0, "{}", item.name);
        }
    }

    #[test]
    fn descriptions_fit_and_secrets_have_no_item() {
        for item in ITEMS {
            assert!(item.description.len() <= 79, "{}", item.name);
            let secret = find_in(item.name, Release::V4_7).is_some_and(|p| p.secret);
            assert!(!secret || item.name == "pool_passwd", "{}", item.name);
        }
    }

    #[test]
    fn each_release_has_as_many_items_as_the_changes_between_releases_say() {
        let count = |release| {
            ITEMS
                .iter()
                .filter(|item| (item.first..=item.last).contains(&release))
                .filter(|item| {
                    DYNAMIC.contains(&item.name) || find_in(item.name, release).is_some()
                })
                .count()
        };
        // Without the items of nodes; 4.3 and 4.7 as recorded.
        assert_eq!(count(Release::V4_3), 152 - 16);
        assert_eq!(count(Release::V4_7), 165 - 16);
        assert_eq!(count(Release::V4_1) - count(Release::V4_0), 8);
        assert_eq!(count(Release::V4_2), count(Release::V4_3) - 2);
        assert_eq!(count(Release::V4_4), count(Release::V4_3) + 8);
        assert_eq!(count(Release::V4_5), count(Release::V4_4) + 3);
        assert_eq!(count(Release::V4_6), count(Release::V4_5) + 1);
        assert_eq!(count(Release::V4_7), count(Release::V4_6) + 1);
    }
}
