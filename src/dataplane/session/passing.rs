//! What the relay notices of the messages that pass: for the ledgers, the log, the counters, the answers that wait.

use super::{
    backend_side::BackendEvents,
    client_side::ClientEvents,
    cover::Cover,
    owed::Owed,
    routed::Routed,
    router::{Entry, Ledger},
    statements::Observer,
};
use crate::{
    cluster::NodeId,
    control::Report,
    dataplane::worker::Worker,
    observe::{Reporter, counters::bump},
    protocol::ErrorFields,
};

/// What the client sends to the only node.
pub(super) struct TargetMessages<'a> {
    pub observer: Observer<'a>,
    pub owed: &'a mut Owed<Entry>,
    /// If a write lease is kept.
    pub cover: Option<&'a mut Cover>,
}

impl ClientEvents for TargetMessages<'_> {
    fn message(&mut self, kind: u8, body: &[u8]) {
        self.owed.sent(kind, Entry::Nothing);
        if let Some(cover) = &mut self.cover {
            cover.sent(kind, body);
        }
        self.observer.message(kind, body);
    }

    fn wants_whole(&self) -> bool {
        self.observer.wants_whole()
    }
}

pub(super) struct NodeMessages<'a> {
    pub ledgers: &'a mut [Ledger],
    pub routed: Option<&'a mut Routed>,
    pub transaction: &'a mut u8,
    pub fatal: &'a mut bool,
    pub warned: &'a mut Option<Box<str>>,
    pub reporter: &'a mut Reporter,
    pub worker: &'a Worker,
    pub node: NodeId,
    pub is_target: bool,
    /// If a write lease is kept, and this is the primary.
    pub cover: Option<&'a mut Cover>,
    /// Something was done that is to stay.
    pub acknowledges: bool,
    pub ready: bool,
}

impl BackendEvents for NodeMessages<'_> {
    fn shows(&mut self, kind: u8) -> bool {
        match &self.routed {
            Some(routed) => routed.router.shows(self.node, kind, self.ledgers),
            None => self.is_target,
        }
    }

    fn wants_body(&self, kind: u8) -> bool {
        match kind {
            b'Z' | b'E' | b'N' | b'S' => true,
            b'C' => self.cover.is_some(),
            b'A' | b'D' => self
                .routed
                .as_ref()
                .is_some_and(|routed| routed.wants_body(self.node, kind, self.ledgers)),
            _ => false,
        }
    }

    fn message(&mut self, kind: u8, body: &[u8]) {
        match &mut self.routed {
            Some(routed) => routed.node_message(self.node, kind, body, self.ledgers),
            None => {
                if let Some(ledger) = self.ledgers.get_mut(self.node) {
                    ledger.owed.received(kind);
                }
            }
        }
        if let Some(cover) = &mut self.cover {
            let owes_nothing = self
                .ledgers
                .get(self.node)
                .is_none_or(|ledger| ledger.owed.is_quiescent());
            self.acknowledges |= cover.answered(kind, body, *self.transaction, owes_nothing);
        }
        match kind {
            b'Z' => {
                *self.transaction = body.first().copied().unwrap_or(b'I');
                self.ready = true;
            }
            b'E' => {
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
            b'S' if self.is_target => {
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

fn report_shutdown(worker: &Worker, node: NodeId, fields: &ErrorFields<'_>) {
    if fields.is_shutdown() {
        worker.shared.report(Report::BackendShutdown {
            node,
            sqlstate: String::from_utf8_lossy(fields.sqlstate).into_owned(),
            fatal: true,
        });
    }
}
