//! Which step follows which, and what ends a recovery from outside.

use std::time::Instant;

use super::{
    ATTACH_LIMIT, Action, Answer, FIRST_ATTEMPTS, Next, Run, Stage,
    ends::{failed, remote_start_failed, say, say_more, stage_failed},
};
use crate::{
    cluster::{ClusterView, NodeId, NodeStatus},
    control::Refusal,
    recovery::request,
};

impl Run {
    pub(super) fn target(&self) -> NodeId {
        self.plan.target.node
    }

    /// Why the recovery makes no sense any more.
    pub(super) fn disturbed(&self, view: &ClusterView) -> Option<Refusal> {
        if matches!(self.stage, Stage::Attaching | Stage::Settling { .. }) {
            return None;
        }
        let (target, source) = (self.target(), self.plan.source.node);
        let why = if view.node(target).map(|n| n.status) != Some(NodeStatus::Down) {
            format!("node {target} was attached meanwhile. If its server is gone, detach the node.")
        } else if view.primary_search_running || request::source(view) != Some(source) {
            format!(
                "a failover has taken node {source} away, which node {target} was being rebuilt from. When it is done, run pcp_recovery_node again."
            )
        } else {
            return None;
        };
        Some(Refusal {
            detail: format!("{why} A script that runs at node {source} is not stopped."),
            ..Refusal::error(format!(
                "node recovery failed, node id: {target} is given up"
            ))
        })
    }

    pub(super) fn done(
        &mut self,
        result: Result<Answer, String>,
        view: &ClusterView,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Next {
        match (&self.stage, result) {
            (Stage::Connecting, Ok(Answer::Source(installed))) => self.prepared(&installed, out),
            (Stage::Connecting, Ok(_)) => Next::Wait,
            (Stage::Connecting, Err(why)) => {
                // With the blank at the end that the original has.
                let source = self.plan.source.node;
                failed(
                    format!("node recovery failed, unable to connect to main node: {source} "),
                    why,
                )
            }
            (Stage::FirstCheckpoint, Ok(_)) => {
                say(out, "node recovery, CHECKPOINT in the 1st stage done");
                self.first_stage(out)
            }
            (Stage::SecondCheckpoint, Ok(_)) => {
                say_more(out, "node recovery", "CHECKPOINT in the 2nd stage done");
                self.second_stage(out)
            }
            (Stage::FirstCheckpoint | Stage::SecondCheckpoint, Err(why)) => {
                failed("executing recovery, execute CHECKPOINT failed", why)
            }
            (Stage::FirstScript, Ok(_)) => {
                say(out, "node recovery, 1st stage is done");
                self.after_first_stage(now, out)
            }
            (Stage::FirstScript, Err(why)) => {
                stage_failed("1st stage", &self.settings.first_stage, &why)
            }
            (Stage::SecondScript, Ok(_)) => {
                say(out, "node recovery, 2nd stage is done");
                self.remote_start()
            }
            (Stage::SecondScript, Err(why)) => {
                stage_failed("2nd stage", &self.settings.second_stage, &why)
            }
            (Stage::RemoteStart, Ok(_)) => self.reach("postgres", FIRST_ATTEMPTS, out),
            (Stage::RemoteStart, Err(why)) => remote_start_failed(&why),
            (Stage::Reach(_), Ok(Answer::Reached { standby })) => self.reached(standby, out),
            (Stage::Reach(attempts), Ok(_)) => {
                let attempts = *attempts;
                self.not_reached(attempts, "an answer of another kind", now, out)
            }
            (Stage::Reach(attempts), Err(why)) => {
                let attempts = *attempts;
                self.not_reached(attempts, &why, now, out)
            }
            (Stage::Attaching, Ok(_)) => {
                self.stage = Stage::Settling {
                    until: now + ATTACH_LIMIT,
                };
                out.push(Action::WakeAt(now + ATTACH_LIMIT));
                self.settled(view, out)
            }
            (Stage::Attaching, Err(why)) => failed(
                format!(
                    "node recovery failed, node id: {} is not attached",
                    self.target()
                ),
                format!("its server runs, but the attach was refused: {why}"),
            ),
            // Nothing is being done then.
            (Stage::ClientsLeave { .. } | Stage::Settling { .. }, _) => Next::Wait,
        }
    }

    pub(super) fn timer(&mut self, clients: usize, now: Instant, out: &mut Vec<Action>) -> Next {
        match self.stage {
            Stage::ClientsLeave { until } => self.look_at_clients(until, clients, now, out),
            Stage::Reach(attempts) if !attempts.trying => self.attempt(attempts, out),
            Stage::Settling { until } if now >= until => {
                say_more(
                    out,
                    "node recovery",
                    format!(
                        "waiting for wake up request is timeout({} seconds)",
                        ATTACH_LIMIT.as_secs()
                    ),
                );
                say(out, "recovery done");
                Next::End(Ok(()))
            }
            Stage::Settling { until } => {
                out.push(Action::WakeAt(until));
                Next::Wait
            }
            Stage::Connecting
            | Stage::FirstCheckpoint
            | Stage::FirstScript
            | Stage::SecondCheckpoint
            | Stage::SecondScript
            | Stage::RemoteStart
            | Stage::Reach(_)
            | Stage::Attaching => Next::Wait,
        }
    }
}
