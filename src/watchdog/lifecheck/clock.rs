//! Is a heartbeat newer than the last? By the clock of its sender, which may be set back.
//!
//! The original compares with the newest ever seen, so a node whose clock is set back looks dead until
//! its clock has caught up. Here two older ones in a row that rise among themselves are a new clock. A
//! datagram that was delayed or sent again by the network is one older one.

#[derive(Debug, Default)]
pub(super) struct SenderClock {
    newest: Option<(u32, u32)>,
    /// An older one that may be the first of a clock that was set back.
    candidate: Option<(u32, u32)>,
}

impl SenderClock {
    pub fn accepts(&mut self, sent: (u32, u32)) -> bool {
        let is_newer = self.newest.is_none_or(|newest| sent > newest);
        let was_set_back = self.candidate.is_some_and(|candidate| sent > candidate);
        if is_newer || was_set_back {
            self.newest = Some(sent);
            self.candidate = None;
            return true;
        }
        // The same one again says nothing.
        if self.newest != Some(sent) {
            self.candidate = Some(sent);
        }
        false
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
}
