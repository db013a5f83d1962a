//! Where pool_passwd speaks of a user, and in which form: for `pgpool --check-auth`.
//!
//! Reads the text of the file anew, since the entries in use hold neither. Gives no secret away.

use super::{MD5_DIGITS, SCRAM_PREFIX, password, split_line};

/// The line that counts for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// One-based line number.
    pub line: u32,
    pub form: Form,
}

/// How a password is stored, told by its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Md5,
    /// `TEXT`
    Text,
    /// `AES`
    Aes,
    /// `SCRAM-SHA-256$`
    Verifier,
    /// No prefix: the password itself.
    Bare,
}

/// The entry that [`super::PoolPasswd::get`] gives for `user`.
pub fn find_place(text: &[u8], user: &str) -> Option<Place> {
    (1..)
        .zip(text.split(|&b| b == b'\n'))
        .find_map(|(line, text)| {
            let (name, mut stored) = split_line(text)?;
            let form = Form::of(&stored);
            let counts = name == user.as_bytes()
                && !stored.is_empty()
                && std::str::from_utf8(&stored).is_ok();
            password::wipe(&mut stored);
            counts.then_some(Place { line, form })
        })
}

impl Form {
    fn of(stored: &[u8]) -> Form {
        match stored {
            [b'm', b'd', b'5', hash @ ..] if hash.len() == MD5_DIGITS => Form::Md5,
            stored if stored.starts_with(b"AES") => Form::Aes,
            stored if stored.starts_with(SCRAM_PREFIX.as_bytes()) => Form::Verifier,
            stored if stored.starts_with(b"TEXT") => Form::Text,
            _ => Form::Bare,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::passwd::{PoolPasswd, Secret};

    #[test]
    fn the_line_and_the_form_are_those_of_the_entry_that_counts() {
        let text = "a:\nno colon\na:md57c53eaf86052083b816bfc7c7a6edf5d\na:later\n\
                    t:TEXTx\nb:x\nm:md5short\ne:AESzzzz\ns:SCRAM-SHA-256$4096:c2FsdA==$a:b\n";
        let passwd = PoolPasswd::parse(text.as_bytes(), None);
        for (user, expected) in [
            ("a", Some((3, Form::Md5))),
            ("t", Some((5, Form::Text))),
            ("b", Some((6, Form::Bare))),
            ("m", Some((7, Form::Bare))),
            ("e", Some((8, Form::Aes))),
            ("s", Some((9, Form::Verifier))),
            ("x", None),
        ] {
            let place = find_place(text.as_bytes(), user);
            assert_eq!(place.map(|p| (p.line, p.form)), expected, "{user}");
            let form = passwd.get(user).map(|secret| match secret {
                Secret::Md5(_) => "md5",
                Secret::Clear(_) => "clear",
                Secret::ScramVerifier(_) => "verifier",
                Secret::Undecryptable => "aes",
            });
            let same = place.map(|p| match p.form {
                Form::Md5 => "md5",
                Form::Text | Form::Bare => "clear",
                Form::Verifier => "verifier",
                Form::Aes => "aes",
            });
            assert_eq!(form, same, "{user}");
        }
        let bytes = find_place(b"a:\xff\na:x", "a");
        assert_eq!(bytes.map(|p| p.line), Some(2), "a line that is skipped");
    }
}
