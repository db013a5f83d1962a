//! A connected socket: TCP, unix, or TLS over TCP.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

use crate::{
    sys::socket,
    tls::{TlsInfo, TlsStream},
};

/// A socket on a worker's runtime.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream>),
    /// Taken away for a TLS handshake, which has failed or goes on.
    Gone,
}

/// A socket on its way to the worker that will serve it.
#[derive(Debug)]
pub enum BareStream {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
    Tls(Box<TlsStream>),
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
            BareStream::Tls(mut s) => {
                s.register()?;
                Stream::Tls(s)
            }
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
            Stream::Tls(mut s) => {
                s.deregister()?;
                BareStream::Tls(s)
            }
            Stream::Gone => return Err(gone()),
        })
    }

    /// What is known of the connection when it is one of TLS.
    pub fn tls(&self) -> Option<TlsInfo> {
        match self {
            Stream::Tls(s) => Some(s.info()),
            Stream::Tcp(_) | Stream::Unix(_) | Stream::Gone => None,
        }
    }

    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// One read into `buf`; zero bytes mean that the peer has closed.
    ///
    /// A read that fills less than `buf` tells tokio that the socket is drained, so no call is spent on
    /// finding that out (`try_read` does not know that). Of TLS a short read says nothing: only
    /// `Pending` means that there is nothing more.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Stream::Tls(s) = self {
            return s.poll_read(cx, buf);
        }
        let mut buf = ReadBuf::new(buf);
        let done = match self {
            Stream::Tcp(s) => Pin::new(s).poll_read(cx, &mut buf),
            Stream::Unix(s) => Pin::new(s).poll_read(cx, &mut buf),
            Stream::Tls(_) | Stream::Gone => Poll::Ready(Err(gone())),
        };
        done.map_ok(|()| buf.filled().len())
    }

    /// One write; after `Pending` the next one must begin with the same bytes (TLS).
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(s) => Pin::new(s).poll_write(cx, bytes),
            Stream::Unix(s) => Pin::new(s).poll_write(cx, bytes),
            Stream::Tls(s) => s.poll_write(cx, bytes),
            Stream::Gone => Poll::Ready(Err(gone())),
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
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let ready = match self {
                Stream::Tcp(s) => s.poll_read_ready(cx),
                Stream::Unix(s) => s.poll_read_ready(cx),
                Stream::Tls(s) => return s.poll_closed(cx),
                Stream::Gone => return Poll::Ready(()),
            };
            match ready {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {}
            }
            let peeked = match self {
                Stream::Tcp(s) => s.try_io(Interest::READABLE, || socket::peek(s)),
                Stream::Unix(s) => s.try_io(Interest::READABLE, || socket::peek(s)),
                Stream::Tls(_) | Stream::Gone => return Poll::Ready(()),
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
    pub async fn closed(&mut self) {
        std::future::poll_fn(|cx| self.poll_closed(cx)).await;
    }

    /// Nothing more will be written.
    pub async fn shutdown(&mut self) {
        // A socket that is gone already needs no shutdown.
        let _ = match self {
            Stream::Tcp(s) => s.shutdown().await,
            Stream::Unix(s) => s.shutdown().await,
            Stream::Tls(s) => s.shutdown().await,
            Stream::Gone => Ok(()),
        };
    }

    /// Least number of bytes that wakes a reader of a TCP socket; false: this one has no such mark.
    /// Under TLS it would hold back the end of a record of which OpenSSL has the beginning.
    pub fn set_low_water_mark(&self, bytes: i32) -> bool {
        match self {
            // Only an optimisation: a kernel that refuses it costs speed and nothing else.
            Stream::Tcp(s) => socket::set_receive_low_water_mark(s, bytes).is_ok(),
            Stream::Unix(_) | Stream::Tls(_) | Stream::Gone => false,
        }
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}
