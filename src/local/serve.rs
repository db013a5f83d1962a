//! Answers on the socket, on the control plane's runtime: one task per connection, all of them bounded.
//!
//! A client that asks slowly or reads slowly is let go. Nobody waits for one.

use std::{sync::Arc, time::Duration};

use chrono::DateTime;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::oneshot,
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};

use super::{
    listen::Listener,
    protocol::{self, LONGEST_ASK, Line, Question},
};
use crate::{
    control::{Command, Shared, SupervisorMessage},
    events::{Event, Query},
    failover::what_if,
    observe::Reporter,
    sys::errors,
};

/// Connections at the same time; one more is told so and closed.
const MOST_CLIENTS: usize = 32;
/// Until the question is there.
const ASK_TIME: Duration = Duration::from_secs(5);
/// For each piece of the answer.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves until the future is dropped.
pub async fn serve(listener: Listener, shared: Arc<Shared>) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.socket.accept() => match accepted {
                Ok((stream, _)) => {
                    // Who has gone takes no place.
                    while clients.try_join_next().is_some() {}
                    if clients.len() < MOST_CLIENTS {
                        clients.spawn(converse(stream, Arc::clone(&shared)));
                    } else {
                        refuse(&stream);
                    }
                }
                Err(error) => {
                    Reporter::new("main").warning(format_args!(
                        "unable to accept a connection for events: {}", errors::message(&error)
                    ));
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = clients.join_next() => {}
        }
    }
}

/// Without waiting: what does not fit into the buffer is not said.
fn refuse(stream: &UnixStream) {
    let line = Line::error(
        format!("{MOST_CLIENTS} others are asking at the moment"),
        "try again, or end a \"pgpool events --follow\"",
    );
    let bytes = [protocol::encode(&Line::hello()), protocol::encode(&line)].concat();
    let _ = stream.try_write(&bytes);
}

/// The client has gone, or is too slow.
struct Gone;

async fn converse(stream: UnixStream, shared: Arc<Shared>) {
    let mut client = Client {
        stream: BufReader::new(stream),
    };
    // The one who asked sees the end of the connection.
    let _gone = client.answer(&shared).await;
}

struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    async fn answer(&mut self, shared: &Shared) -> Result<(), Gone> {
        let line = self.question().await?;
        self.send(&[Line::hello()]).await?;
        let last = match protocol::decode_ask(&line) {
            Ok(question) => self.carry_out(question, shared).await?,
            Err(refusal) => refusal,
        };
        self.send(&[last]).await
    }

    async fn question(&mut self) -> Result<Vec<u8>, Gone> {
        let mut line = Vec::new();
        let limit = u64::try_from(LONGEST_ASK).unwrap_or(u64::MAX);
        let mut limited = (&mut self.stream).take(limit);
        match timeout(ASK_TIME, limited.read_until(b'\n', &mut line)).await {
            Ok(Ok(read)) if read > 0 => Ok(line),
            _ => Err(Gone),
        }
    }

    /// Returns the last line.
    async fn carry_out(&mut self, question: Question, shared: &Shared) -> Result<Line, Gone> {
        match question {
            Question::Events {
                last,
                since,
                after,
                follow,
            } => {
                let since = match since.as_deref().map(DateTime::parse_from_rfc3339) {
                    None => None,
                    Some(Ok(since)) => Some(since.into()),
                    Some(Err(_)) => {
                        return Ok(Line::error(
                            "the time of \"since\" is not understood",
                            "it is written as RFC 3339 says",
                        ));
                    }
                };
                self.events(Query { last, since, after }, follow, shared)
                    .await
            }
            Question::WhatIf { requests } => self.what_if(&requests, shared).await,
        }
    }

    async fn events(
        &mut self,
        mut query: Query,
        follow: bool,
        shared: &Shared,
    ) -> Result<Line, Gone> {
        let mut latest = shared.events.latest();
        loop {
            latest.borrow_and_update();
            let events = shared.events.events(query);
            query = Query {
                // Some may have been left out on purpose, but none that comes now is.
                last: None,
                after: events.last().map_or(query.after, |event| event.id),
                ..query
            };
            // A thousand events with long command lines are work: not on the thread of the health checks.
            let encoded = spawn_blocking(move || {
                let line = |event: &Arc<Event>| Line::Event(Box::new(event.as_ref().clone()));
                let lines = events.iter().map(line);
                lines.flat_map(|line| protocol::encode(&line)).collect()
            });
            self.send_bytes(encoded.await.map_err(|_| Gone)?).await?;
            if !follow {
                return Ok(Line::End {});
            }
            tokio::select! {
                changed = latest.changed() => {
                    if changed.is_err() {
                        return Ok(Line::End {});
                    }
                }
                // A client that follows says nothing more, so this is its end.
                _ = self.stream.read_u8() => return Err(Gone),
            }
        }
    }

    async fn what_if(&mut self, requests: &str, shared: &Shared) -> Result<Line, Gone> {
        let requests = match what_if::parse(requests) {
            Ok(requests) => requests,
            Err(why) => return Ok(Line::error(why, "")),
        };
        let (reply, answer) = oneshot::channel();
        let command = Command::WhatIf { requests, reply };
        let sent = shared.supervisor.send(SupervisorMessage::Command(command));
        let (Ok(()), Ok(lines)) = (sent, answer.await) else {
            return Ok(Line::error("pgpool is shutting down", ""));
        };
        let lines: Vec<Line> = lines.into_iter().map(Line::Text).collect();
        self.send(&lines).await?;
        Ok(Line::End {})
    }

    async fn send(&mut self, lines: &[Line]) -> Result<(), Gone> {
        self.send_bytes(lines.iter().flat_map(protocol::encode).collect())
            .await
    }

    async fn send_bytes(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        for piece in bytes.chunks(64 * 1024) {
            match timeout(WRITE_TIME, self.stream.write_all(piece)).await {
                Ok(Ok(())) => {}
                _ => return Err(Gone),
            }
        }
        Ok(())
    }
}
