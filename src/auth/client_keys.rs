//! What the proofs of earlier logins have shown, so that it need not be shown again.
//!
//! A client that has logged in by SCRAM has told its key ([`ClientKey`]), which opens every server with
//! the same secret. It is kept for a user who comes again by certificate. A key is worth nothing when
//! the secret has changed, and the login core compares; so nothing expires. Keys are overwritten when
//! they are dropped.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::scram::ClientKey;

/// The key of each user's last good login.
#[derive(Debug, Default)]
pub struct ClientKeys {
    known: Mutex<HashMap<String, ClientKey>>,
}

impl ClientKeys {
    /// Beyond this number of users the memory starts anew.
    const MAX: usize = 4096;

    pub fn get(&self, user: &str) -> Option<ClientKey> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(user).cloned()
    }

    /// Call it after a good login only.
    pub fn keep(&self, user: &str, key: &ClientKey) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(user).is_some_and(|old| old == key) {
            return;
        }
        if known.len() >= ClientKeys::MAX && !known.contains_key(user) {
            known.clear();
        }
        known.insert(user.to_owned(), key.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{keys::SaltedPassword, scram::Verifier};

    fn key(byte: u8) -> ClientKey {
        let text = include_str!("../../fixtures/auth/verifier-of-secret.txt");
        let verifier = Verifier::parse(text.trim_end()).unwrap();
        ClientKey::of(&SaltedPassword::of([byte; 32]), verifier).unwrap()
    }

    #[test]
    fn the_last_key_of_a_user_is_kept_and_the_number_of_users_is_bounded() {
        let keys = ClientKeys::default();
        keys.keep("alice", &key(1));
        keys.keep("alice", &key(2));
        assert_eq!(keys.get("alice"), Some(key(2)));
        assert_eq!(keys.get("bob"), None);
        for n in 0..ClientKeys::MAX {
            keys.keep(&format!("user{n}"), &key(3));
        }
        assert_eq!(keys.get("alice"), None);
        assert!(keys.known.lock().unwrap().len() <= ClientKeys::MAX);
    }
}
