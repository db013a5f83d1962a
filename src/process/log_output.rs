//! Where log entries end up: stderr, syslog, the collector's file. Blocks as long as they do.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use super::{
    collector::{Collector, Reason},
    log_entry::{Entry, LineNumbers},
    log_sink::LogConfig,
    prefix::Prefix,
    syslog::Syslog,
};
use crate::observe::Severity;

/// Written at once when this much has come together.
const BATCH: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Outputs {
    config: LogConfig,
    prefix: Prefix,
    numbers: LineNumbers,
    syslog: Option<Syslog>,
    collector: Option<Collector>,
    /// Until the caller has been let go, a FATAL is told on stderr whatever the destination.
    starting: bool,
    /// Lines for the file or stderr.
    pending: String,
}

impl Outputs {
    pub fn new(config: LogConfig) -> Outputs {
        Outputs {
            prefix: Prefix::parse(&config.line_prefix),
            config,
            numbers: LineNumbers::default(),
            syslog: None,
            collector: None,
            starting: true,
            pending: String::new(),
        }
    }

    #[cfg(test)]
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// An error leaves everything but the collector configured.
    pub fn configure(&mut self, config: LogConfig, now: SystemTime) -> Result<(), String> {
        self.flush(now);
        self.prefix = Prefix::parse(&config.line_prefix);
        if config.to_syslog {
            let (ident, facility) = (&config.syslog_ident, &config.syslog_facility);
            match &mut self.syslog {
                Some(syslog) => syslog.reopen(ident, facility),
                None => self.syslog = Some(Syslog::open(ident, facility)),
            }
        } else {
            self.syslog = None;
        }
        let result = match (&mut self.collector, &config.collector) {
            (Some(collector), Some(new)) => collector.reconfigure(new.clone(), now),
            (None, Some(new)) if self.starting => {
                Collector::open(new.clone(), now).map(|collector| self.collector = Some(collector))
            }
            // logging_collector itself needs a restart.
            _ => Ok(()),
        };
        self.config = config;
        result
    }

    pub fn add(&mut self, entry: &Entry) {
        let start = self.pending.len();
        entry.render(
            &self.prefix,
            self.config.verbosity,
            &mut self.numbers,
            &mut self.pending,
        );
        let lines = self.pending.get(start..).unwrap_or_default();
        if let Some(syslog) = &mut self.syslog {
            syslog.write(entry.severity, lines);
        }
        let on_stderr = self.config.to_stderr && self.collector.is_none();
        if self.starting && !on_stderr && entry.severity >= Severity::Fatal {
            print(lines.as_bytes());
        }
        if !self.config.to_stderr {
            self.pending.truncate(start);
        } else if self.pending.len() >= BATCH {
            self.write_pending();
        }
    }

    /// Writes what is pending, and rotates if it is time.
    pub fn flush(&mut self, now: SystemTime) {
        self.write_pending();
        if let Some(Err(error)) = self.collector.as_mut().map(|c| c.rotate_if_due(now)) {
            self.complain(error);
        }
    }

    pub fn rotate(&mut self, now: SystemTime) {
        self.write_pending();
        let rotated = self
            .collector
            .as_mut()
            .map(|c| c.rotate(Reason::Request, now));
        if let Some(Err(error)) = rotated {
            self.complain(error);
        }
    }

    pub fn next_rotation(&self) -> Option<SystemTime> {
        self.collector.as_ref().and_then(Collector::next_rotation)
    }

    pub fn has_collector(&self) -> bool {
        self.collector.is_some()
    }

    /// The end of the start: nobody looks at our stderr any more.
    pub fn take_output(&mut self) -> io::Result<()> {
        if let Some(collector) = &mut self.collector {
            let mut entry = Entry::own(
                Severity::Log,
                "redirecting log output to logging collector process".into(),
            );
            entry.hint = format!(
                "Future log output will appear in directory \"{}\".",
                collector.config().directory.display()
            );
            let mut text = String::new();
            entry.render(
                &self.prefix,
                self.config.verbosity,
                &mut self.numbers,
                &mut text,
            );
            print(text.as_bytes());
            collector.take_output()?;
        }
        self.starting = false;
        Ok(())
    }

    fn write_pending(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        match &mut self.collector {
            None => print(self.pending.as_bytes()),
            Some(collector) => {
                if let Err(error) = collector.write(self.pending.as_bytes()) {
                    // stderr may be the same file; there is nobody else to tell.
                    let reason = crate::sys::errors::message(&error);
                    print(format!("could not write to log file: {reason}\n").as_bytes());
                }
            }
        }
        self.pending.clear();
        // One huge statement must not keep its memory for ever.
        self.pending.shrink_to(BATCH);
    }

    fn complain(&mut self, error: String) {
        self.add(&Entry::own(Severity::Log, error));
        self.write_pending();
    }
}

/// Whoever closed stderr does not want to know.
fn print(text: &[u8]) {
    let _ = io::stderr().write_all(text);
}
