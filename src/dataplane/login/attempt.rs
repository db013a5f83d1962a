//! One login as the throttle sees it, and the delay of the answer to a failed one.

use std::{
    net::IpAddr,
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    auth::throttle::{Source, Throttle},
    dataplane::{Plane, front::Client, worker::Worker},
    observe::Severity,
};

/// A login that is being judged. Dropped without a verdict, nothing was guessed.
pub struct Attempt {
    plane: Arc<Plane>,
    source: Source,
    user: String,
    /// False with `auth_failure_delay_max = 0`.
    counts: bool,
    /// It has had its turn, so the throttle wants to know how it ends.
    admitted: bool,
}

impl Attempt {
    /// A login that has not told a password.
    pub fn new(worker: &Worker, address: Option<IpAddr>, user: &str) -> Attempt {
        Attempt {
            plane: worker.plane.clone(),
            source: Source::of(address),
            user: user.to_owned(),
            counts: !limit(worker).is_zero(),
            admitted: false,
        }
    }

    /// To be called before a password is judged. Waits while too many failed logins of the client's
    /// address are held back.
    pub async fn wait_for_turn(&mut self) {
        while self.counts && !self.admitted {
            let begun = self
                .throttle()
                .begin(self.source, &self.user, Instant::now());
            match begun {
                Ok(()) => self.admitted = true,
                Err(until) => tokio::time::sleep_until(until.into()).await,
            }
        }
    }

    pub fn succeeded(mut self) {
        if std::mem::take(&mut self.admitted) {
            self.throttle()
                .succeeded(self.source, &self.user, Instant::now());
        }
    }

    /// Gives the time for which the answer is to be held back.
    pub fn failed(mut self, worker: &Worker, client: &Client) -> Duration {
        self.plane.auth_query.login_failed(&self.user);
        if !self.counts {
            return Duration::ZERO;
        }
        let was_admitted = std::mem::take(&mut self.admitted);
        let held = {
            let (mut throttle, now) = (self.throttle(), Instant::now());
            // Refused before it told a password: by a server that knows no such role.
            if !was_admitted {
                throttle.begin_without_password(self.source, now);
            }
            throttle.failed(self.source, &self.user, now, limit(worker))
        };
        if is_worth_a_word(held.failures) {
            client.reporter.emit(
                Severity::Warning,
                format_args!(
                    "{} failed logins from {}",
                    held.failures,
                    client.peer.host_or_local()
                ),
                &format!(
                    "the last one as user \"{}\"; the answer is held back for {} ms",
                    self.user,
                    held.delay.as_millis()
                ),
                "Somebody guesses passwords, or an application has an old one. auth_failure_delay_max \
                 sets the longest delay.",
            );
        }
        held.delay
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.plane
            .throttle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.admitted {
            self.throttle().gave_up(self.source, Instant::now());
        }
    }
}

/// Waits before a client gets its bad news. Ends when the client does, or the process.
pub async fn hold_back(worker: &Worker, client: &mut Client, delay: Duration) {
    if delay.is_zero() {
        return;
    }
    let mut shutdown = worker.plane.shutdown.subscribe();
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        () = client.stream.closed() => {}
        _ = shutdown.wait_for(Option::is_some) => {}
    }
}

fn limit(worker: &Worker) -> Duration {
    let config = worker.shared.config.load();
    config.settings.own.auth_failure_delay_max
}

/// 10, 100, 1000 and so on: an attack must not fill the log.
fn is_worth_a_word(failures: u32) -> bool {
    failures >= 10 && 10_u32.checked_pow(failures.ilog10()) == Some(failures)
}
