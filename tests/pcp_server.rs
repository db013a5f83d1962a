//! The PCP server on real sockets: the stock tools, floods, garbage and slow clients.
//!
//! The supervisor is played by the test, so that what reaches it can be seen. Tests with the
//! stock tools say that they skip when no tools are installed.

use std::{
    collections::HashMap,
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command as Process, Output},
    sync::{Arc, Mutex, OnceLock, RwLock, atomic::AtomicBool},
    thread,
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use bytes::BytesMut;
use md5::{Digest, Md5};
use pgpool_rs::{
    auth::{hba::Hba, passwd::PoolPasswd},
    cluster::{ClusterView, NodeReplication, NodeStatus, initial::initial_view},
    config::{
        Config, Release,
        settings::{ClusteringMode, CompatVersion},
    },
    control::{Command, Refusal, Shared, SupervisorMessage},
    observe::HealthStats,
    pcp::{self, LogRotation, ServerContext, codec, task::MAX_WAITING},
};
use tokio::sync::{mpsc, oneshot};

const USER: &str = "pcpadmin";
const PASSWORD: &str = "pcp secret";
/// As long as a graceful detach takes here.
const WAIT_FOR_CLIENTS: Duration = Duration::from_secs(4);

/// What reached the supervisor or the log collector, in words.
type Seen = Arc<Mutex<Vec<String>>>;

struct Server {
    folder: tempfile::TempDir,
    address: SocketAddr,
    seen: Seen,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// How the cluster under the server looks.
struct Setup {
    dialect: Release,
    compat: Option<CompatVersion>,
    mode: ClusteringMode,
    logging_collector: bool,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            dialect: Release::V4_3,
            compat: Some(version(3, 5)),
            mode: ClusteringMode::StreamingReplication,
            logging_collector: false,
        }
    }
}

fn version(minor: u8, patch: u8) -> CompatVersion {
    CompatVersion {
        release: Release::new(4, minor),
        patch,
    }
}

struct Collector(Seen);

impl LogRotation for Collector {
    fn rotate(&self) -> Result<(), String> {
        self.0.lock().unwrap().push("rotate".into());
        Ok(())
    }
}

impl Server {
    /// Three nodes: 0 primary and up, 1 standby and waiting, 2 down.
    fn start(setup: Setup) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let pcp_conf = folder.path().join("pcp.conf");
        fs::write(
            &pcp_conf,
            format!("{USER}:{}\n", md5_hex(&[PASSWORD.as_bytes()])),
        )
        .unwrap();
        let pcppass = folder.path().join("pcppass");
        fs::write(&pcppass, format!("*:*:{USER}:{PASSWORD}\n")).unwrap();
        fs::set_permissions(&pcppass, fs::Permissions::from_mode(0o600)).unwrap();

        let seen = Seen::default();
        let (supervisor, messages) = mpsc::unbounded_channel();
        let config = config(folder.path(), &setup);
        let shared = Arc::new(Shared {
            view: ArcSwap::from_pointee(view(&config)),
            replication: ArcSwap::from_pointee(replication()),
            health: (0..128)
                .map(|_| Mutex::new(HealthStats::default()))
                .collect(),
            hba: ArcSwap::from_pointee(Ok(Hba::default())),
            passwd: ArcSwap::from_pointee(PoolPasswd::default()),
            tls: ArcSwap::default(),
            write_lease: Default::default(),
            dataplane: RwLock::new(None),
            supervisor,
            watchdog: OnceLock::new(),
            started: AtomicBool::new(true),
            start_time: SystemTime::now(),
            events: Default::default(),
            config: ArcSwap::from_pointee(config),
        });
        let context = ServerContext {
            tools: None,
            log_rotation: Some(Arc::new(Collector(Arc::clone(&seen)))),
        };
        let (address_out, address_in) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let for_thread = Arc::clone(&seen);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listeners = pcp::bind(&shared.config.load_full()).await.unwrap();
                address_out.send(listeners.addresses()[0]).unwrap();
                tokio::spawn(supervise(messages, for_thread));
                tokio::select! {
                    () = pcp::serve(listeners, shared, context) => {}
                    _ = stopped => {}
                }
            });
        });
        Server {
            folder,
            address: address_in.recv().unwrap(),
            seen,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    fn wait_seen(&self, number: usize) -> Vec<String> {
        let end = Instant::now() + Duration::from_secs(10);
        while self.seen().len() < number && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        self.seen()
    }

    fn socket_file(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.0")
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// Runs a stock tool; its stdout and stderr as text.
    fn tool(&self, name: &str, arguments: &[&str]) -> (String, String) {
        let port = self.address.port().to_string();
        let output: Output = Process::new(stock(name).unwrap())
            .args(["-h", "127.0.0.1", "-p", &port, "-U", USER, "-w"])
            .args(arguments)
            .env("PCPPASSFILE", self.folder.path().join("pcppass"))
            .output()
            .unwrap();
        (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    fn log_in(&self) -> TcpStream {
        let mut stream = self.connect();
        log_in(&mut stream);
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// A supervisor that does all it is asked: node 1 is up, node 2 is down.
async fn supervise(mut messages: mpsc::UnboundedReceiver<SupervisorMessage>, seen: Seen) {
    while let Some(message) = messages.recv().await {
        let (SupervisorMessage::Command(command) | SupervisorMessage::Asked { command, .. }) =
            message
        else {
            continue;
        };
        let say = |text: String| seen.lock().unwrap().push(text);
        match command {
            Command::Attach { node, reply } => {
                say(format!("attach {node}"));
                let _ = reply.send(Ok(()));
            }
            Command::Detach { node: 2, reply, .. } => {
                let _ = reply.send(Err(Refusal::error(
                    "invalid degenerate backend request, node id : 2 status: [3] is not valid for failover",
                )));
            }
            Command::Detach {
                node,
                graceful,
                reply,
            } => {
                say(format!("detach {node} {graceful}"));
                tokio::spawn(async move {
                    if graceful {
                        tokio::time::sleep(WAIT_FOR_CLIENTS).await;
                    }
                    let _ = reply.send(Ok(()));
                });
            }
            Command::Recover { node: 2, reply } => {
                let _ = reply.send(Err(Refusal {
                    detail: "command:\"base.sh\": it failed".to_owned(),
                    ..Refusal::error(
                        "executing recovery, execution of command failed at \"1st stage\"",
                    )
                }));
            }
            Command::Recover { node, reply } => {
                say(format!("recover {node}"));
                let _ = reply.send(Ok(()));
            }
            Command::Reload { reply } => {
                say("reload".into());
                let _ = reply.send(Ok(()));
            }
            Command::Promote { node: 2, reply, .. } => {
                let _ = reply.send(Err(Refusal::error("invalid promote request")));
            }
            Command::Promote {
                node,
                switchover,
                graceful,
                reply,
            } => {
                say(format!("promote {node} {switchover} {graceful}"));
                let _ = reply.send(Ok(()));
            }
            Command::Stop { mode } => say(format!("stop {mode:?}")),
            Command::Stopping { .. } | Command::WhatIf { .. } => {}
        }
    }
}

fn log_in(stream: &mut (impl Read + Write)) {
    stream.write_all(b"M\x00\x00\x00\x04").unwrap();
    let salt: [u8; 4] = reply(stream).unwrap().payload[..].try_into().unwrap();
    let stored = md5_hex(&[PASSWORD.as_bytes()]);
    let with_user = md5_hex(&[stored.as_bytes(), USER.as_bytes()]);
    let response = md5_hex(&[with_user.as_bytes(), &salt]);
    let mut request = BytesMut::new();
    codec::put_texts(&mut request, b'R', &[USER, &response]);
    stream.write_all(&request).unwrap();
    assert_eq!(reply(stream).unwrap().kind, b'r');
}

fn md5_hex(parts: &[&[u8]]) -> String {
    Md5::digest(parts.concat())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The next reply; `None` when the server has closed.
fn reply(stream: &mut impl Read) -> Option<codec::Frame> {
    let mut bytes = vec![0; 5];
    match stream.read_exact(&mut bytes) {
        Ok(()) => {}
        Err(error)
            if [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&error.kind()) =>
        {
            return None;
        }
        Err(error) => panic!("no reply: {error}"),
    }
    let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
    bytes.resize(1 + length, 0);
    stream.read_exact(&mut bytes[5..]).unwrap();
    codec::take_reply(&mut BytesMut::from(&bytes[..]))
}

fn request(stream: &mut (impl Read + Write), bytes: &[u8]) -> codec::Frame {
    stream.write_all(bytes).unwrap();
    reply(stream).expect("a reply")
}

fn message_of(frame: &codec::Frame) -> (String, String) {
    let fields: HashMap<u8, String> = codec::notice_fields(&frame.payload)
        .into_iter()
        .map(|(letter, text)| (letter, String::from_utf8(text.to_vec()).unwrap()))
        .collect();
    (
        fields.get(&b'M').cloned().unwrap_or_default(),
        fields.get(&b'D').cloned().unwrap_or_default(),
    )
}

fn stock(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
}

/// `true`: say so and leave the test.
fn no_tools() -> bool {
    let absent = stock("pcp_node_count").is_none();
    if absent {
        eprintln!("skipped: no stock pcp_* tools (Debian package pgpool2) on this machine");
    }
    absent
}

const DONE: &str = " -- Command Successful\n";

#[test]
fn the_stock_tools_show_the_nodes() {
    if no_tools() {
        return;
    }
    let server = Server::start(Setup::default());
    assert_eq!(server.tool("pcp_node_count", &[]).0, "3\n");

    let (all, _) = server.tool("pcp_node_info", &[]);
    let lines: Vec<Vec<&str>> = all.lines().map(|l| l.split(' ').collect()).collect();
    assert_eq!(lines.len(), 3, "{all}");
    assert_eq!(
        lines[0][2..8],
        ["2", "0.500000", "up", "unknown", "primary", "unknown"]
    );
    assert_eq!(lines[1][2..5], ["1", "0.250000", "waiting"]);
    assert_eq!(lines[1][6], "standby");
    assert_eq!(lines[1][8..11], ["1024", "streaming", "async"]);
    assert_eq!(lines[2][2..5], ["3", "0.250000", "down"]);

    let (one, _) = server.tool("pcp_node_info", &["-n", "1"]);
    assert_eq!(one.lines().count(), 1);
    assert_eq!(one.lines().next(), all.lines().nth(1));
    let (verbose, _) = server.tool("pcp_node_info", &["-a", "-v"]);
    assert!(verbose.contains("Backend Status Name    : waiting\n") || verbose.contains("waiting"));

    let (_, wrong) = server.tool("pcp_node_info", &["-n", "7"]);
    assert_eq!(
        wrong,
        "ERROR:  informing node info failed\nDETAIL:  invalid node ID : 7\n\n"
    );
}

#[test]
fn an_old_file_keeps_the_words_of_a_node_where_scripts_look_for_them() {
    if no_tools() {
        return;
    }
    let server = Server::start(Setup {
        dialect: Release::V4_0,
        ..Setup::default()
    });
    let (line, _) = server.tool("pcp_node_info", &["-n", "0"]);
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[2..6], ["2", "0.500000", "up", "primary"], "{line}");
}

#[test]
fn an_emulated_4_0_speaks_its_own_layout() {
    let server = Server::start(Setup {
        dialect: Release::V4_0,
        compat: Some(version(0, 25)),
        ..Setup::default()
    });
    let mut stream = server.log_in();
    let info = request(&mut stream, b"I\x00\x00\x00\x061\0");
    let texts = info.texts();
    assert_eq!(texts.len(), 9);
    assert_eq!(texts[0], b"CommandComplete");
    assert_eq!(texts[3..5], [&b"1"[..], b"0"]);
    let wrong = request(&mut stream, b"I\x00\x00\x00\x069\0");
    assert_eq!(message_of(&wrong).1, "invalid node ID");
    let watchdog = request(&mut stream, b"W\x00\x00\x00\x060\0");
    assert_eq!(message_of(&watchdog).1, "watcdhog is not enabled");
    let promote = request(&mut stream, b"J\x00\x00\x00\x069\0");
    assert_eq!(message_of(&promote).0, "could not process recovery request");
}

#[test]
fn the_stock_tools_show_processes_status_and_health_checks() {
    if no_tools() {
        return;
    }
    let server = Server::start(Setup::default());
    assert_eq!(server.tool("pcp_proc_count", &[]).1, "");
    let (_, wrong) = server.tool("pcp_proc_info", &["-P", "999999"]);
    assert!(wrong.contains("invalid process ID : 999999"), "{wrong}");
    assert_eq!(server.tool("pcp_proc_info", &[]).1, "");
    assert_eq!(server.tool("pcp_pool_status", &[]).1, "");
    let (stats, errors) = server.tool("pcp_health_check_stats", &["-n", "2"]);
    assert_eq!(errors, "");
    assert!(stats.contains("down"), "{stats}");
    for (id, detail) in [
        ("3", "stats data for node ID 3 does not exist"),
        ("9", "invalid node ID 9"),
    ] {
        let (_, wrong) = server.tool("pcp_health_check_stats", &["-n", id]);
        assert!(wrong.contains(detail), "{wrong}");
    }
    let (_, watchdog) = server.tool("pcp_watchdog_info", &[]);
    assert_eq!(
        watchdog,
        "ERROR:  PCP: informing watchdog info failed\nDETAIL:  watchdog is not enabled\n\n"
    );
}

#[test]
fn the_stock_tools_change_what_they_say_they_change() {
    if no_tools() {
        return;
    }
    let server = Server::start(Setup::default());
    for (tool, arguments) in [
        ("pcp_attach_node", &["-n", "2"][..]),
        ("pcp_detach_node", &["-n", "1"]),
        ("pcp_detach_node", &["-g", "-n", "1"]),
        ("pcp_promote_node", &["-n", "1"]),
        ("pcp_promote_node", &["-s", "-n", "1"]),
        ("pcp_promote_node", &["-g", "--switchover", "-n", "1"]),
        ("pcp_reload_config", &[]),
        ("pcp_reload_config", &["-s", "cluster"]),
        ("pcp_stop_pgpool", &["-m", "s"]),
        ("pcp_stop_pgpool", &["-m", "f", "-s", "cluster"]),
        ("pcp_stop_pgpool", &["-m", "i"]),
    ] {
        let (out, errors) = server.tool(tool, arguments);
        assert_eq!((out, errors), (format!("{tool}{DONE}"), String::new()));
    }
    // A stop reaches the supervisor after its reply reached the tool.
    assert_eq!(
        server.wait_seen(11),
        [
            "attach 2",
            "detach 1 false",
            "detach 1 true",
            "promote 1 false false",
            "promote 1 true false",
            "promote 1 true true",
            "reload",
            "reload",
            "stop Smart",
            "stop Fast",
            "stop Immediate"
        ]
    );
}

#[test]
fn a_refusal_reaches_the_operator_and_nothing_is_success_that_is_not() {
    if no_tools() {
        return;
    }
    let server = Server::start(Setup::default());
    for (tool, arguments, message) in [
        (
            "pcp_detach_node",
            &["-n", "2"][..],
            "invalid degenerate backend request, node id : 2 status: [3] is not valid for failover",
        ),
        (
            "pcp_detach_node",
            &["-n", "7"],
            "invalid degenerate backend request, node id: 7 is out of range. node id must be between [0 and 2]",
        ),
        (
            "pcp_attach_node",
            &["-n", "7"],
            "invalid failback request, node id: 7 is out of range. node id must be between [0 and 2]",
        ),
        (
            "pcp_attach_node",
            &["-n", "128"],
            "invalid failback request, node id: 128 is out of range. node id must be between [0 and 128]",
        ),
        (
            "pcp_promote_node",
            &["-n", "7"],
            "could not process promote request",
        ),
        ("pcp_promote_node", &["-n", "0"], "invalid promote request"),
        (
            "pcp_promote_node",
            &["-s", "-n", "2"],
            "invalid promote request",
        ),
        (
            "pcp_recovery_node",
            &["-n", "7"],
            "process recovery request failed",
        ),
        (
            "pcp_recovery_node",
            &["-n", "2"],
            "executing recovery, execution of command failed at \"1st stage\"",
        ),
    ] {
        let (out, errors) = server.tool(tool, arguments);
        assert_eq!(out, "", "{tool} {arguments:?}");
        assert!(errors.contains(&format!(":  {message}\n")), "{errors}");
    }
    assert_eq!(server.seen(), [""; 0]);
}

#[test]
fn raw_mode_refuses_promotion_as_the_original_does() {
    let server = Server::start(Setup {
        mode: ClusteringMode::Raw,
        ..Setup::default()
    });
    let mut stream = server.log_in();
    let promote = request(&mut stream, b"J\x00\x00\x00\x081 \0n");
    assert_eq!(
        message_of(&promote).0,
        "invalid pgpool mode for process promote request"
    );
    assert_eq!(reply(&mut stream), None, "FATAL closes");
}

#[test]
fn log_rotation_and_query_cache_say_what_is_off() {
    let server = Server::start(Setup::default());
    let mut stream = server.log_in();
    let off = request(&mut stream, b"V\x00\x00\x00\x05l");
    assert_eq!(
        message_of(&off),
        (
            "process log rotation request failed".into(),
            "logging_collector is disabled".into()
        )
    );
    let cache = request(&mut stream, b"G\x00\x00\x00\x04");
    assert_eq!(message_of(&cache).0, "query cache is not enabled");

    let server = Server::start(Setup {
        logging_collector: true,
        ..Setup::default()
    });
    let done = request(&mut server.log_in(), b"V\x00\x00\x00\x05l");
    assert_eq!(
        (done.kind, done.texts()[0]),
        (b'v', &b"CommandComplete"[..])
    );
    assert_eq!(server.seen(), ["rotate"]);
}

#[test]
fn a_wrong_password_and_an_unknown_user_get_the_same_answer() {
    if no_tools() {
        return;
    }
    let server = Server::start(Setup::default());
    let port = server.address.port().to_string();
    let pass = server.folder.path().join("wrong");
    fs::write(&pass, "*:*:*:wrong\n").unwrap();
    fs::set_permissions(&pass, fs::Permissions::from_mode(0o600)).unwrap();
    for user in [USER, "nobody"] {
        let output = Process::new(stock("pcp_node_count").unwrap())
            .args(["-h", "127.0.0.1", "-p", &port, "-U", user, "-w"])
            .env("PCPPASSFILE", &pass)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            String::from_utf8(output.stderr).unwrap().contains(&format!(
                "authentication failed for user \"{user}\"\nDETAIL:  username and/or password does not match"
            ))
        );
    }
}

#[test]
fn the_unix_socket_serves_like_tcp_and_is_gone_at_the_end() {
    let mut server = Server::start(Setup::default());
    let path = server.socket_file();
    let mut stream = UnixStream::connect(&path).unwrap();
    log_in(&mut stream);
    let count = request(&mut stream, b"L\x00\x00\x00\x04");
    assert_eq!(count.texts(), [&b"CommandComplete"[..], b"3"]);
    server.end();
    assert!(!path.exists());
}

#[test]
fn a_graceful_detach_of_one_client_does_not_hold_up_another() {
    let server = Server::start(Setup::default());
    let mut waiting = server.log_in();
    let begin = Instant::now();
    waiting.write_all(b"d\x00\x00\x00\x061\0").unwrap();
    let mut other = server.log_in();
    assert_eq!(request(&mut other, b"L\x00\x00\x00\x04").kind, b'l');
    assert!(begin.elapsed() < WAIT_FOR_CLIENTS);
    assert_eq!(reply(&mut waiting).unwrap().kind, b'd');
    assert!(begin.elapsed() >= WAIT_FOR_CLIENTS);
}

#[test]
fn requests_that_arrive_in_one_piece_or_byte_by_byte_are_all_answered_in_order() {
    let server = Server::start(Setup::default());
    let mut stream = server.log_in();
    let mut together = Vec::new();
    for _ in 0..200 {
        together.extend_from_slice(b"L\x00\x00\x00\x04F\x00\x00\x00\x04I\x00\x00\x00\x069\0");
    }
    stream.write_all(&together).unwrap();
    for _ in 0..200 {
        assert_eq!(reply(&mut stream).unwrap().kind, b'l');
        assert_eq!(reply(&mut stream).unwrap().kind, b'E');
    }
    for byte in b"L\x00\x00\x00\x04X\x00\x00\x00\x04" {
        stream.write_all(&[*byte]).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(reply(&mut stream).unwrap().kind, b'l');
    assert_eq!(reply(&mut stream), None);
}

#[test]
fn garbage_is_answered_or_closed_and_nobody_else_notices() {
    let server = Server::start(Setup::default());
    let mut bystander = server.log_in();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..300 {
        let mut stream = if round % 3 == 0 {
            server.log_in()
        } else {
            server.connect()
        };
        let mut garbage = Vec::new();
        for _ in 0..(round % 97) * 8 + 1 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            garbage.push(seed.to_be_bytes()[0]);
        }
        // The server may have closed in the middle.
        let _ = stream.write_all(&garbage);
        if round % 2 == 0 {
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            assert!(rest.len() < 4096, "{} bytes", rest.len());
        }
        if round % 50 == 0 {
            assert_eq!(request(&mut bystander, b"L\x00\x00\x00\x04").kind, b'l');
        }
    }
    for length in [0_u32, 3, 260, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        let mut stream = server.log_in();
        let mut bytes = vec![b'L'];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&[0; 100]);
        let answer = request(&mut stream, &bytes);
        assert_eq!(
            message_of(&answer),
            (
                "invalid PCP packet".into(),
                format!("incorrect packet length ({})", length.cast_signed())
            )
        );
        assert_eq!(reply(&mut stream), None);
    }
    assert_eq!(request(&mut bystander, b"L\x00\x00\x00\x04").kind, b'l');
}

#[test]
fn a_flood_of_connections_without_a_login_costs_the_oldest_of_them() {
    let server = Server::start(Setup::default());
    let mut logged_in = server.log_in();
    let flood: Vec<TcpStream> = (0..MAX_WAITING + 40).map(|_| server.connect()).collect();
    let mut late = server.log_in();
    assert_eq!(request(&mut late, b"L\x00\x00\x00\x04").kind, b'l');
    assert_eq!(request(&mut logged_in, b"L\x00\x00\x00\x04").kind, b'l');
    let closed = || {
        flood
            .iter()
            .filter(|stream| {
                stream
                    .set_read_timeout(Some(Duration::from_millis(2)))
                    .unwrap();
                let mut stream: &TcpStream = stream;
                !matches!(stream.read(&mut [0]), Err(e) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&e.kind()))
            })
            .count()
    };
    // Each is closed by its own task.
    let begin = Instant::now();
    while closed() < 41 && begin.elapsed() < Duration::from_secs(10) {}
    assert_eq!(closed(), 41, "the surplus, and one more for the late login");
    // The newest of the flood may still log in.
    let mut newest = flood.last().unwrap().try_clone().unwrap();
    newest
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    log_in(&mut newest);
}

#[test]
fn a_client_that_never_reads_stops_only_itself() {
    let server = Server::start(Setup::default());
    let mut deaf = server.log_in();
    deaf.set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    // Requests whose answers nobody takes: at some point the server stops reading them.
    let many: Vec<u8> = b"I\x00\x00\x00\x069\0".repeat(20_000);
    let mut refused = false;
    for _ in 0..60 {
        if deaf.write_all(&many).is_err() {
            refused = true;
            break;
        }
    }
    assert!(
        refused,
        "the server took 8 MB of requests without its answers being read"
    );
    let mut other = server.log_in();
    assert_eq!(request(&mut other, b"L\x00\x00\x00\x04").kind, b'l');
}

fn view(config: &Config) -> ClusterView {
    let statuses = [NodeStatus::Up, NodeStatus::Waiting, NodeStatus::Down];
    let mut view = initial_view(&config.settings, &statuses, SystemTime::now());
    view.primary = (view.mode == ClusteringMode::StreamingReplication).then_some(0);
    view.primary_search_running = false;
    view
}

fn replication() -> Vec<NodeReplication> {
    let standby = NodeReplication {
        delay_bytes: 1024,
        delay_time: Duration::from_millis(3),
        state: "streaming".into(),
        sync_state: "async".into(),
    };
    vec![
        NodeReplication::default(),
        standby,
        NodeReplication::default(),
    ]
}

fn config(folder: &Path, setup: &Setup) -> Config {
    let mode = match setup.mode {
        ClusteringMode::Raw => "raw",
        _ => "streaming_replication",
    };
    let text = format!(
        "backend_clustering_mode = '{mode}'\n\
         pcp_listen_addresses = '127.0.0.1'\npcp_socket_dir = '{folder}'\n\
         num_init_children = 4\nmax_pool = 4\n\
         health_check_period = 0\nsr_check_period = 0\n\
         backend_hostname0 = '127.0.0.1'\nbackend_port0 = 5432\nbackend_weight0 = 2\n\
         backend_hostname1 = '127.0.0.1'\nbackend_port1 = 5433\nbackend_weight1 = 1\n\
         backend_hostname2 = '127.0.0.1'\nbackend_port2 = 5434\nbackend_weight2 = 1\n\
         logging_collector = {collector}\n",
        folder = folder.display(),
        collector = setup.logging_collector,
    );
    let (mut config, _) = Config::from_text(&text).unwrap();
    config.dialect = setup.dialect;
    config.pcp_path = folder.join("pcp.conf");
    config.settings.own.compat_version = setup.compat;
    // The system chooses a free one.
    config.settings.pcp_port = 0;
    config
}
