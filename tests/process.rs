//! The life of the process from outside: start, pid file, sockets, log, signals, end.

mod common;

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixDatagram, UnixStream},
    },
    time::{Duration, Instant},
};

use common::{Scratch, messages, ours, signal, stock, until};

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_start_in_the_foreground_makes_its_files_and_the_end_removes_them() {
    let scratch = Scratch::new("");
    let mut server = scratch.start(ours(), &[]);
    scratch.wait_started();

    let pid = format!("{}\0", server.pid());
    assert_eq!(scratch.read("pgpool.pid"), pid);
    assert_eq!(mode(&scratch.path("pgpool.pid")), 0o600);
    let socket = scratch.path(&format!(".s.PGSQL.{}", scratch.port));
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
    assert_eq!(mode(&socket), 0o777);
    TcpStream::connect(("127.0.0.1", scratch.port)).unwrap();
    UnixStream::connect(&socket).unwrap();

    server.signal("TERM");
    assert_eq!(server.wait(), 0);
    assert!(!socket.exists());
    assert!(!scratch.path("pgpool.pid").exists());
    let log = messages(&scratch.read("stderr"));
    let position = |text: &str| log.iter().position(|line| line == text);
    let end = [
        "LOG:  shutting down by signal 15",
        "LOG:  terminating all child processes",
        "LOG:  Pgpool-II system is shutdown",
    ]
    .map(|text| position(text).unwrap_or_else(|| panic!("{text} in {log:?}")));
    assert!(end.is_sorted());
}

#[test]
fn int_and_quit_end_the_process_with_status_zero() {
    for (name, number) in [("INT", 2), ("QUIT", 3)] {
        let scratch = Scratch::new("");
        let mut server = scratch.start(ours(), &[]);
        scratch.wait_started();
        server.signal(name);
        assert_eq!(server.wait(), 0);
        let text = format!("shutting down by signal {number}");
        assert!(scratch.read("stderr").contains(&text));
    }
}

#[test]
fn user_signals_and_hangup_do_not_end_it() {
    let scratch = Scratch::new("");
    let mut server = scratch.start(ours(), &[]);
    scratch.wait_started();
    for name in ["USR1", "USR2", "HUP", "PIPE"] {
        server.signal(name);
    }
    scratch.wait_for("stderr", "reload config files.");
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

/// Seen from a script: `pgpool && pgpool reload && pgpool stop`.
#[test]
fn a_daemon_has_its_pid_file_when_the_caller_goes_on() {
    let scratch = Scratch::new("");
    let got = scratch.run(ours(), &[]);
    assert_eq!(got.status, 0, "{}", got.stderr);
    let pid = scratch.pid().expect("a pid file");
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(),
        Some("/")
    );
    for descriptor in ["0", "1", "2"] {
        assert_eq!(
            fs::read_link(format!("/proc/{pid}/fd/{descriptor}"))
                .unwrap()
                .to_str(),
            Some("/dev/null")
        );
    }
    // A session of its own: field 6 of stat, counted after the name.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    assert_eq!(fields[3], pid.to_string());

    let got = scratch.run(ours(), &["reload"]);
    assert_eq!((got.status, &*got.stderr), (0, ""));

    let got = scratch.run(ours(), &["-m", "fast", "stop"]);
    assert_eq!(got.status, 0);
    let text =
        format!("LOG:  stop request sent to pgpool (pid: {pid}). waiting for termination...\n");
    let (_, dots) = got.stderr.split_once(&text).expect("the request is told");
    assert_eq!(
        dots.trim_start_matches('.'),
        "done.\n".trim_start_matches('.')
    );
    assert!(!scratch.path("pgpool.pid").exists());
}

/// Whoever reads our output must not wait for our end.
#[test]
fn a_daemon_keeps_no_descriptor_of_its_caller() {
    let scratch = Scratch::new("");
    let script = format!(
        "exec 9>&1; {} -f {} -F {} -a {} 2>/dev/null",
        ours(),
        scratch.path("pgpool.conf").display(),
        scratch.path("pcp.conf").display(),
        scratch.path("pool_hba.conf").display(),
    );
    let started = Instant::now();
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(scratch.run(ours(), &["-m", "fast", "stop"]).status, 0);
}

#[test]
fn a_second_start_is_refused_in_the_words_of_the_original() {
    let scratch = Scratch::new("");
    let _server = scratch.start(ours(), &[]);
    scratch.wait_started();
    let pid = scratch.pid().unwrap();
    for program in [Some(ours()), stock()].into_iter().flatten() {
        let got = scratch.run(program, &["-n"]);
        assert_eq!(
            (got.status, got.stderr),
            (
                1,
                format!("ERROR: pid file found. is another pgpool({pid}) is running?\n")
            ),
            "{program}"
        );
    }
    TcpStream::connect(("127.0.0.1", scratch.port)).unwrap();
}

#[test]
fn a_port_in_use_is_fatal_with_the_text_of_the_original_and_leaves_nothing() {
    let scratch = Scratch::new("");
    let _other = TcpListener::bind(("127.0.0.1", scratch.port)).unwrap();
    for program in [Some(ours()), stock()].into_iter().flatten() {
        let got = scratch.run(program, &["-n"]);
        assert_eq!(got.status, 3, "{program}: {}", got.stderr);
        let messages = got.messages();
        let at = messages
            .iter()
            .position(|line| line == "FATAL:  failed to create INET domain socket")
            .unwrap_or_else(|| panic!("{program}: {messages:?}"));
        assert_eq!(
            messages[at + 1],
            "DETAIL:  bind on socket failed with error \"Address already in use\""
        );
    }
    // Ours tells it before it detaches.
    let got = scratch.run(ours(), &[]);
    assert_eq!(got.status, 3);
    assert!(
        got.stderr.contains("Address already in use"),
        "{}",
        got.stderr
    );
    assert!(!scratch.path("pgpool.pid").exists());
    assert!(!scratch.path(&format!(".s.PGSQL.{}", scratch.port)).exists());
}

#[test]
fn a_socket_file_of_a_running_server_is_not_taken_away() {
    let scratch = Scratch::new("");
    let _server = scratch.start(ours(), &[]);
    scratch.wait_started();
    // Another configuration with the same socket, no TCP, and a pid file of its own.
    let text = scratch
        .read("pgpool.conf")
        .replace("listen_addresses = '127.0.0.1'", "listen_addresses = ''")
        .replace("'pgpool.pid'", "'second.pid'");
    let second = Scratch::new("");
    fs::write(second.path("pgpool.conf"), text).unwrap();
    let got = second.run(ours(), &["-n"]);
    assert_eq!(got.status, 3, "{}", got.stderr);
    assert!(
        got.stderr.contains("Address already in use"),
        "{}",
        got.stderr
    );
    UnixStream::connect(scratch.path(&format!(".s.PGSQL.{}", scratch.port))).unwrap();
}

#[test]
fn a_start_after_kill_9_finds_nothing_in_its_way() {
    let scratch = Scratch::new("");
    let mut server = scratch.start(ours(), &[]);
    scratch.wait_started();
    server.signal("KILL");
    assert_eq!(server.wait(), 137);
    assert!(scratch.path("pgpool.pid").exists());
    assert!(scratch.path(&format!(".s.PGSQL.{}", scratch.port)).exists());

    let mut server = scratch.start(ours(), &[]);
    scratch.wait_started();
    assert!(scratch.read("stderr").starts_with(
        "NOTICE: pid file found but it seems bogus. Trying to start pgpool anyway...\n"
    ));
    TcpStream::connect(("127.0.0.1", scratch.port)).unwrap();
    server.signal("INT");
    assert_eq!(server.wait(), 0);
}

#[test]
fn pid_files_that_cannot_be_used_are_fatal_like_in_the_original() {
    type Spoil = fn(&Scratch);
    let cases: [(&str, Spoil); 3] = [
        ("empty", |s| fs::write(s.path("pgpool.pid"), "").unwrap()),
        ("a folder", |s| {
            fs::create_dir(s.path("pgpool.pid")).unwrap()
        }),
        ("in no folder", |s| {
            s.append("pid_file_name = '/no/such/folder/pgpool.pid'");
        }),
    ];
    for (what, spoil) in cases {
        let results: Vec<_> = [Some(ours()), stock()]
            .into_iter()
            .flatten()
            .map(|program| {
                let scratch = Scratch::new("");
                spoil(&scratch);
                let got = scratch.run(program, &["-n"]);
                let fatal = got
                    .messages()
                    .into_iter()
                    .find(|line| line.starts_with("FATAL"));
                (got.status, fatal)
            })
            .collect();
        assert_eq!(results[0].0, 3, "{what}: {results:?}");
        assert!(
            results.windows(2).all(|two| two[0] == two[1]),
            "{what}: {results:?}"
        );
    }
}

#[test]
fn log_line_prefix_is_rendered_like_the_original_renders_it() {
    let prefix = "a=%a P=%P d=%d u=%u x=%x pct=%% r=%12a| l=%-12a| %t | %m | %p: ";
    let line = |program: &str| {
        let scratch = Scratch::new(&format!("log_line_prefix = '{prefix}'"));
        let mut server = scratch.start(program, &[]);
        scratch.wait_started();
        server.signal("INT");
        server.wait();
        let log = scratch.read("stderr");
        let line = log
            .lines()
            .find(|line| line.ends_with("LOG:  shutting down by signal 2"))
            .unwrap_or_else(|| panic!("{program}: {log}"));
        // Digits differ by time and pid; runs of pid digits by their length.
        let shape = line.replace(&format!("| {}:", server.pid()), "| pid:");
        shape.replace(|c: char| c.is_ascii_digit(), "9")
    };
    let expected = "a=main P=MAIN d=[No Connection] u=[No Connection] x= pct=% r=        main| \
                    l=main        | 9999-99-99 99:99:99 | 9999-99-99 99:99:99.999 | pid: \
                    LOG:  shutting down by signal 9";
    for program in [Some(ours()), stock()].into_iter().flatten() {
        assert_eq!(line(program), expected, "{program}");
    }
}

#[test]
fn log_min_messages_hides_what_is_below_it() {
    let scratch = Scratch::new("log_min_messages = fatal");
    let mut server = scratch.start(ours(), &[]);
    until("a socket", || {
        TcpStream::connect(("127.0.0.1", scratch.port)).is_ok()
            && scratch.path("pgpool.pid").exists()
    });
    // Which is a moment before signals are handled.
    until("a handler", || common::is_past(server.pid(), &[15]));
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
    assert_eq!(scratch.read("stderr"), "");
}

fn log_files(scratch: &Scratch) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(scratch.path("logs"))
        .map(|files| {
            files
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

#[test]
fn the_collector_takes_the_log_and_a_new_file_at_a_signal() {
    let scratch = Scratch::new("logging_collector = on\nlog_filename = 'pgpool-%s.log'");
    scratch.append(&format!(
        "log_directory = '{}'",
        scratch.path("logs").display()
    ));
    let mut server = scratch.start(ours(), &[]);
    until("a log file", || {
        log_files(&scratch).first().is_some_and(|name| {
            scratch
                .read(&format!("logs/{name}"))
                .contains("successfully")
        })
    });
    assert_eq!(mode(&scratch.path("logs")), 0o700);
    let first = log_files(&scratch).remove(0);
    assert_eq!(mode(&scratch.path("logs").join(&first)), 0o600);
    let redirected = messages(&scratch.read("stderr"));
    assert_eq!(
        redirected[redirected.len() - 2..],
        [
            "LOG:  redirecting log output to logging collector process".to_owned(),
            format!(
                "HINT:  Future log output will appear in directory \"{}\".",
                scratch.path("logs").display()
            )
        ]
    );
    // The name has seconds.
    std::thread::sleep(Duration::from_millis(1100));
    server.signal("USR1");
    until("a second file", || log_files(&scratch).len() == 2);
    server.signal("INT");
    assert_eq!(server.wait(), 0);
    let second = scratch.read(&format!("logs/{}", log_files(&scratch)[1]));
    assert!(second.contains("Pgpool-II system is shutdown"), "{second}");
    assert!(
        !scratch
            .read(&format!("logs/{first}"))
            .contains("shutting down")
    );
}

/// The original crashes (status 139).
#[test]
fn a_log_file_that_cannot_be_opened_is_fatal_before_anything_is_made() {
    let scratch = Scratch::new("logging_collector = on\nlog_directory = '/no/such/folder/logs'");
    for args in [&["-n"][..], &[]] {
        let got = scratch.run(ours(), args);
        assert_eq!(got.status, 3);
        let fatal = &got.messages()[0];
        assert!(
            fatal.starts_with("FATAL:  could not open log file \"/no/such/folder/logs/pgpool-")
                && fatal.ends_with(".log\": No such file or directory"),
            "{fatal}"
        );
        assert!(!scratch.path("pgpool.pid").exists());
    }
}

/// The original says nothing at all on stderr once syslog is the only destination.
#[test]
fn a_start_that_fails_is_told_to_the_caller_whatever_the_log_destination() {
    let scratch = Scratch::new("log_destination = 'syslog'");
    let _other = TcpListener::bind(("127.0.0.1", scratch.port)).unwrap();
    let got = scratch.run(ours(), &[]);
    assert_eq!(got.status, 3);
    assert!(
        got.stderr.contains("Address already in use"),
        "{}",
        got.stderr
    );
}

#[test]
fn the_service_manager_is_told_of_start_reload_and_stop() {
    let scratch = Scratch::new("");
    let path = scratch.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let receive = || {
        let mut buffer = [0; 400];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut command = scratch.command(ours(), &["-n"]);
    command.env("NOTIFY_SOCKET", &path);
    let mut server = scratch.spawn(&mut command);

    assert_eq!(receive(), format!("READY=1\nMAINPID={}", server.pid()));
    // Written by another thread, maybe a moment later.
    scratch.wait_started();
    server.signal("HUP");
    let reloading = receive();
    let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    assert!(
        usec.is_some_and(|n| n.parse::<u64>().is_ok()),
        "{reloading}"
    );
    assert!(receive().starts_with("READY=1\n"));
    server.signal("TERM");
    assert_eq!(receive(), "STOPPING=1");
    assert_eq!(server.wait(), 0);
}

#[test]
fn too_many_slots_for_the_limit_of_open_files_are_an_error_with_the_remedy() {
    let scratch = Scratch::new("");
    let text = scratch.read("pgpool.conf");
    fs::write(
        scratch.path("pgpool.conf"),
        text.replace("num_init_children = 2", "num_init_children = 3000"),
    )
    .unwrap();
    let script = format!(
        "ulimit -n 2000 && exec {} -n -f {} -F {} -a {}",
        ours(),
        scratch.path("pgpool.conf").display(),
        scratch.path("pcp.conf").display(),
        scratch.path("pool_hba.conf").display(),
    );
    // root could raise the hard limit, unless the container takes that right away.
    let mut command = std::process::Command::new("setpriv");
    command.args([
        "--bounding-set",
        "-sys_resource",
        "--inh-caps",
        "-sys_resource",
    ]);
    let has_setpriv = command
        .arg("true")
        .status()
        .is_ok_and(|status| status.success());
    let mut command = if has_setpriv {
        let mut command = std::process::Command::new("setpriv");
        command.args([
            "--bounding-set",
            "-sys_resource",
            "--inh-caps",
            "-sys_resource",
        ]);
        command.args(["sh", "-c", &script]);
        command
    } else {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script]);
        command
    };
    let got = common::outcome(&mut command);
    assert_eq!(got.status, 3, "{}", got.stderr);
    let messages = got.messages();
    let at = messages
        .iter()
        .position(|line| line == "FATAL:  too few open files allowed for num_init_children")
        .unwrap_or_else(|| panic!("{messages:?}"));
    assert!(
        messages[at + 1].contains("the limit is 2000"),
        "{messages:?}"
    );
    assert!(messages[at + 2].contains("LimitNOFILE="), "{messages:?}");
}

#[test]
fn the_soft_limit_of_open_files_is_raised_to_what_the_slots_need() {
    let scratch = Scratch::new("");
    let text = scratch.read("pgpool.conf");
    fs::write(
        scratch.path("pgpool.conf"),
        text.replace("num_init_children = 2", "num_init_children = 1000"),
    )
    .unwrap();
    let script = format!(
        "ulimit -S -n 256 && exec {} -n -f {} -F {} -a {}",
        ours(),
        scratch.path("pgpool.conf").display(),
        scratch.path("pcp.conf").display(),
        scratch.path("pool_hba.conf").display(),
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]);
    let server = scratch.spawn(&mut command);
    scratch.wait_started();
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let soft: u64 = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|line| line.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap();
    assert!(soft >= 2000, "{soft}");
    signal(server.pid(), "INT");
}
