//! The end of a session: last words to the client, then reset and cache the backend connections, or close them.
//!
//! The client's socket is closed before the backends are reset, so the client does not wait for it.

use std::{rc::Rc, time::Duration};

use super::{
    front::{self, Ending},
    info::SlotStatus,
    pool::{self, BackendConnection, PoolEntry},
    session::{
        Exit, Kill, LinkEnd, Parts, Relay,
        backend_side::{BackendEvents, BackendSide},
        owed::Owed,
        router::Entry,
    },
    worker::Worker,
};
use crate::{
    control::Report,
    observe::{Severity, counters::bump},
    protocol::{StartupPacket, messages, messages::ErrorMessage},
    sys::errors,
};

/// Limit of the reset of one node's connection (`src/protocol/pool_process_query.c @ V4_3_5`).
const RESET_LIMIT: Duration = Duration::from_secs(10);

/// Ends a session and frees its slot.
pub async fn finish(worker: Rc<Worker>, relay: Relay, exit: Exit, mut ending: Ending) {
    let mut parts = relay.into_parts();
    ending.occupied.forget_cancel_key();
    let terminated = matches!(exit, Exit::Terminate);
    say_goodbye(&worker, &mut parts, &exit).await;
    let Parts {
        client,
        entry,
        ends,
        term,
        ..
    } = parts;
    let clean = ends
        .iter()
        .zip(&entry.backends)
        .all(|(end, backend)| end.clean || backend.is_none());
    drop(client);
    log_disconnection(&worker, &ending, &entry.facts.startup);

    entry
        .facts
        .client_disconnected
        .set(Some(std::time::SystemTime::now()));
    *ending.control.facts.borrow_mut() = None;
    ending.control.status.set(SlotStatus::WaitForConnection);
    let config = worker.shared.config.load_full();
    let settings = &config.settings;
    let keep = terminated
        && clean
        && settings.connection_cache
        && settings.max_pool > 0
        && !worker.is_stopping()
        && pool::is_cacheable(&entry.facts.startup.database);
    let mut reset = Reset {
        worker: &worker,
        entry,
        ends,
        term,
    };
    let whole = if terminated {
        reset.flush().await
    } else {
        clean && reset.ends.iter().all(|end| end.left.is_empty())
    };
    let kept = keep
        && whole
        && tokio::select! {
            biased;
            _ = ending.control.wait_killed() => false,
            done = reset.run(&settings.reset_query_list) => done,
        };
    if kept {
        cache(&worker, &ending, reset.entry, settings.max_pool);
    } else if whole {
        reset.entry.close();
    } else {
        // Terminate in the middle of a message would complete it, perhaps to another statement.
        drop(reset.entry);
    }
    if let Some(limit) = settings.child_max_connections {
        worker.with_slot(ending.control.slot, |slot| {
            if slot.served >= limit {
                ending
                    .reporter
                    .log(format_args!("child exiting, {limit} connections reached"));
                slot.renew(worker.now());
            }
        });
    }
    drop(ending);
}

/// What a session that is cut is told.
pub fn killed_message(reason: Kill) -> ErrorMessage {
    match reason {
        Kill::NodeGone(node) => ErrorMessage::fatal(
            "57P01",
            format!("connection terminated because DB node {node} is no longer the one to work on"),
        )
        .detail("The node has been detached, or another node has become the primary.")
        .hint(
            "In a moment you should be able to reconnect to the database and repeat your command.",
        ),
        Kill::IdleLimit(seconds) => {
            ErrorMessage::error("57000", "unable to read data").detail(format!(
                "child connection forced to terminate due to client_idle_limit:{seconds} is reached"
            ))
        }
        Kill::RecoveryIdleLimit(None) => ErrorMessage::error(
            "57000",
            "connection terminated due to online recovery",
        )
        .detail("child connection forced to terminate due to client_idle_limit:-1"),
        Kill::RecoveryIdleLimit(Some(seconds)) => {
            ErrorMessage::error("57000", "unable to read data").detail(format!(
                "child connection forced to terminate due to client_idle_limit_in_recovery:{seconds} is reached"
            ))
        }
        Kill::Shutdown => ErrorMessage::fatal(
            "57P01",
            "terminating connection because Pgpool-II is shutting down",
        ),
    }
}

async fn say_goodbye(worker: &Worker, parts: &mut Parts, exit: &Exit) {
    let error = match exit {
        Exit::Terminate | Exit::ClientGone => return,
        Exit::BackendLost {
            node,
            announced,
            error,
        } => {
            if !announced {
                worker.shared.report(Report::BackendCut {
                    node: *node,
                    error: error.as_ref().map(errors::message),
                });
            }
            let last =
                ErrorMessage::fatal("XX000", format!("unable to read data from DB node {node}"))
                    .detail(match error {
                        None => "EOF encountered with backend".to_owned(),
                        Some(error) => format!(
                            "socket read failed with error \"{}\"",
                            errors::message(error)
                        ),
                    });
            (!announced).then_some(last)
        }
        Exit::Protocol(error) => Some(error.clone()),
        Exit::Killed(reason) => Some(killed_message(*reason)),
    };
    let Some(error) = error else {
        flush_client(parts).await;
        return;
    };
    let between_messages = parts.between_messages;
    parts.reporter.emit(
        if error.severity == "FATAL" {
            Severity::Fatal
        } else {
            Severity::Error
        },
        &error.message,
        &error.detail,
        &error.hint,
    );
    // In the middle of a row the client would take our words for a part of it.
    if between_messages {
        let mut bytes = Vec::new();
        error.encode(&mut bytes);
        parts.to_client.push(&bytes);
    }
    flush_client(parts).await;
}

async fn flush_client(parts: &mut Parts) {
    let (client, left) = (&mut parts.client, &mut parts.to_client);
    let work = std::future::poll_fn(|cx| match left.flush(cx, client) {
        Ok(_) if !left.is_empty() => std::task::Poll::Pending,
        _ => std::task::Poll::Ready(()),
    });
    // A client that does not read loses what it was to be told.
    let _ = tokio::time::timeout(front::FAREWELL_LIMIT, work).await;
}

fn log_disconnection(worker: &Worker, ending: &Ending, startup: &StartupPacket) {
    if !worker.shared.config.load().settings.log_disconnections {
        return;
    }
    let time = ending.control.started.elapsed().unwrap_or_default();
    let seconds = time.as_secs();
    ending.reporter.log(format_args!(
        "frontend disconnection: session time: {}:{:02}:{:02}.{:03} user={} database={} host={} port={}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        time.subsec_millis(),
        startup.user,
        startup.database,
        ending.control.peer.host_or_local(),
        ending.control.peer.port,
    ));
}

/// Puts the entry into the slot; when the slot is full, the entry that has been idle longest goes.
fn cache(worker: &Worker, ending: &Ending, mut entry: PoolEntry, max_pool: usize) {
    entry.idle_since = Some(worker.now());
    worker.with_slot(ending.control.slot, |slot| {
        while slot.entries.len() >= max_pool {
            let oldest = (0..slot.entries.len())
                .min_by_key(|&i| slot.entries[i].idle_since)
                .unwrap_or(0);
            slot.entries.swap_remove(oldest).close();
        }
        // There are few, and room for four in every slot adds up.
        slot.entries.reserve_exact(1);
        slot.entries.push(entry);
    });
}

struct Reset<'a> {
    worker: &'a Worker,
    entry: PoolEntry,
    /// By node id.
    ends: Vec<LinkEnd>,
    /// Of the write lease: the session has looked at the cluster in it.
    term: u64,
}

impl Reset<'_> {
    /// Without the write lease another node may be the primary now, and nobody waits for an answer: what
    /// might be committed is not sent any more.
    fn may_write(&self) -> bool {
        self.worker.shared.write_lease.allows(self.term)
    }

    /// Hands over what the client had sent before its Terminate.
    async fn flush(&mut self) -> bool {
        let mut taken = true;
        if !self.may_write() {
            return self.ends.iter().all(|end| end.left.is_empty());
        }
        for (backend, end) in self.entry.backends.iter_mut().zip(&mut self.ends) {
            let (Some(backend), left) = (backend, &mut end.left) else {
                continue;
            };
            let work = std::future::poll_fn(|cx| match left.flush(cx, &mut backend.stream) {
                Ok(_) if !left.is_empty() => std::task::Poll::Pending,
                done => std::task::Poll::Ready(done.is_ok()),
            });
            taken &= tokio::time::timeout(RESET_LIMIT, work)
                .await
                .unwrap_or(false);
        }
        taken
    }

    /// Brings every connection that was used back to its first state; false: one did not get there.
    async fn run(&mut self, queries: &[String]) -> bool {
        let term = self.term;
        for (backend, end) in self.entry.backends.iter_mut().zip(&mut self.ends) {
            let Some(backend) = backend.as_mut().filter(|b| b.dirty) else {
                continue;
            };
            // A Sync commits what the client has left behind.
            if !self.worker.shared.write_lease.allows(term) {
                return false;
            }
            let end = std::mem::take(end);
            let work = reset(self.worker, backend, end, queries);
            if !tokio::time::timeout(RESET_LIMIT, work)
                .await
                .unwrap_or(false)
            {
                return false;
            }
        }
        true
    }
}

async fn reset(
    worker: &Worker,
    backend: &mut BackendConnection,
    end: LinkEnd,
    queries: &[String],
) -> bool {
    let mut answers = Answers {
        owed: end.owed,
        side: end.side,
        error: false,
    };
    // A Sync would commit what the client has left without one; when the connection is closed the server rolls
    // it back. After an error there is nothing left.
    if answers.owed.needs_sync() && !answers.owed.is_skipping() {
        return false;
    }
    if answers.owed.needs_sync() {
        if backend.stream.write_all(&messages::SYNC).await.is_err() {
            return false;
        }
        answers.owed.sent(b'S', Entry::Nothing);
    }
    if !answers.wait(backend).await {
        return false;
    }
    let mut batch = Vec::new();
    for sql in queries {
        let sql = sql.trim();
        // ABORT outside a transaction is only a warning in the server's log.
        if sql.is_empty() || (backend.transaction == b'I' && sql.eq_ignore_ascii_case("abort")) {
            continue;
        }
        messages::query(sql, &mut batch);
        answers.owed.sent(b'Q', Entry::Nothing);
        if let Some(counters) = worker.counters(backend.node) {
            bump(&counters.other);
        }
    }
    answers.error = false;
    if backend.stream.write_all(&batch).await.is_err() || !answers.wait(backend).await {
        return false;
    }
    backend.dirty = false;
    !answers.error && backend.transaction == b'I'
}

struct Answers {
    owed: Owed<Entry>,
    side: BackendSide,
    error: bool,
}

impl Answers {
    /// Reads until nothing is owed.
    async fn wait(&mut self, backend: &mut BackendConnection) -> bool {
        let mut bytes = Vec::new();
        while !self.owed.is_quiescent() {
            // The server waits for a client that has gone.
            if self.owed.is_copying_in() {
                return false;
            }
            bytes.clear();
            match backend.stream.read_some(&mut bytes, 4096).await {
                Ok(n) if n > 0 => {}
                _ => return false,
            }
            let mut events = AnswerEvents {
                owed: &mut self.owed,
                error: &mut self.error,
                transaction: &mut backend.transaction,
            };
            if self.side.scan(&bytes, &mut events).is_err() {
                return false;
            }
        }
        true
    }
}

struct AnswerEvents<'a> {
    owed: &'a mut Owed<Entry>,
    error: &'a mut bool,
    transaction: &'a mut u8,
}

impl BackendEvents for AnswerEvents<'_> {
    fn message(&mut self, kind: u8, body: &[u8]) {
        self.owed.received(kind);
        match kind {
            b'Z' => *self.transaction = body.first().copied().unwrap_or(b'I'),
            b'E' => *self.error = true,
            _ => {}
        }
    }
}
