//! Requests to take a node down, to bring it back or to make it the primary: which are allowed, and
//! what is said of them. The rules for a new primary are in [`super::promotion`].
//!
//! Texts and rules of `src/main/pool_internal_comms.c @ V4_3_5`.

use super::promotion;
use crate::{
    cluster::{ClusterView, NodeId, NodeStatus},
    control::Refusal,
    observe::Severity,
};

/// Who asks, and so who the log line is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Main,
    /// A client session.
    Child,
    HealthCheck(NodeId),
    ReplicationCheck,
    Pcp,
    /// What says which standbys are pointed to a new primary; asks for nothing.
    FollowChild,
    /// Another pgpool node, or several together.
    Watchdog,
}

/// What shall happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Down {
        node: NodeId,
    },
    Up {
        node: NodeId,
    },
    /// The primary goes down, and `failover_command` is told to promote this standby.
    Switchover {
        node: NodeId,
    },
    /// The server has been promoted by others: it is the primary here, too.
    Promote {
        node: NodeId,
    },
}

impl Request {
    pub fn node(&self) -> NodeId {
        match *self {
            Request::Down { node }
            | Request::Up { node }
            | Request::Switchover { node }
            | Request::Promote { node } => node,
        }
    }

    /// The words of the log for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Request::Down { .. } => "degenerate backend",
            Request::Up { .. } => "failback",
            Request::Switchover { .. } | Request::Promote { .. } => "promote backend",
        }
    }
}

/// What decides on a request besides the view and what waits.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Shown in texts.
    pub pid: u32,
    /// `failover_command` is not empty.
    pub can_promote: bool,
    /// The node for which `follow_primary_command` runs.
    pub following: Option<NodeId>,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Judged {
    Queue,
    /// The same is already waiting.
    AlreadyQueued,
    /// An attach of a node that is attached: success, with this remark for the log.
    NothingToDo(String),
    Refused(Refusal),
}

/// Looks at a request as the cluster will be when the queue has been worked off.
///
/// `queue`: the requests that wait, in their order.
pub fn judge(request: &Request, view: &ClusterView, queue: &[&Request], facts: Facts) -> Judged {
    let id = request.node();
    let kind = request.kind();
    if matches!(
        request,
        Request::Switchover { .. } | Request::Promote { .. }
    ) {
        return match promotion::obstacle(request, view, queue, facts) {
            Some(refusal) => Judged::Refused(refusal),
            None if queue.contains(&request) => Judged::AlreadyQueued,
            None => Judged::Queue,
        };
    }
    let pid = facts.pid;
    let Some(node) = view.node(id).filter(|n| n.status != NodeStatus::Unused) else {
        let limit = view.nodes.len().saturating_sub(1);
        return Judged::Refused(Refusal::error(format!(
            "invalid {kind} request, node id: {id} is out of range. node id must be between [0 and {limit}]"
        )));
    };
    let waiting = queue.iter().copied().rfind(|queued| {
        matches!(queued, Request::Down { .. } | Request::Up { .. }) && queued.node() == id
    });
    if waiting == Some(request) {
        return Judged::AlreadyQueued;
    }
    let valid_then = match waiting {
        Some(Request::Up { .. }) => true,
        Some(_) => false,
        None if matches!(request, Request::Down { .. }) => view.takes_part(id),
        None => node.is_valid(),
    };
    let code = node.status.code();
    match request {
        Request::Down { .. } if !valid_then && !node.quarantine => {
            Judged::Refused(Refusal::error(format!(
                "invalid degenerate backend request, node id : {id} status: [{code}] is not valid for failover"
            )))
        }
        Request::Down { .. } if node.flag.disallow_to_failover => {
            Judged::Refused(Refusal::error(format!(
                "degenerate backend request for node_id: {id} from pid [{pid}] is canceled because failover is disallowed on the node"
            )))
        }
        Request::Up { .. } if valid_then => Judged::NothingToDo(format!(
            "invalid failback request, status: [{code}] of node id : {id} is invalid for failback"
        )),
        _ => Judged::Queue,
    }
}

/// One line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub source: Source,
    pub severity: Severity,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

impl Entry {
    pub fn log(source: Source, message: impl Into<String>) -> Entry {
        Entry {
            source,
            severity: Severity::Log,
            message: message.into(),
            detail: String::new(),
            hint: String::new(),
        }
    }

    pub fn warning(source: Source, message: impl Into<String>) -> Entry {
        Entry {
            severity: Severity::Warning,
            ..Entry::log(source, message)
        }
    }

    pub fn with_detail(mut self, detail: impl Into<String>) -> Entry {
        self.detail = detail.into();
        self
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> Entry {
        self.hint = hint.into();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::testing::view;

    const FACTS: Facts = Facts {
        pid: 77,
        can_promote: true,
        following: None,
    };

    #[test]
    fn a_spare_of_raw_mode_cannot_be_detached() {
        let raw = |view: &mut ClusterView| view.mode = crate::config::settings::ClusteringMode::Raw;
        assert_eq!(judged(Request::Down { node: 0 }, raw), Judged::Queue);
        let Judged::Refused(refusal) = judged(Request::Down { node: 1 }, raw) else {
            panic!("not refused");
        };
        assert_eq!(
            refusal.message,
            "invalid degenerate backend request, node id : 1 status: [2] is not valid for failover"
        );
    }

    fn judged(request: Request, prepare: impl FnOnce(&mut ClusterView)) -> Judged {
        let mut view = view(3);
        prepare(&mut view);
        judge(&request, &view, &[], FACTS)
    }

    fn refusal(judged: Judged) -> String {
        match judged {
            Judged::Refused(refusal) => refusal.message,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_valid_node_may_go_down_and_a_down_node_may_come_up() {
        assert_eq!(judged(Request::Down { node: 1 }, |_| {}), Judged::Queue);
        assert_eq!(
            judged(Request::Up { node: 1 }, |v| v.nodes[1].status =
                NodeStatus::Down),
            Judged::Queue
        );
    }

    #[test]
    fn a_node_that_is_down_cannot_go_down_again() {
        assert_eq!(
            refusal(judged(Request::Down { node: 1 }, |v| v.nodes[1].status =
                NodeStatus::Down)),
            "invalid degenerate backend request, node id : 1 status: [3] is not valid for failover"
        );
    }

    #[test]
    fn failover_can_be_disallowed_for_a_node() {
        assert_eq!(
            refusal(judged(Request::Down { node: 2 }, |v| v.nodes[2]
                .flag
                .disallow_to_failover =
                true)),
            "degenerate backend request for node_id: 2 from pid [77] is canceled because failover is disallowed on the node"
        );
    }

    #[test]
    fn attaching_an_attached_node_is_success_with_a_remark() {
        assert_eq!(
            judged(Request::Up { node: 1 }, |_| {}),
            Judged::NothingToDo(
                "invalid failback request, status: [2] of node id : 1 is invalid for failback"
                    .into()
            )
        );
    }

    #[test]
    fn numbers_without_a_backend_are_refused() {
        for (request, want) in [
            (
                Request::Down { node: 3 },
                "invalid degenerate backend request, node id: 3 is out of range. node id must be between [0 and 2]",
            ),
            (
                Request::Up { node: 127 },
                "invalid failback request, node id: 127 is out of range. node id must be between [0 and 2]",
            ),
        ] {
            assert_eq!(refusal(judged(request, |_| {})), want);
        }
        assert!(matches!(
            judged(Request::Up { node: 1 }, |v| v.nodes[1].status =
                NodeStatus::Unused),
            Judged::Refused(_)
        ));
    }

    #[test]
    fn requests_are_judged_by_what_waits_before_them() {
        let mut view = view(3);
        view.nodes[1].status = NodeStatus::Down;
        let queue = [&Request::Up { node: 1 }, &Request::Down { node: 2 }];
        let judged = |request| judge(&request, &view, &queue, FACTS);
        assert_eq!(judged(Request::Up { node: 1 }), Judged::AlreadyQueued);
        assert_eq!(judged(Request::Down { node: 1 }), Judged::Queue);
        assert_eq!(judged(Request::Down { node: 2 }), Judged::AlreadyQueued);
        assert_eq!(judged(Request::Up { node: 2 }), Judged::Queue);
    }
}
