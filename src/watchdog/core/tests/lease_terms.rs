//! How long leases and shares last, and from when on they count.

use super::{
    lease::{leader, serving},
    *,
};
use crate::watchdog::{codec::message::LeaseGrant, write_lease::Serving};

fn with_lease_of(seconds: u32, peer: PeerId) -> NodeInfo {
    NodeInfo {
        write_lease_ms: Some(1000 * seconds),
        ..info_of(peer, State::Standby)
    }
}

#[test]
fn a_lease_lasts_from_the_sending_of_the_round_and_not_from_its_answer() {
    let mut bench = serving();
    let round = bench.core.lease_round();
    while bench.core.lease_round() == round {
        bench.after(Duration::from_millis(100));
    }
    let sent = bench.now;
    bench.seconds(2);
    bench.grant_with(0, 100, bench.core.lease_picture(), false);
    let (until, _) = bench.core.majority();
    assert!(until.unwrap() <= sent + Duration::from_secs(10));
    assert!(bench.core.may_serve(sent + Duration::from_millis(9_800)));
    assert!(!bench.core.may_serve(sent + Duration::from_secs(10)));
}

#[test]
fn the_shortest_lease_of_all_nodes_counts_for_the_leader() {
    let mut bench = Bench::new();
    bench.lead(&[ours(0, State::Standby), with_lease_of(6, 1)]);
    bench.grant(0, 100);
    let end = bench.now + Duration::from_secs(6);
    assert!(bench.core.may_serve(end - Duration::from_millis(100)));
    assert!(!bench.core.may_serve(end));
}

#[test]
fn the_longest_lease_of_all_nodes_has_to_be_over_before_another_leader_has_one() {
    let mut bench = Bench::new();
    bench.lead(&[ours(0, State::Standby), with_lease_of(20, 1)]);
    bench.grant(0, 100);
    assert!(!bench.core.holds_lease(bench.now), "20 s after its start");
    bench.seconds(3);
    bench.grant(0, 100);
    assert!(bench.core.holds_lease(bench.now), "20 s and an eighth");
}

/// Its own support is one of the majority.
#[test]
fn a_leader_waits_until_its_own_support_of_the_leader_before_is_over() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    bench.meet(ours(1, State::Standby));
    bench.seconds(5);
    bench.share(1);
    bench.asks(0, false).expect("support");
    let supported = bench.now;
    bench.say(0, Message::GoingDown);
    bench.after(Duration::from_millis(6_100));
    for kind in *b"SC" {
        let id = bench.sent_id(kind);
        bench.reply(inbound(1), id, Message::Accept);
    }
    assert!(bench.core.leader_is_own());
    bench.say(1, Message::JoinLeader);
    bench.grant(1, 100);
    assert!(!bench.core.holds_lease(bench.now));
    bench.after(supported + Duration::from_millis(11_200) - bench.now);
    bench.grant(1, 100);
    assert!(!bench.core.holds_lease(bench.now));
    bench.after(Duration::from_millis(100));
    bench.grant(1, 100);
    assert!(bench.core.holds_lease(bench.now));
}

/// The leader's last majority may be older than its answer.
#[test]
fn a_standby_has_heard_of_a_majority_when_its_leader_had() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    bench.asks(0, false);
    let grant = LeaseGrant {
        round: bench.core.lease_round(),
        remaining_ms: 4_000,
        heard_before_ms: 300,
        idle_ms: 0,
        reign: bench.core.lease_reign(),
        picture: bench.core.lease_picture(),
        paused: false,
    };
    bench.say(0, Message::LeaseGrant(grant));
    let Serving::Until { until, heard } = bench.core.serving() else {
        panic!("{:?}", bench.core.serving());
    };
    assert_eq!(until - heard, Duration::from_millis(4_300));
}

#[test]
fn a_leader_that_was_stopped_between_decision_and_beginning_promotes_nobody() {
    let mut bench = serving();
    bench.all_want_down_primary();
    assert!(bench.core.may_still_begin(&down(0), bench.now));
    let later = bench.now + Duration::from_secs(11);
    assert!(!bench.core.may_still_begin(&down(0), later));
}

/// Peer 0 goes on supporting, each second.
fn goes_on(bench: &mut Bench, seconds: u32) {
    for _ in 0..seconds {
        bench.seconds(1);
        let beacons = bench.actions.iter().filter_map(|action| match action {
            Action::Send {
                id,
                message: Message::Beacon(_),
                ..
            } => Some(*id),
            _ => None,
        });
        for id in beacons.collect::<Vec<u32>>() {
            for peer in [0, 1] {
                let info = Message::NodeInfo(Box::new(ours(peer, State::Standby)));
                bench.reply(inbound(peer), id, info);
            }
        }
        bench.actions.clear();
        bench.grant_with(0, 100, bench.core.lease_picture(), true);
    }
}

/// The reason for it may be long gone.
#[test]
fn a_promotion_that_may_not_begin_in_time_is_dropped() {
    let mut bench = leader();
    // The other one has not taken notice of the lease.
    bench.grant(0, 100);
    bench.all_want_down_primary();
    assert!(bench.done().contains("answer WillBeDone"));
    goes_on(&mut bench, 18);
    assert!(!bench.core.may_serve(bench.now), "it waits");
    goes_on(&mut bench, 3);
    assert!(bench.core.may_serve(bench.now));
    bench.grant_with(1, 100, bench.core.lease_picture(), false);
    assert!(!bench.done().contains("failover"));
}

#[test]
fn a_promotion_that_the_supervisor_does_not_begin_ends_the_pause() {
    let mut bench = serving();
    bench.all_want_down_primary();
    assert!(bench.done().contains("failover 0"));
    goes_on(&mut bench, 14);
    assert!(!bench.core.may_serve(bench.now));
    goes_on(&mut bench, 2);
    assert!(bench.core.may_serve(bench.now));
}

#[test]
fn a_promotion_that_goes_on_pauses_however_long_it_takes() {
    let mut bench = serving();
    bench.all_want_down_primary();
    bench.event(Event::FailoverBegins);
    goes_on(&mut bench, 40);
    assert!(bench.core.holds_lease(bench.now));
    assert!(!bench.core.may_serve(bench.now));
    bench.backends(&[RemoteStatus::Down, RemoteStatus::Up], 1);
    bench.event(Event::FailoverEnds);
    goes_on(&mut bench, 1);
    assert!(bench.core.may_serve(bench.now));
}
