//! Fields of ErrorResponse and NoticeResponse bodies.

/// The fields that the proxy looks at; the message itself is forwarded as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorFields<'a> {
    /// `V`, else the localised `S`.
    pub severity: &'a [u8],
    pub sqlstate: &'a [u8],
    pub message: &'a [u8],
    pub detail: &'a [u8],
}

impl<'a> ErrorFields<'a> {
    /// Reads as many fields as are there; never fails.
    pub fn parse(mut body: &'a [u8]) -> ErrorFields<'a> {
        let mut fields = ErrorFields::default();
        while let Some((&code, rest)) = body.split_first() {
            if code == 0 {
                break;
            }
            let end = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
            let (text, tail) = rest.split_at(end);
            match code {
                b'S' if fields.severity.is_empty() => fields.severity = text,
                b'V' => fields.severity = text,
                b'C' => fields.sqlstate = text,
                b'M' => fields.message = text,
                b'D' => fields.detail = text,
                _ => {}
            }
            body = tail.get(1..).unwrap_or_default();
        }
        fields
    }

    /// The backend closes the connection after it.
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity, b"FATAL" | b"PANIC")
    }

    /// The backend is told to end because its server shuts down: `admin_shutdown`, `crash_shutdown`.
    pub fn is_shutdown(&self) -> bool {
        matches!(self.sqlstate, b"57P01" | b"57P02")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unlocalised_severity_wins() {
        let f = ErrorFields::parse(b"SFATAL\xc3\x89\0VFATAL\0C57P01\0Mterminating\0Dx\0\0");
        assert!(f.is_fatal() && f.is_shutdown());
        assert_eq!((f.message, f.detail), (&b"terminating"[..], &b"x"[..]));
    }

    #[test]
    fn a_cut_body_gives_what_is_there() {
        let f = ErrorFields::parse(b"SERROR\0C425");
        assert_eq!((f.severity, f.sqlstate), (&b"ERROR"[..], &b"425"[..]));
        assert_eq!(ErrorFields::parse(b""), ErrorFields::default());
    }
}
