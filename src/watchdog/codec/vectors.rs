//! What stock 4.3.5 nodes said to each other (`fixtures/watchdog`), read and written again.

use std::{fs, path::PathBuf};

use bytes::BytesMut;
use serde_json::Value;

use super::{
    AuthKey, Frame, Message,
    config_data::required_settings,
    heartbeat::{Heartbeat, Size},
    ipc::{IpcRequest, take_ipc_frame},
    ipc_answer::{IpcAnswer, ListedNode, Membership, NodeList, Variable},
    node_info::State,
    take_frame,
};

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fixtures/watchdog"]
        .iter()
        .collect()
}

/// All lines of all files that hold a packet of this kind.
fn lines(protocol: &str) -> Vec<Value> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let values = text.lines().map(|line| serde_json::from_str(line).unwrap());
        found.extend(values.filter(|v: &Value| v["proto"] == protocol && v["hex"].is_string()));
    }
    found
}

fn bytes(line: &Value) -> Vec<u8> {
    let hex = line["hex"].as_str().unwrap();
    (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}

#[test]
fn every_recorded_packet_is_written_as_it_was_read() {
    let (mut count, mut foreign) = (0, 0);
    let mut kinds = Vec::new();
    for line in lines("tcp") {
        let bytes = bytes(&line);
        let mut buffer = BytesMut::from(&bytes[..]);
        let frame = take_frame(&mut buffer).unwrap().unwrap();
        assert!(buffer.is_empty());
        let message = Message::decode(&frame).unwrap();
        let again = message.encode(frame.id).unwrap();
        if by_hand(&frame.payload) {
            // Of the program that joined in 09; stock nodes take what it sends.
            assert_eq!(Message::decode(&again), Ok(message));
            foreign += 1;
            continue;
        }
        assert_eq!(
            String::from_utf8_lossy(&again.payload),
            String::from_utf8_lossy(&frame.payload)
        );
        assert_eq!(again.bytes(), bytes);
        count += 1;
        if !kinds.contains(&frame.kind) {
            kinds.push(frame.kind);
        }
    }
    kinds.sort_unstable();
    assert_eq!(String::from_utf8(kinds).unwrap(), "!#-ABCDEFGHIJKMRSXYZdf");
    assert!(
        count > 650 && foreign < 60,
        "{count} packets, {foreign} of the foreign program"
    );
}

#[test]
fn recorded_announcements_carry_the_hash_of_the_key() {
    let key = AuthKey::new("SpecKey123");
    let (mut right, mut wrong) = (0, 0);
    for line in lines("tcp") {
        let mut buffer = BytesMut::from(&bytes(&line)[..]);
        let frame = take_frame(&mut buffer).unwrap().unwrap();
        let (Message::AddNode(info) | Message::NodeInfo(info)) = Message::decode(&frame).unwrap()
        else {
            continue;
        };
        if info.authkey.is_none() {
            assert!(!info.is_signed_with(&key), "recorded without a key");
            assert!(info.is_signed_with(&AuthKey::default()));
        } else if info.is_signed_with(&key) {
            right += 1;
            assert_eq!(info.clone().sign(&key), *info);
        } else {
            wrong += 1;
        }
    }
    assert!(right > 300, "{right}");
    assert_eq!(wrong, 2, "a foreign node tried another key twice");
}

#[test]
fn the_recorded_hashes_are_ours() {
    let text = fs::read_to_string(folder().join("00-hmac.json")).unwrap();
    let samples: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(samples.len(), 5);
    for sample in samples {
        let key = AuthKey::new(sample["wd_authkey"].as_str().unwrap());
        let hash = key.sign(sample["input"].as_str().unwrap());
        assert_eq!(hash.as_deref(), sample["hmac_sha256_hex"].as_str());
    }
}

/// Bytes of a long heartbeat that the structure leaves to chance.
fn defined(bytes: &[u8], signed: bool) -> Vec<u8> {
    let host = bytes.iter().position(|b| *b == 0).unwrap();
    let hash = if signed { &bytes[280..345] } else { &[] };
    [&bytes[..=host], &bytes[256..260], &bytes[264..280], hash].concat()
}

#[test]
fn recorded_heartbeats_are_read_and_written() {
    let text = fs::read_to_string(folder().join("00-heartbeats.jsonl")).unwrap();
    let mut count = 0;
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let bytes = bytes(&line);
        let key = match line["hash_recomputed_ok"] {
            Value::Null => AuthKey::default(),
            _ => AuthKey::new("SpecKey123"),
        };
        let (heartbeat, right) = Heartbeat::decode(&bytes, &key).unwrap();
        assert_eq!(Some(heartbeat.host.as_str()), line["from_host"].as_str());
        assert_eq!(line["from_pgpool_port"], heartbeat.pgpool_port);
        assert_eq!(line["tv_sec"], heartbeat.sent.0);
        assert_eq!(line["tv_usec"], heartbeat.sent.1);
        assert_eq!(right, line["hash_recomputed_ok"] != Value::Bool(false));
        if right {
            let again = heartbeat.encode(Size::Long, &key).unwrap();
            assert_eq!(again.len(), bytes.len());
            assert_eq!(defined(&again, key.is_set()), defined(&bytes, key.is_set()));
        }
        count += 1;
    }
    assert_eq!(count, 18);
}

/// What was not written by Pgpool-II has blanks in other places than before arrays.
fn by_hand(payload: &[u8]) -> bool {
    let text = String::from_utf8_lossy(payload);
    text.contains("\": ") && text.replace("\": [", "").contains("\": ")
}

#[test]
fn recorded_local_requests_are_read_and_written() {
    let mut count = 0;
    for line in lines("ipc").iter().filter(|l| l["from"] == "client") {
        let bytes = bytes(line);
        let frame = take_ipc_frame(&mut BytesMut::from(&bytes[..]))
            .unwrap()
            .unwrap();
        if frame.kind == b'Z' {
            assert!(IpcRequest::decode(&frame).is_err(), "an unknown type");
            continue;
        }
        let request = IpcRequest::decode(&frame).unwrap();
        let key = AuthKey::new("SpecKey123");
        let has_key = key.is(request.credentials().auth_key.as_deref());
        let wrong = line["payload"]["IPCAuthKey"] == "wrong";
        let missing = line["payload"]["IPCAuthKey"].is_null();
        assert_eq!(has_key, !wrong && !missing);
        if !by_hand(&frame.payload) {
            assert_eq!(request.encode().unwrap().bytes(), bytes);
            count += 1;
        }
    }
    assert!(count >= 20, "{count}");
}

/// The value that an answer was made of, from the recording's own decoding.
fn answer(line: &Value) -> IpcAnswer {
    let payload = &line["payload"];
    let number = |value: &Value| i32::try_from(value.as_i64().unwrap()).unwrap();
    let text = |value: &Value| match value.as_str().unwrap() {
        "Not_Set" => None,
        text => Some(text.to_owned()),
    };
    if line["char"] == "6" {
        let texts = [
            super::ipc_answer::INVALID_KEY,
            super::ipc_answer::UNKNOWN_TYPE,
            super::ipc_answer::UNKNOWN_VARIABLE,
        ];
        let text = texts.into_iter().find(|t| payload["MESSAGE"] == *t);
        return IpcAnswer::Bad(Some(text.expect("a known text")));
    }
    if payload.is_null() {
        return IpcAnswer::Ok;
    }
    if payload["ValueDataType"] == 3 {
        return IpcAnswer::Variable(Variable::Bool(payload["ValueData"] == 1));
    }
    if payload["ValueDataType"] == 1 {
        return IpcAnswer::Variable(Variable::Int(number(&payload["ValueData"])));
    }
    let frame = |kind| Frame {
        kind,
        id: 0,
        payload: bytes(line)[5..].to_vec(),
    };
    if payload["FAILOVER_COMMAND_RESULT"].is_i64() {
        return match Message::decode(&frame(b'-')) {
            Ok(Message::FailoverResult(result)) => IpcAnswer::Result(result),
            other => panic!("{other:?}"),
        };
    }
    if payload["BackendNodeStatusList"].is_array() {
        return match Message::decode(&frame(b'D')) {
            Ok(Message::Data(status)) => IpcAnswer::Data(status),
            other => panic!("{other:?}"),
        };
    }
    let nodes = payload["WatchdogNodes"].as_array().unwrap().iter();
    IpcAnswer::NodeList(NodeList {
        remote_nodes: number(&payload["RemoteNodeCount"]),
        member_remote_nodes: number(&payload["MemberRemoteNodeCount"]),
        required_for_quorum: number(&payload["NodesRequireForQuorum"]),
        quorum: number(&payload["QuorumStatus"]),
        alive_nodes: number(&payload["AliveNodeCount"]),
        escalated: payload["Escalated"] == 1,
        leader: Some((
            text(&payload["LeaderNodeName"]).unwrap(),
            text(&payload["LeaderHostName"]).unwrap(),
        )),
        nodes: nodes
            .map(|node| ListedNode {
                id: number(&node["ID"]),
                state: State::numbered(number(&node["State"])),
                membership: if node["MembershipString"] == "MEMBER" {
                    Membership::Member
                } else {
                    Membership::NotSet
                },
                name: text(&node["NodeName"]),
                host: text(&node["HostName"]),
                delegate_ip: text(&node["DelegateIP"]),
                wd_port: number(&node["WdPort"]),
                pgpool_port: number(&node["PgpoolPort"]),
                priority: number(&node["Priority"]),
            })
            .collect(),
    })
}

#[test]
fn recorded_local_answers_are_written_byte_for_byte() {
    let mut count = 0;
    for line in lines("ipc").iter().filter(|l| l["from"] == "watchdog") {
        let encoded = answer(line).encode().unwrap();
        let expected = bytes(line);
        assert_eq!(
            String::from_utf8_lossy(&encoded.payload),
            String::from_utf8_lossy(&expected[5..])
        );
        assert_eq!(encoded.bytes(), expected);
        count += 1;
    }
    assert!(count > 30, "{count}");
}

#[test]
fn a_number_that_no_node_has_is_listed_as_the_original_does() {
    let found = lines("ipc").into_iter().any(|line| {
        let node = &line["payload"]["WatchdogNodes"][0];
        let unknown = node["ID"] == -1;
        if unknown {
            let IpcAnswer::NodeList(list) = answer(&line) else {
                panic!("a list");
            };
            assert_eq!(list.nodes, [ListedNode::unknown()]);
        }
        unknown
    });
    assert!(found);
}

#[test]
fn configuration_data_holds_every_setting_that_a_leader_wants() {
    for line in lines("tcp").iter().filter(|l| l["char"] == "Z") {
        let frame = take_frame(&mut BytesMut::from(&bytes(line)[..]))
            .unwrap()
            .unwrap();
        let Ok(Message::Config(data)) = Message::decode(&frame) else {
            panic!("configuration data");
        };
        assert!(required_settings().all(|name| data.number(name).is_some()));
    }
}
