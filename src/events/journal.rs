//! The file of the events: lines of JSON that are only ever appended, in the work directory.
//!
//! The name has the port in it (`pgpool_events.9999`), since two pgpools may share the directory. A file
//! that has grown to [`LIMIT`] becomes `pgpool_events.9999.1`, in place of the one before. The file is
//! opened for each event: events are rare, and an operator may move or remove it at any time.
//!
//! A process that is killed, or a disk that is full, may leave half a line. The next line begins on a
//! new one, and readers leave out what is no event.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::Event;

/// Bytes after which a new file is begun: some thousand events.
pub const LIMIT: u64 = 1024 * 1024;
/// Events that wait for a disk that does not take them; the oldest are given up.
const MOST_UNSAVED: usize = 1000;

/// `pgpool_events.PORT` in `logdir` (`work_dir` since 4.7).
pub fn path(work_dir: &Path, port: u16) -> PathBuf {
    work_dir.join(format!("pgpool_events.{port}"))
}

/// Where a full file goes.
pub fn older_path(work_dir: &Path, port: u16) -> PathBuf {
    work_dir.join(format!("pgpool_events.{port}.1"))
}

/// The writer's end.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    older: PathBuf,
    limit: u64,
    unsaved: VecDeque<String>,
}

impl Journal {
    pub fn new(work_dir: &Path, port: u16) -> Journal {
        Journal::with_limit(work_dir, port, LIMIT)
    }

    fn with_limit(work_dir: &Path, port: u16, limit: u64) -> Journal {
        Journal {
            path: path(work_dir, port),
            older: older_path(work_dir, port),
            limit,
            unsaved: VecDeque::new(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Events that the file has not got.
    pub fn unsaved(&self) -> usize {
        self.unsaved.len()
    }

    /// Writes the event, and before it those that could not be written so far.
    ///
    /// # Errors
    ///
    /// What the file system says; the event is kept for the next time.
    pub fn append(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_string(event).map_err(io::Error::other)?;
        line.push('\n');
        if self.unsaved.len() >= MOST_UNSAVED {
            self.unsaved.pop_front();
        }
        self.unsaved.push_back(line);
        while let Some(line) = self.unsaved.front() {
            self.write(line)?;
            self.unsaved.pop_front();
        }
        Ok(())
    }

    fn write(&self, line: &str) -> io::Result<()> {
        let mut file = open(&self.path)?;
        let mut size = file.metadata()?.len();
        if size > 0 && size + line.len() as u64 > self.limit {
            // A file that cannot be moved goes on growing: better than no events.
            if fs::rename(&self.path, &self.older).is_ok() {
                file = open(&self.path)?;
                size = file.metadata()?.len();
            }
        }
        let torn = size > 0 && !ends_with_newline(&file, size);
        let text = if torn {
            format!("\n{line}")
        } else {
            line.to_owned()
        };
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_data());
        if written.is_err() {
            // Half a line would do no harm, but a full disk has no room for it. If this fails as well,
            // the next line begins on a new one.
            let _ = file.set_len(size);
        }
        written
    }
}

/// Never follows a link and never waits for the reader of a pipe: the directory may be `/tmp`.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if metadata.permissions().mode() & 0o777 != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

fn ends_with_newline(file: &File, size: u64) -> bool {
    let mut last = [0];
    matches!(file.read_at(&mut last, size - 1), Ok(1)) && last == *b"\n"
}

/// The latest `most` events of both files, in their order. Files that are not there are empty.
///
/// # Errors
///
/// A file that is there and cannot be read.
pub fn read(work_dir: &Path, port: u16, most: usize) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    for path in [older_path(work_dir, port), path(work_dir, port)] {
        let text = match read_end(&path, 2 * LIMIT) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        events.extend(
            text.split(|&b| b == b'\n')
                .filter_map(|line| serde_json::from_slice::<Event>(line).ok()),
        );
    }
    let surplus = events.len().saturating_sub(most);
    events.drain(..surplus);
    Ok(events)
}

/// At most the last `limit` bytes: a file that could not be moved may be long.
fn read_end(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(limit)))?;
    let mut text = Vec::new();
    file.take(limit).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, time::SystemTime};

    use super::*;
    use crate::events::{Kind, Note, Step};

    const PORT: u16 = 9999;

    fn event(id: u64) -> Event {
        Event {
            id,
            time: SystemTime::UNIX_EPOCH,
            pid: 1,
            operation: id,
            note: Note::new(Kind::Reload, Step::Ended),
        }
    }

    fn ids(dir: &Path) -> Vec<u64> {
        let events = read(dir, PORT, 1000).unwrap();
        events.iter().map(|e| e.id).collect()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_written_is_read_back_and_the_file_is_the_accounts_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ids(dir.path()), [0; 0], "no file is no event");
        let mut journal = Journal::new(dir.path(), PORT);
        for id in 1..=3 {
            journal.append(&event(id)).unwrap();
        }
        assert_eq!(ids(dir.path()), [1, 2, 3]);
        assert_eq!(mode(journal.path()), 0o600);
        let latest = read(dir.path(), PORT, 2).unwrap();
        assert_eq!(latest.iter().map(|e| e.id).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(read(dir.path(), 5433, 10).unwrap(), [], "another pgpool's");
    }

    #[test]
    fn a_file_that_others_may_read_is_closed_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(dir.path(), PORT);
        fs::write(journal.path(), "").unwrap();
        fs::set_permissions(journal.path(), Permissions::from_mode(0o644)).unwrap();
        journal.append(&event(1)).unwrap();
        assert_eq!(mode(journal.path()), 0o600);
    }

    #[test]
    fn half_a_line_is_left_out_and_the_next_one_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(dir.path(), PORT);
        journal.append(&event(1)).unwrap();
        journal.append(&event(2)).unwrap();
        let text = fs::read(journal.path()).unwrap();
        for cut in 1..text.len() / 2 {
            fs::write(journal.path(), &text[..text.len() - cut]).unwrap();
            // Without its newline a line is whole all the same.
            let expected: &[u64] = if cut == 1 { &[1, 2] } else { &[1] };
            assert_eq!(ids(dir.path()), expected, "cut {cut}");
            Journal::new(dir.path(), PORT).append(&event(3)).unwrap();
            assert_eq!(ids(dir.path()).last(), Some(&3), "cut {cut}");
            assert_eq!(ids(dir.path()).len(), expected.len() + 1, "cut {cut}");
        }
    }

    #[test]
    fn a_full_file_is_moved_and_two_files_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let line = serde_json::to_string(&event(1)).unwrap().len() as u64 + 1;
        let mut journal = Journal::with_limit(dir.path(), PORT, 3 * line);
        for id in 1..=8 {
            journal.append(&event(id)).unwrap();
        }
        assert_eq!(ids(dir.path()), [4, 5, 6, 7, 8]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(fs::metadata(journal.path()).unwrap().len() <= 3 * line);
        assert_eq!(mode(&older_path(dir.path(), PORT)), 0o600);
    }

    #[test]
    fn what_a_disk_did_not_take_is_written_when_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let work_dir = dir.path().join("gone");
        let mut journal = Journal::new(&work_dir, PORT);
        assert!(journal.append(&event(1)).is_err());
        assert!(journal.append(&event(2)).is_err());
        assert_eq!(journal.unsaved(), 2);
        fs::create_dir(&work_dir).unwrap();
        journal.append(&event(3)).unwrap();
        assert_eq!(journal.unsaved(), 0);
        assert_eq!(ids(&work_dir), [1, 2, 3]);
    }

    #[test]
    fn while_nothing_can_be_written_the_oldest_are_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let work_dir = dir.path().join("gone");
        let mut journal = Journal::new(&work_dir, PORT);
        for id in 1..=MOST_UNSAVED as u64 + 5 {
            assert!(journal.append(&event(id)).is_err());
        }
        fs::create_dir(&work_dir).unwrap();
        journal.append(&event(9999)).unwrap();
        let kept = ids(&work_dir);
        assert_eq!((kept[0], kept.len()), (7, MOST_UNSAVED));
    }

    #[test]
    fn a_full_disk_leaves_no_half_line_behind() {
        // What /dev/full says at each write; it is no regular file, so a link to it is refused before.
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(dir.path(), PORT);
        symlink("/dev/full", journal.path()).unwrap();
        assert!(journal.append(&event(1)).is_err());
        fs::remove_file(journal.path()).unwrap();
        journal.append(&event(2)).unwrap();
        assert_eq!(ids(dir.path()), [1, 2]);
    }

    #[test]
    fn links_and_pipes_are_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        fs::write(&target, "precious").unwrap();
        let mut journal = Journal::new(dir.path(), PORT);
        symlink(&target, journal.path()).unwrap();
        assert!(journal.append(&event(1)).is_err());
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        fs::remove_file(journal.path()).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(journal.path())
            .status();
        assert!(made.unwrap().success());
        assert!(journal.append(&event(2)).is_err(), "and it did not wait");
        assert!(read(dir.path(), PORT, 10).is_err());
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(dir.path(), PORT);
        journal.append(&event(1)).unwrap();
        fs::rename(journal.path(), dir.path().join("kept")).unwrap();
        journal.append(&event(2)).unwrap();
        assert_eq!(ids(dir.path()), [2]);
    }
}
