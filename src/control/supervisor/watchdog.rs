//! The watchdog and the supervisor: what the one wants of the other.

use std::time::Duration;

use tokio::{sync::oneshot, time::Instant};

use super::{Reply, Supervisor, commands::answer, told::say};
use crate::{
    cluster::Node,
    control::StopMode,
    events::{Kind, Note, Step},
    failover::{
        consult::{self, Asked, Question, Verdict},
        core::{Adopted, Event, Why},
        request::{Entry, Request, Source},
    },
    health::core::{Cause, Event as HealthEvent},
    process::log_sink::LogSink,
    watchdog::{
        clock,
        codec::{
            function::{ClusterCommand, FailoverRequest, FailoverResult, Flags},
            status::BackendStatus,
        },
        shell::{Near, Order, Wish},
    },
};

/// How long a standby waits for the leader's picture of the backends before it starts with its own.
const PICTURE: Duration = Duration::from_secs(5);

/// What a start waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The watchdog has to lead or to join first.
    Joining,
    /// It has joined: the leader tells how the backends are, at the latest then.
    Picture(Instant),
    Begun,
}

impl Supervisor {
    /// Together with other pgpools.
    pub fn with_watchdog(mut self, watchdog: Near) -> Supervisor {
        self.core = self.core.with_watchdog();
        self.watchdog = Some(watchdog);
        self
    }

    /// Begins at once without a watchdog.
    pub(super) async fn start(&mut self) {
        if self.watchdog.is_none() {
            return self.begin().await;
        }
        self.reporter
            .log("waiting for watchdog to initialize, clients are served when this node leads or has joined");
    }

    async fn begin(&mut self) {
        if self.start != Start::Begun {
            self.start = Start::Begun;
            self.event(Event::Start).await;
        }
    }

    /// When [`Supervisor::watchdog_is_due`] has to be called.
    pub(super) fn watchdog_wakes(&self) -> Option<Instant> {
        let start = match self.start {
            Start::Picture(until) => Some(until),
            Start::Joining | Start::Begun => None,
        };
        let again = self.consult.next();
        let again = again.map(|at| Instant::now() + at.saturating_duration_since(clock::now()));
        [start, again].into_iter().flatten().min()
    }

    pub(super) async fn watchdog_is_due(&mut self) {
        let now = Instant::now();
        for (ticket, verdict) in self.consult.stale(clock::now()) {
            self.found(ticket, verdict).await;
        }
        for question in self.consult.due(clock::now()) {
            self.put(question);
        }
        if matches!(self.start, Start::Picture(until) if until <= now) {
            self.reporter
                .warning("the watchdog's leader has not told how the backends are: starting with what is known here");
            self.begin().await;
        }
    }

    /// Asks the other nodes before anything is done. What comes of it is told in [`Supervisor::answered`],
    /// and to `reply`.
    pub(super) fn consult(&mut self, asked: Asked, reply: Option<Reply>) {
        if let Err(refusal) = self.core.would_accept(&asked.request) {
            if asked.source != Source::Pcp {
                say(Entry::log(asked.source, refusal.message.clone()));
            }
            self.record_refusal(&asked.request, asked.why, &refusal);
            if let Some(reply) = reply {
                answer(reply, Err(refusal));
            }
            return;
        }
        let Some(question) = self.consult.ask(asked, clock::now()) else {
            return;
        };
        if let Some(reply) = reply {
            self.replies.insert(question.ticket, reply);
        }
        self.put(question);
    }

    fn put(&self, question: Question) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.request(question.ticket, question.request);
        }
    }

    async fn answered(&mut self, ticket: u64, result: FailoverResult) {
        let agreed = self
            .consult
            .request(ticket)
            .filter(|_| result == FailoverResult::Proceed)
            .cloned();
        if let Some(verdict) = self.consult.answered(ticket, result, clock::now()) {
            if let (Verdict::Refused(_), Some(request)) = (&verdict, agreed) {
                // Nobody shall wait for it.
                self.tell_dropped(&request);
            }
            self.found(ticket, verdict).await;
        }
    }

    async fn found(&mut self, ticket: u64, verdict: Verdict) {
        let result = match verdict {
            Verdict::Later => return,
            Verdict::Do(asked) => {
                let Asked {
                    request,
                    source,
                    why,
                    evidence,
                } = asked;
                self.decided(request, source, why, evidence).await
            }
            Verdict::Elsewhere(line) => {
                self.reporter.log(line);
                Ok(())
            }
            Verdict::Quarantine { node, why, line } => {
                self.reporter.log(line);
                self.event(Event::Quarantine { node, why }).await;
                Ok(())
            }
            Verdict::Refused(refusal) => {
                self.reporter.emit(
                    crate::observe::Severity::Log,
                    &refusal.message,
                    &refusal.detail,
                    "",
                );
                Err(refusal)
            }
        };
        if let Some(reply) = self.replies.remove(&ticket) {
            answer(reply, result);
        }
    }

    pub(super) async fn wish(&mut self, wish: Wish) {
        match wish {
            Wish::Leader { coordinates } => {
                // Whoever has held others back for a follow command leads no more.
                self.leader_follows = false;
                self.event(Event::Coordinates(coordinates)).await;
            }
            Wish::Settled { leads } => {
                self.reporter.log("watchdog process is initialized");
                if leads {
                    self.begin().await;
                } else if self.start == Start::Joining {
                    self.start = Start::Picture(Instant::now() + PICTURE);
                }
            }
            Wish::Adopt { number, status } => {
                self.event(Event::Adopt(Adopted::from(&status))).await;
                // It is on disk and published now: others may rely on it.
                if let Some(watchdog) = &self.watchdog {
                    watchdog.adopted(number);
                }
                self.begin().await;
            }
            Wish::Failover(request) => self.ordered(&request).await,
            Wish::Answer { ticket, result } => self.answered(ticket, result).await,
            Wish::VoteForQuarantined => self.vote_again(),
            Wish::ReleaseQuarantined => self.event(Event::ReleaseAll).await,
            Wish::LookAtBackends => {
                self.look_at_those(Cause::OtherNode, |node| self.may_find_down(node.id));
            }
            // Without health checks only sessions find a server down.
            Wish::CheckBackends => {
                self.look_at_those(Cause::Returned, |node| self.is_checked(node.id));
            }
            Wish::LookAtHost(host) => {
                self.look_at_those(Cause::HostSilent, |node| {
                    *node.hostname == *host && self.is_checked(node.id)
                });
            }
            Wish::Run {
                command,
                from_leader,
            } => self.run_command(&command, from_leader).await,
            Wish::Exit { reason } => self.exit(reason),
        }
    }

    /// The watchdog has decided, for other nodes.
    async fn ordered(&mut self, request: &FailoverRequest) {
        let why = Why::new("the watchdog", "other pgpool nodes have asked for it");
        let request = consult::from_wire(request);
        // A refusal has been logged.
        let _ = self.decided(request, Source::Watchdog, why, None).await;
    }

    fn vote_again(&mut self) {
        let quarantined = self.core.view().nodes.iter().filter(|n| n.quarantine);
        let quarantined: Vec<_> = quarantined.map(|node| node.id).collect();
        for node in quarantined {
            if let Some(question) = self.consult.vote_again(node, clock::now()) {
                self.put(question);
            }
        }
    }

    /// Has the health checks of these nodes look at once: the vote of one pgpool node alone does nothing,
    /// and the next check by the clock is long to come.
    fn look_at_those(&self, cause: Cause, which: impl Fn(&Node) -> bool) {
        let valid = self.core.view().nodes.iter().filter(|n| n.is_valid());
        for node in valid.filter(|node| which(node)) {
            if let Some(check) = self.health.get(&node.id) {
                check.send(HealthEvent::Look(cause.clone()));
            }
        }
    }

    async fn run_command(&mut self, command: &ClusterCommand, from_leader: bool) {
        const BY: &str = "an operator's command at another watchdog node";
        match command.command.to_ascii_uppercase().as_str() {
            "RELOAD_CONFIG_CLUSTER" => {
                let (reply, _) = oneshot::channel();
                self.reload(BY.to_owned(), reply);
            }
            "SHUTDOWN_CLUSTER" => {
                let mode = match command.argument("mode") {
                    Some("f") => StopMode::Fast,
                    Some("i") => StopMode::Immediate,
                    _ => StopMode::Smart,
                };
                self.reporter.log(format_args!("{mode:?} shutdown by {BY}"));
                // The process ends itself; if it is not there any more, it has ended.
                let _ = self.stop.send(mode);
            }
            "LOGROTATE_CLUSTER" => {
                if let Some(sink) = LogSink::global().filter(|sink| sink.has_collector()) {
                    sink.rotate();
                }
            }
            // Stock nodes know of one lock: the leader's follow command works on backends.
            "APPLY_LOCK_ON_STANDBY" if from_leader => {
                let acquires = |op: &str| op.eq_ignore_ascii_case("acquire");
                self.leader_follows = command.argument("LockingOperation").is_some_and(acquires);
                self.show_hands_off();
            }
            other => self.reporter.log(format_args!(
                "the command \"{other}\" of another watchdog node is ignored"
            )),
        }
    }

    fn exit(&self, reason: String) {
        let note = Note::new(Kind::Watchdog, Step::Ended)
            .with_cause(reason, "")
            .with_result("this node has no business to go on: pgpool stops");
        self.shared.events.record(None, note);
        // As above.
        let _ = self.stop.send(StopMode::Fast);
    }

    /// What was agreed on begins or has ended, for the other nodes.
    pub(super) fn tell_progress(&self, begins: bool) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.failover(begins);
        }
    }

    /// A leader that makes nodes follow keeps the others from attaching them.
    pub(super) fn tell_following(&self, follows: bool) {
        let Some(watchdog) = self.shared.watchdog.get() else {
            return;
        };
        let operation = if follows { "acquire" } else { "release" };
        watchdog.send(Order::ClusterCommand(ClusterCommand::new(
            "APPLY_LOCK_ON_STANDBY",
            &[("StandbyLockType", "1"), ("LockingOperation", operation)],
        )));
    }

    /// Answers [`crate::failover::core::Action::AskToBegin`].
    pub(super) fn may_begin(&self, request: &Request) -> bool {
        let request = consult::to_wire(request, Flags::WATCHDOG);
        let watchdog = self.watchdog.as_ref();
        watchdog.is_none_or(|watchdog| watchdog.may_begin(&request))
    }

    /// What the watchdog knows of the backends at its start.
    pub fn backend_status(&self) -> BackendStatus {
        self.core.backend_status()
    }

    /// What was agreed on is not done after all.
    pub(super) fn tell_dropped(&self, request: &Request) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.dropped(consult::to_wire(request, Flags::default()));
        }
    }

    /// Before a view is published.
    pub(super) fn tell_watchdog(&self) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.backends(self.core.backend_status());
        }
    }
}
