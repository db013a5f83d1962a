//! A start after a kill -9: goes on with the failover, or the follow commands, that were going on.
//!
//! A command that had not begun is run now, as it would have been. One that had begun is never run
//! again, since nobody can tell how much of it is done: its end is waited for if it still runs, and
//! the log says what to look at. What has to follow it (the search for the primary, the commands of
//! the other nodes) is done as if nothing had happened.

use super::{
    Action, Core, HookCall, HookKind, Kind, Now, Stage, Why,
    follow::{Call, Run, follow_entry, list},
    texts::{number, say},
};
use crate::{
    cluster::{NodeId, NodeStatus},
    failover::{
        hook_line,
        request::{Entry, Request, Source},
        unfinished::{self, Unfinished},
    },
};

impl Core {
    /// `left`: what the record of an earlier life says. Counts for [`super::Event::Start`].
    #[must_use]
    pub fn resuming(mut self, left: Unfinished) -> Core {
        self.remembered = left.clone();
        self.left = left;
        self
    }

    /// Tells the shell what a start would have to know now, if that has changed.
    pub(super) fn remember(&mut self, out: &mut Vec<Action>) {
        if !self.started && self.operation.is_none() {
            // What is left of an earlier life has not been looked at.
            return;
        }
        let now = self.unfinished();
        if now != self.remembered {
            self.remembered = now.clone();
            out.push(Action::Remember(now));
        }
    }

    /// With the hook begins what a start would have to know from then on.
    pub(super) fn begin_hook(&mut self, hook: HookCall, out: &mut Vec<Action>) {
        let begun = self.unfinished();
        self.remembered = begun.clone();
        out.push(Action::RunHook { hook, begun });
    }

    fn unfinished(&self) -> Unfinished {
        Unfinished {
            hook: self.unfinished.clone(),
            follow: self.follow.left().or(self.left.follow),
        }
    }

    /// A failover or failback begins: from now on a start knows of its hook.
    pub(super) fn is_due(
        &mut self,
        kind: HookKind,
        nodes: hook_line::Nodes,
        template: &str,
        old_primary: Option<NodeId>,
        out: &mut Vec<Action>,
    ) {
        self.unfinished = Some(unfinished::Hook {
            kind,
            node: nodes.node,
            old_primary,
            stage: unfinished::Stage::Due,
            line: hook_line::expand(template, nodes, &self.view, self.settings.dialect),
        });
        self.remember(out);
    }

    /// Whether the start waits for a hook, before it searches the primary.
    pub(super) fn resume_hook(&mut self, out: &mut Vec<Action>) -> bool {
        let Some(hook) = self.left.hook.take() else {
            return false;
        };
        let node = hook.node;
        let status = self.view.node(node).map(|n| n.status);
        let (name, kind, is_done) = match hook.kind {
            HookKind::Failback => (
                "failback_command",
                Kind::Up(node),
                matches!(status, Some(NodeStatus::Waiting | NodeStatus::Up)),
            ),
            HookKind::Failover | HookKind::Follow => (
                "failover_command",
                Kind::Down(node),
                status == Some(NodeStatus::Down),
            ),
        };
        if !is_done {
            self.not_begun(hook, out);
            return false;
        }
        let (stage, hook_kind) = (hook.stage, hook.kind);
        let command = format!("command: {}", hook.line);
        if let Some(operation) = &mut self.operation {
            operation.old_primary = hook.old_primary;
            operation.resumed = Some(kind);
        }
        self.unfinished = Some(hook);
        match stage {
            unfinished::Stage::Due => {
                out.push(Action::Log(
                    Entry::warning(
                        Source::Main,
                        format!("pgpool was killed before {name} for node {node} had begun: it is run now"),
                    )
                    .with_detail(command),
                ));
                self.run_hook(out)
            }
            unfinished::Stage::Begun => {
                out.push(Action::Log(
                    Entry::warning(
                        Source::Main,
                        format!("pgpool was killed while {name} for node {node} ran: it is not run again"),
                    )
                    .with_detail(command)
                    .with_hint("look whether the command has done its work; if no server is the primary afterwards, promote one or run the command by hand"),
                ));
                let call = self.ticket();
                if let Some(operation) = &mut self.operation {
                    operation.stage = Stage::Hook { call };
                }
                out.push(Action::AwaitHook {
                    call,
                    kind: hook_kind,
                });
                true
            }
            unfinished::Stage::Ended => {
                say(
                    out,
                    format!("pgpool was killed after {name} for node {node}: going on from there"),
                );
                false
            }
        }
    }

    /// Killed before the status file had it, or all nodes are down.
    fn not_begun(&mut self, hook: unfinished::Hook, out: &mut Vec<Action>) {
        let node = hook.node;
        let was_primary = hook.kind == HookKind::Failover && hook.old_primary == Some(node);
        let text =
            format!("pgpool was killed when it was about to change the status of node {node}");
        if was_primary && hook.stage == unfinished::Stage::Due && self.view.is_valid(node) {
            out.push(Action::Log(Entry::warning(
                Source::Main,
                format!("{text}, the primary: it is detached now unless a primary answers"),
            )));
            self.unfinished = Some(hook);
            self.was_to_go = Some(node);
        } else {
            let text = format!("{text}; nothing of that was done");
            out.push(Action::Log(Entry::warning(Source::Main, text)));
        }
    }

    /// The search of the start is over. With nobody to take its place, the primary of an earlier life
    /// goes now, and `failover_command` is told that it was the primary.
    pub(super) fn detach_what_was_to_go(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(node) = self.was_to_go.take() else {
            return;
        };
        if self.view.primary.is_some() {
            return;
        }
        self.view.primary = Some(node);
        let why = Why::new(
            "pgpool was killed when it was about to detach it",
            "it was the primary, and no primary has answered since",
        );
        let taken = self.take(Request::Down { node }, Source::Main, why, now, out);
        if taken.is_err() {
            // It has been logged.
            self.view.primary = None;
        }
    }

    /// The start is over. `new_primary`: the one that the other nodes have to follow now, as after any
    /// failover.
    pub(super) fn resume_follow(
        &mut self,
        new_primary: Option<NodeId>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let left = self.left.follow.take();
        if let Some(unfinished::Follow {
            primary,
            running: Some(node),
            ..
        }) = left
        {
            let call = self.ticket();
            self.follow.call = Some(Call {
                call,
                node,
                primary,
            });
            if !self.view.is_valid(node) {
                out.push(Action::Log(
                    Entry::warning(
                        Source::FollowChild,
                        format!("pgpool has ended while the follow command for node {node} ran: it is not run again"),
                    )
                    .with_hint(format!("look whether the server of node {node} follows node {primary}, then pcp_attach_node -n {node}; or rebuild it by pcp_recovery_node")),
                ));
            }
            let kind = HookKind::Follow;
            out.push(Action::AwaitHook { call, kind });
        }
        if let Some(new) = new_primary {
            self.follow(new, now, out);
        } else if let Some(left) = left
            && let Some(next) = left.next
        {
            self.resume_run(left, next, now, out);
        }
    }

    /// The nodes from `next` on have had no command.
    fn resume_run(
        &mut self,
        left: unfinished::Follow,
        next: NodeId,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let primary = left.primary;
        let waiting: Vec<String> = self
            .down_nodes()
            .filter(|&id| id >= next && id != primary)
            .map(|id| id.to_string())
            .collect();
        let why = if self.view.primary != Some(primary) {
            format!("the primary node is {} now", number(self.view.primary))
        } else if self.settings.follow_primary_command.is_empty() {
            "follow_primary_command is empty now".to_owned()
        } else {
            out.push(Action::Log(follow_entry(format!(
                "pgpool was killed before all follow commands for node {primary} as the primary had begun; those to come are for nodes: {}",
                list(&waiting)
            ))));
            let operation = self.next_operation();
            self.follow.run = Some(Run {
                template: self.settings.follow_primary_command.clone(),
                primary,
                old_primary: left.old_primary,
                next,
                operation,
                began: now.instant,
            });
            self.record_follow_begins(operation, primary, out);
            if self.follow.call.is_none() {
                self.next_follow_command(now, out);
            }
            return;
        };
        if !waiting.is_empty() {
            out.push(Action::Log(
                Entry::warning(
                    Source::FollowChild,
                    format!(
                        "pgpool was killed before these nodes had a follow command, and gets them none now: {}",
                        waiting.join(", ")
                    ),
                )
                .with_detail(why)
                .with_hint("they stay down: have their servers follow the primary and attach them by pcp_attach_node, or use pcp_recovery_node"),
            ));
        }
    }
}
