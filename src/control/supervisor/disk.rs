//! A file that is written before the next step, on another thread, by a disk that may hang.
//!
//! One that does not come to an end is not waited for without an end: the servers need a failover, and what
//! the file is for needs a restart of pgpool as well. Writes keep their order, and what is older than what
//! has been written is left out.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{task::spawn_blocking, time::timeout};

use crate::sys::errors;

/// As long as a disk may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same while it has not done what was to be done before.
const NO_PATIENCE: Duration = Duration::from_millis(100);

/// One file, or one set of files.
#[derive(Debug, Default)]
pub struct Disk {
    last: u64,
    is_late: bool,
    /// Held by the one that writes: the number of the latest that has.
    written: Arc<Mutex<u64>>,
}

impl Disk {
    /// Runs `write` and waits for it, within bounds.
    ///
    /// # Errors
    ///
    /// Why it has not been written, or that this is not known yet.
    pub async fn write<T, F>(&mut self, write: F) -> Result<Option<T>, String>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        self.last += 1;
        let (number, written) = (self.last, Arc::clone(&self.written));
        let writing = spawn_blocking(move || {
            let mut latest = written.lock().unwrap_or_else(PoisonError::into_inner);
            if *latest > number {
                return Ok(None);
            }
            *latest = number;
            write().map(Some)
        });
        let patience = if self.is_late { NO_PATIENCE } else { PATIENCE };
        let ended = timeout(patience, writing).await;
        self.is_late = ended.is_err();
        match ended {
            Ok(Ok(result)) => result.map_err(|e| errors::message(&e)),
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err(
                "the disk does not come to an end with it, and is not waited for any more"
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_disk_that_hangs_is_waited_for_once_and_what_is_newer_stays() {
        let (release, hang) = mpsc::channel::<()>();
        let file = Arc::new(Mutex::new(Vec::new()));
        let write = |text: &'static str| {
            let file = Arc::clone(&file);
            move || {
                file.lock().unwrap().push(text);
                Ok(())
            }
        };
        let mut disk = Disk::default();
        assert_eq!(disk.write(write("first")).await, Ok(Some(())));
        let hangs = move || hang.recv().map_err(io::Error::other);
        let began = Instant::now();
        assert!(disk.write(hangs).await.is_err());
        assert!(began.elapsed() >= PATIENCE);
        let began = Instant::now();
        assert!(disk.write(write("second")).await.is_err());
        assert!(disk.write(write("third")).await.is_err());
        assert!(began.elapsed() < PATIENCE);
        release.send(()).unwrap();
        assert_eq!(disk.write(write("fourth")).await, Ok(Some(())));
        let seen = file.lock().unwrap().clone();
        assert_eq!(
            (seen.first(), seen.last()),
            (Some(&"first"), Some(&"fourth"))
        );
        assert!(seen.is_sorted_by_key(|text| {
            ["first", "second", "third", "fourth"]
                .iter()
                .position(|t| t == text)
        }));
    }

    #[tokio::test]
    async fn an_error_is_told() {
        let error = io::Error::from_raw_os_error(libc::ENOSPC);
        let result: Result<Option<()>, String> = Disk::default().write(move || Err(error)).await;
        assert_eq!(result, Err("No space left on device".to_owned()));
    }
}
