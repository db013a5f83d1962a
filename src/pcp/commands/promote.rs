//! `pcp_promote_node`: what depends on the release of the tools is answered here, the rest by the
//! supervisor ([`crate::failover::promotion`]).

use super::{Environment, Outcome};
use crate::{
    cluster::NodeStatus,
    config::{Release, settings::ClusteringMode},
    control::Command,
    pcp::request::{Number, PromoteOption},
};

/// The reply letter is that of a detach, as in the original.
pub async fn promote(
    env: &Environment,
    number: &Number,
    graceful: bool,
    option: PromoteOption,
) -> Outcome {
    let id = number.value;
    let old = env.emulates_before(Release::V4_3);
    let view = env.shared.view.load_full();
    let node = env.node(number).filter(|&node| {
        view.node(node)
            .is_some_and(|n| n.status != NodeStatus::Unused)
    });
    let Some(node) = node else {
        return Outcome::error(
            if old {
                "could not process recovery request"
            } else {
                "could not process promote request"
            },
            format!("node id {id} is not valid"),
        );
    };
    if view.mode != ClusteringMode::StreamingReplication {
        return Outcome::fatal(
            if old {
                "invalid pgpool mode for process recovery request"
            } else {
                "invalid pgpool mode for process promote request"
            },
            format!("not in streaming replication mode, can't promote node id {id}"),
        );
    }
    if view.primary == Some(node) {
        return Outcome::fatal(
            if old {
                "invalid pgpool mode for process recovery request"
            } else {
                "invalid promote request"
            },
            format!("specified node is already primary node, can't promote node id {id}"),
        );
    }
    let switchover = option == PromoteOption::Switchover;
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
