//! The handshake, step by step on threads that may block.
//!
//! A signature with an RSA key of 2048 bits takes about a millisecond, one of 4096 bits six: on a
//! session thread every other session would wait for it.

use std::{io, sync::LazyLock, thread};

use openssl::ssl::{Error, ErrorCode, Ssl, SslStream};
use tokio::{net::TcpStream, sync::Semaphore, task::spawn_blocking};

use super::{
    reason,
    stream::{Socket, TlsStream},
};

/// So many steps of handshakes with clients run at one time, and as many of those with servers: more
/// would take the processors from the sessions. A crowd of clients must not hold up a health check,
/// which would take the server for dead.
static WITH_CLIENTS: LazyLock<Semaphore> = LazyLock::new(steps);
static WITH_SERVERS: LazyLock<Semaphore> = LazyLock::new(steps);

fn steps() -> Semaphore {
    Semaphore::new(thread::available_parallelism().map_or(1, usize::from))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// Why there is no TLS connection.
pub(super) struct Failed {
    pub reason: String,
    /// The connection broke, which says nothing about TLS.
    pub io: bool,
}

/// `early` are bytes of the peer that have been read already.
pub(super) async fn run(
    ssl: Ssl,
    stream: TcpStream,
    early: Vec<u8>,
    side: Side,
) -> Result<TlsStream, Failed> {
    if side == Side::Server && early.is_empty() {
        stream.readable().await.map_err(broken)?;
    }
    let mut ssl = SslStream::new(ssl, Socket::new(stream, early)).map_err(|error| Failed {
        reason: reason(&error),
        io: false,
    })?;
    loop {
        let permit = match side {
            Side::Client => WITH_SERVERS.acquire().await,
            Side::Server => WITH_CLIENTS.acquire().await,
        };
        let step = spawn_blocking(move || {
            let done = match side {
                Side::Client => ssl.connect(),
                Side::Server => ssl.accept(),
            };
            drop(permit);
            (ssl, done)
        });
        let (back, done) = step.await.map_err(|_| Failed {
            reason: "the handshake failed inside pgpool".to_owned(),
            io: false,
        })?;
        ssl = back;
        match done {
            Ok(()) => return Ok(TlsStream::new(ssl)),
            Err(error) => match error.code() {
                ErrorCode::WANT_READ => {
                    socket(&ssl)?.readable().await.map_err(broken)?;
                }
                ErrorCode::WANT_WRITE => {
                    socket(&ssl)?.writable().await.map_err(broken)?;
                }
                _ => return Err(failed(&ssl, &error)),
            },
        }
    }
}

fn socket(ssl: &SslStream<Socket>) -> Result<&TcpStream, Failed> {
    ssl.get_ref().stream().map_err(broken)
}

fn broken(error: io::Error) -> Failed {
    Failed {
        reason: crate::sys::errors::message(&error),
        io: true,
    }
}

fn failed(ssl: &SslStream<Socket>, error: &Error) -> Failed {
    if let Some(error) = error.io_error() {
        return Failed {
            reason: crate::sys::errors::message(error),
            io: true,
        };
    }
    let Some(stack) = error.ssl_error().filter(|stack| !stack.errors().is_empty()) else {
        return Failed {
            reason: "unexpected eof while reading".to_owned(),
            io: true,
        };
    };
    let mut reason = reason(stack);
    let verified = ssl.ssl().verify_result();
    if verified != openssl::x509::X509VerifyResult::OK {
        reason = format!("{reason} ({})", verified.error_string());
    }
    Failed { reason, io: false }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use openssl::ssl::{SslContext, SslMethod};
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn a_crowd_of_clients_does_not_hold_up_a_handshake_with_a_server() {
        let all = u32::try_from(WITH_CLIENTS.available_permits()).unwrap();
        let _crowd = WITH_CLIENTS.acquire_many(all).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut first = [0; 1];
            stream.read_exact(&mut first).await.unwrap();
            first[0]
        });
        let context = SslContext::builder(SslMethod::tls()).unwrap().build();
        let stream = TcpStream::connect(address).await.unwrap();
        let shaking = run(
            Ssl::new(&context).unwrap(),
            stream,
            Vec::new(),
            Side::Client,
        );
        let first = tokio::time::timeout(Duration::from_secs(10), async {
            tokio::select! {
                first = heard => first.unwrap(),
                _ = shaking => 0,
            }
        });
        assert_eq!(first.await.unwrap(), 0x16, "a ClientHello");
    }
}
