//! Programs that the cores want to be run: commands of the virtual IP, pings of trusted servers.

use std::{io, process::Stdio, rc::Rc, time::Duration};

use tokio::{process::Command as Program, task::JoinSet, time::timeout};

use crate::{
    observe::{Reporter, Severity},
    sys::{errors, process},
    watchdog::{
        settings::{LifecheckSettings, Settings},
        vip::Command,
    },
};

/// Three pings, a second apart, and time for the last one's answer.
const PING_LIMIT: Duration = Duration::from_secs(30);

/// A program that runs; see [`Running::kill`].
#[derive(Clone, Debug, Default)]
pub struct Running(Rc<std::cell::Cell<Option<process::Pid>>>);

impl Running {
    /// With all that it has started in its process group.
    pub fn kill(&self, reporter: &Reporter) {
        let Some(leader) = self.0.take() else {
            return;
        };
        match process::kill_group(leader, libc::SIGKILL) {
            // It may end at this very moment.
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => reporter.emit(
                Severity::Warning,
                format_args!("a command of the watchdog that does not end cannot be killed (process {leader})"),
                &errors::message(&error),
                "it may work later; an address that it then leaves on this host is given up within seconds. What sudo runs belongs to root, and only root can kill it",
            ),
            _ => {}
        }
    }
}

/// Runs a command of the virtual IP to its end; `true`: with success, which for a ping means that it has
/// measured a time, too.
pub async fn run(command: Command, running: Running, reporter: Reporter) -> bool {
    let mut program = match &command {
        Command::Shell(line) => {
            let mut program = Program::new("/bin/sh");
            program.arg("-c").arg(line);
            program
        }
        Command::Direct { program, arguments } => {
            let mut made = Program::new(program);
            if let Some((name, rest)) = arguments.split_first() {
                made.arg0(name).args(rest);
            }
            made
        }
    };
    let ping = is_ping(&command);
    let said = match &command {
        _ if ping => Stdio::piped(),
        // As with `system()`.
        Command::Shell(_) => Stdio::inherit(),
        Command::Direct { .. } => Stdio::null(),
    };
    program.stdin(Stdio::null()).stdout(said).process_group(0);
    let ended = async {
        let child = program.spawn()?;
        running
            .0
            .set(child.id().and_then(|id| process::Pid::try_from(id).ok()));
        child.wait_with_output().await
    };
    let ended: io::Result<std::process::Output> = ended.await;
    running.0.set(None);
    match ended {
        Ok(output) if output.status.success() => !ping || has_average(&output.stdout),
        Ok(output) => {
            reporter.emit(
                Severity::Warning,
                format_args!("a command of the watchdog has failed: {}", output.status),
                &format!("command: {}", command.line()),
                "",
            );
            false
        }
        Err(error) => {
            reporter.emit(
                Severity::Warning,
                "a command of the watchdog could not be run",
                &format!("{}; command: {}", errors::message(&error), command.line()),
                "look at the path, and whether the account of pgpool may run it",
            );
            false
        }
    }
}

fn is_ping(command: &Command) -> bool {
    match command {
        Command::Shell(_) => false,
        Command::Direct { arguments, .. } => arguments.first().is_some_and(|name| name == "ping"),
    }
}

/// `rtt min/avg/max/mdev = 0.029/0.040/0.047/0.008 ms`, in the words of any ping.
fn has_average(output: &[u8]) -> bool {
    let text = String::from_utf8_lossy(output);
    text.lines()
        .filter(|line| line.contains("min/avg/max"))
        .filter_map(|line| line.split_once('='))
        .filter_map(|(_, times)| times.trim().split('/').nth(1)?.parse::<f64>().ok())
        .any(|average| average > 0.0)
}

/// Asks all trusted servers at once; `Some(true)`: somebody has answered. `None`: a ping could not be run, which
/// says nothing of the servers.
pub async fn ping_trusted(settings: std::sync::Arc<Settings>, reporter: Reporter) -> Option<bool> {
    let lifecheck = &settings.lifecheck;
    let mut asking = JoinSet::new();
    for host in &lifecheck.trusted_servers {
        let mut program = ping(lifecheck, host);
        program
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let host = host.clone();
        asking.spawn_local(async move { (host, timeout(PING_LIMIT, program.status()).await) });
    }
    let mut failed = Vec::new();
    let mut asked = true;
    while let Some(ended) = asking.join_next().await {
        // A task that has panicked has told so itself.
        let Ok((host, ended)) = ended else {
            asked = false;
            continue;
        };
        let why = match ended {
            Ok(Ok(status)) if status.success() => return Some(true),
            Ok(Ok(status)) => {
                // Of the shell: it has not found the program, or may not run it.
                asked &= !matches!(status.code(), Some(126 | 127));
                status.to_string()
            }
            Ok(Err(error)) => {
                asked = false;
                errors::message(&error)
            }
            Err(_) => format!("no answer within {} s", PING_LIMIT.as_secs()),
        };
        failed.push((host, why));
    }
    for (host, why) in failed {
        reporter.emit(
            Severity::Warning,
            format_args!("watchdog failed to ping host\"{host}\""),
            &why,
            "",
        );
    }
    asked.then_some(false)
}

fn ping(lifecheck: &LifecheckSettings, host: &str) -> Program {
    match &lifecheck.trusted_server_command {
        Some(line) => {
            let mut program = Program::new("/bin/sh");
            program.arg("-c").arg(line.replace("%h", host));
            program
        }
        None => {
            let mut program = Program::new(format!("{}/ping", lifecheck.ping_path));
            program.args(["-q", "-c3", host]);
            program
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;
    use crate::watchdog::testing;

    fn direct(words: &[&str]) -> Command {
        Command::Direct {
            program: words[0].to_owned(),
            arguments: words[1..].iter().map(|w| (*w).to_owned()).collect(),
        }
    }

    fn local<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, work)
    }

    fn runs(command: Command) -> bool {
        local(run(
            command,
            Running::default(),
            Reporter::new("watchdog_utility"),
        ))
    }

    #[test]
    fn the_status_counts_and_what_cannot_be_run_has_failed() {
        assert!(runs(Command::Shell("exit 0".to_owned())));
        assert!(!runs(Command::Shell("exit 3".to_owned())));
        assert!(runs(direct(&["/bin/true", "true"])));
        assert!(!runs(direct(&["/nonexistent/ip", "ip", "addr"])));
    }

    #[test]
    fn arguments_are_not_seen_by_a_shell_and_the_name_is_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let line = format!("echo \"$0 $1\" > {}", out.display());
        assert!(runs(direct(&[
            "/bin/sh", "myname", "-c", &line, "a", "$HOME;b"
        ])));
        assert_eq!(std::fs::read_to_string(out).unwrap(), "a $HOME;b\n");
    }

    #[test]
    fn a_ping_needs_an_average() {
        assert!(has_average(
            b"3 packets transmitted\nrtt min/avg/max/mdev = 0.029/0.040/0.047/0.008 ms\n"
        ));
        assert!(has_average(b"round-trip min/avg/max = 0.1/0.2/0.3 ms\n"));
        assert!(!has_average(b"3 packets transmitted, 0 received\n"));
        assert!(!has_average(b"rtt min/avg/max = \xff"));
        assert!(!runs(direct(&["/bin/true", "ping"])));
    }

    #[test]
    fn a_command_that_hangs_can_be_ended_with_its_children() {
        local(async {
            let running = Running::default();
            let command = Command::Shell("sleep 60 & wait".to_owned());
            let ends = run(command, running.clone(), Reporter::new("watchdog_utility"));
            let kill = async {
                while running.0.get().is_none() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                running.kill(&Reporter::new("watchdog_utility"));
            };
            let (success, ()) =
                timeout(Duration::from_secs(20), async { tokio::join!(ends, kill) })
                    .await
                    .expect("in time");
            assert!(!success);
        });
    }

    #[test]
    fn one_trusted_server_is_enough() {
        let mut settings = testing::settings(0, 3);
        settings.lifecheck.trusted_servers = vec!["no".to_owned(), "yes".to_owned()];
        settings.lifecheck.trusted_server_command = Some("test %h = yes".to_owned());
        let asked = |settings: &Settings| {
            local(ping_trusted(
                settings.clone().into(),
                Reporter::new("life_check"),
            ))
        };
        assert_eq!(asked(&settings), Some(true));
        settings.lifecheck.trusted_servers.pop();
        assert_eq!(asked(&settings), Some(false));
        settings.lifecheck.trusted_server_command = Some("/nonexistent/ping %h".to_owned());
        assert_eq!(asked(&settings), None);
        settings.lifecheck.trusted_server_command = None;
        settings.lifecheck.ping_path = "/nonexistent".to_owned();
        assert_eq!(asked(&settings), None);
    }
}
