//! Runs the operator's hooks: `/bin/sh -c` in a process group of its own, without a time limit.
//!
//! Environment, working directory and standard streams are inherited, as with `system()` in
//! `trigger_failover_command` of `src/main/pgpool_main.c @ V4_3_5`. Descriptors of ours are not:
//! all are close-on-exec, so that a server restarted by a hook does not keep our ports. A hook that
//! runs when pgpool ends goes on.

use std::{process::ExitStatus, time::Instant};

use tokio::process::Command;

use crate::observe::{Reporter, Severity};

/// Runs `line` and waits for its end. `name` is the parameter it comes from, for the log.
pub async fn run(name: &str, line: &str, reporter: &Reporter) {
    let began = Instant::now();
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(line).process_group(0);
    let result = match command.spawn() {
        Ok(mut child) => {
            // The pid helps an operator to end a hook that hangs.
            reporter.debug1(format_args!(
                "{name} runs as process {}",
                child.id().unwrap_or_default()
            ));
            child.wait().await
        }
        Err(e) => Err(e),
    };
    let seconds = began.elapsed().as_secs_f64();
    match result {
        Ok(status) if status.success() => reporter.log(format_args!(
            "{name} ended after {seconds:.3} seconds with exit status 0"
        )),
        Ok(status) => reporter.emit(
            Severity::Warning,
            format_args!(
                "{name} ended after {seconds:.3} seconds with {}",
                how(status)
            ),
            &format!("command: {line}"),
            "the failover goes on whatever the status is; look whether the command has done its work",
        ),
        Err(e) => reporter.emit(
            Severity::Warning,
            format_args!("{name} could not be run"),
            &format!("{}; command: {line}", crate::sys::errors::message(&e)),
            "",
        ),
    }
}

fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
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

    async fn run_in(line: &str) {
        run("failover_command", line, &Reporter::new("main")).await;
    }

    #[tokio::test]
    async fn the_shell_sees_pipes_variables_and_quotes() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        run_in(&format!(
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
        run_in(&format!(
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
    async fn any_end_of_a_hook_is_an_end() {
        for line in ["exit 7", "kill -9 $$", "/nonexistent/command", "   ", "'"] {
            run_in(line).await;
        }
    }

    #[test]
    fn an_end_is_told_as_status_or_signal() {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(how(ExitStatus::from_raw(7 << 8)), "exit status 7");
        assert_eq!(how(ExitStatus::from_raw(9)), "signal 9");
    }
}
