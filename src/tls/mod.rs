//! TLS with clients and with backends, by OpenSSL, whose words the `ssl_*` parameters are.
//!
//! [`Tls`] holds the contexts in force: made at the start, and again at each reload, so that new
//! certificates need no restart. Handshakes run on threads that may block, for a private key
//! works for a millisecond or more; afterwards a [`TlsStream`] is read and written where its
//! session lives.

pub mod backend;
mod certificate;
mod context;
mod files;
mod handshake;
pub mod info;
mod server;
pub mod stream;
#[cfg(test)]
mod tests;

use std::path::Path;

use openssl::{error::ErrorStack, ssl::SslContext};

pub use backend::{BackendTls, Secured, TlsError};
pub use files::Passphrase;
pub use info::TlsInfo;
pub use server::accept;
pub use stream::{TlsFailure, TlsStream};

use crate::{
    cluster::NodeId,
    config::{Config, Finding, Place},
};

/// The contexts in force.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    server: Option<SslContext>,
    /// Index is the node id.
    backends: Vec<BackendTls>,
}

impl Tls {
    /// Reads all files. What is wrong with them is a warning, as in the original: without a usable
    /// certificate clients are answered that there is no TLS. May block.
    pub fn load(config: &Config, passphrase: Passphrase) -> (Tls, Vec<Finding>) {
        let mut findings = Vec::new();
        let server = config
            .settings
            .ssl
            .then(|| server::context(config, passphrase, &mut findings))
            .flatten();
        let slots = 0..config.settings.backends.len();
        let backends = slots
            .map(|node| backend::load(config, node, passphrase, &mut findings))
            .collect();
        // What all nodes have from the settings of the original is said once.
        let mut said: Vec<Finding> = Vec::new();
        for finding in findings {
            if !said.contains(&finding) {
                said.push(finding);
            }
        }
        (Tls { server, backends }, said)
    }

    /// What a reload has read, with `self` in place of what cannot be used.
    pub fn renewed(&self, config: &Config) -> (Tls, Vec<Finding>) {
        let (mut new, mut findings) = Tls::load(config, Passphrase::Ask);
        if config.settings.ssl && new.server.is_none() && self.server.is_some() {
            new.server.clone_from(&self.server);
            let name = "ssl_cert";
            findings.push(
                finding(
                    config,
                    name,
                    None,
                    "clients are shown the old certificate, since the new files cannot be used",
                )
                .remedy("mend what the lines before name, and reload again"),
            );
        }
        let old_and_settings = self.backends.iter().zip(&config.settings.backends);
        let pairs = new.backends.iter_mut().zip(old_and_settings);
        for (node, (backend, (old, settings))) in pairs.enumerate() {
            if old.outlives(backend, &settings.tls) {
                *backend = old.clone();
                let text = format!(
                    "connections to DB node {node} go on with the old certificates, since the new files cannot be used"
                );
                findings.push(
                    finding(config, "backend_ssl_cert", Some(node), text)
                        .remedy("mend what the lines before name, and reload again"),
                );
            }
        }
        (new, findings)
    }

    /// What clients are shown; `None`: they are answered that there is no TLS.
    pub fn server(&self) -> Option<&SslContext> {
        self.server.as_ref()
    }

    /// How a node is connected; without configuration, in plain text.
    pub fn backend(&self, node: NodeId) -> BackendTls {
        self.backends.get(node).cloned().unwrap_or_default()
    }
}

fn finding(config: &Config, name: &str, index: Option<usize>, text: impl Into<String>) -> Finding {
    let place = config
        .values
        .place(name, index)
        .or_else(|| config.values.place(name, None));
    Finding::warning(
        place.cloned().unwrap_or_else(|| Place::whole(&config.path)),
        text,
    )
}

/// What OpenSSL says, without its numbers, places and function names.
fn reason(stack: &ErrorStack) -> String {
    let said = stack.errors().iter().find_map(|e| e.reason());
    said.unwrap_or("OpenSSL does not say why").to_owned()
}

/// What reading a file says, without its number.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| crate::sys::errors::message(&error))
}
