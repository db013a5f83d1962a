//! The messages that an admin command is answered with, as bytes of the wire protocol 3.0.
//!
//! Every column is of type 0 (unspecified), as the original sends it; clients take it as text.

use crate::protocol::messages::{ErrorMessage, frame};

pub fn row_description<S: AsRef<str>>(out: &mut Vec<u8>, columns: &[S]) {
    frame(b'T', out, |out| {
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
    frame(b'D', out, |out| {
        count(out, fields.len());
        for field in fields {
            let bytes = field.as_ref().as_bytes();
            length(out, bytes.len());
            out.extend_from_slice(bytes);
        }
    });
}

pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    frame(b'C', out, |out| text(out, tag));
}

/// What the original raises for nearly everything of its own: an ERROR with XX000.
pub fn error(message: impl Into<String>) -> ErrorMessage {
    ErrorMessage::error("XX000", message)
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
}
