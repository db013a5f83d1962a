//! A connected socket, TCP or unix; TLS will be a third kind.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

use crate::sys::socket;

/// A socket on a worker's runtime.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket on its way to the worker that will serve it.
#[derive(Debug)]
pub enum BareStream {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
    /// Already registered on that worker.
    Registered(Stream),
}

impl BareStream {
    /// Registers the socket with the runtime of this thread. The socket must be non-blocking.
    ///
    /// # Errors
    ///
    /// As epoll gives them; in practice only when memory or descriptors are short.
    pub fn register(self) -> io::Result<Stream> {
        Ok(match self {
            BareStream::Tcp(s) => Stream::Tcp(TcpStream::from_std(s)?),
            BareStream::Unix(s) => Stream::Unix(UnixStream::from_std(s)?),
            BareStream::Registered(s) => s,
        })
    }
}

impl Stream {
    /// Takes the socket off this thread's runtime.
    ///
    /// # Errors
    ///
    /// As epoll gives them.
    pub fn deregister(self) -> io::Result<BareStream> {
        Ok(match self {
            Stream::Tcp(s) => BareStream::Tcp(s.into_std()?),
            Stream::Unix(s) => BareStream::Unix(s.into_std()?),
        })
    }

    /// One read into `buf`; zero bytes mean that the peer has closed.
    ///
    /// A read that fills less than `buf` tells tokio that the socket is drained, so no call is spent on
    /// finding that out (`try_read` does not know that).
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        let done = match self {
            Stream::Tcp(s) => Pin::new(s).poll_read(cx, &mut buf),
            Stream::Unix(s) => Pin::new(s).poll_read(cx, &mut buf),
        };
        done.map_ok(|()| buf.filled().len())
    }

    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(s) => Pin::new(s).poll_write(cx, bytes),
            Stream::Unix(s) => Pin::new(s).poll_write(cx, bytes),
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// As the socket gives them; a socket that takes nothing any more is `WriteZero`.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = std::future::poll_fn(|cx| self.poll_write(cx, rest)).await?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = &rest[n..];
        }
        Ok(())
    }

    /// One read that appends at most `limit` bytes to `into`; zero: the peer has closed.
    ///
    /// # Errors
    ///
    /// As the socket gives them.
    pub async fn read_some(&mut self, into: &mut Vec<u8>, limit: usize) -> io::Result<usize> {
        let at = into.len();
        into.resize(at + limit, 0);
        let got = std::future::poll_fn(|cx| self.poll_read(cx, &mut into[at..])).await;
        into.truncate(at + *got.as_ref().unwrap_or(&0));
        got
    }

    /// Whether the peer has closed or sent something nobody asked for. Costs no system call
    /// while epoll has reported nothing.
    pub fn is_stale(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut cx = Context::from_waker(std::task::Waker::noop());
        !matches!(self.poll_read(&mut cx, &mut byte), Poll::Pending)
    }

    /// Ready when the peer has closed. Bytes that it has sent stay where they are; behind them a
    /// close goes unseen.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let ready = match self {
                Stream::Tcp(s) => s.poll_read_ready(cx),
                Stream::Unix(s) => s.poll_read_ready(cx),
            };
            match ready {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {}
            }
            let peeked = match self {
                Stream::Tcp(s) => s.try_io(Interest::READABLE, || socket::peek(s)),
                Stream::Unix(s) => s.try_io(Interest::READABLE, || socket::peek(s)),
            };
            match peeked {
                Ok(0) => return Poll::Ready(()),
                Ok(_) => return Poll::Pending,
                // The readiness was stale and has been taken back: look again.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Resolves when the peer has closed; see [`Stream::poll_closed`].
    pub async fn closed(&self) {
        std::future::poll_fn(|cx| self.poll_closed(cx)).await;
    }

    /// Nothing more will be written.
    pub async fn shutdown(&mut self) {
        // A socket that is gone already needs no shutdown.
        let _ = match self {
            Stream::Tcp(s) => s.shutdown().await,
            Stream::Unix(s) => s.shutdown().await,
        };
    }

    /// Least number of bytes that wakes a reader of a TCP socket.
    pub fn set_low_water_mark(&self, bytes: i32) {
        if let Stream::Tcp(s) = self {
            // Only an optimisation: a kernel that refuses it costs speed and nothing else.
            let _ = socket::set_receive_low_water_mark(s, bytes);
        }
    }
}
