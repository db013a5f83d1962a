//! The write lease, among nodes of ours.

use super::*;
use crate::watchdog::codec::message::LeaseGrant;

impl Bench {
    /// The answer of a standby to the last round.
    fn grant(&mut self, peer: PeerId, idle: u64) {
        let round = self.core.lease_round();
        self.say(
            peer,
            Message::LeaseGrant(LeaseGrant {
                round,
                remaining_ms: 0,
                idle_ms: u32::try_from(1000 * idle).unwrap(),
            }),
        );
    }

    /// The answer of the leader to our last question.
    fn share(&mut self, seconds: u64) {
        let round = self.core.lease_round();
        self.say(
            0,
            Message::LeaseGrant(LeaseGrant {
                round,
                remaining_ms: u32::try_from(1000 * seconds).unwrap(),
                idle_ms: 0,
            }),
        );
    }
}

fn leader() -> Bench {
    let mut bench = Bench::new();
    bench.lead(&[ours(0, State::Standby), ours(1, State::Standby)]);
    assert!(bench.core.keeps_lease());
    bench
}

#[test]
fn the_lease_is_on_when_all_are_ours_and_off_with_the_first_stock_node() {
    let mut bench = leader();
    assert!(bench.actions.is_empty());
    bench.tell(info_of(1, State::Standby));
    assert!(!bench.core.keeps_lease());
    let remembered = Action::Remember { lease_is_on: false };
    assert!(bench.actions.contains(&remembered));
    assert!(bench.core.may_serve(bench.now));
}

#[test]
fn a_node_that_starts_alone_does_not_serve_when_the_lease_was_on() {
    let mut bench = Bench::new();
    bench.event(Event::Start { lease_was_on: true });
    assert_eq!(bench.done(), "serving false");
    bench.seconds(60);
    assert!(!bench.core.may_serve(bench.now));
    let mut bench = Bench::new();
    bench.event(Event::Start { lease_was_on: true });
    bench.meet(info_of(0, State::Loading));
    assert!(bench.core.may_serve(bench.now), "a stock node is there");
}

#[test]
fn a_leader_serves_for_the_time_of_the_lease_after_the_sending_of_an_answered_round() {
    let mut bench = leader();
    assert!(!bench.core.may_serve(bench.now));
    bench.seconds(1);
    bench.grant(0, 100);
    assert!(bench.core.may_serve(bench.now));
    bench.seconds(8);
    assert!(bench.core.may_serve(bench.now));
    bench.seconds(1);
    assert!(
        !bench.core.may_serve(bench.now),
        "ten seconds after the sending"
    );
    assert!(!bench.core.leads_with_quorum());
    assert!(bench.done().contains("de-escalate"));
}

#[test]
fn an_answer_of_one_that_has_not_joined_does_not_count() {
    let mut bench = Bench::new();
    bench.lead(&[ours(0, State::Standby)]);
    bench.meet(ours(1, State::Standby));
    bench.grant(1, 100);
    assert!(!bench.core.may_serve(bench.now));
}

#[test]
fn a_promotion_waits_until_a_majority_has_supported_nobody_else_for_a_lease() {
    let mut bench = leader();
    // Twenty seconds after our own start; the standby has followed another one until three seconds ago.
    bench.grant(0, 3);
    bench.say(0, Message::Failover(down(0)));
    bench.done();
    bench.event(Event::Request {
        ticket: 1,
        request: down(0),
    });
    assert_eq!(bench.done(), "answer WillBeDone");
    bench.seconds(1);
    bench.grant(0, 4);
    bench.seconds(2);
    bench.grant(0, 6);
    bench.seconds(2);
    bench.grant(0, 8);
    assert!(!bench.done().contains("failover"));
    bench.seconds(2);
    bench.grant(0, 10);
    bench.seconds(1);
    assert!(
        !bench.done().contains("failover"),
        "an eighth more, for clocks"
    );
    bench.seconds(1);
    bench.grant(0, 12);
    assert!(bench.done().contains("failover 0"));
}

#[test]
fn a_backend_that_is_not_the_primary_goes_down_at_once() {
    let mut bench = leader();
    bench.grant(0, 0);
    bench.say(0, Message::Failover(down(1)));
    bench.done();
    bench.event(Event::Request {
        ticket: 1,
        request: down(1),
    });
    assert_eq!(bench.done(), "answer Proceed");
}

#[test]
fn a_standby_serves_by_its_leaders_lease_counted_from_its_question() {
    let mut bench = Bench::new();
    bench.start();
    bench.meet(ours(1, State::Standby));
    bench.meet(ours(0, State::Leader));
    bench.tell(ours(0, State::Leader));
    bench.seconds(2);
    assert_eq!(bench.core.state(), State::Standby);
    let id = bench.sent_id(b'J');
    bench.reply(inbound(0), id, Message::Accept);
    assert!(!bench.core.may_serve(bench.now));
    bench.seconds(1);
    bench.share(7);
    assert!(bench.core.may_serve(bench.now));
    bench.after(Duration::from_millis(5_900));
    assert!(bench.core.may_serve(bench.now));
    bench.after(Duration::from_millis(200));
    assert!(!bench.core.may_serve(bench.now));
    assert_eq!(bench.core.lease_source(), Some(Leader::Peer(0)));
}

#[test]
fn a_standby_says_how_long_ago_it_supported_another_leader() {
    let mut bench = Bench::new();
    bench.start();
    bench.meet(ours(1, State::Standby));
    bench.meet(ours(0, State::Leader));
    bench.tell(ours(0, State::Leader));
    bench.seconds(2);
    let id = bench.sent_id(b'J');
    bench.reply(inbound(0), id, Message::Accept);
    bench.seconds(3);
    let ask = |bench: &mut Bench, peer| {
        bench.done();
        bench.say(
            peer,
            Message::LeaseAsk(super::super::super::codec::message::LeaseAsk { round: 4 }),
        );
        bench.actions.iter().find_map(|action| match action {
            Action::Send {
                message: Message::LeaseGrant(grant),
                ..
            } => Some(grant.idle_ms),
            _ => None,
        })
    };
    assert_eq!(ask(&mut bench, 1), None, "not its leader");
    assert_eq!(ask(&mut bench, 0), Some(5_000), "since the start");
    // Now the other one leads.
    bench.tell(ours(0, State::Joining));
    bench.tell(ours(1, State::Leader));
    bench.seconds(6);
    assert_eq!(bench.core.leader(), Some(Leader::Peer(1)));
    let id = bench.sent_id(b'J');
    bench.reply(inbound(1), id, Message::Accept);
    let idle = ask(&mut bench, 1).unwrap();
    assert!((6_000..7_000).contains(&idle), "{idle}");
}

#[test]
fn a_revoked_member_or_half_votes_switch_the_lease_off() {
    let mut bench = Bench::with(|s| s.quorum.lost_removal = Some(Duration::from_secs(5)));
    bench.lead(&[ours(0, State::Standby), ours(1, State::Standby)]);
    assert!(bench.core.keeps_lease());
    bench.event(Event::Lifecheck {
        peer: 1,
        alive: false,
    });
    bench.seconds(5);
    assert!(!bench.core.keeps_lease());
    let mut bench = Bench::with(|s| {
        s.others.truncate(1);
        s.quorum.half_votes = true;
    });
    bench.lead(&[ours(0, State::Standby)]);
    assert!(!bench.core.keeps_lease());
}
