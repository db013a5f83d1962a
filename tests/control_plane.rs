//! The control plane as a whole, from outside: supervisor, health checks, primary search, hooks and
//! status file, against servers that answer just enough.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, RwLock,
        atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use pgpool_rs::{
    auth::{hba::Hba, passwd::PoolPasswd},
    cluster::{ClusterView, NodeId, NodeStatus},
    config::Config,
    control::{
        Command, Refusal, Reloaded, Report, Shared, StopMode, Supervisor, SupervisorMessage,
        runtime, supervisor,
    },
    observe::HealthStats,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};

const PRIMARY: u8 = 0;
const STANDBY: u8 = 1;
/// Every login is answered with an error.
const FULL: u8 = 2;

/// A server that logs everybody in and knows only `pg_is_in_recovery()`.
struct Server {
    port: u16,
    role: Arc<AtomicU8>,
    listening: Option<oneshot::Sender<()>>,
}

impl Server {
    fn start(role: u8) -> Server {
        let mut server = Server {
            port: 0,
            role: Arc::new(AtomicU8::new(role)),
            listening: None,
        };
        server.listen();
        server
    }

    /// Again on the same port.
    fn listen(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let (port_out, port_in) = std::sync::mpsc::channel();
        let (port, role) = (self.port, Arc::clone(&self.role));
        thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(async move {
                    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
                    port_out
                        .send(listener.local_addr().unwrap().port())
                        .unwrap();
                    let accept = async {
                        loop {
                            if let Ok((stream, _)) = listener.accept().await {
                                tokio::spawn(serve(stream, Arc::clone(&role)));
                            }
                        }
                    };
                    tokio::select! {
                        () = accept => {}
                        _ = stopped => {}
                    }
                });
        });
        self.port = port_in.recv().unwrap();
        self.listening = Some(stop);
    }

    fn stop(&mut self) {
        self.listening = None;
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

async fn serve(mut stream: TcpStream, role: Arc<AtomicU8>) -> Option<()> {
    let length = stream.read_u32().await.ok()?;
    let mut startup = vec![0; usize::try_from(length).ok()? - 4];
    stream.read_exact(&mut startup).await.ok()?;
    if role.load(Relaxed) == FULL {
        let text = b"SFATAL\0C53300\0Msorry, too many clients already\0\0";
        stream.write_all(&message(b'E', text)).await.ok()?;
        return None;
    }
    let ready = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
    stream.write_all(&ready).await.ok()?;
    loop {
        let tag = stream.read_u8().await.ok()?;
        let length = stream.read_u32().await.ok()?;
        let mut body = vec![0; usize::try_from(length).ok()? - 4];
        stream.read_exact(&mut body).await.ok()?;
        if tag != b'Q' {
            return None;
        }
        let row = if String::from_utf8_lossy(&body).contains("pg_is_in_recovery") {
            let value = if role.load(Relaxed) == PRIMARY {
                b'f'
            } else {
                b't'
            };
            message(b'D', &[0, 1, 0, 0, 0, 1, value])
        } else {
            Vec::new()
        };
        let done = [row, message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
        stream.write_all(&done).await.ok()?;
    }
}

/// A running control plane.
struct Pgpool {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Pgpool {
    fn start(conf: &str, next_conf: &str) -> Pgpool {
        let config = parsed(conf);
        let view = supervisor::initial_view(&config, false);
        let (sender, messages) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            view: ArcSwap::from_pointee(view),
            replication: ArcSwap::default(),
            health: (0..128)
                .map(|_| Mutex::new(HealthStats::default()))
                .collect(),
            hba: ArcSwap::from_pointee(Ok(Hba::default())),
            passwd: ArcSwap::from_pointee(PoolPasswd::default()),
            tls: ArcSwap::default(),
            write_lease: Default::default(),
            dataplane: RwLock::new(None),
            supervisor: sender,
            watchdog: OnceLock::new(),
            started: AtomicBool::new(false),
            start_time: SystemTime::now(),
            events: Default::default(),
            config: ArcSwap::from_pointee(config),
        });
        let (for_thread, next) = (Arc::clone(&shared), next_conf.to_owned());
        let (started_out, started_in) = std::sync::mpsc::channel();
        let thread = runtime::start(move || async move {
            let loader = move |_: &Config| Reloaded {
                config: Some(parsed(&next)),
                hba: None,
                passwd: None,
                tls: None,
                findings: Vec::new(),
            };
            let (stop, mut stopped) = mpsc::unbounded_channel();
            let (supervisor, search_done) =
                Supervisor::new(for_thread, messages, Arc::new(loader), stop);
            tokio::task::spawn_local(supervisor.run());
            search_done.await.unwrap();
            started_out.send(()).unwrap();
            stopped.recv().await;
        })
        .unwrap();
        started_in
            .recv_timeout(Duration::from_secs(20))
            .expect("a start");
        Pgpool {
            shared,
            thread: Some(thread),
        }
    }

    fn command(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<(), Refusal>>) -> Command,
    ) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        let sent = self
            .shared
            .supervisor
            .send(SupervisorMessage::Command(make(reply)));
        assert!(sent.is_ok());
        answer.blocking_recv().unwrap()
    }

    fn attach(&self, node: NodeId) -> Result<(), Refusal> {
        self.command(|reply| Command::Attach { node, reply })
    }

    fn detach(&self, node: NodeId) -> Result<(), Refusal> {
        self.command(|reply| Command::Detach {
            node,
            graceful: false,
            reply,
        })
    }

    #[track_caller]
    fn wait_for(&self, what: &str, condition: impl Fn(&ClusterView) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !condition(&self.shared.view.load()) {
            assert!(
                Instant::now() < end,
                "{what} did not come: {:?}",
                self.shared.view.load()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn statuses(&self) -> Vec<NodeStatus> {
        let view = self.shared.view.load();
        view.nodes.iter().map(|n| n.status).collect()
    }
}

impl Drop for Pgpool {
    fn drop(&mut self) {
        let stop = Command::Stop {
            mode: StopMode::Fast,
        };
        let _ = self
            .shared
            .supervisor
            .send(SupervisorMessage::Command(stop));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn parsed(text: &str) -> Config {
    Config::from_text(text).expect("a configuration").0
}

/// Settings for these servers; the hook notes its arguments in `hooks`.
fn conf(dir: &Path, servers: &[&Server], more: &str) -> String {
    let dir = dir.display();
    let mut text = format!(
        "backend_clustering_mode = 'streaming_replication'\n\
         logdir = '{dir}'\n\
         sr_check_period = 0\n\
         health_check_period = 1\n\
         health_check_max_retries = 0\n\
         search_primary_node_timeout = 10\n\
         failover_command = 'echo failover %d %m %M %P %N:%S >> {dir}/hooks'\n\
         failback_command = 'echo failback %d %m %M %P %N:%S >> {dir}/hooks'\n"
    );
    for (id, server) in servers.iter().enumerate() {
        text += &format!(
            "backend_hostname{id} = '127.0.0.1'\nbackend_port{id} = {}\nbackend_weight{id} = 1\n",
            server.port
        );
    }
    text + more
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn a_dead_primary_is_replaced_and_stays_down_over_a_restart_until_it_is_attached() {
    let dir = tempfile::tempdir().unwrap();
    let (mut zero, one) = (Server::start(PRIMARY), Server::start(STANDBY));
    let conf = conf(dir.path(), &[&zero, &one], "");
    let pgpool = Pgpool::start(&conf, &conf);
    assert_eq!(pgpool.shared.view.load().primary, Some(0));
    assert_eq!(read(dir.path().join("pgpool_status")), "up\nup\n");

    zero.stop();
    pgpool.wait_for("the end of node 0", |v| {
        v.nodes[0].status == NodeStatus::Down
    });
    assert_eq!(read(dir.path().join("pgpool_status")), "down\nup\n");
    pgpool.wait_for("the search", |v| v.primary_search_running);
    assert_eq!(pgpool.shared.view.load().write_node(), None);
    one.role.store(PRIMARY, Relaxed);
    pgpool.wait_for("the new primary", |v| v.write_node() == Some(1));
    let port = zero.port;
    assert_eq!(
        read(dir.path().join("hooks")),
        format!("failover 0 1 0 0 127.0.0.1:{port}\n")
    );
    drop(pgpool);

    zero.role.store(STANDBY, Relaxed);
    zero.listen();
    let pgpool = Pgpool::start(&conf, &conf);
    assert_eq!(pgpool.statuses(), [NodeStatus::Down, NodeStatus::Up]);
    assert_eq!(pgpool.attach(0), Ok(()));
    pgpool.wait_for("node 0", |v| v.is_valid(0) && v.primary == Some(1));
    assert_eq!(pgpool.attach(0), Ok(()), "attached already");
    pgpool.shared.report(Report::NodeUsed { node: 0 });
    pgpool.wait_for("its first session", |v| v.nodes[0].status == NodeStatus::Up);
    assert!(
        read(dir.path().join("hooks"))
            .lines()
            .any(|l| l == format!("failback 0 0 1 1 127.0.0.1:{}", one.port))
    );
}

#[test]
fn a_server_that_refuses_logins_is_not_detached_and_looks_find_it_alive() {
    let dir = tempfile::tempdir().unwrap();
    let (zero, mut one) = (Server::start(PRIMARY), Server::start(STANDBY));
    let conf = conf(dir.path(), &[&zero, &one], "health_check_period1 = 0\n");
    let pgpool = Pgpool::start(&conf, &conf);
    zero.role.store(FULL, Relaxed);
    for node in [0, 1] {
        pgpool.shared.report(Report::BackendShutdown {
            node,
            sqlstate: "57P01".into(),
            fatal: true,
        });
        pgpool.shared.report(Report::BackendError {
            node,
            reason: "connection reset".into(),
        });
    }
    thread::sleep(Duration::from_millis(2500));
    pgpool.wait_for("a look that fails", |_| {
        pgpool.shared.health[0].lock().unwrap().fail > 0
    });
    assert_eq!(pgpool.statuses(), [NodeStatus::Waiting; 2]);

    one.stop();
    pgpool.shared.report(Report::BackendShutdown {
        node: 1,
        sqlstate: "57P01".into(),
        fatal: true,
    });
    pgpool.wait_for("the end of node 1, without a period", |v| {
        v.nodes[1].status == NodeStatus::Down
    });
    assert_eq!(pgpool.shared.view.load().write_node(), Some(0));
    pgpool.wait_for("its hook", |_| !read(dir.path().join("hooks")).is_empty());
}

#[test]
fn nothing_is_detached_where_all_checks_are_switched_off() {
    let dir = tempfile::tempdir().unwrap();
    let (zero, mut one) = (Server::start(PRIMARY), Server::start(STANDBY));
    let off = "health_check_period1 = 0\nfailover_on_backend_error = off\n\
               failover_on_backend_shutdown = off\n";
    let conf = conf(dir.path(), &[&zero, &one], off);
    let pgpool = Pgpool::start(&conf, &conf);
    one.stop();
    pgpool.shared.report(Report::BackendShutdown {
        node: 1,
        sqlstate: "57P01".into(),
        fatal: true,
    });
    pgpool.shared.report(Report::BackendError {
        node: 1,
        reason: "connection refused".into(),
    });
    thread::sleep(Duration::from_millis(1500));
    assert!(pgpool.shared.view.load().is_valid(1));
}

#[test]
fn operators_get_the_refusals_of_the_original() {
    let dir = tempfile::tempdir().unwrap();
    let (zero, one) = (Server::start(PRIMARY), Server::start(STANDBY));
    let flag = "backend_flag1 = 'DISALLOW_TO_FAILOVER'\n";
    let conf = conf(dir.path(), &[&zero, &one], flag);
    let pgpool = Pgpool::start(&conf, &conf);
    let text = |result: Result<(), Refusal>| result.unwrap_err().message;
    assert!(
        text(pgpool.detach(1)).ends_with("is canceled because failover is disallowed on the node")
    );
    assert!(text(pgpool.detach(2)).starts_with("invalid degenerate backend request, node id: 2"));
    assert!(text(pgpool.attach(127)).starts_with("invalid failback request, node id: 127"));
    let graceful = |node| {
        pgpool.command(|reply| Command::Detach {
            node,
            graceful: true,
            reply,
        })
    };
    assert!(graceful(1).is_err());
    assert_eq!(graceful(0), Ok(()), "no clients are connected");
    pgpool.wait_for("node 0", |v| v.nodes[0].status == NodeStatus::Down);
}

#[test]
fn a_reload_adds_a_node_that_has_to_be_attached_and_is_checked_then() {
    let dir = tempfile::tempdir().unwrap();
    let (zero, mut one) = (Server::start(PRIMARY), Server::start(STANDBY));
    let old = conf(dir.path(), &[&zero], "");
    let new = conf(dir.path(), &[&zero, &one], "");
    let pgpool = Pgpool::start(&old, &new);
    assert_eq!(pgpool.command(|reply| Command::Reload { reply }), Ok(()));
    assert_eq!(pgpool.statuses(), [NodeStatus::Waiting, NodeStatus::Down]);
    assert_eq!(read(dir.path().join("pgpool_status")), "up\ndown\n");
    assert_eq!(pgpool.attach(1), Ok(()));
    pgpool.wait_for("node 1", |v| v.is_valid(1));
    one.stop();
    pgpool.wait_for("its end", |v| !v.is_valid(1));
}

#[test]
fn the_replication_check_finds_a_primary_that_others_have_promoted() {
    let dir = tempfile::tempdir().unwrap();
    let (zero, one) = (Server::start(STANDBY), Server::start(STANDBY));
    let more = "sr_check_period = 1\nsearch_primary_node_timeout = 1\n";
    let conf = conf(dir.path(), &[&zero, &one], more);
    let pgpool = Pgpool::start(&conf, &conf);
    assert_eq!(pgpool.shared.view.load().primary, None);
    one.role.store(PRIMARY, Relaxed);
    pgpool.wait_for("the primary", |v| v.primary == Some(1));
    one.role.store(STANDBY, Relaxed);
    zero.role.store(PRIMARY, Relaxed);
    pgpool.wait_for("the other primary", |v| v.primary == Some(0));
    assert_eq!(read(dir.path().join("hooks")), "", "nobody has failed");
}
