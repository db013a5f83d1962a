//! Connections to LDAP servers, one request on them, and what libldap says of their failures.

use std::{net::Ipv6Addr, time::Duration};

use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult};

use super::tls;
use crate::auth::hba::LdapOptions;

/// For TCP, StartTLS and the TLS handshake with one server.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Result codes of RFC 4511.
const BUSY: u32 = 51;
const UNAVAILABLE: u32 = 52;

const UNREACHABLE: &str = "Can't contact LDAP server";

/// Why a request failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// As `ldap_err2string` of libldap calls it.
    pub reason: &'static str,
    /// What the server or the system adds.
    pub diagnostics: String,
    /// The server has said no, and not that it cannot answer at present.
    pub is_verdict: bool,
}

/// Where to connect to, tried in this order.
#[derive(Debug)]
pub(super) struct Servers {
    urls: Vec<String>,
    start_tls: bool,
    uses_tls: bool,
}

impl Servers {
    /// # Errors
    ///
    /// What cannot be understood.
    pub fn of(options: &LdapOptions) -> Result<Servers, String> {
        let default = match (&*options.scheme, options.port) {
            (_, Some(0)) => return Err("The port is out of range.".to_owned()),
            ("ldap" | "ldaps", Some(port)) => port,
            ("ldap", None) => 389,
            ("ldaps", None) => 636,
            (scheme, _) => {
                return Err(format!("The scheme is \"{scheme}\", not ldap or ldaps."));
            }
        };
        let places = options
            .servers
            .iter()
            .map(|server| {
                place(server, default)
                    .ok_or_else(|| format!("\"{server}\" is not a host, or a host and a port."))
            })
            .collect::<Result<Vec<String>, String>>()?;
        Ok(Servers::at(options, places))
    }

    /// Those that DNS has named, each with its port.
    pub fn found(options: &LdapOptions, places: Vec<(String, u16)>) -> Servers {
        let places = places
            .into_iter()
            .filter_map(|(host, port)| place(&host, port))
            .collect();
        Servers::at(options, places)
    }

    fn at(options: &LdapOptions, places: Vec<String>) -> Servers {
        let scheme = &options.scheme;
        let ldaps = scheme == "ldaps";
        Servers {
            urls: places
                .into_iter()
                .map(|place| format!("{scheme}://{place}"))
                .collect(),
            start_tls: options.tls && !ldaps,
            uses_tls: options.tls || ldaps,
        }
    }

    /// A connection to the first server that can be reached.
    pub async fn connect(&self) -> Result<Ldap, Fault> {
        let mut settings = LdapConnSettings::new()
            .set_conn_timeout(CONNECT_LIMIT)
            .set_starttls(self.start_tls);
        if self.uses_tls {
            let connector = tls::connector().map_err(|diagnostics| Fault {
                reason: "Connect error",
                diagnostics,
                is_verdict: false,
            })?;
            settings = settings.set_connector(connector);
        }
        let mut last = Fault {
            reason: UNREACHABLE,
            diagnostics: String::new(),
            is_verdict: false,
        };
        for url in &self.urls {
            match LdapConnAsync::with_settings(settings.clone(), url).await {
                Ok((connection, ldap)) => {
                    // Ends with the last handle. Its error is that of the request that waits for it.
                    drop(tokio::spawn(async move { connection.drive().await }));
                    return Ok(ldap);
                }
                Err(error) => last = Fault::of_connecting(error, self.start_tls),
            }
        }
        Err(last)
    }
}

/// `host:port` for a URL; `server` may have a port of its own.
fn place(server: &str, default: u16) -> Option<String> {
    if server.parse::<Ipv6Addr>().is_ok() {
        return Some(format!("[{server}]:{default}"));
    }
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (server, default),
    };
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let is_host = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        }
    };
    (is_host && port != 0).then(|| format!("{host}:{port}"))
}

/// A simple bind.
///
/// # Errors
///
/// The server did not say that it succeeded.
pub(super) async fn bind(
    ldap: &mut Ldap,
    name: &str,
    password: &str,
    limit: Duration,
) -> Result<(), Fault> {
    let result = ldap.with_timeout(limit).simple_bind(name, password).await?;
    if result.rc == 0 {
        Ok(())
    } else {
        Err(Fault::of_result(&result))
    }
}

impl Fault {
    pub fn of_result(result: &LdapResult) -> Fault {
        Fault {
            reason: reason_of(result.rc),
            diagnostics: result.text.clone(),
            is_verdict: !matches!(result.rc, BUSY | UNAVAILABLE),
        }
    }

    fn of_connecting(error: LdapError, start_tls: bool) -> Fault {
        match error {
            LdapError::LdapResult { result } => Fault::of_result(&result),
            LdapError::NativeTLS { source } => Fault {
                // Without StartTLS the handshake is a part of connecting.
                reason: if start_tls {
                    "Connect error"
                } else {
                    UNREACHABLE
                },
                diagnostics: source.to_string(),
                is_verdict: false,
            },
            LdapError::Timeout { .. } => Fault {
                reason: UNREACHABLE,
                diagnostics: format!("no connection within {} s", CONNECT_LIMIT.as_secs()),
                is_verdict: false,
            },
            other => Fault {
                reason: UNREACHABLE,
                diagnostics: other.to_string(),
                is_verdict: false,
            },
        }
    }
}

/// A request that got no result.
impl From<LdapError> for Fault {
    fn from(error: LdapError) -> Fault {
        let reason = match &error {
            LdapError::LdapResult { result } => return Fault::of_result(result),
            LdapError::FilterParsing => "Bad search filter",
            LdapError::Timeout { .. } => "Timed out",
            _ => UNREACHABLE,
        };
        Fault {
            reason,
            diagnostics: String::new(),
            is_verdict: false,
        }
    }
}

/// `ldap_err2string` of libldap 2.5.
fn reason_of(code: u32) -> &'static str {
    match code {
        0 => "Success",
        1 => "Operations error",
        2 => "Protocol error",
        3 => "Time limit exceeded",
        4 => "Size limit exceeded",
        7 => "Authentication method not supported",
        8 => "Strong(er) authentication required",
        10 => "Referral",
        11 => "Administrative limit exceeded",
        12 => "Critical extension is unavailable",
        13 => "Confidentiality required",
        14 => "SASL bind in progress",
        16 => "No such attribute",
        17 => "Undefined attribute type",
        18 => "Inappropriate matching",
        19 => "Constraint violation",
        21 => "Invalid syntax",
        32 => "No such object",
        33 => "Alias problem",
        34 => "Invalid DN syntax",
        36 => "Alias dereferencing problem",
        48 => "Inappropriate authentication",
        49 => "Invalid credentials",
        50 => "Insufficient access",
        BUSY => "Server is busy",
        UNAVAILABLE => "Server is unavailable",
        53 => "Server is unwilling to perform",
        54 => "Loop detected",
        80 => "Other (e.g., implementation specific) error",
        _ => "Unknown error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(servers: &[&str]) -> LdapOptions {
        LdapOptions {
            servers: servers.iter().map(|&s| s.to_owned()).collect(),
            ..LdapOptions::default()
        }
    }

    #[test]
    fn servers_have_their_own_port_or_that_of_the_record_or_that_of_the_scheme() {
        let servers = Servers::of(&options(&["one", "two:1389", "::1", "[::1]:5", "[::2]"]));
        assert_eq!(
            servers.unwrap().urls,
            [
                "ldap://one:389",
                "ldap://two:1389",
                "ldap://[::1]:389",
                "ldap://[::1]:5",
                "ldap://[::2]:389"
            ]
        );
        let mut named = options(&["10.0.0.1"]);
        named.port = Some(1389);
        assert_eq!(Servers::of(&named).unwrap().urls, ["ldap://10.0.0.1:1389"]);
        let mut tls = options(&["h"]);
        tls.scheme = "ldaps".to_owned();
        // StartTLS inside TLS makes no sense; libldap refuses it, and we have TLS either way.
        tls.tls = true;
        let servers = Servers::of(&tls).unwrap();
        assert_eq!(servers.urls, ["ldaps://h:636"]);
        assert!(servers.uses_tls && !servers.start_tls);
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for server in [
            "h:0", "h:x", "h:70000", "a/b", "u@h", "h?x", "[h]", "", ":1",
        ] {
            assert!(Servers::of(&options(&[server])).is_err(), "{server}");
        }
        let mut bad = options(&["h"]);
        bad.port = Some(0);
        assert!(Servers::of(&bad).is_err());
        let mut bad = options(&["h"]);
        bad.scheme = "ldapi".to_owned();
        assert!(Servers::of(&bad).is_err());
    }

    #[test]
    fn a_server_with_a_root_dot_is_a_host() {
        let found = Servers::found(&options(&[]), vec![("ldap.example.net".to_owned(), 390)]);
        assert_eq!(found.urls, ["ldap://ldap.example.net:390"]);
    }
}
