//! What a client may change for its own session by `PGPOOL SET`, in the original's words.

use super::{
    PARAMETERS, Release,
    names::{self, Name},
    parameter::{Context, Parameter, Value},
    value,
};

/// Why a `PGPOOL SET` or `RESET` is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetError {
    pub message: String,
    /// Either may be empty.
    pub detail: String,
    pub hint: String,
}

impl SetError {
    fn new(message: String) -> SetError {
        SetError {
            message,
            detail: String::new(),
            hint: String::new(),
        }
    }
}

/// The parameter that a session of this dialect may set under this name.
///
/// # Errors
///
/// The name is unknown, or the parameter belongs to the file.
pub fn settable(name: &str, dialect: Release) -> Result<&'static Parameter, SetError> {
    match names::resolve(name, dialect) {
        Name::Known { parameter, .. } if parameter.context_in(dialect) == Context::Session => {
            Ok(parameter)
        }
        Name::Known { .. } => Err(SetError::new(format!(
            "invalid Context, value for parameter \"{name}\" cannot be changed"
        ))),
        Name::Refused(message, detail, _) => Err(SetError {
            detail: detail.to_owned(),
            ..SetError::new(message)
        }),
        Name::NoEffect(..) => Err(SetError::new(format!(
            "unrecognized configuration parameter \"{name}\""
        ))),
    }
}

/// Reads the value of a `PGPOOL SET name TO text`.
///
/// # Errors
///
/// As [`settable`], or the value is none of the parameter's.
pub fn parse_session_value(
    name: &str,
    text: &str,
    dialect: Release,
) -> Result<(&'static Parameter, Value), SetError> {
    let parameter = settable(name, dialect)?;
    match value::parse(parameter, None, text, dialect) {
        Ok(parsed) => Ok((parameter, parsed.value)),
        Err(bad) => Err(SetError {
            hint: bad.hint,
            ..SetError::new(bad.message)
        }),
    }
}

/// What a session of this dialect may set, in the order of the table.
pub fn session_parameters(dialect: Release) -> impl Iterator<Item = &'static Parameter> {
    PARAMETERS
        .iter()
        .filter(move |p| p.known_in(dialect) && p.context_in(dialect) == Context::Session)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, text: &str) -> (String, String) {
        let error = parse_session_value(name, text, Release::V4_3).unwrap_err();
        (error.message, error.hint)
    }

    /// Recorded on 4.3.5 (pgpool_set_reset.txt).
    #[test]
    fn refusals_are_in_the_words_of_the_original() {
        for (name, text, message, hint) in [
            (
                "port",
                "1234",
                "invalid Context, value for parameter \"port\" cannot be changed",
                "",
            ),
            (
                "backend_weight0",
                "1",
                "invalid Context, value for parameter \"backend_weight0\" cannot be changed",
                "",
            ),
            (
                "backend_weight",
                "1",
                "parameter \"backend_weight\" expects the index value",
                "",
            ),
            (
                "nosuch",
                "1",
                "unrecognized configuration parameter \"nosuch\"",
                "",
            ),
            (
                "backend",
                "x",
                "unrecognized configuration parameter \"backend\"",
                "",
            ),
            (
                "client_idle_limit",
                "abc",
                "invalid value for parameter \"client_idle_limit\": \"abc\"",
                "",
            ),
            (
                "client_idle_limit",
                "1x",
                "invalid value for parameter \"client_idle_limit\": \"1x\"",
                "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\".",
            ),
            (
                "client_idle_limit",
                "-1",
                "-1 is outside the valid range for parameter \"client_idle_limit\" (0 .. 2147483647)",
                "",
            ),
            (
                "log_error_verbosity",
                "",
                "invalid value for parameter \"log_error_verbosity\": \"\"",
                "Available values: terse, default, verbose.",
            ),
        ] {
            assert_eq!(refusal(name, text), (message.to_owned(), hint.to_owned()));
        }
    }

    #[test]
    fn a_session_sets_what_its_dialect_lets_it() {
        let names = |dialect| -> Vec<&str> {
            let mut names: Vec<&str> = session_parameters(dialect).map(|p| p.name).collect();
            names.sort_unstable();
            names
        };
        let all = [
            "allow_sql_comments",
            "check_unlogged_table",
            "client_idle_limit",
            "client_idle_limit_in_recovery",
            "client_min_messages",
            "log_client_messages",
            "log_error_verbosity",
            "log_min_messages",
            "log_per_node_statement",
            "log_statement",
        ];
        let with = |more: &[&'static str]| {
            let mut names = all.to_vec();
            names.extend_from_slice(more);
            names.sort_unstable();
            names
        };
        assert_eq!(names(Release::V4_0), with(&["check_temp_table"]));
        assert_eq!(names(Release::V4_3), with(&["notice_per_node_statement"]));
        assert_eq!(
            names(Release::V4_6),
            with(&["notice_per_node_statement", "log_backend_messages"])
        );
    }

    #[test]
    fn a_value_is_read_as_in_the_file() {
        let (parameter, value) =
            parse_session_value("client_idle_limit", "1min", Release::V4_3).unwrap();
        assert_eq!(
            (parameter.name, value),
            ("client_idle_limit", Value::Int(60))
        );
    }
}
