//! What a login depends on: what the files say, and what each backend asks for.

use std::path::PathBuf;

use super::trial::Setting;
use crate::{
    auth::{
        hba::{HbaError, Method, Origin},
        passwd::{Place, Secret},
        scram::Verifier,
        session_auth::HbaVerdict,
    },
    cluster::NodeId,
};

/// What a login depends on.
#[derive(Clone, Debug)]
pub struct Facts {
    pub user: String,
    pub database: String,
    pub origin: Origin,
    pub ssl: Ssl,
    /// What is wrong with certificates and keys.
    pub ssl_findings: Vec<String>,
    /// There is a CA that certificates of clients can be verified with.
    pub client_ca: bool,
    pub hba: HbaFacts,
    /// `allow_clear_text_frontend_auth`.
    pub allow_clear_text: bool,
    pub passwd: PasswdFacts,
    pub auth_query: AuthQueryFacts,
    /// The database is `admin_database`, which needs no backend.
    pub admin: bool,
    /// In the order of their ids.
    pub backends: Vec<BackendFacts>,
}

/// Whether clients can have TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ssl {
    /// `ssl = off`
    Off,
    /// There is no certificate that could be shown.
    Unusable,
    On,
}

#[derive(Clone, Debug)]
pub enum HbaFacts {
    /// `enable_pool_hba = off`.
    Off,
    /// The file is missing or bad.
    Unusable {
        path: PathBuf,
        errors: Vec<HbaError>,
    },
    NoRecord {
        path: PathBuf,
        near: Vec<NearRecord>,
    },
    Record {
        path: PathBuf,
        line: u32,
        /// Without passwords.
        text: String,
        method: Method,
        /// `backend_use_passwd` of a ldap record.
        hand_on: bool,
    },
}

/// A record that does not match, and why.
#[derive(Clone, Debug)]
pub struct NearRecord {
    pub line: u32,
    pub text: String,
    pub why: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct PasswdFacts {
    /// `None`: `pool_passwd = ''`.
    pub path: Option<PathBuf>,
    /// The file cannot be read.
    pub unreadable: Option<String>,
    pub place: Option<Place>,
    pub kind: Kind,
    /// The key file of AES entries; `None`: there is no place for one.
    pub key: Option<KeyFile>,
}

/// What auth_query says of a user without an entry in pool_passwd.
#[derive(Clone, Debug, Default)]
pub enum AuthQueryFacts {
    #[default]
    Off,
    /// Nobody has asked, since pool_passwd has an entry.
    NotNeeded,
    Gives(Kind),
    Failed(String),
}

#[derive(Clone, Debug)]
pub struct KeyFile {
    pub path: PathBuf,
    pub exists: bool,
}

/// What is known of the user's password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Nothing,
    Clear,
    Md5,
    /// The SCRAM secret of pg_authid.
    Verifier,
    /// One that cannot be read.
    BadVerifier,
    Undecryptable,
}

impl Kind {
    pub fn of(secret: Option<&Secret>) -> Kind {
        match secret {
            None => Kind::Nothing,
            // PostgreSQL lets nobody in with it.
            Some(Secret::Clear(text)) if text.is_empty() => Kind::Nothing,
            Some(Secret::Clear(_)) => Kind::Clear,
            Some(Secret::Md5(_)) => Kind::Md5,
            Some(Secret::ScramVerifier(text)) if Verifier::parse(text).is_some() => Kind::Verifier,
            Some(Secret::ScramVerifier(_)) => Kind::BadVerifier,
            Some(Secret::Undecryptable) => Kind::Undecryptable,
        }
    }
}

#[derive(Clone, Debug)]
pub struct BackendFacts {
    pub node: NodeId,
    /// `host:port`
    pub address: String,
    pub state: BackendState,
}

#[derive(Clone, Debug)]
pub enum BackendState {
    Asks(Asks),
    /// pgpool_status says that the node is down; nobody was asked.
    Down,
    Unreachable(String),
}

/// What a backend answers to a start-up packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks {
    /// It lets us in: trust, or a certificate that we show.
    Nothing,
    Password,
    Md5,
    /// `same_secret`: salt and rounds are those of the verifier in pool_passwd.
    Scram {
        same_secret: bool,
    },
    /// A kind of request that nobody here answers: 7 is GSSAPI, 9 SSPI.
    Other(i32),
    Refused(Refusal),
}

/// An ErrorResponse to the start-up packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub sqlstate: String,
    pub message: String,
}

impl Facts {
    pub(super) fn setting(&self) -> Setting<'_> {
        let (hba, hand_on) = match &self.hba {
            HbaFacts::Off => (HbaVerdict::Off, false),
            HbaFacts::Unusable { .. } => (HbaVerdict::Unusable, false),
            HbaFacts::NoRecord { .. } => (HbaVerdict::NoRecord, false),
            HbaFacts::Record {
                method, hand_on, ..
            } => (HbaVerdict::Method(*method), *hand_on),
        };
        Setting {
            user: &self.user,
            database: &self.database,
            origin: self.origin,
            hba,
            hand_on,
            allow_clear_text: self.allow_clear_text,
            entry: self.passwd.kind,
            auth_query: match &self.auth_query {
                AuthQueryFacts::Off | AuthQueryFacts::NotNeeded => None,
                AuthQueryFacts::Gives(kind) => Some(*kind),
                AuthQueryFacts::Failed(_) => Some(Kind::Nothing),
            },
        }
    }

    /// What is known of the user's password, wherever that comes from.
    pub(super) fn known(&self) -> Known {
        match (self.passwd.kind, &self.auth_query) {
            (Kind::Nothing, AuthQueryFacts::Gives(kind)) if *kind != Kind::Nothing => Known {
                kind: *kind,
                by: "auth_query",
            },
            (kind, _) => Known {
                kind,
                by: "pool_passwd",
            },
        }
    }

    pub(super) fn has_tls(&self) -> bool {
        matches!(self.origin, Origin::Host { tls: true, .. })
    }

    /// The backends that a session would go to.
    pub(super) fn asking(&self) -> Vec<(NodeId, &Asks)> {
        self.backends
            .iter()
            .filter_map(|backend| match &backend.state {
                BackendState::Asks(asks) => Some((backend.node, asks)),
                BackendState::Down | BackendState::Unreachable(_) => None,
            })
            .collect()
    }
}

/// What is known of a password, and the word for where that comes from.
pub(super) struct Known {
    pub kind: Kind,
    pub by: &'static str,
}
