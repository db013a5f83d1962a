//! Clocks that only run forward.

use std::time::Duration;

/// Microseconds of CLOCK_MONOTONIC, the value of `MONOTONIC_USEC=` in sd_notify(3).
pub fn monotonic_usec() -> u64 {
    u64::try_from(read(libc::CLOCK_MONOTONIC).as_micros()).unwrap_or(u64::MAX)
}

/// Time since the machine's start; time for which it was suspended counts.
pub fn since_boot() -> Duration {
    read(libc::CLOCK_BOOTTIME)
}

/// No system call: the kernel's page in each process answers.
fn read(clock: libc::clockid_t) -> Duration {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec that the call fills in.
    if unsafe { libc::clock_gettime(clock, &raw mut now) } != 0 {
        return Duration::ZERO;
    }
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_was_never_suspended_has_one_time() {
        let monotonic = Duration::from_micros(monotonic_usec());
        let boot = since_boot();
        assert!(boot >= monotonic, "{boot:?} {monotonic:?}");
        assert!(monotonic > Duration::ZERO);
    }
}
