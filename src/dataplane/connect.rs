//! Opening a connection to a backend, as far as the start-up packet: the socket, and TLS where it is wanted.

use std::{io, path::PathBuf, time::Duration};

use tokio::net::{TcpStream, UnixStream};

use super::stream::Stream;
use crate::{
    cluster::Node,
    control::Shared,
    tls::{Secured, TlsError},
};

/// Directories in which a backend with an empty host name is looked for: Debian's, then upstream's.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Pause while a server's listen queue is full.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(50);

/// How long a server may take for its part of TLS when `connect_timeout` is off.
const TLS_LIMIT: Duration = Duration::from_secs(10);

/// Connects to a node as the configuration wants it.
///
/// `limit` is `connect_timeout`: for each address of the host, and once more for TLS.
///
/// # Errors
///
/// [`TlsError::Refused`]: the server is there, and a TLS connection as it is wanted is not.
pub async fn to_backend(
    shared: &Shared,
    node: &Node,
    limit: Option<Duration>,
) -> Result<Stream, TlsError> {
    let tls = shared.tls.load().backend(node.id);
    let opened = open(&node.hostname, node.port, limit).await;
    let stream = match opened.map_err(TlsError::Io)? {
        Stream::Tcp(stream) if !tls.is_plain() => stream,
        stream => return Ok(stream),
    };
    let secured = tls.secure(stream, &node.hostname);
    match tokio::time::timeout(limit.unwrap_or(TLS_LIMIT), secured).await {
        Ok(Ok(Secured::Plain(stream))) => Ok(Stream::Tcp(stream)),
        Ok(Ok(Secured::Tls(stream))) => Ok(Stream::Tls(stream)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(TlsError::Io(io::Error::new(
            io::ErrorKind::TimedOut,
            "no answer to the SSL request within connect_timeout",
        ))),
    }
}

/// Connects to a host name, an address, or (leading slash, or empty) a socket directory.
///
/// `limit` is `connect_timeout`: for each address of the host.
///
/// # Errors
///
/// The error of the last address tried; `TimedOut` when `limit` is over.
async fn open(host: &str, port: u16, limit: Option<Duration>) -> io::Result<Stream> {
    if host.is_empty() || host.starts_with('/') {
        return in_time(limit, open_unix(host, port)).await;
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in in_time(limit, tokio::net::lookup_host((host, port))).await? {
        let outcome = in_time(limit, TcpStream::connect(address)).await;
        match outcome {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                socket2::SockRef::from(&stream).set_keepalive(true)?;
                return Ok(Stream::Tcp(stream));
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

async fn in_time<T>(
    limit: Option<Duration>,
    attempt: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match limit {
        None => attempt.await,
        Some(limit) => tokio::time::timeout(limit, attempt)
            .await
            .unwrap_or_else(|_| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "no answer within connect_timeout",
                ))
            }),
    }
}

/// One socket file. While the server's listen queue is full, tries again: a unix socket does not wait by itself.
async fn connect_unix(path: PathBuf) -> io::Result<Stream> {
    loop {
        match UnixStream::connect(&path).await {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(FULL_QUEUE_PAUSE).await;
            }
            done => return done.map(Stream::Unix),
        }
    }
}

async fn open_unix(directory: &str, port: u16) -> io::Result<Stream> {
    let name = format!(".s.PGSQL.{port}");
    if !directory.is_empty() {
        return connect_unix(PathBuf::from(directory).join(name)).await;
    }
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for directory in SOCKET_DIRECTORIES {
        match connect_unix(PathBuf::from(directory).join(&name)).await {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}
