//! What a session has changed for itself with `PGPOOL SET`.
//!
//! The accessors give the value in force for the session: its own, else the configuration's. They
//! are on the path of every statement, so a session that has set nothing pays one comparison.

use std::time::Duration;

use crate::{
    config::{
        self, Config, SetError, Value, parameter::Kind, settings::Verbosity, value::parse_bool,
    },
    observe::{OwnLog, Severity},
    protocol::messages::ErrorMessage,
    routing::settings::Switches,
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
        let Some(text) = value else {
            let parameter = config::settable(name, config.dialect).map_err(refusal)?;
            self.forget(parameter.name);
            return Ok(());
        };
        let (parameter, value) =
            config::parse_session_value(name, text, config.dialect).map_err(refusal)?;
        // The original takes any other word as on. That is kept for files, where a working
        // installation may rest on it; a person at a prompt is better told.
        if matches!(parameter.kind, Kind::Bool) && parse_bool(text).is_none() {
            return Err(ErrorMessage::error(
                "XX000",
                format!("invalid value for parameter \"{name}\": \"{text}\""),
            )
            .hint("Available values: on, off."));
        }
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

    /// How statements are routed, as far as a session may say so.
    pub fn switches(&self, config: &Config) -> Switches {
        let of_file = config.settings.routing.switches;
        let temp = match self.own("check_temp_table") {
            Some(value) => config::check_temp_table(Some(value)),
            None => of_file.check_temp_table,
        };
        Switches {
            allow_sql_comments: self.allow_sql_comments(config),
            check_temp_table: temp,
            check_unlogged_table: self
                .own_bool("check_unlogged_table")
                .unwrap_or(of_file.check_unlogged_table),
        }
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

    /// `None`: the session's lines are logged as the configuration says.
    pub fn own_log(&self, config: &Config) -> Option<OwnLog> {
        self.own("log_min_messages")
            .or_else(|| self.own("log_error_verbosity"))?;
        Some(OwnLog {
            min_messages: self.log_min_messages(config),
            verbosity: self.log_error_verbosity(config),
        })
    }

    /// `notice_per_node_statement`, of releases that have it.
    pub fn notice_per_node_statement(&self, config: &Config) -> bool {
        self.own_bool("notice_per_node_statement")
            .or_else(
                || match config.values.get("notice_per_node_statement", None) {
                    Some(Value::Bool(on)) => Some(*on),
                    _ => None,
                },
            )
            .unwrap_or(false)
    }

    fn bool(&self, name: &str, otherwise: bool) -> bool {
        self.own_bool(name).unwrap_or(otherwise)
    }

    fn severity(&self, name: &str, otherwise: Severity) -> Severity {
        match self.own(name) {
            Some(Value::Enum { word, .. }) => Severity::named(word).unwrap_or(otherwise),
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

fn refusal(error: SetError) -> ErrorMessage {
    ErrorMessage::error("XX000", error.message)
        .detail(error.detail)
        .hint(error.hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let (config, _) = Config::from_text("backend_clustering_mode = 'raw'").unwrap();
        config
    }

    fn set(session: &mut SessionSettings, name: &str, value: &str) -> Result<(), String> {
        session
            .set(name, Some(value), &config())
            .map_err(|error| format!("{}|{}", error.message, error.hint))
    }

    #[test]
    fn what_a_session_sets_is_in_force_until_it_is_reset() {
        let config = config();
        let mut session = SessionSettings::default();
        for (name, value) in [
            ("client_idle_limit", "5min"),
            ("log_statement", "t"),
            ("log_min_messages", "DEBUG1"),
            ("log_error_verbosity", "terse"),
            ("client_idle_limit_in_recovery", "-1"),
        ] {
            assert_eq!(set(&mut session, name, value), Ok(()), "{name}");
        }
        assert_eq!(
            session.client_idle_limit(&config),
            Some(Duration::from_secs(300))
        );
        assert!(session.log_statement(&config));
        assert!(!session.log_client_messages(&config));
        assert_eq!(session.log_min_messages(&config), Severity::Debug1);
        assert_eq!(session.client_min_messages(&config), Severity::Notice);
        assert_eq!(session.log_error_verbosity(&config), Verbosity::Terse);
        assert_eq!(session.client_idle_limit_in_recovery(&config), -1);

        session.reset("log_statement", &config).unwrap();
        session.set("client_idle_limit", None, &config).unwrap();
        assert!(!session.log_statement(&config));
        assert_eq!(session.client_idle_limit(&config), None);

        session.reset_all();
        assert_eq!(session, SessionSettings::default());
    }

    #[test]
    fn the_last_value_counts_and_zero_is_no_limit() {
        let mut session = SessionSettings::default();
        set(&mut session, "client_idle_limit", "10").unwrap();
        set(&mut session, "client_idle_limit", "0").unwrap();
        assert_eq!(session.client_idle_limit(&config()), None);
    }

    #[test]
    fn what_is_no_value_changes_nothing() {
        let mut session = SessionSettings::default();
        for (name, value, error) in [
            (
                "log_statement",
                "bogus",
                "invalid value for parameter \"log_statement\": \"bogus\"|Available values: on, off.",
            ),
            (
                "client_idle_limit",
                "99999999999",
                "invalid value for parameter \"client_idle_limit\": \"99999999999\"|Value exceeds allowed range.",
            ),
            (
                "port",
                "1",
                "invalid Context, value for parameter \"port\" cannot be changed|",
            ),
        ] {
            assert_eq!(
                set(&mut session, name, value),
                Err(error.to_owned()),
                "{name}"
            );
        }
        assert_eq!(session, SessionSettings::default());
    }

    #[test]
    fn every_settable_parameter_can_be_set_and_shown() {
        let config = config();
        let mut session = SessionSettings::default();
        for parameter in config::session_parameters(config.dialect) {
            let value = match parameter.kind {
                Kind::Bool => "on",
                Kind::Int { .. } => "7",
                Kind::Enum(words) => words[0].0,
                _ => "text",
            };
            session.set(parameter.name, Some(value), &config).unwrap();
            let shown = session.value(parameter.name, None, &config).unwrap();
            assert!(shown.show(parameter).starts_with(value), "{parameter:?}");
        }
    }
}
