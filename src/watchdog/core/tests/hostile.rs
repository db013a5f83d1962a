//! Packets that no honest node sends, from nodes that belong to the cluster: extreme numbers, in any order, at
//! any time. Whatever they say, this process lives, and what it answers can be sent.

use super::*;
use crate::{failover::sim::random::Random, watchdog::codec::Frame};

const NUMBERS: &[i64] = &[
    i64::MIN,
    -2_147_483_648,
    -2,
    -1,
    0,
    1,
    2,
    3,
    4,
    7,
    2_147_483_646,
    2_147_483_647,
    4_294_967_295,
    i64::MAX,
];

const KINDS: &[u8] = b"ABCDEFGHIJKMNQRSVXYZ-#!frdswW";

/// Members of all bodies that have one; those that a packet does not know are skipped.
const INTS: &[&str] = &[
    "SecondsSinceStartup",
    "SecondsSinceCurrentState",
    "QuorumStatus",
    "AliveNodeCount",
    "WdPriority",
    "PgpoolRsWriteLeaseMs",
    "PrimaryNodeId",
    "PgpoolRsQuarantinedPrimary",
    "Flags",
    "Round",
    "Reign",
    "ReignNode",
    "PictureReign",
    "PictureNode",
    "PictureChange",
    "RemainingMs",
    "HeardBeforeMs",
    "IdleMs",
    "health_check_period",
    "health_check_max_retries",
    "health_check_retry_delay",
    "FAILOVER_COMMAND_RESULT",
];

fn number(random: &mut Random) -> i64 {
    NUMBERS[random.node(NUMBERS.len())]
}

/// A body of this node in which numbers are extreme and the rest is right, so that it is understood.
fn body(random: &mut Random, peer: PeerId) -> String {
    let member = testing::member(node_of(peer));
    let mut body = format!(
        r#"{{"State":{},"WdPort":{},"PgpoolPort":{},"PgpoolNodeId":{},"NodeName":"n","HostName":"{}","VIP":"","Escalated":{},"Pause":{},"Fresh":{},"Paused":{},"NodeCount":1,"Command":"RELOAD_CONFIG_CLUSTER","nArgs":0,"DataRequestType":"BackendStatus","DATA_VERSION_MAJOR":"1","DATA_VERSION_MINOR":"{}""#,
        random.below(13),
        member.wd_port,
        member.pgpool_port,
        node_of(peer),
        member.host,
        random.below(2),
        random.below(2),
        random.below(2),
        random.below(2),
        random.below(3),
    );
    let words = [
        "DEGENERATE_BACKEND_REQUEST",
        "FAILBACK_REQUEST",
        "PROMOTE_BACKEND_REQUEST",
        "START_RECOVERY",
    ];
    let (function, node) = (words[random.node(words.len())], number(random).max(0));
    body += &format!(r#","Function":"{function}","NodeIdList":[{node}]"#);
    body += &format!(
        r#","BackendNodeStatusList":[{},{},{}]"#,
        random.below(4),
        random.below(4),
        random.below(4)
    );
    // Most have small numbers, or hardly a packet would be read.
    let gentle = random.chance(50);
    for name in INTS {
        let value = if gentle && random.chance(90) {
            i64::try_from(random.below(4)).unwrap()
        } else {
            number(random)
        };
        body += &format!(r#","{name}":{value}"#);
    }
    let check = |random: &mut Random| {
        format!(
            r#"{{"health_check_timeout":{},"health_check_period":{},"health_check_max_retries":{},"health_check_retry_delay":{},"connect_timeout":{}}}"#,
            number(random),
            number(random),
            number(random),
            number(random),
            number(random),
        )
    };
    if random.chance(50) {
        body += &format!(r#","health_check_params":[{}]"#, check(random));
    }
    body + "}"
}

fn packet(random: &mut Random, peer: PeerId) -> Frame {
    let kind = KINDS[random.node(KINDS.len())];
    let payload = if kind == b'#' {
        let services = b"LFBEMXRVIYZ";
        vec![services[random.node(services.len())]]
    } else {
        body(random, peer).into_bytes()
    };
    Frame {
        kind,
        id: 0,
        payload,
    }
}

/// How many packets were understood.
fn torment(seed: u64, packets: usize) -> usize {
    let mut random = Random(seed);
    let mut bench = Bench::new();
    match random.below(3) {
        0 => bench.lead(&[ours(0, State::Standby), ours(1, State::Standby)]),
        1 => bench.lead(&[info_of(0, State::Standby), info_of(1, State::Standby)]),
        _ => bench.follow(ours(0, State::Leader)),
    }
    let mut understood = 0;
    for _ in 0..packets {
        let peer = random.node(2);
        let frame = packet(&mut random, peer);
        let id = match random.below(3) {
            // An answer to what was sent last.
            0 => bench.core.last_id,
            1 => bench.core.lease_round(),
            _ => u32::MAX,
        };
        let conn = inbound(peer);
        match Message::decode(&frame) {
            Ok(message) => {
                understood += 1;
                bench.event(Event::Received { conn, id, message });
            }
            Err(_) => bench.event(Event::Garbled {
                conn,
                id,
                kind: frame.kind,
            }),
        }
        if random.chance(20) {
            bench.event(Event::Request {
                ticket: 1,
                request: down(random.node(3)),
            });
        }
        if random.chance(30) {
            bench.after(random.millis(0, 40_000));
        }
        if bench.core.peers[peer].inbound != Some(conn) {
            bench.meet(ours(peer, State::Standby));
            bench.say(peer, Message::JoinLeader);
        }
        bench.done();
    }
    understood
}

#[test]
fn extreme_numbers_end_no_process() {
    let rounds = if cfg!(debug_assertions) { 25 } else { 2_000 };
    let understood: usize = (1..=rounds).map(|seed| torment(seed, 100)).sum();
    let all = usize::try_from(rounds).unwrap() * 100;
    assert!(understood > all / 2, "{understood} of {all} were read");
}

#[test]
fn settings_that_no_node_can_have_are_not_read() {
    let mut bench = Bench::new();
    bench.lead(&[info_of(0, State::Standby)]);
    for period in [i64::MAX, i64::from(i32::MAX)] {
        let text = format!(r#"{{"health_check_period":{period}}}"#);
        let frame = Frame {
            kind: b'Z',
            id: 7,
            payload: text.into_bytes(),
        };
        if let Ok(message) = Message::decode(&frame) {
            bench.say(0, message);
        }
        bench.event(Event::Request {
            ticket: 1,
            request: down(1),
        });
    }
    assert_eq!(
        bench.core.votes.next(),
        Some(bench.now + Duration::from_secs(3600))
    );
}
