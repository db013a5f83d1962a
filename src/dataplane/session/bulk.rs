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
            stream.set_low_water_mark(MARK);
            self.raised = true;
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
