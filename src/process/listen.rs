//! The sockets that clients and the pcp tools connect to. Those of clients are bound before the process
//! detaches, so that a port in use is told to whoever started us; those of PCP are tried then.
//!
//! A socket file whose server is gone is replaced, as in the original. One whose server still
//! answers is not: the original takes it away from the running server before it notices.
//! Source: `src/main/pgpool_main.c @ V4_3_5` and `@ V4_7_2`.

use std::{
    collections::HashSet,
    fs::{self, Permissions},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};

use super::fatal::Fatal;
use crate::{
    config::{Config, Release},
    observe::{Reporter, Severity},
    sys::{errors, users},
};

/// Largest backlog of the original (PGPOOLMAXLITSENQUEUELENGTH); the kernel cuts it to somaxconn.
const MAX_BACKLOG: i32 = 10_000;
/// PCP connections that the kernel holds for us until they are accepted.
const PCP_BACKLOG: i32 = 128;
const UNIX_PATH_MAX: usize = 107;
const INET: &str = "failed to create INET domain socket";

/// Listening sockets, non-blocking and close-on-exec.
#[derive(Debug)]
pub struct Listeners {
    pub tcp: Vec<TcpListener>,
    pub unix: Vec<UnixListener>,
    pub files: SocketFiles,
}

/// The socket files that we made, removed at the end of the process unless others took their place.
#[derive(Debug, Default)]
pub struct SocketFiles(Vec<SocketFile>);

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: Option<(u64, u64)>,
}

/// What to listen on; clients and PCP differ in nothing else.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Host names, addresses, `*`; empty strings are nothing.
    pub addresses: Vec<String>,
    pub port: u16,
    pub directories: Vec<PathBuf>,
    /// `unix_socket_group`; empty: the group of the process.
    pub group: String,
    /// `unix_socket_permissions`
    pub permissions: u32,
    pub backlog: i32,
    /// The original names the sockets of clients in the log, those of PCP not.
    pub announced: bool,
    /// Releases from 4.4 on go on without an address that does not exist; older ones do not start.
    pub tolerant: bool,
}

impl Wanted {
    /// The sockets of clients.
    pub fn for_clients(config: &Config) -> Wanted {
        let settings = &config.settings;
        let backlog = settings
            .num_init_children
            .saturating_mul(settings.listen_backlog_multiplier as usize);
        Wanted {
            addresses: settings.listen_addresses.clone(),
            port: settings.port,
            directories: settings.unix_socket_directories.clone(),
            group: settings.unix_socket_group.clone(),
            permissions: settings.unix_socket_permissions,
            backlog: i32::try_from(backlog).map_or(MAX_BACKLOG, |n| n.clamp(1, MAX_BACKLOG)),
            announced: true,
            tolerant: config.dialect >= Release::V4_4,
        }
    }

    /// The sockets of the pcp tools.
    pub fn for_pcp(config: &Config) -> Wanted {
        let settings = &config.settings;
        Wanted {
            addresses: settings.pcp_listen_addresses.clone(),
            port: settings.pcp_port,
            directories: settings.pcp_socket_dirs.clone(),
            group: String::new(),
            permissions: 0o777,
            backlog: PCP_BACKLOG,
            announced: false,
            tolerant: config.dialect >= Release::V4_4,
        }
    }
}

/// Binds everything, or nothing: after an error no socket file of ours is left.
pub fn bind(wanted: &Wanted, reporter: &Reporter) -> Result<Listeners, Fatal> {
    // TCP first: the port is what two servers of one configuration collide on, whatever happened
    // to the socket file of the first.
    let tcp = bind_tcp(wanted, Some(reporter))?;
    let (unix, files) = bind_unix(wanted)?;
    Ok(Listeners { tcp, unix, files })
}

/// Tells whether `wanted` could be bound, and leaves nothing behind. For sockets that are bound later,
/// so that the caller learns in time that they will fail.
pub fn probe(wanted: &Wanted) -> Result<(), Fatal> {
    // Nothing is served yet, so nothing is said.
    bind_tcp(wanted, None)?;
    bind_unix(wanted)?;
    Ok(())
}

impl Drop for SocketFiles {
    fn drop(&mut self) {
        for file in self.0.drain(..) {
            if file.identity.is_some() && identity(&file.path) == file.identity {
                // The next start removes what is left.
                let _ = fs::remove_file(file.path);
            }
        }
    }
}

impl SocketFiles {
    pub(crate) fn add(&mut self, path: PathBuf) {
        let identity = identity(&path);
        self.0.push(SocketFile { path, identity });
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|file| file.path.as_path())
    }
}

fn bind_tcp(wanted: &Wanted, reporter: Option<&Reporter>) -> Result<Vec<TcpListener>, Fatal> {
    let mut listeners = Vec::new();
    let mut bound = HashSet::new();
    let mut last_failure = None;
    for name in wanted.addresses.iter().filter(|name| !name.is_empty()) {
        let addresses = match resolve(name, wanted.port) {
            Ok(addresses) => addresses,
            Err(detail) => {
                let fatal = Fatal::new(INET).detail(detail).hint(format!(
                    "Check {name:?} in the list of addresses to listen on."
                ));
                skip_or_fail(fatal, wanted.tolerant, reporter, &mut last_failure)?;
                continue;
            }
        };
        for address in addresses {
            if is_covered(&bound, address.ip()) {
                continue;
            }
            if let Some(reporter) = reporter.filter(|_| wanted.announced) {
                reporter.log(format_args!(
                    "Setting up socket for {}:{}",
                    address.ip(),
                    address.port()
                ));
            }
            match listen_tcp(address, wanted.backlog) {
                Ok(listener) => {
                    bound.insert(address.ip());
                    listeners.push(listener);
                }
                // A machine without IPv6, or without IPv4.
                Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                    if let Some(reporter) = reporter {
                        reporter.emit(
                            Severity::Log,
                            "perhaps failed to create INET domain socket",
                            &format!(
                                "socket({}) failed: \"{}\"",
                                address.ip(),
                                errors::message(&error)
                            ),
                            "",
                        );
                    }
                }
                Err(error) => {
                    let in_use = error.kind() == io::ErrorKind::AddrInUse;
                    let mut fatal = Fatal::new(INET).detail(format!(
                        "bind on socket failed with error \"{}\"",
                        errors::message(&error)
                    ));
                    if in_use {
                        fatal = fatal.hint(format!(
                            "Another server listens on {address}. If it is a pgpool of this \
                             configuration, stop it first (\"pgpool stop\"); orphans of one that \
                             was killed have to be ended by hand."
                        ));
                    }
                    let tolerant = wanted.tolerant && !in_use;
                    skip_or_fail(fatal, tolerant, reporter, &mut last_failure)?;
                }
            }
        }
    }
    match last_failure {
        Some(fatal) if listeners.is_empty() => Err(fatal),
        _ => Ok(listeners),
    }
}

fn skip_or_fail(
    fatal: Fatal,
    tolerant: bool,
    reporter: Option<&Reporter>,
    last: &mut Option<Fatal>,
) -> Result<(), Fatal> {
    if !tolerant {
        return Err(fatal);
    }
    if let Some(reporter) = reporter {
        reporter.emit(
            Severity::Warning,
            &fatal.message,
            &fatal.detail,
            &fatal.hint,
        );
    }
    *last = Some(fatal);
    Ok(())
}

/// The addresses behind an entry; the error is in the words of getaddrinfo.
fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if name == "*" {
        return Ok(vec![
            (Ipv4Addr::UNSPECIFIED, port).into(),
            (Ipv6Addr::UNSPECIFIED, port).into(),
        ]);
    }
    match (name, port).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => {
            let text = errors::message(&error);
            let reason = text
                .strip_prefix("failed to lookup address information: ")
                .unwrap_or(&text);
            Err(format!("getaddrinfo() failed: {reason}"))
        }
    }
}

/// The address was bound before, by itself or by the wildcard of its family.
fn is_covered(bound: &HashSet<IpAddr>, ip: IpAddr) -> bool {
    let wildcard = match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    bound.contains(&ip) || bound.contains(&wildcard)
}

fn listen_tcp(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // One socket per family, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit both.
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind_unix(wanted: &Wanted) -> Result<(Vec<UnixListener>, SocketFiles), Fatal> {
    let mut listeners = Vec::new();
    // Dropped on an error: takes away what was made before it.
    let mut files = SocketFiles::default();
    for directory in &wanted.directories {
        let path = directory.join(format!(".s.PGSQL.{}", wanted.port));
        if files.paths().any(|made| made == path) {
            continue;
        }
        if path.as_os_str().len() > UNIX_PATH_MAX {
            return Err(
                Fatal::new("could not create Unix-domain sockets").detail(format!(
                    "Unix-domain socket path \"{}\" is too long (maximum {UNIX_PATH_MAX} bytes)",
                    path.display()
                )),
            );
        }
        remove_stale(&path)?;
        let failed = |what: &str, error: &io::Error| {
            Fatal::new(format!("failed to bind a socket: \"{}\"", path.display())).detail(format!(
                "{what} failed with error: \"{}\"",
                errors::message(error)
            ))
        };
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)
            .map_err(|error| failed("system call socket()", &error))?;
        let address = SockAddr::unix(&path).map_err(|error| failed("bind socket", &error))?;
        socket
            .bind(&address)
            .map_err(|error| failed("bind socket", &error))?;
        files.add(path.clone());
        set_group(&path, &wanted.group)?;
        fs::set_permissions(&path, Permissions::from_mode(wanted.permissions))
            .map_err(|error| failed("system call chmod", &error))?;
        socket
            .listen(MAX_BACKLOG)
            .and_then(|()| socket.set_nonblocking(true))
            .map_err(|error| failed("system call listen()", &error))?;
        listeners.push(socket.into());
    }
    Ok((listeners, files))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn set_group(path: &Path, group: &str) -> Result<(), Fatal> {
    if group.is_empty() {
        return Ok(());
    }
    let changed = match users::group_id(group) {
        Ok(Some(gid)) => std::os::unix::fs::chown(path, None, Some(gid)),
        Ok(None) => {
            return Err(Fatal::new(format!(
                "unix_socket_group \"{group}\" does not exist"
            )));
        }
        Err(error) => Err(error),
    };
    changed.map_err(|error| {
        Fatal::new(format!("failed to bind a socket: \"{}\"", path.display())).detail(format!(
            "system call chown failed with error: \"{}\"",
            errors::message(&error)
        ))
    })
}

/// Takes the socket file of a server that is gone out of the way.
fn remove_stale(path: &Path) -> Result<(), Fatal> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if !is_socket {
        // Nothing there, or a file that is none of ours: bind will tell.
        return Ok(());
    }
    if has_server(path) {
        return Err(
            Fatal::new(format!("failed to bind a socket: \"{}\"", path.display()))
                .detail("bind on socket failed with error \"Address already in use\"")
                .hint(
                    "Another server answers on this socket. Stop it, or choose another port or \
                     socket directory.",
                ),
        );
    }
    fs::remove_file(path).map_err(|error| {
        Fatal::new(format!("failed to bind a socket: \"{}\"", path.display())).detail(format!(
            "the stale socket file cannot be removed: {}",
            errors::message(&error)
        ))
    })
}

/// Somebody listens behind the socket file. Does not block: a server with a full queue counts.
pub(crate) fn has_server(path: &Path) -> bool {
    let attempt = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    match attempt() {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpStream, os::unix::net::UnixStream};

    use super::*;

    fn wanted(addresses: &[&str], directories: &[&Path]) -> Wanted {
        // A port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        Wanted {
            addresses: addresses.iter().map(ToString::to_string).collect(),
            port,
            directories: directories.iter().map(|d| d.to_path_buf()).collect(),
            group: String::new(),
            permissions: 0o770,
            backlog: 16,
            announced: true,
            tolerant: false,
        }
    }

    fn bind(wanted: &Wanted) -> Result<Listeners, Fatal> {
        super::bind(wanted, &Reporter::new("main"))
    }

    #[test]
    fn every_address_and_directory_gets_its_socket() {
        let [a, b] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let wanted = wanted(
            &["localhost", "127.0.0.1", "127.0.0.2"],
            &[a.path(), b.path()],
        );
        let listeners = bind(&wanted).unwrap();

        for host in ["127.0.0.1", "127.0.0.2"] {
            TcpStream::connect((host, wanted.port)).unwrap();
        }
        for folder in [&a, &b] {
            let path = folder.path().join(format!(".s.PGSQL.{}", wanted.port));
            UnixStream::connect(&path).unwrap();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o770);
        }
        drop(listeners);
        assert_eq!(fs::read_dir(a.path()).unwrap().count(), 0, "files are gone");
    }

    #[test]
    fn a_star_is_both_families_where_both_exist() {
        let wanted = wanted(&["*", "127.0.0.1"], &[]);
        let listeners = bind(&wanted).unwrap();
        assert!((1..=2).contains(&listeners.tcp.len()));
        TcpStream::connect(("127.0.0.1", wanted.port)).unwrap();
    }

    #[test]
    fn no_address_at_all_means_no_tcp() {
        assert!(bind(&wanted(&[""], &[])).unwrap().tcp.is_empty());
        assert!(bind(&wanted(&[], &[])).unwrap().tcp.is_empty());
    }

    #[test]
    fn a_port_in_use_is_fatal_even_where_addresses_may_fail() {
        let folder = tempfile::tempdir().unwrap();
        let mut wanted = wanted(&["127.0.0.1"], &[folder.path()]);
        let _first = TcpListener::bind(("127.0.0.1", wanted.port)).unwrap();
        wanted.tolerant = true;
        let fatal = bind(&wanted).unwrap_err();
        assert_eq!(fatal.message, "failed to create INET domain socket");
        assert_eq!(
            fatal.detail,
            "bind on socket failed with error \"Address already in use\""
        );
        assert_eq!(fatal.exit_code, 3);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_unknown_name_is_fatal_up_to_4_3_and_skipped_after() {
        let mut wanted = wanted(&["no-such-host.invalid", "127.0.0.1"], &[]);
        let fatal = bind(&wanted).unwrap_err();
        assert!(
            fatal.detail.starts_with("getaddrinfo() failed: "),
            "{fatal:?}"
        );
        wanted.tolerant = true;
        assert_eq!(bind(&wanted).unwrap().tcp.len(), 1);
        wanted.addresses.pop();
        assert!(bind(&wanted).is_err(), "nothing is left to listen on");
    }

    #[test]
    fn a_stale_socket_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = wanted(&[], &[folder.path()]);
        let path = folder.path().join(format!(".s.PGSQL.{}", wanted.port));
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listeners = bind(&wanted).unwrap();
        assert_eq!(listeners.unix.len(), 1);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_file_whose_server_answers_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = wanted(&[], &[folder.path()]);
        let path = folder.path().join(format!(".s.PGSQL.{}", wanted.port));
        let server = UnixListener::bind(&path).unwrap();
        let fatal = bind(&wanted).unwrap_err();
        assert!(
            fatal.detail.contains("\"Address already in use\""),
            "{fatal:?}"
        );

        let client = UnixStream::connect(&path).unwrap();
        // The first connection is the look that bind has taken.
        let (mut look, _) = server.accept().unwrap();
        assert_eq!(look.read(&mut [0; 1]).unwrap(), 0);
        drop(client);
        server.accept().unwrap();
    }

    #[test]
    fn a_socket_file_that_another_server_has_replaced_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = wanted(&[], &[folder.path()]);
        let listeners = bind(&wanted).unwrap();
        let path = listeners.files.paths().next().unwrap().to_path_buf();
        // As the original does at its start, whoever listens. The name in between keeps the inode
        // number from being used again.
        fs::rename(&path, folder.path().join("old")).unwrap();
        let _thief = UnixListener::bind(&path).unwrap();
        drop(listeners);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_directory_that_does_not_exist_and_a_path_too_long_are_fatal() {
        let fatal = bind(&wanted(&[], &[Path::new("/no/such/directory")])).unwrap_err();
        assert!(
            fatal
                .message
                .starts_with("failed to bind a socket: \"/no/such/directory/.s.PGSQL.")
        );
        assert_eq!(
            fatal.detail,
            "bind socket failed with error: \"No such file or directory\""
        );
        let long = format!("/tmp/{}", "x".repeat(110));
        let fatal = bind(&wanted(&[], &[Path::new(&long)])).unwrap_err();
        assert_eq!(fatal.message, "could not create Unix-domain sockets");
        assert!(fatal.detail.ends_with("is too long (maximum 107 bytes)"));
    }

    #[test]
    fn a_group_that_does_not_exist_is_fatal_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut wanted = wanted(&[], &[folder.path()]);
        wanted.group = "no such group".into();
        let fatal = bind(&wanted).unwrap_err();
        assert_eq!(
            fatal.message,
            "unix_socket_group \"no such group\" does not exist"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
