//! The settings of a standby, which its leader compares with its own. One line for each that differs, in the
//! words of stock nodes.

use super::{Core, PeerId, State};
use crate::watchdog::codec::config_data::{
    ConfigData, HealthCheckParams, WatchdogNode, is_switch, required_settings, settings_since_4_4,
};

/// They belong to one node each.
const OWN: [&str; 2] = ["wd_priority", "pgpool_node_id"];

impl Core {
    pub(super) fn config_came(&mut self, peer: PeerId, data: &ConfigData) {
        if self.state != State::Leader {
            return;
        }
        self.votes.heed(data);
        let label = self.peer_label(peer);
        let settings = std::sync::Arc::clone(&self.settings);
        for (line, hint) in differences(&settings.announced, data, &label) {
            self.warn(line, hint);
        }
    }
}

/// Lines for the log, each with what to do.
fn differences(own: &ConfigData, other: &ConfigData, node: &str) -> Vec<(String, &'static str)> {
    const SAME: &str = "the leader's setting counts; make them the same on all nodes";
    let mut lines = Vec::new();
    // What tools and hooks do to a backend goes by its number.
    backends(own, other, node, &mut lines);
    nodes(own, other, node, &mut lines);
    let mut add = |name: &str, here: String, there: String| {
        lines.push((
            format!(
                "configurations value for \"{name}\" on node \"{node}\" is different: \"{name}\" on this node is {here} while on \"{node}\" is {there}"
            ),
            SAME,
        ));
    };
    // In files of older releases they are not there, and count as 0.
    let newer = |data: &ConfigData| data.number("max_spare_children").is_some_and(|n| n > 0);
    let newer = newer(own) && newer(other);
    let since_4_4 = settings_since_4_4().filter(|_| newer);
    for name in required_settings().chain(since_4_4) {
        if let (Some(here), Some(there)) = (own.number(name), other.number(name))
            && here != there
            && !OWN.contains(&name)
        {
            add(name, shown(name, here), shown(name, there));
        }
    }
    for (slot, (here, there)) in own
        .health_checks
        .iter()
        .zip(&other.health_checks)
        .enumerate()
    {
        for ((name, here), (_, there)) in of_check(here).into_iter().zip(of_check(there)) {
            if here != there {
                add(
                    &format!("{name}{slot}"),
                    here.to_string(),
                    there.to_string(),
                );
            }
        }
    }
    lines
}

fn backends(
    own: &ConfigData,
    other: &ConfigData,
    node: &str,
    lines: &mut Vec<(String, &'static str)>,
) {
    const ORDER: &str = "a failover would take the wrong server: give every backend the same number, host name and port in the files of all nodes";
    let (here, there) = (own.backends.len(), other.backends.len());
    if here != there {
        lines.push((
            format!(
                "number of configured backends on node \"{node}\" are different: this node has {here} backends while on \"{node}\" number of configured backends are {there}"
            ),
            ORDER,
        ));
    }
    for (slot, (here, there)) in own.backends.iter().zip(&other.backends).enumerate() {
        if here.0 != there.0 {
            lines.push((
                format!(
                    "configurations value for backend[{slot}] \"hostname\" on node \"{node}\" is different: \"backend_hostname{slot}\" on this node is {} while on \"{node}\" is {}",
                    here.0, there.0
                ),
                ORDER,
            ));
        }
        if here.1 != there.1 {
            lines.push((
                format!(
                    "configurations value for backend[{slot}] \"port\" on node \"{node}\" is different: \"backend_port{slot}\" on this node is {} while on \"{node}\" is {}",
                    here.1, there.1
                ),
                ORDER,
            ));
        }
    }
}

/// In any order: files of 4.0 and 4.1 begin with the own node.
fn nodes(
    own: &ConfigData,
    other: &ConfigData,
    node: &str,
    lines: &mut Vec<(String, &'static str)>,
) {
    const QUORUM: &str =
        "the quorum is counted by it: list the same watchdog nodes in the files of all nodes";
    let (here, there) = (own.nodes.len(), other.nodes.len());
    if there == 0 {
        // Up to 4.1 they have another name on the wire.
        return;
    }
    if here != there {
        lines.push((
            format!(
                "the number of configured watchdog nodes on node \"{node}\" are different: this node has {here} watchdog nodes while \"{node}\" is configured with {there} watchdog nodes"
            ),
            QUORUM,
        ));
    }
    let missing = |of: &ConfigData, in_: &ConfigData| -> Vec<String> {
        let of = of.nodes.iter().filter(|n| n.wd_port != 0);
        of.filter(|n| !in_.nodes.contains(n)).map(label).collect()
    };
    let (only_here, only_there) = (missing(own, other), missing(other, own));
    if !only_here.is_empty() || !only_there.is_empty() {
        lines.push((
            format!(
                "the configured watchdog nodes on node \"{node}\" are different: only on this node {}, only on \"{node}\" {}",
                listed(&only_here),
                listed(&only_there)
            ),
            QUORUM,
        ));
    }
}

fn label(node: &WatchdogNode) -> String {
    let WatchdogNode {
        hostname,
        wd_port,
        pgpool_port,
    } = node;
    format!("{hostname} (wd_port {wd_port}, pgpool port {pgpool_port})")
}

fn listed(nodes: &[String]) -> String {
    if nodes.is_empty() {
        "none".to_owned()
    } else {
        nodes.join(", ")
    }
}

fn of_check(check: &HealthCheckParams) -> [(&'static str, i64); 5] {
    [
        ("health_check_timeout", check.timeout),
        ("health_check_period", check.period),
        ("health_check_max_retries", check.max_retries),
        ("health_check_retry_delay", check.retry_delay),
        ("connect_timeout", check.connect_timeout),
    ]
}

fn shown(name: &str, value: i64) -> String {
    match (is_switch(name), value) {
        (true, 0) => "off".to_owned(),
        (true, _) => "on".to_owned(),
        (false, value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ConfigData {
        let node = |n: u16| WatchdogNode {
            hostname: format!("host{n}"),
            wd_port: 9000,
            pgpool_port: 9999,
        };
        ConfigData {
            numbers: vec![
                ("num_init_children", 32),
                ("load_balance_mode", 1),
                ("wd_priority", 1),
                ("pgpool_node_id", 0),
            ],
            health_checks: vec![HealthCheckParams {
                timeout: 20,
                period: 10,
                max_retries: 0,
                retry_delay: 1,
                connect_timeout: 10_000,
            }],
            backends: vec![("db0".to_owned(), 5432), ("db1".to_owned(), 5432)],
            nodes: (0..3).map(node).collect(),
        }
    }

    fn lines(change: impl FnOnce(&mut ConfigData)) -> Vec<String> {
        let mut other = config();
        change(&mut other);
        let lines = differences(&config(), &other, "n");
        lines.into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn what_belongs_to_one_node_and_the_order_of_the_nodes_may_differ() {
        assert_eq!(
            lines(|other| {
                other.numbers[2].1 = 7;
                other.numbers[3].1 = 2;
                other.nodes.reverse();
            }),
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_other_setting_has_its_line_with_both_values() {
        assert_eq!(
            lines(|other| {
                other.numbers[0].1 = 33;
                other.numbers[1].1 = 0;
                other.health_checks[0].period = 11;
            }),
            [
                "configurations value for \"num_init_children\" on node \"n\" is different: \"num_init_children\" on this node is 32 while on \"n\" is 33",
                "configurations value for \"load_balance_mode\" on node \"n\" is different: \"load_balance_mode\" on this node is on while on \"n\" is off",
                "configurations value for \"health_check_period0\" on node \"n\" is different: \"health_check_period0\" on this node is 10 while on \"n\" is 11",
            ]
        );
    }

    #[test]
    fn backends_in_another_order_are_told_slot_by_slot() {
        let lines = lines(|other| other.backends.swap(0, 1));
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].ends_with("\"backend_hostname0\" on this node is db0 while on \"n\" is db1")
        );
        assert!(
            lines[1].ends_with("\"backend_hostname1\" on this node is db1 while on \"n\" is db0")
        );
    }

    #[test]
    fn other_numbers_of_backends_and_other_nodes_are_told() {
        let lines = lines(|other| {
            other.backends.pop();
            other.nodes[2].wd_port = 9001;
            other.nodes.push(WatchdogNode {
                hostname: "more".to_owned(),
                wd_port: 9000,
                pgpool_port: 9999,
            });
        });
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].contains("this node has 2 backends"));
        assert!(
            lines[1].contains("this node has 3 watchdog nodes while \"n\" is configured with 4")
        );
        assert!(lines[2].contains("only on this node host2 (wd_port 9000, pgpool port 9999), only on \"n\" host2 (wd_port 9001"));
    }
}
