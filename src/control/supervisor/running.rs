//! The operator's hooks: begun, waited for, and remembered for a start after a kill.

use std::{path::Path, sync::Arc};

use super::{
    Internal, Supervisor,
    told::{hook_note, say},
};
use crate::{
    events::Origin,
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

    /// Under which name the log speaks of it.
    fn reporter_of(&self, kind: HookKind) -> Reporter {
        match kind {
            HookKind::Failover | HookKind::Failback => self.reporter.clone(),
            HookKind::Follow => Reporter::new("follow_child"),
        }
    }

    pub(super) fn run_hook(&self, hook: HookCall) {
        let to_me = self.to_me.clone();
        let group = self.follow_group.clone();
        let name = hook.kind.parameter(self.shared.config.load().dialect);
        let reporter = self.reporter_of(hook.kind);
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_local(async move {
            let (kind, line) = (hook.kind, &hook.line);
            let begun = |pid| {
                let process = unfinished::Process::of(pid);
                // The supervisor has ended: the process does.
                let _ = to_me.send(Internal::HookBegun { kind, process });
            };
            let ended = match kind {
                HookKind::Failover | HookKind::Failback => {
                    hooks::run(name, line, &reporter, begun).await
                }
                HookKind::Follow => hooks::run_in(&group, name, line, &reporter, begun).await,
            };
            let operation = Some((Origin::Failover, hook.operation));
            shared
                .events
                .record(operation, hook_note(name, &hook, ended));
            // The supervisor has ended: the process does.
            let _ = to_me.send(Internal::HookFinished { call: hook.call });
        });
    }

    pub(super) fn await_hook(&self, call: u64, kind: HookKind) {
        let to_me = self.to_me.clone();
        let process = self.record.process(kind).filter(|p| p.is_alive());
        let name = kind.parameter(self.shared.config.load().dialect);
        let reporter = self.reporter_of(kind);
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
