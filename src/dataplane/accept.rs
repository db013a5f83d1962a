//! Accepting clients: the first worker does it between its sessions and hands the others theirs.
//!
//! A thread that only accepts has to be woken for each client and has to wake a worker in turn, a tenth of
//! what a short connection costs. The descriptor goes to its worker bare: it is registered there alone.

use std::{io, os::fd::OwnedFd, rc::Rc, time::Duration};

use tokio::io::{Interest, unix::AsyncFd};

use super::{
    EndsWithTheProcess,
    front::Peer,
    stream::BareStream,
    worker::{Worker, WorkerMessage},
};
use crate::observe::{Reporter, Severity};

/// A bound, listening, non-blocking socket.
#[derive(Debug)]
pub enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Listener {
    /// Puts it on the runtime of this thread.
    ///
    /// # Errors
    ///
    /// As epoll gives them.
    pub fn register(self) -> io::Result<AsyncFd<OwnedFd>> {
        crate::sys::socket::watch_readable(match self {
            Listener::Tcp(l) => l.into(),
            Listener::Unix(l) => l.into(),
        })
    }
}

/// Accepts until it is dropped, and closes the listener then.
pub async fn run(worker: Rc<Worker>, listener: AsyncFd<OwnedFd>) {
    // A panic would end this task alone, and pgpool would only look alive.
    let _end = EndsWithTheProcess;
    let reporter = Reporter::new("child");
    loop {
        match listener.async_io(Interest::READABLE, accept).await {
            Ok((stream, peer)) => {
                let at = worker.plane.place();
                let live = worker.plane.enter(at);
                let client = WorkerMessage::Client { stream, peer, live };
                if at == worker.index {
                    worker.handle(client);
                } else {
                    worker.plane.send(at, client);
                }
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
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn accept(listener: &OwnedFd) -> io::Result<(BareStream, Peer)> {
    let (fd, address) = crate::sys::socket::accept(listener)?;
    Ok(match address.as_socket() {
        // Keepalive and no delay come with the listening socket.
        Some(address) => (BareStream::Tcp(fd.into()), Peer::tcp(address)),
        None => (BareStream::Unix(fd.into()), Peer::local()),
    })
}

/// The client has gone between its connect and our accept.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected
            | io::ErrorKind::Interrupted
    )
}
