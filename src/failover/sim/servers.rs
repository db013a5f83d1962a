//! The servers of a history: how they answer health checks and questions, and how they change.

use super::*;

impl World {
    pub(super) fn wake_health(&mut self, node: NodeId, after: Duration) {
        let at = self.time + after;
        self.health_wake[node] = Some(at);
        self.due(after, Due::HealthTimer { node, at });
    }

    pub(super) fn health(&mut self, node: NodeId, event: health::Event) {
        let Some(view) = self.core.view().node(node) else {
            return;
        };
        let state = health::NodeState::of(view.status, view.quarantine, "");
        let busy = self.core.is_busy() || self.core.is_following();
        let now = self.now();
        let Some(check) = self.checks.get_mut(node) else {
            return;
        };
        let mut report = false;
        for action in check.handle(event, state, busy, now) {
            match action {
                health::Action::Log(entry) => self.note(|| format!("log: {}", entry.message)),
                health::Action::Probe { probe, .. } => {
                    self.health_wake[node] = None;
                    self.probes[node] = (probe, self.time);
                    let began = self.servers[node].state;
                    let after = match began {
                        ServerState::Hung => Duration::from_secs(5),
                        _ => self.random.millis(1, 100),
                    };
                    self.due(after, Due::Probed { node, probe, began });
                }
                health::Action::WakeAt(at) => {
                    let after = (at - self.base).saturating_sub(self.time);
                    self.wake_health(node, after);
                }
                health::Action::Sleep => self.health_wake[node] = None,
                health::Action::ReportDown { .. } => report = true,
                health::Action::ReportUp => {}
            }
        }
        if report {
            self.check_report(node);
            let version = self.core.view().version;
            let _ = self.request(
                Request::Down { node },
                Source::HealthCheck(node),
                Some(version),
            );
        }
    }

    pub(super) fn probed(&mut self, node: NodeId, probe: u64, began: ServerState) {
        use ServerState::{Full, Hung, Running, Starting, Stopped};
        // A probe that began at a hung server is not saved by its recovery.
        let state = if began == Hung {
            Hung
        } else {
            self.servers[node].state
        };
        let outcome = match state {
            Running => health::Outcome::Up,
            Stopped => health::Outcome::Refused,
            Starting => health::Outcome::NotAccepting,
            Hung => health::Outcome::NoAnswer { timed_out: true },
            Full => health::Outcome::Alive {
                complaint: "too many clients".to_owned(),
                remedy: String::new(),
            },
        };
        match state {
            // Overtaken by a later probe; the health check must ignore it.
            _ if self.probes[node].0 != probe => {}
            Running | Full => {
                self.bad_probes[node] = 0;
                // A report from after the probe began leads to another look.
                self.looked[node] = self.last_report[node] > self.probes[node].1;
            }
            Stopped | Starting | Hung => self.bad_probes[node] += 1,
        }
        self.health(node, health::Event::Probed { probe, outcome });
    }

    pub(super) fn answer(&mut self, sweep: u64, node: NodeId) {
        let server = self.servers[node];
        let answer = match server.state {
            ServerState::Running if !server.can_be_asked => Answer::Refused("no".to_owned()),
            ServerState::Running if server.primary => Answer::Primary,
            ServerState::Running => Answer::Standby(self.receiver(node)),
            ServerState::Full => Answer::Refused("full".to_owned()),
            ServerState::Stopped | ServerState::Starting | ServerState::Hung => {
                Answer::Unreachable("no".to_owned())
            }
        };
        self.answers
            .insert(node, (sweep, answer == Answer::Primary));
        let event = Event::Answered {
            sweep,
            node,
            answer,
        };
        let actions = self.core.handle(event, self.now());
        self.carry_out(actions);
    }

    fn receiver(&self, node: NodeId) -> Receiver {
        let feeder = (0..self.servers.len()).find(|&id| id != node && self.servers[id].primary);
        match feeder {
            Some(id) if self.settings.detach_false_primary => Receiver::Streaming {
                host: format!("host{id}"),
                port: (11002 + id).to_string(),
            },
            Some(_) => Receiver::Unknown,
            None => Receiver::None,
        }
    }

    /// The replication check compares what servers say with what is known.
    pub(super) fn roles(&mut self) {
        self.due(Duration::from_secs(5), Due::Roles);
        let view = self.core.view();
        if self.core.is_busy() {
            return;
        }
        let primary = |id: NodeId| {
            let server = self.servers[id];
            (server.state == ServerState::Running && server.can_be_asked).then_some(server.primary)
        };
        let differ = match view.primary {
            None => view.valid_nodes().any(|id| primary(id) == Some(true)),
            Some(id) => primary(id) == Some(false),
        };
        if differ {
            let actions = self.core.handle(Event::RolesDiffer, self.now());
            self.carry_out(actions);
        }
    }

    pub(super) fn set_state(&mut self, node: NodeId, state: ServerState) {
        self.note(|| format!("server {node} is {state:?}"));
        self.servers[node].state = state;
    }

    /// A session was told of a shutdown, or could not connect.
    pub(super) fn look(&mut self, node: NodeId, shutdown: bool) {
        if !self.core.view().is_valid(node) {
            return;
        }
        self.note(|| format!("a session reports node {node}, shutdown {shutdown}"));
        self.last_report[node] = self.time;
        if !self.looked[node] {
            self.bad_probes[node] = 0;
            self.looked[node] = true;
        }
        let cause = if shutdown {
            health::Cause::Shutdown {
                sqlstate: "57P01".to_owned(),
            }
        } else {
            health::Cause::Error {
                reason: "reset".to_owned(),
            }
        };
        self.health(node, health::Event::Look(cause));
    }
}
