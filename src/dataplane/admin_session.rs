//! Sessions to `admin_database`: admin SQL only, outside the slots, without a backend.
//!
//! They answer when every slot is busy and every server is down. Simple queries only, as admin SQL is
//! everywhere; anything else gets an error and the session goes on.

use std::{
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use super::{front, front::Client, login, session::statements::StatementLog, worker::Worker};
use crate::{
    admin,
    protocol::{
        Header, StartupPacket,
        frame::HEADER_LEN,
        messages,
        messages::{ErrorMessage, frame, ready_for_query},
    },
};

/// Sessions of this kind at one time, so that they cannot be used to fill memory.
const SESSIONS: usize = 64;
/// Longest message.
const MESSAGE_LIMIT: usize = 64 * 1024;

/// Limit of a login when `authentication_timeout` is off: nobody may block this way in.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);

static RUNNING: AtomicUsize = AtomicUsize::new(0);

struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Relaxed);
    }
}

/// The rest of the login of a client that has passed pool_hba. `false`: it has been told why not.
pub async fn log_in(
    worker: &Rc<Worker>,
    client: &mut Client,
    startup: &StartupPacket,
    admitted: login::Admitted,
) -> bool {
    let config = worker.shared.config.load_full();
    let limit = config
        .settings
        .authentication_timeout
        .unwrap_or(LOGIN_LIMIT);
    let work = login::without_backend(worker, client, startup, admitted);
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => {
            front::log_timeout(client, limit);
            false
        }
    }
}

/// Serves the client until it leaves. It is logged in.
pub async fn run(worker: &Rc<Worker>, mut client: Client, startup: &StartupPacket) {
    let running = RUNNING.fetch_add(1, Relaxed);
    let _running = Running;
    if running >= SESSIONS {
        let error = ErrorMessage::fatal("53300", "too many admin sessions")
            .detail(format!("{SESSIONS} are open already"));
        return front::refuse(&mut client, &error).await;
    }
    let mut shutdown = worker.plane.shutdown.subscribe();
    tokio::select! {
        () = serve(worker, &mut client, startup) => {}
        _ = shutdown.wait_for(Option::is_some) => {
            front::refuse(&mut client, &super::finish::killed_message(super::session::Kill::Shutdown)).await;
        }
    }
}

async fn serve(worker: &Rc<Worker>, client: &mut Client, startup: &StartupPacket) {
    if client.stream.write_all(&greeting(startup)).await.is_err() {
        return;
    }
    let mut settings = admin::SessionSettings::default();
    let mut statements = StatementLog::default();
    // After an error in the extended protocol, everything up to Sync is skipped.
    let mut skipping = false;
    loop {
        let (kind, body) = match read_message(client).await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(error) => return front::refuse(client, &error).await,
        };
        let config = worker.shared.config.load_full();
        client.reporter.set_own_log(settings.own_log(&config));
        statements.configure(&settings, &config);
        let mut answer = Vec::new();
        match kind {
            b'X' => return statements.terminate(&client.reporter),
            b'Q' if !skipping => {
                let sql = body.strip_suffix(b"\0").unwrap_or(&body);
                statements.admin(&client.reporter, &String::from_utf8_lossy(sql));
                answer = statements.take_notices();
                match query(worker, &mut settings, sql, startup).await {
                    Ok(whole) => answer.extend(whole),
                    Err(error) => refuse(client, &error, &mut answer),
                }
                ready_for_query(b'I', &mut answer);
            }
            b'S' => {
                skipping = false;
                ready_for_query(b'I', &mut answer);
            }
            b'H' => {}
            _ if skipping => {}
            b'P' | b'B' | b'D' | b'E' | b'C' | b'F' => {
                let error = ErrorMessage::error(
                    "0A000",
                    "admin SQL is answered in the simple query protocol only",
                )
                .hint("Let the driver send plain text queries, as psql does.");
                refuse(client, &error, &mut answer);
                if kind == b'F' {
                    ready_for_query(b'I', &mut answer);
                } else {
                    skipping = true;
                }
            }
            other => {
                let error =
                    ErrorMessage::fatal("08P01", format!("invalid frontend message type {other}"));
                return front::refuse(client, &error).await;
            }
        }
        if client.stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn refuse(client: &Client, error: &ErrorMessage, answer: &mut Vec<u8>) {
    StatementLog::refused(&client.reporter, error);
    error.encode(answer);
}

async fn query(
    worker: &Rc<Worker>,
    settings: &mut admin::SessionSettings,
    sql: &[u8],
    startup: &StartupPacket,
) -> Result<Vec<u8>, ErrorMessage> {
    let dialect = worker.shared.config.load().dialect;
    if sql.iter().all(|b| b.is_ascii_whitespace() || *b == b';') {
        let mut answer = Vec::new();
        frame(b'I', &mut answer, |_| ());
        return Ok(answer);
    }
    let Some(command) = admin::parse(sql, dialect) else {
        return Err(ErrorMessage::error(
            "0A000",
            format!(
                "database \"{}\" answers admin SQL only",
                startup.database
            ),
        )
        .hint("SHOW POOL_NODES, SHOW POOL_PROCESSES, SHOW POOL_POOLS, SHOW POOL_STATUS, PGPOOL SHOW and the like; for PostgreSQL, connect to another database."));
    };
    let facts = admin::SessionFacts {
        load_balance_node: None,
    };
    admin::execute(&command, &worker.shared, settings, &facts).await
}

/// What a driver wants to know of a server before its first query. AuthenticationOk has been sent.
fn greeting(startup: &StartupPacket) -> Vec<u8> {
    let mut out = Vec::new();
    let encoding = startup.parameter("client_encoding").unwrap_or("UTF8");
    let parameters = [
        (
            "server_version",
            concat!("15.0 (pgpool-rs ", env!("CARGO_PKG_VERSION"), ")"),
        ),
        ("server_encoding", "UTF8"),
        ("client_encoding", encoding),
        ("DateStyle", "ISO, MDY"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", "UTC"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
    ];
    for (name, value) in parameters {
        frame(b'S', &mut out, |out| {
            out.extend_from_slice(name.as_bytes());
            out.push(0);
            out.extend_from_slice(value.as_bytes());
            out.push(0);
        });
    }
    messages::backend_key_data(0, 0, &mut out);
    ready_for_query(b'I', &mut out);
    out
}

/// One message; `None`: the client has gone.
pub async fn read_message(client: &mut Client) -> Result<Option<(u8, Vec<u8>)>, ErrorMessage> {
    loop {
        let header = Header::read(&client.input).map_err(|e| {
            ErrorMessage::fatal("08P01", "invalid message length").detail(e.to_string())
        })?;
        if let Some(header) = header {
            if header.body_len > MESSAGE_LIMIT {
                return Err(
                    ErrorMessage::fatal("08P01", "invalid message length").detail(format!(
                        "{} bytes where {MESSAGE_LIMIT} are allowed",
                        header.body_len
                    )),
                );
            }
            let len = HEADER_LEN + header.body_len;
            if client.input.len() >= len {
                let rest = client.input.split_off(len);
                let message = std::mem::replace(&mut client.input, rest);
                return Ok(Some((header.kind, message[HEADER_LEN..].to_vec())));
            }
        }
        match client.stream.read_some(&mut client.input, 4096).await {
            Ok(n) if n > 0 => {}
            _ => return Ok(None),
        }
    }
}
