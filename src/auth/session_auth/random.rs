//! The random numbers of one session's authentication, made before it begins.

use std::sync::OnceLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use openssl::{error::ErrorStack, rand::rand_bytes, sha::Sha256};

use crate::cluster::NodeId;

/// Bytes of a SCRAM nonce before base64, as PostgreSQL has it.
const NONCE: usize = 18;
const SALT: usize = 16;

/// Everything in an authentication that nobody may guess.
#[derive(Clone)]
pub struct Randomness {
    pub md5_salt: [u8; 4],
    /// For verifiers made from clear text; the same for a user during the life of the process, so
    /// that its key is derived once.
    pub scram_salt: Vec<u8>,
    /// The nonces of the session come from here.
    pub seed: [u8; 32],
}

impl Randomness {
    /// # Errors
    ///
    /// When OpenSSL has no random numbers.
    pub fn generate(user: &str) -> Result<Randomness, ErrorStack> {
        static PROCESS: OnceLock<[u8; 32]> = OnceLock::new();
        let process = match PROCESS.get() {
            Some(secret) => secret,
            None => {
                let mut secret = [0; 32];
                rand_bytes(&mut secret)?;
                PROCESS.get_or_init(|| secret)
            }
        };
        let mut md5_salt = [0; 4];
        rand_bytes(&mut md5_salt)?;
        let mut seed = [0; 32];
        rand_bytes(&mut seed)?;
        Ok(Randomness {
            md5_salt,
            scram_salt: digest(process, user.as_bytes())[..SALT].to_vec(),
            seed,
        })
    }

    /// For our dialogue with the client.
    pub(super) fn server_nonce(&self) -> String {
        BASE64_STANDARD.encode(&digest(&self.seed, b"client")[..NONCE])
    }

    /// For our dialogue with a node.
    pub(super) fn client_nonce(&self, node: NodeId) -> String {
        BASE64_STANDARD.encode(&digest(&self.seed, &node.to_be_bytes())[..NONCE])
    }
}

impl std::fmt::Debug for Randomness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Randomness(...)")
    }
}

fn digest(secret: &[u8; 32], purpose: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(secret);
    hash.update(purpose);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_and_challenges_are_new_and_salts_stay() {
        let a = Randomness::generate("u").unwrap();
        let b = Randomness::generate("u").unwrap();
        assert_ne!(a.seed, b.seed);
        assert_ne!(a.server_nonce(), b.server_nonce());
        assert_ne!(a.client_nonce(0), a.client_nonce(1));
        assert_eq!(a.scram_salt, b.scram_salt);
        assert_ne!(a.scram_salt, Randomness::generate("v").unwrap().scram_salt);
    }
}
