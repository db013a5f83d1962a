//! What the log says of a failover, in the words of the original.

use super::{Action, Core};
use crate::{
    cluster::NodeId,
    config::Release,
    failover::request::{Entry, Source},
};

impl Core {
    fn address(&self, id: NodeId) -> (String, u16) {
        self.view
            .node(id)
            .map_or_else(Default::default, |n| (n.hostname.clone(), n.port))
    }

    /// The words of the original for what happens to sessions. Here those that use the node end,
    /// and no others.
    pub(super) fn say_restart(&self, out: &mut Vec<Action>, id: NodeId, partial: Option<&str>) {
        let Some(doing) = partial else {
            say(out, "Restart all children");
            return;
        };
        let (host, port) = self.address(id);
        let and_so = if doing == "failing back" {
            " and not all backends were down"
        } else {
            ""
        };
        say(
            out,
            format!(
                "Do not restart children because we are {doing} node id {id} host: {host} port: {port} and we are in streaming replication mode{and_so}"
            ),
        );
    }

    /// `text H(P)`; from 4.4 on framed and with a capital letter.
    pub(super) fn say_framed(&self, out: &mut Vec<Action>, text: &str, id: NodeId) {
        let (host, port) = self.address(id);
        let line = format!("{text} {host}({port})");
        say(
            out,
            if self.settings.dialect >= Release::V4_4 {
                let mut chars = line.chars();
                let first = chars.next().map(|c| c.to_ascii_uppercase());
                format!(
                    "=== {}{} ===",
                    first.map(String::from).unwrap_or_default(),
                    chars.as_str()
                )
            } else {
                line
            },
        );
    }
}

pub(super) fn say(out: &mut Vec<Action>, message: impl Into<String>) {
    out.push(Action::Log(Entry::log(Source::Main, message)));
}

pub(super) fn number(id: Option<NodeId>) -> String {
    id.map_or_else(|| "-1".to_owned(), |id| id.to_string())
}
