//! Runs the operator's hooks: `/bin/sh -c` in a process group of its own, without a time limit.
//!
//! Environment, working directory and standard streams are inherited, as with `system()` in
//! `trigger_failover_command` of `src/main/pgpool_main.c @ V4_3_5`. Descriptors of ours are not:
//! all are close-on-exec, so that a server restarted by a hook does not keep our ports. A hook that
//! runs when pgpool ends goes on, unless it is in a [`Group`].

use std::{
    cell::Cell,
    future::Future,
    io,
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::process::{Child, Command};

use super::{hook_output, unfinished::Process};
use crate::{
    observe::{Reporter, Severity},
    sys::{at_exec::Declaration, process},
};

/// Between two looks whether a process that is no child of ours has ended.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// The process group of a hook that ends with pgpool, as `follow_primary_command` does.
#[derive(Clone, Debug, Default)]
pub struct Group(Rc<Cell<Option<process::Pid>>>);

impl Group {
    /// As [`Group::signal`], for good: what a shell has put into the background ignores SIGINT and
    /// SIGQUIT, and would outlive it.
    pub fn end(&self, signal: i32) {
        self.signal(signal);
        self.signal(libc::SIGTERM);
    }

    /// Sends the signal to the hook, and to what it has started and is in its group still. A hook
    /// that has ended gets none.
    pub fn signal(&self, signal: i32) {
        if let Some(leader) = self.0.get() {
            // It may end at this very moment.
            let _ = process::kill_group(leader, signal);
        }
    }
}

/// Ends the group when whoever waits for the hook is dropped.
struct Waiting(Group);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.signal(libc::SIGTERM);
        self.0.0.set(None);
    }
}

/// A hook that was begun, or could not be.
#[derive(Debug)]
pub struct Begun {
    child: io::Result<Child>,
    began: Instant,
    output: hook_output::Mark,
}

/// Begins `line`; its process puts `declaration` in its place. Blocks until the shell runs. Must be called
/// within a runtime.
pub fn begin(line: &str, declaration: Option<Declaration>) -> Begun {
    let (began, output) = (Instant::now(), hook_output::Mark::now());
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(line).process_group(0);
    if let Some(declaration) = declaration {
        declaration.install(command.as_std_mut());
    }
    let child = command.spawn();
    Begun {
        child,
        began,
        output,
    }
}

impl Begun {
    /// It could not be begun.
    pub fn failed(error: io::Error) -> Begun {
        Begun {
            child: Err(error),
            began: Instant::now(),
            output: hook_output::Mark::now(),
        }
    }

    /// `None`: it could not be begun, or has ended.
    pub fn pid(&self) -> Option<process::Pid> {
        let child = self.child.as_ref().ok()?;
        child.id().and_then(|id| process::Pid::try_from(id).ok())
    }

    /// Waits for its end. `name` is the parameter that `line` comes from, for the log.
    pub async fn wait(self, name: &str, line: &str, reporter: &Reporter) -> Ended {
        // It helps an operator to end a hook that hangs.
        if let Some(pid) = self.pid() {
            reporter.debug1(format_args!("{name} runs as process {pid}"));
        }
        let result = match self.child {
            Ok(mut child) => child.wait().await,
            Err(e) => Err(e),
        };
        let seconds = self.began.elapsed().as_secs_f64();
        say(name, line, seconds, &result, reporter);
        match result {
            Ok(status) => Ended {
                output: if status.success() {
                    String::new()
                } else {
                    let since = tokio::task::spawn_blocking(move || self.output.since());
                    since.await.unwrap_or_default()
                },
                status: status.code(),
                signal: status.signal(),
                seconds,
                ..Ended::default()
            },
            Err(e) => Ended {
                error: format!("it could not be run: {}", crate::sys::errors::message(&e)),
                seconds,
                ..Ended::default()
            },
        }
    }

    /// As [`Begun::wait`], for a hook that ends with pgpool: from now on it is in `group`, and the group
    /// gets SIGTERM when the returned future is dropped. `group` serves one hook at a time.
    pub fn wait_in(
        self,
        group: &Group,
        name: &'static str,
        line: String,
        reporter: Reporter,
    ) -> impl Future<Output = Ended> + use<> {
        let pid = self.pid();
        group.0.set(pid);
        let waiting = Waiting(group.clone());
        async move {
            if let Some(pid) = pid {
                // It may take hours, and holds up promotions: an operator has to find it.
                reporter.log(format_args!("{name} runs as process group {pid}"));
            }
            let ended = self.wait(name, &line, &reporter).await;
            // Its number may be another process's from now on.
            waiting.0.0.set(None);
            ended
        }
    }
}

/// Waits for the end of a hook that is no child of ours: an earlier pgpool has begun it.
pub async fn outlive(name: &str, process: Process, reporter: &Reporter) {
    let began = Instant::now();
    reporter.emit(
        Severity::Warning,
        format_args!(
            "{name} still runs as process group {}: waiting for its end",
            process.pid
        ),
        "",
        "if it hangs, end it",
    );
    while process.is_alive() {
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    reporter.log(format_args!(
        "{name} of the earlier pgpool ended after {seconds:.3} more seconds"
    ));
}

/// How a hook has ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ended {
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why it could not be run.
    pub error: String,
    pub seconds: f64,
    /// What it has printed, or where that is to be found, if it has failed.
    pub output: String,
}

fn say(name: &str, line: &str, seconds: f64, result: &io::Result<ExitStatus>, reporter: &Reporter) {
    match result {
        Ok(status) if status.success() => reporter.log(format_args!(
            "{name} ended after {seconds:.3} seconds with exit status 0"
        )),
        Ok(status) => reporter.emit(
            Severity::Warning,
            format_args!(
                "{name} ended after {seconds:.3} seconds with {}",
                how(*status)
            ),
            &format!("command: {line}"),
            "the failover goes on whatever the status is; look whether the command has done its work",
        ),
        Err(e) => reporter.emit(
            Severity::Warning,
            format_args!("{name} could not be run"),
            &format!("{}; command: {line}", crate::sys::errors::message(e)),
            "",
        ),
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn run_line(line: &str) -> Ended {
        let reporter = Reporter::new("main");
        begin(line, None)
            .wait("failover_command", line, &reporter)
            .await
    }

    #[tokio::test]
    async fn the_shell_sees_pipes_variables_and_quotes() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        run_line(&format!(
            "X='a  b'; echo \"$X\" \"\" | sed 's/a/c/' > {}",
            out.display()
        ))
        .await;
        assert_eq!(fs::read_to_string(out).unwrap(), "c  b \n");
    }

    #[tokio::test]
    async fn a_hook_has_its_own_process_group_and_no_descriptor_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        run_line(&format!(
            "(ps -o pgid= -p $$; echo $$; ls -l /proc/$$/fd | grep -c socket:) > {}",
            out.display()
        ))
        .await;
        let text = fs::read_to_string(out).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words.first(), words.get(1), "{text}");
        assert_eq!(words.get(2), Some(&"0"), "{text}");
    }

    #[tokio::test]
    async fn a_hook_ends_by_sigpipe_and_blocks_no_signal() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        run_line(&format!(
            "exec grep -E '^Sig(Ign|Blk)' /proc/self/status > {}",
            out.display()
        ))
        .await;
        let text = fs::read_to_string(out).unwrap();
        let (blocked, ignored) = text.trim().split_once('\n').unwrap();
        assert_eq!(blocked, "SigBlk:\t0000000000000000");
        // Others may be ignored where we are: whoever starts us in the background does that.
        let ignored = u64::from_str_radix(ignored.rsplit('\t').next().unwrap(), 16).unwrap();
        assert_eq!(ignored & 1 << (libc::SIGPIPE - 1), 0, "{text}");
    }

    #[tokio::test]
    async fn any_end_of_a_hook_is_an_end() {
        for (line, status, signal) in [
            ("exit 7", Some(7), None),
            ("kill -9 $$", None, Some(9)),
            ("/nonexistent/command", Some(127), None),
            ("   ", Some(0), None),
            ("'", Some(2), None),
        ] {
            let ended = run_line(line).await;
            assert_eq!((ended.status, ended.signal), (status, signal), "{line}");
            assert_eq!(ended.error, "");
        }
    }

    /// The pids of a hook and of what it has started, once both have told theirs.
    async fn pids(file: &std::path::Path) -> Vec<process::Pid> {
        for _ in 0..500 {
            let text = fs::read_to_string(file).unwrap_or_default();
            let pids: Vec<_> = text.lines().filter_map(|l| l.parse().ok()).collect();
            if pids.len() == 2 {
                return pids;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the hook has not started");
    }

    #[tokio::test]
    async fn a_hook_in_a_group_ends_with_all_that_it_has_started() {
        for drop_it in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join("out");
            let line = format!(
                "echo $$ >> {0}; sh -c 'echo $$ >> {0}; exec sleep 60' & wait; true",
                out.display()
            );
            let group = Group::default();
            let reporter = Reporter::new("main");
            let started = {
                let name = "follow_primary_command";
                let begun = begin(&line, None);
                let mut hook = std::pin::pin!(begun.wait_in(&group, name, line, reporter));
                let started = tokio::select! {
                    _ = &mut hook => panic!("ended"),
                    started = pids(&out) => started,
                };
                if !drop_it {
                    group.end(libc::SIGINT);
                    hook.await;
                }
                started
            };
            for pid in started {
                let gone = async {
                    while process::is_alive(pid) && !is_zombie(pid) {
                        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    }
                };
                tokio::time::timeout(std::time::Duration::from_secs(10), gone)
                    .await
                    .expect("it has ended");
            }
        }
    }

    fn is_zombie(pid: process::Pid) -> bool {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") Z "))
    }

    #[test]
    fn an_end_is_told_as_status_or_signal() {
        assert_eq!(how(ExitStatus::from_raw(7 << 8)), "exit status 7");
        assert_eq!(how(ExitStatus::from_raw(9)), "signal 9");
    }
}
