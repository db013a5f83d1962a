//! What is known of one TLS connection.

use openssl::ssl::SslRef;

use super::certificate;

/// Taken after the handshake; nothing of it changes later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: String,
    /// OpenSSL's name of the cipher suite.
    pub cipher: String,
    /// CN of the verified client certificate; `None` towards backends.
    pub client_name: Option<String>,
    /// `tls-server-end-point` (RFC 5929) of the certificate that the server side of this connection
    /// showed; empty for a certificate whose signature names no hash (Ed25519, RSA-PSS).
    pub end_point: Vec<u8>,
}

impl TlsInfo {
    pub(super) fn of(ssl: &SslRef) -> TlsInfo {
        let is_server = ssl.is_server();
        let peer = ssl.peer_certificate();
        let end_point = if is_server {
            ssl.certificate().and_then(certificate::end_point)
        } else {
            peer.as_deref().and_then(certificate::end_point)
        };
        TlsInfo {
            version: ssl.version_str().to_owned(),
            cipher: ssl.current_cipher().map_or("", |c| c.name()).to_owned(),
            // A certificate that could not be verified has ended the handshake.
            client_name: peer
                .filter(|_| is_server)
                .and_then(|c| certificate::common_name(&c)),
            end_point: end_point.unwrap_or_default(),
        }
    }

    /// Data for SCRAM's channel binding, where there are any.
    pub fn channel_binding(&self) -> Option<Vec<u8>> {
        (!self.end_point.is_empty()).then(|| self.end_point.clone())
    }
}
