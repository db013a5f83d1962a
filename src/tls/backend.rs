//! Our side as a client of the backends: what is wanted of each, and how a connection gets it.

use std::{fmt, io, net::IpAddr, path::Path, sync::Arc};

use openssl::{
    error::ErrorStack,
    ssl::{Ssl, SslContext, SslContextBuilder, SslVerifyMode},
    x509::verify::X509CheckFlags,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    TlsStream, certificate,
    context::{self, ALPN},
    files::{Named, Passphrase},
    finding,
    handshake::{self, Side},
    reason,
};
use crate::{
    cluster::NodeId,
    config::{
        Config, Finding,
        settings::{BackendSslMode, BackendSslSettings},
    },
    observe::{Reporter, Severity},
    protocol::messages::SSL_REQUEST,
};

/// How connections to one node are made over TCP; unix sockets never have TLS. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct BackendTls(Plan);

#[derive(Clone, Debug, Default)]
enum Plan {
    #[default]
    Plain,
    Tls(Arc<Wanted>),
    /// TLS is required, and its files cannot be used.
    Broken(Arc<str>),
}

struct Wanted {
    context: SslContext,
    settings: BackendSslSettings,
    /// A server without TLS is an error.
    required: bool,
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted")
            .field("settings", &self.settings)
            .field("required", &self.required)
            .finish_non_exhaustive()
    }
}

/// A connection on which the start-up packet may be sent.
#[derive(Debug)]
pub enum Secured {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// Why a connection is not as it is wanted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The connection broke.
    #[error("{}", crate::sys::errors::message(.0))]
    Io(io::Error),
    /// Somebody is there, and there is no TLS connection with him. No reason for a failover.
    #[error("pool_ssl: \"SSL_connect\": \"{0}\"")]
    Refused(String),
}

/// Reads the files of one node.
pub(super) fn load(
    config: &Config,
    node: NodeId,
    passphrase: Passphrase,
    findings: &mut Vec<Finding>,
) -> BackendTls {
    let Some(backend) = config.settings.backends.get(node).filter(|b| b.used) else {
        return BackendTls::default();
    };
    let mode = backend.tls.mode;
    let is_socket = backend.hostname.is_empty() || backend.hostname.starts_with('/');
    let stock_and_off = mode == BackendSslMode::Stock && !config.settings.ssl;
    if is_socket || mode == BackendSslMode::Disable || stock_and_off {
        return BackendTls::default();
    }
    let required = matches!(
        mode,
        BackendSslMode::Require | BackendSslMode::VerifyCa | BackendSslMode::VerifyFull
    );
    match build(config, node, passphrase, findings) {
        Ok(Some(context)) => BackendTls(Plan::Tls(Arc::new(Wanted {
            context,
            settings: backend.tls.clone(),
            required: required || backend.tls.direct,
        }))),
        Ok(None) => BackendTls(Plan::Broken(
            format!("its certificate files cannot be used; the log of the start or reload says which (DB node {node})").into(),
        )),
        Err(error) => {
            let text = format!("could not create SSL context: {}", reason(&error));
            findings.push(finding(config, "backend_sslmode", Some(node), text));
            BackendTls(Plan::Broken(reason(&error).into()))
        }
    }
}

/// `None`: files that must be there cannot be used; said among `findings`.
fn build(
    config: &Config,
    node: NodeId,
    passphrase: Passphrase,
    findings: &mut Vec<Finding>,
) -> Result<Option<SslContext>, ErrorStack> {
    let all = &config.settings.tls;
    let Some(own) = config.settings.backends.get(node).map(|b| &b.tls) else {
        return Ok(None);
    };
    let mut builder = context::builder()?;
    builder.set_alpn_protos(ALPN)?;
    // Without it, OpenSSL's own list is good enough to go on with.
    context::set_ciphers(&mut builder, config, findings);
    let named = |name, index, path| Named {
        config,
        name,
        index,
        path,
    };
    let none = Path::new("");
    let verify = matches!(
        own.mode,
        BackendSslMode::VerifyCa | BackendSslMode::VerifyFull
    );
    let by_stock = own.ca_cert.as_os_str().is_empty();
    let authorities = if own.ca_cert == Path::new("system") {
        builder.set_default_verify_paths()?;
        Some(Ok(()))
    } else if !by_stock {
        let file = named("backend_ssl_ca_cert", Some(node), &own.ca_cert);
        let directory = named("ssl_ca_cert_dir", None, none);
        Some(context::set_authorities(&mut builder, file, directory).map(|_| ()))
    } else if !all.ca_cert.as_os_str().is_empty() || !all.ca_cert_dir.as_os_str().is_empty() {
        let file = named("ssl_ca_cert", None, &all.ca_cert);
        let directory = named("ssl_ca_cert_dir", None, &all.ca_cert_dir);
        Some(context::set_authorities(&mut builder, file, directory).map(|_| ()))
    } else {
        None
    };
    match authorities {
        Some(Ok(())) => builder.set_verify(SslVerifyMode::PEER),
        // The original goes on in plain text then; TLS with anybody is not worse.
        Some(Err(finding)) if own.mode == BackendSslMode::Stock && by_stock => {
            findings.push(finding);
        }
        Some(Err(finding)) => {
            findings.push(finding);
            return Ok(None);
        }
        None if verify => {
            let text = format!(
                "backend_sslmode of DB node {node} verifies certificates, and there is nothing to verify them with"
            );
            findings.push(
                finding(config, "backend_sslmode", Some(node), text)
                    .remedy("set backend_ssl_ca_cert or ssl_ca_cert"),
            );
            return Ok(None);
        }
        None => {}
    }
    let revoked = named("backend_ssl_crl_file", Some(node), &own.crl_file);
    if let Err(finding) = context::set_revoked(&mut builder, revoked) {
        findings.push(finding);
        return Ok(None);
    }
    if !own.cert.as_os_str().is_empty()
        && !set_client(&mut builder, config, node, passphrase, findings)
    {
        return Ok(None);
    }
    Ok(Some(builder.build()))
}

fn set_client(
    builder: &mut SslContextBuilder,
    config: &Config,
    node: NodeId,
    passphrase: Passphrase,
    findings: &mut Vec<Finding>,
) -> bool {
    let Some(own) = config.settings.backends.get(node).map(|b| &b.tls) else {
        return false;
    };
    let named = |name, path| Named {
        config,
        name,
        index: Some(node),
        path,
    };
    let certificate = named("backend_ssl_cert", &own.cert);
    let key = named("backend_ssl_key", &own.key);
    context::set_identity(builder, certificate, key, passphrase, findings)
}

impl BackendTls {
    /// Takes the place of `new` if that cannot be used and the settings are the same: only what the
    /// files hold has changed.
    pub(super) fn outlives(&self, new: &BackendTls, settings: &BackendSslSettings) -> bool {
        matches!(&new.0, Plan::Broken(_))
            && matches!(&self.0, Plan::Tls(wanted) if wanted.settings == *settings)
    }

    pub fn is_plain(&self) -> bool {
        matches!(self.0, Plan::Plain)
    }

    /// Brings a new connection to where the start-up packet (or a cancel request) may be sent.
    /// `host` is `backend_hostname`.
    ///
    /// # Errors
    ///
    /// See [`TlsError`]. Nothing of the session has been sent then.
    pub async fn secure(&self, mut stream: TcpStream, host: &str) -> Result<Secured, TlsError> {
        let wanted = match &self.0 {
            Plan::Plain => return Ok(Secured::Plain(stream)),
            Plan::Broken(why) => return Err(TlsError::Refused(why.to_string())),
            Plan::Tls(wanted) => wanted,
        };
        let names_host = wanted.settings.mode == BackendSslMode::VerifyFull;
        let direct = wanted.settings.direct;
        if !direct && !ask(&mut stream).await? {
            return if wanted.required {
                Err(TlsError::Refused(
                    "the server does not support SSL, and backend_sslmode requires it".to_owned(),
                ))
            } else {
                Ok(Secured::Plain(stream))
            };
        }
        let refused = |error: ErrorStack| TlsError::Refused(reason(&error));
        let address = host.parse::<IpAddr>().ok();
        let mut ssl = Ssl::new(&wanted.context).map_err(refused)?;
        if address.is_none() {
            ssl.set_hostname(host).map_err(refused)?;
            if names_host {
                let parameters = ssl.param_mut();
                parameters.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
                parameters.set_host(host).map_err(refused)?;
            }
        }
        let stream = handshake::run(ssl, stream, Vec::new(), Side::Client)
            .await
            .map_err(|failed| {
                if failed.io {
                    TlsError::Io(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        failed.reason,
                    ))
                } else {
                    TlsError::Refused(failed.reason)
                }
            })?;
        if let Some(address) = address.filter(|_| names_host)
            && !stream
                .peer_certificate()
                .is_some_and(|c| certificate::is_for_address(&c, address))
        {
            return Err(TlsError::Refused(
                "certificate verify failed (IP address mismatch)".to_owned(),
            ));
        }
        if direct && !stream.has_chosen_protocol() {
            return Err(TlsError::Refused(
                "direct SSL connection was established without ALPN protocol negotiation extension"
                    .to_owned(),
            ));
        }
        Ok(Secured::Tls(Box::new(stream)))
    }
}

/// SSLRequest; true: the server is ready for the handshake.
async fn ask(stream: &mut TcpStream) -> Result<bool, TlsError> {
    let debug = |detail: &str| {
        Reporter::new("child").emit(
            Severity::Debug5,
            "attempting to negotiate a secure connection",
            detail,
            "",
        );
    };
    debug("sending client->server SSL request");
    stream.write_all(&SSL_REQUEST).await.map_err(TlsError::Io)?;
    // Room for more than the answer: what comes with it has been sent by somebody on the way.
    let mut answer = [0; 64];
    let got = stream.read(&mut answer).await.map_err(TlsError::Io)?;
    let kind = match answer.get(..got) {
        None | Some([]) => return Err(TlsError::Io(io::ErrorKind::UnexpectedEof.into())),
        Some(&[kind @ (b'S' | b'N')]) => kind,
        Some([b'S' | b'N', ..]) => {
            return Err(TlsError::Refused(
                "received unencrypted data after SSL response: somebody may be between pgpool and \
                 the server"
                    .to_owned(),
            ));
        }
        // Its text is nobody's: not encrypted, and from whoever wants to (CVE-2024-10977).
        Some([b'E', ..]) => {
            return Err(TlsError::Refused(
                "the server answered the SSL request with an error; its log says which".to_owned(),
            ));
        }
        Some([other, ..]) => {
            return Err(TlsError::Refused(format!(
                "the server answered the SSL request with '{}', which is not PostgreSQL's protocol",
                other.escape_ascii()
            )));
        }
    };
    debug(if kind == b'S' {
        "client->server SSL response: S"
    } else {
        "client->server SSL response: N"
    });
    Ok(kind == b'S')
}
