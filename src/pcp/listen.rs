//! The listening sockets of the PCP port.
//!
//! One unix socket per directory of `pcp_socket_dir`, and TCP on `pcp_listen_addresses`.
//! Source: `src/pcp_con/pcp_child.c`, `src/main/pgpool_main.c @ V4_3_5`.

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener, lookup_host};

use crate::{
    config::Config,
    observe::{Reporter, Severity},
    sys::errors,
};

/// Connections that the kernel holds for us until they are accepted.
const BACKLOG: i32 = 128;

/// The sockets; dropping it removes the socket files.
#[derive(Debug)]
pub struct Listeners {
    pub(super) unix: Vec<UnixSocket>,
    pub(super) tcp: Vec<TcpListener>,
}

/// Why the PCP port could not be opened; prints as the original's FATAL, with a DETAIL.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct BindError {
    pub message: String,
    pub detail: String,
}

#[derive(Debug)]
pub(super) struct UnixSocket {
    pub(super) listener: UnixListener,
    file: SocketFile,
}

/// Removes the file at the end, unless another one has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

/// Opens all sockets of the PCP port.
///
/// A socket file that nobody answers on is removed first. `*` means all addresses of IPv4 and,
/// where the machine has it, IPv6.
///
/// # Errors
///
/// The first socket that cannot be opened; those opened before are closed again.
pub async fn bind(config: &Config) -> Result<Listeners, BindError> {
    let settings = &config.settings;
    let mut listeners = Listeners {
        unix: Vec::new(),
        tcp: Vec::new(),
    };
    for directory in &settings.pcp_socket_dirs {
        let path = directory.join(format!(".s.PGSQL.{}", settings.pcp_port));
        listeners.unix.push(bind_unix(&path).await?);
    }
    let hosts = settings
        .pcp_listen_addresses
        .iter()
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .filter(|host| !host.is_empty());
    for host in hosts {
        listeners
            .tcp
            .extend(bind_host(host, settings.pcp_port).await?);
    }
    Ok(listeners)
}

impl Listeners {
    /// Addresses of the TCP sockets; port 0 in the configuration lets the system choose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.tcp
            .iter()
            .filter_map(|l| l.local_addr().ok())
            .collect()
    }

    pub fn socket_files(&self) -> impl Iterator<Item = &Path> {
        self.unix.iter().map(|socket| socket.file.path.as_path())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // Nothing can be done about a failure, and the next start removes a stale file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    metadata
        .file_type()
        .is_socket()
        .then(|| (metadata.dev(), metadata.ino()))
}

async fn bind_unix(path: &Path) -> Result<UnixSocket, BindError> {
    let failed = |error: io::Error| BindError {
        message: "could not create PCP Unix-domain sockets".into(),
        detail: format!(
            "bind on \"{}\" failed with error \"{}\"",
            path.display(),
            errors::message(&error)
        ),
    };
    // The path is tried before it is used: a living server keeps its socket.
    let stale = path.to_owned();
    tokio::task::spawn_blocking(move || remove_stale(&stale))
        .await
        .unwrap_or_else(|_| Err(io::Error::other("interrupted")))
        .map_err(failed)?;
    let listener = UnixListener::bind(path).map_err(failed)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: identity(path),
    };
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).map_err(failed)?;
    Ok(UnixSocket { listener, file })
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        // bind() then says "Address already in use"; a file that is no socket is not ours to remove.
        Ok(metadata) if !metadata.file_type().is_socket() => return Ok(()),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Somebody answers, or we cannot tell: bind() decides.
        _ => Ok(()),
    }
}

async fn bind_host(host: &str, port: u16) -> Result<Vec<TcpListener>, BindError> {
    let failed = |error: io::Error| BindError {
        message: "failed to create INET domain socket".into(),
        detail: format!(
            "bind on socket failed with error \"{}\"",
            errors::message(&error)
        ),
    };
    if host == "*" {
        let v4 = listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
        let v6 = listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
        return match (v4, v6) {
            (Err(error), Err(_)) => Err(failed(error)),
            // A machine without one of the families is no reason to refuse the start,
            // a taken port is.
            (Err(error), Ok(_)) | (Ok(_), Err(error))
                if error.kind() == io::ErrorKind::AddrInUse =>
            {
                Err(failed(error))
            }
            (v4, v6) => Ok(v4.into_iter().chain(v6).collect()),
        };
    }
    let addresses = lookup_host((host, port)).await.map_err(|error| BindError {
        message: "failed to create INET domain socket".into(),
        detail: format!(
            "could not resolve PCP listen address \"{host}\": {}",
            errors::message(&error)
        ),
    })?;
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut problem = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address");
    for address in addresses {
        if listeners
            .iter()
            .any(|l| l.local_addr().is_ok_and(|bound| bound == address))
        {
            continue;
        }
        match listen(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(failed(error)),
            Err(error) => {
                Reporter::new("pcp_main").emit(
                    Severity::Log,
                    format_args!("PCP does not listen on {address} (\"{host}\")"),
                    &errors::message(&error),
                    "",
                );
                problem = error;
            }
        }
    }
    if listeners.is_empty() {
        return Err(failed(problem));
    }
    Ok(listeners)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_file_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".s.PGSQL.9898");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a crashed server leaves its file");

        let socket = bind_unix(&path).await.unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o777
        );

        let refused = bind_unix(&path).await.unwrap_err();
        assert!(
            refused.detail.contains("Address already in use"),
            "{refused:?}"
        );
        assert!(path.exists(), "the living server keeps its file");

        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".s.PGSQL.9898");
        fs::write(&path, "precious").unwrap();
        assert!(bind_unix(&path).await.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_socket_file_that_another_server_has_made_since_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".s.PGSQL.9898");
        let socket = bind_unix(&path).await.unwrap();
        fs::remove_file(&path).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
        drop(other);
    }

    #[tokio::test]
    async fn a_taken_port_is_said_as_the_original_says_it() {
        let taken = bind_host("127.0.0.1", 0).await.unwrap();
        let port = taken[0].local_addr().unwrap().port();
        let error = bind_host("127.0.0.1", port).await.unwrap_err();
        assert_eq!(error.message, "failed to create INET domain socket");
        assert_eq!(
            error.detail,
            "bind on socket failed with error \"Address already in use\""
        );
    }

    #[tokio::test]
    async fn a_star_means_all_addresses() {
        let listeners = bind_host("*", 0).await.unwrap();
        assert!(
            listeners
                .iter()
                .any(|l| l.local_addr().unwrap().ip().is_unspecified())
        );
    }
}
