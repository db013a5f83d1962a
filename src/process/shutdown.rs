//! What stop signals mean, also when more than one comes. Decides; the caller acts.
//!
//! The original takes notice of a second stop signal only after the first has been carried out,
//! so a smart shutdown that waits for a client cannot be hurried. Ours can.

use crate::control::StopMode;

#[derive(Debug, Default)]
pub struct Shutdown {
    /// The strongest mode asked for so far.
    mode: Option<StopMode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first signal: stop accepting, and end sessions as the mode says.
    Begin(StopMode),
    /// A later and stronger one: cut the sessions that a smart shutdown waits for.
    Hurry(StopMode),
    /// A later one that asks for nothing new.
    AlreadyInProgress,
}

impl Shutdown {
    pub fn signal(&mut self, mode: StopMode) -> Step {
        match self.mode {
            None => {
                self.mode = Some(mode);
                Step::Begin(mode)
            }
            Some(StopMode::Smart) if mode != StopMode::Smart => {
                self.mode = Some(mode);
                Step::Hurry(mode)
            }
            Some(_) => Step::AlreadyInProgress,
        }
    }
}

/// TERM, INT, QUIT.
pub fn signal_of(mode: StopMode) -> i32 {
    match mode {
        StopMode::Smart => libc::SIGTERM,
        StopMode::Fast => libc::SIGINT,
        StopMode::Immediate => libc::SIGQUIT,
    }
}

#[cfg(test)]
mod tests {
    use super::{StopMode::*, *};

    #[test]
    fn a_smart_shutdown_is_hurried_by_a_fast_one() {
        let mut shutdown = Shutdown::default();
        assert_eq!(shutdown.signal(Smart), Step::Begin(Smart));
        assert_eq!(shutdown.signal(Smart), Step::AlreadyInProgress);
        assert_eq!(shutdown.signal(Fast), Step::Hurry(Fast));
        assert_eq!(shutdown.signal(Fast), Step::AlreadyInProgress);
        assert_eq!(shutdown.signal(Immediate), Step::AlreadyInProgress);
    }

    #[test]
    fn a_fast_shutdown_is_not_slowed_down() {
        let mut shutdown = Shutdown::default();
        assert_eq!(shutdown.signal(Immediate), Step::Begin(Immediate));
        assert_eq!(shutdown.signal(Smart), Step::AlreadyInProgress);
    }
}
