//! The PCP server's tasks: one that accepts, one per connection.
//!
//! They run on the control plane's runtime. A command of one connection never holds up another.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::{AbortHandle, JoinSet},
    time,
};

use super::{ServerContext, connection::Connection, listen::Listeners};
use crate::{control::Shared, observe::Reporter};

/// Connections that may be open before their login. One more, and the oldest is closed:
/// a flood must not lock the operators out, and the oldest is the least likely to log in.
pub const MAX_WAITING: usize = 256;

/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves until the future is dropped; then all connections end and the socket files are removed.
pub async fn serve(listeners: Listeners, shared: Arc<Shared>, context: ServerContext) {
    let mut server = Server {
        lobby: Arc::default(),
        connections: JoinSet::new(),
        shared,
        context,
    };
    let mut turn = 0;
    loop {
        tokio::select! {
            accepted = accept(&listeners, turn) => match accepted {
                Ok(client) => server.open(client),
                Err(error) => {
                    Reporter::new("pcp_main").warning(format_args!(
                        "unable to accept new pcp connection: {}", crate::sys::errors::message(&error)
                    ));
                    time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = server.connections.join_next() => {}
        }
        turn += 1;
    }
}

/// A flood is reported at most this often.
const SAY_AGAIN: Duration = Duration::from_secs(10);

struct Server {
    lobby: Arc<Lobby>,
    connections: JoinSet<()>,
    shared: Arc<Shared>,
    context: ServerContext,
}

enum Client {
    Unix(UnixStream),
    Tcp(TcpStream, String),
}

impl Server {
    fn open(&mut self, client: Client) {
        match client {
            Client::Unix(stream) => self.spawn(stream, "[local]".to_owned()),
            Client::Tcp(stream, peer) => {
                let socket = SockRef::from(&stream);
                // A connection without these options still works.
                let _ = socket.set_tcp_nodelay(true);
                let _ = socket.set_tcp_keepalive(&TcpKeepalive::new());
                self.spawn(stream, peer);
            }
        }
    }

    fn spawn<S>(&mut self, stream: S, peer: String)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let ticket = self.lobby.enter();
        let id = ticket.id;
        let connection = Connection::new(
            stream,
            peer,
            ticket,
            Arc::clone(&self.shared),
            self.context.clone(),
        );
        let task = self.connections.spawn(connection.run());
        self.lobby.attend(id, task);
    }
}

/// The next client of any socket. `turn` lets the sockets take turns in being asked first.
async fn accept(listeners: &Listeners, turn: usize) -> io::Result<Client> {
    std::future::poll_fn(|context| {
        let (unix, tcp) = (&listeners.unix, &listeners.tcp);
        let sockets = unix.len() + tcp.len();
        for place in (0..sockets).map(|offset| (turn + offset) % sockets) {
            let accepted = match unix.get(place) {
                Some(listener) => listener
                    .poll_accept(context)
                    .map_ok(|(stream, _)| Client::Unix(stream)),
                None => match tcp.get(place - unix.len()) {
                    Some(listener) => listener
                        .poll_accept(context)
                        .map_ok(|(stream, address)| Client::Tcp(stream, address.to_string())),
                    None => continue,
                },
            };
            if accepted.is_ready() {
                return accepted;
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// The connections that have not logged in.
#[derive(Default)]
struct Lobby {
    state: Mutex<LobbyState>,
}

#[derive(Default)]
struct LobbyState {
    next: u64,
    /// By age; the handle is missing for the moment between entering and [`Lobby::attend`].
    waiting: BTreeMap<u64, Option<AbortHandle>>,
    said: Option<Instant>,
}

/// A place in the lobby; dropped at the login or at the end of the connection.
pub(super) struct LobbyTicket {
    id: u64,
    lobby: Arc<Lobby>,
}

impl Lobby {
    fn enter(self: &Arc<Self>) -> LobbyTicket {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        let full = state.waiting.len() >= MAX_WAITING;
        if full && let Some((_, Some(oldest))) = state.waiting.pop_first() {
            oldest.abort();
        }
        state.waiting.insert(id, None);
        let say = full && state.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN);
        if say {
            state.said = Some(Instant::now());
        }
        drop(state);
        if say {
            Reporter::new("pcp_main").warning(format_args!(
                "PCP: more than {MAX_WAITING} connections without a login, the oldest are closed"
            ));
        }
        LobbyTicket {
            id,
            lobby: Arc::clone(self),
        }
    }

    /// Says which task to end; a connection that has left already is not put back.
    fn attend(&self, id: u64, task: AbortHandle) {
        if let Some(place) = self.lock().waiting.get_mut(&id) {
            *place = Some(task);
        }
    }

    fn lock(&self) -> MutexGuard<'_, LobbyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LobbyTicket {
    fn drop(&mut self) {
        self.lobby.lock().waiting.remove(&self.id);
    }
}
