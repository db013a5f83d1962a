//! Tokens of a line of pool_hba.conf made into a [`Record`].
//!
//! The words of the errors are those of the original. Every bad line is reported, not the first.
//!
//! Source: `parse_hba_line` in `src/auth/pool_hba.c @ V4_3_5`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use super::{
    Address, Connection, HbaError, Method, Record,
    options::{self, Options, Verdict},
    tokens::{Line, Token},
};

/// `warnings` receives what the original logs without refusing the file.
pub(super) fn record(
    path: &Path,
    line: Line,
    warnings: &mut Vec<HbaError>,
) -> Result<Record, HbaError> {
    let number = line.number;
    let text = line.text();
    let error = |message: String| HbaError::at(path, number, message);
    let mut fields = line.fields.into_iter();

    let kind = only(fields.next(), "", "connection type", error)
        .map_err(|e| hint_if_multiple(e, "Specify exactly one connection type per line."))?;
    let connection = match &*kind.text {
        "local" => Connection::Local,
        "host" => Connection::Host,
        "hostssl" => Connection::HostSsl,
        "hostnossl" => Connection::HostNoSsl,
        other => return Err(error(format!("invalid connection type \"{other}\""))),
    };
    let databases = fields
        .next()
        .ok_or_else(|| error("end-of-line before database specification".to_owned()))?;
    let users = fields
        .next()
        .ok_or_else(|| error("end-of-line before role specification".to_owned()))?;
    let address = match connection {
        Connection::Local => Address::All,
        _ => address(&mut fields, error)?,
    };
    let method = only(
        fields.next(),
        "end-of-line before authentication method",
        "authentication type",
        error,
    )
    .map_err(|e| hint_if_multiple(e, "Specify exactly one authentication type per line."))?;
    let method = Method::from_word(&method.text)
        .ok_or_else(|| error(format!("invalid authentication method \"{}\"", method.text)))?;
    let mut options = Options::default();
    let mut secret_before = false;
    for token in fields.flatten() {
        let Some((name, value)) = token.text.split_once('=') else {
            return Err(error(not_a_pair(&token.text, secret_before)));
        };
        match options.add(method, name, value) {
            Ok(Verdict::Taken) => {}
            Ok(Verdict::Warned(warning)) => warnings.push(error(warning)),
            Err(_) if secret_before && !options::is_known(name) => {
                return Err(error(not_a_pair(&token.text, true)));
            }
            Err(reason) => return Err(error(reason)),
        }
        secret_before |= name == "ldapbindpasswd";
    }
    let (pam, ldap) = options.finish(method).map_err(error)?;
    Ok(Record {
        line: number,
        connection,
        databases,
        users,
        address,
        method,
        pam,
        ldap,
        text,
    })
}

/// Behind `ldapbindpasswd` a stray word is the rest of a password that should have been quoted.
fn not_a_pair(text: &str, secret_before: bool) -> String {
    let shown = if secret_before {
        "(not shown, it follows ldapbindpasswd: write \"ldapbindpasswd=...\" in double quotes)"
    } else {
        text
    };
    format!("authentication option not in name=value format: {shown}")
}

/// The single token of a field.
fn only(
    field: Option<Vec<Token>>,
    missing: &str,
    name: &str,
    error: impl Fn(String) -> HbaError,
) -> Result<Token, HbaError> {
    let mut tokens = field.ok_or_else(|| error(missing.to_owned()))?.into_iter();
    match (tokens.next(), tokens.next()) {
        (Some(token), None) => Ok(token),
        _ => Err(error(format!("multiple values specified for {name}"))),
    }
}

fn hint_if_multiple(mut error: HbaError, hint: &str) -> HbaError {
    if error.message.starts_with("multiple values") {
        hint.clone_into(&mut error.hint);
    }
    error
}

/// The address field, and the mask field behind it when there is one.
fn address(
    fields: &mut impl Iterator<Item = Vec<Token>>,
    error: impl Fn(String) -> HbaError + Copy,
) -> Result<Address, HbaError> {
    let token = only(
        fields.next(),
        "end-of-line before IP address specification",
        "host address",
        error,
    )
    .map_err(|e| hint_if_multiple(e, "Specify one address range per line."))?;
    for (word, address) in [
        ("all", Address::All),
        ("samehost", Address::SameHost),
        ("samenet", Address::SameNet),
    ] {
        if token.is_keyword(word) {
            return Ok(address);
        }
    }
    let (host, bits) = match token.text.split_once('/') {
        Some((host, bits)) => (host, Some(bits)),
        None => (&*token.text, None),
    };
    let network = match (numeric_address(host), bits) {
        (None, None) => return Ok(Address::Name(host.to_owned())),
        (None, Some(_)) => {
            return Err(error(format!(
                "specifying both host name and CIDR mask is invalid: \"{}\"",
                token.text
            )));
        }
        (Some(network), _) => network,
    };
    let mask = match bits {
        Some(bits) => mask_of_bits(bits, network)
            .ok_or_else(|| error(format!("invalid CIDR mask in address \"{}\"", token.text)))?,
        None => {
            let mask = only(
                fields.next(),
                "end-of-line before netmask specification",
                "netmask",
                error,
            )
            .map_err(|mut e| {
                if e.message.starts_with("end-of-line") {
                    "Specify an address range in CIDR notation, or provide a separate netmask."
                        .clone_into(&mut e.hint);
                }
                e
            })?;
            numeric_address(&mask.text).ok_or_else(|| {
                error(format!(
                    "invalid IP mask \"{}\": Name or service not known",
                    mask.text
                ))
            })?
        }
    };
    if network.is_ipv4() != mask.is_ipv4() {
        return Err(error("IP address and mask do not match".to_owned()));
    }
    Ok(Address::Network { network, mask })
}

fn mask_of_bits(bits: &str, network: IpAddr) -> Option<IpAddr> {
    let bits: u32 = bits.trim_start().parse().ok()?;
    match network {
        IpAddr::V4(_) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            Some(Ipv4Addr::from(mask).into())
        }
        IpAddr::V6(_) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            Some(Ipv6Addr::from(mask).into())
        }
        _ => None,
    }
}

/// What getaddrinfo takes as numeric: also `127.1`, hexadecimal and octal parts, and `%scope`, which
/// is a number, or for link-local addresses the name of an interface.
fn numeric_address(text: &str) -> Option<IpAddr> {
    if let Some(address) = dotted(text) {
        return Some(address.into());
    }
    let (address, scope) = match text.split_once('%') {
        Some((address, scope)) => (address, Some(scope)),
        None => (text, None),
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let first = address.segments().first().copied().unwrap_or_default();
    let link_local = first & 0xffc0 == 0xfe80 || first & 0xff0f == 0xff02;
    let named = scope.is_some_and(|s| s.parse::<u32>().is_err());
    (!named || link_local).then_some(address.into())
}

/// The forms of inet_aton: up to four parts, the last fills the bytes that remain.
fn dotted(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text
        .split('.')
        .map(c_number)
        .collect::<Option<Vec<u32>>>()?;
    let (&last, heads) = parts.split_last()?;
    let free_bits = 32_u32.checked_sub(8 * u32::try_from(heads.len()).ok()?)?;
    if free_bits == 0 || (free_bits < 32 && last >> free_bits != 0) {
        return None;
    }
    let mut address = 0;
    for &head in heads {
        address = address << 8 | u32::from(u8::try_from(head).ok()?);
    }
    let address = address.checked_shl(free_bits).unwrap_or(0) | last;
    Some(address.into())
}

fn c_number(text: &str) -> Option<u32> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        return u32::from_str_radix(hex, 16).ok();
    }
    let radix = if lower.len() > 1 && lower.starts_with('0') {
        8
    } else {
        10
    };
    u32::from_str_radix(&lower, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_addresses_have_all_the_forms_of_getaddrinfo() {
        for (text, expected) in [
            ("127.0.0.1", Some("127.0.0.1")),
            ("127.1", Some("127.0.0.1")),
            ("192.168.1", Some("192.168.0.1")),
            ("10", Some("0.0.0.10")),
            ("0x7f.0.0.010", Some("127.0.0.8")),
            ("4294967295", Some("255.255.255.255")),
            ("::1", Some("::1")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("::1%1", Some("::1")),
            ("::1%lo", None),
            ("256.0.0.1", None),
            ("1.2.3.4.5", None),
            ("1.2.3.256", None),
            ("09", None),
            ("localhost", None),
            (".example.com", None),
            ("", None),
            ("+1", None),
        ] {
            assert_eq!(
                numeric_address(text),
                expected.map(|a| a.parse().unwrap()),
                "{text}"
            );
        }
    }

    #[test]
    fn masks_reach_from_nothing_to_everything() {
        let v4: IpAddr = "10.0.0.0".parse().unwrap();
        let v6: IpAddr = "::".parse().unwrap();
        assert_eq!(mask_of_bits("0", v4), Some("0.0.0.0".parse().unwrap()));
        assert_eq!(
            mask_of_bits("24", v4),
            Some("255.255.255.0".parse().unwrap())
        );
        assert_eq!(
            mask_of_bits("32", v4),
            Some("255.255.255.255".parse().unwrap())
        );
        assert_eq!(mask_of_bits("33", v4), None);
        assert_eq!(mask_of_bits("-1", v4), None);
        assert_eq!(mask_of_bits("", v4), None);
        assert_eq!(mask_of_bits("8x", v4), None);
        assert_eq!(mask_of_bits("0", v6), Some("::".parse().unwrap()));
        assert_eq!(
            mask_of_bits("128", v6),
            Some(Ipv6Addr::from(u128::MAX).into())
        );
    }
}
