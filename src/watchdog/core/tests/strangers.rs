//! Whoever reaches the port and is no member.

use super::*;
use crate::watchdog::codec::AuthKey;

fn started() -> Bench {
    let mut bench = Bench::with(|s| s.authkey = AuthKey::new("k"));
    bench.start();
    bench.done();
    bench
}

fn accept(bench: &mut Bench, number: u64, source: &str) {
    bench.event(Event::Accepted {
        conn: Conn::In(number),
        source: source.to_owned(),
    });
}

fn introduce(bench: &mut Bench, number: u64, info: NodeInfo) -> Vec<String> {
    bench.packet(Conn::In(number), Message::AddNode(Box::new(info)));
    let entries = bench.actions.iter().filter_map(|action| match action {
        Action::Log(entry)
            if entry.message.contains("rejected") || entry.message.contains("same node id") =>
        {
            Some(entry.message.clone())
        }
        _ => None,
    });
    entries.collect()
}

#[test]
fn the_key_comes_before_anything_else_that_could_be_learnt() {
    let mut bench = started();
    accept(&mut bench, 0, "192.0.2.1");
    let said = introduce(&mut bench, 0, info(1, State::Loading));
    assert_eq!(bench.done(), "0R= close In(0)");
    assert!(said[0].contains("another wd_authkey"), "{said:?}");
    accept(&mut bench, 0, "192.0.2.1");
    let signed = info(1, State::Loading).sign(&AuthKey::new("k"));
    let said = introduce(&mut bench, 0, signed);
    assert_eq!(bench.done(), "", "as stock nodes: no answer");
    assert!(said[0].contains("same node id 1"), "{said:?}");
    bench.seconds(10);
    assert!(bench.done().contains("close In(0)"), "but not for ever");
}

#[test]
fn a_connection_that_does_not_say_whose_it_is_ends_whatever_it_sends() {
    let mut bench = started();
    accept(&mut bench, 3, "192.0.2.1");
    let own = info(1, State::Loading).sign(&AuthKey::new("k"));
    for _ in 0..9 {
        introduce(&mut bench, 3, own.clone());
        bench.seconds(1);
    }
    assert!(!bench.done().contains("close In(3)"));
    bench.seconds(1);
    assert!(bench.done().contains("close In(3)"));
}

#[test]
fn a_refusal_is_told_once_for_a_source_until_it_changes() {
    let mut bench = started();
    let mut refused = |host: &str| {
        accept(&mut bench, 0, "192.0.2.1");
        let mut info = info_of(0, State::Loading);
        info.host = host.to_owned();
        let said = introduce(&mut bench, 0, info);
        bench.done();
        bench.seconds(10);
        said
    };
    assert_eq!(refused("a").len(), 1);
    for _ in 0..5 {
        assert_eq!(refused("a").len(), 0, "it dials for ever");
    }
    let long = refused(&"b".repeat(10_000));
    assert_eq!(long.len(), 1);
    assert!(long[0].len() < 300, "{}", long[0].len());
}

#[test]
fn the_log_cannot_be_filled_by_changing_names() {
    let mut bench = started();
    let mut lines = 0;
    for number in 0..100 {
        accept(&mut bench, number, "192.0.2.1");
        let mut info = info_of(0, State::Loading);
        info.host = format!("host {number}");
        lines += introduce(&mut bench, number, info).len();
        bench.done();
    }
    assert_eq!(lines, 10);
}

/// Somebody has taken the port of a node that does not run.
#[test]
fn whoever_answers_at_a_members_port_is_obeyed_when_he_has_shown_the_key() {
    let key = AuthKey::new("k");
    let mut bench = Bench::with(|s| s.authkey = AuthKey::new("k"));
    bench.lead_alone();
    let attempt = bench.core.peers[0].attempts;
    let conn = Conn::Out { peer: 0, attempt };
    bench.event(Event::Connected { conn });
    bench.done();
    bench.packet(conn, Message::JoinLeader);
    assert_eq!(bench.done(), "0B", "the key, please");
    let orders = [
        Message::Service(crate::watchdog::codec::Service::IAmTrueLeader),
        Message::NodeInfo(Box::new(info_of(0, State::Leader))),
        Message::NodeInfo(Box::new(
            info_of(0, State::Leader).sign(&AuthKey::new("other")),
        )),
        Message::Failover(down(0)),
        Message::ClusterCommand(crate::watchdog::codec::function::ClusterCommand::new(
            "SHUTDOWN_CLUSTER",
            &[("mode", "i")],
        )),
    ];
    for order in orders {
        bench.packet(conn, order);
        assert!(
            !bench
                .actions
                .iter()
                .any(|a| matches!(a, Action::Run { .. })),
            "obeyed"
        );
        assert_eq!(bench.done(), "");
    }
    bench.event(Event::Garbled {
        conn,
        id: 5,
        kind: b'f',
    });
    assert_eq!(bench.done(), "");
    assert_eq!(bench.core.state(), State::Leader);
    assert_eq!(bench.core.peers[0].heard, None);
    // As stock nodes, in the answer to B.
    let signed = info_of(0, State::Standby).sign(&key);
    bench.packet(conn, Message::NodeInfo(Box::new(signed)));
    bench.done();
    bench.packet(conn, Message::JoinLeader);
    assert!(bench.done().starts_with("0G="));
}

#[test]
fn a_refused_node_says_so_in_any_state_once_and_dials_on() {
    let mut bench = Bench::with(|s| s.authkey = AuthKey::new("k"));
    bench.lead_alone();
    let mut lines = 0;
    for _ in 0..5 {
        let attempt = bench.core.peers[0].attempts;
        let conn = Conn::Out { peer: 0, attempt };
        bench.event(Event::Connected { conn });
        let id = bench.sent_id(b'A');
        bench.reply(conn, id, Message::Reject);
        bench.event(Event::Closed { conn });
        lines += bench
            .actions
            .iter()
            .filter(|action| matches!(
                action,
                Action::Log(entry) if entry.message == "add to watchdog cluster request is rejected by node \"10.0.0.0:9000\""
            ))
            .count();
        bench.done();
        bench.seconds(11);
    }
    assert_eq!(lines, 1);
    assert_eq!(bench.core.state(), State::Leader);
}

/// Its own connection came in with the key: nobody else can have its port.
#[test]
fn a_node_that_is_connected_to_us_is_trusted_on_both_connections() {
    let key = AuthKey::new("k");
    let mut bench = Bench::with(|s| s.authkey = AuthKey::new("k"));
    bench.lead_alone();
    bench.meet(info_of(0, State::Standby).sign(&key));
    bench.done();
    let attempt = bench.core.peers[0].attempts;
    bench.packet(Conn::Out { peer: 0, attempt }, Message::JoinLeader);
    assert!(bench.done().starts_with("0G="));
}

#[test]
fn strangers_of_one_address_do_not_take_the_places_of_others() {
    let mut bench = started();
    for number in 0..32 {
        assert_eq!(bench.core.place_for("192.0.2.1", bench.now), Place::Free);
        accept(&mut bench, number, "192.0.2.1");
    }
    assert_eq!(bench.core.place_for("192.0.2.1", bench.now), Place::None);
    assert_eq!(bench.core.place_for("10.0.0.0", bench.now), Place::Free);
    for number in 32..256 {
        accept(&mut bench, number, &format!("192.0.2.{number}"));
    }
    assert_eq!(bench.core.place_for("10.0.0.0", bench.now), Place::None);
    bench.seconds(1);
    assert_eq!(
        bench.core.place_for("10.0.0.0", bench.now),
        Place::Instead(Conn::In(0))
    );
    bench.event(Event::TurnedAway {
        source: "192.0.2.1".to_owned(),
    });
    assert!(bench.actions.iter().any(|action| matches!(
        action,
        Action::Log(entry) if entry.message.contains("too many connections")
    )));
}
