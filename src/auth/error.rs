//! Why a login failed, as the client reads it and as the log repeats it.

/// The fields of the ErrorResponse that ends a session which could not be authenticated.
///
/// Empty `detail` and `hint` are left out of the message. The texts are those of the original,
/// because monitors and people search for them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{severity}: {message}{}{detail}", if detail.is_empty() { "" } else { ": " })]
pub struct ErrorReport {
    /// `ERROR` or `FATAL`; the connection is closed either way.
    pub severity: &'static str,
    pub sqlstate: &'static str,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

/// What the original sends with nearly all errors of its own.
const INTERNAL_ERROR: &str = "XX000";

impl ErrorReport {
    pub fn error(message: impl Into<String>, detail: impl Into<String>) -> ErrorReport {
        ErrorReport::new("ERROR", message, detail)
    }

    pub fn fatal(message: impl Into<String>, detail: impl Into<String>) -> ErrorReport {
        ErrorReport::new("FATAL", message, detail)
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> ErrorReport {
        self.hint = hint.into();
        self
    }

    fn new(
        severity: &'static str,
        message: impl Into<String>,
        detail: impl Into<String>,
    ) -> ErrorReport {
        ErrorReport {
            severity,
            sqlstate: INTERNAL_ERROR,
            message: message.into(),
            detail: detail.into(),
            hint: String::new(),
        }
    }

    /// An AES entry of pool_passwd that the key does not open; `method` is the message's first words.
    pub(crate) fn undecryptable(message: &str) -> ErrorReport {
        ErrorReport::error(message, "unable to decrypt password from pool_passwd")
            .with_hint("verify the valid pool_key exists")
    }

    /// OpenSSL refused a primitive; nothing that a client can cause.
    pub(crate) fn cryptography(source: &openssl::error::ErrorStack) -> ErrorReport {
        ErrorReport::error("authentication failed", format!("OpenSSL: {source}"))
    }
}
