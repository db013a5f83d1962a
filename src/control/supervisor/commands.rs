//! What operators ask for, and what is answered at once.

use tokio::sync::oneshot;

use super::{Reply, Supervisor, told::say};
use crate::{
    control::{Command, Refusal},
    failover::{
        consult::Asked,
        core::{Event, Now, Why, cause_of},
        request::{Entry, Request, Source},
        what_if,
    },
};

impl Supervisor {
    /// `by`: who asks, if that is known.
    pub(super) async fn command(&mut self, command: Command, by: String) {
        match command {
            Command::Attach { node, reply } => {
                self.operators_request(Request::Up { node }, by, reply)
                    .await;
            }
            Command::Detach {
                node,
                graceful: false,
                reply,
            } => {
                self.operators_request(Request::Down { node }, by, reply)
                    .await;
            }
            Command::Detach {
                node,
                graceful: true,
                reply,
            } => self.request_later(Request::Down { node }, true, by, reply),
            Command::Recover { node, reply } => match &self.recovery {
                Some(recovery) => recovery.request(node, by, reply),
                None => answer(
                    reply,
                    Err(Refusal::error(
                        "ignoring the recovery request, since we are still starting up",
                    )),
                ),
            },
            Command::Promote {
                node,
                switchover,
                graceful,
                reply,
            } => {
                let request = if switchover {
                    Request::Switchover { node }
                } else {
                    Request::Promote { node }
                };
                self.request_later(request, graceful, by, reply);
            }
            Command::Reload { reply } => self.reload(by, reply),
            Command::WhatIf { requests, reply } => self.what_if(requests, reply),
            Command::Stop { mode } => {
                // The process ends itself; if it is not there any more, it has ended.
                let _ = self.stop.send(mode);
            }
            Command::Stopping { done, signal } => {
                self.event(Event::Stopping).await;
                self.follow_group.end(signal);
                // The process may have ended without waiting.
                let _ = done.send(());
            }
        }
    }

    pub(super) async fn operators_request(&mut self, request: Request, by: String, reply: Reply) {
        let cause = if by.is_empty() {
            cause_of(Source::Pcp)
        } else {
            by
        };
        let (source, why) = (Source::Pcp, Why::new(cause, ""));
        if self.watchdog.is_none() {
            let result = self.decided(request, source, why, None).await;
            return answer(reply, result);
        }
        // That of another node knows nothing of the recovery that goes on here.
        if let Err(refusal) = self.recovery_allows(&request, source) {
            self.record_refusal(&request, why, &refusal);
            return answer(reply, Err(refusal));
        }
        let asked = Asked {
            request,
            source,
            why,
            evidence: None,
        };
        self.consult(asked, Some(reply));
    }

    /// Whether the online recovery that goes on leaves room for a request without evidence: the wish
    /// of an operator, or of `auto_failback`.
    pub(super) fn recovery_allows(&self, request: &Request, source: Source) -> Result<(), Refusal> {
        if source == Source::Child {
            // A server has said that it shuts down.
            return Ok(());
        }
        match self.recovery.as_ref().and_then(|r| r.objection(request)) {
            None => Ok(()),
            Some(refusal) => {
                if source != Source::Pcp {
                    say(Entry::log(source, refusal.message.clone()).with_detail(&refusal.detail));
                }
                Err(refusal)
            }
        }
    }

    /// On a thread that may take its time. The clone of the core knows nobody who could do anything.
    fn what_if(&self, requests: Vec<Request>, reply: oneshot::Sender<Vec<String>>) {
        let asked = what_if::WhatIf {
            core: self.core.clone(),
            recovery: self.recovery.as_ref().and_then(|r| r.ongoing()),
            requests,
        };
        tokio::task::spawn_blocking(move || {
            // The asker may have gone.
            let _ = reply.send(asked.lines(Now::of_the_machine()));
        });
    }
}

/// The asker may have gone meanwhile.
pub(super) fn answer(reply: Reply, result: Result<(), Refusal>) {
    let _ = reply.send(result);
}
