//! pgpool's end of the line to the guard of the virtual IP ([`crate::watchdog::guard`]): its start, and what
//! it hears.

use std::{
    io::{self, ErrorKind, Write},
    net::IpAddr,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    config,
    observe::{Reporter, Severity},
    sys::errors,
    watchdog::{
        guard::{HERE, Log, NAME, NOT_HERE, Task},
        settings::Settings,
        vip,
    },
};

/// This program, also when its file was replaced since.
const PROGRAM: &str = "/proc/self/exe";
/// A guard that was killed is started again, at most so often.
const AGAIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Guarding {
    task: Task,
    line: Option<(Child, UnixStream)>,
    /// What it was told last.
    here: bool,
    /// The next start, not before.
    next: Option<Instant>,
    /// It was said that none can be started.
    complained: bool,
    reporter: Reporter,
}

impl Guarding {
    /// `None`: there is no address that could be seen, or no command that removes it.
    pub fn new(
        settings: &Settings,
        pgpool: &config::Settings,
        reporter: Reporter,
    ) -> Option<Guarding> {
        settings.delegate_ip.parse::<IpAddr>().ok()?;
        let down = vip::Command::down(&settings.escalation, &settings.delegate_ip)?;
        let vip::Command::Direct { program, arguments } = down else {
            return None;
        };
        let task = Task {
            ip: settings.delegate_ip.clone(),
            program,
            arguments,
            silence: settings.lifecheck.silence(),
            log: Log {
                line_prefix: pgpool.log_line_prefix.clone(),
                to_stderr: pgpool.log_to_stderr,
                to_syslog: pgpool.log_to_syslog,
                syslog_facility: pgpool.syslog_facility.clone(),
                syslog_ident: pgpool.syslog_ident.clone(),
                collector: pgpool.logging_collector,
            },
        };
        Some(Guarding {
            task,
            line: None,
            here: false,
            next: None,
            complained: false,
            reporter,
        })
    }

    /// Tells what has changed.
    pub fn note(&mut self, here: bool, now: Instant) {
        if self.here != here {
            self.tell(here, now);
        }
    }

    /// At least once a second. `here`: by what was done, the address may be here.
    pub fn tell(&mut self, here: bool, now: Instant) {
        self.here = here;
        if let Some((_, line)) = &mut self.line {
            let byte = if here { HERE } else { NOT_HERE };
            match line.write(&[byte]) {
                Ok(_) => {}
                // A guard that is suspended itself.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.has_ended(now),
            }
        }
        if self.line.is_none() && self.next.is_none_or(|at| at <= now) {
            self.next = Some(now + AGAIN);
            match self.start() {
                Ok(line) => {
                    self.line = Some(line);
                    self.complained = false;
                    self.tell(here, now);
                }
                Err(error) if !std::mem::replace(&mut self.complained, true) => {
                    self.reporter.emit(
                        Severity::Warning,
                        "the guard of the virtual IP cannot be started; it is tried again every ten seconds",
                        &errors::message(&error),
                        "until then nobody removes the address when pgpool is killed or suspended",
                    );
                }
                Err(_) => {}
            }
        }
    }

    fn start(&self) -> io::Result<(Child, UnixStream)> {
        let mut task = serde_json::to_vec(&self.task)?;
        task.push(b'\n');
        let (mut own, its) = UnixStream::pair()?;
        let child = Command::new(PROGRAM)
            .arg0(NAME)
            .arg(&self.task.ip)
            .stdin(Stdio::from(OwnedFd::from(its)))
            .spawn()?;
        // A few hundred bytes, which the kernel takes whether they are read or not.
        own.set_nonblocking(true)?;
        own.write_all(&task)?;
        Ok((child, own))
    }

    fn has_ended(&mut self, now: Instant) {
        let Some((mut child, _)) = self.line.take() else {
            return;
        };
        self.next = Some(self.next.map_or(now, |at| at.max(now)));
        let how = match child.try_wait() {
            Ok(Some(status)) => status.to_string(),
            Ok(None) => "it does not listen any more".to_owned(),
            Err(error) => errors::message(&error),
        };
        self.reporter.emit(
            Severity::Warning,
            "the guard of the virtual IP has ended; it is started again",
            &how,
            &format!(
                "its process is called \"{NAME}\", and ends with pgpool: there is no need to end it"
            ),
        );
    }
}
