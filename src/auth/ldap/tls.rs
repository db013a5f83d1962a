//! Whom a TLS connection to an LDAP server trusts: the settings of libldap, where operators have them.
//!
//! `TLS_CACERT`, `TLS_CACERTDIR` and `TLS_REQCERT` of ldap.conf(5) are honoured, from the system's
//! ldap.conf, `$LDAPCONF`, the .ldaprc of the account, and the environment (`LDAPTLS_CACERT`,
//! `LDAPTLS_CACERTDIR`, `LDAPTLS_REQCERT`). Without an authority there, the system's are trusted, or
//! those of `SSL_CERT_FILE` and `SSL_CERT_DIR`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use native_tls::{Certificate, Protocol, TlsConnector};

/// Where Debian and Red Hat have it, and libldap as its authors build it.
const SYSTEM_FILES: [&str; 3] = [
    "/etc/ldap/ldap.conf",
    "/etc/openldap/ldap.conf",
    "/usr/local/etc/openldap/ldap.conf",
];

const OPTIONS: [&str; 3] = ["TLS_CACERT", "TLS_CACERTDIR", "TLS_REQCERT"];

/// Reading the system's authorities takes milliseconds; after this time changed files count.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);

/// What the settings come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Trust {
    ca_file: Option<PathBuf>,
    ca_dir: Option<PathBuf>,
    /// `TLS_REQCERT never` or `allow`: whatever certificate the server has is taken.
    unchecked: bool,
}

static LAST: Mutex<Option<(Instant, TlsConnector)>> = Mutex::new(None);

/// What makes connections as the settings of this moment say. Reads files.
///
/// # Errors
///
/// What cannot be used, for the log.
pub(super) fn connector() -> Result<TlsConnector, String> {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((made, connector)) = &*last
        && made.elapsed() < REMEMBERED_FOR
    {
        return Ok(connector.clone());
    }
    let connector = trust(&|name| std::env::var(name).ok(), &|path| {
        fs::read_to_string(path).ok()
    })
    .connector()?;
    *last = Some((Instant::now(), connector.clone()));
    Ok(connector)
}

/// The settings: later sources override earlier ones, as ldap.conf(5) lists them. A file in the
/// working directory is not looked for.
fn trust(
    variable: &dyn Fn(&str) -> Option<String>,
    file: &dyn Fn(&Path) -> Option<String>,
) -> Trust {
    let mut settings = BTreeMap::new();
    if variable("LDAPNOINIT").is_some() {
        return Trust::default();
    }
    let mut files: Vec<PathBuf> = Vec::new();
    files.extend(
        SYSTEM_FILES
            .iter()
            .map(PathBuf::from)
            .find(|path| file(path).is_some()),
    );
    let home = variable("HOME").map(PathBuf::from);
    let in_home = |name: &str| {
        let home = home.as_ref()?;
        Some([home.join(name), home.join(format!(".{name}"))])
    };
    files.extend(in_home("ldaprc").into_iter().flatten());
    files.extend(variable("LDAPCONF").map(PathBuf::from));
    files.extend(
        variable("LDAPRC")
            .and_then(|name| in_home(&name))
            .into_iter()
            .flatten(),
    );
    for path in files {
        if let Some(text) = file(&path) {
            read_conf(&text, &mut settings);
        }
    }
    for option in OPTIONS {
        if let Some(value) = variable(&format!("LDAP{option}")) {
            settings.insert(option, value);
        }
    }
    let path = |option: &str| {
        let value = settings.get(option)?;
        (!value.is_empty()).then(|| PathBuf::from(value))
    };
    Trust {
        ca_file: path("TLS_CACERT"),
        ca_dir: path("TLS_CACERTDIR"),
        unchecked: settings.get("TLS_REQCERT").is_some_and(|value| {
            value.eq_ignore_ascii_case("never") || value.eq_ignore_ascii_case("allow")
        }),
    }
}

/// Lines of a name and a value; `#` at the front is a comment.
fn read_conf(text: &str, settings: &mut BTreeMap<&'static str, String>) {
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, value)) = line.trim().split_once(char::is_whitespace)
            && let Some(option) = OPTIONS.iter().find(|o| o.eq_ignore_ascii_case(name))
        {
            settings.insert(option, value.trim().to_owned());
        }
    }
}

impl Trust {
    fn connector(&self) -> Result<TlsConnector, String> {
        let mut builder = TlsConnector::builder();
        builder
            .min_protocol_version(Some(Protocol::Tlsv12))
            .danger_accept_invalid_certs(self.unchecked)
            .danger_accept_invalid_hostnames(self.unchecked);
        let named = self.ca_file.is_some() || self.ca_dir.is_some();
        if named && !self.unchecked {
            builder.disable_built_in_roots(true);
            let mut trusted = 0;
            if let Some(path) = &self.ca_file {
                let pem = fs::read(path)
                    .map_err(|e| format!("TLS_CACERT \"{}\": {e}", path.display()))?;
                for certificate in Certificate::stack_from_pem(&pem)
                    .map_err(|e| format!("TLS_CACERT \"{}\": {e}", path.display()))?
                {
                    builder.add_root_certificate(certificate);
                    trusted += 1;
                }
            }
            if let Some(folder) = &self.ca_dir {
                trusted += add_folder(folder, &mut builder)?;
            }
            if trusted == 0 {
                return Err(
                    "there is no certificate in TLS_CACERT and TLS_CACERTDIR of ldap.conf"
                        .to_owned(),
                );
            }
        }
        builder.build().map_err(|e| e.to_string())
    }
}

/// Every certificate in the files of a folder; what is none is skipped, as by OpenSSL.
fn add_folder(
    folder: &Path,
    builder: &mut native_tls::TlsConnectorBuilder,
) -> Result<usize, String> {
    let failed = |e| format!("TLS_CACERTDIR \"{}\": {e}", folder.display());
    let mut trusted = 0;
    for file in fs::read_dir(folder).map_err(failed)?.flatten() {
        let pem = fs::read(file.path()).unwrap_or_default();
        for certificate in Certificate::stack_from_pem(&pem).unwrap_or_default() {
            builder.add_root_certificate(certificate);
            trusted += 1;
        }
    }
    Ok(trusted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)], files: &[(&str, &str)]) -> Trust {
        let find = |list: &[(&str, &str)], key: &str| {
            list.iter()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| (*value).to_owned())
        };
        trust(&|name| find(variables, name), &|path| {
            find(files, path.to_str().unwrap())
        })
    }

    fn file(path: &str) -> Option<PathBuf> {
        Some(PathBuf::from(path))
    }

    #[test]
    fn later_sources_override_earlier_ones() {
        let system = ("/etc/ldap/ldap.conf", "TLS_CACERT\t/system.pem\n");
        let user = ("/home/p/.ldaprc", "tls_cacert /user.pem\n");
        let named = (
            "/named.conf",
            "# TLS_CACERT /comment\nTLS_CACERT /named.pem\n",
        );
        let home = ("HOME", "/home/p");
        let all = [system, user, named];
        assert_eq!(of(&[], &all).ca_file, file("/system.pem"));
        assert_eq!(of(&[home], &all).ca_file, file("/user.pem"));
        let conf = ("LDAPCONF", "/named.conf");
        assert_eq!(of(&[home, conf], &all).ca_file, file("/named.pem"));
        let variable = ("LDAPTLS_CACERT", "/env.pem");
        assert_eq!(of(&[home, conf, variable], &all).ca_file, file("/env.pem"));
        assert_eq!(of(&[variable, ("LDAPNOINIT", "1")], &all), Trust::default());
    }

    #[test]
    fn certificates_are_checked_unless_the_settings_say_never_or_allow() {
        assert!(!of(&[], &[]).unchecked);
        for (word, unchecked) in [
            ("never", true),
            ("ALLOW", true),
            ("try", false),
            ("demand", false),
            ("hard", false),
            ("nonsense", false),
        ] {
            let conf = format!("TLS_REQCERT {word}");
            let trust = of(&[], &[("/etc/openldap/ldap.conf", &conf)]);
            assert_eq!(trust.unchecked, unchecked, "{word}");
        }
    }

    #[test]
    fn an_authority_that_cannot_be_read_is_no_reason_to_trust_others() {
        let trust = Trust {
            ca_file: file("/nowhere/ca.pem"),
            ..Trust::default()
        };
        assert!(trust.connector().unwrap_err().contains("/nowhere/ca.pem"));
        let empty = tempfile::tempdir().unwrap();
        let trust = Trust {
            ca_dir: Some(empty.path().to_owned()),
            ..Trust::default()
        };
        assert!(trust.connector().unwrap_err().contains("no certificate"));
    }
}
