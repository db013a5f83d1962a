//! What is refused: recoveries that cannot succeed, and requests that would disturb one that goes on.
//!
//! Texts and rules of `process_recovery_request()` in `src/pcp_con/pcp_worker.c` and
//! `start_recovery()` in `src/pcp_con/recovery.c @ V4_3_5`, where they have one.

use super::call::Place;
use crate::{
    cluster::{ClusterView, NodeId, NodeStatus},
    config::settings::ClusteringMode,
    control::Refusal,
    failover::request::Request,
    observe::Severity,
};

/// Message of most refusals.
const FAILED: &str = "process recovery request failed";

/// A recovery that may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub target: Place,
    pub source: Place,
    /// Of the replication modes: the source must not change during the second stage, so no client
    /// may work. A streaming standby catches up by itself.
    pub second_stage: bool,
    /// The recovered server must be a standby.
    pub standby: bool,
}

/// Whether `node` can be recovered as the cluster is now, and from where.
///
/// # Errors
///
/// The refusal, in the words of the PCP tools.
pub fn judge(node: NodeId, view: &ClusterView) -> Result<Plan, Refusal> {
    let second_stage = match view.mode {
        ClusteringMode::StreamingReplication => false,
        ClusteringMode::NativeReplication | ClusteringMode::SnapshotIsolation => true,
        ClusteringMode::LogicalReplication | ClusteringMode::Slony | ClusteringMode::Raw => {
            return Err(refusal(
                "recovery request is only allowed in replication and streaming replication modes.",
            ));
        }
    };
    let Some(target) = view.node(node) else {
        return Err(refusal(format!("node id {node} is not valid")));
    };
    if view.mode == ClusteringMode::StreamingReplication && view.primary == Some(node) {
        return Err(refusal(
            "primary server cannot be recovered by online recovery.",
        ));
    }
    match target.status {
        NodeStatus::Up | NodeStatus::Waiting => {
            return Err(Refusal::error(format!(
                "node recovery failed, node id: {node} is alive"
            )));
        }
        NodeStatus::Unused => {
            return Err(Refusal::error(format!(
                "node recovery failed, node id: {node} is unused"
            )));
        }
        NodeStatus::Down => {}
    }
    if view.primary_search_running {
        return Err(Refusal {
            detail: "failover is in progress: try again when the new primary is known.".to_owned(),
            ..Refusal::error("failed to process PCP request at the moment")
        });
    }
    let Some(source) = source(view).and_then(|id| view.node(id)) else {
        return Err(refusal(format!(
            "no node is up that node {node} could be rebuilt from."
        )));
    };
    Ok(Plan {
        target: Place::of(target),
        source: Place::of(source),
        second_stage,
        standby: view.mode == ClusteringMode::StreamingReplication,
    })
}

/// The primary if there is one, else the main node.
pub fn source(view: &ClusterView) -> Option<NodeId> {
    view.primary
        .filter(|&id| view.is_valid(id))
        .or_else(|| view.main_node())
}

/// The refusal of a second recovery.
pub fn already_running() -> Refusal {
    Refusal {
        severity: Severity::Fatal,
        ..refusal("pgpool-II is already processing another recovery request.")
    }
}

fn refusal(detail: impl Into<String>) -> Refusal {
    Refusal {
        detail: detail.into(),
        ..Refusal::error(FAILED)
    }
}

/// The recovery that goes on, as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ongoing {
    pub target: NodeId,
    pub source: NodeId,
    /// All is done but the attach, which is asked for like any other.
    pub attaching: bool,
}

impl Ongoing {
    /// Why a request of an operator or of `auto_failback` has to wait for the end of the recovery. What
    /// health checks find out is not asked about: a dead primary is replaced, and the recovery ends.
    pub fn objection(&self, request: &Request) -> Option<Refusal> {
        let Ongoing { target, source, .. } = *self;
        match *request {
            Request::Up { node } if node == target && !self.attaching => Some(Refusal {
                detail: "the recovery attaches it at its end.".to_owned(),
                ..Refusal::error(format!(
                    "failback request for node_id: {node} is canceled because the node is being recovered"
                ))
            }),
            Request::Down { node } if node == source => Some(Refusal {
                detail: format!(
                    "wait for its end, or end the session of recovery_user on node {source} with pg_terminate_backend()."
                ),
                ..Refusal::error(format!(
                    "degenerate backend request for node_id: {node} is canceled because node {target} is being recovered from it"
                ))
            }),
            // The node would be recovered from a server that is the primary no more.
            Request::Switchover { node } | Request::Promote { node } => Some(Refusal {
                detail: format!(
                    "node {target} is being recovered from node {source}; try again at its end."
                ),
                ..Refusal::error(format!(
                    "promote backend request for node_id: {node} is canceled because a node is being recovered"
                ))
            }),
            Request::Up { .. } | Request::Down { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::testing::view;

    /// Three nodes, primary 0, node 1 down, changed by `prepare`.
    fn judged(node: NodeId, prepare: impl FnOnce(&mut ClusterView)) -> Result<Plan, Refusal> {
        let mut view = view(3);
        view.primary = Some(0);
        view.nodes[1].status = NodeStatus::Down;
        prepare(&mut view);
        judge(node, &view)
    }

    fn refused(node: NodeId, prepare: impl FnOnce(&mut ClusterView)) -> (String, String) {
        let refusal = judged(node, prepare).expect_err("refused");
        (refusal.message, refusal.detail)
    }

    #[test]
    fn a_standby_that_is_down_is_rebuilt_from_the_primary() {
        let plan = judged(1, |_| {}).expect("possible");
        assert_eq!((plan.target.node, plan.source.node), (1, 0));
        assert!(plan.standby && !plan.second_stage);
    }

    #[test]
    fn without_a_known_primary_the_main_node_is_the_source() {
        let plan = judged(1, |view| view.primary = None).expect("possible");
        assert_eq!(plan.source.node, 0);
        let dead = |view: &mut ClusterView| {
            view.primary = Some(0);
            view.nodes[0].status = NodeStatus::Down;
        };
        assert_eq!(judged(1, dead).expect("possible").source.node, 2);
    }

    #[test]
    fn the_replication_modes_have_two_stages_and_no_primary() {
        for mode in [
            ClusteringMode::NativeReplication,
            ClusteringMode::SnapshotIsolation,
        ] {
            let plan = judged(1, |view| {
                view.mode = mode;
                view.primary = None;
            })
            .expect("possible");
            assert!(plan.second_stage && !plan.standby);
        }
    }

    #[test]
    fn what_cannot_be_recovered_is_refused() {
        let failed = |detail: &str| (FAILED.to_owned(), detail.to_owned());
        let plain = |message: &str| (message.to_owned(), String::new());
        assert_eq!(refused(3, |_| {}), failed("node id 3 is not valid"));
        assert_eq!(
            refused(0, |_| {}),
            failed("primary server cannot be recovered by online recovery.")
        );
        assert_eq!(
            refused(2, |_| {}),
            plain("node recovery failed, node id: 2 is alive")
        );
        assert_eq!(
            refused(1, |v| v.nodes[1].status = NodeStatus::Unused),
            plain("node recovery failed, node id: 1 is unused")
        );
        assert_eq!(
            refused(1, |v| v.mode = ClusteringMode::Raw),
            failed(
                "recovery request is only allowed in replication and streaming replication modes."
            )
        );
        assert_eq!(
            refused(1, |v| v
                .nodes
                .iter_mut()
                .for_each(|n| n.status = NodeStatus::Down)),
            failed("no node is up that node 1 could be rebuilt from.")
        );
    }

    #[test]
    fn during_a_search_for_the_primary_nothing_is_rebuilt() {
        let (message, detail) = refused(1, |v| {
            v.primary = None;
            v.primary_search_running = true;
        });
        assert_eq!(message, "failed to process PCP request at the moment");
        assert!(detail.starts_with("failover is in progress"), "{detail}");
    }

    #[test]
    fn the_node_is_not_attached_and_its_source_not_detached_meanwhile() {
        let mut ongoing = Ongoing {
            target: 1,
            source: 0,
            attaching: false,
        };
        let objects = |ongoing: &Ongoing, request: Request| ongoing.objection(&request).is_some();
        assert!(objects(&ongoing, Request::Up { node: 1 }));
        assert!(objects(&ongoing, Request::Down { node: 0 }));
        assert!(!objects(&ongoing, Request::Down { node: 2 }));
        assert!(!objects(&ongoing, Request::Up { node: 2 }));
        assert!(objects(&ongoing, Request::Switchover { node: 2 }));
        assert!(objects(&ongoing, Request::Promote { node: 2 }));
        ongoing.attaching = true;
        assert!(!objects(&ongoing, Request::Up { node: 1 }));
    }
}
