//! One TCP connection to another node, whoever has opened it: bytes to packets and back.

use std::{io, net::SocketAddr, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::timeout,
};

use super::task::Happened;
use crate::{
    control::backend_client,
    sys::errors,
    watchdog::{
        codec::{Message, take_frame},
        core::{Conn, Event},
        settings::Member,
    },
};

/// A host that does not answer at all would hold a connect up for minutes.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The same of each address, where a name has several: the next one may be the one that works.
const ADDRESS_LIMIT: Duration = Duration::from_secs(3);
/// How long we read on after a failed write or our own close, so that nothing sent before is lost
/// and what we have sent is not cut off by a reset.
const DRAIN: Duration = Duration::from_secs(1);
/// Packets that wait for a peer that does not read. More, and it is as good as gone.
const BACKLOG: usize = 512;
const READ_AHEAD: usize = 16 * 1024;
/// An introduction has less than two; nobody else may make us keep more.
const FIRST_LARGEST: usize = 64 * 1024;

/// Our end of a connection. Dropping it closes the connection when what was sent is written.
#[derive(Debug)]
pub struct Link {
    outbox: mpsc::Sender<Vec<u8>>,
}

impl Link {
    /// `false`: the peer does not read, or the connection has ended.
    pub fn send(&self, packet: Vec<u8>) -> bool {
        self.outbox.try_send(packet).is_ok()
    }
}

/// Held by each connection until it has written what it was given.
pub type Unwritten = mpsc::Sender<()>;

/// Goes on with a connection that was accepted.
pub fn accepted(
    conn: Conn,
    stream: TcpStream,
    events: mpsc::Sender<Happened>,
    unwritten: Unwritten,
) -> Link {
    let (outbox, queue) = mpsc::channel(BACKLOG);
    drop(tokio::task::spawn_local(async move {
        // How long it may stay without an introduction is the core's to say.
        run(conn, stream, (queue, unwritten), &events, true).await;
        tell(&events, Event::Closed { conn }).await;
    }));
    Link { outbox }
}

/// Opens one.
pub fn dial(
    conn: Conn,
    member: Member,
    events: mpsc::Sender<Happened>,
    unwritten: Unwritten,
) -> Link {
    let (outbox, queue) = mpsc::channel(BACKLOG);
    drop(tokio::task::spawn_local(async move {
        match connect(&member).await {
            Ok(stream) => {
                tell(&events, Event::Connected { conn }).await;
                run(conn, stream, (queue, unwritten), &events, false).await;
            }
            Err(why) => tell(&events, Event::Unreachable { conn, why }).await,
        }
        tell(&events, Event::Closed { conn }).await;
    }));
    Link { outbox }
}

async fn connect(member: &Member) -> Result<TcpStream, String> {
    // While no name server answers, the addresses that were found before count.
    let found = backend_client::resolve(&member.host, member.wd_port, Some(CONNECT_LIMIT)).await;
    let addresses = found.map_err(|failure| failure.to_string())?;
    first_that_answers(&addresses).await
}

async fn first_that_answers(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let limit = match addresses {
        [_] => CONNECT_LIMIT,
        _ => ADDRESS_LIMIT,
    };
    let mut reasons = Vec::new();
    for address in addresses {
        let why = match timeout(limit, TcpStream::connect(address)).await {
            Ok(stream) => match stream.and_then(|stream| prepare(&stream).map(|()| stream)) {
                Ok(stream) => return Ok(stream),
                Err(error) => errors::message(&error),
            },
            Err(_) => format!("no answer within {} s", limit.as_secs()),
        };
        reasons.push(match addresses {
            [_] => why,
            _ => format!("{}: {why}", address.ip()),
        });
    }
    if reasons.is_empty() {
        return Err("its name has no address".to_owned());
    }
    Err(reasons.join(", "))
}

/// As stock nodes have their sockets.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_keepalive(true)
}

async fn tell(events: &mpsc::Sender<Happened>, event: Event) {
    // The watchdog has ended: so does the process.
    let _ = events.send(Happened::Core(event)).await;
}

/// Returns when the connection has ended, and all that came before has been handed on.
async fn run(
    conn: Conn,
    stream: TcpStream,
    (queue, unwritten): (mpsc::Receiver<Vec<u8>>, Unwritten),
    events: &mpsc::Sender<Happened>,
    is_stranger: bool,
) {
    let (from, to) = stream.into_split();
    let mut reading = std::pin::pin!(read(conn, from, events, is_stranger));
    let writing = std::pin::pin!(write(to, queue, unwritten));
    tokio::select! {
        () = &mut reading => {}
        () = writing => {
            // Nothing is lost but what a silent peer has not sent yet.
            let _ = timeout(DRAIN, reading).await;
        }
    }
}

async fn read(
    conn: Conn,
    mut from: OwnedReadHalf,
    events: &mpsc::Sender<Happened>,
    mut is_stranger: bool,
) {
    let mut input = BytesMut::new();
    loop {
        loop {
            match take_frame(&mut input) {
                Ok(Some(frame)) => {
                    is_stranger = false;
                    let event = match Message::decode(&frame) {
                        Ok(message) => Event::Received {
                            conn,
                            id: frame.id,
                            message,
                        },
                        Err(error) => {
                            let why = error.to_string();
                            tell(events, Event::Unreadable { conn, why }).await;
                            Event::Garbled {
                                conn,
                                id: frame.id,
                                kind: frame.kind,
                            }
                        }
                    };
                    tell(events, event).await;
                }
                Ok(None) => break,
                Err(error) => {
                    let why = error.to_string();
                    return tell(events, Event::Unreadable { conn, why }).await;
                }
            }
        }
        if is_stranger && input.len() > FIRST_LARGEST {
            return;
        }
        input.reserve(READ_AHEAD);
        match from.read_buf(&mut input).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// One write per packet: a stock peer gives up when one stalls.
async fn write(mut to: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>, _unwritten: Unwritten) {
    while let Some(packet) = queue.recv().await {
        if to.write_all(&packet).await.is_err() {
            return;
        }
    }
    // The peer may have gone before.
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use tokio::{net::TcpListener, task::LocalSet, time};

    use super::*;
    use crate::watchdog::codec::Frame;

    const IN: Conn = Conn::In(1);

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let frame = Frame {
            kind,
            id: 7,
            payload: payload.to_vec(),
        };
        frame.bytes()
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(listener.accept(), TcpStream::connect(address));
        (ours.unwrap().0, theirs.unwrap())
    }

    async fn next(events: &mut mpsc::Receiver<Happened>) -> Event {
        let happened = time::timeout(Duration::from_secs(20), events.recv()).await;
        match happened.expect("in time") {
            Some(Happened::Core(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    fn local<F: Future<Output = ()>>(work: F) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, work);
    }

    #[test]
    fn packets_come_whole_and_before_the_end_of_their_connection() {
        local(async {
            let (ours, mut theirs) = pair().await;
            let (events, mut happened) = mpsc::channel(16);
            let _link = accepted(IN, ours, events, mpsc::channel(1).0);
            let bytes = [frame(b'G', b""), frame(b'I', b"no json"), frame(b'J', b"")].concat();
            for byte in bytes {
                theirs.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(theirs);
            assert!(matches!(
                next(&mut happened).await,
                Event::Received {
                    id: 7,
                    message: Message::Accept,
                    ..
                }
            ));
            assert!(matches!(
                next(&mut happened).await,
                Event::Unreadable { why, .. } if why.starts_with("its body is not a JSON object")
            ));
            assert!(matches!(
                next(&mut happened).await,
                Event::Garbled { kind: b'I', .. }
            ));
            assert!(matches!(
                next(&mut happened).await,
                Event::Received {
                    message: Message::JoinLeader,
                    ..
                }
            ));
            assert!(matches!(next(&mut happened).await, Event::Closed { .. }));
        });
    }

    #[test]
    fn an_absurd_length_ends_the_connection() {
        local(async {
            let (ours, mut theirs) = pair().await;
            let (events, mut happened) = mpsc::channel(16);
            let _link = accepted(IN, ours, events, mpsc::channel(1).0);
            theirs
                .write_all(b"A\0\0\0\x01\xff\xff\xff\xff")
                .await
                .unwrap();
            assert!(matches!(
                next(&mut happened).await,
                Event::Unreadable { why, .. } if why.contains("length field")
            ));
            assert!(matches!(next(&mut happened).await, Event::Closed { .. }));
            let mut rest = Vec::new();
            theirs.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty());
        });
    }

    #[test]
    fn a_stranger_cannot_make_us_keep_much() {
        local(async {
            let (ours, mut theirs) = pair().await;
            let (events, mut happened) = mpsc::channel(16);
            let _link = accepted(IN, ours, events, mpsc::channel(1).0);
            theirs.write_all(b"A\0\0\0\x01\0\x0f\0\0").await.unwrap();
            let much = vec![b' '; 200_000];
            let (sent, event) = tokio::join!(theirs.write_all(&much), next(&mut happened));
            // It may have been cut off before it was done.
            drop(sent);
            assert!(matches!(event, Event::Closed { .. }), "{event:?}");
        });
    }

    #[test]
    fn what_was_sent_before_a_close_arrives() {
        local(async {
            let (ours, mut theirs) = pair().await;
            let (events, mut happened) = mpsc::channel(16);
            let link = accepted(IN, ours, events, mpsc::channel(1).0);
            // Unread input at a close would make a reset of it, and drop the answer.
            theirs.write_all(&frame(b'J', b"")).await.unwrap();
            assert!(link.send(frame(b'R', b"")));
            drop(link);
            let mut got = Vec::new();
            theirs.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, frame(b'R', b""));
            drop(theirs);
            assert!(matches!(next(&mut happened).await, Event::Received { .. }));
            assert!(matches!(next(&mut happened).await, Event::Closed { .. }));
        });
    }

    #[test]
    fn an_address_that_does_not_answer_does_not_hide_the_next_one() {
        local(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let nobody = {
                let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
                other.local_addr().unwrap()
            };
            // Takes part in a handshake with nobody: its queue is full.
            let full =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
                .unwrap();
            full.listen(0).unwrap();
            let silent = full.local_addr().unwrap().as_socket().unwrap();
            let _first = TcpStream::connect(silent).await.unwrap();
            let mut waiting = Vec::new();
            for _ in 0..3 {
                let connecting = TcpStream::connect(silent);
                waiting.push(tokio::task::spawn_local(connecting));
            }
            tokio::task::yield_now().await;
            let stream = first_that_answers(&[nobody, silent, address])
                .await
                .unwrap();
            assert_eq!(stream.peer_addr().unwrap(), address);
            let why = first_that_answers(&[nobody, nobody]).await.unwrap_err();
            assert_eq!(
                why,
                "127.0.0.1: Connection refused, 127.0.0.1: Connection refused"
            );
        });
    }

    #[test]
    fn a_node_that_is_not_there_is_a_closed_connection() {
        local(async {
            let port = {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                listener.local_addr().unwrap().port()
            };
            let (events, mut happened) = mpsc::channel(16);
            let member = Member {
                node_id: Some(1),
                host: "127.0.0.1".to_owned(),
                wd_port: port,
                pgpool_port: 9999,
            };
            let conn = Conn::Out {
                peer: 0,
                attempt: 1,
            };
            let _link = dial(conn, member, events, mpsc::channel(1).0);
            assert!(matches!(
                next(&mut happened).await,
                Event::Unreachable { why, .. } if why == "Connection refused"
            ));
            assert!(matches!(next(&mut happened).await, Event::Closed { .. }));
        });
    }
}
