//! The command line from outside, beside the original's where that is installed.

mod common;

use std::{fs, process::Command};

use common::{Scratch, ours, outcome, stock};

fn run(program: &str, args: &[&str]) -> common::Outcome {
    outcome(Command::new(program).args(args))
}

/// Streams, exit status and first line of what no program would accept.
#[test]
fn usage_errors_are_told_like_the_original_tells_them() {
    let Some(stock) = stock() else { return };
    for args in [
        &["--bogus"][..],
        &["-Z"],
        &["-c"],
        &["--vers"],
        &["-f"],
        &["--mode"],
        &["-nf"],
        &["-m", "x"],
        &["-m", "x", "stop"],
        &["stop", "reload"],
        &["stop", "-m", "fast"],
        &["frob"],
        &["-n", "frob", "stop"],
    ] {
        let [theirs, ours] = [stock, ours()].map(|program| {
            let got = run(program, args);
            assert!(
                got.stderr.contains("\nUsage:\n"),
                "{args:?}: {}",
                got.stderr
            );
            let first = got.stderr.lines().next().unwrap_or_default().to_owned();
            let first = first.replace(program, "pgpool");
            let first = match first.split_once(" version ") {
                Some((name, _)) => name.to_owned(),
                None => first,
            };
            (got.status, first)
        });
        assert_eq!(ours, theirs, "{args:?}");
    }
}

#[test]
fn help_and_version_go_to_stderr_with_status_zero() {
    for args in [&["-h"][..], &["--help"], &["-n", "--help"]] {
        let got = run(ours(), args);
        assert_eq!(got.status, 0);
        assert!(got.stderr.contains("--discard-status"), "{}", got.stderr);
        assert!(got.stderr.contains("--check"), "{}", got.stderr);
    }
    for args in [&["-v"][..], &["--version"], &["-v", "stop"]] {
        let got = run(ours(), args);
        assert_eq!(got.status, 0);
        let words: Vec<&str> = got.stderr.split_whitespace().collect();
        assert_eq!(words[..2], ["pgpool-II", "version"]);
        assert!(
            words[2].starts_with("4.") || words[2].starts_with("3."),
            "{words:?}"
        );
        assert_eq!(got.stderr.lines().count(), 1);
    }
}

#[test]
fn the_version_needs_no_configuration() {
    let got = run(ours(), &["--version", "-f", "/no/such/pgpool.conf"]);
    assert_eq!(got.status, 0);
    assert!(
        got.stderr.starts_with("pgpool-II version "),
        "{}",
        got.stderr
    );
}

#[test]
fn every_option_of_the_original_is_in_our_help() {
    let Some(stock) = stock() else { return };
    let options = |text: &str| -> Vec<String> {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .filter(|word| word.starts_with("--"))
            .map(str::to_owned)
            .collect()
    };
    let ours = run(ours(), &["--help"]).stderr;
    for option in options(&run(stock, &["--help"]).stderr) {
        assert!(options(&ours).contains(&option), "{option}");
    }
}

/// `stop` and `reload` against every kind of pid file without a pgpool behind it.
#[test]
fn stop_and_reload_fail_like_the_original_without_a_running_pgpool() {
    let Some(stock) = stock() else { return };
    let scratch = Scratch::new("");
    for content in [None, Some(""), Some("4194304"), Some("4194304\n")] {
        match content {
            None => drop(fs::remove_file(scratch.path("pgpool.pid"))),
            Some(text) => fs::write(scratch.path("pgpool.pid"), text).unwrap(),
        }
        for word in ["stop", "reload"] {
            let [theirs, ours] = [stock, ours()].map(|program| {
                let got = scratch.run(program, &[word]);
                let mut messages = got.messages();
                // "DETAIL:  Success" and our hint in its place.
                if content == Some("") {
                    messages.truncate(1);
                }
                (got.status, messages)
            });
            assert_eq!(ours, theirs, "{content:?} {word}");
        }
    }
}

/// The original would send the signal to its own process group.
#[test]
fn a_pid_file_without_a_number_stops_nobody() {
    let scratch = Scratch::new("");
    for content in ["0", "abc", "-1"] {
        fs::write(scratch.path("pgpool.pid"), content).unwrap();
        let got = scratch.run(ours(), &["stop"]);
        assert_eq!(
            (got.status, got.messages()),
            (3, vec!["FATAL:  could not read pid file".to_owned()]),
            "{content:?}"
        );
        assert_eq!(scratch.run(ours(), &["reload"]).status, 1, "{content:?}");
    }
}

#[test]
fn a_broken_configuration_breaks_the_sub_commands_too() {
    let scratch = Scratch::new("");
    scratch.append("this is ' no line");
    for args in [&["stop"][..], &["reload"], &["-n"]] {
        assert_eq!(scratch.run(ours(), args).status, 3, "{args:?}");
    }
}
