//! Our side as a server: the context that `ssl_*` describe, and the handshake with a client.

use openssl::{
    error::ErrorStack,
    ssl::{
        AlpnError, Ssl, SslContext, SslContextBuilder, SslOptions, SslSessionCacheMode,
        SslVerifyMode, select_next_proto,
    },
};
use tokio::net::TcpStream;

use super::{
    TlsStream,
    context::{self, ALPN},
    files::{self, Named, Passphrase},
    finding,
    handshake::{self, Side},
    reason,
};
use crate::config::{Config, Finding};

/// The context; `None`: clients are told that there is no TLS, for the reason among `findings`.
///
/// Order and texts are those of the original (its program's messages; behaviour seen on 4.3.5).
pub(super) fn context(
    config: &Config,
    passphrase: Passphrase,
    findings: &mut Vec<Finding>,
) -> Option<SslContext> {
    let built = context::builder().and_then(|mut builder| {
        session_rules(&mut builder)?;
        Ok(fill(&mut builder, config, passphrase, findings).then(|| builder.build()))
    });
    built.unwrap_or_else(|error| {
        let text = format!("could not create SSL context: {}", reason(&error));
        findings.push(finding(config, "ssl", None, text));
        None
    })
}

/// No session is resumed: PostgreSQL's clients do not do it, and a ticket would arrive as bytes that
/// nobody asked for.
fn session_rules(builder: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_options(SslOptions::NO_TICKET);
    builder.set_num_tickets(0)?;
    builder.set_alpn_select_callback(|_, offered| {
        select_next_proto(ALPN, offered).ok_or(AlpnError::ALERT_FATAL)
    });
    Ok(())
}

fn fill(
    builder: &mut SslContextBuilder,
    config: &Config,
    passphrase: Passphrase,
    findings: &mut Vec<Finding>,
) -> bool {
    let settings = &config.settings.tls;
    let named = |name, path| Named {
        config,
        name,
        index: None,
        path,
    };
    let certificate = named("ssl_cert", &settings.cert);
    let key = named("ssl_key", &settings.key);
    // All that is wrong is told at once.
    let mut usable = context::set_identity(builder, certificate, key, passphrase, findings);
    usable &= context::set_ciphers(builder, config, findings);
    if settings.prefer_server_ciphers {
        builder.set_options(SslOptions::CIPHER_SERVER_PREFERENCE);
    }
    let dh_file = named("ssl_dh_params_file", &settings.dh_params_file);
    let dh = files::dh_params(dh_file, findings).and_then(|dh| builder.set_tmp_dh(&dh));
    if let Err(error) = dh {
        let text = format!("DH: could not set DH parameters: {}", reason(&error));
        findings.push(dh_file.finding(text));
    }
    let curve = &settings.ecdh_curve;
    if !curve.is_empty() && builder.set_groups_list(curve).is_err() {
        let text = format!("ECDH: unrecognized curve name: {curve}");
        findings.push(
            finding(config, "ssl_ecdh_curve", None, text)
                .remedy("openssl ecparam -list_curves shows the names"),
        );
        usable = false;
    }
    if let Err(finding) = verify_clients(builder, config) {
        findings.push(finding);
        usable = false;
    }
    usable
}

/// With certificates of authorities, clients are asked for theirs and may have none.
fn verify_clients(builder: &mut SslContextBuilder, config: &Config) -> Result<(), Finding> {
    let settings = &config.settings.tls;
    let named = |name, path| Named {
        config,
        name,
        index: None,
        path,
    };
    let file = named("ssl_ca_cert", &settings.ca_cert);
    let directory = named("ssl_ca_cert_dir", &settings.ca_cert_dir);
    if !file.path.as_os_str().is_empty() || !directory.path.as_os_str().is_empty() {
        for authority in context::set_authorities(builder, file, directory)? {
            builder
                .add_client_ca(&authority)
                .map_err(|error| file.finding(reason(&error)))?;
        }
        builder.set_verify(SslVerifyMode::PEER);
    }
    context::set_revoked(builder, named("ssl_crl_file", &settings.crl_file))
}

/// The handshake with a client. `early` is what has been read of it already. A client that has
/// not asked for TLS before (`direct`) must name PostgreSQL's protocol.
///
/// # Errors
///
/// Why there is no connection, for the log.
pub async fn accept(
    context: &SslContext,
    stream: TcpStream,
    early: Vec<u8>,
    direct: bool,
) -> Result<TlsStream, String> {
    let ssl = Ssl::new(context).map_err(|error| reason(&error))?;
    let stream = handshake::run(ssl, stream, early, Side::Server)
        .await
        .map_err(|failed| failed.reason)?;
    if direct && !stream.has_chosen_protocol() {
        return Err(
            "received direct SSL connection request without ALPN protocol negotiation extension"
                .to_owned(),
        );
    }
    Ok(stream)
}
