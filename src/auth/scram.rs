//! SCRAM-SHA-256 (RFC 5802, RFC 7677), both sides, as PostgreSQL speaks it: channel binding by
//! `tls-server-end-point` (RFC 5929), the user name within the messages ignored.
//!
//! [`server::ServerDialogue`] asks a client, [`client::ClientDialogue`] answers a backend. Neither
//! derives keys ([`super::keys`]), sends anything or makes random numbers.

pub mod client;
pub mod server;

use base64::{Engine, prelude::BASE64_STANDARD};
use openssl::{error::ErrorStack, pkey::PKey, sha::sha256, sign::Signer};

use super::{
    keys::SaltedPassword,
    password::{same_bytes, wipe},
};

pub(crate) const KEY_LEN: usize = 32;
type Key = [u8; KEY_LEN];

/// The GS2 header of a message with channel binding.
const GS2_BOUND: &str = "p=tls-server-end-point,,";
/// More rounds are not worth seconds of a thread, whoever asks for them: a server, or a role that has
/// made its own secret.
const MAX_ITERATIONS: u32 = 1_000_000;

/// What a server keeps of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    pub iterations: u32,
    pub salt: Vec<u8>,
    pub keys: ServerKeys,
}

/// The part of a verifier that decides about a proof.
#[derive(Clone)]
pub struct ServerKeys {
    stored: Key,
    server: Key,
}

/// What a right proof tells beyond the verifier: enough to log in wherever the secret is the same.
///
/// It is no password: it opens only servers that hold the very same verifier. Never printed, and
/// overwritten when dropped.
#[derive(Clone)]
pub struct ClientKey {
    client: Key,
    verifier: Verifier,
}

impl ClientKey {
    /// The key of a password, for the verifier that it fits.
    ///
    /// # Errors
    ///
    /// When OpenSSL refuses to work.
    pub fn of(salted: &SaltedPassword, verifier: Verifier) -> Result<ClientKey, ErrorStack> {
        Ok(ClientKey {
            client: hmac(salted.as_bytes(), b"Client Key")?,
            verifier,
        })
    }

    /// The verifier that the proof fitted.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }
}

impl Drop for ClientKey {
    fn drop(&mut self) {
        wipe(&mut self.client);
    }
}

impl PartialEq for ClientKey {
    fn eq(&self, other: &ClientKey) -> bool {
        same_bytes(&self.client, &other.client) & (self.verifier == other.verifier)
    }
}

impl Eq for ClientKey {}

impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientKey(...)")
    }
}

/// Takes a time that does not depend on where the keys differ.
impl PartialEq for ServerKeys {
    fn eq(&self, other: &ServerKeys) -> bool {
        same_bytes(&self.stored, &other.stored) & same_bytes(&self.server, &other.server)
    }
}

impl Eq for ServerKeys {}

impl std::fmt::Debug for ServerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerKeys(...)")
    }
}

impl ServerKeys {
    /// # Errors
    ///
    /// When OpenSSL refuses to work.
    pub fn of(salted: &SaltedPassword) -> Result<ServerKeys, ErrorStack> {
        Ok(ServerKeys {
            stored: sha256(&hmac(salted.as_bytes(), b"Client Key")?),
            server: hmac(salted.as_bytes(), b"Server Key")?,
        })
    }

    /// The client's key, when `proof` comes from the password for the messages exchanged so far.
    fn accepts(&self, proof: &Key, auth_message: &[u8]) -> Result<Option<Key>, ErrorStack> {
        let signature = hmac(&self.stored, auth_message)?;
        let client_key = xor(proof, &signature);
        Ok(same_bytes(&sha256(&client_key), &self.stored).then_some(client_key))
    }

    fn signature(&self, auth_message: &[u8]) -> Result<Key, ErrorStack> {
        hmac(&self.server, auth_message)
    }
}

impl Verifier {
    /// Reads `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, as in pg_authid and pool_passwd.
    pub fn parse(text: &str) -> Option<Verifier> {
        let rest = text.strip_prefix("SCRAM-SHA-256$")?;
        let (cost, keys) = rest.split_once('$')?;
        let (iterations, salt) = cost.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        Some(Verifier {
            iterations: iterations
                .parse()
                .ok()
                .filter(|n| (1..=MAX_ITERATIONS).contains(n))?,
            salt: BASE64_STANDARD.decode(salt).ok()?,
            keys: ServerKeys {
                stored: decode_key(stored)?,
                server: decode_key(server)?,
            },
        })
    }
}

fn hmac(key: &[u8], data: &[u8]) -> Result<Key, ErrorStack> {
    let key = PKey::hmac(key)?;
    let mut signer = Signer::new(openssl::hash::MessageDigest::sha256(), &key)?;
    let mut result = [0; KEY_LEN];
    signer.update(data)?;
    signer.sign(&mut result)?;
    Ok(result)
}

fn xor(a: &Key, b: &Key) -> Key {
    std::array::from_fn(|i| a[i] ^ b[i])
}

fn decode_key(text: &str) -> Option<Key> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}

/// The value of attribute `name` at the start of `text`, and what follows its comma.
fn attribute(text: &str, name: char) -> Option<(&str, Option<&str>)> {
    let value = text.strip_prefix(name)?.strip_prefix('=')?;
    Some(match value.split_once(',') {
        Some((value, rest)) => (value, Some(rest)),
        None => (value, None),
    })
}

fn is_nonce(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| (0x21..=0x7e).contains(&b) && b != b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by PostgreSQL 15 for the password `secret`.
    #[test]
    fn a_verifier_of_postgresql_is_read_and_its_keys_are_those_of_the_password() {
        let text = include_str!("../../fixtures/auth/verifier-of-secret.txt").trim_end();
        let verifier = Verifier::parse(text).unwrap();
        let salted = crate::auth::keys::KeyRequest {
            password: crate::auth::Password::new("secret"),
            salt: verifier.salt.clone(),
            iterations: verifier.iterations,
        }
        .derive()
        .unwrap();
        assert_eq!(ServerKeys::of(&salted).unwrap(), verifier.keys);
    }

    #[test]
    fn what_is_no_verifier_is_refused() {
        let verifier = include_str!("../../fixtures/auth/verifier-of-secret.txt").trim_end();
        assert!(Verifier::parse(verifier).is_some() && verifier.contains("$4096:"));
        for text in [
            "",
            "SCRAM-SHA-256$",
            "SCRAM-SHA-256$4096:c2FsdA==$x:y",
            "SCRAM-SHA-256$0:c2FsdA==$AAAA:AAAA",
            // As a role may write it, to have others compute for a quarter of an hour.
            &verifier.replacen("4096", "2000000000", 1),
            "SCRAM-SHA-256$4096:c2FsdA==",
            "md5abc",
        ] {
            assert_eq!(Verifier::parse(text), None, "{text}");
        }
    }
}
