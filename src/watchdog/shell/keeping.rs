//! What waits while the memory of the watchdog is being written: what others are told must not rest on something
//! that the next start of this node does not know.
//!
//! A disk that hangs holds that up, and nothing else. Whoever cannot write promises nothing, and nobody waits for
//! it: after the time for which answers are waited for, this node gives its connections up, as if the network
//! were cut, and takes none. So no packets go out later that mean nothing any more, and they need no more
//! memory the longer it takes.
//!
//! That this node goes down does not wait: it has stopped serving, and the others shall not wait for it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::watchdog::{codec::Message, core::Action};

/// Nobody waits longer for an answer ([`crate::watchdog::core`]), and a small file takes that long on no disk
/// that is well.
pub(super) const TOO_LONG: Duration = Duration::from_secs(5);
/// Packets that wait, of some hundred bytes each. More within that time, and somebody floods this node.
const MOST: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// Since when it is being written.
    since: Option<Instant>,
    held_back: VecDeque<Action>,
    cut_off: bool,
}

impl Keeping {
    /// The memory is handed to the disk.
    pub fn begin(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// It is on disk, or cannot be written; then [`Keeping::next`] has what has waited.
    pub fn end(&mut self) {
        self.since = None;
        self.cut_off = false;
    }

    pub fn next(&mut self) -> Option<Action> {
        match self.since {
            Some(_) => None,
            None => self.held_back.pop_front(),
        }
    }

    /// Returned: what is to be done at once.
    pub fn pass(&mut self, action: Action) -> Option<Action> {
        if self.since.is_none() {
            return Some(action);
        }
        match action {
            Action::Log(_) | Action::WakeAt(_) | Action::Serving(_) | Action::Exit { .. } => {
                return Some(action);
            }
            // To give the address up is right at any time, and what was to be taken is not any more.
            Action::DeEscalate => {
                self.held_back
                    .retain(|held| !matches!(held, Action::Escalate));
                return Some(action);
            }
            // There is no connection any more.
            Action::Send { .. } if self.cut_off => {}
            // Rests on nothing that the next start could forget; behind it there is nothing to be said.
            Action::Send {
                message: Message::GoingDown,
                ..
            } => {
                self.held_back
                    .retain(|held| !matches!(held, Action::Send { .. }));
                return Some(action);
            }
            Action::Close { .. } if self.cut_off => return Some(action),
            // The last one says it all, and nothing was done or sent by those before.
            Action::Remember(_) if self.cut_off => {
                self.held_back
                    .retain(|held| !matches!(held, Action::Remember(_)));
                self.held_back.push_front(action);
            }
            _ => self.held_back.push_back(action),
        }
        None
    }

    /// It takes too long: from now on no connection is made or taken. Told once; the caller closes all.
    pub fn cut_off_if_late(&mut self, now: Instant) -> bool {
        let late = self
            .since
            .is_some_and(|since| now.saturating_duration_since(since) >= TOO_LONG);
        if self.cut_off || !(late || self.since.is_some() && self.held_back.len() > MOST) {
            return false;
        }
        self.cut_off = true;
        let last = self.held_back.iter().rev();
        let mut last = last.filter(|held| matches!(held, Action::Remember(_)));
        let memory = last.next().cloned();
        self.held_back.retain(|held| {
            !matches!(
                held,
                Action::Send { .. } | Action::Close { .. } | Action::Remember(_)
            )
        });
        if let Some(memory) = memory {
            self.held_back.push_front(memory);
        }
        true
    }

    pub fn is_cut_off(&self) -> bool {
        self.cut_off
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::core::{Conn, lease::Memory};

    const CONN: Conn = Conn::In(1);

    fn packet(id: u32) -> Action {
        let message = Message::RequestInfo;
        Action::Send {
            conn: CONN,
            id,
            message,
        }
    }

    fn memory(reign: u32) -> Action {
        let mut memory = Memory::default();
        memory.reign.number = reign;
        Action::Remember(memory)
    }

    /// A writer that takes as long as the test wants. Returned: what was done, in order.
    fn act(keeping: &mut Keeping, action: Action, now: Instant, done: &mut Vec<Action>) {
        if matches!(action, Action::Remember(_)) {
            keeping.begin(now);
        }
        done.push(action);
    }

    fn hand_over(keeping: &mut Keeping, actions: &[Action], now: Instant) -> Vec<Action> {
        let mut done = Vec::new();
        for action in actions {
            if let Some(action) = keeping.pass(action.clone()) {
                act(keeping, action, now, &mut done);
            }
        }
        done
    }

    fn written(keeping: &mut Keeping, now: Instant) -> Vec<Action> {
        let mut done = Vec::new();
        keeping.end();
        while let Some(action) = keeping.next() {
            act(keeping, action, now, &mut done);
        }
        done
    }

    #[test]
    fn what_rests_on_the_memory_waits_for_it_and_comes_in_order() {
        let now = Instant::now();
        let mut keeping = Keeping::default();
        let close = Action::Close { conn: CONN };
        let all = [packet(1), memory(1), packet(2), memory(2), packet(3), close];
        let done = hand_over(&mut keeping, &all, now);
        assert_eq!(done, all[..2]);
        assert!(!keeping.cut_off_if_late(now + TOO_LONG / 2));
        assert_eq!(written(&mut keeping, now), all[2..4]);
        assert_eq!(written(&mut keeping, now), all[4..]);
        assert_eq!(hand_over(&mut keeping, &[packet(4)], now), [packet(4)]);
    }

    #[test]
    fn the_address_is_given_up_at_once_and_not_taken_later() {
        let now = Instant::now();
        let mut keeping = Keeping::default();
        let all = [memory(1), Action::Escalate, Action::DeEscalate];
        let done = hand_over(&mut keeping, &all, now);
        assert_eq!(done, [memory(1), Action::DeEscalate]);
        assert_eq!(written(&mut keeping, now), []);
    }

    #[test]
    fn that_this_node_goes_down_is_said_at_once_and_nothing_behind_it() {
        let now = Instant::now();
        let goes = |number| Action::Send {
            conn: Conn::In(number),
            id: 9,
            message: Message::GoingDown,
        };
        let close = Action::Close { conn: CONN };
        let last = [goes(1), goes(2), Action::DeEscalate, close.clone()];
        let mut keeping = Keeping::default();
        hand_over(&mut keeping, &[memory(1), packet(1), memory(2)], now);
        assert_eq!(hand_over(&mut keeping, &last, now), last[..3]);
        assert_eq!(written(&mut keeping, now), [memory(2)]);
        assert_eq!(written(&mut keeping, now), [close]);

        // By then the connections have been closed.
        let mut keeping = Keeping::default();
        hand_over(&mut keeping, &[memory(1)], now);
        assert!(keeping.cut_off_if_late(now + TOO_LONG));
        assert_eq!(hand_over(&mut keeping, &[goes(1)], now), []);
        assert_eq!(written(&mut keeping, now), []);
    }

    #[test]
    fn a_disk_that_hangs_costs_the_connections_and_no_memory() {
        let began = Instant::now();
        let mut keeping = Keeping::default();
        let connect = Action::Connect {
            conn: CONN,
            peer: 0,
        };
        hand_over(
            &mut keeping,
            &[memory(1), memory(2), connect.clone()],
            began,
        );
        let mut told = 0;
        for second in 0..3600 {
            let now = began + Duration::from_secs(second);
            for id in 0..20 {
                assert_eq!(hand_over(&mut keeping, &[packet(id)], now), []);
            }
            hand_over(&mut keeping, &[memory(3)], now);
            if keeping.cut_off_if_late(now) {
                told += 1;
                assert_eq!(now - began, TOO_LONG);
            }
            assert_eq!(keeping.is_cut_off(), second >= 5);
            assert!(keeping.held_back.len() <= 200, "{second}");
        }
        assert_eq!((told, keeping.held_back.len()), (1, 2));
        // A connection that has ended since needs no order.
        let close = Action::Close { conn: CONN };
        assert_eq!(
            hand_over(&mut keeping, std::slice::from_ref(&close), began),
            [close]
        );
        assert_eq!(written(&mut keeping, began), [memory(3)]);
        assert_eq!(written(&mut keeping, began), [connect]);
        assert!(!keeping.is_cut_off());
        assert_eq!(hand_over(&mut keeping, &[packet(4)], began), [packet(4)]);
    }

    #[test]
    fn a_flood_meanwhile_ends_sooner() {
        let now = Instant::now();
        let mut keeping = Keeping::default();
        hand_over(&mut keeping, &[memory(1)], now);
        for id in 0..4096 {
            hand_over(&mut keeping, &[packet(id)], now);
            assert!(!keeping.cut_off_if_late(now));
        }
        hand_over(&mut keeping, &[packet(0)], now);
        assert!(keeping.cut_off_if_late(now));
        assert_eq!(keeping.held_back.len(), 0);
    }
}
