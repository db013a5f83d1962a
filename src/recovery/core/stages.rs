//! The scripts of the source: what must be there before the first one, both stages, the clients that
//! have to leave between them, and the start of the new server.

use std::time::Instant;

use super::{
    Action, Installed, Next, PAUSE, Plan, REMOTE_START, Run, Stage, Work,
    ends::{failed, remote_start_failed, say, say_more, stage_failed},
    start::attempts_within,
};
use crate::{
    failover::request::{Entry, Source},
    recovery::call,
};

impl Run {
    /// What cannot work is refused before the first script has touched the node.
    pub(super) fn prepared(&mut self, installed: &Installed, out: &mut Vec<Action>) -> Next {
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

    pub(super) fn first_stage(&mut self, out: &mut Vec<Action>) -> Next {
        self.stage = Stage::FirstScript;
        self.script(&self.settings.first_stage, out)
    }

    /// Calls a script, or goes on at once when there is none.
    pub(super) fn script(&self, script: &str, out: &mut Vec<Action>) -> Next {
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

    pub(super) fn after_first_stage(&mut self, now: Instant, out: &mut Vec<Action>) -> Next {
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

    pub(super) fn look_at_clients(
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

    pub(super) fn second_stage(&mut self, out: &mut Vec<Action>) -> Next {
        self.stage = Stage::SecondScript;
        self.script(&self.settings.second_stage, out)
    }

    pub(super) fn remote_start(&mut self) -> Next {
        self.stage = Stage::RemoteStart;
        Next::Do(Work::Run {
            statements: vec![call::remote_start(&self.plan.target)],
        })
    }
}

fn checkpoint() -> Next {
    Next::Do(Work::Run {
        statements: vec!["CHECKPOINT".to_owned()],
    })
}
