//! What the history is told: each operation with its cause, its hooks and its end.

use std::time::Instant;

use super::{Action, Core, HookKind, Kind, Now, Operation};
use crate::{
    cluster::NodeId,
    config::{Release, settings::ClusteringMode},
    events::{self, HookRun, Note, Step},
    failover::request::{Request, Source},
    observe::in_one_line,
};

/// Who wants something, or what makes us do it, and what was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Why {
    pub cause: String,
    pub evidence: String,
}

/// For the history.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Number of the operation; `None`: nothing came of it.
    pub operation: Option<u64>,
    pub note: Note,
}

/// What has to be known for it besides the operation itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    last: u64,
    /// Of the operation that goes on.
    number: u64,
    began: Option<Instant>,
    /// Of the request that is about to begin; taken when it does.
    why: Option<Why>,
    /// Why the primary is the one that it is about to be.
    rule: String,
}

impl Why {
    pub fn new(cause: impl Into<String>, evidence: impl Into<String>) -> Why {
        Why {
            cause: cause.into(),
            evidence: evidence.into(),
        }
    }
}

impl HookKind {
    /// The parameter that the command comes from.
    pub fn parameter(self, dialect: Release) -> &'static str {
        match self {
            HookKind::Failover => "failover_command",
            HookKind::Failback => "failback_command",
            HookKind::Follow if dialect < Release::V4_2 => "follow_master_command",
            HookKind::Follow => "follow_primary_command",
        }
    }
}

/// What the request would become.
pub fn kind_of(request: &Request) -> events::Kind {
    match request {
        Request::Down { .. } => events::Kind::Failover,
        Request::Up { .. } => events::Kind::Failback,
        Request::Switchover { .. } => events::Kind::Switchover,
        Request::Promote { .. } => events::Kind::Promotion,
    }
}

impl Core {
    /// The number of the operation that goes on.
    pub(super) fn operation_number(&self) -> u64 {
        self.record.number
    }

    /// A number for an operation beside the one that goes on.
    pub(super) fn next_operation(&mut self) -> u64 {
        self.record.last += 1;
        self.record.last
    }

    /// The next finish has this reason for its choice of the primary.
    pub(super) fn because(&mut self, rule: impl Into<String>) {
        self.record.rule = rule.into();
    }

    /// The request is about to begin, unless something is in its way.
    pub(super) fn record_request(&mut self, why: Why) {
        self.record.why = Some(why);
    }

    /// `began`: length of `out` when the request was looked at; what was logged since says why nothing
    /// came of it.
    pub(super) fn record_unless_begun(
        &mut self,
        request: &Request,
        began: usize,
        out: &mut Vec<Action>,
    ) {
        let Some(why) = self.record.why.take() else {
            return;
        };
        let reason = out.get(began..).unwrap_or_default().iter().rev();
        let reason = reason.into_iter().find_map(|action| match action {
            Action::Log(entry) => Some(in_one_line(&entry.message, &entry.detail)),
            _ => None,
        });
        self.record_aside(Step::Dropped, request, why, reason.unwrap_or_default(), out);
    }

    /// A request that is not begun, or not yet.
    pub(super) fn record_aside(
        &self,
        step: Step,
        request: &Request,
        why: Why,
        result: impl Into<String>,
        out: &mut Vec<Action>,
    ) {
        let note = Note::of_node(kind_of(request), step, request.node())
            .with_cause(why.cause, why.evidence)
            .with_result(result);
        tell(None, note, out);
    }

    pub(super) fn record_began(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(operation) = &self.operation else {
            return;
        };
        let (kind, node) = name(operation);
        let why = self.record.why.take().unwrap_or_default();
        self.record.number = self.next_operation();
        self.record.began = Some(now.instant);
        self.record.rule.clear();
        let note = Note {
            node,
            ..Note::new(kind, Step::Began).with_cause(why.cause, why.evidence)
        };
        tell(Some(self.record.number), note, out);
    }

    pub(super) fn record_hook(
        &self,
        operation: u64,
        kind: HookKind,
        node: NodeId,
        line: &str,
        out: &mut Vec<Action>,
    ) {
        let of = match kind {
            HookKind::Failover => events::Kind::Failover,
            HookKind::Failback => events::Kind::Failback,
            HookKind::Follow => events::Kind::Follow,
        };
        let name = kind.parameter(self.settings.dialect);
        let note = Note {
            hook: Some(HookRun::begins(name, line)),
            ..Note::of_node(of, Step::Hook, node)
        };
        tell(Some(operation), note, out);
    }

    /// `result` is empty for an operation that has done what was wanted.
    pub(super) fn record_ended(
        &mut self,
        operation: &Operation,
        result: String,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let (kind, node) = name(operation);
        let result = if result.is_empty() {
            "done".to_owned()
        } else {
            result
        };
        let note = Note {
            node,
            main: self.view.main_node(),
            primary: self.view.primary,
            rule: std::mem::take(&mut self.record.rule),
            seconds: seconds(self.record.began.take(), now),
            ..Note::new(kind, Step::Ended).with_result(result)
        };
        tell(Some(self.record.number), note, out);
    }

    /// For the end of an operation that nobody has given another reason for.
    pub(super) fn rule_of_mode(&self) -> &'static str {
        match self.view.mode {
            ClusteringMode::StreamingReplication | ClusteringMode::LogicalReplication => {
                "the primary node is not concerned"
            }
            _ => "this mode has none",
        }
    }
}

fn name(operation: &Operation) -> (events::Kind, Option<NodeId>) {
    match (operation.kind, operation.wish) {
        (Kind::Start, _) => (events::Kind::Start, None),
        (Kind::Search, _) => (events::Kind::Search, None),
        (Kind::Down(_), Some(wish)) => (events::Kind::Switchover, Some(wish)),
        (Kind::Down(node), None) => (events::Kind::Failover, Some(node)),
        (Kind::Up(node), _) => (events::Kind::Failback, Some(node)),
        (Kind::Promote(node), _) => (events::Kind::Promotion, Some(node)),
    }
}

pub(super) fn seconds(began: Option<Instant>, now: Now) -> Option<f64> {
    began.map(|began| now.instant.saturating_duration_since(began).as_secs_f64())
}

pub(super) fn tell(operation: Option<u64>, note: Note, out: &mut Vec<Action>) {
    out.push(Action::Record(Told { operation, note }));
}

/// A cause for requests of which nothing more is known.
pub fn cause_of(source: Source) -> String {
    match source {
        Source::Main => "pgpool itself".to_owned(),
        Source::Child => "a session".to_owned(),
        Source::HealthCheck(node) => format!("the health check of node {node}"),
        Source::ReplicationCheck => "the replication check".to_owned(),
        Source::Pcp => "an operator".to_owned(),
        Source::FollowChild => "follow_primary_command".to_owned(),
        Source::Watchdog => "the watchdog, of several pgpool nodes".to_owned(),
    }
}
