//! What is told of nodes that cannot be reached or understood.

use super::*;

fn warnings(bench: &mut Bench) -> Vec<String> {
    let entries = bench.actions.iter().filter_map(|action| match action {
        Action::Log(entry)
            if entry.message.contains("reached") || entry.message.contains("packet") =>
        {
            Some(entry.message.clone())
        }
        _ => None,
    });
    let entries = entries.collect();
    bench.done();
    entries
}

fn fails(bench: &mut Bench, why: &str) {
    let attempt = bench.core.peers[0].attempts;
    let conn = Conn::Out { peer: 0, attempt };
    bench.event(Event::Unreachable {
        conn,
        why: why.to_owned(),
    });
    bench.event(Event::Closed { conn });
    bench.seconds(31);
}

#[test]
fn the_reason_of_an_unreachable_node_is_told_once_until_it_changes() {
    let mut bench = Bench::new();
    bench.start();
    fails(&mut bench, "Connection refused");
    assert_eq!(
        warnings(&mut bench),
        [""; 0],
        "nodes start one after the other"
    );
    for _ in 0..3 {
        fails(&mut bench, "Connection refused");
    }
    assert_eq!(
        warnings(&mut bench),
        ["watchdog node \"10.0.0.0:9999\" cannot be reached at 10.0.0.0:9000: Connection refused"]
    );
    fails(&mut bench, "No route to host");
    assert_eq!(warnings(&mut bench).len(), 1);
    bench.meet(info_of(0, State::Standby));
    assert_eq!(
        warnings(&mut bench),
        ["watchdog node \"10.0.0.0:9999\" can be reached now"]
    );
}

#[test]
fn a_node_that_has_stopped_in_order_is_not_missed() {
    let mut bench = Bench::new();
    bench.lead(&[info_of(0, State::Standby)]);
    bench.say(0, Message::GoingDown);
    bench.seconds(31);
    bench.done();
    for _ in 0..3 {
        fails(&mut bench, "Connection refused");
    }
    assert_eq!(warnings(&mut bench), [""; 0]);
}

#[test]
fn what_cannot_be_read_of_a_member_is_told_once() {
    let mut bench = Bench::new();
    bench.lead(&[info_of(0, State::Standby)]);
    let garbled = |bench: &mut Bench, conn| {
        bench.event(Event::Unreadable {
            conn,
            why: "member State is missing".to_owned(),
        });
        bench.event(Event::Garbled {
            conn,
            id: 5,
            kind: b'I',
        });
    };
    garbled(&mut bench, inbound(0));
    garbled(&mut bench, inbound(0));
    assert_eq!(
        warnings(&mut bench),
        [
            "a packet from watchdog node \"10.0.0.0:9999 Linux stock\" cannot be read and is dropped: member State is missing"
        ]
    );
    let stranger = Conn::In(77);
    bench.event(Event::Accepted {
        conn: stranger,
        source: "192.0.2.1".to_owned(),
    });
    garbled(&mut bench, stranger);
    assert_eq!(warnings(&mut bench), [""; 0]);
}
