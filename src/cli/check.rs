//! `pgpool --check`: reads the configuration, prints what it found, and changes nothing.
//!
//! The exit status tells whether the text can work in the dialect it is written in. What is
//! missing on this machine, and what this program does not do yet, are warnings.

use std::{
    fs,
    io::{self, Write},
    net::ToSocketAddrs,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::auth::{
    hba::{Connection, Hba, HbaError, Method, Record},
    passwd::PoolPasswd,
    pcp_conf::PcpConf,
};
use crate::config::{
    Config, Finding, FindingSeverity as Severity, LoadMode, Paths, Place, not_built,
};
use crate::sys::errors;
use crate::tls::{Passphrase, Tls};
use crate::watchdog::vip;

/// Name services may be slow or dead; all host names together get this long.
const LOOKUP_TIME: Duration = Duration::from_secs(3);

/// Prints the findings and the dialect. The exit status: 1 if the text itself is impossible in
/// its own dialect, else 0.
pub fn check(paths: &Paths, out: &mut dyn Write) -> i32 {
    let (config, mut findings) = match Config::load(paths, LoadMode::Check) {
        Ok((config, findings)) => (Some(config), findings),
        Err(error) => (None, error.findings),
    };
    if let Some(config) = &config {
        findings.extend(not_built(config).into_iter().map(not_an_error));
        findings.extend(on_this_machine(config));
        findings.extend(check_other_files(config));
    }
    match print(&findings, out) {
        // Nobody reads any more; the status still tells.
        Ok(()) | Err(_) => i32::from(findings.iter().any(Finding::is_error)),
    }
}

/// `pgpool --check` on standard output; the exit status.
pub fn run(paths: &Paths) -> u8 {
    u8::from(check(paths, &mut io::stdout().lock()) != 0)
}

fn print(findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    for finding in findings {
        writeln!(out, "{finding}")?;
    }
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    writeln!(out, "{errors} errors, {warnings} warnings")?;
    out.flush()
}

/// The file is good, and the original starts with it.
fn not_an_error(mut finding: Finding) -> Finding {
    if finding.is_error() {
        finding.severity = Severity::Warning;
        finding.text = format!("the start will be refused: {}", finding.text);
    }
    finding
}

/// pool_hba.conf, pool_passwd and pcp.conf. Nothing in them stops the original from starting, so
/// what is wrong is a warning: who will not be let in, and why.
fn check_other_files(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut present = |path: &Path, name: &str, what: &str| {
        let there = path.exists();
        if !there {
            findings.push(missing(config, name, path, what));
        }
        there
    };
    let hba = config.settings.enable_pool_hba
        && present(
            &config.hba_path,
            "enable_pool_hba",
            "no client will be let in",
        );
    let passwd = config.pool_passwd_path.as_deref().is_some_and(|path| {
        present(
            path,
            "pool_passwd",
            "an empty file will be created at the start",
        )
    });
    let pcp = present(
        &config.pcp_path,
        "pcp_port",
        "no pcp command will be let in",
    );
    if hba {
        findings.extend(check_hba(&config.hba_path, config.settings.ssl));
    }
    if passwd {
        findings.extend(check_passwd(config));
    }
    if pcp {
        findings.extend(check_pcp_conf(&config.pcp_path));
    }
    findings
}

fn check_hba(path: &Path, ssl: bool) -> Vec<Finding> {
    let of_error = |error: &HbaError| {
        let place = Place::new(&error.path, error.line, 1);
        Finding::warning(place, &error.message).remedy(&error.hint)
    };
    match Hba::load(path) {
        Err(errors) => {
            let mut findings: Vec<Finding> = errors.iter().map(of_error).collect();
            let text = "no client will be let in because of the errors in this file";
            findings.push(Finding::warning(Place::whole(path), text));
            findings
        }
        Ok(hba) => {
            let lines = hba.records.iter().filter_map(|record| {
                let (text, remedy) = oddity(record, ssl)?;
                Some(Finding::warning(Place::new(path, record.line, 1), text).remedy(remedy))
            });
            hba.warnings().iter().map(of_error).chain(lines).collect()
        }
    }
}

/// What is odd about a record that can be read, and the remedy.
fn oddity(record: &Record, ssl: bool) -> Option<(String, String)> {
    let word = record.method.word();
    if !record.method.is_built() {
        return Some((
            format!(
                "the start will be refused: this pgpool was built without the feature \"{word}\""
            ),
            format!("use another method, or a pgpool built with \"--features {word}\""),
        ));
    }
    let needs_ssl = record.connection == Connection::HostSsl;
    if needs_ssl && !ssl {
        return Some((
            "hostssl record cannot match because SSL is disabled".to_owned(),
            "Set ssl = on in pgpool.conf".to_owned(),
        ));
    }
    // The original takes such a line, and refuses each client that it matches.
    if record.method == Method::Cert && !needs_ssl {
        return Some((
            "method cert refuses all clients without TLS that match this line".to_owned(),
            "write hostssl, the only type of record that cert is for".to_owned(),
        ));
    }
    None
}

fn check_passwd(config: &Config) -> Vec<Finding> {
    let Some(path) = config.pool_passwd_path.as_deref() else {
        return Vec::new();
    };
    let warning = |text: String| Finding::warning(Place::whole(path), text);
    match PoolPasswd::load(Some(path), config.pool_key_path.as_deref()) {
        Ok(entries) => entries.warnings().iter().cloned().map(warning).collect(),
        Err(error) => vec![warning(error.to_string())],
    }
}

fn check_pcp_conf(path: &Path) -> Vec<Finding> {
    let warning = |text: String| Finding::warning(Place::whole(path), text);
    match PcpConf::load(path) {
        Ok(users) => users.skipped().iter().cloned().map(warning).collect(),
        Err(error) => vec![warning(format!(
            "could not open {}. reason: {}",
            path.display(),
            errors::message(&error)
        ))],
    }
}

fn place(config: &Config, name: &str, index: Option<usize>) -> Place {
    match config.values.place(name, index) {
        Some(place) => place.clone(),
        None => Place::whole(&config.path),
    }
}

fn missing(config: &Config, name: &str, path: &Path, what: &str) -> Finding {
    let text = format!("{} does not exist on this machine", path.display());
    Finding::warning(place(config, name, None), text).remedy(what)
}

fn on_this_machine(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(directories(config));
    // Nothing is run, so the key of an encrypted file counts as good.
    findings.extend(Tls::load(config, Passphrase::Skip).1);
    findings.extend(programs(config));
    findings.extend(host_names(config));
    findings
}

fn directories(config: &Config) -> Vec<Finding> {
    let settings = &config.settings;
    let mut wanted: Vec<(&str, PathBuf)> = Vec::new();
    let sockets = if config.values.get("socket_dir", None).is_some() {
        "socket_dir"
    } else {
        "unix_socket_directories"
    };
    wanted.extend(
        settings
            .unix_socket_directories
            .iter()
            .map(|path| (sockets, path.clone())),
    );
    wanted.extend(
        settings
            .pcp_socket_dirs
            .iter()
            .map(|path| ("pcp_socket_dir", path.clone())),
    );
    if let Some(folder) = settings.pid_file_name.parent() {
        wanted.push(("pid_file_name", folder.to_owned()));
    }
    let work_dir = if config.values.get("work_dir", None).is_some() {
        "work_dir"
    } else {
        "logdir"
    };
    wanted.push((work_dir, settings.work_dir.clone()));
    if settings.logging_collector
        && let Some(folder) = settings.log_directory.parent()
    {
        // The directory itself is made at the start, its parent is not.
        wanted.push(("log_directory", folder.to_owned()));
    }
    if let Some(watchdog) = &settings.watchdog {
        wanted.push(("wd_ipc_socket_dir", watchdog.ipc_socket_dir.clone()));
    }
    let mut seen: Vec<PathBuf> = Vec::new();
    wanted
        .into_iter()
        .filter(|(_, path)| !path.as_os_str().is_empty() && !path.is_dir())
        .filter_map(|(name, path)| {
            let new = !seen.contains(&path);
            seen.push(path.clone());
            new.then(|| missing(config, name, &path, "create the directory before the start"))
        })
        .collect()
}

/// The program at the front of a hook, where that is a plain absolute path, and those of the virtual IP.
fn programs(config: &Config) -> Vec<Finding> {
    let executable = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let of_address =
        config.settings.watchdog.iter().flat_map(|watchdog| {
            vip::Command::programs(&watchdog.escalation, &watchdog.delegate_ip)
        });
    let missing = of_address
        .filter(|(_, program)| !executable(Path::new(program)))
        .map(|(name, program)| {
            let text = format!("{program} is no program that can be run on this machine");
            Finding::warning(place(config, name, None), text)
        });
    let mut findings: Vec<Finding> = missing.collect();
    let hooks = [
        ("failover_command", &config.settings.failover_command),
        ("failback_command", &config.settings.failback_command),
        (
            "follow_primary_command",
            &config.settings.follow_primary_command,
        ),
    ];
    let hooks = hooks.into_iter().filter_map(|(name, command)| {
        let program = command.split_whitespace().next()?;
        let plain = program.starts_with('/')
            && program
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c));
        if !plain || executable(Path::new(program)) {
            return None;
        }
        let old = "follow_master_command";
        let name = match name {
            "follow_primary_command" if config.values.place(old, None).is_some() => old,
            name => name,
        };
        let text = format!("{program} is no program that can be run on this machine");
        Some(Finding::warning(place(config, name, None), text))
    });
    findings.extend(hooks);
    findings
}

/// Host names that the name service does not know, or not in time.
fn host_names(config: &Config) -> Vec<Finding> {
    let mut names: Vec<(String, Place)> = Vec::new();
    let mut ask = |host: &str, place: Place| {
        let known = host.is_empty() || host.starts_with('/') || host == "*";
        if !known && !names.iter().any(|(name, _)| name == host) {
            names.push((host.to_owned(), place));
        }
    };
    for (slot, backend) in config.settings.backends.iter().enumerate() {
        ask(
            &backend.hostname,
            place(config, "backend_hostname", Some(slot)),
        );
    }
    for (name, hosts) in [
        ("listen_addresses", &config.settings.listen_addresses),
        (
            "pcp_listen_addresses",
            &config.settings.pcp_listen_addresses,
        ),
    ] {
        for host in hosts {
            ask(host, place(config, name, None));
        }
    }
    if let Some(watchdog) = &config.settings.watchdog {
        // Names of either dialect; whoever reads the line knows which one he has written.
        for member in watchdog.others.iter().filter(|member| !member.is_gap()) {
            ask(&member.host, place(config, "use_watchdog", None));
        }
        for destination in &watchdog.heartbeat.destinations {
            ask(&destination.host, place(config, "use_watchdog", None));
        }
        for host in &watchdog.lifecheck.trusted_servers {
            ask(host, place(config, "trusted_servers", None));
        }
    }
    let unknown = unresolved(names.iter().map(|(name, _)| name.clone()).collect());
    names
        .into_iter()
        .filter(|(name, _)| unknown.contains(name))
        .map(|(name, place)| {
            Finding::warning(
                place,
                format!("host name {name} is not known on this machine"),
            )
        })
        .collect()
}

/// Asks for all at once, each on a thread of its own, since a resolver may hang.
fn unresolved(names: Vec<String>) -> Vec<String> {
    let (sender, receiver) = mpsc::channel();
    let mut open = names.clone();
    for name in names {
        let sender = sender.clone();
        let asked = thread::Builder::new().name("lookup".to_owned()).spawn({
            let name = name.clone();
            move || {
                if (name.as_str(), 0).to_socket_addrs().is_ok() {
                    // The receiver is gone when time is up.
                    let _ = sender.send(name);
                }
            }
        });
        if asked.is_err() {
            open.retain(|other| *other != name);
        }
    }
    drop(sender);
    let end = Instant::now() + LOOKUP_TIME;
    while let Ok(known) = receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
        open.retain(|name| *name != known);
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(text: &str) -> (i32, String) {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("pgpool.conf");
        fs::write(&config, text).unwrap();
        let paths = Paths {
            config,
            pcp: folder.path().join("pcp.conf"),
            hba: folder.path().join("pool_hba.conf"),
            key: None,
        };
        let mut out = Vec::new();
        let status = check(&paths, &mut out);
        let files = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 1, "nothing was created");
        let out = String::from_utf8(out).unwrap();
        (status, out.replace(folder.path().to_str().unwrap(), "DIR"))
    }

    #[test]
    fn an_impossible_text_exits_with_1_and_names_the_place_first() {
        let (status, out) = check_text("port = 9999\nmax_pool = 3;\nport = abc\n");
        assert_eq!(status, 1);
        let errors: Vec<&str> = out.lines().filter(|l| l.contains(" error: ")).collect();
        assert_eq!(errors.len(), 2, "{out}");
        assert!(errors[0].starts_with("DIR/pgpool.conf:2:13: error: syntax error"));
        assert!(errors[1].starts_with("DIR/pgpool.conf:3:8: error: invalid value for parameter"));
    }

    #[test]
    fn what_this_machine_lacks_is_a_warning() {
        let (status, out) = check_text(
            "backend_hostname0 = 'nosuch.invalid'\nbackend_port0 = 5432\nlogdir = '/no/such/dir'\n\
             failover_command = '/no/such/failover.sh %d'\nuse_watchdog = on\nwd_port0 = 9000\n\
             enable_pool_hba = on\n",
        );
        assert_eq!(status, 0, "{out}");
        for text in [
            "pgpool.conf:1:1: warning: host name nosuch.invalid is not known",
            "pgpool.conf:3:1: warning: /no/such/dir does not exist on this machine",
            "pgpool.conf:4:1: warning: /no/such/failover.sh is no program",
            "pgpool.conf:5:1: warning: Pgpool node id file DIR/pgpool_node_id does not exist",
            "pgpool.conf:7:1: warning: DIR/pool_hba.conf does not exist",
            "DIR/pool_passwd does not exist",
        ] {
            assert!(out.contains(text), "{text}\n{out}");
        }
    }

    #[test]
    fn what_the_watchdog_lacks_on_this_machine_is_a_warning() {
        let (status, out) = check_text(
            "use_watchdog = on\nwd_hostname = 'localhost'\nother_pgpool_hostname0 = 'nosuch.invalid'\n\
             other_pgpool_port0 = 9999\nother_wd_port0 = 9000\ndelegate_IP = '10.0.0.9'\n\
             if_cmd_path = '/no/such'\nif_up_cmd = 'up.sh $_IP_$'\narping_cmd = '/no/such/arping $_IP_$'\n\
             trusted_servers = 'gw.invalid'\nwd_ipc_socket_dir = '/no/such/dir'\n",
        );
        assert_eq!(status, 0, "{out}");
        for text in [
            "host name nosuch.invalid is not known",
            "host name gw.invalid is not known",
            "pgpool.conf:8:1: warning: /no/such/up.sh is no program",
            "/no/such/arping is no program",
            "/no/such/dir does not exist",
        ] {
            assert!(out.contains(text), "{text}\n{out}");
        }
    }

    #[test]
    fn a_good_file_that_will_not_be_started_yet_exits_with_0() {
        for text in [
            "backend_clustering_mode = 'native_replication'\n",
            "master_slave_mode = on\nreplication_mode = on\n",
        ] {
            let (status, out) = check_text(text);
            assert_eq!(status, 0, "{out}");
            assert!(
                out.contains("warning: the start will be refused: "),
                "{out}"
            );
        }
    }

    #[test]
    fn the_dialect_is_printed_with_its_reason() {
        let (_, out) = check_text("wd_port = 9000\n");
        assert!(
            out.contains("info: read as a file of 4.0 (4.2 and later would not start with wd_port = 9000 in line 1)"),
            "{out}"
        );
    }

    #[test]
    fn odd_lines_of_pool_hba_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pool_hba.conf");
        let text = "hostssl all all all cert\nhost all all all cert\n\
                    local all all pam pamservice=x\nlocal all all md5 pamservice=x\n";
        fs::write(&path, text).unwrap();
        let shown = |ssl| -> Vec<String> {
            let findings = check_hba(&path, ssl);
            assert!(findings.iter().all(|f| !f.is_error()));
            findings.iter().map(ToString::to_string).collect()
        };
        let cert = "pool_hba.conf:2:1: warning: method cert refuses all clients without TLS";
        let option = "pool_hba.conf:4:1: warning: pamservice authentication option";
        let ssl = "pool_hba.conf:1:1: warning: hostssl record cannot match";
        let without = shown(false);
        for text in [cert, option, ssl] {
            assert!(without.iter().any(|f| f.contains(text)), "{without:?}");
        }
        let pam = without
            .iter()
            .any(|f| f.contains(":3:1: warning: the start"));
        assert_eq!(pam, cfg!(not(feature = "pam")));
        assert!(!shown(true).iter().any(|f| f.contains(ssl)));
    }

    #[test]
    fn files_that_cannot_be_read_are_told_in_the_words_of_the_c_library() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let conf = "enable_pool_hba = on\npool_passwd = 'pool_passwd'\n";
        fs::write(path("pgpool.conf"), conf).unwrap();
        for name in ["pgpool-rs.conf", "pool_hba.conf", "pcp.conf", "pool_passwd"] {
            fs::create_dir(path(name)).unwrap();
        }
        let paths = Paths {
            config: path("pgpool.conf"),
            pcp: path("pcp.conf"),
            hba: path("pool_hba.conf"),
            key: None,
        };
        let mut out = Vec::new();
        check(&paths, &mut out);
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.matches("Is a directory\n").count(), 4, "{out}");
    }

    #[test]
    fn a_missing_file_is_a_warning() {
        let paths = Paths {
            config: "/no/such/pgpool.conf".into(),
            pcp: "/no/such/pcp.conf".into(),
            hba: "/no/such/pool_hba.conf".into(),
            key: None,
        };
        let mut out = Vec::new();
        assert_eq!(check(&paths, &mut out), 0);
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("could not open configuration file: \"/no/such/pgpool.conf\""));
    }
}
