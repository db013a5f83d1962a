//! Random histories of 3, 4, 5 and 7 nodes: the cores of the watchdog against a network that loses, delays,
//! doubles and divides, one way too; processes that are killed, stopped, suspended; hosts that lose
//! their power; clocks that jump; backends that die and that some nodes cannot see.
//!
//! `SIM_SEED` repeats one history, `SIM_HISTORIES` sets their number (default 100,000 in the release
//! profile, 1,000 otherwise). A failure prints the seed and the whole history.

mod backends;
mod checks;
mod faults;
mod network;
mod node;

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering as Atomic},
    },
    time::{Duration, Instant, SystemTime},
};

use self::{backends::Backends, network::Link, node::Node};
use super::{
    codec::function::FailoverRequest,
    core::{self, Core, lease::Memory},
    lifecheck::{self, Lifecheck},
    settings::Settings,
    testing,
    vip::{self, Vip},
};
use crate::{cluster::NodeId, failover::sim::random::Random};

/// What reaches a process.
#[derive(Clone, Debug)]
enum Input {
    Core(core::Event),
    Lifecheck(lifecheck::Event),
    Vip(vip::Event),
}

#[derive(Debug)]
enum Due {
    Wake {
        node: usize,
        life: u32,
        which: usize,
        at: Duration,
    },
    Syn {
        link: usize,
        attempt: usize,
    },
    Tcp {
        link: usize,
        to: usize,
    },
    Break {
        link: usize,
        end: usize,
    },
    HalfOpen {
        link: usize,
        end: usize,
    },
    Datagram {
        node: usize,
        event: Box<lifecheck::Event>,
    },
    CommandEnds {
        node: usize,
        life: u32,
        call: u64,
        works: bool,
        change: Option<bool>,
    },
    Look {
        node: usize,
        life: u32,
    },
    Health {
        node: usize,
        life: u32,
        round: bool,
    },
    FailoverEnds {
        node: usize,
        life: u32,
    },
    Adopts {
        node: usize,
        life: u32,
    },
    AskAgain {
        node: usize,
        life: u32,
        request: Box<FailoverRequest>,
        tries: u32,
        at: Duration,
    },
    Restart {
        node: usize,
    },
    Fault,
    Repair(faults::Repair),
}

struct Entry {
    at: Duration,
    number: u64,
    due: Due,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A failover of the primary that has ended under the lease.
#[derive(Debug)]
struct FailedOver {
    node: usize,
    life: u32,
    is_known: bool,
}

struct World {
    random: Random,
    time: Duration,
    base: Instant,
    queue: BinaryHeap<Reverse<Entry>>,
    last_event: u64,
    nodes: Vec<Node>,
    settings: Vec<Arc<Settings>>,
    links: Vec<Link>,
    last_inbound: u64,
    last_ticket: u64,
    /// How many faults cut the way from one to another.
    cut: Vec<Vec<u32>>,
    longest_cut: Duration,
    /// Is the server there?
    backends: Vec<bool>,
    /// How many faults hide a backend from a node.
    blind: Vec<Vec<u32>>,
    /// When a node has found it down last.
    found_down: Vec<Duration>,
    health_period: Duration,
    deadtime: Duration,
    through_codec: bool,
    lease_is_possible: bool,
    /// Members are removed, or half of the votes is enough, so that both sides of a cut can be a majority: then only
    /// the end counts.
    two_majorities: bool,
    promotions: u32,
    /// The server that is the primary, whether a node knows it or not.
    promoted: NodeId,
    /// The server that was written to last, and from which to which other one failovers have led since.
    written: Option<NodeId>,
    changes: BTreeSet<(NodeId, NodeId)>,
    /// By backend; until it is attached again.
    failed_over: BTreeMap<NodeId, FailedOver>,
    /// Since when there are two leaders, two holders of the address.
    two_since: [Option<Duration>; 2],
    longest: [Duration; 2],
    healing: bool,
    history: Option<Vec<String>>,
}

impl World {
    fn new(seed: u64, explained: bool) -> World {
        let mut random = Random(seed);
        let count = match random.below(40) {
            0..=28 => 3,
            29..=30 => 2,
            31..=35 => 4,
            36..=38 => 5,
            _ => 7,
        };
        let half_votes = count % 2 == 0 && random.chance(30);
        let deadtime = random.millis(12_000, 30_000);
        let keepalive = Duration::from_secs(3 + random.below(2));
        let lease = random.chance(75);
        let equal_priorities = random.chance(40);
        // One keeps none, as a stock node.
        let stock = (lease && random.chance(6)).then(|| random.node(count));
        let own_lengths = random.chance(25);
        let mut base = testing::settings(0, count);
        base.lifecheck.deadtime = deadtime;
        base.lifecheck.interval = Duration::from_secs(10);
        base.heartbeat.keepalive = keepalive;
        base.write_lease = lease.then(|| Duration::from_secs(5 + random.below(5)));
        base.quorum.half_votes = half_votes;
        base.consensus.require_consensus = random.chance(85);
        base.consensus.allow_multiple = random.chance(15);
        let lease_was_on = lease && stock.is_none() && !half_votes && random.chance(70);
        let removes = random.chance(5);
        if removes {
            let after = |random: &mut Random| Some(random.millis(5_000, 40_000));
            base.quorum.remove_shutdown_nodes = random.chance(50);
            base.quorum.lost_removal = random.chance(50).then(|| after(&mut random)).flatten();
            base.quorum.no_show_removal = random.chance(50).then(|| after(&mut random)).flatten();
        }
        // Without lease such a minority promotes as it likes.
        base.consensus.when_quorum_exists = !(lease_was_on && random.chance(20));
        let settings: Vec<Arc<Settings>> = (0..count)
            .map(|own| {
                let mut settings = base.clone();
                let named = testing::settings(own, count);
                settings.own = named.own;
                settings.others = named.others;
                settings.node_id = named.node_id;
                if stock == Some(own) {
                    settings.write_lease = None;
                } else if own_lengths && lease {
                    settings.write_lease = Some(Duration::from_secs(5 + random.below(6)));
                }
                settings.priority = if equal_priorities {
                    1
                } else {
                    i32::try_from(own).unwrap_or(0) + 1
                };
                Arc::new(settings)
            })
            .collect();
        let base = Instant::now();
        let backends = 2 + random.node(2);
        World {
            nodes: settings
                .iter()
                .map(|settings| Node {
                    up: false,
                    host_up: true,
                    suspended: false,
                    life: 0,
                    core: Core::new(settings.clone(), String::new(), base),
                    lifecheck: Lifecheck::new(settings.clone(), base),
                    vip: Vip::new(settings, base),
                    wakes: [None; 3],
                    inbox: Vec::new(),
                    memory: Memory {
                        lease_is_on: lease_was_on,
                        ..Memory::default()
                    },
                    address: false,
                    hung: false,
                    wall_offset: 0,
                    conns: Default::default(),
                    backends: Backends::new(backends),
                    asked: Default::default(),
                    held_until: None,
                    adopting: Default::default(),
                    contact: vec![Duration::ZERO; count],
                    awake_since: Duration::ZERO,
                })
                .collect(),
            time: Duration::ZERO,
            base,
            queue: BinaryHeap::new(),
            last_event: 0,
            settings,
            links: Vec::new(),
            last_inbound: 0,
            last_ticket: 0,
            cut: vec![vec![0; count]; count],
            longest_cut: Duration::ZERO,
            backends: vec![true; backends],
            blind: vec![vec![0; backends]; count],
            found_down: vec![Duration::ZERO; backends],
            health_period: random.millis(4_000, 8_000),
            deadtime,
            through_codec: random.chance(3),
            lease_is_possible: lease && stock.is_none() && !removes && !half_votes,
            two_majorities: removes || half_votes,
            promotions: 0,
            promoted: 0,
            written: None,
            changes: BTreeSet::new(),
            failed_over: BTreeMap::new(),
            two_since: [None; 2],
            longest: [Duration::ZERO; 2],
            healing: false,
            history: explained.then(|| {
                vec![format!(
                    "seed {seed}, {count} nodes, {backends} backends, dead time {deadtime:?}, lease {lease}, stock {stock:?}, half votes {half_votes}"
                )]
            }),
            random,
        }
    }

    fn now(&self) -> Instant {
        self.base + self.time
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(history) = &mut self.history {
            history.push(format!("{:>9.3} {}", self.time.as_secs_f64(), text()));
        }
    }

    fn due(&mut self, after: Duration, due: Due) {
        self.due_at(self.time + after, due);
    }

    fn due_at(&mut self, at: Duration, due: Due) {
        self.last_event += 1;
        self.queue.push(Reverse(Entry {
            at,
            number: self.last_event,
            due,
        }));
    }

    fn step(&mut self, due: Due) {
        match due {
            Due::Wake {
                node,
                life,
                which,
                at,
            } => self.wake(node, life, which, at),
            Due::Syn { link, attempt } => self.syn(link, attempt),
            Due::Tcp { link, to } => self.tcp(link, to),
            Due::Break { link, end } => self.break_link(link, end),
            Due::HalfOpen { link, end } => self.half_open(link, end),
            Due::Datagram { node, event } => self.input(node, Input::Lifecheck(*event)),
            Due::CommandEnds {
                node,
                life,
                call,
                works,
                change,
            } => self.command_ends(node, life, call, works, change),
            Due::Look { node, life } => self.look(node, life),
            Due::Health { node, life, round } => self.health(node, life, round),
            Due::FailoverEnds { node, life } => self.failover_ends(node, life),
            Due::Adopts { node, life } => self.adopts(node, life),
            Due::AskAgain {
                node,
                life,
                request,
                tries,
                at,
            } => self.ask_again(node, life, request, tries, at),
            Due::Restart { node } => self.start(node),
            Due::Fault => self.fault(),
            Due::Repair(repair) => self.repair(&repair),
        }
    }

    fn run_until(&mut self, end: Duration) {
        while self.queue.peek().is_some_and(|Reverse(e)| e.at <= end) {
            let Some(Reverse(entry)) = self.queue.pop() else {
                break;
            };
            self.time = self.time.max(entry.at);
            self.step(entry.due);
        }
        self.time = end;
    }
}

/// Prints the history when a check fails.
struct Explain<'a>(&'a mut World);

impl Drop for Explain<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for line in self.0.history.iter().flatten() {
                println!("{line}");
            }
        }
    }
}

/// One history; every check panics. Gives promotions and the longest overlaps.
fn history(seed: u64, explained: bool) -> (u32, [Duration; 2]) {
    let mut world = World::new(seed, explained);
    let explain = Explain(&mut world);
    let world = &mut *explain.0;
    for node in 0..world.nodes.len() {
        let after = if world.random.chance(70) {
            world.random.millis(1, 2_000)
        } else {
            world.random.millis(1, 30_000)
        };
        world.due(after, Due::Restart { node });
    }
    let faults = 2 + world.random.below(8);
    let mut at = world.random.millis(1, 40_000);
    for _ in 0..faults {
        world.due_at(at, Due::Fault);
        at += if world.random.chance(40) {
            world.random.millis(1, 3_000)
        } else {
            world.random.millis(3_000, 40_000)
        };
    }
    world.run_until(at + Duration::from_secs(10));
    world.heal();
    (world.promotions, world.longest)
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The first seed of the histories that are the same each time.
const FIXED: u64 = 1 << 20;

#[test]
fn in_random_histories_there_is_one_leader_and_nothing_is_lost_or_doubled() {
    if let Some(seed) = number_from("SIM_SEED") {
        history(seed, true);
        return;
    }
    let default = if cfg!(debug_assertions) {
        1_000
    } else {
        100_000
    };
    let count = number_from("SIM_HISTORIES").unwrap_or(default);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // `make test` has the same histories each time, until a million new ones have passed the checks of today;
    // `make random` has new ones.
    let first = if count == default {
        FIXED
    } else {
        now.map_or(0, |d| d.as_secs() << 20)
    };
    println!("{count} histories of the watchdog from seed {first}; SIM_SEED repeats one");
    let next = AtomicU64::new(first);
    let failed = AtomicU64::new(0);
    let promotions = AtomicU64::new(0);
    let longest = [AtomicU64::new(0), AtomicU64::new(0)];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Atomic::Relaxed);
                    if seed >= first + count || failed.load(Atomic::Relaxed) != 0 {
                        break;
                    }
                    match std::panic::catch_unwind(|| history(seed, false)) {
                        Ok((done, overlaps)) => {
                            promotions.fetch_add(done.into(), Atomic::Relaxed);
                            for (longest, overlap) in longest.iter().zip(overlaps) {
                                let ms = u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX);
                                longest.fetch_max(ms, Atomic::Relaxed);
                            }
                        }
                        Err(_) => failed.store(seed, Atomic::Relaxed),
                    }
                }
            });
        }
    });
    let seed = failed.load(Atomic::Relaxed);
    if seed != 0 {
        println!("SIM_SEED={seed} fails:");
        history(seed, true);
    }
    println!(
        "{} promotions; two leaders with quorum for {} ms at most, two holders of the address for {} ms",
        promotions.load(Atomic::Relaxed),
        longest[0].load(Atomic::Relaxed),
        longest[1].load(Atomic::Relaxed),
    );
    assert!(promotions.load(Atomic::Relaxed) > count / 20);
}
