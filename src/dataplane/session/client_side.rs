//! What a client sends: finds the messages in a stream of bytes and decides how far they may be forwarded.
//!
//! Bytes are forwarded as they are; only the ends of messages matter, and the text of a statement
//! where somebody needs it.

use crate::{
    protocol::{Header, HeaderError, frame::HEADER_LEN},
    routing::lexer,
};

/// A Query longer than this is never an admin command.
const ADMIN_LIMIT: usize = 8 * 1024;
/// Statements longer than this are not collected for the log; what has arrived is logged.
const LOG_LIMIT: usize = 32 * 1024;

/// The parse state between two reads.
#[derive(Debug, Default)]
pub struct ClientSide {
    /// Bytes of the current message that have not arrived yet.
    body_left: usize,
}

/// What to do with the bytes that were scanned.
#[derive(Debug, PartialEq, Eq)]
pub struct Scan {
    /// So many bytes go to the backend.
    pub forward: usize,
    /// What stands behind them.
    pub stop: Stop,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// Nothing: all is forwarded.
    End,
    /// The beginning of a message that cannot be judged yet: keep it until more arrives.
    Incomplete,
    /// A Query of this length that may be an admin command.
    MaybeAdmin {
        len: usize,
    },
    /// Terminate.
    Terminate,
    Unknown(u8),
    Invalid(HeaderError),
}

/// Notices each message when it is forwarded. `body` is what has arrived of it.
pub trait ClientEvents {
    fn message(&mut self, kind: u8, body: &[u8]);

    /// Whether messages are wanted whole (for the log).
    fn wants_whole(&self) -> bool {
        false
    }
}

/// A message, as far as it has arrived.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub kind: u8,
    pub body_len: usize,
    /// With its header.
    pub bytes: &'a [u8],
}

impl<'a> Message<'a> {
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(HEADER_LEN..).unwrap_or_default()
    }

    pub fn is_whole(&self) -> bool {
        self.bytes.len() >= HEADER_LEN + self.body_len
    }
}

/// What stands next in the stream.
pub enum Next<'a> {
    /// So many bytes more of the message before.
    Body(usize),
    /// [`ClientSide::accept`] takes it.
    Message(Message<'a>),
    Stop(Stop),
}

/// Of a message that was not there as far as it is looked at: how much of it has to be there before another look
/// is worth while. Looking at each piece would copy all that is held for it.
pub fn wanted(held: &[u8]) -> usize {
    const ENOUGH: usize = 256 * 1024;
    match Header::read(held) {
        Ok(Some(header)) if is_known(header.kind) && header.kind != b'X' => {
            (HEADER_LEN + header.body_len).min(ENOUGH)
        }
        _ => 0,
    }
}

impl ClientSide {
    /// Looks at what `bytes` begin with, which must not be empty. `wants_whole`: messages are wanted whole, for the log.
    pub fn next<'a>(&mut self, bytes: &'a [u8], wants_whole: bool) -> Next<'a> {
        if self.body_left > 0 {
            let now = self.body_left.min(bytes.len());
            self.body_left -= now;
            return Next::Body(now);
        }
        let header = match Header::read(bytes) {
            Ok(Some(header)) => header,
            Ok(None) => return Next::Stop(Stop::Incomplete),
            Err(error) if is_known(error.kind) => return Next::Stop(Stop::Invalid(error)),
            Err(error) => return Next::Stop(Stop::Unknown(error.kind)),
        };
        if !is_known(header.kind) {
            return Next::Stop(Stop::Unknown(header.kind));
        }
        let len = HEADER_LEN + header.body_len;
        let message = Message {
            kind: header.kind,
            body_len: header.body_len,
            bytes: &bytes[..len.min(bytes.len())],
        };
        let whole = message.is_whole();
        match header.kind {
            b'X' => return Next::Stop(Stop::Terminate),
            b'Q' if header.body_len <= ADMIN_LIMIT => match lexer::may_be_admin(message.body()) {
                Some(true) if whole => return Next::Stop(Stop::MaybeAdmin { len }),
                Some(true) | None if !whole => return Next::Stop(Stop::Incomplete),
                _ => {}
            },
            _ => {}
        }
        if !whole && header.body_len <= LOG_LIMIT && wants_whole && header.kind != b'd' {
            return Next::Stop(Stop::Incomplete);
        }
        Next::Message(message)
    }

    /// The message is sent on; what is missing of it follows.
    pub fn accept(&mut self, message: Message<'_>) {
        self.body_left = HEADER_LEN + message.body_len - message.bytes.len();
    }

    /// Scans `bytes`, which begin where the last scan's `forward` ended.
    pub fn scan(&mut self, bytes: &[u8], events: &mut impl ClientEvents) -> Scan {
        let mut at = 0;
        while at < bytes.len() {
            match self.next(&bytes[at..], events.wants_whole()) {
                Next::Body(len) => at += len,
                Next::Message(message) => {
                    events.message(message.kind, message.body());
                    self.accept(message);
                    at += message.bytes.len();
                }
                Next::Stop(what) => return stop(at, what),
            }
        }
        Scan {
            forward: at,
            stop: Stop::End,
        }
    }

    /// The Query that the last scan stopped at is forwarded after all.
    pub fn forward_query(bytes: &[u8], events: &mut impl ClientEvents) {
        events.message(b'Q', bytes.get(HEADER_LEN..).unwrap_or_default());
    }

    /// Whether the last forwarded byte was the end of a message.
    pub fn at_boundary(&self) -> bool {
        self.body_left == 0
    }
}

fn stop(forward: usize, stop: Stop) -> Scan {
    Scan { forward, stop }
}

fn is_known(kind: u8) -> bool {
    matches!(
        kind,
        b'Q' | b'P' | b'B' | b'E' | b'D' | b'C' | b'S' | b'H' | b'F' | b'd' | b'c' | b'f' | b'X'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::messages::{frame, query};

    #[derive(Default)]
    struct Seen(Vec<u8>);

    impl ClientEvents for Seen {
        fn message(&mut self, kind: u8, _: &[u8]) {
            self.0.push(kind);
        }
    }

    fn q(sql: &str) -> Vec<u8> {
        let mut out = Vec::new();
        query(sql, &mut out);
        out
    }

    #[test]
    fn a_message_in_pieces_is_looked_at_when_it_is_there() {
        assert_eq!(wanted(b"Q\0\0"), 0, "its length has yet to come");
        assert_eq!(wanted(b"Q\0\0\0\x0ase"), 11);
        assert_eq!(wanted(b"Q\0\x10\0\0se"), 256 * 1024);
        for refused in [
            &b"Q\0\0\0\0"[..],
            b"Q\xff\0\0\0",
            b"?\0\0\x10\0",
            b"X\0\0\x10\0",
        ] {
            assert_eq!(wanted(refused), 0);
        }
    }

    #[test]
    fn whole_messages_are_forwarded_at_once() {
        let mut bytes = q("select 1");
        frame(b'S', &mut bytes, |_| ());
        let mut seen = Seen::default();
        let scan = ClientSide::default().scan(&bytes, &mut seen);
        assert_eq!(scan, stop(bytes.len(), Stop::End));
        assert_eq!(seen.0, b"QS");
    }

    #[test]
    fn a_long_query_is_forwarded_as_soon_as_its_first_word_is_known() {
        let bytes = q(&format!("insert {}", "x".repeat(1000)));
        let mut side = ClientSide::default();
        let mut seen = Seen::default();
        assert_eq!(side.scan(&bytes[..20], &mut seen), stop(20, Stop::End));
        assert!(!side.at_boundary());
        assert_eq!(
            side.scan(&bytes[20..], &mut seen),
            stop(bytes.len() - 20, Stop::End)
        );
        assert!(side.at_boundary());
    }

    #[test]
    fn a_query_that_may_be_an_admin_command_is_kept_until_it_is_whole() {
        let bytes = q("show pool_nodes");
        let mut side = ClientSide::default();
        let mut seen = Seen::default();
        for cut in 1..bytes.len() {
            assert_eq!(
                side.scan(&bytes[..cut], &mut seen),
                stop(0, Stop::Incomplete)
            );
        }
        assert_eq!(
            side.scan(&bytes, &mut seen),
            stop(0, Stop::MaybeAdmin { len: bytes.len() })
        );
        assert!(seen.0.is_empty());
    }

    #[test]
    fn terminate_and_nonsense_stop_the_scan_where_they_stand() {
        let mut bytes = q("select 1");
        let at = bytes.len();
        bytes.extend_from_slice(b"X\0\0\0\x04");
        let mut seen = Seen::default();
        let scan = ClientSide::default().scan(&bytes, &mut seen);
        assert_eq!(scan, stop(at, Stop::Terminate));
        let scan = ClientSide::default().scan(b"y\0\0\0\x04", &mut seen);
        assert_eq!(scan, stop(0, Stop::Unknown(b'y')));
        let scan = ClientSide::default().scan(b"S\0\0\0\x01", &mut seen);
        assert!(matches!(scan.stop, Stop::Invalid(_)));
    }

    proptest! {
        /// However the stream is cut into reads, the same messages are seen and every byte is forwarded once.
        #[test]
        fn cuts_change_nothing(
            messages in prop::collection::vec((prop::sample::select(b"QPBEDCSHFdcf".to_vec()), prop::collection::vec(any::<u8>(), 0..40)), 0..12),
            cuts in prop::collection::vec(1usize..30, 1..60),
        ) {
            let mut bytes = Vec::new();
            for (kind, body) in &messages {
                frame(*kind, &mut bytes, |out| {
                    if *kind == b'Q' { out.extend_from_slice(b"update x") }
                    out.extend_from_slice(body);
                });
            }
            let (mut side, mut seen, mut held, mut forwarded) = (ClientSide::default(), Seen::default(), Vec::new(), Vec::new());
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                held.extend_from_slice(now);
                rest = later;
                let scan = side.scan(&held, &mut seen);
                prop_assert!(matches!(scan.stop, Stop::End | Stop::Incomplete));
                forwarded.extend(held.drain(..scan.forward));
            }
            prop_assert_eq!(&forwarded, &bytes);
            let kinds: Vec<u8> = messages.iter().map(|(k, _)| *k).collect();
            prop_assert_eq!(&seen.0, &kinds);
        }

        #[test]
        fn random_bytes_never_panic(reads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..16)) {
            let mut side = ClientSide::default();
            let mut held = Vec::new();
            for read in reads {
                held.extend_from_slice(&read);
                let scan = side.scan(&held, &mut Seen::default());
                held.drain(..scan.forward);
                if !matches!(scan.stop, Stop::End | Stop::Incomplete) { break }
            }
        }
    }
}
