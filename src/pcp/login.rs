//! Logins against pcp.conf: the file is read for each login, so edits need no reload.
//!
//! What the file means and whether a response is right is said by [`crate::auth::pcp_conf`].

use std::{io, path::Path};

use tokio::io::AsyncReadExt;

use super::dialogue::{LoginAttempt, LoginVerdict};
use crate::{auth::pcp_conf::PcpConf, observe::Reporter, sys::errors};

/// Bytes of pcp.conf that are read; a larger file is not one.
const MAX_FILE: u64 = 1 << 20;

/// Reads pcp.conf and compares. Never blocks the thread.
pub async fn check(path: &Path, attempt: &LoginAttempt) -> LoginVerdict {
    let text = match read(path).await {
        Ok(text) => text,
        Err(error) => {
            return LoginVerdict::NoPasswordFile(format!(
                "could not open {}. reason: {}",
                path.display(),
                errors::message(&error)
            ));
        }
    };
    let users = PcpConf::parse(&text, path);
    for line in users.skipped() {
        Reporter::new("pcp_child").warning(line);
    }
    if users.verify(&attempt.user, &attempt.response, attempt.salt) {
        LoginVerdict::Accepted
    } else {
        LoginVerdict::Wrong
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

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(response: &str) -> LoginAttempt {
        LoginAttempt {
            user: b"postgres".to_vec(),
            response: response.as_bytes().to_vec(),
            salt: [1, 2, 3, 4],
        }
    }

    #[tokio::test]
    async fn the_file_is_read_anew_for_each_login() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pcp.conf");
        // Of the password "postgres" with the salt 01020304, as the stock tools answer it.
        let good = attempt("857e6923207966cb2f03cb0e15a7924e");

        std::fs::write(&path, "postgres:5ebe2294ecd0e0f08eab7690d2a6ee69\n").unwrap();
        assert_eq!(check(&path, &good).await, LoginVerdict::Wrong);
        std::fs::write(&path, "postgres:e8a48653851e28c69d0506508fb27fc5\n").unwrap();
        assert_eq!(check(&path, &good).await, LoginVerdict::Accepted);
        assert_eq!(check(&path, &attempt("")).await, LoginVerdict::Wrong);
    }

    #[tokio::test]
    async fn a_missing_file_is_said_as_the_original_says_it() {
        let verdict = check(Path::new("/nonexistent/pcp.conf"), &attempt("x")).await;
        assert_eq!(
            verdict,
            LoginVerdict::NoPasswordFile(
                "could not open /nonexistent/pcp.conf. reason: No such file or directory".into()
            )
        );
    }
}
