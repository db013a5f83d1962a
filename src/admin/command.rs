//! Is this statement an admin command, and which one?
//!
//! The original decides on its parse tree; the grammar of these commands is small enough to read
//! them off the text. Case does not matter outside quotes, nor do blanks, comments and empty
//! statements in front. Only the first statement of a query counts: if it is an admin command, the
//! rest is dropped. Whatever is not exactly an admin command is PostgreSQL's, syntax errors included.
//!
//! Source: `src/parser/gram.y @ V4_3_5` by its behaviour, tried on the original.

mod lexer;

use lexer::{Lexer, Token};

use crate::config::Release;

/// A statement that is answered here and never sent to PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminCommand {
    /// `SHOW pool_...`
    Show(ShowTable),
    /// `PGPOOL ...`
    Settings(SettingsCommand),
    /// `PGPOOL EXPLAIN statement` (ours): where the statement would go in this session, and why.
    Explain(Box<[u8]>),
}

/// Asks for parameters, or changes them for the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsCommand {
    /// A parameter, with or without index, or a group.
    Show(String),
    ShowAll,
    Set {
        name: String,
        /// `None`: `TO DEFAULT`.
        value: Option<String>,
    },
    Reset(String),
    ResetAll,
}

/// What `SHOW POOL_...` can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShowTable {
    Nodes,
    Processes,
    Pools,
    Status,
    Version,
    Cache,
    HealthCheckStats,
    BackendStats,
    /// Ours, in every dialect: how many clients are connected, and how many wait.
    Clients,
    /// Ours: which clients have come by TLS, and how.
    Ssl,
    /// Ours: what was done to the cluster, and why.
    Events,
}

impl ShowTable {
    fn named(name: &str, release: Release) -> Option<ShowTable> {
        Some(match name {
            "pool_nodes" => ShowTable::Nodes,
            "pool_processes" => ShowTable::Processes,
            "pool_pools" => ShowTable::Pools,
            "pool_status" => ShowTable::Status,
            "pool_version" => ShowTable::Version,
            "pool_cache" => ShowTable::Cache,
            "pool_health_check_stats" if release >= Release::V4_2 => ShowTable::HealthCheckStats,
            "pool_backend_stats" if release >= Release::V4_2 => ShowTable::BackendStats,
            "pool_clients" => ShowTable::Clients,
            "pool_ssl" => ShowTable::Ssl,
            "pool_events" => ShowTable::Events,
            _ => return None,
        })
    }
}

/// Recognises an admin command of `release` in the text of a simple query; `None` is PostgreSQL's.
///
/// Cheap for everything else: one look at the first letter behind blanks and comments.
pub fn parse(sql: &[u8], release: Release) -> Option<AdminCommand> {
    let mut lexer = Lexer::new(sql);
    lexer.skip_blanks_and_semicolons()?;
    if !matches!(lexer.peek()?, b's' | b'S' | b'p' | b'P') {
        return None;
    }
    match lexer.next()? {
        Token::Word(word) if word == "show" => {
            let table = ShowTable::named(&name(lexer.next()?)?, release)?;
            ends(lexer.next()?).then_some(AdminCommand::Show(table))
        }
        Token::Word(word) if word == "pgpool" => {
            let mut ahead = lexer.clone();
            if ahead.next() == Some(Token::Word("explain".to_owned())) {
                let statement = ahead.rest();
                return (!statement.is_empty()).then(|| AdminCommand::Explain(statement.into()));
            }
            settings_command(&mut lexer).map(AdminCommand::Settings)
        }
        _ => None,
    }
}

fn settings_command(lexer: &mut Lexer<'_>) -> Option<SettingsCommand> {
    let command = match lexer.next()? {
        Token::Word(word) if word == "show" => match lexer.next()? {
            Token::Word(word) if word == "all" => SettingsCommand::ShowAll,
            token => SettingsCommand::Show(var_name(token, lexer)?),
        },
        Token::Word(word) if word == "set" => return set(lexer),
        Token::Word(word) if word == "reset" => match lexer.next()? {
            Token::Word(word) if word == "all" => SettingsCommand::ResetAll,
            token => SettingsCommand::Reset(var_name(token, lexer)?),
        },
        _ => return None,
    };
    ends(lexer.next()?).then_some(command)
}

/// `name { TO | = } { value [, ...] | DEFAULT }`
fn set(lexer: &mut Lexer<'_>) -> Option<SettingsCommand> {
    let name = match lexer.next()? {
        // ALL is a reserved word: no parameter can have this name.
        Token::Word(word) if word == "all" => return None,
        token => var_name(token, lexer)?,
    };
    match lexer.next()? {
        Token::Symbol(b'=') => {}
        Token::Word(word) if word == "to" => {}
        _ => return None,
    }
    let mut value = String::new();
    loop {
        match lexer.next()? {
            Token::Word(word) if word == "default" && value.is_empty() => {
                return ends(lexer.next()?).then_some(SettingsCommand::Set { name, value: None });
            }
            Token::Word(text) | Token::Quoted(text) | Token::Text(text) | Token::Number(text) => {
                value.push_str(&text);
            }
            Token::Symbol(sign @ (b'-' | b'+')) => {
                let Token::Number(number) = lexer.next()? else {
                    return None;
                };
                if sign == b'-' {
                    value.push('-');
                }
                value.push_str(&number);
            }
            Token::Symbol(_) | Token::End => return None,
        }
        match lexer.next()? {
            // Joined as the original does, and then refused as a value.
            Token::Symbol(b',') => value.push_str(", "),
            token => {
                return ends(token).then_some(SettingsCommand::Set {
                    name,
                    value: Some(value),
                });
            }
        }
    }
}

fn ends(token: Token) -> bool {
    matches!(token, Token::End | Token::Symbol(b';'))
}

fn name(token: Token) -> Option<String> {
    match token {
        Token::Word(name) | Token::Quoted(name) => Some(name),
        _ => None,
    }
}

/// `name` or `name.name...`
fn var_name(first: Token, lexer: &mut Lexer<'_>) -> Option<String> {
    let mut whole = name(first)?;
    while lexer.take_symbol(b'.') {
        whole.push('.');
        whole.push_str(&name(lexer.next()?)?);
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(sql: &str) -> Option<AdminCommand> {
        parse(sql.as_bytes(), Release::V4_3)
    }

    fn settings(command: SettingsCommand) -> Option<AdminCommand> {
        Some(AdminCommand::Settings(command))
    }

    fn set_to(name: &str, value: &str) -> Option<AdminCommand> {
        settings(SettingsCommand::Set {
            name: name.to_owned(),
            value: Some(value.to_owned()),
        })
    }

    #[test]
    fn case_comments_blanks_and_semicolons_do_not_matter() {
        let version = Some(AdminCommand::Show(ShowTable::Version));
        for sql in [
            "SHOW POOL_VERSION",
            "show pool_version;",
            "; show pool_version",
            "/* c */ SHOW pool_version",
            "/* a /* b */ c */ show /*x*/ pool_version--hi",
            "-- c\n\t show\npool_version ; ",
            "show \"pool_version\"",
        ] {
            assert_eq!(show(sql), version, "{sql}");
        }
    }

    #[test]
    fn only_the_first_statement_counts() {
        assert_eq!(
            show("show pool_version; show pool_nodes"),
            Some(AdminCommand::Show(ShowTable::Version))
        );
        assert_eq!(show("select 1; show pool_version"), None);
    }

    #[test]
    fn what_is_not_exactly_an_admin_command_goes_to_postgresql() {
        for sql in [
            "",
            ";",
            "--",
            "/* SHOW pool_nodes",
            "/* SHOW pool_nodes */",
            "SHOW",
            "SHOW pool_xyz",
            "SHOW \"POOL_NODES\"",
            "show pool_version garbage",
            "show pool_version /* open",
            "show pool_version.x",
            "showpool_nodes",
            "SELECT 1",
            "EXPLAIN SHOW pool_nodes",
            "PGPOOL",
            "PGPOOL SHOW",
            "PGPOOL SHOW port x",
            "PGPOOL SHOW ALL x",
            "pgpool reset",
            "PGPOOL SET log_statement",
            "PGPOOL SET log_min_messages 'error'",
            "PGPOOL SET LOCAL client_idle_limit TO 4",
            "PGPOOL SET all TO 4",
            "PGPOOL SET log_statement = ",
            "PGPOOL SET log_statement = 'on",
            "PGPOOL SET CACHE DELETE",
            "PGPOOL SET a = - b",
            "PGPOOL SHOW \"",
            "PGPOOL SHOW a.",
            "\"pgpool\" SHOW port",
        ] {
            assert_eq!(show(sql), None, "{sql}");
        }
    }

    #[test]
    fn parameter_names_are_lower_case_unless_quoted() {
        let name = |n: &str| settings(SettingsCommand::Show(n.to_owned()));
        assert_eq!(show("pgpool show PORT"), name("port"));
        assert_eq!(show("PGPOOL SHOW \"PORT\""), name("PORT"));
        assert_eq!(show("PGPOOL SHOW \"a\"\"b\""), name("a\"b"));
        assert_eq!(show("PGPOOL SHOW a.b"), name("a.b"));
        assert_eq!(show("PGPOOL SHOW ALL"), settings(SettingsCommand::ShowAll));
        assert_eq!(show("PGPOOL SHOW \"all\""), name("all"));
        assert_eq!(
            show("PGPOOL RESET ALL;"),
            settings(SettingsCommand::ResetAll)
        );
        assert_eq!(
            show("PGPOOL RESET Client_Idle_Limit"),
            settings(SettingsCommand::Reset("client_idle_limit".to_owned()))
        );
    }

    #[test]
    fn values_may_be_words_numbers_and_strings() {
        assert_eq!(
            show("PGPOOL SET log_statement=on"),
            set_to("log_statement", "on")
        );
        assert_eq!(show("pgpool set A to DEBUG1"), set_to("a", "debug1"));
        assert_eq!(show("pgpool set a to 'It''s'"), set_to("a", "It's"));
        assert_eq!(show("pgpool set a = -1;"), set_to("a", "-1"));
        assert_eq!(show("pgpool set a = +4"), set_to("a", "4"));
        assert_eq!(show("pgpool set a = 3.7"), set_to("a", "3.7"));
        assert_eq!(show("pgpool set a = 90, 91"), set_to("a", "90, 91"));
        assert_eq!(show("pgpool set a = ''"), set_to("a", ""));
        assert_eq!(
            show("pgpool set a to default"),
            settings(SettingsCommand::Set {
                name: "a".to_owned(),
                value: None
            })
        );
    }

    #[test]
    fn explain_takes_any_text_behind_it() {
        let explain = |sql: &[u8]| Some(AdminCommand::Explain(sql.into()));
        assert_eq!(show("PGPOOL EXPLAIN SELECT 'x"), explain(b"SELECT 'x"));
        assert_eq!(show("pgpool explain/**/begin; end"), explain(b"begin; end"));
        assert_eq!(show("pgpool explain ;"), explain(b";"));
        assert_eq!(show("pgpool explain "), None);
    }

    #[test]
    fn commands_of_newer_releases_are_unknown_to_older_dialects() {
        let stats = b"show pool_backend_stats";
        assert_eq!(parse(stats, Release::V4_1), None);
        assert_eq!(
            parse(stats, Release::V4_2),
            Some(AdminCommand::Show(ShowTable::BackendStats))
        );
        assert!(parse(b"show pool_nodes", Release::V3_7).is_some());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s)(pgpool|show|set|[-'\"/*=;., a-z0-9\u{0}é\n])*") {
            let _ = parse(text.as_bytes(), Release::V4_7);
        }
    }
}
