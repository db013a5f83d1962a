use super::*;
use crate::watchdog::testing;

struct Bench {
    check: Lifecheck,
    base: Instant,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Settings)) -> Bench {
        let mut settings = testing::settings(0, 3);
        settings.lifecheck.deadtime = Duration::from_secs(30);
        settings.lifecheck.interval = Duration::from_secs(10);
        settings.heartbeat.keepalive = Duration::from_secs(2);
        change(&mut settings);
        let base = Instant::now();
        let mut check = Lifecheck::new(Arc::new(settings), base);
        let _ = check.handle(Event::Start, base);
        Bench { check, base }
    }

    fn at(&mut self, seconds: u64, event: Event) -> Vec<Action> {
        let now = self.base + Duration::from_secs(seconds);
        let actions = self.check.handle(event, now).into_iter();
        actions
            .filter(|a| {
                !matches!(
                    a,
                    Action::Log(_) | Action::WakeAt(_) | Action::SendHeartbeats
                )
            })
            .collect()
    }

    fn beat(&mut self, seconds: u64, node: u32) -> Vec<Action> {
        let heartbeat = Heartbeat {
            host: format!("10.0.0.{node}"),
            pgpool_port: 9999,
            sent: (u32::try_from(1000 + seconds).unwrap(), 0),
        };
        self.at(
            seconds,
            Event::Heartbeat {
                heartbeat,
                source: "1.2.3.4".to_owned(),
                signed: true,
            },
        )
    }

    /// A timer each second, as often as any is set.
    fn idle(&mut self, from: u64, to: u64) -> Vec<(u64, Action)> {
        let mut found = Vec::new();
        for second in from..=to {
            let actions = self.at(second, Event::Timer);
            found.extend(actions.into_iter().map(|action| (second, action)));
        }
        found
    }
}

fn dead(peer: PeerId) -> Action {
    Action::Report { peer, alive: false }
}

fn alive(peer: PeerId) -> Action {
    Action::Report { peer, alive: true }
}

#[test]
fn a_silent_node_is_dead_after_the_dead_time_and_alive_with_the_next_heartbeat() {
    let mut bench = Bench::new(|_| {});
    assert_eq!(bench.beat(1, 1), []);
    assert_eq!(bench.idle(2, 100), [(31, dead(0))]);
    assert_eq!(bench.beat(101, 1), [alive(0)]);
}

#[test]
fn a_node_that_never_appears_is_not_judged_and_hides_nobody() {
    let mut bench = Bench::new(|_| {});
    let _ = bench.beat(0, 2);
    assert_eq!(bench.idle(1, 200), [(30, dead(1))]);
}

#[test]
fn unsigned_and_foreign_heartbeats_are_nothing() {
    let mut bench = Bench::new(|_| {});
    let mut heartbeat = Heartbeat {
        host: "10.0.0.1".to_owned(),
        pgpool_port: 9999,
        sent: (1, 1),
    };
    let event = |heartbeat: &Heartbeat, signed| Event::Heartbeat {
        heartbeat: heartbeat.clone(),
        source: "x".to_owned(),
        signed,
    };
    let _ = bench.at(1, event(&heartbeat, false));
    heartbeat.pgpool_port = 1;
    let _ = bench.at(1, event(&heartbeat, true));
    assert_eq!(bench.idle(2, 60), []);
}

#[test]
fn after_a_stop_of_this_process_nobody_is_dead_at_once() {
    let mut bench = Bench::new(|_| {});
    let _ = bench.beat(1, 1);
    assert_eq!(bench.at(100, Event::Timer), []);
    assert_eq!(bench.idle(101, 140), [(130, dead(0))]);
}

#[test]
fn nobody_is_judged_during_online_recovery() {
    let mut bench = Bench::new(|_| {});
    let _ = bench.beat(1, 1);
    let _ = bench.at(2, Event::Recovering(true));
    assert_eq!(bench.idle(3, 100), []);
    let _ = bench.at(100, Event::Recovering(false));
    assert_eq!(bench.idle(101, 140), [(130, dead(0))]);
}

#[test]
fn queries_in_a_row_that_fail_make_a_node_dead_and_one_makes_it_alive() {
    let mut bench = Bench::new(|s| s.lifecheck.method = LifecheckMethod::Query);
    assert_eq!(
        bench.idle(1, 10),
        [
            (10, Action::Query { peer: 0 }),
            (10, Action::Query { peer: 1 })
        ]
    );
    let answer = |peer, answered| Event::Queried { peer, answered };
    let _ = bench.at(10, answer(0, true));
    assert_eq!(bench.at(11, answer(1, false)), [], "never seen");
    for _ in 0..2 {
        assert_eq!(bench.at(12, answer(0, false)), []);
    }
    assert_eq!(bench.at(12, answer(0, false)), [dead(0)]);
    assert_eq!(bench.at(13, answer(0, true)), [alive(0)]);
}

#[test]
fn failures_count_in_a_row_and_from_the_last_answer_recovery_or_stop_of_this_process_on() {
    for between in ["answer", "recovery", "stop"] {
        let mut bench = Bench::new(|s| s.lifecheck.method = LifecheckMethod::Query);
        let mut now = 1;
        let queried = |bench: &mut Bench, now: u64, answered| {
            let actions = bench.at(now, Event::Queried { peer: 0, answered });
            actions.contains(&dead(0))
        };
        queried(&mut bench, now, true);
        for _ in 0..5 {
            for _ in 0..2 {
                assert!(!queried(&mut bench, now, false), "{between}");
            }
            match between {
                "answer" => assert!(!queried(&mut bench, now, true)),
                "recovery" => {
                    let _ = bench.at(now, Event::Recovering(true));
                    let _ = bench.at(now, Event::Recovering(false));
                }
                _ => {
                    now += 100;
                    let _ = bench.at(now, Event::Timer);
                }
            }
        }
        for _ in 0..2 {
            assert!(!queried(&mut bench, now, false), "{between}");
        }
        assert!(queried(&mut bench, now, false), "{between}");
    }
}

/// Whatever becomes of the others: a pgpool whose sessions are all taken must not end itself.
#[test]
fn the_lifecheck_by_query_asks_the_others_and_not_this_node() {
    for own in 0..3 {
        let mut settings = testing::settings(own, 3);
        settings.lifecheck.method = LifecheckMethod::Query;
        let others = settings.others.clone();
        assert!(!others.contains(&settings.own));
        let began = Instant::now();
        let mut check = Lifecheck::new(Arc::new(settings), began);
        let mut actions = check.handle(Event::Start, began);
        let mut asked = Vec::new();
        for second in 0..300 {
            let now = began + Duration::from_secs(second);
            actions.extend(check.handle(Event::Timer, now));
            for action in std::mem::take(&mut actions) {
                match action {
                    Action::Query { peer } => {
                        asked.push(others[peer].host.clone());
                        let answered = second < 100;
                        actions.extend(check.handle(Event::Queried { peer, answered }, now));
                    }
                    Action::LocalDead { reason } => panic!("{reason}"),
                    _ => {}
                }
            }
        }
        asked.sort();
        asked.dedup();
        let hosts: Vec<&str> = others.iter().map(|other| other.host.as_str()).collect();
        assert_eq!(asked, hosts);
    }
}

#[test]
fn without_any_trusted_server_this_node_is_cut_off() {
    let mut bench = Bench::new(|s| s.lifecheck.trusted_servers = vec!["gw".to_owned()]);
    assert_eq!(bench.idle(1, 10), [(10, Action::PingTrusted)]);
    assert_eq!(bench.at(11, Event::Pinged { any: Some(true) }), []);
    assert_eq!(bench.idle(12, 20), [(20, Action::PingTrusted)]);
    assert_eq!(
        bench.at(21, Event::Pinged { any: None }),
        [],
        "that is a failure of our own"
    );
    let logs = bench.at(30, Event::Timer);
    assert_eq!(logs, [Action::PingTrusted]);
    let dead = bench.at(31, Event::Pinged { any: Some(false) });
    assert!(
        matches!(&dead[..], [Action::LocalDead { reason }] if reason.contains("trusted server is unreachable")),
        "{dead:?}"
    );
}

/// The original has no lifecheck process then.
#[test]
fn an_external_lifecheck_asks_no_trusted_server() {
    let mut bench = Bench::new(|s| {
        s.lifecheck.method = LifecheckMethod::External;
        s.lifecheck.trusted_servers = vec!["gw".to_owned()];
    });
    assert_eq!(bench.idle(1, 60), []);
}
