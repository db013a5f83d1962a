//! Online recovery: decides what is done after what, and when it has failed.
//!
//! Feed [`Core`] requests, ends of works, changes of the cluster and the time; do what it returns,
//! in order. It knows no socket and no clock. One recovery goes on at a time. The order of steps
//! and the texts are those of `start_recovery()` in `src/pcp_con/recovery.c @ V4_3_5`, with these
//! differences:
//!
//! - what is missing at the source (functions, scripts) is found out before the first stage;
//! - a failover that takes the source away ends the recovery;
//! - a server that comes up as a primary where a standby is wanted is not attached;
//! - clients that do not leave before the second stage always end the recovery. The original goes
//!   on when `client_idle_limit_in_recovery` should have cut them, and a client in the middle of a
//!   transaction, which that limit does not cut, then writes to one node only.

mod ends;
mod stages;
mod start;
mod steps;

use std::time::{Duration, Instant};

use self::ends::say;
use super::{
    call::Place,
    request::{self, Ongoing, Plan},
};
use crate::{
    cluster::{ClusterView, NodeId},
    config::Release,
    control::Refusal,
    failover::request::{Entry, Source},
};

/// Name of the script that starts the recovered server.
pub const REMOTE_START: &str = "pgpool_remote_start";

/// Between two looks at the clients, and two attempts to reach the started server.
const PAUSE: Duration = Duration::from_secs(3);
/// Attempts in database `postgres`; those in `template1` are counted by `recovery_timeout`.
const FIRST_ATTEMPTS: u32 = 4;
/// How long the attach may take before success is reported without it.
const ATTACH_LIMIT: Duration = Duration::from_secs(5);

/// The parameters that decide, as they were at the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub dialect: Release,
    /// Shown in texts.
    pub user: String,
    /// Empty: there is none.
    pub first_stage: String,
    pub second_stage: String,
    /// `recovery_timeout`.
    pub timeout: Duration,
}

#[derive(Clone, Debug)]
pub enum Event {
    /// The end of [`Action::Do`]; `Err` says why it has failed. Other steps than the last are ignored.
    Done {
        step: u64,
        result: Result<Answer, String>,
    },
    /// The moment of [`Action::WakeAt`] has come; spurious ones are harmless.
    Timer,
    /// A new view was published.
    ViewChanged,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    /// To [`Work::Connect`].
    Source(Installed),
    /// To [`Work::Reach`]: the server lets us in. `standby`: what it says of itself, if it does.
    Reached {
        standby: Option<bool>,
    },
}

/// What was found at the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// Argument counts of the forms of `pgpool_recovery`.
    pub recovery: Vec<usize>,
    /// There is `pgpool_remote_start`.
    pub remote_start: bool,
    /// Scripts of [`Work::Connect`] that are surely not there.
    pub missing: Vec<String>,
    /// Where they were looked for.
    pub data_directory: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Connect to the source as `recovery_user` and look what is there.
    Connect { source: Place, scripts: Vec<String> },
    /// Run statements there, without time limit, until one fails.
    Run { statements: Vec<String> },
    /// Connect to the recovered server, once.
    Reach {
        target: Place,
        database: &'static str,
    },
    /// Ask for the attach.
    Attach { node: NodeId },
}

#[derive(Clone, Debug)]
pub enum Action {
    Log(Entry),
    /// Begin in the background, one at a time; answer with [`Event::Done`], always.
    Do {
        step: u64,
        work: Work,
    },
    /// Send [`Event::Timer`] then; replaces an earlier request.
    WakeAt(Instant),
    /// New clients wait; those that are there are cut as `client_idle_limit_in_recovery` says.
    HoldClients,
    ReleaseClients,
    /// Answer the one who asked. Work that goes on is dropped, and the connection to the source.
    Finished(Result<(), Refusal>),
}

#[derive(Debug, Default)]
pub struct Core {
    run: Option<Run>,
    last_step: u64,
}

#[derive(Debug)]
struct Run {
    plan: Plan,
    settings: Settings,
    /// Number of arguments of `pgpool_recovery`.
    arguments: usize,
    /// The work that is waited for.
    step: u64,
    clients_held: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Connecting,
    FirstCheckpoint,
    FirstScript,
    ClientsLeave {
        until: Instant,
    },
    SecondCheckpoint,
    SecondScript,
    RemoteStart,
    Reach(Attempts),
    Attaching,
    /// The attach was taken: it is done when the view says so.
    Settling {
        until: Instant,
    },
}

#[derive(Clone, Copy, Debug)]
struct Attempts {
    database: &'static str,
    made: u32,
    limit: u32,
    /// An attempt goes on; else the next one is due at the timer.
    trying: bool,
}

/// What a step leads to.
enum Next {
    Wait,
    Do(Work),
    End(Result<(), Refusal>),
}

impl Core {
    pub fn ongoing(&self) -> Option<Ongoing> {
        self.run.as_ref().map(|run| Ongoing {
            target: run.plan.target.node,
            source: run.plan.source.node,
            attaching: matches!(run.stage, Stage::Attaching | Stage::Settling { .. }),
        })
    }

    /// The script of the operator that runs at the source, by the parameter that names it.
    pub fn script(&self) -> Option<&'static str> {
        match self.run.as_ref()?.stage {
            Stage::FirstScript => Some("recovery_1st_stage_command"),
            Stage::SecondScript => Some("recovery_2nd_stage_command"),
            Stage::RemoteStart => Some(REMOTE_START),
            Stage::Connecting
            | Stage::FirstCheckpoint
            | Stage::ClientsLeave { .. }
            | Stage::SecondCheckpoint
            | Stage::Reach(_)
            | Stage::Attaching
            | Stage::Settling { .. } => None,
        }
    }

    /// Begins to recover `node`. The end is told by [`Action::Finished`].
    ///
    /// # Errors
    ///
    /// The refusal, in the words of the PCP tools; then nothing was begun.
    pub fn request(
        &mut self,
        node: NodeId,
        settings: Settings,
        view: &ClusterView,
    ) -> Result<Vec<Action>, Refusal> {
        let plan = request::judge(node, view)?;
        if self.run.is_some() {
            return Err(request::already_running());
        }
        let mut out = Vec::new();
        say(&mut out, format!("starting recovering node {node}"));
        let source = plan.source.clone();
        if plan.standby && view.primary != Some(source.node) {
            out.push(Action::Log(
                Entry::warning(
                    Source::Pcp,
                    format!(
                        "no primary is known, node {node} is rebuilt from node {}",
                        source.node
                    ),
                )
                .with_hint(
                    "check sr_check_user and sr_check_password, which the primary is searched with",
                ),
            ));
        }
        let mut scripts = vec![settings.first_stage.clone()];
        if plan.second_stage {
            scripts.push(settings.second_stage.clone());
        }
        // A name with a blank may be a command line: extensions before 1.2 do not quote it.
        scripts.retain(|name| !name.is_empty() && !name.contains(char::is_whitespace));
        scripts.push(REMOTE_START.to_owned());
        let mut run = Run {
            plan,
            settings,
            arguments: 0,
            step: 0,
            clients_held: false,
            stage: Stage::Connecting,
        };
        self.begin(&mut run, Work::Connect { source, scripts }, &mut out);
        self.run = Some(run);
        Ok(out)
    }

    /// `view` and the number of clients are those of now.
    #[must_use = "the caller has to carry the actions out"]
    pub fn handle(
        &mut self,
        event: Event,
        view: &ClusterView,
        clients: usize,
        now: Instant,
    ) -> Vec<Action> {
        let mut out = Vec::new();
        let Some(mut run) = self.run.take() else {
            return out;
        };
        let next = match run.disturbed(view) {
            Some(refusal) => Next::End(Err(refusal)),
            None => match event {
                Event::Done { step, result } if step == run.step => {
                    run.done(result, view, now, &mut out)
                }
                Event::Done { .. } => Next::Wait,
                Event::Timer => run.timer(clients, now, &mut out),
                Event::ViewChanged => run.settled(view, &mut out),
            },
        };
        match next {
            Next::Wait => self.run = Some(run),
            Next::Do(work) => {
                self.begin(&mut run, work, &mut out);
                self.run = Some(run);
            }
            Next::End(result) => {
                if run.clients_held {
                    out.push(Action::ReleaseClients);
                }
                out.push(Action::Finished(result));
            }
        }
        out
    }

    fn begin(&mut self, run: &mut Run, work: Work, out: &mut Vec<Action>) {
        self.last_step += 1;
        run.step = self.last_step;
        out.push(Action::Do {
            step: run.step,
            work,
        });
    }
}
