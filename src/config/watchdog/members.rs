//! Which nodes there are, which of them is this one, and where heartbeats go.
//!
//! Since 4.2 one file lists all nodes by number, and a file beside it says which is the own one. Before,
//! a file lists the own node by itself and the others in any order, and nodes have no number; what
//! it is for us says [`own_number`].

use super::{port, words};
use crate::{
    config::{Release, checks, parameter::Values},
    watchdog::settings::{Destination, Member},
};

pub(super) struct Members {
    pub own: Member,
    pub others: Vec<Member>,
    pub node_id: u32,
    pub numbered_by: Rule,
}

/// Where the number of the own node comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    File,
    Setting,
    Backend,
    Rank,
}

impl Rule {
    /// Completes "this node is watchdog node N: ".
    pub fn text(self) -> &'static str {
        match self {
            Rule::File => "so says the file pgpool_node_id",
            Rule::Setting => "so says node_id in pgpool-rs.conf",
            Rule::Backend => "the number of the backend on its host",
            Rule::Rank => "its place among all nodes sorted by host name and wd_port",
        }
    }
}

/// Why the own node cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// No number, or none of a listed node; [`checks`] has said so.
    NodeId,
    WdHostname,
}

pub(super) fn members(values: &Values, dialect: Release) -> Result<Members, Unknown> {
    if dialect >= Release::V4_2 {
        return listed(values);
    }
    let host = values.text("wd_hostname", None).trim();
    if host.is_empty() {
        return Err(Unknown::WdHostname);
    }
    let mut own = Member {
        node_id: None,
        host: host.to_owned(),
        wd_port: port(values, "wd_port", None),
        pgpool_port: port(values, "port", None),
    };
    let others = old_others(values);
    let (node_id, numbered_by) = own_number(values, &own, &others);
    own.node_id = Some(node_id);
    Ok(Members {
        own,
        others,
        node_id,
        numbered_by,
    })
}

/// 4.2 and later: there are as many nodes as the highest number with a port says.
fn listed(values: &Values) -> Result<Members, Unknown> {
    let node_id = values.node_id.ok_or(Unknown::NodeId)?;
    let last = values.indexes("wd_port").last().copied();
    let count = last.map_or(0, |last| last + 1);
    let mut others = Vec::new();
    let mut own = None;
    for slot in 0..count {
        let number = u32::try_from(slot).ok();
        let member = Member {
            node_id: number,
            host: values.text("hostname", Some(slot)).trim().to_owned(),
            wd_port: port(values, "wd_port", Some(slot)),
            pgpool_port: port(values, "pgpool_port", Some(slot)),
        };
        if number == Some(node_id) {
            own = Some(member).filter(|own| !own.is_gap());
        } else {
            others.push(member);
        }
    }
    Ok(Members {
        own: own.ok_or(Unknown::NodeId)?,
        others,
        node_id,
        numbered_by: Rule::File,
    })
}

fn old_others(values: &Values) -> Vec<Member> {
    let names = [
        "other_pgpool_hostname",
        "other_pgpool_port",
        "other_wd_port",
    ];
    let slots = names.iter().flat_map(|name| values.indexes(name)).max();
    let count = slots.map_or(0, |last| last + 1);
    (0..count)
        .map(|slot| Member {
            node_id: None,
            host: values
                .text("other_pgpool_hostname", Some(slot))
                .trim()
                .to_owned(),
            wd_port: port(values, "other_wd_port", Some(slot)),
            pgpool_port: port(values, "other_pgpool_port", Some(slot)),
        })
        .collect()
}

/// The number that a node with a file of 4.0 or 4.1 goes by, all nodes for themselves and with the same
/// result: `pgpool_node_id` if that file is there; else `node_id` of `pgpool-rs.conf`; else, when every
/// member runs on a host of its own that is also a backend's, the number of that backend; else the
/// place among all members sorted by host and port.
fn own_number(values: &Values, own: &Member, others: &[Member]) -> (u32, Rule) {
    if let Some(number) = values.node_id {
        return (number, Rule::File);
    }
    if let Some(number) = configured(values) {
        return (number, Rule::Setting);
    }
    let slots = checks::used_slots(values);
    let backend = |member: &Member| {
        let mut slots = slots.iter();
        slots
            .find(|slot| values.text("backend_hostname", Some(**slot)).trim() == member.host)
            .copied()
    };
    let all = || std::iter::once(own).chain(others);
    let mut numbers: Vec<usize> = all().filter_map(backend).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let (number, rule) = if numbers.len() == all().count() {
        (backend(own).unwrap_or_default(), Rule::Backend)
    } else {
        let key = |member: &Member| (member.host.clone(), member.wd_port);
        let before = others.iter().filter(|m| key(m) < key(own));
        (before.count(), Rule::Rank)
    };
    (u32::try_from(number).unwrap_or_default(), rule)
}

fn configured(values: &Values) -> Option<u32> {
    u32::try_from(values.int("node_id", None)).ok()
}

/// Where this node sends heartbeats.
pub(super) fn destinations(values: &Values, dialect: Release, own: u32) -> Vec<Destination> {
    if dialect < Release::V4_2 {
        return values
            .indexes("heartbeat_destination")
            .into_iter()
            .map(|slot| Destination {
                host: values
                    .text("heartbeat_destination", Some(slot))
                    .trim()
                    .to_owned(),
                port: port(values, "heartbeat_destination_port", Some(slot)),
                device: values
                    .text("heartbeat_device", Some(slot))
                    .trim()
                    .to_owned(),
            })
            .filter(|destination| !destination.host.is_empty())
            .collect();
    }
    let mut found = Vec::new();
    for slot in values.indexes("heartbeat_hostname") {
        if u32::try_from(slot) == Ok(own) {
            continue;
        }
        let devices = words(values.text("heartbeat_device", Some(slot)), ';');
        let hosts = words(values.text("heartbeat_hostname", Some(slot)), ';');
        for (place, host) in hosts.into_iter().enumerate() {
            found.push(Destination {
                host,
                port: port(values, "heartbeat_port", Some(slot)),
                device: devices.get(place).cloned().unwrap_or_default(),
            });
        }
    }
    found
}

/// The UDP port of this node.
pub(super) fn heartbeat_port(values: &Values, dialect: Release, own: u32) -> u16 {
    if dialect < Release::V4_2 {
        return port(values, "wd_heartbeat_port", None);
    }
    match port(values, "wd_heartbeat_listen_port", None) {
        0 => port(values, "heartbeat_port", usize::try_from(own).ok()),
        port => port,
    }
}
