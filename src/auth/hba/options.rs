//! What follows the method of a record: `name=value` options of pam and ldap.
//!
//! Options are taken one by one in the order of the line ([`Options::add`]); [`Options::finish`]
//! judges their combination. There is no `clientcert` and no `map`, unlike in pg_hba.conf.
//!
//! Source: `parse_hba_auth_opt`, end of `parse_hba_line` in `src/auth/pool_hba.c @ V4_3_5`; the
//! combinations are those of the manual, section LDAP Authentication.

use std::sync::Arc;

use super::{Method, ldap_url};
use crate::auth::password::Password;

/// How a `pam` record asks PAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PamOptions {
    /// `pamservice`: the file in the system's PAM directory.
    pub service: String,
    /// `pam_use_hostname`: PAM is told the client's host name and not its address. The original
    /// knows the option and uses it nowhere.
    pub use_hostname: bool,
}

impl Default for PamOptions {
    fn default() -> PamOptions {
        PamOptions {
            service: "pgpool".to_owned(),
            use_hostname: false,
        }
    }
}

/// How an `ldap` record finds out whether a password is right.
///
/// With [`LdapOptions::base_dn`] by search and bind, else by binding as
/// `prefix` + user + `suffix`; other combinations are errors of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LdapOptions {
    /// `ldap` or `ldaps`. Anything else was warned about, and no server can be reached with it.
    pub scheme: String,
    /// Tried in this order. Empty: DNS SRV records of the domain in [`LdapOptions::base_dn`] say.
    pub servers: Vec<String>,
    /// `None`: 389, or 636 for `ldaps`. 0: the number in the file is no port.
    pub port: Option<u16>,
    /// `ldaptls`: StartTLS after connecting.
    pub tls: bool,
    /// Simple bind: what stands before the user name.
    pub prefix: String,
    /// Simple bind: what stands behind the user name.
    pub suffix: String,
    /// Search and bind: where the search begins.
    pub base_dn: Option<String>,
    /// Who searches; `None`: anonymous.
    pub bind_dn: Option<String>,
    pub bind_password: Option<Password>,
    /// `None` together with [`LdapOptions::search_filter`]: `uid`.
    pub search_attribute: Option<String>,
    /// `$username` in it stands for the user.
    pub search_filter: Option<String>,
    pub scope: LdapScope,
    /// `backend_use_passwd`: the password that the client tells is used towards the backends.
    pub backend_use_password: bool,
}

impl Default for LdapOptions {
    fn default() -> LdapOptions {
        LdapOptions {
            scheme: "ldap".to_owned(),
            servers: Vec::new(),
            port: None,
            tls: false,
            prefix: String::new(),
            suffix: String::new(),
            base_dn: None,
            bind_dn: None,
            bind_password: None,
            search_attribute: None,
            search_filter: None,
            scope: LdapScope::Subtree,
            backend_use_password: false,
        }
    }
}

/// How deep a search goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LdapScope {
    Base,
    One,
    #[default]
    Subtree,
    /// All below the base, without the base itself.
    Children,
}

/// The options of one line while it is read.
#[derive(Debug, Default)]
pub(super) struct Options {
    pam: PamOptions,
    ldap: LdapOptions,
    /// `ldapprefix` or `ldapsuffix` was named, be it empty.
    simple_bind: bool,
}

/// What an option is worth.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Taken,
    /// The original says so in its log and goes on.
    Warned(String),
}

const WITH_PREFIX: &str = "cannot use ldapbasedn, ldapbinddn, ldapbindpasswd, ldapsearchattribute, ldapsearchfilter, or ldapurl together with ldapprefix";
const NO_MODE: &str = "authentication method \"ldap\" requires argument \"ldapbasedn\", \"ldapprefix\", or \"ldapsuffix\" to be set";
const FILTER_AND_ATTRIBUTE: &str = "cannot use ldapsearchattribute together with ldapsearchfilter";

/// The options of ldap; those of pam are in [`Options::add`].
const LDAP_OPTIONS: [&str; 13] = [
    "ldapurl",
    "ldaptls",
    "ldapscheme",
    "ldapserver",
    "ldapport",
    "ldapbinddn",
    "ldapbindpasswd",
    "ldapsearchattribute",
    "ldapsearchfilter",
    "ldapbasedn",
    "ldapprefix",
    "ldapsuffix",
    "backend_use_passwd",
];

/// Whether there is an option of this name, for whatever method.
pub(super) fn is_known(name: &str) -> bool {
    matches!(name, "pamservice" | "pam_use_hostname") || LDAP_OPTIONS.contains(&name)
}

impl Options {
    /// Takes the next option of a line with this method.
    ///
    /// # Errors
    ///
    /// What makes the line bad.
    pub fn add(&mut self, method: Method, name: &str, value: &str) -> Result<Verdict, String> {
        // In the original every option sets the scope back to that of a search without a URL: the
        // scope of a URL counts when nothing follows the URL.
        self.ldap.scope = LdapScope::Subtree;
        match name {
            "pamservice" | "pam_use_hostname" if method != Method::Pam => {
                return Ok(Verdict::Warned(
                    "pamservice authentication option can only be configured for authentication method \"pam\""
                        .to_owned(),
                ));
            }
            "pamservice" if value.is_empty() => self.pam.service = PamOptions::default().service,
            "pamservice" => value.clone_into(&mut self.pam.service),
            "pam_use_hostname" => self.pam.use_hostname = value == "1",
            _ if LDAP_OPTIONS.contains(&name) => {
                if method != Method::Ldap {
                    return Err(format!(
                        "authentication option \"{name}\" is only valid for authentication methods ldap"
                    ));
                }
                return self.add_ldap(name, value);
            }
            _ => {
                return Err(format!(
                    "unrecognized authentication option name: \"{name}\""
                ));
            }
        }
        Ok(Verdict::Taken)
    }

    fn add_ldap(&mut self, name: &str, value: &str) -> Result<Verdict, String> {
        let ldap = &mut self.ldap;
        let text = || Some(value.to_owned());
        match name {
            "ldapurl" => self.add_url(value)?,
            "ldaptls" => ldap.tls = value == "1",
            "ldapscheme" => {
                value.clone_into(&mut ldap.scheme);
                if value != "ldap" && value != "ldaps" {
                    return Ok(Verdict::Warned(format!(
                        "invalid ldapscheme value: \"{value}\""
                    )));
                }
            }
            "ldapserver" => ldap.servers = servers_of(value),
            "ldapport" => {
                let number = leading_number(value);
                if number == 0 {
                    return Err(format!("invalid LDAP port number: \"{value}\""));
                }
                return Ok(self.set_port(number));
            }
            "ldapbinddn" => ldap.bind_dn = text(),
            "ldapbindpasswd" => ldap.bind_password = Some(Password::new(value)),
            "ldapsearchattribute" => ldap.search_attribute = text(),
            "ldapsearchfilter" => ldap.search_filter = text(),
            "ldapbasedn" => ldap.base_dn = text(),
            "ldapprefix" | "ldapsuffix" => {
                self.simple_bind = true;
                let part = if name == "ldapprefix" {
                    &mut ldap.prefix
                } else {
                    &mut ldap.suffix
                };
                value.clone_into(part);
            }
            _ => ldap.backend_use_password = value == "1",
        }
        Ok(Verdict::Taken)
    }

    fn add_url(&mut self, text: &str) -> Result<(), String> {
        let url = ldap_url::parse(text)
            .map_err(|reason| format!("could not parse LDAP URL \"{text}\": {reason}"))?;
        if url.scheme != "ldap" && url.scheme != "ldaps" {
            return Err(format!("unsupported LDAP URL scheme: {}", url.scheme));
        }
        // What the URL does not say stays as other options have set it.
        let ldap = &mut self.ldap;
        ldap.scheme = url.scheme;
        ldap.servers = url
            .host
            .map_or_else(|| std::mem::take(&mut ldap.servers), |h| servers_of(&h));
        ldap.base_dn = url.base_dn.or(ldap.base_dn.take());
        // Only the first one counts.
        let attribute = url.attributes.into_iter().next();
        ldap.search_attribute = attribute.or(ldap.search_attribute.take());
        ldap.search_filter = url.filter.or(ldap.search_filter.take());
        ldap.scope = url.scope;
        self.set_port(url.port.into());
        Ok(())
    }

    fn set_port(&mut self, number: i64) -> Verdict {
        match u16::try_from(number) {
            Ok(port) => {
                self.ldap.port = Some(port);
                Verdict::Taken
            }
            Err(_) => {
                self.ldap.port = Some(0);
                Verdict::Warned(format!(
                    "LDAP port number {number} is out of range: no login with this line will work"
                ))
            }
        }
    }

    /// The options of the whole line.
    ///
    /// # Errors
    ///
    /// Options of ldap that do not go together.
    pub fn finish(
        self,
        method: Method,
    ) -> Result<(Option<PamOptions>, Option<Arc<LdapOptions>>), String> {
        match method {
            Method::Pam => Ok((Some(self.pam), None)),
            Method::Ldap => {
                let ldap = &self.ldap;
                let searches = ldap.base_dn.is_some()
                    || ldap.bind_dn.is_some()
                    || ldap.bind_password.is_some()
                    || ldap.search_attribute.is_some()
                    || ldap.search_filter.is_some();
                if self.simple_bind && searches {
                    Err(WITH_PREFIX.to_owned())
                } else if !self.simple_bind && ldap.base_dn.is_none() {
                    Err(NO_MODE.to_owned())
                } else if ldap.search_attribute.is_some() && ldap.search_filter.is_some() {
                    Err(FILTER_AND_ATTRIBUTE.to_owned())
                } else {
                    Ok((None, Some(Arc::new(self.ldap))))
                }
            }
            _ => Ok((None, None)),
        }
    }
}

fn servers_of(text: &str) -> Vec<String> {
    text.split(' ')
        .filter(|server| !server.is_empty())
        .map(str::to_owned)
        .collect()
}

/// What atoi makes of it: the number at the front, 0 when there is none.
fn leading_number(text: &str) -> i64 {
    let text = text.trim_start();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    let digits = digits.get(..end).unwrap_or_default();
    if digits.is_empty() {
        0
    } else {
        sign * digits.parse().unwrap_or(i64::from(i32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ldap(options: &[(&str, &str)]) -> Result<LdapOptions, String> {
        let mut line = Options::default();
        for (name, value) in options {
            line.add(Method::Ldap, name, value)?;
        }
        let (_, ldap) = line.finish(Method::Ldap)?;
        Ok(Arc::unwrap_or_clone(ldap.unwrap()))
    }

    #[test]
    fn a_simple_bind_is_made_of_prefix_and_suffix() {
        let got = ldap(&[
            ("ldapserver", "one  two"),
            ("ldapprefix", "cn="),
            ("ldapsuffix", ", dc=example, dc=net"),
            ("ldapport", "1389"),
            ("ldaptls", "1"),
            ("backend_use_passwd", "1"),
        ])
        .unwrap();
        assert_eq!(got.servers, ["one", "two"]);
        assert_eq!(
            (&*got.prefix, &*got.suffix),
            ("cn=", ", dc=example, dc=net")
        );
        assert_eq!((got.port, got.base_dn), (Some(1389), None));
        assert!(got.tls && got.backend_use_password);
        assert!(
            ldap(&[("ldapprefix", "")]).is_ok(),
            "an empty prefix counts"
        );
    }

    #[test]
    fn a_url_stands_for_server_port_base_attribute_scope_and_filter() {
        let got = ldap(&[("ldapurl", "ldaps://h/dc=x?mail?one")]).unwrap();
        assert_eq!(got.scheme, "ldaps");
        assert_eq!((got.servers, got.port), (vec!["h".to_owned()], Some(636)));
        assert_eq!(got.base_dn.as_deref(), Some("dc=x"));
        assert_eq!(got.search_attribute.as_deref(), Some("mail"));
        assert_eq!(got.scope, LdapScope::One);
        let got = ldap(&[("ldapurl", "ldap://h/dc=x??sub?(a=$username)")]).unwrap();
        assert_eq!(got.search_filter.as_deref(), Some("(a=$username)"));
    }

    #[test]
    fn the_scope_of_a_url_counts_when_nothing_follows_it() {
        let url = ("ldapurl", "ldap://h/dc=x?uid?one");
        assert_eq!(
            ldap(&[("ldaptls", "1"), url]).unwrap().scope,
            LdapScope::One
        );
        assert_eq!(
            ldap(&[url, ("ldaptls", "1")]).unwrap().scope,
            LdapScope::Subtree
        );
        assert_eq!(
            ldap(&[("ldapbasedn", "dc=x")]).unwrap().scope,
            LdapScope::Subtree
        );
    }

    #[test]
    fn simple_bind_and_search_do_not_mix() {
        for option in [
            ("ldapbasedn", "b"),
            ("ldapbinddn", "b"),
            ("ldapbindpasswd", "b"),
            ("ldapsearchattribute", "b"),
            ("ldapsearchfilter", "b"),
            ("ldapurl", "ldap://h/dc=x"),
        ] {
            for simple in ["ldapprefix", "ldapsuffix"] {
                assert_eq!(
                    ldap(&[(simple, ""), option]).unwrap_err(),
                    WITH_PREFIX,
                    "{option:?}"
                );
            }
        }
        for options in [
            &[][..],
            &[("ldapserver", "h")],
            &[("ldapurl", "ldap://h")],
            &[("ldapbinddn", "x"), ("ldapsearchattribute", "uid")],
        ] {
            assert_eq!(ldap(options).unwrap_err(), NO_MODE, "{options:?}");
        }
        assert!(ldap(&[("ldapbasedn", "")]).is_ok(), "an empty base counts");
        let both = [
            ("ldapbasedn", "b"),
            ("ldapsearchattribute", "uid"),
            ("ldapsearchfilter", "(x=y)"),
        ];
        assert_eq!(ldap(&both).unwrap_err(), FILTER_AND_ATTRIBUTE);
    }

    #[test]
    fn ports_are_read_as_by_atoi() {
        let port = |text| ldap(&[("ldapbasedn", "b"), ("ldapport", text)]).map(|o| o.port);
        assert_eq!(port("12x"), Ok(Some(12)));
        assert_eq!(port(" +12"), Ok(Some(12)));
        for text in ["0", "abc", "", "-"] {
            assert_eq!(
                port(text).unwrap_err(),
                format!("invalid LDAP port number: \"{text}\"")
            );
        }
        for text in ["-5", "70000", "99999999999999999999"] {
            assert_eq!(port(text), Ok(Some(0)), "no port, and no error of the file");
        }
    }

    #[test]
    fn what_the_original_only_warns_about_is_a_warning() {
        let mut line = Options::default();
        let warned = |verdict| matches!(verdict, Ok(Verdict::Warned(_)));
        assert!(warned(line.add(Method::Ldap, "ldapscheme", "foo")));
        assert!(warned(line.add(Method::Ldap, "pamservice", "x")));
        assert!(warned(line.add(Method::Md5, "pam_use_hostname", "1")));
        assert!(warned(line.add(Method::Ldap, "ldapport", "-5")));
    }

    #[test]
    fn urls_that_cannot_be_used_are_errors() {
        assert_eq!(
            ldap(&[("ldapurl", "ldapi://%2frun/dc=x")]).unwrap_err(),
            "unsupported LDAP URL scheme: ldapi"
        );
        assert_eq!(
            ldap(&[("ldapurl", "http://h")]).unwrap_err(),
            "could not parse LDAP URL \"http://h\": it does not begin with ldap:// or ldaps://"
        );
    }

    #[test]
    fn pam_has_its_service() {
        let mut line = Options::default();
        line.add(Method::Pam, "pamservice", "postgres").unwrap();
        line.add(Method::Pam, "pam_use_hostname", "1").unwrap();
        let (pam, _) = line.finish(Method::Pam).unwrap();
        let pam = pam.unwrap();
        assert_eq!((&*pam.service, pam.use_hostname), ("postgres", true));
        let (pam, _) = Options::default().finish(Method::Pam).unwrap();
        assert_eq!(pam.unwrap().service, "pgpool");
        let mut line = Options::default();
        line.add(Method::Pam, "pamservice", "").unwrap();
        assert_eq!(
            line.finish(Method::Pam).unwrap().0.unwrap().service,
            "pgpool"
        );
    }

    #[test]
    fn the_password_of_the_searcher_is_not_printed() {
        let options = ldap(&[("ldapbasedn", "b"), ("ldapbindpasswd", "hunter2")]).unwrap();
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
