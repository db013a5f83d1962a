//! `pcp_promote_node`: what depends on the release of the tools is answered here, the rest by the
//! supervisor ([`crate::failover::promotion`]).

use super::{Environment, Outcome};
use crate::{
    cluster::{NodeId, NodeStatus},
    config::{Release, settings::ClusteringMode},
    control::Command,
    events::Kind,
    pcp::{
        codec::Notice,
        request::{Number, PromoteOption},
    },
};

/// The reply letter is that of a detach, as in the original.
pub async fn promote(
    env: &Environment,
    number: &Number,
    graceful: bool,
    option: PromoteOption,
) -> Outcome {
    let switchover = option == PromoteOption::Switchover;
    let node = match candidate(env, number) {
        Ok(node) => node,
        Err(notice) => {
            let kind = if switchover {
                Kind::Switchover
            } else {
                Kind::Promotion
            };
            return env.refused(kind, number, notice);
        }
    };
    env.log(&match (graceful, switchover) {
        (false, true) => format!("switchover to node {node}"),
        (true, true) => format!("graceful switchover to node {node}"),
        (false, false) => format!("promotion of node {node}"),
        (true, false) => format!("graceful promotion of node {node}"),
    });
    let answer = env.ask(|reply| Command::Promote {
        node,
        switchover,
        graceful,
        reply,
    });
    Outcome::of(answer.await, b'd')
}

/// The node, unless something in the request forbids it; the texts are those of the emulated release.
fn candidate(env: &Environment, number: &Number) -> Result<NodeId, Notice> {
    let id = number.value;
    let old = env.emulates_before(Release::V4_3);
    let text = |old_text, new_text| if old { old_text } else { new_text };
    let view = env.shared.view.load_full();
    let is_used = |&node: &NodeId| {
        view.node(node)
            .is_some_and(|n| n.status != NodeStatus::Unused)
    };
    let Some(node) = env.node(number).filter(is_used) else {
        return Err(Notice::error(
            text(
                "could not process recovery request",
                "could not process promote request",
            ),
            format!("node id {id} is not valid"),
        ));
    };
    if view.mode != ClusteringMode::StreamingReplication {
        return Err(Notice::fatal(
            text(
                "invalid pgpool mode for process recovery request",
                "invalid pgpool mode for process promote request",
            ),
            format!("not in streaming replication mode, can't promote node id {id}"),
        ));
    }
    if view.primary == Some(node) {
        return Err(Notice::fatal(
            text(
                "invalid pgpool mode for process recovery request",
                "invalid promote request",
            ),
            format!("specified node is already primary node, can't promote node id {id}"),
        ));
    }
    Ok(node)
}
