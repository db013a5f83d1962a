//! Runs the health check of one node: timer, one probe at a time, statistics.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::JoinHandle, time::sleep_until};

use super::{
    core::{Action, Event, HealthCheck, NodeState, Outcome, Settings},
    evidence::Evidence,
    probe::probe,
};
use crate::{
    cluster::NodeId,
    config::{Config, settings::ClusteringMode},
    control::{Report, Shared},
    failover::core::Now,
    observe::Reporter,
};

/// The supervisor's end of a health check. Dropping it ends the check.
pub struct Handle {
    events: mpsc::UnboundedSender<Event>,
    task: JoinHandle<()>,
}

impl Handle {
    pub fn send(&self, event: Event) {
        // The task lives as long as the handle.
        let _ = self.events.send(event);
    }

    /// The configuration was read again.
    pub fn reload(&self, config: &Config, node: NodeId) {
        self.send(Event::Changed(settings(config, node)));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts the check of `node` on the current thread; the first probe is at once.
///
/// `busy` tells whether a failover is going on, or a script that works on nodes that are down.
pub fn spawn(
    shared: Arc<Shared>,
    node: NodeId,
    busy: tokio::sync::watch::Receiver<bool>,
) -> Handle {
    let (events, receiver) = mpsc::unbounded_channel();
    let task = tokio::task::spawn_local(run(shared, node, busy, receiver));
    Handle { events, task }
}

/// What decides, of the configuration.
pub fn settings(config: &Config, node: NodeId) -> Settings {
    let settings = &config.settings;
    let backend = settings.backends.get(node).cloned().unwrap_or_default();
    let streaming = settings.clustering_mode == ClusteringMode::StreamingReplication;
    Settings {
        period: backend.health_check.period,
        max_retries: backend.health_check.max_retries,
        retry_delay: backend.health_check.retry_delay,
        disallow_to_failover: backend.flag.disallow_to_failover,
        auto_failback: (settings.auto_failback && streaming)
            .then_some(settings.auto_failback_interval),
    }
}

/// Between two looks at the clock while a probe goes on.
const TICK: Duration = Duration::from_millis(250);
/// A look at the clock that is so much late says that this process was stopped.
const LATE: Duration = Duration::from_secs(1);

/// The outcome of `probe`, unless its time was up while this process could not look: a machine that
/// was suspended or a process that was stopped knows nothing of the servers.
async fn watched(probe: impl Future<Output = Outcome>) -> Outcome {
    let mut probe = std::pin::pin!(probe);
    let mut last = Instant::now();
    loop {
        let outcome = tokio::select! {
            biased;
            outcome = &mut probe => outcome,
            () = tokio::time::sleep(TICK) => {
                last = Instant::now();
                continue;
            }
        };
        let late = last.elapsed().saturating_sub(TICK);
        return match outcome {
            Outcome::NoAnswer { .. } if late >= LATE => Outcome::HeldUp {
                seconds: late.as_secs(),
            },
            outcome => outcome,
        };
    }
}

/// The number, what came out, and a failure in words.
type Probe = Pin<Box<dyn Future<Output = (u64, Outcome, String)>>>;

async fn run(
    shared: Arc<Shared>,
    node: NodeId,
    busy: tokio::sync::watch::Receiver<bool>,
    mut events: mpsc::UnboundedReceiver<Event>,
) {
    let reporter = Reporter::new(format!("health_check{node}"));
    let stats = shared
        .health
        .get(node)
        .map(|stats| lock(stats).clone())
        .unwrap_or_default();
    let mut check = HealthCheck::new(node, settings(&shared.config.load(), node), stats);
    let mut wake_at = Some(tokio::time::Instant::now());
    let mut probing: Option<Probe> = None;
    let mut evidence = Evidence::default();
    // Version of the view when the latest probe began.
    let mut seen = 0;
    loop {
        let timer = async {
            match wake_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let answer = async {
            match &mut probing {
                Some(probe) => probe.await,
                None => std::future::pending().await,
            }
        };
        let mut said = String::new();
        // An attach must be known before the answer of a probe that began earlier.
        let event = tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(event) => event,
                None => return,
            },
            (probe, outcome, words) = answer => {
                probing = None;
                said = words;
                Event::Probed { probe, outcome }
            }
            () = timer => {
                wake_at = None;
                Event::Timer
            }
        };
        evidence.note(&event, &said, std::time::Instant::now());
        let state = state_of(&shared, node);
        let going_on = *busy.borrow();
        for action in check.handle(event, state, going_on, Now::of_the_machine()) {
            match action {
                Action::Log(entry) => {
                    reporter.emit(entry.severity, &entry.message, &entry.detail, &entry.hint);
                }
                Action::Probe {
                    probe: number,
                    within,
                } => {
                    wake_at = None;
                    seen = shared.view.load().version;
                    let (shared, reporter) = (Arc::clone(&shared), reporter.clone());
                    probing = Some(Box::pin(async move {
                        let mut words = String::new();
                        let looked = async {
                            let (outcome, said) = probe(&shared, node, within, &reporter).await;
                            words = said;
                            outcome
                        };
                        let outcome = watched(looked).await;
                        (number, outcome, words)
                    }));
                }
                Action::WakeAt(at) => wake_at = Some(at.into()),
                Action::Sleep => wake_at = None,
                Action::ReportDown { timed_out } => shared.report(Report::HealthCheckFailed {
                    node,
                    timed_out,
                    evidence: evidence.take(std::time::Instant::now()),
                    view_version: seen,
                }),
                Action::ReportUp => shared.report(Report::AutoFailback { node }),
            }
        }
        if let Some(stats) = shared.health.get(node) {
            lock(stats).clone_from(check.stats());
        }
    }
}

fn state_of(shared: &Shared, node: NodeId) -> NodeState {
    let replication = shared.replication.load();
    let state = replication.get(node).map_or("", |r| r.state.as_str());
    let view = shared.view.load();
    view.node(node).map_or(NodeState::Unused, |n| {
        if n.is_valid() && !view.takes_part(node) {
            NodeState::Spare
        } else {
            NodeState::of(n.status, n.quarantine, state)
        }
    })
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn silent_server() -> Outcome {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Outcome::NoAnswer { timed_out: true }
    }

    #[tokio::test]
    async fn a_time_limit_that_passed_while_the_process_was_stopped_says_nothing() {
        let stopped = async {
            tokio::task::yield_now().await;
            // Nothing of this thread runs, as after SIGSTOP.
            std::thread::sleep(TICK + LATE + Duration::from_millis(100));
            Outcome::NoAnswer { timed_out: true }
        };
        assert_eq!(watched(stopped).await, Outcome::HeldUp { seconds: 1 });
        let outcome = watched(silent_server()).await;
        assert_eq!(outcome, Outcome::NoAnswer { timed_out: true });
    }
}
