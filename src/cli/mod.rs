//! The command line: what `main` hands over, and the sub-commands.

pub mod args;
pub mod check;
pub mod check_auth;
pub mod events;
pub mod paths;
pub mod since;
pub mod usage;
pub mod version;
pub mod what_if;

use std::{ffi::OsString, path::Path, process::ExitCode};

use args::{Args, Request};

use crate::{
    config::{Config, Paths},
    observe::Reporter,
    process::{client, fatal::Fatal, log_sink::LogSink, start, wiring},
    sys::errors,
    watchdog::guard,
};

/// The whole program. `command_line` with the program name in front.
pub fn run(command_line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command_line: Vec<OsString> = command_line.into_iter().collect();
    let program = command_line.first().cloned().unwrap_or_default();
    let sink = LogSink::install();
    if program == guard::NAME {
        return ExitCode::from(guard::run(&sink));
    }
    let args = match args::parse(command_line) {
        Ok(args) => args,
        Err(error) => {
            if let Some(message) = error.message {
                eprintln!("{}: {message}", Path::new(&program).display());
            }
            eprint!("{}", usage::text(version::default()));
            return ExitCode::from(1);
        }
    };
    if args.debug {
        sink.set_debug();
    }
    let status = match paths::resolve(&args) {
        Ok(paths) => execute(&args, &paths, &sink),
        Err(error) => report(
            &Fatal::new("could not find out the current directory").detail(errors::message(&error)),
        ),
    };
    sink.flush();
    ExitCode::from(status)
}

fn execute(args: &Args, paths: &Paths, sink: &LogSink) -> u8 {
    match args.request {
        Request::Start => start::run(args, paths, sink),
        Request::Stop | Request::Reload => match talk_to_running(args, paths, sink) {
            Ok(()) => 0,
            Err(fatal) => report(&fatal),
        },
        Request::Events => ask_running(paths, sink, |config| events::run(config, &args.events)),
        Request::WhatIf => ask_running(paths, sink, |config| match &args.what_if {
            Some(requests) => what_if::run(config, requests),
            None => Ok(1),
        }),
        Request::Check => check::run(paths),
        Request::CheckAuth => match &args.login {
            Some(login) => check_auth::run(paths, login),
            None => 1,
        },
        // On stderr, as the original prints both.
        Request::Version => {
            eprintln!("{}", version::line(wiring::version_without_start(paths)));
            0
        }
        Request::Help => {
            eprint!("{}", usage::text(wiring::version_without_start(paths)));
            0
        }
    }
}

/// `stop` and `reload`: the configuration says where the pid file is, and has to be right.
fn talk_to_running(args: &Args, paths: &Paths, sink: &LogSink) -> Result<(), Fatal> {
    let reporter = Reporter::new("main");
    let (config, _) = wiring::read_config(paths, &reporter)?;
    sink.configure(&config.settings, false)?;
    let pid_file = wiring::pid_file(&config);
    match args.request {
        Request::Stop => client::stop(&pid_file, args.mode, &reporter),
        _ => client::reload(&pid_file),
    }
}

/// `events` and `--what-if`: the configuration says where the socket and the file are.
fn ask_running(
    paths: &Paths,
    sink: &LogSink,
    ask: impl FnOnce(&Config) -> Result<u8, Fatal>,
) -> u8 {
    let asked = wiring::read_config(paths, &Reporter::new("main")).and_then(|(config, _)| {
        sink.configure(&config.settings, false)?;
        ask(&config)
    });
    asked.unwrap_or_else(|fatal| report(&fatal))
}

fn report(fatal: &Fatal) -> u8 {
    fatal.report(&Reporter::new("main"));
    fatal.exit_code
}
