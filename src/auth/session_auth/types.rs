//! What goes into [`SessionAuth`] and what comes out of it.

use std::borrow::Cow;

use super::Randomness;
#[cfg(doc)]
use super::SessionAuth;
use crate::{
    auth::{
        backend::Request,
        error::ErrorReport,
        hba::{Method, Origin},
        keys::KeyRequest,
        passwd::Secret,
        password::Password,
        scram::ClientKey,
    },
    cluster::NodeId,
};

/// What a session knows when its start-up packet has been read.
#[derive(Debug)]
pub struct Inputs {
    pub user: String,
    pub database: String,
    pub origin: Origin,
    pub hba: HbaVerdict,
    /// `allow_clear_text_frontend_auth`.
    pub allow_clear_text: bool,
    /// [`crate::auth::passwd::PoolPasswd::get`] of the user.
    pub entry: Option<Secret>,
    /// CN of the certificate that the client has shown and TLS has verified.
    pub client_name: Option<String>,
    /// `tls-server-end-point` (RFC 5929) of the certificate that the client was shown; `None` without TLS.
    pub channel_binding: Option<Vec<u8>>,
    /// auth_query can be asked about a user without an entry ([`Action::LookUp`]).
    pub auth_query: bool,
    /// What an earlier proof of this user has shown ([`crate::auth::client_keys::ClientKeys`]).
    pub client_key: Option<ClientKey>,
    pub random: Randomness,
}

/// What pool_hba.conf says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HbaVerdict {
    /// `enable_pool_hba = off`.
    Off,
    /// The file is missing or bad.
    Unusable,
    /// No record matches.
    NoRecord,
    Method(Method),
}

/// What the shell has to do, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    SendClient(Vec<u8>),
    SendBackend(NodeId, Vec<u8>),
    /// Derive off the session threads (or take from [`crate::auth::keys::DerivedKeys`]), then
    /// [`SessionAuth::on_key_derived`] with this id.
    DeriveKey(u32, KeyRequest),
    /// Ask auth_query about the user, off the session threads, then [`SessionAuth::on_looked_up`].
    LookUp,
    /// Have the password checked outside, off the session threads, then
    /// [`SessionAuth::on_password_verified`].
    VerifyPassword(PasswordService, Password),
    /// pool_hba.conf lets the client go on: look for cached connections, then [`SessionAuth::connect`].
    Passed,
    /// The backend has said AuthenticationOk; what it sends from now on is not for this core.
    BackendReady(NodeId),
    /// An entry for the log, severity LOG.
    Log {
        message: Cow<'static, str>,
        detail: &'static str,
        hint: &'static str,
    },
    /// All are authenticated. Keep this with the backend connections when they are cached.
    Done(Remembered),
    /// Send this ErrorResponse body of the node to the client as it is, then close.
    ForwardError(NodeId, Vec<u8>),
    /// Send this to the client, then close.
    Fail(ErrorReport),
}

/// Who checks passwords for pool_hba.conf's methods `pam` and `ldap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordService {
    Pam,
    Ldap,
}

/// How a set of backend connections was authenticated; decides what the next client is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    pub method: RememberedMethod,
    /// The password that a client told us and a backend accepted.
    pub password: Option<Password>,
}

/// The strictest request among the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum RememberedMethod {
    #[default]
    Trust,
    Md5,
    ScramSha256,
    Password,
}

impl PasswordService {
    pub fn name(self) -> &'static str {
        match self {
            PasswordService::Pam => "PAM",
            PasswordService::Ldap => "LDAP",
        }
    }

    /// What a client reads whose password is not right, and whose reason is in the log alone. Source: `auth_failed` in
    /// `src/auth/pool_hba.c @ V4_3_5`.
    pub fn refusal(self, user: &str) -> ErrorReport {
        let name = self.name();
        ErrorReport::fatal(
            "client authentication failed",
            format!("{name} authentication with pgpool failed for user \"{user}\""),
        )
        .with_hint("see pgpool log for details")
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

    /// What a new connection would be asked; `None`: nothing.
    pub(super) fn request(self) -> Option<Request> {
        match self {
            RememberedMethod::Trust => None,
            RememberedMethod::Md5 => Some(Request::Md5 { salt: [0; 4] }),
            RememberedMethod::ScramSha256 => Some(Request::Scram),
            RememberedMethod::Password => Some(Request::Password),
        }
    }
}
