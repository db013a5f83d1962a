//! Big results: wakes a worker for 64 KiB instead of for each 8 KiB that a backend writes.
//!
//! Without it, a worker on a core of its own reads, writes and sleeps up to 2500 times per 20 MB, at three
//! times the CPU. Small results never get here. Guarded by the 20 MB row of `make bench`.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Sleep;

use crate::dataplane::stream::Stream;

/// Bytes of one answer from which on it counts as big. Less costs results of a few hundred kB
/// more for the timer than the mark saves.
const THRESHOLD: usize = 1024 * 1024;
/// Half the default receive buffer, and what one read takes.
const MARK: i32 = 64 * 1024;
/// How long a tail below the mark may wait.
const TAIL_DELAY: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub struct Bulk {
    /// Bytes since the last ReadyForQuery.
    passed: usize,
    raised: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Bulk {
    /// `bytes` more of an answer have been read.
    pub fn passed(&mut self, bytes: usize, stream: &Stream) {
        self.passed += bytes;
        if self.passed > THRESHOLD && !self.raised {
            self.raised = stream.set_low_water_mark(MARK);
        }
        self.timer = None;
    }

    /// ReadyForQuery: the answer is complete.
    pub fn finished(&mut self, stream: &Stream) {
        self.passed = 0;
        self.lower(stream);
    }

    /// The backend has nothing to read at the moment. In a big result, makes sure that a tail
    /// below the mark arrives all the same; true: the mark has been lowered, read again.
    pub fn wait(&mut self, cx: &mut Context<'_>, stream: &Stream) -> bool {
        if !self.raised {
            return false;
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(TAIL_DELAY)));
        match timer.as_mut().poll(cx) {
            Poll::Pending => false,
            Poll::Ready(()) => {
                self.passed = 0;
                self.lower(stream);
                true
            }
        }
    }

    fn lower(&mut self, stream: &Stream) {
        self.timer = None;
        if std::mem::take(&mut self.raised) {
            stream.set_low_water_mark(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    async fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(near, listener.accept());
        (Stream::Tcp(near.unwrap()), far.unwrap().0)
    }

    async fn read(bulk: &mut Bulk, stream: &mut Stream) -> usize {
        let mut buffer = [0; 64];
        std::future::poll_fn(|cx| {
            loop {
                match stream.poll_read(cx, &mut buffer) {
                    Poll::Ready(n) => return Poll::Ready(n.unwrap()),
                    Poll::Pending if bulk.wait(cx, stream) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// The mark would hold such a tail back for ever.
    #[tokio::test]
    async fn a_tail_below_the_mark_arrives_within_milliseconds() {
        let (mut stream, mut far) = pair().await;
        let mut bulk = Bulk::default();
        bulk.passed(THRESHOLD + 1, &stream);
        assert!(bulk.raised);
        far.write_all(b"the end").await.unwrap();
        let began = Instant::now();
        assert_eq!(read(&mut bulk, &mut stream).await, 7);
        // 2 ms on an idle machine; the rest is for a busy one.
        assert!(began.elapsed() < Duration::from_millis(500));
        assert!(!bulk.raised, "small answers are not delayed any more");
    }

    #[tokio::test]
    async fn the_end_of_an_answer_lowers_the_mark() {
        let (mut stream, mut far) = pair().await;
        let mut bulk = Bulk::default();
        bulk.passed(THRESHOLD + 1, &stream);
        bulk.finished(&stream);
        far.write_all(b"next").await.unwrap();
        assert_eq!(read(&mut bulk, &mut stream).await, 4);
        assert!(bulk.timer.is_none());
    }

    #[tokio::test]
    async fn answers_of_up_to_a_megabyte_change_nothing() {
        let (stream, _far) = pair().await;
        let mut bulk = Bulk::default();
        bulk.passed(THRESHOLD, &stream);
        assert!(!bulk.raised);
    }
}
