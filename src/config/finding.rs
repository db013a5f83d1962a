//! What a look at the configuration found: where, how bad, what, and what to do about it.

use std::{fmt, path::PathBuf};

/// A place in a file; prints as `path:line:column`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub path: PathBuf,
    /// One-based; 0 means the file as a whole.
    pub line: u32,
    /// One-based, in bytes.
    pub column: u32,
}

impl Place {
    pub fn new(path: impl Into<PathBuf>, line: u32, column: u32) -> Place {
        Place {
            path: path.into(),
            line,
            column,
        }
    }

    pub fn whole(path: impl Into<PathBuf>) -> Place {
        Place::new(path, 0, 0)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match self.line {
            0 => Ok(()),
            line => write!(f, ":{line}:{}", self.column),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Info,
    Warning,
    /// Stops the start; at reload the running value stays.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// One finding. Prints on one line as `path:line:column: severity: text: detail (remedy)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    pub place: Place,
    /// The original's message where it has one.
    pub text: String,
    /// The original's DETAIL; may be empty.
    pub detail: String,
    /// The original's HINT, or what to do; may be empty.
    pub remedy: String,
}

impl Finding {
    pub fn error(place: Place, text: impl Into<String>) -> Finding {
        Finding::new(Severity::Error, place, text)
    }

    pub fn warning(place: Place, text: impl Into<String>) -> Finding {
        Finding::new(Severity::Warning, place, text)
    }

    pub fn info(place: Place, text: impl Into<String>) -> Finding {
        Finding::new(Severity::Info, place, text)
    }

    pub fn new(severity: Severity, place: Place, text: impl Into<String>) -> Finding {
        Finding {
            severity,
            place,
            text: text.into(),
            detail: String::new(),
            remedy: String::new(),
        }
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Finding {
        self.detail = detail.into();
        self
    }

    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = remedy.into();
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One finding is one line, whatever the file has put into a value.
        let one_line = |text: &str| text.trim_end().replace('\n', "\\n");
        write!(
            f,
            "{}: {}: {}",
            self.place,
            self.severity,
            one_line(&self.text)
        )?;
        if !self.detail.is_empty() {
            write!(f, ": {}", one_line(&self.detail))?;
        }
        if !self.remedy.is_empty() {
            write!(f, " ({})", one_line(&self.remedy))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_line_begins_with_path_line_and_column() {
        let finding = Finding::error(Place::new("/etc/pgpool2/pgpool.conf", 12, 8), "no\n good")
            .remedy("write it differently");
        assert_eq!(
            finding.to_string(),
            "/etc/pgpool2/pgpool.conf:12:8: error: no\\n good (write it differently)"
        );
    }

    #[test]
    fn a_finding_about_a_whole_file_names_no_line() {
        let place = Place::whole("pgpool.conf");
        assert_eq!(
            Finding::warning(place, "missing").to_string(),
            "pgpool.conf: warning: missing"
        );
    }
}
