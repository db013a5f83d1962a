//! What goes to the supervisor, which alone changes the state of the cluster.

use tokio::sync::oneshot;

use crate::{
    cluster::NodeId,
    failover::request::Request,
    observe::{Severity, in_one_line},
    watchdog::shell::Wish,
};

/// What the supervisor receives.
#[derive(Debug)]
pub enum SupervisorMessage {
    Report(Report),
    Command(Command),
    /// A command of somebody whom the history of events names.
    Asked {
        by: String,
        command: Command,
    },
    Watchdog(Wish),
}

/// Observations of data plane and checks. Nobody waits for an answer.
#[derive(Debug)]
pub enum Report {
    /// A session could not connect to a node, or a backend socket failed with an error (not EOF).
    /// Becomes a DOWN request when `failover_on_backend_error` is on.
    BackendError { node: NodeId, reason: String },
    /// A backend said 57P01 or 57P02 and closed: look at the node at once.
    /// `fatal`: by a FATAL error; else by a warning (immediate shutdown) and the end of the connection.
    BackendShutdown {
        node: NodeId,
        sqlstate: String,
        fatal: bool,
    },
    /// The server's end of a connection that a session works on is gone, and nothing was said
    /// before. `error` of the socket; `None`: closed.
    BackendCut { node: NodeId, error: Option<String> },
    /// The first session has used a waiting node: waiting becomes up.
    NodeUsed { node: NodeId },
    /// A health check failed after its last retry, or a look found the node gone.
    HealthCheckFailed {
        node: NodeId,
        timed_out: bool,
        /// What was seen, for the history of events.
        evidence: String,
        /// Of the view when the probe began.
        view_version: u64,
    },
    /// A health check of a node that is down succeeded and `auto_failback` allows an attach.
    AutoFailback { node: NodeId },
    /// The replication check sees a primary where none is known, or a standby in its place.
    RolesDiffer {
        /// Of the view when the servers were asked.
        view_version: u64,
    },
    /// The replication check found a primary that does not feed the standbys, with `detach_false_primary`.
    FalsePrimary {
        node: NodeId,
        /// What was seen, for the history of events.
        evidence: String,
        /// Of the view when the servers were asked.
        view_version: u64,
    },
}

/// Requests of operators; each is answered.
#[derive(Debug)]
pub enum Command {
    Attach {
        node: NodeId,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Plain detach is answered when queued; a graceful one when the clients are gone or time is up.
    Detach {
        node: NodeId,
        graceful: bool,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Answered when the node is recovered and attached, or has not been.
    Recover {
        node: NodeId,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Answered when queued, after the node's server has been asked what it is, and after the clients
    /// are gone or time is up where that is wanted.
    Promote {
        node: NodeId,
        /// `failover_command` shall promote it in place of the primary; else it is the primary already.
        switchover: bool,
        graceful: bool,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    Reload {
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    Stop {
        mode: StopMode,
    },
    /// What these requests would lead to, one after the other, in lines to print. Changes nothing.
    WhatIf {
        requests: Vec<Request>,
        reply: oneshot::Sender<Vec<String>>,
    },
    /// The process is about to end, and so are commands that follow a new primary, by this signal.
    Stopping {
        /// Told when the next start would know what is left.
        done: oneshot::Sender<()>,
        signal: i32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits until the clients have left.
    Smart,
    /// Cuts the sessions.
    Fast,
    Immediate,
}

/// Why a command was not carried out, in the words that the PCP tools print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub severity: Severity,
    pub message: String,
    pub detail: String,
}

impl Refusal {
    pub fn error(message: impl Into<String>) -> Refusal {
        Refusal {
            severity: Severity::Error,
            message: message.into(),
            detail: String::new(),
        }
    }

    pub fn in_one_line(&self) -> String {
        in_one_line(&self.message, &self.detail)
    }
}
