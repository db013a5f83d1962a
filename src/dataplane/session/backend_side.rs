//! What a backend sends: finds the few messages that matter among those that pass.
//!
//! What is the client's is forwarded as it came. Bodies are looked at for ReadyForQuery,
//! ErrorResponse, NoticeResponse and ParameterStatus, and for what else a session asks for.

use std::ops::Range;

use crate::protocol::{Header, HeaderError, frame::HEADER_LEN};

/// Of an error or notice that arrives in pieces, so much is kept for the log and the counters.
const COLLECT_LIMIT: usize = 8 * 1024;

/// The parse state between two reads.
#[derive(Debug, Default)]
pub struct BackendSide {
    /// Bytes of the current message that have not arrived yet.
    body_left: usize,
    /// A header that was cut, or the body of a message that is looked at.
    partial: Option<Box<Partial>>,
    /// The kind of the current message, if nobody looks at its body.
    passing: Option<u8>,
    /// The current message is not the client's.
    hidden: bool,
}

#[derive(Debug)]
enum Partial {
    Header(Vec<u8>),
    Body { kind: u8, bytes: Vec<u8> },
}

/// Notices messages. `body` is empty for kinds that nobody looks into.
pub trait BackendEvents {
    /// All of it has been scanned: what it sets off may reach the client behind it only.
    fn message(&mut self, kind: u8, body: &[u8]);

    /// Whether the message that begins with this kind is the client's.
    fn shows(&mut self, kind: u8) -> bool {
        let _ = kind;
        true
    }

    /// Whether the body of this kind is looked at.
    fn wants_body(&self, kind: u8) -> bool {
        matches!(kind, b'Z' | b'E' | b'N' | b'S')
    }
}

/// Parts of what was scanned that are not the client's, in order.
pub type Hidden = Vec<Range<usize>>;

impl BackendSide {
    /// Scans the next bytes of the stream.
    ///
    /// # Errors
    ///
    /// A length that no message can have: the stream is lost.
    pub fn scan(
        &mut self,
        bytes: &[u8],
        events: &mut impl BackendEvents,
    ) -> Result<Hidden, HeaderError> {
        let mut hidden = Hidden::new();
        let mut rest = bytes;
        if self.body_left > 0 || self.partial.is_some() {
            rest = self.resume(rest, events)?;
            self.passed(bytes, bytes, rest, &mut hidden);
        }
        while self.body_left == 0 && !rest.is_empty() {
            let from = rest;
            self.hidden = !events.shows(rest[0]);
            match Header::read(rest)? {
                Some(header) => rest = self.begin(header, &rest[HEADER_LEN..], events),
                None => {
                    self.partial = Some(Box::new(Partial::Header(rest.to_vec())));
                    rest = &[];
                }
            }
            self.passed(bytes, from, rest, &mut hidden);
        }
        Ok(hidden)
    }

    /// What stands in `bytes` between the beginnings of `from` and `to` belongs to one message.
    fn passed(&self, bytes: &[u8], from: &[u8], to: &[u8], hidden: &mut Hidden) {
        if !self.hidden {
            return;
        }
        let (start, end) = (bytes.len() - from.len(), bytes.len() - to.len());
        match hidden.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => hidden.push(start..end),
        }
    }

    /// Whether what has been scanned ends with the end of a message.
    pub fn at_boundary(&self) -> bool {
        self.body_left == 0 && self.partial.is_none()
    }

    /// Whether the client may be sent something of ours now.
    pub fn client_at_boundary(&self) -> bool {
        self.hidden || self.at_boundary()
    }

    fn resume<'a>(
        &mut self,
        mut rest: &'a [u8],
        events: &mut impl BackendEvents,
    ) -> Result<&'a [u8], HeaderError> {
        if let Some(partial) = self.partial.take() {
            match *partial {
                Partial::Header(mut head) => {
                    let need = HEADER_LEN - head.len();
                    let (now, later) = rest.split_at(need.min(rest.len()));
                    head.extend_from_slice(now);
                    return match Header::read(&head)? {
                        Some(header) => Ok(self.begin(header, later, events)),
                        None => {
                            self.partial = Some(Box::new(Partial::Header(head)));
                            Ok(&[])
                        }
                    };
                }
                Partial::Body { kind, mut bytes } => {
                    let now = &rest[..self.body_left.min(rest.len())];
                    let room = COLLECT_LIMIT.saturating_sub(bytes.len());
                    bytes.extend_from_slice(&now[..now.len().min(room)]);
                    if now.len() == self.body_left {
                        events.message(kind, &bytes);
                    } else {
                        self.partial = Some(Box::new(Partial::Body { kind, bytes }));
                    }
                }
            }
        }
        let skip = self.body_left.min(rest.len());
        self.body_left -= skip;
        if self.body_left == 0
            && let Some(kind) = self.passing.take()
        {
            events.message(kind, &[]);
        }
        rest = &rest[skip..];
        Ok(rest)
    }

    fn begin<'a>(
        &mut self,
        header: Header,
        rest: &'a [u8],
        events: &mut impl BackendEvents,
    ) -> &'a [u8] {
        let (body, later) = rest.split_at(header.body_len.min(rest.len()));
        self.body_left = header.body_len - body.len();
        if !events.wants_body(header.kind) {
            if self.body_left == 0 {
                events.message(header.kind, &[]);
            } else {
                self.passing = Some(header.kind);
            }
        } else if self.body_left == 0 {
            events.message(header.kind, body);
        } else {
            self.partial = Some(Box::new(Partial::Body {
                kind: header.kind,
                bytes: body[..body.len().min(COLLECT_LIMIT)].to_vec(),
            }));
        }
        later
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::messages::frame;

    #[derive(Default)]
    struct Seen(Vec<(u8, Vec<u8>)>);

    impl BackendEvents for Seen {
        fn message(&mut self, kind: u8, body: &[u8]) {
            self.0.push((kind, body.to_vec()));
        }
    }

    #[test]
    fn a_length_below_four_is_an_error_of_the_stream() {
        let mut side = BackendSide::default();
        assert!(side.scan(b"D\0\0\0\x01", &mut Seen::default()).is_err());
        let mut side = BackendSide::default();
        assert!(side.scan(b"D\0\0", &mut Seen::default()).is_ok());
        assert!(side.scan(b"\0\0x", &mut Seen::default()).is_err());
    }

    #[test]
    fn a_huge_notice_is_kept_only_in_part() {
        let mut bytes = Vec::new();
        frame(b'N', &mut bytes, |out| out.resize(100_000, b'x'));
        let (mut side, mut seen) = (BackendSide::default(), Seen::default());
        for chunk in bytes.chunks(7000) {
            side.scan(chunk, &mut seen).unwrap();
        }
        assert_eq!(seen.0.len(), 1);
        assert_eq!(seen.0[0].1.len(), COLLECT_LIMIT);
    }

    /// Else the answer of another node might come before the rest of it.
    #[test]
    fn a_message_counts_when_its_last_byte_has_passed() {
        let (mut side, mut seen) = (BackendSide::default(), Seen::default());
        side.scan(b"C\0\0\0\x09SEL", &mut seen).unwrap();
        assert!(seen.0.is_empty());
        side.scan(b"E\0", &mut seen).unwrap();
        assert_eq!(seen.0, [(b'C', Vec::new())]);
    }

    /// Shows what is no notice.
    #[derive(Default)]
    struct NoNotices(Vec<u8>);

    impl BackendEvents for NoNotices {
        fn message(&mut self, kind: u8, _: &[u8]) {
            self.0.push(kind);
        }

        fn shows(&mut self, kind: u8) -> bool {
            kind != b'N'
        }
    }

    proptest! {
        #[test]
        fn cuts_change_nothing_of_what_is_hidden(
            messages in prop::collection::vec((prop::sample::select(b"ZNND".to_vec()), prop::collection::vec(any::<u8>(), 0..20)), 0..12),
            cuts in prop::collection::vec(1usize..30, 1..60),
        ) {
            let (mut bytes, mut want) = (Vec::new(), Vec::new());
            for (kind, body) in messages {
                let at = bytes.len();
                frame(kind, &mut bytes, |out| out.extend_from_slice(&body));
                if kind != b'N' { want.extend_from_slice(&bytes[at..]) }
            }
            let (mut side, mut seen, mut shown) = (BackendSide::default(), NoNotices::default(), Vec::new());
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                let mut at = 0;
                for range in side.scan(now, &mut seen).unwrap() {
                    shown.extend_from_slice(&now[at..range.start]);
                    at = range.end;
                }
                shown.extend_from_slice(&now[at..]);
                rest = later;
            }
            prop_assert_eq!(shown, want);
        }

        #[test]
        fn cuts_change_nothing(
            messages in prop::collection::vec((prop::sample::select(b"ZENDTCS1G".to_vec()), prop::collection::vec(any::<u8>(), 0..40)), 0..12),
            cuts in prop::collection::vec(1usize..30, 1..60),
        ) {
            let mut bytes = Vec::new();
            let mut want = Vec::new();
            for (kind, body) in messages {
                frame(kind, &mut bytes, |out| out.extend_from_slice(&body));
                want.push((kind, if b"ZENS".contains(&kind) { body } else { Vec::new() }));
            }
            let (mut side, mut seen) = (BackendSide::default(), Seen::default());
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                side.scan(now, &mut seen).unwrap();
                rest = later;
            }
            prop_assert_eq!(seen.0, want);
        }
    }
}
