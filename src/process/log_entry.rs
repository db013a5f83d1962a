//! One log entry: taken from a record of the `log` facade, rendered in the form of the original.

use std::{borrow::Cow, collections::HashMap, fmt::Write, panic::Location, time::SystemTime};

use log::kv::{Key, Value, VisitSource};

use super::prefix::{Prefix, Speaker};
use crate::{config::settings::Verbosity, observe::Severity};

/// Owned, so that it can wait for the writer thread.
#[derive(Clone, Debug)]
pub struct Entry {
    pub time: SystemTime,
    pub severity: Severity,
    pub speaker: Speaker,
    pub message: String,
    /// Empty: no such line; likewise the next two.
    pub detail: String,
    pub hint: String,
    pub context: String,
    /// Of the session that speaks, if it has one.
    pub verbosity: Option<Verbosity>,
    /// Source file and line, for `log_error_verbosity = verbose`.
    pub location: Option<(&'static str, u32)>,
}

impl Entry {
    /// Of a record with or without the key-values of [`crate::observe::Reporter`].
    pub fn of(record: &log::Record<'_>, severity: Severity) -> Entry {
        let mut fields = Fields::default();
        // The visitor never fails.
        let _ = record.key_values().visit(&mut fields);
        let message = if fields.reported {
            record.args().to_string()
        } else {
            foreign_message(record)
        };
        Entry {
            time: SystemTime::now(),
            severity,
            speaker: fields.speaker,
            message,
            detail: fields.detail,
            hint: fields.hint,
            context: fields.context,
            verbosity: fields.verbosity,
            location: record.file_static().zip(record.line()),
        }
    }

    /// An entry of the sink itself.
    #[track_caller]
    pub fn own(severity: Severity, message: String) -> Entry {
        Entry {
            time: SystemTime::now(),
            severity,
            speaker: Speaker::default(),
            message,
            detail: String::new(),
            hint: String::new(),
            context: String::new(),
            verbosity: None,
            location: Some((Location::caller().file(), Location::caller().line())),
        }
    }

    /// Rough size in memory, for the bound of the queue.
    pub fn size(&self) -> usize {
        size_of::<Entry>()
            + self.message.len()
            + self.detail.len()
            + self.hint.len()
            + self.context.len()
    }

    /// Appends the lines, each with the prefix: message, and what the verbosity adds to it.
    pub fn render(
        &self,
        prefix: &Prefix,
        verbosity: Verbosity,
        numbers: &mut LineNumbers,
        out: &mut String,
    ) {
        let verbosity = self.verbosity.unwrap_or(verbosity);
        let mut line = |label: &str, text: &str, out: &mut String| {
            let number = if prefix.numbers_lines() {
                numbers.next(self.speaker.pid)
            } else {
                0
            };
            prefix.render(&self.speaker, self.time, number, out);
            let _ = write!(out, "{label}:  ");
            push_with_tabs(out, text);
            out.push('\n');
        };
        line(self.severity.label(), &self.message, out);
        if verbosity == Verbosity::Terse {
            return;
        }
        for (label, text) in [
            ("DETAIL", &self.detail),
            ("HINT", &self.hint),
            ("CONTEXT", &self.context),
        ] {
            if !text.is_empty() {
                line(label, text, out);
            }
        }
        if verbosity == Verbosity::Verbose
            && let Some((file, number)) = self.location
        {
            let place = format!("{}:{number}", below_src(file));
            line("LOCATION", &place, out);
        }
    }
}

/// A source file as the original names its own: without the folders of the machine that built it.
fn below_src(file: &str) -> &str {
    match file.rfind("src/") {
        Some(at) => file.get(at + 4..).unwrap_or(file),
        None => file,
    }
}

/// `log_min_messages` of the session that speaks, if it has one.
pub fn own_min_messages(record: &log::Record<'_>) -> Option<Severity> {
    severity_field(record, "min_messages")
}

fn severity_field(record: &log::Record<'_>, name: &str) -> Option<Severity> {
    record
        .key_values()
        .get(Key::from_str(name))
        .and_then(|value| value.to_u64())
        .and_then(severity_from)
}

/// The severity of a record, read before anything is copied.
pub fn severity_of(record: &log::Record<'_>) -> Severity {
    severity_field(record, "severity").unwrap_or(match record.level() {
        log::Level::Error => Severity::Error,
        log::Level::Warn => Severity::Warning,
        log::Level::Info => Severity::Info,
        log::Level::Debug => Severity::Debug1,
        log::Level::Trace => Severity::Debug5,
    })
}

const SEVERITIES: [Severity; 13] = [
    Severity::Debug5,
    Severity::Debug4,
    Severity::Debug3,
    Severity::Debug2,
    Severity::Debug1,
    Severity::Info,
    Severity::Notice,
    Severity::Warning,
    Severity::Error,
    Severity::Log,
    Severity::FrontendError,
    Severity::Fatal,
    Severity::Panic,
];

/// The inverse of `severity as u64`.
pub fn severity_from(number: u64) -> Option<Severity> {
    SEVERITIES
        .into_iter()
        .find(|&severity| severity as u64 == number)
}

/// `%l`: lines per process, as each process of the original counts its own.
#[derive(Debug, Default)]
pub struct LineNumbers(HashMap<u32, u64>);

impl LineNumbers {
    fn next(&mut self, pid: u32) -> u64 {
        let number = self.0.entry(pid).or_insert(0);
        *number += 1;
        *number
    }
}

/// A message of another crate says where it comes from; one of ours needs no such word.
fn foreign_message(record: &log::Record<'_>) -> String {
    let target = record.target();
    if target == "pgpool" || target.starts_with("pgpool_rs") {
        record.args().to_string()
    } else {
        format!("{target}: {}", record.args())
    }
}

/// A newline within a text is followed by a tab, so that readers can tell where an entry begins.
fn push_with_tabs(out: &mut String, text: &str) {
    let mut parts = text.split('\n');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        out.push_str("\n\t");
        out.push_str(part);
    }
}

/// Collects the key-values of a Reporter.
#[derive(Default)]
struct Fields {
    reported: bool,
    speaker: Speaker,
    detail: String,
    hint: String,
    context: String,
    verbosity: Option<Verbosity>,
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        let text = || match value.to_borrowed_str() {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(value.to_string()),
        };
        match key.as_str() {
            "severity" => self.reported = true,
            "application" => self.speaker.application = text().into_owned(),
            "pid" => {
                if let Some(pid) = value.to_u64().and_then(|pid| u32::try_from(pid).ok()) {
                    self.speaker.pid = pid;
                }
            }
            "user" => self.speaker.user = text().into_owned(),
            "database" => self.speaker.database = text().into_owned(),
            "host" => self.speaker.host = text().into_owned(),
            "detail" => self.detail = text().into_owned(),
            "hint" => self.hint = text().into_owned(),
            "context" => self.context = text().into_owned(),
            "verbosity" => {
                self.verbosity = [Verbosity::Terse, Verbosity::Default, Verbosity::Verbose]
                    .into_iter()
                    .find(|v| value.to_u64() == Some(*v as u64));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(entry: &Entry, verbosity: Verbosity) -> String {
        let mut out = String::new();
        entry.render(
            &Prefix::parse("%a %l: "),
            verbosity,
            &mut LineNumbers::default(),
            &mut out,
        );
        out
    }

    #[test]
    fn detail_hint_and_context_are_lines_of_their_own() {
        let mut entry = Entry::own(Severity::Fatal, "could not".into());
        entry.detail = "because".into();
        entry.hint = "then".into();
        entry.context = "while".into();
        assert_eq!(
            rendered(&entry, Verbosity::Default),
            "main 1: FATAL:  could not\nmain 2: DETAIL:  because\nmain 3: HINT:  then\n\
             main 4: CONTEXT:  while\n"
        );
        assert_eq!(
            rendered(&entry, Verbosity::Terse),
            "main 1: FATAL:  could not\n"
        );
    }

    #[test]
    fn verbose_entries_end_with_our_own_file_and_line() {
        let mut entry = Entry::own(Severity::Log, "x".into());
        entry.hint = "then".into();
        assert_eq!(
            rendered(&entry, Verbosity::Verbose),
            format!(
                "main 1: LOG:  x\nmain 2: HINT:  then\nmain 3: LOCATION:  process/log_entry.rs:{}\n",
                line!() - 6
            )
        );
        assert_eq!(below_src("/home/x/src/crate-1.0/src/a/b.rs"), "a/b.rs");
        assert_eq!(below_src("build.rs"), "build.rs");
    }

    #[test]
    fn a_newline_in_a_statement_is_followed_by_a_tab() {
        let entry = Entry::own(Severity::Log, "statement: select\n 1".into());
        assert_eq!(
            rendered(&entry, Verbosity::Default),
            "main 1: LOG:  statement: select\n\t 1\n"
        );
    }

    #[test]
    fn all_debug_levels_are_printed_alike() {
        let entry = Entry::own(Severity::Debug5, "x".into());
        assert_eq!(rendered(&entry, Verbosity::Default), "main 1: DEBUG:  x\n");
    }

    #[test]
    fn severities_survive_the_way_through_the_facade() {
        for severity in SEVERITIES {
            assert_eq!(severity_from(severity as u64), Some(severity));
        }
        assert_eq!(severity_from(99), None);
    }

    #[test]
    fn a_message_of_another_crate_names_it() {
        let record = log::Record::builder()
            .level(log::Level::Warn)
            .target("tokio_postgres::connection")
            .args(format_args!("odd"))
            .build();
        let entry = Entry::of(&record, severity_of(&record));
        assert_eq!(entry.severity, Severity::Warning);
        assert_eq!(entry.message, "tokio_postgres::connection: odd");
        assert_eq!(entry.speaker.pid, std::process::id());
    }
}
