//! Runs the replication check: asks all valid nodes each `sr_check_period`, publishes what they said.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use super::core::{
    CONTEXT, Sample, Settings, evaluate, lsn_query, parse_lsn, senders, senders_query,
};
use crate::{
    cluster::{ClusterView, NodeId, NodeReplication},
    config::{Config, settings::ClusteringMode},
    control::{
        Report, Shared,
        backend_client::{Client, QueryError, failure_line},
    },
    failover::{
        ask::{LIMIT, connect, question, single},
        search::{self, Answer, Verdict},
    },
    observe::Reporter,
};

/// The supervisor's end. Dropping it ends the check.
pub struct Handle {
    wake: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Handle {
    /// Begin a new round now: roles or settings have changed.
    pub fn restart(&self) {
        self.wake.notify_one();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts the check on the current thread. `busy`: a failover is going on, rounds are skipped.
pub fn spawn(shared: Arc<Shared>, busy: watch::Receiver<bool>) -> Handle {
    let wake = Arc::new(Notify::new());
    let task = tokio::task::spawn_local(run(shared, busy, Arc::clone(&wake)));
    Handle { wake, task }
}

async fn run(shared: Arc<Shared>, busy: watch::Receiver<bool>, wake: Arc<Notify>) {
    let reporter = Reporter::new("sr_check_worker");
    let mut versions = HashMap::new();
    loop {
        let config = shared.config.load_full();
        let period = config.settings.sr_check_period;
        let streaming = config.settings.clustering_mode == ClusteringMode::StreamingReplication;
        if period.is_some() && streaming && !*busy.borrow() {
            round(&shared, &busy, &config, &mut versions, &reporter).await;
        }
        tokio::select! {
            () = wake.notified() => {
                // What was published belongs to the roles before.
                if config.settings.sr_check_period.is_none() {
                    clear(&shared);
                }
            }
            () = pause(period) => {}
        }
    }
}

async fn pause(period: Option<Duration>) {
    match period {
        Some(period) => sleep(period).await,
        // A reload wakes us up.
        None => std::future::pending().await,
    }
}

fn clear(shared: &Shared) {
    let count = shared.view.load().nodes.len();
    shared
        .replication
        .store(Arc::new(vec![NodeReplication::default(); count]));
}

/// A node in a round: its connection, or why there is none, and what it said so far.
struct Asked {
    node: NodeId,
    client: Option<Client>,
    sample: Sample,
}

async fn round(
    shared: &Arc<Shared>,
    busy: &watch::Receiver<bool>,
    config: &Config,
    versions: &mut HashMap<NodeId, u32>,
    reporter: &Reporter,
) {
    let view = shared.view.load_full();
    let settings = Settings {
        dialect: config.dialect,
        delay_threshold: config.settings.delay_threshold,
        delay_threshold_by_time: config.settings.delay_threshold_by_time,
        log_standby_delay: config.settings.log_standby_delay,
    };
    let mut nodes = connect_all(shared, &view).await;
    let alone = view.valid_nodes().count() <= 1 && view.nodes.len() <= 1;
    if let Some(primary) = view.primary.filter(|&p| view.is_valid(p) && !alone) {
        for asked in &mut nodes {
            measure(asked, primary, versions).await;
        }
        if let Some(asked) = nodes.iter_mut().find(|a| a.node == primary) {
            list_senders(asked, versions).await;
        }
    }
    let judged = roles(&mut nodes, &view, config.settings.detach_false_primary).await;
    let mut samples: Vec<Option<Sample>> = vec![None; view.nodes.len()];
    for asked in nodes {
        if let Some(client) = asked.client {
            client.close().await;
        }
        if let Some(slot) = samples.get_mut(asked.node) {
            *slot = Some(asked.sample);
        }
    }
    // A failover has begun meanwhile: what we saw may be of before it.
    if *busy.borrow() || shared.view.load().version != view.version {
        return;
    }
    let (replication, lines) = evaluate(&samples, &view, &settings);
    shared.replication.store(Arc::new(replication));
    for line in lines {
        reporter.emit_with_context(
            line.severity,
            &line.message,
            &line.detail,
            &line.hint,
            CONTEXT,
        );
    }
    if roles_differ(&view, &judged) {
        shared.report(Report::RolesDiffer {
            view_version: view.version,
        });
    }
    report_false_primaries(shared, config, &view, &judged, reporter);
}

async fn connect_all(shared: &Arc<Shared>, view: &ClusterView) -> Vec<Asked> {
    let mut tasks = JoinSet::new();
    for node in view.valid_nodes() {
        let shared = Arc::clone(shared);
        tasks.spawn_local(async move { (node, connect(&shared, node).await) });
    }
    let mut nodes: Vec<Asked> = tasks
        .join_all()
        .await
        .into_iter()
        .map(|(node, result)| match result {
            Ok(client) => Asked {
                node,
                client: Some(client),
                sample: Sample::default(),
            },
            Err((address, failure)) => Asked {
                node,
                client: None,
                sample: Sample {
                    unreachable: Some(failure_line(&address, &failure)),
                    ..Sample::default()
                },
            },
        })
        .collect();
    nodes.sort_by_key(|asked| asked.node);
    nodes
}

/// The version, once per node, and the position in the WAL.
async fn measure(asked: &mut Asked, primary: NodeId, versions: &mut HashMap<NodeId, u32>) {
    let node = asked.node;
    let version = match versions.get(&node) {
        Some(&version) => version,
        None => {
            let sql = "SELECT pg_catalog.current_setting('server_version_num')";
            match value(asked, sql).await.and_then(|text| text.parse().ok()) {
                Some(version) => *versions.entry(node).or_insert(version),
                None => return,
            }
        }
    };
    asked.sample.lsn = value(asked, lsn_query(version, node == primary))
        .await
        .and_then(|text| parse_lsn(&text));
}

async fn list_senders(asked: &mut Asked, versions: &HashMap<NodeId, u32>) {
    let sql = versions
        .get(&asked.node)
        .and_then(|&version| senders_query(version));
    if let (Some(client), Some(sql)) = (&mut asked.client, sql) {
        match client.query(sql, LIMIT).await {
            Ok(rows) => asked.sample.senders = senders(rows),
            Err(error) => failed(asked, error),
        }
    }
}

async fn value(asked: &mut Asked, sql: &str) -> Option<String> {
    let client = asked.client.as_mut()?;
    match single(client, sql).await {
        Ok(value) => value,
        Err(error) => {
            failed(asked, error);
            None
        }
    }
}

fn failed(asked: &mut Asked, error: QueryError) {
    asked.sample.error = Some(error.to_string());
    if matches!(error, QueryError::Lost(_)) {
        asked.client = None;
    }
}

async fn roles(
    nodes: &mut [Asked],
    view: &ClusterView,
    detach_false_primary: bool,
) -> search::Judgement {
    let mut answers: Vec<Option<Answer>> = vec![None; view.nodes.len()];
    for asked in nodes {
        let answer = match &mut asked.client {
            Some(client) => question(client, detach_false_primary).await,
            None => continue,
        };
        if matches!(answer, Answer::Unreachable(_)) {
            asked.client = None;
        }
        if let Some(slot) = answers.get_mut(asked.node) {
            *slot = Some(answer);
        }
    }
    let known = view.primary.filter(|&p| view.is_valid(p));
    search::judge(&answers, view, known, detach_false_primary)
}

/// A server was promoted, or made a standby, by others than us.
fn roles_differ(view: &ClusterView, judged: &search::Judgement) -> bool {
    let says = |verdict| judged.verdicts.contains(&verdict);
    // An operator's ALWAYS_PRIMARY is never doubted.
    if view.nodes.iter().any(|n| n.flag.always_primary) {
        return false;
    }
    match view.primary {
        None => says(Verdict::Primary),
        Some(primary) => judged.verdicts.get(primary) == Some(&Verdict::Standby),
    }
}

fn report_false_primaries(
    shared: &Shared,
    config: &Config,
    view: &ClusterView,
    judged: &search::Judgement,
    reporter: &Reporter,
) {
    for remark in &judged.remarks {
        reporter.log(remark);
    }
    for (node, verdict) in judged.verdicts.iter().enumerate() {
        reporter.debug1(format_args!("node status[{node}]: {}", *verdict as u8));
        if *verdict == Verdict::Invalid {
            reporter.log(format_args!(
                "pgpool_worker_child: invalid node found {node}"
            ));
            if config.settings.detach_false_primary {
                shared.report(Report::FalsePrimary {
                    node,
                    evidence: judged.remarks.join("; "),
                    view_version: view.version,
                });
            }
        }
    }
}
