//! Votes and failovers.

use super::*;
use crate::watchdog::codec::function::{FailoverKind, FailoverResult, Flags};

fn leader() -> Bench {
    let mut bench = Bench::with(|s| s.write_lease = None);
    bench.lead(&[info_of(0, State::Standby), info_of(1, State::Standby)]);
    bench
}

impl Bench {
    fn ask(&mut self, request: FailoverRequest) -> String {
        self.event(Event::Request { ticket: 1, request });
        self.done()
    }

    fn vote(&mut self, peer: PeerId, request: FailoverRequest) -> (String, FailoverResult) {
        self.say(peer, Message::Failover(request));
        let result = self.actions.iter().find_map(|action| match action {
            Action::Send {
                message: Message::FailoverResult(result),
                ..
            } => Some(*result),
            _ => None,
        });
        (self.done(), result.expect("a result"))
    }
}

#[test]
fn a_first_vote_is_told_to_all_before_it_is_answered_and_a_second_decides() {
    let mut bench = leader();
    let (done, result) = bench.vote(0, down(0));
    assert_eq!(done, "0K 1K look 0-=");
    assert_eq!(result, FailoverResult::BuildingConsensus);
    let (_, result) = bench.vote(0, down(0));
    assert_eq!(result, FailoverResult::ConsensusMayFail);
    let (done, result) = bench.vote(1, down(0));
    assert_eq!(done, "failover 0 1-=");
    assert_eq!(result, FailoverResult::WillBeDone);
}

#[test]
fn the_leader_votes_like_the_others_and_does_it_itself() {
    let mut bench = leader();
    bench.vote(0, down(0));
    assert_eq!(bench.ask(down(0)), "answer Proceed");
    bench.event(Event::FailoverBegins);
    assert_eq!(bench.done(), "0F 1F");
    bench.backends(&[RemoteStatus::Down, RemoteStatus::Up], 1);
    bench.event(Event::FailoverEnds);
    assert_eq!(bench.done(), "0H 1H");
}

#[test]
fn a_late_vote_about_a_backend_that_is_down_is_no_second_failover() {
    let mut bench = leader();
    bench.vote(0, down(0));
    bench.vote(1, down(0));
    let (done, result) = bench.vote(0, down(0));
    assert_eq!(
        (done.as_str(), result),
        ("0H 0-=", FailoverResult::WillBeDone)
    );
    bench.event(Event::FailoverBegins);
    bench.backends(&[RemoteStatus::Down, RemoteStatus::Up], 1);
    bench.event(Event::FailoverEnds);
    bench.done();
    let (done, result) = bench.vote(1, down(0));
    assert_eq!(
        (done.as_str(), result),
        ("1H 1-=", FailoverResult::WillBeDone)
    );
}

#[test]
fn an_operators_request_needs_no_consensus() {
    let mut bench = leader();
    let mut request = down(1);
    request.flags = Flags::SWITCHOVER.with(Flags::CONFIRMED);
    let (done, _) = bench.vote(0, request);
    assert_eq!(done, "failover 1 0-=");
    let failback = FailoverRequest {
        kind: FailoverKind::Failback,
        flags: Flags::CONFIRMED,
        ..down(1)
    };
    assert_eq!(bench.ask(failback), "answer Proceed");
}

#[test]
fn a_vote_does_not_outlive_an_operators_detach_and_attach() {
    let mut bench = leader();
    bench.vote(0, down(1));
    bench.backends(&[RemoteStatus::Up, RemoteStatus::Down], 0);
    bench.backends(&[RemoteStatus::Up, RemoteStatus::Waiting], 0);
    let (_, result) = bench.vote(1, down(1));
    assert_eq!(result, FailoverResult::BuildingConsensus);
}

#[test]
fn without_quorum_nothing_is_failed_over() {
    let mut bench = Bench::with(|s| s.write_lease = None);
    bench.lead_alone();
    bench.done();
    assert_eq!(bench.ask(down(0)), "answer NoQuorum");
}

#[test]
fn the_switches_of_the_configuration_are_heeded() {
    let mut bench = Bench::with(|s| {
        s.write_lease = None;
        s.consensus.when_quorum_exists = false;
    });
    bench.lead_alone();
    bench.done();
    assert_eq!(bench.ask(down(0)), "answer Proceed");
    let mut bench = Bench::with(|s| {
        s.write_lease = None;
        s.consensus.require_consensus = false;
    });
    bench.lead(&[info_of(0, State::Standby)]);
    assert_eq!(bench.ask(down(0)), "answer Proceed");
}

#[test]
fn a_standby_asks_its_leader_without_the_key() {
    let mut bench = Bench::new();
    bench.follow(info_of(0, State::Leader));
    bench.event(Event::Request {
        ticket: 9,
        request: down(0),
    });
    let sent = bench.actions.iter().find_map(|action| match action {
        Action::Send {
            message: Message::Failover(request),
            ..
        } => Some(request.clone()),
        _ => None,
    });
    assert_eq!(sent.unwrap().credentials, Default::default());
    let id = bench.sent_id(b'f');
    bench.done();
    bench.reply(
        inbound(0),
        id,
        Message::FailoverResult(FailoverResult::WillBeDone),
    );
    assert_eq!(bench.done(), "answer WillBeDone");
}

#[test]
fn a_leader_that_does_not_answer_is_lost_and_the_request_is_not() {
    let mut bench = Bench::new();
    bench.follow(info_of(0, State::Leader));
    bench.seconds(1);
    bench.ask(down(0));
    bench.seconds(5);
    assert!(bench.done().contains("answer Transition"));
    assert_eq!(bench.core.state(), State::Joining);
}

#[test]
fn in_an_election_requests_are_to_be_asked_again() {
    let mut bench = Bench::new();
    bench.start();
    bench.done();
    assert_eq!(bench.ask(down(0)), "answer Transition");
}

/// A standby of peer 0 that sees peer 1 too.
fn standby() -> Bench {
    let mut bench = Bench::with(|s| s.write_lease = None);
    bench.follow(info_of(0, State::Leader));
    bench.meet(info_of(1, State::Standby));
    bench.done();
    bench
}

impl Bench {
    /// The leader has lost this node, which asks for a failover meanwhile.
    fn asks_without_a_leader(&mut self) {
        self.say(0, Message::Service(Service::YouAppearLost));
        assert_eq!(self.core.state(), State::Joining);
        self.done();
        assert_eq!(self.ask(down(1)), "answer Transition");
    }

    /// A leader that has run for so many seconds.
    fn follows_then(&mut self, peer: PeerId, age: i64) -> String {
        let mut leader = info_of(peer, State::Leader);
        leader.standing = Some(Standing {
            since_startup: age,
            ..Standing::default()
        });
        self.tell(leader);
        self.seconds(5);
        assert_eq!(self.core.state(), State::Standby);
        self.done()
    }
}

#[test]
fn who_is_back_at_its_leader_asks_for_nothing_that_it_wanted_while_it_was_away() {
    let mut bench = standby();
    bench.asks_without_a_leader();
    let done = bench.follows_then(0, 1000);
    assert!(
        done.split(' ').any(|word| word == "check"),
        "health checks that are under way do not count either: {done}"
    );
    assert_eq!(bench.ask(down(1)), "answer NotAllowed check");
    assert_eq!(bench.ask(down(1)), "0f", "what is seen now does");
}

#[test]
fn a_leader_that_has_started_again_was_away_itself_and_is_asked() {
    let mut bench = standby();
    bench.asks_without_a_leader();
    bench.seconds(3);
    bench.follows_then(0, 1);
    assert_eq!(bench.ask(down(1)), "0f");
}

#[test]
fn a_new_leader_is_asked_for_what_was_wanted_without_one() {
    let mut bench = standby();
    bench.asks_without_a_leader();
    bench.follows_then(1, 1000);
    assert_eq!(bench.ask(down(1)), "1f");
}

#[test]
fn what_a_node_wanted_that_saw_nobody_is_no_reason_when_it_sees_others() {
    let mut bench = Bench::with(|s| s.write_lease = None);
    bench.start();
    bench.done();
    assert_eq!(bench.ask(down(1)), "answer Transition");
    bench.meet(info_of(0, State::Leader));
    bench.meet(info_of(1, State::Standby));
    bench.done();
    assert_eq!(bench.ask(down(1)), "answer NotAllowed check");
}

#[test]
fn when_the_quorum_is_back_a_leader_has_the_backends_checked_anew() {
    let mut bench = Bench::with(|s| s.write_lease = None);
    bench.lead_alone();
    let joins = |bench: &mut Bench| {
        bench.meet(info_of(0, State::Standby));
        bench.say(0, Message::JoinLeader);
        let done = bench.done();
        assert!(bench.core.leads_with_quorum());
        done.split(' ').any(|word| word == "check")
    };
    assert!(!joins(&mut bench), "it has not been there before");
    bench.say(0, Message::GoingDown);
    assert!(!bench.core.leads_with_quorum());
    bench.done();
    assert!(joins(&mut bench));
}

#[test]
fn a_leader_that_has_said_that_it_goes_down_begins_nothing() {
    let mut bench = leader();
    assert!(bench.core.may_still_begin(&down(1), bench.now));
    bench.core.stop();
    assert!(!bench.core.may_still_begin(&down(1), bench.now));
}

#[test]
fn who_has_not_joined_has_no_vote() {
    let mut bench = leader();
    bench.tell(info_of(0, State::Joining));
    bench.done();
    let (_, result) = bench.vote(0, down(0));
    assert_eq!(result, FailoverResult::Transition);
    let (_, result) = bench.vote(1, down(0));
    assert_eq!(result, FailoverResult::BuildingConsensus);
}

#[test]
fn a_standby_takes_the_leaders_picture_after_a_failover_and_a_lost_connection() {
    let mut bench = Bench::new();
    bench.follow(info_of(0, State::Leader));
    bench.say(0, Message::FailoverEnd);
    assert_eq!(bench.done(), "0d");
    bench.seconds(5);
    assert_eq!(bench.done(), "0d", "no answer: once more");
    let conn = Conn::In(9);
    bench.event(Event::Accepted {
        conn,
        source: "10.0.0.0".to_owned(),
    });
    bench.packet(conn, Message::AddNode(Box::new(info_of(0, State::Leader))));
    assert!(bench.done().ends_with("0d"));
}

#[test]
fn a_leader_that_cannot_reach_the_primary_that_others_see_resigns() {
    let mut bench = leader();
    votes_in_vain(&mut bench, 0, Some(0));
    let done = bench.done();
    assert!(done.contains("0#R 1#R"), "{done}");
    assert_eq!(bench.core.state(), State::Joining);
    assert_eq!(bench.core.priority, -1);
}

#[test]
fn a_leader_that_cannot_reach_a_standby_does_not_resign_for_it() {
    // No primary is known at all, or another one is in quarantine.
    for quarantined in [None, Some(1)] {
        let mut bench = leader();
        votes_in_vain(&mut bench, 0, quarantined);
        assert!(!bench.done().contains("#R"));
        assert_eq!(bench.core.state(), State::Leader);
    }
}

/// The primary is in quarantine here because a standby has voted against it, and this leader reaches it.
#[test]
fn a_leader_that_has_not_voted_itself_does_not_resign() {
    let mut bench = leader();
    bench.vote(0, down(0));
    nobody_joins(&mut bench, Some(0));
    let expired = |action: &Action| matches!(action, Action::Log(entry) if entry.message.contains("found no consensus in time"));
    assert!(bench.actions.iter().any(expired));
    assert!(!bench.done().contains("#R"));
    assert_eq!(bench.core.state(), State::Leader);
}

/// The leader asks for the failover of a node that the others see, and no primary is in sight.
fn votes_in_vain(bench: &mut Bench, node: usize, quarantined_primary: Option<i32>) {
    bench.ask(down(node));
    nobody_joins(bench, quarantined_primary);
}

/// Votes end, and no primary is in sight.
fn nobody_joins(bench: &mut Bench, quarantined_primary: Option<i32>) {
    bench.event(Event::Backends(BackendStatus {
        nodes: vec![RemoteStatus::Waiting, RemoteStatus::Up],
        primary: -1,
        quarantined_primary,
        node_name: String::new(),
    }));
    for _ in 0..3 {
        bench.tell(info_of(0, State::Standby));
        bench.tell(info_of(1, State::Standby));
        bench.seconds(5);
    }
}

/// It may know less than the one that it has followed.
#[test]
fn a_leader_that_still_takes_over_what_the_last_one_knew_decides_nothing() {
    let mut bench = Bench::with(|s| s.write_lease = None);
    bench.follow(info_of(0, State::Leader));
    bench.say(0, Message::FailoverEnd);
    let asked = bench.sent_id(b'd');
    bench.reply(inbound(0), asked, Message::Data(all_up()));
    let adopt = bench.actions.iter().find_map(|action| match action {
        Action::Adopt { number, .. } => Some(*number),
        _ => None,
    });
    bench.say(0, Message::GoingDown);
    bench.seconds(10);
    bench.meet(info_of(1, State::Joining));
    bench.say(1, Message::JoinLeader);
    assert!(bench.core.leads_with_quorum());
    bench.done();
    assert_eq!(bench.ask(down(0)), "answer Transition");
    let (_, result) = bench.vote(1, down(0));
    assert_eq!(result, FailoverResult::Transition);
    bench.event(Event::Adopted {
        number: adopt.unwrap(),
    });
    let (_, result) = bench.vote(1, down(0));
    assert_eq!(result, FailoverResult::BuildingConsensus);
    assert_eq!(bench.ask(down(0)), "answer Proceed");
}

#[test]
fn whoever_has_not_noticed_a_failure_looks_at_once() {
    let mut bench = Bench::new();
    bench.follow(info_of(0, State::Leader));
    bench.say(0, Message::WaitingForConsensus);
    assert_eq!(bench.done(), "look");
    bench.ask(down(0));
    bench.say(0, Message::WaitingForConsensus);
    assert_eq!(bench.done(), "", "it has voted itself");
}

#[test]
fn when_its_leader_stops_whoever_waits_for_its_answer_is_to_ask_again() {
    let mut bench = Bench::new();
    bench.follow(info_of(0, State::Leader));
    assert_eq!(bench.ask(down(0)), "0f");
    bench.say(0, Message::GoingDown);
    let done = bench.done();
    assert!(done.contains("answer Transition"), "{done}");
    bench.seconds(20);
    assert!(!bench.done().contains("answer"), "once");
}

#[test]
fn the_vote_of_a_standby_that_is_lost_does_not_count() {
    let mut bench = leader();
    bench.vote(0, down(0));
    bench.event(Event::Lifecheck {
        peer: 0,
        alive: false,
    });
    let done = bench.ask(down(0));
    assert!(done.contains("answer BuildingConsensus"), "{done}");
}

#[test]
fn the_end_of_a_failover_is_not_that_of_another_that_waits_for_its_turn() {
    let mut bench = leader();
    for node in [0, 1] {
        bench.vote(0, down(node));
        assert_eq!(bench.vote(1, down(node)).1, FailoverResult::WillBeDone);
    }
    bench.event(Event::FailoverBegins);
    bench.backends(&[RemoteStatus::Down, RemoteStatus::Up], 1);
    bench.event(Event::FailoverEnds);
    let (_, result) = bench.vote(0, down(1));
    assert_eq!(result, FailoverResult::WillBeDone, "it comes next");
    // The one that is over counts no more when the backend is attached again.
    bench.backends(&[RemoteStatus::Waiting, RemoteStatus::Up], 1);
    let (_, result) = bench.vote(0, down(0));
    assert_eq!(result, FailoverResult::BuildingConsensus);
}

/// It has led when the failover began.
#[test]
fn a_standby_asks_its_leader_for_the_backends_after_a_failover_of_its_own() {
    let mut bench = Bench::new();
    bench.follow(info_of(0, State::Leader));
    bench.event(Event::FailoverBegins);
    assert_eq!(bench.done(), "");
    bench.event(Event::FailoverEnds);
    assert_eq!(bench.done(), "0d");
}
