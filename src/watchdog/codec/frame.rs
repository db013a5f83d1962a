//! Packets on the TCP connections between nodes: type, command id, length, body.

use bytes::{Buf, BytesMut};

use super::DecodeError;

/// Largest body that is taken. The configuration of 128 nodes and 128 backends has some 30 kB.
pub const MAX_PAYLOAD: usize = 1 << 20;

const HEADER: usize = 9;

/// One packet, its body not yet looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    /// Chosen by whoever begins an exchange; a reply has the one of its request.
    pub id: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The bytes to send, for one write: a peer gives up when a packet stalls for a second.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let mut out = Vec::with_capacity(HEADER + self.payload.len());
        out.push(self.kind);
        out.extend(self.id.to_be_bytes());
        out.extend(length.to_be_bytes());
        out.extend(&self.payload);
        out
    }
}

/// Takes the first packet out of what has been received; `None` while it is not complete.
///
/// # Errors
///
/// The length is negative or too large: the connection is to be closed, for nothing after this
/// can be told apart.
pub fn take_frame(buffer: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
    let Some(header) = buffer.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let [kind, i0, i1, i2, i3, length @ ..] = *header;
    let length = i32::from_be_bytes(length);
    let wanted = usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_PAYLOAD)
        .ok_or(DecodeError::Length(length.into()))?;
    if buffer.len() < HEADER + wanted {
        return Ok(None);
    }
    buffer.advance(HEADER);
    Ok(Some(Frame {
        kind,
        id: u32::from_be_bytes([i0, i1, i2, i3]),
        payload: buffer.split_to(wanted).to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_put_together_from_any_pieces() {
        let first = Frame {
            kind: b'J',
            id: 8,
            payload: Vec::new(),
        };
        let second = Frame {
            kind: b'#',
            id: 31,
            payload: b"I".to_vec(),
        };
        let bytes = [first.bytes(), second.bytes()].concat();
        assert_eq!(
            bytes,
            [
                0x4a, 0, 0, 0, 8, 0, 0, 0, 0, 0x23, 0, 0, 0, 0x1f, 0, 0, 0, 1, 0x49
            ]
        );
        for cut in 0..bytes.len() {
            let mut buffer = BytesMut::new();
            let mut got = Vec::new();
            for piece in [&bytes[..cut], &bytes[cut..]] {
                buffer.extend_from_slice(piece);
                while let Some(frame) = take_frame(&mut buffer).unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(got, [first.clone(), second.clone()]);
        }
    }

    #[test]
    fn lengths_that_nobody_needs_are_refused_before_anything_is_kept() {
        for length in [-1, i32::MIN, 1 + (1 << 20), i32::MAX] {
            let mut buffer = BytesMut::from(&b"I\0\0\0\x01"[..]);
            buffer.extend_from_slice(&length.to_be_bytes());
            assert_eq!(
                take_frame(&mut buffer),
                Err(DecodeError::Length(length.into()))
            );
        }
    }
}
