//! A TLS connection on a worker's runtime, with the poll functions of a plain one.
//!
//! OpenSSL reads from and writes to the socket by itself. What it has read and not given out is in
//! no epoll set, so a read is over only when OpenSSL says that it wants more of the socket.

use std::{
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use openssl::{
    ssl::{Error, ErrorCode, SslStream},
    x509::X509,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};

use super::TlsInfo;

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct TlsStream {
    ssl: SslStream<Socket>,
    /// An error that came behind bytes, for the next call.
    failed: Option<io::Error>,
    /// The connection has failed; OpenSSL must not be asked for a farewell.
    broken: bool,
}

/// What OpenSSL reads from and writes to.
#[derive(Debug)]
pub(super) struct Socket {
    inner: Inner,
    /// Bytes that had been read before TLS began.
    early: Vec<u8>,
    /// Who is to be woken when the socket is ready; `None`: nobody, the call only looks.
    waker: Option<Waker>,
}

#[derive(Debug)]
enum Inner {
    Registered(TcpStream),
    /// On its way to another worker.
    Bare(std::net::TcpStream),
    Gone,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, early: Vec<u8>) -> Socket {
        Socket {
            inner: Inner::Registered(stream),
            early,
            waker: None,
        }
    }

    pub(super) fn stream(&self) -> io::Result<&TcpStream> {
        match &self.inner {
            Inner::Registered(stream) => Ok(stream),
            Inner::Bare(_) | Inner::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

fn ready<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.early.is_empty() {
            let n = self.early.len().min(buf.len());
            buf[..n].copy_from_slice(&self.early[..n]);
            self.early.drain(..n);
            return Ok(n);
        }
        let Inner::Registered(stream) = &mut self.inner else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        match &self.waker {
            None => stream.try_read(buf),
            Some(waker) => {
                let mut buf = ReadBuf::new(buf);
                let mut cx = Context::from_waker(waker);
                // A short read tells tokio that the socket is drained; see `Stream::poll_read`.
                ready(Pin::new(stream).poll_read(&mut cx, &mut buf))?;
                Ok(buf.filled().len())
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Inner::Registered(stream) = &mut self.inner else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        match &self.waker {
            None => stream.try_write(bytes),
            Some(waker) => {
                ready(Pin::new(stream).poll_write(&mut Context::from_waker(waker), bytes))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// TLS has failed, and not the connection under it: the peer is there. Inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsFailure(String);

/// How a call of OpenSSL ended.
enum Outcome {
    /// The socket is not ready; whoever is waiting will be woken.
    Pending,
    /// The peer has closed.
    End,
    Failed(io::Error),
}

impl Outcome {
    fn of(error: Error) -> Outcome {
        match error.code() {
            ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => Outcome::Pending,
            ErrorCode::ZERO_RETURN => Outcome::End,
            // A close without close_notify: PostgreSQL's messages tell themselves where they end.
            ErrorCode::SYSCALL if error.io_error().is_none() => Outcome::End,
            _ => Outcome::Failed(match error.into_io_error() {
                Ok(error) => error,
                Err(error) => io::Error::other(TlsFailure(match error.ssl_error() {
                    Some(stack) => super::reason(stack),
                    None => error.to_string(),
                })),
            }),
        }
    }
}

impl TlsStream {
    pub(super) fn new(ssl: SslStream<Socket>) -> TlsStream {
        TlsStream {
            ssl,
            failed: None,
            broken: false,
        }
    }

    pub fn info(&self) -> TlsInfo {
        TlsInfo::of(self.ssl.ssl())
    }

    /// Both sides have agreed by ALPN that this is PostgreSQL's protocol.
    pub(super) fn has_chosen_protocol(&self) -> bool {
        self.ssl.ssl().selected_alpn_protocol().is_some()
    }

    pub(super) fn peer_certificate(&self) -> Option<X509> {
        self.ssl.ssl().peer_certificate()
    }

    /// Fills `buf` as far as bytes are there; zero: the peer has closed.
    ///
    /// # Errors
    ///
    /// As the socket or OpenSSL gives them.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        self.with(cx, |ssl| {
            // One call gives one record at most, and a backend's records are 8 KiB.
            let mut filled = 0;
            while let Some(room) = buf.get_mut(filled..).filter(|room| !room.is_empty()) {
                match ssl.ssl_read(room) {
                    Ok(n) => filled += n,
                    Err(error) => return (filled, Some(Outcome::of(error))),
                }
            }
            (filled, None)
        })
    }

    /// Writes as much of `bytes` as the socket takes. After `Pending` the next call must begin with
    /// the same bytes, for OpenSSL has encrypted them.
    ///
    /// # Errors
    ///
    /// As the socket or OpenSSL gives them.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        self.with(cx, |ssl| {
            let mut written = 0;
            while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
                match ssl.ssl_write(rest) {
                    Ok(n) => written += n,
                    Err(error) => return (written, Some(Outcome::of(error))),
                }
            }
            (written, None)
        })
    }

    /// Ready when the peer has closed. Bytes that it has sent stay where they are; behind them a
    /// close goes unseen. What belongs to TLS itself (session tickets) is no byte of the peer.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let peeked = self.with(cx, |ssl| match ssl.ssl_peek(&mut [0]) {
            Ok(n) => (n, None),
            Err(error) => (0, Some(Outcome::of(error))),
        });
        match peeked {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Says that nothing more will be written, if the socket takes it at once.
    pub fn say_end(&mut self) {
        if !self.broken {
            self.broken = self.ssl.shutdown().is_err();
        }
    }

    /// Closes the sending direction.
    ///
    /// # Errors
    ///
    /// As the socket gives them.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.say_end();
        match &mut self.ssl.get_mut().inner {
            Inner::Registered(stream) => stream.shutdown().await,
            Inner::Bare(_) | Inner::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Takes the socket off this thread's runtime.
    ///
    /// # Errors
    ///
    /// As epoll gives them.
    pub fn deregister(&mut self) -> io::Result<()> {
        let inner = &mut self.ssl.get_mut().inner;
        *inner = match std::mem::replace(inner, Inner::Gone) {
            Inner::Registered(stream) => Inner::Bare(stream.into_std()?),
            other => other,
        };
        Ok(())
    }

    /// Puts the socket onto this thread's runtime.
    ///
    /// # Errors
    ///
    /// As epoll gives them.
    pub fn register(&mut self) -> io::Result<()> {
        let inner = &mut self.ssl.get_mut().inner;
        *inner = match std::mem::replace(inner, Inner::Gone) {
            Inner::Bare(stream) => Inner::Registered(TcpStream::from_std(stream)?),
            other => other,
        };
        Ok(())
    }

    /// Runs calls of OpenSSL, which tell how many bytes they moved and why they stopped.
    fn with(
        &mut self,
        cx: &mut Context<'_>,
        calls: impl FnOnce(&mut SslStream<Socket>) -> (usize, Option<Outcome>),
    ) -> Poll<io::Result<usize>> {
        self.ssl.get_mut().waker = Some(cx.waker().clone());
        let (moved, stopped) = calls(&mut self.ssl);
        // Kept longer, it would keep the memory of a session that has ended.
        self.ssl.get_mut().waker = None;
        match stopped {
            Some(Outcome::Failed(error)) => {
                self.broken = true;
                if moved == 0 {
                    return Poll::Ready(Err(error));
                }
                self.failed = Some(error);
                Poll::Ready(Ok(moved))
            }
            Some(Outcome::Pending) if moved == 0 => Poll::Pending,
            // The end is told again by the next call.
            _ => Poll::Ready(Ok(moved)),
        }
    }
}

/// The peer is told that this is the end and no cut: otherwise it reports an error of TLS.
impl Drop for TlsStream {
    fn drop(&mut self) {
        self.say_end();
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = std::task::ready!(TlsStream::poll_read(
            self.get_mut(),
            cx,
            buf.initialize_unfilled()
        ))?;
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        TlsStream::poll_write(self.get_mut(), cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.say_end();
        match &mut this.ssl.get_mut().inner {
            Inner::Registered(stream) => Pin::new(stream).poll_shutdown(cx),
            Inner::Bare(_) | Inner::Gone => Poll::Ready(Ok(())),
        }
    }
}
