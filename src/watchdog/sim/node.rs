//! A simulated pgpool: the three cores, and the shell around them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::{Due, Input, World, backends::Backends};
use crate::watchdog::{
    codec::{
        Message,
        function::{FailoverKind, FailoverRequest, Flags},
        status::{BackendStatus, RemoteStatus},
    },
    core::{self, Action, Conn, Core, Event, lease::Memory},
    lifecheck::{self, Lifecheck},
    vip::{self, Vip},
};

pub(super) struct Node {
    pub up: bool,
    pub host_up: bool,
    pub suspended: bool,
    /// Grows with each start.
    pub life: u32,
    pub core: Core,
    pub lifecheck: Lifecheck,
    pub vip: Vip,
    /// Of the three cores.
    pub wakes: [Option<Duration>; 3],
    /// What a suspended process will find.
    pub inbox: Vec<Input>,
    /// On disk.
    pub memory: Memory,
    /// The virtual IP is on this host.
    pub address: bool,
    /// The last command of the virtual IP has not ended.
    pub hung: bool,
    pub wall_offset: i64,
    pub conns: BTreeMap<Conn, usize>,
    pub backends: Backends,
    pub asked: BTreeMap<u64, (FailoverRequest, u32, Duration)>,
    /// As long as it leads: until when a majority supports it.
    pub held_until: Option<Instant>,
    /// What the supervisor is told to take over, and has not yet.
    pub adopting: VecDeque<(u64, BackendStatus)>,
    /// When something came from each other node last.
    pub contact: Vec<Duration>,
    /// Since when it runs without a stop or a suspension.
    pub awake_since: Duration,
}

impl World {
    /// Something reaches a process; a suspended one finds it later.
    pub(super) fn input(&mut self, node: usize, input: Input) {
        if !self.nodes[node].up {
            return;
        }
        if self.nodes[node].suspended {
            return self.nodes[node].inbox.push(input);
        }
        let now = self.now();
        match input {
            Input::Core(event) => {
                self.note(|| format!("{node} <- {event:?}"));
                let actions = self.nodes[node].core.handle(event, now);
                self.carry_out(node, actions);
            }
            Input::Lifecheck(event) => {
                let actions = self.nodes[node].lifecheck.handle(event, now);
                self.carry_out_lifecheck(node, actions);
            }
            Input::Vip(event) => {
                let actions = self.nodes[node].vip.handle(event, now);
                self.carry_out_vip(node, actions);
            }
        }
        self.check();
    }

    pub(super) fn wake(&mut self, node: usize, life: u32, which: usize, at: Duration) {
        let record = &mut self.nodes[node];
        if !record.up || record.life != life || record.wakes[which] != Some(at) {
            return;
        }
        if record.suspended {
            return;
        }
        record.wakes[which] = None;
        self.input(node, timer(which));
    }

    fn wake_at(&mut self, node: usize, which: usize, at: Instant) {
        let at = at.saturating_duration_since(self.base);
        assert!(at > self.time, "node {node} would spin (core {which})");
        let life = self.nodes[node].life;
        self.nodes[node].wakes[which] = Some(at);
        self.due_at(
            at,
            Due::Wake {
                node,
                life,
                which,
                at,
            },
        );
    }

    fn carry_out(&mut self, node: usize, actions: Vec<Action>) {
        for action in actions {
            if !self.nodes[node].up {
                return;
            }
            self.act(node, action);
        }
    }

    fn act(&mut self, node: usize, action: Action) {
        match action {
            Action::Log(entry) => self.note(|| format!("{node}: {}", entry.message)),
            Action::WakeAt(at) => self.wake_at(node, 0, at),
            Action::Connect { conn, peer } => {
                let to = peer + usize::from(peer >= node);
                self.connect(node, conn, to);
            }
            Action::Send { conn, id, message } => {
                self.note(|| format!("{node} -> {conn:?} id {id} {message:?}"));
                let message = if self.through_codec {
                    let frame = message.encode(id).expect("what a core sends can be sent");
                    Message::decode(&frame).expect("and read")
                } else {
                    message
                };
                self.tcp_send(node, conn, id, message);
            }
            Action::Close { conn } => self.tcp_close(node, conn),
            Action::Escalate => self.input(node, Input::Vip(vip::Event::Escalate)),
            Action::DeEscalate => {
                self.check_given_up(node);
                self.input(node, Input::Vip(vip::Event::DeEscalate));
            }
            Action::Remember(memory) => self.nodes[node].memory = memory,
            Action::Exit { reason } => {
                self.note(|| format!("{node} exits: {reason}"));
                let after = self.random.millis(1_000, 20_000);
                self.end_process(node);
                self.due(after, Due::Restart { node });
            }
            Action::Adopt { number, status } => {
                // A file and its folder are synced.
                let after = self.random.millis(1, 500);
                let life = self.nodes[node].life;
                self.nodes[node].adopting.push_back((number, status));
                self.due(after, Due::Adopts { node, life });
            }
            Action::Failover(request) => self.begin(node, &request),
            Action::Answer { ticket, result } => self.answered(node, ticket, result),
            Action::VoteForQuarantined => {
                for backend in 0..self.nodes[node].backends.nodes.len() {
                    if self.nodes[node].backends.nodes[backend].quarantined {
                        self.ask(node, FailoverKind::Degenerate, Flags::UPDATE, backend, 0);
                    }
                }
            }
            Action::ReleaseQuarantined => {
                self.nodes[node].backends.release_all();
                self.tell_backends(node);
            }
            Action::LookAtBackends | Action::CheckBackends => {
                let life = self.nodes[node].life;
                let after = self.random.millis(5, 300);
                self.due(
                    after,
                    Due::Health {
                        node,
                        life,
                        round: false,
                    },
                );
            }
            Action::Serving(on) => {
                self.note(|| format!("{node}: serving {on}"));
                let now = self.now();
                assert_eq!(on, self.nodes[node].core.may_serve(now) && on);
            }
            Action::Settled | Action::Run { .. } => {}
        }
    }

    /// The status file is written, and what the leader knows is published: in the order in which it was told.
    pub(super) fn adopts(&mut self, node: usize, life: u32) {
        let record = &mut self.nodes[node];
        if !record.up || record.life != life {
            return;
        }
        if record.suspended {
            return self.due(Duration::from_secs(1), Due::Adopts { node, life });
        }
        let Some((number, status)) = record.adopting.pop_front() else {
            return;
        };
        assert!(!record.core.coordinates(), "a leader adopts");
        record.backends.adopt(&status);
        // A failover that nobody has heard of before the node was cut off is lost here too.
        self.failed_over.retain(|backend, failover| {
            let is_down = status.nodes.get(*backend) == Some(&RemoteStatus::Down);
            failover.node != node || failover.is_known || is_down
        });
        self.tell_backends(node);
        self.input(node, Input::Core(Event::Adopted { number }));
    }

    fn carry_out_lifecheck(&mut self, node: usize, actions: Vec<lifecheck::Action>) {
        for action in actions {
            match action {
                lifecheck::Action::WakeAt(at) => self.wake_at(node, 1, at),
                lifecheck::Action::SendHeartbeats => self.send_heartbeats(node),
                lifecheck::Action::Report { peer, alive } => {
                    self.input(node, Input::Core(Event::Lifecheck { peer, alive }));
                }
                lifecheck::Action::Log(entry) => {
                    self.note(|| format!("{node}: {}", entry.message));
                }
                other => panic!("not configured: {other:?}"),
            }
        }
    }

    fn carry_out_vip(&mut self, node: usize, actions: Vec<vip::Action>) {
        for action in actions {
            match action {
                vip::Action::Log(entry) => self.note(|| format!("{node}: {}", entry.message)),
                vip::Action::WakeAt(at) => self.wake_at(node, 2, at),
                vip::Action::Run { call, command } => {
                    let text = format!("{command:?}");
                    let works = self.random.chance(95);
                    let after = self.random.millis(5, 400);
                    // What hangs again and again cannot remove an address, whoever waits for it.
                    let hung = std::mem::take(&mut self.nodes[node].hung);
                    if self.random.chance(1) && !hung {
                        self.nodes[node].hung = true;
                        self.note(|| format!("{node}: {} hangs", command.line()));
                        continue;
                    }
                    let change = match (text.contains("\"add\""), text.contains("\"del\"")) {
                        (true, _) => Some(true),
                        (_, true) => Some(false),
                        _ => None,
                    };
                    let life = self.nodes[node].life;
                    self.due(
                        after,
                        Due::CommandEnds {
                            node,
                            life,
                            call,
                            works,
                            change,
                        },
                    );
                }
                vip::Action::LookForAddress { call } => {
                    let known = !self.random.chance(1);
                    let present = known.then_some(self.nodes[node].address);
                    let event = vip::Event::Looked { call, present };
                    self.input(node, Input::Vip(event));
                }
                vip::Action::Abandon { .. }
                | vip::Action::ClearQueryCache
                | vip::Action::AtRest => {}
            }
        }
    }

    /// A shell looks each second; here only while there is something to be seen.
    fn look_later(&mut self, node: usize) {
        let life = self.nodes[node].life;
        self.due(Duration::from_secs(1), Due::Look { node, life });
    }

    pub(super) fn look(&mut self, node: usize, life: u32) {
        let record = &self.nodes[node];
        if !record.up || record.life != life {
            return;
        }
        let present = record.address;
        if !record.suspended {
            self.input(node, Input::Vip(vip::Event::Seen { present }));
        }
        if self.nodes[node].address != self.nodes[node].vip.is_held() {
            self.look_later(node);
        }
    }

    pub(super) fn command_ends(
        &mut self,
        node: usize,
        life: u32,
        call: u64,
        works: bool,
        change: Option<bool>,
    ) {
        if !self.nodes[node].host_up {
            return;
        }
        // As `ip addr`: what is there cannot be added, and what is not there cannot be removed.
        let possible = change.is_none_or(|present| self.nodes[node].address != present);
        let success = works && possible;
        if let Some(present) = change.filter(|_| success) {
            self.nodes[node].address = present;
            self.note(|| format!("{node}: address {present}"));
            self.look_later(node);
        }
        if self.nodes[node].life == life {
            self.input(node, Input::Vip(vip::Event::Ended { call, success }));
        }
        self.check();
    }

    pub(super) fn start(&mut self, node: usize) {
        if self.nodes[node].up || !self.nodes[node].host_up {
            return;
        }
        let settings = self.settings[node].clone();
        let now = self.now();
        let time = self.time;
        let record = &mut self.nodes[node];
        record.life += 1;
        record.up = true;
        record.suspended = false;
        record.inbox.clear();
        record.conns.clear();
        record.asked.clear();
        record.adopting.clear();
        record.held_until = None;
        record.contact.fill(Duration::ZERO);
        record.wakes = [None; 3];
        record.awake_since = time;
        record.backends.restart();
        record.core = Core::new(
            settings.clone(),
            format!("10.0.0.{node}:9999 Linux sim"),
            now,
        );
        record.lifecheck = Lifecheck::new(settings.clone(), now);
        record.vip = Vip::new(&settings, now);
        let memory = record.memory;
        let life = record.life;
        self.note(|| format!("{node} starts"));
        self.tell_backends(node);
        self.input(node, Input::Vip(vip::Event::Start));
        self.look_later(node);
        self.input(node, Input::Core(Event::Start { memory }));
        self.input(node, Input::Lifecheck(lifecheck::Event::Start));
        let after = self.random.millis(500, 6_000);
        self.due(
            after,
            Due::Health {
                node,
                life,
                round: true,
            },
        );
    }

    /// The process is gone, by whatever way; the kernel closes its sockets.
    pub(super) fn end_process(&mut self, node: usize) {
        if !self.nodes[node].up {
            return;
        }
        self.close_all(node);
        self.nodes[node].up = false;
        self.nodes[node].suspended = false;
    }

    /// In order: the address is given up before the end.
    pub(super) fn stop(&mut self, node: usize) {
        if !self.nodes[node].up || self.nodes[node].suspended {
            return;
        }
        self.note(|| format!("{node} stops"));
        self.input(node, Input::Core(Event::Stop));
        self.nodes[node].address = false;
        self.end_process(node);
    }

    pub(super) fn power_off(&mut self, node: usize) {
        if !self.nodes[node].host_up {
            return;
        }
        self.note(|| format!("host {node} goes down"));
        self.nodes[node].host_up = false;
        for other in 0..self.nodes.len() {
            if other != node {
                self.expect_breaks(node, other);
            }
        }
        self.nodes[node].conns.clear();
        self.nodes[node].up = false;
        self.nodes[node].suspended = false;
        self.nodes[node].address = false;
    }

    pub(super) fn power_on(&mut self, node: usize) {
        if self.nodes[node].host_up {
            return;
        }
        self.note(|| format!("host {node} comes up"));
        self.nodes[node].host_up = true;
        self.unstall();
        // Others learn that it knows nothing of their connections.
        for link in 0..self.links.len() {
            for end in 0..2 {
                if self.links[link].ends[end].node == node && self.links[link].established {
                    let other = self.links[link].ends[1 - end];
                    if other.open {
                        self.due(Duration::from_secs(1), Due::HalfOpen { link, end: 1 - end });
                    }
                }
            }
        }
        let after = self.random.millis(500, 10_000);
        self.due(after, Due::Restart { node });
    }

    pub(super) fn suspend(&mut self, node: usize, on: bool) {
        if !self.nodes[node].up || self.nodes[node].suspended == on {
            return;
        }
        self.note(|| format!("{node} suspended: {on}"));
        self.nodes[node].suspended = on;
        if on {
            return;
        }
        self.nodes[node].awake_since = self.time;
        // Timers that have passed fire first, or what waits in the sockets; nobody knows.
        let inbox = std::mem::take(&mut self.nodes[node].inbox);
        let timers_first = self.random.chance(50);
        let fire = |world: &mut World| {
            for which in 0..3 {
                let passed = world.nodes[node].wakes[which].is_some_and(|at| at <= world.time);
                if passed {
                    world.nodes[node].wakes[which] = None;
                    world.input(node, timer(which));
                }
            }
        };
        if timers_first {
            fire(self);
        }
        for input in inbox {
            self.input(node, input);
        }
        fire(self);
    }
}

fn timer(which: usize) -> Input {
    match which {
        0 => Input::Core(core::Event::Timer),
        1 => Input::Lifecheck(lifecheck::Event::Timer),
        _ => Input::Vip(vip::Event::Timer),
    }
}
