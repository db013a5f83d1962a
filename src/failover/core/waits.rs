//! What the core waits for: for whoever goes on with a clone of it ([`crate::failover::what_if`]).

use std::time::Instant;

use super::{Core, Kind, Operation, Stage};
use crate::cluster::{NodeId, NodeStatus};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waits {
    Nothing,
    /// For the end of a hook.
    Hook {
        call: u64,
    },
    /// For what these servers say.
    Answers {
        sweep: u64,
        nodes: Vec<NodeId>,
    },
    /// For this moment.
    Until(Instant),
    /// For the end of a command that follows a new primary; other work is not held up by it.
    Follow {
        call: u64,
        node: NodeId,
    },
}

impl Core {
    pub fn waits_for(&self) -> Waits {
        match &self.operation {
            Some(Operation {
                stage: Stage::Hook { call },
                ..
            }) => Waits::Hook { call: *call },
            Some(Operation {
                stage: Stage::Search(search),
                ..
            }) => match search.next_sweep {
                Some(at) => Waits::Until(at),
                None => Waits::Answers {
                    sweep: search.sweep,
                    nodes: search.missing.clone(),
                },
            },
            None => match self.follow.call() {
                Some((call, node)) => Waits::Follow { call, node },
                None => Waits::Nothing,
            },
        }
    }

    /// The node that the hook which runs now is told to promote.
    pub fn node_to_promote(&self) -> Option<NodeId> {
        match &self.operation {
            Some(Operation {
                kind: Kind::Down(failed),
                stage: Stage::Hook { .. },
                old_primary,
                new_main,
                ..
            }) if *old_primary == Some(*failed) => *new_main,
            _ => None,
        }
    }

    /// The search for the primary has no end.
    pub fn searches_for_ever(&self) -> bool {
        self.settings.search_primary_node_timeout.is_none()
    }

    pub fn has_started(&self) -> bool {
        self.started
    }

    /// `node 0 up, primary; node 1 down`.
    pub fn nodes_in_words(&self) -> String {
        let used = self.view.nodes.iter();
        let words: Vec<String> = used
            .filter(|n| n.status != NodeStatus::Unused)
            .map(|n| {
                let word = if n.is_valid() { "up" } else { "down" };
                let primary = if self.view.primary == Some(n.id) {
                    ", primary"
                } else {
                    ""
                };
                format!("node {} {word}{primary}", n.id)
            })
            .collect();
        words.join("; ")
    }
}
