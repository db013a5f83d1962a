//! The life of the guard's process.

use std::{
    fs::OpenOptions,
    io::{self, ErrorKind, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    thread::sleep,
    time::{Duration, Instant},
};

use super::{Log, Reason, Task, Watch, removal};
use crate::{
    config::settings::Verbosity,
    observe::{Reporter, Severity},
    process::log_sink::{LogConfig, LogSink},
    sys::{errors, memory, process},
    watchdog::{clock, shell::has_address},
};

/// As the kernel has it, of which `killall` and `top` know: 15 bytes at most.
const SHORT_NAME: &std::ffi::CStr = c"address-guard";
/// The longest task that is read.
const LONGEST: usize = 64 * 1024;
/// Between two looks at which file pgpool logs to.
const LOG_FILE: Duration = Duration::from_secs(60);

/// The whole process: until pgpool has ended, and the address with it.
pub fn run(sink: &LogSink) -> u8 {
    process::close_inherited();
    process::set_name(SHORT_NAME);
    // Whoever stops pgpool by a signal to all of its processes, as systemd does also after a crash, stops this one
    // by the end of pgpool. That if_down_cmd does not end by it either is wanted.
    process::ignore_signals(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT]);
    // So that no signal of a terminal, and none for pgpool's group, comes here.
    let _ = process::setsid();
    let begun = line_to_pgpool().and_then(|mut line| Ok((read_task(&mut line)?, line)));
    let (task, line) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            Reporter::new("watchdog_utility").emit(
                Severity::Warning,
                "the guard of the virtual IP has got no task, and ends",
                &errors::message(&error),
                "",
            );
            return 1;
        }
    };
    sink.adopt(log_config(&task.log));
    let mut guard = Guard {
        watch: Watch::new(task.silence, clock::now()),
        task,
        line,
        parent: process::parent(),
        log_file: None,
        told: None,
        reporter: Reporter::new("watchdog_utility"),
    };
    memory::release_start_code();
    guard.serve();
    0
}

fn line_to_pgpool() -> io::Result<UnixStream> {
    let line: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(UnixStream::from(line))
}

/// Byte by byte: what follows is not of the task.
fn read_task(line: &mut impl Read) -> io::Result<Task> {
    let mut text = Vec::new();
    let mut byte = [0];
    while line.read(&mut byte)? == 1 && byte != *b"\n" && text.len() < LONGEST {
        text.push(byte[0]);
    }
    Ok(serde_json::from_slice(&text)?)
}

fn log_config(log: &Log) -> LogConfig {
    LogConfig {
        line_prefix: log.line_prefix.clone(),
        min_messages: Severity::Warning,
        verbosity: Verbosity::Default,
        to_stderr: log.to_stderr,
        to_syslog: log.to_syslog,
        syslog_facility: log.syslog_facility.clone(),
        syslog_ident: log.syslog_ident.clone(),
        collector: None,
    }
}

struct Guard {
    watch: Watch,
    task: Task,
    line: UnixStream,
    parent: process::Pid,
    /// When it was looked up which file pgpool logs to.
    log_file: Option<Instant>,
    /// Why the address was given up, as was logged; until pgpool is heard again.
    told: Option<Reason>,
    reporter: Reporter,
}

impl Guard {
    fn serve(&mut self) {
        let mut attempts = 0;
        loop {
            self.follow_log_file(LOG_FILE);
            if !self.watch.ended {
                self.listen();
            }
            let now = clock::now();
            match self.watch.reason(now) {
                None if self.watch.ended => return,
                None => self.told = None,
                Some(reason) => {
                    let gone = self.give_up(reason);
                    if reason == Reason::End {
                        attempts += 1;
                        if gone || attempts >= removal::ATTEMPTS {
                            return;
                        }
                        sleep(Duration::from_secs(1));
                    }
                }
            }
        }
    }

    /// Hears what has come, or waits until something has to be looked at.
    fn listen(&mut self) {
        let mut bytes = [0; 1024];
        let pause = self.watch.pause(clock::now());
        // Only an end of no time at all is refused.
        let _ = self.line.set_read_timeout(Some(pause));
        match self.line.read(&mut bytes) {
            Ok(count) => self
                .watch
                .hear(bytes.get(..count).unwrap_or_default(), clock::now()),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            // Nothing will come from there any more.
            Err(_) => self.watch.hear(&[], clock::now()),
        }
    }

    /// One attempt; `true`: the address is not here.
    fn give_up(&mut self, reason: Reason) -> bool {
        if has_address(&self.task.ip) == Some(false) {
            return true;
        }
        self.follow_log_file(Duration::ZERO);
        if self.told != Some(reason) {
            let why = match reason {
                Reason::Silence => format!(
                    "the process {} of pgpool does not run on (suspended, or without CPU or disk) for {} s",
                    self.parent,
                    self.watch.silence.as_secs()
                ),
                Reason::End => format!("the process {} of pgpool has ended", self.parent),
            };
            self.reporter.emit(
                Severity::Warning,
                format_args!(
                    "the virtual IP {} is on this host, and {why}: giving it up",
                    self.task.ip
                ),
                "other watchdog nodes take the address over",
                "",
            );
        }
        let how = removal::run(&self.task.program, &self.task.arguments);
        let gone = has_address(&self.task.ip) == Some(false);
        if gone {
            self.reporter.emit(
                Severity::Warning,
                format_args!("successfully released the delegate IP:\"{}\"", self.task.ip),
                "by the guard of the virtual IP",
                "",
            );
        } else if self.told != Some(reason) {
            self.reporter.emit(
                Severity::Warning,
                format_args!(
                    "the virtual IP {} is still on this host after if_down_cmd",
                    self.task.ip
                ),
                &format!("{how}; command: {}", self.task.arguments.join(" ")),
                "another node may hold it, too: remove it by hand (ip addr del) and correct if_down_cmd",
            );
        }
        self.told = Some(reason);
        gone
    }

    /// With a log collector pgpool's standard error is a file, and another one after each rotation.
    fn follow_log_file(&mut self, every: Duration) {
        let now = clock::now();
        let recent = |at: Instant| now.saturating_duration_since(at) < every;
        if !self.task.log.collector || self.log_file.is_some_and(recent) {
            return;
        }
        self.log_file = Some(now);
        let path = format!("/proc/{}/fd/2", self.parent);
        let opened = OpenOptions::new().append(true).open(path);
        // Otherwise the last one that is known has to do.
        if let Ok(file) = opened
            && file.metadata().is_ok_and(|data| data.is_file())
        {
            let _ = process::redirect(file.as_fd(), process::Standard::Output);
            let _ = process::redirect(file.as_fd(), process::Standard::Error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(program: &str, arguments: &[&str]) -> Task {
        Task {
            ip: "192.0.2.99".to_owned(),
            program: program.to_owned(),
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
            silence: Duration::from_secs(5),
            log: Log {
                line_prefix: "%t: ".to_owned(),
                to_stderr: true,
                to_syslog: false,
                syslog_facility: "LOCAL0".to_owned(),
                syslog_ident: "pgpool".to_owned(),
                collector: false,
            },
        }
    }

    fn guard(task: Task) -> (Guard, UnixStream) {
        let (line, other) = UnixStream::pair().unwrap();
        let guard = Guard {
            watch: Watch::new(task.silence, clock::now()),
            task,
            line,
            parent: 1,
            log_file: None,
            told: None,
            reporter: Reporter::new("watchdog_utility"),
        };
        (guard, other)
    }

    #[test]
    fn a_task_ends_with_its_line() {
        let task = task("/sbin/ip", &["ip", "addr", "del"]);
        let text = serde_json::to_string(&task).unwrap() + "\n+-";
        let mut bytes = text.as_bytes();
        assert_eq!(read_task(&mut bytes).unwrap(), task);
        assert_eq!(bytes, b"+-");
        assert!(read_task(&mut &b"{\n"[..]).is_err());
    }

    #[test]
    fn it_ends_with_pgpool_and_at_once() {
        let (mut guard, other) = guard(task("/nonexistent", &["x"]));
        std::thread::scope(|scope| {
            let served = scope.spawn(|| guard.serve());
            use std::io::Write as _;
            (&other).write_all(b"+").unwrap();
            sleep(Duration::from_millis(50));
            assert!(!served.is_finished());
            drop(other);
            served.join().unwrap();
        });
        assert!(guard.watch.ended && guard.watch.may_be_here);
        // The address was never there.
        assert_eq!(guard.told, None);
    }

    /// Attempts while pgpool was silent do not count for its end.
    #[test]
    fn after_the_end_of_pgpool_it_tries_three_times() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let line = format!("echo x >> {}", out.display());
        let mut task = task("/bin/sh", &["sh", "-c", &line]);
        task.ip = "127.0.0.1".to_owned();
        let (mut guard, other) = guard(task);
        guard.watch.may_be_here = true;
        drop(other);
        guard.serve();
        assert_eq!(std::fs::read_to_string(out).unwrap(), "x\nx\nx\n");
        assert_eq!(guard.told, Some(Reason::End));
    }
}
