//! What stock nodes have sent, given to our core in the place of each of them.

use std::fs;

use bytes::BytesMut;
use serde_json::Value;

use super::*;
use crate::watchdog::codec::{AuthKey, take_frame};

/// Node `own` of the recorded cluster.
fn settings(own: usize) -> Settings {
    let mut settings = testing::settings(own, 3);
    let host = |node: usize| format!("10.77.0.{}", node + 1);
    settings.own.host = host(own);
    let others = (0..3).filter(|node| *node != own);
    for (member, node) in settings.others.iter_mut().zip(others) {
        member.host = host(node);
    }
    settings.authkey = AuthKey::new("SpecKey123");
    settings
}

/// Plays what the file has for `own`, with its times; gives the types of packets that were answered.
fn play(file: &std::path::Path, own: usize) -> usize {
    let base = Instant::now();
    let mut core = Core::new(Arc::new(settings(own)), "x".to_owned(), base);
    let mut sent = 0;
    let mut count = |actions: Vec<Action>| {
        for action in actions {
            if let Action::Send { id, message, .. } = action {
                sent += 1;
                assert!(message.encode(id).is_ok(), "{message:?}");
            }
        }
    };
    count(core.handle(
        Event::Start {
            memory: Memory::default(),
        },
        base,
    ));
    let me = format!("n{}", own + 1);
    for line in fs::read_to_string(file).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["to"] != me.as_str() || line["proto"] != "tcp" {
            continue;
        }
        let now = base + Duration::from_secs_f64(line["t"].as_f64().unwrap());
        count(core.handle(Event::Timer, now));
        let from = line["from"].as_str().unwrap();
        // Every recorded connection is one that came in.
        let number = line["conn"].as_str().unwrap().bytes();
        let number = number.fold(0_u64, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
        let conn = Conn::In(number);
        match line["event"].as_str() {
            Some("SYN" | "SYN-ACK") => count(core.handle(
                Event::Accepted {
                    conn,
                    source: from.replace('n', "10.77.0."),
                },
                now,
            )),
            Some(_) => count(core.handle(Event::Closed { conn }, now)),
            None => {
                let hex = line["hex"].as_str().unwrap();
                let bytes: Vec<u8> = (0..hex.len() / 2)
                    .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
                    .collect();
                let frame = take_frame(&mut BytesMut::from(&bytes[..]))
                    .unwrap()
                    .unwrap();
                let message = Message::decode(&frame).unwrap();
                let id = frame.id;
                count(core.handle(Event::Received { conn, id, message }, now));
            }
        }
    }
    sent
}

#[test]
fn every_recording_can_be_played_to_every_node() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/watchdog");
    let mut sent = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "jsonl") {
            for own in 0..3 {
                sent += play(&path, own);
            }
        }
    }
    assert!(sent > 200, "{sent} packets");
}
