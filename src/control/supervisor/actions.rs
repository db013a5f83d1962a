//! Does what the failover core says, in its order.

use std::{collections::VecDeque, sync::Arc};

use tokio::{sync::watch, task::JoinSet};

use super::{Internal, Supervisor, told::say};
use crate::{
    cluster::{ClusterView, NodeId, NodeStatus, status_file},
    events::{Kind, Note, Origin, Step},
    failover::{
        ask,
        core::{Action, Event, Now, Told},
        request::{Entry, Request, Source},
    },
    health, recovery, replication,
};

impl Supervisor {
    pub(super) async fn carry_out(&mut self, actions: Vec<Action>) {
        // First: a replication check that is told to begin anew looks at this.
        let was_busy = self.show_busy();
        if self.core.is_busy() && !was_busy {
            self.tell_progress(true);
        }
        let mut ended = false;
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Log(entry) => say(entry),
                Action::AskToBegin { ask, request } => {
                    let yes = self.may_begin(&request);
                    let event = Event::MayBegin { ask, yes };
                    actions.extend(self.core.handle(event, Now::of_the_machine()));
                }
                Action::Record(Told { operation, note }) => {
                    ended |= operation.is_some() && note.step == Step::Ended;
                    if matches!(note.step, Step::Refused | Step::Dropped)
                        && let Some(request) = request_of(&note)
                    {
                        self.tell_dropped(&request);
                    }
                    let operation = operation.map(|number| (Origin::Failover, number));
                    self.shared.events.record(operation, note);
                }
                Action::WriteStatusFile(text) => self.write_status_file(text).await,
                Action::Publish(view) => self.publish(view),
                Action::RunHook { hook, begun } => self.run_hook(hook, begun).await,
                Action::Remember(unfinished) => {
                    self.record.remember(unfinished);
                    self.write_record().await;
                }
                Action::AwaitHook { call, kind } => self.await_hook(call, kind),
                Action::Ask { sweep, nodes } => self.ask(sweep, nodes),
                Action::WakeAt(at) => self.wake_at = Some(at.into()),
                Action::LookAgain { node } => {
                    if let Some(check) = self.health.get(&node) {
                        check.send(health::core::Event::Look(health::core::Cause::Waited));
                    }
                }
                Action::RestartReplicationCheck => {
                    if let Some(check) = &self.replication {
                        check.restart();
                    }
                }
                Action::Started => self.started(),
            }
        }
        let busy = self.core.is_busy();
        if ended || (was_busy && !busy) {
            self.tell_progress(false);
            if busy {
                self.tell_progress(true);
            }
        }
        self.show_busy();
    }

    /// For the checks; `true`: something went on before.
    fn show_busy(&self) -> bool {
        self.show_hands_off();
        let busy = self.core.is_busy();
        replace(&self.busy, busy)
    }

    /// Likewise: nodes are down that a script works on, here or at the node that leads.
    pub(super) fn show_hands_off(&self) {
        let follows = self.core.is_following();
        let hands_off = self.core.is_busy() || follows || self.leader_follows;
        replace(&self.hands_off, hands_off);
        if replace(&self.follows, follows) != follows {
            self.tell_following(follows);
        }
    }

    /// On another thread: a slow disk must not delay health checks.
    async fn write_status_file(&mut self, text: String) {
        let config = self.shared.config.load_full();
        let work_dir = config.settings.work_dir.clone();
        let path = status_file::path(&work_dir);
        let written = self
            .status_disk
            .write(move || status_file::write(&work_dir, &text));
        let Err(error) = written.await else {
            return;
        };
        say(Entry::warning(
            Source::Main,
            format!("failed to write status file at: \"{}\"", path.display()),
        )
        .with_detail(error)
        .with_hint("after a restart pgpool would begin with the statuses that the old file has"));
    }

    fn publish(&self, view: ClusterView) {
        // First: it may hold writes until a majority of the nodes knows the new primary.
        self.tell_watchdog();
        let old = self.shared.view.swap(Arc::new(view));
        let new = self.shared.view.load();
        for node in &new.nodes {
            if node.is_valid()
                && !old.is_valid(node.id)
                && let Some(check) = self.health.get(&node.id)
            {
                check.send(health::core::Event::Attached);
            }
        }
        if old.version != new.version
            && let Some(plane) = self.shared.dataplane()
        {
            plane.view_changed();
        }
        if let Some(recovery) = &self.recovery {
            recovery.view_changed();
        }
    }

    fn ask(&mut self, sweep: u64, nodes: Vec<NodeId>) {
        self.asking.abort_all();
        self.asking = JoinSet::new();
        for node in nodes {
            let (shared, to_me) = (Arc::clone(&self.shared), self.to_me.clone());
            self.asking.spawn_local(async move {
                let answer = ask::ask(&shared, node).await;
                // The supervisor has ended: the process does.
                let _ = to_me.send(Internal::Answered {
                    sweep,
                    node,
                    answer,
                });
            });
        }
    }

    fn started(&mut self) {
        self.replication = Some(replication::task::spawn(
            Arc::clone(&self.shared),
            self.busy.subscribe(),
        ));
        self.recovery = Some(recovery::task::spawn(Arc::clone(&self.shared)));
        self.start_health_checks();
        if let Some(done) = self.search_done.take() {
            // Nobody waits any more: the process ends during its start.
            let _ = done.send(());
        }
    }

    /// For nodes that are down too: `auto_failback` is done by the health check.
    pub(super) fn start_health_checks(&mut self) {
        let view = self.shared.view.load_full();
        for node in view.nodes.iter().filter(|n| n.status != NodeStatus::Unused) {
            let (shared, hands_off) = (&self.shared, &self.hands_off);
            self.health.entry(node.id).or_insert_with(|| {
                health::task::spawn(Arc::clone(shared), node.id, hands_off.subscribe())
            });
        }
    }
}

/// Readers are told only of a change. Returns what was before.
fn replace(watch: &watch::Sender<bool>, now: bool) -> bool {
    let before = *watch.borrow();
    watch.send_if_modified(|old| std::mem::replace(old, now) != now);
    before
}

/// The request that a note speaks of.
fn request_of(note: &Note) -> Option<Request> {
    let node = note.node?;
    Some(match note.kind {
        Kind::Failover => Request::Down { node },
        Kind::Failback => Request::Up { node },
        Kind::Switchover => Request::Switchover { node },
        Kind::Promotion => Request::Promote { node },
        _ => return None,
    })
}
