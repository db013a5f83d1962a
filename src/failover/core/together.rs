//! Several pgpool nodes, one decision: who acts, and what the others take over from the one that does.
//!
//! The watchdog's leader alone works off requests and runs hooks; all others take over its picture of the
//! nodes when it has changed. A leader asks the watchdog at the moment when something begins that leads to
//! a promotion, because its lease may have ended since the request was decided. Who loses the lead drops what
//! waits, since those who see the reason ask the next leader; a hook that runs is left alone, and what
//! comes of it is the next leader's to see.

use super::{
    Action, Core, Kind, Now, Stage, Why,
    follow::follow_entry,
    queue::Queued,
    record::tell,
    texts::{number, say},
};
use crate::{
    cluster::{NodeId, NodeStatus},
    events::{self, Note, Step},
    failover::request::{Entry, Request, Source},
    watchdog::codec::status::{BackendStatus, RemoteStatus},
};

/// With a watchdog.
#[derive(Clone, Debug, Default)]
pub(super) struct Together {
    leads: bool,
    /// The request whose beginning was asked for, and the number of the question.
    asked: Option<(u64, Queued)>,
    /// The leader's picture came before the start.
    adopted: bool,
}

/// What another pgpool node knows of the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// By node id.
    pub down: Vec<bool>,
    pub primary: AdoptedPrimary,
    /// Who says so, for log and history.
    pub from: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdoptedPrimary {
    Node(NodeId),
    /// It has none; a stock node may have it in quarantine.
    Nobody,
    /// It does not know yet.
    Unknown,
}

impl From<&BackendStatus> for Adopted {
    fn from(status: &BackendStatus) -> Adopted {
        let down = |status: &RemoteStatus| *status == RemoteStatus::Down;
        Adopted {
            down: status.nodes.iter().map(down).collect(),
            primary: match (status.known_primary().map(usize::try_from), status.primary) {
                (Some(Ok(node)), _) => AdoptedPrimary::Node(node),
                (_, -1) => AdoptedPrimary::Nobody,
                (_, _) => AdoptedPrimary::Unknown,
            },
            from: status.node_name.clone(),
        }
    }
}

impl Core {
    /// There are other pgpool nodes, and this one acts only while [`super::Event::Coordinates`] says so.
    #[must_use]
    pub fn with_watchdog(mut self) -> Core {
        self.together = Some(Together::default());
        self
    }

    /// For what never happens: nobody has to be asked.
    #[must_use]
    pub fn alone(mut self) -> Core {
        self.together = None;
        self
    }

    /// Works requests off and runs hooks.
    pub fn coordinates(&self) -> bool {
        self.together.as_ref().is_none_or(|t| t.leads)
    }

    /// For the other nodes, see [`crate::watchdog::core::Event::Backends`].
    pub fn backend_status(&self) -> BackendStatus {
        let status = |node: &crate::cluster::Node| match node.status {
            NodeStatus::Unused => RemoteStatus::Unused,
            // Nobody else's business.
            NodeStatus::Down if node.quarantine => RemoteStatus::Waiting,
            NodeStatus::Waiting => RemoteStatus::Waiting,
            NodeStatus::Up => RemoteStatus::Up,
            NodeStatus::Down => RemoteStatus::Down,
        };
        let primary = match self.view.primary {
            Some(primary) => i32::try_from(primary).unwrap_or(-1),
            None if self.started => -1,
            None => -2,
        };
        BackendStatus {
            nodes: self.view.nodes.iter().map(status).collect(),
            primary,
            quarantined_primary: self
                .quarantined_primary
                .and_then(|primary| i32::try_from(primary).ok()),
            node_name: String::new(),
        }
    }

    pub(super) fn lead(&mut self, leads: bool, now: Now, out: &mut Vec<Action>) {
        let Some(together) = &mut self.together else {
            return;
        };
        let before = std::mem::replace(&mut together.leads, leads);
        if before == leads {
            return;
        }
        if leads {
            self.look_for_a_primary(now, out);
            return;
        }
        let asked = together.asked.take();
        let waiting = std::mem::take(&mut self.queue);
        for queued in asked.into_iter().map(|(_, queued)| queued).chain(waiting) {
            self.drop_queued(queued, "another pgpool node leads, which decides anew", out);
        }
        if self.follow.run.is_some() {
            out.push(Action::Log(follow_entry(
                "no further follow command is begun, because another pgpool node leads",
            )));
            self.leave_following("given up, because another pgpool node leads", now, out);
        }
    }

    /// A new leader to whom no primary is known.
    fn look_for_a_primary(&mut self, now: Now, out: &mut Vec<Action>) {
        let nobody_is_it = self.view.primary.is_none() && self.quarantined_primary.is_none();
        if self.started && nobody_is_it && self.view.main_node().is_some() {
            let why = Why::new("this pgpool node leads now", "no primary node is known");
            self.search_aside(
                "no primary node is known: searching the primary node",
                why,
                now,
                out,
            );
        }
    }

    /// Whether the beginning of a request is asked for; the answer is [`super::Event::MayBegin`].
    pub(super) fn ask_to_begin(&mut self, queued: Queued, out: &mut Vec<Action>) -> Option<Queued> {
        if self.together.is_none() || !self.promotes(queued.request()) {
            return Some(queued);
        }
        let ask = self.ticket();
        let request = queued.request().clone();
        if let Some(together) = &mut self.together {
            together.asked = Some((ask, queued));
        }
        out.push(Action::AskToBegin { ask, request });
        None
    }

    pub(super) fn may_begin(&mut self, ask: u64, yes: bool, now: Now, out: &mut Vec<Action>) {
        let asked = self.together.as_mut();
        let Some((_, queued)) = asked.and_then(|t| t.asked.take_if(|(number, _)| *number == ask))
        else {
            return;
        };
        if yes {
            self.begin(queued, now, out);
            return;
        }
        say(
            out,
            format!(
                "{} request for node_id: {} is dropped, because this pgpool node may not promote a server now",
                queued.request().kind(),
                queued.request().node()
            ),
        );
        let result =
            "the watchdog does not allow a promotion now; whoever sees the reason asks again";
        self.drop_queued(queued, result, out);
    }

    /// A request waits for the watchdog's word.
    pub(super) fn asks(&self) -> bool {
        self.together.as_ref().is_some_and(|t| t.asked.is_some())
    }

    /// Does it lead to another node to write to? When none is known, anything may.
    fn promotes(&self, request: &Request) -> bool {
        match *request {
            Request::Switchover { .. } | Request::Promote { .. } => true,
            Request::Up { .. } => false,
            Request::Down { node } => {
                let written_to = if self.view.has_primary() {
                    self.view.primary.or(self.quarantined_primary)
                } else {
                    self.view.main_node()
                };
                written_to.is_none_or(|written_to| written_to == node)
            }
        }
    }

    /// The leader's primary, unless it is none of our nodes, or down by the same picture.
    fn known_here(&self, adopted: &Adopted, out: &mut Vec<Action>) -> AdoptedPrimary {
        match adopted.primary {
            AdoptedPrimary::Node(node) if self.view.has_primary() && !self.view.is_valid(node) => {
                let entry = Entry::warning(
                    Source::Main,
                    format!(
                        "the leader \"{}\" takes node {node} for the primary, which is {} here: not taken over",
                        adopted.from,
                        if self.view.node(node).is_some() {
                            "down"
                        } else {
                            "no node"
                        }
                    ),
                );
                let hint = "give every backend the same number, host name and port in the files of all watchdog nodes";
                out.push(Action::Log(entry.with_hint(hint)));
                AdoptedPrimary::Nobody
            }
            known => known,
        }
    }

    /// The leader's picture becomes ours. Whatever went on here is over.
    pub(super) fn adopt_status(&mut self, adopted: &Adopted, now: Now, out: &mut Vec<Action>) {
        let Some(together) = self.together.as_mut().filter(|t| !t.leads) else {
            return;
        };
        together.adopted = true;
        if self.started {
            self.give_up_operation(&adopted.from, now, out);
        }
        let mut changes = Vec::new();
        let mut attached = Vec::new();
        for (node, &down) in self.view.nodes.iter_mut().zip(&adopted.down) {
            let is_down = node.status == NodeStatus::Down && !node.quarantine;
            if node.status == NodeStatus::Unused || (is_down == down && !node.quarantine) {
                continue;
            }
            node.quarantine = false;
            node.status_changed = now.wall;
            node.status = if down {
                NodeStatus::Down
            } else {
                attached.push(node.id);
                NodeStatus::Waiting
            };
            let word = if down { "down" } else { "up" };
            changes.push(format!("node {} {word}", node.id));
        }
        let before = (self.view.primary, self.view.primary_search_running);
        let ours = self.view.primary.or(self.quarantined_primary.take());
        let primary = self.known_here(adopted, out);
        self.view.primary = match primary {
            AdoptedPrimary::Node(node) if self.view.has_primary() => Some(node),
            AdoptedPrimary::Unknown => self.view.primary,
            // The leader does not reach it, which is no reason for us.
            _ => ours.filter(|&id| self.view.is_valid(id)),
        };
        self.view.primary_search_running &= !self.started;
        if before.0 != self.view.primary {
            changes.push(format!("primary node {}", number(self.view.primary)));
        }
        let now_is = (self.view.primary, self.view.primary_search_running);
        if changes.is_empty() && before == now_is {
            return;
        }
        self.view.version += 1;
        for id in attached {
            self.is_attached_now(id);
        }
        if let Some(main) = self.view.main_node() {
            self.main = Some(main);
        }
        self.write_status_file(out);
        out.push(Action::Publish(self.view.clone()));
        let list = changes.join(", ");
        let from = &adopted.from;
        say(
            out,
            format!("taken over from the leader \"{from}\": {list}"),
        );
        if before.0 != self.view.primary {
            out.push(Action::RestartReplicationCheck);
        }
        let note = Note {
            primary: self.view.primary,
            main: self.view.main_node(),
            rule: "the watchdog's leader says so".to_owned(),
            ..Note::new(events::Kind::Adoption, Step::Ended)
                .with_cause(format!("the leader \"{from}\""), "")
                .with_result(list)
        };
        tell(None, note, out);
    }

    /// What was begun as leader has no end here: its hook may still run, and nobody waits for it.
    fn give_up_operation(&mut self, leader: &str, now: Now, out: &mut Vec<Action>) {
        let Some(operation) = self.operation.take() else {
            return;
        };
        if let (Kind::Down(node) | Kind::Up(node), Stage::Hook { .. }) =
            (operation.kind, &operation.stage)
        {
            out.push(Action::Log(
                Entry::warning(
                    Source::Main,
                    format!("the command that runs for node {node} is not waited for any more: \"{leader}\" leads, and its picture of the nodes counts"),
                )
                .with_hint("look whether the command has promoted a server that the leader does not take for the primary"),
            ));
        }
        let result =
            format!("given up, because \"{leader}\" leads and its picture of the nodes counts");
        self.record_ended(&operation, result, now, out);
        self.unfinished = None;
    }

    /// At a start: the picture of the leader is there, and there is nothing to search for or to resume.
    /// `false`: this start is like any other.
    pub(super) fn start_with_adopted(&mut self, now: Now, out: &mut Vec<Action>) -> bool {
        let Some(together) = &self.together else {
            return false;
        };
        if together.leads || !together.adopted {
            return false;
        }
        if self.left.hook.take().is_some() | self.left.follow.take().is_some() {
            out.push(Action::Log(
                Entry::warning(
                    Source::Main,
                    "pgpool has ended in the middle of a failover; another pgpool node leads now, so nothing of that is gone on with",
                )
                .with_hint("look whether a command of that failover has left a server half done"),
            ));
        }
        self.because("the watchdog's leader says so");
        self.finish(self.view.primary, None, now, out);
        true
    }

    pub(super) fn has_adopted(&self) -> bool {
        self.together.as_ref().is_some_and(|t| t.adopted)
    }
}
