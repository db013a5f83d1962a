//! The operator's hooks: begun, waited for, and remembered for a start after a kill.

use std::{future::Future, pin::Pin, sync::Arc};

use super::{
    Internal, Supervisor,
    told::{hook_note, say},
};
use crate::{
    config::Config,
    events::Origin,
    failover::{
        core::{HookCall, HookKind},
        hooks,
        request::{Entry, Source},
        unfinished::{
            Process, Record, Unfinished,
            file::{self, Place},
        },
    },
    observe::Reporter,
    sys::errors,
};

impl Supervisor {
    fn record_place(&self) -> Place {
        record_place(&self.shared.config.load())
    }

    pub(super) async fn write_record(&mut self) {
        let (place, record) = (self.record_place(), self.record.clone());
        let to = place.clone();
        let written = self.record_disk.write(move || file::write(&to, &record));
        match written.await {
            Ok(_) => sync_later(place),
            Err(why) => say_unremembered(&place, &why),
        }
    }

    /// Under which name the log speaks of it.
    fn reporter_of(&self, kind: HookKind) -> Reporter {
        match kind {
            HookKind::Failover | HookKind::Failback => self.reporter.clone(),
            HookKind::Follow => Reporter::new("follow_child"),
        }
    }

    /// `begun` is remembered by the process of the hook itself: a kill finds both or neither.
    pub(super) async fn run_hook(&mut self, hook: HookCall, begun: Unfinished) {
        let kind = hook.kind;
        self.record.remember(begun);
        self.record.runs(kind, None);
        let (place, record) = (self.record_place(), self.record.clone());
        let to = place.clone();
        let prepared = self
            .record_disk
            .write(move || file::prepare(&to, &record, kind));
        let (declaration, unprepared) = match prepared.await {
            Ok(declaration) => (declaration, None),
            Err(why) => (None, Some(why)),
        };
        let (line, to) = (hook.line.clone(), place.clone());
        let begin = tokio::task::spawn_blocking(move || {
            let is_prepared = declaration.is_some();
            let begun = hooks::begin(&line, declaration);
            let is_declared = is_prepared && (begun.pid().is_none() || file::is_declared(&to));
            (begun, is_declared)
        });
        let (begun, is_declared) = match begin.await {
            Ok(begun) => begun,
            Err(e) => (hooks::Begun::failed(std::io::Error::other(e)), false),
        };
        if let Some(why) = unprepared {
            say_unremembered(&place, &why);
        }
        if is_declared {
            sync_later(place);
        } else {
            self.unsay_due(place).await;
        }
        self.record.runs(kind, begun.pid().and_then(Process::of));
        self.wait_for_hook(hook, begun);
    }

    /// The record could not be put in its place, and says that the hook is due, which it is not any more.
    async fn unsay_due(&mut self, place: Place) {
        let (to, record) = (place.clone(), self.record.clone());
        let written = self
            .record_disk
            .write(move || file::write(&to, &record).or_else(|_| file::discard(&to)));
        if let Err(why) = written.await {
            say_unremembered(&place, &why);
        }
    }

    fn wait_for_hook(&self, hook: HookCall, begun: hooks::Begun) {
        let name = hook.kind.parameter(self.shared.config.load().dialect);
        let reporter = self.reporter_of(hook.kind);
        let in_group = hook.kind == HookKind::Follow;
        let (to_me, shared) = (self.to_me.clone(), Arc::clone(&self.shared));
        // Not later: the signal of a shutdown that comes next must find the hook in its group.
        let end: Pin<Box<dyn Future<Output = hooks::Ended>>> = if in_group {
            Box::pin(begun.wait_in(&self.follow_group, name, hook.line.clone(), reporter))
        } else {
            let line = hook.line.clone();
            Box::pin(async move { begun.wait(name, &line, &reporter).await })
        };
        tokio::task::spawn_local(async move {
            let ended = end.await;
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

fn record_place(config: &Config) -> Place {
    Place::new(&config.settings.work_dir, config.settings.port)
}

/// Nobody waits for the disk.
fn sync_later(place: Place) {
    tokio::task::spawn_blocking(move || {
        if let Err(e) = file::sync_directory(&place) {
            say_unremembered(&place, &errors::message(&e));
        }
    });
}

/// What an earlier life was in the middle of. A file that cannot be read is nothing to go on with.
pub(super) fn read_record(config: &Config) -> Record {
    let place = record_place(config);
    file::read(&place).unwrap_or_else(|e| {
        say_unremembered(&place, &errors::message(&e));
        Record::default()
    })
}

/// For `-D`: nothing is gone on with.
pub(super) fn discard_record(config: &Config) {
    let place = record_place(config);
    if let Err(e) = file::discard(&place) {
        say_unremembered(&place, &errors::message(&e));
    }
}

fn say_unremembered(place: &Place, why: &str) {
    say(Entry::warning(
        Source::Main,
        format!("cannot use the file \"{}\"", place.path().display()),
    )
    .with_detail(why)
    .with_hint("should pgpool be killed during a failover, the next start would not know what was going on"));
}
