//! Opening a connection to a backend, as far as the socket.

use std::{io, path::PathBuf, time::Duration};

use tokio::net::{TcpStream, UnixStream};

use super::stream::Stream;

/// Directories in which a backend with an empty host name is looked for: Debian's, then upstream's.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Pause while a server's listen queue is full.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(50);

/// Connects to a host name, an address, or (leading slash, or empty) a socket directory.
///
/// `limit` is `connect_timeout`: for each address of the host.
///
/// # Errors
///
/// The error of the last address tried; `TimedOut` when `limit` is over.
pub async fn open(host: &str, port: u16, limit: Option<Duration>) -> io::Result<Stream> {
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
