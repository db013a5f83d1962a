//! Bytes of the PCP protocol: frames in both directions, error and notice packets.
//!
//! Knows neither sockets nor what a request means; [`super::dialogue`] does. A frame is one
//! type byte, a length (big-endian, counting itself and the payload, not the type byte) and the
//! payload. Source: `src/utils/pcp/pcp_stream.c`, `src/pcp_con/pcp_worker.c @ V4_3_5`.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::observe::Severity;

/// Value of the length field of the longest request that is taken.
pub const MAX_REQUEST_LENGTH: i32 = 259;

/// Bytes of type and length.
const HEADER: usize = 5;

/// One packet, either way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub payload: Bytes,
}

impl Frame {
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, self.kind, |payload| payload.put_slice(&self.payload));
    }

    /// The NUL-terminated texts of the payload; an unterminated rest counts as one more text.
    pub fn texts(&self) -> Vec<&[u8]> {
        let mut texts: Vec<&[u8]> = self.payload.split(|&byte| byte == 0).collect();
        if texts.last().is_some_and(|rest| rest.is_empty()) {
            texts.pop();
        }
        texts
    }
}

/// The length field of a request is outside 4..=259; the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("incorrect packet length ({0})")]
pub struct BadLength(pub i32);

/// Takes the next request out of `buffer`; `None`: more bytes are needed.
///
/// The length is judged before the payload is waited for, so a caller that reads at most
/// 264 bytes ahead is bounded in memory whatever a client announces.
///
/// # Errors
///
/// [`BadLength`]; nothing is taken out then. Lengths 1 to 3, which wrap around in the
/// original, are refused like 0.
pub fn take_request(buffer: &mut BytesMut) -> Result<Option<Frame>, BadLength> {
    match length_field(buffer) {
        Some(length) if !(4..=MAX_REQUEST_LENGTH).contains(&length) => Err(BadLength(length)),
        _ => Ok(take_frame(buffer)),
    }
}

/// Takes the next reply out of `buffer`, of any length; `None`: more bytes are needed, or the
/// length is below 4. For tests and tools; a server never reads replies.
pub fn take_reply(buffer: &mut BytesMut) -> Option<Frame> {
    take_frame(buffer)
}

fn length_field(buffer: &[u8]) -> Option<i32> {
    buffer
        .get(1..HEADER)
        .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
        .map(i32::from_be_bytes)
}

fn take_frame(buffer: &mut BytesMut) -> Option<Frame> {
    let payload_length = usize::try_from(length_field(buffer)?)
        .ok()?
        .checked_sub(4)?;
    if buffer.len() - HEADER < payload_length {
        return None;
    }
    let kind = buffer.get_u8();
    buffer.advance(4);
    Some(Frame {
        kind,
        payload: buffer.split_to(payload_length).freeze(),
    })
}

/// Appends a reply whose payload is made of NUL-terminated texts.
pub fn put_texts<T: AsRef<[u8]>>(out: &mut BytesMut, kind: u8, texts: &[T]) {
    put_frame(out, kind, |payload| {
        for text in texts {
            put_text(payload, text.as_ref());
        }
    });
}

/// `CommandComplete` without data.
pub fn put_command_complete(out: &mut BytesMut, kind: u8) {
    put_texts(out, kind, &["CommandComplete"]);
}

/// Announces the rows of a list. All lists but the pool status give the number as text.
pub fn put_array_size(out: &mut BytesMut, kind: u8, rows: usize) {
    put_texts(out, kind, &["ArraySize", &rows.to_string()]);
}

/// The one binary number of the protocol: the row count of the pool status.
pub fn put_binary_array_size(out: &mut BytesMut, kind: u8, rows: usize) {
    put_frame(out, kind, |payload| {
        put_text(payload, b"ArraySize");
        payload.put_i32(i32::try_from(rows).unwrap_or(i32::MAX));
    });
}

/// The salt of a login.
pub fn put_salt(out: &mut BytesMut, salt: [u8; 4]) {
    put_frame(out, b'm', |payload| payload.put_slice(&salt));
}

/// An error (`E`) or notice (`N`) packet in the field order that all clients need: S, C, M, D.
///
/// Clients go on looking for field letters inside the message they just took, so a message that
/// begins with `S`, `D` or `M` would be garbled on the operator's screen; such a message is sent
/// with `PCP: ` in front. An empty field ends their parsing, so empty fields are left out. A hint
/// is never shown by them, file and line are of no use to anybody: not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub severity: Severity,
    pub message: String,
    /// Empty: no detail.
    pub detail: String,
}

impl Notice {
    pub fn new(
        severity: Severity,
        message: impl Into<String>,
        detail: impl Into<String>,
    ) -> Notice {
        Notice {
            severity,
            message: message.into(),
            detail: detail.into(),
        }
    }

    pub fn error(message: impl Into<String>, detail: impl Into<String>) -> Notice {
        Notice::new(Severity::Error, message, detail)
    }

    /// The connection is closed after it.
    pub fn fatal(message: impl Into<String>, detail: impl Into<String>) -> Notice {
        Notice::new(Severity::Fatal, message, detail)
    }

    pub fn is_fatal(&self) -> bool {
        self.severity >= Severity::Fatal
    }

    pub fn encode(&self, out: &mut BytesMut) {
        let kind = match self.severity {
            Severity::Error | Severity::Fatal | Severity::Panic => b'E',
            _ => b'N',
        };
        put_frame(out, kind, |payload| {
            put_field(payload, b'S', self.severity.label());
            put_field(payload, b'C', "XX000");
            match self.message.as_bytes().first() {
                None => put_field(payload, b'M', "unspecified error"),
                Some(b'S' | b'D' | b'M') => {
                    put_field(payload, b'M', &format!("PCP: {}", self.message));
                }
                Some(_) => put_field(payload, b'M', &self.message),
            }
            if !self.detail.is_empty() {
                put_field(payload, b'D', &self.detail);
            }
            payload.put_u8(0);
        });
    }
}

/// The fields of an `E` or `N` packet by letter, in the order sent. For tests and tools.
pub fn notice_fields(payload: &[u8]) -> Vec<(u8, &[u8])> {
    payload
        .split(|&byte| byte == 0)
        .map_while(|field| field.split_first().map(|(&letter, text)| (letter, text)))
        .collect()
}

fn put_field(payload: &mut BytesMut, letter: u8, text: &str) {
    payload.put_u8(letter);
    put_text(payload, text.as_bytes());
}

/// A NUL inside a text would shift all fields after it; the text ends there instead.
fn put_text(payload: &mut BytesMut, text: &[u8]) {
    let end = text.iter().position(|&byte| byte == 0);
    payload.put_slice(text.get(..end.unwrap_or(text.len())).unwrap_or(text));
    payload.put_u8(0);
}

fn put_frame(out: &mut BytesMut, kind: u8, fill: impl FnOnce(&mut BytesMut)) {
    let mut payload = BytesMut::new();
    fill(&mut payload);
    out.put_u8(kind);
    // No reply comes near 2 GB: the longest text is a statement or a setting.
    out.put_i32(i32::try_from(payload.len() + 4).unwrap_or(i32::MAX));
    out.put_slice(&payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(fill: impl FnOnce(&mut BytesMut)) -> BytesMut {
        let mut out = BytesMut::new();
        fill(&mut out);
        out
    }

    #[test]
    fn a_request_is_taken_once_it_is_complete() {
        let bytes = b"I\x00\x00\x00\x060\x00L\x00\x00\x00\x04";
        for cut in 0..7 {
            let mut buffer = BytesMut::from(&bytes[..cut]);
            assert_eq!(take_request(&mut buffer), Ok(None), "{cut} bytes");
            assert_eq!(buffer.len(), cut);
        }
        let mut buffer = BytesMut::from(&bytes[..]);
        let first = take_request(&mut buffer).unwrap().unwrap();
        assert_eq!((first.kind, &first.payload[..]), (b'I', &b"0\0"[..]));
        let second = take_request(&mut buffer).unwrap().unwrap();
        assert_eq!((second.kind, &second.payload[..]), (b'L', &b""[..]));
        assert!(buffer.is_empty());
    }

    #[test]
    fn the_longest_request_has_length_259_and_the_shortest_4() {
        for length in [i32::MIN, -1, 0, 1, 3, 260, i32::MAX] {
            let mut buffer = encoded(|out| {
                out.put_u8(b'L');
                out.put_i32(length);
            });
            assert_eq!(take_request(&mut buffer), Err(BadLength(length)));
        }
        let mut buffer = encoded(|out| {
            out.put_u8(b'L');
            out.put_i32(259);
            out.put_slice(&[0; 255]);
        });
        assert!(take_request(&mut buffer).unwrap().is_some());
    }

    #[test]
    fn error_fields_come_in_the_order_that_clients_need() {
        let out = encoded(|out| {
            Notice::error("informing node info failed", "invalid node ID : 5").encode(out);
        });
        assert_eq!(
            &out[5..],
            b"SERROR\0CXX000\0Minforming node info failed\0Dinvalid node ID : 5\0\0"
        );
        assert_eq!(out[0], b'E');
        assert_eq!(length_field(&out), i32::try_from(out.len() - 1).ok());
    }

    #[test]
    fn no_message_begins_with_a_letter_that_clients_take_for_a_field() {
        for message in ["Server is busy", "Database node is busy", "More", ""] {
            let out = encoded(|out| Notice::error(message, "").encode(out));
            let fields = notice_fields(&out[5..]);
            let (_, text) = fields.iter().find(|(letter, _)| *letter == b'M').unwrap();
            assert!(!b"SDM".contains(&text[0]), "{message:?}");
            assert!(fields.iter().all(|(letter, _)| *letter != b'D'));
        }
    }

    #[test]
    fn a_nul_inside_a_text_does_not_shift_the_fields_behind_it() {
        let out = encoded(|out| put_texts(out, b'i', &["a\0b", "c"]));
        assert_eq!(&out[5..], b"a\0c\0");
    }

    #[test]
    fn the_row_count_of_the_pool_status_is_binary() {
        let out = encoded(|out| put_binary_array_size(out, b'b', 152));
        assert_eq!(&out[..], b"b\x00\x00\x00\x12ArraySize\0\x00\x00\x00\x98");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_taken_apart_without_a_panic(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)
        ) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = take_request(&mut buffer) {
                assert!(frame.payload.len() <= 255);
                let _ = frame.texts();
                let _ = notice_fields(&frame.payload);
            }
            let mut buffer = BytesMut::from(&bytes[..]);
            while take_reply(&mut buffer).is_some() {}
        }
    }
}
