//! Work of logins that may not run on a thread of sessions, and how much of it runs at one time.
//!
//! All of it goes to the blocking threads of the worker's runtime. Their number is bounded (512), and
//! strangers cause the work: without limits of its own, a crowd whose names a slow name server is
//! asked for would take them all, and derivations by the hundred would take the processors from the
//! sessions.

use std::{sync::LazyLock, thread};

use openssl::error::ErrorStack;
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::auth::keys::{DerivedKeys, KeyRequest, SaltedPassword};

/// Name servers that do not answer hold so many threads and no more; other look-ups wait, within
/// `authentication_timeout`.
const LOOKUPS: usize = 64;

static NAMES: Semaphore = Semaphore::const_new(LOOKUPS);

/// One derivation keeps a processor busy for 2 ms: half of them are left to the sessions.
static KEYS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(keys_at_once()));

fn keys_at_once() -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    (processors / 2).max(1)
}

/// Runs work that asks a name server. `None`: it has panicked.
pub async fn asking_names<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    // Nobody closes it.
    let permit = NAMES.acquire().await;
    let done = spawn_blocking(move || {
        // Held by the thread: a login that is given up does not end its look-up.
        let _permit = permit;
        work()
    });
    done.await.ok()
}

/// Derives a key of SCRAM, or finds it among those that are known. Logins of one user that come
/// together derive it once.
///
/// # Errors
///
/// When OpenSSL refuses to work.
pub async fn derived(
    known: &DerivedKeys,
    request: KeyRequest,
) -> Result<SaltedPassword, ErrorStack> {
    if let Some(key) = known.get(&request) {
        return Ok(key);
    }
    let permit = KEYS.acquire().await;
    if let Some(key) = known.get(&request) {
        return Ok(key);
    }
    let work = move || {
        let _permit = permit;
        let key = request.derive();
        (request, key)
    };
    match spawn_blocking(work).await {
        Ok((request, key)) => {
            let key = key?;
            known.insert(&request, key.clone());
            Ok(key)
        }
        Err(_) => Err(ErrorStack::get()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        time::Duration,
    };

    use super::*;
    use crate::auth::Password;

    fn request(password: &str) -> KeyRequest {
        KeyRequest {
            password: Password::new(password),
            salt: b"salt".to_vec(),
            iterations: 4096,
        }
    }

    #[tokio::test]
    async fn name_servers_that_do_not_answer_leave_room_for_keys() {
        let mut answers = Vec::new();
        let mut lookups = Vec::new();
        // More than there are blocking threads.
        for _ in 0..600 {
            let (answer, waiting) = mpsc::channel::<()>();
            answers.push(answer);
            lookups.push(tokio::spawn(asking_names(move || waiting.recv().is_err())));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let known = DerivedKeys::default();
        let key = tokio::time::timeout(Duration::from_secs(20), derived(&known, request("pw")));
        assert!(key.await.is_ok());
        drop(answers);
        for lookup in lookups {
            assert_eq!(lookup.await.unwrap(), Some(true));
        }
    }

    #[tokio::test]
    async fn a_key_that_another_login_has_derived_meanwhile_is_not_derived_again() {
        let all = u32::try_from(keys_at_once()).unwrap();
        let busy = KEYS.acquire_many(all).await.unwrap();
        let known = Arc::new(DerivedKeys::default());
        let waiting = tokio::spawn({
            let known = known.clone();
            async move { derived(&known, request("pw")).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let by_another = SaltedPassword::of([7; 32]);
        known.insert(&request("pw"), by_another.clone());
        drop(busy);
        assert_eq!(waiting.await.unwrap().unwrap(), by_another);
    }
}
