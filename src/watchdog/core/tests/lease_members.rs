//! The write lease when nodes come and go: who is removed, replaced, stopped, cut off.

use super::{
    lease::{UNLIMITED, leader, serving, started},
    *,
};
use crate::watchdog::{codec::function::Flags, settings::LifecheckMethod};

fn messages(bench: &Bench) -> Vec<&str> {
    let logs = bench.actions.iter().filter_map(|action| match action {
        Action::Log(entry) => Some(entry.message.as_str()),
        _ => None,
    });
    logs.collect()
}

fn asks_about_the_lease(bench: &Bench) -> bool {
    let asks = |action: &Action| {
        matches!(
            action,
            Action::Send {
                message: Message::LeaseAsk(_),
                ..
            }
        )
    };
    bench.actions.iter().any(asks)
}

#[test]
fn who_leads_after_a_member_was_removed_serves_without_lease_after_a_while() {
    let mut settings = testing::settings(1, 2);
    settings.quorum.remove_shutdown_nodes = true;
    let mut bench = Bench::of(settings);
    bench.start();
    bench.meet(ours(0, State::Leader));
    bench.seconds(5);
    bench.tell(ours(0, State::Leader));
    bench.seconds(5);
    let id = bench.sent_id(b'J');
    bench.reply(inbound(0), id, Message::Accept);
    bench.seconds(1);
    bench.share(4);
    assert!(bench.core.keeps_lease());
    bench.say(0, Message::GoingDown);
    bench.seconds(10);
    assert!(!bench.core.may_serve(bench.now), "it may still be there");
    bench.seconds(20);
    assert!(bench.core.may_serve(bench.now));
    assert!(bench.core.is_escalated());
    let why = "is no member of the cluster any more";
    assert!(messages(&bench).iter().any(|text| text.contains(why)));
}

#[test]
fn a_leader_that_has_removed_a_member_and_was_suspended_does_not_serve_as_it_wakes() {
    let mut bench = Bench::with(|s| s.quorum.lost_removal = Some(Duration::from_secs(5)));
    bench.lead(&[ours(0, State::Standby), ours(1, State::Standby)]);
    bench.grant(0, 100);
    bench.grant(1, 100);
    bench.event(Event::Lifecheck {
        peer: 1,
        alive: false,
    });
    for _ in 0..50 {
        bench.after(Duration::from_millis(100));
        bench.grant_with(0, 100, bench.core.lease_picture(), false);
    }
    assert!(bench.core.keeps_lease());
    bench.now += Duration::from_secs(40);
    bench.event(Event::Timer);
    assert!(bench.core.keeps_lease());
    assert!(!bench.core.may_serve(bench.now));
}

/// Both others are restarted: the address would come with the first, go with the old lease, and come again.
#[test]
fn what_is_left_of_a_lease_from_before_the_quorum_was_lost_brings_no_address() {
    let mut bench = serving();
    for peer in 0..2 {
        bench.say(peer, Message::GoingDown);
    }
    assert!(bench.done().contains("de-escalate"));
    assert!(bench.core.holds_lease(bench.now));
    bench.seconds(1);
    bench.meet(ours(0, State::Standby));
    bench.say(0, Message::JoinLeader);
    // It has just started, and may have supported another one before.
    for _ in 0..3 {
        bench.grant_with(0, 1, bench.core.lease_picture(), false);
        bench.seconds(1);
    }
    assert!(bench.core.holds_lease(bench.now));
    assert!(!bench.core.leads_with_quorum());
    let why =
        "there is no quorum without the write lease, which no majority has granted yet (1 of 2";
    assert!(messages(&bench).iter().any(|text| text.contains(why)));
    assert!(!bench.done().contains("escalate"));
    bench.grant(0, 100);
    assert!(bench.core.leads_with_quorum() && bench.core.is_escalated());
}

/// The leader has heard first of the node that takes the place of a stock node.
#[test]
fn a_standby_that_has_refused_the_lease_asks_for_it_when_it_can_keep_one() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    bench.meet(info_of(1, State::Standby));
    bench.say(1, Message::GoingDown);
    bench.seconds(3);
    let grant = bench.asks(0, false).unwrap();
    assert_eq!(grant.remaining_ms, UNLIMITED);
    bench.done();
    bench.meet(ours(1, State::Loading));
    bench.tell(ours(1, State::Standby));
    bench.seconds(3);
    assert!(bench.core.keeps_lease());
    assert!(asks_about_the_lease(&bench));
}

#[test]
fn a_leader_takes_the_question_of_a_standby_that_has_refused_for_its_consent() {
    let mut bench = leader();
    bench.event(Event::Timer);
    let refusal = bench.keeps_none();
    bench.say(0, Message::LeaseGrant(refusal));
    assert!(!bench.core.keeps_lease());
    let why = format!("not kept by \"{}\"", bench.core.peer_label(0));
    assert!(messages(&bench).iter().any(|text| text.contains(&why)));
    bench.asks(0, false);
    assert!(bench.core.keeps_lease());
}

/// While it was off the others have served without limit, and nobody has counted the pictures.
#[test]
fn a_lease_that_goes_on_anew_gives_a_leader_nothing_of_what_it_had_before() {
    let mut bench = serving();
    let before = bench.core.lease_reign();
    bench.tell(info_of(1, State::Standby));
    assert!(!bench.core.keeps_lease());
    bench.tell(ours(1, State::Standby));
    assert!(bench.core.keeps_lease());
    assert!(!bench.core.may_serve(bench.now));
    assert!(!bench.core.holds_lease(bench.now));
    assert!(!bench.core.coordinates());
    assert!(bench.core.lease_reign() > before);
}

#[test]
fn a_lease_that_goes_on_anew_gives_a_standby_nothing_of_what_it_had_before() {
    let mut bench = Bench::new();
    bench.follow(ours(0, State::Leader));
    bench.asks(0, false);
    bench.share(7);
    assert!(bench.core.keeps_lease() && bench.core.may_serve(bench.now));
    let off = bench.keeps_none();
    bench.say(0, Message::LeaseGrant(off));
    assert!(!bench.core.keeps_lease());
    bench.asks(0, false);
    assert!(bench.core.keeps_lease());
    assert!(!bench.core.may_serve(bench.now));
}

/// It may have been the primary, for all that is known: which server becomes it is decided then.
#[test]
fn while_no_primary_is_known_every_failover_waits_like_one_of_the_primary() {
    let mut bench = serving();
    bench.backends(&[RemoteStatus::Up, RemoteStatus::Up], -1);
    bench.say(0, Message::Failover(down(1)));
    bench.done();
    bench.event(Event::Request {
        ticket: 1,
        request: down(1),
    });
    let done = bench.done();
    assert!(done.contains("answer WillBeDone"), "{done}");
}

/// Without lease nothing has to wait, and who leads no more must not begin it therefore.
#[test]
fn a_promotion_that_waits_is_dropped_by_a_leader_that_gives_way_to_a_stock_node() {
    let mut bench = serving();
    // It has a share.
    bench.asks(1, false);
    bench.all_want_down_primary();
    assert!(bench.done().contains("answer WillBeDone"));
    let better = Standing {
        since_state: 1000,
        quorum: 1,
        alive: 3,
        escalated: true,
        ..Standing::default()
    };
    bench.tell(NodeInfo {
        standing: Some(better),
        ..info_of(0, State::Leader)
    });
    assert!(!bench.core.keeps_lease() && !bench.core.leader_is_own());
    let why = "does not begin: this node leads no more";
    assert!(messages(&bench).iter().any(|text| text.contains(why)));
    assert!(!bench.done().contains("failover"));
}

#[test]
fn a_leader_without_majority_says_that_there_is_no_quorum_whatever_it_is_asked() {
    for exists in [true, false] {
        for more in [Flags::default(), Flags::CONFIRMED] {
            let mut bench = Bench::with(|s| s.consensus.when_quorum_exists = exists);
            bench.event(started());
            bench.seconds(120);
            bench.done();
            let mut request = down(1);
            request.flags = Flags::SWITCHOVER.with(more);
            bench.event(Event::Request { ticket: 1, request });
            assert!(bench.done().contains("NoQuorum"), "{exists} {more:?}");
        }
    }
}

/// Others call a node dead after `wd_interval` times `wd_life_point`, and `wd_heartbeat_deadtime` is of heartbeats.
fn by_queries(interval: u64) -> impl FnOnce(&mut Settings) {
    move |settings| {
        settings.lifecheck.method = LifecheckMethod::Query;
        settings.lifecheck.interval = Duration::from_secs(interval);
        settings.lifecheck.life_point = 3;
        settings.lifecheck.deadtime = Duration::from_secs(30);
    }
}

#[test]
fn with_the_lifecheck_by_query_a_leader_that_hears_nothing_is_given_up_after_its_queries() {
    for interval in [4, 8] {
        let mut bench = Bench::with(by_queries(interval));
        bench.follow(ours(0, State::Leader));
        bench.asks(0, false);
        bench.share(7);
        // It is heard itself.
        for second in 1..3 * interval {
            bench.seconds(1);
            bench.asks(0, false);
            assert_eq!(bench.core.state(), State::Standby, "{second}");
        }
        bench.seconds(2);
        assert_eq!(bench.core.state(), State::Joining, "{interval}");
    }
}

/// It serves without limit until then.
#[test]
fn with_the_lifecheck_by_query_a_node_that_knows_nothing_of_the_lease_has_the_time_of_its_queries()
{
    let mut bench = Bench::with(by_queries(20));
    bench.lead(&[ours(0, State::Standby), ours(1, State::Standby)]);
    assert!(bench.core.keeps_lease());
    bench.seconds(79);
    assert!(!bench.core.bound_by_time());
    bench.seconds(1);
    assert!(bench.core.bound_by_time());
}

#[test]
fn why_writes_wait_is_said() {
    let mut bench = serving();
    bench.say(0, Message::Failover(down(0)));
    bench.actions.clear();
    bench.event(Event::Request {
        ticket: 1,
        request: down(0),
    });
    let texts = messages(&bench).join("\n");
    assert!(texts.contains("writes wait until the failover"), "{texts}");
    let mut bench = serving();
    bench.actions.clear();
    bench.seconds(20);
    let texts = messages(&bench).join("\n");
    assert!(texts.contains("writes wait: no majority"), "{texts}");
}

#[test]
fn a_lease_that_goes_on_anew_lets_a_promotion_wait_until_all_have_taken_notice_anew() {
    let mut bench = serving();
    bench.tell(info_of(1, State::Standby));
    bench.tell(ours(1, State::Standby));
    bench.grant(0, 100);
    assert!(bench.core.coordinates());
    bench.all_want_down_primary();
    assert!(!bench.done().contains("failover"));
    // Its question shows that it knows.
    bench.asks(1, false);
    assert!(bench.done().contains("failover 0"));
}

fn leader_that_has_removed_a_member() -> Bench {
    let mut bench = Bench::with(|s| s.quorum.lost_removal = Some(Duration::from_secs(5)));
    bench.lead(&[ours(0, State::Standby), ours(1, State::Standby)]);
    bench.event(Event::Lifecheck {
        peer: 1,
        alive: false,
    });
    bench.seconds(6);
    assert_eq!(bench.core.member_count(), 1);
    bench
}

#[test]
fn news_of_other_nodes_do_not_make_the_end_of_the_lease_wait() {
    let mut bench = leader_that_has_removed_a_member();
    for _ in 0..11 {
        bench.seconds(1);
        bench.tell(ours(0, State::Standby));
    }
    assert!(!bench.core.keeps_lease());
}

#[test]
fn the_lease_does_not_end_when_the_removed_node_is_back() {
    let mut bench = leader_that_has_removed_a_member();
    bench.event(Event::Lifecheck {
        peer: 1,
        alive: true,
    });
    for _ in 0..15 {
        bench.seconds(1);
        bench.tell(ours(0, State::Standby));
    }
    assert!(bench.core.keeps_lease());
}
