//! The commands that follow a new primary: when the oracle expects them, and what their scripts do.

use super::*;

/// A run as the oracle expects it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Following {
    pub(super) primary: NodeId,
    pub(super) old_primary: Option<NodeId>,
    /// Nodes below have had their turn.
    pub(super) next: NodeId,
}

impl World {
    /// A failover or a promotion is done.
    pub(super) fn expect_following(&mut self, ongoing: &Ongoing) {
        let Some(primary) = self.published.primary else {
            return;
        };
        let has_command = !self.settings.follow_primary_command.is_empty();
        let changed = ongoing.before.primary != Some(primary);
        let degenerated = match ongoing.what {
            What::Promote => true,
            What::Down => changed && has_command,
            What::Up => false,
        };
        if !degenerated {
            return;
        }
        self.following_begins(primary, ongoing.before.primary);
    }

    /// All others are down and follow `primary` now.
    pub(super) fn following_begins(&mut self, primary: NodeId, old_primary: Option<NodeId>) {
        for node in &self.published.nodes {
            assert_eq!(
                node.is_valid(),
                node.id == primary,
                "only the new primary is up"
            );
        }
        if !self.settings.follow_primary_command.is_empty() {
            self.following = Some(Following {
                primary,
                old_primary,
                next: 0,
            });
        }
    }

    pub(super) fn heard_of_following(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("follow commands for node ") else {
            return;
        };
        let of = rest.split(' ').next().and_then(|n| n.parse().ok());
        let run = self.following.take().expect("commands are expected");
        assert_eq!(Some(run.primary), of);
        if line.contains("have ended") {
            assert_eq!(self.first_down(&run), None, "a node has had no command");
            assert!(self.follow_call.is_none());
        } else {
            assert!(line.contains("are given up"), "{line}");
        }
    }

    fn first_down(&self, run: &Following) -> Option<NodeId> {
        let down = |n: &&crate::cluster::Node| n.status == NodeStatus::Down;
        let mut ids = self.published.nodes.iter().filter(down).map(|n| n.id);
        ids.find(|&id| id >= run.next && id != run.primary)
    }

    pub(super) fn check_follow_call(&mut self, call: &HookCall) {
        assert!(self.follow_call.is_none(), "one after the other");
        let run = self.following.expect("a command is expected");
        assert_eq!(self.first_down(&run), Some(call.node), "in their order");
        let line = expected_line(&Arguments {
            name: "follow",
            node: call.node,
            new_main: Some(run.primary),
            old_main: run.old_primary,
            old_primary: run.old_primary,
        });
        assert_eq!(call.line, line, "arguments of the command");
        self.following = Some(Following {
            next: call.node + 1,
            ..run
        });
        self.follow_call = Some((call.call, call.node));
    }

    /// What holds when nothing goes on but commands.
    pub(super) fn check_following(&self) {
        let view = self.core.view();
        if let Some(run) = self.following {
            assert_eq!(
                view.primary,
                Some(run.primary),
                "nobody follows an old primary"
            );
            assert!(self.follow_call.is_some(), "the next command has begun");
        }
        let going_on = self.following.is_some() || self.follow_call.is_some();
        assert_eq!(self.core.is_following(), going_on);
    }

    /// The command was for a primary that has been followed by another one, of which the node is
    /// to become a standby.
    pub(super) fn is_outdated(&self, call: &HookCall) -> bool {
        let primary = call.line.split(' ').nth(5).and_then(|n| n.parse().ok());
        self.following
            .is_some_and(|run| Some(run.primary) != primary && run.primary != call.node)
    }

    /// The script has worked, failed, or lies. Returns whether it attaches its node.
    pub(super) fn script_follows(&mut self, node: NodeId, primary: NodeId) -> bool {
        let can = self.servers[node].state == ServerState::Running
            && self.servers[primary].state == ServerState::Running;
        if can && self.random.chance(70) {
            self.note(|| format!("server {node} follows {primary}"));
            self.servers[node].primary = false;
            return true;
        }
        // Attaches whatever has come of it.
        self.random.chance(20)
    }
}
