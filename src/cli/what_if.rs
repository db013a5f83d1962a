//! `pgpool --what-if`: asks the running pgpool what a request would lead to.

use std::io::{self, Write};

use super::events::reason;
use crate::{
    config::Config,
    failover::what_if,
    local::{
        self, client,
        protocol::{Line, Question},
    },
    process::fatal::Fatal,
};

/// Prints the answer on standard output. The exit status is 0 when there is one, also when a request
/// would be refused.
///
/// # Errors
///
/// A request that is none, or no pgpool that answers.
pub fn run(config: &Config, requests: &str) -> Result<u8, Fatal> {
    if let Err(why) = what_if::parse(requests) {
        let (message, hint) = why.split_once("; ").unwrap_or((&why, ""));
        return Err(Fatal::new(format!("--what-if: {message}"))
            .hint(hint)
            .exit_code(1));
    }
    let path = local::path(&config.settings.work_dir, config.settings.port);
    let question = Question::WhatIf {
        requests: requests.to_owned(),
    };
    let mut out = io::stdout().lock();
    let asked = client::ask(&path, question, |line| match line {
        Line::Text(text) => writeln!(out, "{text}"),
        _ => Ok(()),
    });
    // Nobody reads any more.
    let _ = out.flush();
    match asked {
        Ok(()) => Ok(0),
        Err(client::NoAnswer::Stopped(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        Err(why) => Err(
            Fatal::new("--what-if asks the running pgpool, and there is no answer")
                .detail(reason(&why, config))
                .exit_code(1),
        ),
    }
}
