//! pool_hba.conf: which record applies to a client, and what it asks for.
//!
//! The first record that fits the connection, the address, the database and the user decides; no
//! record means no. A file with a single bad line is bad as a whole: clients are refused with
//! [`Hba::unusable`] (at reload the rules before it stay, which is the caller's part).
//!
//! Source: `src/auth/pool_hba.c @ V4_3_5`.

mod explain;
mod ldap_url;
mod network;
mod options;
mod parse;
mod tokens;

use std::{
    fmt, fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use explain::{Explained, Mismatch};
pub use network::{Interface, Network, SystemNetwork};
pub use options::{LdapOptions, LdapScope, PamOptions};
use tokens::Token;

use super::error::ErrorReport;
use crate::observe::Reporter;

/// The records of a pool_hba.conf that was read without an error.
#[derive(Debug, Default)]
pub struct Hba {
    pub records: Vec<Record>,
    warnings: Vec<HbaError>,
}

/// One line of the file.
#[derive(Debug)]
pub struct Record {
    /// One-based line number.
    pub line: u32,
    pub connection: Connection,
    databases: Vec<Token>,
    users: Vec<Token>,
    pub address: Address,
    pub method: Method,
    /// There for [`Method::Pam`] only.
    pub pam: Option<PamOptions>,
    /// There for [`Method::Ldap`] only.
    pub ldap: Option<Arc<LdapOptions>>,
    /// The line as people read it, without passwords.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    Local,
    Host,
    HostSsl,
    HostNoSsl,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    All,
    /// An address of this machine.
    SameHost,
    /// An address in a network that this machine is connected to.
    SameNet,
    Network {
        network: IpAddr,
        mask: IpAddr,
    },
    /// A host name, or with a leading dot a domain.
    Name(String),
}

/// Where a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Local,
    Host { address: IpAddr, tls: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Trust,
    Reject,
    Md5,
    ScramSha256,
    Password,
    Cert,
    Pam,
    Ldap,
}

/// What is wrong with a line; `line` 0 is the file as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HbaError {
    pub path: PathBuf,
    pub line: u32,
    pub message: String,
    /// Empty when there is nothing to add.
    pub hint: String,
}

impl Hba {
    /// Reads the file at `path` and those it includes.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, in the order of the file.
    pub fn load(path: &Path) -> Result<Hba, Vec<HbaError>> {
        match fs::read(path) {
            Ok(text) => Hba::parse(path, &text, &mut |included| fs::read(included)),
            Err(e) => Err(vec![HbaError::of_file(
                path,
                format!(
                    "could not open configuration file \"{}\": {}",
                    path.display(),
                    crate::sys::errors::message(&e)
                ),
            )]),
        }
    }

    /// Reads the text of the file at `path`; `includes` reads the files that `@` tokens name.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, in the order of the file, what is only warned about included.
    pub fn parse(
        path: &Path,
        text: &[u8],
        includes: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Hba, Vec<HbaError>> {
        let mut errors = Vec::new();
        let mut hba = Hba::default();
        for line in tokens::cut_file(path, text, includes, &mut errors) {
            match parse::record(path, line, &mut hba.warnings) {
                Ok(record) => hba.records.push(record),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() && hba.records.is_empty() {
            errors.push(HbaError::of_file(
                path,
                format!(
                    "configuration file \"{}\" contains no entries",
                    path.display()
                ),
            ));
        }
        if errors.is_empty() {
            Ok(hba)
        } else {
            errors.append(&mut hba.warnings);
            errors.sort_by_key(|e| (e.path != path, e.line));
            Err(errors)
        }
    }

    /// What the original logs about the file without refusing it.
    pub fn warnings(&self) -> &[HbaError] {
        &self.warnings
    }

    /// The lines of `hostssl` records, which cannot match while `ssl` is off; the original warns with
    /// `hostssl record cannot match because SSL is disabled`.
    pub fn ssl_lines(&self) -> impl Iterator<Item = u32> {
        self.records
            .iter()
            .filter(|r| r.connection == Connection::HostSsl)
            .map(|r| r.line)
    }

    /// Line and method of the records whose method this binary was built without. With one of them
    /// the start is refused: the original, built without it, would refuse all clients.
    pub fn unsupported(&self) -> Vec<(u32, Method)> {
        self.records
            .iter()
            .filter(|r| !r.method.is_built())
            .map(|r| (r.line, r.method))
            .collect()
    }

    /// Whether a record has a host name, so that [`Hba::find`] may ask a name server and block.
    pub fn needs_lookup(&self) -> bool {
        self.records
            .iter()
            .any(|r| matches!(r.address, Address::Name(_)))
    }

    /// The first record that matches; `None`: no record matches, the client is refused.
    ///
    /// Blocks when `network` does; with [`Hba::needs_lookup`] call it off the session threads.
    /// Source: `check_hba`.
    pub fn find(
        &self,
        origin: Origin,
        user: &str,
        database: &str,
        network: &mut dyn Network,
    ) -> Option<&Record> {
        let mut peer = network::Peer::new(origin, network);
        self.records
            .iter()
            .find(|r| r.matches(&mut peer, user, database))
    }

    /// The record that [`Hba::find`] gives, without asking a name server.
    ///
    /// A record with a host name that would otherwise fit is answered with `None`, for it may be a
    /// reject: then call [`Hba::find`], if [`Hba::needs_lookup`]. Does not block.
    pub fn find_without_lookup(
        &self,
        origin: Origin,
        user: &str,
        database: &str,
    ) -> Option<&Record> {
        let mut system = SystemNetwork;
        let mut peer = network::Peer::new(origin, &mut system);
        for record in &self.records {
            if matches!(record.address, Address::Name(_)) {
                if record.matches_connection(origin) && record.matches_names(user, database) {
                    return None;
                }
            } else if record.matches(&mut peer, user, database) {
                return Some(record);
            }
        }
        None
    }

    /// What a client reads when no record matches, or one that says reject; `database` and `user` as it sent them.
    pub fn rejection(origin: Origin, user: &str, database: &str) -> ErrorReport {
        let (host, tls) = match origin {
            Origin::Local => ("[local]".to_owned(), false),
            Origin::Host { address, tls } => (address.to_string(), tls),
        };
        let ssl = if tls { "SSL on" } else { "SSL off" };
        refused(format!(
            "no pool_hba.conf entry for host \"{host}\", user \"{user}\", database \"{database}\", {ssl}"
        ))
    }

    /// What every client reads while the file is missing or bad.
    pub fn unusable() -> ErrorReport {
        refused("missing or erroneous pool_hba.conf file".to_owned())
    }
}

fn log_line(message: &str) {
    Reporter::new("child").log(message);
}

fn refused(detail: String) -> ErrorReport {
    ErrorReport::fatal("client authentication failed", detail)
        .with_hint("see pgpool log for details")
}

impl Record {
    fn matches(&self, peer: &mut network::Peer<'_>, user: &str, database: &str) -> bool {
        self.matches_connection(peer.origin())
            && (self.connection == Connection::Local || peer.matches(&self.address))
            && self.matches_names(user, database)
    }

    fn matches_connection(&self, origin: Origin) -> bool {
        match (self.connection, origin) {
            (Connection::Local, Origin::Local) => true,
            (Connection::Local, Origin::Host { .. }) | (_, Origin::Local) => false,
            (Connection::Host, Origin::Host { .. }) => true,
            (Connection::HostSsl, Origin::Host { tls, .. }) => tls,
            (Connection::HostNoSsl, Origin::Host { tls, .. }) => !tls,
        }
    }

    fn matches_names(&self, user: &str, database: &str) -> bool {
        self.matches_database(database, user) && self.matches_user(user)
    }

    fn matches_user(&self, user: &str) -> bool {
        let listed = self.lists_user(user);
        if listed == Listed::BehindGroup {
            log_line("group token \"+\" is not supported by Pgpool-II");
        }
        listed == Listed::Yes
    }

    fn matches_database(&self, database: &str, user: &str) -> bool {
        let listed = self.lists_database(database, user);
        if listed == Listed::BehindGroup {
            log_line("group tokens \"samegroup\" and \"samerole\" are not supported by Pgpool-II");
        }
        listed == Listed::Yes
    }

    fn lists_user(&self, user: &str) -> Listed {
        for token in &self.users {
            if !token.quoted && token.text.starts_with('+') {
                return Listed::BehindGroup;
            }
            if token.text == user || token.is_keyword("all") {
                return Listed::Yes;
            }
        }
        Listed::No
    }

    fn lists_database(&self, database: &str, user: &str) -> Listed {
        for token in &self.databases {
            let found = if token.is_keyword("all") {
                true
            } else if token.is_keyword("sameuser") {
                database == user
            } else if token.is_keyword("samegroup") || token.is_keyword("samerole") {
                return Listed::BehindGroup;
            } else {
                token.text == database
            };
            if found {
                return Listed::Yes;
            }
        }
        Listed::No
    }
}

/// Whether a list of a record names something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    Yes,
    No,
    /// A group token ends the search in its list, as in the original.
    BehindGroup,
}

impl Method {
    fn from_word(word: &str) -> Option<Method> {
        Some(match word {
            "trust" => Method::Trust,
            "reject" => Method::Reject,
            "md5" => Method::Md5,
            "scram-sha-256" => Method::ScramSha256,
            "password" => Method::Password,
            "cert" => Method::Cert,
            "pam" => Method::Pam,
            "ldap" => Method::Ldap,
            _ => return None,
        })
    }

    /// Whether this binary has the method: pam and ldap are cargo features of the same name.
    pub fn is_built(self) -> bool {
        match self {
            Method::Pam => cfg!(feature = "pam"),
            Method::Ldap => cfg!(feature = "ldap"),
            _ => true,
        }
    }

    /// As written in the file.
    pub fn word(self) -> &'static str {
        match self {
            Method::Trust => "trust",
            Method::Reject => "reject",
            Method::Md5 => "md5",
            Method::ScramSha256 => "scram-sha-256",
            Method::Password => "password",
            Method::Cert => "cert",
            Method::Pam => "pam",
            Method::Ldap => "ldap",
        }
    }
}

impl HbaError {
    fn at(path: &Path, line: u32, message: impl Into<String>) -> HbaError {
        HbaError {
            path: path.to_owned(),
            line,
            message: message.into(),
            hint: String::new(),
        }
    }

    fn of_file(path: &Path, message: String) -> HbaError {
        HbaError::at(path, 0, message)
    }

    /// The CONTEXT line of the log entry; empty for the file as a whole.
    pub fn context(&self) -> String {
        match self.line {
            0 => String::new(),
            line => format!(
                "line {line} of configuration file \"{}\"",
                self.path.display()
            ),
        }
    }
}

/// `path:line: message`, as `--check` prints it.
impl fmt::Display for HbaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path.display(), self.message),
            line => write!(f, "{}:{line}: {}", self.path.display(), self.message),
        }
    }
}

#[cfg(test)]
mod tests;
