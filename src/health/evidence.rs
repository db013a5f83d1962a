//! What speaks against a node, in words for the history of events.

use std::time::Instant;

use super::core::{Event, Outcome};

/// Collects what one health check sees.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Why it looked at once, if it did.
    look: String,
    failures: u32,
    since: Option<Instant>,
    last: String,
}

impl Evidence {
    /// `said`: what the probe of the event says of a failure.
    pub fn note(&mut self, event: &Event, said: &str, now: Instant) {
        match event {
            Event::Look(cause) => self.look = cause.in_words(),
            Event::Attached => *self = Evidence::default(),
            Event::Probed { outcome, .. } => match outcome {
                Outcome::Up | Outcome::Alive { .. } | Outcome::Unknown { .. } => {
                    *self = Evidence::default();
                }
                Outcome::Refused | Outcome::NotAccepting | Outcome::NoAnswer { .. } => {
                    self.failures += 1;
                    self.since.get_or_insert(now);
                    self.last = said.to_owned();
                }
            },
            Event::Timer | Event::Changed(_) => {}
        }
    }

    /// All of it, which is forgotten then: the next report has evidence of its own.
    pub fn take(&mut self, now: Instant) -> String {
        let Evidence {
            look,
            failures,
            since,
            last,
        } = std::mem::take(self);
        let seconds = since.map_or(0, |since| now.saturating_duration_since(since).as_secs());
        let attempts = match failures {
            1 => format!("1 attempt failed: {last}"),
            n => format!("{n} attempts failed within {seconds} s, the last: {last}"),
        };
        if look.is_empty() {
            attempts
        } else {
            format!("{look}; then {attempts}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::health::core::Cause;

    fn probed(outcome: Outcome) -> Event {
        Event::Probed { probe: 1, outcome }
    }

    #[test]
    fn attempts_are_counted_from_the_first_that_failed() {
        let (mut evidence, now) = (Evidence::default(), Instant::now());
        evidence.note(&probed(Outcome::Refused), "refused", now);
        evidence.note(&probed(Outcome::Up), "", now);
        for (after, said) in [(1, "refused"), (5, "timed out")] {
            let at = now + Duration::from_secs(after);
            evidence.note(&probed(Outcome::Refused), said, at);
        }
        assert_eq!(
            evidence.take(now + Duration::from_secs(6)),
            "2 attempts failed within 5 s, the last: timed out"
        );
    }

    #[test]
    fn a_look_tells_who_wanted_it() {
        let (mut evidence, now) = (Evidence::default(), Instant::now());
        let reason = "connection refused".to_owned();
        evidence.note(&Event::Look(Cause::Error { reason }), "", now);
        evidence.note(&probed(Outcome::Refused), "host0(11002): refused", now);
        assert_eq!(
            evidence.take(now),
            "a session reported: connection refused; then 1 attempt failed: host0(11002): refused"
        );
    }
}
