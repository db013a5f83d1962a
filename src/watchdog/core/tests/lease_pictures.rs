//! Who is served by which picture, and what makes a new one.

use super::{
    lease::{five, serving},
    *,
};
use crate::watchdog::codec::message::{LeaseAsk, Picture};

fn question(bench: &Bench, picture: Picture, fresh: bool) -> LeaseAsk {
    LeaseAsk {
        round: 9,
        reign: bench.core.lease_reign(),
        picture,
        pause: false,
        fresh,
    }
}

/// Another primary: the picture of before, and the present one.
fn has_a_new_primary(bench: &mut Bench) -> (Picture, Picture) {
    let before = bench.core.lease_picture();
    bench.backends(&[RemoteStatus::Down, RemoteStatus::Up], 1);
    let now = bench.core.lease_picture();
    assert!(now > before);
    (before, now)
}

#[test]
fn a_standby_with_an_older_picture_gets_no_share_though_a_majority_has_the_newer_one() {
    let mut bench = serving();
    let (before, now) = has_a_new_primary(&mut bench);
    bench.grant_with(0, 100, now, false);
    assert!(bench.core.may_serve(bench.now));
    let ask = question(&bench, before, false);
    assert_eq!(bench.ask_with(1, ask).unwrap().remaining_ms, 0);
    let ask = question(&bench, now, false);
    assert_eq!(bench.ask_with(1, ask).unwrap().remaining_ms, 5_000);
}

#[test]
fn a_standby_gets_no_share_while_no_majority_has_the_picture() {
    let mut bench = five();
    for _ in 0..2 {
        let picture = bench.core.lease_picture();
        for peer in [0, 1] {
            bench.grant_with(peer, 100, picture, false);
        }
        bench.event(Event::Timer);
    }
    assert!(bench.core.may_serve(bench.now));
    let (_, now) = has_a_new_primary(&mut bench);
    let ask = question(&bench, now, false);
    assert_eq!(bench.ask_with(0, ask).unwrap().remaining_ms, 0, "two");
    assert_eq!(bench.ask_with(1, ask).unwrap().remaining_ms, 5_000, "three");
}

#[test]
fn that_a_standby_has_the_picture_is_known_by_its_question_too() {
    let mut bench = serving();
    let (_, now) = has_a_new_primary(&mut bench);
    assert!(!bench.core.may_serve(bench.now));
    let ask = question(&bench, now, false);
    bench.ask_with(1, ask);
    assert!(bench.core.may_serve(bench.now));
}

/// Else they would wait until they ask anyway.
#[test]
fn a_leader_whose_picture_gets_known_speaks_to_its_standbys() {
    let mut bench = serving();
    let (_, now) = has_a_new_primary(&mut bench);
    bench.done();
    bench.grant_with(0, 100, now, false);
    let done = bench.done();
    assert!(done.contains("0I 1I"), "{done}");
    bench.grant_with(1, 100, now, false);
    assert_eq!(bench.done(), "", "once");
}

/// A round would not change it.
#[test]
fn who_asks_for_a_fresh_share_where_there_is_none_is_answered_at_once() {
    let mut bench = serving();
    let (before, _) = has_a_new_primary(&mut bench);
    let ask = question(&bench, before, true);
    assert_eq!(bench.ask_with(1, ask).unwrap().remaining_ms, 0);
    let mut bench = serving();
    bench.all_want_down_primary();
    let ask = question(&bench, bench.core.lease_picture(), true);
    assert_eq!(bench.ask_with(1, ask).unwrap().remaining_ms, 0);
}

/// The view with the new primary is published next, and sessions would write to it.
#[test]
fn a_new_primary_makes_a_picture_while_the_failover_goes_on() {
    let mut bench = serving();
    bench.event(Event::FailoverBegins);
    has_a_new_primary(&mut bench);
}

/// The supervisor may take the primary out before it says that it begins.
#[test]
fn a_promotion_that_was_handed_over_makes_no_picture_before_it_is_over() {
    let mut bench = serving();
    bench.all_want_down_primary();
    assert!(bench.done().contains("failover 0"));
    let before = bench.core.lease_picture();
    bench.backends(&[RemoteStatus::Down, RemoteStatus::Up], -1);
    assert_eq!(bench.core.lease_picture(), before);
}

#[test]
fn the_failover_of_a_standby_server_holds_no_writes() {
    let mut bench = serving();
    bench.say(0, Message::Failover(down(1)));
    bench.event(Event::Request {
        ticket: 1,
        request: down(1),
    });
    bench.event(Event::FailoverBegins);
    assert!(bench.core.may_serve(bench.now));
}
