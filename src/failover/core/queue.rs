//! Requests: which are taken, how they wait, which is worked off next.

use std::time::{Duration, Instant};

use super::{Action, Core, Now, Why, cause_of, texts::say};
use crate::{
    cluster::NodeId,
    control::Refusal,
    events::{ALREADY_ATTACHED, Step},
    failover::{
        request::{self, Entry, Facts, Judged, Request, Source},
        search::Answer,
    },
};

/// How long a reason of a health check counts while its request waits.
const REASON_LASTS: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(super) struct Queued {
    request: Request,
    source: Source,
    why: Why,
    /// When its reason was seen last.
    seen: Instant,
}

impl Queued {
    pub(super) fn request(&self) -> &Request {
        &self.request
    }

    /// A health check asks, so the reason may have gone while the request waited.
    fn may_be_outdated(&self) -> bool {
        matches!(
            (&self.request, self.source),
            (Request::Down { .. }, Source::HealthCheck(_))
        )
    }
}

impl Core {
    /// Whether a request would be taken now, without making it.
    ///
    /// # Errors
    ///
    /// The refusal, in the words of the PCP tools.
    pub fn would_accept(&self, request: &Request) -> Result<(), Refusal> {
        if !self.started {
            return Err(Refusal::error(
                "ignoring the failover request, since we are still starting up",
            ));
        }
        match self.judge(request) {
            Judged::Refused(refusal) => Err(refusal),
            Judged::Queue | Judged::AlreadyQueued | Judged::NothingToDo(_) => Ok(()),
        }
    }

    /// Takes a request into the queue and begins with it when nothing else goes on.
    ///
    /// `evidence`: version of the view in which the reason was seen; a reason from before the last
    /// attach of the node is ignored. `None`: an operator wishes it.
    ///
    /// The refusal is for the one who asked; it has been logged unless an operator is told.
    #[must_use = "the caller has to carry the actions out"]
    pub fn request(
        &mut self,
        request: Request,
        source: Source,
        evidence: Option<u64>,
        now: Now,
    ) -> (Result<(), Refusal>, Vec<Action>) {
        let why = Why::new(cause_of(source), "");
        self.request_because(request, source, why, evidence, now)
    }

    /// As [`Core::request`]; `why` is for the history.
    #[must_use = "the caller has to carry the actions out"]
    pub fn request_because(
        &mut self,
        request: Request,
        source: Source,
        why: Why,
        evidence: Option<u64>,
        now: Now,
    ) -> (Result<(), Refusal>, Vec<Action>) {
        let mut out = Vec::new();
        if evidence.is_some_and(|version| self.is_outdated(&request, version)) {
            let text = format!(
                "a reason to detach node {} from before its attach is ignored",
                request.node()
            );
            out.push(Action::Log(Entry::log(source, text.clone())));
            self.record_aside(Step::Refused, &request, why, text.clone(), &mut out);
            return (Err(Refusal::error(text)), out);
        }
        let result = self.take(request, source, why, now, &mut out);
        self.pump(now, &mut out);
        self.remember(&mut out);
        (result, out)
    }

    fn is_outdated(&self, request: &Request, evidence: u64) -> bool {
        let node = request.node();
        matches!(request, Request::Down { .. })
            && (self.attached.get(node).is_some_and(|&at| at > evidence)
                || self.waiting().contains(&&Request::Up { node }))
    }

    pub(super) fn waiting(&self) -> Vec<&Request> {
        self.queue.iter().map(|queued| &queued.request).collect()
    }

    pub(super) fn judge(&self, request: &Request) -> Judged {
        let facts = Facts {
            pid: self.settings.pid,
            can_promote: !self.settings.failover_command.is_empty(),
            following: self.follow.node(),
        };
        request::judge(request, &self.view, &self.waiting(), facts)
    }

    pub(super) fn take(
        &mut self,
        request: Request,
        source: Source,
        why: Why,
        now: Now,
        out: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let judged = self.judge(&request);
        if let Judged::Refused(refusal) = judged {
            if source != Source::Pcp {
                out.push(Action::Log(Entry::log(source, refusal.message.clone())));
            }
            self.record_aside(Step::Refused, &request, why, refusal.in_one_line(), out);
            return Err(refusal);
        }
        let mut say = |source, message: String| out.push(Action::Log(Entry::log(source, message)));
        // The original makes a switchover from a request to detach the primary.
        let (kind, node) = match (&request, self.view.primary) {
            (Request::Switchover { .. }, Some(primary)) => ("degenerate backend", primary),
            _ => (request.kind(), request.node()),
        };
        say(
            source,
            format!(
                "received {kind} request for node_id: {node} from pid [{}]",
                self.settings.pid
            ),
        );
        say(
            Source::Main,
            "Pgpool-II parent process has received failover request".to_owned(),
        );
        if !self.started {
            let text = "ignoring the failover request, since we are still starting up";
            say(Source::Main, text.to_owned());
            self.record_aside(Step::Refused, &request, why, text, out);
            return Err(Refusal::error(text));
        }
        match judged {
            Judged::Queue => {
                if self.is_busy() {
                    let result = "another operation goes on";
                    self.record_aside(Step::Waits, &request, why.clone(), result, out);
                }
                self.queue.push_back(Queued {
                    request,
                    source,
                    why,
                    seen: now.instant,
                });
            }
            Judged::NothingToDo(remark) => {
                say(Source::Main, remark);
                self.record_aside(Step::Dropped, &request, why, ALREADY_ATTACHED, out);
            }
            Judged::AlreadyQueued => {
                if let Some(queued) = self.queue.iter_mut().rfind(|q| q.request == request) {
                    queued.seen = now.instant;
                    // An operator's wish does not depend on a reason any more.
                    if !matches!(source, Source::HealthCheck(_)) {
                        queued.source = source;
                        queued.why = why;
                    }
                }
            }
            Judged::Refused(_) => {}
        }
        Ok(())
    }

    /// Begins with the next request when nothing goes on.
    pub(super) fn pump(&mut self, now: Now, out: &mut Vec<Action>) {
        while self.started && self.operation.is_none() && !self.asks() {
            let Some(queued) = self.queue.pop_front() else {
                return;
            };
            let waited = now.instant.saturating_duration_since(queued.seen);
            if queued.may_be_outdated() && waited > REASON_LASTS {
                let node = queued.request.node();
                say(
                    out,
                    format!(
                        "node {node} is looked at again before it is detached, because the request waited {} seconds",
                        waited.as_secs()
                    ),
                );
                out.push(Action::LookAgain { node });
                let result = "the request has waited for long, so the node is looked at again";
                self.record_aside(Step::Dropped, &queued.request, queued.why, result, out);
                continue;
            }
            if let Some(queued) = self.ask_to_begin(queued, out) {
                self.begin(queued, now, out);
            }
        }
    }

    pub(super) fn begin(&mut self, queued: Queued, now: Now, out: &mut Vec<Action>) {
        let source = queued.source;
        let (request, before) = (queued.request.clone(), out.len());
        self.record_request(queued.why);
        match queued.request {
            Request::Down { node } => self.begin_down(node, None, now, out),
            Request::Up { node } => self.begin_up(node, now, out),
            Request::Switchover { node } => self.begin_switchover(node, source, now, out),
            Request::Promote { node } => self.begin_promote(node, source, now, out),
        }
        self.record_unless_begun(&request, before, out);
    }

    /// A request that was taken and is not begun any more.
    pub(super) fn drop_queued(&self, queued: Queued, result: &str, out: &mut Vec<Action>) {
        self.record_aside(Step::Dropped, &queued.request, queued.why, result, out);
    }

    /// A server that answers is not down: health checks that asked for its end were wrong, or it
    /// has come back.
    pub(super) fn drop_disproved(&mut self, answers: &[Option<Answer>], out: &mut Vec<Action>) {
        let answered = |id: NodeId| {
            !matches!(
                answers.get(id),
                None | Some(None | Some(Answer::Unreachable(_)))
            )
        };
        let mut dropped = Vec::new();
        self.queue.retain(|queued| {
            let node = queued.request.node();
            let disproved = queued.may_be_outdated() && answered(node);
            if disproved {
                say(
                    out,
                    format!(
                        "degenerate backend request for node_id: {node} is dropped because the server has answered since"
                    ),
                );
                dropped.push((queued.request.clone(), queued.why.clone()));
            }
            !disproved
        });
        for (request, why) in dropped {
            let result = "the server has answered since";
            self.record_aside(Step::Dropped, &request, why, result, out);
        }
    }
}
