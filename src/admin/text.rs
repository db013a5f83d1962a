//! Times, durations and numbers as the tables print them.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Local};

/// `YYYY-MM-DD HH:MM:SS`, local time of the server.
pub fn time(at: SystemTime) -> String {
    DateTime::<Local>::from(at)
        .format("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// Empty for never.
pub fn time_or_empty(at: Option<SystemTime>) -> String {
    at.map(time).unwrap_or_default()
}

/// The form of C's `ctime`, without its newline: `Sun Nov 22 21:50:10 2026`.
pub fn ctime(at: SystemTime) -> String {
    DateTime::<Local>::from(at)
        .format("%a %b %e %H:%M:%S %Y")
        .to_string()
}

/// ` (4:18 before process restarting)`; empty for `None`.
pub fn remaining(time: Option<Duration>, before: &str) -> String {
    match time {
        Some(time) => {
            let seconds = time.as_secs();
            format!(" ({}:{:02} before {before})", seconds / 60, seconds % 60)
        }
        None => String::new(),
    }
}

/// C's `%f`; zero for what is no number.
pub fn float(value: f64) -> String {
    format!("{:.6}", if value.is_finite() { value } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_time_is_minutes_and_seconds() {
        assert_eq!(
            remaining(Some(Duration::from_secs(258)), "process restarting"),
            " (4:18 before process restarting)"
        );
        assert_eq!(
            remaining(Some(Duration::from_secs(600)), "client disconnected"),
            " (10:00 before client disconnected)"
        );
        assert_eq!(remaining(None, "process restarting"), "");
    }

    #[test]
    fn a_division_by_zero_prints_a_number() {
        assert_eq!(float(f64::NAN), "0.000000");
        assert_eq!(float(0.5), "0.500000");
    }
}
