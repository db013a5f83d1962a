//! Joining, standing for leader, giving way.

use super::*;

#[test]
fn joining_a_leader_goes_as_recorded() {
    let mut bench = Bench::new();
    bench.start();
    bench.meet(info_of(0, State::Leader));
    assert_eq!(bench.done(), "0A");
    bench.seconds(5);
    assert_eq!(bench.done(), "0B 0I");
    // The answer to B says that there is a leader.
    bench.tell(info_of(0, State::Leader));
    bench.seconds(4);
    assert_eq!(bench.done(), "0I");
    bench.seconds(1);
    assert_eq!(bench.core.state(), State::Standby);
    let id = bench.sent_id(b'J');
    assert_eq!(bench.done(), "0J 0I");
    bench.reply(inbound(0), id, Message::Accept);
    let asked = bench.sent_id(b'd');
    assert_eq!(bench.done(), "settled 0I 0d");
    bench.say(0, Message::AskConfig);
    assert_eq!(bench.done(), "0Z=");
    bench.reply(inbound(0), asked, Message::Data(all_up()));
    assert_eq!(bench.done(), "adopt");
}

/// It may come by the other connection, behind the answer to a later question.
#[test]
fn only_the_answer_to_the_last_question_for_the_backends_counts() {
    let mut bench = Bench::new();
    bench.follow(info_of(0, State::Leader));
    bench.say(0, Message::FailoverEnd);
    let first = bench.sent_id(b'd');
    bench.say(0, Message::FailoverEnd);
    let second = bench.sent_id(b'd');
    bench.done();
    bench.reply(inbound(0), second, Message::Data(all_up()));
    assert_eq!(bench.done(), "adopt");
    bench.reply(inbound(0), first, Message::Data(all_up()));
    assert_eq!(bench.done(), "");
}

#[test]
fn an_answer_while_loading_shortens_the_start() {
    let mut bench = Bench::new();
    bench.start();
    bench.meet(info_of(0, State::Leader));
    bench.tell(info_of(0, State::Leader));
    assert_eq!(bench.core.state(), State::Initializing);
    bench.seconds(1);
    assert_eq!(bench.core.state(), State::Standby);
}

#[test]
fn a_node_alone_leads_without_quorum_and_without_address() {
    let mut bench = Bench::new();
    bench.start();
    bench.seconds(20);
    assert_eq!(bench.core.state(), State::Leader);
    assert!(!bench.core.leads_with_quorum());
    assert!(bench.done().contains("settled"));
    assert!(!bench.core.is_escalated());
    assert_eq!(bench.core.node_list(None).quorum, -1);
}

#[test]
fn a_joined_standby_makes_the_quorum_and_its_loss_ends_it() {
    let mut bench = Bench::new();
    bench.lead_alone();
    bench.meet(info_of(0, State::Standby));
    bench.done();
    bench.say(0, Message::JoinLeader);
    assert_eq!(bench.done(), "0G= 0Y escalate 0I");
    assert!(bench.core.leads_with_quorum());
    bench.say(0, Message::GoingDown);
    assert!(bench.done().contains("de-escalate"));
    assert_eq!(bench.core.state(), State::Leader);
}

#[test]
fn a_candidate_with_more_priority_is_let_through_and_one_with_less_is_not() {
    for (priority, answer, state) in [
        (5, "0G=", State::ParticipateInElection),
        (0, "0R=", State::StandForLeader),
    ] {
        let mut bench = Bench::new();
        bench.start();
        bench.meet(info_of(0, State::Joining));
        bench.seconds(5);
        let mut candidate = info_of(0, State::StandForLeader);
        candidate.priority = priority;
        bench.tell(candidate);
        bench.done();
        bench.say(0, Message::StandForLeader);
        assert!(bench.done().starts_with(answer));
        assert_eq!(bench.core.state(), state);
    }
}

fn candidate() -> Bench {
    let mut bench = Bench::new();
    bench.start();
    bench.meet(info_of(0, State::Joining));
    bench.seconds(10);
    assert_eq!(bench.core.state(), State::StandForLeader);
    bench
}

#[test]
fn a_candidate_without_objection_leads_and_one_with_an_error_is_isolated() {
    for (answer, state) in [
        (Message::Accept, State::Leader),
        (Message::Reject, State::ParticipateInElection),
        (Message::Error, State::NetworkIsolation),
    ] {
        let mut bench = candidate();
        let id = bench.sent_id(b'S');
        bench.reply(inbound(0), id, answer);
        assert_eq!(bench.core.state(), state);
    }
    let mut bench = candidate();
    bench.seconds(4);
    assert_eq!(bench.core.state(), State::Leader);
}

#[test]
fn among_equals_the_older_one_wins() {
    for (age, answer) in [(0, "0R="), (1000, "0G=")] {
        let mut bench = candidate();
        let mut rival = info_of(0, State::StandForLeader);
        rival.standing = Some(Standing {
            since_startup: age,
            ..Standing::default()
        });
        bench.tell(rival);
        bench.done();
        bench.say(0, Message::StandForLeader);
        assert!(bench.done().starts_with(answer), "{age}");
    }
}

/// Ages are told in whole seconds and are old when they are read: each may take itself for the older one.
#[test]
fn among_equals_of_ours_the_lower_number_wins_whatever_their_ages() {
    for (peer, answer) in [(0, "0G="), (1, "1R=")] {
        for age in [0, 1000] {
            let mut bench = Bench::new();
            bench.start();
            bench.meet(ours(peer, State::Joining));
            bench.seconds(10);
            let mut rival = ours(peer, State::StandForLeader);
            rival.standing = Some(Standing {
                since_startup: age,
                ..Standing::default()
            });
            bench.tell(rival);
            bench.done();
            bench.say(peer, Message::StandForLeader);
            assert!(bench.done().starts_with(answer), "{peer} {age}");
        }
    }
}

#[test]
fn together_with_a_stock_node_equals_of_ours_go_by_their_ages_as_it_does() {
    let mut bench = Bench::new();
    bench.start();
    bench.meet(info_of(0, State::Joining));
    bench.meet(ours(1, State::Joining));
    bench.seconds(10);
    assert_eq!(bench.core.state(), State::StandForLeader);
    let mut rival = ours(1, State::StandForLeader);
    rival.standing = Some(Standing {
        since_startup: 1000,
        ..Standing::default()
    });
    bench.tell(rival);
    bench.done();
    bench.say(1, Message::StandForLeader);
    assert!(bench.done().starts_with("1G="));
}

/// All that have lost their leader initialize for the same second.
#[test]
fn a_candidate_is_answered_while_initializing() {
    for (peer, priority, answer, state) in [
        (0, 5, "0G=", State::ParticipateInElection),
        (0, 0, "0R=", State::StandForLeader),
        (0, 1, "0G=", State::ParticipateInElection),
        (1, 1, "1R=", State::StandForLeader),
    ] {
        let mut bench = Bench::new();
        bench.start();
        bench.meet(ours(peer, State::Joining));
        bench.tell(ours(peer, State::Joining));
        assert_eq!(bench.core.state(), State::Initializing);
        let mut candidate = ours(peer, State::StandForLeader);
        candidate.priority = priority;
        bench.tell(candidate);
        bench.done();
        bench.say(peer, Message::StandForLeader);
        assert!(bench.done().starts_with(answer), "{peer} {priority}");
        assert_eq!(bench.core.state(), state);
    }
}

#[test]
fn who_initializes_and_knows_a_leader_is_silent_to_a_candidate() {
    let mut bench = Bench::new();
    bench.start();
    bench.meet(ours(0, State::Leader));
    bench.meet(ours(1, State::Joining));
    bench.tell(ours(0, State::Leader));
    assert_eq!(bench.core.state(), State::Initializing);
    bench.done();
    bench.say(1, Message::StandForLeader);
    bench.say(1, Message::DeclareLeader);
    assert_eq!(bench.done(), "");
}

#[test]
fn a_declared_leader_is_answered_by_who_waits_for_one() {
    let mut bench = Bench::new();
    bench.start();
    bench.meet(ours(0, State::StandForLeader));
    let declared = |bench: &mut Bench, state| {
        assert_eq!(bench.core.state(), state);
        bench.done();
        bench.say(0, Message::DeclareLeader);
        assert_eq!(bench.done(), "0G=");
        assert_eq!(bench.core.state(), state);
    };
    declared(&mut bench, State::Loading);
    bench.seconds(5);
    declared(&mut bench, State::Joining);
    bench.tell(ours(0, State::StandForLeader));
    bench.seconds(4);
    declared(&mut bench, State::Initializing);
    bench.tell(ours(0, State::Leader));
    bench.seconds(1);
    assert_eq!(bench.core.state(), State::Standby);
}

#[test]
fn a_declared_leader_that_nobody_contradicts_is_one() {
    let mut bench = candidate();
    bench.seconds(4);
    bench.done();
    bench.seconds(4);
    assert!(bench.core.leader() == Some(Leader::Own));
}

/// The recorded answers to single requests, `15-single-request-answers.jsonl`.
#[test]
fn a_leader_answers_as_recorded() {
    let mut bench = Bench::new();
    bench.lead(&[info_of(0, State::Standby)]);
    let mut ask = |message: Message| {
        bench.say(0, message);
        bench.done()
    };
    assert_eq!(ask(Message::JoinLeader), "0G= 0Y");
    assert_eq!(ask(Message::StandForLeader), "0R=");
    assert_eq!(ask(Message::DeclareLeader), "0E=");
    assert_eq!(ask(Message::Service(Service::IResign)), "");
    assert_eq!(ask(Message::RequestInfo), "0I=");
    // Escalated, and the other is not.
    let beacon = super::super::super::codec::node_info::Beacon {
        state: State::Leader,
        standing: Standing {
            quorum: 1,
            ..Standing::default()
        },
    };
    assert_eq!(ask(Message::Beacon(Some(beacon))), "0#M");
    assert!(ask(Message::Beacon(None)).starts_with("0#E="));
    assert_eq!(bench.core.state(), State::Joining);
}

#[test]
fn a_standby_answers_as_recorded() {
    let mut bench = Bench::new();
    bench.follow(info_of(0, State::Leader));
    bench.meet(info_of(1, State::Standby));
    bench.done();
    let mut ask = |message: Message| {
        bench.say(1, message);
        bench.done()
    };
    assert_eq!(ask(Message::JoinLeader), "1R=");
    assert_eq!(ask(Message::StandForLeader), "1E= 0B");
    assert_eq!(ask(Message::DeclareLeader), "1E= 0B");
    assert_eq!(ask(Message::AskConfig), "1Z=");
    assert_eq!(ask(Message::DataRequest(Default::default())), "1D=");
    assert_eq!(ask(Message::Failover(down(0))), "1E=");
    let beacon = super::super::super::codec::node_info::Beacon {
        state: State::Leader,
        standing: Standing::default(),
    };
    assert_eq!(ask(Message::Beacon(Some(beacon))), "0#B= 1#B=");
}

#[test]
fn a_standby_answers_the_beacon_of_its_leader_and_gives_a_silent_one_up() {
    let mut bench = Bench::new();
    bench.follow(info_of(0, State::Leader));
    let beacon = super::super::super::codec::node_info::Beacon {
        state: State::Leader,
        standing: Standing::default(),
    };
    bench.say(0, Message::Beacon(Some(beacon)));
    assert_eq!(bench.done(), "0I=");
    bench.seconds(19);
    assert_eq!(bench.done(), "");
    bench.seconds(1);
    assert_eq!(bench.done(), "0B");
    bench.seconds(10);
    assert!(bench.done().contains("0#Y close"));
    assert_eq!(bench.core.state(), State::Joining);
}

#[test]
fn a_leader_whose_beacons_go_unanswered_loses_the_standby() {
    let mut bench = Bench::with(|s| s.write_lease = None);
    bench.lead(&[info_of(0, State::Standby)]);
    bench.tell(info_of(0, State::Standby));
    bench.seconds(20);
    assert!(bench.core.leads_with_quorum());
    bench.seconds(25);
    assert!(!bench.core.leads_with_quorum());
}

#[test]
fn a_node_lost_by_lifecheck_may_not_join_until_it_is_alive_or_introduces_itself() {
    let mut bench = Bench::new();
    bench.lead(&[info_of(0, State::Standby)]);
    bench.event(Event::Lifecheck {
        peer: 0,
        alive: false,
    });
    assert!(bench.done().starts_with("0#Y close"));
    bench.meet(info_of(0, State::Joining));
    assert!(bench.done().contains("0#Z 0B 0#I"));
    bench.say(0, Message::JoinLeader);
    assert!(bench.done().starts_with("0G="));
}

#[test]
fn an_orderly_stop_says_so_and_gives_the_address_up() {
    let mut bench = Bench::new();
    bench.lead(&[info_of(0, State::Standby)]);
    bench.event(Event::Stop);
    assert!(bench.done().starts_with("0X de-escalate close"));
}

#[test]
fn a_process_that_was_stopped_for_long_does_not_go_on_as_leader() {
    let mut bench = Bench::new();
    bench.lead(&[info_of(0, State::Standby)]);
    bench.now += Duration::from_secs(100);
    bench.event(Event::Timer);
    assert_eq!(bench.core.state(), State::Joining);
    assert!(bench.done().contains("de-escalate"));
}

/// The others have given it up meanwhile, and closed the connections on which it asks who leads.
#[test]
fn a_process_that_was_stopped_for_long_asks_no_connection_that_has_ended() {
    let mut bench = Bench::new();
    let (leader, other) = (info_of(0, State::Leader), info_of(1, State::Standby));
    bench.follow(leader.clone());
    bench.meet(other.clone());
    bench.done();
    let attempts: Vec<u32> = bench.core.peers.iter().map(|peer| peer.attempts).collect();
    bench.now += Duration::from_secs(100);
    bench.event(Event::Timer);
    assert_eq!(bench.core.state(), State::Joining);
    assert!(bench.done().starts_with("0B 1B"));
    for (peer, attempt) in attempts.into_iter().enumerate() {
        for conn in [Conn::Out { peer, attempt }, inbound(peer)] {
            bench.event(Event::Closed { conn });
        }
    }
    bench.meet(leader.clone());
    assert_eq!(bench.core.state(), State::Joining, "the other one may lead");
    bench.meet(other);
    assert_eq!(bench.core.state(), State::Initializing);
    bench.seconds(1);
    assert_eq!(bench.core.state(), State::Standby);
    assert_eq!(bench.core.leader(), Some(Leader::Peer(0)));
}

/// `wd_heartbeat_deadtime` is of heartbeats; by queries others call a node dead after `wd_interval` times
/// `wd_life_point`.
#[test]
fn with_the_lifecheck_by_query_the_dead_time_is_that_of_its_queries() {
    use crate::watchdog::settings::LifecheckMethod;
    let by = |method| {
        move |settings: &mut Settings| {
            settings.lifecheck.method = method;
            settings.lifecheck.interval = Duration::from_secs(4);
            settings.lifecheck.life_point = 3;
        }
    };
    let slept = |bench: &mut Bench| {
        bench.now = bench.core.wake.unwrap() + Duration::from_secs(12);
        bench.event(Event::Timer);
        bench.core.state()
    };
    for (method, beacon, state) in [
        (LifecheckMethod::Query, 3_000, State::Joining),
        (LifecheckMethod::Heartbeat, 7_500, State::Leader),
        (LifecheckMethod::External, 7_500, State::Leader),
    ] {
        let mut bench = Bench::with(by(method));
        bench.lead(&[info_of(0, State::Standby)]);
        let expected = Duration::from_millis(beacon);
        assert_eq!(bench.core.beacon_interval(), expected, "{method:?}");
        assert_eq!(slept(&mut bench), state, "{method:?}");
    }
}
