//! `if_down_cmd`, run by processes without a runtime: the guard, and a start that has failed.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Command, ExitStatus, Stdio},
    thread::sleep,
    time::Duration,
};

use crate::{
    sys::{errors, process},
    watchdog::clock,
};

/// While nobody runs who tries on. The next start may want the address.
pub const ATTEMPTS: u32 = 3;
/// How long the command may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Once. Its status is for the log: what counts is whether the address is still here.
pub fn run(program: &str, arguments: &[String]) -> String {
    match ended(program, arguments) {
        Ok(Some(status)) => status.to_string(),
        Ok(None) => format!("not ended after {} s", LIMIT.as_secs()),
        Err(error) => errors::message(&error),
    }
}

/// `None`: it was killed, since it has not ended.
fn ended(program: &str, arguments: &[String]) -> io::Result<Option<ExitStatus>> {
    let mut command = Command::new(program);
    if let Some((name, rest)) = arguments.split_first() {
        command.arg0(name).args(rest);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0);
    let mut child = command.spawn()?;
    let end = clock::now() + LIMIT;
    while clock::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        sleep(Duration::from_millis(20));
    }
    if let Ok(leader) = process::Pid::try_from(child.id()) {
        // What sudo runs cannot be killed, and is not waited for.
        let _ = process::kill_group(leader, libc::SIGKILL);
    }
    sleep(Duration::from_millis(100));
    let _ = child.try_wait();
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_that_of_pgpool_and_has_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let line = format!("echo \"$0 $1\" > {}", out.display());
        let words = |words: &[&str]| -> Vec<String> {
            words.iter().map(|word| (*word).to_owned()).collect()
        };
        let shell = words(&["myname", "-c", &line, "a", "$HOME;b"]);
        assert!(ended("/bin/sh", &shell).unwrap().unwrap().success());
        assert_eq!(std::fs::read_to_string(out).unwrap(), "a $HOME;b\n");
        let hanging = words(&["sleep", "60"]);
        assert!(ended("/bin/sleep", &hanging).unwrap().is_none());
    }
}
