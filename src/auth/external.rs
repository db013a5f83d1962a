//! Passwords that others judge: pool_hba.conf's methods `pam` and `ldap`.
//!
//! The client has been asked for its password in clear text; [`Check::verify`] has it judged off the
//! session threads. An empty password is refused before anybody is asked: for many LDAP servers a
//! bind without one is no login at all, and succeeds.
//!
//! Source: `CheckPAMAuth`, `CheckLDAPAuth`, `auth_failed` in `src/auth/pool_hba.c @ V4_3_5`.

use std::{net::IpAddr, sync::Arc};

#[cfg(not(all(feature = "pam", feature = "ldap")))]
use super::session_auth::PasswordService;
use super::{
    ErrorReport, Password,
    hba::{LdapOptions, Origin, PamOptions, Record},
};

/// Who judges, as one record of pool_hba.conf says.
#[derive(Clone, Debug)]
pub enum Check {
    Pam {
        options: PamOptions,
        /// `None` on a unix socket.
        client: Option<IpAddr>,
    },
    Ldap(Arc<LdapOptions>),
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// For the log, severity LOG, in this order.
    pub log: Vec<LogEntry>,
    /// The error is what the client is told and the log gets last.
    pub result: Result<(), ErrorReport>,
    /// Somebody has judged the password. Otherwise nobody could be asked, and a failure was no guess.
    pub judged: bool,
}

/// An entry of the log; empty `detail` and `hint` are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogEntry {
    pub message: String,
    pub detail: String,
    pub hint: &'static str,
}

impl Check {
    /// `None`: the method of the record asks nobody outside.
    pub fn of(record: &Record, origin: Origin) -> Option<Check> {
        if let Some(options) = &record.pam {
            let client = match origin {
                Origin::Local => None,
                Origin::Host { address, .. } => Some(address),
            };
            return Some(Check::Pam {
                options: options.clone(),
                client,
            });
        }
        record.ldap.clone().map(Check::Ldap)
    }

    /// Whether the password may be used towards the backends, too (`backend_use_passwd`).
    pub fn hands_password_on(&self) -> bool {
        matches!(self, Check::Ldap(options) if options.backend_use_password)
    }

    /// Waits for the verdict. Dropping the future gives up waiting, which is how
    /// `authentication_timeout` ends a login; it does not end a PAM module that hangs.
    pub async fn verify(&self, user: &str, password: &Password) -> Outcome {
        match self {
            Check::Pam { options, client } => pam(options, *client, user, password).await,
            Check::Ldap(options) => ldap(options, user, password).await,
        }
    }
}

#[cfg(feature = "pam")]
async fn pam(
    options: &PamOptions,
    client: Option<IpAddr>,
    user: &str,
    password: &Password,
) -> Outcome {
    super::pam::verify(options, client, user, password).await
}

#[cfg(not(feature = "pam"))]
async fn pam(_: &PamOptions, _: Option<IpAddr>, user: &str, _: &Password) -> Outcome {
    not_built(PasswordService::Pam, user)
}

#[cfg(feature = "ldap")]
async fn ldap(options: &Arc<LdapOptions>, user: &str, password: &Password) -> Outcome {
    super::ldap::verify(options, user, password).await
}

#[cfg(not(feature = "ldap"))]
async fn ldap(_: &Arc<LdapOptions>, user: &str, _: &Password) -> Outcome {
    not_built(PasswordService::Ldap, user)
}

/// Such a record refuses the start; a reload must not open a door either.
#[cfg(not(all(feature = "pam", feature = "ldap")))]
fn not_built(service: PasswordService, user: &str) -> Outcome {
    let entry = LogEntry {
        message: format!(
            "{} authentication is not supported by this build",
            service.name()
        ),
        ..LogEntry::default()
    };
    Outcome::unjudged(vec![entry], service.refusal(user))
}

impl Outcome {
    #[cfg_attr(not(any(feature = "pam", feature = "ldap")), expect(dead_code))]
    pub(super) fn passed(log: Vec<LogEntry>) -> Outcome {
        Outcome {
            log,
            result: Ok(()),
            judged: true,
        }
    }

    pub(super) fn refused(log: Vec<LogEntry>, error: ErrorReport) -> Outcome {
        Outcome {
            log,
            result: Err(error),
            judged: true,
        }
    }

    /// Nobody could be asked.
    pub(super) fn unjudged(log: Vec<LogEntry>, error: ErrorReport) -> Outcome {
        Outcome {
            judged: false,
            ..Outcome::refused(log, error)
        }
    }
}
