//! Health check of one backend: decides, never sleeps, opens no socket.
//!
//! Feed [`HealthCheck`] what happened and when; do what it returns. Retries, texts and statistics
//! are those of `src/main/health_check.c @ V4_3_5`, with these differences:
//!
//! - a server that answers with an error is alive and is not detached ([`Outcome::Alive`]);
//! - [`Event::Look`] looks at once when a session was told of a shutdown or could not connect;
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
    /// A session could not connect or lost its connection, and `failover_on_backend_error` is on.
    Error { reason: String },
    /// The request of this check to detach the node had to wait for another failover.
    Waited,
}

impl Cause {
    pub fn in_words(&self) -> String {
        match self {
            Cause::Shutdown { sqlstate } => {
                format!("a session was told SQLSTATE {sqlstate} by the server")
            }
            Cause::Error { reason } => format!("a session reported: {reason}"),
            Cause::Waited => "the request to detach it has waited for long".to_owned(),
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
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Log(Entry),
    /// Connect, log in and say goodbye; answer with [`Event::Probed`]. An earlier probe may be dropped.
    Probe {
        probe: u64,
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
    /// `since` the first bad answer of that kind.
    Look {
        shutdown: bool,
        retries: u32,
        refused_since: Option<Instant>,
        starting_since: Option<Instant>,
    },
    /// Is the detached node worth an attach?
    Failback,
}

#[derive(Debug)]
pub struct HealthCheck {
    node: NodeId,
    settings: Settings,
    state: State,
    /// Of the latest probe.
    probe: u64,
    /// A look was asked for while one was under way: the server may have gone since.
    look_again: Option<bool>,
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
        let shutdown = matches!(cause, Cause::Shutdown { .. });
        if let State::Probing(Purpose::Look { .. }) | State::Pausing(Purpose::Look { .. }) =
            self.state
        {
            self.look_again = Some(shutdown);
            return;
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
        self.start_probe(Purpose::look(shutdown), out);
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
                shutdown,
                retries: looks,
                refused_since,
                starting_since,
            } => {
                let retries = self
                    .settings
                    .retry_delay
                    .saturating_mul(self.settings.max_retries);
                let refused = !timed_out && failure != Outcome::NotAccepting;
                let starting = failure == Outcome::NotAccepting;
                // Somebody restarts the server: that is not a failure as long as the
                // operator's own retries would bridge it.
                let patience = if starting {
                    retries.max(PATIENCE_WITH_STARTUP)
                } else if failure == Outcome::Refused && shutdown {
                    retries.min(PATIENCE_WITH_RESTART)
                } else if refused && shutdown {
                    // Cut without a word: perhaps with all others, when a backend had crashed.
                    retries.min(PATIENCE_WITH_RESTART).max(LOOK_PAUSE)
                } else {
                    Duration::ZERO
                };
                let since = if starting {
                    starting_since
                } else {
                    refused_since
                }
                .unwrap_or(now.instant);
                if now.instant.saturating_duration_since(since) < patience {
                    self.say_retrying(looks + 1, out);
                    let purpose = Purpose::Look {
                        shutdown,
                        retries: looks + 1,
                        refused_since: if refused { Some(since) } else { refused_since },
                        starting_since: if starting {
                            Some(since)
                        } else {
                            starting_since
                        },
                    };
                    self.pause(purpose, LOOK_PAUSE, now, out);
                } else if timed_out && shutdown {
                    // Silence is weaker evidence than a refusal: the retries of the operator count.
                    self.stats.total += 1;
                    self.stats.last = Some(now.wall);
                    self.failed(
                        Purpose::Round {
                            retries: 0,
                            began: now.instant,
                        },
                        failure,
                        node,
                        now,
                        out,
                    );
                } else {
                    self.report(timed_out, node, out);
                    self.rest(now, out);
                }
            }
            // The node was attached while the probe was under way.
            Purpose::Failback => self.rest(now, out),
        }
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
        out.push(Action::Probe { probe: self.probe });
    }

    fn pause(&mut self, purpose: Purpose, pause: Duration, now: Now, out: &mut Vec<Action>) {
        self.state = State::Pausing(purpose);
        out.push(Action::WakeAt(now.instant + pause));
    }

    /// Back to the schedule, or to a look that was asked for meanwhile.
    fn rest(&mut self, now: Now, out: &mut Vec<Action>) {
        if let Some(shutdown) = self.look_again.take() {
            self.pause(Purpose::look(shutdown), LOOK_PAUSE, now, out);
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
    fn look(shutdown: bool) -> Purpose {
        Purpose::Look {
            shutdown,
            retries: 0,
            refused_since: None,
            starting_since: None,
        }
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
