//! fork, sessions, signals to other processes, standard descriptors.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// A process id; positive wherever this crate hands one on.
pub type Pid = libc::pid_t;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    Parent { child: Pid },
    Child,
}

/// Makes a copy of this process. Only while it has a single thread: the others would not exist in
/// the child, but the locks they hold would. Refuses with an error otherwise.
pub fn fork() -> io::Result<Fork> {
    if thread_count() > 1 {
        return Err(io::Error::other("fork in a process with several threads"));
    }
    // SAFETY: there is one thread (checked above), so the child may run any code.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        child => Ok(Fork::Parent { child }),
    }
}

/// Threads of this process; 1 where /proc is not there to tell.
fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Starts a session of its own: no controlling terminal any more.
pub fn setsid() -> io::Result<()> {
    // SAFETY: takes no pointer; fails for a process group leader only.
    if unsafe { libc::setsid() } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sends `signal` to one process. Refuses 0 and negative ids, which mean groups of processes.
pub fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: takes no pointer.
    if unsafe { libc::kill(pid, signal) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sends `signal` to all processes of the group that `leader` leads. Refuses 0 (our own group), 1
/// and negative ids.
pub fn kill_group(leader: Pid, signal: i32) -> io::Result<()> {
    if leader <= 1 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: takes no pointer.
    if unsafe { libc::kill(-leader, signal) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A process with this id is there and may be signalled by us (signal 0).
pub fn is_alive(pid: Pid) -> bool {
    kill(pid, 0).is_ok()
}

/// When the process has begun, in ticks since the boot: with its number it names one process for
/// good. `None`: it is not there, or has ended and waits for its parent only.
pub fn start_time(pid: Pid) -> Option<u64> {
    start_time_in(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The same from the text of `/proc/PID/stat`. Takes no memory: also for the child of a fork.
pub(super) fn start_time_in(stat: &[u8]) -> Option<u64> {
    // Behind the name in parentheses, which may hold anything: state, and 18 words later this.
    let behind = stat.rsplit(|&byte| byte == b')').next()?;
    let mut words = behind
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let state = words.next()?;
    let started = std::str::from_utf8(words.nth(18)?).ok()?.parse().ok()?;
    (!matches!(state, b"Z" | b"X")).then_some(started)
}

/// How the kernel shows this process; 15 bytes at most.
pub fn set_name(name: &std::ffi::CStr) {
    // SAFETY: `name` ends with a NUL and is read before the call returns. It cannot fail.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Who has started this process; 1 when that one has ended.
pub fn parent() -> Pid {
    // SAFETY: takes no pointer.
    unsafe { libc::getppid() }
}

/// From now on these signals do nothing to this process, and to the programs that it starts.
pub fn ignore_signals(signals: &[i32]) {
    for signal in signals {
        // SAFETY: no handler is installed.
        unsafe { libc::signal(*signal, libc::SIG_IGN) };
    }
}

/// Waits for a child and returns its exit status, 128 plus the signal if one ended it.
pub fn wait(child: Pid) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid int that the call fills in.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } != -1 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(if libc::WIFSIGNALED(status) {
        128 + libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    })
}

/// The descriptors that every process starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    Input = 0,
    Output = 1,
    Error = 2,
}

/// Makes `target` another name of `source`, for us and for the programs we start.
pub fn redirect(source: BorrowedFd<'_>, target: Standard) -> io::Result<()> {
    // SAFETY: takes no pointer; `source` is open for the length of the call. The descriptors 0 to
    // 2 belong to std's stdin, stdout and stderr, which look them up at each use.
    if unsafe { libc::dup2(source.as_raw_fd(), target as i32) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Closes every descriptor above the standard three that our caller has left open in us, as a daemon
/// must: whoever waits for the end of such a pipe would wait for ours.
///
/// For the first lines of a program only, before anything has been opened.
pub fn close_inherited() {
    // By number, since older C libraries do not have the function.
    // SAFETY: takes no pointer. The caller promises that no descriptor above 2 belongs to this
    // program yet, so nothing loses a descriptor that it counts on.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_groups_cannot_be_signalled_by_mistake() {
        assert!(!is_alive(0));
        assert!(!is_alive(-1));
        assert!(kill(0, libc::SIGTERM).is_err());
        for leader in [-1, 0, 1] {
            assert!(kill_group(leader, libc::SIGTERM).is_err());
        }
    }

    #[test]
    fn our_own_process_is_alive() {
        assert!(is_alive(Pid::try_from(std::process::id()).unwrap()));
    }
}
