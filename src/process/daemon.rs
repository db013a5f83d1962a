//! Leaving the terminal: fork, a session of its own, `/` as working directory, `/dev/null` as
//! stdin, stdout and stderr.
//!
//! The parent of the original ends with status 0 at once. Ours waits the few milliseconds until the
//! child has its pid file, so that a script may call `pgpool reload` right after `pgpool`, and ends
//! with the child's status if the child has failed before.

use std::{
    fs::OpenOptions,
    io::{self, PipeWriter, Read, Write},
    os::fd::AsFd,
};

use super::fatal::Fatal;
use crate::sys::{
    errors,
    process::{self, Fork, Standard},
};

/// In the child: tells the parent when to go.
#[derive(Debug)]
pub struct Parent {
    pipe: PipeWriter,
}

/// Returns in the child only. Before any thread and any runtime.
pub fn detach() -> Result<Parent, Fatal> {
    let failed = |call: &str, error: &io::Error| {
        Fatal::new("could not daemonize the pgpool-II").detail(format!(
            "{call} system call failed with reason: \"{}\"",
            errors::message(error)
        ))
    };
    let (mut reader, writer) = io::pipe().map_err(|error| failed("pipe()", &error))?;
    match process::fork().map_err(|error| failed("fork()", &error))? {
        Fork::Parent { child } => {
            drop(writer);
            let mut byte = [0];
            let status = match reader.read(&mut byte) {
                Ok(1) => 0,
                _ => process::wait(child).unwrap_or(1),
            };
            // No destructor may run here: the sockets and files belong to the child now.
            std::process::exit(status);
        }
        Fork::Child => {
            drop(reader);
            process::setsid().map_err(|error| failed("setsid()", &error))?;
            Ok(Parent { pipe: writer })
        }
    }
}

impl Parent {
    /// The pid file is written: the parent ends with status 0.
    pub fn release(mut self) {
        // A parent that was killed needs no telling.
        let _ = self.pipe.write_all(&[0]);
    }
}

/// Gives up the working directory and the three standard descriptors.
/// `keep_output`: the log collector has taken stdout and stderr over.
pub fn leave_terminal(keep_output: bool) -> io::Result<()> {
    std::env::set_current_dir("/")?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    process::redirect(null.as_fd(), Standard::Input)?;
    if !keep_output {
        process::redirect(null.as_fd(), Standard::Output)?;
        process::redirect(null.as_fd(), Standard::Error)?;
    }
    Ok(())
}
