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
//!
//! An answer that acknowledges a write needs more than a lease that lasts: between a cut of the network and the
//! end of the lease the primary takes writes that no standby of it gets. So such an answer is handed on when
//! it is *covered*: a majority of the watchdog nodes has answered a question that was sent after the server had
//! answered. Whoever waits for that makes the watchdog ask at once; many share one question.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    task::Waker,
    time::Instant,
};

use tokio::sync::Notify;

use super::clock;

/// As the watchdog's core has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// No lease is kept: there is no watchdog, or there are stock nodes.
    Unlimited,
    /// In the time of [`clock::now`].
    Until {
        until: Instant,
        /// When the last question was sent that a majority has answered, or a moment before that.
        heard: Instant,
    },
    Held,
}

/// One per process. Its writer is the watchdog's shell.
#[derive(Debug)]
pub struct WriteLease {
    /// Nanoseconds since the machine's start until which may be written.
    until: AtomicU64,
    term: AtomicU64,
    /// Likewise, when a majority was asked that has answered.
    heard: AtomicU64,
    /// Of sessions with an answer that is not covered.
    waiting: Mutex<Vec<Waker>>,
    /// Somebody waits for a question that nobody has sent yet.
    wish: AtomicBool,
    wishes: Notify,
}

const HELD: u64 = 0;
const UNLIMITED: u64 = u64::MAX;

impl Default for WriteLease {
    fn default() -> WriteLease {
        WriteLease {
            until: AtomicU64::new(UNLIMITED),
            term: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            waiting: Mutex::default(),
            wish: AtomicBool::new(false),
            wishes: Notify::new(),
        }
    }
}

impl WriteLease {
    /// What counts from now on; the present view of the cluster must have been published before.
    ///
    /// True: writes were held, and the sessions that wait have to be told (see
    /// [`crate::dataplane::Handle::serving_again`]).
    pub fn set(&self, serving: Serving) -> bool {
        let mut heard_more = false;
        let until = match serving {
            Serving::Unlimited => UNLIMITED,
            Serving::Until { until, heard } => {
                let heard = clock::since_boot(heard);
                heard_more = self.heard.swap(heard, Relaxed) != heard;
                clock::since_boot(until)
            }
            Serving::Held => HELD,
        };
        let goes_on = !is_open(self.until.load(Relaxed)) && is_open(until);
        if goes_on {
            self.term.fetch_add(1, Release);
        }
        // Behind the term: who sees this sees that.
        self.until.store(until, Release);
        // Whoever is woken for nothing wishes anew, and that wish comes back here: it would never end.
        if heard_more || goes_on || until == UNLIMITED {
            for waker in self.waiting().drain(..) {
                waker.wake();
            }
        }
        goes_on
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The moment at which an answer was read, for [`WriteLease::covers`]. `None`: no lease is kept, and nothing
    /// has to be covered.
    pub fn read_at(&self) -> Option<u64> {
        self.is_limited().then(clock::now_since_boot)
    }

    /// A lease is kept.
    pub fn is_limited(&self) -> bool {
        self.until.load(Relaxed) != UNLIMITED
    }

    /// Has a majority been heard of since then, and does the lease last?
    pub fn covers(&self, read_at: u64, term: u64) -> bool {
        self.allows(term) && (!self.is_limited() || self.heard.load(Relaxed) >= read_at)
    }

    /// Wakes when that may have changed, and has a majority asked. Look again after the call.
    pub fn wait_for_cover(&self, waker: &Waker) {
        let mut waiting = self.waiting();
        // A session may look often.
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        drop(waiting);
        if !self.wish.swap(true, AcqRel) {
            self.wishes.notify_one();
        }
    }

    /// Resolves when [`crate::watchdog::core::Event::Cover`] is due. For the watchdog's shell alone.
    pub async fn wanted(&self) {
        while !self.wish.swap(false, AcqRel) {
            self.wishes.notified().await;
        }
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

    fn lasts(time: Duration) -> Serving {
        let now = clock::now();
        Serving::Until {
            until: now + time,
            heard: now,
        }
    }

    fn soon() -> Serving {
        lasts(Duration::from_secs(5))
    }

    #[test]
    fn an_answer_is_covered_by_a_question_that_was_sent_behind_it() {
        let lease = WriteLease::default();
        assert_eq!(lease.read_at(), None, "without a lease nothing has to be");
        lease.set(soon());
        let read_at = lease.read_at().expect("a lease");
        assert!(!lease.covers(read_at, 0));
        lease.set(soon());
        assert!(lease.covers(read_at, 0));
        lease.set(Serving::Held);
        assert!(!lease.covers(read_at, 0));
        lease.set(Serving::Unlimited);
        assert!(lease.covers(read_at, lease.term()));
    }

    #[tokio::test]
    async fn who_waits_has_a_majority_asked_once_and_is_woken() {
        let lease = WriteLease::default();
        lease.set(soon());
        let mut woken = 0;
        let read_at = lease.read_at().expect("a lease");
        let work = std::future::poll_fn(|cx| {
            woken += 1;
            if lease.covers(read_at, 0) {
                return std::task::Poll::Ready(());
            }
            lease.wait_for_cover(cx.waker());
            lease.wait_for_cover(cx.waker());
            std::task::Poll::Pending
        });
        let shell = async {
            lease.wanted().await;
            lease.set(soon());
            let again = tokio::time::timeout(Duration::from_millis(20), lease.wanted()).await;
            assert!(again.is_err(), "one wish");
        };
        tokio::join!(work, shell);
        assert_eq!(woken, 2);
    }

    #[derive(Default)]
    struct Woken(AtomicU64);

    impl std::task::Wake for Woken {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// The wish of one that is woken for nothing makes the next one: session and shell would spin.
    #[test]
    fn who_waits_is_not_woken_by_what_brings_nothing() {
        let (lease, woken) = (WriteLease::default(), std::sync::Arc::new(Woken::default()));
        let heard = clock::now();
        let renewed = |seconds| Serving::Until {
            until: heard + Duration::from_secs(seconds),
            heard,
        };
        lease.set(renewed(5));
        lease.wait_for_cover(&std::sync::Arc::clone(&woken).into());
        lease.set(renewed(5));
        lease.set(renewed(6));
        assert_eq!(woken.0.load(Relaxed), 0);
        lease.set(soon());
        assert_eq!(woken.0.load(Relaxed), 1);
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
        lease.set(lasts(Duration::from_millis(30)));
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
        assert!(!lease.set(lasts(Duration::ZERO)), "over already");
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
        lease.set(lasts(Duration::from_millis(5)));
        let before = lease.term();
        std::thread::sleep(Duration::from_millis(10));
        assert!(lease.set(soon()));
        assert!(!lease.allows(before));
    }
}
