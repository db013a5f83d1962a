//! Logins against pcp.conf: the file is read for each login, so edits need no reload.
//!
//! A line is `user:md5hex`, where md5hex is the plain md5 of the password. Lines that begin with
//! `#` and empty lines are skipped; nothing is trimmed. A user may have several lines; each counts.
//! Source: `src/pcp_con/pcp_worker.c @ V4_3_5`.

use std::{io, path::Path};

use md5::{Digest, Md5};
use tokio::io::AsyncReadExt;

use super::dialogue::{LoginAttempt, LoginVerdict};
use crate::observe::{Reporter, Severity};

/// Bytes of pcp.conf that are read; a larger file is not one.
const MAX_FILE: u64 = 1 << 20;

/// Reads pcp.conf and compares. Never blocks the thread.
pub async fn check(path: &Path, attempt: &LoginAttempt) -> LoginVerdict {
    match read(path).await {
        Ok(text) => {
            warn_of_bad_lines(path, &text);
            if verify(&text, attempt) {
                LoginVerdict::Accepted
            } else {
                LoginVerdict::Wrong
            }
        }
        Err(error) => LoginVerdict::NoPasswordFile(format!(
            "could not open {}. reason: {}",
            path.display(),
            reason(&error)
        )),
    }
}

async fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    tokio::fs::File::open(path)
        .await?
        .take(MAX_FILE)
        .read_to_end(&mut text)
        .await?;
    Ok(text)
}

/// The system's words without Rust's "(os error 2)".
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// Whether any line of pcp.conf makes the response.
fn verify(text: &[u8], attempt: &LoginAttempt) -> bool {
    let mut good = false;
    for (user, hash) in text.split(|&byte| byte == b'\n').filter_map(entry) {
        if user == attempt.user {
            good |= equal(
                &response(hash, user, attempt.salt),
                attempt.response.as_slice(),
            );
        }
    }
    good
}

fn entry(line: &[u8]) -> Option<(&[u8], &[u8])> {
    if line.is_empty() || line.starts_with(b"#") {
        return None;
    }
    let colon = line.iter().position(|&byte| byte == b':')?;
    Some((line.get(..colon)?, line.get(colon + 1..)?))
}

/// The original ends the login at a line without a colon; here it is skipped, and said.
fn warn_of_bad_lines(path: &Path, text: &[u8]) {
    for (line, number) in text.split(|&byte| byte == b'\n').zip(1..) {
        if !line.is_empty() && !line.starts_with(b"#") && !line.contains(&b':') {
            Reporter::new("pcp_child").emit(
                Severity::Warning,
                format_args!("{}:{number}: line is ignored", path.display()),
                "a line of pcp.conf is user:md5hex",
                "",
            );
        }
    }
}

/// What a client that knows the password answers to `salt`, in lower-case hex.
/// `stored` is the hex md5 of the password as pcp.conf holds it.
pub fn response(stored: &[u8], user: &[u8], salt: [u8; 4]) -> String {
    let with_user = md5_hex(&[stored, user]);
    md5_hex(&[with_user.as_bytes(), &salt])
}

/// The hash that pcp.conf stores for a password.
pub fn stored_hash(password: &[u8]) -> String {
    md5_hex(&[password])
}

fn md5_hex(parts: &[&[u8]]) -> String {
    let mut hasher = Md5::new();
    for part in parts {
        hasher.update(part);
    }
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Takes the same time wherever the difference is.
fn equal(expected: &str, got: &[u8]) -> bool {
    expected.len() == got.len() && openssl::memcmp::eq(expected.as_bytes(), got)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: [u8; 4] = [1, 2, 3, 4];

    fn attempt(user: &str, password: &str) -> LoginAttempt {
        LoginAttempt {
            user: user.as_bytes().to_vec(),
            response: response(
                stored_hash(password.as_bytes()).as_bytes(),
                user.as_bytes(),
                SALT,
            )
            .into_bytes(),
            salt: SALT,
        }
    }

    fn file(password: &str) -> Vec<u8> {
        format!(
            "# comment\n\nnocolon\nother:{}\npostgres:{}\npostgres:{}",
            stored_hash(b"x"),
            stored_hash(b"first"),
            stored_hash(password.as_bytes())
        )
        .into_bytes()
    }

    #[test]
    fn the_stored_hash_is_that_of_pg_md5() {
        assert_eq!(stored_hash(b"secret"), "5ebe2294ecd0e0f08eab7690d2a6ee69");
    }

    #[test]
    fn each_line_of_a_user_opens_the_door() {
        for password in ["first", "second"] {
            assert!(
                verify(&file("second"), &attempt("postgres", password)),
                "{password}"
            );
        }
        for (user, password) in [("postgres", "third"), ("postgres", ""), ("nobody", "first")] {
            assert!(
                !verify(&file("second"), &attempt(user, password)),
                "{user} {password}"
            );
        }
    }

    #[test]
    fn nothing_is_trimmed_from_a_line() {
        let line = format!("postgres:{}\r\n", stored_hash(b"pw"));
        assert!(!verify(line.as_bytes(), &attempt("postgres", "pw")));
        let line = format!(" postgres:{}\n", stored_hash(b"pw"));
        assert!(!verify(line.as_bytes(), &attempt("postgres", "pw")));
        assert!(verify(line.as_bytes(), &attempt(" postgres", "pw")));
    }

    #[test]
    fn a_response_of_another_length_is_wrong() {
        for response in [&b""[..], b"0", &[b'0'; 33]] {
            let mut short = attempt("postgres", "second");
            short.response = response.to_vec();
            assert!(!verify(&file("second"), &short));
        }
    }

    #[tokio::test]
    async fn a_missing_file_is_said_as_the_original_says_it() {
        let verdict = check(Path::new("/nonexistent/pcp.conf"), &attempt("a", "b")).await;
        assert_eq!(
            verdict,
            LoginVerdict::NoPasswordFile(
                "could not open /nonexistent/pcp.conf. reason: No such file or directory".into()
            )
        );
    }
}
