//! Signals to the running process, as a stream of events.
//!
//! SIGPIPE is ignored by std; SIGCHLD belongs to tokio, which starts the hooks. SIGUSR2 is internal
//! in the original and means nothing here, but must not kill us either.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::shutdown::signal_of;
use crate::{
    control::StopMode,
    sys::process::{self, Pid},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// TERM smart, INT fast, QUIT immediate.
    Stop(StopMode),
    /// HUP.
    Reload,
    /// USR1: the log collector takes a new file, as the collector process of the original does.
    RotateLog,
}

#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    /// Inside a tokio runtime with its I/O driver on.
    pub fn install() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    pub async fn next(&mut self) -> Event {
        loop {
            return tokio::select! {
                _ = self.quit.recv() => Event::Stop(StopMode::Immediate),
                _ = self.interrupt.recv() => Event::Stop(StopMode::Fast),
                _ = self.terminate.recv() => Event::Stop(StopMode::Smart),
                _ = self.hangup.recv() => Event::Reload,
                _ = self.user1.recv() => Event::RotateLog,
                _ = self.user2.recv() => continue,
            };
        }
    }
}

/// Asks this process to stop, from any thread: `pcp_stop_pgpool` takes the way of a signal, as in
/// the original, so that there is one way to the end and one text for it.
pub fn request_stop(mode: StopMode) {
    if let Ok(own) = Pid::try_from(std::process::id()) {
        // A signal to ourselves cannot be refused.
        let _ = process::kill(own, signal_of(mode));
    }
}
