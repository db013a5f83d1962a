//! pool_hba.conf: which record applies to a client, and what it asks for.

use std::net::IpAddr;

/// The records of a pool_hba.conf that was read without an error.
#[derive(Debug, Default)]
pub struct Hba {
    pub records: Vec<Record>,
}

#[derive(Debug)]
pub struct Record {}

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

impl Hba {
    /// The method of the first record that matches; `None`: no record matches, the client is refused.
    pub fn method(&self, origin: Origin, user: &str, database: &str) -> Option<Method> {
        let _ = (origin, user, database);
        None
    }
}
