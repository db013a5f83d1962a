//! The thread that talks to LDAP servers, started by the first login that needs one.
//!
//! Handshakes and certificates take milliseconds that sessions must not lose, and a server that
//! sends nonsense ends the task of its login and nothing else.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    thread,
};

use tokio::{
    runtime::{Builder, Handle},
    task::{AbortHandle, JoinError},
};

static HANDLE: Mutex<Option<Handle>> = Mutex::new(None);

/// Runs the work there. Dropping this future ends the work.
///
/// # Errors
///
/// Why it could not be done, for the log.
pub(super) async fn run<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, String> {
    let task = handle()?.spawn(work);
    let _ends_with_us = AbortOnDrop(task.abort_handle());
    task.await.map_err(|e: JoinError| {
        if e.is_panic() {
            "LDAP authentication failed: the server sent what is no LDAP message".to_owned()
        } else {
            "LDAP authentication was given up".to_owned()
        }
    })
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn handle() -> Result<Handle, String> {
    let mut known = HANDLE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*known {
        return Ok(handle.clone());
    }
    let failed = |e| format!("could not start the thread for LDAP: {e}");
    let runtime = Builder::new_current_thread()
        .enable_all()
        .thread_name("ldap")
        .build()
        .map_err(failed)?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("ldap".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))
        .map_err(failed)?;
    *known = Some(handle.clone());
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_of_that_login_alone() {
        let bad = run(async { panic!("on purpose") });
        let result: Result<(), String> = bad.await;
        assert!(result.unwrap_err().contains("no LDAP message"));
        assert_eq!(run(async { 5 }).await, Ok(5));
    }

    #[tokio::test]
    async fn a_login_that_is_given_up_ends() {
        let (alive, ended) = oneshot::channel::<()>();
        let work = run(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        let given_up = tokio::time::timeout(Duration::from_millis(10), work).await;
        assert!(given_up.is_err());
        assert!(ended.await.is_err(), "the sender is gone with the work");
    }
}
