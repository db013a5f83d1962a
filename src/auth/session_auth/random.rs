//! The random numbers of one session's authentication, made before it begins.

use std::{cell::RefCell, sync::OnceLock};

use base64::{Engine, prelude::BASE64_STANDARD};
use openssl::sha::Sha256;

use crate::cluster::NodeId;

/// Bytes of a SCRAM nonce before base64, as PostgreSQL has it.
const NONCE: usize = 18;
const SALT: usize = 16;
/// Random bytes that a thread fetches at once: a system call for each login is one too many.
const STORE: usize = 2048;

/// Everything in an authentication that nobody may guess.
#[derive(Clone)]
pub struct Randomness {
    pub md5_salt: [u8; 4],
    /// The nonces of the session come from here.
    pub seed: [u8; 32],
    /// The same during the life of the process.
    process: &'static [u8; 32],
}

impl Randomness {
    /// # Errors
    ///
    /// When the kernel gives no random numbers.
    pub fn generate() -> Result<Randomness, getrandom::Error> {
        thread_local! {
            static BYTES: RefCell<Store> = RefCell::default();
        }
        let process = process_secret()?;
        BYTES.with_borrow_mut(|store| {
            Ok(Randomness {
                md5_salt: store.take()?,
                seed: store.take()?,
                process,
            })
        })
    }

    /// For verifiers made from clear text; the same for a user during the life of the process, so
    /// that its key is derived once.
    pub(super) fn scram_salt(&self, user: &str) -> Vec<u8> {
        digest(self.process, user.as_bytes())[..SALT].to_vec()
    }

    /// For our dialogue with the client.
    pub(super) fn server_nonce(&self) -> String {
        BASE64_STANDARD.encode(&digest(&self.seed, b"client")[..NONCE])
    }

    /// For our dialogue with a node.
    pub fn client_nonce(&self, node: NodeId) -> String {
        BASE64_STANDARD.encode(&digest(&self.seed, &node.to_be_bytes())[..NONCE])
    }
}

impl std::fmt::Debug for Randomness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Randomness(...)")
    }
}

/// Made once.
fn process_secret() -> Result<&'static [u8; 32], getrandom::Error> {
    static SECRET: OnceLock<[u8; 32]> = OnceLock::new();
    if let Some(secret) = SECRET.get() {
        return Ok(secret);
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)?;
    Ok(SECRET.get_or_init(|| secret))
}

/// Random bytes that nobody has had.
#[derive(Default)]
struct Store {
    bytes: Vec<u8>,
}

impl Store {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], getrandom::Error> {
        if self.bytes.len() < N {
            let mut fresh = vec![0; STORE];
            getrandom::fill(&mut fresh)?;
            self.bytes = fresh;
        }
        let rest = self.bytes.len() - N;
        let mut taken = [0; N];
        taken.copy_from_slice(&self.bytes[rest..]);
        self.bytes.truncate(rest);
        Ok(taken)
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
        let a = Randomness::generate().unwrap();
        let b = Randomness::generate().unwrap();
        assert_ne!(a.seed, b.seed);
        assert_ne!(a.server_nonce(), b.server_nonce());
        assert_ne!(a.client_nonce(0), a.client_nonce(1));
        assert_eq!(a.scram_salt("u"), b.scram_salt("u"));
        assert_ne!(a.scram_salt("u"), a.scram_salt("v"));
    }

    #[test]
    fn a_store_gives_no_byte_twice() {
        let mut store = Store::default();
        let taken: std::collections::BTreeSet<[u8; 36]> =
            (0..3 * STORE / 36).map(|_| store.take().unwrap()).collect();
        assert_eq!(taken.len(), 3 * STORE / 36);
    }
}
