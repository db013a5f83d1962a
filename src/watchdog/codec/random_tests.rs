//! Decoding is total: random, cut and changed inputs give a value or an error, never a panic; what
//! crashes the original is refused.

use bytes::BytesMut;

use super::{
    AuthKey, DecodeError, EncodeError, Frame, Message,
    heartbeat::Heartbeat,
    ipc::{IpcFrame, IpcRequest, take_ipc_frame},
    status::BackendStatus,
    take_frame,
};
use crate::failover::sim::random::Random;

/// Fragments of real bodies, so that random ones come near to good ones.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\\u12",
    "null",
    "true",
    "1",
    "-1",
    "4294967296",
    "1e9",
    "0.5",
    "\"State\":",
    "\"WdPort\":",
    "\"PgpoolPort\":",
    "\"WdPriority\":",
    "\"PgpoolNodeId\":",
    "\"NodeName\":\"n\"",
    "\"HostName\":\"h\"",
    "\"VIP\":\"\"",
    "\"SecondsSinceStartup\":0",
    "\"SecondsSinceCurrentState\":0",
    "\"QuorumStatus\":0",
    "\"AliveNodeCount\":0",
    "\"Escalated\":1",
    "\"Function\":\"DEGENERATE_BACKEND_REQUEST\"",
    "\"NodeCount\":1",
    "\"NodeIdList\":[1]",
    "\"NodeIdList\":[0,1]",
    "\"nArgs\":0",
    "\"Command\":\"x\"",
    "\"BackendNodeStatusList\":[1,9]",
    "\u{0}",
    "\u{ff}",
    "é",
];

fn body(random: &mut Random) -> Vec<u8> {
    let length = random.below(24);
    let mut out = Vec::new();
    if random.chance(70) {
        out.push(b'{');
    }
    for _ in 0..length {
        if random.chance(10) {
            out.push(u8::try_from(random.below(256)).unwrap());
        } else {
            out.extend(WORDS[random.node(WORDS.len())].as_bytes());
            if random.chance(40) {
                out.push(b',');
            }
        }
    }
    if random.chance(70) {
        out.push(b'}');
    }
    out
}

fn decode_all(payload: &[u8]) {
    for kind in 0..=255 {
        let frame = Frame {
            kind,
            id: 7,
            payload: payload.to_vec(),
        };
        if let Ok(message) = Message::decode(&frame) {
            // Whatever was understood can be said again, unless it must not be.
            if let Ok(frame) = message.encode(7) {
                let text = String::from_utf8_lossy(&frame.payload).into_owned();
                assert!(!text.contains("[]") && !text.contains("{}"), "{text}");
                assert_eq!(Message::decode(&frame).as_ref(), Ok(&message));
            }
        }
        let frame = IpcFrame {
            kind,
            payload: payload.to_vec(),
        };
        let _ = IpcRequest::decode(&frame);
    }
}

#[test]
fn random_bodies_never_panic() {
    let mut random = Random(0x0077_6174_6368);
    let rounds = if cfg!(debug_assertions) {
        1_500
    } else {
        20_000
    };
    for _ in 0..rounds {
        decode_all(&body(&mut random));
    }
}

#[test]
fn random_streams_are_cut_into_packets_or_refused() {
    let mut random = Random(4711);
    for _ in 0..2_000 {
        let length = random.node(400);
        let mut stream: Vec<u8> = (0..length)
            .map(|_| u8::try_from(random.below(256)).unwrap())
            .collect();
        if random.chance(60) && stream.len() > 9 {
            stream[5..9].copy_from_slice(&[0, 0, 0, u8::try_from(random.below(64)).unwrap()]);
            stream[1..5].copy_from_slice(&[0, 0, 0, u8::try_from(random.below(64)).unwrap()]);
        }
        let mut buffer = BytesMut::from(&stream[..]);
        while let Ok(Some(frame)) = take_frame(&mut buffer) {
            let _ = Message::decode(&frame);
        }
        let mut buffer = BytesMut::from(&stream[..]);
        while let Ok(Some(frame)) = take_ipc_frame(&mut buffer) {
            let _ = IpcRequest::decode(&frame);
        }
        let _ = Heartbeat::decode(&stream, &AuthKey::new("k"));
        for size in [224, 352] {
            stream.resize(size, 0xff);
            let _ = Heartbeat::decode(&stream, &AuthKey::new("k"));
        }
    }
}

#[test]
fn deep_nesting_is_refused() {
    for body in ["[".repeat(100_000), "{\"a\":".repeat(100_000)] {
        let frame = Frame {
            kind: b'I',
            id: 1,
            payload: body.into_bytes(),
        };
        assert!(matches!(
            Message::decode(&frame),
            Err(DecodeError::NotJson(_))
        ));
    }
}

fn failover(body: &str) -> Result<Message, DecodeError> {
    Message::decode(&Frame {
        kind: b'f',
        id: 3,
        payload: body.as_bytes().to_vec(),
    })
}

#[test]
fn a_request_for_two_backends_is_an_error() {
    let text = |list: &str, count: usize| {
        format!(
            "{{\"Function\":\"DEGENERATE_BACKEND_REQUEST\",\"Flags\":1,\"NodeCount\":{count},\"NodeIdList\": {list}}}"
        )
    };
    assert_eq!(
        failover(&text("[0,1]", 2)),
        Err(DecodeError::SeveralBackends(2))
    );
    assert_eq!(
        failover(&text("[]", 0)),
        Err(DecodeError::Missing("NodeIdList"))
    );
    assert!(failover(&text("[0]", 2)).is_err());
    assert!(failover(&text("[-1]", 1)).is_err());
    assert!(failover(&text("[0]", 1)).is_ok());
    assert_eq!(
        failover("{\"Function\":\"DANCE\"}"),
        Err(DecodeError::UnknownFunction("DANCE".to_owned()))
    );
}

#[test]
fn lists_that_would_be_empty_cannot_be_sent() {
    let data = Message::Config(Box::default());
    assert_eq!(data.encode(1), Err(EncodeError::Empty("backend_desc")));
    let status = Message::Data(BackendStatus {
        nodes: Vec::new(),
        primary: -1,
        quarantined_primary: None,
        node_name: String::new(),
    });
    assert_eq!(
        status.encode(1),
        Err(EncodeError::Empty("BackendNodeStatusList"))
    );
}
