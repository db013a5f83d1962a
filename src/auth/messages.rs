//! The messages of the authentication phase of protocol 3, both directions.
//!
//! Requests to the client and answers to a backend are encoded, requests of a backend decoded.
//! The general codec (frames, start-up packets, ErrorResponse) is elsewhere.

/// The SASL mechanism that is always offered and answered.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The same with channel binding, where there is TLS.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// What a backend asks for or says in a message of type `R`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    Ok,
    CleartextPassword,
    Md5Password {
        salt: [u8; 4],
    },
    Sasl {
        mechanisms: Vec<String>,
    },
    SaslContinue(Vec<u8>),
    SaslFinal(Vec<u8>),
    /// GSS, SSPI and what is not known.
    Other(i32),
}

impl Authentication {
    /// Decodes the body of an `R` message; `None` when it is too short for its kind.
    pub fn decode(body: &[u8]) -> Option<Authentication> {
        let (kind, rest) = body.split_first_chunk::<4>()?;
        Some(match i32::from_be_bytes(*kind) {
            0 => Authentication::Ok,
            3 => Authentication::CleartextPassword,
            5 => Authentication::Md5Password {
                salt: *rest.first_chunk::<4>()?,
            },
            10 => Authentication::Sasl {
                mechanisms: rest
                    .split(|&b| b == 0)
                    .take_while(|name| !name.is_empty())
                    .map(|name| String::from_utf8_lossy(name).into_owned())
                    .collect(),
            },
            11 => Authentication::SaslContinue(rest.to_owned()),
            12 => Authentication::SaslFinal(rest.to_owned()),
            other => Authentication::Other(other),
        })
    }
}

pub fn authentication_ok() -> Vec<u8> {
    request(0, b"")
}

pub fn authentication_cleartext_password() -> Vec<u8> {
    request(3, b"")
}

pub fn authentication_md5_password(salt: [u8; 4]) -> Vec<u8> {
    request(5, &salt)
}

/// Offers SCRAM-SHA-256, and before it the one with channel binding when that can be had.
pub fn authentication_sasl(channel_binding: bool) -> Vec<u8> {
    request(
        10,
        if channel_binding {
            b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
        } else {
            b"SCRAM-SHA-256\0\0"
        },
    )
}

pub fn authentication_sasl_continue(data: &[u8]) -> Vec<u8> {
    request(11, data)
}

pub fn authentication_sasl_final(data: &[u8]) -> Vec<u8> {
    request(12, data)
}

/// PasswordMessage: the password or md5 answer, ended by a NUL.
pub fn password_message(password: &[u8]) -> Vec<u8> {
    message(b'p', &[password, b"\0"])
}

/// SASLInitialResponse choosing `mechanism`.
pub fn sasl_initial_response(mechanism: &str, data: &[u8]) -> Vec<u8> {
    let length = i32::try_from(data.len()).unwrap_or(i32::MAX).to_be_bytes();
    message(b'p', &[mechanism.as_bytes(), b"\0", &length, data])
}

pub fn sasl_response(data: &[u8]) -> Vec<u8> {
    message(b'p', &[data])
}

/// The mechanism that a client chose and its first data; `None` when the message is malformed.
pub fn decode_sasl_initial_response(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = body.iter().position(|&b| b == 0)?;
    let (mechanism, rest) = (body.get(..end)?, body.get(end + 1..)?);
    let (length, data) = rest.split_first_chunk::<4>()?;
    match i32::from_be_bytes(*length) {
        -1 if data.is_empty() => Some((mechanism, data)),
        length if usize::try_from(length) == Ok(data.len()) => Some((mechanism, data)),
        _ => None,
    }
}

/// The text of field `M` of an ErrorResponse body.
pub fn error_message(body: &[u8]) -> Option<String> {
    body.split(|&b| b == 0)
        .find_map(|field| field.strip_prefix(b"M"))
        .map(|text| String::from_utf8_lossy(text).into_owned())
}

fn request(kind: i32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&kind.to_be_bytes(), data])
}

fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = 4 + parts.iter().map(|p| p.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(1 + length);
    bytes.push(kind);
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_layout_of_the_protocol() {
        assert_eq!(authentication_ok(), b"R\0\0\0\x08\0\0\0\0");
        assert_eq!(
            authentication_cleartext_password(),
            b"R\0\0\0\x08\0\0\0\x03"
        );
        assert_eq!(
            authentication_md5_password([1, 2, 3, 4]),
            b"R\0\0\0\x0c\0\0\0\x05\x01\x02\x03\x04"
        );
        assert_eq!(
            authentication_sasl(false),
            b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"
        );
        assert_eq!(
            authentication_sasl(true),
            b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
        );
        assert_eq!(password_message(b"ab"), b"p\0\0\0\x07ab\0");
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let body = |bytes: Vec<u8>| bytes[5..].to_vec();
        for (bytes, expected) in [
            (authentication_ok(), Authentication::Ok),
            (
                authentication_cleartext_password(),
                Authentication::CleartextPassword,
            ),
            (
                authentication_md5_password([9; 4]),
                Authentication::Md5Password { salt: [9; 4] },
            ),
            (
                authentication_sasl(false),
                Authentication::Sasl {
                    mechanisms: vec![SCRAM_SHA_256.to_owned()],
                },
            ),
            (
                authentication_sasl_continue(b"x"),
                Authentication::SaslContinue(b"x".to_vec()),
            ),
            (
                authentication_sasl_final(b"y"),
                Authentication::SaslFinal(b"y".to_vec()),
            ),
            (request(7, b""), Authentication::Other(7)),
        ] {
            assert_eq!(Authentication::decode(&body(bytes)), Some(expected));
        }
        assert_eq!(Authentication::decode(b"\0\0\0"), None);
        assert_eq!(Authentication::decode(b"\0\0\0\x05\x01"), None);
        assert_eq!(
            decode_sasl_initial_response(&body(sasl_initial_response(SCRAM_SHA_256, b"n,,"))),
            Some((SCRAM_SHA_256.as_bytes(), &b"n,,"[..]))
        );
        assert_eq!(decode_sasl_initial_response(b"SCRAM-SHA-256"), None);
        assert_eq!(decode_sasl_initial_response(b"X\0\0\0\0\x09n"), None);
        assert_eq!(decode_sasl_initial_response(b"X\0\xff\xff\xff\xfen"), None);
    }

    #[test]
    fn the_message_field_of_an_error_is_found() {
        assert_eq!(
            error_message(b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed\0\0")
                .as_deref(),
            Some("password authentication failed")
        );
        assert_eq!(error_message(b"\0"), None);
    }
}
