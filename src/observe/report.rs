//! Log entries in the form of the original: severity, message, detail, hint, context.
//!
//! Entries travel through the `log` facade. The severities of the original are finer than
//! those of `log`, so the true one, with detail, hint and context, goes along as key-values;
//! the sink (`crate::process::log_sink`) prints them with `log_line_prefix`.

use std::{fmt::Display, panic::Location, sync::Arc};

use crate::config::settings::Verbosity;

/// In the order of the original: `LOG` ranks above `ERROR` for the server log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Debug5,
    Debug4,
    Debug3,
    Debug2,
    Debug1,
    Info,
    Notice,
    Warning,
    Error,
    Log,
    /// What a client was refused of pgpool's own commands; the client sees an ERROR.
    FrontendError,
    Fatal,
    Panic,
}

impl Severity {
    /// By the word of `log_min_messages` and `client_min_messages`.
    pub fn named(word: &str) -> Option<Severity> {
        Some(match word {
            "debug5" => Severity::Debug5,
            "debug4" => Severity::Debug4,
            "debug3" => Severity::Debug3,
            // The original has no plain debug level either.
            "debug2" | "debug" => Severity::Debug2,
            "debug1" => Severity::Debug1,
            "info" => Severity::Info,
            "notice" => Severity::Notice,
            "warning" => Severity::Warning,
            "error" => Severity::Error,
            "log" => Severity::Log,
            "fatal" => Severity::Fatal,
            "panic" => Severity::Panic,
            _ => return None,
        })
    }

    /// As printed in front of a message (`DEBUG` for all debug levels).
    pub fn label(self) -> &'static str {
        match self {
            Severity::Debug5
            | Severity::Debug4
            | Severity::Debug3
            | Severity::Debug2
            | Severity::Debug1 => "DEBUG",
            Severity::Info => "INFO",
            Severity::Notice => "NOTICE",
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR",
            Severity::Log => "LOG",
            Severity::FrontendError => "FRONTEND_ERROR",
            Severity::Fatal => "FATAL",
            Severity::Panic => "PANIC",
        }
    }

    /// Whether `client_min_messages = min` lets this through to the client. For clients LOG ranks
    /// between the debug levels and INFO.
    pub fn reaches_client(self, min: Severity) -> bool {
        let rank = |severity| match severity {
            Severity::Log => (Severity::Debug1, true),
            other => (other, false),
        };
        rank(self) >= rank(min)
    }

    fn level(self) -> log::Level {
        match self {
            Severity::Debug5 | Severity::Debug4 | Severity::Debug3 | Severity::Debug2 => {
                log::Level::Trace
            }
            Severity::Debug1 => log::Level::Debug,
            Severity::Info | Severity::Notice | Severity::Log => log::Level::Info,
            Severity::Warning => log::Level::Warn,
            Severity::Error | Severity::FrontendError | Severity::Fatal | Severity::Panic => {
                log::Level::Error
            }
        }
    }
}

/// Who speaks: the `%a` (application), `%p` (pid), `%u`, `%d` and `%h` of `log_line_prefix`.
///
/// A clone costs nothing: every idle session holds several.
#[derive(Clone, Debug)]
pub struct Reporter {
    who: Arc<Who>,
}

#[derive(Clone, Debug)]
struct Who {
    pid: u32,
    own: Option<OwnLog>,
    /// Application, user, database and host, one behind the other; where the first three end.
    words: Box<str>,
    ends: [u32; 3],
}

impl Who {
    fn new(pid: u32, [application, user, database, host]: [&str; 4]) -> Who {
        let words = [application, user, database, host].concat();
        let mut end = 0;
        let ends = [application, user, database].map(|word| {
            end += word.len();
            // A start-up packet has less than 10000 bytes.
            u32::try_from(end).unwrap_or(0)
        });
        Who {
            pid,
            own: None,
            words: words.into_boxed_str(),
            ends,
        }
    }

    /// Application, user, database, host.
    fn words(&self) -> [&str; 4] {
        let [a, b, c] = self.ends.map(|end| end as usize);
        let end = self.words.len();
        [0..a, a..b, b..c, c..end].map(|range| self.words.get(range).unwrap_or_default())
    }
}

/// What a session has set for its own lines by `PGPOOL SET`; both are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnLog {
    pub min_messages: Severity,
    pub verbosity: Verbosity,
}

impl Reporter {
    /// A part of pgpool itself: `main`, `child`, `health_check0`, `sr_check_worker`, `pcp_main`, `pcp_child`, ...
    pub fn new(application: impl AsRef<str>) -> Reporter {
        Reporter {
            who: Arc::new(Who::new(
                std::process::id(),
                [application.as_ref(), "", "", ""],
            )),
        }
    }

    /// The same, shown under another pid (a slot's number).
    pub fn with_pid(mut self, pid: u32) -> Reporter {
        Arc::make_mut(&mut self.who).pid = pid;
        self
    }

    /// A client session: `application` is the client's application_name.
    pub fn with_session(
        &self,
        application: &str,
        user: &str,
        database: &str,
        host: &str,
    ) -> Reporter {
        Reporter {
            who: Arc::new(Who::new(self.who.pid, [application, user, database, host])),
        }
    }

    /// The client has taken another application_name.
    pub fn set_application(&mut self, application: &str) {
        let own = self.who.own;
        let [_, user, database, host] = self.who.words();
        self.who = Arc::new(Who {
            own,
            ..Who::new(self.who.pid, [application, user, database, host])
        });
    }

    pub fn set_own_log(&mut self, own: Option<OwnLog>) {
        Arc::make_mut(&mut self.who).own = own;
    }

    #[track_caller]
    pub fn log(&self, message: impl Display) {
        self.emit(Severity::Log, message, "", "");
    }

    #[track_caller]
    pub fn warning(&self, message: impl Display) {
        self.emit(Severity::Warning, message, "", "");
    }

    #[track_caller]
    pub fn debug1(&self, message: impl Display) {
        self.emit(Severity::Debug1, message, "", "");
    }

    /// Empty `detail` and `hint` are not printed.
    #[track_caller]
    pub fn emit(&self, severity: Severity, message: impl Display, detail: &str, hint: &str) {
        self.emit_with_context(severity, message, detail, hint, "");
    }

    #[track_caller]
    pub fn emit_with_context(
        &self,
        severity: Severity,
        message: impl Display,
        detail: &str,
        hint: &str,
        context: &str,
    ) {
        let level = severity.level();
        if self.who.own.is_none() && level > log::max_level() {
            return;
        }
        let [application, user, database, host] = self.who.words();
        let own = self.who.own.unwrap_or(OwnLog {
            min_messages: Severity::Warning,
            verbosity: Verbosity::Default,
        });
        let fields: [(&str, log::kv::Value<'_>); 11] = [
            ("severity", log::kv::Value::from(severity as u64)),
            ("application", log::kv::Value::from(application)),
            ("pid", log::kv::Value::from(self.who.pid)),
            ("user", log::kv::Value::from(user)),
            ("database", log::kv::Value::from(database)),
            ("host", log::kv::Value::from(host)),
            ("detail", log::kv::Value::from(detail)),
            ("hint", log::kv::Value::from(hint)),
            ("context", log::kv::Value::from(context)),
            (
                "min_messages",
                log::kv::Value::from(own.min_messages as u64),
            ),
            ("verbosity", log::kv::Value::from(own.verbosity as u64)),
        ];
        let told = if self.who.own.is_some() { 11 } else { 9 };
        let place = Location::caller();
        log::logger().log(
            &log::Record::builder()
                .level(level)
                .target("pgpool")
                .file_static(Some(place.file()))
                .line(Some(place.line()))
                .args(format_args!("{message}"))
                .key_values(&&fields[..told])
                .build(),
        );
    }
}

/// Message and detail of an entry, where there is one line for both.
pub fn in_one_line(message: &str, detail: &str) -> String {
    if detail.is_empty() {
        message.to_owned()
    } else {
        format!("{message}: {detail}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_ranks_between_debug_and_info_for_clients_only() {
        for (min, log, notice) in [
            (Severity::Debug5, true, true),
            (Severity::Debug1, true, true),
            (Severity::Log, true, true),
            (Severity::Info, false, true),
            (Severity::Notice, false, true),
            (Severity::Warning, false, false),
        ] {
            assert_eq!(Severity::Log.reaches_client(min), log, "{min:?}");
            assert_eq!(Severity::Notice.reaches_client(min), notice, "{min:?}");
        }
        assert!(!Severity::Debug1.reaches_client(Severity::Log));
        assert!(Severity::Log > Severity::Error);
    }

    #[test]
    fn the_words_of_a_session_are_kept_apart() {
        let reporter = Reporter::new("child").with_session("büro", "app", "", "::1");
        assert_eq!(reporter.who.words(), ["büro", "app", "", "::1"]);
        let reporter = reporter.with_pid(4_194_305);
        assert_eq!(reporter.who.words(), ["büro", "app", "", "::1"]);
        assert_eq!(reporter.who.pid, 4_194_305);
        assert_eq!(Reporter::new("main").who.words(), ["main", "", "", ""]);
    }
}
