//! What cannot be, or is probably not meant, among the settings of the watchdog.

use super::{
    members::{self, Members, Unknown},
    seconds,
};
use crate::{
    config::{
        Release,
        finding::{Finding, Place},
        parameter::Values,
    },
    watchdog::{
        codec::auth::MAX_KEY,
        settings::{MAX_COMMAND_WORDS as MAX_WORDS, Member, Settings},
    },
};

struct Check<'a> {
    values: &'a Values,
    dialect: Release,
    first: &'a Place,
    findings: Vec<Finding>,
}

pub(in crate::config) fn findings(
    values: &Values,
    dialect: Release,
    first: &Place,
) -> Vec<Finding> {
    if !values.bool("use_watchdog") {
        return Vec::new();
    }
    let mut check = Check {
        values,
        dialect,
        first,
        findings: Vec::new(),
    };
    check.commands();
    check.key();
    match members::members(values, dialect) {
        Ok(members) => {
            check.number(&members);
            check.members(&members);
        }
        Err(Unknown::WdHostname) => check.warn(
            "wd_hostname",
            None,
            "wd_hostname is empty, so this node has no name among the watchdog nodes",
            "set wd_hostname to the name or address by which the other nodes list this one",
        ),
        Err(Unknown::NodeId) => {}
    }
    if let Some(settings) = super::settings(values, dialect) {
        check.times(&settings);
        check.halves(&settings);
        check.heartbeats(&settings);
    }
    check.findings
}

impl Check<'_> {
    fn place(&self, name: &str, index: Option<usize>) -> Place {
        let place = self.values.place(name, index);
        let switch = self.values.place("use_watchdog", None);
        place.or(switch).unwrap_or(self.first).clone()
    }

    fn warn(&mut self, name: &str, index: Option<usize>, text: impl Into<String>, remedy: &str) {
        let finding = Finding::warning(self.place(name, index), text);
        self.findings.push(finding.remedy(remedy));
    }

    /// Refused by the original at its start.
    fn error(&mut self, name: &str, text: impl Into<String>, detail: &str, remedy: &str) {
        let finding = Finding::error(self.place(name, None), text);
        self.findings.push(finding.detail(detail).remedy(remedy));
    }

    fn key(&mut self) {
        let bytes = self.values.text("wd_authkey", None).len();
        if bytes > MAX_KEY {
            self.error(
                "wd_authkey",
                format!("wd_authkey length can't be larger than {MAX_KEY}"),
                &format!("it has {bytes} bytes"),
                "use a shorter key on all nodes",
            );
        }
    }

    fn commands(&mut self) {
        let ip = super::delegate_ip(self.values, self.dialect);
        if ip.is_empty() {
            return;
        }
        if ip.parse::<std::net::IpAddr>().is_err() {
            let name = if self.dialect >= Release::V4_4 {
                "delegate_ip"
            } else {
                "delegate_IP"
            };
            let text = format!(
                "{name} is \"{ip}\", which is no IP address: whether it is on this host cannot be told, and no guard removes it when pgpool is killed"
            );
            self.warn(
                name,
                None,
                text,
                "write the address, without a prefix length",
            );
        }
        for name in ["if_up_cmd", "if_down_cmd", "arping_cmd"] {
            let command = self.values.text(name, None);
            let words = command.split_ascii_whitespace().count();
            if words == 0 {
                self.error(
                    name,
                    format!("invalid configuration for {name} parameter"),
                    "it is empty, and there is a virtual IP",
                    "set the command, or remove the virtual IP",
                );
            } else if words > MAX_WORDS {
                let text = format!("{name} has {words} words, and {MAX_WORDS} are run");
                self.warn(name, None, text, "put the command into a script");
            } else if !command.contains("$_IP_$") {
                let text = format!("{name} does not name the virtual IP");
                self.warn(name, None, text, "write $_IP_$ where the address belongs");
            }
        }
    }

    /// With a file of 4.0 or 4.1 it is nowhere to be read, and files of 4.2 and later have to list the node by it.
    fn number(&mut self, members: &Members) {
        if self.dialect < Release::V4_2 {
            let text = format!(
                "this node is watchdog node {}: {}",
                members.node_id,
                members.numbered_by.text()
            );
            let place = self.place("wd_hostname", None);
            self.findings.push(Finding::info(place, text));
        }
    }

    fn members(&mut self, members: &Members) {
        let Members { own, others, .. } = members;
        let old = self.dialect < Release::V4_2;
        if others.is_empty() {
            let name = if old {
                "other_pgpool_hostname0"
            } else {
                "hostname0, wd_port0, pgpool_port0, hostname1, ..."
            };
            self.warn(
                "use_watchdog",
                None,
                "the watchdog knows no node but this one",
                &format!("list all nodes: {name}"),
            );
        }
        for (place, member) in others.iter().enumerate() {
            self.member(member, place, old);
        }
        for (place, member) in others.iter().enumerate() {
            let same = |other: &Member| {
                !other.is_gap() && other.host == member.host && other.wd_port == member.wd_port
            };
            if same(own) || others[..place].iter().any(same) {
                let text = format!(
                    "two watchdog nodes have the address {}:{}",
                    member.host, member.wd_port
                );
                self.warn(
                    hostname(old),
                    slot(member, place),
                    text,
                    "give each node its own host or wd_port",
                );
            }
        }
        if !old && i64::from(own.pgpool_port) != self.values.int("port", None) {
            let text = format!(
                "pgpool_port{} is {}, and this node takes clients at port {}",
                members.node_id,
                own.pgpool_port,
                self.values.int("port", None)
            );
            self.warn(
                "pgpool_port",
                slot(own, 0),
                text,
                "make them the same on all nodes, or this node's heartbeats are not recognised",
            );
        }
    }

    fn member(&mut self, member: &Member, place: usize, old: bool) {
        let index = slot(member, place);
        let number = index.unwrap_or(place);
        let names: [&str; 3] = if old {
            [
                "other_pgpool_hostname",
                "other_wd_port",
                "other_pgpool_port",
            ]
        } else {
            ["hostname", "wd_port", "pgpool_port"]
        };
        if member.is_gap() {
            let text = format!(
                "{}{number} is not set: node {number} counts for the quorum as a node that never appears",
                names[1]
            );
            let remedy = "set its host and ports, or number the nodes without a gap";
            self.warn(names[1], index, text, remedy);
        } else if member.pgpool_port == 0 {
            let text = format!(
                "{}{number} is not set, so node {number} is never recognised",
                names[2]
            );
            self.warn(
                names[2],
                index,
                text,
                "set it to that node's port for clients",
            );
        } else if self.values.place(names[0], index).is_none() || member.host.is_empty() {
            let text = format!(
                "{}{number} is not set, so it is \"{}\"",
                names[0], member.host
            );
            self.warn(names[0], index, text, "set it to that node's host");
        }
    }

    fn times(&mut self, settings: &Settings) {
        let (deadtime, keepalive) = (settings.lifecheck.deadtime, settings.heartbeat.keepalive);
        if deadtime <= keepalive {
            let text = format!(
                "wd_heartbeat_deadtime ({} s) is not longer than wd_heartbeat_keepalive ({} s): every node is found dead between two heartbeats",
                deadtime.as_secs(),
                keepalive.as_secs()
            );
            let remedy = "use several times the keepalive time";
            self.warn("wd_heartbeat_deadtime", None, text, remedy);
        }
        let lease = seconds(self.values, "wd_write_lease");
        if settings.write_lease.is_some() && lease >= deadtime {
            let text = format!(
                "wd_write_lease ({} s) is not shorter than wd_heartbeat_deadtime ({} s): a new leader waits for it before it promotes a standby",
                lease.as_secs(),
                deadtime.as_secs()
            );
            self.warn("wd_write_lease", None, text, "use less than the dead time");
        }
    }

    fn halves(&mut self, settings: &Settings) {
        let nodes = settings.others.len() + 1;
        if settings.write_lease.is_some() && settings.quorum.half_votes && nodes.is_multiple_of(2) {
            let half = nodes / 2;
            let text = format!(
                "{half} of {nodes} watchdog nodes are a quorum, so no write lease is kept (wd_write_lease): when they are cut into two halves both have a leader with the virtual IP, and what clients of one of them write can be lost"
            );
            self.warn(
                "enable_consensus_with_half_votes",
                None,
                text,
                "set enable_consensus_with_half_votes = off (before 4.1 half was always enough), or add a node",
            );
        }
    }

    fn heartbeats(&mut self, settings: &Settings) {
        use crate::watchdog::settings::LifecheckMethod;
        if settings.lifecheck.method != LifecheckMethod::Heartbeat || settings.others.is_empty() {
            return;
        }
        let old = self.dialect < Release::V4_2;
        let longest = settings.heartbeat.size.longest_host();
        if settings.own.host.len() > longest {
            self.warn(
                if old { "wd_hostname" } else { "hostname" },
                (!old).then(|| slot(&settings.own, 0)).flatten(),
                format!("the host name of this node is longer than {longest} bytes"),
                "no heartbeat can hold it, and none is sent; use a shorter name or an address on all nodes",
            );
        }
        if old {
            let expected = settings.others.iter().filter(|m| !m.is_gap()).count();
            if settings.heartbeat.destinations.len() < expected {
                self.warn(
                    "use_watchdog",
                    None,
                    format!(
                        "heartbeats go to {} destinations, and there are {expected} other nodes",
                        settings.heartbeat.destinations.len()
                    ),
                    "set heartbeat_destination0, heartbeat_destination_port0, ... one for each other node",
                );
            }
        }
        for member in settings.others.iter().filter(|m| !m.is_gap() && !old) {
            let index = slot(member, 0);
            if self.values.text("heartbeat_hostname", index).is_empty() {
                let number = member.node_id.unwrap_or_default();
                self.warn(
                    "use_watchdog",
                    None,
                    format!("node {number} gets no heartbeats from this node"),
                    &format!("set heartbeat_hostname{number} and heartbeat_port{number}"),
                );
            }
        }
        if settings.heartbeat.listen_port == 0 {
            self.warn(
                "use_watchdog",
                None,
                "this node has no port for heartbeats",
                &if old {
                    "set wd_heartbeat_port".to_owned()
                } else {
                    format!("set heartbeat_port{}", settings.node_id)
                },
            );
        }
        for destination in &settings.heartbeat.destinations {
            if destination.port == 0 {
                self.warn(
                    "use_watchdog",
                    None,
                    format!("no port is set for heartbeats to {}", destination.host),
                    if old {
                        "set its heartbeat_destination_port"
                    } else {
                        "set its heartbeat_port"
                    },
                );
            }
        }
    }
}

fn hostname(old: bool) -> &'static str {
    if old {
        "other_pgpool_hostname"
    } else {
        "hostname"
    }
}

/// The number in the names of a member's settings.
fn slot(member: &Member, place: usize) -> Option<usize> {
    match member.node_id {
        Some(number) => usize::try_from(number).ok(),
        None => Some(place),
    }
}
