//! Replies to the commands of an authenticated client.
//!
//! Facts come from [`Inputs`], changes go to the supervisor as
//! [`crate::control::Command`]; nothing here touches the connection.

mod nodes;
mod processes;
mod promote;
mod server;

use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::oneshot;

use super::{
    ServerContext,
    codec::{self, Notice},
    compat_version,
    request::{Command, Number},
};
use crate::{
    admin::Inputs,
    config::{Config, Release, settings::CompatVersion},
    control::{self, Refusal, Shared, StopMode, SupervisorMessage},
    events::{self, Note, Step},
    observe::{Reporter, in_one_line},
};

/// What a command needs besides its own words.
pub struct Environment {
    pub shared: Arc<Shared>,
    pub context: ServerContext,
    /// User and address of the client, for the log.
    pub client: String,
}

/// What becomes of a command.
pub enum Outcome {
    Reply {
        bytes: BytesMut,
        /// For clients that asked for debug messages.
        remark: Option<Notice>,
    },
    /// A long reply, made piece by piece while the client reads it.
    Stream(Box<dyn Iterator<Item = BytesMut> + Send>),
    Refused(Notice),
    /// Send the reply, then tell the supervisor.
    Stop {
        reply: BytesMut,
        mode: StopMode,
    },
}

/// Carries a command out; returns when its reply is known. Other connections go on meanwhile.
pub async fn run(command: Command, env: &Environment) -> Outcome {
    match command {
        Command::NodeCount => nodes::count(env),
        Command::NodeInfo(node) => nodes::info(env, &node).await,
        Command::HealthCheckStats(node) => nodes::health_check_stats(env, &node).await,
        Command::AttachNode(node) => nodes::attach(env, &node).await,
        Command::DetachNode { node, graceful } => nodes::detach(env, &node, graceful).await,
        Command::PromoteNode {
            node,
            graceful,
            option,
        } => promote::promote(env, &node, graceful, option).await,
        Command::RecoverNode(node) => nodes::recover(env, &node).await,
        Command::ProcessCount => processes::count(env),
        Command::ProcessInfo(pid) => processes::info(env, &pid).await,
        Command::PoolStatus => server::pool_status(env).await,
        Command::WatchdogInfo(node) => server::watchdog_info(env, &node),
        Command::Stop { mode, scope } => server::stop(env, mode, scope),
        Command::Reload(scope) => server::reload(env, scope).await,
        Command::RotateLog(scope) => server::rotate_log(env, scope),
        Command::InvalidateQueryCache => server::invalidate_query_cache(),
    }
}

impl Environment {
    fn config(&self) -> Arc<Config> {
        self.shared.config.load_full()
    }

    /// The release whose layouts and texts are emulated now.
    fn compat(&self) -> CompatVersion {
        compat_version::effective(&self.shared.config.load(), self.context.tools)
    }

    fn emulates_before(&self, release: Release) -> bool {
        self.compat().release < release
    }

    async fn inputs(&self) -> Inputs {
        Inputs {
            compat: self.compat(),
            ..Inputs::gather(&self.shared).await
        }
    }

    /// The node id of a request, if the cluster has such a node.
    fn node(&self, number: &Number) -> Option<usize> {
        let node = usize::try_from(number.value).ok()?;
        (node < self.shared.view.load().nodes.len()).then_some(node)
    }

    /// The client, for the history of events.
    fn by(&self) -> String {
        format!("PCP {}", self.client)
    }

    /// Refuses what would have become an operation. The history gets it, too; what the supervisor
    /// refuses it notes itself.
    fn refused(&self, kind: events::Kind, number: &Number, notice: Notice) -> Outcome {
        let note = Note {
            node: usize::try_from(number.value).ok(),
            ..Note::new(kind, Step::Refused)
        };
        let result = in_one_line(&notice.message, &notice.detail);
        let note = note.with_cause(self.by(), "").with_result(result);
        self.shared.events.record(None, note);
        Outcome::Refused(notice)
    }

    /// One line for who reads the log after the fact.
    fn log(&self, what: &str) {
        Reporter::new("pcp_child").log(format_args!("PCP: {what} requested by {}", self.client));
    }

    /// Asks the supervisor and waits for its answer.
    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), Refusal>>) -> control::Command,
    ) -> Result<(), Notice> {
        let (reply, answer) = oneshot::channel();
        let message = SupervisorMessage::Asked {
            by: self.by(),
            command: command(reply),
        };
        let gone = || {
            Notice::error(
                "failed to process PCP request at the moment",
                "pgpool is shutting down",
            )
        };
        self.shared.supervisor.send(message).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?.map_err(Notice::from)
    }
}

impl Outcome {
    fn complete(kind: u8) -> Outcome {
        Outcome::made(|out| codec::put_command_complete(out, kind))
    }

    fn made(fill: impl FnOnce(&mut BytesMut)) -> Outcome {
        let mut bytes = BytesMut::new();
        fill(&mut bytes);
        Outcome::Reply {
            bytes,
            remark: None,
        }
    }

    fn error(message: impl Into<String>, detail: impl Into<String>) -> Outcome {
        Outcome::Refused(Notice::error(message, detail))
    }

    /// `CommandComplete`, or why not.
    fn of(result: Result<(), Notice>, kind: u8) -> Outcome {
        match result {
            Ok(()) => Outcome::complete(kind),
            Err(notice) => Outcome::Refused(notice),
        }
    }
}

impl From<Refusal> for Notice {
    /// Only ERROR and FATAL can refuse: a client takes anything milder for a remark and goes on waiting.
    fn from(refusal: Refusal) -> Notice {
        let severity = match refusal.severity {
            crate::observe::Severity::Fatal | crate::observe::Severity::Panic => refusal.severity,
            _ => crate::observe::Severity::Error,
        };
        Notice::new(severity, refusal.message, refusal.detail)
    }
}
