//! Sessions of a pgpool that keeps a write lease: what reaches the primary, and what its answers become, when
//! the lease ends. Servers are threads here that note what they were sent.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use pgpool_rs::{
    auth::{hba::Hba, passwd::PoolPasswd},
    cluster::{ClusterView, NodeStatus},
    config::Config,
    control::{Shared, StopMode, supervisor},
    dataplane::{self, Listener},
    observe::HealthStats,
    watchdog::{clock, write_lease::Serving},
};
use tokio::sync::mpsc;

/// Long enough for what would happen to happen.
const MOMENT: Duration = Duration::from_millis(400);

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn read_message(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let mut body = vec![0; usize::try_from(length).ok()? - 4];
    stream.read_exact(&mut body).ok()?;
    Some((head[0], body))
}

fn read_startup(stream: &mut TcpStream) -> Option<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).ok()? - 4];
    stream.read_exact(&mut body).ok()
}

/// Queries that a server was sent, in their order.
type Log = Arc<Mutex<Vec<String>>>;

/// Logs everybody in and answers each query, `COMMIT` after a second.
fn serve(mut stream: TcpStream, log: &Log) -> Option<()> {
    read_startup(&mut stream)?;
    let key = message(b'K', &[0, 0, 0, 7, 0, 0, 0, 9]);
    let ready = message(b'Z', b"I");
    stream
        .write_all(&[message(b'R', &[0; 4]), key, ready].concat())
        .ok()?;
    loop {
        let (tag, body) = read_message(&mut stream)?;
        let text = String::from_utf8_lossy(&body[..body.len().saturating_sub(1)]).into_owned();
        log.lock().unwrap().push(match tag {
            b'Q' => text.clone(),
            other => char::from(other).to_string(),
        });
        if tag != b'Q' {
            return None;
        }
        if text == "COMMIT" {
            thread::sleep(Duration::from_secs(1));
        }
        let done = [message(b'C', &body), message(b'Z', b"I")].concat();
        stream.write_all(&done).ok()?;
    }
}

fn server() -> (u16, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let log = Log::default();
    let seen = log.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let log = log.clone();
            thread::spawn(move || serve(stream, &log));
        }
    });
    (port, seen)
}

/// A majority was heard of just now.
fn lasts(time: Duration) -> Serving {
    let now = clock::now();
    Serving::Until {
        until: now + time,
        heard: now,
    }
}

struct Plane {
    shared: Arc<Shared>,
    handle: dataplane::Handle,
    port: u16,
    primary: Log,
    /// Nobody reads them, but the data plane sends them.
    _messages: mpsc::UnboundedReceiver<pgpool_rs::control::SupervisorMessage>,
}

impl Plane {
    /// Two servers, the first of which is the primary; nothing is balanced.
    fn start() -> Plane {
        let dir = tempfile::tempdir().unwrap();
        let (primary_port, primary) = server();
        let (standby_port, _) = server();
        let text = format!(
            "backend_hostname0 = '127.0.0.1'\nbackend_port0 = {primary_port}\n\
             backend_hostname1 = '127.0.0.1'\nbackend_port1 = {standby_port}\n\
             logdir = '{}'\nnum_init_children = 8\nenable_pool_hba = off\nload_balance_mode = off\n\
             reset_query_list = 'RESET'\n",
            dir.path().display()
        );
        let config = Config::from_text(&text).expect("a configuration").0;
        let (supervisor, messages) = mpsc::unbounded_channel();
        let mut view = supervisor::initial_view(&config, false);
        view.primary = Some(0);
        view.primary_search_running = false;
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
            watchdog: Default::default(),
            dataplane: RwLock::new(None),
            events: Default::default(),
            supervisor,
            started: AtomicBool::new(true),
            start_time: SystemTime::now(),
            config: ArcSwap::from_pointee(config),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let handle = dataplane::start(&shared, vec![Listener::Tcp(listener)]).unwrap();
        let plane = Plane {
            shared,
            handle,
            port,
            primary,
            _messages: messages,
        };
        plane.serve_for(Duration::from_secs(60));
        plane
    }

    fn serve_for(&self, time: Duration) {
        let until = lasts(time);
        if self.shared.write_lease.set(until) {
            self.handle.serving_again();
        }
    }

    /// Hears of a majority whenever a session wishes it, as the watchdog does, until that is stopped.
    fn hear(&self) -> Arc<AtomicBool> {
        let goes_on = Arc::new(AtomicBool::new(true));
        let (shared, hears) = (self.shared.clone(), goes_on.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                while hears.load(Relaxed) {
                    let pause = Duration::from_millis(20);
                    if tokio::time::timeout(pause, shared.write_lease.wanted())
                        .await
                        .is_ok()
                        && hears.load(Relaxed)
                    {
                        shared.write_lease.set(lasts(Duration::from_secs(60)));
                    }
                }
            });
        });
        goes_on
    }

    fn hold(&self) {
        self.shared.write_lease.set(Serving::Held);
    }

    /// The other server becomes the primary. `told`: and sessions learn of it.
    fn promote_the_other(&self, told: bool) {
        let mut view = ClusterView::clone(&self.shared.view.load());
        view.version += 1;
        view.nodes[0].status = NodeStatus::Down;
        view.primary = Some(1);
        self.shared.view.store(Arc::new(view));
        if told {
            self.handle.view_changed();
        }
    }

    fn client(&self) -> Client {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let words = b"\0\x03\0\0user\0app\0database\0app\0\0";
        let length = u32::try_from(words.len() + 4).unwrap();
        stream.write_all(&length.to_be_bytes()).unwrap();
        stream.write_all(words).unwrap();
        let mut client = Client(stream);
        client.ready();
        client
    }

    fn primary_has(&self, query: &str) -> bool {
        self.primary.lock().unwrap().iter().any(|q| q == query)
    }

    #[track_caller]
    fn wait_primary_has(&self, query: &str) {
        let began = Instant::now();
        while !self.primary_has(query) {
            assert!(began.elapsed() < Duration::from_secs(20), "no {query}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.handle.stop(StopMode::Immediate);
    }
}

struct Client(TcpStream);

impl Client {
    /// Kinds of all messages up to ReadyForQuery.
    #[track_caller]
    fn ready(&mut self) {
        self.0
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        loop {
            match read_message(&mut self.0).expect("an answer") {
                (b'Z', _) => return,
                (b'E', body) => panic!("{}", String::from_utf8_lossy(&body)),
                _ => {}
            }
        }
    }

    fn send(&mut self, sql: &str) {
        let body = [sql.as_bytes(), b"\0"].concat();
        self.0.write_all(&message(b'Q', &body)).unwrap();
    }

    #[track_caller]
    fn query(&mut self, sql: &str) {
        self.send(sql);
        self.ready();
    }

    /// Nothing comes for a while.
    #[track_caller]
    fn waits(&mut self, time: Duration) {
        self.0.set_read_timeout(Some(time)).unwrap();
        let said = read_message(&mut self.0);
        assert!(said.is_none(), "{said:?}");
    }

    /// The error with which the session ends; whatever comes before it is a failure.
    #[track_caller]
    fn ends(&mut self) -> String {
        self.0
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let (tag, body) = read_message(&mut self.0).expect("an error");
        let text = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(char::from(tag), 'E', "{text}");
        assert_eq!(self.0.read(&mut [0]).ok(), Some(0), "closed after {text}");
        text
    }
}

#[test]
fn a_write_waits_for_the_lease_and_then_is_done() {
    let plane = Plane::start();
    let hears = plane.hear();
    let mut client = plane.client();
    client.query("INSERT 1");
    hears.store(false, Relaxed);
    plane.hold();
    client.send("INSERT 2");
    client.waits(MOMENT);
    assert!(!plane.primary_has("INSERT 2"));
    plane.serve_for(Duration::from_secs(60));
    plane.hear();
    client.ready();
    assert!(plane.primary_has("INSERT 2"));
}

#[test]
fn a_lease_that_runs_out_holds_writes_without_anybody_doing_anything() {
    let plane = Plane::start();
    let mut client = plane.client();
    plane.serve_for(Duration::from_millis(200));
    thread::sleep(Duration::from_millis(250));
    client.send("INSERT 1");
    client.waits(MOMENT);
    assert!(!plane.primary_has("INSERT 1"));
}

#[test]
fn a_commit_that_is_answered_after_the_lease_is_told_when_the_primary_is_still_the_same() {
    let plane = Plane::start();
    let mut client = plane.client();
    client.send("COMMIT");
    // A second before its answer.
    plane.wait_primary_has("COMMIT");
    plane.hold();
    client.waits(Duration::from_millis(1_500));
    assert!(plane.primary_has("COMMIT"));
    plane.serve_for(Duration::from_secs(60));
    plane.hear();
    client.ready();
}

#[test]
fn a_commit_that_is_answered_after_the_lease_is_never_told_when_another_is_the_primary() {
    let plane = Plane::start();
    let mut client = plane.client();
    client.send("COMMIT");
    // A second before its answer.
    plane.wait_primary_has("COMMIT");
    plane.hold();
    client.waits(Duration::from_millis(1_500));
    plane.promote_the_other(true);
    let said = client.ends();
    assert!(said.contains("57P01"), "{said}");
}

#[test]
fn a_session_that_does_not_know_of_the_new_primary_yet_does_not_pass() {
    let plane = Plane::start();
    let mut client = plane.client();
    client.query("SELECT 1");
    plane.hold();
    plane.promote_the_other(false);
    assert!(plane.shared.write_lease.set(lasts(Duration::from_secs(60))));
    client.send("INSERT 2");
    client.waits(MOMENT);
    assert!(!plane.primary_has("INSERT 2"));
    plane.handle.serving_again();
    let said = client.ends();
    assert!(said.contains("57P01"), "{said}");
    assert!(!plane.primary_has("INSERT 2"));
}

#[test]
fn what_a_client_has_sent_before_it_left_is_not_done_later() {
    let plane = Plane::start();
    let (mut leaves, mut says_goodbye) = (plane.client(), plane.client());
    plane.hold();
    leaves.send("INSERT 1");
    let mut bytes = message(b'Q', b"INSERT 2\0");
    bytes.extend(message(b'X', b""));
    says_goodbye.0.write_all(&bytes).unwrap();
    says_goodbye.waits(MOMENT);
    leaves.0.shutdown(Shutdown::Both).unwrap();
    let began = Instant::now();
    while plane.handle.connected_clients() > 0 {
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "a client that has gone is noticed"
        );
        thread::sleep(Duration::from_millis(50));
    }
    plane.serve_for(Duration::from_secs(60));
    thread::sleep(MOMENT);
    let seen = plane.primary.lock().unwrap().clone();
    let written: Vec<&String> = seen.iter().filter(|q| q.starts_with("INSERT")).collect();
    assert!(written.is_empty(), "{written:?}");
    assert!(!plane.primary_has("RESET"), "{seen:?}");
}

#[test]
fn a_client_that_comes_meanwhile_waits_with_its_first_write() {
    let plane = Plane::start();
    plane.hold();
    let mut client = plane.client();
    client.send("INSERT 1");
    client.waits(MOMENT);
    plane.serve_for(Duration::from_secs(60));
    plane.hear();
    client.ready();
    assert!(plane.primary_has("INSERT 1"));
}

#[test]
fn a_write_is_acknowledged_when_a_majority_was_heard_of_behind_it() {
    let plane = Plane::start();
    let mut client = plane.client();
    client.send("INSERT 1");
    // Done, and not told.
    plane.wait_primary_has("INSERT 1");
    client.waits(MOMENT);
    plane.hear();
    client.ready();
}

#[test]
fn a_write_that_nobody_was_heard_of_behind_is_never_acknowledged_when_another_is_the_primary() {
    let plane = Plane::start();
    let mut client = plane.client();
    client.send("INSERT 1");
    plane.wait_primary_has("INSERT 1");
    client.waits(MOMENT);
    plane.hold();
    plane.promote_the_other(true);
    let said = client.ends();
    assert!(said.contains("57P01"), "{said}");
}

#[test]
fn reads_are_answered_without_that() {
    let plane = Plane::start();
    let mut client = plane.client();
    client.query("SELECT 1");
    client.query("BEGIN");
}
