//! The operator's hooks: begun, waited for, and remembered for a start after a kill.

use std::path::Path;

use super::{Internal, Supervisor, say};
use crate::{
    config::Release,
    failover::{
        core::{HookCall, HookKind},
        hooks,
        request::{Entry, Source},
        unfinished,
    },
    observe::Reporter,
    sys::errors,
};

impl Supervisor {
    pub(super) async fn write_record(&self) {
        let work_dir = self.shared.config.load().settings.work_dir.clone();
        let (place, record) = (work_dir.clone(), self.record.clone());
        let written = tokio::task::spawn_blocking(move || unfinished::write(&place, &record)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(e)) => say_unremembered(&work_dir, &errors::message(&e)),
            Err(e) => say_unremembered(&work_dir, &e.to_string()),
        }
    }

    /// Its parameter, and under which name the log speaks of it.
    fn name_of(&self, kind: HookKind) -> (&'static str, Reporter) {
        match kind {
            HookKind::Failover => ("failover_command", self.reporter.clone()),
            HookKind::Failback => ("failback_command", self.reporter.clone()),
            HookKind::Follow => {
                let is_old = self.shared.config.load().dialect < Release::V4_2;
                let name = if is_old {
                    "follow_master_command"
                } else {
                    "follow_primary_command"
                };
                (name, Reporter::new("follow_child"))
            }
        }
    }

    pub(super) fn run_hook(&self, hook: HookCall) {
        let to_me = self.to_me.clone();
        let group = self.follow_group.clone();
        let HookCall {
            call, kind, line, ..
        } = hook;
        let (name, reporter) = self.name_of(kind);
        tokio::task::spawn_local(async move {
            let begun = |pid| {
                let process = unfinished::Process::of(pid);
                // The supervisor has ended: the process does.
                let _ = to_me.send(Internal::HookBegun { kind, process });
            };
            match kind {
                HookKind::Failover | HookKind::Failback => {
                    hooks::run(name, &line, &reporter, begun).await;
                }
                HookKind::Follow => hooks::run_in(&group, name, &line, &reporter, begun).await,
            }
            // The supervisor has ended: the process does.
            let _ = to_me.send(Internal::HookFinished { call });
        });
    }

    pub(super) fn await_hook(&self, call: u64, kind: HookKind) {
        let to_me = self.to_me.clone();
        let process = self.record.process(kind).filter(|p| p.is_alive());
        let (name, reporter) = self.name_of(kind);
        tokio::task::spawn_local(async move {
            if let Some(process) = process {
                hooks::outlive(name, process, &reporter).await;
            }
            // The supervisor has ended: the process does.
            let _ = to_me.send(Internal::HookFinished { call });
        });
    }
}

/// What an earlier life was in the middle of. A file that cannot be read is nothing to go on with.
pub(super) fn read_record(work_dir: &Path) -> unfinished::Record {
    unfinished::read(work_dir).unwrap_or_else(|e| {
        say_unremembered(work_dir, &errors::message(&e));
        unfinished::Record::default()
    })
}

/// For `-D`: nothing is gone on with.
pub(super) fn discard_record(work_dir: &Path) {
    if let Err(e) = unfinished::discard(work_dir) {
        say_unremembered(work_dir, &errors::message(&e));
    }
}

fn say_unremembered(work_dir: &Path, why: &str) {
    say(Entry::warning(
        Source::Main,
        format!("cannot use the file \"{}\"", unfinished::path(work_dir).display()),
    )
    .with_detail(why)
    .with_hint("should pgpool be killed during a failover, the next start would not know what was going on"));
}
