//! Accepting clients: one thread for all listening sockets, which hands the bare descriptors to the workers.
//!
//! A blocking accept costs one system call per client; a listener on a runtime would register and
//! deregister each socket once more.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use super::{Plane, front::Peer, stream::BareStream, worker::WorkerMessage};
use crate::observe::{Reporter, Severity};

/// A bound, listening, non-blocking socket.
#[derive(Debug)]
pub enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(l) => l.as_fd(),
            Listener::Unix(l) => l.as_fd(),
        }
    }
}

/// Runs until `stop` becomes readable. Closes the listeners when it returns.
pub fn run(plane: &Arc<Plane>, listeners: Vec<Listener>, stop: &OwnedFd) {
    let reporter = Reporter::new("child");
    let mut sockets: Vec<BorrowedFd<'_>> = vec![stop.as_fd()];
    sockets.extend(listeners.iter().map(AsFd::as_fd));
    loop {
        let ready = match crate::sys::socket::wait_readable(&sockets) {
            Ok(ready) => ready,
            Err(e) => {
                reporter.warning(format_args!(
                    "waiting for clients failed: {}",
                    crate::sys::errors::message(&e)
                ));
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if ready.first() == Some(&true) {
            return;
        }
        for (listener, _) in listeners.iter().zip(&ready[1..]).filter(|(_, r)| **r) {
            match accept(listener) {
                Ok((stream, peer)) => {
                    let worker = plane.place();
                    let live = plane.enter(worker);
                    plane.send(worker, WorkerMessage::Client { stream, peer, live });
                }
                Err(e) if is_transient(&e) => {}
                Err(e) => {
                    reporter.emit(
                        Severity::Warning,
                        format_args!(
                            "failed to accept a client connection: {}",
                            crate::sys::errors::message(&e)
                        ),
                        "",
                        "If it says \"too many open files\", raise LimitNOFILE of the service.",
                    );
                    // The connection stays in the queue; without a pause this would spin.
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
}

fn accept(listener: &Listener) -> io::Result<(BareStream, Peer)> {
    let (fd, address) = crate::sys::socket::accept(listener)?;
    match listener {
        Listener::Tcp(_) => {
            // Keepalive and no delay come with the listening socket.
            let address = address.as_socket().ok_or(io::ErrorKind::NotConnected)?;
            Ok((BareStream::Tcp(fd.into()), Peer::tcp(address)))
        }
        Listener::Unix(_) => Ok((BareStream::Unix(fd.into()), Peer::local())),
    }
}

/// The client has gone between its connect and our accept, or another thread was faster.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected
            | io::ErrorKind::Interrupted
    )
}
