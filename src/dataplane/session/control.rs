//! What a worker knows of each of its sessions, and how it reaches into them.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    cluster::NodeId,
    dataplane::{front::Peer, info::SlotStatus, pool::PoolFacts, table::SlotIndex},
    tls::TlsInfo,
};

/// Why a session is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// The node that the session works on has been detached, or is no longer the primary.
    NodeGone(NodeId),
    /// `client_idle_limit`, seconds.
    IdleLimit(u64),
    /// `client_idle_limit_in_recovery`, seconds; `None`: at once.
    RecoveryIdleLimit(Option<u64>),
    /// Fast or immediate stop.
    Shutdown,
}

/// The server process that answers the client, and its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CancelTarget {
    pub node: NodeId,
    pub pid: u32,
    pub key: u32,
}

/// Shared between a session and its worker; both are on one thread.
#[derive(Debug)]
pub struct SessionControl {
    pub slot: SlotIndex,
    pub started: SystemTime,
    pub peer: Arc<Peer>,
    pub client_tls: Option<Box<TlsInfo>>,
    pub status: Cell<SlotStatus>,
    /// The worker's clock at the client's last message, or when it had all answers.
    pub idle_since: Cell<Instant>,
    /// `client_idle_limit` in force for this session.
    pub idle_limit: Cell<Option<Duration>>,
    /// `client_idle_limit_in_recovery`, likewise: seconds, 0 never, below that at once.
    pub recovery_idle_limit: Cell<i64>,
    /// Where a cancel request has to go.
    pub cancel_target: Cell<Option<CancelTarget>>,
    /// The node to work on of a session that does not run yet.
    pub logs_in_at: Cell<Option<NodeId>>,
    pub load_balance_node: Cell<Option<NodeId>>,
    /// Its reads may go to another node than its writes.
    pub balances: Cell<bool>,
    /// The client has sent something since this was looked at.
    pub worked: Cell<bool>,
    /// Set once the session has its backend connections.
    pub facts: RefCell<Option<Rc<PoolFacts>>>,
    /// The cluster has changed: look which connections are still good.
    recheck: Cell<bool>,
    /// The configuration has changed: take what a running session can take.
    reconfigure: Cell<bool>,
    /// Nodes that the client does not work on must not take it for idle.
    keep_awake: Cell<bool>,
    kill: Cell<Option<Kill>>,
    waker: RefCell<Option<Waker>>,
}

impl SessionControl {
    pub fn new(
        slot: SlotIndex,
        now: Instant,
        peer: Arc<Peer>,
        client_tls: Option<TlsInfo>,
    ) -> Self {
        SessionControl {
            slot,
            started: SystemTime::now(),
            peer,
            client_tls: client_tls.map(Box::new),
            status: Cell::new(SlotStatus::Connecting),
            idle_since: Cell::new(now),
            idle_limit: Cell::new(None),
            recovery_idle_limit: Cell::new(0),
            cancel_target: Cell::new(None),
            logs_in_at: Cell::new(None),
            load_balance_node: Cell::new(None),
            balances: Cell::new(false),
            worked: Cell::new(false),
            facts: RefCell::new(None),
            recheck: Cell::new(false),
            reconfigure: Cell::new(false),
            keep_awake: Cell::new(false),
            kill: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// Ends the session at its next turn, which is at once. The first reason counts.
    pub fn kill(&self, reason: Kill) {
        if self.kill.get().is_none() {
            self.kill.set(Some(reason));
            self.wake();
        }
    }

    pub fn killed(&self) -> Option<Kill> {
        self.kill.get()
    }

    /// Makes the session look at the cluster view.
    pub fn request_recheck(&self) {
        self.recheck.set(true);
        self.wake();
    }

    /// Makes the session take the new configuration.
    pub fn request_reconfigure(&self) {
        self.reconfigure.set(true);
        self.wake();
    }

    /// Makes the session show nodes that its client is not idle.
    pub fn request_keep_awake(&self) {
        self.keep_awake.set(true);
        self.wake();
    }

    pub fn take_keep_awake(&self) -> bool {
        self.keep_awake.take()
    }

    pub fn take_reconfigure(&self) -> bool {
        self.reconfigure.take()
    }

    pub fn take_recheck(&self) -> bool {
        self.recheck.take()
    }

    /// The session sleeps until its sockets or [`SessionControl::kill`] wake it.
    pub fn sleeping(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|w| w.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    /// Resolves when the session is to end.
    pub async fn wait_killed(&self) -> Kill {
        std::future::poll_fn(|cx| match self.killed() {
            Some(reason) => std::task::Poll::Ready(reason),
            None => {
                self.sleeping(cx.waker());
                std::task::Poll::Pending
            }
        })
        .await
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}
