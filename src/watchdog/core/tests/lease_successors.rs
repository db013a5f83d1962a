//! When another leads, or the same node anew: nothing of what was between a leader and its standbys goes on.

use super::{
    lease::{UNLIMITED, leader, serving},
    *,
};
use crate::watchdog::codec::message::{LeaseGrant, Picture};

/// A standby of peer 0 that has a share, and knows peer 1.
fn standby() -> Bench {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    bench.meet(ours(1, State::Standby));
    bench.asks(0, false);
    bench.share(7);
    assert!(bench.core.may_serve(bench.now));
    bench
}

/// Peer 1 leads now, and is asked to accept this node as its standby.
fn is_succeeded(bench: &mut Bench) {
    bench.tell(ours(0, State::Joining));
    bench.tell(ours(1, State::Leader));
    bench.after(Duration::from_millis(6_500));
    assert_eq!(bench.core.state(), State::Standby);
    assert_eq!(bench.core.leader(), Some(Leader::Peer(1)));
}

fn is_accepted(bench: &mut Bench) {
    let id = bench.sent_id(b'J');
    bench.reply(inbound(1), id, Message::Accept);
}

#[test]
fn a_standby_supports_a_new_leader_only_when_that_has_accepted_it() {
    let mut bench = standby();
    is_succeeded(&mut bench);
    let joins = std::mem::take(&mut bench.actions);
    assert_eq!(bench.asks(1, false), None);
    bench.actions = joins;
    is_accepted(&mut bench);
    assert!(bench.asks(1, false).is_some());
}

#[test]
fn a_standby_does_not_blame_a_new_leader_for_the_silence_of_the_one_before() {
    let mut bench = standby();
    for _ in 0..28 {
        bench.seconds(1);
        bench.asks(0, false);
    }
    is_succeeded(&mut bench);
    is_accepted(&mut bench);
    bench.seconds(1);
    assert_eq!(bench.core.state(), State::Standby);
}

/// It may know less of them than this standby.
#[test]
fn a_new_leader_is_not_believed_about_the_backends_before_it_has_shown_its_picture() {
    let mut bench = standby();
    is_succeeded(&mut bench);
    is_accepted(&mut bench);
    let asked = bench.sent_id(b'd');
    bench.reply(inbound(1), asked, Message::Data(all_up()));
    assert!(!bench.done().contains("adopt"));
    bench.asks(1, false);
    bench.reply(inbound(1), asked, Message::Data(all_up()));
    assert!(bench.done().contains("adopt"));
}

/// That it refused the lease of the leader before says nothing of what its present one wants.
#[test]
fn a_standby_that_has_refused_a_lease_leaves_it_off_where_the_next_leader_has_none() {
    let mut bench = standby();
    bench.tell(info_of(1, State::Standby));
    let refusal = bench.asks(0, false).unwrap();
    assert_eq!(refusal.remaining_ms, UNLIMITED);
    bench.say(0, Message::Service(Service::IResign));
    bench.tell(ours(1, State::Standby));
    assert!(bench.core.keeps_lease());
    is_succeeded(&mut bench);
    is_accepted(&mut bench);
    bench.seconds(1);
    let none = LeaseGrant {
        round: bench.core.lease_round(),
        remaining_ms: UNLIMITED,
        heard_before_ms: 0,
        idle_ms: 0,
        reign: bench.core.lease_reign(),
        picture: Picture::default(),
        paused: false,
    };
    bench.say(1, Message::LeaseGrant(none));
    assert!(!bench.core.keeps_lease());
    bench.tell(ours(0, State::Standby));
    assert!(!bench.core.keeps_lease());
}

#[test]
fn who_leads_anew_has_the_lease_on_whoever_could_keep_none_before() {
    let mut bench = cannot_keep_it();
    is_elected_anew(&mut bench);
    assert!(bench.core.keeps_lease());
}

#[test]
fn a_lost_node_that_could_keep_no_lease_is_in_nobodys_way() {
    let mut bench = cannot_keep_it();
    bench.tell(ours(0, State::Standby));
    assert!(!bench.core.keeps_lease());
    bench.event(Event::Lifecheck {
        peer: 1,
        alive: false,
    });
    bench.tell(ours(0, State::Standby));
    assert!(bench.core.keeps_lease());
}

/// By the votes of both others.
fn is_elected_anew(bench: &mut Bench) {
    bench.say(0, Message::Service(Service::NeedsElection));
    bench.seconds(6);
    assert_eq!(bench.core.state(), State::StandForLeader);
    for kind in *b"SC" {
        let id = bench.sent_id(kind);
        for peer in [0, 1] {
            bench.reply(inbound(peer), id, Message::Accept);
        }
    }
    assert!(bench.core.leader_is_own());
}

/// A leader whose standby, peer 1, knows a stock node.
fn cannot_keep_it() -> Bench {
    let mut bench = leader();
    bench.event(Event::Timer);
    let refusal = bench.keeps_none();
    bench.say(1, Message::LeaseGrant(refusal));
    assert!(!bench.core.keeps_lease());
    bench
}

/// The standby has another leader meanwhile, and has had answers from it.
#[test]
fn who_leads_anew_answers_no_question_of_before() {
    let mut bench = serving();
    let ask = bench.question(9, true);
    assert_eq!(bench.ask_with(1, ask), None);
    is_elected_anew(&mut bench);
    for peer in [0, 1] {
        bench.say(peer, Message::JoinLeader);
    }
    bench.grant(0, 100);
    assert!(bench.core.may_serve(bench.now));
    let answers = |action: &Action| matches!(action, Action::Send { message: Message::LeaseGrant(grant), .. } if grant.round == 9);
    assert!(!bench.actions.iter().any(answers));
}

/// Both at the same moment, as far as this node's clock tells.
#[test]
fn a_share_that_was_asked_for_at_the_moment_of_a_pause_is_none() {
    let mut bench = standby();
    bench.seconds(1);
    bench.event(Event::Cover);
    assert!(bench.asks(0, true).unwrap().paused);
    bench.share(7);
    assert!(!bench.core.may_serve(bench.now));
}
