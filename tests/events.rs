//! The history of events and what-if from outside: the file, the socket, the sub-commands.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{Scratch, ours, until};

struct Printed {
    status: i32,
    out: String,
    err: String,
}

fn printed(command: &mut Command) -> Printed {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Printed {
        status: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn events(scratch: &Scratch, options: &[&str]) -> Printed {
    let words = [&["events"], options].concat();
    printed(&mut scratch.command(ours(), &words))
}

fn what_if(scratch: &Scratch, request: &str) -> Printed {
    printed(&mut scratch.command(ours(), &["--what-if", request]))
}

fn socket(scratch: &Scratch) -> PathBuf {
    scratch.path(&format!(".s.pgpool-rs.{}", scratch.port))
}

fn file(scratch: &Scratch) -> PathBuf {
    scratch.path(&format!("pgpool_events.{}", scratch.port))
}

fn mode(path: &PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn kinds(json: &str) -> Vec<String> {
    json.lines()
        .map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            let word = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            format!("{} {}", word("kind"), word("step"))
        })
        .collect()
}

#[test]
fn a_life_is_told_by_the_running_process_and_then_by_the_file() {
    let scratch = Scratch::new("");
    let nothing = events(&scratch, &[]);
    assert_eq!((nothing.status, &*nothing.out), (0, ""));
    assert!(nothing.err.contains("no pgpool runs"), "{}", nothing.err);

    let mut server = scratch.start(ours(), &[]);
    scratch.wait_started();
    assert!(
        fs::metadata(socket(&scratch))
            .unwrap()
            .file_type()
            .is_socket()
    );
    assert_eq!(mode(&socket(&scratch)), 0o600);
    let running = events(&scratch, &["--json"]);
    assert_eq!((running.status, &*running.err), (0, ""));
    assert_eq!(kinds(&running.out), ["start began", "start ended"]);
    server.signal("HUP");
    until("the reload", || {
        kinds(&events(&scratch, &["--json"]).out).contains(&"reload ended".to_owned())
    });
    let text = events(&scratch, &["-n", "1"]).out;
    assert!(
        text.contains("reload of the configuration: no parameter has another value"),
        "{text}"
    );
    assert!(text.contains("cause:    the signal SIGHUP"), "{text}");

    server.signal("TERM");
    assert_eq!(server.wait(), 0);
    assert!(!socket(&scratch).exists());
    assert_eq!(mode(&file(&scratch)), 0o600);
    let after = events(&scratch, &["--json"]);
    assert_eq!(after.status, 0);
    assert!(after.err.contains("from the file"), "{}", after.err);
    assert_eq!(
        kinds(&after.out),
        [
            "start began",
            "start ended",
            "reload ended",
            "stop began",
            "stop ended"
        ]
    );
}

#[test]
fn after_a_kill_the_history_goes_on_and_says_so() {
    let scratch = Scratch::new("");
    let mut server = scratch.start(ours(), &[]);
    scratch.wait_started();
    until("two lines", || {
        fs::read_to_string(file(&scratch)).is_ok_and(|text| text.lines().count() == 2)
    });
    server.signal("KILL");
    server.wait();
    assert!(socket(&scratch).exists(), "nobody has removed it");
    // As if it had been killed in the middle of a line.
    let mut half = fs::OpenOptions::new()
        .append(true)
        .open(file(&scratch))
        .unwrap();
    half.write_all(b"{\"id\":3,\"time\":\"20").unwrap();
    fs::remove_file(scratch.path("stderr")).unwrap();
    let _server = scratch.start(ours(), &[]);
    scratch.wait_started();
    let told = events(&scratch, &["--json"]);
    assert_eq!(
        kinds(&told.out),
        [
            "start began",
            "start ended",
            "stop ended",
            "start began",
            "start ended"
        ]
    );
    let text = events(&scratch, &[]).out;
    assert!(text.contains("did not end in order"), "{text}");
    assert!(text.contains("#3  stop of pgpool"), "numbers go on: {text}");
    assert_eq!(mode(&socket(&scratch)), 0o600);
}

#[test]
fn a_directory_that_cannot_be_written_to_is_a_warning_and_no_more() {
    // Root may write anywhere, so the name is taken by a directory.
    let scratch = Scratch::new("");
    fs::create_dir(file(&scratch)).unwrap();
    fs::create_dir(socket(&scratch)).unwrap();
    let _server = scratch.start(ours(), &[]);
    scratch.wait_started();
    scratch.wait_for("stderr", "failed to write events to");
    let log = scratch.read("stderr");
    assert!(
        log.contains("cannot ask this pgpool: no socket at"),
        "{log}"
    );
    assert_eq!(log.matches("failed to write events").count(), 1, "{log}");
    let told = events(&scratch, &[]);
    assert_eq!(told.status, 1);
    assert!(told.err.contains("cannot read"), "{}", told.err);
    // With room again the next event brings those that are missing.
    fs::remove_dir(file(&scratch)).unwrap();
    let pid = scratch.pid().unwrap();
    common::signal(pid, "HUP");
    scratch.wait_for("stderr", "events are written to their file again");
    let lines = fs::read_to_string(file(&scratch)).unwrap();
    assert_eq!(
        kinds(&lines),
        ["start began", "start ended", "reload ended"]
    );
}

#[test]
fn two_pgpools_in_one_directory_have_histories_of_their_own() {
    let [first, second] = [(), ()].map(|()| Scratch::new(""));
    second.append(&format!("logdir = '{}'", first.dir().display()));
    let _servers = [&first, &second].map(|scratch| scratch.start(ours(), &[]));
    for scratch in [&first, &second] {
        scratch.wait_started();
    }
    let pids = [&first, &second].map(|scratch| {
        let told = events(scratch, &["--json"]).out;
        assert_eq!(kinds(&told), ["start began", "start ended"]);
        let event: serde_json::Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
        event["pid"].as_i64()
    });
    assert_ne!(pids[0], pids[1]);
}

#[test]
fn whoever_follows_sees_what_comes_and_the_end() {
    let scratch = Scratch::new("");
    let mut server = scratch.start(ours(), &[]);
    scratch.wait_started();
    let mut follower = scratch
        .command(ours(), &["events", "--follow", "-n", "1", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || kinds(&lines.next().unwrap().unwrap());
    assert_eq!(next(), ["start ended"]);
    server.signal("HUP");
    assert_eq!(next(), ["reload ended"]);
    server.signal("INT");
    assert_eq!(next(), ["stop began"]);
    assert_eq!(next(), ["stop ended"]);
    server.wait();
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}

#[test]
fn what_if_tells_and_changes_nothing() {
    let scratch = Scratch::new(
        "backend_hostname1 = '127.0.0.1'\nbackend_port1 = 1025\n\
         failover_command = 'touch %D/%d-%m'\n",
    );
    scratch.append(&format!(
        "backend_data_directory0 = '{}'",
        scratch.dir().display()
    ));
    let alone = what_if(&scratch, "down 0");
    assert_eq!(alone.status, 1, "{}", alone.err);
    assert!(alone.err.contains("no pgpool runs"), "{}", alone.err);
    let _server = scratch.start(ours(), &[]);
    scratch.wait_started();
    let before = events(&scratch, &["--json"]).out;
    let told = what_if(&scratch, "down 0; down 0");
    assert_eq!((told.status, &*told.err), (0, ""));
    let line = format!(
        "failover_command is run: touch {}/0-1",
        scratch.dir().display()
    );
    for text in [
        "now: node 0 up; node 1 up",
        "down 0:",
        "failover of node 0 begins",
        &line,
        "then: node 0 down; node 1 up",
        "failover of node 0 is refused: invalid degenerate backend request, node id : 0 status: [3]",
    ] {
        assert!(told.out.contains(text), "{text} in {}", told.out);
    }
    assert!(!scratch.path("0-1").exists(), "it was not run");
    assert_eq!(events(&scratch, &["--json"]).out, before, "nor noted");
    assert_eq!(scratch.read("pgpool_status"), "up\nup\n");

    for (request, text) in [
        ("", "no request is given"),
        ("drop 0", "\"drop\" is no request"),
        ("down zero", "\"zero\" is no number"),
    ] {
        let told = what_if(&scratch, request);
        assert_eq!(told.status, 1, "{request}");
        assert!(told.err.contains(text), "{}", told.err);
        assert!(told.err.contains("a request is \"down N\""), "{}", told.err);
    }
}

#[test]
fn a_time_cuts_the_history_and_one_that_is_none_is_told() {
    let scratch = Scratch::new("");
    let _server = scratch.start(ours(), &[]);
    scratch.wait_started();
    let count = |since: &str| {
        events(&scratch, &["--json", "--since", since])
            .out
            .lines()
            .count()
    };
    assert_eq!(count("1h"), 2);
    assert_eq!(count("2999-01-01"), 0);
    let told = events(&scratch, &["--since", "teatime"]);
    assert_eq!(told.status, 1);
    assert!(told.err.contains("--since takes"), "{}", told.err);
}

/// Speaks to the socket by hand; the end of the connection ends the answer.
fn conversation(scratch: &Scratch, ask: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket(scratch)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(ask).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn clients_that_are_slow_silent_many_or_strangers_hold_nobody_up() {
    let scratch = Scratch::new("");
    let _server = scratch.start(ours(), &[]);
    scratch.wait_started();
    for (ask, text) in [
        (&b"GET / HTTP/1.0\r\n\r\n"[..], "not understood"),
        (b"{\"version\":7,\"ask\":\"events\"}\n", "speaks version 1"),
        (
            b"{\"version\":1,\"ask\":\"events\",\"since\":\"soon\"}\n",
            "not understood",
        ),
        (
            b"{\"version\":1,\"ask\":\"what-if\",\"requests\":\"x\"}\n",
            "a request is",
        ),
    ] {
        let answer = conversation(&scratch, ask);
        assert!(answer.starts_with("{\"hello\":{\"version\":1,"), "{answer}");
        let last = answer.lines().last().unwrap();
        assert!(
            last.starts_with("{\"error\":") && last.contains(text),
            "{last}"
        );
    }
    let half_a_question = || {
        let mut stream = UnixStream::connect(socket(&scratch)).unwrap();
        // A refusal may be faster than that.
        let _ = stream.write_all(b"{\"version\":1,");
        stream
    };
    let mut silent: Vec<UnixStream> = (0..31).map(|_| half_a_question()).collect();
    assert_eq!(
        events(&scratch, &[]).status,
        0,
        "there is room for one more"
    );
    // One that comes before the end of the last question is noticed finds no room.
    until("a refusal", || {
        silent.push(half_a_question());
        events(&scratch, &[]).err.contains("others are asking")
    });
    let began = Instant::now();
    until("the silent ones to be let go", || {
        events(&scratch, &[]).status == 0
    });
    assert!(began.elapsed() < Duration::from_secs(15));
    drop(silent);
    let endless = [b'x'; 100 * 1024];
    let mut stream = UnixStream::connect(socket(&scratch)).unwrap();
    let _ = stream.write_all(&endless);
    assert_eq!(events(&scratch, &[]).status, 0);
}
