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
    control::{Refusal, Shared},
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
    /// A server that is to become the primary is asked what it is, and with `graceful` the clients have
    /// time to leave, before anything is changed.
    pub(super) fn request_later(
        &mut self,
        request: Request,
        graceful: bool,
        by: String,
        reply: Reply,
    ) {
        let allowed = self.recovery_allows(&request, Source::Pcp);
        if let Err(refusal) = allowed.and_then(|()| self.core.would_accept(&request)) {
            self.record_refusal(&request, Why::new(by, ""), &refusal);
            answer(reply, Err(refusal));
            return;
        }
        let limit = self.shared.config.load().settings.recovery_timeout;
        let (shared, to_me) = (Arc::clone(&self.shared), self.to_me.clone());
        tokio::task::spawn_local(async move {
            if let Err(refusal) = check_candidate(&shared, &request).await {
                let note = refusal_note(&request, Why::new(by, ""), &refusal);
                shared.events.record(None, note);
                answer(reply, Err(refusal));
            } else if graceful && !clients_leave(&shared, limit, &request, &by).await {
                answer(reply, Ok(()));
            } else {
                // The supervisor has ended: the process does.
                let _ = to_me.send(Internal::Requested { request, by, reply });
            }
        });
    }
}

async fn check_candidate(shared: &Shared, request: &Request) -> Result<(), Refusal> {
    match *request {
        Request::Switchover { node } | Request::Promote { node } => {
            promotion::check_candidate(request, &ask::ask(shared, node).await)
        }
        Request::Down { .. } | Request::Up { .. } => Ok(()),
    }
}

/// Waits until no client is connected, at most `limit` (`recovery_timeout`); `false`: some still are,
/// and log and history say so. The answer to the tool is success all the same, as with the original: it
/// cannot show anything else that scripts expect.
async fn clients_leave(shared: &Shared, limit: Duration, request: &Request, by: &str) -> bool {
    let end = Instant::now() + limit;
    let seconds = limit.as_secs();
    let clients = || {
        shared
            .dataplane()
            .map_or(0, |plane| plane.connected_clients())
    };
    let tell = |step, result: String| {
        let note = Note::of_node(kind_of(request), step, request.node())
            .with_cause(by, "")
            .with_result(result);
        shared.events.record(None, note);
    };
    if clients() > 0 {
        let result = format!("{} clients have {seconds} seconds to leave", clients());
        tell(Step::Waits, result);
    }
    while clients() > 0 {
        if Instant::now() >= end {
            let doing = match request {
                Request::Down { .. } => "detached",
                _ => "promoted",
            };
            let text = format!(
                "node {} is not {doing}: clients are still connected",
                request.node()
            );
            let waited = format!(
                "waited {seconds} seconds (recovery_timeout) for {} clients",
                clients()
            );
            let warning = Entry::warning(Source::Pcp, text).with_detail(waited);
            say(warning.with_hint("ask again without waiting, or end the sessions"));
            tell(
                Step::Dropped,
                "clients were still connected after recovery_timeout".to_owned(),
            );
            return false;
        }
        sleep(CLIENTS_POLL).await;
    }
    true
}
