//! The login of a client: the shell around [`SessionAuth`], and the start-up of backend connections.
//!
//! pool_hba is asked before the client takes a slot, the backends afterwards. All backends are
//! connected side by side; one that is not worked on may fail without the client noticing.

mod backends;

use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    admin_session::read_message,
    front::{self, Client},
    pool::{PoolEntry, PoolFacts},
    session::SessionControl,
    table::SlotIndex,
    worker::Worker,
};
use crate::{
    auth::{
        error::ErrorReport,
        hba::{Origin, SystemNetwork},
        session_auth::{Action, HbaVerdict, Inputs, Randomness, SessionAuth},
    },
    cluster::{ClusterView, NodeId, NodeStatus},
    control::Report,
    observe::Severity,
    protocol::{StartupPacket, messages, messages::ErrorMessage},
};
use backends::Backends;

/// Milliseconds that the first session of a node waits at most until the node is shown as `up`.
const FIRST_SESSION_WAITS: u32 = 50;

/// A client that pool_hba lets go on; the rest of its authentication is inside.
pub struct Admitted {
    auth: Box<SessionAuth>,
}

/// A session that may begin.
pub struct Started {
    pub entry: PoolEntry,
    /// The node that all statements go to.
    pub target: NodeId,
    /// What the client is sent first.
    pub greeting: Vec<u8>,
    pub cancel_key: (u32, u32),
}

/// Asks pool_hba.conf and, where it says so, the client. `None`: refused, and told so.
pub async fn by_pool_hba(
    worker: &Rc<Worker>,
    client: &mut Client,
    startup: &StartupPacket,
) -> Option<Admitted> {
    let origin = match client.peer.address {
        None => Origin::Local,
        Some(address) => Origin::Host {
            address,
            tls: false,
        },
    };
    let config = worker.shared.config.load_full();
    let random = match Randomness::generate() {
        Ok(random) => random,
        Err(error) => {
            let error = ErrorMessage::fatal("XX000", "no random numbers for the login")
                .detail(error.to_string());
            front::refuse(client, &error).await;
            return None;
        }
    };
    let mut auth = Box::new(SessionAuth::new(Inputs {
        user: startup.user.clone(),
        database: startup.database.clone(),
        origin,
        hba: verdict(worker, config.settings.enable_pool_hba, origin, startup).await,
        allow_clear_text: config.settings.allow_clear_text_frontend_auth,
        entry: worker.shared.passwd.load().get(&startup.user),
        random,
    }));
    let actions = auth.start();
    converse(worker, client, &mut auth, actions).await?;
    Some(Admitted { auth })
}

/// Carries out what the core wants of a client, until it lets the client go on. `None`: the client
/// has gone, or was refused and told so.
async fn converse(
    worker: &Worker,
    client: &mut Client,
    auth: &mut SessionAuth,
    mut actions: Vec<Action>,
) -> Option<()> {
    loop {
        let mut keys = Vec::new();
        for action in actions {
            match action {
                Action::SendClient(bytes) => client.stream.write_all(&bytes).await.ok()?,
                Action::Passed | Action::Done(_) => return Some(()),
                Action::DeriveKey(id, request) => keys.push((id, request)),
                Action::Log {
                    message,
                    detail,
                    hint,
                } => client.reporter.emit(Severity::Log, message, detail, hint),
                Action::Fail(error) => {
                    fail(client, &error).await;
                    return None;
                }
                // Backends have no part in this.
                Action::SendBackend(..) | Action::BackendReady(_) | Action::ForwardError(..) => {}
            }
        }
        actions = Vec::new();
        for (id, request) in keys {
            actions.extend(auth.on_key_derived(id, derive(worker, request).await));
        }
        if actions.is_empty() {
            let (kind, body) = client_message(client, auth).await?;
            actions = auth.on_client_message(kind, &body);
        }
    }
}

/// What pool_hba.conf says. Name look-ups run on a thread that may block.
async fn verdict(
    worker: &Worker,
    enabled: bool,
    origin: Origin,
    startup: &StartupPacket,
) -> HbaVerdict {
    if !enabled {
        return HbaVerdict::Off;
    }
    let hba = worker.shared.hba.load_full();
    let found = match &*hba {
        Err(_) => return HbaVerdict::Unusable,
        Ok(rules) if !rules.needs_lookup() => {
            rules.method(origin, &startup.user, &startup.database)
        }
        Ok(_) => {
            let (hba, user, database) = (
                Arc::clone(&hba),
                startup.user.clone(),
                startup.database.clone(),
            );
            let lookup = move || {
                let rules = hba.as_ref().as_ref().ok()?;
                let record = rules.find(origin, &user, &database, &mut SystemNetwork)?;
                Some(record.method)
            };
            tokio::task::spawn_blocking(lookup).await.unwrap_or(None)
        }
    };
    found.map_or(HbaVerdict::NoRecord, HbaVerdict::Method)
}

/// The rest of the login of a client that needs no backend.
pub async fn without_backend(worker: &Rc<Worker>, client: &mut Client, admitted: Admitted) -> bool {
    let mut auth = admitted.auth;
    let actions = auth.standalone();
    converse(worker, client, &mut auth, actions).await.is_some()
}

/// Takes cached connections or makes new ones, and finishes the login. `None`: refused, and told so.
pub async fn at_backends(
    worker: &Rc<Worker>,
    client: &mut Client,
    startup: &StartupPacket,
    admitted: Admitted,
    control: &SessionControl,
) -> Option<Started> {
    let (view, target) = node_to_work_on(worker, client).await?;
    control.load_balance_node.set(Some(target));
    let cached = take_cached(worker, control.slot, startup, &view);
    let limit = worker.shared.config.load().settings.authentication_timeout;
    let work = async {
        let mut backends = match &cached {
            Some(_) => Backends::cached(worker, startup, target),
            None => Backends::connect(worker, client, startup, &view, target).await?,
        };
        let remembered = cached.as_ref().map(|entry| &entry.remembered);
        let (greeting, done) = backends.log_in(client, admitted.auth, remembered).await?;
        Some((backends, greeting, done))
    };
    let done = match limit {
        None => work.await,
        Some(limit) => match tokio::time::timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => {
                front::log_timeout(client, limit);
                None
            }
        },
    };
    let Some((backends, mut greeting, done)) = done else {
        // Nothing was sent on cached connections: the next client may use them.
        if let Some(entry) = cached {
            worker.with_slot(control.slot, |slot| slot.entries.push(entry));
        }
        return None;
    };
    let entry = match cached {
        Some(entry) => entry,
        None => {
            tell_used(worker, &view, backends.nodes()).await;
            backends.into_entry(view.nodes.len(), done)
        }
    };
    let key = entry
        .backends
        .get(target)
        .and_then(Option::as_ref)
        .map(|b| (b.pid, b.key))?;
    entry.facts.counter.set(entry.facts.counter.get() + 1);
    entry.facts.client_connected.set(Some(SystemTime::now()));
    greeting.extend_from_slice(&entry.parameter_status);
    messages::backend_key_data(key.0, key.1, &mut greeting);
    messages::ready_for_query(b'I', &mut greeting);
    Some(Started {
        entry,
        target,
        greeting,
        cancel_key: key,
    })
}

/// The first session of a node makes it `up`. Waits for that, so that the session's own SHOW says so.
async fn tell_used(worker: &Worker, view: &ClusterView, nodes: impl Iterator<Item = NodeId>) {
    let is_waiting = |view: &ClusterView, node: NodeId| {
        view.nodes
            .get(node)
            .is_some_and(|n| n.status == NodeStatus::Waiting)
    };
    let first_of: Vec<NodeId> = nodes.filter(|&node| is_waiting(view, node)).collect();
    for &node in &first_of {
        worker.shared.report(Report::NodeUsed { node });
    }
    for _ in 0..FIRST_SESSION_WAITS {
        let view = worker.shared.view.load_full();
        if !first_of.iter().any(|&node| is_waiting(&view, node)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The primary (or main node). While a new primary is being searched for, clients wait here.
async fn node_to_work_on(
    worker: &Worker,
    client: &mut Client,
) -> Option<(Arc<ClusterView>, NodeId)> {
    let mut changes = worker.plane.view_version.subscribe();
    loop {
        changes.mark_unchanged();
        let view = worker.shared.view.load_full();
        if !view.primary_search_running {
            if let Some(node) = view.write_node() {
                return Some((view, node));
            }
            let error = ErrorMessage::error("08S01", "pgpool is not accepting any new connections")
                .detail("all backend nodes are down, pgpool requires at least one valid node")
                .hint("repair the backend nodes and restart pgpool");
            client
                .reporter
                .emit(Severity::Fatal, &error.message, &error.detail, &error.hint);
            front::refuse(client, &error).await;
            return None;
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = client.stream.closed() => return None,
        }
    }
}

/// The cached connections for this client, if they are all alive and for all nodes of today.
fn take_cached(
    worker: &Worker,
    slot: SlotIndex,
    startup: &StartupPacket,
    view: &ClusterView,
) -> Option<PoolEntry> {
    let max_pool = worker.shared.config.load().settings.max_pool;
    worker
        .with_slot(slot, |slot| {
            let mut found = None;
            if let Some(at) = slot.entries.iter().position(|e| e.is_for(startup)) {
                let mut entry = slot.entries.swap_remove(at);
                let complete = view.nodes.iter().all(|node| {
                    let connected = entry.backends.get(node.id).is_some_and(Option::is_some);
                    connected == view.takes_part(node.id)
                });
                if entry.serves(startup) && complete && entry.is_fresh() {
                    found = Some(entry);
                } else {
                    entry.close();
                }
            }
            // A new set needs room: the one that has been idle longest goes.
            while found.is_none() && slot.entries.len() >= max_pool.max(1) {
                let oldest = (0..slot.entries.len())
                    .min_by_key(|&i| slot.entries[i].idle_since)
                    .unwrap_or(0);
                slot.entries.swap_remove(oldest).close();
            }
            found
        })
        .flatten()
}

/// The next message of a client that is being asked; `None`: it has gone, or was refused and told so.
async fn client_message(client: &mut Client, auth: &SessionAuth) -> Option<(u8, Vec<u8>)> {
    loop {
        // Judged by its header, so that a stranger cannot claim memory.
        if let Ok(Some(header)) = crate::protocol::Header::read(&client.input)
            && let Err(error) = auth.check_client_header(header.kind, header.body_len)
        {
            fail(client, &error).await;
            return None;
        }
        if client.input.len() >= crate::protocol::frame::HEADER_LEN {
            return match read_message(client).await {
                Ok(message) => message,
                Err(error) => {
                    front::refuse(client, &error).await;
                    None
                }
            };
        }
        match client.stream.read_some(&mut client.input, 1024).await {
            Ok(n) if n > 0 => {}
            _ => return None,
        }
    }
}

/// PBKDF2 takes milliseconds: never on a thread that serves sessions.
async fn derive(
    worker: &Worker,
    request: crate::auth::keys::KeyRequest,
) -> Result<crate::auth::keys::SaltedPassword, openssl::error::ErrorStack> {
    if let Some(key) = worker.plane.keys.get(&request) {
        return Ok(key);
    }
    let work = move || {
        let key = request.derive();
        (request, key)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok((request, key)) => {
            let key = key?;
            worker.plane.keys.insert(&request, key.clone());
            Ok(key)
        }
        Err(_) => Err(openssl::error::ErrorStack::get()),
    }
}

/// Tells a client why its login failed, and the log.
async fn fail(client: &mut Client, error: &ErrorReport) {
    let severity = if error.severity == "FATAL" {
        Severity::Fatal
    } else {
        Severity::Error
    };
    client
        .reporter
        .emit(severity, &error.message, &error.detail, &error.hint);
    let message = ErrorMessage {
        severity: error.severity,
        sqlstate: error.sqlstate,
        message: error.message.clone(),
        detail: error.detail.clone(),
        hint: error.hint.clone(),
    };
    front::refuse(client, &message).await;
}

impl PoolFacts {
    fn new(startup: StartupPacket, backend_pids: Vec<Option<u32>>) -> Rc<PoolFacts> {
        Rc::new(PoolFacts {
            startup,
            created: SystemTime::now(),
            counter: Cell::new(0),
            client_connected: Cell::new(None),
            client_disconnected: Cell::new(None),
            backend_pids,
        })
    }
}
