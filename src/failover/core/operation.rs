//! One request from its beginning to its end: statuses, hook, the new primary.

use super::{
    Action, Core, HookCall, HookKind, Kind, Now, Operation, Stage, Why,
    promote::say_wish_failed,
    texts::{number, say},
};
use crate::{
    cluster::{NodeId, NodeStatus},
    config::settings::ClusteringMode,
    failover::{
        hook_line,
        request::{Entry, Request, Source},
        search::{self, Judgement},
        unfinished,
    },
};

impl Core {
    /// `wish`: the node that a switchover wants to have in its place.
    pub(super) fn begin_down(
        &mut self,
        id: NodeId,
        wish: Option<NodeId>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let Some(node) = self
            .view
            .nodes
            .get_mut(id)
            .filter(|n| n.is_valid() || n.quarantine)
        else {
            say(out, "failover: no backends are degenerated");
            return;
        };
        if self.quarantined_primary == Some(id) {
            // For the hook, and for what follows: it was the primary until it was out of reach.
            self.quarantined_primary = None;
            self.view.primary = self.view.primary.or(Some(id));
        }
        node.status = NodeStatus::Down;
        node.quarantine = false;
        node.status_changed = now.wall;
        self.say_framed(out, "starting degeneration. shutdown host", id);
        let old_primary = self.view.primary;
        let new_main = self.view.main_node();
        let nodes = hook_line::Nodes {
            node: id,
            new_main: wish.or(new_main),
            old_main: self.main,
            old_primary,
        };
        let template = self.settings.failover_command.clone();
        self.is_due(HookKind::Failover, nodes, &template, old_primary, out);
        self.write_status_file(out);
        if new_main.is_none() {
            say(out, "failover: no valid backend node found");
        }
        let nobody_is_cut =
            self.view.mode == ClusteringMode::StreamingReplication && old_primary != Some(id);
        self.say_restart(out, id, nobody_is_cut.then_some("switching over"));
        let lost_primary = old_primary == Some(id);
        if lost_primary {
            self.view.primary = None;
        }
        self.give_up_following(id, now, out);
        self.operation = Some(Operation {
            kind: Kind::Down(id),
            old_primary,
            new_main: wish.or(new_main),
            wish,
            hold: lost_primary && new_main.is_some(),
            all_were_down: false,
            resumed: None,
            stage: Stage::Hook { call: 0 },
        });
        self.record_began(now, out);
        self.view.version += 1;
        self.view.primary_search_running = lost_primary && new_main.is_some();
        out.push(Action::Publish(self.view.clone()));
        if !self.run_hook(out) {
            self.hook_is_over(now, out);
        }
    }

    pub(super) fn begin_up(&mut self, id: NodeId, now: Now, out: &mut Vec<Action>) {
        if self
            .view
            .node(id)
            .is_none_or(|n| n.status != NodeStatus::Down)
        {
            let code = self.view.node(id).map_or(0, |n| n.status.code());
            say(
                out,
                format!(
                    "invalid failback request, status: [{code}] of node id : {id} is invalid for failback"
                ),
            );
            return;
        }
        self.say_framed(out, "starting fail back. reconnect host", id);
        let someone_up = self
            .view
            .nodes
            .iter()
            .find(|n| n.is_valid())
            .map(|n| (n.id, n.status.code()));
        if let Some((other, code)) = someone_up {
            say(out, format!("Node {other} is not down (status: {code})"));
        }
        if let Some(node) = self.view.nodes.get_mut(id) {
            node.status = NodeStatus::Waiting;
            node.quarantine = false;
            node.status_changed = now.wall;
        }
        let old_primary = self.view.primary;
        let nodes = hook_line::Nodes {
            node: id,
            new_main: self.view.main_node(),
            old_main: self.main,
            // Here the original's %P falls back to the main node.
            old_primary: old_primary.or(self.main),
        };
        let template = self.settings.failback_command.clone();
        self.is_due(HookKind::Failback, nodes, &template, old_primary, out);
        self.write_status_file(out);
        let had_none = someone_up.is_none() && self.view.has_primary();
        self.operation = Some(Operation {
            kind: Kind::Up(id),
            old_primary,
            new_main: self.view.main_node(),
            wish: None,
            // All nodes were down: whoever comes now waits until it is known what this node is.
            hold: had_none,
            all_were_down: someone_up.is_none(),
            resumed: None,
            stage: Stage::Hook { call: 0 },
        });
        self.record_began(now, out);
        self.view.version += 1;
        self.is_attached_now(id);
        self.view.primary_search_running = had_none;
        out.push(Action::Publish(self.view.clone()));
        if !self.run_hook(out) {
            self.hook_is_over(now, out);
        }
    }

    /// The hook that [`Core::is_due`] has made ready; `false`: there is nothing to run.
    pub(super) fn run_hook(&mut self, out: &mut Vec<Action>) -> bool {
        let call = self.ticket();
        let (Some(operation), Some(hook)) = (&mut self.operation, &mut self.unfinished) else {
            return false;
        };
        if hook.line.is_empty() {
            return false;
        }
        operation.stage = Stage::Hook { call };
        hook.stage = unfinished::Stage::Begun;
        let (kind, node, line) = (hook.kind, hook.node, hook.line.clone());
        say(out, format!("execute command: {line}"));
        let operation = self.operation_number();
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

    pub(super) fn hook_finished(&mut self, finished: u64, now: Now, out: &mut Vec<Action>) {
        if self.follow_command_ended(finished, now, out) {
            return;
        }
        let expected = self
            .operation
            .as_ref()
            .is_some_and(|o| matches!(o.stage, Stage::Hook { call } if call == finished));
        if expected {
            self.hook_is_over(now, out);
        }
    }

    fn hook_is_over(&mut self, now: Now, out: &mut Vec<Action>) {
        if let Some(hook) = &mut self.unfinished {
            hook.stage = unfinished::Stage::Ended;
            self.remember(out);
        }
        if let Some(Operation {
            kind: Kind::Up(id),
            old_primary,
            all_were_down,
            ..
        }) = self.operation
        {
            let nobody_is_cut = self.view.mode == ClusteringMode::StreamingReplication
                && !all_were_down
                && old_primary.is_some();
            self.say_restart(out, id, nobody_is_cut.then_some("failing back"));
        }
        self.search_or_finish(now, out);
    }

    pub(super) fn finish(
        &mut self,
        primary: Option<NodeId>,
        judgement: Option<Judgement>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let Some(operation) = self.operation.take() else {
            return;
        };
        let old_primary = operation.old_primary;
        if old_primary != primary && operation.kind != Kind::Start {
            for id in [old_primary, primary].into_iter().flatten() {
                if let Some(node) = self.view.nodes.get_mut(id) {
                    node.status_changed = now.wall;
                }
            }
        }
        let before = (self.view.primary, self.view.primary_search_running);
        self.view.primary = primary;
        self.view.primary_search_running = false;
        self.follow_only(primary, now, out);
        let new_primary = primary.filter(|&new| self.has_to_be_followed(&operation, new));
        if let Some(new) = new_primary {
            // Before the status file says that they are down.
            self.plan_follow(new, old_primary, now, out);
        }
        let degenerated = new_primary.map(|new| self.degenerate_followers(new, now, out));
        if before != (primary, false) || degenerated.is_some_and(|count| count > 0) {
            self.view.version += 1;
            out.push(Action::Publish(self.view.clone()));
        }
        // Nothing is lost any more: what comes now is remembered with the commands that follow.
        self.unfinished = None;
        if operation.kind == Kind::Start {
            self.record_ended(&operation, String::new(), now, out);
            self.started(now, judgement, out);
            self.resume_follow(new_primary, now, out);
            self.detach_what_was_to_go(now, out);
            return;
        }
        say(
            out,
            format!("failover: set new primary node: {}", number(primary)),
        );
        if let Some(main) = self.view.main_node() {
            self.main = Some(main);
            say(out, format!("failover: set new main node: {main}"));
        }
        out.push(Action::RestartReplicationCheck);
        out.push(Action::Log(Entry::log(
            Source::ReplicationCheck,
            "worker process received restart request",
        )));
        match operation.kind {
            Kind::Down(id) => self.say_framed(out, "failover done. shutdown host", id),
            Kind::Up(id) => self.say_framed(out, "failback done. reconnect host", id),
            Kind::Promote(id) => self.say_framed(out, "promotion done. promoted host", id),
            Kind::Start | Kind::Search => {}
        }
        let result = match operation.wish {
            Some(wish) if primary != Some(wish) => {
                format!(
                    "failed: the primary node is {}, not {wish}",
                    number(primary)
                )
            }
            _ if primary.is_none() && self.view.has_primary() => {
                "no primary node was found".to_owned()
            }
            _ => String::new(),
        };
        self.record_ended(&operation, result, now, out);
        if let Some(wish) = operation.wish.filter(|&wish| primary != Some(wish)) {
            say_wish_failed(wish, primary, old_primary, out);
        }
        if let Some(new) = new_primary {
            self.follow(new, now, out);
        }
        // Before the next one begins.
        self.remember(out);
    }

    fn started(&mut self, now: Now, judgement: Option<Judgement>, out: &mut Vec<Action>) {
        self.started = true;
        out.push(Action::Started);
        let searched = !self.has_adopted() || judgement.is_some();
        if self.view.mode != ClusteringMode::StreamingReplication || !searched {
            return;
        }
        let mut invalid = Vec::new();
        for id in 0..self.view.nodes.len() {
            let verdict = judgement
                .as_ref()
                .and_then(|j| j.verdicts.get(id).copied())
                .unwrap_or(search::Verdict::Unused);
            say(out, format!("node status[{id}]: {}", verdict as u8));
            if verdict == search::Verdict::Invalid {
                say(out, format!("pgpool_main: invalid node found {id}"));
                invalid.push(id);
            }
        }
        if !self.coordinates() {
            return;
        }
        for node in invalid {
            let why = Why::new(
                "detach_false_primary, at the start",
                judgement
                    .as_ref()
                    .map(|j| j.remarks.join("; "))
                    .unwrap_or_default(),
            );
            // A refusal has been logged; nobody else waits for it.
            let _ = self.take(Request::Down { node }, Source::Main, why, now, out);
        }
    }
}
