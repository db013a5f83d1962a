//! Which answers count: of this reign, of this pause, of a process that still goes on.

use super::{
    lease::{ask_for, leader, serving},
    *,
};
use crate::watchdog::codec::{
    function::FailoverResult,
    message::{LeaseGrant, Picture, Reign},
};

fn grant_of(bench: &Bench, reign: Reign) -> LeaseGrant {
    LeaseGrant {
        round: bench.core.lease_round(),
        remaining_ms: 4000,
        heard_before_ms: 0,
        idle_ms: 100_000,
        reign,
        picture: bench.core.lease_picture(),
        paused: false,
    }
}

fn place(bench: &Bench, wanted: impl Fn(&Action) -> bool) -> usize {
    let place = bench.actions.iter().position(wanted);
    place.expect("such an action")
}

#[test]
fn a_reign_is_remembered_before_anybody_hears_of_it() {
    let mut bench = serving();
    let higher = Reign {
        number: bench.core.lease_reign().number + 7,
        node: 2,
    };
    bench.done();
    bench.actions.clear();
    bench.say(1, Message::LeaseGrant(grant_of(&bench, higher)));
    let own = bench.core.lease_reign();
    let remembered = place(
        &bench,
        |action| matches!(action, Action::Remember(memory) if memory.reign == own),
    );
    let asked = place(
        &bench,
        |action| matches!(action, Action::Send { message: Message::LeaseAsk(ask), .. } if ask.reign == own),
    );
    assert!(remembered < asked);
}

#[test]
fn an_answer_of_a_lower_reign_gives_a_leader_no_lease() {
    let mut bench = leader();
    bench.seconds(1);
    let own = bench.core.lease_reign();
    let lower = Reign {
        number: own.number - 1,
        node: own.node,
    };
    bench.say(0, Message::LeaseGrant(grant_of(&bench, lower)));
    bench.event(Event::Timer);
    assert!(!bench.core.holds_lease(bench.now));
    bench.say(0, Message::LeaseGrant(grant_of(&bench, own)));
    assert!(bench.core.holds_lease(bench.now));
}

#[test]
fn an_answer_of_a_lower_reign_gives_a_standby_no_share() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    let highest = bench.asks(0, false).unwrap().reign;
    let ask = |number| crate::watchdog::codec::message::LeaseAsk {
        round: 9,
        reign: Reign {
            number,
            ..Reign::default()
        },
        picture: Picture::default(),
        pause: false,
        fresh: false,
    };
    bench.ask_with(0, ask(highest.number + 5));
    let lower = grant_of(&bench, highest);
    bench.say(0, Message::LeaseGrant(lower));
    assert!(!bench.core.may_serve(bench.now));
    let known = grant_of(&bench, bench.core.lease_reign());
    bench.say(0, Message::LeaseGrant(known));
    assert!(bench.core.may_serve(bench.now));
}

/// Nobody waits for it then. What the core says of serving is published before its packets are sent.
#[test]
fn a_node_that_says_that_it_goes_has_stopped_serving() {
    let mut bench = serving();
    assert!(bench.core.may_serve(bench.now));
    bench.actions.clear();
    bench.event(Event::Stop);
    place(&bench, |action| {
        matches!(
            action,
            Action::Send {
                message: Message::GoingDown,
                ..
            }
        )
    });
    assert!(!bench.core.may_serve(bench.now));
}

/// Until then it may take a server for the primary that is none any more.
#[test]
fn a_leader_that_holds_the_lease_and_has_to_learn_decides_nothing() {
    let mut bench = serving();
    let higher = Reign {
        number: bench.core.lease_reign().number + 7,
        node: 2,
    };
    bench.say(1, Message::LeaseGrant(grant_of(&bench, higher)));
    assert!(bench.core.coordinates(), "it has only another number");
    let newer = Picture {
        reign: higher,
        change: 2,
    };
    let mut grant = grant_of(&bench, bench.core.lease_reign());
    grant.picture = newer;
    bench.say(1, Message::LeaseGrant(grant));
    assert!(!bench.core.coordinates());
    assert!(bench.core.leads_with_quorum());
    for node in 0..2 {
        assert_eq!(ask_for(&mut bench, down(node)), "answer Transition");
        bench.say(0, Message::Failover(down(node)));
        assert!(bench.actions.iter().any(|action| matches!(
            action,
            Action::Send {
                message: Message::FailoverResult(FailoverResult::Transition),
                ..
            }
        )));
    }
}

#[test]
fn that_a_standby_stands_still_counts_from_the_round_of_the_pause_on() {
    let mut bench = serving();
    // It has a share.
    bench.asks(0, false);
    let before = bench.core.lease_round();
    bench.say(0, Message::Failover(down(0)));
    bench.event(Event::Request {
        ticket: 1,
        request: down(0),
    });
    assert!(!bench.core.lease_allows_promotion());
    let mut stale = grant_of(&bench, bench.core.lease_reign());
    stale.round = before;
    stale.paused = true;
    bench.say(0, Message::LeaseGrant(stale));
    assert!(!bench.core.lease_allows_promotion(), "of before the pause");
    let mut fresh = grant_of(&bench, bench.core.lease_reign());
    fresh.paused = true;
    bench.say(0, Message::LeaseGrant(fresh));
    assert!(bench.core.lease_allows_promotion());
}
