//! An error that ends the process, with the exit status of the original.

use crate::observe::{Reporter, Severity};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    pub message: String,
    /// Empty: no DETAIL line.
    pub detail: String,
    /// Empty: no HINT line.
    pub hint: String,
    /// Empty: no CONTEXT line.
    pub context: String,
    pub exit_code: u8,
}

impl Fatal {
    /// With the usual exit status of a FATAL, 3.
    pub fn new(message: impl Into<String>) -> Fatal {
        Fatal {
            message: message.into(),
            detail: String::new(),
            hint: String::new(),
            context: String::new(),
            exit_code: 3,
        }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Fatal {
        self.detail = detail.into();
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Fatal {
        self.hint = hint.into();
        self
    }

    pub fn context(mut self, context: impl Into<String>) -> Fatal {
        self.context = context.into();
        self
    }

    pub fn exit_code(mut self, exit_code: u8) -> Fatal {
        self.exit_code = exit_code;
        self
    }

    #[track_caller]
    pub fn report(&self, reporter: &Reporter) {
        reporter.emit_with_context(
            Severity::Fatal,
            &self.message,
            &self.detail,
            &self.hint,
            &self.context,
        );
    }
}
