//! The recorded PCP dialogues of `fixtures/pcp`, through codec, dialogue and layouts.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use md5::{Digest, Md5};
use pgpool_rs::{
    auth::pcp_conf::PcpConf,
    config::{Release, settings::CompatVersion},
    pcp::{
        codec::{self, BadLength, Frame},
        dialogue::{Action, Dialogue, Event, LoginVerdict},
        layout::{NodeInfoLayout, NodeRow, StandbyDelay},
        request::{self, Request},
    },
};
use serde_json::Value;

struct Vector {
    name: String,
    tool: String,
    server: String,
    user: String,
    password_of_conf: String,
    password_of_client: String,
    client: Vec<u8>,
    server_bytes: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/pcp");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    let vectors: Vec<Vector> = files
        .iter()
        .map(|path| {
            let json: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
            let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
            let bytes = |key: &str| -> Vec<u8> {
                let chunks = json[key].as_array().unwrap();
                chunks
                    .iter()
                    .flat_map(|chunk| unhex(chunk.as_str().unwrap()))
                    .collect()
            };
            Vector {
                name: text("name"),
                tool: text("tool_version"),
                server: text("server_version"),
                user: text("user"),
                password_of_conf: text("password_in_pcp_conf"),
                password_of_client: text("password_used_by_client"),
                client: bytes("client_bytes_hex"),
                server_bytes: bytes("server_bytes_hex"),
            }
        })
        .collect();
    assert!(vectors.len() >= 148, "only {} vectors", vectors.len());
    vectors
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// The requests, and the bad length that ends them, if any.
fn requests(vector: &Vector) -> (Vec<Frame>, Option<BadLength>) {
    let mut buffer = BytesMut::from(&vector.client[..]);
    let mut frames = Vec::new();
    loop {
        match codec::take_request(&mut buffer) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => {
                assert!(
                    buffer.is_empty(),
                    "{}: {} bytes left",
                    vector.name,
                    buffer.len()
                );
                return (frames, None);
            }
            Err(bad) => return (frames, Some(bad)),
        }
    }
}

fn replies(vector: &Vector) -> Vec<Frame> {
    let mut buffer = BytesMut::from(&vector.server_bytes[..]);
    let frames = std::iter::from_fn(|| codec::take_reply(&mut buffer)).collect();
    assert!(
        buffer.is_empty(),
        "{}: {} bytes left",
        vector.name,
        buffer.len()
    );
    frames
}

/// E and N packets without file and line, which are the original's own.
fn without_place(frame: &Frame) -> Frame {
    if !b"EN".contains(&frame.kind) {
        return frame.clone();
    }
    let mut payload = Vec::new();
    for (letter, text) in codec::notice_fields(&frame.payload) {
        if !b"FL".contains(&letter) {
            payload.push(letter);
            payload.extend_from_slice(text);
            payload.push(0);
        }
    }
    payload.push(0);
    Frame {
        kind: frame.kind,
        payload: Bytes::from(payload),
    }
}

fn compat(version: &str) -> CompatVersion {
    let mut numbers = version.split('.').map(|n| n.parse().unwrap());
    CompatVersion {
        release: Release::new(numbers.next().unwrap(), numbers.next().unwrap()),
        patch: numbers.next().unwrap(),
    }
}

#[test]
fn every_recorded_frame_is_decoded_and_encoded_again_byte_for_byte() {
    for vector in vectors() {
        let (frames, bad) = requests(&vector);
        let mut again = BytesMut::new();
        for frame in &frames {
            frame.encode(&mut again);
        }
        assert!(vector.client.starts_with(&again), "{}", vector.name);
        assert_eq!(
            bad.is_some(),
            vector.name.contains("bad_length"),
            "{}",
            vector.name
        );
        if bad.is_none() {
            assert_eq!(again.len(), vector.client.len(), "{}", vector.name);
        }

        again.clear();
        for frame in replies(&vector) {
            frame.encode(&mut again);
        }
        assert_eq!(again, vector.server_bytes, "{}", vector.name);
    }
}

#[test]
fn texts_of_replies_are_put_together_again_byte_for_byte() {
    for vector in vectors() {
        for frame in replies(&vector) {
            let mut again = BytesMut::new();
            match frame.kind {
                b'm' => codec::put_salt(&mut again, frame.payload[..].try_into().unwrap()),
                b'b' if frame.payload.starts_with(b"ArraySize\0") => {
                    let rows = u32::from_be_bytes(frame.payload[10..].try_into().unwrap());
                    codec::put_binary_array_size(&mut again, b'b', rows as usize);
                }
                b'E' | b'N' => continue,
                kind => codec::put_texts(&mut again, kind, &frame.texts()),
            }
            let mut expected = BytesMut::new();
            frame.encode(&mut expected);
            assert_eq!(again, expected, "{}", vector.name);
        }
    }
}

#[test]
fn every_recorded_login_is_accepted_for_the_password_it_was_made_with() {
    let mut logins = 0;
    for vector in vectors() {
        let salts: Vec<[u8; 4]> = replies(&vector)
            .iter()
            .filter(|frame| frame.kind == b'm')
            .map(|frame| frame.payload[..].try_into().unwrap())
            .collect();
        let mut asked = 0;
        for frame in requests(&vector).0 {
            match request::parse(&frame) {
                Request::AskSalt => asked += 1,
                Request::Login { user, response } if asked > 0 => {
                    assert_eq!(user, vector.user.as_bytes(), "{}", vector.name);
                    let stored: String = Md5::digest(&vector.password_of_client)
                        .iter()
                        .map(|byte| format!("{byte:02x}"))
                        .collect();
                    let conf = PcpConf::parse(
                        format!("{}:{stored}\n", vector.user).as_bytes(),
                        "pcp.conf".as_ref(),
                    );
                    assert!(
                        conf.verify(&user, &response, salts[asked - 1]),
                        "{}",
                        vector.name
                    );
                    logins += 1;
                }
                _ => {}
            }
        }
    }
    assert!(logins >= 146, "{logins} logins");
}

/// Answers of the original before, around and instead of a command come out of the dialogue
/// as they were recorded; replies to commands are taken from the record.
#[test]
fn every_recorded_dialogue_takes_the_recorded_course() {
    for vector in vectors() {
        let (frames, bad) = requests(&vector);
        let recorded = replies(&vector);
        let mut expected = recorded.iter().map(without_place).peekable();
        let mut salts = recorded
            .iter()
            .filter(|frame| frame.kind == b'm')
            .map(|frame| frame.payload[..].try_into().unwrap());
        let mut dialogue = Dialogue::new();
        let mut closed = false;

        let mut events: Vec<Event> = frames.into_iter().map(Event::Frame).collect();
        events.extend(bad.map(Event::BadLength));
        for event in events {
            let mut todo = vec![event];
            while let Some(event) = todo.pop() {
                for action in dialogue.handle(event, || salts.next()) {
                    let mut sent = BytesMut::new();
                    match action {
                        Action::Send(bytes) => sent = bytes,
                        Action::Refuse(notice) => notice.encode(&mut sent),
                        Action::Close => closed = true,
                        Action::CheckLogin(attempt) => {
                            let good = vector.password_of_client == vector.password_of_conf
                                && vector.name != "auth_unknown_user";
                            assert_eq!(attempt.user, vector.user.as_bytes());
                            todo.push(Event::LoginChecked(if good {
                                LoginVerdict::Accepted
                            } else {
                                LoginVerdict::Wrong
                            }));
                        }
                        Action::Run(_) => {
                            let reply = expected
                                .find(|frame| frame.kind != b'N')
                                .unwrap_or_else(|| panic!("{}", vector.name));
                            let mut last = reply.clone();
                            // A list goes on until its end.
                            while last
                                .texts()
                                .first()
                                .is_some_and(|t| *t != b"CommandComplete")
                                && expected.peek().is_some_and(|next| next.kind == reply.kind)
                            {
                                last = expected.next().unwrap();
                            }
                            // Remarks that belong to the command are its own.
                            while expected.peek().is_some_and(|next| {
                                next.kind == b'N'
                                    && !next.payload.windows(8).any(|w| w == b"received")
                            }) {
                                expected.next();
                            }
                        }
                    }
                    while let Some(frame) = codec::take_reply(&mut sent) {
                        // What the 4.3.5 server did not know is served here.
                        assert_eq!(Some(frame), expected.next(), "{}", vector.name);
                    }
                }
            }
        }
        assert_eq!(expected.next(), None, "{}", vector.name);
        let says_goodbye = vector.client.ends_with(b"X\0\0\0\x04");
        assert!(closed || !says_goodbye, "{}", vector.name);
    }
}

#[test]
fn recorded_node_infos_are_made_by_the_layout_of_their_release() {
    let mut packets = 0;
    for vector in vectors() {
        // The scripted server spoke the layout of the tool it served, but for the older ones.
        let version = match vector.name.as_str() {
            "mock_40client_node_info_7fields" => compat("4.0.17"),
            "mock_40client_node_info_8fields" => compat("4.0.18"),
            "mock_40client_node_info_10fields" => compat("4.2.8"),
            "mock_arraysize_smaller_than_rows" | "mock_unused_status" => continue,
            _ if vector.server == "mock" => compat(&vector.tool),
            _ => compat(&vector.server),
        };
        let frames: Vec<Frame> = replies(&vector)
            .into_iter()
            .filter(|frame| frame.kind == b'i')
            .collect();
        let texts: Vec<Vec<String>> = frames
            .iter()
            .map(|frame| {
                let texts = frame.texts();
                texts
                    .iter()
                    .map(|text| String::from_utf8(text.to_vec()).unwrap())
                    .collect()
            })
            .collect();
        let mut rows: Vec<NodeRow<'_>> = Vec::new();
        let mut single = Vec::new();
        for fields in &texts {
            match (fields[0].as_str(), fields.len()) {
                ("NodeInfo", 13) => rows.push(row(fields, [4, 5, 6, 7, 8, 0, 9, 10, 11, 12])),
                ("NodeInfo", 14) => rows.push(row(fields, [4, 5, 6, 7, 8, 9, 10, 11, 12, 13])),
                ("CommandComplete", 8) => single.push(row(fields, [0, 0, 4, 5, 0, 0, 6, 0, 0, 7])),
                ("CommandComplete", 9) => single.push(row(fields, [4, 0, 5, 6, 0, 0, 7, 0, 0, 8])),
                ("CommandComplete", 11) => {
                    single.push(row(fields, [4, 0, 5, 6, 0, 0, 7, 8, 9, 10]));
                }
                ("ArraySize", 2) | ("CommandComplete", 1) => {}
                other => panic!("{}: {other:?}", vector.name),
            }
        }
        let mut out = BytesMut::new();
        // One list (or packet) per request; a connection may have several.
        let lists = texts.iter().filter(|f| f[0] == "ArraySize").count();
        let layout = NodeInfoLayout::of(version);
        if !single.is_empty() {
            layout.encode(&mut out, &single);
        } else if lists == 1 {
            layout.encode(&mut out, &rows);
        } else {
            continue;
        }
        let mut expected = BytesMut::new();
        for frame in &frames {
            frame.encode(&mut expected);
        }
        assert_eq!(out, expected, "{}", vector.name);
        packets += 1;
    }
    assert!(packets >= 20, "{packets}");
}

/// `places`: quarantine, pg_status, weight, role, pg_role, delay by time, delay, the two
/// replication states, time; 0 where the layout has no such field.
fn row(fields: &[String], places: [usize; 10]) -> NodeRow<'_> {
    let text = |place: usize| {
        if place == 0 {
            ""
        } else {
            fields[place].as_str()
        }
    };
    let [
        quarantine,
        pg_status,
        weight,
        role,
        pg_role,
        by_time,
        delay,
        state,
        sync,
        time,
    ] = places;
    let delay: u64 = text(delay).parse().unwrap();
    NodeRow {
        hostname: &fields[1],
        port: fields[2].parse().unwrap(),
        status: fields[3].parse().unwrap(),
        quarantine: text(quarantine) == "1",
        pg_status: text(pg_status),
        weight: text(weight).parse::<f64>().unwrap() / 2_147_483_647.0,
        role: text(role).parse().unwrap(),
        pg_role: text(pg_role),
        delay: StandbyDelay {
            bytes: delay,
            microseconds: (text(by_time) == "1").then_some(delay.into()),
        },
        replication_state: text(state),
        replication_sync_state: text(sync),
        status_changed: SystemTime::UNIX_EPOCH + Duration::from_secs(text(time).parse().unwrap()),
    }
}
