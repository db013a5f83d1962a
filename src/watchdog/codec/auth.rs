//! `wd_authkey`: the hash that goes along with announcements and heartbeats.
//!
//! HMAC-SHA256 as in builds with OpenSSL, which all packages are. Builds without it use MD5 in another
//! manner; such nodes are told apart by nothing but a wrong hash.

use openssl::{memcmp, sha::Sha256};

/// Longest key that the original takes.
pub const MAX_KEY: usize = 1024;

const BLOCK: usize = 64;

/// The shared secret of a cluster; empty: nothing is signed and nothing is checked.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthKey(String);

impl std::fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_set() {
            "AuthKey(set)"
        } else {
            "AuthKey(none)"
        })
    }
}

impl AuthKey {
    pub fn new(key: impl Into<String>) -> AuthKey {
        AuthKey(key.into())
    }

    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    /// 64 hex digits; `None` without a key.
    pub fn sign(&self, text: &str) -> Option<String> {
        self.is_set().then(|| {
            let digest = hmac(self.0.as_bytes(), text.as_bytes());
            digest.iter().map(|byte| format!("{byte:02x}")).collect()
        })
    }

    /// Is `hash` what [`AuthKey::sign`] gives? Without a key everything is right. A hash that is
    /// missing counts as a wrong one (it crashes a stock watchdog).
    pub fn accepts(&self, text: &str, hash: Option<&str>) -> bool {
        match (self.sign(text), hash) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(right), Some(given)) => same(right.as_bytes(), given.as_bytes()),
        }
    }

    /// Is this the key itself, as the local tools send it?
    pub fn is(&self, given: Option<&str>) -> bool {
        given.is_some_and(|given| same(self.0.as_bytes(), given.as_bytes()))
    }
}

/// In constant time for equal lengths.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && memcmp::eq(a, b)
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&openssl::sha::sha256(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let mut inner = Sha256::new();
    inner.update(&block.map(|byte| byte ^ 0x36));
    inner.update(text);
    let mut outer = Sha256::new();
    outer.update(&block.map(|byte| byte ^ 0x5c));
    outer.update(&inner.finish());
    outer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_hash_is_a_wrong_hash_unless_there_is_no_key() {
        let key = AuthKey::new("SpecKey123");
        let hash = key.sign("state=1 wd_port=9000");
        assert!(key.accepts("state=1 wd_port=9000", hash.as_deref()));
        assert!(!key.accepts("state=2 wd_port=9000", hash.as_deref()));
        assert!(!key.accepts("state=1 wd_port=9000", None));
        assert!(AuthKey::default().accepts("anything", None));
        assert!(AuthKey::default().accepts("anything", hash.as_deref()));
    }

    #[test]
    fn keys_longer_than_a_block_are_hashed_first() {
        // RFC 4231, test case 6.
        let digest = hmac(
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
        );
        assert_eq!(digest[..4], [0x60, 0xe4, 0x31, 0x59]);
    }

    #[test]
    fn the_key_is_not_printed() {
        assert_eq!(format!("{:?}", AuthKey::new("secret")), "AuthKey(set)");
    }
}
