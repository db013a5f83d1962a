//! Node count, node info, health check statistics, attach, detach, recovery.

use super::{Environment, Outcome, compat_version};
use crate::{
    admin::{Inputs, NodeProbe, words},
    cluster::NodeStatus,
    config::Release,
    control::{Command, Shared},
    events::Kind,
    observe::Severity,
    pcp::{
        codec::{self, Notice},
        layout::{NodeInfoLayout, NodeRow, StandbyDelay},
        request::Number,
    },
};

/// Node ids end before this in every release; the range texts of the original name it.
const MAX_NODES: i32 = 128;

pub fn count(env: &Environment) -> Outcome {
    let nodes = env.shared.view.load().nodes.len();
    let mut outcome = Outcome::made(|out| {
        codec::put_texts(out, b'l', &["CommandComplete", &nodes.to_string()]);
    });
    if let Outcome::Reply { remark, .. } = &mut outcome {
        *remark = Some(Notice::new(
            Severity::Debug1,
            "PCP: informing node count",
            format!("{nodes} node(s) found"),
        ));
    }
    outcome
}

pub async fn info(env: &Environment, number: &Number) -> Outcome {
    let version = env.compat();
    let (layout, only) = match env.node(number) {
        Some(node) => (NodeInfoLayout::of(version), Some(node)),
        None if number.value == -1 => (NodeInfoLayout::for_all_nodes(version), None),
        None => {
            let detail = if version.release < Release::V4_3 {
                "invalid node ID".to_owned()
            } else {
                format!("invalid node ID : {}", number.text)
            };
            return Outcome::error("informing node info failed", detail);
        }
    };
    let live_words = layout.has_live_words() && !compat_version::hides_live_words(&env.config());
    let inputs = if live_words {
        Inputs::gather_with_probes(&env.shared).await
    } else {
        env.inputs().await
    };
    let nodes = match only {
        Some(node) => node..node + 1,
        None => 0..inputs.view.nodes.len(),
    };
    let rows: Vec<NodeRow<'_>> = nodes
        .filter_map(|node| row(&inputs, node, live_words))
        .collect();
    Outcome::made(|out| layout.encode(out, &rows))
}

fn row(inputs: &Inputs, id: usize, live_words: bool) -> Option<NodeRow<'_>> {
    const UNKNOWN: NodeProbe = NodeProbe {
        pg_status: "unknown",
        pg_role: "unknown",
    };
    let node = inputs.view.nodes.get(id)?;
    let replication = inputs.replication.get(id);
    let probe = if live_words {
        inputs.probes.get(id).copied().unwrap_or(UNKNOWN)
    } else {
        NodeProbe {
            pg_status: "",
            pg_role: "",
        }
    };
    let by_time = inputs.config.settings.delay_threshold_by_time.is_some();
    Some(NodeRow {
        hostname: &node.hostname,
        port: node.port,
        status: node.status.code(),
        quarantine: node.quarantine,
        pg_status: probe.pg_status,
        weight: node.weight,
        role: words::role_code(&inputs.view, id),
        pg_role: probe.pg_role,
        delay: StandbyDelay {
            bytes: replication.map_or(0, |r| r.delay_bytes),
            microseconds: by_time.then(|| replication.map_or(0, |r| r.delay_time.as_micros())),
        },
        replication_state: replication.map_or("", |r| &r.state),
        replication_sync_state: replication.map_or("", |r| &r.sync_state),
        status_changed: node.status_changed,
    })
}

pub async fn health_check_stats(env: &Environment, number: &Number) -> Outcome {
    const FAILED: &str = "informing health check stats info failed";
    let Some(node) = env.node(number) else {
        let n = number.value;
        let count = env.shared.view.load().nodes.len();
        // The original lets the first id behind the last node pass its range check.
        return Outcome::error(
            FAILED,
            if usize::try_from(n).is_ok_and(|n| n == count) {
                format!("stats data for node ID {n} does not exist")
            } else {
                format!("invalid node ID {n}")
            },
        );
    };
    let inputs = env.inputs().await;
    let mut texts = vec!["CommandComplete".to_owned()];
    texts.extend(inputs.health_check_stats_row(node));
    Outcome::made(|out| codec::put_texts(out, b'h', &texts))
}

pub async fn attach(env: &Environment, number: &Number) -> Outcome {
    let node = match configured(&env.shared, number, "failback") {
        Ok(node) => node,
        Err(notice) => return env.refused(Kind::Failback, number, notice),
    };
    env.log(&format!("attach of node {node}"));
    Outcome::of(env.ask(|reply| Command::Attach { node, reply }).await, b'c')
}

pub async fn detach(env: &Environment, number: &Number, graceful: bool) -> Outcome {
    let node = match configured(&env.shared, number, "degenerate backend") {
        Ok(node) => node,
        Err(notice) => return env.refused(Kind::Failover, number, notice),
    };
    let how = if graceful {
        "graceful detach"
    } else {
        "detach"
    };
    env.log(&format!("{how} of node {node}"));
    let answer = env.ask(|reply| Command::Detach {
        node,
        graceful,
        reply,
    });
    Outcome::of(answer.await, b'd')
}

/// The original answers success for ids that no backend has; here they are an error.
fn configured(shared: &Shared, number: &Number, request: &str) -> Result<usize, Notice> {
    let id = number.value;
    let view = shared.view.load();
    let node = usize::try_from(id)
        .ok()
        .filter(|&node| matches!(view.nodes.get(node), Some(n) if n.status != NodeStatus::Unused));
    node.ok_or_else(|| {
        // Ids that no release can have get the original's text; for the others the true limit helps.
        let last = if (0..MAX_NODES).contains(&id) {
            view.nodes.len().saturating_sub(1).to_string()
        } else {
            MAX_NODES.to_string()
        };
        Notice::error(
            format!(
                "invalid {request} request, node id: {id} is out of range. node id must be between [0 and {last}]"
            ),
            "",
        )
    })
}

/// Answered at the end of the recovery, however long that takes.
pub async fn recover(env: &Environment, number: &Number) -> Outcome {
    let Some(node) = env.node(number) else {
        let notice = Notice::error(
            "process recovery request failed",
            format!("node id {} is not valid", number.value),
        );
        return env.refused(Kind::Recovery, number, notice);
    };
    env.log(&format!("recovery of node {node}"));
    Outcome::of(
        env.ask(|reply| Command::Recover { node, reply }).await,
        b'c',
    )
}
