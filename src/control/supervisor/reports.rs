//! What is done with an observation of a session or a check: whether it leads to a look or a request.

use super::{Supervisor, told::say};
use crate::{
    cluster::NodeId,
    config::Release,
    control::Report,
    failover::{
        core::{Event, Why, cause_of},
        request::{Entry, Request, Source},
    },
    health,
};

/// See [`Supervisor::on_shutdown`].
enum OnShutdown {
    Nothing,
    Look,
    Detach,
}

impl Supervisor {
    /// What a report leads to.
    pub(super) async fn report(&mut self, report: Report) {
        match report {
            Report::BackendError { node, reason } => {
                if self.shared.config.load().settings.failover_on_backend_error {
                    self.look(node, health::core::Cause::Error { reason }).await;
                }
            }
            Report::BackendCut { node, error } => {
                let on_error = self.shared.config.load().settings.failover_on_backend_error;
                match error {
                    Some(reason) if on_error => {
                        self.look(node, health::core::Cause::Error { reason }).await;
                    }
                    error if self.is_checked(node) => {
                        let how = error.unwrap_or_else(|| "it closed the connection".to_owned());
                        self.look(node, health::core::Cause::Cut { how }).await;
                    }
                    // Whoever has switched everything off wants nothing to be detached without an order.
                    _ => {}
                }
            }
            Report::BackendShutdown {
                node,
                sqlstate,
                fatal,
            } => {
                match self.on_shutdown(node) {
                    OnShutdown::Nothing => return,
                    // Anybody can raise a warning with this SQLSTATE: worth a look and no more.
                    OnShutdown::Detach if fatal => {}
                    OnShutdown::Look | OnShutdown::Detach => {
                        let cause = health::core::Cause::Shutdown { sqlstate };
                        self.look(node, cause).await;
                        return;
                    }
                }
                // Every session of the node reports it; the first one has done it.
                if !self.core.view().is_valid(node) {
                    return;
                }
                say(
                    Entry::log(Source::Child, "reading and processing packets").with_detail(
                        format!(
                            "postmaster on DB node {node} was shutdown by administrative command"
                        ),
                    ),
                );
                let why = Why::new(
                    cause_of(Source::Child),
                    format!(
                        "the server told it SQLSTATE {sqlstate}, that it shuts down (failover_on_backend_shutdown)"
                    ),
                );
                self.request(Request::Down { node }, Source::Child, why, None)
                    .await;
            }
            Report::NodeUsed { node } => {
                self.event(Event::NodeUsed { node }).await;
            }
            Report::HealthCheckFailed {
                node,
                evidence,
                view_version,
                ..
            } => {
                let source = Source::HealthCheck(node);
                let why = Why::new(cause_of(source), evidence);
                self.request(Request::Down { node }, source, why, Some(view_version))
                    .await;
            }
            Report::AutoFailback { node }
                if self.core.view().node(node).is_some_and(|n| n.quarantine) =>
            {
                self.event(Event::Release { node }).await;
            }
            Report::AutoFailback { node } => {
                let source = Source::HealthCheck(node);
                let why = Why::new(
                    "auto_failback",
                    "its server answers, and the primary says that it feeds it",
                );
                self.request(Request::Up { node }, source, why, None).await;
            }
            Report::RolesDiffer { view_version } => {
                if self.core.view().version == view_version {
                    self.event(Event::RolesDiffer).await;
                }
            }
            Report::FalsePrimary {
                node,
                evidence,
                view_version,
            } => {
                // Roles seen before a change say nothing about the cluster of now.
                // While nodes are made to follow, which one feeds them says nothing either.
                if *self.hands_off.borrow() || self.core.view().version != view_version {
                    return;
                }
                let source = Source::ReplicationCheck;
                let why = Why::new("detach_false_primary", evidence);
                self.request(Request::Down { node }, source, why, Some(view_version))
                    .await;
            }
        }
    }

    /// What the parameters want when a server tells a session that it shuts down.
    fn on_shutdown(&self, node: NodeId) -> OnShutdown {
        let config = self.shared.config.load();
        let settings = &config.settings;
        if settings.failover_on_backend_shutdown == Some(true) {
            OnShutdown::Detach
        } else if self.may_find_down(node) {
            OnShutdown::Look
        } else {
            OnShutdown::Nothing
        }
    }

    /// Whoever has switched everything off wants nothing to be detached without an order.
    pub(super) fn may_find_down(&self, node: NodeId) -> bool {
        let config = self.shared.config.load();
        let settings = &config.settings;
        // Up to 4.2 there is no such parameter, and a server that says that it ends is looked at.
        let on_shutdown = settings
            .failover_on_backend_shutdown
            .unwrap_or(config.dialect < Release::V4_3);
        on_shutdown || settings.failover_on_backend_error || self.is_checked(node)
    }

    /// The node has a health check with a period.
    pub(super) fn is_checked(&self, node: NodeId) -> bool {
        let config = self.shared.config.load();
        let backend = config.settings.backends.get(node);
        backend.is_some_and(|b| b.health_check.period.is_some())
    }

    /// Lets the health check of a valid node look at once.
    async fn look(&mut self, node: NodeId, cause: health::core::Cause) {
        let view = self.core.view();
        let Some(server) = view.node(node).filter(|n| view.takes_part(n.id)) else {
            return;
        };
        match self.health.get(&node) {
            Some(check) if !server.flag.disallow_to_failover => {
                check.send(health::core::Event::Look(cause));
            }
            // Refused in the words of the original: disallowed, or still starting up.
            _ => {
                let why = Why::new(cause_of(Source::Child), cause.in_words());
                self.request(Request::Down { node }, Source::Child, why, None)
                    .await;
            }
        }
    }
}
