//! pool_passwd: the secrets that the proxy knows.
//!
//! A line is `user:password`; further fields are read by the original but used nowhere, and ignored
//! here. What a password field means is decided by its prefix ([`Secret`]). AES entries are opened
//! when the file is read, with the key of the pool key file.
//!
//! This module reads files when asked to, and knows nothing of sessions.
//!
//! Source: `src/auth/pool_passwd.c`, `src/utils/ssl_utils.c @ V4_3_5`.

mod place;

use std::{
    collections::HashMap,
    fmt,
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use openssl::{hash::MessageDigest, pkcs5, symm};

use super::{
    password::{self, Password},
    scram::Verifier,
};

pub use place::{Form, Place, find_place};

/// The original reads no more of the key file's first line.
const MAX_KEY: usize = 255;
/// `md5` is only a hash when exactly this many characters follow.
const MD5_DIGITS: usize = 32;
const SCRAM_PREFIX: &str = "SCRAM-SHA-256$";

/// The entries of pool_passwd, AES entries already decrypted where the key is known.
#[derive(Default)]
pub struct PoolPasswd {
    entries: HashMap<String, Secret>,
    /// For passwords of pgpool.conf that are written as AES.
    key: Option<Password>,
    warnings: Vec<String>,
}

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

impl Secret {
    /// What PostgreSQL keeps of a password (`rolpassword` of pg_authid); `None` for anything else.
    pub fn of_server(text: &str) -> Option<Secret> {
        if let Some(hash) = text.strip_prefix("md5") {
            let is_hash = hash.len() == MD5_DIGITS && hash.bytes().all(|b| b.is_ascii_hexdigit());
            return is_hash.then(|| Secret::Md5(hash.to_owned()));
        }
        Verifier::parse(text).map(|_| Secret::ScramVerifier(text.to_owned()))
    }
}

/// The file cannot be read. The original does not start then.
#[derive(Debug, thiserror::Error)]
#[error("initializing pool password, failed to open file:\"{}\": {}", path.display(), crate::sys::errors::message(source))]
pub struct PasswdError {
    pub path: PathBuf,
    pub source: io::Error,
}

impl PoolPasswd {
    /// Reads pool_passwd (`None` when it is switched off by `pool_passwd = ''`) and the key file.
    ///
    /// A missing key file is no error: AES entries are then [`Secret::Undecryptable`].
    ///
    /// # Errors
    ///
    /// When pool_passwd cannot be read; at start the caller makes it with [`create_if_missing`] first.
    pub fn load(path: Option<&Path>, key_path: Option<&Path>) -> Result<PoolPasswd, PasswdError> {
        let mut warnings = Vec::new();
        let key = key_path.and_then(|path| read_key(path, &mut warnings));
        let mut text = match path {
            Some(path) => fs::read(path).map_err(|source| PasswdError {
                path: path.to_owned(),
                source,
            })?,
            None => Vec::new(),
        };
        let mut passwd = PoolPasswd::parse(&text, key);
        password::wipe(&mut text);
        passwd.warnings.splice(0..0, warnings);
        Ok(passwd)
    }

    /// Reads the text of a pool_passwd.
    pub fn parse(text: &[u8], key: Option<Password>) -> PoolPasswd {
        let mut passwd = PoolPasswd::default();
        passwd.key = key;
        for (number, line) in (1..).zip(text.split(|&b| b == b'\n')) {
            passwd.add_line(number, line);
        }
        passwd
    }

    pub fn get(&self, user: &str) -> Option<Secret> {
        self.entries.get(user).cloned()
    }

    /// The password of an internal connection: `health_check_password` and its like.
    ///
    /// `configured` is the value in pgpool.conf and may have any form that pool_passwd has;
    /// when it is empty the entry of `user` counts.
    pub fn resolve_internal(&self, user: &str, configured: &str) -> Option<Secret> {
        if configured.is_empty() {
            self.get(user)
        } else {
            Some(self.secret_of(configured.to_owned()))
        }
    }

    /// What the operator should know about the files; one log message each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn add_line(&mut self, number: u32, line: &[u8]) {
        let Some((user, stored)) = split_line(line) else {
            return;
        };
        // The original passes over an entry without a password and goes on searching.
        if stored.is_empty() {
            return;
        }
        let (Ok(user), Ok(stored)) = (String::from_utf8(user), String::from_utf8(stored)) else {
            self.warnings.push(format!(
                "line {number} of pool_passwd is not valid UTF-8 and is skipped"
            ));
            return;
        };
        if stored.ends_with('\r') {
            self.warnings.push(format!(
                "line {number} of pool_passwd ends with a carriage return, which counts as part of the password"
            ));
        }
        if self.entries.contains_key(&user) {
            return;
        }
        let secret = self.secret_of(stored);
        self.entries.insert(user, secret);
    }

    fn secret_of(&self, stored: String) -> Secret {
        if let Some(hash) = stored.strip_prefix("md5")
            && hash.len() == MD5_DIGITS
        {
            return Secret::Md5(hash.to_owned());
        }
        if let Some(encoded) = stored.strip_prefix("AES") {
            return self
                .key
                .as_ref()
                .and_then(|key| decrypt(encoded, key))
                .map_or(Secret::Undecryptable, Secret::Clear);
        }
        if stored.starts_with(SCRAM_PREFIX) {
            return Secret::ScramVerifier(stored);
        }
        match stored.strip_prefix("TEXT") {
            Some(text) => Secret::Clear(text.to_owned()),
            None => Secret::Clear(stored),
        }
    }
}

/// Users are shown, secrets never.
impl fmt::Debug for PoolPasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.entries).finish()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Secret::Md5(_) => "Md5(...)",
            Secret::Clear(_) => "Clear(...)",
            Secret::ScramVerifier(_) => "ScramVerifier(...)",
            Secret::Undecryptable => "Undecryptable",
        })
    }
}

impl Drop for PoolPasswd {
    fn drop(&mut self) {
        for (_, secret) in self.entries.drain() {
            password::wipe_secret(secret);
        }
    }
}

/// Makes an empty pool_passwd, as the original does at start, readable by its owner only.
///
/// # Errors
///
/// When the file is not there and cannot be made.
pub fn create_if_missing(path: &Path) -> Result<(), PasswdError> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(PasswdError {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The key for AES entries: the first line of the key file. `None` when there is no file.
pub fn read_key(path: &Path, warnings: &mut Vec<String>) -> Option<Password> {
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_file() {
        warnings.push(format!(
            "pool key file \"{}\" is not a plain file",
            path.display()
        ));
        return None;
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        warnings.push(format!(
            "pool key file \"{}\" has group or world access; permissions should be u=rw (0600) or less",
            path.display()
        ));
    }
    let mut text = match fs::read(path) {
        Ok(text) => text,
        Err(e) => {
            warnings.push(format!(
                "could not read pool key file \"{}\": {}",
                path.display(),
                crate::sys::errors::message(&e)
            ));
            return None;
        }
    };
    let key = text.split_inclusive(|&b| b == b'\n').next().map(|line| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        Password::new(line.get(..MAX_KEY).unwrap_or(line))
    });
    password::wipe(&mut text);
    key
}

/// User and password of a line, escapes undone; `None` for a line without a colon.
fn split_line(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (user, rest) = next_field(line);
    let rest = rest?;
    // A verifier is full of colons. The original cuts it at the first and can never use it.
    if rest.starts_with(SCRAM_PREFIX.as_bytes()) {
        return Some((user, rest.to_owned()));
    }
    Some((user, next_field(rest).0))
}

/// One field with its escapes undone, and what follows its colon.
fn next_field(text: &[u8]) -> (Vec<u8>, Option<&[u8]>) {
    let mut field = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match (byte, text.get(at + 1)) {
            (b':', _) => return (field, text.get(at + 1..)),
            (b'\\', Some(&escaped)) => {
                field.push(escaped);
                at += 2;
            }
            (b'\\', None) => at += 1,
            (other, _) => {
                field.push(other);
                at += 1;
            }
        }
    }
    (field, None)
}

/// AES-256-CBC with key and IV from EVP_BytesToKey (SHA-1, no salt, one round), as `pg_enc` does it.
fn decrypt(encoded: &str, key: &Password) -> Option<String> {
    let cipher = symm::Cipher::aes_256_cbc();
    let derived =
        pkcs5::bytes_to_key(cipher, MessageDigest::sha1(), key.as_bytes(), None, 1).ok()?;
    let ciphertext = BASE64_STANDARD.decode(encoded).ok()?;
    let clear = symm::decrypt(cipher, &derived.key, derived.iv.as_deref(), &ciphertext).ok()?;
    // A wrong key passes the padding check once in 256 times and then gives noise.
    String::from_utf8(clear)
        .ok()
        .filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> PoolPasswd {
        PoolPasswd::parse(text.as_bytes(), Some(Password::new("mykey123")))
    }

    fn clear(text: &str) -> Option<Secret> {
        Some(Secret::Clear(text.to_owned()))
    }

    #[test]
    fn the_form_of_a_password_is_told_by_its_prefix() {
        let passwd = read(
            "hashed:md57c53eaf86052083b816bfc7c7a6edf5d\n\
             short:md5abc\n\
             plain:secret\n\
             text:TEXTmd57c53eaf86052083b816bfc7c7a6edf5d\n\
             aes:AES7oKybeNIY0jebC5DUrqxzA==\n\
             broken:AESzzzz\n\
             scram:SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy\n\
             last:no newline",
        );

        assert_eq!(
            passwd.get("hashed"),
            Some(Secret::Md5("7c53eaf86052083b816bfc7c7a6edf5d".into()))
        );
        assert_eq!(passwd.get("short"), clear("md5abc"));
        assert_eq!(passwd.get("plain"), clear("secret"));
        assert_eq!(
            passwd.get("text"),
            clear("md57c53eaf86052083b816bfc7c7a6edf5d")
        );
        assert_eq!(passwd.get("aes"), clear("secret"));
        assert_eq!(passwd.get("broken"), Some(Secret::Undecryptable));
        assert_eq!(
            passwd.get("scram"),
            Some(Secret::ScramVerifier(
                "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy".into()
            ))
        );
        assert_eq!(passwd.get("last"), clear("no newline"));
        assert_eq!(passwd.get("nobody"), None);
    }

    /// All seen on 4.3.5.
    #[test]
    fn lines_are_split_as_the_original_splits_them() {
        let passwd = read(
            "a:first\na:second\n\
             b:\nb:found\n\
             c:pw:other:otherpw\n\
             d:se\\:cret\n\
             e:se\\\\cret\n\
             f:se\\cret\n\
             g\\:h:pw\n\
             #i:pw\n\
             j: blanks stay \n\
             no colon\n",
        );

        assert_eq!(passwd.get("a"), clear("first"));
        assert_eq!(passwd.get("b"), clear("found"));
        assert_eq!(passwd.get("c"), clear("pw"));
        assert_eq!(passwd.get("d"), clear("se:cret"));
        assert_eq!(passwd.get("e"), clear("se\\cret"));
        assert_eq!(passwd.get("f"), clear("secret"));
        assert_eq!(passwd.get("g:h"), clear("pw"));
        assert_eq!(passwd.get("#i"), clear("pw"));
        assert_eq!(passwd.get("j"), clear(" blanks stay "));
        assert_eq!(passwd.get("no colon"), None);
    }

    #[test]
    fn a_carriage_return_stays_in_the_password_and_is_reported() {
        let passwd = read("a:secret\r\n");
        assert_eq!(passwd.get("a"), clear("secret\r"));
        assert_eq!(
            passwd.warnings(),
            [
                "line 1 of pool_passwd ends with a carriage return, which counts as part of the password"
            ]
        );
    }

    #[test]
    fn a_password_longer_than_the_limit_of_the_original_is_not_cut() {
        let long = "p".repeat(200);
        assert_eq!(read(&format!("a:{long}\n")).get("a"), clear(&long));
    }

    #[test]
    fn a_line_that_is_not_utf_8_is_skipped_and_reported() {
        let passwd = PoolPasswd::parse(b"a:\xff\xfe\nb:pw\n", None);
        assert_eq!(passwd.get("a"), None);
        assert_eq!(passwd.get("b"), clear("pw"));
        assert_eq!(
            passwd.warnings(),
            ["line 1 of pool_passwd is not valid UTF-8 and is skipped"]
        );
    }

    /// Made by `pg_enc` 4.3.5.
    #[test]
    fn aes_entries_of_pg_enc_are_opened() {
        for (key, password, stored) in [
            ("mykey123", "secret", "AES7oKybeNIY0jebC5DUrqxzA=="),
            ("mykey123", "secret2", "AESgTswBtqmQ/Z8Xlj0kTyoVw=="),
            ("mykey123", "s3", "AESLgZQIz/e1DP5tDuayP8Gew=="),
            ("mykey123", "a", "AESlp0KfV8EfLmM+fxe9iK8kQ=="),
            (
                "mykey123",
                "0123456789abcdef",
                "AESwpCobaJJbJ03vGOp032q0eYBBSlzJZ4S9Yeg1LrPr+I=",
            ),
            (
                "mykey123",
                "pässwörd with space",
                "AESgY7inNalJQcyKOh5cJM8OocsZJsfV6mlRxqKUgAyUtA=",
            ),
            ("k", "postgres", "AEScAGGwyLPeJyUBLcOHbrHoA=="),
        ] {
            let passwd =
                PoolPasswd::parse(format!("u:{stored}").as_bytes(), Some(Password::new(key)));
            assert_eq!(passwd.get("u"), clear(password), "{stored}");
        }
    }

    #[test]
    fn an_aes_entry_without_a_key_or_with_the_wrong_one_is_undecryptable() {
        let line = b"u:AES7oKybeNIY0jebC5DUrqxzA==";
        for key in [
            None,
            Some(Password::new("mykey124")),
            Some(Password::new("")),
        ] {
            assert_eq!(
                PoolPasswd::parse(line, key).get("u"),
                Some(Secret::Undecryptable)
            );
        }
    }

    #[test]
    fn the_password_of_an_internal_connection_may_have_every_form() {
        let passwd = read("health:stored\n");
        assert_eq!(passwd.resolve_internal("health", ""), clear("stored"));
        assert_eq!(passwd.resolve_internal("nobody", ""), None);
        assert_eq!(passwd.resolve_internal("health", "own"), clear("own"));
        assert_eq!(passwd.resolve_internal("health", "TEXTown"), clear("own"));
        assert_eq!(
            passwd.resolve_internal("health", "AES7oKybeNIY0jebC5DUrqxzA=="),
            clear("secret")
        );
        assert_eq!(
            passwd.resolve_internal("health", "md57c53eaf86052083b816bfc7c7a6edf5d"),
            Some(Secret::Md5("7c53eaf86052083b816bfc7c7a6edf5d".into()))
        );
    }

    #[test]
    fn the_key_is_the_first_line_and_open_permissions_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "mykey123\nsecond line\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let mut warnings = Vec::new();

        assert_eq!(
            read_key(&path, &mut warnings),
            Some(Password::new("mykey123"))
        );

        assert_eq!(
            warnings,
            [format!(
                "pool key file \"{}\" has group or world access; permissions should be u=rw (0600) or less",
                path.display()
            )]
        );
        assert_eq!(read_key(&dir.path().join("none"), &mut warnings), None);
        assert_eq!(warnings.len(), 1, "a missing key file is no message");
    }

    #[test]
    fn a_missing_pool_passwd_is_an_error_until_it_has_been_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pool_passwd");
        let error = PoolPasswd::load(Some(&path), None).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("initializing pool password, failed to open file:\""),
            "{error}"
        );

        create_if_missing(&path).unwrap();

        assert_eq!(PoolPasswd::load(Some(&path), None).unwrap().get("a"), None);
        create_if_missing(&path).unwrap();
        assert!(PoolPasswd::load(None, None).is_ok());
    }

    #[test]
    fn neither_entries_nor_the_key_are_printed() {
        let passwd = read("a:hunter2\nb:md57c53eaf86052083b816bfc7c7a6edf5d\n");
        let printed = format!("{passwd:?}");
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(!printed.contains("7c53"), "{printed}");
        assert!(!printed.contains("mykey"), "{printed}");
    }
}
