//! The time after `--since`: a moment, or how long ago.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};

/// What [`parse`] understands, for messages.
pub const FORMS: &str = "\"2026-11-28 07:23:46\", \"2026-11-28\", \"07:23\" (today), \"90s\", \"15min\", \"2h\" or \"3d\" (ago), or a time as RFC 3339 writes it";

/// Local time, unless the text names an offset.
pub fn parse(text: &str, now: SystemTime) -> Option<SystemTime> {
    let text = text.trim();
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Some(moment.into());
    }
    if let Some(ago) = ago(text) {
        return now.checked_sub(ago);
    }
    let day = |text: &str| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let time = |text: &str| {
        ["%H:%M:%S%.f", "%H:%M"]
            .iter()
            .find_map(|form| NaiveTime::parse_from_str(text, form).ok())
    };
    let moment = match text.split_once([' ', 'T']) {
        Some((date, clock)) => NaiveDateTime::new(day(date)?, time(clock.trim())?),
        None => match day(text) {
            Some(date) => date.and_time(NaiveTime::MIN),
            None => NaiveDateTime::new(DateTime::<Local>::from(now).date_naive(), time(text)?),
        },
    };
    // Where the clock was set back the first of the two; where it was set forward there is none.
    Some(Local.from_local_datetime(&moment).earliest()?.into())
}

fn ago(text: &str) -> Option<Duration> {
    let digits = text.trim_start_matches('-');
    let end = digits.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = digits.split_at(end);
    let unit = match unit.trim() {
        "s" | "sec" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(
        number.parse::<u64>().ok()?.checked_mul(unit)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(text: &str) -> SystemTime {
        let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap();
        Local.from_local_datetime(&naive).unwrap().into()
    }

    #[test]
    fn a_moment_may_be_written_in_several_forms() {
        let now = local("2026-11-28 12:00:00");
        for (text, want) in [
            ("2026-11-27 07:23:46", "2026-11-27 07:23:46"),
            ("2026-11-27T07:23", "2026-11-27 07:23:00"),
            (" 2026-11-27 ", "2026-11-27 00:00:00"),
            ("07:23", "2026-11-28 07:23:00"),
            ("90s", "2026-11-28 11:58:30"),
            ("15min", "2026-11-28 11:45:00"),
            ("-2h", "2026-11-28 10:00:00"),
            ("3d", "2026-11-25 12:00:00"),
        ] {
            assert_eq!(parse(text, now), Some(local(want)), "{text}");
        }
        let utc = parse("2026-11-28T07:00:00Z", now).unwrap();
        assert_eq!(parse("2026-11-28T08:00:00+01:00", now), Some(utc));
    }

    #[test]
    fn anything_else_is_no_time() {
        let now = SystemTime::now();
        for text in [
            "",
            "yesterday",
            "25:00",
            "2026-13-01",
            "5",
            "5x",
            "99999999999999999999h",
            "-",
        ] {
            assert_eq!(parse(text, now), None, "{text:?}");
        }
    }
}
