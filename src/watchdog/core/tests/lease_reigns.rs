//! Which answers count: of this reign, of this pause, of a process that still goes on.

use super::{
    lease::{ask_for, five, leader, serving},
    *,
};
use crate::watchdog::{
    codec::{
        function::FailoverResult,
        message::{LeaseAsk, LeaseGrant, Picture, Reign},
    },
    write_lease::Serving,
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
    let ask = |number| LeaseAsk {
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

/// Likewise: the others hear of its new state at once.
#[test]
fn a_node_that_ends_for_a_trouble_has_stopped_serving() {
    let reason = "it is broken".to_owned();
    for trouble in [Event::LocalDead { reason }, Event::NetworkLost] {
        let mut bench = serving();
        bench.event(trouble);
        assert_eq!(bench.core.serving(), Serving::Held);
    }
}

#[test]
fn that_a_standby_stands_still_counts_from_the_round_of_the_pause_on() {
    let mut bench = serving();
    // It has a share.
    bench.asks(0, false);
    let before = bench.core.lease_round();
    bench.all_want_down_primary();
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

fn hears_of_a_higher_reign(bench: &mut Bench) {
    let higher = Reign {
        number: bench.core.lease_reign().number + 7,
        node: 2,
    };
    bench.say(1, Message::LeaseGrant(grant_of(bench, higher)));
    assert!(bench.core.lease_reign() > higher);
}

/// Somebody knows more than a majority did that this leader has asked.
#[test]
fn no_promotion_begins_by_a_lease_of_a_lower_reign() {
    let mut bench = serving();
    bench.all_want_down_primary();
    assert!(bench.core.may_still_begin(&down(0), bench.now));
    hears_of_a_higher_reign(&mut bench);
    assert!(bench.core.coordinates(), "it still holds the lease");
    assert!(!bench.core.holds_lease(bench.now));
    assert!(!bench.core.may_still_begin(&down(0), bench.now));
    bench.grant(0, 100);
    assert!(bench.core.holds_lease(bench.now));
    assert!(bench.core.may_still_begin(&down(0), bench.now));
}

#[test]
fn a_standby_that_has_heard_of_a_higher_reign_gets_no_share() {
    let mut bench = serving();
    let mut ask = LeaseAsk {
        round: 9,
        reign: bench.core.lease_reign(),
        picture: bench.core.lease_picture(),
        pause: false,
        fresh: false,
    };
    assert_eq!(bench.ask_with(1, ask).unwrap().remaining_ms, 5_000);
    ask.reign.number += 1;
    assert_eq!(bench.ask_with(1, ask).unwrap().remaining_ms, 0);
}

/// It has lost both of its standbys, and leads a minority.
fn leads_anew(bench: &mut Bench) {
    bench.say(0, Message::Service(Service::NeedsElection));
    for peer in [0, 1] {
        bench.event(Event::Lifecheck { peer, alive: false });
    }
    bench.seconds(7);
    assert!(bench.core.leader_is_own());
    bench.done();
}

#[test]
fn who_leads_anew_decides_nothing_by_what_it_knew_when_it_led_before() {
    let mut bench = serving();
    leads_anew(&mut bench);
    assert!(!bench.core.coordinates());
}

#[test]
fn who_leads_anew_holds_no_lease_of_before() {
    let mut bench = serving();
    leads_anew(&mut bench);
    assert_eq!(bench.core.majority(), (None, false));
    bench.event(Event::Request {
        ticket: 1,
        request: down(0),
    });
    // It has had no time to get one, and whoever asks is to ask again.
    assert_eq!(bench.done(), "answer Transition");
}

#[test]
fn who_has_led_says_to_its_leader_when_it_has_supported_itself() {
    let mut bench = serving();
    let last_round = bench.now;
    bench.say(0, Message::Service(Service::NeedsElection));
    bench.tell(ours(0, State::Leader));
    bench.seconds(7);
    assert_eq!(bench.core.state(), State::Standby);
    let id = bench.sent_id(b'J');
    bench.reply(inbound(0), id, Message::Accept);
    let idle = bench.asks(0, false).unwrap().idle_ms;
    let since = bench.now.duration_since(last_round);
    assert_eq!(u128::from(idle), since.as_millis());
}

/// Nobody knows what it has done in between.
#[test]
fn what_a_standby_has_said_before_it_joined_anew_makes_no_majority() {
    let mut bench = five();
    let newest = Picture {
        reign: Reign { number: 9, node: 0 },
        change: 1,
    };
    let reign = bench.core.lease_reign();
    let before = grant_of(&bench, reign);
    bench.grant_with(0, 100, newest, false);
    bench.say(0, Message::JoinLeader);
    bench.say(1, Message::LeaseGrant(before));
    assert!(!bench.core.coordinates(), "two of five");
    bench.say(2, Message::LeaseGrant(before));
    assert!(bench.core.coordinates());
}

#[test]
fn what_a_standby_knew_before_it_joined_anew_is_not_known_of_it() {
    let mut bench = leader();
    bench.grant(0, 100);
    assert!(bench.core.is_known());
    bench.say(0, Message::JoinLeader);
    assert!(!bench.core.is_known());
    bench.grant(0, 100);
    assert!(bench.core.is_known());
}

/// The round that is under way was sent before.
#[test]
fn a_standby_is_not_answered_by_a_round_that_was_sent_before_it_asked() {
    let mut bench = serving();
    bench.seconds(1);
    bench.event(Event::Cover);
    bench.after(Duration::from_millis(1));
    let ask = bench.question(9, true);
    assert_eq!(bench.ask_with(1, ask), None);
    let answers = |bench: &Bench| {
        let is_one = |action: &&Action| matches!(action, Action::Send { message: Message::LeaseGrant(grant), .. } if grant.round == 9);
        bench.actions.iter().filter(is_one).count()
    };
    bench.grant_with(0, 100, bench.core.lease_picture(), false);
    assert_eq!(answers(&bench), 0);
    bench.grant_with(0, 100, bench.core.lease_picture(), false);
    assert_eq!(answers(&bench), 1);
}
