//! What to do about a login that cannot work, cell by cell of the authentication matrix.

use super::{Asks, Facts, Kind, PasswdFacts, Refusal, trial::Setting};
use crate::auth::{hba::Method, session_auth::HbaVerdict};

/// auth_query could not be asked, or its answer cannot be used.
pub(super) const AUTH_QUERY: &str = "check auth_user, auth_password, auth_dbname and auth_query in pgpool-rs.conf: auth_user must be able to log in at the servers and to read pg_shadow, or to run the function that reads it";

/// pool_hba.conf, or what it asks for, does not let the client pass.
pub(super) fn at_pool_hba(facts: &Facts, setting: &Setting<'_>) -> String {
    let method = match setting.hba {
        HbaVerdict::Unusable => {
            return "mend the lines above (all clients are refused until then), then reload"
                .to_owned();
        }
        HbaVerdict::NoRecord => {
            return "add a record to pool_hba.conf, or mend the nearest one, then reload"
                .to_owned();
        }
        HbaVerdict::Off => return unknown_user(facts),
        HbaVerdict::Method(method) => method,
    };
    match (method, facts.known().kind) {
        (Method::Reject, _) => {
            "put a record that lets this client in before this one, then reload".to_owned()
        }
        (Method::Cert, _) => {
            "the client must connect with TLS and show a certificate; write hostssl in this record"
                .to_owned()
        }
        (_, Kind::Undecryptable) => key(&facts.passwd),
        (_, Kind::BadVerifier) => {
            "copy the SCRAM secret again from rolpassword in pg_authid, or write the entry as TEXT or AES with pg_enc"
                .to_owned()
        }
        (Method::ScramSha256, Kind::Md5) => {
            "write the entry as TEXT or AES with pg_enc, or use auth_query; or ask for md5 in this record"
                .to_owned()
        }
        (Method::Md5, Kind::Verifier) => {
            "a SCRAM secret serves clients that are asked for scram-sha-256: write that in this record"
                .to_owned()
        }
        (_, Kind::Nothing) => unknown_user(facts),
        _ => String::new(),
    }
}

fn unknown_user(facts: &Facts) -> String {
    let user = &facts.user;
    let file = if facts.passwd.path.is_some() {
        ""
    } else {
        "set pool_passwd in pgpool.conf, and "
    };
    format!(
        "{file}add \"{user}\" to pool_passwd (as TEXT or AES with pg_enc -m -u {user}, as md5 with pg_md5 --md5auth --username={user}), then reload; or use auth_query"
    )
}

/// pgpool cannot answer what a backend asks for.
pub(super) fn at_backend(facts: &Facts, setting: &Setting<'_>, asks: &Asks) -> String {
    match (asks, facts.known().kind) {
        (Asks::Other(_), _) => {
            "let pg_hba.conf of this server ask for scram-sha-256 (or md5, password) when pgpool connects"
                .to_owned()
        }
        (_, Kind::Undecryptable) => key(&facts.passwd),
        (_, Kind::Nothing) => without_entry(facts, setting, asks),
        (Asks::Scram { .. }, Kind::Md5) => {
            match facts.known().by {
                "auth_query" => format!(
                    "give \"{user}\" a password that PostgreSQL stores for SCRAM (password_encryption = scram-sha-256, then ALTER ROLE), or add \"{user}\" to pool_passwd as TEXT or AES with pg_enc",
                    user = facts.user
                ),
                _ => "write the entry as TEXT or AES with pg_enc, or use auth_query".to_owned(),
            }
        }
        (Asks::Password, Kind::Md5) => {
            "write the entry as TEXT or AES with pg_enc; or let this server ask for md5".to_owned()
        }
        (Asks::Scram { same_secret: false }, Kind::Verifier) => {
            "copy rolpassword of pg_authid at this server into pool_passwd; servers that do not share it need the password itself (TEXT or AES, with pg_enc)"
                .to_owned()
        }
        (Asks::Md5 | Asks::Password, Kind::Verifier | Kind::BadVerifier) => {
            "a SCRAM secret opens only servers that ask for scram-sha-256: write the entry as TEXT or AES with pg_enc, or change pg_hba.conf of this server"
                .to_owned()
        }
        (Asks::Scram { .. }, Kind::BadVerifier) => {
            "copy the SCRAM secret again from rolpassword in pg_authid".to_owned()
        }
        _ => ask_in_clear(setting).to_owned(),
    }
}

fn without_entry(facts: &Facts, setting: &Setting<'_>, asks: &Asks) -> String {
    let user = &facts.user;
    let entry = match asks {
        Asks::Md5 => format!(
            "add \"{user}\" to pool_passwd (as TEXT or AES with pg_enc -m -u {user}, as md5 with pg_md5 --md5auth --username={user})"
        ),
        Asks::Scram { .. } => format!(
            "add \"{user}\" to pool_passwd as TEXT or AES (pg_enc -m -u {user}), or use auth_query"
        ),
        _ => format!("add \"{user}\" to pool_passwd as TEXT or AES (pg_enc -m -u {user})"),
    };
    format!("{entry}; or {}", ask_in_clear(setting))
}

/// How the client comes to tell its password.
fn ask_in_clear(setting: &Setting<'_>) -> &'static str {
    match setting.hba {
        HbaVerdict::Off => {
            "set allow_clear_text_frontend_auth = on, which lets clients tell the password in clear text"
        }
        HbaVerdict::Method(Method::Ldap) => {
            "write backend_use_passwd=1 in the record, if the servers have the same password"
        }
        _ => {
            "ask for the method password in pool_hba.conf (over TLS: hostssl), so that the client tells it"
        }
    }
}

/// An AES entry that stays closed.
pub(super) fn key(passwd: &PasswdFacts) -> String {
    match &passwd.key {
        None => {
            "name the pool key file: -k FILE, or the environment variable PGPOOLKEYFILE".to_owned()
        }
        Some(key) if !key.exists => format!(
            "the pool key file {} does not exist: put the key there that pg_enc used (mode 0600), or name its file with -k or PGPOOLKEYFILE",
            key.path.display()
        ),
        Some(key) => format!(
            "the key in {} does not open the entry: write the entry again with pg_enc -m -k {}, or name the file that it was written with",
            key.path.display(),
            key.path.display()
        ),
    }
}

/// A backend said no before it asked for anything.
pub(super) fn of_refusal(facts: &Facts, refusal: &Refusal) -> String {
    let message = refusal.message.as_str();
    match refusal.sqlstate.as_str() {
        "28000" if message.contains("pg_hba.conf") => format!(
            "add a record for pgpool's address, user \"{}\" and database \"{}\" to pg_hba.conf of this server",
            facts.user, facts.database
        ),
        "28000" if message.contains("does not exist") => {
            format!("create the role \"{}\" at this server", facts.user)
        }
        "3D000" => format!(
            "create the database \"{}\", or correct its name",
            facts.database
        ),
        "42501" => format!(
            "GRANT CONNECT ON DATABASE \"{}\" TO \"{}\"",
            facts.database, facts.user
        ),
        "53300" => {
            "the server is full: raise max_connections, or lower num_init_children * max_pool"
                .to_owned()
        }
        "57P03" => "wait until the server accepts connections".to_owned(),
        _ => String::new(),
    }
}
