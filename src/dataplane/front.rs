//! From an accepted connection to a running session: start-up packet, pool_hba, slot, hand-over.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use openssl::ssl::SslContext;

use super::{
    admin_session, blocking, cancel, finish, login,
    session::{Kill, Relay, SessionControl, Start},
    stream::{BareStream, Stream},
    table::{Admission, SlotIndex},
    worker::Worker,
};
use crate::{
    observe::{Reporter, Severity},
    protocol::{
        FirstPacket, StartupPacket, messages,
        messages::ErrorMessage,
        startup::{self, StartupError},
    },
    tls,
};

/// The first byte of a TLS handshake; that of a start-up packet is 0, as no packet is so long.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client may send ahead while it waits for its slot; the rest stays in its socket.
const AHEAD: usize = 8192;

/// A client that does not take an error message in this time does not get it.
pub const FAREWELL_LIMIT: Duration = Duration::from_secs(2);

/// Where a client comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// `None` on a unix socket.
    pub address: Option<IpAddr>,
    pub host: String,
    pub port: String,
    /// The name that a name server gives, with `log_hostname`.
    pub name: Option<String>,
}

impl Peer {
    pub fn tcp(address: SocketAddr) -> Peer {
        // A client of an IPv6 socket that speaks IPv4 is meant by IPv4 records.
        let ip = address.ip().to_canonical();
        Peer {
            address: Some(ip),
            host: ip.to_string(),
            port: address.port().to_string(),
            name: None,
        }
    }

    pub fn local() -> Peer {
        Peer {
            address: None,
            host: String::new(),
            port: String::new(),
            name: None,
        }
    }

    /// As log lines name the client.
    pub fn host_or_local(&self) -> &str {
        match &self.name {
            Some(name) => name,
            None if self.host.is_empty() => "[local]",
            None => &self.host,
        }
    }
}

/// A connected client before its session runs.
pub struct Client {
    pub stream: Stream,
    pub peer: Arc<Peer>,
    /// Bytes that have been read and not used.
    pub input: Vec<u8>,
    pub reporter: Reporter,
}

/// A client that pool_hba has let in (or that its backends will ask), with its slot, on its way to the slot's worker.
pub struct ReadyClient {
    stream: BareStream,
    peer: Arc<Peer>,
    input: Vec<u8>,
    reporter: Reporter,
    startup: StartupPacket,
    admitted: login::Admitted,
    slot: GrantedSlot,
    live: super::Live,
}

/// A slot that is given back when nobody uses it, whatever happens.
pub struct GrantedSlot {
    plane: Arc<super::Plane>,
    pub index: SlotIndex,
    /// What is cached in it when it is given back; `None`: as before.
    pub keys: Option<Vec<u64>>,
}

impl Drop for GrantedSlot {
    fn drop(&mut self) {
        self.plane.table().release(self.index, self.keys.take());
    }
}

/// Serves one connection from its first byte to its last, or as far as the slot of another worker.
pub fn serve(
    worker: Rc<Worker>,
    stream: BareStream,
    peer: Peer,
    live: super::Live,
) -> impl Future<Output = ()> {
    run(Box::pin(async move {
        let ready = admit(&worker, stream, peer, live).await?;
        begin(worker, ready).await
    }))
}

/// Serves a client whose slot is on this worker.
pub fn serve_ready(worker: Rc<Worker>, ready: ReadyClient) -> impl Future<Output = ()> {
    run(Box::pin(begin(worker, ready)))
}

/// From the beginning, whatever is left of it, to the end of the session.
///
/// What an idle client costs is mostly this future, so it holds what the relay and the end need; the
/// box with the beginning is given back when the session begins.
async fn run(beginning: Pin<Box<impl Future<Output = Option<Box<Session>>>>>) {
    let Some(session) = beginning.await else {
        return;
    };
    let Session {
        worker,
        mut relay,
        ending,
    } = *session;
    let exit = relay.run().await;
    Box::pin(finish::finish(worker, relay, exit, ending)).await;
}

/// Start-up packet, pool_hba and slot. `None`: there is nothing left to do on this worker.
async fn admit(
    worker: &Rc<Worker>,
    stream: BareStream,
    peer: Peer,
    live: super::Live,
) -> Option<ReadyClient> {
    let reporter = worker
        .reporter
        .with_session("[unknown]", "", "", &peer.host);
    let client = Client {
        stream: stream.register().ok()?,
        peer: Arc::new(peer),
        input: Vec::new(),
        reporter,
    };
    let mut ready = greet_and_admit(worker, client, live).await?;
    let owner = worker.plane.owner(ready.slot.index);
    if owner == worker.index {
        return Some(ready);
    }
    ready.live.move_to(owner);
    worker.plane.send(
        owner,
        super::worker::WorkerMessage::Handover(Box::new(ready)),
    );
    None
}

/// A session that is logged in.
struct Session {
    worker: Rc<Worker>,
    relay: Relay,
    ending: Ending,
}

async fn greet_and_admit(
    worker: &Rc<Worker>,
    mut client: Client,
    live: super::Live,
) -> Option<ReadyClient> {
    let (greeting, closed) = worker.greet();
    let mut shutdown = worker.plane.shutdown.subscribe();
    let admitted = tokio::select! {
        biased;
        _ = shutdown.wait_for(Option::is_some) => None,
        _ = closed => None,
        admitted = async {
            let (startup, admitted) = greet(worker, &mut client).await?;
            let config = worker.shared.config.load_full();
            if startup.database != config.settings.own.admin_database {
                return Some((startup, Some(admitted)));
            }
            // Rare and big: not a part of every client's future.
            let admin = Box::pin(admin_session::log_in(worker, &mut client, &startup, admitted));
            admin.await.then_some((startup, None))
        } => admitted,
    };
    worker.greeted(greeting);
    let (startup, admitted) = admitted?;
    let Some(admitted) = admitted else {
        Box::pin(admin_session::run(worker, client, &startup)).await;
        return None;
    };
    let slot = tokio::select! {
        biased;
        _ = shutdown.wait_for(Option::is_some) => {
            refuse(&mut client, &ErrorMessage::fatal("57P03", "Pgpool-II is shutting down")).await;
            return None;
        }
        slot = wait_for_slot(worker, &mut client, &startup) => slot?,
    };
    Some(ReadyClient {
        stream: client
            .stream
            .deregister_if(worker.plane.owner(slot.index) != worker.index)
            .ok()?,
        peer: client.peer,
        input: client.input,
        reporter: client.reporter,
        startup,
        admitted,
        slot,
        live,
    })
}

/// Reads the start-up packet and authenticates by pool_hba, within `authentication_timeout`.
async fn greet(
    worker: &Rc<Worker>,
    client: &mut Client,
) -> Option<(StartupPacket, login::Admitted)> {
    let config = worker.shared.config.load_full();
    let limit = config.settings.authentication_timeout;
    let work = async {
        let startup = first_packet(worker, client).await?;
        let application = startup.parameter("application_name").unwrap_or("[unknown]");
        client.reporter = client.reporter.with_session(
            application,
            &startup.user,
            &startup.database,
            &client.peer.host,
        );
        if config.settings.log_hostname
            && let Some(address) = client.peer.address
        {
            // Name servers may be slow: on a thread that may wait, within the time of the login.
            let lookup = move || crate::sys::interfaces::name_of(address);
            let name = blocking::asking_names(lookup).await.flatten();
            Arc::make_mut(&mut client.peer).name = name;
        }
        if config.settings.log_connections {
            client.reporter.emit(
                Severity::Log,
                "new connection received",
                &format!(
                    "connecting host={} port={}",
                    client.peer.host_or_local(),
                    client.peer.port
                ),
                "",
            );
        }
        let admitted = login::by_pool_hba(worker, client, &startup).await?;
        Some((startup, admitted))
    };
    match limit {
        None => work.await,
        Some(limit) => match tokio::time::timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => {
                log_timeout(client, limit);
                None
            }
        },
    }
}

/// `authentication_timeout` is over. The client is not told, as by the original.
pub fn log_timeout(client: &Client, limit: Duration) {
    client.reporter.emit(
        Severity::Log,
        "authentication timeout",
        &format!(
            "the login of the client at {} was not done in {} s",
            client.peer.host_or_local(),
            limit.as_secs()
        ),
        "",
    );
}

/// Answers everything that may come before a StartupMessage.
async fn first_packet(worker: &Rc<Worker>, client: &mut Client) -> Option<StartupPacket> {
    if client.input.is_empty()
        && !matches!(client.stream.read_some(&mut client.input, 1024).await, Ok(n) if n > 0)
    {
        return None;
    }
    if client.input.first() == Some(&TLS_HANDSHAKE)
        && let Some(context) = tls_context(worker, client)
    {
        let early = std::mem::take(&mut client.input);
        begin_tls(client, &context, early, true).await?;
    }
    loop {
        let packet = match read_packet(client).await {
            Ok(Some(packet)) => packet,
            Ok(None) => return None,
            Err(error) => {
                refuse_startup(client, &error).await;
                return None;
            }
        };
        match startup::parse(&packet) {
            Ok(FirstPacket::SslRequest | FirstPacket::GssEncRequest) if client.stream.is_tls() => {
                let text = "received an encryption request inside an SSL connection";
                client.reporter.log(text);
                refuse(client, &ErrorMessage::fatal("08P01", text)).await;
                return None;
            }
            Ok(kind @ (FirstPacket::SslRequest | FirstPacket::GssEncRequest)) => {
                let context = if kind == FirstPacket::SslRequest {
                    tls_context(worker, client)
                } else {
                    None
                };
                let answer = if context.is_some() { b"S" } else { b"N" };
                client.stream.write_all(answer).await.ok()?;
                // The class of CVE-2021-23214: nobody honest sends on before the answer.
                if !client.input.is_empty() {
                    let text = "received unencrypted data after SSL request";
                    client.reporter.log(text);
                    // Behind an S words in plain text would be a broken handshake, and no more.
                    if context.is_none() {
                        refuse(client, &ErrorMessage::fatal("08P01", text)).await;
                    }
                    return None;
                }
                if let Some(context) = context {
                    begin_tls(client, &context, Vec::new(), false).await?;
                }
            }
            Ok(FirstPacket::Cancel { pid, key }) => {
                cancel::serve(worker, pid, key).await;
                return None;
            }
            Ok(FirstPacket::Version2) => {
                let text = "unsupported frontend protocol 2.0: server supports 3.0 to 3.0";
                client.reporter.log(text);
                let answer = messages::version_2_error(text);
                let _ = client.stream.write_all(&answer).await;
                return None;
            }
            Ok(FirstPacket::Startup(startup)) => {
                if startup.minor > 0 || !startup.unknown_options.is_empty() {
                    let mut answer = Vec::new();
                    messages::negotiate_protocol_version(&startup.unknown_options, &mut answer);
                    client.stream.write_all(&answer).await.ok()?;
                }
                return Some(startup);
            }
            Err(error) => {
                refuse_startup(client, &error).await;
                return None;
            }
        }
    }
}

/// What a client that asks for TLS is shown; `None`: it is answered that there is none. On unix
/// sockets there never is, as with PostgreSQL.
fn tls_context(worker: &Worker, client: &Client) -> Option<SslContext> {
    match client.stream {
        Stream::Tcp(_) => worker.shared.tls.load().server().cloned(),
        _ => None,
    }
}

/// Goes on in TLS. `None`: the handshake has failed, and the log says why; the client is told by TLS.
async fn begin_tls(
    client: &mut Client,
    context: &SslContext,
    early: Vec<u8>,
    direct: bool,
) -> Option<()> {
    let stream = match std::mem::replace(&mut client.stream, Stream::Gone) {
        Stream::Tcp(stream) => stream,
        other => {
            client.stream = other;
            return None;
        }
    };
    match tls::accept(context, stream, early, direct).await {
        Ok(stream) => {
            client.stream = Stream::Tls(Box::new(stream));
            Some(())
        }
        Err(reason) => {
            client.reporter.emit(
                Severity::Log,
                format_args!("pool_ssl: \"SSL_accept\": \"{reason}\""),
                &format!(
                    "no SSL connection with the client at {} port {}",
                    client.peer.host_or_local(),
                    client.peer.port
                ),
                "",
            );
            None
        }
    }
}

/// One packet without a type byte; `None`: the client has gone.
async fn read_packet(client: &mut Client) -> Result<Option<Vec<u8>>, StartupError> {
    loop {
        if let Some(len) = startup::packet_len(&client.input)?
            && client.input.len() >= len
        {
            let rest = client.input.split_off(len);
            return Ok(Some(std::mem::replace(&mut client.input, rest)));
        }
        match client.stream.read_some(&mut client.input, 1024).await {
            Ok(n) if n > 0 => {}
            _ => return Ok(None),
        }
    }
}

async fn refuse_startup(client: &mut Client, error: &StartupError) {
    client.reporter.emit(
        Severity::Log,
        "failed while reading startup packet",
        &error.to_string(),
        "",
    );
    match error {
        StartupError::NoUser => {
            refuse(client, &ErrorMessage::fatal("28000", error.to_string())).await;
        }
        StartupError::Malformed(_) => {
            refuse(client, &ErrorMessage::fatal("08P01", error.to_string())).await;
        }
        // Not PostgreSQL's protocol, or another major version: closed without a message, as by stock.
        StartupError::Length(_) | StartupError::Version { .. } => {}
    }
}

/// Sends a last message; a client that does not take it has its connection closed without.
pub async fn refuse(client: &mut Client, error: &ErrorMessage) {
    let mut bytes = Vec::new();
    error.encode(&mut bytes);
    farewell(&mut client.stream, &bytes).await;
}

/// Writes the last bytes to a client. Bytes that it has sent meanwhile are read, for a close with
/// unread bytes is a reset, and a reset takes the message with it.
pub async fn farewell(stream: &mut Stream, bytes: &[u8]) {
    let work = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await;
        let mut rest = Vec::new();
        while stream.read_some(&mut rest, 4096).await? > 0 {
            rest.clear();
        }
        Ok::<_, io::Error>(())
    };
    // Nobody is left to tell when it fails.
    let _ = tokio::time::timeout(FAREWELL_LIMIT, work).await;
}

/// Takes a slot, waiting inside while all are busy (stock: in the kernel's listen queue).
async fn wait_for_slot(
    worker: &Rc<Worker>,
    client: &mut Client,
    startup: &StartupPacket,
) -> Option<GrantedSlot> {
    let config = worker.shared.config.load_full();
    let settings = &config.settings;
    let (admission, waiting, held) = {
        let mut table = worker.plane.table();
        let open = settings
            .num_init_children
            .saturating_sub(settings.reserved_connections);
        let held = table.is_held();
        if settings.reserved_connections > 0 && table.busy() >= open {
            (None, 0, held)
        } else if table.waiting() >= worker.plane.waiting_limit {
            (None, table.waiting(), held)
        } else {
            let admission = table.acquire(worker.index, super::pool_key(startup));
            (Some(admission), table.waiting(), held)
        }
    };
    let plane = worker.plane.clone();
    match admission {
        Some(Admission::Granted(index)) => Some(GrantedSlot {
            plane,
            index,
            keys: None,
        }),
        Some(Admission::Wait { ticket, slot }) => {
            client.reporter.emit(
                Severity::Log,
                if held {
                    "an online recovery is in its 2nd stage, a client has to wait"
                } else {
                    "all sessions are in use, a client has to wait"
                },
                &format!(
                    "{} client(s) wait for one of num_init_children = {} sessions",
                    waiting, settings.num_init_children
                ),
                "",
            );
            let mut slot = slot;
            let granted = tokio::select! {
                biased;
                slot = &mut slot => slot.ok(),
                () = leaves(client) => None,
            };
            plane.table().give_up(ticket);
            // The grant may have come between the client's end and our leaving the queue.
            slot.close();
            let raced = slot.try_recv().ok();
            let index = match (granted, raced) {
                (Some(index), _) => index,
                (None, Some(index)) => {
                    drop(GrantedSlot {
                        plane,
                        index,
                        keys: None,
                    });
                    return None;
                }
                (None, None) => return None,
            };
            Some(GrantedSlot {
                plane,
                index,
                keys: None,
            })
        }
        None => {
            client.reporter.emit(
                Severity::Error,
                "Sorry, too many clients already",
                &if waiting > 0 {
                    format!("{waiting} clients wait for a session already")
                } else {
                    format!(
                        "num_init_children = {} less reserved_connections = {} sessions are in use",
                        settings.num_init_children, settings.reserved_connections
                    )
                },
                "Raise num_init_children, or find out which clients keep their connections.",
            );
            refuse(
                client,
                &ErrorMessage::fatal("53300", "Sorry, too many clients already"),
            )
            .await;
            None
        }
    }
}

/// Resolves when a client that waits for its slot goes away: it closes, or says Terminate. What else it
/// sends ahead is kept for its session, as far as it is little.
async fn leaves(client: &mut Client) {
    let mut chunk = [0; 512];
    while client.input.len() < AHEAD {
        if client.input.first() == Some(&messages::TERMINATE[0]) {
            return;
        }
        match poll_fn(|cx| client.stream.poll_read(cx, &mut chunk)).await {
            Ok(n) if n > 0 => client.input.extend_from_slice(&chunk[..n]),
            _ => return,
        }
    }
    client.stream.closed().await;
}

/// What the end of a session needs to know of its beginning.
pub struct Ending {
    pub control: Rc<SessionControl>,
    pub reporter: Reporter,
    pub occupied: OccupiedSlot,
    _live: super::Live,
}

/// Gets the session its backend connections and logs in where that is still to do.
async fn begin(worker: Rc<Worker>, ready: ReadyClient) -> Option<Box<Session>> {
    let slot = ready.slot;
    let mut client = Client {
        stream: ready.stream.register().ok()?,
        peer: ready.peer,
        input: ready.input,
        reporter: ready.reporter.with_pid(super::slot_pid(slot.index)),
    };
    let control = Rc::new(SessionControl::new(
        slot.index,
        worker.now(),
        client.peer.clone(),
        client.stream.tls(),
    ));
    worker.with_slot(slot.index, |s| {
        s.session = Some(control.clone());
        s.served += 1;
    });
    let mut occupied = OccupiedSlot {
        worker: worker.clone(),
        slot: Some(slot),
        cancel_key: None,
    };
    if worker.is_stopping() {
        control.kill(Kill::Shutdown);
    }
    let started = tokio::select! {
        biased;
        reason = control.wait_killed() => {
            let error = finish::killed_message(reason);
            refuse(&mut client, &error).await;
            return None;
        }
        started = login::at_backends(&worker, &mut client, &ready.startup, ready.admitted, &control) => started,
    };
    let started = match started {
        Ok(started) => started,
        Err(refused) => {
            // A client that waits for its refusal holds no slot.
            drop(occupied);
            if let Some(refused) = refused {
                Box::pin(refused.tell(&worker, &mut client)).await;
            }
            return None;
        }
    };
    occupied.set_cancel_key(started.cancel_key);
    let balance_node = started.balancing.as_ref().map(|b| b.load_balance_node);
    control
        .load_balance_node
        .set(balance_node.or(Some(started.target)));
    *control.facts.borrow_mut() = Some(started.entry.facts.clone());
    let ending = Ending {
        control: control.clone(),
        reporter: client.reporter.clone(),
        occupied,
        _live: ready.live,
    };
    let relay = Relay::new(
        worker.clone(),
        control,
        Start {
            reporter: client.reporter,
            client: client.stream,
            entry: started.entry,
            target: started.target,
            balancing: started.balancing,
            greeting: started.greeting,
            early: client.input,
        },
    );
    Some(Box::new(Session {
        worker,
        relay,
        ending,
    }))
}

/// A slot with a session in it. However the session ends, by a panic too: its cancel key is
/// forgotten, what is cached in the slot is made known, and the next client may come.
pub struct OccupiedSlot {
    worker: Rc<Worker>,
    slot: Option<GrantedSlot>,
    cancel_key: Option<(u32, u32)>,
}

impl OccupiedSlot {
    fn set_cancel_key(&mut self, key: (u32, u32)) {
        if let Some(slot) = &self.slot {
            self.worker.plane.add_cancel_key(key.0, key.1, slot.index);
            self.cancel_key = Some(key);
        }
    }

    /// The session can be cancelled no more.
    pub fn forget_cancel_key(&mut self) {
        if let Some((pid, key)) = self.cancel_key.take() {
            self.worker.plane.remove_cancel_key(pid, key);
        }
    }
}

impl Drop for OccupiedSlot {
    fn drop(&mut self) {
        self.forget_cancel_key();
        if let Some(mut slot) = self.slot.take() {
            slot.keys = self.worker.with_slot(slot.index, |s| {
                s.is_free_since(self.worker.now());
                s.keys()
            });
        }
    }
}

/// A registered or bare stream, so that a client which stays on its worker is not registered twice.
impl Stream {
    fn deregister_if(self, elsewhere: bool) -> io::Result<BareStream> {
        if elsewhere {
            self.deregister()
        } else {
            Ok(BareStream::Registered(self))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,000 idle clients may cost 10 kB each, everything counted. Whoever has to raise this number
    /// raises that cost: can it be boxed, shared, or left in the beginning?
    #[test]
    fn what_an_idle_session_holds_does_not_grow_unnoticed() {
        fn begun<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
            size_of::<F>()
        }
        fn new<A, B, C, D, F: Future>(_: impl Fn(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        let session = size_of::<Session>();
        for future in [begun(serve_ready), new(serve)] {
            assert!(future <= session + 64, "the beginning stays: {future}");
        }
        assert!(session <= 800, "a session: {session}");
    }
}
