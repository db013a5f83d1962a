//! `pgpool --check-auth`: collects what a login depends on, and prints what comes of it.
//!
//! Reads the files, asks each backend with a start-up packet, and auth_query where that is set.
//! Nobody's password is asked for, sent or printed, and nothing is changed; no pgpool need run.
//! What it means is decided in [`check_auth`].

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    time::Duration,
};

use tokio::{runtime, task::JoinSet};

use super::args::LoginToCheck;
use crate::{
    auth::{
        auth_query::secret_in,
        check_auth::{
            self, Asks, AuthQueryFacts, BackendFacts, BackendState, Facts, HbaFacts, KeyFile, Kind,
            NearRecord, PasswdFacts, Refusal, Ssl,
        },
        hba::{Hba, SystemNetwork},
        passwd::{self, PoolPasswd, Secret},
        scram::Verifier,
    },
    cluster::{Node, NodeId, NodeStatus, initial, status_file},
    config::{Config, LoadMode, Paths, settings::AuthQuerySettings},
    control::backend_client::{self, Address, Asked, Client, Login, ScramSalt},
    observe::Reporter,
    tls::{Passphrase, Tls},
};

/// For each backend, and for auth_query at each.
const LIMIT: Duration = Duration::from_secs(5);

/// Prints the report on standard output. The exit status: 0 when the login can work, else 1.
pub fn run(paths: &Paths, login: &LoginToCheck) -> u8 {
    let mut out = io::stdout().lock();
    let config = match Config::load(paths, LoadMode::Check) {
        Ok((config, _)) => config,
        Err(error) => {
            for finding in error.findings.iter().filter(|f| f.is_error()) {
                // Nobody reads any more; the status still tells.
                let _ = writeln!(out, "{finding}");
            }
            let _ = writeln!(out, "result: pgpool does not start with this configuration");
            return 1;
        }
    };
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let _ = writeln!(out, "result: backends cannot be asked: {e}");
            return 1;
        }
    };
    let report = check_auth::check(&runtime.block_on(facts(&config, login)));
    let _ = write!(out, "{report}").and_then(|()| out.flush());
    u8::from(!report.works)
}

async fn facts(config: &Config, login: &LoginToCheck) -> Facts {
    let settings = &config.settings;
    let (entries, unreadable) = match PoolPasswd::load(
        config.pool_passwd_path.as_deref(),
        config.pool_key_path.as_deref(),
    ) {
        Ok(entries) => (entries, None),
        // A start makes the file.
        Err(e) if e.source.kind() == io::ErrorKind::NotFound => (PoolPasswd::default(), None),
        Err(e) => (PoolPasswd::default(), Some(e.to_string())),
    };
    let stored = entries.get(&login.user);
    let (tls, findings) = Tls::load(config, Passphrase::Ask);
    let nodes = nodes(config);
    let admin = login.database == settings.own.admin_database;

    let kind = Kind::of(stored.as_ref());
    let (auth_query, found) = match &settings.own.auth_query {
        None => (AuthQueryFacts::Off, None),
        Some(_) if kind != Kind::Nothing => (AuthQueryFacts::NotNeeded, None),
        Some(asked) => look_up(asked, &entries, &nodes, &tls, &login.user).await,
    };
    let verifier = match stored.filter(|_| kind != Kind::Nothing).or(found) {
        Some(Secret::ScramVerifier(text)) => Verifier::parse(&text),
        _ => None,
    };
    let backends = if admin {
        Vec::new()
    } else {
        ask_all(&nodes, &tls, login, verifier).await
    };
    Facts {
        user: login.user.clone(),
        database: login.database.clone(),
        origin: login.origin,
        ssl: match (settings.ssl, tls.server()) {
            (false, _) => Ssl::Off,
            (true, None) => Ssl::Unusable,
            (true, Some(_)) => Ssl::On,
        },
        ssl_findings: findings.iter().map(ToString::to_string).collect(),
        client_ca: !settings.tls.ca_cert.as_os_str().is_empty()
            || !settings.tls.ca_cert_dir.as_os_str().is_empty(),
        hba: hba_facts(config, login),
        allow_clear_text: settings.allow_clear_text_frontend_auth,
        passwd: passwd_facts(config, &login.user, kind, unreadable),
        auth_query,
        admin,
        backends,
    }
}

/// Blocks while host names of records are looked up.
fn hba_facts(config: &Config, login: &LoginToCheck) -> HbaFacts {
    if !config.settings.enable_pool_hba {
        return HbaFacts::Off;
    }
    let path = config.hba_path.clone();
    let hba = match Hba::load(&path) {
        Ok(hba) => hba,
        Err(errors) => return HbaFacts::Unusable { path, errors },
    };
    let explained = hba.explain(
        login.origin,
        &login.user,
        &login.database,
        &mut SystemNetwork,
    );
    match explained.found {
        Some(record) => HbaFacts::Record {
            path,
            line: record.line,
            text: record.text.clone(),
            method: record.method,
            hand_on: record
                .ldap
                .as_ref()
                .is_some_and(|ldap| ldap.backend_use_password),
        },
        None => HbaFacts::NoRecord {
            path,
            near: explained
                .near
                .into_iter()
                .map(|(record, why)| NearRecord {
                    line: record.line,
                    text: record.text.clone(),
                    why: why.into_iter().map(|mismatch| mismatch.text).collect(),
                })
                .collect(),
        },
    }
}

fn passwd_facts(
    config: &Config,
    user: &str,
    kind: Kind,
    unreadable: Option<String>,
) -> PasswdFacts {
    let path = config.pool_passwd_path.clone();
    let place = path
        .as_ref()
        .and_then(|path| fs::read(path).ok())
        .and_then(|mut text| {
            let place = passwd::find_place(&text, user);
            crate::auth::password::wipe(&mut text);
            place
        });
    PasswdFacts {
        path,
        unreadable,
        place,
        kind,
        key: config.pool_key_path.clone().map(|path| KeyFile {
            exists: path.exists(),
            path,
        }),
    }
}

/// The slots in use, with the statuses of `pgpool_status` when there is one.
fn nodes(config: &Config) -> Vec<Node> {
    let work_dir = &config.settings.work_dir;
    let statuses = if status_file::path(work_dir).exists() {
        status_file::read(work_dir, false, &Reporter::new("main"))
    } else {
        Vec::new()
    };
    let now = std::time::SystemTime::now();
    let view = initial::initial_view(&config.settings, &statuses, now);
    let used = |node: &Node| node.status != NodeStatus::Unused;
    view.nodes.into_iter().filter(used).collect()
}

fn address(node: &Node, tls: &Tls) -> Address {
    Address {
        hostname: node.hostname.clone(),
        port: node.port,
        connect_timeout: Some(LIMIT),
        tls: tls.backend(node.id),
    }
}

/// Asks all backends at the same time.
async fn ask_all(
    nodes: &[Node],
    tls: &Tls,
    login: &LoginToCheck,
    verifier: Option<Verifier>,
) -> Vec<BackendFacts> {
    let mut asking = JoinSet::new();
    for node in nodes.iter().filter(|node| node.is_valid()) {
        let (id, address) = (node.id, address(node, tls));
        let (user, database) = (login.user.clone(), login.database.clone());
        let verifier = verifier.clone();
        asking.spawn(async move {
            let want_salt = verifier.is_some();
            let asked = backend_client::ask(&address, &user, &database, want_salt, LIMIT).await;
            let state = match asked {
                Ok(asked) => BackendState::Asks(asks(asked, verifier.as_ref())),
                Err(failure) => BackendState::Unreachable(failure.to_string()),
            };
            (id, state)
        });
    }
    let mut states: BTreeMap<NodeId, BackendState> = BTreeMap::new();
    while let Some(done) = asking.join_next().await {
        states.extend(done.ok());
    }
    nodes
        .iter()
        .map(|node| BackendFacts {
            node: node.id,
            address: format!("{}:{}", node.hostname, node.port),
            state: states.remove(&node.id).unwrap_or(BackendState::Down),
        })
        .collect()
}

fn asks(asked: Asked, verifier: Option<&Verifier>) -> Asks {
    match asked {
        Asked::Nothing => Asks::Nothing,
        Asked::Password => Asks::Password,
        Asked::Md5 => Asks::Md5,
        Asked::Scram(theirs) => Asks::Scram {
            same_secret: verifier.is_none_or(|ours| {
                theirs.is_some_and(|ScramSalt { salt, iterations }| {
                    salt == ours.salt && iterations == ours.iterations
                })
            }),
        },
        Asked::Other(kind) => Asks::Other(kind),
        Asked::Refused(error) => Asks::Refused(Refusal {
            sqlstate: error.sqlstate,
            message: error.message,
        }),
    }
}

/// Asks the servers for the user's secret, one after the other until one answers.
async fn look_up(
    settings: &AuthQuerySettings,
    entries: &PoolPasswd,
    nodes: &[Node],
    tls: &Tls,
    user: &str,
) -> (AuthQueryFacts, Option<Secret>) {
    let login = Login::new(
        &settings.user,
        &settings.password,
        &settings.dbname,
        entries,
    );
    let mut reasons = Vec::new();
    for node in nodes.iter().filter(|node| node.is_valid()) {
        let answer = async {
            let mut client = Client::connect(&address(node, tls), &login, Some(LIMIT))
                .await
                .map_err(|e| e.to_string())?;
            let rows = client.query_with(&settings.query, &[user], LIMIT).await;
            client.close().await;
            secret_in(&rows.map_err(|e| e.to_string())?, user)
        };
        match answer.await {
            Ok(secret) => return (AuthQueryFacts::Gives(Kind::of(secret.as_ref())), secret),
            Err(reason) => reasons.push(format!("node {}: {reason}", node.id)),
        }
    }
    if reasons.is_empty() {
        reasons.push("all backend nodes are down".to_owned());
    }
    (AuthQueryFacts::Failed(reasons.join("; ")), None)
}
