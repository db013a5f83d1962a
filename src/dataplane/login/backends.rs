//! New connections to all valid nodes, brought from the socket to ReadyForQuery side by side.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use tokio::task::JoinHandle;

use super::{Admitted, Attempt, Refusal, Refused, client_message, good, look_up};
use crate::{
    auth::{
        keys::SaltedPassword,
        passwd::Secret,
        session_auth::{Action, Remembered, SessionAuth},
    },
    cluster::{ClusterView, Node, NodeId},
    control::Report,
    dataplane::{
        blocking, connect,
        front::{self, Client},
        pool::{BackendConnection, PoolEntry, PoolFacts, keep_status},
        stream::Stream,
        worker::Worker,
    },
    observe::Severity,
    protocol::{ErrorFields, Header, StartupPacket, frame::HEADER_LEN, messages::ErrorMessage},
    sys::errors,
    tls::TlsError,
};

/// Largest message of a start-up; PostgreSQL's longest are error messages.
const MESSAGE_LIMIT: usize = 256 * 1024;
/// How long a node that is not worked on may keep the client waiting, when `connect_timeout` is off.
const STANDBY_LIMIT: Duration = Duration::from_secs(10);

/// The connections that are being made.
pub struct Backends<'a> {
    worker: &'a Rc<Worker>,
    startup: &'a StartupPacket,
    target: NodeId,
    nodes: Vec<NewNode>,
}

struct NewNode {
    id: NodeId,
    stream: Stream,
    input: Vec<u8>,
    authenticated: bool,
    ready: bool,
    /// ParameterStatus messages, as they came.
    parameters: Vec<u8>,
    pid: u32,
    key: u32,
}

enum Event {
    Message(NodeId, u8, Vec<u8>),
    Lost(NodeId, String),
    /// The client's answer is wanted.
    Client,
    ClientGone,
    Key(u32, Result<SaltedPassword, openssl::error::ErrorStack>),
    LookedUp(Option<Secret>),
    /// Nodes that are not worked on have had their time.
    Deadline,
}

type KeyTask = (
    u32,
    JoinHandle<Result<SaltedPassword, openssl::error::ErrorStack>>,
);

impl<'a> Backends<'a> {
    /// Nothing to connect: a cached set is used.
    pub fn cached(
        worker: &'a Rc<Worker>,
        startup: &'a StartupPacket,
        target: NodeId,
    ) -> Backends<'a> {
        Backends {
            worker,
            startup,
            target,
            nodes: Vec::new(),
        }
    }

    /// Opens the sockets and sends the start-up packets. `None`: the node to work on cannot be
    /// reached; the client has been told.
    pub async fn connect(
        worker: &'a Rc<Worker>,
        client: &mut Client,
        startup: &'a StartupPacket,
        view: &ClusterView,
        target: NodeId,
    ) -> Option<Backends<'a>> {
        let packet = startup.encode();
        let config = worker.shared.config.load_full();
        let nodes = view.nodes.iter().filter(|n| view.takes_part(n.id));
        let attempts = nodes.map(|node| {
            let limit = config
                .settings
                .backends
                .get(node.id)
                .and_then(|b| b.health_check.connect_timeout);
            let packet = &packet;
            let attempt: Pin<Box<dyn Future<Output = _>>> = Box::pin(async move {
                let opened = async {
                    let mut stream = connect::to_backend(&worker.shared, node, limit).await?;
                    stream.write_all(packet).await.map_err(TlsError::Io)?;
                    Ok::<_, TlsError>(stream)
                };
                (node, opened.await)
            });
            attempt
        });
        let mut backends = Backends::cached(worker, startup, target);
        for (node, outcome) in join_all(attempts.collect()).await {
            match outcome {
                Ok(stream) => backends.nodes.push(NewNode::new(node.id, stream)),
                Err(error) => backends.unreachable(client, node, &error).await?,
            }
        }
        Some(backends)
    }

    async fn unreachable(&self, client: &mut Client, node: &Node, error: &TlsError) -> Option<()> {
        let report = self
            .worker
            .shared
            .config
            .load()
            .settings
            .failover_on_backend_error;
        client.reporter.emit(
            Severity::Log,
            format_args!(
                "failed to connect to PostgreSQL server on \"{}:{}\": {error}",
                node.hostname, node.port,
            ),
            "",
            "",
        );
        let is_down = matches!(error, TlsError::Io(_));
        if is_down {
            self.worker.shared.report(Report::BackendError {
                node: node.id,
                reason: error.to_string(),
            });
        }
        if node.id != self.target {
            client.reporter.emit(
                Severity::Log,
                format_args!("failed to create a backend {} connection", node.id),
                "the session goes on without it: nothing is sent to this node",
                "",
            );
            return Some(());
        }
        let answer = if !is_down {
            ErrorMessage::fatal(
                "XX000",
                format!("failed to create a backend {} connection", node.id),
            )
            .detail("no SSL connection to the server as the configuration wants it")
            .hint("see pgpool log for details")
        } else if report {
            ErrorMessage::fatal("XX000", "failed to create a backend connection")
                .detail("executing failover on backend")
        } else {
            ErrorMessage::fatal(
                "XX000",
                format!("failed to create a backend {} connection", node.id),
            )
            .detail("not executing failover because failover_on_backend_error is off")
        };
        client
            .reporter
            .emit(Severity::Fatal, &answer.message, &answer.detail, "");
        front::refuse(client, &answer).await;
        None
    }

    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().map(|n| n.id)
    }

    /// Runs the authentication and waits for ReadyForQuery of all nodes.
    ///
    /// Gives what is left to be sent to the client and what to remember with the connections.
    ///
    /// # Errors
    ///
    /// What the client has to be told when its slot is free again; `None`: it has been told.
    pub async fn log_in(
        &mut self,
        client: &mut Client,
        admitted: Admitted,
        remembered: Option<&Remembered>,
    ) -> Result<(Vec<u8>, Remembered), Refusal> {
        let Admitted {
            mut auth,
            mut attempt,
        } = admitted;
        let mut looking_up: Option<JoinHandle<Option<Secret>>> = None;
        let ids: Vec<NodeId> = self.nodes().collect();
        let mut actions = VecDeque::from(auth.connect(&ids, remembered));
        for id in ids {
            let tls = self.node(id).and_then(|node| node.stream.tls());
            if let Some(end_point) = tls.and_then(|tls| tls.channel_binding()) {
                auth.backend_channel_binding(id, end_point);
            }
        }
        let mut to_client = Vec::new();
        let mut keys: Vec<KeyTask> = Vec::new();
        let mut done = None;
        let deadline = tokio::time::sleep(self.standby_limit());
        tokio::pin!(deadline);
        let mut in_time = true;
        loop {
            while let Some(action) = actions.pop_front() {
                match action {
                    Action::SendClient(bytes) => to_client.extend(bytes),
                    Action::SendBackend(node, bytes) => {
                        if let Some(n) = self.node(node)
                            && let Err(error) = n.stream.write_all(&bytes).await
                        {
                            actions.extend(
                                self.lost(client, &mut auth, node, &errors::message(&error))
                                    .await
                                    .ok_or(None)?,
                            );
                        }
                    }
                    Action::DeriveKey(id, request) => {
                        let worker = self.worker.clone();
                        let key =
                            async move { blocking::derived(&worker.plane.keys, request).await };
                        keys.push((id, tokio::task::spawn_local(key)));
                    }
                    Action::BackendReady(node) => {
                        if let Some(n) = self.node(node) {
                            n.authenticated = true;
                        }
                    }
                    Action::Log {
                        message,
                        detail,
                        hint,
                    } => client.reporter.emit(Severity::Log, &*message, detail, hint),
                    Action::LookUp => {
                        let (worker, user) = (self.worker.clone(), self.startup.user.clone());
                        looking_up = Some(tokio::task::spawn_local(async move {
                            look_up(&worker, &user).await
                        }));
                    }
                    // Only pool_hba.conf asks for this, and it has been heard.
                    Action::VerifyPassword(..) => {}
                    Action::Done(kept) => done = Some(kept),
                    Action::ForwardError(_, body) => {
                        return Err(Some(self.forwarded(client, attempt, to_client, &body)));
                    }
                    Action::Fail(error) => {
                        let refused = Refused::new(self.worker, client, &auth, attempt, &error);
                        return Err(Some(refused));
                    }
                    Action::Passed => {}
                }
            }
            if self.nodes.iter().all(|n| n.ready)
                && let Some(kept) = done.take()
            {
                good(self.worker, &self.startup.user, &auth, attempt);
                return Ok((to_client, kept));
            }
            if auth.wants_client() && !to_client.is_empty() {
                client
                    .stream
                    .write_all(&to_client)
                    .await
                    .map_err(|_| None)?;
                to_client.clear();
            }
            let wants_client = auth.wants_client();
            let event = poll_fn(|cx| {
                if let Some(event) = self.poll_nodes(cx) {
                    return Poll::Ready(event);
                }
                for at in 0..keys.len() {
                    if let Poll::Ready(key) = Pin::new(&mut keys[at].1).poll(cx) {
                        let (id, _) = keys.swap_remove(at);
                        let key = key.unwrap_or_else(|_| Err(openssl::error::ErrorStack::get()));
                        return Poll::Ready(Event::Key(id, key));
                    }
                }
                if let Some(task) = &mut looking_up
                    && let Poll::Ready(found) = Pin::new(task).poll(cx)
                {
                    return Poll::Ready(Event::LookedUp(found.ok().flatten()));
                }
                if wants_client {
                    return Poll::Ready(Event::Client);
                }
                if client.stream.poll_closed(cx).is_ready() {
                    return Poll::Ready(Event::ClientGone);
                }
                if in_time && deadline.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Deadline);
                }
                Poll::Pending
            })
            .await;
            match event {
                Event::Client => {
                    attempt.wait_for_turn().await;
                    let (kind, body) = match client_message(client, &auth).await {
                        Ok(message) => message,
                        Err(None) => return Err(None),
                        Err(Some(error)) => {
                            let refused = Refused::new(self.worker, client, &auth, attempt, &error);
                            return Err(Some(refused));
                        }
                    };
                    actions.extend(auth.on_client_message(kind, &body));
                    // The client's time is not the servers'.
                    let restart = tokio::time::Instant::now() + self.standby_limit();
                    deadline.as_mut().reset(restart);
                }
                Event::ClientGone => {
                    super::left(self.worker, client, &auth, attempt);
                    return Err(None);
                }
                Event::Key(id, key) => actions.extend(auth.on_key_derived(id, key)),
                Event::LookedUp(found) => {
                    looking_up = None;
                    actions.extend(auth.on_looked_up(found));
                }
                Event::Lost(node, reason) => {
                    let more = self.lost(client, &mut auth, node, &reason).await;
                    actions.extend(more.ok_or(None)?);
                }
                Event::Deadline => {
                    in_time = false;
                    for node in self.late_nodes() {
                        let reason = "no answer to the login within connect_timeout";
                        let more = self.lost(client, &mut auth, node, reason).await;
                        actions.extend(more.ok_or(None)?);
                    }
                }
                Event::Message(node, kind, body) => {
                    actions.extend(
                        self.message(client, &mut auth, &mut to_client, node, kind, &body)
                            .await
                            .ok_or(None)?,
                    );
                }
            }
        }
    }

    /// A backend has refused the start-up packet: no such database or role, or pg_hba.conf says no.
    fn forwarded(
        &self,
        client: &Client,
        attempt: Attempt,
        mut bytes: Vec<u8>,
        body: &[u8],
    ) -> Refused {
        log_refusal(client, body);
        crate::protocol::messages::frame(b'E', &mut bytes, |out| out.extend_from_slice(body));
        // Somebody may be looking for roles.
        let delay = if ErrorFields::parse(body).sqlstate.starts_with(b"28") {
            attempt.failed(self.worker, client)
        } else {
            Duration::ZERO
        };
        Refused { bytes, delay }
    }

    fn standby_limit(&self) -> Duration {
        let config = self.worker.shared.config.load();
        let limits = config.settings.backends.iter();
        limits
            .filter_map(|b| b.health_check.connect_timeout)
            .max()
            .unwrap_or(STANDBY_LIMIT)
    }

    fn late_nodes(&self) -> Vec<NodeId> {
        self.nodes
            .iter()
            .filter(|n| !n.ready && n.id != self.target)
            .map(|n| n.id)
            .collect()
    }

    fn node(&mut self, id: NodeId) -> Option<&mut NewNode> {
        self.nodes.iter_mut().find(|n| n.id == id)
    }

    fn poll_nodes(&mut self, cx: &mut std::task::Context<'_>) -> Option<Event> {
        for node in self.nodes.iter_mut().filter(|n| !n.ready) {
            loop {
                match node.take_message() {
                    Ok(Some((kind, body))) => return Some(Event::Message(node.id, kind, body)),
                    Ok(None) => {}
                    Err(reason) => return Some(Event::Lost(node.id, reason)),
                }
                let mut chunk = [0; 2048];
                match node.stream.poll_read(cx, &mut chunk) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(0)) => {
                        return Some(Event::Lost(
                            node.id,
                            "the server closed the connection".to_owned(),
                        ));
                    }
                    Poll::Ready(Ok(n)) => node.input.extend_from_slice(&chunk[..n]),
                    Poll::Ready(Err(e)) => return Some(Event::Lost(node.id, errors::message(&e))),
                }
            }
        }
        None
    }

    /// A node's connection has failed. `None`: it was the node to work on; the client has been told.
    async fn lost(
        &mut self,
        client: &mut Client,
        auth: &mut SessionAuth,
        node: NodeId,
        reason: &str,
    ) -> Option<Vec<Action>> {
        self.nodes.retain(|n| n.id != node);
        if node == self.target {
            let error =
                ErrorMessage::fatal("XX000", format!("unable to read data from DB node {node}"))
                    .detail(reason);
            client
                .reporter
                .emit(Severity::Fatal, &error.message, reason, "");
            front::refuse(client, &error).await;
            return None;
        }
        client.reporter.emit(
            Severity::Log,
            format_args!("failed to create a backend {node} connection"),
            &format!("{reason}; the session goes on without it"),
            "",
        );
        Some(auth.drop_node(node))
    }

    async fn message(
        &mut self,
        client: &mut Client,
        auth: &mut SessionAuth,
        to_client: &mut Vec<u8>,
        node: NodeId,
        kind: u8,
        body: &[u8],
    ) -> Option<Vec<Action>> {
        let target = self.target;
        let Some(n) = self.node(node) else {
            return Some(Vec::new());
        };
        match kind {
            b'N' => Some(Vec::new()),
            b'E' if node != target && is_passing(&ErrorFields::parse(body)) => {
                let reason = String::from_utf8_lossy(ErrorFields::parse(body).message).into_owned();
                self.lost(client, auth, node, &reason).await
            }
            _ if !n.authenticated => Some(auth.on_backend_message(node, kind, body)),
            b'S' => {
                crate::protocol::messages::frame(b'S', &mut n.parameters, |out| {
                    out.extend_from_slice(body);
                });
                Some(Vec::new())
            }
            b'K' => {
                if let Some(&[a, b, c, d, e, f, g, h]) = body.first_chunk::<8>() {
                    n.pid = u32::from_be_bytes([a, b, c, d]);
                    n.key = u32::from_be_bytes([e, f, g, h]);
                }
                Some(Vec::new())
            }
            b'Z' if n.input.is_empty() => {
                n.ready = true;
                Some(Vec::new())
            }
            // A server says nothing more until it is asked, unless it is about to end.
            b'Z' => {
                let reason = "the server sent more than the end of the login";
                self.lost(client, auth, node, reason).await
            }
            b'E' if node != target => {
                let reason = String::from_utf8_lossy(ErrorFields::parse(body).message).into_owned();
                self.lost(client, auth, node, &reason).await
            }
            b'E' => {
                forward_error(client, to_client, body).await;
                None
            }
            other => {
                let reason = format!("unexpected message '{}' at the start", other.escape_ascii());
                self.lost(client, auth, node, &reason).await
            }
        }
    }

    /// The connections as a set that can be used and cached.
    pub fn into_entry(self, slots: usize, remembered: Remembered) -> PoolEntry {
        let mut backends: Vec<Option<BackendConnection>> = Vec::with_capacity(slots);
        backends.resize_with(slots, || None);
        let mut parameter_status: Vec<u8> = Vec::new();
        for node in self.nodes {
            if node.id == self.target {
                parameter_status = node.parameters;
            }
            if let Some(slot) = backends.get_mut(node.id) {
                *slot = Some(BackendConnection {
                    node: node.id,
                    stream: node.stream,
                    pid: node.pid,
                    key: node.key,
                    dirty: false,
                    transaction: b'I',
                });
            }
        }
        let pids = backends.iter().map(|b| b.as_ref().map(|b| b.pid)).collect();
        PoolEntry {
            backends,
            facts: PoolFacts::new(self.startup.clone(), pids),
            parameter_status: keep_status(&parameter_status),
            remembered,
            idle_since: None,
        }
    }
}

impl NewNode {
    fn new(id: NodeId, stream: Stream) -> NewNode {
        NewNode {
            id,
            stream,
            input: Vec::new(),
            authenticated: false,
            ready: false,
            parameters: Vec::new(),
            pid: 0,
            key: 0,
        }
    }

    fn take_message(&mut self) -> Result<Option<(u8, Vec<u8>)>, String> {
        let Some(header) = Header::read(&self.input).map_err(|e| e.to_string())? else {
            return Ok(None);
        };
        if header.body_len > MESSAGE_LIMIT {
            return Err(format!(
                "a message of {} bytes at the start",
                header.body_len
            ));
        }
        let len = HEADER_LEN + header.body_len;
        if self.input.len() < len {
            return Ok(None);
        }
        let rest = self.input.split_off(len);
        let message = std::mem::replace(&mut self.input, rest);
        Ok(Some((header.kind, message[HEADER_LEN..].to_vec())))
    }
}

/// The server is there and will not serve this session now: starting up, shutting down, full.
fn is_passing(error: &ErrorFields<'_>) -> bool {
    error.sqlstate.starts_with(b"57P") || error.sqlstate.starts_with(b"53")
}

/// Passes a backend's error on as it came; PostgreSQL's own words are the best there are.
async fn forward_error(client: &mut Client, to_client: &mut Vec<u8>, body: &[u8]) {
    crate::protocol::messages::frame(b'E', to_client, |out| out.extend_from_slice(body));
    log_refusal(client, body);
    front::farewell(&mut client.stream, to_client).await;
}

fn log_refusal(client: &Client, body: &[u8]) {
    let fields = ErrorFields::parse(body);
    client.reporter.emit(
        Severity::Log,
        "the backend has refused the login",
        &String::from_utf8_lossy(fields.message),
        "",
    );
}

/// Runs all futures side by side and gives their results in their order.
async fn join_all<T>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Vec<T> {
    let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        let mut pending = false;
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(value) => *result = Some(value),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    results.into_iter().flatten().collect()
}
