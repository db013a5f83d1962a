//! Is a heartbeat newer than the last? By the clock of its sender, which may be set back.
//!
//! The original compares with the newest ever seen, so a node whose clock is set back looks dead until
//! its clock has caught up. Here two older ones in a row that rise among themselves are a new clock. A
//! datagram that was delayed or sent again by the network is one older one. Whoever sends recorded ones again
//! sends what was accepted once, to the microsecond, which no clock that was set back does.

use std::collections::{HashSet, VecDeque};

/// Accepted ones that are known again: some hours of them.
const KEPT: usize = 8192;

type Stamp = (u32, u32);

#[derive(Debug, Default)]
pub(super) struct SenderClock {
    newest: Option<Stamp>,
    /// An older one that may be the first of a clock that was set back.
    candidate: Option<Stamp>,
    known: HashSet<Stamp>,
    in_order: VecDeque<Stamp>,
}

impl SenderClock {
    pub fn accepts(&mut self, sent: Stamp) -> bool {
        if self.known.contains(&sent) {
            return false;
        }
        let is_newer = self.newest.is_none_or(|newest| sent > newest);
        let was_set_back = self.candidate.is_some_and(|candidate| sent > candidate);
        if is_newer || was_set_back {
            self.newest = Some(sent);
            self.candidate = None;
            self.keep(sent);
            return true;
        }
        self.candidate = Some(sent);
        false
    }

    fn keep(&mut self, sent: Stamp) {
        if self.in_order.len() >= KEPT
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(sent);
        self.in_order.push_back(sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_and_doubled_ones_do_not_count() {
        let mut clock = SenderClock::default();
        assert!(clock.accepts((10, 0)));
        assert!(!clock.accepts((10, 0)));
        assert!(!clock.accepts((8, 0)));
        assert!(!clock.accepts((8, 0)));
        assert!(clock.accepts((10, 1)));
    }

    #[test]
    fn a_clock_that_was_set_back_counts_from_the_second_heartbeat_on() {
        let mut clock = SenderClock::default();
        assert!(clock.accepts((1000, 0)));
        assert!(!clock.accepts((10, 0)));
        assert!(clock.accepts((12, 0)));
        assert!(clock.accepts((14, 0)));
    }

    #[test]
    fn recorded_ones_that_are_sent_again_keep_nobody_alive() {
        let mut clock = SenderClock::default();
        for second in 0..3000 {
            assert!(clock.accepts((second, 7)));
        }
        for second in 0..3000 {
            assert!(!clock.accepts((second, 7)), "{second}");
        }
        // Set back into the same time, it has other microseconds.
        assert!(!clock.accepts((100, 8)));
        assert!(clock.accepts((102, 8)));
    }

    #[test]
    fn what_is_kept_has_an_end() {
        let mut clock = SenderClock::default();
        for second in 0..u32::try_from(KEPT).unwrap() + 100 {
            assert!(clock.accepts((second, 0)));
        }
        assert_eq!((clock.known.len(), clock.in_order.len()), (KEPT, KEPT));
    }
}
