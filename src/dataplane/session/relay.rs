//! The relay: one future per session that moves bytes between a client and its backends.
//!
//! One read, a walk over the message headers, one write: no channel, no lock, no allocation and
//! no timer on the path of a short query. The scratch buffer belongs to the worker thread and is
//! borrowed within one poll only, so an idle session holds no buffer.
//!
//! A session without load balancing works on one node, and here is all of it. One that balances has
//! a [`super::router::Router`] besides; `routed.rs` does what that decides.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll},
};

use super::{
    admin::{AdminAnswer, Turn},
    backend_side::BackendSide,
    client_side::{self, ClientSide, Stop},
    control::{CancelTarget, Kill, SessionControl},
    cover::{Cover, Uncovered},
    leftover::Leftover,
    links::{Link, backend, backend_pid},
    owed::Owed,
    passing::{NodeMessages, TargetMessages},
    routed::{Balancing, Routed},
    router::{Entry, Ledger},
    statements::StatementLog,
};
use crate::{
    admin,
    cluster::{Node, NodeId},
    control::Report,
    dataplane::{info::SlotStatus, pool::PoolEntry, stream::Stream, worker::Worker},
    observe::Reporter,
    protocol::{HeaderError, messages::ErrorMessage},
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

/// When bytes of the client that are held back have their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing is held, or more has to arrive.
    More,
    /// When the answers before them are given.
    Answers,
    /// When the router says so.
    Router,
}

/// A session in its relaying phase.
pub struct Relay {
    pub(super) worker: Rc<Worker>,
    pub(super) control: Rc<SessionControl>,
    pub(super) reporter: Reporter,
    pub(super) client: Stream,
    pub(super) client_side: ClientSide,
    /// Bytes of the client that have been read and not forwarded.
    pub(super) held: Vec<u8>,
    pub(super) held_until: Held,
    pub(super) admin: Option<AdminAnswer>,
    pub(super) settings: Option<Box<admin::SessionSettings>>,
    pub(super) to_client: Leftover,
    pub(super) entry: PoolEntry,
    /// The node to write to: the primary, or the main node.
    pub(super) target: NodeId,
    /// By node id.
    pub(super) links: Box<[Link]>,
    pub(super) ledgers: Box<[Ledger]>,
    /// Of a session that balances.
    pub(super) routed: Option<Box<Routed>>,
    pub(super) statements: StatementLog,
    /// Term of the write lease in which the cluster was looked at last.
    term: u64,
    /// Nothing else reaches the client before this does.
    uncovered: Option<Box<Uncovered>>,
    pub(super) cover: Cover,
}

/// What a session begins with.
pub struct Start {
    pub reporter: Reporter,
    pub client: Stream,
    pub entry: PoolEntry,
    /// The node to write to.
    pub target: NodeId,
    /// How to balance, if the session does.
    pub balancing: Option<Balancing>,
    /// What the client is sent first.
    pub greeting: Vec<u8>,
    /// What the client has sent ahead.
    pub early: Vec<u8>,
}

impl Relay {
    pub fn new(worker: Rc<Worker>, control: Rc<SessionControl>, start: Start) -> Relay {
        let mut to_client = Leftover::default();
        to_client.push(&start.greeting);
        let config = worker.shared.config.load();
        let statements = StatementLog::new(&config);
        control.idle_limit.set(config.settings.client_idle_limit);
        control
            .recovery_idle_limit
            .set(config.settings.client_idle_limit_in_recovery);
        control.status.set(SlotStatus::Idle);
        control.idle_since.set(worker.now());
        control.balances.set(start.balancing.is_some());
        let nodes = start.entry.backends.len();
        let routed = start
            .balancing
            .map(|balancing| Box::new(Routed::new(balancing, start.target, &start.entry)));
        let mut relay = Relay {
            control,
            reporter: start.reporter,
            client: start.client,
            client_side: ClientSide::default(),
            held_until: if start.early.is_empty() {
                Held::More
            } else {
                Held::Answers
            },
            held: start.early,
            admin: None,
            settings: Some(Box::default()),
            to_client,
            entry: start.entry,
            target: start.target,
            links: (0..nodes).map(|_| Link::default()).collect(),
            ledgers: (0..nodes).map(|_| Ledger::default()).collect(),
            routed,
            statements,
            term: worker.shared.write_lease.term(),
            uncovered: None,
            cover: Cover::new(worker.shared.write_lease.is_limited()),
            worker,
        };
        // The target was chosen before the term was looked at.
        relay.control.request_recheck();
        relay.tell_cancel_target();
        relay
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
            if self.control.take_keep_awake()
                && let Some(routed) = &mut self.routed
            {
                routed.router.keep_awake(&mut self.ledgers);
                self.carry_out_effects(cx);
            }
            let mut progress = self.flush(cx)?;
            progress |= self.poll_cover(cx)?;
            progress |= self.poll_admin(cx);
            if self.may_read_client() {
                progress |= self.read_client(cx, scratch)?;
            }
            if self.to_client.is_empty() && self.uncovered.is_none() {
                progress |= self.send_notices() || self.read_node(self.current(), cx, scratch)?;
            }
            if !progress && (self.uncovered.is_some() || !self.read_others(cx, scratch)?) {
                // What the router holds is carried out in its turn: a server alone would have read it before the end.
                let waits = self.held_until == Held::Answers
                    || self.uncovered.is_some()
                    || !self.may_pass(self.target);
                if waits && self.client.poll_closed(cx).is_ready() {
                    return Err(Exit::ClientGone);
                }
                self.control.sleeping(cx.waker());
                return Ok(());
            }
        }
    }

    /// The node whose answers are the client's.
    pub(super) fn current(&self) -> NodeId {
        self.routed
            .as_ref()
            .map_or(self.target, |routed| routed.router.current())
    }

    /// What that node owes.
    pub(super) fn owed(&self) -> Option<&Owed<Entry>> {
        self.ledgers.get(self.current()).map(|ledger| &ledger.owed)
    }

    /// Lines of its log that the client wants to read, and what nodes say of their own accord.
    /// Notices stand before the answer to their statement as long as no other answer is on its way.
    fn send_notices(&mut self) -> bool {
        let current = self.current();
        let at_boundary = self
            .links
            .get(current)
            .is_none_or(|link| link.side.client_at_boundary());
        if !at_boundary {
            return false;
        }
        let mut due = false;
        if self.statements.has_notices() {
            self.to_client.push(&self.statements.take_notices());
            due = true;
        }
        if let Some(routed) = &mut self.routed
            && !routed.aside.is_empty()
        {
            self.to_client.push(&std::mem::take(&mut routed.aside));
            due = true;
        }
        due
    }

    /// Whether the write lease lets bytes through to and from a node. What may not pass stays where it
    /// is: what the client has sent in the link's leftover, what the server has answered in its socket.
    /// So no client is told of a commit after the lease has ended: another node may be the primary then,
    /// which does not have it.
    fn may_pass(&self, node: NodeId) -> bool {
        node != self.target || self.worker.shared.write_lease.allows(self.term)
    }

    /// Is what goes to the primary now to be looked at for [`Cover`]?
    pub(super) fn covers(&mut self) -> bool {
        let covers = self.worker.shared.write_lease.is_limited();
        if !covers {
            self.cover.missed();
        }
        covers
    }

    /// Hands on the answer that waits for it, when it is covered.
    fn poll_cover(&mut self, cx: &mut Context<'_>) -> Result<bool, Exit> {
        let Some(uncovered) = &self.uncovered else {
            return Ok(false);
        };
        let lease = &self.worker.shared.write_lease;
        if !lease.covers(uncovered.read_at, self.term) {
            lease.wait_for_cover(cx.waker());
            // It may have come in between.
            if !lease.covers(uncovered.read_at, self.term) {
                return Ok(false);
            }
        }
        if let Some(uncovered) = self.uncovered.take() {
            self.to_client
                .write(cx, &mut self.client, &uncovered.bytes)
                .map_err(|_| Exit::ClientGone)?;
        }
        self.settle();
        Ok(true)
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
        for (node, link) in self.links.iter_mut().enumerate() {
            if !link.left.is_empty()
                && (node != self.target || self.worker.shared.write_lease.allows(self.term))
                && let Some(backend) = backend(&mut self.entry, node)
            {
                match link.left.flush(cx, &mut backend.stream) {
                    Ok(written) => progress |= written,
                    Err(_) => link.is_deaf(),
                }
            }
        }
        Ok(progress)
    }

    fn may_read_client(&self) -> bool {
        let turn = match self.held_until {
            Held::More => true,
            // Answers are to come that an admin command must not overtake. While the backend copies in
            // they never come: then the command is the backend's to refuse.
            Held::Answers => self
                .owed()
                .is_none_or(|owed| !owed.owes_ready() || owed.is_copying_in()),
            Held::Router => self
                .routed
                .as_ref()
                .is_none_or(|routed| routed.may_go_on(&self.ledgers)),
        };
        turn && self.admin.is_none()
            && self.uncovered.is_none()
            && self.to_client.is_empty()
            && self.links.iter().all(|link| link.left.is_empty())
    }

    fn read_client(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Result<bool, Exit> {
        if self.held_until != Held::More {
            self.held_until = Held::More;
            let held = std::mem::take(&mut self.held);
            return self.client_bytes(cx, &held).map(|()| true);
        }
        let n = match self.client.poll_read(cx, scratch) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(0) | Err(_)) => return Err(Exit::ClientGone),
            Poll::Ready(Ok(n)) => n,
        };
        self.control.idle_since.set(self.worker.now());
        self.control.worked.set(true);
        if self.held.is_empty() {
            return self.client_bytes(cx, &scratch[..n]).map(|()| true);
        }
        // The rest of a message that is wanted whole. It may come in any number of pieces.
        self.held.extend_from_slice(&scratch[..n]);
        if self.held.len() < client_side::wanted(&self.held) {
            return Ok(true);
        }
        let held = std::mem::take(&mut self.held);
        self.client_bytes(cx, &held).map(|()| true)
    }

    fn client_bytes(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Exit> {
        if self.routed.is_some() {
            self.routed_bytes(cx, bytes)
        } else {
            self.target_bytes(cx, bytes)
        }
    }

    /// Scans and forwards to the target; keeps what cannot be forwarded yet.
    fn target_bytes(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Exit> {
        let node = self.target;
        let mut rest = bytes;
        let mut refused = None;
        let covers = self.covers();
        loop {
            let Some(ledger) = self.ledgers.get_mut(node) else {
                return Err(Exit::Killed(Kill::NodeGone(node)));
            };
            let mut events = TargetMessages {
                observer: self.statements.observe(
                    self.worker.counters(node),
                    &self.reporter,
                    node,
                    backend_pid(&self.entry, node),
                ),
                owed: &mut ledger.owed,
                cover: covers.then_some(&mut self.cover),
            };
            // A Query that is no admin command after all.
            if let Some(len) = refused.take() {
                let (message, behind) = rest.split_at(len);
                ClientSide::forward_query(message, &mut events);
                self.forward(cx, node, message);
                rest = behind;
                continue;
            }
            let scan = self.client_side.scan(rest, &mut events);
            let (forward, tail) = rest.split_at(scan.forward);
            self.forward(cx, node, forward);
            rest = tail;
            let Stop::MaybeAdmin { len } = scan.stop else {
                return self.stopped(scan.stop, tail);
            };
            let (message, behind) = tail.split_at(len);
            match self.admin_turn(cx, message, behind) {
                Turn::NotOurs => refused = Some(len),
                Turn::Later | Turn::Begun => return Ok(()),
            }
        }
    }

    /// The scan of what the client sends has come to something that is not forwarded; `tail` begins
    /// with it.
    pub(super) fn stopped(&mut self, stop: Stop, tail: &[u8]) -> Result<(), Exit> {
        match stop {
            Stop::End | Stop::MaybeAdmin { .. } => Ok(()),
            Stop::Incomplete => {
                self.held = tail.to_vec();
                Ok(())
            }
            Stop::Terminate => {
                self.statements.terminate(&self.reporter);
                Err(Exit::Terminate)
            }
            Stop::Unknown(kind) => Err(Exit::Protocol(ErrorMessage::fatal(
                "08P01",
                format!("invalid frontend message type {kind}"),
            ))),
            Stop::Invalid(error) => Err(Exit::Protocol(bad_length(error))),
        }
    }

    pub(super) fn forward(&mut self, cx: &mut Context<'_>, node: NodeId, bytes: &[u8]) {
        let may_pass = self.may_pass(node);
        let Some(link) = self.links.get_mut(node).filter(|link| !link.deaf) else {
            return;
        };
        let Some(backend) = backend(&mut self.entry, node).filter(|_| !bytes.is_empty()) else {
            return;
        };
        backend.dirty = true;
        if !may_pass {
            link.left.push(bytes);
        } else if link.left.write(cx, &mut backend.stream, bytes).is_err() {
            link.is_deaf();
        }
        if self.owed().is_some_and(|owed| !owed.is_quiescent()) {
            self.control.status.set(SlotStatus::ExecuteCommand);
        }
    }

    /// Settings of the file as this session's `PGPOOL SET` leaves them.
    pub(super) fn configure(&mut self, settings: Box<admin::SessionSettings>) {
        let config = self.worker.shared.config.load_full();
        self.control
            .idle_limit
            .set(settings.client_idle_limit(&config));
        self.control
            .recovery_idle_limit
            .set(settings.client_idle_limit_in_recovery(&config));
        self.reporter.set_own_log(settings.own_log(&config));
        self.statements.configure(&settings, &config);
        if let Some(routed) = &mut self.routed {
            routed.configure(&settings, config);
        }
        self.settings = Some(settings);
    }

    /// One read from a node: scans it and hands on what is the client's.
    pub(super) fn read_node(
        &mut self,
        node: NodeId,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Result<bool, Exit> {
        let is_target = node == self.target;
        if !self.may_pass(node) {
            return Ok(false);
        }
        let (Some(backend), Some(link)) =
            (backend(&mut self.entry, node), self.links.get_mut(node))
        else {
            return Err(Exit::Killed(Kill::NodeGone(node)));
        };
        let n = match backend.stream.poll_read(cx, scratch) {
            Poll::Pending => return Ok(link.bulk.wait(cx, &backend.stream)),
            Poll::Ready(Ok(0)) => {
                if let Some(sqlstate) = link.shutdown_warned.take() {
                    self.worker.shared.report(Report::BackendShutdown {
                        node,
                        sqlstate: sqlstate.into(),
                        fatal: false,
                    });
                }
                return self.lost(node, None);
            }
            Poll::Ready(Err(error)) => return self.lost(node, Some(error)),
            Poll::Ready(Ok(n)) => n,
        };
        link.bulk.passed(n, &backend.stream);
        let bytes = &scratch[..n];
        let between_messages = link.side.client_at_boundary();
        let mut seen = NodeMessages {
            ledgers: &mut self.ledgers,
            routed: self.routed.as_deref_mut(),
            transaction: &mut backend.transaction,
            fatal: &mut link.fatal_seen,
            warned: &mut link.shutdown_warned,
            reporter: &mut self.reporter,
            worker: &self.worker,
            node,
            is_target,
            cover: (is_target && self.worker.shared.write_lease.is_limited())
                .then_some(&mut self.cover),
            acknowledges: false,
            ready: false,
        };
        let hidden = match link.side.scan(bytes, &mut seen) {
            Ok(hidden) => hidden,
            Err(error) => {
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
        };
        let (ready, acknowledges) = (seen.ready, seen.acknowledges);
        if ready {
            link.bulk.finished(&backend.stream);
        }
        if acknowledges && let Some(read_at) = self.worker.shared.write_lease.read_at() {
            self.uncovered = Some(Box::new(Uncovered {
                bytes: shown(bytes, &hidden),
                read_at,
                between_messages,
            }));
        } else {
            self.hand_on(cx, bytes, &hidden)?;
        }
        self.carry_out_effects(cx);
        if ready {
            self.settle();
        }
        Ok(true)
    }

    /// Writes to the client what is not hidden of a read.
    fn hand_on(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        hidden: &[std::ops::Range<usize>],
    ) -> Result<(), Exit> {
        let mut at = 0;
        let ends = hidden.iter().map(|range| (range.start, range.end));
        for (start, end) in ends.chain([(bytes.len(), bytes.len())]) {
            let shown = bytes.get(at..start).unwrap_or_default();
            if !shown.is_empty() {
                self.to_client
                    .write(cx, &mut self.client, shown)
                    .map_err(|_| Exit::ClientGone)?;
            }
            at = end;
        }
        Ok(())
    }

    /// Whether the session cannot go on without the node.
    fn needs(&self, node: NodeId) -> bool {
        match &self.routed {
            // The rest of a message would reach another node.
            Some(_) if node == self.current() && !self.client_side.at_boundary() => true,
            Some(routed) => routed.router.depends_on(node, &self.ledgers),
            None => node == self.target,
        }
    }

    /// The connection to a node has ended. The session goes on if it can do without.
    fn lost(&mut self, node: NodeId, error: Option<io::Error>) -> Result<bool, Exit> {
        if !self.needs(node) {
            self.drop_node(node);
            return Ok(true);
        }
        Err(Exit::BackendLost {
            node,
            announced: self.links.get(node).is_some_and(|link| link.fatal_seen),
            error,
        })
    }

    /// When all is answered and the client has all of it, the session is idle from now on.
    pub(super) fn settle(&mut self) {
        let waits = self.held_until != Held::More
            || self.uncovered.is_some()
            || self.owed().is_some_and(Owed::owes_ready);
        if self.to_client.is_empty() && self.admin.is_none() && !waits {
            self.control.idle_since.set(self.worker.now());
            self.control.status.set(if self.transaction() == b'I' {
                SlotStatus::Idle
            } else {
                SlotStatus::IdleInTransaction
            });
        }
    }

    /// Connections that answer nothing of the client's: swallows what they say, notices their end.
    fn read_others(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Result<bool, Exit> {
        let mut progress = false;
        for node in 0..self.entry.backends.len() {
            while node != self.current()
                && backend(&mut self.entry, node).is_some()
                && self.read_node(node, cx, scratch)?
            {
                progress = true;
            }
        }
        // What nobody waits for wakes nobody: without a router the turn is over.
        Ok(progress && self.routed.is_some())
    }

    /// The cluster has changed. Nodes that are gone are let go; the session ends only if it works on one of them.
    fn recheck(&mut self) -> Result<(), Exit> {
        // Before the view: what is published later belongs to the next term.
        self.term = self.worker.shared.write_lease.term();
        let view = self.worker.shared.view.load_full();
        for node in 0..self.entry.backends.len() {
            if backend(&mut self.entry, node).is_none()
                || view.nodes.get(node).is_some_and(Node::is_valid)
            {
                continue;
            }
            if self.needs(node) {
                return Err(Exit::Killed(Kill::NodeGone(node)));
            }
            self.drop_node(node);
        }
        let moved = view.write_node().is_some_and(|node| node != self.target);
        if moved || backend(&mut self.entry, self.target).is_none() {
            return Err(Exit::Killed(Kill::NodeGone(self.target)));
        }
        if let Some(routed) = &mut self.routed {
            routed.view_changed(&view, &self.entry);
        }
        Ok(())
    }

    /// Lets go of the connection to a node.
    pub(super) fn drop_node(&mut self, node: NodeId) {
        if let Some(slot) = self.entry.backends.get_mut(node) {
            *slot = None;
        }
        if let Some(link) = self.links.get_mut(node) {
            *link = Link::default();
        }
        if let Some(routed) = &mut self.routed {
            routed.node_lost(node, &mut self.ledgers, &self.entry);
            self.control
                .load_balance_node
                .set(routed.router.load_balance_node());
        }
        self.tell_cancel_target();
    }

    /// A cancel request has to go to the node that answers the client.
    pub(super) fn tell_cancel_target(&mut self) {
        let node = self.current();
        let target = backend(&mut self.entry, node).map(|backend| CancelTarget {
            node,
            pid: backend.pid,
            key: backend.key,
        });
        self.control.cancel_target.set(target);
    }

    /// As the client has been told last.
    pub(super) fn transaction(&self) -> u8 {
        self.entry
            .backends
            .get(self.current())
            .and_then(Option::as_ref)
            .map_or(b'I', |b| b.transaction)
    }

    /// Takes the session apart for its end.
    pub fn into_parts(mut self) -> Parts {
        let client_at_boundary = self.client_side.at_boundary();
        let shown = self.current();
        let between_messages = match &self.uncovered {
            // It is never told: see the module.
            Some(uncovered) => uncovered.between_messages,
            None => self
                .links
                .get(shown)
                .is_none_or(|link| link.side.client_at_boundary()),
        };
        let ends = self
            .links
            .into_iter()
            .zip(self.ledgers)
            .enumerate()
            .map(|(node, (mut link, ledger))| {
                if let Some(backend) = backend(&mut self.entry, node) {
                    // A mark that is left on the socket would hide the answers to the reset.
                    link.bulk.finished(&backend.stream);
                }
                LinkEnd {
                    clean: !link.deaf && !link.fatal_seen && (client_at_boundary || node != shown),
                    side: link.side,
                    left: link.left,
                    owed: ledger.owed,
                }
            })
            .collect();
        Parts {
            client: self.client,
            entry: self.entry,
            to_client: self.to_client,
            between_messages,
            ends,
            reporter: self.reporter,
            term: self.term,
        }
    }
}

/// What is left of a session when the relay has ended.
pub struct Parts {
    pub client: Stream,
    pub entry: PoolEntry,
    pub to_client: Leftover,
    /// The client has the last message whole.
    pub between_messages: bool,
    /// By node id.
    pub ends: Vec<LinkEnd>,
    pub reporter: Reporter,
    /// Of the write lease.
    pub term: u64,
}

/// What is left of the stream to one node.
#[derive(Default)]
pub struct LinkEnd {
    pub side: BackendSide,
    pub left: Leftover,
    pub owed: Owed<Entry>,
    /// The stream to the backend stands between two messages and the backend is well.
    pub clean: bool,
}

/// What is not hidden.
fn shown(bytes: &[u8], hidden: &[std::ops::Range<usize>]) -> Vec<u8> {
    let (mut at, mut shown) = (0, Vec::with_capacity(bytes.len()));
    for range in hidden {
        shown.extend_from_slice(bytes.get(at..range.start).unwrap_or_default());
        at = range.end;
    }
    shown.extend_from_slice(bytes.get(at..).unwrap_or_default());
    shown
}

fn bad_length(error: HeaderError) -> ErrorMessage {
    ErrorMessage::fatal("08P01", "invalid message length").detail(error.to_string())
}
