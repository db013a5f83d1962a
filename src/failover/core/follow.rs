//! After a new primary was found: the standbys go down, and `follow_primary_command` points them to
//! it, one after the other, in the background.
//!
//! Rules of `failover()` and `fork_follow_child()` in `src/main/pgpool_main.c @ V4_3_5`: a command
//! for every node that is down when its turn comes, in the order of their numbers, the failed primary
//! and nodes that were down before included. Its script attaches the node; whatever is asked for
//! meanwhile is served. Beyond the original:
//!
//! - when the new primary goes down itself, no further command is begun for it. The one that runs
//!   is left alone, since it may be in the middle of a `pg_rewind`; the commands for the next
//!   primary begin when it has ended, and its node is among them;
//! - the end is logged, with the nodes that are still down.

use std::time::Instant;

use super::{
    Action, Core, HookCall, HookKind, Kind, Now, Operation,
    record::{seconds, tell},
    texts::say,
};
use crate::{
    cluster::{NodeId, NodeStatus},
    config::{Release, settings::ClusteringMode},
    events::{self, Note, Step},
    failover::{
        hook_line,
        request::{Entry, Source},
        unfinished,
    },
};

#[derive(Clone, Debug, Default)]
pub(super) struct Follow {
    pub(super) run: Option<Run>,
    /// The command that runs, of this run or of one that was given up.
    pub(super) call: Option<Call>,
    stopping: bool,
}

/// What there is to do.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// As it was when the primary was found: a reload counts from the next run on.
    pub(super) template: String,
    pub(super) primary: NodeId,
    pub(super) old_primary: Option<NodeId>,
    /// Nodes below have had their turn.
    pub(super) next: NodeId,
    /// For the history.
    pub(super) operation: u64,
    pub(super) began: Instant,
}

#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) call: u64,
    pub(super) node: NodeId,
    pub(super) primary: NodeId,
}

impl Follow {
    pub(super) fn is_going_on(&self) -> bool {
        self.run.is_some() || self.call.is_some()
    }

    /// For the next start, should this process be killed.
    pub(super) fn left(&self) -> Option<unfinished::Follow> {
        let running = self.node();
        match (&self.run, &self.call) {
            (None, None) => None,
            (Some(run), _) => Some(unfinished::Follow {
                primary: run.primary,
                old_primary: run.old_primary,
                next: Some(run.next),
                running,
            }),
            (None, Some(call)) => Some(unfinished::Follow {
                primary: call.primary,
                old_primary: None,
                next: None,
                running,
            }),
        }
    }

    /// The command that runs, and its node.
    pub(super) fn call(&self) -> Option<(u64, NodeId)> {
        self.call.as_ref().map(|call| (call.call, call.node))
    }

    /// The node that a script works on, or is about to.
    pub(super) fn node(&self) -> Option<NodeId> {
        self.call.as_ref().map(|call| call.node)
    }
}

impl Core {
    /// Whether the other nodes have to follow: a failover led from one primary, or from none, to
    /// another one, or an operator has said who is the primary.
    pub(super) fn has_to_be_followed(&self, operation: &Operation, primary: NodeId) -> bool {
        if self.view.mode != ClusteringMode::StreamingReplication || !self.coordinates() {
            return false;
        }
        match operation.resumed.unwrap_or(operation.kind) {
            Kind::Promote(_) => true,
            Kind::Down(failed) => {
                operation.old_primary != Some(primary)
                    && failed != primary
                    && !self.settings.follow_primary_command.is_empty()
            }
            Kind::Start | Kind::Search | Kind::Up(_) => false,
        }
    }

    /// All nodes but the new primary go down: they do not replicate from it yet. Returns how many
    /// were not down before.
    pub(super) fn degenerate_followers(
        &mut self,
        primary: NodeId,
        now: Now,
        out: &mut Vec<Action>,
    ) -> usize {
        let others: Vec<NodeId> = self
            .view
            .nodes
            .iter()
            .filter(|n| n.id != primary && n.status != NodeStatus::Unused)
            .map(|n| n.id)
            .collect();
        let changed = others
            .iter()
            .filter(|&&id| self.degenerate(id, now, out))
            .count();
        if others.is_empty() {
            say(out, "failover: no follow backends are degenerated");
        } else {
            say(
                out,
                format!(
                    "failover: {} follow backends have been degenerated",
                    others.len()
                ),
            );
        }
        if changed > 0 {
            self.write_status_file(out);
        }
        changed
    }

    /// Whether it was not down before.
    fn degenerate(&mut self, id: NodeId, now: Now, out: &mut Vec<Action>) -> bool {
        self.say_framed(out, "starting follow degeneration. shutdown host", id);
        let Some(node) = self.view.nodes.get_mut(id) else {
            return false;
        };
        node.quarantine = false;
        if node.status == NodeStatus::Down {
            return false;
        }
        node.status = NodeStatus::Down;
        node.status_changed = now.wall;
        true
    }

    /// From now on a start after a kill would know that there are commands to run.
    pub(super) fn plan_follow(
        &mut self,
        primary: NodeId,
        old_primary: Option<NodeId>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let template = self.settings.follow_primary_command.clone();
        if template.is_empty() || self.follow.stopping {
            return;
        }
        let operation = self.next_operation();
        self.follow.run = Some(Run {
            template,
            primary,
            old_primary,
            next: 0,
            operation,
            began: now.instant,
        });
        self.remember(out);
    }

    /// Begins with the commands that are planned, or has them wait for the end of one of an earlier
    /// run.
    pub(super) fn follow(&mut self, primary: NodeId, now: Now, out: &mut Vec<Action>) {
        let Some(operation) = self.follow.run.as_ref().map(|run| run.operation) else {
            return;
        };
        self.record_follow_begins(operation, primary, out);
        if let Some(Call {
            node,
            primary: before,
            ..
        }) = self.follow.call
        {
            out.push(Action::Log(
                follow_entry(format!(
                    "follow command for node {node} still runs, for node {before} as the primary: those for node {primary} begin when it has ended"
                ))
                .with_hint("if it hangs, end its process; the log has the number"),
            ));
            return;
        }
        if self.settings.dialect < Release::V4_4 {
            out.push(Action::Log(follow_entry(
                "start triggering follow command.",
            )));
        }
        self.next_follow_command(now, out);
    }

    /// The first node from where the run stands that is down.
    pub(super) fn next_follow_command(&mut self, now: Now, out: &mut Vec<Action>) {
        loop {
            let Some(run) = &mut self.follow.run else {
                return;
            };
            let (primary, from) = (run.primary, run.next);
            let is_next = |id: &NodeId| *id >= from && *id != primary;
            let Some(node) = self.down_nodes().find(is_next) else {
                self.record_follow_ended("all commands have ended", now, out);
                self.follow.run = None;
                self.say_follow_ended(primary, out);
                return;
            };
            if self.begin_follow_command(node, now, out) {
                return;
            }
        }
    }

    /// `false`: there is nothing to run.
    fn begin_follow_command(&mut self, node: NodeId, _now: Now, out: &mut Vec<Action>) -> bool {
        let call = self.ticket();
        let Some(run) = &mut self.follow.run else {
            return false;
        };
        run.next = node + 1;
        let nodes = hook_line::Nodes {
            node,
            new_main: Some(run.primary),
            old_main: run.old_primary,
            old_primary: run.old_primary,
        };
        let (primary, operation) = (run.primary, run.operation);
        let line = hook_line::expand(&run.template, nodes, &self.view, self.settings.dialect);
        if line.is_empty() {
            return false;
        }
        if self.settings.dialect >= Release::V4_4 {
            out.push(Action::Log(follow_entry(format!(
                "=== Starting follow primary command for node {node} ==="
            ))));
        }
        out.push(Action::Log(follow_entry(format!(
            "execute command: {line}"
        ))));
        self.follow.call = Some(Call {
            call,
            node,
            primary,
        });
        let kind = HookKind::Follow;
        self.record_hook(operation, kind, node, &line, out);
        let hook = HookCall {
            call,
            kind,
            node,
            line,
            operation,
        };
        self.begin_hook(hook, out);
        true
    }

    /// `false`: it was another hook.
    pub(super) fn follow_command_ended(
        &mut self,
        finished: u64,
        now: Now,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(Call { node, primary, .. }) =
            self.follow.call.take_if(|call| call.call == finished)
        else {
            return false;
        };
        if self.settings.dialect >= Release::V4_4 {
            out.push(Action::Log(follow_entry(format!(
                "=== Follow primary command for node {node} ended ==="
            ))));
        }
        let next_primary = self.follow.run.as_ref().map(|run| run.primary);
        if let Some(next) = next_primary.filter(|&next| next != primary) {
            // The script has pointed its node to a primary that is not one any more.
            if node != next && self.view.is_valid(node) && self.degenerate(node, now, out) {
                self.write_status_file(out);
                self.view.version += 1;
                out.push(Action::Publish(self.view.clone()));
            }
            if self.settings.dialect < Release::V4_4 {
                out.push(Action::Log(follow_entry(
                    "start triggering follow command.",
                )));
            }
        }
        self.next_follow_command(now, out);
        true
    }

    /// The primary of the run goes down: what is left of the run would point nodes to it.
    pub(super) fn give_up_following(&mut self, primary: NodeId, now: Now, out: &mut Vec<Action>) {
        if self
            .follow
            .run
            .as_ref()
            .is_some_and(|run| run.primary == primary)
        {
            let result =
                format!("given up, because node {primary} is not the primary node any more");
            self.record_follow_ended(&result, now, out);
        }
        let Some(run) = self.follow.run.take_if(|run| run.primary == primary) else {
            return;
        };
        let left: Vec<String> = self
            .down_nodes()
            .filter(|&id| id >= run.next && id != primary)
            .map(|id| id.to_string())
            .collect();
        out.push(Action::Log(follow_entry(format!(
            "follow commands for node {primary} as the primary are given up, because it is not any more; nodes without a command: {}",
            list(&left)
        ))));
    }

    /// As [`Core::give_up_following`], for a run of any other primary.
    pub(super) fn follow_only(&mut self, primary: Option<NodeId>, now: Now, out: &mut Vec<Action>) {
        let of = self.follow.run.as_ref().map(|run| run.primary);
        if let Some(other) = of.filter(|_| of != primary) {
            self.give_up_following(other, now, out);
        }
    }

    /// Begins no further command; the one that runs is left alone.
    pub(super) fn leave_following(&mut self, result: &str, now: Now, out: &mut Vec<Action>) {
        self.record_follow_ended(result, now, out);
        self.follow.run = None;
    }

    pub(super) fn stop_following(&mut self, now: Now, out: &mut Vec<Action>) {
        self.record_follow_ended("given up, because pgpool ends", now, out);
        self.follow.stopping = true;
        if let Some(run) = self.follow.run.take() {
            let is_left = |id: &NodeId| *id >= run.next && *id != run.primary;
            let left: Vec<String> = self
                .down_nodes()
                .filter(is_left)
                .map(|id| id.to_string())
                .collect();
            if !left.is_empty() {
                out.push(Action::Log(
                    Entry::warning(
                        Source::FollowChild,
                        format!(
                            "follow commands are not begun any more, because pgpool ends; nodes without a command: {}",
                            left.join(", ")
                        ),
                    )
                    .with_hint("they stay down: have their servers follow the primary and attach them by pcp_attach_node, or use pcp_recovery_node"),
                ));
            }
        }
        if let Some(node) = self.follow.node() {
            out.push(Action::Log(
                Entry::warning(
                    Source::FollowChild,
                    format!("follow command for node {node} is ended, because pgpool is"),
                )
                .with_hint("look at the node's server: the command may have done half of its work"),
            ));
        }
    }

    pub(super) fn record_follow_begins(
        &self,
        operation: u64,
        primary: NodeId,
        out: &mut Vec<Action>,
    ) {
        let nodes: Vec<String> = self
            .down_nodes()
            .filter(|&id| id != primary)
            .map(|id| id.to_string())
            .collect();
        let cause = format!("nodes to be pointed to it: {}", list(&nodes));
        let note = Note::of_node(events::Kind::Follow, Step::Began, primary).with_cause(cause, "");
        tell(Some(operation), note, out);
    }

    /// The end of the run, if there is one.
    fn record_follow_ended(&self, result: &str, now: Now, out: &mut Vec<Action>) {
        let Some(run) = &self.follow.run else {
            return;
        };
        let down: Vec<String> = self.down_nodes().map(|id| id.to_string()).collect();
        let evidence = format!("nodes that are down: {}", list(&down));
        let note = Note {
            seconds: seconds(Some(run.began), now),
            ..Note::of_node(events::Kind::Follow, Step::Ended, run.primary)
                .with_cause("", evidence)
                .with_result(result)
        };
        tell(Some(run.operation), note, out);
    }

    pub(super) fn down_nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.view
            .nodes
            .iter()
            .filter(|n| n.status == NodeStatus::Down)
            .map(|n| n.id)
    }

    fn say_follow_ended(&self, primary: NodeId, out: &mut Vec<Action>) {
        let down: Vec<String> = self.down_nodes().map(|id| id.to_string()).collect();
        let entry = follow_entry(format!(
            "follow commands for node {primary} as the primary have ended; nodes that are down: {}",
            list(&down)
        ));
        out.push(Action::Log(if down.is_empty() {
            entry
        } else {
            entry.with_hint("a node that its command has not attached is attached by pcp_attach_node when its server follows the primary")
        }));
    }
}

pub(super) fn follow_entry(message: impl Into<String>) -> Entry {
    Entry::log(Source::FollowChild, message)
}

pub(super) fn list(numbers: &[String]) -> String {
    if numbers.is_empty() {
        "none".to_owned()
    } else {
        numbers.join(", ")
    }
}
