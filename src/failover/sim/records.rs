//! The history of events in a history: each operation begins and ends once, and hooks belong to one.

use super::*;
use crate::{
    events::{Kind, Step},
    failover::core::Told,
};

impl World {
    pub(super) fn recorded(&mut self, told: Told) {
        let Told { operation, note } = told;
        self.note(|| format!("event: {note:?}"));
        let Some(number) = operation else {
            assert!(
                matches!(note.step, Step::Refused | Step::Waits | Step::Dropped),
                "{note:?}"
            );
            return;
        };
        match note.step {
            Step::Began => {
                let beside = self
                    .open
                    .values()
                    .any(|kind| (*kind == Kind::Follow) == (note.kind == Kind::Follow));
                assert!(!beside, "one of its kind at a time: {note:?}");
                self.open.insert(number, note.kind);
            }
            Step::Hook => {
                let open = self.open.get(&number);
                // Of a switchover the hook is that of a failover.
                let fits = open.is_some_and(|kind| {
                    *kind == note.kind || (*kind, note.kind) == (Kind::Switchover, Kind::Failover)
                });
                assert!(fits, "{note:?} within {open:?}");
            }
            Step::Ended => {
                assert_eq!(self.open.remove(&number), Some(note.kind), "{note:?}");
                let known = note.kind == Kind::Follow || !note.rule.is_empty();
                let given_up = note.result.starts_with("given up");
                assert!(known || given_up, "why this primary: {note:?}");
            }
            other => panic!("{other:?} in an operation"),
        }
    }

    pub(super) fn check_records(&self) {
        for kind in self.open.values() {
            let goes_on = match kind {
                Kind::Follow => self.core.is_following(),
                _ => self.core.is_busy(),
            };
            assert!(goes_on, "{kind:?} has no end");
        }
    }
}
