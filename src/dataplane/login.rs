//! The login of a client: the shell around [`SessionAuth`], and the start-up of backend connections.
//!
//! pool_hba is asked before the client takes a slot, the backends afterwards. All backends are
//! connected side by side; one that is not worked on may fail without the client noticing.

mod attempt;
pub mod auth_query;
mod backends;

use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    admin_session::read_message,
    blocking,
    front::{self, Client},
    pool::{PoolEntry, PoolFacts},
    pool_key,
    session::{Balancing, SessionControl},
    table::SlotIndex,
    worker::Worker,
};
use crate::{
    auth::{
        Password,
        error::ErrorReport,
        external::Check,
        hba::{Method, Origin, Record, SystemNetwork},
        passwd::Secret,
        session_auth::{Action, HbaVerdict, Inputs, Randomness, SessionAuth},
    },
    cluster::{ClusterView, NodeId, NodeStatus},
    control::Report,
    observe::Severity,
    protocol::{StartupPacket, messages, messages::ErrorMessage},
    tls::TlsInfo,
};
use attempt::Attempt;
use backends::Backends;

/// Milliseconds that the first session of a node waits at most until the node is shown as `up`.
const FIRST_SESSION_WAITS: u32 = 50;

/// A client that pool_hba lets go on; the rest of its authentication is inside.
pub struct Admitted {
    auth: Box<SessionAuth>,
    attempt: Attempt,
}

/// A login that has failed, and a client that has not been told yet.
pub struct Refused {
    /// The last bytes for it.
    bytes: Vec<u8>,
    /// They are held back for so long.
    delay: Duration,
}

/// Why a login does not go on. `None`: the client has gone, or has been told.
type Refusal = Option<Refused>;

/// A session that may begin.
pub struct Started {
    pub entry: PoolEntry,
    /// The node to write to.
    pub target: NodeId,
    /// How to balance, if the session does.
    pub balancing: Option<Balancing>,
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
    let tls = client.stream.tls();
    let origin = match client.peer.address {
        None => Origin::Local,
        Some(address) => Origin::Host {
            address,
            tls: tls.is_some(),
        },
    };
    let config = worker.shared.config.load_full();
    let (hba, check) = verdict(worker, config.settings.enable_pool_hba, origin, startup).await;
    let mut attempt = Attempt::new(worker, client.peer.address, &startup.user);
    // Who is asked for no password cannot guess one, and does not wait for those who do.
    if may_be_asked(hba) {
        attempt.wait_for_turn().await;
    }
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
        hba,
        allow_clear_text: config.settings.allow_clear_text_frontend_auth,
        entry: worker.shared.passwd.load().get(&startup.user),
        channel_binding: tls.as_ref().and_then(TlsInfo::channel_binding),
        client_name: tls.and_then(|tls| tls.client_name),
        auth_query: config.settings.own.auth_query.is_some(),
        client_key: match hba {
            HbaVerdict::Method(Method::Cert) => worker.plane.client_keys.get(&startup.user),
            _ => None,
        },
        random,
    }));
    let actions = auth.start();
    let judged = Judged {
        user: &startup.user,
        check,
    };
    match converse(worker, client, judged, &mut auth, actions).await {
        Ok(()) => Some(Admitted { auth, attempt }),
        Err(Some(error)) => {
            Box::pin(refuse(worker, client, &auth, attempt, error)).await;
            None
        }
        Err(None) => {
            left(worker, client, &auth, attempt);
            None
        }
    }
}

/// Whether the client may be asked for a password before servers are; guesses wait here, without a slot.
fn may_be_asked(hba: HbaVerdict) -> bool {
    match hba {
        HbaVerdict::Unusable | HbaVerdict::NoRecord => false,
        HbaVerdict::Method(method) => {
            !matches!(method, Method::Trust | Method::Cert | Method::Reject)
        }
        // A server may ask, and then a slot is held.
        HbaVerdict::Off => true,
    }
}

/// Tells a client that holds no slot why its login failed, later when it may have guessed.
async fn refuse(
    worker: &Worker,
    client: &mut Client,
    auth: &SessionAuth,
    attempt: Attempt,
    error: ErrorReport,
) {
    let refused = Refused::new(worker, client, auth, attempt, &error);
    refused.tell(worker, client).await;
}

impl Refused {
    /// Writes the failure into the log, which need not wait.
    fn new(
        worker: &Worker,
        client: &Client,
        auth: &SessionAuth,
        attempt: Attempt,
        error: &ErrorReport,
    ) -> Refused {
        log(client, error);
        let delay = if auth.may_be_a_guess() {
            attempt.failed(worker, client)
        } else {
            Duration::ZERO
        };
        let mut bytes = Vec::new();
        message_of(error).encode(&mut bytes);
        Refused { bytes, delay }
    }

    /// Waits and tells. The client must not hold a slot.
    pub async fn tell(self, worker: &Worker, client: &mut Client) {
        let limit = worker.shared.config.load().settings.authentication_timeout;
        let delay = limit.map_or(self.delay, |limit| self.delay.min(limit));
        attempt::hold_back(worker, client, delay).await;
        front::farewell(&mut client.stream, &self.bytes).await;
    }
}

/// Of whom a login decides, and who outside judges the password.
struct Judged<'a> {
    user: &'a str,
    check: Option<Check>,
}

/// Carries out what the core wants of a client, until it lets the client go on.
///
/// # Errors
///
/// What to tell the client; `None`: it has gone, or has been told.
async fn converse(
    worker: &Worker,
    client: &mut Client,
    judged: Judged<'_>,
    auth: &mut SessionAuth,
    mut actions: Vec<Action>,
) -> Result<(), Option<ErrorReport>> {
    loop {
        let mut keys = Vec::new();
        let mut asked = None;
        for action in actions {
            match action {
                Action::SendClient(bytes) => {
                    client.stream.write_all(&bytes).await.map_err(|_| None)?;
                }
                Action::Passed | Action::Done(_) => return Ok(()),
                Action::DeriveKey(id, request) => keys.push((id, request)),
                Action::Log {
                    message,
                    detail,
                    hint,
                } => client.reporter.emit(Severity::Log, &*message, detail, hint),
                Action::LookUp => {
                    let found = Box::pin(look_up(worker, judged.user)).await;
                    asked = Some(auth.on_looked_up(found));
                }
                Action::VerifyPassword(service, password) => {
                    let verdict = match &judged.check {
                        Some(check) => {
                            // Rare and big: not a part of every login's future.
                            Box::pin(ask_outside(client, auth, check, judged.user, &password))
                                .await?
                        }
                        None => Err(service.refusal(judged.user)),
                    };
                    let hand_on = judged.check.as_ref().is_some_and(Check::hands_password_on);
                    asked = Some(auth.on_password_verified(verdict, hand_on));
                }
                Action::Fail(error) => return Err(Some(error)),
                // Backends have no part in this.
                Action::SendBackend(..) | Action::BackendReady(_) | Action::ForwardError(..) => {}
            }
        }
        actions = asked.unwrap_or_default();
        for (id, request) in keys {
            let key = blocking::derived(&worker.plane.keys, request).await;
            actions.extend(auth.on_key_derived(id, key));
        }
        if actions.is_empty() {
            let (kind, body) = client_message(client, auth).await?;
            actions = auth.on_client_message(kind, &body);
        }
    }
}

/// Has PAM or LDAP judge a password: their verdict, or what to tell the client.
///
/// # Errors
///
/// The client did not wait for it.
async fn ask_outside(
    client: &mut Client,
    auth: &mut SessionAuth,
    check: &Check,
    user: &str,
    password: &Password,
) -> Result<Result<(), ErrorReport>, Option<ErrorReport>> {
    let outcome = tokio::select! {
        outcome = check.verify(user, password) => outcome,
        () = client.stream.closed() => return Err(None),
    };
    for entry in outcome.log {
        client
            .reporter
            .emit(Severity::Log, entry.message, &entry.detail, entry.hint);
    }
    if !outcome.judged {
        auth.nobody_has_judged();
    }
    Ok(outcome.result)
}

/// What pool_hba.conf says, and who else judges. Name look-ups run on a thread that may block.
async fn verdict(
    worker: &Worker,
    enabled: bool,
    origin: Origin,
    startup: &StartupPacket,
) -> (HbaVerdict, Option<Check>) {
    if !enabled {
        return (HbaVerdict::Off, None);
    }
    let hba = worker.shared.hba.load_full();
    let Ok(rules) = &*hba else {
        return (HbaVerdict::Unusable, None);
    };
    let of = move |record: &Record| (record.method, Check::of(record, origin));
    let (user, database) = (&startup.user, &startup.database);
    let found = match rules.find_without_lookup(origin, user, database) {
        None if rules.needs_lookup() => {
            let (user, database) = (user.clone(), database.clone());
            let find = move || {
                let rules = hba.as_ref().as_ref().ok()?;
                rules
                    .find(origin, &user, &database, &mut SystemNetwork)
                    .map(of)
            };
            blocking::asking_names(find).await.flatten()
        }
        record => record.map(of),
    };
    match found {
        Some((method, check)) => (HbaVerdict::Method(method), check),
        None => (HbaVerdict::NoRecord, None),
    }
}

/// The rest of the login of a client that needs no backend.
pub async fn without_backend(
    worker: &Rc<Worker>,
    client: &mut Client,
    startup: &StartupPacket,
    admitted: Admitted,
) -> bool {
    let Admitted { mut auth, attempt } = admitted;
    let actions = auth.standalone();
    let judged = Judged {
        user: &startup.user,
        check: None,
    };
    match converse(worker, client, judged, &mut auth, actions).await {
        Ok(()) => {
            good(worker, &startup.user, &auth, attempt);
            true
        }
        Err(Some(error)) => {
            refuse(worker, client, &auth, attempt, error).await;
            false
        }
        Err(None) => {
            left(worker, client, &auth, attempt);
            false
        }
    }
}

/// The client has hung up before the end. Who knows from the time that it takes that a guess was wrong
/// does not wait for the answer: that is a failed login like any other.
fn left(worker: &Worker, client: &Client, auth: &SessionAuth, attempt: Attempt) {
    if auth.may_be_a_guess() {
        attempt.failed(worker, client);
    }
}

/// All are satisfied.
fn good(worker: &Worker, user: &str, auth: &SessionAuth, attempt: Attempt) {
    if let Some(key) = auth.client_key() {
        worker.plane.client_keys.keep(user, key);
    }
    // Being trusted clears no failures.
    if auth.is_proven() {
        attempt.succeeded();
    }
}

async fn look_up(worker: &Worker, user: &str) -> Option<Secret> {
    let config = worker.shared.config.load_full();
    let settings = config.settings.own.auth_query.as_ref()?;
    worker.plane.auth_query.look_up(settings, user).await
}

/// Takes cached connections or makes new ones, and finishes the login.
///
/// # Errors
///
/// What the client has to be told when its slot is free again; `None`: it has been told.
pub async fn at_backends(
    worker: &Rc<Worker>,
    client: &mut Client,
    startup: &StartupPacket,
    admitted: Admitted,
    control: &SessionControl,
) -> Result<Started, Refusal> {
    let (view, target) = node_to_work_on(worker, client).await.ok_or(None)?;
    control.logs_in_at.set(Some(target));
    let cached = take_cached(worker, control.slot, startup, &view)
        .and_then(|entry| still_good(worker, &admitted.auth, entry));
    let limit = worker.shared.config.load().settings.authentication_timeout;
    let work = async {
        let mut backends = match &cached {
            Some(_) => Backends::cached(worker, startup, target),
            None => Backends::connect(worker, client, startup, &view, target)
                .await
                .ok_or(None)?,
        };
        let remembered = cached.as_ref().map(|entry| &entry.remembered);
        let (greeting, done) = backends.log_in(client, admitted, remembered).await?;
        Ok((backends, greeting, done))
    };
    let done = match limit {
        None => work.await,
        Some(limit) => match tokio::time::timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => {
                front::log_timeout(client, limit);
                Err(None)
            }
        },
    };
    let (backends, mut greeting, done) = match done {
        Ok(done) => done,
        Err(refusal) => {
            // Nothing was sent on cached connections: the next client may use them.
            if let Some(entry) = cached {
                worker.with_slot(control.slot, |slot| slot.entries.push(entry));
            }
            return Err(refusal);
        }
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
        .map(|b| (b.pid, b.key))
        .ok_or(None)?;
    entry.facts.counter.set(entry.facts.counter.get() + 1);
    entry.facts.client_connected.set(Some(SystemTime::now()));
    greeting.extend_from_slice(&entry.parameter_status);
    messages::backend_key_data(key.0, key.1, &mut greeting);
    messages::ready_for_query(b'I', &mut greeting);
    Ok(Started {
        balancing: Balancing::begin(worker, &view, target, &entry),
        entry,
        target,
        greeting,
        cancel_key: key,
    })
}

/// A password that a server has accepted once, and that nobody else knows, lets a client in for
/// `remembered_password_life_time`: it may have been changed since. Then a server judges it again.
fn still_good(worker: &Worker, auth: &SessionAuth, entry: PoolEntry) -> Option<PoolEntry> {
    let config = worker.shared.config.load();
    let Some(life) = config.settings.own.remembered_password_life_time else {
        return Some(entry);
    };
    // A clock that has been set back tells no age.
    let is_young = entry.facts.created.elapsed().is_ok_and(|age| age < life);
    if is_young || !auth.relies_on(&entry.remembered) {
        return Some(entry);
    }
    entry.close();
    None
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

/// The next message of a client that is being asked.
///
/// # Errors
///
/// What to tell the client; `None`: it has gone, or has been told.
async fn client_message(
    client: &mut Client,
    auth: &SessionAuth,
) -> Result<(u8, Vec<u8>), Option<ErrorReport>> {
    loop {
        // Judged by its header, so that a stranger cannot claim memory.
        if let Ok(Some(header)) = crate::protocol::Header::read(&client.input)
            && let Err(error) = auth.check_client_header(header.kind, header.body_len)
        {
            return Err(Some(error));
        }
        if client.input.len() >= crate::protocol::frame::HEADER_LEN {
            return match read_message(client).await {
                Ok(message) => message.ok_or(None),
                Err(error) => {
                    front::refuse(client, &error).await;
                    Err(None)
                }
            };
        }
        match client.stream.read_some(&mut client.input, 1024).await {
            Ok(n) if n > 0 => {}
            _ => return Err(None),
        }
    }
}

fn log(client: &Client, error: &ErrorReport) {
    let severity = if error.severity == "FATAL" {
        Severity::Fatal
    } else {
        Severity::Error
    };
    client
        .reporter
        .emit(severity, &error.message, &error.detail, &error.hint);
}

fn message_of(error: &ErrorReport) -> ErrorMessage {
    ErrorMessage {
        severity: error.severity,
        sqlstate: error.sqlstate,
        message: error.message.clone(),
        detail: error.detail.clone(),
        hint: error.hint.clone(),
    }
}

impl PoolFacts {
    fn new(startup: StartupPacket, backend_pids: Vec<Option<u32>>) -> Rc<PoolFacts> {
        Rc::new(PoolFacts {
            key: pool_key(&startup),
            startup,
            created: SystemTime::now(),
            counter: Cell::new(0),
            client_connected: Cell::new(None),
            client_disconnected: Cell::new(None),
            backend_pids,
        })
    }
}
