//! The slow part of SCRAM: the key that PBKDF2 derives from a password.
//!
//! 4096 rounds take 2 ms, which no thread that serves sessions can spend. The dialogue cores
//! therefore ask for a [`KeyRequest`] to be answered; the shell looks into [`DerivedKeys`] and lets a
//! blocking thread do what is not there.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, OnceLock, PoisonError},
};

use openssl::{error::ErrorStack, hash::MessageDigest, pkcs5, sha::Sha256};

use super::password::{Password, wipe};

/// PBKDF2-HMAC-SHA-256 of the password (SaltedPassword of RFC 5802).
#[derive(Clone, PartialEq, Eq)]
pub struct SaltedPassword([u8; 32]);

/// What to derive; answered with [`SaltedPassword`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    pub password: Password,
    pub salt: Vec<u8>,
    pub iterations: u32,
}

impl KeyRequest {
    /// Derives the key. Takes milliseconds: call it on a blocking thread.
    ///
    /// # Errors
    ///
    /// When OpenSSL refuses to work.
    pub fn derive(&self) -> Result<SaltedPassword, ErrorStack> {
        let mut key = [0; 32];
        pkcs5::pbkdf2_hmac(
            &prepared(&self.password),
            &self.salt,
            self.iterations as usize,
            MessageDigest::sha256(),
            &mut key,
        )?;
        Ok(SaltedPassword(key))
    }
}

/// SASLprep where the password is text that allows it, else the bytes as they are, as PostgreSQL does.
fn prepared(password: &Password) -> Vec<u8> {
    std::str::from_utf8(password.as_bytes())
        .ok()
        .and_then(|text| stringprep::saslprep(text).ok())
        .map_or_else(
            || password.as_bytes().to_vec(),
            |text| text.into_owned().into_bytes(),
        )
}

impl SaltedPassword {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn of(bytes: [u8; 32]) -> SaltedPassword {
        SaltedPassword(bytes)
    }
}

impl fmt::Debug for SaltedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaltedPassword(...)")
    }
}

impl Drop for SaltedPassword {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Keys derived before, so that sessions of the same user cost 2 ms once and not each time.
///
/// Salts repeat: a backend keeps one per user, and ours is fixed for the life of the process. No
/// password is kept: what it was is told by a hash that only this process can make.
#[derive(Debug, Default)]
pub struct DerivedKeys {
    known: Mutex<HashMap<Origin, SaltedPassword>>,
    secret: OnceLock<[u8; 32]>,
}

/// Salt, rounds, and the hash of the password.
type Origin = (Vec<u8>, u32, [u8; 32]);

impl DerivedKeys {
    /// Beyond this number of keys the memory starts anew.
    const MAX: usize = 4096;

    pub fn get(&self, request: &KeyRequest) -> Option<SaltedPassword> {
        let origin = self.origin(request)?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&origin).cloned()
    }

    pub fn insert(&self, request: &KeyRequest, key: SaltedPassword) {
        let Some(origin) = self.origin(request) else {
            return;
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= DerivedKeys::MAX {
            known.clear();
        }
        known.insert(origin, key);
    }

    /// `None` when there are no random numbers; then nothing is remembered.
    fn origin(&self, request: &KeyRequest) -> Option<Origin> {
        let secret = match self.secret.get() {
            Some(secret) => secret,
            None => {
                let mut fresh = [0; 32];
                getrandom::fill(&mut fresh).ok()?;
                self.secret.get_or_init(|| fresh)
            }
        };
        let mut hash = Sha256::new();
        hash.update(secret);
        hash.update(request.password.as_bytes());
        Some((request.salt.clone(), request.iterations, hash.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(password: &str) -> KeyRequest {
        KeyRequest {
            password: Password::new(password),
            salt: b"salt".to_vec(),
            iterations: 1,
        }
    }

    #[test]
    fn a_key_is_remembered_for_its_password_only() {
        let keys = DerivedKeys::default();
        let request = request("secret");
        assert_eq!(keys.get(&request), None);
        keys.insert(&request, request.derive().unwrap());
        assert_eq!(keys.get(&request), Some(request.derive().unwrap()));

        for other in [
            KeyRequest {
                password: Password::new("wrong"),
                ..request.clone()
            },
            KeyRequest {
                salt: b"tlas".to_vec(),
                ..request.clone()
            },
            KeyRequest {
                iterations: 2,
                ..request.clone()
            },
        ] {
            assert_eq!(keys.get(&other), None);
        }
    }

    #[test]
    fn passwords_are_prepared_as_postgresql_does() {
        let same = |a: &str, b: &str| request(a).derive().unwrap() == request(b).derive().unwrap();
        assert!(same("\u{2168}", "IX"), "compatibility characters");
        assert!(same("a\u{ad}b", "ab"), "soft hyphen");
        assert!(!same("pässwörd", "password"));
        let raw = KeyRequest {
            password: Password::new(b"\xff\xfe".to_vec()),
            ..request("")
        };
        assert!(raw.derive().is_ok(), "no text at all");
        assert!(!same("a\u{7}", "a"), "prohibited text is taken as it is");
    }

    #[test]
    fn keys_are_not_printed() {
        assert_eq!(
            format!("{:?}", SaltedPassword::of([7; 32])),
            "SaltedPassword(...)"
        );
    }
}
