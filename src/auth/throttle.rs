//! Guessing passwords is made slow, without making anybody else slow.
//!
//! Only the answer to a failed login is delayed; a good one is answered at once, also from the same
//! address. The delay grows with the failures of a user from an address, and goes away with a success
//! of that user; many failures of an address with changing users count, too, and a success does not
//! clear those. A client that does not wait for its answer gains little: while many answers of an
//! address are held back, its further attempts have to wait before they are judged, unless that
//! user has got in from there before. Logins without a password do not wait.
//!
//! Knows no clock: `now` goes in. Everything is bounded; the oldest is forgotten first.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    time::{Duration, Instant},
};

/// Failures of a user from an address that cost nothing: people mistype.
const FREE: u32 = 3;
/// Failures of an address, whatever the users, that cost nothing.
const FREE_OF_ADDRESS: u32 = 20;
/// The first delay; each further failure doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// Without a failure for so long, all is forgotten.
const WINDOW: Duration = Duration::from_secs(60);
/// Attempts of an address that may be under way or held back when it has failed often.
const AT_ONCE: usize = 16;
/// How long a success of a user makes its address a known one.
const KNOWN_FOR: Duration = Duration::from_secs(24 * 3600);
/// Entries of each table.
const MAX: usize = 10_000;

/// Whose failures are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A unix socket.
    Local,
    Address(IpAddr),
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Throttle {
    hasher: RandomState,
    users: HashMap<(Source, u64), User>,
    sources: HashMap<Source, Attempts>,
}

/// What a failure costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub delay: Duration,
    /// Failures of the address lately.
    pub failures: u32,
}

/// A user from an address.
#[derive(Clone, Copy, Debug)]
struct User {
    failures: u32,
    success: Option<Instant>,
    last: Instant,
}

#[derive(Debug)]
struct Attempts {
    failures: u32,
    last: Instant,
    /// Attempts that are being judged.
    running: usize,
    /// When the answers that are held back will be given.
    held: VecDeque<Instant>,
}

impl Source {
    /// `None` is a unix socket. An IPv6 customer has a /64, and is one source.
    pub fn of(address: Option<IpAddr>) -> Source {
        match address {
            None => Source::Local,
            Some(IpAddr::V6(ip)) => {
                let network = ip.to_bits() & (u128::MAX << 64);
                Source::Address(IpAddr::V6(network.into()))
            }
            Some(ip) => Source::Address(ip),
        }
    }
}

impl Throttle {
    /// Whether an attempt may be judged now; if not, when to ask again. One that may must be followed
    /// by [`Throttle::failed`], [`Throttle::succeeded`] or [`Throttle::gave_up`].
    ///
    /// # Errors
    ///
    /// The time to wait for.
    pub fn begin(&mut self, source: Source, user: &str, now: Instant) -> Result<(), Instant> {
        let known = self
            .users
            .get(&(source, self.number(user)))
            .is_some_and(|u| {
                u.success
                    .is_some_and(|at| now.saturating_duration_since(at) < KNOWN_FOR)
            });
        let attempts = self.attempts(source, now);
        attempts.held.retain(|&until| until > now);
        if !known
            && attempts.failures > FREE_OF_ADDRESS
            && attempts.running + attempts.held.len() >= AT_ONCE
        {
            let next = attempts.held.iter().min().copied();
            return Err(next.unwrap_or(now + FIRST_DELAY));
        }
        attempts.running += 1;
        Ok(())
    }

    /// An attempt that has told no password: it need not wait. Otherwise as [`Throttle::begin`].
    pub fn begin_without_password(&mut self, source: Source, now: Instant) {
        self.attempts(source, now).running += 1;
    }

    /// The answer is to be held back, at most for `limit`.
    pub fn failed(&mut self, source: Source, user: &str, now: Instant, limit: Duration) -> Held {
        let number = self.number(user);
        make_room(&mut self.users, |u| u.last);
        let of_user = self.users.entry((source, number)).or_insert(User {
            failures: 0,
            success: None,
            last: now,
        });
        if now.saturating_duration_since(of_user.last) >= WINDOW {
            of_user.failures = 0;
        }
        of_user.failures = of_user.failures.saturating_add(1);
        of_user.last = now;
        let mut delay = delay_after(of_user.failures, FREE, limit);
        let attempts = self.attempts(source, now);
        attempts.running = attempts.running.saturating_sub(1);
        attempts.failures = attempts.failures.saturating_add(1);
        attempts.last = now;
        delay = delay.max(delay_after(attempts.failures, FREE_OF_ADDRESS, limit));
        if !delay.is_zero() {
            if attempts.held.len() >= MAX {
                attempts.held.pop_front();
            }
            attempts.held.push_back(now + delay);
        }
        Held {
            delay,
            failures: attempts.failures,
        }
    }

    pub fn succeeded(&mut self, source: Source, user: &str, now: Instant) {
        self.gave_up(source, now);
        let number = self.number(user);
        make_room(&mut self.users, |u| u.last);
        self.users.insert(
            (source, number),
            User {
                failures: 0,
                success: Some(now),
                last: now,
            },
        );
    }

    /// The client has gone, or failed for a reason of ours: nothing was guessed.
    pub fn gave_up(&mut self, source: Source, now: Instant) {
        let attempts = self.attempts(source, now);
        attempts.running = attempts.running.saturating_sub(1);
    }

    fn attempts(&mut self, source: Source, now: Instant) -> &mut Attempts {
        make_room(&mut self.sources, |a| a.last);
        let attempts = self.sources.entry(source).or_insert(Attempts {
            failures: 0,
            last: now,
            running: 0,
            held: VecDeque::new(),
        });
        if now.saturating_duration_since(attempts.last) >= WINDOW {
            attempts.failures = 0;
        }
        attempts
    }

    /// User names may be long, and are not ours to keep.
    fn number(&self, user: &str) -> u64 {
        self.hasher.hash_one(user)
    }
}

/// 0 for the `free` first, then doubling.
fn delay_after(failures: u32, free: u32, limit: Duration) -> Duration {
    match failures.checked_sub(free + 1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_DELAY
            .saturating_mul(1 << doublings.min(20))
            .min(limit),
    }
}

/// Forgets the older half of a full table.
fn make_room<K: Copy + Eq + std::hash::Hash, V>(
    table: &mut HashMap<K, V>,
    last: impl Fn(&V) -> Instant,
) {
    if table.len() < MAX {
        return;
    }
    let mut times: Vec<Instant> = table.values().map(&last).collect();
    let (_, &mut middle, _) = times.select_nth_unstable(MAX / 2);
    table.retain(|_, v| last(v) > middle);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn address(text: &str) -> Source {
        Source::of(Some(text.parse().unwrap()))
    }

    fn fail(throttle: &mut Throttle, source: Source, user: &str, now: Instant) -> Duration {
        throttle.begin(source, user, now).unwrap();
        throttle.failed(source, user, now, LIMIT).delay
    }

    fn millis(delays: &[Duration]) -> Vec<u128> {
        delays.iter().map(Duration::as_millis).collect()
    }

    #[test]
    fn the_first_three_cost_nothing_then_the_delay_doubles_up_to_the_limit() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let delays: Vec<_> = (0..10)
            .map(|_| fail(&mut throttle, address("10.0.0.1"), "u", now))
            .collect();
        assert_eq!(
            millis(&delays),
            [0, 0, 0, 200, 400, 800, 1600, 3200, 5000, 5000]
        );
    }

    #[test]
    fn a_limit_of_zero_switches_it_off() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let source = address("10.0.0.1");
        for _ in 0..1000 {
            throttle.begin(source, "u", now).unwrap();
            assert!(
                throttle
                    .failed(source, "u", now, Duration::ZERO)
                    .delay
                    .is_zero()
            );
        }
    }

    #[test]
    fn a_success_or_a_quiet_minute_clears_a_user() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let source = address("10.0.0.1");
        for _ in 0..5 {
            fail(&mut throttle, source, "u", now);
        }
        throttle.begin(source, "u", now).unwrap();
        throttle.succeeded(source, "u", now);
        assert!(fail(&mut throttle, source, "u", now).is_zero());
        for _ in 0..5 {
            fail(&mut throttle, source, "u", now);
        }
        assert!(fail(&mut throttle, source, "u", now + WINDOW).is_zero());
    }

    #[test]
    fn other_addresses_and_other_users_are_not_touched() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..10 {
            fail(&mut throttle, address("10.0.0.1"), "u", now);
        }
        assert!(fail(&mut throttle, address("10.0.0.2"), "u", now).is_zero());
        assert!(fail(&mut throttle, address("10.0.0.1"), "v", now).is_zero());
        assert!(fail(&mut throttle, Source::Local, "u", now).is_zero());
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_ne!(address("10.0.0.1"), address("10.0.0.2"));
    }

    /// Own successes do not help somebody who tries many users.
    #[test]
    fn changing_users_is_counted_by_the_address() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let source = address("10.0.0.1");
        let mut last = Duration::ZERO;
        for n in 0..30 {
            last = fail(&mut throttle, source, &format!("u{n}"), now);
            throttle.begin(source, "mine", now).unwrap();
            throttle.succeeded(source, "mine", now);
        }
        assert_eq!(last, LIMIT);
    }

    /// Hanging up instead of waiting for the answer does not help either.
    #[test]
    fn many_guesses_at_once_have_to_wait_and_known_users_do_not() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        let source = address("10.0.0.1");
        throttle.begin(source, "app", start).unwrap();
        throttle.succeeded(source, "app", start);

        let mut guesses = 0;
        let mut now = start;
        while now < start + Duration::from_secs(60) {
            if throttle.begin(source, "victim", now).is_ok() {
                throttle.failed(source, "victim", now, LIMIT);
                guesses += 1;
            }
            throttle.begin(source, "app", now).expect("a known user");
            throttle.succeeded(source, "app", now);
            throttle
                .begin(address("10.0.0.2"), "victim", now)
                .expect("another address");
            throttle.gave_up(address("10.0.0.2"), now);
            now += Duration::from_millis(10);
        }
        assert!(guesses < 300, "{guesses} of 6000 in a minute");

        let later = now + LIMIT;
        throttle.begin(source, "victim", later).unwrap();
    }

    #[test]
    fn who_gives_no_password_does_not_wait_behind_those_who_guess() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let source = address("10.0.0.1");
        while throttle.begin(source, "victim", now).is_ok() {
            throttle.failed(source, "victim", now, LIMIT);
        }
        throttle.begin_without_password(source, now);
        throttle.gave_up(source, now);
        assert!(throttle.begin(source, "trusted", now).is_err());
    }

    /// An application server that starts opens all its connections at one time.
    #[test]
    fn many_logins_at_once_are_no_attack_while_they_succeed() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let source = address("10.0.0.1");
        for _ in 0..500 {
            throttle.begin(source, "app", now).unwrap();
        }
        for _ in 0..500 {
            throttle.succeeded(source, "app", now);
        }
    }

    #[test]
    fn memory_is_bounded_and_the_newest_is_kept() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        for n in 0..3 * u32::try_from(MAX).unwrap() {
            let source = Source::Address(IpAddr::V4(n.into()));
            fail(
                &mut throttle,
                source,
                "u",
                start + Duration::from_micros(n.into()),
            );
        }
        assert!(throttle.users.len() <= MAX && throttle.sources.len() <= MAX);
        let last = Source::Address(IpAddr::V4((3 * u32::try_from(MAX).unwrap() - 1).into()));
        assert!(throttle.sources.contains_key(&last));
    }
}
