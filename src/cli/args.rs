//! The command line of `pgpool`: the options and sub-commands of the original, and `--check`,
//! `--check-auth`, `--what-if` and `events` of ours.
//!
//! Differs from what clap does by itself wherever the original does: prefixes of long options are
//! refused, a repeated option overwrites the earlier one, options end at the first bare word, and
//! of `-m` only the first letter counts. Says what was asked for; prints nothing.
//!
//! Source: `src/main/main.c @ V4_3_5`.

use std::{ffi::OsString, path::PathBuf};

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    error::{ContextKind, ContextValue, ErrorKind},
    value_parser,
};

use crate::{auth::hba::Origin, control::StopMode};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    pub request: Request,
    /// `-f`; relative to the start directory, like the other paths.
    pub config_file: Option<PathBuf>,
    /// `-F`
    pub pcp_file: Option<PathBuf>,
    /// `-a`
    pub hba_file: Option<PathBuf>,
    /// `-k`
    pub key_file: Option<PathBuf>,
    /// `-m`
    pub mode: StopMode,
    /// `-n`
    pub foreground: bool,
    /// `-D`
    pub discard_status: bool,
    /// `-C`
    pub clear_oidmaps: bool,
    /// `-d`: `log_min_messages` becomes DEBUG1.
    pub debug: bool,
    /// `-x`: known, without effect; our assertions are always on in debug builds and never in others.
    pub debug_assertions: bool,
    /// There with [`Request::CheckAuth`] only.
    pub login: Option<LoginToCheck>,
    /// There with [`Request::WhatIf`] only.
    pub what_if: Option<String>,
    /// What follows `events`.
    pub events: EventsArgs,
}

/// Which events `pgpool events` prints, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsArgs {
    /// `-n`: at most as many, the latest. `None`: all.
    pub last: Option<usize>,
    /// `--since`
    pub since: Option<String>,
    /// `--json`: one object on a line.
    pub json: bool,
    /// `--follow`
    pub follow: bool,
}

/// What follows `--check-auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginToCheck {
    pub user: String,
    pub database: String,
    pub origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Start,
    Stop,
    Reload,
    /// Prints the findings about the configuration.
    Check,
    /// Prints whether [`Args::login`] can work.
    CheckAuth,
    /// Prints what [`Args::what_if`] would lead to.
    WhatIf,
    /// Prints the history, as [`Args::events`] says.
    Events,
    Version,
    Help,
}

/// The command line cannot be understood; the usage text follows the message, the exit status is 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError {
    /// As getopt says it, without the program name: `illegal option -- bogus`.
    pub message: Option<String>,
}

/// `args` with the program name in front, as from `std::env::args_os`.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, UsageError> {
    let args: Vec<OsString> = args.into_iter().collect();
    let last = args.last().cloned().unwrap_or_default();
    let matches = command()
        .try_get_matches_from(args)
        .map_err(|error| usage_error(&error, &last))?;
    from_matches(&matches)
}

fn command() -> Command {
    let flag = |id: &'static str, short: char| {
        Arg::new(id)
            .short(short)
            .long(id)
            .action(ArgAction::SetTrue)
    };
    let path = |id: &'static str, short: char| {
        Arg::new(id)
            .short(short)
            .long(id)
            // getopt takes whatever comes next for the value.
            .allow_hyphen_values(true)
            .value_parser(value_parser!(PathBuf))
    };
    Command::new("pgpool")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .arg(path("config-file", 'f'))
        .arg(path("pcp-file", 'F'))
        .arg(path("hba-file", 'a'))
        .arg(path("key-file", 'k'))
        .arg(
            Arg::new("mode")
                .short('m')
                .long("mode")
                .allow_hyphen_values(true)
                .value_parser(value_parser!(OsString)),
        )
        .arg(flag("dont-detach", 'n'))
        .arg(flag("discard-status", 'D'))
        .arg(flag("clear-oidmaps", 'C'))
        .arg(flag("debug", 'd'))
        .arg(flag("debug-assertions", 'x'))
        .arg(flag("version", 'v'))
        .arg(flag("help", 'h'))
        .arg(Arg::new("check").long("check").action(ArgAction::SetTrue))
        .arg(
            Arg::new("check-auth")
                .long("check-auth")
                .num_args(3)
                .value_parser(value_parser!(OsString)),
        )
        .arg(
            Arg::new("what-if")
                .long("what-if")
                .value_parser(value_parser!(OsString)),
        )
        .arg(Arg::new("tls").long("tls").action(ArgAction::SetTrue))
        .arg(
            Arg::new("words")
                .num_args(0..)
                // Everything after the first bare word belongs to it, even `-n`.
                .trailing_var_arg(true)
                .value_parser(value_parser!(OsString)),
        )
}

fn from_matches(matches: &ArgMatches) -> Result<Args, UsageError> {
    let path = |id: &str| matches.get_one::<PathBuf>(id).cloned();
    let flag = |id: &str| matches.get_flag(id);
    let silent = || UsageError { message: None };

    let mode = match matches.get_one::<OsString>("mode") {
        None => StopMode::Smart,
        Some(word) => stop_mode(word).ok_or_else(silent)?,
    };
    let words: Vec<&OsString> = matches
        .get_many("words")
        .map(Iterator::collect)
        .unwrap_or_default();
    let login = login_to_check(matches, flag("tls"))?;
    let what_if = match matches.get_one::<OsString>("what-if") {
        None => None,
        Some(text) => Some(text.to_str().map(str::to_owned).ok_or_else(|| UsageError {
            message: Some("the request after --what-if is not UTF-8".to_owned()),
        })?),
    };
    let mut config_file = path("config-file");
    let mut events = EventsArgs::default();
    let request = if flag("help") {
        Request::Help
    } else if flag("version") {
        Request::Version
    } else {
        match words.as_slice() {
            [] if login.is_some() => Request::CheckAuth,
            [] if what_if.is_some() => Request::WhatIf,
            [] if flag("check") => Request::Check,
            [] => Request::Start,
            [word] if *word == "stop" => Request::Stop,
            [word] if *word == "reload" => Request::Reload,
            [word, options @ ..] if *word == "events" => {
                events = events_args(options, &mut config_file)?;
                Request::Events
            }
            _ => return Err(silent()),
        }
    };
    Ok(Args {
        request,
        config_file,
        pcp_file: path("pcp-file"),
        hba_file: path("hba-file"),
        key_file: path("key-file"),
        mode,
        foreground: flag("dont-detach"),
        discard_status: flag("discard-status"),
        clear_oidmaps: flag("clear-oidmaps"),
        debug: flag("debug"),
        debug_assertions: flag("debug-assertions"),
        login,
        what_if,
        events,
    })
}

/// The options behind `events`, which is ours, so they may stand there; `-f` as well.
fn events_args(
    options: &[&OsString],
    config_file: &mut Option<PathBuf>,
) -> Result<EventsArgs, UsageError> {
    let flag = |id: &'static str| Arg::new(id).long(id).action(ArgAction::SetTrue);
    let command = Command::new("events")
        .no_binary_name(true)
        .disable_help_flag(true)
        .args_override_self(true)
        .arg(flag("json"))
        .arg(flag("follow"))
        .arg(
            Arg::new("last")
                .short('n')
                .long("last")
                .value_parser(value_parser!(usize)),
        )
        .arg(Arg::new("since").long("since").allow_hyphen_values(true))
        .arg(
            Arg::new("config-file")
                .short('f')
                .long("config-file")
                .value_parser(value_parser!(PathBuf)),
        );
    let last = options
        .last()
        .map(|last| (*last).clone())
        .unwrap_or_default();
    let matches = command
        .try_get_matches_from(options)
        .map_err(|error| match error.kind() {
            ErrorKind::ValueValidation => UsageError {
                message: Some("-n takes a number of events".to_owned()),
            },
            _ => usage_error(&error, &last),
        })?;
    if let Some(path) = matches.get_one::<PathBuf>("config-file") {
        *config_file = Some(path.clone());
    }
    Ok(EventsArgs {
        last: matches.get_one::<usize>("last").copied(),
        since: matches.get_one::<String>("since").cloned(),
        json: matches.get_flag("json"),
        follow: matches.get_flag("follow"),
    })
}

/// USER DATABASE ADDRESS, and whether `--tls` says that the client has TLS.
fn login_to_check(matches: &ArgMatches, tls: bool) -> Result<Option<LoginToCheck>, UsageError> {
    let refuse = |message: &str| UsageError {
        message: Some(message.to_owned()),
    };
    let Some(mut values) = matches.get_many::<OsString>("check-auth") else {
        return if tls {
            Err(refuse("--tls belongs to --check-auth"))
        } else {
            Ok(None)
        };
    };
    let mut next = || values.next().and_then(|value| value.to_str());
    let (Some(user), Some(database), Some(address)) = (next(), next(), next()) else {
        return Err(refuse("a name after --check-auth is not UTF-8"));
    };
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    let origin = match bare.parse() {
        Ok(address) => Origin::Host { address, tls },
        Err(_) if address != "local" => {
            return Err(refuse(
                "ADDRESS of --check-auth is an IP address, or \"local\" for a unix socket",
            ));
        }
        Err(_) if tls => return Err(refuse("there is no TLS on a unix socket")),
        Err(_) => Origin::Local,
    };
    Ok(Some(LoginToCheck {
        user: user.to_owned(),
        database: database.to_owned(),
        origin,
    }))
}

/// `smart`, `fast`, `immediate`; only the first letter counts.
fn stop_mode(word: &OsString) -> Option<StopMode> {
    match word.as_encoded_bytes().first()? {
        b's' => Some(StopMode::Smart),
        b'f' => Some(StopMode::Fast),
        b'i' => Some(StopMode::Immediate),
        _ => None,
    }
}

fn usage_error(error: &clap::Error, last: &OsString) -> UsageError {
    if let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg)
        && arg.starts_with("--check-auth ")
    {
        return UsageError {
            message: Some("--check-auth takes USER DATABASE ADDRESS".to_owned()),
        };
    }
    let message = match error.kind() {
        ErrorKind::UnknownArgument => match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(arg)) if arg.starts_with('-') => {
                Some(format!("illegal option -- {}", arg.trim_start_matches('-')))
            }
            _ => None,
        },
        // An option at the end of the line that wants a value.
        ErrorKind::InvalidValue | ErrorKind::WrongNumberOfValues => {
            let last = last.to_string_lossy();
            let name = match last.strip_prefix("--") {
                Some(long) => long.to_owned(),
                None => last.chars().last().map(String::from).unwrap_or_default(),
            };
            Some(format!("option requires an argument -- {name}"))
        }
        _ => None,
    };
    UsageError { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Result<Args, UsageError> {
        parse(
            std::iter::once("pgpool")
                .chain(line.split_whitespace())
                .map(OsString::from),
        )
    }

    fn message(line: &str) -> Option<String> {
        args(line).unwrap_err().message
    }

    #[test]
    fn nothing_at_all_is_a_start_in_the_background() {
        let got = args("").unwrap();
        assert_eq!(got.request, Request::Start);
        assert!(!got.foreground);
        assert_eq!(got.config_file, None);
    }

    #[test]
    fn short_and_long_options_mean_the_same() {
        assert_eq!(
            args("-f a -F b -a c -k d -n -D -C -d -x"),
            args(
                "--config-file=a --pcp-file b --hba-file=c --key-file d --dont-detach \
                 --discard-status --clear-oidmaps --debug --debug-assertions"
            )
        );
        let got = args("-nD -fx").unwrap();
        assert!(got.foreground && got.discard_status);
        assert_eq!(got.config_file, Some(PathBuf::from("x")));
    }

    #[test]
    fn a_repeated_option_overwrites_the_earlier_one() {
        let got = args("-f a -n -f b -n").unwrap();
        assert_eq!(got.config_file, Some(PathBuf::from("b")));
        assert!(got.foreground);
    }

    #[test]
    fn an_option_takes_whatever_follows_for_its_value() {
        assert_eq!(
            args("-f -n").unwrap().config_file,
            Some(PathBuf::from("-n"))
        );
    }

    #[test]
    fn only_the_first_letter_of_the_mode_counts() {
        for (word, mode) in [
            ("smart", StopMode::Smart),
            ("f", StopMode::Fast),
            ("frozen", StopMode::Fast),
            ("immediate", StopMode::Immediate),
        ] {
            let got = args(&format!("-m {word} stop")).unwrap();
            assert_eq!((got.mode, got.request), (mode, Request::Stop), "{word}");
        }
        assert_eq!(args("-mf stop").unwrap().mode, StopMode::Fast);
        assert_eq!(args("stop").unwrap().mode, StopMode::Smart);
        assert_eq!(message("-m x stop"), None);
        assert_eq!(message("-m FAST stop"), None);
    }

    #[test]
    fn options_end_at_the_first_bare_word() {
        assert_eq!(args("reload").unwrap().request, Request::Reload);
        for line in ["stop reload", "frob", "stop -m fast", "stop stop"] {
            assert_eq!(args(line), Err(UsageError { message: None }), "{line}");
        }
    }

    #[test]
    fn unknown_options_and_prefixes_of_long_ones_are_illegal() {
        assert_eq!(message("--bogus").unwrap(), "illegal option -- bogus");
        assert_eq!(message("-Z").unwrap(), "illegal option -- Z");
        assert_eq!(message("-c").unwrap(), "illegal option -- c");
        assert_eq!(message("--vers").unwrap(), "illegal option -- vers");
    }

    #[test]
    fn a_missing_value_is_told_with_the_name_as_it_was_typed() {
        assert_eq!(message("-f").unwrap(), "option requires an argument -- f");
        assert_eq!(message("-nf").unwrap(), "option requires an argument -- f");
        assert_eq!(
            message("--mode").unwrap(),
            "option requires an argument -- mode"
        );
    }

    #[test]
    fn version_and_help_win_over_everything_that_can_be_parsed() {
        assert_eq!(args("-v stop").unwrap().request, Request::Version);
        assert_eq!(args("-n --help").unwrap().request, Request::Help);
    }

    #[test]
    fn the_login_to_check_has_user_database_and_address() {
        let got = args("-f a --check-auth app shop 192.0.2.7 --tls").unwrap();
        assert_eq!(got.request, Request::CheckAuth);
        let login = got.login.unwrap();
        assert_eq!((&*login.user, &*login.database), ("app", "shop"));
        assert_eq!(
            login.origin,
            Origin::Host {
                address: "192.0.2.7".parse().unwrap(),
                tls: true
            }
        );
        let origin = |line: &str| args(line).unwrap().login.unwrap().origin;
        assert_eq!(origin("--check-auth app shop local -f a"), Origin::Local);
        for six in ["::1", "[::1]"] {
            assert_eq!(
                origin(&format!("--check-auth app shop {six}")),
                Origin::Host {
                    address: "::1".parse().unwrap(),
                    tls: false
                }
            );
        }
        for (line, text) in [
            ("--check-auth", "takes USER DATABASE ADDRESS"),
            ("--check-auth app shop", "takes USER DATABASE ADDRESS"),
            ("--check-auth app shop --tls", "takes USER DATABASE ADDRESS"),
            ("--check-auth app shop host.example.com", "an IP address"),
            (
                "--check-auth app shop local --tls",
                "no TLS on a unix socket",
            ),
            ("--tls", "--tls belongs to --check-auth"),
        ] {
            let said = message(line).unwrap_or_default();
            assert!(said.contains(text), "{line}: {said}");
        }
        assert_eq!(message("--check-auth app shop ::1 more"), None);
    }

    #[test]
    fn events_has_options_of_its_own_behind_it() {
        let got = args("-f a events -n 5 --json --since 2h --follow").unwrap();
        assert_eq!(got.request, Request::Events);
        assert_eq!(got.config_file, Some(PathBuf::from("a")));
        assert_eq!(
            got.events,
            EventsArgs {
                last: Some(5),
                since: Some("2h".into()),
                json: true,
                follow: true,
            }
        );
        let got = args("events -f b --since -2h").unwrap();
        assert_eq!(got.config_file, Some(PathBuf::from("b")));
        assert_eq!(got.events.since.as_deref(), Some("-2h"));
        assert_eq!(
            message("events -n many").unwrap(),
            "-n takes a number of events"
        );
        assert_eq!(
            message("events -n").unwrap(),
            "option requires an argument -- n"
        );
        assert_eq!(
            message("events --bogus").unwrap(),
            "illegal option -- bogus"
        );
        assert_eq!(message("events stop"), None);
    }

    #[test]
    fn what_if_takes_one_argument_and_the_others_as_ever() {
        let got = parse(["pgpool", "-f", "a", "--what-if", "down 0; up 0"].map(OsString::from));
        let got = got.unwrap();
        assert_eq!(got.request, Request::WhatIf);
        assert_eq!(got.what_if.as_deref(), Some("down 0; up 0"));
        assert_eq!(
            message("--what-if").unwrap(),
            "option requires an argument -- what-if"
        );
        assert_eq!(message("--what-if down 0"), None, "it has to be quoted");
    }

    #[test]
    fn check_is_a_request_of_its_own() {
        assert_eq!(args("--check -f a").unwrap().request, Request::Check);
    }
}
