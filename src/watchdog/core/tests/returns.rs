//! Nodes that were lost, stopped, removed or restarted, and come back.

use super::*;
use crate::watchdog::codec::AuthKey;

/// Our connection to the peer stands; it has not introduced itself.
fn reach(bench: &mut Bench, peer: PeerId) -> Conn {
    let attempt = bench.core.peers[peer].attempts;
    let conn = Conn::Out { peer, attempt };
    bench.event(Event::Connected { conn });
    bench.done();
    conn
}

/// A new connection of peer 0, with which it says that it is in this state. Returned: what is done.
fn introduces_itself(bench: &mut Bench, state: State) -> String {
    bench.done();
    let conn = Conn::In(9);
    bench.event(Event::Accepted {
        conn,
        source: "10.0.0.0".to_owned(),
    });
    bench.packet(conn, Message::AddNode(Box::new(info_of(0, state))));
    bench.done().replace("9I", "0I")
}

fn lifecheck(bench: &mut Bench, peer: PeerId, alive: bool) {
    bench.event(Event::Lifecheck { peer, alive });
    bench.done();
}

#[test]
fn a_node_that_the_lifecheck_calls_dead_may_not_join_whatever_it_says() {
    let mut bench = Bench::new();
    bench.lead(&[info_of(0, State::Standby)]);
    lifecheck(&mut bench, 0, false);
    bench.seconds(10);
    let conn = reach(&mut bench, 0);
    let joining = Message::NodeInfo(Box::new(info_of(0, State::Joining)));
    for word in [Message::RequestInfo, joining] {
        bench.packet(conn, word);
        bench.done();
        bench.packet(conn, Message::JoinLeader);
        assert_eq!(bench.done(), "0R=");
    }
    assert!(!bench.core.leads_with_quorum());
    lifecheck(&mut bench, 0, true);
    bench.packet(conn, Message::JoinLeader);
    assert!(bench.done().starts_with("0G="));
    assert!(bench.core.leads_with_quorum());
}

#[test]
fn a_removed_node_that_is_found_again_counts_again() {
    let removed = |lose: fn(&mut Bench)| {
        let mut bench = Bench::with(|s| s.quorum.lost_removal = Some(Duration::from_secs(5)));
        bench.lead(&[info_of(0, State::Standby), info_of(1, State::Standby)]);
        lose(&mut bench);
        bench.seconds(6);
        assert_eq!(bench.core.member_count(), 1);
        bench
    };
    let mut bench = removed(|bench| lifecheck(bench, 1, false));
    lifecheck(&mut bench, 1, true);
    assert_eq!(bench.core.member_count(), 2, "by the lifecheck");

    let mut bench = removed(|bench| {
        bench.event(Event::Closed { conn: inbound(1) });
        // It is dialled once more.
        for _ in 0..2 {
            let attempt = bench.core.peers[1].attempts;
            bench.event(Event::Closed {
                conn: Conn::Out { peer: 1, attempt },
            });
        }
    });
    bench.seconds(10);
    let conn = reach(&mut bench, 1);
    let standby = Message::NodeInfo(Box::new(info_of(1, State::Standby)));
    bench.packet(conn, standby);
    assert_eq!(bench.core.member_count(), 2, "by its own word");
}

#[test]
fn an_introduction_on_a_known_connection_has_to_be_as_right_as_the_first_one() {
    let (key, other) = (AuthKey::new("k"), AuthKey::new("other"));
    let right = info_of(0, State::Joining).sign(&key);
    let introduce = |info: &NodeInfo| {
        let mut bench = Bench::with(|s| s.authkey = AuthKey::new("k"));
        bench.start();
        bench.meet(right.clone());
        bench.done();
        bench.say(0, Message::AddNode(Box::new(info.clone())));
        bench.done()
    };
    assert_eq!(introduce(&right), "0I=");
    let changed = |change: fn(&mut NodeInfo)| {
        let mut info = info_of(0, State::Joining);
        change(&mut info);
        info
    };
    for wrong in [
        changed(|_| {}),
        changed(|_| {}).sign(&other),
        changed(|info| info.wd_port = 9001).sign(&key),
        changed(|info| info.pgpool_port = 1).sign(&key),
        changed(|info| info.node_id = Some(2)).sign(&key),
    ] {
        assert_eq!(introduce(&wrong), "0R= close In(0)", "{wrong:?}");
    }
}

#[test]
fn a_node_that_has_stopped_and_starts_again_is_told_who_leads() {
    let mut bench = Bench::new();
    bench.lead(&[info_of(0, State::Standby)]);
    bench.say(0, Message::GoingDown);
    assert_eq!(bench.core.peers[0].state, State::Shutdown);
    let done = introduces_itself(&mut bench, State::Loading);
    assert!(done.starts_with("0I="), "{done}");
    assert_eq!(bench.core.peers[0].state, State::Loading);
}

/// Nobody has noticed that its last process has ended.
#[test]
fn a_standby_that_restarts_fast_has_to_join_anew() {
    let mut bench = Bench::new();
    bench.lead(&[info_of(0, State::Standby)]);
    assert!(introduces_itself(&mut bench, State::Loading).contains("de-escalate"));
    assert!(bench.core.standbys.is_empty());
    let mut bench = Bench::new();
    bench.lead(&[info_of(0, State::Standby)]);
    assert!(!introduces_itself(&mut bench, State::Standby).contains("de-escalate"));
    assert_eq!(bench.core.standbys, [0], "only its connection is new");
}

#[test]
fn a_leader_that_restarts_fast_leads_no_more() {
    let mut bench = Bench::new();
    bench.follow(info_of(0, State::Leader));
    introduces_itself(&mut bench, State::Loading);
    assert_eq!(bench.core.leader(), None);
    // It has said at once what is asked while joining.
    assert_eq!(bench.core.state(), State::Initializing);

    let mut bench = Bench::new();
    bench.start();
    bench.meet(info_of(0, State::Leader));
    bench.tell(info_of(0, State::Leader));
    assert_eq!(bench.core.state(), State::Initializing);
    introduces_itself(&mut bench, State::Loading);
    bench.seconds(1);
    assert_eq!(bench.core.state(), State::StandForLeader);

    let mut bench = Bench::new();
    bench.follow(info_of(0, State::Leader));
    introduces_itself(&mut bench, State::Leader);
    assert_eq!(
        bench.core.state(),
        State::Standby,
        "only its connection is new"
    );
}
