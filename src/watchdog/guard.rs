//! The guard of the virtual IP: a small process beside pgpool that removes the address when pgpool cannot.
//!
//! A pgpool that is killed or suspended (`kill -9`, `kill -STOP`, a debugger, a crash) runs no `if_down_cmd`, and the
//! others take the address after the dead time. So this process hears from pgpool each second, and gives the
//! address up by the same command when it hears nothing for the dead time, or when pgpool has ended without
//! having done so. It does nothing else, and ends with pgpool.
//!
//! It is this program once more, started with [`NAME`] as its name ([`crate::cli::run`]): so it has neither
//! memory nor descriptors of pgpool's. Its standard input is the line to pgpool: a [`Task`] in a line of
//! JSON, then bytes, [`HERE`] or [`NOT_HERE`], until the end of file.

mod process;
pub(in crate::watchdog) mod removal;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use self::process::run;

/// As `ps` shows it, with the address behind it. Without the word pgpool: whoever kills pgpool by its name
/// must not kill its guard.
pub const NAME: &str = "watchdog address guard";
/// The address may be on this host by what pgpool did.
pub const HERE: u8 = b'+';
/// It was given up, or never asked for.
pub const NOT_HERE: u8 = b'-';
/// Between two looks at the host's addresses while nothing comes.
const LOOK: Duration = Duration::from_secs(1);
/// A dead time that is set to nothing would have the address removed between two bytes.
const SHORTEST_SILENCE: Duration = Duration::from_secs(3);

/// What pgpool tells its guard first.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub ip: String,
    /// `if_down_cmd`, as [`super::vip::Command::Direct`].
    pub program: String,
    pub arguments: Vec<String>,
    pub silence: Duration,
    pub log: Log,
}

/// How the guard writes to the log of pgpool.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    pub line_prefix: String,
    pub to_stderr: bool,
    pub to_syslog: bool,
    pub syslog_facility: String,
    pub syslog_ident: String,
    /// Standard error is a file that pgpool changes for another now and then.
    pub collector: bool,
}

/// Why the address has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Silence,
    End,
}

/// When the address has to go.
#[derive(Debug)]
struct Watch {
    silence: Duration,
    heard: Instant,
    may_be_here: bool,
    ended: bool,
}

impl Watch {
    fn new(silence: Duration, now: Instant) -> Watch {
        Watch {
            silence: silence.max(SHORTEST_SILENCE),
            heard: now,
            may_be_here: false,
            ended: false,
        }
    }

    /// The last byte of what has come says how it is now. Nothing at all is the end.
    fn hear(&mut self, bytes: &[u8], now: Instant) {
        match bytes.last() {
            Some(byte) => {
                self.heard = now;
                self.may_be_here = *byte == HERE;
            }
            None => self.ended = true,
        }
    }

    /// `None`: pgpool sees to the address itself.
    fn reason(&self, now: Instant) -> Option<Reason> {
        if self.ended {
            return self.may_be_here.then_some(Reason::End);
        }
        // Whatever was said last: a command may have done its work since.
        (now.saturating_duration_since(self.heard) >= self.silence).then_some(Reason::Silence)
    }

    /// How long nothing has to be looked at while nothing comes.
    fn pause(&self, now: Instant) -> Duration {
        let silent = now.saturating_duration_since(self.heard);
        let left = self.silence.saturating_sub(silent);
        if left.is_zero() {
            return LOOK;
        }
        left.clamp(Duration::from_millis(20), LOOK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_for_the_dead_time_is_the_end_of_the_address_until_something_comes() {
        let began = Instant::now();
        let mut watch = Watch::new(5 * SECOND, began);
        watch.hear(b"-+", began);
        assert_eq!(watch.reason(began + 4 * SECOND), None);
        assert_eq!(watch.pause(began + 4 * SECOND), SECOND);
        assert_eq!(watch.pause(began + 4 * SECOND + SECOND / 2), SECOND / 2);
        assert_eq!(watch.reason(began + 5 * SECOND), Some(Reason::Silence));
        assert_eq!(watch.pause(began + 6 * SECOND), SECOND);
        watch.hear(b"-", began + 9 * SECOND);
        assert_eq!(watch.reason(began + 10 * SECOND), None);
        // A command that pgpool began before it was stopped.
        assert_eq!(watch.reason(began + 14 * SECOND), Some(Reason::Silence));
    }

    #[test]
    fn an_end_counts_at_once_unless_the_address_was_given_up() {
        let now = Instant::now();
        let mut watch = Watch::new(SECOND, now);
        watch.hear(&[HERE], now);
        assert_eq!(watch.reason(now), None);
        watch.hear(b"", now);
        assert_eq!(watch.reason(now), Some(Reason::End));
        let mut watch = Watch::new(SECOND, now);
        watch.hear(&[HERE, NOT_HERE], now);
        watch.hear(b"", now);
        assert_eq!(watch.reason(now + 60 * SECOND), None);
    }

    #[test]
    fn a_dead_time_of_nothing_is_no_reason() {
        let now = Instant::now();
        let watch = Watch::new(Duration::ZERO, now);
        assert_eq!(watch.reason(now + 2 * SECOND), None);
    }
}
