//! Whether a login can work, and what to mend if not: the core of `pgpool --check-auth`.
//!
//! Facts go in ([`Facts`]: what the files say, what each backend asks for), a [`Report`] comes out.
//! The decision is that of real logins: [`trial`] plays one with the core of the data plane. This
//! module finds the words. Nothing in here knows a password.

mod facts;
mod remedy;
#[cfg(test)]
mod tests;
mod trial;

use std::fmt;

use super::{
    hba::{Method, Origin},
    passwd::Form,
};
use crate::cluster::NodeId;
pub use facts::{
    Asks, AuthQueryFacts, BackendFacts, BackendState, Facts, HbaFacts, KeyFile, Kind, NearRecord,
    PasswdFacts, Refusal, Ssl,
};
use trial::{Asked, Client, Course, Ending, Setting};

/// What was found out; [`fmt::Display`] prints it line by line.
#[derive(Clone, Debug)]
pub struct Report {
    pub lines: Vec<Line>,
    /// A client that knows the password can log in.
    pub works: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub subject: String,
    pub text: String,
    /// Empty when there is nothing to mend.
    pub remedy: String,
}

/// Looks at a login from all sides.
pub fn check(facts: &Facts) -> Report {
    let mut report = Report {
        lines: vec![client(facts), pool_hba(facts), pool_passwd(facts)],
        works: false,
    };
    report.lines.extend(auth_query(facts));
    for finding in &facts.ssl_findings {
        report.add("ssl", finding, "");
    }
    if facts.admin {
        report.add(
            "backends",
            "none is needed: the database is admin_database",
            "",
        );
    }
    let setting = facts.setting();
    let up = facts.asking();
    let course = trial::play(&setting, &up, Client::Knows);
    let in_vain = up.is_empty() && !facts.admin && course.passed;
    if course.passed || !course.asked.is_empty() {
        report.add("client", asked_in_words(&course.asked), "");
    }
    for backend in &facts.backends {
        let line = backend_line(facts, &setting, backend, &course);
        report.lines.push(line);
    }
    if let Some((text, remedy)) = hindered(facts, &setting) {
        report.add("result", format!("the login cannot work: {text}"), &remedy);
    } else if in_vain {
        let text = "the login cannot work: there is no backend that it could go to";
        report.add("result", text, "start a backend, or attach one");
    } else {
        report.conclude(facts, &setting, &up, &course);
    }
    report
}

impl Report {
    fn add(&mut self, subject: &str, text: impl Into<String>, remedy: &str) {
        self.lines.push(Line {
            subject: subject.to_owned(),
            text: text.into(),
            remedy: remedy.to_owned(),
        });
    }

    fn conclude(
        &mut self,
        facts: &Facts,
        setting: &Setting<'_>,
        up: &[(NodeId, &Asks)],
        course: &Course,
    ) {
        match &course.ending {
            Ending::LoggedIn => {
                self.works = true;
                let guess = trial::play(setting, up, Client::Guesses);
                if guess.ending == Ending::LoggedIn {
                    let what = if guess.asked.is_empty() {
                        "no password is asked for"
                    } else {
                        "any password is taken"
                    };
                    let text = format!(
                        "{what}: whoever connects from there is let in as \"{}\"",
                        facts.user
                    );
                    self.add("note", text, "");
                }
                let given = match setting.method() {
                    Some(Method::Cert) => "given a certificate of the client with this common name",
                    _ if guess.asked.is_empty() => "without a password",
                    _ => "given the right password",
                };
                self.add("result", format!("the login can work, {given}"), "");
            }
            Ending::RefusedBy(node) => {
                let text = format!(
                    "the login cannot work: backend {node} refuses it, and the client reads its words"
                );
                self.add("result", text, "");
            }
            Ending::Refused(error) => {
                let remedy = if course.passed && !facts.admin {
                    // Each backend has its own.
                    String::new()
                } else {
                    remedy::at_pool_hba(facts, setting)
                };
                let remedy = if remedy.is_empty() {
                    &error.hint
                } else {
                    &remedy
                };
                let text = format!("the login cannot work; the client reads: {error}");
                self.add("result", text, remedy);
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{}: {}", line.subject, line.text)?;
            if !line.remedy.is_empty() {
                writeln!(f, "    remedy: {}", line.remedy)?;
            }
        }
        Ok(())
    }
}

fn line(subject: impl Into<String>, text: impl Into<String>) -> Line {
    Line {
        subject: subject.into(),
        text: text.into(),
        remedy: String::new(),
    }
}

fn client(facts: &Facts) -> Line {
    let from = match facts.origin {
        Origin::Local => "through a unix socket".to_owned(),
        Origin::Host { address, tls } => {
            let with = if tls { "with" } else { "without" };
            format!("from {address}, {with} TLS")
        }
    };
    line(
        "client",
        format!(
            "user \"{}\", database \"{}\", {from}",
            facts.user, facts.database
        ),
    )
}

fn pool_hba(facts: &Facts) -> Line {
    let text = match &facts.hba {
        HbaFacts::Off => {
            "not used (enable_pool_hba = off): what the backends ask for decides".to_owned()
        }
        HbaFacts::Unusable { path, errors } => {
            let errors: String = errors.iter().map(|e| format!("\n    {e}")).collect();
            format!("{} cannot be used:{errors}", path.display())
        }
        HbaFacts::NoRecord { path, near } => {
            let near: String = near
                .iter()
                .map(|near| {
                    format!(
                        "\n    {}:{}: {}\n        {}",
                        path.display(),
                        near.line,
                        near.text,
                        near.why.join("; ")
                    )
                })
                .collect();
            let nearest = if near.is_empty() {
                ""
            } else {
                "; the nearest are"
            };
            format!("no record of {} matches{nearest}{near}", path.display())
        }
        HbaFacts::Record {
            path, line, text, ..
        } => format!("{}:{line}: {text}", path.display()),
    };
    line("pool_hba", text)
}

fn pool_passwd(facts: &Facts) -> Line {
    let passwd = &facts.passwd;
    let Some(path) = &passwd.path else {
        return line("pool_passwd", "not used (pool_passwd = '')");
    };
    if let Some(reason) = &passwd.unreadable {
        return line("pool_passwd", reason);
    }
    let Some(place) = passwd.place else {
        let text = format!("{} has no entry for \"{}\"", path.display(), facts.user);
        return line("pool_passwd", text);
    };
    if passwd.kind == Kind::Nothing {
        let (path, at) = (path.display(), place.line);
        let text = format!("{path}:{at}: an empty password, which counts as no entry");
        return line("pool_passwd", text);
    }
    let form = match place.form {
        Form::Md5 => "an md5 hash",
        Form::Text => "a password in clear (TEXT)",
        Form::Bare => "a password in clear, without prefix",
        Form::Verifier if passwd.kind == Kind::BadVerifier => {
            "a SCRAM secret that cannot be read (no user can log in with it)"
        }
        Form::Verifier => "a SCRAM secret",
        Form::Aes if passwd.kind == Kind::Undecryptable => {
            let mut line = line(
                "pool_passwd",
                format!(
                    "{}:{}: an AES entry that cannot be opened",
                    path.display(),
                    place.line
                ),
            );
            line.remedy = remedy::key(passwd);
            return line;
        }
        Form::Aes => "a password encrypted with the pool key (AES)",
    };
    line(
        "pool_passwd",
        format!("{}:{}: {form}", path.display(), place.line),
    )
}

fn auth_query(facts: &Facts) -> Option<Line> {
    let user = &facts.user;
    let text = match &facts.auth_query {
        AuthQueryFacts::Off => return None,
        AuthQueryFacts::NotNeeded => "not asked, since pool_passwd has an entry".to_owned(),
        AuthQueryFacts::Gives(Kind::Nothing) => format!("knows no password of \"{user}\""),
        AuthQueryFacts::Gives(Kind::Md5) => "gives an md5 hash".to_owned(),
        AuthQueryFacts::Gives(_) => "gives a SCRAM secret".to_owned(),
        AuthQueryFacts::Failed(reason) => {
            let mut line = line("auth_query", format!("failed: {reason}"));
            line.remedy = remedy::AUTH_QUERY.to_owned();
            return Some(line);
        }
    };
    Some(line("auth_query", text))
}

fn asked_in_words(asked: &[Asked]) -> String {
    if asked.is_empty() {
        return "is not asked for a password".to_owned();
    }
    let words: Vec<&str> = asked
        .iter()
        .map(|asked| match asked {
            Asked::ClearText => "the password in clear text",
            Asked::Md5 => "md5",
            Asked::Scram => "scram-sha-256",
        })
        .collect();
    format!("is asked for {}", words.join(", then for "))
}

/// What a backend asks for, and what becomes of it.
fn backend_line(
    facts: &Facts,
    setting: &Setting<'_>,
    backend: &BackendFacts,
    course: &Course,
) -> Line {
    let subject = format!("backend {} ({})", backend.node, backend.address);
    let asks = match &backend.state {
        BackendState::Asks(asks) => asks,
        BackendState::Down => {
            return line(
                subject,
                "is down, as pgpool_status says: no session goes there",
            );
        }
        BackendState::Unreachable(reason) => {
            return line(subject, format!("cannot be asked: {reason}"));
        }
    };
    let asks_for = match asks {
        Asks::Nothing => "asks for no password".to_owned(),
        Asks::Password => "asks for the password in clear text".to_owned(),
        Asks::Md5 => "asks for md5".to_owned(),
        Asks::Scram { .. } => "asks for scram-sha-256".to_owned(),
        Asks::Other(kind) => format!("asks for {}", kind_in_words(*kind)),
        Asks::Refused(refusal) => {
            return Line {
                subject,
                text: format!(
                    "refuses the connection: {} (SQLSTATE {})",
                    refusal.message, refusal.sqlstate
                ),
                remedy: remedy::of_refusal(facts, refusal),
            };
        }
    };
    let alone = trial::play(setting, &[(backend.node, asks)], Client::Knows);
    // A backend that asks for nothing is never what makes a login fail.
    let known = facts.known();
    let fails = course.passed
        && course.ending != Ending::LoggedIn
        && alone.ending != Ending::LoggedIn
        && *asks != Asks::Nothing;
    if fails {
        let why = match (asks, known.kind) {
            (Asks::Other(_), _) => "pgpool cannot answer that".to_owned(),
            (_, Kind::Nothing) => "pool_passwd has no entry".to_owned(),
            (_, Kind::Clear) => format!("{} has the password", known.by),
            (_, Kind::Md5) => format!("{} has an md5 entry", known.by),
            (Asks::Scram { same_secret: false }, Kind::Verifier) => {
                format!("{} has another SCRAM secret than this server", known.by)
            }
            (_, Kind::Verifier) => format!("{} has a SCRAM secret", known.by),
            (_, Kind::BadVerifier) => {
                format!("{} has a SCRAM secret that cannot be read", known.by)
            }
            (_, Kind::Undecryptable) => "the entry of pool_passwd cannot be opened".to_owned(),
        };
        return Line {
            subject,
            text: format!("{asks_for}, {why}: this cannot work"),
            remedy: remedy::at_backend(facts, setting, asks),
        };
    }
    const TOLD: &str = ", answered with the password that the client tells";
    let answered = match (asks, known.kind) {
        _ if !course.passed => String::new(),
        (Asks::Nothing, _) => String::new(),
        _ if setting.hand_on => TOLD.to_owned(),
        (Asks::Scram { .. }, Kind::Verifier) if !alone.asked.contains(&Asked::ClearText) => {
            ", answered with the key that the client's own SCRAM answer gives".to_owned()
        }
        (_, Kind::Nothing | Kind::Verifier) => TOLD.to_owned(),
        _ => format!(", answered with what {} has", known.by),
    };
    line(subject, format!("{asks_for}{answered}"))
}

fn kind_in_words(kind: i32) -> String {
    match kind {
        2 => "Kerberos V5".to_owned(),
        4 => "crypt".to_owned(),
        6 => "an SCM credential".to_owned(),
        7 => "GSSAPI".to_owned(),
        9 => "SSPI".to_owned(),
        10 => "a SASL mechanism other than scram-sha-256".to_owned(),
        other => format!("something unknown (authentication request {other})"),
    }
}

/// What keeps the client from even asking, and the remedy.
fn hindered(facts: &Facts, setting: &Setting<'_>) -> Option<(String, String)> {
    if facts.has_tls() && facts.ssl != Ssl::On {
        let remedy = if facts.ssl == Ssl::Off {
            "set ssl = on in pgpool.conf, or look at a login without --tls"
        } else {
            "mend what the lines about ssl name"
        };
        let text = "clients that ask for TLS are told that there is none";
        return Some((text.to_owned(), remedy.to_owned()));
    }
    let method = setting.method()?;
    if !method.is_built() {
        let word = method.word();
        return Some((
            format!("this pgpool was built without the feature \"{word}\", and does not start"),
            format!(
                "use another method in this line, or a pgpool built with \"--features {word}\""
            ),
        ));
    }
    if method == Method::Cert && facts.has_tls() && !facts.client_ca {
        return Some((
            "no certificate of a client can be verified".to_owned(),
            "set ssl_ca_cert in pgpool.conf to the CA that signs the clients' certificates"
                .to_owned(),
        ));
    }
    if let Some(reason) = &facts.passwd.unreadable {
        return Some((
            "pgpool does not start".to_owned(),
            format!("let the account that pgpool runs as read the file ({reason})"),
        ));
    }
    None
}
