//! `pcp_promote_node`: a server that has been promoted becomes the primary here, or a standby takes
//! over from the primary (switchover).

use super::{
    Action, Core, Kind, Now, Operation, Stage,
    texts::{number, say},
};
use crate::{
    cluster::NodeId,
    failover::{
        promotion,
        request::{Entry, Judged, Request, Source},
        search::Answer,
    },
};

impl Core {
    /// The primary goes down as by a failover, whose hook is told the node that shall take over.
    pub(super) fn begin_switchover(
        &mut self,
        node: NodeId,
        source: Source,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let request = Request::Switchover { node };
        let Some(primary) = self
            .view
            .primary
            .filter(|_| self.still_possible(&request, source, out))
        else {
            return;
        };
        say(
            out,
            format!("switching over from node {primary} to node {node}"),
        );
        self.begin_down(primary, Some(node), now, out);
    }

    /// Nothing is changed before the server has said that it is a primary.
    pub(super) fn begin_promote(
        &mut self,
        node: NodeId,
        source: Source,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if !self.still_possible(&Request::Promote { node }, source, out) {
            return;
        }
        self.say_framed(out, "starting promotion. promote host", node);
        self.operation = Some(Operation {
            kind: Kind::Promote(node),
            old_main: self.main,
            old_primary: self.view.primary,
            new_main: Some(node),
            wish: None,
            hold: false,
            all_were_down: false,
            stage: Stage::Hook { call: 0 },
        });
        self.record_began(now, out);
        self.sweep(now.instant, Vec::new(), now, out);
    }

    /// The server of a promotion has answered.
    pub(super) fn promotion_answered(
        &mut self,
        node: NodeId,
        answer: &Answer,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if let Err(refusal) = promotion::check_candidate(&Request::Promote { node }, answer) {
            // Nothing has been changed, so there is nothing to publish.
            if let Some(operation) = self.operation.take() {
                let result = format!("given up, nothing has been changed: {}", refusal.detail);
                self.record_ended(&operation, result, now, out);
            }
            out.push(Action::Log(
                Entry::warning(
                    Source::Main,
                    format!("the promotion of node {node} is given up, nothing has been changed"),
                )
                .with_detail(refusal.detail),
            ));
            return;
        }
        say(out, format!("find_primary_node: primary node is {node}"));
        self.say_restart(out, node, None);
        self.because("an operator says so, and so does its server");
        self.finish(Some(node), None, now, out);
    }

    /// The nodes may have changed while the request waited.
    fn still_possible(&self, request: &Request, source: Source, out: &mut Vec<Action>) -> bool {
        let Judged::Refused(refusal) = self.judge(request) else {
            return true;
        };
        out.push(Action::Log(
            Entry::warning(source, refusal.message).with_detail(refusal.detail),
        ));
        false
    }
}

/// After a switchover that has not led to the primary that was asked for.
pub(super) fn say_wish_failed(
    wish: NodeId,
    primary: Option<NodeId>,
    old_primary: Option<NodeId>,
    out: &mut Vec<Action>,
) {
    let entry = Entry::warning(
        Source::Main,
        format!(
            "the switchover to node {wish} has failed: the primary node is {}",
            number(primary)
        ),
    );
    let old = number(old_primary);
    out.push(Action::Log(match primary {
        Some(_) => entry
            .with_detail("failover_command has promoted another node")
            .with_hint("look at its arguments: %m, %H, %r and %R are the node to promote"),
        None => entry
            .with_detail(format!(
                "failover_command was run, and the server of node {wish} did not become a primary"
            ))
            .with_hint(format!(
                "if the server of node {old} still is the primary: pcp_attach_node -n {old}; else promote the server of node {wish} and attach it"
            )),
    }));
}
