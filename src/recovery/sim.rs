//! Random histories of recoveries: works that fail at any step, last long or answer nonsense, failovers
//! and attaches in between, clients that stay, second requests.
//!
//! `SIM_SEED` repeats one history, `SIM_HISTORIES` sets their number (default 100,000 in the release
//! profile, 5,000 otherwise). A failure prints the seed and the whole history.

use std::time::{Duration, Instant, SystemTime};

use super::{
    core::{Action, Answer, Core, Event, Installed, Settings, Work},
    testing::{installed, replicating, settings, view, without},
};
use crate::{
    cluster::{ClusterView, NodeId, NodeStatus},
    config::settings::ClusteringMode,
    failover::sim::random::Random,
    observe::Severity,
};

/// The longest that works last here, hung ones included.
const LONGEST_WORK: u64 = 40_000;
/// Works and pauses of one recovery, each at its longest.
const LONGEST_RECOVERY: Duration = Duration::from_secs(1000);

struct World {
    random: Random,
    now: Instant,
    core: Core,
    view: ClusterView,
    settings: Settings,
    clients: usize,
    /// Number, kind and end of the work that goes on.
    work: Option<(u64, Work, Instant)>,
    wake_at: Option<Instant>,
    held: bool,
    /// The recovery that goes on: its target and what the oracle knows of it.
    target: Option<NodeId>,
    begun_at: Instant,
    source: NodeId,
    reached: bool,
    /// Attach requests that wait for a failover.
    attach_at: Option<(NodeId, Instant)>,
    succeeded: u32,
    failed: u32,
    history: Vec<String>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let view = if random.chance(50) {
            view()
        } else {
            replicating()
        };
        let mut settings = settings();
        settings.timeout = random.millis(0, 30_000);
        if random.chance(10) {
            settings.first_stage.clear();
        }
        if random.chance(10) {
            settings.second_stage.clear();
        }
        let now = Instant::now();
        World {
            random,
            now,
            core: Core::default(),
            view,
            settings,
            clients: 0,
            work: None,
            wake_at: None,
            held: false,
            target: None,
            begun_at: now,
            source: 0,
            reached: false,
            attach_at: None,
            succeeded: 0,
            failed: 0,
            history: vec![format!("seed {seed}")],
        }
    }

    fn note(&mut self, text: impl std::fmt::Debug) {
        let line = format!("{text:?}");
        self.history.push(line);
    }

    fn streaming(&self) -> bool {
        self.view.mode == ClusteringMode::StreamingReplication
    }

    fn request(&mut self, node: NodeId) {
        let before = self.core.ongoing();
        match self.core.request(node, self.settings.clone(), &self.view) {
            Ok(actions) => {
                assert_eq!(before, None, "one recovery at a time");
                assert!(!self.view.is_valid(node), "a node in use is left alone");
                assert_ne!(self.view.primary, Some(node));
                self.target = Some(node);
                self.begun_at = self.now;
                self.source = self.core.ongoing().expect("it goes on").source;
                self.reached = false;
                self.note(format!("recovery of {node} from {}", self.source));
                self.carry_out(actions);
            }
            Err(refusal) => {
                assert_eq!(self.core.ongoing(), before);
                if before.is_none() {
                    assert_ne!(refusal.severity, Severity::Fatal);
                }
            }
        }
    }

    fn event(&mut self, event: Event) {
        self.note(&event);
        let actions = self.core.handle(event, &self.view, self.clients, self.now);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.note(&action);
            match action {
                Action::Log(entry) => assert!(!entry.message.is_empty()),
                Action::Do { step, work } => {
                    assert!(self.work.is_none(), "one work at a time");
                    self.check(&work);
                    let lasts = if self.random.chance(10) {
                        self.random.millis(0, LONGEST_WORK)
                    } else {
                        self.random.millis(0, 500)
                    };
                    self.work = Some((step, work, self.now + lasts));
                }
                Action::WakeAt(at) => self.wake_at = Some(at),
                Action::HoldClients => {
                    assert!(!self.held && !self.streaming());
                    self.held = true;
                }
                Action::ReleaseClients => {
                    assert!(self.held);
                    self.held = false;
                }
                Action::Finished(result) => {
                    assert!(
                        !self.held,
                        "clients are let in again before the end is told"
                    );
                    assert_eq!(self.core.ongoing(), None);
                    assert!(self.target.take().is_some(), "told once");
                    match result {
                        Ok(()) => {
                            assert!(self.reached, "success without a server");
                            self.succeeded += 1;
                        }
                        Err(refusal) => {
                            // The first letter of a message is taken for a field by the tools.
                            for text in [&refusal.message, &refusal.detail] {
                                assert!(!text.starts_with(['S', 'D', 'M']), "{text}");
                            }
                            self.failed += 1;
                        }
                    }
                    self.work = None;
                    self.wake_at = None;
                }
            }
        }
    }

    /// Whether a work may be begun now.
    fn check(&mut self, work: &Work) {
        let target = self.target.expect("a recovery goes on");
        match work {
            Work::Run { statements } => {
                let second = statements.iter().any(|sql| sql.contains("second.sh"));
                assert!(!second || (self.held && self.clients == 0));
                assert_eq!(self.source, self.core_source());
            }
            Work::Attach { node } => {
                assert_eq!(*node, target);
                assert!(self.reached, "attached without having been reached");
                assert_eq!(self.source, self.core_source());
            }
            Work::Connect { source, .. } => assert!(self.view.is_valid(source.node)),
            Work::Reach { target: place, .. } => assert_eq!(place.node, target),
        }
    }

    /// The node that a recovery would copy now.
    fn core_source(&self) -> NodeId {
        super::request::source(&self.view).expect("a node is up")
    }

    fn finish_work(&mut self) {
        let Some((step, work, _)) = self.work.take() else {
            return;
        };
        let result = if self.random.chance(12) {
            Err("it failed".to_owned())
        } else {
            Ok(self.answer(&work))
        };
        if let (Work::Reach { .. }, Ok(Answer::Reached { standby })) = (&work, &result) {
            self.reached = !self.streaming() || *standby != Some(false);
        }
        if let (Work::Attach { node }, Ok(_)) = (&work, &result) {
            let after = self.random.millis(0, 8000);
            self.attach_at = Some((*node, self.now + after));
        }
        self.event(Event::Done { step, result });
    }

    fn answer(&mut self, work: &Work) -> Answer {
        match work {
            Work::Connect { .. } => match self.random.below(12) {
                0 => without("first.sh"),
                1 => without("second.sh"),
                2 => without("pgpool_remote_start"),
                3 => Answer::Source(Installed {
                    recovery: vec![],
                    ..installed()
                }),
                4 => Answer::Source(Installed {
                    remote_start: false,
                    ..installed()
                }),
                _ => Answer::Source(installed()),
            },
            Work::Reach { .. } => Answer::Reached {
                standby: match self.random.below(8) {
                    0 => Some(false),
                    1 => None,
                    _ => Some(true),
                },
            },
            Work::Run { .. } | Work::Attach { .. } => Answer::Done,
        }
    }

    /// The next of: end of the work, timer, the attach.
    fn step(&mut self) -> bool {
        let times = [
            self.work.as_ref().map(|(_, _, at)| *at),
            self.wake_at,
            self.attach_at.map(|(_, at)| at),
        ];
        let Some(first) = times.into_iter().flatten().min() else {
            return false;
        };
        self.now = self.now.max(first);
        if times[2] == Some(first) {
            let (node, _) = self.attach_at.take().expect("just seen");
            self.view.nodes[node].status = NodeStatus::Waiting;
            self.event(Event::ViewChanged);
        } else if times[1] == Some(first) {
            self.wake_at = None;
            self.event(Event::Timer);
        } else {
            self.finish_work();
        }
        true
    }

    /// Something happens from outside.
    fn chance(&mut self) {
        let node = self.random.node(3);
        match self.random.below(12) {
            0..=3 => self.request(node),
            4 => {
                let wanted = self.random.node(4);
                // While they are held, nobody new comes in.
                let limit = if self.held { self.clients } else { wanted };
                self.clients = wanted.min(limit);
            }
            5 | 6 => self.clients = 0,
            7 => {
                self.view.nodes[node].status = NodeStatus::Down;
                if self.view.primary == Some(node) {
                    self.view.primary = None;
                    self.view.primary_search_running = true;
                }
                self.event(Event::ViewChanged);
            }
            8 => {
                let ongoing = self.core.ongoing();
                // Refused by the supervisor but for a race.
                if self.random.chance(10) || ongoing.is_none_or(|o| o.target != node) {
                    self.view.nodes[node].status = NodeStatus::Up;
                    self.event(Event::ViewChanged);
                }
            }
            9 if self.streaming() => {
                self.view.primary = self.view.main_node();
                self.view.primary_search_running = false;
                self.event(Event::ViewChanged);
            }
            10 => self.event(Event::Timer),
            11 => {
                // Of a work that was dropped.
                let step = self.work.as_ref().map_or(0, |(step, ..)| step - 1);
                let result = Ok(Answer::Done);
                self.event(Event::Done { step, result });
            }
            _ => self.event(Event::ViewChanged),
        }
    }

    fn history(&mut self) {
        for _ in 0..5 + self.random.below(60) {
            if self.random.chance(40) {
                self.chance();
            } else {
                self.step();
            }
        }
        // Nothing happens any more from outside: the recovery that goes on must end, well or not.
        let quiet_since = self.now;
        while self.core.ongoing().is_some() {
            assert!(self.step(), "a recovery that waits for nothing");
            assert!(self.now - quiet_since < LONGEST_RECOVERY, "it does not end");
        }
        assert!(!self.held && self.target.is_none());
    }
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn history(seed: u64, explained: bool) -> (u32, u32) {
    let mut world = World::new(seed);
    let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.history()));
    if let Err(panic) = run {
        if explained {
            println!("{}", world.history.join("\n"));
        }
        std::panic::resume_unwind(panic);
    }
    (world.succeeded, world.failed)
}

#[test]
fn in_random_histories_every_recovery_ends_and_nobody_is_held_after_it() {
    if let Some(seed) = number_from("SIM_SEED") {
        history(seed, true);
        return;
    }
    let default = if cfg!(debug_assertions) {
        5_000
    } else {
        100_000
    };
    let count = number_from("SIM_HISTORIES").unwrap_or(default);
    let first = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs() << 20);
    println!("{count} histories from seed {first}; SIM_SEED repeats one");
    let (mut succeeded, mut failed) = (0, 0);
    for seed in first..first + count {
        let Ok((good, bad)) = std::panic::catch_unwind(|| history(seed, false)) else {
            println!("SIM_SEED={seed} fails:");
            history(seed, true);
            continue;
        };
        succeeded += good;
        failed += bad;
    }
    println!("{succeeded} recoveries succeeded, {failed} failed");
    assert!(succeeded > 0 && failed > 0, "both ways are gone");
}
