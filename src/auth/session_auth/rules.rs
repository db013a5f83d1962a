//! Who is asked for what: the matrix of pool_hba method, pool_passwd entry and backend method.
//!
//! Measured on Debian's 4.3.5; the tests of [`super`] hold the table.

use super::{Action, HbaVerdict, Lookup, PasswordService, RememberedMethod, SessionAuth, Standing};
use crate::{
    auth::{
        backend::Request,
        credential::{Credential, no_entry},
        error::ErrorReport,
        hba::{Hba, Method},
    },
    cluster::NodeId,
};

/// What to do about pool_hba.conf, a node's request or a cached connection.
pub(super) enum Plan {
    Nothing,
    /// First find out what auth_query says of the user.
    LookUp,
    AskClearText,
    /// Ask for clear text that PAM or LDAP will check.
    AskOutside,
    AskMd5(Option<Credential>),
    AskScram(Option<Credential>),
    /// The client has told its password already; it must be that of the cached connection.
    Compare,
    Answer(Credential),
    Fail(ErrorReport),
}

impl SessionAuth {
    /// What pool_hba.conf wants.
    pub(super) fn plan_start(&mut self, actions: &mut Vec<Action>) -> Plan {
        let method = match self.hba {
            HbaVerdict::Off => return Plan::Nothing,
            HbaVerdict::Unusable => return Plan::Fail(Hba::unusable()),
            HbaVerdict::NoRecord => Method::Reject,
            HbaVerdict::Method(method) => method,
        };
        match method {
            Method::Reject => Plan::Fail(Hba::rejection(self.origin, &self.user, &self.database)),
            Method::Trust => {
                self.standing = Standing::Trusted;
                Plan::Nothing
            }
            Method::Cert => self.check_certificate(actions),
            Method::Pam | Method::Ldap => Plan::AskOutside,
            Method::Md5 | Method::ScramSha256 | Method::Password if self.lookup == Lookup::Open => {
                Plan::LookUp
            }
            // Its SCRAM secret is all that is known of the user; pool_hba.conf's md5 then means
            // "md5 or better", as it does in PostgreSQL.
            Method::Md5 if matches!(self.entry, Some(Credential::Verifier(_))) => {
                Plan::AskScram(self.entry.clone())
            }
            Method::Md5 => Plan::AskMd5(self.entry.clone()),
            Method::ScramSha256 => Plan::AskScram(self.entry.clone()),
            Method::Password => Plan::AskClearText,
        }
    }

    /// Source: `authenticate_frontend_cert` in `src/auth/pool_auth.c @ V4_3_5`.
    fn check_certificate(&mut self, actions: &mut Vec<Action>) -> Plan {
        let named = self
            .client_name
            .as_ref()
            .map(|name| name.eq_ignore_ascii_case(&self.user));
        let outcome = match named {
            Some(true) => "with Pgpool-II is successful",
            Some(false) => "failed",
            None => "",
        };
        if named.is_some() {
            actions.push(Action::Log {
                message: format!(
                    "SSL certificate authentication for user \"{}\" {outcome}",
                    self.user
                )
                .into(),
                detail: "",
                hint: "",
            });
        }
        if named == Some(true) {
            self.standing = Standing::Certified;
            return Plan::Nothing;
        }
        Plan::Fail(ErrorReport::error(
            "CERT authentication failed",
            "no valid certificate presented",
        ))
    }

    /// Who checks the password that pool_hba.conf asks for, when it is not us.
    pub(super) fn password_service(&self) -> Option<PasswordService> {
        match self.hba {
            HbaVerdict::Method(Method::Pam) => Some(PasswordService::Pam),
            HbaVerdict::Method(Method::Ldap) => Some(PasswordService::Ldap),
            _ => None,
        }
    }

    /// What a session without any backend needs.
    pub(super) fn plan_standalone(&self) -> Plan {
        match &self.entry {
            _ if self.standing != Standing::Stranger => Plan::Nothing,
            None if self.lookup == Lookup::Open => Plan::LookUp,
            Some(Credential::Md5(_)) => Plan::AskMd5(self.entry.clone()),
            Some(_) => Plan::AskScram(self.entry.clone()),
            None => Plan::Fail(no_entry("client authentication failed", &self.user)),
        }
    }

    /// What the request of a new connection needs. Source: authentication matrix of the original.
    pub(super) fn plan_answer(&self, request: Request, actions: &mut Vec<Action>) -> Plan {
        if self.lookup == Lookup::Open {
            return Plan::LookUp;
        }
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
        let told = self.told_counts();
        let credential = if told {
            self.told()
        } else {
            self.stored(request)
                .or_else(|| self.remembered_credential())
        };
        let may_ask_clear_text = hba_off && self.allow_clear_text && !asked;
        let Some(credential) = credential else {
            let log_detail = match request {
                Request::Md5 { .. } => "backend will still use md5 auth",
                _ => "backend will still use SCRAM auth",
            };
            if may_ask_clear_text && request != Request::Password {
                actions.push(Action::Log {
                    message: "using clear text authentication with frontend".into(),
                    detail: log_detail,
                    hint: "you can disable this behavior by setting allow_clear_text_frontend_auth to off",
                });
                return Plan::AskClearText;
            }
            return Plan::Fail(request.cannot_be_met(None));
        };
        if !request.is_met_by(&credential) {
            return match (request, &credential) {
                // The proof that the client gives for a SCRAM secret is the key to the server.
                (Request::Scram, Credential::Verifier(_)) if self.standing != Standing::Proven => {
                    Plan::AskScram(Some(credential))
                }
                (_, Credential::Verifier(_)) if may_ask_clear_text => Plan::AskClearText,
                _ => Plan::Fail(request.cannot_be_met(Some(&credential))),
            };
        }
        match (self.standing, request) {
            // The server judges what the client has told.
            _ if told => Plan::Answer(credential),
            (Standing::Trusted | Standing::Certified | Standing::Proven, _)
            | (Standing::Verified, Request::Password) => Plan::Answer(credential),
            // Not asked for clear text, not authenticated: nothing else can be asked.
            (Standing::Stranger, Request::Password) => Plan::Fail(request.cannot_be_met(None)),
            (_, Request::Md5 { .. }) => Plan::AskMd5(Some(credential)),
            (_, Request::Scram) => Plan::AskScram(Some(credential)),
        }
    }

    /// What backends are answered with, without the client's help.
    fn stored(&self, request: Request) -> Option<Credential> {
        match (&self.entry, &self.client_key) {
            (Some(Credential::Verifier(verifier)), Some(key))
                if request == Request::Scram
                    && key.verifier() == verifier
                    && matches!(self.standing, Standing::Proven | Standing::Certified) =>
            {
                Some(Credential::ClientKey(key.clone()))
            }
            (entry, _) => entry.clone(),
        }
    }

    /// Whether backends are answered with the password that the client has told: nothing better is
    /// known, or a verifier, which clear text that fits it is better than; or pool_hba.conf says so.
    fn told_counts(&self) -> bool {
        self.client_password.is_some()
            && (self.handed_on || matches!(self.entry, None | Some(Credential::Verifier(_))))
    }

    fn told(&self) -> Option<Credential> {
        self.client_password.clone().map(Credential::Clear)
    }

    fn remembered_credential(&self) -> Option<Credential> {
        self.remembered
            .as_ref()
            .and_then(|r| r.password.clone())
            .map(Credential::Clear)
    }

    /// What the client of a cached connection is asked.
    pub(super) fn plan_reauthentication(&self) -> Plan {
        let Some(method) = self.remembered.as_ref().map(|r| r.method) else {
            return Plan::Nothing;
        };
        let Some(request) = method.request() else {
            return Plan::Nothing;
        };
        if self.lookup == Lookup::Open && self.standing != Standing::Proven {
            return Plan::LookUp;
        }
        let has_password = self
            .remembered
            .as_ref()
            .is_some_and(|r| r.password.is_some());
        if self.handed_on && has_password {
            return Plan::Compare;
        }
        let could_connect = || {
            self.stored(request)
                .is_some_and(|credential| request.is_met_by(&credential))
        };
        let would_ask = request == Request::Password && self.allow_clear_text;
        match self.standing {
            Standing::Proven => return Plan::Nothing,
            Standing::Trusted | Standing::Certified if could_connect() && !would_ask => {
                return Plan::Nothing;
            }
            Standing::Verified if request == Request::Password && could_connect() && !would_ask => {
                return Plan::Nothing;
            }
            Standing::Trusted | Standing::Certified => {}
            Standing::Verified | Standing::Stranger => {}
        }
        // Never the client's own password: it would be compared with itself (CVE-2025-46801).
        let basis = self.entry.clone().or_else(|| self.remembered_credential());
        match method {
            RememberedMethod::Trust => Plan::Nothing,
            RememberedMethod::Md5 if matches!(basis, Some(Credential::Verifier(_))) => {
                Plan::AskScram(basis)
            }
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
                self.standing = Standing::Proven;
                return Ok(());
            }
            // The original also tells a guesser whether the length is right.
            (_, None) => "unable to get the password",
            _ => "password does not match",
        };
        Err(ErrorReport::error(
            "clear text password authentication failed",
            detail,
        ))
    }

    /// pool_hba.conf asks for a password, and nobody is there who could check it.
    pub(super) fn nobody_judges(&self) -> ErrorReport {
        no_entry("clear text authentication failed", &self.user).with_hint(
            "The servers trust this user, so nobody can check the password: add the user to \
             pool_passwd, or write trust instead of password in pool_hba.conf.",
        )
    }

    /// The SCRAM secret that the client has proven to know is not the one of this server.
    pub(super) fn other_secret(&self, node: NodeId) -> ErrorReport {
        ErrorReport::error(
            "failed to authenticate with backend using SCRAM",
            format!(
                "the SCRAM secret of user \"{}\" at backend node {node} is not the one that the \
                 client has logged in with",
                self.user
            ),
        )
        .with_hint(
            "The entry of pool_passwd, or what auth_query gives, must be rolpassword of pg_authid at \
             every node: copy it again. Nodes that do not replicate pg_authid each have their own \
             secret; store the password itself for them (TEXT or AES).",
        )
    }
}
