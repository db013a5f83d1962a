//! Who may be made the primary by `pcp_promote_node`, and why not.
//!
//! The original answers success to nearly everything and says in its log, or nowhere, that nothing
//! came of it. Here what is known to be impossible is refused before anything is changed. Without
//! `--switchover` the original calls the node the primary without asking it, and writes then reach a
//! standby; here the server has to say that it is one (`pcp_promote_node` never promotes it).

use super::{
    request::{Facts, Request},
    search::Answer,
};
use crate::{
    cluster::{ClusterView, NodeId, NodeStatus},
    config::settings::ClusteringMode,
    control::Refusal,
};

const REFUSED: &str = "invalid promote request";

/// Why the node of a promotion cannot become the primary, as far as it is known without asking its
/// server. `None`: nothing is in the way.
///
/// `queue`: the requests that wait, in their order.
pub fn obstacle(
    request: &Request,
    view: &ClusterView,
    queue: &[&Request],
    facts: Facts,
) -> Option<Refusal> {
    let id = request.node();
    let Some(node) = view.node(id).filter(|n| n.status != NodeStatus::Unused) else {
        return Some(refusal(
            "could not process promote request",
            format!("node id {id} is not valid"),
        ));
    };
    let because = |why: String| Some(refusal(REFUSED, why));
    if view.mode != ClusteringMode::StreamingReplication {
        return because(format!(
            "not in streaming replication mode, can't promote node id {id}"
        ));
    }
    if !node.is_valid() {
        return because(format!(
            "node id {id} is down, can't promote it; attach it first (pcp_attach_node)"
        ));
    }
    if view.primary == Some(id) {
        return because(format!(
            "specified node is already primary node, can't promote node id {id}"
        ));
    }
    if let Some(flagged) = view.nodes.iter().find(|n| n.flag.always_primary) {
        return because(format!(
            "node id {} has the flag ALWAYS_PRIMARY, so no other node can be the primary",
            flagged.id
        ));
    }
    if let Some(other) = facts.following {
        return because(format!(
            "follow_primary_command still runs for node id {other}; wait until it has ended, or end it"
        ));
    }
    let goes_down = |node: NodeId| queue.contains(&&Request::Down { node });
    if goes_down(id) || view.primary.is_some_and(goes_down) {
        return because(format!(
            "a failover waits that changes the nodes, can't promote node id {id} now"
        ));
    }
    let another = |queued: &&&Request| {
        **queued != request
            && matches!(queued, Request::Switchover { .. } | Request::Promote { .. })
    };
    if let Some(waiting) = queue.iter().find(another) {
        return because(format!(
            "a promotion of node id {} waits already",
            waiting.node()
        ));
    }
    match request {
        Request::Switchover { .. } => switchover_obstacle(id, view, facts),
        _ => None,
    }
}

fn switchover_obstacle(id: NodeId, view: &ClusterView, facts: Facts) -> Option<Refusal> {
    let Some(primary) = view.primary.and_then(|id| view.node(id)) else {
        return Some(refusal(
            REFUSED,
            format!("no primary node is known that node id {id} could take over from"),
        ));
    };
    if primary.flag.disallow_to_failover {
        return Some(Refusal::error(format!(
            "degenerate backend request for node_id: {} from pid [{}] is canceled because failover is disallowed on the node",
            primary.id, facts.pid
        )));
    }
    (!facts.can_promote).then(|| {
        refusal(
            REFUSED,
            format!("failover_command is empty, so nothing would promote node id {id}"),
        )
    })
}

/// Whether what the server says of itself fits the request.
///
/// # Errors
///
/// Why not, for the one who asked.
pub fn check_candidate(request: &Request, answer: &Answer) -> Result<(), Refusal> {
    let id = request.node();
    let is_switchover = matches!(request, Request::Switchover { .. });
    let why = match answer {
        Answer::Standby(_) if is_switchover => return Ok(()),
        Answer::Primary if !is_switchover => return Ok(()),
        Answer::Primary => format!(
            "the server of node id {id} is no standby any more; without --switchover, pcp_promote_node makes it the primary node of pgpool"
        ),
        Answer::Standby(_) => format!(
            "the server of node id {id} is a standby, and pcp_promote_node does not promote it: use --switchover, or promote it in PostgreSQL first"
        ),
        Answer::Unreachable(why) | Answer::Refused(why) => {
            format!("the server of node id {id} cannot be asked what it is: {why}")
        }
    };
    Err(refusal(REFUSED, why))
}

fn refusal(message: &str, detail: String) -> Refusal {
    Refusal {
        detail,
        ..Refusal::error(message)
    }
}
