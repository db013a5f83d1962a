//! `log_line_prefix`: parsed once, rendered for each line.
//!
//! Escapes of 4.3: `%a %p %P %t %m %d %u %l %%`, each with an optional width (`%5p`, `%-10a`);
//! unknown ones print nothing. Of newer releases `%h` and `%r` are understood as well.
//! Source: manual, "Error Reporting and Logging"; padding and words measured on 4.3.5.

use std::{
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use chrono::{DateTime, Local};

/// The default of 4.3.1 and later, also used before the configuration is read.
pub const DEFAULT: &str = "%m: %a pid %p: ";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    parts: Vec<Part>,
}

/// Whose line it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    pub application: String,
    pub pid: u32,
    /// Empty outside sessions; likewise the next two.
    pub user: String,
    pub database: String,
    pub host: String,
}

impl Default for Speaker {
    /// The main process.
    fn default() -> Speaker {
        Speaker {
            application: "main".into(),
            pid: std::process::id(),
            user: String::new(),
            database: String::new(),
            host: String::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// Negative widths pad on the right.
    Escape {
        what: Escape,
        width: i32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    Application,
    Pid,
    ProcessName,
    Seconds,
    Milliseconds,
    Database,
    User,
    Host,
    LineNumber,
}

impl Prefix {
    pub fn parse(text: &str) -> Prefix {
        let mut parts: Vec<Part> = Vec::new();
        let mut plain = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                plain.push(c);
                continue;
            }
            let Some((width, letter)) = width_and_letter(&mut chars) else {
                break;
            };
            let what = match letter {
                '%' => {
                    plain.push('%');
                    continue;
                }
                'a' => Escape::Application,
                'p' => Escape::Pid,
                'P' => Escape::ProcessName,
                't' => Escape::Seconds,
                'm' => Escape::Milliseconds,
                'd' => Escape::Database,
                'u' => Escape::User,
                'h' | 'r' => Escape::Host,
                'l' => Escape::LineNumber,
                _ => continue,
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Escape { what, width });
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Prefix { parts }
    }

    /// Somebody has to count lines.
    pub fn numbers_lines(&self) -> bool {
        self.parts.iter().any(|part| {
            matches!(
                part,
                Part::Escape {
                    what: Escape::LineNumber,
                    ..
                }
            )
        })
    }

    pub fn render(&self, speaker: &Speaker, time: SystemTime, line: u64, out: &mut String) {
        for part in &self.parts {
            let (what, width) = match part {
                Part::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::Escape { what, width } => (*what, *width),
            };
            let start = out.len();
            what.render(speaker, time, line, out);
            pad(out, start, width);
        }
    }
}

impl Escape {
    fn render(self, speaker: &Speaker, time: SystemTime, line: u64, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = match self {
            Escape::Application => {
                push_name(out, &speaker.application, "[unknown]");
                Ok(())
            }
            Escape::Pid => write!(out, "{}", speaker.pid),
            Escape::ProcessName => {
                out.push_str(process_name(&speaker.application));
                Ok(())
            }
            Escape::Seconds => write!(out, "{}", local(time).format("%Y-%m-%d %H:%M:%S")),
            Escape::Milliseconds => {
                write!(out, "{}", local(time).format("%Y-%m-%d %H:%M:%S%.3f"))
            }
            Escape::Database => {
                push_name(out, &speaker.database, "[No Connection]");
                Ok(())
            }
            Escape::User => {
                push_name(out, &speaker.user, "[No Connection]");
                Ok(())
            }
            Escape::Host => {
                push_name(out, &speaker.host, "[No Connection]");
                Ok(())
            }
            Escape::LineNumber => write!(out, "{line}"),
        };
    }
}

/// The optional `-` and digits after a `%`, and the letter. `None`: the text ends before the letter.
fn width_and_letter(chars: &mut std::str::Chars<'_>) -> Option<(i32, char)> {
    let mut next = chars.next()?;
    let mut sign = 1;
    if next == '-' {
        sign = -1;
        next = chars.next()?;
    }
    let mut width: i32 = 0;
    while let Some(digit) = next.to_digit(10) {
        let digit = i32::try_from(digit).unwrap_or(0);
        width = width.saturating_mul(10).saturating_add(digit);
        next = chars.next()?;
    }
    // A slip of the finger must not fill the disk.
    Some((sign * width.min(1000), next))
}

/// Fills up what was written since `start` to the width.
fn pad(out: &mut String, start: usize, width: i32) {
    let missing = usize::try_from(width.unsigned_abs())
        .unwrap_or(0)
        .saturating_sub(out.len() - start);
    if missing == 0 {
        return;
    }
    let blanks = " ".repeat(missing);
    if width > 0 {
        out.insert_str(start, &blanks);
    } else {
        out.push_str(&blanks);
    }
}

/// A name that a client has chosen, on one line: what it says must not look like an entry of ours.
fn push_name(out: &mut String, name: &str, empty: &str) {
    let name = if name.is_empty() { empty } else { name };
    out.extend(name.chars().map(|c| if c.is_control() { '?' } else { c }));
}

/// `%P`; an application that is none of our own parts is a client's, and a child serves it.
fn process_name(application: &str) -> &'static str {
    match application {
        "main" => "MAIN",
        "sr_check_worker" => "WORKER",
        "pcp_main" => "PCP CHILD",
        "pcp_child" => "PCP WORKER",
        "watchdog" => "WATCHDOG",
        "follow_child"
        | "heart_beat_sender"
        | "heart_beat_receiver"
        | "life_check"
        | "watchdog_utility" => "",
        name if name.starts_with("health_check") => "",
        _ => "CHILD",
    }
}

fn local(time: SystemTime) -> DateTime<Local> {
    // chrono panics beyond its own range, which no clock shows.
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) if since.as_secs() < 1 << 40 => DateTime::from(time),
        _ => DateTime::from(UNIX_EPOCH),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn speaker() -> Speaker {
        Speaker {
            pid: 23,
            ..Speaker::default()
        }
    }

    fn rendered(prefix: &str, speaker: &Speaker) -> String {
        let mut out = String::new();
        let time = UNIX_EPOCH + Duration::from_millis(1_000_000_007);
        Prefix::parse(prefix).render(speaker, time, 4, &mut out);
        out
    }

    /// Seen on 4.3.5.
    #[test]
    fn escapes_mean_what_they_mean_in_the_original() {
        assert_eq!(
            rendered(
                "a=%a p=%p P=%P d=%d u=%u l=%l x=%x Z=%Z pct=%% w=%10a| w=%-10a| ",
                &speaker()
            ),
            "a=main p=23 P=MAIN d=[No Connection] u=[No Connection] l=4 x= Z= pct=% \
             w=      main| w=main      | "
        );
    }

    #[test]
    fn times_are_local_with_and_without_milliseconds() {
        let time = local(UNIX_EPOCH + Duration::from_secs(1_000_000));
        let seconds = time.format("%Y-%m-%d %H:%M:%S").to_string();
        assert_eq!(
            rendered("%t|%m|", &speaker()),
            format!("{seconds}|{seconds}.007|")
        );
    }

    #[test]
    fn a_session_shows_its_client() {
        let session = Speaker {
            application: "psql".into(),
            pid: 4_194_305,
            user: "alice".into(),
            database: "shop".into(),
            host: "10.0.0.7".into(),
        };
        assert_eq!(
            rendered("%a %p %P %d %u %h", &session),
            "psql 4194305 CHILD shop alice 10.0.0.7"
        );
        let nameless = Speaker {
            application: String::new(),
            ..session
        };
        assert_eq!(rendered("%a", &nameless), "[unknown]");
    }

    #[test]
    fn a_name_cannot_begin_a_line() {
        let session = Speaker {
            application: "x\r\n2026-01-01 00:00:00: main pid 1: LOG:  all is well".into(),
            user: "jürgen\n".into(),
            ..speaker()
        };
        assert_eq!(
            rendered("%a|%u", &session),
            "x??2026-01-01 00:00:00: main pid 1: LOG:  all is well|jürgen?"
        );
    }

    #[test]
    fn a_broken_end_is_dropped() {
        for prefix in ["x%", "x%-", "x%12"] {
            assert_eq!(rendered(prefix, &speaker()), "x", "{prefix:?}");
        }
        assert_eq!(rendered("", &speaker()), "");
        assert_eq!(rendered("%999999999999p", &speaker()).len(), 1000);
    }

    #[test]
    fn lines_are_counted_only_when_somebody_looks() {
        assert!(!Prefix::parse(DEFAULT).numbers_lines());
        assert!(Prefix::parse("%m [%3l]").numbers_lines());
    }
}
