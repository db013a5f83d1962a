//! What is read out of a certificate.

use std::net::IpAddr;

use openssl::{hash::MessageDigest, nid::Nid, x509::X509Ref};

/// CN of the subject. A name with a NUL in it is none: it would read as another one elsewhere
/// (CVE-2009-4034).
pub fn common_name(certificate: &X509Ref) -> Option<String> {
    let entry = certificate
        .subject_name()
        .entries_by_nid(Nid::COMMONNAME)
        .next()?;
    let name = entry.data().to_string().ok()?;
    (!name.is_empty() && !name.contains('\0')).then_some(name)
}

/// `tls-server-end-point`: the certificate's hash by the hash of its signature, at least SHA-256
/// (RFC 5929 section 4.1).
pub fn end_point(certificate: &X509Ref) -> Option<Vec<u8>> {
    let signature = certificate.signature_algorithm().object().nid();
    let digest = match signature.signature_algorithms()?.digest {
        Nid::MD5 | Nid::SHA1 => MessageDigest::sha256(),
        other => MessageDigest::from_nid(other)?,
    };
    Some(certificate.digest(digest).ok()?.to_vec())
}

/// Whether a server's certificate is for this address: by an address among its alternative
/// names, or, where it has none of DNS names and addresses, by its CN.
pub fn is_for_address(certificate: &X509Ref, address: IpAddr) -> bool {
    let mut has_names = false;
    for name in certificate.subject_alt_names().iter().flatten() {
        has_names |= name.dnsname().is_some() || name.ipaddress().is_some();
        let same = match address {
            IpAddr::V4(a) => name.ipaddress() == Some(&a.octets()),
            IpAddr::V6(a) => name.ipaddress() == Some(&a.octets()),
        };
        if same {
            return true;
        }
    }
    !has_names
        && common_name(certificate)
            .is_some_and(|name| name.parse::<IpAddr>().is_ok_and(|cn| cn == address))
}
