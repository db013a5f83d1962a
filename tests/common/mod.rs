//! A scratch folder with a configuration, and programs run in it. Every test has its own folder and ports.

#![allow(dead_code)]

use std::{
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    io::Read,
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            net::{SocketAddr, UnixDatagram},
            process::ExitStatusExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

/// Longest time that anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const STOCK: &str = "/usr/sbin/pgpool";

pub fn ours() -> &'static str {
    env!("CARGO_BIN_EXE_pgpool")
}

/// The original, if it is installed; says so if not.
pub fn stock() -> Option<&'static str> {
    if Path::new(STOCK).exists() {
        return Some(STOCK);
    }
    eprintln!("skipped: {STOCK} is not installed");
    None
}

pub struct Scratch {
    folder: tempfile::TempDir,
    pub port: u16,
    pub pcp_port: u16,
}

impl Scratch {
    /// A raw-mode configuration of the 4.3 dialect with one backend that is never asked.
    pub fn new(extra: &str) -> Scratch {
        let scratch = Scratch {
            folder: tempfile::tempdir().unwrap(),
            port: free_port(),
            pcp_port: free_port(),
        };
        let dir = scratch.dir().display();
        let text = format!(
            "backend_clustering_mode = 'raw'\n\
             listen_addresses = '127.0.0.1'\n\
             port = {}\n\
             socket_dir = '{dir}'\n\
             pcp_listen_addresses = ''\n\
             pcp_port = {}\n\
             pcp_socket_dir = '{dir}'\n\
             backend_hostname0 = '127.0.0.1'\n\
             backend_port0 = {}\n\
             health_check_period = 0\n\
             sr_check_period = 0\n\
             num_init_children = 2\n\
             max_pool = 1\n\
             pid_file_name = 'pgpool.pid'\n\
             logdir = '{dir}'\n\
             {extra}\n",
            scratch.port,
            scratch.pcp_port,
            free_port(),
        );
        fs::write(scratch.path("pgpool.conf"), text).unwrap();
        fs::write(scratch.path("pcp.conf"), "").unwrap();
        fs::write(scratch.path("pool_hba.conf"), "").unwrap();
        scratch
    }

    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn append(&self, line: &str) {
        let text = self.read("pgpool.conf") + line + "\n";
        fs::write(self.path("pgpool.conf"), text).unwrap();
    }

    pub fn pid(&self) -> Option<i32> {
        self.read("pgpool.pid").trim_end_matches('\0').parse().ok()
    }

    /// `program` on this folder's files, with more options or words.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.dir())
            .env_remove("NOTIFY_SOCKET")
            .env_remove("RUST_LOG")
            .arg("-f")
            .arg(self.path("pgpool.conf"))
            .arg("-F")
            .arg(self.path("pcp.conf"))
            .arg("-a")
            .arg(self.path("pool_hba.conf"))
            .args(args);
        command
    }

    pub fn run(&self, program: &str, args: &[&str]) -> Outcome {
        outcome(&mut self.command(program, args))
    }

    /// `pgpool -n` in the background; stderr goes to the file `stderr`.
    pub fn start(&self, program: &str, args: &[&str]) -> Server {
        let mut all = vec!["-n"];
        all.extend(args);
        self.spawn(&mut self.command(program, &all))
    }

    pub fn spawn(&self, command: &mut Command) -> Server {
        let stderr = fs::File::create(self.path("stderr")).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        Server { child }
    }

    /// Waits for a text in a file of this folder.
    pub fn wait_for(&self, name: &str, text: &str) {
        until(&format!("{text:?} in {name}"), || {
            self.read(name).contains(text)
        });
    }

    pub fn wait_started(&self) {
        self.wait_for("stderr", "successfully started");
    }
}

pub struct Outcome {
    pub status: i32,
    pub stderr: String,
}

impl Outcome {
    /// stderr without prefixes: what stands behind the last `pid N: ` of each line.
    pub fn messages(&self) -> Vec<String> {
        messages(&self.stderr)
    }
}

/// Lines without the default `log_line_prefix`, which holds time and pid.
pub fn messages(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| match line.split_once(" pid ") {
            Some((_, rest)) => match rest.split_once(": ") {
                Some((pid, rest)) if pid.bytes().all(|b| b.is_ascii_digit()) => rest.to_owned(),
                _ => line.to_owned(),
            },
            None => line.to_owned(),
        })
        .collect()
}

/// Runs to the end. Output goes through files: a daemon that keeps a pipe open must not hold us up.
pub fn outcome(command: &mut Command) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stderr");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&path).unwrap())
        .spawn()
        .unwrap();
    let status = wait(&mut child);
    Outcome {
        status,
        stderr: fs::read_to_string(&path).unwrap(),
    }
}

/// A pgpool in the foreground; killed when dropped.
pub struct Server {
    child: Child,
}

impl Server {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Exit status, 128 plus the signal if one ended it.
    pub fn wait(&mut self) -> i32 {
        wait(&mut self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            // The children of the original end with a fast shutdown only.
            self.signal("INT");
            let deadline = Instant::now() + Duration::from_secs(3);
            while self.child.try_wait().ok().flatten().is_none() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(20));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

pub fn signal(pid: i32, name: &str) {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status()
        .unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

fn wait(child: &mut Child) -> i32 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the program does not end");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process ends no more by any of these signals: it ignores them, or has a handler.
pub fn is_past(pid: i32, signals: &[i32]) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let masks = status.lines().filter_map(|line| {
        let mask = line
            .strip_prefix("SigIgn:")
            .or(line.strip_prefix("SigCgt:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    let past = masks.fold(0, |all, mask| all | mask);
    signals.iter().all(|signal| (past >> (signal - 1)) & 1 == 1)
}

/// A port that nobody else gets until we end. It is none of those that the kernel gives to outgoing connections, and
/// reserved as the compat tests do it, by an abstract socket of that name.
pub fn free_port() -> u16 {
    static RESERVED: Mutex<Vec<UnixDatagram>> = Mutex::new(Vec::new());
    loop {
        let random = RandomState::new().build_hasher().finish();
        let port = 12_000 + u16::try_from(random % 20_000).unwrap();
        let name = SocketAddr::from_abstract_name(format!("pgpool-compat-port-{port}")).unwrap();
        let Ok(mark) = UnixDatagram::bind_addr(&name) else {
            continue;
        };
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            RESERVED.lock().unwrap().push(mark);
            return port;
        }
    }
}

pub fn read_to_end(mut source: impl Read) -> String {
    let mut text = String::new();
    source.read_to_string(&mut text).unwrap();
    text
}
