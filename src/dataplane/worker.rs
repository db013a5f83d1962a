//! A worker: one thread, one runtime, its share of the slots and all their sessions.
//!
//! A client and its backend connections live on one worker, so a query wakes no other thread.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    io::unix::AsyncFd,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    Live, Plane, accept, cancel,
    catalogs::{Catalogs, Known},
    front::{self, Peer, ReadyClient},
    info::{SlotInfo, SlotStatus},
    pool::PoolEntry,
    session::{Kill, SessionControl},
    stream::BareStream,
    table::SlotIndex,
};
use crate::{
    cluster::NodeId,
    control::{Shared, StopMode},
    observe::{NodeCounters, Reporter},
    routing::facts::Facts,
};

/// How far the clock of the tick may be behind.
const CLOCK: Duration = Duration::from_secs(1);

/// What a worker is told.
pub enum WorkerMessage {
    Client {
        stream: BareStream,
        peer: Peer,
        live: Live,
    },
    /// An authenticated client whose slot is on this worker.
    Handover(Box<ReadyClient>),
    ViewChanged,
    ConfigChanged,
    /// See [`super::Handle::hold_clients`].
    HoldClients(bool),
    Snapshot(oneshot::Sender<Vec<(SlotIndex, SlotInfo)>>),
    /// Cancel what the session in this slot is waiting for, if it still has this cancel key.
    Cancel {
        slot: SlotIndex,
        pid: u32,
        key: u32,
        done: oneshot::Sender<()>,
    },
    Stop(StopMode),
}

/// One per thread.
pub struct Worker {
    pub index: usize,
    pub shared: Arc<Shared>,
    pub plane: Arc<Plane>,
    /// What sessions make theirs of: asking for the pid is a system call.
    pub reporter: Reporter,
    slots: RefCell<Vec<Slot>>,
    clock: Cell<Instant>,
    stopping: Cell<Option<StopMode>>,
    /// Since when clients are held.
    held_since: Cell<Option<Instant>>,
    /// Clients that have not finished their login, oldest first; dropping the sender closes the connection.
    greeting: RefCell<VecDeque<(u64, oneshot::Sender<()>)>>,
    next_greeting: Cell<u64>,
    /// Of the worker that accepts: one task per listener.
    accepting: RefCell<Vec<JoinHandle<()>>>,
    catalogs: RefCell<Catalogs>,
    /// For random numbers: a keyed hash of a counter.
    random: (RandomState, Cell<u64>),
}

/// The part of a child process of the original.
pub struct Slot {
    pub index: SlotIndex,
    pub entries: Vec<PoolEntry>,
    pub session: Option<Rc<SessionControl>>,
    pub start_time: SystemTime,
    pub served: u64,
    idle_since: Instant,
}

impl Worker {
    pub fn new(index: usize, shared: Arc<Shared>, plane: Arc<Plane>, slots: usize) -> Rc<Worker> {
        let now = Instant::now();
        let workers = plane.worker_count();
        let slots = (index..slots)
            .step_by(workers)
            .map(|index| Slot {
                index,
                entries: Vec::new(),
                session: None,
                start_time: SystemTime::now(),
                served: 0,
                idle_since: now,
            })
            .collect();
        let catalogs = Catalogs::new(&shared.config.load().settings.routing);
        Rc::new(Worker {
            index,
            shared,
            plane,
            reporter: Reporter::new("child"),
            slots: RefCell::new(slots),
            clock: Cell::new(now),
            stopping: Cell::new(None),
            held_since: Cell::new(None),
            greeting: RefCell::default(),
            next_greeting: Cell::new(0),
            accepting: RefCell::default(),
            catalogs: RefCell::new(catalogs),
            random: (RandomState::new(), Cell::new(0)),
        })
    }

    /// Serves until the sender of `messages` is gone.
    pub async fn run(self: Rc<Self>, mut messages: mpsc::UnboundedReceiver<WorkerMessage>) {
        let mut tick = tokio::time::interval(CLOCK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => self.handle(message),
                    None => return,
                },
                _ = tick.tick() => self.tick(),
            }
        }
    }

    /// Accepts clients at `listeners` until the stop.
    pub fn accept(self: &Rc<Self>, listeners: Vec<AsyncFd<OwnedFd>>) {
        let tasks = listeners
            .into_iter()
            .map(|listener| tokio::task::spawn_local(accept::run(self.clone(), listener)));
        self.accepting.borrow_mut().extend(tasks);
    }

    pub fn handle(self: &Rc<Self>, message: WorkerMessage) {
        match message {
            WorkerMessage::Client { stream, peer, live } => {
                self.now_exactly();
                spawn(front::serve(self.clone(), stream, peer, live));
            }
            WorkerMessage::Handover(client) => {
                spawn(front::serve_ready(self.clone(), *client));
            }
            WorkerMessage::ViewChanged => self.view_changed(),
            WorkerMessage::ConfigChanged => {
                for session in self
                    .slots
                    .borrow()
                    .iter()
                    .filter_map(|s| s.session.as_ref())
                {
                    session.request_reconfigure();
                }
            }
            WorkerMessage::HoldClients(held) => {
                self.held_since.set(held.then(|| self.now_exactly()));
                self.tick();
            }
            WorkerMessage::Snapshot(reply) => {
                // Nobody waits any more: the asker has been cancelled.
                let _ = reply.send(self.snapshot());
            }
            WorkerMessage::Cancel {
                slot,
                pid,
                key,
                done,
            } => cancel::forward(self, slot, pid, key, done),
            WorkerMessage::Stop(mode) => self.stop(mode),
        }
    }

    /// The time, at most a second old: enough for idle limits and life times.
    pub fn now(&self) -> Instant {
        self.clock.get()
    }

    fn now_exactly(&self) -> Instant {
        self.clock.set(Instant::now());
        self.clock.get()
    }

    pub fn counters(&self, node: NodeId) -> Option<&NodeCounters> {
        self.plane
            .counters
            .get(self.index)
            .and_then(|c| c.get(node))
    }

    /// Runs `f` with the buffer for statements and what is known of the catalog of `database`.
    pub fn with_catalog<T>(&self, database: &str, f: impl FnOnce(&mut Facts, Known<'_>) -> T) -> T {
        let mut catalogs = self.catalogs.borrow_mut();
        let (facts, known) = catalogs.parts(&self.plane.catalog, database.as_bytes(), self.now());
        f(facts, known)
    }

    /// A number from 0 up to, not including, 1.
    pub fn random(&self) -> f64 {
        let (keys, counter) = &self.random;
        counter.set(counter.get().wrapping_add(1));
        // 53 bits are what a double holds.
        (keys.hash_one(counter.get()) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.get().is_some()
    }

    /// Runs `f` on a slot of this worker.
    pub fn with_slot<T>(&self, slot: SlotIndex, f: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        self.slots
            .borrow_mut()
            .get_mut(slot / self.plane.worker_count())
            .filter(|s| s.index == slot)
            .map(f)
    }

    /// Registers a client that has not logged in; when there are too many, the oldest is closed.
    pub fn greet(&self) -> (u64, oneshot::Receiver<()>) {
        let (keep, closed) = oneshot::channel();
        let id = self.next_greeting.get();
        self.next_greeting.set(id + 1);
        let mut greeting = self.greeting.borrow_mut();
        greeting.push_back((id, keep));
        if greeting.len() > self.plane.greeting_limit {
            greeting.pop_front();
            Reporter::new("child").emit(
                crate::observe::Severity::Warning,
                "too many connections that have not logged in, closing the oldest",
                &format!("{} of them on this worker", self.plane.greeting_limit),
                "Somebody opens connections and sends nothing; authentication_timeout limits how long.",
            );
        }
        (id, closed)
    }

    pub fn greeted(&self, id: u64) {
        self.greeting.borrow_mut().retain(|(i, _)| *i != id);
    }

    /// Once a second: life times and idle limits.
    fn tick(&self) {
        let now = self.now_exactly();
        let config = self.shared.config.load();
        let settings = &config.settings;
        for slot in self.slots.borrow_mut().iter_mut() {
            if let Some(session) = &slot.session {
                // Most of these work on a standby, and their primary idles meanwhile.
                let works =
                    session.worked.take() || session.status.get() == SlotStatus::ExecuteCommand;
                if works && session.balances.get() {
                    session.request_keep_awake();
                }
                let waits_for_client = matches!(
                    session.status.get(),
                    SlotStatus::Idle | SlotStatus::IdleInTransaction
                );
                // The clock is up to a second behind: nobody is cut before the limit.
                if let Some(limit) = session.idle_limit.get().filter(|_| waits_for_client)
                    && now.duration_since(session.idle_since.get()) > limit + CLOCK
                {
                    session.kill(Kill::IdleLimit(limit.as_secs()));
                }
                if let Some(since) = self.held_since.get().filter(|_| waits_for_client) {
                    let idle = now.duration_since(since.max(session.idle_since.get()));
                    match u64::try_from(session.recovery_idle_limit.get()) {
                        Ok(0) => {}
                        Ok(limit) if idle <= Duration::from_secs(limit) + CLOCK => {}
                        Ok(limit) => session.kill(Kill::RecoveryIdleLimit(Some(limit))),
                        Err(_) => session.kill(Kill::RecoveryIdleLimit(None)),
                    }
                }
            }
            if let Some(limit) = settings.connection_life_time {
                let expired = |e: &PoolEntry| {
                    e.idle_since
                        .is_some_and(|since| now.duration_since(since) >= limit)
                };
                let expired = extract(&mut slot.entries, expired);
                if !expired.is_empty() {
                    self.plane.cached(slot.index, slot.keys());
                    expired.into_iter().for_each(PoolEntry::close);
                }
            }
            if slot.session.is_some() {
                continue;
            }
            if let Some(limit) = settings.child_life_time
                && slot.served > 0
                && now.duration_since(slot.idle_since) >= limit
            {
                slot.renew(now);
                self.plane.cached(slot.index, Vec::new());
            }
        }
    }

    /// Sessions look at the view themselves; what nobody uses is closed here.
    fn view_changed(&self) {
        let view = self.shared.view.load();
        let good = |node: NodeId| view.takes_part(node);
        for slot in self.slots.borrow_mut().iter_mut() {
            if let Some(session) = &slot.session {
                match session.logs_in_at.get() {
                    // The relay, which looks itself, does not run yet.
                    Some(node)
                        if session.status.get() == SlotStatus::Connecting
                            && view.write_node() != Some(node) =>
                    {
                        session.kill(Kill::NodeGone(node));
                    }
                    _ => session.request_recheck(),
                }
            }
            let gone = extract(&mut slot.entries, |e| {
                e.backends.iter().flatten().any(|b| !good(b.node))
            });
            if !gone.is_empty() {
                self.plane.cached(slot.index, slot.keys());
                gone.into_iter().for_each(PoolEntry::close);
            }
        }
    }

    fn stop(&self, mode: StopMode) {
        self.stopping.set(Some(mode));
        for task in self.accepting.borrow_mut().drain(..) {
            task.abort();
        }
        self.greeting.borrow_mut().clear();
        for slot in self.slots.borrow_mut().iter_mut() {
            slot.entries.drain(..).for_each(PoolEntry::close);
            if mode != StopMode::Smart
                && let Some(session) = &slot.session
            {
                session.kill(Kill::Shutdown);
            }
        }
    }

    fn snapshot(&self) -> Vec<(SlotIndex, SlotInfo)> {
        let now = self.now_exactly();
        let config = self.shared.config.load();
        self.slots
            .borrow()
            .iter()
            .map(|slot| (slot.index, slot.info(now, &config.settings)))
            .collect()
    }
}

impl Slot {
    /// What is cached, for the table of slots.
    pub fn keys(&self) -> Vec<u64> {
        self.entries.iter().map(|e| e.facts.key).collect()
    }

    /// The part of a child process that ends and is replaced: nothing cached, counters at zero.
    pub fn renew(&mut self, now: Instant) {
        self.entries.drain(..).for_each(PoolEntry::close);
        self.served = 0;
        self.start_time = SystemTime::now();
        self.idle_since = now;
    }

    pub fn is_free_since(&mut self, now: Instant) {
        self.session = None;
        self.idle_since = now;
    }

    fn info(&self, now: Instant, settings: &crate::config::Settings) -> SlotInfo {
        let mut pools: Vec<_> = self
            .entries
            .iter()
            .map(|e| Some(e.facts.info(false, Duration::ZERO, None)))
            .collect();
        let mut status = SlotStatus::WaitForConnection;
        let (mut host, mut port) = (String::new(), String::new());
        let mut client_tls = None;
        if let Some(session) = &self.session {
            status = session.status.get();
            (host, port) = (session.peer.host.clone(), session.peer.port.clone());
            client_tls = session.client_tls.as_deref().cloned();
            if let Some(facts) = &*session.facts.borrow() {
                let idle = now.saturating_duration_since(session.idle_since.get());
                pools.push(Some(facts.info(
                    true,
                    idle,
                    session.load_balance_node.get(),
                )));
            }
        }
        pools.resize_with(settings.max_pool.max(pools.len()), || None);
        SlotInfo {
            pid: super::slot_pid(self.index),
            start_time: self.start_time,
            client_connection_count: self.served,
            status,
            restarts_in: settings
                .child_life_time
                .filter(|_| self.session.is_none() && self.served > 0)
                .map(|limit| limit.saturating_sub(now.duration_since(self.idle_since))),
            client_host: host,
            client_port: port,
            client_tls,
            statement: String::new(),
            pools,
        }
    }
}

/// Runs a task on this worker. Its panic ends it alone; nobody waits for it.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    drop(tokio::task::spawn_local(task));
}

/// Takes out the entries for which `pick` holds.
fn extract(entries: &mut Vec<PoolEntry>, pick: impl FnMut(&PoolEntry) -> bool) -> Vec<PoolEntry> {
    let (out, keep) = entries.drain(..).partition(pick);
    *entries = keep;
    out
}
