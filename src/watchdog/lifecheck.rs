//! Lifecheck: which nodes are alive, by heartbeats or by queries, and whether this one is cut off.
//!
//! A core like [`super::core`]: the shell sends and receives datagrams, runs queries and pings, and
//! hands [`Action::Report`] to the watchdog's core. With the method `external` it does nothing, not even ask
//! the trusted servers, as in the original; the reports come through the local socket.
//!
//! Other than in the original each node is watched from its first sign of life on: one that never
//! appears does not switch the check off for all.

mod clock;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use self::clock::SenderClock;
use super::{
    codec::heartbeat::Heartbeat,
    core::{Entry, PeerId},
    settings::{LifecheckMethod, Settings},
};
use crate::observe::Severity;

#[derive(Clone, Debug)]
pub enum Event {
    /// Sent once, first.
    Start,
    Timer,
    /// A datagram came from this address in text form; `signed`: its hash is right.
    Heartbeat {
        heartbeat: Heartbeat,
        source: String,
        signed: bool,
    },
    /// The query of [`Action::Query`] has ended.
    Queried {
        peer: PeerId,
        answered: bool,
    },
    /// Somebody among the trusted servers has answered (`Some(true)`), or nobody. `None`: they could not be asked.
    Pinged {
        any: Option<bool>,
    },
    /// Online recovery goes on: nobody is judged meanwhile.
    Recovering(bool),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Log(Entry),
    WakeAt(Instant),
    /// To every destination, with the wall clock's time.
    SendHeartbeats,
    /// Connect and run `wd_lifecheck_query`, within half of `wd_interval` plus a second.
    Query {
        peer: PeerId,
    },
    /// All at once, as [`LifecheckSettings`](super::settings::LifecheckSettings) says; one answer is enough.
    PingTrusted,
    Report {
        peer: PeerId,
        alive: bool,
    },
    /// This node is cut off.
    LocalDead {
        reason: String,
    },
}

#[derive(Debug)]
struct Watched {
    /// The last sign of life; `None`: none since the start.
    seen: Option<Instant>,
    clock: SenderClock,
    failures: u32,
    asking: bool,
    dead: bool,
}

#[derive(Debug)]
pub struct Lifecheck {
    settings: Arc<Settings>,
    nodes: Vec<Watched>,
    now: Instant,
    next_send: Option<Instant>,
    next_round: Option<Instant>,
    pinging: bool,
    /// It was said that the trusted servers cannot be asked.
    complained: bool,
    recovering: bool,
    wake: Option<Instant>,
    out: Vec<Action>,
}

impl Lifecheck {
    pub fn new(settings: Arc<Settings>, now: Instant) -> Lifecheck {
        let node = |_: &super::settings::Member| Watched {
            seen: None,
            clock: SenderClock::default(),
            failures: 0,
            asking: false,
            dead: false,
        };
        Lifecheck {
            nodes: settings.others.iter().map(node).collect(),
            settings,
            now,
            next_send: None,
            next_round: None,
            pinging: false,
            complained: false,
            recovering: false,
            wake: None,
            out: Vec::new(),
        }
    }

    #[must_use = "the caller has to carry the actions out"]
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        self.now = self.now.max(now);
        self.notice_suspension();
        match event {
            Event::Start => self.start(),
            Event::Timer => {}
            Event::Heartbeat {
                heartbeat,
                source,
                signed,
            } => self.heartbeat(&heartbeat, &source, signed),
            Event::Queried { peer, answered } => self.queried(peer, answered),
            Event::Pinged { any } => self.pinged(any),
            Event::Recovering(on) => {
                self.recovering = on;
                if !on {
                    self.forgive();
                }
            }
        }
        self.tick();
        std::mem::take(&mut self.out)
    }

    fn start(&mut self) {
        if self.settings.lifecheck.method == LifecheckMethod::Heartbeat {
            self.next_send = Some(self.now);
        }
        self.next_round = Some(self.now + self.settings.lifecheck.interval);
    }

    /// After a stop of this process all signs of life look old, and the new ones wait in the socket.
    fn notice_suspension(&mut self) {
        let pause = self
            .settings
            .heartbeat
            .keepalive
            .max(Duration::from_secs(1));
        let late = |wake: Instant| self.now.saturating_duration_since(wake) >= pause;
        if self.wake.is_some_and(late) {
            self.forgive();
        }
    }

    fn forgive(&mut self) {
        for node in &mut self.nodes {
            node.seen = node.seen.map(|_| self.now);
            node.failures = 0;
        }
    }

    fn tick(&mut self) {
        if self.next_send.is_some_and(|at| at <= self.now) {
            let keepalive = self
                .settings
                .heartbeat
                .keepalive
                .max(Duration::from_secs(1));
            self.next_send = Some(self.now + keepalive);
            self.out.push(Action::SendHeartbeats);
        }
        if self.next_round.is_some_and(|at| at <= self.now) {
            self.next_round = Some(self.now + self.settings.lifecheck.interval);
            self.round();
        }
        if self.settings.lifecheck.method == LifecheckMethod::Heartbeat && !self.recovering {
            for peer in 0..self.nodes.len() {
                if self.silent_at(peer).is_some_and(|at| at <= self.now) {
                    self.report(peer, false, "No heartbeat signal from node");
                }
            }
        }
        let silent = (0..self.nodes.len()).filter_map(|peer| self.silent_at(peer));
        let silent = silent.filter(|at| *at > self.now).min();
        let all = [self.next_send, self.next_round, silent];
        let wake = all.into_iter().flatten().min();
        if wake != self.wake {
            self.wake = wake;
            self.out.extend(wake.map(Action::WakeAt));
        }
    }

    fn round(&mut self) {
        let lifecheck = &self.settings.lifecheck;
        let external = lifecheck.method == LifecheckMethod::External;
        if !external && !lifecheck.trusted_servers.is_empty() && !self.pinging {
            self.pinging = true;
            self.out.push(Action::PingTrusted);
        }
        if self.settings.lifecheck.method != LifecheckMethod::Query || self.recovering {
            return;
        }
        for peer in 0..self.nodes.len() {
            if !self.nodes[peer].asking && !self.settings.others[peer].is_gap() {
                self.nodes[peer].asking = true;
                self.out.push(Action::Query { peer });
            }
        }
    }

    /// When a node that is not yet called dead has been silent for too long.
    fn silent_at(&self, peer: PeerId) -> Option<Instant> {
        let node = &self.nodes[peer];
        if node.dead || self.settings.lifecheck.method != LifecheckMethod::Heartbeat {
            return None;
        }
        Some(node.seen? + self.settings.lifecheck.deadtime)
    }

    fn heartbeat(&mut self, heartbeat: &Heartbeat, source: &str, signed: bool) {
        if !signed {
            return;
        }
        let members = &self.settings.others;
        let Some(peer) = members.iter().position(|member| {
            member.pgpool_port == heartbeat.pgpool_port
                && (member.host == heartbeat.host || member.host == source)
        }) else {
            return;
        };
        if self.nodes[peer].clock.accepts(heartbeat.sent) {
            self.alive(peer, "Heartbeat signal found");
        }
    }

    fn queried(&mut self, peer: PeerId, answered: bool) {
        let Some(node) = self.nodes.get_mut(peer) else {
            return;
        };
        node.asking = false;
        if answered {
            return self.alive(peer, "it answers again");
        }
        node.failures += 1;
        let enough = node.failures >= self.settings.lifecheck.life_point.max(1);
        if enough && node.seen.is_some() && !node.dead && !self.recovering {
            self.report(peer, false, "unable to connect to node");
        }
    }

    fn alive(&mut self, peer: PeerId, why: &str) {
        let now = self.now;
        let node = &mut self.nodes[peer];
        node.failures = 0;
        let first = node.seen.is_none();
        node.seen = Some(now);
        if first {
            self.log(
                Severity::Log,
                format!(
                    "lifecheck of watchdog node {} begins",
                    self.settings.others[peer].label()
                ),
            );
            let mut all = self.nodes.iter().zip(&self.settings.others);
            if all.all(|(node, member)| node.seen.is_some() || member.is_gap()) {
                // In stock nodes it begins for all at the same time.
                self.log(Severity::Log, "watchdog: lifecheck started".to_owned());
            }
        } else if node.dead {
            self.report(peer, true, why);
        }
    }

    fn report(&mut self, peer: PeerId, alive: bool, why: &str) {
        self.nodes[peer].dead = !alive;
        let label = self.settings.others[peer].label();
        let (severity, word) = if alive {
            (Severity::Log, "alive")
        } else {
            (Severity::Warning, "dead")
        };
        self.log(
            severity,
            format!("lifecheck: watchdog node {label} is {word}: {why}"),
        );
        self.out.push(Action::Report { peer, alive });
    }

    fn pinged(&mut self, any: Option<bool>) {
        self.pinging = false;
        let complained = std::mem::replace(&mut self.complained, any.is_none());
        match any {
            Some(false) if !self.recovering => self.out.push(Action::LocalDead {
                reason: "trusted server is unreachable: none of trusted_servers has answered to ping"
                    .to_owned(),
            }),
            None if !complained => self.out.push(Action::Log(Entry {
                severity: Severity::Warning,
                message: "failed to check the ping status of trusted servers: the ping cannot be run, so nobody knows whether this node is cut off".to_owned(),
                hint: "look at ping_path or trusted_server_command, and at the limits of processes and open files; it is tried again each wd_interval".to_owned(),
            })),
            _ => {}
        }
    }

    fn log(&mut self, severity: Severity, message: String) {
        self.out.push(Action::Log(Entry {
            severity,
            message,
            hint: String::new(),
        }));
    }
}
