//! The clock of the watchdog: time for which the machine was suspended counts.
//!
//! The standard library's clock stands still meanwhile. A node that goes by it would take a lease for
//! valid that the others have long waited out.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use crate::sys::clock;

/// Where the standard library's clock and the kernel's stood at the first look.
static BASE: OnceLock<(Instant, Duration)> = OnceLock::new();

fn base() -> (Instant, Duration) {
    *BASE.get_or_init(|| (Instant::now(), clock::since_boot()))
}

/// The present for the cores of the watchdog. Differences of such moments are right, and so is their
/// order; they are no moments of timers, which need the difference to [`now`].
pub fn now() -> Instant {
    let (instant, boot) = base();
    instant + clock::since_boot().saturating_sub(boot)
}

/// A moment of [`now`] as nanoseconds since the machine's start.
pub(super) fn since_boot(moment: Instant) -> u64 {
    let (instant, boot) = base();
    let at = boot + moment.saturating_duration_since(instant);
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}

/// The present as [`since_boot`] has it.
pub(super) fn now_since_boot() -> u64 {
    u64::try_from(clock::since_boot().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_count_agree() {
        let before = now_since_boot();
        let moment = since_boot(now());
        assert!(before <= moment && moment <= now_since_boot());
        let later = since_boot(now() + Duration::from_secs(10));
        assert!(later >= moment + 10_000_000_000);
    }
}
