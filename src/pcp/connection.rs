//! The I/O around one [`Dialogue`]: reads requests, carries actions out, one at a time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time,
};

use super::{
    ServerContext,
    codec::{self, Notice},
    commands::{self, Environment, Outcome},
    dialogue::{Action, Dialogue, Event},
    login,
    task::LobbyTicket,
};
use crate::{
    control::{Command, Shared, SupervisorMessage},
    observe::Reporter,
};

/// A client that has not logged in by then is sent away.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);

/// A client that takes nothing of a reply for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long, and for how many bytes, we listen on after a FATAL so that it arrives: closing
/// with unread input would reset the connection under it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 * 1024;

/// Bytes read ahead of the request at hand; the longest request has 260.
const READ_AHEAD: usize = 1024;

/// Pieces of a long reply are written together up to this many bytes.
const WRITE_TOGETHER: usize = 64 * 1024;

pub(super) struct Connection<S> {
    stream: S,
    dialogue: Dialogue,
    input: BytesMut,
    shared: Arc<Shared>,
    context: ServerContext,
    /// Address for the log; `[local]` on the unix socket.
    peer: String,
    /// Held until the login.
    ticket: Option<LobbyTicket>,
    opened: Instant,
}

/// The connection is over.
struct Gone;

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    pub(super) fn new(
        stream: S,
        peer: String,
        ticket: LobbyTicket,
        shared: Arc<Shared>,
        context: ServerContext,
    ) -> Connection<S> {
        Connection {
            stream,
            dialogue: Dialogue::new(),
            input: BytesMut::new(),
            shared,
            context,
            peer,
            ticket: Some(ticket),
            opened: Instant::now(),
        }
    }

    pub(super) async fn run(mut self) {
        while let Ok(event) = self.next_event().await {
            if self.handle(event).await.is_err() {
                break;
            }
        }
    }

    async fn next_event(&mut self) -> Result<Event, Gone> {
        loop {
            // A client that never stops talking must log in, too.
            if self.time_to_log_in().is_some_and(|left| left.is_zero()) {
                return Ok(Event::LoginTimedOut);
            }
            match codec::take_request(&mut self.input) {
                Ok(Some(frame)) => return Ok(Event::Frame(frame)),
                Err(bad) => return Ok(Event::BadLength(bad)),
                Ok(None) => {}
            }
            let left = self.time_to_log_in();
            self.input.reserve(READ_AHEAD);
            let mut limited = (&mut self.stream).take(READ_AHEAD as u64);
            let read = limited.read_buf(&mut self.input);
            let got = match left {
                Some(left) => match time::timeout(left, read).await {
                    Ok(got) => got,
                    Err(_) => return Ok(Event::LoginTimedOut),
                },
                None => read.await,
            };
            match got {
                Ok(0) | Err(_) => return Err(Gone),
                Ok(_) => {}
            }
        }
    }

    /// `None` after the login: then a client may be idle as long as it likes.
    fn time_to_log_in(&self) -> Option<Duration> {
        let waiting = self.dialogue.user().is_none();
        waiting.then(|| LOGIN_TIMEOUT.saturating_sub(self.opened.elapsed()))
    }

    async fn handle(&mut self, event: Event) -> Result<(), Gone> {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.dialogue.handle(event, fresh_salt) {
                match action {
                    Action::Send(bytes) => self.send(&bytes).await?,
                    Action::Refuse(notice) => self.refuse(&notice).await?,
                    // The last of its list: the answer is the next event.
                    Action::CheckLogin(attempt) => {
                        let path = self.shared.config.load().pcp_path.clone();
                        let verdict = login::check(&path, &attempt).await;
                        events.push(Event::LoginChecked(verdict));
                    }
                    Action::Run(command) => {
                        let outcome = commands::run(command, &self.environment()).await;
                        events.push(Event::CommandDone(self.reply(outcome).await?));
                    }
                    Action::Close => {
                        self.close().await;
                        return Err(Gone);
                    }
                }
            }
            if self.dialogue.user().is_some() {
                self.ticket = None;
            }
        }
        Ok(())
    }

    fn environment(&self) -> Environment {
        Environment {
            shared: Arc::clone(&self.shared),
            context: self.context.clone(),
            client: format!(
                "user \"{}\" from {}",
                self.dialogue.user().unwrap_or_default(),
                self.peer
            ),
        }
    }

    async fn reply(&mut self, outcome: Outcome) -> Result<Result<Option<Notice>, Notice>, Gone> {
        match outcome {
            Outcome::Refused(notice) => return Ok(Err(notice)),
            Outcome::Reply { bytes, remark } => {
                self.send(&bytes).await?;
                return Ok(Ok(remark));
            }
            Outcome::Stream(pieces) => {
                let mut together = BytesMut::new();
                for piece in pieces {
                    together.extend_from_slice(&piece);
                    if together.len() >= WRITE_TOGETHER {
                        self.send(&together).await?;
                        together.clear();
                    }
                }
                self.send(&together).await?;
            }
            Outcome::Stop { reply, mode } => {
                // A tool that is gone already wanted the stop all the same.
                let sent = self.send(&reply).await;
                let stop = SupervisorMessage::Command(Command::Stop { mode });
                // Without a supervisor the process is at its end anyway.
                let _ = self.shared.supervisor.send(stop);
                sent?;
            }
        }
        Ok(Ok(None))
    }

    async fn refuse(&mut self, notice: &Notice) -> Result<(), Gone> {
        Reporter::new("pcp_child").emit(notice.severity, &notice.message, &notice.detail, "");
        let mut out = BytesMut::new();
        notice.encode(&mut out);
        self.send(&out).await
    }

    /// Writes all of it; each part must be taken within the time limit, not the whole.
    async fn send(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        while !bytes.is_empty() {
            match time::timeout(WRITE_TIMEOUT, self.stream.write(bytes)).await {
                Ok(Ok(written)) if written > 0 => {
                    bytes = bytes.get(written..).unwrap_or_default();
                }
                _ => return Err(Gone),
            }
        }
        Ok(())
    }

    async fn close(&mut self) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let drain = async {
            let mut seen = 0;
            while seen < LINGER_BYTES {
                self.input.clear();
                self.input.reserve(READ_AHEAD);
                match self.stream.read_buf(&mut self.input).await {
                    Ok(0) | Err(_) => return,
                    Ok(read) => seen += read,
                }
            }
        };
        // Whether the client closed or the time is up, the connection ends now.
        let _ = time::timeout(LINGER, drain).await;
    }
}

fn fresh_salt() -> Option<[u8; 4]> {
    let mut salt = [0; 4];
    getrandom::fill(&mut salt).ok()?;
    Some(salt)
}
