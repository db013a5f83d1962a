//! What is known of a user's password during a session, whatever file or message it came from.

use std::fmt;

use super::{
    error::ErrorReport,
    passwd::Secret,
    password::{self, Password},
    scram::{ClientKey, Verifier},
};

#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    Clear(Password),
    /// md5(password + user) without the prefix `md5`.
    Md5(String),
    Verifier(Verifier),
    /// What a client's proof for a verifier has shown.
    ClientKey(ClientKey),
    /// An AES entry that cannot be opened.
    Undecryptable,
    /// A verifier that cannot be read.
    Malformed,
}

/// An md5 hash is as good as the password to servers that ask for md5.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Clear(_) => "Clear(...)",
            Credential::Md5(_) => "Md5(...)",
            Credential::Verifier(_) => "Verifier(...)",
            Credential::ClientKey(_) => "ClientKey(...)",
            Credential::Undecryptable => "Undecryptable",
            Credential::Malformed => "Malformed",
        })
    }
}

impl From<Secret> for Credential {
    fn from(secret: Secret) -> Credential {
        match secret {
            Secret::Clear(text) => Credential::Clear(Password::new(text)),
            Secret::Md5(hash) => Credential::Md5(hash),
            Secret::ScramVerifier(text) => {
                Verifier::parse(&text).map_or(Credential::Malformed, Credential::Verifier)
            }
            Secret::Undecryptable => Credential::Undecryptable,
        }
    }
}

impl Credential {
    /// What can be done with a secret; an empty password is none, as it is to PostgreSQL.
    pub(crate) fn usable(secret: Option<Secret>) -> Option<Credential> {
        secret
            .map(Credential::from)
            .filter(|credential| !matches!(credential, Credential::Clear(p) if p.is_empty()))
    }

    /// The md5 form, for md5 dialogues on either side.
    pub(crate) fn md5(&self, user: &str) -> Option<String> {
        match self {
            Credential::Md5(hash) => Some(hash.clone()),
            Credential::Clear(clear) => Some(password::md5_of_password(clear.as_bytes(), user)),
            _ => None,
        }
    }
}

/// pool_passwd has no line for the user; `message` names the method.
pub(crate) fn no_entry(message: &str, user: &str) -> ErrorReport {
    ErrorReport::fatal(
        message,
        format!("pool_passwd file does not contain an entry for \"{user}\""),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_printed() {
        let verifier = include_str!("../../fixtures/auth/verifier-of-secret.txt").trim_end();
        let salt = &verifier["SCRAM-SHA-256$4096:".len()..][..8];
        for secret in [
            Secret::Clear("hunter2".to_owned()),
            Secret::Md5("7c53eaf86052083b816bfc7c7a6edf5d".to_owned()),
            Secret::ScramVerifier(verifier.to_owned()),
        ] {
            let shown = format!("{:?}", Credential::from(secret));
            for part in ["hunter2", "7c53", salt] {
                assert!(!shown.contains(part), "{shown}");
            }
        }
    }
}
