//! Simulated backends, health checks, and what stands for the supervisor of each pgpool.

use std::time::Duration;

use super::{Due, FailedOver, Input, World};
use crate::{
    cluster::NodeId,
    failover::consult::{LATE, PATIENT_TRIES, STALE},
    watchdog::{
        codec::{
            function::{FailoverKind, FailoverRequest, FailoverResult, Flags},
            status::{BackendStatus, RemoteStatus},
        },
        core::Event,
    },
};

/// One pgpool's picture.
#[derive(Clone, Debug)]
pub(super) struct Backends {
    pub nodes: Vec<Backend>,
    pub primary: Option<NodeId>,
    /// Failovers that wait their turn, and the one that goes on.
    pub queue: Vec<FailoverRequest>,
    pub running: Option<FailoverRequest>,
    /// By that failover there is no primary until it has ended.
    pub before: Option<NodeId>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backend {
    pub down: bool,
    pub quarantined: bool,
}

impl Backends {
    pub fn new(count: usize) -> Backends {
        Backends {
            nodes: vec![Backend::default(); count],
            primary: Some(0),
            queue: Vec::new(),
            running: None,
            before: None,
        }
    }

    pub fn adopt(&mut self, status: &BackendStatus) {
        for (own, theirs) in self.nodes.iter_mut().zip(&status.nodes) {
            own.down = *theirs == RemoteStatus::Down;
            own.quarantined = false;
        }
        self.primary = status
            .known_primary()
            .and_then(|primary| usize::try_from(primary).ok());
        // As the failover core does.
        self.give_up();
    }

    fn give_up(&mut self) {
        self.queue.clear();
        self.running = None;
        self.before = None;
    }

    pub fn release_all(&mut self) {
        for node in &mut self.nodes {
            node.quarantined = false;
        }
    }

    /// A new process does what the last one has begun and not ended: here by finding the server down again.
    pub fn restart(&mut self) {
        if let Some(primary) = self.before {
            self.primary = Some(primary);
            self.nodes[primary].down = false;
        }
        self.release_all();
        self.give_up();
    }

    /// Where sessions write; nowhere while that changes.
    pub fn written_to(&self) -> Option<NodeId> {
        let primary = self.primary?;
        let view = self.nodes[primary];
        (!view.down && !view.quarantined).then_some(primary)
    }

    pub fn quarantine(&mut self, node: NodeId) -> bool {
        let node = &mut self.nodes[node];
        let news = !node.down && !node.quarantined;
        node.quarantined |= !node.down;
        news
    }

    fn status(&self) -> BackendStatus {
        let status = |node: &Backend| match node.down {
            true => RemoteStatus::Down,
            false => RemoteStatus::Up,
        };
        let visible = self.primary.filter(|p| !self.nodes[*p].quarantined);
        BackendStatus {
            nodes: self.nodes.iter().map(status).collect(),
            primary: visible.map_or(-1, |p| i32::try_from(p).unwrap_or(-1)),
            quarantined_primary: self.primary.and_then(|p| i32::try_from(p).ok()),
            node_name: String::new(),
        }
    }
}

impl World {
    pub(super) fn tell_backends(&mut self, node: usize) {
        let status = self.nodes[node].backends.status();
        self.input(node, Input::Core(Event::Backends(status)));
    }

    /// All health checks of a node look once.
    pub(super) fn health(&mut self, node: usize, life: u32, round: bool) {
        if !self.nodes[node].up || self.nodes[node].life != life {
            return;
        }
        if round {
            let after = self.health_period;
            self.due(after, Due::Health { node, life, round });
        }
        if self.nodes[node].suspended {
            return;
        }
        self.search_primary(node);
        if self.random.chance(30) && self.nodes[node].up {
            // A session has an answer to a write.
            self.input(node, Input::Core(Event::Cover));
        }
        for backend in 0..self.backends.len() {
            if !self.nodes[node].up {
                return;
            }
            let good = self.backends[backend] && self.blind[node][backend] == 0;
            if !good {
                self.found_down[backend] = self.time;
            }
            let view = self.nodes[node].backends.nodes[backend];
            if good && view.quarantined {
                self.nodes[node].backends.nodes[backend].quarantined = false;
                self.tell_backends(node);
            } else if !good && !view.down {
                self.ask(
                    node,
                    FailoverKind::Degenerate,
                    Flags::SWITCHOVER,
                    backend,
                    0,
                );
            }
        }
    }

    pub(super) fn ask(
        &mut self,
        node: usize,
        kind: FailoverKind,
        flags: Flags,
        backend: NodeId,
        tries: u32,
    ) {
        self.last_ticket += 1;
        let (ticket, time) = (self.last_ticket, self.time);
        let request = FailoverRequest {
            credentials: Default::default(),
            kind,
            flags,
            node: backend,
        };
        self.nodes[node]
            .asked
            .insert(ticket, (request.clone(), tries, time));
        self.input(node, Input::Core(Event::Request { ticket, request }));
    }

    fn ask_again_later(
        &mut self,
        node: usize,
        life: u32,
        request: Box<FailoverRequest>,
        tries: u32,
        at: Duration,
    ) {
        self.due(
            Duration::from_secs(1),
            Due::AskAgain {
                node,
                life,
                request,
                tries,
                at,
            },
        );
    }

    /// `at`: when that was due.
    pub(super) fn ask_again(
        &mut self,
        node: usize,
        life: u32,
        request: Box<FailoverRequest>,
        tries: u32,
        at: Duration,
    ) {
        let record = &self.nodes[node];
        if !record.up || record.life != life || self.time >= at + STALE {
            return;
        }
        if record.suspended {
            self.ask_again_later(node, life, request, tries, at);
        } else {
            self.ask(node, request.kind, request.flags, request.node, tries);
        }
    }

    pub(super) fn answered(&mut self, node: usize, ticket: u64, result: FailoverResult) {
        let Some((request, tries, put)) = self.nodes[node].asked.remove(&ticket) else {
            panic!("an answer to nothing");
        };
        let is_late = self.time >= put + LATE;
        self.note(|| {
            format!(
                "{node}: {:?} of {} -> {result:?}",
                request.kind, request.node
            )
        });
        match result {
            FailoverResult::Proceed if is_late => {
                self.input(node, Input::Core(Event::FailoverDropped(request)));
            }
            FailoverResult::Transition if is_late => {}
            FailoverResult::Proceed => self.begin(node, &request),
            FailoverResult::Transition if tries < PATIENT_TRIES => {
                let life = self.nodes[node].life;
                let at = self.time + Duration::from_secs(1);
                let request = Box::new(request);
                self.ask_again_later(node, life, request, tries + 1, at);
            }
            FailoverResult::NoQuorum | FailoverResult::ConsensusMayFail
                if request.kind == FailoverKind::Degenerate
                    && self.nodes[node].backends.quarantine(request.node) =>
            {
                self.tell_backends(node);
            }
            _ => {}
        }
    }

    /// The supervisor is told to do it.
    pub(super) fn begin(&mut self, node: usize, request: &FailoverRequest) {
        let backends = &mut self.nodes[node].backends;
        let down = backends.nodes[request.node].down;
        let quarantined = backends.nodes[request.node].quarantined;
        let senseless = match request.kind {
            FailoverKind::Degenerate => down,
            _ => !down && !quarantined,
        };
        let same =
            |other: &FailoverRequest| other.kind == request.kind && other.node == request.node;
        if request.kind == FailoverKind::Degenerate {
            assert!(!down, "a failover of a backend that is down here");
            let doubled =
                backends.queue.iter().any(same) || backends.running.as_ref().is_some_and(same);
            assert!(!doubled, "the same failover twice");
        }
        if senseless {
            let event = Event::FailoverDropped(request.clone());
            return self.input(node, Input::Core(event));
        }
        backends.queue.push(request.clone());
        self.next_failover(node);
    }

    fn next_failover(&mut self, node: usize) {
        let backends = &mut self.nodes[node].backends;
        if backends.running.is_some() || backends.queue.is_empty() {
            return;
        }
        let request = backends.queue.remove(0);
        let now = self.base + self.time;
        if !self.nodes[node].core.may_still_begin(&request, now) {
            self.note(|| format!("{node} drops {:?} of {}", request.kind, request.node));
            self.input(node, Input::Core(Event::FailoverDropped(request)));
            if !self.nodes[node].up {
                return;
            }
            return self.next_failover(node);
        }
        let backends = &mut self.nodes[node].backends;
        let promotes =
            request.kind == FailoverKind::Degenerate && backends.primary == Some(request.node);
        backends.running = Some(request.clone());
        self.note(|| format!("{node} FAILOVER {:?} of {}", request.kind, request.node));
        if promotes {
            self.check_promotion(node, request.node);
        }
        let backends = &mut self.nodes[node].backends;
        if promotes {
            backends.before = backends.primary.take();
        }
        if request.kind == FailoverKind::Degenerate {
            backends.nodes[request.node] = Backend {
                down: true,
                quarantined: false,
            };
        }
        let after = self.random.millis(100, 3_000);
        let life = self.nodes[node].life;
        self.due(after, Due::FailoverEnds { node, life });
        self.input(node, Input::Core(Event::FailoverBegins));
        if self.nodes[node].up {
            self.tell_backends(node);
        }
    }

    /// A node that decides, and knows of no primary, searches the one that an operator or the hook of another
    /// node has made.
    fn search_primary(&mut self, node: usize) {
        let view = &self.nodes[node].backends;
        let backend = self.promoted;
        let found = self.nodes[node].core.coordinates()
            && view.primary.is_none()
            && view.running.is_none()
            && !view.nodes[backend].down
            && self.backends[backend]
            && self.blind[node][backend] == 0;
        if found {
            self.note(|| format!("{node} finds the primary {backend}"));
            self.nodes[node].backends.primary = Some(backend);
            self.tell_backends(node);
        }
    }

    pub(super) fn failover_ends(&mut self, node: usize, life: u32) {
        if !self.nodes[node].up || self.nodes[node].life != life {
            return;
        }
        if self.nodes[node].suspended {
            let after = Duration::from_secs(1);
            return self.due(after, Due::FailoverEnds { node, life });
        }
        let backends = &mut self.nodes[node].backends;
        let Some(request) = backends.running.take() else {
            return;
        };
        let down = request.kind == FailoverKind::Degenerate;
        if !down {
            self.failed_over.remove(&request.node);
        }
        backends.nodes[request.node] = Backend {
            down,
            quarantined: false,
        };
        let before = backends.before.take().or(backends.primary);
        let valid = backends.primary.is_some_and(|p| !backends.nodes[p].down);
        if !valid {
            // Whatever the hook has chosen.
            let others: Vec<NodeId> = (0..backends.nodes.len())
                .filter(|id| !backends.nodes[*id].down)
                .collect();
            let chosen = self.random.node(others.len().max(1));
            backends.primary = others.get(chosen).copied();
        }
        let now_is = backends.primary.filter(|to| before != Some(*to));
        if let Some(to) = now_is {
            self.promoted = to;
            // All were down: an operator has decided which one it is.
            let all = 0..backends.nodes.len();
            let from = before.map_or(all.collect(), |from| vec![from]);
            from.into_iter().for_each(|from| self.has_changed(from, to));
        }
        if now_is.is_some() && before == Some(request.node) && self.nodes[node].core.keeps_lease() {
            // The new primary makes a picture.
            let done = FailedOver {
                node,
                life,
                is_known: false,
            };
            self.failed_over.insert(request.node, done);
        }
        self.tell_backends(node);
        self.input(node, Input::Core(Event::FailoverEnds));
        if self.nodes[node].up {
            self.next_failover(node);
        }
    }
}
