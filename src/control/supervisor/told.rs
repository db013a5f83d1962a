//! What the supervisor itself tells the history and the log.

use super::Supervisor;
use crate::{
    control::Refusal,
    events::{HookRun, Kind, Note, Step, text},
    failover::{
        core::{HookCall, HookKind, Why, kind_of},
        hooks,
        request::{Entry, Request, Source},
    },
    observe::{Reporter, Severity},
};

impl Supervisor {
    /// A pgpool that was killed has not told its end, and may have left an operation half done.
    pub(super) fn tell_how_it_ended_before(&self) {
        let Some(last) = self.shared.events.last() else {
            return;
        };
        if last.note.kind == Kind::Stop && last.note.step == Step::Ended {
            return;
        }
        let mut evidence = format!(
            "its last event is #{} of {}",
            last.id,
            text::time(last.time)
        );
        for begun in self.shared.events.unfinished() {
            let operation = text::operation(&begun.note);
            evidence += &format!("; {operation} (#{}) has no end", begun.id);
        }
        let note = Note::new(Kind::Stop, Step::Ended)
            .with_result(format!(
                "the pgpool before (pid {}) did not end in order: it was killed, or the machine went down",
                last.pid
            ))
            .with_cause("", evidence);
        self.shared.events.record(None, note);
    }

    pub(super) fn record_refusal(&self, request: &Request, why: Why, refusal: &Refusal) {
        let note = refusal_note(request, why, refusal);
        self.shared.events.record(None, note);
    }
}

pub(super) fn hook_note(name: &str, hook: &HookCall, ended: hooks::Ended) -> Note {
    let kind = match hook.kind {
        HookKind::Failover => Kind::Failover,
        HookKind::Failback => Kind::Failback,
        HookKind::Follow => Kind::Follow,
    };
    Note {
        hook: Some(HookRun {
            status: ended.status,
            signal: ended.signal,
            error: ended.error,
            output: ended.output,
            ..HookRun::begins(name, &hook.line)
        }),
        seconds: Some(ended.seconds),
        ..Note::of_node(kind, Step::HookEnded, hook.node)
    }
}

pub(super) fn refusal_note(request: &Request, why: Why, refusal: &Refusal) -> Note {
    Note::of_node(kind_of(request), Step::Refused, request.node())
        .with_cause(why.cause, why.evidence)
        .with_result(refusal.in_one_line())
}

/// Under the name that the original's process would have.
pub(super) fn say(entry: Entry) {
    let reporter = match entry.source {
        Source::Main => Reporter::new("main"),
        Source::Child => Reporter::new("child"),
        Source::HealthCheck(node) => Reporter::new(format!("health_check{node}")),
        Source::ReplicationCheck => Reporter::new("sr_check_worker"),
        Source::Pcp => Reporter::new("pcp_child"),
        Source::FollowChild => Reporter::new("follow_child"),
        Source::Watchdog => Reporter::new("watchdog"),
    };
    let severity: Severity = entry.severity;
    reporter.emit(severity, &entry.message, &entry.detail, &entry.hint);
}
