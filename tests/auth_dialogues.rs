//! The authentication cores against a real PostgreSQL, a real psql and the files of the stock tools.
//!
//! Starts a server of its own in a scratch directory. Where the programs are not installed the tests
//! say so and pass.

use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use pgpool_rs::auth::{
    ErrorReport,
    hba::{Method, Origin},
    keys::DerivedKeys,
    passwd::{PoolPasswd, Secret},
    session_auth::{Action, HbaVerdict, Inputs, Randomness, Remembered, SessionAuth},
};

const BIN: &str = "/usr/lib/postgresql/15/bin";
/// Normalized by SASLprep, so that a side that forgets it fails.
const ODD: &str = "pässwörd \u{2168}\u{ad}";

#[test]
fn every_method_of_postgresql_is_passed_and_psql_is_let_in() {
    let Some(server) = Server::start() else {
        return;
    };
    for (user, password) in [
        ("u_md5", "secret"),
        ("u_scram", "secret"),
        ("u_odd", ODD),
        ("u_password", "secret"),
        ("u_trust", "secret"),
    ] {
        let entry = Secret::Clear(password.to_owned());
        let result = log_in(
            &server,
            user,
            HbaVerdict::Method(Method::Trust),
            Some(entry),
        );
        assert!(result.is_ok(), "{user}: {result:?}");
    }
    let hash = Secret::Md5(md5_of("secret", "u_md5"));
    assert!(
        log_in(
            &server,
            "u_md5",
            HbaVerdict::Method(Method::Trust),
            Some(hash)
        )
        .is_ok()
    );

    for user in ["u_md5", "u_scram", "u_password"] {
        let entry = Secret::Clear("wrong".to_owned());
        let error = log_in(
            &server,
            user,
            HbaVerdict::Method(Method::Trust),
            Some(entry),
        );
        assert_eq!(
            error.unwrap_err().detail,
            format!("password authentication failed for user \"{user}\"")
        );
    }

    for (hba, user, password) in [
        (HbaVerdict::Method(Method::Md5), "u_md5", "secret"),
        (HbaVerdict::Method(Method::Md5), "u_scram", "secret"),
        (HbaVerdict::Method(Method::ScramSha256), "u_scram", "secret"),
        (HbaVerdict::Method(Method::ScramSha256), "u_md5", "secret"),
        (HbaVerdict::Method(Method::ScramSha256), "u_odd", ODD),
        (HbaVerdict::Method(Method::Password), "u_scram", "secret"),
        (HbaVerdict::Off, "u_scram", "secret"),
        (HbaVerdict::Off, "u_md5", "secret"),
        (HbaVerdict::Off, "u_password", "secret"),
    ] {
        let entry = Some(Secret::Clear(password.to_owned()));
        let right = psql_through(&server, hba, entry.clone(), user, password);
        assert_eq!(
            String::from_utf8_lossy(&right.stdout).trim(),
            user,
            "{hba:?} {user}: {}",
            String::from_utf8_lossy(&right.stderr)
        );
        let wrong = psql_through(&server, hba, entry, user, "wrong");
        assert!(!wrong.status.success(), "{hba:?} {user}");
        assert!(wrong.stdout.is_empty());
    }
}

#[test]
fn files_of_the_stock_tools_are_read() {
    let (Some(pg_md5), Some(pg_enc)) = (program("pg_md5"), program("pg_enc")) else {
        eprintln!("skipped: pg_md5 and pg_enc are not installed");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("pgpool.conf");
    let key = dir.path().join("key");
    fs::write(&conf, "pool_passwd = 'pool_passwd'\n").unwrap();
    fs::write(&key, "a key of our own\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let run = |tool: &Path, arguments: &[&str]| {
        let output = Command::new(tool)
            .args(["-m", "-f"])
            .arg(&conf)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let key_text = key.to_str().unwrap();

    run(&pg_md5, &["-u", "hashed", "secret"]);
    run(&pg_enc, &["-k", key_text, "-u", "crypted", "secret"]);
    run(&pg_enc, &["-k", key_text, "-u", "odd", "p:a\\ß w"]);

    let passwd = PoolPasswd::load(Some(&dir.path().join("pool_passwd")), Some(&key)).unwrap();
    assert_eq!(
        passwd.get("hashed"),
        Some(Secret::Md5(md5_of("secret", "hashed")))
    );
    assert_eq!(passwd.get("crypted"), Some(Secret::Clear("secret".into())));
    assert_eq!(passwd.get("odd"), Some(Secret::Clear("p:a\\ß w".into())));
    assert_eq!(passwd.warnings(), [""; 0]);
}

/// A session up to the point where the backend is ready; the client, if asked, is a stream.
fn authenticate(
    backend: &mut TcpStream,
    client: Option<&mut TcpStream>,
    user: &str,
    hba: HbaVerdict,
    entry: Option<Secret>,
) -> Result<Remembered, ErrorReport> {
    let mut session = SessionAuth::new(Inputs {
        user: user.to_owned(),
        database: "postgres".to_owned(),
        origin: Origin::Local,
        hba,
        allow_clear_text: false,
        entry,
        client_name: None,
        channel_binding: None,
        auth_query: false,
        client_key: None,
        random: Randomness::generate().unwrap(),
    });
    let keys = DerivedKeys::default();
    let mut client = client;
    let mut todo = session.start();
    let mut ready = false;
    loop {
        while !todo.is_empty() {
            match todo.remove(0) {
                Action::SendClient(bytes) => {
                    if let Some(client) = &mut client {
                        client.write_all(&bytes).unwrap();
                    }
                }
                Action::SendBackend(_, bytes) => backend.write_all(&bytes).unwrap(),
                Action::DeriveKey(id, request) => {
                    let key = keys
                        .get(&request)
                        .unwrap_or_else(|| request.derive().unwrap());
                    keys.insert(&request, key.clone());
                    todo.extend(session.on_key_derived(id, Ok(key)));
                }
                Action::Passed => todo.extend(session.connect(&[0], None)),
                Action::BackendReady(_) => ready = true,
                Action::Log { .. } => {}
                Action::LookUp | Action::VerifyPassword(..) => panic!("not in these settings"),
                Action::Done(remembered) => return Ok(remembered),
                Action::ForwardError(_, body) => panic!("{}", String::from_utf8_lossy(&body)),
                Action::Fail(error) => return Err(error),
            }
        }
        if session.wants_client() {
            let stream = client.as_mut().expect("the client is asked");
            let Some((kind, body)) = read_message(stream) else {
                return Err(ErrorReport::error("the client went away", ""));
            };
            todo = session.on_client_message(kind, &body);
        } else {
            assert!(!ready, "nothing left to wait for");
            let (kind, body) = read_message(backend).expect("the backend went away");
            todo = session.on_backend_message(0, kind, &body);
        }
    }
}

fn log_in(
    server: &Server,
    user: &str,
    hba: HbaVerdict,
    entry: Option<Secret>,
) -> Result<Remembered, ErrorReport> {
    let mut backend = server.connect(user);
    authenticate(&mut backend, None, user, hba, entry)
}

/// psql, connected to a proxy for one session.
fn psql_through(
    server: &Server,
    hba: HbaVerdict,
    entry: Option<Secret>,
    user: &str,
    password: &str,
) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let child = Command::new(format!("{BIN}/psql"))
        .args(["-w", "-XAtc", "select current_user", "-h", "127.0.0.1"])
        .args(["-p", &port.to_string(), "-U", user, "postgres"])
        .env("PGPASSWORD", password)
        .env("PGCLIENTENCODING", "UTF8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut client, _) = listener.accept().unwrap();
    read_startup(&mut client);
    let mut backend = server.connect(user);
    if authenticate(&mut backend, Some(&mut client), user, hba, entry).is_ok() {
        let (mut from, mut to) = (client.try_clone().unwrap(), backend.try_clone().unwrap());
        let upstream = thread::spawn(move || io::copy(&mut from, &mut to));
        let _ = io::copy(&mut backend, &mut client);
        let _ = upstream.join();
    }
    drop(client);
    child.wait_with_output().unwrap()
}

/// Refuses encryption, then reads the start-up packet.
fn read_startup(client: &mut TcpStream) {
    loop {
        let mut head = [0; 8];
        client.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
        let code = u32::from_be_bytes(head[4..].try_into().unwrap());
        if matches!(code, 80_877_103 | 80_877_104) {
            client.write_all(b"N").unwrap();
        } else {
            client.read_exact(&mut vec![0; length - 8]).unwrap();
            return;
        }
    }
}

fn read_message(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).ok()?;
    Some((head[0], body))
}

fn md5_of(password: &str, user: &str) -> String {
    use md5::{Digest, Md5};
    Md5::digest(format!("{password}{user}"))
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

fn program(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
}

/// A PostgreSQL of the test's own; stopped when dropped.
struct Server {
    dir: tempfile::TempDir,
    port: u16,
}

impl Server {
    fn start() -> Option<Server> {
        if !Path::new(BIN).join("postgres").exists() {
            eprintln!("skipped: PostgreSQL 15 is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        if running_as_root() {
            // PostgreSQL refuses to run as root.
            let postgres = fs::metadata("/var/lib/postgresql").ok()?;
            chown(dir.path(), Some(postgres.uid()), Some(postgres.gid())).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .unwrap()
            .port();
        let server = Server { dir, port };
        let data = server.data();
        server.run(
            "initdb",
            &[
                "-D",
                &data,
                "-A",
                "trust",
                "-N",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
            ],
        );
        fs::write(
            Path::new(&data).join("pg_hba.conf"),
            "local all all trust\n\
             host all u_md5 all md5\n\
             host all u_scram,u_odd all scram-sha-256\n\
             host all u_password all password\n\
             host all all all trust\n",
        )
        .unwrap();
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off -c shared_buffers=16MB",
            server.dir.path().display()
        );
        let log = server.dir.path().join("log").display().to_string();
        server.run(
            "pg_ctl",
            &["-D", &data, "-w", "-l", &log, "-o", &options, "start"],
        );
        let users = format!(
            "set password_encryption = 'md5'; create role u_md5 login password 'secret';
             set password_encryption = 'scram-sha-256';
             create role u_scram login password 'secret'; create role u_odd login password '{ODD}';
             create role u_password login password 'secret'; create role u_trust login;"
        );
        let socket = server.dir.path().display().to_string();
        let port = port.to_string();
        server.run(
            "psql",
            &[
                "-Xq", "-h", &socket, "-p", &port, "-d", "postgres", "-c", &users,
            ],
        );
        Some(server)
    }

    fn data(&self) -> String {
        self.dir.path().join("data").display().to_string()
    }

    fn run(&self, tool: &str, arguments: &[&str]) {
        let path = format!("{BIN}/{tool}");
        let mut command = if running_as_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--", &path]);
            command
        } else {
            Command::new(path)
        };
        let status = command
            .args(arguments)
            .current_dir("/")
            .env("PGCLIENTENCODING", "UTF8")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{tool} {arguments:?}");
    }

    /// A connection with its start-up packet sent.
    fn connect(&self, user: &str) -> TcpStream {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(stream) => break stream,
                Err(e) if Instant::now() > deadline => panic!("no server: {e}"),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        body.extend(format!("user\0{user}\0database\0postgres\0\0").as_bytes());
        let length = u32::try_from(body.len() + 4).unwrap();
        stream.write_all(&length.to_be_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.data();
        self.run("pg_ctl", &["-D", &data, "-m", "immediate", "-w", "stop"]);
    }
}

fn running_as_root() -> bool {
    // The owner of our own process directory; saves a libc call.
    fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}
