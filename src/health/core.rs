//! Health check of one backend: decides, never sleeps, opens no socket.
//!
//! Feed [`HealthCheck`] what happened and when; do what it returns. Retries, texts and statistics
//! are those of `src/main/health_check.c @ V4_3_5`, with these differences:
//!
//! - a server that answers with an error is alive and is not detached ([`Outcome::Alive`]);
//! - [`Event::Look`] looks at once when a server has cut a session, or one could not connect, or its host
//!   is silent; after a cut of the network it begins a round anew ([`Cause::Returned`]);
//! - a probe that we could not follow, because this process was stopped, is made again
//!   ([`Outcome::HeldUp`]);
//! - an answer to an older probe is ignored ([`Event::Probed::probe`]).

use std::time::{Duration, Instant, SystemTime};

use crate::{
    cluster::{NodeId, NodeStatus},
    failover::core::Now,
    failover::request::{Entry, Source},
    observe::HealthStats,
};

/// Pause between two looks while the server says that it does not accept connections.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// The least time that a server has to get over a start or stop before a look calls it down.
const PATIENCE_WITH_STARTUP: Duration = Duration::from_secs(2);
/// The most time that a server which refuses connections has to be started again.
const PATIENCE_WITH_RESTART: Duration = Duration::from_secs(1);
/// The same from the moment on at which it has said that it shuts down, its last checkpoint
/// included. Writes wait no longer than two seconds and the promotion, so this is below that.
const PATIENCE_WITH_SHUTDOWN: Duration = Duration::from_millis(1500);

/// The time for an answer of a server whose host the watchdog's lifecheck has called dead, after the
/// whole of its dead time: the usual time limits and retries come on top of that, and would let writes wait for
/// another half minute.
const PATIENCE_WITH_SILENT_HOST: Duration = Duration::from_secs(5);

/// The part of the parameters that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Between the end of one check and the next; `None`: off.
    pub period: Option<Duration>,
    /// Attempts after the first.
    pub max_retries: u32,
    pub retry_delay: Duration,
    pub disallow_to_failover: bool,
    /// `auto_failback_interval` when `auto_failback` is on and the mode allows it.
    pub auto_failback: Option<Duration>,
}

/// What the rest of the cluster says about the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Waiting or up, or in quarantine.
    Checked {
        quarantine: bool,
    },
    /// Down. `streaming`: the primary says that it feeds this node.
    Down {
        streaming: bool,
    },
    Unused,
    /// Valid, and nobody needs it to run: a node of raw mode that is not the main node.
    Spare,
}

impl NodeState {
    /// `replication_state` as the replication check found it.
    pub fn of(status: NodeStatus, quarantine: bool, replication_state: &str) -> NodeState {
        match status {
            NodeStatus::Unused => NodeState::Unused,
            NodeStatus::Down if !quarantine => NodeState::Down {
                streaming: replication_state == "streaming",
            },
            NodeStatus::Waiting | NodeStatus::Up | NodeStatus::Down => {
                NodeState::Checked { quarantine }
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Timer,
    /// The answer to [`Action::Probe`]; other numbers are ignored.
    Probed {
        probe: u64,
        outcome: Outcome,
    },
    /// Look at once; see [`Cause`].
    Look(Cause),
    /// The node was attached: what was found out before does not count any more.
    Attached,
    /// The settings have changed.
    Changed(Settings),
}

/// Why somebody wants a look now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A session was told 57P01 or 57P02.
    Shutdown { sqlstate: String },
    /// The server's end of a session's connection is gone, and nothing was said before.
    Cut { how: String },
    /// A session could not connect or lost its connection, and `failover_on_backend_error` is on.
    Error { reason: String },
    /// The request of this check to detach the node had to wait for another failover.
    Waited,
    /// Another pgpool node has seen a server fail.
    OtherNode,
    /// The lifecheck has lost the pgpool of the same host.
    HostSilent,
    /// This pgpool node was cut off, or without a quorum, and is not any more.
    Returned,
}

impl Cause {
    pub fn in_words(&self) -> String {
        match self {
            Cause::Shutdown { sqlstate } => {
                format!("a session was told SQLSTATE {sqlstate} by the server")
            }
            Cause::Cut { how } => format!("the server has cut a session: {how}"),
            Cause::Error { reason } => format!("a session reported: {reason}"),
            Cause::Waited => "the request to detach it has waited for long".to_owned(),
            Cause::OtherNode => "another pgpool node has seen a server fail".to_owned(),
            Cause::HostSilent => {
                "the watchdog's lifecheck has lost the pgpool of the same host".to_owned()
            }
            Cause::Returned => {
                "this pgpool node is back at its leader, or the quorum is back: what was seen before does not count".to_owned()
            }
        }
    }
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Logged in.
    Up,
    /// The server answered, but not as wished; the text says what to do.
    Alive { complaint: String, remedy: String },
    /// Nobody listens there.
    Refused,
    /// 57P03: starting up or shutting down.
    NotAccepting,
    /// Any other failure.
    NoAnswer { timed_out: bool },
    /// The fault is on our side; nothing is known of the server.
    Unknown { complaint: String },
    /// The time was up long before we looked at the clock: this process was stopped for so long.
    HeldUp { seconds: u64 },
}

/// What a look is made for: how much time the server has to get over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suspicion {
    /// It does not let somebody in: a look confirms it.
    Unreachable,
    /// Nothing comes from its host: one look without an answer confirms it.
    HostSilent,
    /// It has cut a session; all of them when a backend had crashed.
    Cut,
    /// It has said that an administrator ends it, or that session.
    ShutDown,
    /// None: what was seen before may come from a cut of the network. A round begins, with its retries.
    Nothing,
}

impl Suspicion {
    fn of(cause: &Cause) -> Suspicion {
        match cause {
            Cause::Shutdown { sqlstate } if sqlstate == "57P01" => Suspicion::ShutDown,
            Cause::Shutdown { .. } | Cause::Cut { .. } => Suspicion::Cut,
            Cause::Error { .. } | Cause::Waited | Cause::OtherNode => Suspicion::Unreachable,
            Cause::HostSilent => Suspicion::HostSilent,
            Cause::Returned => Suspicion::Nothing,
        }
    }

    /// What was seen may come from a cut of the network just as well.
    fn may_be_the_network(self) -> bool {
        !matches!(self, Suspicion::Cut | Suspicion::ShutDown)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Log(Entry),
    /// Connect, log in and say goodbye; answer with [`Event::Probed`]. An earlier probe may be dropped.
    /// `within`: without an answer by then it has timed out, whatever the parameters allow.
    Probe {
        probe: u64,
        within: Option<Duration>,
    },
    /// Send [`Event::Timer`] then; replaces an earlier request.
    WakeAt(Instant),
    /// Nothing to wake up for.
    Sleep,
    ReportDown {
        timed_out: bool,
    },
    ReportUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// A probe is under way.
    Probing(Purpose),
    /// The next probe is due at the timer.
    Pausing(Purpose),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// A check by the clock; retries made so far.
    Round { retries: u32, began: Instant },
    Look {
        suspicion: Suspicion,
        retries: u32,
        bad: Bad,
    },
    /// Is the detached node worth an attach?
    Failback,
}

/// When a look got the first bad answer of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bad {
    /// "Not accepting connections", and it had not refused before.
    ending: Option<Instant>,
    refused: Option<Instant>,
    /// "Not accepting connections", after it had refused or where it was not about to end.
    starting: Option<Instant>,
}

#[derive(Debug)]
pub struct HealthCheck {
    node: NodeId,
    settings: Settings,
    state: State,
    /// Of the latest probe.
    probe: u64,
    /// A look was asked for while one was under way: the server may have gone since.
    look_again: Option<Suspicion>,
    /// What was last complained of, so that it is said once.
    complaint: Option<String>,
    last_failback: Option<Instant>,
    stats: HealthStats,
}

impl HealthCheck {
    pub fn new(node: NodeId, settings: Settings, stats: HealthStats) -> HealthCheck {
        HealthCheck {
            node,
            settings,
            state: State::Idle,
            probe: 0,
            look_again: None,
            complaint: None,
            last_failback: None,
            stats,
        }
    }

    pub fn stats(&self) -> &HealthStats {
        &self.stats
    }

    /// `node` and `busy` (a failover is going on, or standbys are made to follow) as they are now.
    #[must_use = "the caller has to carry the actions out"]
    pub fn handle(&mut self, event: Event, node: NodeState, busy: bool, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Timer => match self.state {
                State::Idle => self.begin(node, busy, now, &mut out),
                State::Pausing(purpose) if matches!(node, NodeState::Checked { .. }) => {
                    self.start_probe(purpose, &mut out);
                }
                State::Pausing(purpose) => self.detached_meanwhile(purpose, now, &mut out),
                State::Probing(_) => {}
            },
            Event::Probed { probe, outcome } => {
                if let State::Probing(purpose) = self.state
                    && probe == self.probe
                {
                    self.probed(purpose, outcome, node, now, &mut out);
                }
            }
            Event::Look(cause) => self.look(&cause, node, &mut out),
            Event::Attached => {
                self.probe += 1;
                self.look_again = None;
                self.complaint = None;
                if let State::Probing(purpose) | State::Pausing(purpose) = self.state {
                    self.detached_meanwhile(purpose, now, &mut out);
                }
            }
            Event::Changed(settings) => self.changed(settings, now, &mut out),
        }
        out
    }

    fn begin(&mut self, node: NodeState, busy: bool, now: Now, out: &mut Vec<Action>) {
        if self.settings.period.is_none() {
            out.push(Action::Sleep);
            return;
        }
        if node == NodeState::Spare {
            self.rest(now, out);
            return;
        }
        self.stats.total += 1;
        self.stats.last = Some(now.wall);
        match node {
            NodeState::Checked { .. } => self.start_probe(
                Purpose::Round {
                    retries: 0,
                    began: now.instant,
                },
                out,
            ),
            NodeState::Down { streaming } if streaming && !busy && self.may_fail_back(now) => {
                self.start_probe(Purpose::Failback, out);
            }
            NodeState::Down { .. } | NodeState::Unused | NodeState::Spare => {
                self.skip(now.wall);
                self.rest(now, out);
            }
        }
    }

    fn may_fail_back(&self, now: Now) -> bool {
        self.settings.auto_failback.is_some_and(|interval| {
            self.last_failback
                .is_none_or(|last| now.instant.saturating_duration_since(last) >= interval)
        })
    }

    fn look(&mut self, cause: &Cause, node: NodeState, out: &mut Vec<Action>) {
        if !matches!(node, NodeState::Checked { quarantine: false }) {
            return;
        }
        let suspicion = Suspicion::of(cause);
        if let State::Probing(Purpose::Look {
            suspicion: first, ..
        })
        | State::Pausing(Purpose::Look {
            suspicion: first, ..
        }) = self.state
        {
            match (first, suspicion) {
                (Suspicion::Nothing, Suspicion::Nothing) => return,
                // A reason to look does not wait for the retries of a check that has none, and what was looked at
                // through a cut is looked at anew.
                (Suspicion::Nothing, _) => {}
                (first, Suspicion::Nothing) if first.may_be_the_network() => {}
                _ => {
                    self.look_again = Some(suspicion);
                    return;
                }
            }
        }
        out.push(Action::Log(
            Entry::log(
                self.source(),
                format!("looking at node {} at once", self.node),
            )
            .with_detail(cause.in_words()),
        ));
        if let State::Probing(Purpose::Round { .. }) | State::Pausing(Purpose::Round { .. }) =
            self.state
        {
            // The round is given up; the next one counts.
            self.stats.total = self.stats.total.saturating_sub(1);
        }
        self.start_probe(Purpose::look(suspicion), out);
    }

    fn changed(&mut self, settings: Settings, now: Now, out: &mut Vec<Action>) {
        if settings == self.settings {
            return;
        }
        self.settings = settings;
        self.complaint = None;
        if self.state == State::Idle {
            self.rest(now, out);
        }
    }

    fn probed(
        &mut self,
        purpose: Purpose,
        outcome: Outcome,
        node: NodeState,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        match outcome {
            Outcome::Alive { complaint, remedy } => {
                self.complain(complaint, remedy, out);
                self.not_down(purpose, false, node, now, out);
            }
            Outcome::Unknown { complaint } => {
                let remedy = "nothing is known of the server; its status stays as it is";
                self.complain(complaint, remedy.to_owned(), out);
                self.not_down(purpose, false, node, now, out);
            }
            Outcome::Up => {
                self.complaint = None;
                self.not_down(purpose, true, node, now, out);
            }
            Outcome::HeldUp { seconds } => {
                out.push(Action::Log(
                    Entry::warning(
                        self.source(),
                        format!(
                            "the health check of node {} is made again, because pgpool could not follow it",
                            self.node
                        ),
                    )
                    .with_detail(format!(
                        "pgpool was stopped, or had no processor, for about {seconds} seconds"
                    )),
                ));
                self.start_probe(purpose, out);
            }
            failure => self.failed(purpose, failure, node, now, out),
        }
    }

    /// `up`: logged in; otherwise at least no reason to call the node down.
    fn not_down(
        &mut self,
        purpose: Purpose,
        up: bool,
        node: NodeState,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        match purpose {
            Purpose::Round { retries, began } => {
                self.say_succeeded(up && retries > 0, out);
                self.round_ends(retries, began, up, now);
                if up && node == (NodeState::Checked { quarantine: true }) {
                    out.push(Action::ReportUp);
                }
            }
            Purpose::Look { retries, .. } => self.say_succeeded(up && retries > 0, out),
            Purpose::Failback => {
                self.skip(now.wall);
                if up && matches!(node, NodeState::Down { .. }) {
                    self.last_failback = Some(now.instant);
                    out.push(Action::Log(Entry::log(
                        self.source(),
                        format!("request auto failback, node id:{}", self.node),
                    )));
                    out.push(Action::ReportUp);
                }
            }
        }
        self.rest(now, out);
    }

    fn failed(
        &mut self,
        purpose: Purpose,
        failure: Outcome,
        node: NodeState,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if !matches!(node, NodeState::Checked { .. }) {
            self.detached_meanwhile(purpose, now, out);
            return;
        }
        let timed_out = failure == Outcome::NoAnswer { timed_out: true };
        match purpose {
            Purpose::Round { retries, began } => {
                if retries < self.settings.max_retries {
                    let round = retries + 1;
                    self.say_retrying(round, out);
                    self.pause(
                        Purpose::Round {
                            retries: round,
                            began,
                        },
                        self.settings.retry_delay,
                        now,
                        out,
                    );
                } else {
                    self.round_ends(retries, began, false, now);
                    self.report(timed_out, node, out);
                    self.rest(now, out);
                }
            }
            Purpose::Look {
                suspicion,
                retries,
                bad,
            } => self.look_failed(suspicion, retries, bad, failure, node, now, out),
            // The node was attached while the probe was under way.
            Purpose::Failback => self.rest(now, out),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn look_failed(
        &mut self,
        suspicion: Suspicion,
        looks: u32,
        mut bad: Bad,
        failure: Outcome,
        node: NodeState,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let timed_out = failure == Outcome::NoAnswer { timed_out: true };
        if now.instant < self.patience(suspicion, &mut bad, &failure, now.instant) {
            self.say_retrying(looks + 1, out);
            let purpose = Purpose::Look {
                suspicion,
                retries: looks + 1,
                bad,
            };
            self.pause(purpose, LOOK_PAUSE, now, out);
        } else if suspicion == Suspicion::Nothing
            || timed_out && !matches!(suspicion, Suspicion::Unreachable | Suspicion::HostSilent)
        {
            // Silence is weaker evidence than a refusal: the retries of the operator count.
            self.stats.total += 1;
            self.stats.last = Some(now.wall);
            let round = Purpose::Round {
                retries: 0,
                began: now.instant,
            };
            self.failed(round, failure, node, now, out);
        } else {
            self.report(timed_out, node, out);
            self.rest(now, out);
        }
    }

    /// Until when a server that gives this answer may get over it; now: no longer.
    ///
    /// Somebody may be restarting it: that is not a failure as long as the operator's own retries
    /// would bridge it, within bounds.
    fn patience(
        &self,
        suspicion: Suspicion,
        bad: &mut Bad,
        failure: &Outcome,
        now: Instant,
    ) -> Instant {
        let retries = self
            .settings
            .retry_delay
            .saturating_mul(self.settings.max_retries);
        let ends = suspicion == Suspicion::ShutDown && bad.refused.is_none();
        let until = match failure {
            Outcome::NoAnswer { timed_out: true } => return now,
            Outcome::NotAccepting if ends => {
                let since = *bad.ending.get_or_insert(now);
                return since + retries.min(PATIENCE_WITH_SHUTDOWN);
            }
            Outcome::NotAccepting => {
                let since = *bad.starting.get_or_insert(now);
                return since + retries.max(PATIENCE_WITH_STARTUP);
            }
            _ => *bad.refused.get_or_insert(now),
        };
        let least = match (suspicion, failure) {
            (Suspicion::Unreachable | Suspicion::HostSilent | Suspicion::Nothing, _) => return now,
            (_, Outcome::Refused) => Duration::ZERO,
            // Cut without a word: perhaps with all others, when a backend had crashed.
            _ => LOOK_PAUSE,
        };
        let refused = until + retries.min(PATIENCE_WITH_RESTART).max(least);
        let ending = bad
            .ending
            .map(|since| since + retries.min(PATIENCE_WITH_SHUTDOWN));
        ending.map_or(refused, |ending| refused.min(ending))
    }

    /// Somebody else has detached the node, or it is not worth an attach.
    fn detached_meanwhile(&mut self, purpose: Purpose, now: Now, out: &mut Vec<Action>) {
        if !matches!(purpose, Purpose::Look { .. }) {
            self.skip(now.wall);
        }
        self.rest(now, out);
    }

    fn report(&mut self, timed_out: bool, node: NodeState, out: &mut Vec<Action>) {
        let id = self.node;
        let flag = u8::from(timed_out);
        let source = self.source();
        let mut say = |text: String| out.push(Action::Log(Entry::log(source, text)));
        if self.settings.disallow_to_failover {
            say(format!(
                "health check failed on node {id} but failover is disallowed for the node"
            ));
            return;
        }
        say(format!("health check failed on node {id} (timeout:{flag})"));
        if node == (NodeState::Checked { quarantine: true }) {
            out.push(Action::Log(
                Entry::log(
                    source,
                    format!("health check failed on quarantine node {id} (timeout:{flag})"),
                )
                .with_detail("ignoring.."),
            ));
            return;
        }
        out.push(Action::ReportDown { timed_out });
    }

    fn say_retrying(&self, round: u32, out: &mut Vec<Action>) {
        out.push(Action::Log(Entry::log(
            self.source(),
            format!(
                "health check retrying on DB node: {} (round:{round})",
                self.node
            ),
        )));
    }

    fn say_succeeded(&self, after_a_retry: bool, out: &mut Vec<Action>) {
        if after_a_retry {
            out.push(Action::Log(Entry::log(
                self.source(),
                format!("health check retrying on DB node: {} succeeded", self.node),
            )));
        }
    }

    fn complain(&mut self, complaint: String, remedy: String, out: &mut Vec<Action>) {
        if self.complaint.as_ref() == Some(&complaint) {
            return;
        }
        out.push(Action::Log(
            Entry::warning(
                self.source(),
                format!(
                    "health check cannot log in to node {}, which is not taken as a failure of the node",
                    self.node
                ),
            )
            .with_detail(complaint.clone())
            .with_hint(remedy),
        ));
        self.complaint = Some(complaint);
    }

    fn round_ends(&mut self, retries: u32, began: Instant, up: bool, now: Now) {
        let stats = &mut self.stats;
        let took = now.instant.saturating_duration_since(began);
        stats.retry += u64::from(retries);
        stats.max_retry = stats.max_retry.max(u64::from(retries));
        stats.max_duration = stats.max_duration.max(took);
        stats.min_duration = Some(stats.min_duration.map_or(took, |min| min.min(took)));
        stats.total_duration += took;
        if up {
            stats.success += 1;
            stats.last_success = Some(now.wall);
        } else {
            stats.fail += 1;
            stats.last_fail = Some(now.wall);
        }
    }

    fn skip(&mut self, wall: SystemTime) {
        self.stats.skip += 1;
        self.stats.last_skip = Some(wall);
    }

    fn start_probe(&mut self, purpose: Purpose, out: &mut Vec<Action>) {
        self.probe += 1;
        // This probe is later than what was reported.
        self.look_again = None;
        self.state = State::Probing(purpose);
        let silent = matches!(
            purpose,
            Purpose::Look {
                suspicion: Suspicion::HostSilent,
                ..
            }
        );
        out.push(Action::Probe {
            probe: self.probe,
            within: silent.then_some(PATIENCE_WITH_SILENT_HOST),
        });
    }

    fn pause(&mut self, purpose: Purpose, pause: Duration, now: Now, out: &mut Vec<Action>) {
        self.state = State::Pausing(purpose);
        out.push(Action::WakeAt(now.instant + pause));
    }

    /// Back to the schedule, or to a look that was asked for meanwhile.
    fn rest(&mut self, now: Now, out: &mut Vec<Action>) {
        if let Some(suspicion) = self.look_again.take() {
            self.pause(Purpose::look(suspicion), LOOK_PAUSE, now, out);
            return;
        }
        self.state = State::Idle;
        out.push(match self.settings.period {
            Some(period) => Action::WakeAt(now.instant + period),
            None => Action::Sleep,
        });
    }

    fn source(&self) -> Source {
        Source::HealthCheck(self.node)
    }
}

impl Purpose {
    fn look(suspicion: Suspicion) -> Purpose {
        Purpose::Look {
            suspicion,
            retries: 0,
            bad: Bad::default(),
        }
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
