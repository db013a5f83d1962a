//! Passwords in memory, and the md5 forms in which they travel.

use std::fmt;

use md5::{Digest, Md5};

use super::passwd::Secret;

/// A clear-text password: bytes, since a client may send any encoding.
///
/// Never printed, and overwritten when dropped.
#[derive(Clone, Default)]
pub struct Password(Vec<u8>);

impl Password {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Password {
        Password(bytes.into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Takes a time that does not depend on where the passwords differ.
impl PartialEq for Password {
    fn eq(&self, other: &Password) -> bool {
        same_bytes(&self.0, &other.0)
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(...)")
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Overwrites bytes that held a secret.
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Without an observer the compiler may drop writes to memory that is about to be freed.
    std::hint::black_box(bytes);
}

/// Takes the secret's text out and overwrites it.
pub(crate) fn wipe_secret(secret: Secret) {
    match secret {
        Secret::Md5(text) | Secret::Clear(text) | Secret::ScramVerifier(text) => {
            wipe(&mut text.into_bytes());
        }
        Secret::Undecryptable => {}
    }
}

/// Compares in a time that depends on the lengths only.
pub(crate) fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && openssl::memcmp::eq(a, b)
}

/// 32 lower-case hex digits of the md5 of all parts in a row.
pub(crate) fn md5_hex(parts: &[&[u8]]) -> String {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// What PostgreSQL and pool_passwd store behind the prefix `md5`.
pub(crate) fn md5_of_password(password: &[u8], user: &str) -> String {
    md5_hex(&[password, user.as_bytes()])
}

/// The answer to AuthenticationMD5Password: `md5` and 32 hex digits.
pub(crate) fn md5_response(stored: &str, salt: [u8; 4]) -> String {
    format!("md5{}", md5_hex(&[stored.as_bytes(), &salt]))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pg_md5 -m -u carol secret` of 4.3.5 writes this.
    #[test]
    fn the_stored_md5_is_the_one_that_pg_md5_writes() {
        assert_eq!(
            md5_of_password(b"secret", "carol"),
            "7c53eaf86052083b816bfc7c7a6edf5d"
        );
    }

    #[test]
    fn a_password_is_not_printed() {
        assert_eq!(format!("{:?}", Password::new("secret")), "Password(...)");
    }

    #[test]
    fn passwords_of_different_length_differ() {
        assert_ne!(Password::new("secret"), Password::new("secretx"));
        assert_ne!(Password::new(""), Password::new("x"));
        assert_eq!(Password::new("secret"), Password::new("secret"));
    }
}
