//! Taking over what another node knows of the backends: whose answer counts, what waits until the supervisor
//! has done it, and what is remembered before anybody hears of it.

use super::{
    lease::{leader, serving},
    *,
};
use crate::watchdog::codec::{
    function::FailoverResult,
    message::{LeaseAsk, LeaseGrant, Picture, Reign},
};

/// Newer than what a node knows that leads for the first time.
const NEWER: Picture = Picture {
    reign: Reign { number: 1, node: 0 },
    change: 2,
};

/// A leader that has heard of a newer picture at peer 0, and the packet in which it has asked for that.
fn learner() -> (Bench, u32) {
    let mut bench = leader();
    bench.grant_with(0, 100, NEWER, false);
    let asked = bench.sent_id(b'd');
    (bench, asked)
}

/// The first action of this kind.
fn place(bench: &Bench, wanted: impl Fn(&Action) -> bool) -> usize {
    let place = bench.actions.iter().position(wanted);
    place.expect("such an action")
}

/// The present picture is remembered, and only then another node is asked with it.
fn is_remembered_first(bench: &Bench) -> bool {
    let picture = bench.core.lease_picture();
    let remembered = place(
        bench,
        |action| matches!(action, Action::Remember(memory) if memory.picture == picture),
    );
    let asked = place(
        bench,
        |action| matches!(action, Action::Send { message: Message::LeaseAsk(ask), .. } if ask.picture == picture),
    );
    remembered < asked
}

/// Peer 1 has heard of a higher reign, and knows its picture. The supervisor is told to take that over.
fn learns_in_a_higher_reign(bench: &mut Bench) {
    let higher = Reign {
        number: bench.core.lease_reign().number + 7,
        node: 2,
    };
    let newer = Picture {
        reign: higher,
        change: 1,
    };
    let grant = LeaseGrant {
        round: bench.core.lease_round(),
        remaining_ms: 0,
        heard_before_ms: 0,
        idle_ms: 0,
        reign: higher,
        picture: newer,
        paused: false,
    };
    bench.say(1, Message::LeaseGrant(grant));
    assert!(bench.core.coordinates(), "it still holds the lease");
    bench.grant_with(1, 100, newer, false);
    assert!(!bench.core.coordinates(), "others know more");
    let asked = bench.sent_id(b'd');
    bench.reply(inbound(1), asked, Message::Data(all_up()));
}

/// What was said of the backends, to whomever.
fn told(bench: &Bench) -> Vec<BackendStatus> {
    let data = bench.actions.iter().filter_map(|action| match action {
        Action::Send {
            message: Message::Data(status),
            ..
        } => Some(status.clone()),
        _ => None,
    });
    data.collect()
}

/// The node that knew it is lost meanwhile: the others answer, and know less than the supervisor is taking over.
#[test]
fn a_leader_makes_no_picture_while_its_supervisor_takes_one_over() {
    let (mut bench, asked) = learner();
    bench.reply(inbound(0), asked, Message::Data(all_up()));
    bench.event(Event::Lifecheck {
        peer: 0,
        alive: false,
    });
    let own = bench.core.lease_picture();
    bench.grant_with(1, 100, own, false);
    assert!(!bench.core.holds_lease(bench.now));
    assert_eq!(bench.core.lease_picture(), own);
    bench.adopted();
    assert_eq!(bench.core.lease_picture(), NEWER);
    bench.grant_with(1, 100, own, false);
    assert!(bench.core.holds_lease(bench.now));
    assert!(bench.core.lease_picture() > NEWER);
}

#[test]
fn a_leader_does_not_wait_for_what_a_lost_node_knew() {
    let (mut bench, _) = learner();
    bench.event(Event::Lifecheck {
        peer: 0,
        alive: false,
    });
    bench.grant_with(1, 100, bench.core.lease_picture(), false);
    assert!(bench.core.coordinates());
}

#[test]
fn who_asks_for_the_backends_waits_until_the_last_adoption_is_over() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    bench.meet(ours(1, State::Standby));
    let mut adopting = Vec::new();
    for _ in 0..2 {
        bench.say(0, Message::FailoverEnd);
        let asked = bench.sent_id(b'd');
        bench.actions.clear();
        bench.reply(inbound(0), asked, Message::Data(all_up()));
        adopting.extend(bench.actions.iter().filter_map(|action| match action {
            Action::Adopt { number, .. } => Some(*number),
            _ => None,
        }));
        bench.say(1, Message::DataRequest(Default::default()));
    }
    assert!(told(&bench).is_empty());
    let [first, last] = adopting[..] else {
        panic!("{adopting:?}");
    };
    bench.event(Event::Adopted { number: first });
    assert!(told(&bench).is_empty());
    bench.event(Event::Adopted { number: last });
    assert_eq!(told(&bench).len(), 2, "both questions");
}

/// Its next process must not know less than another node has heard from this one.
#[test]
fn a_new_picture_is_remembered_before_anybody_hears_of_it() {
    let (mut bench, asked) = learner();
    bench.reply(inbound(0), asked, Message::Data(all_up()));
    bench.say(1, Message::DataRequest(Default::default()));
    bench.actions.clear();
    bench.event(Event::Adopted { number: 1 });
    assert_eq!(bench.core.lease_picture(), NEWER);
    assert!(is_remembered_first(&bench), "taken over");
    let answered = place(&bench, |action| {
        matches!(
            action,
            Action::Send {
                message: Message::Data(_),
                ..
            }
        )
    });
    assert!(place(&bench, |action| matches!(action, Action::Remember(_))) < answered);
    bench.actions.clear();
    bench.grant_with(0, 100, NEWER, false);
    assert!(bench.core.lease_picture() > NEWER);
    assert!(is_remembered_first(&bench), "the first of a reign");
    let mut bench = serving();
    let before = bench.core.lease_picture();
    bench.actions.clear();
    bench.backends(&[RemoteStatus::Down, RemoteStatus::Up], 1);
    assert!(bench.core.lease_picture() > before);
    assert!(is_remembered_first(&bench), "another primary");
}

/// It has led when that began.
#[test]
fn what_a_standby_takes_over_ends_the_failover_that_it_was_in_the_middle_of() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    bench.meet(ours(1, State::Standby));
    bench.event(Event::FailoverBegins);
    bench.backends(&[RemoteStatus::Down, RemoteStatus::Up], -1);
    bench.say(0, Message::FailoverEnd);
    let asked = bench.sent_id(b'd');
    let known = BackendStatus {
        nodes: vec![RemoteStatus::Down, RemoteStatus::Up],
        primary: -1,
        quarantined_primary: None,
        node_name: String::new(),
    };
    bench.reply(inbound(0), asked, Message::Data(known));
    bench.adopted();
    bench.actions.clear();
    bench.say(1, Message::DataRequest(Default::default()));
    let primaries: Vec<i32> = told(&bench).iter().map(|status| status.primary).collect();
    assert_eq!(primaries, [-1], "not that of before the failover");
}

#[test]
fn what_a_leader_takes_over_makes_it_forget_what_it_has_handed_over() {
    let mut bench = serving();
    bench.say(0, Message::Failover(down(1)));
    let request = down(1);
    bench.done();
    bench.event(Event::Request { ticket: 1, request });
    assert_eq!(bench.done(), "answer Proceed");
    bench.event(Event::FailoverBegins);
    learns_in_a_higher_reign(&mut bench);
    bench.adopted();
    bench.grant(1, 100);
    assert!(bench.core.coordinates());
    bench.actions.clear();
    bench.say(0, Message::Failover(down(1)));
    // And not as settled.
    assert_eq!(result(&bench), FailoverResult::BuildingConsensus);
    let before = bench.core.lease_picture();
    bench.backends(&[RemoteStatus::Up, RemoteStatus::Up], -1);
    assert!(bench.core.lease_picture() > before, "no failover goes on");
}

#[test]
fn a_promotion_that_waits_is_dropped_with_a_word_when_the_backends_are_taken_over() {
    let mut bench = serving();
    // It has a share.
    bench.asks(0, false);
    bench.all_want_down_primary();
    assert!(bench.done().contains("answer WillBeDone"));
    learns_in_a_higher_reign(&mut bench);
    let said = |action: &Action| matches!(action, Action::Log(entry) if entry.message.contains("backend 0 does not begin"));
    assert!(bench.actions.iter().any(said));
    bench.adopted();
    bench.say(0, Message::GoingDown);
    bench.grant(1, 100);
    assert!(bench.core.coordinates() && bench.core.may_serve(bench.now));
    assert!(!bench.done().contains("failover"));
}

#[test]
fn nobody_but_the_node_that_was_asked_tells_of_the_backends() {
    let (mut bench, asked) = learner();
    bench.reply(inbound(1), asked, Message::Data(all_up()));
    assert!(!bench.done().contains("adopt"));
    bench.reply(inbound(0), asked, Message::Data(all_up()));
    assert!(bench.done().contains("adopt"));
}

/// Its supervisor has not published yet what the former leader has said.
#[test]
fn who_leads_without_lease_decides_nothing_while_it_takes_over() {
    let mut bench = Bench::new();
    bench.follow(info_of(0, State::Leader));
    bench.say(0, Message::FailoverEnd);
    let asked = bench.sent_id(b'd');
    bench.reply(inbound(0), asked, Message::Data(all_up()));
    bench.say(0, Message::GoingDown);
    bench.seconds(7);
    assert!(bench.core.leader_is_own() && !bench.core.keeps_lease());
    assert!(!bench.core.coordinates());
    bench.adopted();
    assert!(bench.core.coordinates());
}

#[test]
fn a_share_of_a_leader_that_knows_less_is_none() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    bench.ask_with(0, shows(NEWER));
    let asked = bench.sent_id(b'd');
    bench.reply(inbound(0), asked, Message::Data(all_up()));
    bench.adopted();
    assert_eq!(bench.core.lease_picture(), NEWER);
    let mut grant = LeaseGrant {
        round: bench.core.lease_round(),
        remaining_ms: 4000,
        heard_before_ms: 0,
        idle_ms: 0,
        reign: bench.core.lease_reign(),
        picture: Picture::default(),
        paused: false,
    };
    bench.say(0, Message::LeaseGrant(grant));
    assert!(!bench.core.may_serve(bench.now));
    grant.picture = NEWER;
    bench.say(0, Message::LeaseGrant(grant));
    assert!(bench.core.may_serve(bench.now));
}

#[test]
fn a_leader_that_gets_no_answer_about_a_newer_picture_asks_again() {
    let (mut bench, _) = learner();
    bench.done();
    bench.seconds(4);
    assert!(!bench.done().contains("0d"));
    bench.seconds(1);
    assert!(bench.done().contains("0d"));
}

#[test]
fn a_leader_that_takes_over_counts_no_vote() {
    let mut bench = serving();
    learns_in_a_higher_reign(&mut bench);
    bench.say(0, Message::Failover(down(1)));
    assert_eq!(result(&bench), FailoverResult::Transition);
    bench.adopted();
    bench.grant(1, 100);
    bench.actions.clear();
    bench.say(1, Message::Failover(down(1)));
    assert_eq!(result(&bench), FailoverResult::BuildingConsensus);
}

/// Each question would make the answer to the one before outdated.
#[test]
fn a_standby_asks_for_a_picture_once_however_often_its_leader_shows_it() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    bench.ask_with(0, shows(NEWER));
    assert!(bench.done().contains("0d"));
    bench.ask_with(0, shows(NEWER));
    assert!(!bench.done().contains("0d"));
}

#[test]
fn a_picture_that_comes_while_an_older_one_is_taken_over_is_taken_over_next() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    let newest = Picture {
        change: NEWER.change + 1,
        ..NEWER
    };
    bench.ask_with(0, shows(NEWER));
    let asked = bench.sent_id(b'd');
    bench.reply(inbound(0), asked, Message::Data(all_up()));
    let older = std::mem::take(&mut bench.actions);
    bench.ask_with(0, shows(newest));
    let asked = bench.sent_id(b'd');
    bench.actions = older;
    bench.adopted();
    assert_eq!(bench.core.lease_picture(), NEWER);
    bench.reply(inbound(0), asked, Message::Data(all_up()));
    bench.adopted();
    assert_eq!(bench.core.lease_picture(), newest);
}

/// Of the leader, peer 0.
fn shows(picture: Picture) -> LeaseAsk {
    LeaseAsk {
        round: 4,
        reign: NEWER.reign,
        picture,
        pause: false,
        fresh: false,
    }
}

/// The answer to a vote.
fn result(bench: &Bench) -> FailoverResult {
    let result = bench.actions.iter().find_map(|action| match action {
        Action::Send {
            message: Message::FailoverResult(result),
            ..
        } => Some(*result),
        _ => None,
    });
    result.expect("an answer")
}
