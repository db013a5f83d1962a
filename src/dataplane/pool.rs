//! The connection cache: sets of backend connections that outlive their clients.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use super::{info::PoolInfo, stream::Stream, table::PoolKey};
use crate::{auth::session_auth::Remembered, cluster::NodeId, protocol::StartupPacket};

/// An authenticated connection to one backend.
#[derive(Debug)]
pub struct BackendConnection {
    pub node: NodeId,
    pub stream: Stream,
    /// PostgreSQL's pid and cancel key.
    pub pid: u32,
    pub key: u32,
    /// Something has been sent since the connection was made or reset, so it has to be reset.
    pub dirty: bool,
    /// `I`, `T` or `E` of the last ReadyForQuery.
    pub transaction: u8,
}

/// The connections of one session, one per node, and what a later client needs to know of them.
#[derive(Debug)]
pub struct PoolEntry {
    /// Index is the node id.
    pub backends: Vec<Option<BackendConnection>>,
    pub facts: Rc<PoolFacts>,
    /// The ParameterStatus messages of the start-up, as the node to work on sent them.
    pub parameter_status: Rc<[u8]>,
    /// How the connections were authenticated, for clients that pool_hba has not authenticated.
    pub remembered: Remembered,
    /// When its last client left; `None` while one uses it.
    pub idle_since: Option<Instant>,
}

thread_local! {
    static LAST_STATUS: RefCell<Rc<[u8]>> = RefCell::default();
}

/// ParameterStatus messages of a start-up, to be kept. A server says the same to almost everybody, so
/// the entries of a worker share what was kept last.
pub fn keep_status(messages: &[u8]) -> Rc<[u8]> {
    LAST_STATUS.with_borrow_mut(|last| {
        if **last != *messages {
            *last = messages.into();
        }
        Rc::clone(last)
    })
}

/// What SHOW and PCP print of a pool entry. Shared with the session that uses it.
#[derive(Debug)]
pub struct PoolFacts {
    /// A cached set serves only a client whose packet has the same user, database and parameters.
    pub startup: StartupPacket,
    /// Hash of that, for the table of slots.
    pub key: PoolKey,
    pub created: SystemTime,
    pub counter: std::cell::Cell<u64>,
    pub client_connected: std::cell::Cell<Option<SystemTime>>,
    pub client_disconnected: std::cell::Cell<Option<SystemTime>>,
    pub backend_pids: Vec<Option<u32>>,
}

impl PoolFacts {
    /// Whether the client has asked for settings of the server that its user does not have by default.
    pub fn has_options(&self) -> bool {
        let of_server = |name: &str| matches!(name, "options" | "default_transaction_isolation");
        let parameters = &self.startup.parameters;
        parameters.iter().any(|(name, _)| of_server(name))
    }

    /// As SHOW and PCP print it.
    pub fn info(
        &self,
        connected: bool,
        client_idle_duration: Duration,
        load_balance_node: Option<NodeId>,
    ) -> PoolInfo {
        PoolInfo {
            database: self.startup.database.clone(),
            username: self.startup.user.clone(),
            backend_connection_time: self.created,
            client_connection_time: self.client_connected.get(),
            client_disconnection_time: self.client_disconnected.get().filter(|_| !connected),
            client_idle_duration,
            major: 3,
            minor: 0,
            pool_counter: self.counter.get(),
            connected,
            load_balance_node,
            backend_pids: self.backend_pids.clone(),
        }
    }
}

impl PoolEntry {
    /// Same user and database: the only entry a slot may hold for them (sessions-and-pooling:
    /// `src/protocol/pool_connection_pool.c @ V4_3_5`).
    pub fn is_for(&self, startup: &StartupPacket) -> bool {
        self.facts.startup.user == startup.user && self.facts.startup.database == startup.database
    }

    /// The whole packet is the same, so the backends' settings are what this client asks for.
    pub fn serves(&self, startup: &StartupPacket) -> bool {
        self.is_for(startup) && self.facts.startup.parameters == startup.parameters
    }

    /// All connections are alive and silent.
    pub fn is_fresh(&mut self) -> bool {
        self.backends
            .iter_mut()
            .flatten()
            .all(|b| !b.stream.is_stale())
    }

    /// Says goodbye to the backends and closes the connections.
    pub fn close(self) {
        for backend in self.backends.into_iter().flatten() {
            backend.close();
        }
    }
}

impl BackendConnection {
    /// Sends Terminate, so that the server does not log an unexpected end, and closes.
    pub fn close(mut self) {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        // A socket too full for five bytes belongs to a server that will see the end anyway.
        let _ = self
            .stream
            .poll_write(&mut cx, &crate::protocol::messages::TERMINATE);
    }
}

/// Databases whose connections are never cached (`src/protocol/child.c @ V4_3_5`).
pub fn is_cacheable(database: &str) -> bool {
    !matches!(
        database,
        "postgres" | "template0" | "template1" | "regression"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_share_what_servers_say_alike() {
        let first = keep_status(b"S1");
        assert!(Rc::ptr_eq(&first, &keep_status(b"S1")));
        let other = keep_status(b"S2");
        assert_eq!((&*first, &*other), (&b"S1"[..], &b"S2"[..]));
    }
}
