//! Clients at the second stage of an online recovery: who is cut, who goes on, who waits.
//!
//! The data plane is told here what the recovery tells it. With servers, scripts and the whole recovery:
//! compat/tests/test_recovery_stages.py.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, OnceLock, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use pgpool_rs::{
    auth::{hba::Hba, passwd::PoolPasswd},
    config::Config,
    control::{Shared, StopMode, supervisor},
    dataplane::{self, Listener},
    observe::HealthStats,
};
use tokio::sync::mpsc;

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

/// A server works on `slow`.
static SLOW_BEGUN: AtomicBool = AtomicBool::new(false);

fn read_startup(stream: &mut TcpStream) -> Option<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).ok()? - 4];
    stream.read_exact(&mut body).ok()
}

/// Logs everybody in; `BEGIN` begins, `slow` takes four seconds.
fn serve(mut stream: TcpStream) -> Option<()> {
    read_startup(&mut stream)?;
    let key = message(b'K', &[0, 0, 0, 7, 0, 0, 0, 9]);
    let ready = message(b'Z', b"I");
    stream
        .write_all(&[message(b'R', &[0; 4]), key, ready].concat())
        .ok()?;
    let mut state = b"I";
    loop {
        let (tag, body) = read_message(&mut stream)?;
        if tag != b'Q' {
            return None;
        }
        match &body[..] {
            b"BEGIN\0" => state = b"T",
            b"slow\0" => {
                SLOW_BEGUN.store(true, Relaxed);
                thread::sleep(Duration::from_secs(4));
            }
            _ => {}
        }
        let done = [message(b'C', b"DONE\0"), message(b'Z', state)].concat();
        stream.write_all(&done).ok()?;
    }
}

fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    port
}

struct Plane {
    handle: dataplane::Handle,
    port: u16,
    /// Nobody reads them, but the data plane sends them.
    _messages: mpsc::UnboundedReceiver<pgpool_rs::control::SupervisorMessage>,
}

impl Plane {
    fn start(limit: i64) -> Plane {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "backend_hostname0 = '127.0.0.1'\nbackend_port0 = {}\nbackend_weight0 = 1\n\
             logdir = '{}'\nnum_init_children = 8\nenable_pool_hba = off\n\
             client_idle_limit_in_recovery = {limit}\n",
            server(),
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
            dataplane: RwLock::new(None),
            events: Default::default(),
            supervisor,
            watchdog: OnceLock::new(),
            started: AtomicBool::new(true),
            start_time: SystemTime::now(),
            config: ArcSwap::from_pointee(config),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let handle = dataplane::start(&shared, vec![Listener::Tcp(listener)]).unwrap();
        Plane {
            handle,
            port,
            _messages: messages,
        }
    }

    /// Sends the start-up packet; the login is not waited for.
    fn knock(&self) -> Client {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let words = b"\0\x03\0\0user\0app\0database\0app\0\0";
        let length = u32::try_from(words.len() + 4).unwrap();
        stream.write_all(&length.to_be_bytes()).unwrap();
        stream.write_all(words).unwrap();
        Client(stream)
    }

    fn client(&self) -> Client {
        let mut client = self.knock();
        client.ready();
        client
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.handle.stop(StopMode::Immediate);
    }
}

struct Client(TcpStream);

impl Client {
    /// Reads up to ReadyForQuery.
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

    /// The error with which the session ends within the time; `None`: it goes on.
    fn end_within(&mut self, limit: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(limit)).unwrap();
        let (tag, body) = read_message(&mut self.0)?;
        assert_eq!(tag, b'E');
        let text = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(self.0.read(&mut [0]).ok(), Some(0), "closed after {text}");
        Some(text)
    }
}

#[test]
fn with_minus_one_idle_sessions_end_at_once_and_busy_ones_with_their_statement() {
    let plane = Plane::start(-1);
    let (mut idle, mut busy) = (plane.client(), plane.client());
    let mut inside = plane.client();
    inside.query("BEGIN");
    busy.send("slow");
    let began = Instant::now();
    while !SLOW_BEGUN.load(Relaxed) {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "no server works on it"
        );
        thread::sleep(Duration::from_millis(10));
    }
    plane.handle.hold_clients(true);
    for client in [&mut idle, &mut inside] {
        let said = client.end_within(Duration::from_secs(3)).expect("cut");
        assert!(said.contains("57000"), "{said}");
        assert!(said.contains("connection terminated due to online recovery"));
        assert!(said.contains("child connection forced to terminate due to client_idle_limit:-1"));
    }
    // Its statement is finished first.
    busy.ready();
    assert!(busy.end_within(Duration::from_secs(4)).is_some());
}

#[test]
fn with_a_limit_the_time_counts_from_the_second_stage_on() {
    let plane = Plane::start(2);
    let (mut idle, mut working) = (plane.client(), plane.client());
    // Longer than the limit, but before.
    thread::sleep(Duration::from_millis(2500));
    plane.handle.hold_clients(true);
    let began = Instant::now();
    let said = loop {
        if let Some(said) = idle.end_within(Duration::from_millis(300)) {
            break said;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "nobody is cut");
        working.query("SELECT 1");
    };
    assert!(
        began.elapsed() >= Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert!(
        said.contains("client_idle_limit_in_recovery:2 is reached"),
        "{said}"
    );
    assert!(said.contains("57000"), "{said}");
    plane.handle.hold_clients(false);
    thread::sleep(Duration::from_millis(1500));
    working.query("SELECT 1");
}

#[test]
fn with_zero_nobody_is_cut_and_who_comes_waits_for_the_end() {
    let plane = Plane::start(0);
    let mut idle = plane.client();
    plane.handle.hold_clients(true);
    let mut late = plane.knock();
    assert_eq!(late.end_within(Duration::from_secs(3)), None, "it waits");
    idle.query("SELECT 1");
    plane.handle.hold_clients(false);
    late.ready();
    late.query("SELECT 1");
}
