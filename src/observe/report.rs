//! Log entries in the form of the original: severity, message, detail, hint, context.
//!
//! Entries travel through the `log` facade. The severities of the original are finer than
//! those of `log`, so the true one, with detail, hint and context, goes along as key-values;
//! the sink (`crate::process::log_sink`) prints them with `log_line_prefix`.

use std::{fmt::Display, sync::Arc};

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
    Fatal,
    Panic,
}

impl Severity {
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
            Severity::Fatal => "FATAL",
            Severity::Panic => "PANIC",
        }
    }

    fn level(self) -> log::Level {
        match self {
            Severity::Debug5 | Severity::Debug4 | Severity::Debug3 | Severity::Debug2 => {
                log::Level::Trace
            }
            Severity::Debug1 => log::Level::Debug,
            Severity::Info | Severity::Notice | Severity::Log => log::Level::Info,
            Severity::Warning => log::Level::Warn,
            Severity::Error | Severity::Fatal | Severity::Panic => log::Level::Error,
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
        self,
        application: &str,
        user: &str,
        database: &str,
        host: &str,
    ) -> Reporter {
        Reporter {
            who: Arc::new(Who::new(self.who.pid, [application, user, database, host])),
        }
    }

    pub fn log(&self, message: impl Display) {
        self.emit(Severity::Log, message, "", "");
    }

    pub fn warning(&self, message: impl Display) {
        self.emit(Severity::Warning, message, "", "");
    }

    pub fn debug1(&self, message: impl Display) {
        self.emit(Severity::Debug1, message, "", "");
    }

    /// Empty `detail` and `hint` are not printed.
    pub fn emit(&self, severity: Severity, message: impl Display, detail: &str, hint: &str) {
        self.emit_with_context(severity, message, detail, hint, "");
    }

    pub fn emit_with_context(
        &self,
        severity: Severity,
        message: impl Display,
        detail: &str,
        hint: &str,
        context: &str,
    ) {
        let level = severity.level();
        if level > log::max_level() {
            return;
        }
        let [application, user, database, host] = self.who.words();
        let fields: [(&str, log::kv::Value<'_>); 9] = [
            ("severity", log::kv::Value::from(severity as u64)),
            ("application", log::kv::Value::from(application)),
            ("pid", log::kv::Value::from(self.who.pid)),
            ("user", log::kv::Value::from(user)),
            ("database", log::kv::Value::from(database)),
            ("host", log::kv::Value::from(host)),
            ("detail", log::kv::Value::from(detail)),
            ("hint", log::kv::Value::from(hint)),
            ("context", log::kv::Value::from(context)),
        ];
        log::logger().log(
            &log::Record::builder()
                .level(level)
                .target("pgpool")
                .args(format_args!("{message}"))
                .key_values(&fields.as_slice())
                .build(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
