//! What a child does in the very moment in which it becomes another program.
//!
//! A program that is started, and a file that says so: whoever writes the file before may be killed
//! before the program begins, and whoever writes it afterwards may be killed in between. Here the child
//! itself puts the file in its place, as the last thing before `exec`.

use std::{
    ffi::CString,
    io::{self, Write as _},
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::Path,
    process::Command,
};

use super::process::{Pid, start_time_in};

/// The file that is put in its place.
#[derive(Clone, Debug)]
pub struct Declaration {
    from: CString,
    to: CString,
    word: &'static str,
}

impl Declaration {
    /// The child appends a line `WORD PID START` to `from`, with its number and start time
    /// ([`super::process::start_time`]), and renames it to `to`.
    ///
    /// # Errors
    ///
    /// A path has a NUL byte in it.
    pub fn new(from: &Path, to: &Path, word: &'static str) -> io::Result<Declaration> {
        let path =
            |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
        Ok(Declaration {
            from: path(from)?,
            to: path(to)?,
            word,
        })
    }

    /// Has the next child of `command` do it.
    ///
    /// When it cannot be done the program begins all the same, as long as this process is there to say
    /// so otherwise (`from` is still there then). Without it the child ends and nothing has begun:
    /// whoever has taken `from` away has taken over.
    pub fn install(self, command: &mut Command) {
        let parent = Pid::try_from(std::process::id()).unwrap_or_default();
        // SAFETY: the closure runs between fork and exec, where other threads may have held any lock.
        // It makes system calls and writes to its own stack, and takes no lock and no memory.
        unsafe { command.pre_exec(move || self.declare(parent)) };
    }

    fn declare(&self, parent: Pid) -> io::Result<()> {
        self.append_process();
        // SAFETY: both are strings that end with a NUL, and live as long as `self`.
        if unsafe { libc::rename(self.from.as_ptr(), self.to.as_ptr()) } == 0 {
            return Ok(());
        }
        // SAFETY: takes no pointer.
        if unsafe { libc::getppid() } == parent {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(libc::ECANCELED))
    }

    /// Best effort: without the line nobody waits for the program.
    fn append_process(&self) {
        // SAFETY: takes no pointer.
        let pid = unsafe { libc::getpid() };
        let mut stat = [0; 1024];
        let read = with_file(c"/proc/self/stat", libc::O_RDONLY, |file| {
            // SAFETY: `stat` is as long as is said.
            unsafe { libc::read(file, stat.as_mut_ptr().cast(), stat.len()) }
        });
        let Some(started) = usize::try_from(read)
            .ok()
            .and_then(|read| start_time_in(stat.get(..read)?))
        else {
            return;
        };
        let mut line = [0; 128];
        let room = line.len();
        let mut rest = line.as_mut_slice();
        if writeln!(rest, "{} {pid} {started}", self.word).is_err() {
            return;
        }
        let length = room - rest.len();
        with_file(&self.from, libc::O_WRONLY | libc::O_APPEND, |file| {
            // SAFETY: `line` is longer than `length`.
            unsafe { libc::write(file, line.as_ptr().cast(), length) }
        });
    }
}

/// -1 when there is no such file.
fn with_file(path: &std::ffi::CStr, flags: i32, work: impl FnOnce(i32) -> isize) -> isize {
    // SAFETY: `path` ends with a NUL.
    let file = unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) };
    if file < 0 {
        return -1;
    }
    let result = work(file);
    // SAFETY: `file` was opened above and belongs to nobody else.
    unsafe { libc::close(file) };
    result
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sys::process;

    fn declared(
        prepare: impl FnOnce(&Path),
    ) -> (tempfile::TempDir, io::Result<std::process::Output>) {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "first\n").unwrap();
        prepare(dir.path());
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "cat to; cat /proc/$$/stat"])
            .current_dir(dir.path());
        Declaration::new(&from, &to, "process")
            .unwrap()
            .install(&mut command);
        let output = command.output();
        (dir, output)
    }

    #[test]
    fn the_file_is_there_when_the_program_begins_and_names_its_process() {
        let (dir, output) = declared(|_| {});
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let (pid, started) = lines[1]
            .strip_prefix("process ")
            .unwrap()
            .split_once(' ')
            .unwrap();
        assert_eq!(lines[0], "first");
        assert!(lines[2].starts_with(&format!("{pid} (sh)")), "{text}");
        let seen = process::start_time_in(lines[2].as_bytes()).unwrap();
        assert_eq!(seen.to_string(), started);
        assert!(!dir.path().join("from").exists());
    }

    #[test]
    fn what_cannot_be_declared_begins_all_the_same() {
        let (dir, output) = declared(|dir| fs::create_dir(dir.join("to")).unwrap());
        assert!(!output.unwrap().stdout.is_empty());
        assert!(dir.path().join("from").exists());
        let (_, output) = declared(|dir| fs::remove_file(dir.join("from")).unwrap());
        assert!(!output.unwrap().stdout.is_empty());
    }

    #[test]
    fn without_its_parent_and_its_file_nothing_begins() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let declaration = Declaration::new(&from, &to, "process").unwrap();
        assert_eq!(
            declaration.declare(1).unwrap_err().raw_os_error(),
            Some(libc::ECANCELED)
        );
        fs::write(&from, "").unwrap();
        declaration.declare(1).unwrap();
        assert!(to.exists(), "nobody has taken it away");
    }
}
