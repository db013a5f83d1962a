//! pool_passwd: the secrets that the proxy knows.

/// The entries of pool_passwd, AES entries already decrypted where the key is known.
#[derive(Debug, Default)]
pub struct PoolPasswd {}

/// What pool_passwd says about a user.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// 32 hex digits, without the `md5` prefix: md5(password + user).
    Md5(String),
    Clear(String),
    /// A SCRAM-SHA-256 verifier as PostgreSQL stores it.
    ScramVerifier(String),
    /// An AES entry that the pool key does not open, or no key is there.
    Undecryptable,
}

impl PoolPasswd {
    pub fn get(&self, user: &str) -> Option<Secret> {
        let _ = user;
        None
    }

    /// The password of an internal connection: `health_check_password` and its like.
    ///
    /// `configured` is the value in pgpool.conf and may have any form that pool_passwd has;
    /// when it is empty the entry of `user` counts.
    pub fn resolve_internal(&self, user: &str, configured: &str) -> Option<Secret> {
        if configured.is_empty() {
            self.get(user)
        } else {
            Some(Secret::Clear(configured.to_owned()))
        }
    }
}
