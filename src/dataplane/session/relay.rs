//! The relay: one future per session that moves bytes between a client and its backends.
//!
//! One read, a walk over the message headers, one write: no channel, no lock, no allocation and
//! no timer on the path of a short query. The scratch buffer belongs to the worker thread and is
//! borrowed within one poll only, so an idle session holds no buffer.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::task::JoinHandle;

use super::{
    backend_side::{BackendEvents, BackendSide},
    bulk::Bulk,
    client_side::{ClientSide, Stop},
    control::{Kill, SessionControl},
    leftover::Leftover,
    owed::Owed,
    statements::StatementLog,
};
use crate::{
    admin,
    cluster::{Node, NodeId},
    control::{Report, Shared},
    dataplane::{
        info::SlotStatus,
        pool::{BackendConnection, PoolEntry},
        stream::Stream,
        worker::Worker,
    },
    observe::{Reporter, counters::bump},
    protocol::{ErrorFields, HeaderError, messages, messages::ErrorMessage},
};

const SCRATCH_LEN: usize = 64 * 1024;

thread_local! {
    /// 64 KiB: with 4 KiB a big result costs three times the CPU.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_LEN].into_boxed_slice());
}

/// How a session ended.
#[derive(Debug)]
pub enum Exit {
    /// The client said Terminate.
    Terminate,
    /// The client closed its socket or does not read any more.
    ClientGone,
    /// The backend closed the connection. `announced`: its FATAL error has been forwarded.
    BackendLost {
        node: NodeId,
        announced: bool,
        error: Option<io::Error>,
    },
    /// The client broke the protocol.
    Protocol(ErrorMessage),
    Killed(Kill),
}

/// A session in its relaying phase.
pub struct Relay {
    worker: Rc<Worker>,
    control: Rc<SessionControl>,
    reporter: Reporter,
    client: Stream,
    client_side: ClientSide,
    /// Bytes of the client that have been read and not forwarded.
    held: Vec<u8>,
    /// The held bytes have their turn, without a read, when the answers before them are given.
    held_turn: bool,
    admin: Option<AdminAnswer>,
    settings: Option<Box<admin::SessionSettings>>,
    to_client: Leftover,
    entry: PoolEntry,
    /// The node that all statements go to.
    target: NodeId,
    target_side: BackendSide,
    to_backend: Leftover,
    owed: Owed,
    bulk: Bulk,
    statements: StatementLog,
    /// The backend has sent a FATAL error: its end is announced.
    fatal_seen: bool,
    /// It has announced an immediate shutdown by a warning; counts when it closes.
    shutdown_warned: Option<Box<str>>,
    /// Nothing can be written to the backend any more; what it still sends is forwarded.
    backend_deaf: bool,
}

/// What a session begins with.
pub struct Start {
    pub reporter: Reporter,
    pub client: Stream,
    pub entry: PoolEntry,
    /// The node that all statements go to.
    pub target: NodeId,
    /// What the client is sent first.
    pub greeting: Vec<u8>,
    /// What the client has sent ahead.
    pub early: Vec<u8>,
}

type AdminAnswer = JoinHandle<AdminDone>;

struct AdminDone {
    settings: Box<admin::SessionSettings>,
    /// With ReadyForQuery.
    answer: Vec<u8>,
    /// For the log; the answer says it to the client.
    refused: Option<ErrorMessage>,
}

impl Relay {
    pub fn new(worker: Rc<Worker>, control: Rc<SessionControl>, start: Start) -> Relay {
        let mut to_client = Leftover::default();
        to_client.push(&start.greeting);
        let config = worker.shared.config.load();
        let statements = StatementLog::new(&config);
        control.idle_limit.set(config.settings.client_idle_limit);
        control.status.set(SlotStatus::Idle);
        control.idle_since.set(worker.now());
        Relay {
            worker,
            control,
            reporter: start.reporter,
            client: start.client,
            client_side: ClientSide::default(),
            held_turn: !start.early.is_empty(),
            held: start.early,
            admin: None,
            settings: Some(Box::default()),
            to_client,
            entry: start.entry,
            target: start.target,
            target_side: BackendSide::default(),
            to_backend: Leftover::default(),
            owed: Owed::default(),
            bulk: Bulk::default(),
            statements,
            fatal_seen: false,
            shutdown_warned: None,
            backend_deaf: false,
        }
    }

    /// Runs until the session ends.
    pub async fn run(&mut self) -> Exit {
        poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| match self.turn(cx, scratch) {
                Ok(()) => Poll::Pending,
                Err(exit) => Poll::Ready(exit),
            })
        })
        .await
    }

    /// Works until nothing moves any more. `Err` is the end of the session.
    fn turn(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Result<(), Exit> {
        loop {
            if let Some(reason) = self.control.killed() {
                return Err(Exit::Killed(reason));
            }
            if self.control.take_recheck() {
                self.recheck()?;
            }
            if self.control.take_reconfigure()
                && let Some(settings) = self.settings.take()
            {
                self.configure(settings);
            }
            let mut progress = self.flush(cx)?;
            progress |= self.poll_admin(cx);
            if self.may_read_client() {
                progress |= self.read_client(cx, scratch)?;
            }
            if self.to_client.is_empty() {
                progress |= self.send_notices() || self.read_target(cx, scratch)?;
            }
            if !progress {
                self.watch_idle_backends(cx, scratch);
                if self.held_turn && self.client.poll_closed(cx).is_ready() {
                    return Err(Exit::ClientGone);
                }
                self.control.sleeping(cx.waker());
                return Ok(());
            }
        }
    }

    /// Lines of its log that the client wants to read. They stand before the answer to their statement
    /// as long as no other answer is on its way.
    fn send_notices(&mut self) -> bool {
        let due = self.statements.has_notices() && self.target_side.at_boundary();
        if due {
            self.to_client.push(&self.statements.take_notices());
        }
        due
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Result<bool, Exit> {
        let mut progress = false;
        if !self.to_client.is_empty() {
            progress |= self
                .to_client
                .flush(cx, &mut self.client)
                .map_err(|_| Exit::ClientGone)?;
            self.settle();
        }
        if !self.to_backend.is_empty()
            && let Some(backend) = backend(&mut self.entry, self.target)
        {
            match self.to_backend.flush(cx, &mut backend.stream) {
                Ok(written) => progress |= written,
                Err(_) => self.backend_is_deaf(),
            }
        }
        Ok(progress)
    }

    /// A write failed. The reason, a FATAL error, may wait to be read: the read decides.
    fn backend_is_deaf(&mut self) {
        self.backend_deaf = true;
        self.to_backend.clear();
    }

    fn may_read_client(&self) -> bool {
        self.admin.is_none()
            && self.to_backend.is_empty()
            && self.to_client.is_empty()
            && !(self.held_turn && self.waits_for_answers())
    }

    /// Answers are to come that an admin command must not overtake. While the backend copies in
    /// they never come: then the command is the backend's to refuse.
    fn waits_for_answers(&self) -> bool {
        self.owed.owes_ready() && !self.owed.is_copying_in()
    }

    fn read_client(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Result<bool, Exit> {
        if std::mem::take(&mut self.held_turn) {
            let held = std::mem::take(&mut self.held);
            return self.client_bytes(cx, &held).map(|()| true);
        }
        let start = self.held.len();
        let Some(room) = scratch.get_mut(start..).filter(|r| !r.is_empty()) else {
            // Held bytes are messages of at most ADMIN_LIMIT or LOG_LIMIT bytes.
            return Err(Exit::ClientGone);
        };
        let n = match self.client.poll_read(cx, room) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(0) | Err(_)) => return Err(Exit::ClientGone),
            Poll::Ready(Ok(n)) => n,
        };
        self.control.idle_since.set(self.worker.now());
        if start > 0 {
            scratch[..start].copy_from_slice(&self.held);
            self.held = Vec::new();
        }
        self.client_bytes(cx, &scratch[..start + n]).map(|()| true)
    }

    /// Scans and forwards; keeps what cannot be forwarded yet.
    fn client_bytes(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Exit> {
        let mut rest = bytes;
        loop {
            let scan = {
                let mut events = self.statements.observe(
                    &mut self.owed,
                    self.worker.counters(self.target),
                    &self.reporter,
                    self.target,
                    backend_pid(&self.entry, self.target),
                );
                self.client_side.scan(rest, &mut events)
            };
            let (forward, tail) = rest.split_at(scan.forward);
            self.forward(cx, forward);
            match scan.stop {
                Stop::End => return Ok(()),
                Stop::Incomplete => {
                    self.held = tail.to_vec();
                    return Ok(());
                }
                Stop::Terminate => {
                    self.statements.terminate(&self.reporter);
                    return Err(Exit::Terminate);
                }
                Stop::Unknown(kind) => {
                    return Err(Exit::Protocol(ErrorMessage::fatal(
                        "08P01",
                        format!("invalid frontend message type {kind}"),
                    )));
                }
                Stop::Invalid(error) => return Err(Exit::Protocol(bad_length(error))),
                Stop::MaybeAdmin { len } => {
                    let (message, behind) = tail.split_at(len);
                    let dialect = self.worker.shared.config.load().dialect;
                    let ours = !self.owed.is_in_sequence();
                    let Some(command) = admin::parse(query_text(message), dialect).filter(|_| ours)
                    else {
                        let mut events = self.statements.observe(
                            &mut self.owed,
                            self.worker.counters(self.target),
                            &self.reporter,
                            self.target,
                            backend_pid(&self.entry, self.target),
                        );
                        ClientSide::forward_query(message, &mut events);
                        self.forward(cx, message);
                        rest = behind;
                        continue;
                    };
                    if self.owed.owes_ready() {
                        self.held = tail.to_vec();
                        self.held_turn = true;
                        return Ok(());
                    }
                    // What stands behind it has its turn when the answer is written.
                    self.held = behind.to_vec();
                    self.held_turn = !behind.is_empty();
                    let text = query_text(message);
                    self.statements
                        .admin(&self.reporter, &String::from_utf8_lossy(text));
                    self.start_admin(command, text.to_vec());
                    return Ok(());
                }
            }
        }
    }

    fn forward(&mut self, cx: &mut Context<'_>, bytes: &[u8]) {
        if bytes.is_empty() || self.backend_deaf {
            return;
        }
        let Some(backend) = backend(&mut self.entry, self.target) else {
            return;
        };
        backend.dirty = true;
        if self
            .to_backend
            .write(cx, &mut backend.stream, bytes)
            .is_err()
        {
            self.backend_is_deaf();
        }
        if !self.owed.is_quiescent() {
            self.control.status.set(SlotStatus::ExecuteCommand);
        }
    }

    fn start_admin(&mut self, command: admin::AdminCommand, text: Vec<u8>) {
        self.control.status.set(SlotStatus::ExecuteCommand);
        let shared: Arc<Shared> = self.worker.shared.clone();
        let mut settings = self.settings.take().unwrap_or_default();
        let state = self.transaction();
        let facts = admin::SessionFacts {
            load_balance_node: Some(self.target),
        };
        // The state is true at the end, too: nothing of this session goes on meanwhile.
        self.admin = Some(self.worker.plane.admin.spawn(async move {
            let mut answer = Vec::new();
            let mut refused = None;
            if state == b'E' {
                admin::aborted_transaction(&text).encode(&mut answer);
            } else {
                match admin::execute(&command, &shared, &mut settings, &facts).await {
                    Ok(whole) => answer = whole,
                    Err(error) => {
                        error.encode(&mut answer);
                        refused = Some(error);
                    }
                }
            }
            messages::ready_for_query(state, &mut answer);
            AdminDone {
                settings,
                answer,
                refused,
            }
        }));
    }

    fn poll_admin(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(future) = &mut self.admin else {
            return false;
        };
        let Poll::Ready(done) = Pin::new(future).poll(cx) else {
            return false;
        };
        let done = done.unwrap_or_else(|_| {
            let mut answer = Vec::new();
            ErrorMessage::error("XX000", "the command failed inside pgpool")
                .hint("The log has more. Report it, please.")
                .encode(&mut answer);
            messages::ready_for_query(self.transaction(), &mut answer);
            AdminDone {
                settings: Box::default(),
                answer,
                refused: None,
            }
        });
        self.admin = None;
        if let Some(error) = done.refused {
            StatementLog::refused(&self.reporter, &error);
        }
        self.to_client.push(&done.answer);
        self.configure(done.settings);
        self.settle();
        true
    }

    /// Settings of the file as this session's `PGPOOL SET` leaves them.
    fn configure(&mut self, settings: Box<admin::SessionSettings>) {
        let config = self.worker.shared.config.load();
        self.control
            .idle_limit
            .set(settings.client_idle_limit(&config));
        self.reporter.set_own_log(settings.own_log(&config));
        self.statements.configure(&settings, &config);
        self.settings = Some(settings);
    }

    fn read_target(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Result<bool, Exit> {
        let node = self.target;
        let Some(backend) = backend(&mut self.entry, node) else {
            return Err(Exit::BackendLost {
                node,
                announced: self.fatal_seen,
                error: None,
            });
        };
        let n = match backend.stream.poll_read(cx, scratch) {
            Poll::Pending => return Ok(self.bulk.wait(cx, &backend.stream)),
            Poll::Ready(Ok(0)) => {
                if let Some(sqlstate) = self.shutdown_warned.take() {
                    self.worker.shared.report(Report::BackendShutdown {
                        node,
                        sqlstate: sqlstate.into(),
                        fatal: false,
                    });
                }
                return Err(Exit::BackendLost {
                    node,
                    announced: self.fatal_seen,
                    error: None,
                });
            }
            Poll::Ready(Err(error)) => {
                return Err(Exit::BackendLost {
                    node,
                    announced: self.fatal_seen,
                    error: Some(error),
                });
            }
            Poll::Ready(Ok(n)) => n,
        };
        self.bulk.passed(n, &backend.stream);
        let bytes = &scratch[..n];
        let mut seen = TargetEvents {
            owed: &mut self.owed,
            transaction: &mut backend.transaction,
            fatal: &mut self.fatal_seen,
            warned: &mut self.shutdown_warned,
            reporter: &mut self.reporter,
            worker: &self.worker,
            node,
            ready: false,
        };
        if let Err(error) = self.target_side.scan(bytes, &mut seen) {
            self.reporter.emit(
                crate::observe::Severity::Error,
                format_args!("DB node {node} sent something that is not PostgreSQL's protocol"),
                &error.to_string(),
                "Look at what listens on the backend's port. The session is closed.",
            );
            return Err(Exit::BackendLost {
                node,
                announced: false,
                error: None,
            });
        }
        let ready = seen.ready;
        if ready {
            self.bulk.finished(&backend.stream);
        }
        self.to_client
            .write(cx, &mut self.client, bytes)
            .map_err(|_| Exit::ClientGone)?;
        if ready {
            self.settle();
        }
        Ok(true)
    }

    /// When all is answered and the client has all of it, the session is idle from now on.
    fn settle(&mut self) {
        if self.to_client.is_empty() && self.admin.is_none() && !self.owed.owes_ready() {
            self.control.idle_since.set(self.worker.now());
            self.control.status.set(if self.transaction() == b'I' {
                SlotStatus::Idle
            } else {
                SlotStatus::IdleInTransaction
            });
        }
    }

    /// Connections that this session does not use: their end is nobody's business but the node's.
    fn watch_idle_backends(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) {
        for slot in &mut self.entry.backends {
            while let Some(backend) = slot.as_mut().filter(|b| b.node != self.target) {
                let node = backend.node;
                match backend.stream.poll_read(cx, scratch) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(n)) if n > 0 => {
                        let mut events = IdleEvents {
                            worker: &self.worker,
                            node,
                        };
                        // What an idle backend says (a notice, a changed parameter) comes in one piece.
                        let scan = BackendSide::default().scan(&scratch[..n], &mut events);
                        if scan.is_err() {
                            *slot = None;
                        }
                    }
                    Poll::Ready(_) => *slot = None,
                }
            }
        }
    }

    /// The cluster has changed. Nodes that are gone are let go; the session ends only if it works on one of them.
    fn recheck(&mut self) -> Result<(), Exit> {
        let view = self.worker.shared.view.load();
        for slot in &mut self.entry.backends {
            if let Some(node) = slot.as_ref().map(|b| b.node)
                && !view.nodes.get(node).is_some_and(Node::is_valid)
            {
                *slot = None;
            }
        }
        let moved = view.write_node().is_some_and(|node| node != self.target);
        let lost = backend(&mut self.entry, self.target).is_none();
        if lost || moved {
            return Err(Exit::Killed(Kill::NodeGone(self.target)));
        }
        Ok(())
    }

    fn transaction(&self) -> u8 {
        self.entry
            .backends
            .get(self.target)
            .and_then(Option::as_ref)
            .map_or(b'I', |b| b.transaction)
    }

    /// Takes the session apart for its end.
    pub fn into_parts(mut self) -> Parts {
        if let Some(backend) = backend(&mut self.entry, self.target) {
            // A mark that is left on the socket would hide the answers to the reset.
            self.bulk.finished(&backend.stream);
        }
        Parts {
            client: self.client,
            clean: self.client_side.at_boundary() && !self.backend_deaf && !self.fatal_seen,
            entry: self.entry,
            target: self.target,
            to_client: self.to_client,
            to_backend: self.to_backend,
            owed: self.owed,
            target_side: self.target_side,
            reporter: self.reporter,
        }
    }
}

/// What is left of a session when the relay has ended.
pub struct Parts {
    pub client: Stream,
    pub entry: PoolEntry,
    pub target: NodeId,
    pub to_client: Leftover,
    pub to_backend: Leftover,
    pub owed: Owed,
    pub target_side: BackendSide,
    pub reporter: Reporter,
    /// The stream to the backend stands between two messages and the backend is well.
    pub clean: bool,
}

struct TargetEvents<'a> {
    owed: &'a mut Owed,
    transaction: &'a mut u8,
    fatal: &'a mut bool,
    warned: &'a mut Option<Box<str>>,
    reporter: &'a mut Reporter,
    worker: &'a Worker,
    node: NodeId,
    ready: bool,
}

impl BackendEvents for TargetEvents<'_> {
    fn message(&mut self, kind: u8, body: &[u8]) {
        match kind {
            b'Z' => {
                self.owed.received(kind);
                *self.transaction = body.first().copied().unwrap_or(b'I');
                self.ready = true;
            }
            b'1' | b'2' | b'3' | b'n' | b'T' | b'C' | b'I' | b's' | b'G' => {
                self.owed.received(kind);
            }
            b'E' => {
                self.owed.received(kind);
                let fields = ErrorFields::parse(body);
                if let Some(counters) = self.worker.counters(self.node) {
                    match fields.severity {
                        b"FATAL" => bump(&counters.fatal),
                        b"PANIC" => bump(&counters.panic),
                        _ => bump(&counters.error),
                    }
                }
                if fields.is_fatal() {
                    *self.fatal = true;
                    report_shutdown(self.worker, self.node, &fields);
                }
            }
            // The log calls the session by the name that it has taken last.
            b'S' => {
                if let Some(name) = body.strip_prefix(b"application_name\0") {
                    let name = name.strip_suffix(b"\0").unwrap_or(name);
                    self.reporter
                        .set_application(&String::from_utf8_lossy(name));
                }
            }
            // PostgreSQL 14 and later announce an immediate shutdown by a WARNING. Anybody can
            // raise one like it, so it counts only when the connection ends.
            b'N' => {
                let fields = ErrorFields::parse(body);
                if fields.is_shutdown() {
                    *self.warned = Some(String::from_utf8_lossy(fields.sqlstate).into());
                }
            }
            _ => {}
        }
    }
}

/// Of what an idle backend says, only its server's shutdown matters.
struct IdleEvents<'a> {
    worker: &'a Worker,
    node: NodeId,
}

impl BackendEvents for IdleEvents<'_> {
    fn message(&mut self, kind: u8, body: &[u8]) {
        if kind == b'E' {
            report_shutdown(self.worker, self.node, &ErrorFields::parse(body));
        }
    }
}

fn report_shutdown(worker: &Worker, node: NodeId, fields: &ErrorFields<'_>) {
    if fields.is_shutdown() {
        worker.shared.report(Report::BackendShutdown {
            node,
            sqlstate: String::from_utf8_lossy(fields.sqlstate).into_owned(),
            fatal: true,
        });
    }
}

fn backend(entry: &mut PoolEntry, node: NodeId) -> Option<&mut BackendConnection> {
    entry.backends.get_mut(node).and_then(Option::as_mut)
}

fn backend_pid(entry: &PoolEntry, node: NodeId) -> u32 {
    entry
        .backends
        .get(node)
        .and_then(Option::as_ref)
        .map_or(0, |b| b.pid)
}

/// The text of a whole Query message.
fn query_text(message: &[u8]) -> &[u8] {
    let body = message
        .get(crate::protocol::frame::HEADER_LEN..)
        .unwrap_or_default();
    body.strip_suffix(b"\0").unwrap_or(body)
}

fn bad_length(error: HeaderError) -> ErrorMessage {
    ErrorMessage::fatal("08P01", "invalid message length").detail(error.to_string())
}
