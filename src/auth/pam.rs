//! The method `pam`: PAM judges the client's password, and whether the account may be used.
//!
//! PAM's modules block, and some of them hang when a server behind them does. Each call has a thread
//! of its own, never one that serves sessions, and at most [`MAX_CALLS`] run at the same time: a
//! module that hangs costs so many threads and no more. Logins beyond that wait, within
//! `authentication_timeout`. A thread that hangs does not hold up the end of the process.
//!
//! The delay that modules want after a failure is waited for without a thread, so that wrong
//! passwords do not hold up right ones.
//!
//! The client is asked before PAM is called, for a call must not wait for a client; the original
//! asks when a module prompts. A module that prompts again gets the same password. PAM_RHOST is set
//! with `pam_use_hostname=1` only; the original never sets it.
//!
//! Source: `CheckPAMAuth`, `pam_passwd_conv_proc` in `src/auth/pool_hba.c @ V4_3_5`.

use std::{
    ffi::{CStr, CString},
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use pam_client2::{Context, ConversationHandler, ErrorCode, Flag};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use super::{
    ErrorReport, Password,
    external::{LogEntry, Outcome},
    hba::PamOptions,
};
use crate::{
    observe::{Reporter, Severity},
    sys,
};

/// Calls at the same time. Modules take milliseconds, or seconds when something is wrong behind them.
pub const MAX_CALLS: usize = 16;

/// Seconds between two entries of the log that say that logins have to wait.
const REMIND_AFTER: u64 = 60;

static CALLS: Semaphore = Semaphore::const_new(MAX_CALLS);

/// Asks PAM. `client` is where the client comes from; `None`: a unix socket.
pub async fn verify(
    options: &PamOptions,
    client: Option<IpAddr>,
    user: &str,
    password: &Password,
) -> Outcome {
    if password.is_empty() {
        return Outcome::refused(vec![empty_password()], denied(CONVERSATION_ERROR));
    }
    let permit = match CALLS.try_acquire() {
        Ok(permit) => permit,
        Err(_) => {
            say_that_logins_wait();
            match CALLS.acquire().await {
                Ok(permit) => permit,
                // Nobody closes it.
                Err(_) => return Outcome::unjudged(Vec::new(), denied("PAM is out of use")),
            }
        }
    };
    let call = Call {
        service: options.service.clone(),
        client: client.filter(|_| options.use_hostname),
        user: user.to_owned(),
        password: password.clone(),
    };
    match on_a_thread(call, permit).await {
        Ok((outcome, delay)) => {
            tokio::time::sleep(delay).await;
            outcome
        }
        Err(reason) => Outcome::unjudged(Vec::new(), denied(&reason)),
    }
}

const CONVERSATION_ERROR: &str = "pam_authenticate failed: Conversation error";

fn denied(detail: &str) -> ErrorReport {
    ErrorReport::fatal("failed authentication against PAM", detail)
}

fn empty_password() -> LogEntry {
    pam_error("empty password returned by client".to_owned())
}

fn pam_error(detail: String) -> LogEntry {
    LogEntry {
        message: "PAM Error".to_owned(),
        detail,
        ..LogEntry::default()
    }
}

/// Once a minute at most.
fn say_that_logins_wait() {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = sys::clock::monotonic_usec() / 1_000_000;
    let last = LAST.load(Ordering::Relaxed);
    if (last == 0 || now >= last + REMIND_AFTER)
        && LAST
            .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    {
        Reporter::new("child").emit(
            Severity::Warning,
            "all calls of PAM are taken, a login has to wait",
            &format!("{MAX_CALLS} calls have not come back"),
            "Look for a PAM module that hangs, for instance one that asks a server which does not answer.",
        );
    }
}

struct Call {
    service: String,
    /// To be made known as PAM_RHOST.
    client: Option<IpAddr>,
    user: String,
    password: Password,
}

/// Runs the call on a thread of its own; the permit is given back when it has come back.
async fn on_a_thread(
    call: Call,
    permit: SemaphorePermit<'static>,
) -> Result<(Outcome, Duration), String> {
    let (answer, verdict) = oneshot::channel();
    let work = move || {
        let done = catch_unwind(AssertUnwindSafe(|| call.run()));
        drop(permit);
        // Nobody waits for it any more when the login was given up.
        let _ = answer.send(done);
    };
    thread::Builder::new()
        .name("pam".to_owned())
        .spawn(work)
        .map_err(|e| format!("could not start a thread for PAM: {e}"))?;
    match verdict.await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) | Err(_) => Err("the call of PAM ended in a panic".to_owned()),
    }
}

impl Call {
    /// Blocks. The delay is what modules want the client to wait.
    fn run(self) -> (Outcome, Duration) {
        let mut conversation = Conversation {
            password: self.password,
            log: Vec::new(),
        };
        let mut delay = Duration::ZERO;
        let name = self.client.map(|address| {
            sys::interfaces::name_of(address).unwrap_or_else(|| address.to_string())
        });
        let result = ask(
            &self.service,
            &self.user,
            name.as_deref(),
            &mut conversation,
            &mut delay,
        );
        let log = std::mem::take(&mut conversation.log);
        let outcome = match result {
            Ok(()) => Outcome::passed(log),
            Err(detail) => Outcome::refused(log, denied(&detail)),
        };
        (outcome, delay)
    }
}

/// The error is the DETAIL of what the client is told.
fn ask(
    service: &str,
    user: &str,
    client: Option<&str>,
    conversation: &mut Conversation,
    delay: &mut Duration,
) -> Result<(), String> {
    let mut context = Context::new(service, Some(user), conversation)
        .map_err(|e| format!("unable to create PAM authenticator: {e}"))?;
    sys::pam::defer_delays(&mut context)
        .map_err(|e| format!("pam_set_item(PAM_FAIL_DELAY) failed: {e}"))?;
    if client.is_some() {
        context
            .set_rhost(client)
            .map_err(|e| format!("pam_set_item(PAM_RHOST) failed: {e}"))?;
    }
    let authenticated = context.authenticate(Flag::NONE);
    *delay = sys::pam::deferred_delay();
    authenticated.map_err(|e| format!("pam_authenticate failed: {e}"))?;
    context
        .acct_mgmt(Flag::NONE)
        .map_err(|e| format!("system call pam_acct_mgmt failed : {e}"))
}

/// Answers what modules ask.
struct Conversation {
    password: Password,
    log: Vec<LogEntry>,
}

impl ConversationHandler for Conversation {
    /// A prompt for something that may be seen is not for a password.
    fn prompt_echo_on(&mut self, prompt: &CStr) -> Result<CString, ErrorCode> {
        const PROMPT_ECHO_ON: u8 = 2;
        self.log.push(pam_error(format!(
            "unsupported PAM conversation {PROMPT_ECHO_ON}/{}",
            prompt.to_string_lossy()
        )));
        Err(ErrorCode::CONV_ERR)
    }

    fn prompt_echo_off(&mut self, _: &CStr) -> Result<CString, ErrorCode> {
        CString::new(self.password.as_bytes()).map_err(|_| ErrorCode::CONV_ERR)
    }

    fn text_info(&mut self, text: &CStr) {
        self.log.push(LogEntry {
            message: "PAM message".to_owned(),
            detail: text.to_string_lossy().into_owned(),
            ..LogEntry::default()
        });
    }

    fn error_msg(&mut self, text: &CStr) {
        self.log.push(pam_error(format!(
            "error from underlying PAM layer: {}",
            text.to_string_lossy()
        )));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation() -> Conversation {
        Conversation {
            password: Password::new("secret"),
            log: Vec::new(),
        }
    }

    #[test]
    fn every_prompt_for_a_password_gets_the_clients() {
        let mut conversation = conversation();
        for prompt in [c"Password: ", c"Password: "] {
            let answer = conversation.prompt_echo_off(prompt).unwrap();
            assert_eq!(answer.as_bytes(), b"secret");
        }
        assert_eq!(conversation.log, []);
    }

    #[test]
    fn a_prompt_for_something_else_is_not_answered_with_the_password() {
        let mut conversation = conversation();
        assert_eq!(
            conversation.prompt_echo_on(c"Name: "),
            Err(ErrorCode::CONV_ERR)
        );
        assert_eq!(
            conversation.log,
            [pam_error(
                "unsupported PAM conversation 2/Name: ".to_owned()
            )]
        );
    }

    #[test]
    fn what_modules_say_is_for_the_log() {
        let mut conversation = conversation();
        conversation.error_msg(c"Your account has expired");
        conversation.text_info(c"Your password will expire in 3 days");
        let details: Vec<&str> = conversation.log.iter().map(|e| &*e.detail).collect();
        assert_eq!(
            details,
            [
                "error from underlying PAM layer: Your account has expired",
                "Your password will expire in 3 days"
            ]
        );
    }

    #[tokio::test]
    async fn an_empty_password_is_refused_without_asking_pam() {
        let options = PamOptions {
            service: "pgpool-no-such-service".to_owned(),
            ..PamOptions::default()
        };
        let outcome = verify(&options, None, "u", &Password::default()).await;
        assert_eq!(outcome.log, [empty_password()]);
        assert_eq!(
            outcome.result.unwrap_err(),
            denied("pam_authenticate failed: Conversation error")
        );
    }
}
