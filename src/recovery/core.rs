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

use std::time::{Duration, Instant};

use super::{
    call::{self, Place},
    request::{self, Ongoing, Plan},
};
use crate::{
    cluster::{ClusterView, NodeId, NodeStatus},
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

impl Run {
    fn target(&self) -> NodeId {
        self.plan.target.node
    }

    /// Why the recovery makes no sense any more.
    fn disturbed(&self, view: &ClusterView) -> Option<Refusal> {
        if matches!(self.stage, Stage::Attaching | Stage::Settling { .. }) {
            return None;
        }
        let (target, source) = (self.target(), self.plan.source.node);
        let why = if view.node(target).map(|n| n.status) != Some(NodeStatus::Down) {
            format!("node {target} was attached meanwhile. If its server is gone, detach the node.")
        } else if view.primary_search_running || request::source(view) != Some(source) {
            format!(
                "a failover has taken node {source} away, which node {target} was being rebuilt from. When it is done, run pcp_recovery_node again."
            )
        } else {
            return None;
        };
        Some(Refusal {
            detail: format!("{why} A script that runs at node {source} is not stopped."),
            ..Refusal::error(format!(
                "node recovery failed, node id: {target} is given up"
            ))
        })
    }

    fn done(
        &mut self,
        result: Result<Answer, String>,
        view: &ClusterView,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Next {
        match (&self.stage, result) {
            (Stage::Connecting, Ok(Answer::Source(installed))) => self.prepared(&installed, out),
            (Stage::Connecting, Ok(_)) => Next::Wait,
            (Stage::Connecting, Err(why)) => {
                // With the blank at the end that the original has.
                let source = self.plan.source.node;
                failed(
                    format!("node recovery failed, unable to connect to main node: {source} "),
                    why,
                )
            }
            (Stage::FirstCheckpoint, Ok(_)) => {
                say(out, "node recovery, CHECKPOINT in the 1st stage done");
                self.first_stage(out)
            }
            (Stage::SecondCheckpoint, Ok(_)) => {
                say_more(out, "node recovery", "CHECKPOINT in the 2nd stage done");
                self.second_stage(out)
            }
            (Stage::FirstCheckpoint | Stage::SecondCheckpoint, Err(why)) => {
                failed("executing recovery, execute CHECKPOINT failed", why)
            }
            (Stage::FirstScript, Ok(_)) => {
                say(out, "node recovery, 1st stage is done");
                self.after_first_stage(now, out)
            }
            (Stage::FirstScript, Err(why)) => {
                stage_failed("1st stage", &self.settings.first_stage, &why)
            }
            (Stage::SecondScript, Ok(_)) => {
                say(out, "node recovery, 2nd stage is done");
                self.remote_start()
            }
            (Stage::SecondScript, Err(why)) => {
                stage_failed("2nd stage", &self.settings.second_stage, &why)
            }
            (Stage::RemoteStart, Ok(_)) => self.reach("postgres", FIRST_ATTEMPTS, out),
            (Stage::RemoteStart, Err(why)) => remote_start_failed(&why),
            (Stage::Reach(_), Ok(Answer::Reached { standby })) => self.reached(standby, out),
            (Stage::Reach(attempts), Ok(_)) => {
                let attempts = *attempts;
                self.not_reached(attempts, "an answer of another kind", now, out)
            }
            (Stage::Reach(attempts), Err(why)) => {
                let attempts = *attempts;
                self.not_reached(attempts, &why, now, out)
            }
            (Stage::Attaching, Ok(_)) => {
                self.stage = Stage::Settling {
                    until: now + ATTACH_LIMIT,
                };
                out.push(Action::WakeAt(now + ATTACH_LIMIT));
                self.settled(view, out)
            }
            (Stage::Attaching, Err(why)) => failed(
                format!(
                    "node recovery failed, node id: {} is not attached",
                    self.target()
                ),
                format!("its server runs, but the attach was refused: {why}"),
            ),
            // Nothing is being done then.
            (Stage::ClientsLeave { .. } | Stage::Settling { .. }, _) => Next::Wait,
        }
    }

    /// What cannot work is refused before the first script has touched the node.
    fn prepared(&mut self, installed: &Installed, out: &mut Vec<Action>) -> Next {
        let source = self.plan.source.node;
        let stages = [
            ("1st stage", &self.settings.first_stage, true),
            (
                "2nd stage",
                &self.settings.second_stage,
                self.plan.second_stage,
            ),
        ];
        let wanted = call::argument_count(self.settings.dialect);
        let form = call::choose(wanted, &installed.recovery);
        let directory = &installed.data_directory;
        for (stage, script, runs) in stages {
            if !runs || script.is_empty() {
                continue;
            }
            if form.is_none() {
                let why = "there is no function pgpool_recovery: run CREATE EXTENSION pgpool_recovery in the database that recovery uses";
                return stage_failed(stage, script, why);
            }
            if installed.missing.contains(script) {
                let why = format!("{directory}/{script} does not exist at node {source}");
                return stage_failed(stage, script, &why);
            }
        }
        if !installed.remote_start {
            return remote_start_failed(
                "there is no function pgpool_remote_start: run CREATE EXTENSION pgpool_recovery in the database that recovery uses",
            );
        }
        if installed.missing.iter().any(|name| name == REMOTE_START) {
            return remote_start_failed(&format!(
                "{directory}/{REMOTE_START} does not exist at node {source}"
            ));
        }
        self.arguments = form.unwrap_or(wanted);
        if self.arguments != wanted {
            out.push(Action::Log(
                Entry::warning(
                    Source::Pcp,
                    format!(
                        "pgpool_recovery is called with {} arguments instead of {wanted}, because node {source} has no other form of it",
                        self.arguments
                    ),
                )
                .with_hint("ALTER EXTENSION pgpool_recovery UPDATE brings it to the installed version"),
            ));
        }
        if self.plan.second_stage {
            self.stage = Stage::FirstCheckpoint;
            return checkpoint();
        }
        self.first_stage(out)
    }

    fn first_stage(&mut self, out: &mut Vec<Action>) -> Next {
        self.stage = Stage::FirstScript;
        self.script(&self.settings.first_stage, out)
    }

    /// Calls a script, or goes on at once when there is none.
    fn script(&self, script: &str, out: &mut Vec<Action>) -> Next {
        if script.is_empty() {
            // The end of nothing is told like any other, so that there is one way on.
            return Next::Do(Work::Run {
                statements: Vec::new(),
            });
        }
        let Plan { target, source, .. } = &self.plan;
        let sql = call::recovery(script, target, source, self.arguments);
        say_more(
            out,
            "executing recovery",
            format!("starting recovery command: \"{sql}\""),
        );
        say_more(out, "executing recovery", "disabling statement_timeout");
        Next::Do(Work::Run {
            statements: vec!["SET statement_timeout To 0".to_owned(), sql],
        })
    }

    fn after_first_stage(&mut self, now: Instant, out: &mut Vec<Action>) -> Next {
        if !self.plan.second_stage {
            return self.remote_start();
        }
        say(out, "node recovery, starting 2nd stage");
        self.clients_held = true;
        out.push(Action::HoldClients);
        // As long as the original, which looks recovery_timeout / 3 + 1 times.
        let looks = attempts_within(self.settings.timeout);
        self.stage = Stage::ClientsLeave {
            until: now + PAUSE * looks,
        };
        out.push(Action::WakeAt(now));
        Next::Wait
    }

    fn timer(&mut self, clients: usize, now: Instant, out: &mut Vec<Action>) -> Next {
        match self.stage {
            Stage::ClientsLeave { until } => self.look_at_clients(until, clients, now, out),
            Stage::Reach(attempts) if !attempts.trying => self.attempt(attempts, out),
            Stage::Settling { until } if now >= until => {
                say_more(
                    out,
                    "node recovery",
                    format!(
                        "waiting for wake up request is timeout({} seconds)",
                        ATTACH_LIMIT.as_secs()
                    ),
                );
                say(out, "recovery done");
                Next::End(Ok(()))
            }
            Stage::Settling { until } => {
                out.push(Action::WakeAt(until));
                Next::Wait
            }
            Stage::Connecting
            | Stage::FirstCheckpoint
            | Stage::FirstScript
            | Stage::SecondCheckpoint
            | Stage::SecondScript
            | Stage::RemoteStart
            | Stage::Reach(_)
            | Stage::Attaching => Next::Wait,
        }
    }

    fn look_at_clients(
        &mut self,
        until: Instant,
        clients: usize,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Next {
        if clients == 0 {
            say(
                out,
                "node recovery, all connections from clients have been closed",
            );
            self.stage = Stage::SecondCheckpoint;
            return checkpoint();
        }
        if now < until {
            out.push(Action::WakeAt(until.min(now + PAUSE)));
            return Next::Wait;
        }
        let seconds = self.settings.timeout.as_secs();
        say(
            out,
            format!("wait_connection_closed: existing connections did not close in {seconds} sec."),
        );
        failed(
            "node recovery failed, waiting connection closed in the other pgpools timeout",
            format!(
                "{clients} clients are still connected after recovery_timeout ({seconds} seconds); client_idle_limit_in_recovery ends idle ones"
            ),
        )
    }

    fn second_stage(&mut self, out: &mut Vec<Action>) -> Next {
        self.stage = Stage::SecondScript;
        self.script(&self.settings.second_stage, out)
    }

    fn remote_start(&mut self) -> Next {
        self.stage = Stage::RemoteStart;
        Next::Do(Work::Run {
            statements: vec![call::remote_start(&self.plan.target)],
        })
    }

    fn reach(&mut self, database: &'static str, limit: u32, out: &mut Vec<Action>) -> Next {
        let attempts = Attempts {
            database,
            made: 0,
            limit,
            trying: false,
        };
        self.attempt(attempts, out)
    }

    fn attempt(&mut self, attempts: Attempts, out: &mut Vec<Action>) -> Next {
        let Attempts { database, made, .. } = attempts;
        let detail = format!(
            "trying to connect to postmaster on {} (retry {made} times)",
            self.login(database)
        );
        say_more(out, "checking if postmaster is started", detail);
        self.stage = Stage::Reach(Attempts {
            made: made + 1,
            trying: true,
            ..attempts
        });
        Next::Do(Work::Reach {
            target: self.plan.target.clone(),
            database,
        })
    }

    fn not_reached(
        &mut self,
        attempts: Attempts,
        why: &str,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Next {
        let Attempts {
            database,
            made,
            limit,
            ..
        } = attempts;
        let detail = format!(
            "failed to connect to postmaster on {}: {why}",
            self.login(database)
        );
        say_more(out, "checking if postmaster is started", detail);
        if made < limit {
            self.stage = Stage::Reach(Attempts {
                trying: false,
                ..attempts
            });
            out.push(Action::WakeAt(now + PAUSE));
            return Next::Wait;
        }
        if database == "postgres" {
            self.stage = Stage::Reach(Attempts {
                database: "template1",
                made: 0,
                limit: attempts_within(self.settings.timeout),
                trying: false,
            });
            out.push(Action::WakeAt(now + PAUSE));
            return Next::Wait;
        }
        let (host, user) = (&self.plan.target.hostname, &self.settings.user);
        failed(
            "recovery is checking if postmaster is started",
            format!(
                "postmaster on hostname:\"{host}\" database:\"{database}\" user:\"{user}\" failed to start in {} second: {why}",
                self.settings.timeout.as_secs()
            ),
        )
    }

    fn login(&self, database: &str) -> String {
        format!(
            "hostname:{} database:{database} user:{}",
            self.plan.target.hostname, self.settings.user
        )
    }

    fn reached(&mut self, standby: Option<bool>, out: &mut Vec<Action>) -> Next {
        let node = self.target();
        if self.plan.standby && standby == Some(false) {
            let Place { hostname, port, .. } = &self.plan.target;
            return failed(
                format!("node recovery failed, node id: {node} is not a standby"),
                format!(
                    "the server on {hostname}({port}) takes writes of its own, so it stays detached. The script {:?} must make a standby of it.",
                    self.settings.first_stage
                ),
            );
        }
        say(out, format!("node recovery, node: {node} restarted"));
        self.stage = Stage::Attaching;
        Next::Do(Work::Attach { node })
    }

    /// Looks whether the attach is done.
    fn settled(&mut self, view: &ClusterView, out: &mut Vec<Action>) -> Next {
        if matches!(self.stage, Stage::Settling { .. }) && view.is_valid(self.target()) {
            say(out, "recovery done");
            return Next::End(Ok(()));
        }
        Next::Wait
    }
}

fn checkpoint() -> Next {
    Next::Do(Work::Run {
        statements: vec!["CHECKPOINT".to_owned()],
    })
}

fn attempts_within(limit: Duration) -> u32 {
    u32::try_from(limit.as_secs() / PAUSE.as_secs()).unwrap_or(u32::MAX - 1) + 1
}

fn stage_failed(stage: &str, script: &str, why: &str) -> Next {
    failed(
        format!("executing recovery, execution of command failed at \"{stage}\""),
        format!("command:\"{script}\": {why}"),
    )
}

fn remote_start_failed(why: &str) -> Next {
    failed(
        format!("executing remote start failed with error: \"{why}\""),
        "",
    )
}

fn failed(message: impl Into<String>, detail: impl Into<String>) -> Next {
    Next::End(Err(Refusal {
        detail: detail.into(),
        ..Refusal::error(message)
    }))
}

fn say(out: &mut Vec<Action>, message: impl Into<String>) {
    out.push(Action::Log(Entry::log(Source::Pcp, message)));
}

fn say_more(out: &mut Vec<Action>, message: &str, detail: impl Into<String>) {
    out.push(Action::Log(
        Entry::log(Source::Pcp, message).with_detail(detail),
    ));
}
