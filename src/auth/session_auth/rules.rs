//! Who is asked for what: the matrix of pool_hba method, pool_passwd entry and backend method.
//!
//! Measured on Debian's 4.3.5; the tests of [`super`] hold the table.

use super::{Action, HbaVerdict, Remembered, RememberedMethod, SessionAuth};
use crate::auth::{backend::Request, credential::Credential, error::ErrorReport, hba::Method};

/// What to do about a node's request or a cached connection.
pub(super) enum Plan {
    Nothing,
    AskClearText,
    AskMd5(Option<Credential>),
    AskScram(Option<Credential>),
    /// The client has told its password already; it must be that of the cached connection.
    Compare,
    Answer(Credential),
    Fail(ErrorReport),
}

impl SessionAuth {
    /// What the request of a new connection needs. Source: authentication matrix of the original.
    pub(super) fn plan_answer(&self, request: Request, actions: &mut Vec<Action>) -> Plan {
        let hba_off = self.hba == HbaVerdict::Off;
        let asked = self.client_password.is_some();
        if request == Request::Password
            && !asked
            && (hba_off
                || self.hba == HbaVerdict::Method(Method::Password)
                || self.allow_clear_text)
        {
            return Plan::AskClearText;
        }
        let Some(credential) = self.credential() else {
            let log_detail = match request {
                Request::Md5 { .. } => "backend will still use md5 auth",
                _ => "backend will still use SCRAM auth",
            };
            if hba_off && self.allow_clear_text && request != Request::Password {
                actions.push(Action::Log {
                    message: "using clear text authentication with frontend",
                    detail: log_detail,
                    hint: "you can disable this behavior by setting allow_clear_text_frontend_auth to off",
                });
                return Plan::AskClearText;
            }
            return Plan::Fail(request.cannot_be_met(None));
        };
        if !request.is_met_by(&credential) {
            return Plan::Fail(request.cannot_be_met(Some(&credential)));
        }
        if self.authenticated || asked {
            return Plan::Answer(credential);
        }
        match request {
            // Not asked for clear text, not authenticated: nothing else can be asked.
            Request::Password => Plan::Fail(request.cannot_be_met(None)),
            Request::Md5 { .. } => Plan::AskMd5(Some(credential)),
            Request::Scram => Plan::AskScram(Some(credential)),
        }
    }

    /// The password for backends: pool_passwd, else the client's own, else that of the cached connection.
    fn credential(&self) -> Option<Credential> {
        let told = || self.client_password.clone().map(Credential::Clear);
        match &self.entry {
            // A verifier opens no backend, but clear text that fits it does.
            Some(Credential::Verifier(_)) if self.client_password.is_some() => told(),
            Some(entry) => Some(entry.clone()),
            None => told().or_else(|| self.remembered_credential()),
        }
    }

    fn remembered_credential(&self) -> Option<Credential> {
        self.remembered
            .as_ref()
            .and_then(|r| r.password.clone())
            .map(Credential::Clear)
    }

    /// What the client of a cached connection is asked.
    pub(super) fn plan_reauthentication(&self, remembered: &Remembered) -> Plan {
        let method = remembered.method;
        if method == RememberedMethod::Trust {
            return Plan::Nothing;
        }
        let trusted = self.hba == HbaVerdict::Method(Method::Trust);
        if trusted {
            let would_ask = method == RememberedMethod::Password && self.allow_clear_text;
            let could_connect = self
                .entry
                .as_ref()
                .is_some_and(|entry| method.is_met_by(entry));
            if could_connect && !would_ask {
                return Plan::Nothing;
            }
        } else if self.authenticated {
            return Plan::Nothing;
        }
        // Never the client's own password: it would be compared with itself (CVE-2025-46801).
        let basis = self.entry.clone().or_else(|| self.remembered_credential());
        match method {
            RememberedMethod::Trust => Plan::Nothing,
            RememberedMethod::Md5 => Plan::AskMd5(basis),
            RememberedMethod::ScramSha256 => Plan::AskScram(basis),
            RememberedMethod::Password if self.client_password.is_none() => Plan::AskClearText,
            RememberedMethod::Password => Plan::Compare,
        }
    }

    /// The client's clear text against the password that the cached connection was made with.
    pub(super) fn compare_with_remembered(&mut self) -> Result<(), ErrorReport> {
        let told = self.client_password.as_ref();
        let known = self.remembered.as_ref().and_then(|r| r.password.as_ref());
        let detail = match (told, known) {
            (Some(told), Some(known)) if told == known => {
                self.authenticated = true;
                return Ok(());
            }
            (Some(told), Some(known)) if told.as_bytes().len() != known.as_bytes().len() => {
                "password size does not match"
            }
            (_, None) => "unable to get the password",
            _ => "password does not match",
        };
        Err(ErrorReport::error(
            "clear text password authentication failed",
            detail,
        ))
    }
}

impl RememberedMethod {
    pub(super) fn of(request: Request) -> RememberedMethod {
        match request {
            Request::Password => RememberedMethod::Password,
            Request::Md5 { .. } => RememberedMethod::Md5,
            Request::Scram => RememberedMethod::ScramSha256,
        }
    }

    /// Whether a new connection could have been made with `credential`.
    fn is_met_by(self, credential: &Credential) -> bool {
        match self {
            RememberedMethod::Trust => true,
            RememberedMethod::Md5 => Request::Md5 { salt: [0; 4] }.is_met_by(credential),
            RememberedMethod::ScramSha256 => Request::Scram.is_met_by(credential),
            RememberedMethod::Password => Request::Password.is_met_by(credential),
        }
    }
}
