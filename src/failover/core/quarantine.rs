//! Quarantine: a node that this pgpool does not reach, and that the pgpool nodes together have not
//! given up.
//!
//! It is down for the sessions here and for nobody else: no hook, no line in the status file, nothing is
//! told to other pgpool nodes (`failover()` in `src/main/pgpool_main.c @ V4_3_5`). Its health check goes
//! on; the node is back when it answers, when the quorum returns, or when the leader's picture comes. A
//! quarantined primary keeps its role for that; until then no primary is known here.

use super::{
    Action, Core, Now, Why,
    record::tell,
    texts::{number, say},
};
use crate::{
    cluster::{NodeId, NodeStatus},
    config::settings::ClusteringMode,
    events::{self, Note, Step},
    failover::request::{Entry, Source},
};

impl Core {
    /// While something else goes on nothing happens: the health check asks again.
    pub(super) fn quarantine(&mut self, id: NodeId, why: Why, now: Now, out: &mut Vec<Action>) {
        let disallowed = self
            .view
            .node(id)
            .is_none_or(|node| node.flag.disallow_to_failover);
        if !self.started || self.is_busy() || disallowed || !self.view.takes_part(id) {
            return;
        }
        self.say_framed(out, "starting quarantine. shutdown host", id);
        let was_primary = self.view.primary == Some(id);
        let nobody_is_cut = self.view.mode == ClusteringMode::StreamingReplication && !was_primary;
        self.say_restart(out, id, nobody_is_cut.then_some("switching over"));
        if let Some(node) = self.view.nodes.get_mut(id) {
            node.status = NodeStatus::Down;
            node.quarantine = true;
            node.status_changed = now.wall;
        }
        if was_primary {
            self.view.primary = None;
            self.quarantined_primary = Some(id);
        }
        self.view.version += 1;
        out.push(Action::Publish(self.view.clone()));
        let primary = number(self.view.primary);
        say(out, format!("failover: set new primary node: {primary}"));
        self.say_framed(out, "quarantine done. shutdown host", id);
        let note = Note {
            primary: self.view.primary,
            main: self.view.main_node(),
            ..Note::of_node(events::Kind::Quarantine, Step::Began, id)
                .with_cause(why.cause, why.evidence)
                .with_result("the other pgpool nodes have not agreed to a failover")
        };
        tell(None, note, out);
    }

    /// Gives the node back, if it is in quarantine.
    pub(super) fn release(&mut self, id: NodeId, because: &str, now: Now, out: &mut Vec<Action>) {
        let Some(node) = self.view.nodes.get_mut(id).filter(|n| n.quarantine) else {
            return;
        };
        node.status = NodeStatus::Waiting;
        node.quarantine = false;
        node.status_changed = now.wall;
        out.push(Action::Log(Entry::log(
            Source::Main,
            format!(
                "failback request from pid [{}] is changed to update status request because node_id: {id} was quarantined",
                self.settings.pid
            ),
        )));
        if self.quarantined_primary == Some(id) {
            self.quarantined_primary = None;
            // A failover may have made another one the primary meanwhile.
            if self.view.primary.is_none() && self.operation.is_none() {
                self.view.primary = Some(id);
                say(
                    out,
                    "failover: failing back the quarantine node that was primary before it was quarantined",
                );
            }
        }
        self.view.version += 1;
        self.is_attached_now(id);
        out.push(Action::Publish(self.view.clone()));
        let note = Note {
            primary: self.view.primary,
            main: self.view.main_node(),
            ..Note::of_node(events::Kind::Quarantine, Step::Ended, id).with_result(because)
        };
        tell(None, note, out);
    }

    pub(super) fn release_all(&mut self, now: Now, out: &mut Vec<Action>) {
        for id in 0..self.view.nodes.len() {
            self.release(
                id,
                "over: the pgpool nodes have their quorum again",
                now,
                out,
            );
        }
    }

    /// What was seen of the node before says nothing any more.
    pub(super) fn is_attached_now(&mut self, id: NodeId) {
        if self.attached.len() <= id {
            self.attached.resize(id + 1, 0);
        }
        if let Some(at) = self.attached.get_mut(id) {
            *at = self.view.version;
        }
    }
}
