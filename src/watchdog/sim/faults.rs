//! What goes wrong, and how it is repaired.

use std::{cmp::Reverse, time::Duration};

use super::{Due, Input, World};
use crate::{
    cluster::NodeId,
    watchdog::{
        codec::function::{FailoverKind, Flags},
        core::Event,
    },
};

#[derive(Clone, Debug)]
pub(super) enum Repair {
    Uncut(Vec<(usize, usize)>),
    PowerOn(usize),
    Resume(usize),
    See { node: usize, backend: usize },
    Attach { backend: usize },
    Alive { node: usize, peer: usize },
}

impl World {
    pub(super) fn fault(&mut self) {
        if self.healing {
            return;
        }
        let count = self.nodes.len();
        let node = self.random.node(count);
        let backend = self.random.node(self.backends.len());
        match self.random.below(18) {
            0 | 1 => {
                self.note(|| format!("{node} is killed"));
                self.end_process(node);
                let after = self.random.millis(200, 40_000);
                self.due(after, Due::Restart { node });
            }
            2 => {
                self.power_off(node);
                let after = self.random.millis(5_000, 45_000);
                self.due(after, Due::Repair(Repair::PowerOn(node)));
            }
            3..=5 => {
                let side: Vec<bool> = (0..count).map(|_| self.random.chance(50)).collect();
                self.divide(&side, true);
            }
            6 | 7 => {
                let side: Vec<bool> = (0..count).map(|n| n == node).collect();
                let both = self.random.chance(60);
                self.divide(&side, both);
            }
            8 => {
                let side: Vec<bool> = (0..count).map(|_| self.random.chance(50)).collect();
                self.divide(&side, false);
            }
            9 => {
                self.suspend(node, true);
                let after = self.random.millis(500, 45_000);
                self.due(after, Due::Repair(Repair::Resume(node)));
            }
            10 => {
                let jump = i64::try_from(self.random.below(4_000)).unwrap_or(0) - 2_000;
                self.note(|| format!("clock of {node} jumps by {jump} s"));
                self.nodes[node].wall_offset = jump;
            }
            11 | 12 => {
                self.note(|| format!("backend {backend} dies"));
                self.backends[backend] = false;
                if self.random.chance(50) {
                    let after = self.random.millis(10_000, 45_000);
                    self.due(after, Due::Repair(Repair::Attach { backend }));
                }
            }
            13 => {
                self.note(|| format!("{node} cannot see backend {backend}"));
                self.blind[node][backend] += 1;
                let after = self.random.millis(3_000, 45_000);
                self.due(after, Due::Repair(Repair::See { node, backend }));
            }
            14 => {
                self.stop(node);
                let after = self.random.millis(500, 30_000);
                self.due(after, Due::Restart { node });
            }
            15 => {
                let peer = self.random.node(count - 1);
                self.note(|| format!("{node} is told that peer {peer} is dead"));
                let event = Event::Lifecheck { peer, alive: false };
                self.input(node, Input::Core(event));
                let after = self.random.millis(100, 10_000);
                self.due(after, Due::Repair(Repair::Alive { node, peer }));
            }
            16 => self.detach(node, backend),
            _ => self.reset_some_link(),
        }
    }

    /// The operator detaches a backend that may well be alive, at some node, and attaches it again later.
    fn detach(&mut self, node: usize, backend: NodeId) {
        let record = &self.nodes[node];
        if !record.up || record.suspended || record.backends.nodes[backend].down {
            return;
        }
        self.note(|| format!("the operator detaches backend {backend} at {node}"));
        self.found_down[backend] = self.time;
        let flags = Flags::SWITCHOVER.with(Flags::CONFIRMED);
        self.ask(node, FailoverKind::Degenerate, flags, backend, 0);
        let after = self.random.millis(5_000, 45_000);
        self.due(after, Due::Repair(Repair::Attach { backend }));
    }

    /// Cuts one side from the other, or only the way from the first to the second.
    fn divide(&mut self, side: &[bool], both: bool) {
        let mut cuts = Vec::new();
        for from in 0..side.len() {
            for to in 0..side.len() {
                if side[from] != side[to] && (both || side[from]) {
                    cuts.push((from, to));
                }
            }
        }
        self.note(|| format!("cut {cuts:?}"));
        for (from, to) in &cuts {
            self.set_cut(*from, *to, true);
        }
        let after = match self.random.below(10) {
            0..=2 => self.random.millis(100, 5_000),
            3..=8 => self.random.millis(5_000, 50_000),
            _ => self.random.millis(50_000, 150_000),
        };
        self.longest_cut = self.longest_cut.max(after);
        self.due(after, Due::Repair(Repair::Uncut(cuts)));
    }

    pub(super) fn repair(&mut self, repair: &Repair) {
        self.note(|| format!("repair {repair:?}"));
        match repair {
            Repair::Uncut(cuts) => {
                for (from, to) in cuts {
                    self.set_cut(*from, *to, false);
                }
            }
            Repair::PowerOn(node) => self.power_on(*node),
            Repair::Resume(node) => self.suspend(*node, false),
            Repair::See { node, backend } => self.blind[*node][*backend] -= 1,
            Repair::Attach { backend } => {
                self.backends[*backend] = true;
                // The operator attaches it at some node.
                let node = self.random.node(self.nodes.len());
                if self.nodes[node].up && !self.nodes[node].suspended {
                    self.ask(node, FailoverKind::Failback, Flags::CONFIRMED, *backend, 0);
                }
            }
            Repair::Alive { node, peer } => {
                let event = Event::Lifecheck {
                    peer: *peer,
                    alive: true,
                };
                self.input(*node, Input::Core(event));
            }
        }
    }

    /// A process finds that the other end of its connection has forgotten it.
    pub(super) fn half_open(&mut self, link: usize, end: usize) {
        let [other, own] = [1 - end, end].map(|end| self.links[link].ends[end].node);
        if !self.is_cut(other, own) {
            self.forget_end(link, end);
        }
    }

    /// No new faults; those that are there are repaired when their time comes. Then everything must be well,
    /// and stay so.
    pub(super) fn heal(&mut self) {
        self.healing = true;
        self.note(|| "no new faults".to_owned());
        while self.has_repairs() {
            self.run_until(self.time + Duration::from_secs(5));
        }
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        // The longest way back: dead time, the end of old connections, elections that fail.
        let patience = self.time + self.deadtime + Duration::from_secs(60);
        let mut well = 0;
        while well < 2 && self.time < patience {
            self.run_until(self.time + Duration::from_secs(5));
            well = if self.what_is_wrong().is_none() {
                well + 1
            } else {
                0
            };
        }
        assert_eq!(self.what_is_wrong(), None, "long after the last repair");
    }

    fn has_repairs(&self) -> bool {
        let mut all = self.queue.iter();
        all.any(|Reverse(entry)| matches!(entry.due, Due::Repair(_) | Due::Restart { .. }))
    }
}
