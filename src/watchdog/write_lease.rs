//! What sessions know of the write lease: may anything reach the primary at this moment?
//!
//! The watchdog's shell writes, sessions read, each time before they write to the primary or read from it.
//! Without a lease that is two loads; with one, a look at the clock besides. The moment until which may be
//! written is compared with the clock at the moment of writing, so that nobody has to run for a lease to
//! end: a process that was stopped, or whose machine was suspended, finds it over.
//!
//! When writes go on after a hold, another node may have become the primary meanwhile. A session that has
//! not looked at the cluster since stays where it is: each hold begins a new *term*, and a session passes only
//! with the term that it has looked in. What a session does while it may not pass says
//! [`crate::dataplane::session`].

use std::{
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Instant,
};

use super::clock;

/// As the watchdog's core has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// No lease is kept: there is no watchdog, or there are stock nodes.
    Unlimited,
    /// In the time of [`clock::now`].
    Until(Instant),
    Held,
}

/// One per process. Its writer is the watchdog's shell.
#[derive(Debug)]
pub struct WriteLease {
    /// Nanoseconds since the machine's start until which may be written.
    until: AtomicU64,
    term: AtomicU64,
}

const HELD: u64 = 0;
const UNLIMITED: u64 = u64::MAX;

impl Default for WriteLease {
    fn default() -> WriteLease {
        WriteLease {
            until: AtomicU64::new(UNLIMITED),
            term: AtomicU64::new(0),
        }
    }
}

impl WriteLease {
    /// What counts from now on; the present view of the cluster must have been published before.
    ///
    /// True: writes were held, and the sessions that wait have to be told (see
    /// [`crate::dataplane::Handle::serving_again`]).
    pub fn set(&self, serving: Serving) -> bool {
        let until = match serving {
            Serving::Unlimited => UNLIMITED,
            Serving::Until(moment) => clock::since_boot(moment),
            Serving::Held => HELD,
        };
        let goes_on = !is_open(self.until.load(Relaxed)) && is_open(until);
        if goes_on {
            self.term.fetch_add(1, Release);
        }
        // Behind the term: who sees this sees that.
        self.until.store(until, Release);
        goes_on
    }

    /// To be taken before the view of the cluster is looked at.
    pub fn term(&self) -> u64 {
        self.term.load(Acquire)
    }

    /// May something reach the primary, or come from it to a client, at this moment? For one that has
    /// looked at the cluster in this term.
    pub fn allows(&self, term: u64) -> bool {
        is_open(self.until.load(Acquire)) && self.term.load(Relaxed) == term
    }
}

fn is_open(until: u64) -> bool {
    until == UNLIMITED || (until != HELD && clock::now_since_boot() < until)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Serving {
        Serving::Until(clock::now() + Duration::from_secs(5))
    }

    #[test]
    fn without_a_watchdog_everything_goes_through() {
        let lease = WriteLease::default();
        assert!(lease.allows(lease.term()));
        assert!(!lease.set(Serving::Unlimited));
        assert!(lease.allows(0));
    }

    #[test]
    fn a_lease_ends_by_itself() {
        let lease = WriteLease::default();
        lease.set(Serving::Until(clock::now() + Duration::from_millis(30)));
        assert!(lease.allows(0));
        std::thread::sleep(Duration::from_millis(40));
        assert!(!lease.allows(0));
    }

    #[test]
    fn whoever_waits_is_told_when_writes_go_on_and_not_at_each_renewal() {
        let lease = WriteLease::default();
        assert!(!lease.set(soon()));
        assert!(!lease.set(soon()));
        assert!(!lease.set(Serving::Held));
        assert!(!lease.allows(0));
        assert!(!lease.set(Serving::Until(clock::now())), "over already");
        assert!(lease.set(soon()));
        lease.set(Serving::Held);
        assert!(lease.set(Serving::Unlimited));
    }

    #[test]
    fn who_has_not_looked_at_the_cluster_since_a_hold_does_not_pass() {
        let lease = WriteLease::default();
        let before = lease.term();
        lease.set(soon());
        assert!(lease.allows(before), "there was no hold");
        lease.set(Serving::Held);
        lease.set(soon());
        assert!(!lease.allows(before));
        assert!(lease.allows(lease.term()));
    }

    #[test]
    fn a_renewal_that_comes_too_late_is_a_hold() {
        let lease = WriteLease::default();
        lease.set(Serving::Until(clock::now() + Duration::from_millis(5)));
        let before = lease.term();
        std::thread::sleep(Duration::from_millis(10));
        assert!(lease.set(soon()));
        assert!(!lease.allows(before));
    }
}
