//! Bytes that a socket did not take yet. Nothing is read from the other side while there are some.

use std::{
    io,
    task::{Context, Poll},
};

use crate::dataplane::stream::Stream;

/// Holds no memory while empty.
#[derive(Debug, Default)]
pub struct Leftover {
    bytes: Vec<u8>,
    written: usize,
}

impl Leftover {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn clear(&mut self) {
        *self = Leftover::default();
    }

    /// Writes `bytes` behind what is left over; keeps what the socket does not take.
    ///
    /// # Errors
    ///
    /// As the socket gives them.
    pub fn write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        bytes: &[u8],
    ) -> io::Result<()> {
        if !self.is_empty() {
            self.push(bytes);
            return Ok(());
        }
        match stream.poll_write(cx, bytes) {
            Poll::Ready(Ok(n)) if n == bytes.len() => Ok(()),
            Poll::Ready(Ok(n)) => {
                self.push(&bytes[n..]);
                Ok(())
            }
            Poll::Ready(Err(e)) => Err(e),
            Poll::Pending => {
                self.push(bytes);
                Ok(())
            }
        }
    }

    /// Writes what is left over as far as the socket takes it; true: something was written.
    ///
    /// # Errors
    ///
    /// As the socket gives them.
    pub fn flush(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> io::Result<bool> {
        let mut progress = false;
        while let Some(rest) = self.bytes.get(self.written..).filter(|r| !r.is_empty()) {
            match stream.poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    self.written += n;
                    progress = true;
                }
                Poll::Ready(Err(e)) => return Err(e),
                Poll::Pending => return Ok(progress),
            }
        }
        self.clear();
        Ok(progress)
    }
}
