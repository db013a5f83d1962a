//! What the contexts of both directions have in common.

use openssl::{
    error::ErrorStack,
    ssl::{SslContextBuilder, SslFiletype, SslMethod, SslMode, SslOptions, SslVersion},
    x509::{X509, store::X509Lookup, verify::X509VerifyFlags},
};

use super::{
    files::{self, Named, Passphrase},
    finding, read, reason,
};
use crate::config::{Config, Finding};

/// The name of PostgreSQL's protocol for ALPN, with its length in front.
pub(super) const ALPN: &[u8] = b"\x0apostgresql";

/// A context that our way of reading and writing works with.
pub(super) fn builder() -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = SslContextBuilder::new(SslMethod::tls())?;
    // Whatever openssl.cnf and ssl_ciphers allow: as PostgreSQL's ssl_min_protocol_version.
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_mode(
        // What was not written stands in another buffer at the next attempt.
        SslMode::ENABLE_PARTIAL_WRITE
            | SslMode::ACCEPT_MOVING_WRITE_BUFFER
            | SslMode::AUTO_RETRY
            // 34 KiB less for an idle session.
            | SslMode::RELEASE_BUFFERS,
    );
    builder.set_options(
        SslOptions::NO_COMPRESSION
            | SslOptions::NO_RENEGOTIATION
            // PostgreSQL's messages tell where they end, and programs that are killed say nothing.
            | SslOptions::IGNORE_UNEXPECTED_EOF,
    );
    // One call of the system for a record and not two, and none to learn that there is no more.
    builder.set_read_ahead(true);
    Ok(builder)
}

/// `ssl_ciphers`, which TLS 1.3 does not look at. `false`: OpenSSL does not understand it.
pub(super) fn set_ciphers(
    builder: &mut SslContextBuilder,
    config: &Config,
    findings: &mut Vec<Finding>,
) -> bool {
    let Err(error) = builder.set_cipher_list(&config.settings.tls.ciphers) else {
        return true;
    };
    let text = format!("ssl_ciphers cannot be used: {}", reason(&error));
    findings.push(
        finding(config, "ssl_ciphers", None, text)
            .remedy("openssl ciphers 'LIST' shows what OpenSSL makes of a list"),
    );
    false
}

/// Certificate and key. `false`: there is nothing that can be used.
pub(super) fn set_identity(
    builder: &mut SslContextBuilder,
    certificate: Named<'_>,
    key: Named<'_>,
    passphrase: Passphrase,
    findings: &mut Vec<Finding>,
) -> bool {
    let chain = match files::certificates(certificate) {
        Ok(chain) => chain,
        Err(finding) => {
            findings.push(finding);
            return false;
        }
    };
    let mut chain = chain.into_iter();
    let set = chain
        .next()
        .map_or(Ok(()), |own| builder.set_certificate(&own));
    let set = set.and_then(|()| chain.try_for_each(|c| builder.add_extra_chain_cert(c)));
    if let Err(error) = set {
        let text = format!(
            "certificate file \"{}\" cannot be used: {}",
            certificate.path.display(),
            reason(&error)
        );
        findings.push(
            certificate
                .finding(text)
                .remedy("make a certificate with a longer key and a newer signature"),
        );
        return false;
    }
    let loaded = match files::private_key(key, passphrase, findings) {
        Ok(Some(loaded)) => loaded,
        Ok(None) => return true,
        Err(finding) => {
            findings.push(finding);
            return false;
        }
    };
    let fits = builder
        .set_private_key(&loaded)
        .and_then(|()| builder.check_private_key());
    if let Err(error) = fits {
        let text = format!(
            "could not load private key file \"{}\": {}",
            key.path.display(),
            reason(&error)
        );
        findings.push(key.finding(text).remedy(format!(
            "{} must be the key of {}",
            key.name, certificate.name
        )));
        return false;
    }
    true
}

/// Certificates of authorities from a file and a directory; at least one of them is named. Gives
/// those of the file.
pub(super) fn set_authorities(
    builder: &mut SslContextBuilder,
    file: Named<'_>,
    directory: Named<'_>,
) -> Result<Vec<X509>, Finding> {
    let named = |path: &std::path::Path| !path.as_os_str().is_empty();
    let mut found = Vec::new();
    let failed = |of: Named<'_>, why: &str| {
        let text = format!(
            "could not load root certificate file \"{}\": {why}",
            of.path.display()
        );
        of.finding(text).remedy(format!(
            "let {} name certificates in PEM form that pgpool may read",
            of.name
        ))
    };
    if named(file.path) {
        let pem = read(file.path).map_err(|why| failed(file, &why))?;
        found = X509::stack_from_pem(&pem).map_err(|e| failed(file, &reason(&e)))?;
        if found.is_empty() {
            return Err(failed(file, "no certificate is in it"));
        }
        builder
            .load_verify_locations(Some(file.path), None)
            .map_err(|e| failed(file, &reason(&e)))?;
    }
    if named(directory.path) {
        std::fs::read_dir(directory.path)
            .map_err(|e| failed(directory, &crate::sys::errors::message(&e)))?;
        builder
            .load_verify_locations(None, Some(directory.path))
            .map_err(|e| failed(directory, &reason(&e)))?;
    }
    Ok(found)
}

/// A revocation list, which must then be there for each authority of a chain.
pub(super) fn set_revoked(builder: &mut SslContextBuilder, file: Named<'_>) -> Result<(), Finding> {
    if file.path.as_os_str().is_empty() {
        return Ok(());
    }
    let failed = |why: &str| {
        let text = format!(
            "could not load SSL certificate revocation list file \"{}\": {why}",
            file.path.display()
        );
        file.finding(text).remedy(format!(
            "let {} name revocation lists in PEM form that pgpool may read",
            file.name
        ))
    };
    read(file.path).map_err(|why| failed(&why))?;
    let store = builder.cert_store_mut();
    let mut load = || {
        let lookup = store.add_lookup(X509Lookup::file())?;
        lookup.load_crl_file(file.path, SslFiletype::PEM)?;
        store.set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL)
    };
    load().map_err(|error| failed(&reason(&error)))
}
