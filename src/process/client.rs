//! The other side of the pid file: `pgpool stop` and `pgpool reload`.
//!
//! Texts and exit statuses measured on 4.3.5; `src/main/main.c @ V4_3_5`.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use super::{fatal::Fatal, pid_file::PidFile, shutdown::signal_of};
use crate::{
    control::StopMode,
    observe::Reporter,
    sys::{
        errors,
        process::{self, Pid},
    },
};

const DOT_EVERY: Duration = Duration::from_secs(1);
const RESEND_EVERY: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Sends the signal of `mode` and waits for the end of the process, however long that takes.
pub fn stop(file: &PidFile, mode: StopMode, reporter: &Reporter) -> Result<(), Fatal> {
    let pid = pid_of(file)?;
    let signal = signal_of(mode);
    process::kill(pid, signal).map_err(|error| {
        Fatal::new(format!("could not stop process with pid: {pid}"))
            .detail(errors::message(&error))
    })?;
    reporter.log(format_args!(
        "stop request sent to pgpool (pid: {pid}). waiting for termination..."
    ));
    wait_for_end(pid, signal);
    say("done.\n");
    // A pgpool that was killed leaves its file.
    file.remove_of(pid);
    Ok(())
}

/// Sends SIGHUP and returns at once. Its failures have exit status 1, unlike those of `stop`.
pub fn reload(file: &PidFile) -> Result<(), Fatal> {
    let pid = match pid_of(file) {
        Err(fatal) if fatal.message == NO_PID => return Err(fatal.exit_code(1)),
        other => other?,
    };
    process::kill(pid, libc::SIGHUP).map_err(|error| {
        Fatal::new(format!("could not reload configuration file pid: {pid}"))
            .detail(errors::message(&error))
            .exit_code(1)
    })
}

const NO_PID: &str = "could not read pid file";

fn pid_of(file: &PidFile) -> Result<Pid, Fatal> {
    file.read()?.ok_or_else(|| Fatal::new(NO_PID))
}

/// Prints a dot each second and repeats the signal each five. A process that takes notice of the
/// end of its parent late would make `kill` succeed on a zombie; that one is gone all the same.
fn wait_for_end(pid: Pid, signal: i32) {
    let mut next_dot = Instant::now();
    let mut next_signal = Instant::now() + RESEND_EVERY;
    while process::is_alive(pid) && !is_zombie(pid) {
        let now = Instant::now();
        if now >= next_dot {
            say(".");
            next_dot += DOT_EVERY;
        }
        if now >= next_signal {
            // Gone meanwhile: the next look will tell.
            let _ = process::kill(pid, signal);
            next_signal += RESEND_EVERY;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The process has ended, but nobody has asked for its exit status (a container without an init).
fn is_zombie(pid: Pid) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The state follows the name, which stands in parentheses and may hold any character.
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

fn say(text: &str) {
    // Whoever closed stderr does not want to know.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
