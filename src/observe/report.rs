//! Log entries in the form of the original: severity, message, detail, hint, context.
//!
//! Entries travel through the `log` facade. The severities of the original are finer than
//! those of `log`, so the true one, with detail, hint and context, goes along as key-values;
//! the sink (`crate::process::log_sink`) prints them with `log_line_prefix`.

use std::{borrow::Cow, fmt::Display, panic::Location};

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
#[derive(Clone, Debug)]
pub struct Reporter {
    application: Cow<'static, str>,
    pid: u32,
    user: String,
    database: String,
    host: String,
}

impl Reporter {
    /// A part of pgpool itself: `main`, `child`, `health_check0`, `sr_check_worker`, `pcp_main`, `pcp_child`, ...
    pub fn new(application: impl Into<Cow<'static, str>>) -> Reporter {
        Reporter {
            application: application.into(),
            pid: std::process::id(),
            user: String::new(),
            database: String::new(),
            host: String::new(),
        }
    }

    /// The same, shown under another pid (a slot's number).
    pub fn with_pid(mut self, pid: u32) -> Reporter {
        self.pid = pid;
        self
    }

    /// A client session: `application` is the client's application_name.
    pub fn with_session(
        mut self,
        application: &str,
        user: &str,
        database: &str,
        host: &str,
    ) -> Reporter {
        self.application = Cow::Owned(application.to_owned());
        self.user = user.to_owned();
        self.database = database.to_owned();
        self.host = host.to_owned();
        self
    }

    /// The client has taken another application_name.
    pub fn set_application(&mut self, application: &str) {
        self.application = Cow::Owned(application.to_owned());
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
        if level > log::max_level() {
            return;
        }
        let fields: [(&str, log::kv::Value<'_>); 9] = [
            ("severity", log::kv::Value::from(severity as u64)),
            ("application", log::kv::Value::from(&*self.application)),
            ("pid", log::kv::Value::from(self.pid)),
            ("user", log::kv::Value::from(&*self.user)),
            ("database", log::kv::Value::from(&*self.database)),
            ("host", log::kv::Value::from(&*self.host)),
            ("detail", log::kv::Value::from(detail)),
            ("hint", log::kv::Value::from(hint)),
            ("context", log::kv::Value::from(context)),
        ];
        let place = Location::caller();
        log::logger().log(
            &log::Record::builder()
                .level(level)
                .target("pgpool")
                .file_static(Some(place.file()))
                .line(Some(place.line()))
                .args(format_args!("{message}"))
                .key_values(&fields.as_slice())
                .build(),
        );
    }
}
