//! The messages that an admin command is answered with, as bytes of the wire protocol 3.0.
//!
//! Every column is of type 0 (unspecified), as the original sends it; clients take it as text.

use crate::observe::Severity;

/// An error of ours, as it goes to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorFields {
    pub severity: Severity,
    /// Five characters.
    pub sqlstate: &'static str,
    pub message: String,
    /// Empty: not sent.
    pub detail: String,
    /// Empty: not sent.
    pub hint: String,
}

impl ErrorFields {
    /// An ERROR with XX000, which the original uses for nearly everything of its own.
    pub fn error(message: impl Into<String>) -> ErrorFields {
        ErrorFields {
            severity: Severity::Error,
            sqlstate: "XX000",
            message: message.into(),
            detail: String::new(),
            hint: String::new(),
        }
    }

    pub fn with_detail(mut self, detail: impl Into<String>) -> ErrorFields {
        self.detail = detail.into();
        self
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> ErrorFields {
        self.hint = hint.into();
        self
    }
}

pub fn row_description<S: AsRef<str>>(out: &mut Vec<u8>, columns: &[S]) {
    message(out, b'T', |out| {
        count(out, columns.len());
        for (position, name) in columns.iter().enumerate() {
            text(out, name.as_ref());
            out.extend_from_slice(&0u32.to_be_bytes()); // table
            count(out, position); // the original numbers the columns here, although there is no table
            out.extend_from_slice(&0u32.to_be_bytes()); // type
            out.extend_from_slice(&(-1i16).to_be_bytes()); // size
            out.extend_from_slice(&0u32.to_be_bytes()); // type modifier
            out.extend_from_slice(&0u16.to_be_bytes()); // text format
        }
    });
}

pub fn data_row<S: AsRef<str>>(out: &mut Vec<u8>, fields: &[S]) {
    message(out, b'D', |out| {
        count(out, fields.len());
        for field in fields {
            let bytes = field.as_ref().as_bytes();
            length(out, bytes.len());
            out.extend_from_slice(bytes);
        }
    });
}

pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    message(out, b'C', |out| text(out, tag));
}

pub fn error_response(out: &mut Vec<u8>, error: &ErrorFields) {
    message(out, b'E', |out| {
        let severity = error.severity.label();
        for (code, value) in [
            (b'S', severity),
            (b'V', severity),
            (b'C', error.sqlstate),
            (b'M', &error.message),
            (b'D', &error.detail),
            (b'H', &error.hint),
        ] {
            if !value.is_empty() {
                out.push(code);
                text(out, value);
            }
        }
        out.push(0);
    });
}

/// A message whose length is filled in when the body is known.
fn message(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// A NUL inside would end the text early for the client, and everything after it would be misread.
fn text(out: &mut Vec<u8>, value: &str) {
    out.extend(value.bytes().filter(|&b| b != 0));
    out.push(0);
}

fn count(out: &mut Vec<u8>, n: usize) {
    out.extend_from_slice(&u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes());
}

fn length(out: &mut Vec<u8>, n: usize) {
    out.extend_from_slice(&u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_encoded_as_the_original_does() {
        let mut out = Vec::new();
        row_description(&mut out, &["port"]);
        assert_eq!(
            out,
            b"T\0\0\0\x1d\0\x01port\0\0\0\0\0\0\0\0\0\0\0\xff\xff\0\0\0\0\0\0"
        );
    }

    #[test]
    fn an_empty_field_is_no_null() {
        let mut out = Vec::new();
        data_row(&mut out, &["", "a"]);
        assert_eq!(out, b"D\0\0\0\x0f\0\x02\0\0\0\0\0\0\0\x01a");
    }

    #[test]
    fn an_error_carries_only_the_fields_it_has() {
        let mut out = Vec::new();
        error_response(&mut out, &ErrorFields::error("no\0pe").with_hint("h"));
        assert_eq!(out, b"E\0\0\0\x23SERROR\0VERROR\0CXX000\0Mnope\0Hh\0\0");
    }
}
