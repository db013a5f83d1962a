//! The process that removes the virtual IP when pgpool cannot, as its service manager sees it.

mod common;

use std::{
    fs,
    io::Write,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Command, Stdio},
    time::Duration,
};

use common::{ours, signal, until};
use pgpool_rs::watchdog::guard::{HERE, Log, NAME, Task};

/// systemd sends the signal of a stop to all that is left of a unit whose main process has crashed.
#[test]
fn signals_of_a_stop_do_nothing_to_the_guard_and_to_its_command() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let line = format!(
        "for s in TERM INT HUP QUIT; do kill -$s $$; done; echo done >> {}",
        out.display()
    );
    let task = Task {
        // One that the command does not remove: it is tried three times.
        ip: "127.0.0.1".to_owned(),
        program: "/bin/sh".to_owned(),
        arguments: ["sh", "-c", &line].map(str::to_owned).to_vec(),
        silence: Duration::from_secs(60),
        log: Log {
            line_prefix: "%t: ".to_owned(),
            to_stderr: true,
            to_syslog: false,
            syslog_facility: "LOCAL0".to_owned(),
            syslog_ident: "pgpool".to_owned(),
            collector: false,
        },
    };
    let (mut pgpool, its) = UnixStream::pair().unwrap();
    let mut guard = Command::new(ours())
        .arg0(NAME)
        .stdin(Stdio::from(OwnedFd::from(its)))
        .spawn()
        .unwrap();
    let pid = i32::try_from(guard.id()).unwrap();
    let text = serde_json::to_string(&task).unwrap();
    pgpool.write_all(text.as_bytes()).unwrap();
    pgpool.write_all(&[b'\n', HERE]).unwrap();
    // It has begun when it is called so.
    until("the guard", || {
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.trim_end() == "address-guard")
    });
    until("it to be past signals", || {
        common::is_past(pid, &[1, 2, 3, 15])
    });
    for name in ["TERM", "INT", "HUP", "QUIT"] {
        signal(pid, name);
    }
    assert!(guard.try_wait().unwrap().is_none());
    assert!(!out.exists(), "pgpool has not ended");
    drop(pgpool);
    assert!(guard.wait().unwrap().success());
    assert_eq!(fs::read_to_string(out).unwrap(), "done\ndone\ndone\n");
}
