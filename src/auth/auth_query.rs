//! auth_query: secrets of users that are not in pool_passwd, from a server. The part that decides.
//!
//! [`secret_in`] reads the answer of the query, [`SecretCache`] remembers answers for a while. Who
//! asks the servers is elsewhere. Knows no clock: `now` goes in.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::passwd::Secret;

/// A failed login makes the next one ask again, but not more often than this: a guesser must not
/// make the server busy.
const RENEW_AFTER: Duration = Duration::from_secs(1);
/// Beyond this number of users the memory starts anew.
const MAX: usize = 10_000;
/// Bytes of a user's name that is remembered: a stranger's ten thousand names of 10 kB each are not.
/// PostgreSQL's own names have at most 63 bytes as it is built everywhere.
const LONGEST_NAME: usize = 255;

/// What has been found out lately; also that there is no such user.
#[derive(Debug, Default)]
pub struct SecretCache {
    known: HashMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    secret: Option<Secret>,
    since: Instant,
}

impl SecretCache {
    /// The outer `None`: not known, ask.
    pub fn get(&self, user: &str, now: Instant, life: Duration) -> Option<Option<Secret>> {
        let known = self.known.get(user)?;
        (now.saturating_duration_since(known.since) < life).then(|| known.secret.clone())
    }

    pub fn insert(&mut self, user: &str, secret: Option<Secret>, now: Instant) {
        if user.len() > LONGEST_NAME {
            return;
        }
        if self.known.len() >= MAX && !self.known.contains_key(user) {
            self.clear();
        }
        let known = Known { secret, since: now };
        if let Some(old) = self.known.insert(user.to_owned(), known) {
            old.wipe();
        }
    }

    /// The password may have been changed: what is known of this user is asked anew.
    pub fn login_failed(&mut self, user: &str, now: Instant) {
        let is_old = |k: &Known| now.saturating_duration_since(k.since) >= RENEW_AFTER;
        if self.known.get(user).is_some_and(is_old)
            && let Some(old) = self.known.remove(user)
        {
            old.wipe();
        }
    }

    pub fn clear(&mut self) {
        self.known.drain().for_each(|(_, known)| known.wipe());
    }
}

impl Known {
    fn wipe(self) {
        if let Some(secret) = self.secret {
            super::password::wipe_secret(secret);
        }
    }
}

/// The secret of `user` in the rows that the query gave: user name and secret in the first two
/// columns. `None`: there is no such user, or it has no password.
///
/// # Errors
///
/// When the answer is none of that; the text is for the log and holds no secret.
pub fn secret_in(rows: &[Vec<Option<String>>], user: &str) -> Result<Option<Secret>, String> {
    let row = match rows {
        [] => return Ok(None),
        [row] => row,
        more => return Err(format!("{} rows for user \"{user}\"", more.len())),
    };
    let [name, secret, ..] = &row[..] else {
        return Err(format!(
            "{} column(s); the first must be the user's name, the second its password as PostgreSQL \
             stores it",
            row.len()
        ));
    };
    if name.as_deref() != Some(user) {
        return Err(format!(
            "the first column of the row for user \"{user}\" is not this name"
        ));
    }
    match secret.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => Secret::of_server(text).map(Some).ok_or_else(|| {
            format!(
                "the password of user \"{user}\" is neither an md5 hash nor a SCRAM-SHA-256 secret"
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "7c53eaf86052083b816bfc7c7a6edf5d";
    const LIFE: Duration = Duration::from_secs(30);

    fn row(fields: &[&str]) -> Vec<Option<String>> {
        fields.iter().map(|f| Some((*f).to_owned())).collect()
    }

    #[test]
    fn a_name_that_is_too_long_for_a_user_is_not_remembered() {
        let (mut cache, now) = (SecretCache::default(), Instant::now());
        cache.insert(&"x".repeat(LONGEST_NAME + 1), None, now);
        cache.insert(&"x".repeat(LONGEST_NAME), None, now);
        assert_eq!(cache.known.len(), 1);
    }

    #[test]
    fn the_second_column_is_the_secret() {
        let md5 = format!("md5{HASH}");
        assert_eq!(
            secret_in(&[row(&["u", &md5])], "u"),
            Ok(Some(Secret::Md5(HASH.to_owned())))
        );
        let verifier = include_str!("../../fixtures/auth/verifier-of-secret.txt").trim_end();
        assert_eq!(
            secret_in(&[row(&["u", verifier, "more"])], "u"),
            Ok(Some(Secret::ScramVerifier(verifier.to_owned())))
        );
        assert_eq!(secret_in(&[], "u"), Ok(None));
        assert_eq!(secret_in(&[row(&["u", ""])], "u"), Ok(None));
        assert_eq!(
            secret_in(&[vec![Some("u".to_owned()), None]], "u"),
            Ok(None)
        );
    }

    #[test]
    fn any_other_answer_is_an_error_without_the_secret() {
        for rows in [
            vec![row(&["u"])],
            vec![row(&["v", "hunter2"])],
            vec![row(&["u", "hunter2"])],
            vec![row(&["u", "md5hunter2"])],
            vec![row(&["u", "SCRAM-SHA-256$hunter2"])],
            vec![row(&["u", "hunter2"]), row(&["u", "hunter2"])],
        ] {
            let error = secret_in(&rows, "u").unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn answers_are_kept_for_their_life_and_a_failed_login_ends_it() {
        let mut cache = SecretCache::default();
        let now = Instant::now();
        let secret = Some(Secret::Md5(HASH.to_owned()));
        cache.insert("u", secret.clone(), now);
        cache.insert("nobody", None, now);
        assert_eq!(cache.get("u", now, LIFE), Some(secret.clone()));
        assert_eq!(cache.get("nobody", now, LIFE), Some(None));
        assert_eq!(cache.get("other", now, LIFE), None);
        assert_eq!(cache.get("u", now + LIFE, LIFE), None);
        assert_eq!(cache.get("u", now, Duration::ZERO), None);

        cache.login_failed("u", now + RENEW_AFTER / 2);
        assert_eq!(cache.get("u", now, LIFE), Some(secret), "asked just now");
        cache.login_failed("u", now + RENEW_AFTER);
        assert_eq!(cache.get("u", now, LIFE), None);
    }

    #[test]
    fn memory_is_bounded_and_secrets_are_not_printed() {
        let mut cache = SecretCache::default();
        let now = Instant::now();
        for n in 0..2 * MAX {
            cache.insert(&n.to_string(), Some(Secret::Md5(HASH.to_owned())), now);
        }
        assert!(cache.known.len() <= MAX);
        cache.clear();
        cache.insert("u", Some(Secret::Md5(HASH.to_owned())), now);
        assert!(!format!("{cache:?}").contains(HASH));
    }
}
