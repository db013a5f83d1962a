//! The pid file: decimal pid and one NUL byte, mode 0600, no newline.
//!
//! Readers take what atoi makes of it, so files with a newline are understood as well.
//! Source: `src/main/main.c @ V4_3_5`; texts measured on 4.3.5.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::fatal::Fatal;
use crate::sys::{
    errors,
    process::{self, Pid},
};

/// Larger files are no pid files; stock reads as much.
const READ_LIMIT: u64 = 128;

#[derive(Clone, Debug)]
pub struct PidFile {
    path: PathBuf,
    /// As written in the configuration: that is what messages show.
    shown: String,
}

/// What a pid file says about a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupant {
    /// No file, or no pid in it.
    Nobody,
    /// The pid of a process that is gone, or of another user.
    Dead,
    Alive(Pid),
}

impl PidFile {
    /// `name` as in `pid_file_name`; a relative one lies beside the pgpool.conf given.
    pub fn new(name: &Path, config: &Path) -> PidFile {
        PidFile {
            path: config.parent().unwrap_or(Path::new("")).join(name),
            shown: name.display().to_string(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The pid in the file. `None`: the file cannot be opened, or holds no positive number
    /// (stock would signal its own process group for the latter).
    pub fn read(&self) -> Result<Option<Pid>, Fatal> {
        let Ok(file) = File::open(&self.path) else {
            return Ok(None);
        };
        let mut text = Vec::new();
        if let Err(error) = file.take(READ_LIMIT).read_to_end(&mut text) {
            return Err(self.fatal("could not read pid file", &error));
        }
        if text.is_empty() {
            return Err(Fatal::new(format!(
                "EOF detected while reading pid file \"{}\"",
                self.shown
            ))
            .hint("If no pgpool is running, remove the file."));
        }
        Ok(leading_number(&text).filter(|&pid| pid > 0))
    }

    /// Who holds the file. Our own pid counts as dead: in a container every start has the same one.
    pub fn occupant(&self) -> Result<Occupant, Fatal> {
        Ok(match self.read()? {
            None => Occupant::Nobody,
            Some(pid) if u32::try_from(pid) == Ok(std::process::id()) => Occupant::Dead,
            Some(pid) if process::is_alive(pid) => Occupant::Alive(pid),
            Some(_) => Occupant::Dead,
        })
    }

    /// Writes the pid of this process.
    pub fn write(&self) -> Result<(), Fatal> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(|error| self.fatal("could not open pid file", &error))?;
        file.write_all(format!("{}\0", std::process::id()).as_bytes())
            .map_err(|error| self.fatal("could not write pid file", &error))?;
        file.sync_all()
            .map_err(|error| self.fatal("could not fsync pid file", &error))
    }

    /// Removes the file if it is still ours: a pgpool that was started meanwhile keeps its own.
    pub fn remove_own(&self) {
        let own = Pid::try_from(std::process::id()).ok();
        if own.is_some() && self.read().ok().flatten() == own {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Removes what `pid` has left behind.
    pub fn remove_of(&self, pid: Pid) {
        if self.read().ok().flatten() == Some(pid) {
            let _ = fs::remove_file(&self.path);
        }
    }

    fn fatal(&self, what: &str, error: &io::Error) -> Fatal {
        Fatal::new(format!("{what} \"{}\"", self.shown)).detail(errors::message(error))
    }
}

/// atoi: blanks, a sign, digits, and the rest does not matter.
fn leading_number(text: &[u8]) -> Option<Pid> {
    let text = text.trim_ascii_start();
    let (sign, digits) = match text.split_first()? {
        (b'-', rest) => (-1, rest),
        (b'+', rest) => (1, rest),
        _ => (1, text),
    };
    let end = digits
        .iter()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(digits.len());
    let number: Pid = std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()?;
    Some(sign * number)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn with(content: Option<&str>) -> (tempfile::TempDir, PidFile) {
        let folder = tempfile::tempdir().unwrap();
        let file = PidFile::new(Path::new("pgpool.pid"), &folder.path().join("pgpool.conf"));
        if let Some(content) = content {
            fs::write(file.path(), content).unwrap();
        }
        (folder, file)
    }

    #[test]
    fn a_relative_name_lies_beside_the_configuration_file() {
        let file = PidFile::new(Path::new("p.pid"), Path::new("/etc/pgpool2/pgpool.conf"));
        assert_eq!(file.path(), Path::new("/etc/pgpool2/p.pid"));
        let file = PidFile::new(
            Path::new("/run/p.pid"),
            Path::new("/etc/pgpool2/pgpool.conf"),
        );
        assert_eq!(file.path(), Path::new("/run/p.pid"));
    }

    #[test]
    fn what_is_written_is_the_pid_a_nul_and_nothing_else() {
        let (_folder, file) = with(None);
        file.write().unwrap();
        let expected = format!("{}\0", std::process::id());
        assert_eq!(fs::read(file.path()).unwrap(), expected.as_bytes());
        let mode = fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        file.remove_own();
        assert!(!file.path().exists());
    }

    #[test]
    fn a_pid_is_read_with_nul_with_newline_and_bare() {
        for content in ["4194303\0", "4194303\n", " 4194303", "4194303 pgpool"] {
            let (_folder, file) = with(Some(content));
            assert_eq!(file.read(), Ok(Some(4_194_303)), "{content:?}");
        }
    }

    #[test]
    fn a_file_without_a_pid_belongs_to_nobody() {
        for content in ["abc", "0", "-5", "99999999999999999999"] {
            let (_folder, file) = with(Some(content));
            assert_eq!(file.occupant(), Ok(Occupant::Nobody), "{content:?}");
        }
        assert_eq!(with(None).1.occupant(), Ok(Occupant::Nobody));
    }

    #[test]
    fn an_empty_file_is_fatal() {
        let (_folder, file) = with(Some(""));
        let fatal = file.occupant().unwrap_err();
        assert_eq!(
            fatal.message,
            "EOF detected while reading pid file \"pgpool.pid\""
        );
        assert_eq!(fatal.exit_code, 3);
    }

    #[test]
    fn the_living_are_told_from_the_dead() {
        let parent = std::os::unix::process::parent_id();
        let (_folder, file) = with(Some(&parent.to_string()));
        assert_eq!(
            file.occupant(),
            Ok(Occupant::Alive(Pid::try_from(parent).unwrap()))
        );
        // Above the largest pid that Linux hands out.
        assert_eq!(with(Some("4194304")).1.occupant(), Ok(Occupant::Dead));
        let own = std::process::id().to_string();
        assert_eq!(
            with(Some(&own)).1.occupant(),
            Ok(Occupant::Dead),
            "left by the last start of a container"
        );
    }

    #[test]
    fn the_file_of_another_process_is_not_removed() {
        let (_folder, file) = with(Some("4194304"));
        file.remove_own();
        file.remove_of(17);
        assert!(file.path().exists());
        file.remove_of(4_194_304);
        assert!(!file.path().exists());
    }
}
