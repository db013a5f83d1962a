//! What a session has changed for itself with `PGPOOL SET`.
//!
//! The accessors give the value in force for the session: its own, else the configuration's. They
//! are on the path of every statement, so a session that has set nothing pays one comparison.

use std::time::Duration;

use super::{set_value, show, wire};
use crate::{
    config::{
        Config, Release, Value,
        parameter::{Context, Indexed, Parameter},
        settings::Verbosity,
    },
    observe::Severity,
    protocol::messages::ErrorMessage,
};

/// The overrides of one session; they end with it. Empty at its start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionSettings {
    overrides: Vec<(&'static str, Value)>,
}

impl SessionSettings {
    /// `PGPOOL SET`; `None` is `TO DEFAULT`.
    ///
    /// # Errors
    ///
    /// What the client is told. Nothing has changed then.
    pub fn set(
        &mut self,
        name: &str,
        value: Option<&str>,
        config: &Config,
    ) -> Result<(), ErrorMessage> {
        let parameter = settable(name, config)?;
        let Some(value) = value else {
            self.forget(parameter.name);
            return Ok(());
        };
        let value = set_value::parse(parameter, value)?;
        self.forget(parameter.name);
        self.overrides.push((parameter.name, value));
        Ok(())
    }

    /// `PGPOOL RESET name`
    ///
    /// # Errors
    ///
    /// As [`SessionSettings::set`].
    pub fn reset(&mut self, name: &str, config: &Config) -> Result<(), ErrorMessage> {
        self.set(name, None, config)
    }

    pub fn reset_all(&mut self) {
        self.overrides.clear();
    }

    /// The value in force, for SHOW.
    pub fn value<'a>(
        &'a self,
        name: &str,
        index: Option<usize>,
        config: &'a Config,
    ) -> Option<&'a Value> {
        match index {
            None => self.own(name).or_else(|| config.values.get(name, None)),
            Some(_) => config.values.get(name, index),
        }
    }

    pub fn log_statement(&self, config: &Config) -> bool {
        self.bool("log_statement", config.settings.log_statement)
    }

    pub fn log_per_node_statement(&self, config: &Config) -> bool {
        self.bool(
            "log_per_node_statement",
            config.settings.log_per_node_statement,
        )
    }

    pub fn log_client_messages(&self, config: &Config) -> bool {
        self.bool("log_client_messages", config.settings.log_client_messages)
    }

    pub fn allow_sql_comments(&self, config: &Config) -> bool {
        self.bool("allow_sql_comments", config.settings.allow_sql_comments)
    }

    /// `check_unlogged_table`, `notice_per_node_statement`, `check_temp_table` of 4.0: `None` when not set here.
    pub fn own_bool(&self, name: &str) -> Option<bool> {
        match self.own(name)? {
            Value::Bool(on) => Some(*on),
            _ => None,
        }
    }

    /// `None`: no limit.
    pub fn client_idle_limit(&self, config: &Config) -> Option<Duration> {
        match self.own("client_idle_limit") {
            Some(Value::Int(seconds)) => match u64::try_from(*seconds) {
                Ok(0) | Err(_) => None,
                Ok(seconds) => Some(Duration::from_secs(seconds)),
            },
            _ => config.settings.client_idle_limit,
        }
    }

    /// Seconds; -1 means at once, 0 never.
    pub fn client_idle_limit_in_recovery(&self, config: &Config) -> i64 {
        match self.own("client_idle_limit_in_recovery") {
            Some(Value::Int(seconds)) => *seconds,
            _ => config.settings.client_idle_limit_in_recovery,
        }
    }

    pub fn client_min_messages(&self, config: &Config) -> Severity {
        self.severity("client_min_messages", config.settings.client_min_messages)
    }

    pub fn log_min_messages(&self, config: &Config) -> Severity {
        self.severity("log_min_messages", config.settings.log_min_messages)
    }

    pub fn log_error_verbosity(&self, config: &Config) -> Verbosity {
        match self.own("log_error_verbosity") {
            Some(Value::Enum { word: "terse", .. }) => Verbosity::Terse,
            Some(Value::Enum {
                word: "default", ..
            }) => Verbosity::Default,
            Some(Value::Enum {
                word: "verbose", ..
            }) => Verbosity::Verbose,
            _ => config.settings.log_error_verbosity,
        }
    }

    fn bool(&self, name: &str, otherwise: bool) -> bool {
        self.own_bool(name).unwrap_or(otherwise)
    }

    fn severity(&self, name: &str, otherwise: Severity) -> Severity {
        match self.own(name) {
            Some(Value::Enum { word, .. }) => severity_named(word).unwrap_or(otherwise),
            _ => otherwise,
        }
    }

    fn own(&self, name: &str) -> Option<&Value> {
        self.overrides
            .iter()
            .find(|(own, _)| *own == name)
            .map(|(_, value)| value)
    }

    fn forget(&mut self, name: &str) {
        self.overrides.retain(|(own, _)| *own != name);
    }
}

/// The parameter `name`, if a session may change it.
fn settable(name: &str, config: &Config) -> Result<&'static Parameter, ErrorMessage> {
    let release = config.dialect;
    let (parameter, index) = show::resolve(name, release)
        .filter(|(parameter, index)| known(parameter, *index, config))
        .ok_or_else(|| wire::error(format!("unrecognized configuration parameter \"{name}\"")))?;
    show::check_index(parameter, index)?;
    if parameter.indexed == Indexed::Required && index.is_none() {
        return Err(wire::error(format!(
            "parameter \"{name}\" expects the index value"
        )));
    }
    // Up to 4.0 a boolean that sessions could set, since then an enum that they cannot.
    let by_release = parameter.name != "check_temp_table" || release <= Release::V4_0;
    if parameter.context != Context::Session || !by_release {
        return Err(wire::error(format!(
            "invalid Context, value for parameter \"{name}\" cannot be changed"
        )));
    }
    Ok(parameter)
}

fn known(parameter: &Parameter, index: Option<usize>, config: &Config) -> bool {
    let index = match (parameter.indexed, index) {
        (Indexed::Required, None) => Some(0),
        // Too large ones get an error of their own.
        (Indexed::No, index) | (_, index @ None) => index,
        (_, Some(_)) => Some(0),
    };
    config.values.get(parameter.name, index).is_some()
}

fn severity_named(word: &str) -> Option<Severity> {
    Some(match word {
        "debug5" => Severity::Debug5,
        "debug4" => Severity::Debug4,
        "debug3" => Severity::Debug3,
        // The original knows no plain debug level of its own either.
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
