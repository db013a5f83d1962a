//! The watchdog and the supervisor: what the one wants of the other.

use std::time::Duration;

use tokio::time::Instant;

use super::Supervisor;
use crate::{
    cluster::{ClusterView, NodeStatus},
    failover::core::Event,
    watchdog::{
        codec::status::{BackendStatus, RemoteStatus},
        shell::Wish,
    },
};

/// How long a standby waits for the leader's picture of the backends before it starts with its own.
const PICTURE: Duration = Duration::from_secs(5);

/// What a start waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The watchdog has to lead or to join first.
    Joining,
    /// It has joined: the leader tells how the backends are, at the latest then.
    Picture(Instant),
    Begun,
}

impl Supervisor {
    /// Begins at once without a watchdog.
    pub(super) async fn start(&mut self) {
        if self.watchdog.is_none() {
            return self.begin().await;
        }
        self.reporter
            .log("waiting for watchdog to initialize, clients are served when this node leads or has joined");
    }

    async fn begin(&mut self) {
        if self.start != Start::Begun {
            self.start = Start::Begun;
            self.event(Event::Start).await;
        }
    }

    /// When [`Supervisor::picture_is_late`] has to be called.
    pub(super) fn start_by(&self) -> Option<Instant> {
        match self.start {
            Start::Picture(until) => Some(until),
            Start::Joining | Start::Begun => None,
        }
    }

    pub(super) async fn picture_is_late(&mut self) {
        self.reporter
            .warning("the watchdog's leader has not told how the backends are: starting with what is known here");
        self.begin().await;
    }

    pub(super) async fn wish(&mut self, wish: Wish) {
        match wish {
            Wish::Settled { leads } => {
                self.reporter.log("watchdog process is initialized");
                if leads {
                    self.begin().await;
                } else if self.start == Start::Joining {
                    self.start = Start::Picture(Instant::now() + PICTURE);
                }
            }
            Wish::Adopt(_) => {
                self.begin().await;
            }
            _ => {}
        }
    }

    /// The watchdog answers other nodes with this.
    pub(super) fn tell_watchdog(&self) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.backends(backend_status(self.core.view(), self.start == Start::Begun));
        }
    }
}

/// As the watchdog tells it; `started`: the primary has been looked for.
pub fn backend_status(view: &ClusterView, started: bool) -> BackendStatus {
    let nodes = view.nodes.iter().map(|node| match node.status {
        _ if node.quarantine => RemoteStatus::Waiting,
        NodeStatus::Unused => RemoteStatus::Unused,
        NodeStatus::Waiting => RemoteStatus::Waiting,
        NodeStatus::Up => RemoteStatus::Up,
        NodeStatus::Down => RemoteStatus::Down,
    });
    BackendStatus {
        nodes: nodes.collect(),
        primary: match view.primary {
            Some(primary) => i32::try_from(primary).unwrap_or(-1),
            None if started => -1,
            None => -2,
        },
        node_name: String::new(),
    }
}
