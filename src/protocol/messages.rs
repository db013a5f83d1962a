//! Messages that the proxy writes itself.

/// Fields of an ErrorResponse or NoticeResponse of our own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorMessage {
    pub severity: &'static str,
    pub sqlstate: &'static str,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

impl ErrorMessage {
    /// A FATAL error: the connection is closed after it.
    pub fn fatal(sqlstate: &'static str, message: impl Into<String>) -> ErrorMessage {
        ErrorMessage {
            severity: "FATAL",
            sqlstate,
            message: message.into(),
            ..ErrorMessage::default()
        }
    }

    pub fn error(sqlstate: &'static str, message: impl Into<String>) -> ErrorMessage {
        ErrorMessage {
            severity: "ERROR",
            ..ErrorMessage::fatal(sqlstate, message)
        }
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> ErrorMessage {
        self.detail = detail.into();
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> ErrorMessage {
        self.hint = hint.into();
        self
    }

    /// ErrorResponse.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_as(b'E', out);
    }

    /// NoticeResponse.
    pub fn encode_notice(&self, out: &mut Vec<u8>) {
        self.encode_as(b'N', out);
    }

    fn encode_as(&self, kind: u8, out: &mut Vec<u8>) {
        frame(kind, out, |out| {
            let fields = [
                (b'S', self.severity),
                (b'V', self.severity),
                (b'C', self.sqlstate),
                (b'M', self.message.as_str()),
                (b'D', self.detail.as_str()),
                (b'H', self.hint.as_str()),
            ];
            for (code, text) in fields {
                if !text.is_empty() {
                    out.push(code);
                    // A NUL inside would end the field early and shift all that follow.
                    out.extend(text.bytes().filter(|&b| b != 0));
                    out.push(0);
                }
            }
            out.push(0);
        });
    }
}

/// Writes a header, the body by `write`, then the length into the header.
pub fn frame(kind: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let len = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(at..at + 4) {
        field.copy_from_slice(&len.to_be_bytes());
    }
}

/// `state` is `I`, `T` or `E`.
pub fn ready_for_query(state: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'Z', 0, 0, 0, 5, state]);
}

pub fn query(sql: &str, out: &mut Vec<u8>) {
    frame(b'Q', out, |out| {
        out.extend_from_slice(sql.as_bytes());
        out.push(0);
    });
}

pub const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

pub const SYNC: [u8; 5] = [b'S', 0, 0, 0, 4];

pub const FLUSH: [u8; 5] = [b'H', 0, 0, 0, 4];

/// Parse of a statement without parameter types; `name` without a NUL.
pub fn parse(name: &[u8], sql: &[u8], out: &mut Vec<u8>) {
    frame(b'P', out, |out| {
        out.extend_from_slice(name);
        out.push(0);
        out.extend_from_slice(sql);
        out.extend_from_slice(&[0, 0, 0]);
    });
}

/// Close of a statement; `name` without a NUL.
pub fn close_statement(name: &[u8], out: &mut Vec<u8>) {
    close(b'S', name, out);
}

/// Close of a portal; `name` without a NUL.
pub fn close_portal(name: &[u8], out: &mut Vec<u8>) {
    close(b'P', name, out);
}

fn close(what: u8, name: &[u8], out: &mut Vec<u8>) {
    frame(b'C', out, |out| {
        out.push(what);
        out.extend_from_slice(name);
        out.push(0);
    });
}

/// Bind of a statement without parameters, results as text; names without a NUL.
pub fn bind(portal: &[u8], statement: &[u8], out: &mut Vec<u8>) {
    frame(b'B', out, |out| {
        for name in [portal, statement] {
            out.extend_from_slice(name);
            out.push(0);
        }
        out.extend_from_slice(&[0; 6]);
    });
}

/// Execute up to the end; `portal` without a NUL.
pub fn execute(portal: &[u8], out: &mut Vec<u8>) {
    frame(b'E', out, |out| {
        out.extend_from_slice(portal);
        out.extend_from_slice(&[0; 5]);
    });
}

/// SSLRequest (80877103), which has no type byte.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

pub const AUTHENTICATION_OK: [u8; 9] = [b'R', 0, 0, 0, 8, 0, 0, 0, 0];

pub fn backend_key_data(pid: u32, key: u32, out: &mut Vec<u8>) {
    frame(b'K', out, |out| {
        out.extend_from_slice(&pid.to_be_bytes());
        out.extend_from_slice(&key.to_be_bytes());
    });
}

pub fn cancel_request(pid: u32, key: u32) -> [u8; 16] {
    let mut out = [0; 16];
    out[..4].copy_from_slice(&16u32.to_be_bytes());
    out[4..8].copy_from_slice(&80_877_102u32.to_be_bytes());
    out[8..12].copy_from_slice(&pid.to_be_bytes());
    out[12..].copy_from_slice(&key.to_be_bytes());
    out
}

/// Tells a client of a newer minor version that 3.0 is spoken, and which protocol options are unknown.
pub fn negotiate_protocol_version(unknown_options: &[String], out: &mut Vec<u8>) {
    frame(b'v', out, |out| {
        out.extend_from_slice(&super::PROTOCOL_3_0.to_be_bytes());
        let count = u32::try_from(unknown_options.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for name in unknown_options {
            out.extend_from_slice(name.as_bytes());
            out.push(0);
        }
    });
}

/// The error of protocol 2.0: `E`, text, NUL.
pub fn version_2_error(text: &str) -> Vec<u8> {
    let mut out = vec![b'E'];
    out.extend_from_slice(text.as_bytes());
    out.push(0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_carries_its_fields_in_postgresql_order() {
        let mut out = Vec::new();
        ErrorMessage::fatal("53300", "full")
            .hint("wait")
            .encode(&mut out);
        assert_eq!(out, b"E\0\0\0\x26SFATAL\0VFATAL\0C53300\0Mfull\0Hwait\0\0");
    }

    #[test]
    fn a_nul_in_a_text_cannot_break_the_message() {
        let mut out = Vec::new();
        ErrorMessage::error("XX000", "a\0b").encode(&mut out);
        assert!(out.ends_with(b"Mab\0\0"));
    }

    #[test]
    fn a_cancel_request_is_sixteen_bytes() {
        assert_eq!(
            cancel_request(1, 2),
            [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2]
        );
    }
}
