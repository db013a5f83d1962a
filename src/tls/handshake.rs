//! The handshake, step by step, the heavy ones on threads that may block.
//!
//! A signature with an RSA key of 2048 bits takes about a millisecond, one of 4096 bits six: on a
//! session thread every other session would wait for it. The way to another thread and back costs
//! too, so that steps without one stay.

use std::{io, sync::LazyLock, thread};

use openssl::ssl::{Error, ErrorCode, Ssl, SslRef, SslStream};
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
    let mut greeted = false;
    loop {
        let done = if is_light(ssl.ssl(), side, greeted) {
            step(&mut ssl, side)
        } else {
            let permit = match side {
                Side::Client => WITH_SERVERS.acquire().await,
                Side::Server => WITH_CLIENTS.acquire().await,
            };
            let elsewhere = spawn_blocking(move || {
                let done = step(&mut ssl, side);
                drop(permit);
                (ssl, done)
            });
            let (back, done) = elsewhere.await.map_err(|_| Failed {
                reason: "the handshake failed inside pgpool".to_owned(),
                io: false,
            })?;
            ssl = back;
            done
        };
        greeted = true;
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

fn step(ssl: &mut SslStream<Socket>, side: Side) -> Result<(), Error> {
    match side {
        Side::Client => ssl.connect(),
        Side::Server => ssl.accept(),
    }
}

/// The next step neither signs nor verifies a chain. Towards a server that is the ClientHello; with a
/// client what is left once our Finished is sent, which TLS 1.3 sends together with the signature. (The
/// state alone does not tell that from a HelloRetryRequest, behind which the signature is to come.)
fn is_light(ssl: &SslRef, side: Side, greeted: bool) -> bool {
    match side {
        Side::Client => !greeted,
        Side::Server => ssl.finished(&mut []) > 0,
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
    use std::{
        cell::RefCell,
        io::{Read, Write},
        rc::Rc,
        time::Duration,
    };

    use openssl::{
        asn1::Asn1Time,
        ec::{EcGroup, EcKey},
        hash::MessageDigest,
        nid::Nid,
        pkey::PKey,
        ssl::{SslContext, SslContextBuilder, SslMethod, SslVersion},
        x509::X509,
    };
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
        // The listener closes when it has heard that, which ends the handshake.
        let both = tokio::time::timeout(Duration::from_secs(10), async {
            let (first, _failed) = tokio::join!(heard, shaking);
            first.unwrap()
        });
        assert_eq!(both.await.unwrap(), 0x16, "a ClientHello");
    }

    /// One end of a connection in memory.
    struct End {
        from: Rc<RefCell<Vec<u8>>>,
        to: Rc<RefCell<Vec<u8>>>,
    }

    impl Read for End {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let mut from = self.from.borrow_mut();
            if from.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let length = from.len().min(buffer.len());
            buffer[..length].copy_from_slice(&from[..length]);
            from.drain(..length);
            Ok(length)
        }
    }

    impl Write for End {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.to.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn server_context() -> SslContext {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut certificate = X509::builder().unwrap();
        certificate.set_pubkey(&key).unwrap();
        let now = Asn1Time::days_from_now(0).unwrap();
        certificate.set_not_before(&now).unwrap();
        let later = Asn1Time::days_from_now(1).unwrap();
        certificate.set_not_after(&later).unwrap();
        certificate.sign(&key, MessageDigest::sha256()).unwrap();
        let mut context = SslContext::builder(SslMethod::tls()).unwrap();
        context.set_certificate(&certificate.build()).unwrap();
        context.set_private_key(&key).unwrap();
        context.set_groups_list("P-256").unwrap();
        context.build()
    }

    /// Whether each step of a server is taken for light, with a client made by `change`.
    fn steps_of_a_server(change: impl FnOnce(&mut SslContextBuilder)) -> Vec<bool> {
        let (left, right) = <(Rc<RefCell<Vec<u8>>>, Rc<RefCell<Vec<u8>>>)>::default();
        let end = |from: &Rc<_>, to: &Rc<_>| End {
            from: Rc::clone(from),
            to: Rc::clone(to),
        };
        let mut context = SslContext::builder(SslMethod::tls()).unwrap();
        change(&mut context);
        let client = Ssl::new(&context.build()).unwrap();
        let mut client = SslStream::new(client, end(&left, &right)).unwrap();
        let server = Ssl::new(&server_context()).unwrap();
        let mut server = SslStream::new(server, end(&right, &left)).unwrap();
        let mut light = Vec::new();
        loop {
            let _ = client.connect();
            light.push(is_light(server.ssl(), Side::Server, !light.is_empty()));
            if server.accept().is_ok() {
                return light;
            }
            assert!(light.len() < 9, "no end");
        }
    }

    #[test]
    fn a_server_leaves_its_thread_until_it_has_signed() {
        let fitting = steps_of_a_server(|client| client.set_groups_list("P-256").unwrap());
        assert_eq!(fitting, [false, true]);
        let asked_again =
            steps_of_a_server(|client| client.set_groups_list("X25519:P-256").unwrap());
        assert_eq!(asked_again, [false, false, true]);
        let old = steps_of_a_server(|client| {
            let version = Some(SslVersion::TLS1_2);
            client.set_max_proto_version(version).unwrap();
        });
        assert_eq!(old, [false, false]);
    }
}
