//! Requests that wait before anything is changed: for the clients to leave, or for what the server of
//! a promotion says of itself.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    Internal, Reply, Supervisor,
    commands::answer,
    told::{refusal_note, say},
};
use crate::{
    cluster::NodeId,
    control::Shared,
    events::{Note, Step},
    failover::{
        ask,
        core::{Why, kind_of},
        promotion,
        request::{Entry, Request, Source},
    },
};

/// How often a graceful detach looks whether the clients are gone.
const CLIENTS_POLL: Duration = Duration::from_millis(500);

impl Supervisor {
    pub(super) fn detach_gracefully(&mut self, node: NodeId, by: String, reply: Reply) {
        let request = Request::Down { node };
        let accepted = self.recovery_allows(&request, Source::Pcp);
        if let Err(refusal) = accepted.and_then(|()| self.core.would_accept(&request)) {
            self.record_refusal(&request, Why::new(by, ""), &refusal);
            answer(reply, Err(refusal));
            return;
        }
        let limit = self.shared.config.load().settings.recovery_timeout;
        let (shared, to_me) = (Arc::clone(&self.shared), self.to_me.clone());
        tokio::task::spawn_local(async move {
            if !clients_leave(&shared, limit, &format!("node {node} is not detached")).await {
                record_clients_stay(&shared, &request, by);
                answer(reply, Ok(()));
                return;
            }
            // The supervisor has ended: the process does.
            let _ = to_me.send(Internal::Requested { request, by, reply });
        });
    }

    /// Asks the server what it is before anything is changed.
    pub(super) fn promote(&mut self, request: Request, graceful: bool, by: String, reply: Reply) {
        let node = request.node();
        let allowed = self.recovery_allows(&request, Source::Pcp);
        if let Err(refusal) = allowed.and_then(|()| self.core.would_accept(&request)) {
            self.record_refusal(&request, Why::new(by, ""), &refusal);
            answer(reply, Err(refusal));
            return;
        }
        let limit = self.shared.config.load().settings.recovery_timeout;
        let (shared, to_me) = (Arc::clone(&self.shared), self.to_me.clone());
        tokio::task::spawn_local(async move {
            let said = ask::ask(&shared, node).await;
            if let Err(refusal) = promotion::check_candidate(&request, &said) {
                let why = Why::new(by, "");
                shared
                    .events
                    .record(None, refusal_note(&request, why, &refusal));
                answer(reply, Err(refusal));
                return;
            }
            let not = format!("node {node} is not promoted");
            if graceful && !clients_leave(&shared, limit, &not).await {
                record_clients_stay(&shared, &request, by);
                answer(reply, Ok(()));
                return;
            }
            // The supervisor has ended: the process does.
            let _ = to_me.send(Internal::Requested { request, by, reply });
        });
    }
}

/// A graceful request whose clients have not left in time; the tool was told of success.
fn record_clients_stay(shared: &Shared, request: &Request, by: String) {
    let note = Note::of_node(kind_of(request), Step::Dropped, request.node())
        .with_cause(by, "")
        .with_result("clients were still connected after recovery_timeout");
    shared.events.record(None, note);
}

/// Waits until no client is connected, at most `limit` (`recovery_timeout`); `false`: some still are,
/// and the log says so after `not`. The answer to the tool is success all the same, as with the
/// original: it cannot show anything else that scripts expect.
async fn clients_leave(shared: &Shared, limit: Duration, not: &str) -> bool {
    let end = Instant::now() + limit;
    let clients = || {
        shared
            .dataplane()
            .map_or(0, |plane| plane.connected_clients())
    };
    while clients() > 0 {
        if Instant::now() >= end {
            say(
                Entry::warning(Source::Pcp, format!("{not}: clients are still connected"))
                    .with_detail(format!(
                        "waited {} seconds (recovery_timeout) for {} clients",
                        limit.as_secs(),
                        clients()
                    ))
                    .with_hint("ask again without waiting, or end the sessions"),
            );
            return false;
        }
        sleep(CLIENTS_POLL).await;
    }
    true
}
