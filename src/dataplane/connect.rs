//! Opening a connection to a backend, as far as the socket.

use std::{io, path::PathBuf, time::Duration};

use tokio::net::{TcpStream, UnixStream};

use super::stream::Stream;

/// Directories in which a backend with an empty host name is looked for: Debian's, then upstream's.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Connects to a host name, an address, or (leading slash, or empty) a socket directory.
///
/// `limit` is `connect_timeout`: for each address of the host.
///
/// # Errors
///
/// The error of the last address tried; `TimedOut` when `limit` is over.
pub async fn open(host: &str, port: u16, limit: Option<Duration>) -> io::Result<Stream> {
    if host.is_empty() || host.starts_with('/') {
        return open_unix(host, port).await;
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        let attempt = TcpStream::connect(address);
        let outcome = match limit {
            Some(limit) => tokio::time::timeout(limit, attempt)
                .await
                .unwrap_or_else(|_| {
                    Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "no answer within connect_timeout",
                    ))
                }),
            None => attempt.await,
        };
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

async fn open_unix(directory: &str, port: u16) -> io::Result<Stream> {
    let name = format!(".s.PGSQL.{port}");
    if !directory.is_empty() {
        let path = PathBuf::from(directory).join(name);
        return UnixStream::connect(path).await.map(Stream::Unix);
    }
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for directory in SOCKET_DIRECTORIES {
        match UnixStream::connect(PathBuf::from(directory).join(&name)).await {
            Ok(stream) => return Ok(Stream::Unix(stream)),
            Err(e) => last = e,
        }
    }
    Err(last)
}
