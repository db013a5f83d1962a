//! The data plane: accepting clients, slots, sessions, the relay.
//!
//! W worker threads with a runtime each; the first one accepts. The control plane holds a
//! [`Handle`]; nothing here ever waits for the control plane except admin SQL.

pub mod accept;
pub mod admin_session;
pub mod blocking;
pub mod cancel;
pub mod catalogs;
pub mod connect;
pub mod finish;
pub mod front;
pub mod info;
pub mod login;
pub mod pool;
pub mod session;
pub mod stream;
pub mod table;
pub mod worker;

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::unix::AsyncFd,
    runtime::{LocalOptions, LocalRuntime},
    sync::{mpsc, oneshot, watch},
};

pub use accept::Listener;
pub use info::{PoolInfo, SlotInfo, SlotStatus};

use crate::{
    cluster::NodeId,
    control::{Shared, StopMode},
    observe::{NodeCounters, counters::NodeTotals},
    protocol::StartupPacket,
};
use login::auth_query::AuthQuery;
use table::{FIRST_PID, PoolKey, SlotIndex, SlotTable};
use worker::{Worker, WorkerMessage};

/// Highest number of backends (`MAX_NUM_BACKENDS`, `src/include/pool.h @ V4_3_5`).
pub const MAX_BACKENDS: usize = 128;

/// What the workers share.
pub struct Plane {
    workers: Vec<mpsc::UnboundedSender<WorkerMessage>>,
    table: Mutex<SlotTable>,
    cancel_keys: Mutex<HashMap<(u32, u32), SlotIndex>>,
    /// Per worker, per node.
    counters: Vec<Vec<NodeCounters>>,
    /// Clients of all kinds that are connected, per worker.
    live: Vec<AtomicUsize>,
    /// Connections per worker that may be in their login at one time.
    greeting_limit: usize,
    /// Clients that may wait for a slot.
    pub waiting_limit: usize,
    slots: usize,
    /// Version of the cluster view, for sessions that wait for a primary.
    pub view_version: watch::Sender<u64>,
    pub shutdown: watch::Sender<Option<StopMode>>,
    /// Where admin SQL is carried out: it asks the servers, which is no work for a session thread.
    pub admin: tokio::runtime::Handle,
    /// Keys of SCRAM logins, derived once.
    pub keys: crate::auth::keys::DerivedKeys,
    /// Keys of SCRAM logins, shown by clients.
    pub client_keys: crate::auth::client_keys::ClientKeys,
    /// What is known of the catalogs of the databases.
    pub catalog: catalogs::SharedCatalog,
    /// Secrets of users that are not in pool_passwd.
    pub auth_query: AuthQuery,
    /// Failed logins.
    pub throttle: Mutex<crate::auth::throttle::Throttle>,
}

/// What the control plane holds of the data plane.
#[derive(Clone)]
pub struct Handle {
    plane: Arc<Plane>,
}

/// Starts the workers and begins to accept clients.
///
/// # Errors
///
/// When threads or descriptors cannot be had.
pub fn start(shared: &Arc<Shared>, mut listeners: Vec<Listener>) -> io::Result<Handle> {
    let config = shared.config.load_full();
    let settings = &config.settings;
    let workers = settings.own.worker_threads.max(1);
    let slots = settings.num_init_children;
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
    let backlog = slots.saturating_mul(settings.listen_backlog_multiplier as usize);
    let admin = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (auth_query, questions) = AuthQuery::new();
    let plane = Arc::new(Plane {
        workers: senders,
        table: Mutex::new(SlotTable::new(slots, workers)),
        cancel_keys: Mutex::default(),
        counters: (0..workers)
            .map(|_| (0..MAX_BACKENDS).map(|_| NodeCounters::default()).collect())
            .collect(),
        live: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
        greeting_limit: 1000 + 2 * slots,
        waiting_limit: backlog.clamp(64, 10_000),
        slots,
        view_version: watch::Sender::new(0),
        shutdown: watch::Sender::new(None),
        admin: admin.handle().clone(),
        keys: crate::auth::keys::DerivedKeys::default(),
        client_keys: crate::auth::client_keys::ClientKeys::default(),
        catalog: catalogs::SharedCatalog::new(&settings.routing),
        auth_query,
        throttle: Mutex::default(),
    });
    admin.spawn(login::auth_query::serve(
        shared.clone(),
        Arc::downgrade(&plane),
        questions,
    ));
    std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || admin.block_on(std::future::pending::<()>()))?;
    // The first worker last: it accepts.
    for (index, messages) in receivers.into_iter().enumerate().rev() {
        let listeners = if index == 0 {
            std::mem::take(&mut listeners)
        } else {
            Vec::new()
        };
        let worker = (shared.clone(), plane.clone(), slots);
        let (ready, outcome) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name(format!("worker{index}"))
            .spawn(move || {
                let _end = EndsWithTheProcess;
                let (shared, plane, slots) = worker;
                match prepare(listeners) {
                    Ok((runtime, listeners)) => {
                        // Start waits for it.
                        let _ = ready.send(Ok(()));
                        runtime.block_on(async move {
                            let worker = Worker::new(index, shared, plane, slots);
                            worker.accept(listeners);
                            worker.run(messages).await;
                        });
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            })?;
        outcome
            .recv()
            .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
    }
    Ok(Handle { plane })
}

/// What cannot leave the thread that prepares it: a worker's runtime, and the listeners on it.
///
/// A `LocalSet` on an ordinary runtime would wake, queue and poll twice for each wake of a session.
fn prepare(listeners: Vec<Listener>) -> io::Result<(LocalRuntime, Vec<AsyncFd<OwnedFd>>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    let registered: io::Result<_> = {
        let _context = runtime.enter();
        listeners.into_iter().map(Listener::register).collect()
    };
    registered.map(|listeners| (runtime, listeners))
}

impl Handle {
    /// Statement and error counters of `node`, summed over all workers.
    pub fn totals(&self, node: NodeId) -> NodeTotals {
        let mut totals = NodeTotals::default();
        for counters in self.plane.counters.iter().filter_map(|c| c.get(node)) {
            totals.add(counters);
        }
        totals
    }

    /// All slots in the order of their numbers, as they are now.
    pub async fn slots(&self) -> Vec<SlotInfo> {
        let mut all = Vec::new();
        let replies: Vec<_> = (0..self.plane.worker_count())
            .map(|worker| {
                let (reply, slots) = oneshot::channel();
                self.plane.send(worker, WorkerMessage::Snapshot(reply));
                slots
            })
            .collect();
        for reply in replies {
            all.extend(reply.await.unwrap_or_default());
        }
        all.sort_by_key(|(index, _)| *index);
        all.into_iter().map(|(_, info)| info).collect()
    }

    /// The numbers shown as pids, one per slot (`pcp_proc_count`).
    pub fn slot_pids(&self) -> Vec<u32> {
        (0..self.plane.slots).map(slot_pid).collect()
    }

    /// Clients that hold a slot.
    pub fn connected_clients(&self) -> usize {
        self.plane.table().busy()
    }

    /// Clients that wait for a slot.
    pub fn waiting_clients(&self) -> usize {
        self.plane.table().waiting()
    }

    /// The supervisor has published a new [`crate::cluster::ClusterView`]: sessions that the
    /// change touches end or drop the node, idle cached connections to nodes that are gone close.
    pub fn view_changed(&self) {
        self.plane.view_version.send_modify(|version| *version += 1);
        self.plane.send_all(|| WorkerMessage::ViewChanged);
    }

    /// Writes to the primary go on after a hold: sessions that wait look at the view and go on.
    pub fn serving_again(&self) {
        self.plane.send_all(|| WorkerMessage::ViewChanged);
    }

    /// The supervisor has published a new [`crate::config::Config`].
    pub fn config_changed(&self) {
        self.plane.auth_query.clear();
        self.plane.send_all(|| WorkerMessage::ConfigChanged);
    }

    /// For the second stage of an online recovery: new clients wait for their slot, and sessions that
    /// are idle end as `client_idle_limit_in_recovery` says. `false` ends that.
    pub fn hold_clients(&self, held: bool) {
        self.plane.table().hold(held);
        self.plane.send_all(|| WorkerMessage::HoldClients(held));
    }

    /// Stops accepting; smart lets sessions finish, the other modes cut them.
    pub fn stop(&self, mode: StopMode) {
        self.plane.shutdown.send_replace(Some(mode));
        self.plane.send_all(|| WorkerMessage::Stop(mode));
    }

    /// Returns when all sessions have ended after [`Handle::stop`].
    pub async fn stopped(&self) {
        while self.plane.live.iter().any(|n| n.load(Relaxed) > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Plane {
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    pub fn table(&self) -> MutexGuard<'_, SlotTable> {
        lock(&self.table)
    }

    /// The worker that a slot lives on.
    pub fn owner(&self, slot: SlotIndex) -> usize {
        slot % self.worker_count()
    }

    /// A worker ends only with the process; then nobody misses the message.
    pub fn send(&self, worker: usize, message: WorkerMessage) {
        if let Some(sender) = self.workers.get(worker) {
            let _ = sender.send(message);
        }
    }

    pub fn send_to_owner(&self, slot: SlotIndex, message: WorkerMessage) {
        self.send(self.owner(slot), message);
    }

    fn send_all(&self, message: impl Fn() -> WorkerMessage) {
        for worker in 0..self.worker_count() {
            self.send(worker, message());
        }
    }

    /// Which slot's session was given this cancel key.
    pub fn cancel_target(&self, pid: u32, key: u32) -> Option<SlotIndex> {
        lock(&self.cancel_keys).get(&(pid, key)).copied()
    }

    pub fn add_cancel_key(&self, pid: u32, key: u32, slot: SlotIndex) {
        lock(&self.cancel_keys).insert((pid, key), slot);
    }

    pub fn remove_cancel_key(&self, pid: u32, key: u32) {
        lock(&self.cancel_keys).remove(&(pid, key));
    }

    pub fn cached(&self, slot: SlotIndex, keys: Vec<PoolKey>) {
        self.table().cached(slot, keys);
    }

    /// Where a new client goes: to the worker with the fewest.
    ///
    /// Filling one worker first costs up to a fifth less CPU for a few sessions, since a worker then
    /// finds more than one of them ready each time it wakes, and gives up to a third less
    /// throughput for big results and new connections (`make bench`).
    pub fn place(&self) -> usize {
        let clients = |worker: usize| self.live.get(worker).map_or(0, |n| n.load(Relaxed));
        (0..self.worker_count())
            .min_by_key(|&worker| clients(worker))
            .unwrap_or(0)
    }

    /// Counts a client as connected to a worker while it lives.
    pub fn enter(self: &Arc<Self>, worker: usize) -> Live {
        if let Some(count) = self.live.get(worker) {
            count.fetch_add(1, Relaxed);
        }
        Live {
            plane: self.clone(),
            worker,
        }
    }
}

/// A connected client.
pub struct Live {
    plane: Arc<Plane>,
    worker: usize,
}

impl Live {
    /// The client goes on at another worker.
    pub fn move_to(&mut self, worker: usize) {
        *self = self.plane.enter(worker);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(count) = self.plane.live.get(self.worker) {
            count.fetch_sub(1, Relaxed);
        }
    }
}

/// The number that a slot shows as its pid.
pub fn slot_pid(slot: SlotIndex) -> u32 {
    FIRST_PID + u32::try_from(slot).unwrap_or(0)
}

/// What a cached set of connections is found by.
pub fn pool_key(startup: &StartupPacket) -> PoolKey {
    let mut hasher = DefaultHasher::new();
    startup.user.hash(&mut hasher);
    startup.database.hash(&mut hasher);
    startup.parameters.hash(&mut hasher);
    hasher.finish()
}

/// A panic while the lock was held has ended one session; the data behind it is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of a thread or task without which pgpool only looks alive. A session's panic ends inside its task; a panic
/// that gets here would leave clients without an answer for ever.
struct EndsWithTheProcess;

impl Drop for EndsWithTheProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}
