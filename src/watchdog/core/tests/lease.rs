//! The write lease, among nodes of ours.

use super::*;
use crate::watchdog::codec::function::Flags;
use crate::watchdog::codec::message::{LeaseAsk, LeaseGrant, Picture, Reign};
use crate::watchdog::write_lease::Serving;

/// Of whoever keeps no lease.
pub(super) const UNLIMITED: u32 = i32::MAX as u32;

/// Of a process whose predecessor had the lease on.
pub(super) fn started() -> Event {
    let memory = Memory {
        lease_is_on: true,
        ..Memory::default()
    };
    Event::Start { memory }
}

impl Bench {
    /// The answer of a standby to the last round. It has our picture.
    pub(super) fn grant(&mut self, peer: PeerId, idle: u64) {
        for _ in 0..2 {
            // The first of a reign makes a picture.
            self.grant_with(peer, idle, self.core.lease_picture(), false);
            self.event(Event::Timer);
        }
    }

    pub(super) fn grant_with(&mut self, peer: PeerId, idle: u64, picture: Picture, paused: bool) {
        let grant = LeaseGrant {
            round: self.core.lease_round(),
            remaining_ms: 0,
            heard_before_ms: 0,
            idle_ms: u32::try_from(1000 * idle).unwrap(),
            reign: self.core.lease_reign(),
            picture,
            paused,
        };
        self.say(peer, Message::LeaseGrant(grant));
    }

    /// The answer of a standby that keeps no lease, or knows a node that does not.
    pub(super) fn keeps_none(&self) -> LeaseGrant {
        LeaseGrant {
            round: self.core.lease_round(),
            remaining_ms: UNLIMITED,
            heard_before_ms: 0,
            idle_ms: 0,
            reign: self.core.lease_reign(),
            picture: self.core.lease_picture(),
            paused: false,
        }
    }

    /// The vote of peer 0, and our own: the primary is down.
    pub(super) fn all_want_down_primary(&mut self) {
        self.say(0, Message::Failover(down(0)));
        self.event(Event::Request {
            ticket: 1,
            request: down(0),
        });
    }

    /// Of another node, in this reign.
    pub(super) fn question(&self, round: u32, fresh: bool) -> LeaseAsk {
        LeaseAsk {
            round,
            reign: self.core.lease_reign(),
            picture: self.core.lease_picture(),
            pause: false,
            fresh,
        }
    }

    /// A question of the leader.
    pub(super) fn asks(&mut self, peer: PeerId, pause: bool) -> Option<LeaseGrant> {
        let ask = LeaseAsk {
            pause,
            ..self.question(4, false)
        };
        self.ask_with(peer, ask)
    }

    pub(super) fn ask_with(&mut self, peer: PeerId, ask: LeaseAsk) -> Option<LeaseGrant> {
        self.done();
        self.say(peer, Message::LeaseAsk(ask));
        self.actions.iter().find_map(|action| match action {
            Action::Send {
                message: Message::LeaseGrant(grant),
                ..
            } => Some(*grant),
            _ => None,
        })
    }

    /// The answer of the leader to our last question.
    pub(super) fn share(&mut self, seconds: u64) {
        let round = self.core.lease_round();
        self.say(
            0,
            Message::LeaseGrant(LeaseGrant {
                round,
                remaining_ms: u32::try_from(1000 * seconds).unwrap(),
                heard_before_ms: 0,
                idle_ms: 0,
                reign: self.core.lease_reign(),
                picture: self.core.lease_picture(),
                paused: false,
            }),
        );
    }
}

pub(super) fn leader() -> Bench {
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
    let off = |action: &Action| matches!(action, Action::Remember(memory) if !memory.lease_is_on);
    assert!(bench.actions.iter().any(off));
    assert!(bench.core.may_serve(bench.now));
}

#[test]
fn a_node_that_starts_alone_does_not_serve_when_the_lease_was_on() {
    let mut bench = Bench::new();
    bench.event(started());
    assert_eq!(bench.done(), "serving false");
    bench.seconds(60);
    assert!(!bench.core.may_serve(bench.now));
    let mut bench = Bench::new();
    bench.event(started());
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
    bench.seconds(9);
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
fn a_leader_decides_when_a_majority_has_supported_nobody_else_for_a_lease() {
    let mut bench = leader();
    let own = |bench: &mut Bench| {
        bench.done();
        let request = down(0);
        bench.event(Event::Request { ticket: 1, request });
        bench.done()
    };
    bench.grant_with(1, 0, bench.core.lease_picture(), false);
    // Twenty seconds after our own start; the standby has followed another one until three seconds ago.
    for idle in [3, 5, 7, 9, 11] {
        bench.grant(0, idle);
        assert_eq!(own(&mut bench), "answer Transition", "{idle}");
        bench.seconds(2);
    }
    bench.grant(0, 13);
    assert!(bench.core.coordinates(), "an eighth more, for clocks");
    bench.say(0, Message::Failover(down(0)));
    assert!(own(&mut bench).contains("failover 0"));
}

#[test]
fn a_backend_that_is_not_the_primary_goes_down_at_once() {
    let mut bench = leader();
    bench.grant(0, 100);
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
    let ask = |bench: &mut Bench, peer| bench.asks(peer, false).map(|grant| grant.idle_ms);
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
fn a_member_that_is_removed_is_waited_out_before_there_is_no_lease() {
    let mut bench = Bench::with(|s| s.quorum.lost_removal = Some(Duration::from_secs(5)));
    bench.lead(&[ours(0, State::Standby), ours(1, State::Standby)]);
    bench.event(Event::Lifecheck {
        peer: 1,
        alive: false,
    });
    bench.seconds(5);
    assert!(bench.core.keeps_lease());
    bench.seconds(11);
    assert!(bench.core.keeps_lease(), "ten seconds and an eighth");
    bench.seconds(1);
    assert!(!bench.core.keeps_lease());
}

#[test]
fn half_of_the_votes_is_not_enough_for_a_lease() {
    let mut bench = Bench::with(|s| {
        s.others.truncate(1);
        s.quorum.half_votes = true;
    });
    bench.lead(&[ours(0, State::Standby)]);
    assert!(!bench.core.keeps_lease());
}

/// A leader whose lease is held and whose picture is known; all have noticed that the lease is on.
pub(super) fn serving() -> Bench {
    let mut bench = leader();
    bench.grant(0, 100);
    bench.grant(1, 100);
    assert!(bench.core.may_serve(bench.now));
    assert!(bench.core.coordinates());
    bench
}

#[test]
fn before_a_promotion_every_standby_with_a_share_has_to_stand_still() {
    let mut bench = serving();
    // Peer 1 gets a share.
    let ask = bench.question(9, false);
    assert_eq!(bench.ask_with(1, ask).unwrap().remaining_ms, 5_000);
    bench.say(0, Message::Failover(down(0)));
    bench.done();
    bench.event(Event::Request {
        ticket: 1,
        request: down(0),
    });
    assert_eq!(bench.done(), "answer WillBeDone 0w 1w serving false");
    assert_eq!(bench.ask_with(1, ask).unwrap().remaining_ms, 0, "no share");
    let picture = bench.core.lease_picture();
    bench.grant_with(0, 100, picture, true);
    assert!(!bench.done().contains("failover"));
    bench.grant_with(1, 100, picture, true);
    assert!(bench.done().contains("failover 0"));
    assert!(bench.core.may_still_begin(&down(0), bench.now));
    assert!(!bench.core.may_serve(bench.now));
}

#[test]
fn a_standby_that_does_not_answer_is_waited_out() {
    let mut bench = serving();
    let ask = bench.question(9, false);
    bench.ask_with(1, ask);
    bench.all_want_down_primary();
    let picture = bench.core.lease_picture();
    for _ in 0..5 {
        bench.seconds(1);
        bench.grant_with(0, 100, picture, true);
    }
    assert!(
        !bench.done().contains("failover"),
        "half a lease, and an eighth of that"
    );
    bench.seconds(1);
    bench.grant_with(0, 100, picture, true);
    assert!(bench.done().contains("failover 0"));
}

#[test]
fn a_leader_that_may_decide_at_last_lets_all_look_at_the_backends() {
    let mut bench = leader();
    bench.grant_with(0, 3, bench.core.lease_picture(), false);
    assert!(!bench.core.coordinates());
    assert!(!bench.done().contains('K'));
    bench.seconds(9);
    bench.grant_with(0, 12, bench.core.lease_picture(), false);
    assert!(bench.core.coordinates());
    let done = bench.done();
    assert!(done.contains("0K 1K look"), "{done}");
    bench.grant(0, 100);
    assert!(!bench.done().contains('K'), "once");
}

pub(super) fn ask_for(bench: &mut Bench, request: FailoverRequest) -> String {
    bench.done();
    bench.event(Event::Request { ticket: 1, request });
    bench.done()
}

/// The network between the nodes was away, and their servers were all well.
#[test]
fn a_promotion_that_waits_is_dropped_with_the_lease_and_not_made_up_for() {
    let mut bench = serving();
    let ask = bench.question(9, false);
    bench.seconds(6);
    bench.ask_with(1, ask);
    bench.say(0, Message::Failover(down(0)));
    assert!(ask_for(&mut bench, down(0)).contains("answer WillBeDone"));
    bench.seconds(4);
    assert!(!bench.core.holds_lease(bench.now));
    bench.seconds(4);
    bench.grant(0, 100);
    bench.seconds(1);
    bench.grant(0, 100);
    assert!(bench.core.coordinates() && bench.core.may_serve(bench.now));
    assert!(!bench.done().contains("failover"));
    // Nor is it taken for settled: whoever sees it down is asked for the others.
    assert!(ask_for(&mut bench, down(0)).contains("answer BuildingConsensus"));
}

#[test]
fn a_leader_that_has_lost_its_lease_decides_no_promotion_and_says_so() {
    let mut bench = Bench::with(|s| s.consensus.when_quorum_exists = false);
    bench.lead(&[ours(0, State::Standby), ours(1, State::Standby)]);
    let mut order = down(0);
    order.flags = Flags::SWITCHOVER.with(Flags::CONFIRMED);
    assert_eq!(
        ask_for(&mut bench, order.clone()),
        "answer Transition",
        "it has had no time to get one"
    );
    bench.grant(0, 100);
    bench.seconds(11);
    assert_eq!(ask_for(&mut bench, down(0)), "answer NoQuorum");
    assert_eq!(ask_for(&mut bench, order.clone()), "answer NoQuorum");
    assert_eq!(ask_for(&mut bench, down(1)), "answer Proceed", "a standby");
    // Nor does one that has never had any.
    let mut bench = Bench::with(|s| s.consensus.when_quorum_exists = false);
    bench.event(started());
    bench.seconds(60);
    assert_eq!(ask_for(&mut bench, order), "answer NoQuorum");
}

#[test]
fn a_standby_that_stops_in_order_is_not_waited_for() {
    let mut bench = serving();
    let ask = bench.question(9, false);
    bench.ask_with(1, ask);
    bench.say(0, Message::Failover(down(0)));
    assert!(ask_for(&mut bench, down(0)).contains("answer WillBeDone"));
    bench.say(1, Message::GoingDown);
    assert!(bench.done().contains("failover 0"));
}

/// Its packets and heartbeats come, and ours do not reach it.
#[test]
fn a_leader_that_hears_nothing_is_given_up_after_the_dead_time_and_not_supported_before() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    bench.asks(0, false);
    bench.share(7);
    for second in 1..30 {
        bench.seconds(1);
        let supports = bench.asks(0, false).is_some();
        assert_eq!(supports, second < 12, "{second}");
        assert_eq!(bench.core.state(), State::Standby, "{second}");
    }
    bench.seconds(2);
    assert_eq!(bench.core.state(), State::Joining);
    // One that answers is kept.
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    for _ in 0..60 {
        bench.seconds(1);
        assert!(bench.asks(0, false).is_some());
        bench.share(0);
    }
    assert_eq!(bench.core.state(), State::Standby);
}

#[test]
fn a_new_primary_is_written_to_when_a_majority_knows_of_it() {
    let mut bench = serving();
    let before = bench.core.lease_picture();
    bench.backends(&[RemoteStatus::Down, RemoteStatus::Up], 1);
    let now = bench.core.lease_picture();
    assert!(now > before);
    assert!(!bench.core.may_serve(bench.now));
    bench.grant_with(0, 100, before, false);
    assert!(!bench.core.may_serve(bench.now));
    bench.grant_with(0, 100, now, false);
    assert!(bench.core.may_serve(bench.now));
}

#[test]
fn that_there_is_no_primary_any_more_makes_a_picture() {
    let mut bench = serving();
    let before = bench.core.lease_picture();
    bench.backends(&[RemoteStatus::Down, RemoteStatus::Down], -1);
    let now = bench.core.lease_picture();
    assert!(now > before);
    assert_eq!(bench.core.backend_status().unwrap().primary, -1);
    bench.backends(&[RemoteStatus::Down, RemoteStatus::Down], -1);
    assert_eq!(bench.core.lease_picture(), now, "nothing new");
}

/// If this node is lost meanwhile, the next leader shall begin it anew.
#[test]
fn what_a_failover_has_not_done_yet_makes_no_picture() {
    let mut bench = serving();
    let before = bench.core.lease_picture();
    bench.event(Event::FailoverBegins);
    bench.backends(&[RemoteStatus::Down, RemoteStatus::Up], -1);
    assert_eq!(bench.core.lease_picture(), before);
    let told = |bench: &Bench| bench.core.backend_status().unwrap().primary;
    assert_eq!(told(&bench), 0);
    bench.event(Event::FailoverEnds);
    assert!(bench.core.lease_picture() > before);
    assert_eq!(told(&bench), -1);
}

#[test]
fn a_request_that_is_dropped_after_all_ends_the_pause() {
    let mut bench = serving();
    bench.all_want_down_primary();
    assert!(bench.done().contains("failover 0"), "nobody has a share");
    assert!(!bench.core.may_serve(bench.now));
    bench.event(Event::FailoverDropped(down(0)));
    assert!(bench.core.may_serve(bench.now));
}

#[test]
fn a_new_leader_takes_over_what_one_of_the_majority_knows_and_it_does_not() {
    let mut bench = leader();
    let newer = Picture {
        reign: Reign { number: 1, node: 0 },
        change: 2,
    };
    bench.done();
    bench.grant_with(0, 100, newer, false);
    assert!(!bench.core.coordinates());
    let asked = bench.sent_id(b'd');
    assert!(!bench.core.holds_lease(bench.now));
    bench.reply(inbound(0), asked, Message::Data(all_up()));
    assert!(bench.done.contains(&"adopt".to_owned()));
    bench.grant_with(0, 100, newer, false);
    assert!(!bench.core.coordinates(), "it is not published yet");
    assert!(bench.core.lease_picture() < newer);
    bench.say(1, Message::DataRequest(Default::default()));
    assert!(!bench.done.iter().any(|done| done.starts_with("1D")));
    bench.adopted();
    assert!(bench.done().contains("1D"), "who has asked is told now");
    assert_eq!(bench.core.lease_picture(), newer);
    bench.grant_with(0, 100, newer, false);
    assert!(bench.core.coordinates());
    let own = bench.core.lease_picture();
    assert!(own > newer);
    assert!(!bench.core.may_serve(bench.now));
    bench.event(Event::Timer);
    bench.grant_with(0, 100, own, false);
    assert!(bench.core.may_serve(bench.now));
}

/// Leads four others, of which three have joined: peers 0 to 3 are the nodes 0, 2, 3 and 4.
pub(super) fn five() -> Bench {
    let mut bench = Bench::with(|s| {
        let five = testing::settings(1, 5);
        s.others = five.others;
    });
    bench.event(started());
    bench.seconds(20);
    let standby = |node| NodeInfo {
        write_lease_ms: Some(10_000),
        ..info(node, State::Standby)
    };
    for (peer, node) in [(0, 0), (1, 2), (2, 3)] {
        let attempt = bench.core.peers[peer].attempts;
        let out = Conn::Out { peer, attempt };
        bench.event(Event::Connected { conn: out });
        let conn = inbound(peer);
        let source = format!("10.0.0.{node}");
        bench.event(Event::Accepted { conn, source });
        bench.packet(conn, Message::AddNode(Box::new(standby(node))));
        bench.say(peer, Message::JoinLeader);
    }
    bench.seconds(5);
    bench.done();
    bench
}

/// Of five nodes this one, one that knows the newest picture and is lost again, and one that knows nothing: no
/// majority that knows what a majority knew.
#[test]
fn a_node_that_is_lost_before_a_majority_has_answered_is_none_of_it() {
    let mut bench = five();
    let newest = Picture {
        reign: Reign { number: 9, node: 0 },
        change: 1,
    };
    let own = bench.core.lease_picture();
    bench.grant_with(0, 100, newest, false);
    bench.event(Event::Lifecheck {
        peer: 0,
        alive: false,
    });
    bench.grant_with(1, 100, own, false);
    assert!(!bench.core.coordinates(), "two of five");
    bench.grant_with(2, 100, own, false);
    assert!(bench.core.coordinates());
}

#[test]
fn a_standby_supports_no_reign_below_the_highest_it_has_heard_of() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    let reign = |number| Reign { number, node: 0 };
    let ask = |number| LeaseAsk {
        round: 4,
        reign: reign(number),
        picture: Picture::default(),
        pause: false,
        fresh: false,
    };
    assert_eq!(bench.ask_with(0, ask(5)).unwrap().reign, reign(5));
    let remembered = |action: &Action| matches!(action, Action::Remember(m) if m.reign == reign(5));
    assert!(bench.actions.iter().any(remembered), "before it answers");
    let refusal = bench.ask_with(0, ask(4)).unwrap();
    assert_eq!((refusal.reign, refusal.idle_ms), (reign(5), 0));
}

#[test]
fn a_paused_standby_serves_no_more_by_an_answer_that_comes_late() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    bench.asks(0, false);
    bench.share(7);
    assert!(bench.core.may_serve(bench.now));
    bench.seconds(1);
    assert!(bench.asks(0, true).unwrap().paused);
    assert!(!bench.core.may_serve(bench.now));
    bench.share(7);
    assert!(
        !bench.core.may_serve(bench.now),
        "asked for before the pause"
    );
    bench.seconds(3);
    bench.share(7);
    assert!(bench.core.may_serve(bench.now));
}

#[test]
fn a_standby_with_an_older_picture_takes_the_leaders_over_before_it_serves() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    bench.asks(0, false);
    bench.share(7);
    let mut ask = LeaseAsk {
        round: 5,
        reign: Reign { number: 3, node: 0 },
        picture: Picture {
            reign: Reign { number: 3, node: 0 },
            change: 1,
        },
        pause: false,
        fresh: false,
    };
    let grant = bench.ask_with(0, ask).unwrap();
    assert_eq!(grant.picture, Picture::default());
    assert!(!bench.core.may_serve(bench.now));
    let asked = bench.sent_id(b'd');
    bench.reply(inbound(0), asked, Message::Data(all_up()));
    let adopt = std::mem::take(&mut bench.actions);
    let news = ask.picture;
    let remembers = |actions: &[Action]| {
        let is_it = |action: &Action| matches!(action, Action::Remember(m) if m.picture == news);
        actions.iter().any(is_it)
    };
    assert!(!remembers(&adopt), "the status file is an older one");
    ask.round = 6;
    let grant = bench.ask_with(0, ask).unwrap();
    assert_eq!(grant.picture, Picture::default(), "not published yet");
    bench.share(7);
    assert!(!bench.core.may_serve(bench.now));
    bench.actions = adopt;
    bench.adopted();
    assert!(remembers(&bench.actions));
    ask.round = 7;
    assert_eq!(bench.ask_with(0, ask).unwrap().picture, ask.picture);
    bench.share(7);
    assert!(bench.core.may_serve(bench.now));
}

#[test]
fn only_the_last_that_the_supervisor_was_told_to_take_over_counts() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    let picture = |change| Picture {
        reign: Reign { number: 3, node: 0 },
        change,
    };
    let mut numbers = Vec::new();
    for change in [1, 2] {
        bench.ask_with(
            0,
            LeaseAsk {
                round: change,
                reign: picture(1).reign,
                picture: picture(change),
                pause: false,
                fresh: false,
            },
        );
        let asked = bench.sent_id(b'd');
        bench.reply(inbound(0), asked, Message::Data(all_up()));
        numbers.extend(bench.actions.iter().filter_map(|action| match action {
            Action::Adopt { number, .. } => Some(*number),
            _ => None,
        }));
    }
    let [first, last] = numbers[..] else {
        panic!("{numbers:?}");
    };
    bench.event(Event::Adopted { number: first });
    assert_eq!(bench.core.lease_picture(), Picture::default());
    bench.event(Event::Adopted { number: last });
    assert_eq!(bench.core.lease_picture(), picture(2));
}

/// It may be cut off at the moment when the lease goes on, and serve without limit until it has lost its leader.
#[test]
fn when_the_lease_goes_on_a_promotion_waits_until_all_have_taken_notice() {
    let promoting = || {
        let mut bench = leader();
        bench.grant(0, 100);
        bench.all_want_down_primary();
        let done = bench.done();
        assert!(done.contains("WillBeDone") && !done.contains("failover"));
        bench
    };
    let mut bench = promoting();
    bench.grant_with(1, 100, bench.core.lease_picture(), false);
    assert!(bench.done().contains("failover 0"), "it knows");
    let mut bench = promoting();
    bench.seconds(5);
    bench.grant_with(0, 100, bench.core.lease_picture(), true);
    assert!(!bench.done().contains("failover 0"), "nobody knows");
    // Lost for longer than it takes to notice that.
    let mut bench = leader();
    bench.grant(0, 100);
    for _ in 0..40 {
        bench.seconds(1);
        let beacons: Vec<u32> = bench.actions.iter().filter_map(beacon).collect();
        bench.actions.clear();
        for id in beacons {
            let info = Message::NodeInfo(Box::new(ours(0, State::Standby)));
            bench.reply(inbound(0), id, info);
        }
        bench.grant_with(0, 100, bench.core.lease_picture(), false);
    }
    bench.say(0, Message::Failover(down(0)));
    assert!(ask_for(&mut bench, down(0)).contains("failover 0"));
}

fn beacon(action: &Action) -> Option<u32> {
    match action {
        Action::Send {
            id,
            message: Message::Beacon(_),
            ..
        } => Some(*id),
        _ => None,
    }
}

#[test]
fn a_standby_without_lease_that_loses_its_leader_goes_by_the_lease_when_all_are_ours() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    bench.meet(ours(1, State::Standby));
    assert!(!bench.core.keeps_lease() && bench.core.may_serve(bench.now));
    bench.event(Event::Lifecheck {
        peer: 0,
        alive: false,
    });
    assert!(bench.core.keeps_lease() && !bench.core.may_serve(bench.now));
}

/// Somebody has led a minority meanwhile, as nodes of older releases of ours do with a number of their own.
#[test]
fn a_leader_that_hears_of_a_higher_reign_goes_on_above_it_and_keeps_the_address() {
    let mut bench = serving();
    bench.seconds(1);
    bench.done();
    let higher = Reign {
        number: bench.core.lease_reign().number + 7,
        node: 2,
    };
    bench.say(
        1,
        Message::LeaseGrant(LeaseGrant {
            round: bench.core.lease_round(),
            remaining_ms: 0,
            heard_before_ms: 0,
            idle_ms: 0,
            reign: higher,
            picture: Picture::default(),
            paused: false,
        }),
    );
    assert!(bench.core.lease_reign() > higher);
    assert!(bench.core.coordinates(), "it still holds the lease");
    assert!(bench.core.leads_with_quorum());
    assert!(!bench.core.may_still_begin(&down(0), bench.now));
    assert!(!bench.done().contains("de-escalate"));
    bench.grant(0, 100);
    assert!(bench.core.holds_lease(bench.now) && bench.core.may_serve(bench.now));
    assert!(!bench.done().contains("de-escalate"));
}

#[test]
fn a_leader_that_hears_of_a_higher_reign_and_of_nobody_else_decides_no_longer_than_its_lease() {
    let mut bench = serving();
    let reign = Reign {
        number: bench.core.lease_reign().number + 1,
        node: 2,
    };
    bench.say(
        1,
        Message::LeaseGrant(LeaseGrant {
            round: bench.core.lease_round(),
            remaining_ms: 0,
            heard_before_ms: 0,
            idle_ms: 0,
            reign,
            picture: Picture::default(),
            paused: false,
        }),
    );
    bench.seconds(9);
    assert!(bench.core.coordinates());
    bench.seconds(1);
    assert!(!bench.core.coordinates());
}

#[test]
fn who_leads_a_minority_takes_no_number() {
    let mut bench = Bench::new();
    bench.event(started());
    bench.seconds(60);
    assert_eq!(bench.core.leader(), Some(Leader::Own));
    assert_eq!(bench.core.lease_reign(), Reign::default());
    bench.meet(ours(0, State::Standby));
    bench.say(0, Message::JoinLeader);
    assert_eq!(bench.core.lease_reign(), Reign { number: 1, node: 1 });
}

#[test]
fn a_leader_that_has_not_heard_of_all_keeps_the_lease_when_a_standby_does() {
    let mut bench = Bench::new();
    bench.lead(&[ours(0, State::Standby)]);
    assert!(!bench.core.keeps_lease());
    let ask = LeaseAsk {
        round: 9,
        reign: Reign { number: 4, node: 2 },
        picture: Picture::default(),
        pause: false,
        fresh: false,
    };
    assert_eq!(bench.ask_with(0, ask).unwrap().remaining_ms, 0);
    assert!(bench.core.keeps_lease());
    assert!(!bench.core.may_serve(bench.now));
    assert!(!bench.core.coordinates());
}

#[test]
fn a_leader_without_lease_lets_its_standbys_serve() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    bench.asks(0, false);
    assert!(bench.core.keeps_lease());
    assert!(!bench.core.may_serve(bench.now));
    bench.share(2_147_483);
    bench.say(
        0,
        Message::LeaseGrant(LeaseGrant {
            round: bench.core.lease_round(),
            remaining_ms: i32::MAX.unsigned_abs(),
            heard_before_ms: 0,
            idle_ms: 0,
            reign: bench.core.lease_reign(),
            picture: bench.core.lease_picture(),
            paused: false,
        }),
    );
    assert!(!bench.core.keeps_lease());
    assert!(bench.core.may_serve(bench.now));
}

#[test]
fn a_standby_that_knows_a_stock_node_keeps_no_lease_for_a_leader_that_does_not() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    bench.asks(0, false);
    assert!(bench.core.keeps_lease());
    bench.meet(info_of(1, State::Standby));
    assert!(!bench.core.keeps_lease());
    let grant = bench.asks(0, false).unwrap();
    assert_eq!(grant.remaining_ms, i32::MAX.unsigned_abs());
    assert!(!bench.core.keeps_lease());
    let remembers = |action: &Action| matches!(action, Action::Remember(_));
    assert!(!bench.actions.iter().any(remembers), "nothing has changed");
}

#[test]
fn a_leader_has_no_lease_when_a_standby_knows_a_stock_node() {
    let mut bench = serving();
    bench.say(
        1,
        Message::LeaseGrant(LeaseGrant {
            round: bench.core.lease_round(),
            remaining_ms: i32::MAX.unsigned_abs(),
            heard_before_ms: 0,
            idle_ms: 0,
            reign: bench.core.lease_reign(),
            picture: bench.core.lease_picture(),
            paused: false,
        }),
    );
    assert!(!bench.core.keeps_lease());
    assert!(bench.core.may_serve(bench.now));
    bench.tell(ours(0, State::Standby));
    bench.seconds(5);
    assert!(!bench.core.keeps_lease(), "nothing has changed");
    bench.meet(ours(0, State::Standby));
    assert!(bench.core.keeps_lease(), "it may be another one now");
}

/// When a majority was heard of last, as far as that is sure.
fn heard(bench: &Bench) -> Option<Instant> {
    match bench.core.serving() {
        Serving::Until { heard, .. } => Some(heard),
        _ => None,
    }
}

#[test]
fn a_leader_that_is_asked_to_hear_of_a_majority_sends_a_round_at_once() {
    let mut bench = serving();
    bench.seconds(1);
    bench.done();
    let wish = bench.now;
    bench.event(Event::Cover);
    assert_eq!(bench.done(), "0w 1w");
    assert!(heard(&bench).unwrap() < wish);
    bench.grant_with(0, 100, bench.core.lease_picture(), false);
    assert!(heard(&bench).unwrap() >= wish);
}

#[test]
fn wishes_that_come_while_a_round_is_under_way_share_the_next_one() {
    let mut bench = serving();
    bench.seconds(1);
    bench.event(Event::Cover);
    bench.done();
    bench.after(Duration::from_millis(1));
    let wish = bench.now;
    bench.event(Event::Cover);
    bench.event(Event::Cover);
    assert_eq!(bench.done(), "");
    bench.grant_with(0, 100, bench.core.lease_picture(), false);
    assert_eq!(bench.done(), "0w 1w");
    assert!(heard(&bench).unwrap() < wish);
    bench.grant_with(0, 100, bench.core.lease_picture(), false);
    assert!(heard(&bench).unwrap() >= wish);
    assert_eq!(bench.done(), "", "nobody wishes any more");
}

#[test]
fn a_standby_is_answered_when_a_round_behind_its_question_has_its_majority() {
    let mut bench = serving();
    bench.seconds(1);
    let ask = bench.question(9, true);
    assert_eq!(bench.ask_with(1, ask), None);
    assert_eq!(bench.done(), "0w 1w");
    bench.grant_with(0, 100, bench.core.lease_picture(), false);
    let answer = bench.actions.iter().find_map(|action| match action {
        Action::Send {
            message: Message::LeaseGrant(grant),
            ..
        } => Some(*grant),
        _ => None,
    });
    let answer = answer.expect("now");
    assert_eq!((answer.round, answer.heard_before_ms), (9, 0));
    assert_eq!(answer.remaining_ms, 5_000);
}

/// Its next process counts from one again: the answer would fit another question.
#[test]
fn a_standby_that_restarts_gets_no_answer_to_what_its_last_process_has_asked() {
    let mut bench = serving();
    bench.seconds(1);
    let ask = bench.question(9, true);
    assert_eq!(bench.ask_with(1, ask), None);
    bench.say(1, Message::GoingDown);
    bench.meet(ours(1, State::Standby));
    bench.say(1, Message::JoinLeader);
    bench.grant_with(0, 100, bench.core.lease_picture(), false);
    let answers = |action: &Action| matches!(action, Action::Send { message: Message::LeaseGrant(grant), .. } if grant.round == 9);
    assert!(!bench.actions.iter().any(answers));
}

#[test]
fn a_standby_takes_its_share_for_as_fresh_as_its_leader_says() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    bench.asks(0, false);
    bench.share(7);
    bench.seconds(1);
    bench.done();
    let wish = bench.now;
    bench.event(Event::Cover);
    assert!(bench.done().contains("0w"));
    bench.after(Duration::from_millis(2));
    bench.share(7);
    assert_eq!(heard(&bench), Some(wish));
}
