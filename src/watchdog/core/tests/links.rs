//! Who is at the other end.

use super::*;
use crate::watchdog::codec::AuthKey;

/// What becomes of an introduction from this address.
fn introduce(bench: &mut Bench, source: &str, info: NodeInfo) -> String {
    let conn = Conn::In(0);
    bench.event(Event::Accepted {
        conn,
        source: source.to_owned(),
    });
    bench.packet(conn, Message::AddNode(Box::new(info)));
    bench.done()
}

fn started(change: impl FnOnce(&mut Settings)) -> Bench {
    let mut bench = Bench::with(change);
    bench.start();
    bench.done();
    bench
}

#[test]
fn a_wrong_or_missing_key_is_refused() {
    let key = AuthKey::new("k");
    let with_key = |s: &mut Settings| s.authkey = AuthKey::new("k");
    let info = info_of(0, State::Loading);
    let refused = "0R= close In(0)";
    for wrong in [info.clone(), info.clone().sign(&AuthKey::new("other"))] {
        assert_eq!(
            introduce(&mut started(with_key), "10.0.0.0", wrong),
            refused
        );
    }
    let right = introduce(&mut started(with_key), "10.0.0.0", info.sign(&key));
    assert_eq!(right, "");
}

#[test]
fn only_configured_nodes_are_taken() {
    let change = |change: fn(&mut NodeInfo)| {
        let mut info = info_of(0, State::Loading);
        change(&mut info);
        introduce(&mut started(|_| {}), "10.0.0.0", info)
    };
    let refused = "0R= close In(0)";
    assert_eq!(change(|i| i.wd_port = 9001), refused);
    assert_eq!(change(|i| i.pgpool_port = 1), refused);
    assert_eq!(change(|i| i.node_id = None), refused);
    assert_eq!(change(|i| i.node_id = Some(2)), refused);
    assert_eq!(
        change(|i| i.host = "elsewhere".to_owned()),
        "",
        "the address is right"
    );
    let foreign = introduce(
        &mut started(|_| {}),
        "1.2.3.4",
        NodeInfo {
            host: "elsewhere".to_owned(),
            ..info_of(0, State::Loading)
        },
    );
    assert_eq!(foreign, refused);
}

#[test]
fn a_file_without_node_ids_takes_any_but_the_own_one() {
    let unnumbered = |s: &mut Settings| {
        for member in &mut s.others {
            member.node_id = None;
        }
    };
    let with = |node_id| NodeInfo {
        node_id,
        ..info_of(0, State::Loading)
    };
    for node_id in [None, Some(7)] {
        assert_eq!(
            introduce(&mut started(unnumbered), "10.0.0.0", with(node_id)),
            ""
        );
    }
}

#[test]
fn the_own_number_gets_no_answer_and_another_first_packet_a_closed_connection() {
    let own = introduce(&mut started(|_| {}), "10.0.0.0", info(1, State::Loading));
    assert_eq!(own, "");
    let mut bench = started(|_| {});
    bench.event(Event::Accepted {
        conn: Conn::In(0),
        source: "10.0.0.0".to_owned(),
    });
    bench.packet(Conn::In(0), Message::RequestInfo);
    assert_eq!(bench.done(), "close In(0)");
}

#[test]
fn packets_that_nobody_can_read_get_an_error_where_one_is_possible() {
    let mut bench = Bench::new();
    bench.lead(&[info_of(0, State::Standby)]);
    let mut garbled = |kind| {
        bench.handling = 5;
        bench.event(Event::Garbled {
            conn: inbound(0),
            id: 5,
            kind,
        });
        bench.handling = 0;
        bench.done()
    };
    assert_eq!(garbled(b'f'), "0E=");
    assert_eq!(garbled(b'd'), "0E=");
    assert_eq!(garbled(b'I'), "", "stock nodes would end the sender");
    assert_eq!(garbled(b'x'), "");
}

#[test]
fn a_new_connection_of_a_node_replaces_the_old_one() {
    let mut bench = Bench::new();
    bench.lead(&[info_of(0, State::Standby)]);
    let conn = Conn::In(9);
    bench.event(Event::Accepted {
        conn,
        source: "10.0.0.0".to_owned(),
    });
    bench.packet(conn, Message::AddNode(Box::new(info_of(0, State::Standby))));
    assert!(bench.done().contains("close In(0)"));
    bench.say(0, Message::RequestInfo);
    assert_eq!(bench.done(), "", "the old one says nothing any more");
}

#[test]
fn nodes_that_were_never_seen_are_dialled_for_ever() {
    let mut bench = Bench::new();
    bench.lead_alone();
    let count = |bench: &Bench| {
        let connects = bench.actions.iter();
        connects
            .filter(|a| matches!(a, Action::Connect { .. }))
            .count()
    };
    for _ in 0..5 {
        bench.done();
        for peer in 0..2 {
            let attempt = bench.core.peers[peer].attempts;
            bench.event(Event::Closed {
                conn: Conn::Out { peer, attempt },
            });
        }
        bench.seconds(11);
        assert_eq!(count(&bench), 2);
    }
}

#[test]
fn who_comes_just_after_it_was_dialled_in_vain_is_dialled_again_soon() {
    let attempts = |bench: &Bench| bench.core.peers[0].attempts;
    let refuse = |bench: &mut Bench| {
        let attempt = attempts(bench);
        let conn = Conn::Out { peer: 0, attempt };
        bench.event(Event::Closed { conn });
    };
    // The connection is refused before the introduction comes, or is known to be only then.
    for refused_before in [true, false] {
        let mut bench = Bench::new();
        bench.lead_alone();
        // The first attempt is long ago: the next one follows at once.
        refuse(&mut bench);
        bench.after(Duration::from_millis(100));
        let dialled = attempts(&bench);
        if refused_before {
            refuse(&mut bench);
        }
        introduce(&mut bench, "10.0.0.0", info_of(0, State::Loading));
        if !refused_before {
            refuse(&mut bench);
        }
        assert_eq!(attempts(&bench), dialled, "that was just tried");
        // A stock node looks for a leader for five seconds, and elects another then.
        bench.seconds(2);
        assert_eq!(attempts(&bench), dialled + 1);
        refuse(&mut bench);
        bench.seconds(5);
        assert_eq!(attempts(&bench), dialled + 1, "no more often than ever");
    }
}

#[test]
fn the_list_for_tools_shows_what_is_known() {
    let mut bench = Bench::new();
    bench.lead(&[info_of(0, State::Standby)]);
    bench.tell(info_of(0, State::Standby));
    let list = bench.core.node_list(None);
    assert_eq!(
        (
            list.remote_nodes,
            list.required_for_quorum,
            list.quorum,
            list.alive_nodes
        ),
        (2, 2, 1, 1)
    );
    let ids: Vec<i32> = list.nodes.iter().map(|node| node.id).collect();
    assert_eq!(ids, [1, 0, 2], "this node first");
    assert_eq!(list.nodes[2].name, None);
    assert_eq!(bench.core.node_list(Some(9)).nodes[0].id, -1);
    assert_eq!(bench.core.peer_numbered(2), Some(Ok(1)));
    assert_eq!(bench.core.peer_numbered(1), Some(Err(())));
}
