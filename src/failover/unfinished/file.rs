//! The record of what goes on: `pgpool-rs.unfinished.PORT` beside the status file.
//!
//! The port is in the name since two pgpools may share the directory, and none may take up what the
//! other one does. The process of a hook puts the record that says "begun" in its place itself, in the
//! moment in which it begins ([`prepare`]): one without the other there is not. A start takes prepared
//! records away before it reads ([`read`]), so that what has not begun by then never does.
//!
//! What is written is on the disk when the next step is made, where an older record would say that a hook
//! is due: after a power cut no hook shall be run twice, either. Names of files may get there a moment
//! later ([`sync_directory`]), since writers wait meanwhile.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::{
    Hook, Stage,
    record::{FOLLOW_PROCESS, HOOK_PROCESS, Record},
};
use crate::{failover::core::HookKind, sys::at_exec::Declaration};

/// The place of the record of one pgpool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    work_dir: PathBuf,
    /// Of its clients.
    port: u16,
}

impl Place {
    /// `work_dir`: that of the status file.
    pub fn new(work_dir: impl Into<PathBuf>, port: u16) -> Place {
        Place {
            work_dir: work_dir.into(),
            port,
        }
    }

    pub fn path(&self) -> PathBuf {
        self.work_dir.join(self.name())
    }

    fn name(&self) -> String {
        format!("pgpool-rs.unfinished.{}", self.port)
    }

    /// A file of this process that is to become the record.
    fn prepared_path(&self) -> PathBuf {
        let pid = std::process::id();
        self.work_dir.join(format!("{}.{pid}.new", self.name()))
    }

    /// Files that an earlier process has prepared.
    fn prepared(&self) -> io::Result<Vec<PathBuf>> {
        let begin = format!("{}.", self.name());
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.work_dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let pid = name
                .to_str()
                .and_then(|name| name.strip_prefix(&begin)?.strip_suffix(".new"));
            if pid.is_some_and(|pid| pid.parse::<u32>().is_ok()) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}

/// What an earlier pgpool was in the middle of; nothing when there is no file. A hook that it was about to
/// begin and that has not begun never does.
///
/// # Errors
///
/// The file is there and cannot be read, or what was prepared cannot be taken away.
pub fn read(place: &Place) -> io::Result<Record> {
    withdraw(place)?;
    match fs::read(place.path()) {
        Ok(bytes) => Ok(Record::interpret(&String::from_utf8_lossy(&bytes))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Record::default()),
        Err(e) => Err(e),
    }
}

fn withdraw(place: &Place) -> io::Result<()> {
    let prepared = match place.prepared() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        prepared => prepared?,
    };
    prepared.iter().try_for_each(|path| remove(path))
}

/// Replaces the file in one step; it is gone when nothing goes on.
///
/// # Errors
///
/// Whatever the file system says.
pub fn write(place: &Place, record: &Record) -> io::Result<()> {
    if record.unfinished.is_empty() {
        return remove(&place.path());
    }
    let due = |hook: &Hook| hook.stage == Stage::Due;
    let path = write_prepared(
        place,
        record,
        record.unfinished.hook.as_ref().is_some_and(due),
    )?;
    let renamed = fs::rename(&path, place.path());
    if renamed.is_err() {
        let _ = fs::remove_file(&path);
    }
    renamed
}

/// A record for the process of a hook to put in its place, which adds itself.
///
/// # Errors
///
/// Whatever the file system says: then the hook is run without it, and a record that is there is to be
/// discarded, since it would say that the hook is due.
pub fn prepare(place: &Place, record: &Record, kind: HookKind) -> io::Result<Declaration> {
    let path = write_prepared(place, record, true)?;
    let word = match kind {
        HookKind::Failover | HookKind::Failback => HOOK_PROCESS,
        HookKind::Follow => FOLLOW_PROCESS,
    };
    Declaration::new(&path, &place.path(), word)
}

/// Whether the process of the hook has taken what was prepared; takes it away if not.
pub fn is_declared(place: &Place) -> bool {
    match fs::remove_file(place.prepared_path()) {
        Ok(()) => false,
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    }
}

fn write_prepared(place: &Place, record: &Record, sync: bool) -> io::Result<PathBuf> {
    let path = place.prepared_path();
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(record.text().as_bytes())?;
        if sync { file.sync_data() } else { Ok(()) }
    });
    match written {
        Ok(()) => Ok(path),
        Err(e) => {
            let _ = fs::remove_file(&path);
            Err(e)
        }
    }
}

/// Makes the last [`write`] or [`discard`] outlive the machine. Nothing depends on it at once.
///
/// # Errors
///
/// Whatever the file system says.
pub fn sync_directory(place: &Place) -> io::Result<()> {
    match File::open(place.path()) {
        Ok(file) => file.sync_data()?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    File::open(&place.work_dir)?.sync_all()
}

/// Forgets it, as `-D` forgets the statuses.
///
/// # Errors
///
/// The file is there and cannot be removed.
pub fn discard(place: &Place) -> io::Result<()> {
    withdraw(place)?;
    remove(&place.path())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::unfinished::record::tests::record;

    #[test]
    fn what_is_written_is_read_back_and_nothing_is_left_when_nothing_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path(), 9999);
        assert_eq!(read(&place).unwrap(), Record::default());
        let record = record();
        assert!(record.hook_process.unwrap().is_alive());
        write(&place, &record).unwrap();
        sync_directory(&place).unwrap();
        assert_eq!(read(&place).unwrap(), record);
        let other = Place::new(dir.path(), 999);
        assert_eq!(read(&other).unwrap(), Record::default(), "another pgpool's");
        discard(&other).unwrap();
        assert_eq!(read(&place).unwrap(), record);
        write(&place, &Record::default()).unwrap();
        sync_directory(&place).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// Runs `true` as a hook of which `record` is prepared.
    fn begin(place: &Place, record: &Record) {
        let mut command = std::process::Command::new("/bin/true");
        let declaration = prepare(place, record, HookKind::Failover).unwrap();
        declaration.install(&mut command);
        assert!(command.status().unwrap().success());
    }

    #[test]
    fn a_hook_that_begins_is_in_the_record_with_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path(), 9999);
        let mut record = record();
        record.hook_process = None;
        begin(&place, &record);
        assert!(is_declared(&place));
        let read = read(&place).unwrap();
        assert_eq!(read.unfinished, record.unfinished);
        assert!(!read.hook_process.unwrap().is_alive(), "it has ended");
        prepare(&place, &record, HookKind::Failover).unwrap();
        assert!(!is_declared(&place), "nobody has begun");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_has_not_begun_when_the_next_one_reads_stays_due() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path(), 9999);
        let mut record = record();
        record.unfinished.hook.as_mut().unwrap().stage = Stage::Due;
        write(&place, &record).unwrap();
        let due = record.clone();
        record.unfinished.hook.as_mut().unwrap().stage = Stage::Begun;
        let _killed_here = prepare(&place, &record, HookKind::Failover).unwrap();
        let others = dir.path().join("pgpool-rs.unfinished.9998.77.new");
        fs::write(&others, "").unwrap();
        assert_eq!(read(&place).unwrap(), due);
        assert!(others.exists());
        assert!(is_declared(&place), "it was taken away");
    }
}
