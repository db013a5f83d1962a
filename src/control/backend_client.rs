//! Our own connections to the servers: health check, replication check, primary search.
//!
//! A client of protocol 3.0 with simple queries, made of `postgres-protocol`, with the login dialogue of
//! sessions ([`BackendDialogue`]): a server must prove that it knows the password. The startup packet
//! holds user and database only, as that of the original. What went wrong is told in
//! kinds, because somebody decides on them: a server that refuses a login is alive.

mod ask;
mod names;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::{
    backend::{self, ErrorFields, Message},
    frontend,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};

use crate::{
    auth::{
        ErrorReport,
        backend::{BackendDialogue, Request, Step},
        credential::Credential,
        messages::Authentication,
        passwd::PoolPasswd,
        session_auth::Randomness,
    },
    sys::errors,
    tls::{BackendTls, Secured, TlsError, TlsFailure, TlsInfo},
};

pub use ask::{Asked, ScramSalt, ask};
pub(crate) use names::resolve;

/// No message that we ask for comes near this size.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// A socket directory is tried again while its listen queue is full.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(50);

/// Where to connect, and how.
#[derive(Clone, Debug)]
pub struct Address {
    /// Name, address, or (leading slash) socket directory; empty: the default socket directory.
    pub hostname: String,
    pub port: u16,
    /// Limit of one TCP connect.
    pub connect_timeout: Option<Duration>,
    pub tls: BackendTls,
}

/// As whom.
#[derive(Clone)]
pub struct Login {
    pub user: String,
    pub database: String,
    credential: Option<Credential>,
}

impl Login {
    /// `password` as in pgpool.conf; empty means the entry of the user in pool_passwd.
    /// An empty database means `postgres`.
    pub fn new(user: &str, password: &str, database: &str, passwd: &PoolPasswd) -> Login {
        Login {
            user: user.to_owned(),
            database: if database.is_empty() {
                "postgres".to_owned()
            } else {
                database.to_owned()
            },
            credential: Credential::usable(passwd.resolve_internal(user, password)),
        }
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody listens there: refused, or no such socket file.
    #[error("{0}")]
    Refused(String),
    /// The network says no, or the server closed the connection without a word.
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    TimedOut(String),
    /// 57P03: starting up, shutting down, in recovery.
    #[error("{0}")]
    NotAccepting(ServerError),
    /// The server is alive and has answered with an error.
    #[error("{0}")]
    Rejected(ServerError),
    /// The server is alive and wants something that we do not have.
    #[error("{0}")]
    Login(String),
    /// We cannot even try: out of file descriptors, name server silent.
    #[error("{0}")]
    Local(String),
}

/// An ErrorResponse.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{severity}: {message} (SQLSTATE {sqlstate})")]
pub struct ServerError {
    pub severity: String,
    pub sqlstate: String,
    pub message: String,
}

/// Why a query gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The connection can be used further.
    #[error("{0}")]
    Server(ServerError),
    #[error("connection lost: {0}")]
    Lost(String),
}

/// One column value as text; `None` is NULL.
pub type Field = Option<String>;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection that is ready for queries.
pub struct Client {
    stream: Box<dyn Stream>,
    input: BytesMut,
    tls: Option<TlsInfo>,
    /// The server has said something.
    heard: bool,
}

impl Client {
    /// Connects and logs in. `limit` covers everything.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn connect(
        address: &Address,
        login: &Login,
        limit: Option<Duration>,
    ) -> Result<Client, Failure> {
        let work = async {
            let mut client = Client::open(address, limit).await?;
            match client.log_in(login).await {
                Ok(()) => Ok(client),
                Err(failure) => Err(client.judged(failure)),
            }
        };
        match limit {
            None => work.await,
            Some(limit) => timeout(limit, work).await.unwrap_or_else(|_| {
                Err(Failure::TimedOut(format!(
                    "no answer within {} seconds",
                    limit.as_secs_f64()
                )))
            }),
        }
    }

    /// Runs one statement; gives its rows.
    ///
    /// # Errors
    ///
    /// See [`QueryError`].
    pub async fn query(
        &mut self,
        sql: &str,
        limit: Duration,
    ) -> Result<Vec<Vec<Field>>, QueryError> {
        self.run(sql, limit, |out| frontend::query(sql, out)).await
    }

    /// Runs one statement with text parameters, `$1` and so on; gives its rows.
    ///
    /// # Errors
    ///
    /// See [`QueryError`].
    pub async fn query_with(
        &mut self,
        sql: &str,
        parameters: &[&str],
        limit: Duration,
    ) -> Result<Vec<Vec<Field>>, QueryError> {
        let values = || parameters.iter().copied();
        self.run(sql, limit, |out| {
            frontend::parse("", sql, [], out)?;
            let bound = frontend::bind(
                "",
                "",
                [],
                values(),
                |value, out| {
                    out.extend_from_slice(value.as_bytes());
                    Ok(postgres_protocol::IsNull::No)
                },
                [],
                out,
            );
            bound.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            frontend::execute("", 0, out)?;
            frontend::sync(out);
            Ok(())
        })
        .await
    }

    async fn run(
        &mut self,
        sql: &str,
        limit: Duration,
        encode: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> Result<Vec<Vec<Field>>, QueryError> {
        match timeout(limit, self.run_without_limit(encode)).await {
            Ok(result) => result,
            Err(_) => Err(QueryError::Lost(format!(
                "no answer to \"{sql}\" within {} seconds",
                limit.as_secs_f64()
            ))),
        }
    }

    /// Says goodbye, so that the server does not log a lost connection.
    pub async fn close(mut self) {
        let mut out = BytesMut::new();
        frontend::terminate(&mut out);
        // The connection is given up either way.
        let _ = timeout(Duration::from_secs(1), async {
            self.stream.write_all(&out).await?;
            self.stream.shutdown().await
        })
        .await;
    }

    async fn run_without_limit(
        &mut self,
        encode: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> Result<Vec<Vec<Field>>, QueryError> {
        let lost = |e: io::Error| QueryError::Lost(errors::message(&e));
        self.send(encode).await.map_err(lost)?;
        let mut rows = Vec::new();
        let mut error = None;
        loop {
            match self.receive().await.map_err(lost)? {
                Received::Message(Message::DataRow(row)) => {
                    let values = row
                        .ranges()
                        .map(|range| {
                            Ok(range.and_then(|r| {
                                row.buffer()
                                    .get(r)
                                    .map(|b| String::from_utf8_lossy(b).into_owned())
                            }))
                        })
                        .collect()
                        .map_err(lost)?;
                    rows.push(values);
                }
                Received::Message(Message::ErrorResponse(body)) => {
                    error = Some(server_error(body.fields()));
                }
                Received::Message(Message::ReadyForQuery(_)) => {
                    return match error {
                        None => Ok(rows),
                        Some(error) => Err(QueryError::Server(error)),
                    };
                }
                Received::Message(_) | Received::Authentication(_) => {}
                Received::OldError(text) => return Err(QueryError::Lost(text)),
                Received::End => {
                    return Err(QueryError::Lost(match error {
                        Some(error) => error.to_string(),
                        None => "the server closed the connection".to_owned(),
                    }));
                }
            }
        }
    }

    /// As far as the start-up packet.
    async fn open(address: &Address, limit: Option<Duration>) -> Result<Client, Failure> {
        let (stream, tls) = open(address, limit).await?;
        Ok(Client {
            stream,
            input: BytesMut::new(),
            tls,
            heard: false,
        })
    }

    /// A server that shakes hands and closes without a word is alive. In TLS 1.3 it judges our
    /// certificate after the handshake, and its alert may be lost with the connection.
    fn judged(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Unreachable(why) if self.tls.is_some() && !self.heard => {
                Failure::Login(format!(
                    "the server closed the SSL connection after the handshake ({why}): it may not \
                     take the certificate of backend_ssl_cert, and its log says why"
                ))
            }
            other => other,
        }
    }

    async fn log_in(&mut self, login: &Login) -> Result<(), Failure> {
        let parameters = [
            ("user", login.user.as_str()),
            ("database", login.database.as_str()),
        ];
        self.send(|out| frontend::startup_message(parameters, out))
            .await
            .map_err(broken)?;
        let mut dialogue = BackendDialogue::new();
        if let Some(end_point) = self.tls.as_ref().and_then(TlsInfo::channel_binding) {
            dialogue.bind_channel(end_point);
        }
        let mut progress = Progress::Nothing;
        loop {
            let message = match self.receive().await.map_err(broken)? {
                Received::Authentication(body) => {
                    progress = self
                        .authenticate(login, &mut dialogue, &body, progress)
                        .await?;
                    continue;
                }
                Received::Message(message) => message,
                Received::OldError(text) => {
                    return Err(Failure::Rejected(ServerError {
                        severity: "FATAL".to_owned(),
                        sqlstate: String::new(),
                        message: text,
                    }));
                }
                Received::End => {
                    return Err(Failure::Unreachable(
                        "the server closed the connection during the login".to_owned(),
                    ));
                }
            };
            match message {
                Message::ReadyForQuery(_) if progress == Progress::LoggedIn => return Ok(()),
                Message::ErrorResponse(body) => {
                    let error = server_error(body.fields());
                    return Err(if error.sqlstate == "57P03" {
                        Failure::NotAccepting(error)
                    } else {
                        Failure::Rejected(error)
                    });
                }
                Message::ParameterStatus(_)
                | Message::BackendKeyData(_)
                | Message::NoticeResponse(_)
                | Message::NotificationResponse(_) => {}
                _ => return Err(unexpected()),
            }
        }
    }

    /// Answers one authentication message of the server.
    async fn authenticate(
        &mut self,
        login: &Login,
        dialogue: &mut BackendDialogue,
        body: &[u8],
        progress: Progress,
    ) -> Result<Progress, Failure> {
        let message = Authentication::decode(body).ok_or_else(unexpected)?;
        let goes_on = matches!(
            message,
            Authentication::SaslContinue(_) | Authentication::SaslFinal(_)
        );
        if goes_on && progress == Progress::Nothing {
            return Err(unexpected());
        }
        let mut step = dialogue.on_message(b'R', body);
        loop {
            step = match step {
                Step::Asks(request) => {
                    let credential = login.credential_for(request)?;
                    let random = Randomness::generate().map_err(|e| {
                        Failure::Local(format!("no random numbers for the login: {e}"))
                    })?;
                    // Of one connection, so the number of the node plays no part.
                    dialogue.answer(&login.user, credential, random.client_nonce(0))
                }
                Step::Derive(request) => {
                    // Milliseconds, which the thread of all health checks cannot spend.
                    let key = tokio::task::spawn_blocking(move || request.derive()).await;
                    match key {
                        Ok(Ok(key)) => dialogue.on_key(&key),
                        Ok(Err(e)) => return Err(refused(&ErrorReport::cryptography(&e))),
                        Err(e) => return Err(Failure::Local(e.to_string())),
                    }
                }
                Step::Send(bytes) => {
                    self.stream.write_all(&bytes).await.map_err(broken)?;
                    return Ok(Progress::Asked);
                }
                Step::Wait => return Ok(Progress::Asked),
                Step::Ready => return Ok(Progress::LoggedIn),
                Step::Failed(report) => return Err(refused(&report)),
                // Not in answer to an authentication message, and not without a key of a client.
                Step::Refused | Step::OtherSecret => return Err(unexpected()),
            };
        }
    }

    async fn send(
        &mut self,
        encode: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut out = BytesMut::new();
        encode(&mut out)?;
        self.stream.write_all(&out).await
    }

    async fn receive(&mut self) -> io::Result<Received> {
        loop {
            if let Some(header) = backend::Header::parse(&self.input).or_else(|e| {
                // Before it knows the protocol, a server says `E`, text and a NUL, without a length.
                if self.input.first() == Some(&b'E') {
                    Ok(None)
                } else {
                    Err(e)
                }
            })? {
                let length = usize::try_from(header.len()).unwrap_or(usize::MAX);
                if length > MAX_MESSAGE && header.tag() != b'E' {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("a message of {length} bytes is no answer of a PostgreSQL server"),
                    ));
                }
                if header.tag() == b'R' && length <= MAX_MESSAGE {
                    // Ours to read: the dialogue is that of sessions.
                    if self.input.len() > length {
                        let message = self.input.split_to(length + 1);
                        let body = message.get(5..).unwrap_or_default().to_vec();
                        return Ok(Received::Authentication(body));
                    }
                } else if length <= MAX_MESSAGE
                    && let Some(message) = Message::parse(&mut self.input)?
                {
                    return Ok(Received::Message(message));
                }
            }
            let read = self.stream.read_buf(&mut self.input).await?;
            self.heard |= read > 0;
            if read == 0 {
                return Ok(match self.input.strip_prefix(b"E") {
                    Some(text) if !text.is_empty() => Received::OldError(
                        String::from_utf8_lossy(text)
                            .trim_matches(|c: char| c == '\0' || c.is_whitespace())
                            .to_owned(),
                    ),
                    _ => Received::End,
                });
            }
            if self.input.len() > MAX_MESSAGE + 5 {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the server sends more than it was asked for",
                ));
            }
        }
    }
}

enum Received {
    Message(Message),
    /// The body of an authentication request, or of AuthenticationOk.
    Authentication(Vec<u8>),
    /// `could not fork new process for connection` and its like.
    OldError(String),
    End,
}

/// How far a login has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Nothing,
    /// The server wants to know who we are.
    Asked,
    LoggedIn,
}

impl Login {
    fn credential_for(&self, request: Request) -> Result<&Credential, Failure> {
        let why = match &self.credential {
            Some(credential) if request.is_met_by(credential) => return Ok(credential),
            Some(Credential::Md5(_)) => "only an md5 hash is known",
            Some(Credential::Verifier(_)) => "only a SCRAM verifier is known",
            Some(Credential::Malformed) => "the SCRAM verifier in pool_passwd cannot be read",
            Some(Credential::Undecryptable) => "the AES entry cannot be decrypted",
            Some(Credential::Clear(_) | Credential::ClientKey(_)) | None => "no password is known",
        };
        let wanted = match request {
            Request::Password => "a clear-text password",
            Request::Md5 { .. } => "md5",
            Request::Scram => "SCRAM-SHA-256",
        };
        Err(Failure::Login(format!(
            "the server asks user \"{}\" for {wanted}, and {why}",
            self.user
        )))
    }
}

/// The server is there, and this is no login with it.
fn refused(report: &ErrorReport) -> Failure {
    let detail = if report.detail.is_empty() { "" } else { ": " };
    Failure::Login(format!("{}{detail}{}", report.message, report.detail))
}

fn broken(e: io::Error) -> Failure {
    if e.get_ref().is_some_and(|inner| inner.is::<TlsFailure>()) {
        // An alert, for example: whoever sends one is alive.
        return Failure::Login(format!("the SSL connection failed: {e}"));
    }
    Failure::Unreachable(errors::message(&e))
}

fn unexpected() -> Failure {
    Failure::Unreachable("the server does not speak PostgreSQL's protocol".to_owned())
}

fn server_error(mut fields: ErrorFields<'_>) -> ServerError {
    let mut error = ServerError::default();
    while let Ok(Some(field)) = fields.next() {
        let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'S' => error.severity = text(),
            b'C' => error.sqlstate = text(),
            b'M' => error.message = text(),
            _ => {}
        }
    }
    error
}

/// Message and detail with which the original logs that there is no connection; it says nothing
/// of the reason when the server has answered.
pub fn failure_line(address: &Address, failure: &Failure) -> (String, String) {
    let Address { hostname, port, .. } = address;
    let server = format!("PostgreSQL server on \"{hostname}:{port}\"");
    let text = match failure {
        Failure::Rejected(_) | Failure::Login(_) | Failure::Local(_) => {
            format!("failed to log in to {server}")
        }
        Failure::NotAccepting(_) => format!("{server} does not accept connections now"),
        _ if socket_path(hostname, *port).is_some() => {
            "failed to connect to PostgreSQL server by unix domain socket".to_owned()
        }
        Failure::TimedOut(_) => format!("failed to connect to {server}, timed out"),
        Failure::Refused(_) | Failure::Unreachable(_) => {
            format!("failed to connect to {server}, getsockopt() failed")
        }
    };
    (text, failure.to_string())
}

/// The socket of a server on this machine.
pub fn socket_path(hostname: &str, port: u16) -> Option<PathBuf> {
    let file = format!(".s.PGSQL.{port}");
    if hostname.starts_with('/') {
        return Some(Path::new(hostname).join(file));
    }
    if !hostname.is_empty() {
        return None;
    }
    let debian = Path::new("/var/run/postgresql").join(&file);
    Some(if debian.exists() {
        debian
    } else {
        Path::new("/tmp").join(file)
    })
}

/// A connection, and what is known of its TLS.
type Opened = (Box<dyn Stream>, Option<TlsInfo>);

async fn open(address: &Address, limit: Option<Duration>) -> Result<Opened, Failure> {
    if let Some(path) = socket_path(&address.hostname, address.port) {
        return Ok((open_socket(&path).await?, None));
    }
    let mut last = Failure::Unreachable(format!("no address for \"{}\"", address.hostname));
    for socket in names::resolve(&address.hostname, address.port, limit).await? {
        let connect = TcpStream::connect(socket);
        let result = match address.connect_timeout {
            None => connect.await,
            Some(limit) => match timeout(limit, connect).await {
                Ok(result) => result,
                Err(_) => {
                    last = Failure::TimedOut(format!(
                        "connect to {socket} timed out after {} ms",
                        limit.as_millis()
                    ));
                    continue;
                }
            },
        };
        match result {
            Ok(stream) => {
                // Nagle's delay would add to each of the small messages.
                let _ = stream.set_nodelay(true);
                // An online recovery waits for hours, and a host may be gone without a word.
                // Keepalive looks only while nothing is on its way; what was sent and never
                // confirmed would be sent again for a quarter of an hour.
                let socket = SockRef::from(&stream);
                let _ = socket.set_tcp_keepalive(&keepalive());
                let _ = socket.set_tcp_user_timeout(Some(GONE));
                return secure(address, stream).await;
            }
            Err(e) => last = connect_failure(&e),
        }
    }
    Err(last)
}

/// A host of which nothing was heard for so long is gone: neither data confirmed nor a probe.
const GONE: Duration = Duration::from_secs(30);

/// Probes of a connection on which nothing is said; the last one goes out when [`GONE`] is over.
fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(5))
        .with_retries(3)
}

async fn secure(address: &Address, stream: TcpStream) -> Result<Opened, Failure> {
    match address.tls.secure(stream, &address.hostname).await {
        Ok(Secured::Plain(stream)) => Ok((Box::new(stream), None)),
        Ok(Secured::Tls(stream)) => {
            let tls = stream.info();
            Ok((stream, Some(tls)))
        }
        Err(TlsError::Io(e)) => Err(broken(e)),
        Err(refused @ TlsError::Refused(_)) => Err(Failure::Login(refused.to_string())),
    }
}

async fn open_socket(path: &Path) -> Result<Box<dyn Stream>, Failure> {
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(Box::new(stream)),
            // The listen queue is full: somebody is there, or was when it was stopped.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => sleep(FULL_QUEUE_PAUSE).await,
            Err(e) => {
                let text = format!(
                    "connect to \"{}\" failed with error \"{}\"",
                    path.display(),
                    errors::message(&e)
                );
                return Err(match connect_failure(&e) {
                    Failure::Refused(_) => Failure::Refused(text),
                    Failure::Local(_) => Failure::Local(text),
                    // The server removes the file when it ends.
                    _ if e.kind() == io::ErrorKind::NotFound => Failure::Refused(text),
                    _ => Failure::Unreachable(text),
                });
            }
        }
    }
}

fn connect_failure(e: &io::Error) -> Failure {
    let text = errors::message(e);
    match e.raw_os_error() {
        Some(libc::ECONNREFUSED) => Failure::Refused(text),
        Some(libc::ETIMEDOUT) => Failure::TimedOut(text),
        Some(
            libc::EMFILE
            | libc::ENFILE
            | libc::ENOBUFS
            | libc::ENOMEM
            | libc::EADDRNOTAVAIL
            | libc::EACCES
            | libc::EPERM,
        ) => Failure::Local(text),
        _ => Failure::Unreachable(text),
    }
}

#[cfg(test)]
#[path = "backend_client_tests.rs"]
mod tests;
