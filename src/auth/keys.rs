//! The slow part of SCRAM: the key that PBKDF2 derives from a password.
//!
//! 4096 rounds take 2 ms, which no thread that serves sessions can spend. The dialogue cores
//! therefore ask for a [`KeyRequest`] to be answered; the shell looks into [`DerivedKeys`] and lets a
//! blocking thread do what is not there.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use openssl::{error::ErrorStack, hash::MessageDigest, pkcs5};

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
/// Salts repeat: a backend keeps one per user, and ours is fixed for the life of the process. Of each
/// salt two passwords are known: the one that a login succeeded with, and the last other that was
/// derived. So nobody makes the right one be derived again by trying wrong ones.
#[derive(Debug, Default)]
pub struct DerivedKeys {
    known: Mutex<HashMap<(Salt, Iterations), Known>>,
}

#[derive(Debug, Default)]
struct Known {
    right: Option<(Password, SaltedPassword)>,
    tried: Option<(Password, SaltedPassword)>,
}

type Salt = Vec<u8>;
type Iterations = u32;

impl DerivedKeys {
    /// Beyond this number of salts the memory starts anew.
    const MAX: usize = 4096;

    pub fn get(&self, request: &KeyRequest) -> Option<SaltedPassword> {
        let known = self.lock();
        let of_salt = known.get(&(request.salt.clone(), request.iterations))?;
        [&of_salt.right, &of_salt.tried]
            .into_iter()
            .flatten()
            .find(|(password, _)| *password == request.password)
            .map(|(_, key)| key.clone())
    }

    /// The answer to a request; whether the password is right remains to be seen.
    pub fn insert(&self, request: &KeyRequest, key: SaltedPassword) {
        let mut known = self.lock();
        let place = (request.salt.clone(), request.iterations);
        if known.len() >= DerivedKeys::MAX && !known.contains_key(&place) {
            known.clear();
        }
        known.entry(place).or_default().tried = Some((request.password.clone(), key));
    }

    /// A login that needed this has succeeded.
    pub fn confirm(&self, request: &KeyRequest) {
        let mut known = self.lock();
        let place = (request.salt.clone(), request.iterations);
        if let Some(of_salt) = known.get_mut(&place)
            && let Some((password, _)) = &of_salt.tried
            && *password == request.password
        {
            of_salt.right = of_salt.tried.take();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Salt, Iterations), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn wrong_passwords_do_not_displace_the_right_one() {
        let keys = DerivedKeys::default();
        let derived = |password: &str| {
            let request = request(password);
            keys.insert(&request, request.derive().unwrap());
            request
        };
        let early = derived("wrong");
        let right = derived("secret");
        keys.confirm(&right);
        for n in 0..10 {
            let wrong = derived(&format!("wrong {n}"));
            assert!(keys.get(&wrong).is_some(), "for the next try with it");
            assert_eq!(keys.get(&right), Some(right.derive().unwrap()));
        }
        assert_eq!(keys.get(&early), None);

        keys.confirm(&early);
        assert_eq!(keys.get(&right), Some(right.derive().unwrap()));
        let changed = derived("new");
        keys.confirm(&changed);
        assert!(keys.get(&changed).is_some());
        assert_eq!(keys.get(&right), None);
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
