//! The method `ldap`: an LDAP server judges the client's password.
//!
//! Either the user name between `ldapprefix` and `ldapsuffix` is the name to bind as, or the user is
//! searched for below `ldapbasedn` and a second connection binds as the entry that was found.
//!
//! - A name or a password that the server would take for an anonymous login is refused here.
//! - User names cannot change a search filter or a distinguished name ([`names`]).
//! - Referrals are not followed: a password is for the servers of the record alone.
//! - Everything runs on one thread of its own ([`runtime`]), since reading certificates and TLS
//!   handshakes take milliseconds, and with limits of time. What a server sends can at worst end the task
//!   of its login.
//!
//! Messages are those of the original, which are libldap's.
//!
//! Source: `CheckLDAPAuth`, `InitializeLDAPConnection` in `src/auth/pool_hba.c @ V4_3_5`.

mod connection;
mod names;
mod runtime;
mod srv;
mod tls;

use std::{sync::Arc, time::Duration};

use ldap3::{Ldap, Scope, SearchEntry};
use tokio::sync::Semaphore;

use super::{
    Password,
    external::{LogEntry, Outcome},
    hba::{LdapOptions, LdapScope},
    session_auth::PasswordService,
};
use connection::{Fault, Servers};

/// Logins at the same time, so that a slow server is not asked by hundreds of connections.
const MAX_LOGINS: usize = 64;

/// For one answer of a server.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// For a whole login, whatever `authentication_timeout` allows.
const LOGIN_LIMIT: Duration = Duration::from_secs(120);

/// Entries that a search is read for, to say in the log how many there are.
const MAX_ENTRIES: usize = 1000;

static LOGINS: Semaphore = Semaphore::const_new(MAX_LOGINS);

/// Asks the LDAP servers of the record. The result's error says nothing but that it failed; why is
/// in the log entries.
pub async fn verify(options: &Arc<LdapOptions>, user: &str, password: &Password) -> Outcome {
    let login = Login {
        server_name: options.servers.join(" "),
        options: options.clone(),
        user: user.to_owned(),
        password: password.clone(),
    };
    let work = async move {
        // Nobody closes it.
        let _permit = LOGINS.acquire().await;
        tokio::time::timeout(LOGIN_LIMIT, login.run())
            .await
            .unwrap_or_else(|_| Err(entry("LDAP authentication took too long".to_owned()).into()))
    };
    let result = match runtime::run(work).await {
        Ok(result) => result,
        Err(reason) => Err(entry(reason).into()),
    };
    let error = PasswordService::Ldap.refusal(user);
    match result {
        Ok(()) => Outcome::passed(Vec::new()),
        Err(No::Judged(entry)) => Outcome::refused(vec![entry], error),
        Err(No::Unjudged(entry)) => Outcome::unjudged(vec![entry], error),
    }
}

/// Why a login failed, for the log.
enum No {
    /// There is no such user, or the password is another one.
    Judged(LogEntry),
    /// No server could be asked, or not in this way.
    Unjudged(LogEntry),
}

impl From<LogEntry> for No {
    fn from(entry: LogEntry) -> No {
        No::Unjudged(entry)
    }
}

fn entry(message: String) -> LogEntry {
    LogEntry {
        message,
        ..LogEntry::default()
    }
}

fn explained(message: String, fault: &Fault) -> LogEntry {
    let detail = if fault.diagnostics.is_empty() {
        String::new()
    } else {
        format!("LDAP diagnostics: {}", fault.diagnostics)
    };
    LogEntry {
        message,
        detail,
        ..LogEntry::default()
    }
}

struct Login {
    options: Arc<LdapOptions>,
    user: String,
    password: Password,
    /// As entries of the log name the servers.
    server_name: String,
}

impl Login {
    async fn run(&self) -> Result<(), No> {
        let password = self.usable_password().map_err(No::Judged)?;
        let servers = self.servers().await?;
        let name = match &self.options.base_dn {
            Some(base) => self.search(&servers, base).await?,
            None => names::bind_name(&self.options.prefix, &self.user, &self.options.suffix),
        };
        if name.trim().is_empty() {
            return Err(entry(format!(
                "LDAP login failed for user \"{}\" on server \"{}\": a bind without a name is anonymous",
                self.user, self.server_name
            ))
            .into());
        }
        let refused = |fault: Fault| {
            let message = format!(
                "LDAP login failed for user \"{name}\" on server \"{}\": {}",
                self.server_name, fault.reason
            );
            let entry = explained(message, &fault);
            if fault.is_verdict {
                No::Judged(entry)
            } else {
                No::Unjudged(entry)
            }
        };
        let mut ldap = self.connect(&servers).await?.map_err(refused)?;
        connection::bind(&mut ldap, &name, password, ANSWER_LIMIT)
            .await
            .map_err(refused)?;
        // The server sees a farewell instead of a broken connection; the verdict is there already.
        let _ = ldap.unbind().await;
        Ok(())
    }

    fn usable_password(&self) -> Result<&str, LogEntry> {
        if self.password.is_empty() {
            return Err(entry("empty password returned by client".to_owned()));
        }
        std::str::from_utf8(self.password.as_bytes()).map_err(|_| LogEntry {
            message: "invalid byte sequence in password for LDAP authentication".to_owned(),
            detail: "An LDAP password has to be sent in UTF-8.".to_owned(),
            ..LogEntry::default()
        })
    }

    async fn servers(&self) -> Result<Servers, LogEntry> {
        let base = self.options.base_dn.as_deref().unwrap_or_default();
        if !self.options.servers.is_empty() {
            return Servers::of(&self.options).map_err(|reason| LogEntry {
                message: "could not initialize LDAP: Bad parameter to an ldap routine".to_owned(),
                detail: reason,
                ..LogEntry::default()
            });
        }
        if base.is_empty() {
            return Err(entry(
                "LDAP server not specified, and no ldapbasedn".to_owned(),
            ));
        }
        let Some(domain) = names::domain_of(base) else {
            return Err(entry(
                "could not extract domain name from ldapbasedn".to_owned(),
            ));
        };
        let found = srv::look_up(domain.clone()).await;
        if found.is_empty() {
            return Err(LogEntry {
                message: format!(
                    "LDAP authentication could not find DNS SRV records for \"{domain}\""
                ),
                detail: String::new(),
                hint: "Set an LDAP server name explicitly.",
            });
        }
        Ok(Servers::found(&self.options, found))
    }

    /// The outer error: TLS could not be started, or its settings cannot be used. The inner one: no server
    /// can be reached, which the original notices with its first request.
    async fn connect(&self, servers: &Servers) -> Result<Result<Ldap, Fault>, LogEntry> {
        let connected = servers.connect().await;
        match connected {
            Err(fault) if self.options.tls => {
                let message = format!("could not start LDAP TLS session: {}", fault.reason);
                Err(explained(message, &fault))
            }
            other => Ok(other),
        }
    }

    /// The distinguished name of the one entry that stands for the user.
    async fn search(&self, servers: &Servers, base: &str) -> Result<String, No> {
        // The filter is safe without this; the original refuses such names, and so do LDAP
        // administrators.
        if self.user.contains(['*', '(', ')', '\\', '/']) {
            return Err(No::Judged(entry(
                "invalid character in user name for LDAP authentication".to_owned(),
            )));
        }
        let reader = self.options.bind_dn.as_deref().unwrap_or_default();
        let secret = self.options.bind_password.as_ref();
        let secret = secret.map_or(Ok(""), |s| std::str::from_utf8(s.as_bytes()));
        let not_bound = |fault: Fault| {
            let message = format!(
                "could not perform initial LDAP bind for ldapbinddn \"{reader}\" on server \"{}\": {}",
                self.server_name, fault.reason
            );
            explained(message, &fault)
        };
        let mut ldap = self.connect(servers).await?.map_err(not_bound)?;
        connection::bind(&mut ldap, reader, secret.unwrap_or_default(), ANSWER_LIMIT)
            .await
            .map_err(not_bound)?;

        let filter = names::filter(
            self.options.search_filter.as_deref(),
            self.options.search_attribute.as_deref(),
            &self.user,
        );
        let mut found = self
            .entries(&mut ldap, base, &filter)
            .await
            .map_err(|fault| {
                let message = format!(
                    "could not search LDAP for filter \"{filter}\" on server \"{}\": {}",
                    self.server_name, fault.reason
                );
                explained(message, &fault)
            })?;
        let _ = ldap.unbind().await;
        let searched = format!(
            "LDAP search for filter \"{filter}\" on server \"{}\" returned",
            self.server_name
        );
        match (found.count, found.first.take()) {
            (1, Some(name)) => Ok(name),
            (0, _) => Err(No::Judged(LogEntry {
                message: format!("LDAP user \"{}\" does not exist", self.user),
                detail: format!("{searched} no entries."),
                ..LogEntry::default()
            })),
            (count, _) => Err(No::Judged(LogEntry {
                message: format!("LDAP user \"{}\" is not unique", self.user),
                detail: format!("{searched} {count} entries."),
                ..LogEntry::default()
            })),
        }
    }

    async fn entries(&self, ldap: &mut Ldap, base: &str, filter: &str) -> Result<Found, Fault> {
        let scope = match self.options.scope {
            LdapScope::Base => Scope::Base,
            LdapScope::One => Scope::OneLevel,
            LdapScope::Subtree | LdapScope::Children => Scope::Subtree,
        };
        // "1.1": no attributes, the name is enough (RFC 4511).
        let mut stream = ldap
            .with_timeout(ANSWER_LIMIT)
            .streaming_search(base, scope, filter, vec!["1.1"])
            .await?;
        let mut found = Found::default();
        while found.count <= MAX_ENTRIES {
            let Some(answer) = stream.next().await? else {
                let result = stream.finish().await;
                return if result.rc == 0 {
                    Ok(found)
                } else {
                    Err(Fault::of_result(&result))
                };
            };
            if answer.is_ref() || answer.is_intermediate() {
                continue;
            }
            let name = SearchEntry::construct(answer).dn;
            let is_base = self.options.scope == LdapScope::Children && names::are_same(&name, base);
            if !is_base {
                found.count += 1;
                found.first.get_or_insert(name);
            }
        }
        Ok(found)
    }
}

#[derive(Default)]
struct Found {
    count: usize,
    first: Option<String>,
}
