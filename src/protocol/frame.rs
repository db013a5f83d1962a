//! Message headers: one type byte and a length that counts itself.

/// Bytes of a header.
pub const HEADER_LEN: usize = 5;

/// Largest length field that PostgreSQL takes (`PQ_LARGE_MESSAGE_LIMIT`, `src/include/libpq/libpq.h`), plus its own size.
const MAX_LENGTH: u32 = 0x3fff_ffff + 4;

/// A message header whose length field has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: u8,
    /// Bytes that follow the header.
    pub body_len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message '{}' has an invalid length of {length}", char::from(*kind).escape_default())]
pub struct HeaderError {
    pub kind: u8,
    pub length: u32,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None`: fewer than five bytes are there.
    ///
    /// # Errors
    ///
    /// A length below four or above PostgreSQL's limit of 1 GB.
    pub fn read(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
        let Some((&[kind, a, b, c, d], _)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        if !(4..=MAX_LENGTH).contains(&length) {
            return Err(HeaderError { kind, length });
        }
        Ok(Some(Header {
            kind,
            body_len: length as usize - 4,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_needs_five_bytes() {
        assert_eq!(Header::read(b"Q\0\0\0"), Ok(None));
        assert_eq!(
            Header::read(b"Q\0\0\0\x0aselec"),
            Ok(Some(Header {
                kind: b'Q',
                body_len: 6
            }))
        );
    }

    #[test]
    fn a_length_that_does_not_count_itself_is_refused() {
        let error = Header::read(b"S\0\0\0\x03").unwrap_err();
        assert_eq!(error.to_string(), "message 'S' has an invalid length of 3");
        assert!(Header::read(b"d\xff\xff\xff\xff").is_err());
        assert!(Header::read(b"d\x40\0\0\x03").is_ok());
        assert!(Header::read(b"d\x40\0\0\x04").is_err());
    }
}
