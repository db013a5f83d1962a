//! The recovered server: attempts to reach it, whether it is what it should be, its attach.

use std::time::{Duration, Instant};

use super::{
    Action, Attempts, Next, PAUSE, Place, Run, Stage, Work,
    ends::{failed, say, say_more},
};
use crate::cluster::ClusterView;

impl Run {
    pub(super) fn reach(
        &mut self,
        database: &'static str,
        limit: u32,
        out: &mut Vec<Action>,
    ) -> Next {
        let attempts = Attempts {
            database,
            made: 0,
            limit,
            trying: false,
        };
        self.attempt(attempts, out)
    }

    pub(super) fn attempt(&mut self, attempts: Attempts, out: &mut Vec<Action>) -> Next {
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

    pub(super) fn not_reached(
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

    pub(super) fn login(&self, database: &str) -> String {
        format!(
            "hostname:{} database:{database} user:{}",
            self.plan.target.hostname, self.settings.user
        )
    }

    pub(super) fn reached(&mut self, standby: Option<bool>, out: &mut Vec<Action>) -> Next {
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
    pub(super) fn settled(&mut self, view: &ClusterView, out: &mut Vec<Action>) -> Next {
        if matches!(self.stage, Stage::Settling { .. }) && view.is_valid(self.target()) {
            say(out, "recovery done");
            return Next::End(Ok(()));
        }
        Next::Wait
    }
}

pub(super) fn attempts_within(limit: Duration) -> u32 {
    u32::try_from(limit.as_secs() / PAUSE.as_secs()).unwrap_or(u32::MAX - 1) + 1
}
