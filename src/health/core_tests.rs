//! Rounds as the original makes them, and looks as only we do.

use super::*;
use crate::cluster::NodeStatus;

const CHECKED: NodeState = NodeState::Checked { quarantine: false };
const DOWN: NodeState = NodeState::Down { streaming: false };

struct Check {
    check: HealthCheck,
    now: Now,
    node: NodeState,
    busy: bool,
    log: Vec<String>,
    reports: Vec<Action>,
    wake_at: Option<Instant>,
    probe: Option<u64>,
    within: Option<Duration>,
}

fn settings() -> Settings {
    Settings {
        period: Some(Duration::from_secs(10)),
        max_retries: 2,
        retry_delay: Duration::from_secs(1),
        disallow_to_failover: false,
        auto_failback: None,
    }
}

impl Check {
    fn new(settings: Settings) -> Check {
        Check {
            check: HealthCheck::new(1, settings, HealthStats::default()),
            now: Now {
                instant: Instant::now(),
                wall: SystemTime::UNIX_EPOCH,
            },
            node: CHECKED,
            busy: false,
            log: Vec::new(),
            reports: Vec::new(),
            wake_at: None,
            probe: None,
            within: None,
        }
    }

    fn handle(&mut self, event: Event) {
        for action in self.check.handle(event, self.node, self.busy, self.now) {
            match action {
                Action::Log(entry) => self.log.push(entry.message),
                Action::Probe { probe, within } => {
                    self.probe = Some(probe);
                    self.within = within;
                    self.wake_at = None;
                }
                Action::WakeAt(at) => self.wake_at = Some(at),
                Action::Sleep => self.wake_at = None,
                report @ (Action::ReportDown { .. } | Action::ReportUp) => {
                    self.reports.push(report);
                }
            }
        }
    }

    fn timer(&mut self) {
        self.now.instant = self.wake_at.expect("a timer").max(self.now.instant);
        self.handle(Event::Timer);
    }

    fn answer(&mut self, outcome: Outcome) {
        let probe = self.probe.take().expect("a probe");
        self.handle(Event::Probed { probe, outcome });
    }

    /// The first timer of the task is at once.
    fn begin(&mut self) {
        self.handle(Event::Timer);
    }

    fn look(&mut self) {
        self.told("57P01");
    }

    fn told(&mut self, sqlstate: &str) {
        self.handle(Event::Look(Cause::Shutdown {
            sqlstate: sqlstate.into(),
        }));
    }

    fn pause(&self) -> Duration {
        self.wake_at.expect("a timer") - self.now.instant
    }

    fn stats(&self) -> [u64; 5] {
        let s = self.check.stats();
        [s.total, s.success, s.fail, s.skip, s.retry]
    }
}

const DOWN_REPORT: Action = Action::ReportDown { timed_out: false };

#[test]
fn two_retries_are_three_probes_with_the_texts_of_the_original() {
    let mut check = Check::new(settings());
    check.begin();
    check.answer(Outcome::Refused);
    assert_eq!(check.pause(), Duration::from_secs(1));
    check.timer();
    check.answer(Outcome::Refused);
    check.timer();
    check.answer(Outcome::Refused);
    assert_eq!(
        check.log,
        [
            "health check retrying on DB node: 1 (round:1)",
            "health check retrying on DB node: 1 (round:2)",
            "health check failed on node 1 (timeout:0)",
        ]
    );
    assert_eq!(check.reports, [DOWN_REPORT]);
    assert_eq!(check.pause(), Duration::from_secs(10));
    assert_eq!(check.stats(), [1, 0, 1, 0, 2]);
    assert_eq!(check.check.stats().max_retry, 2);
    assert_eq!(
        check.check.stats().max_duration,
        Duration::from_secs(2),
        "with its retries"
    );
}

#[test]
fn a_success_after_a_retry_is_said_and_counted() {
    let mut check = Check::new(settings());
    check.begin();
    check.answer(Outcome::NoAnswer { timed_out: true });
    check.timer();
    check.answer(Outcome::Up);
    assert_eq!(
        check.log.last().map(String::as_str),
        Some("health check retrying on DB node: 1 succeeded")
    );
    assert_eq!(check.reports, []);
    assert_eq!(check.stats(), [1, 1, 0, 0, 1]);
    check.timer();
    check.answer(Outcome::Up);
    assert_eq!(check.log.len(), 2, "nothing is said of a plain success");
}

#[test]
fn a_timer_that_expired_in_the_last_attempt_is_told() {
    let mut check = Check::new(Settings {
        max_retries: 0,
        ..settings()
    });
    check.begin();
    check.answer(Outcome::NoAnswer { timed_out: true });
    assert_eq!(check.log, ["health check failed on node 1 (timeout:1)"]);
    assert_eq!(check.reports, [Action::ReportDown { timed_out: true }]);
}

#[test]
fn failover_can_be_disallowed() {
    let mut check = Check::new(Settings {
        max_retries: 0,
        disallow_to_failover: true,
        ..settings()
    });
    check.begin();
    check.answer(Outcome::Refused);
    assert_eq!(
        check.log,
        ["health check failed on node 1 but failover is disallowed for the node"]
    );
    assert_eq!(check.reports, []);
}

#[test]
fn a_living_server_is_not_detached_and_the_complaint_is_made_once() {
    let mut check = Check::new(Settings {
        max_retries: 0,
        ..settings()
    });
    let alive = |text: &str| Outcome::Alive {
        complaint: text.into(),
        remedy: "check health_check_user".into(),
    };
    check.begin();
    for text in ["no such role", "no such role", "too many clients"] {
        check.answer(alive(text));
        check.timer();
    }
    assert_eq!(check.log.len(), 2);
    assert_eq!(check.reports, []);
    check.answer(Outcome::Up);
    check.timer();
    check.answer(alive("too many clients"));
    assert_eq!(check.log.len(), 3, "after a success it is news again");
    assert_eq!(check.stats()[2], 4, "counted as failures of the check");
}

#[test]
fn what_we_cannot_find_out_is_no_failure() {
    let mut check = Check::new(Settings {
        max_retries: 0,
        ..settings()
    });
    check.begin();
    check.answer(Outcome::Unknown {
        complaint: "too many open files".into(),
    });
    assert_eq!(check.reports, []);
}

#[test]
fn a_node_that_is_down_is_skipped() {
    let mut check = Check::new(settings());
    check.node = DOWN;
    check.begin();
    assert_eq!(check.probe, None);
    assert_eq!(check.stats(), [1, 0, 0, 1, 0]);
    assert_eq!(check.pause(), Duration::from_secs(10));
}

#[test]
fn a_spare_of_raw_mode_is_left_alone_until_it_is_the_main_node() {
    let mut check = Check::new(settings());
    check.node = NodeState::Spare;
    check.begin();
    check.look();
    assert_eq!(check.probe, None);
    assert_eq!(check.stats(), [0, 0, 0, 0, 0]);
    assert_eq!(check.pause(), Duration::from_secs(10));
    check.node = CHECKED;
    check.timer();
    assert!(check.probe.is_some());
}

#[test]
fn a_stale_answer_is_ignored() {
    let mut check = Check::new(Settings {
        max_retries: 0,
        ..settings()
    });
    check.begin();
    let old = check.probe.expect("a probe");
    check.look();
    check.handle(Event::Probed {
        probe: old,
        outcome: Outcome::NoAnswer { timed_out: true },
    });
    assert_eq!(check.reports, []);
    check.answer(Outcome::Up);
    check.handle(Event::Probed {
        probe: old,
        outcome: Outcome::Refused,
    });
    assert_eq!(check.reports, []);
}

#[test]
fn a_failure_of_a_node_that_was_detached_meanwhile_is_not_reported() {
    let mut check = Check::new(settings());
    check.begin();
    check.answer(Outcome::Refused);
    check.node = DOWN;
    check.timer();
    assert_eq!(check.probe, None);
    assert_eq!(check.reports, []);
    assert_eq!(check.stats(), [1, 0, 0, 1, 0]);
}

#[test]
fn what_was_found_out_before_an_attach_does_not_count() {
    let mut check = Check::new(Settings {
        max_retries: 0,
        ..settings()
    });
    check.begin();
    let old = check.probe.expect("a probe");
    // Detached and attached again while the probe is under way.
    check.handle(Event::Attached);
    check.handle(Event::Probed {
        probe: old,
        outcome: Outcome::NoAnswer { timed_out: true },
    });
    assert_eq!(check.reports, []);
    assert_eq!(check.pause(), Duration::from_secs(10));
}

#[test]
fn with_period_zero_nothing_is_checked_until_a_reload_sets_one() {
    let mut check = Check::new(Settings {
        period: None,
        ..settings()
    });
    check.begin();
    assert_eq!((check.probe, check.wake_at), (None, None));
    check.handle(Event::Changed(settings()));
    assert_eq!(check.pause(), Duration::from_secs(10));
    check.timer();
    assert!(check.probe.is_some());
}

#[test]
fn a_look_that_finds_the_server_well_changes_nothing() {
    let mut check = Check::new(Settings {
        period: None,
        ..settings()
    });
    check.begin();
    check.look();
    check.answer(Outcome::Up);
    assert_eq!(check.reports, []);
    assert_eq!(check.wake_at, None);
    assert_eq!(check.stats(), [0; 5]);
}

#[test]
fn a_server_that_refuses_after_a_shutdown_is_down_without_waiting_for_the_period() {
    let mut check = Check::new(Settings {
        max_retries: 0,
        ..settings()
    });
    check.look();
    check.answer(Outcome::Refused);
    assert_eq!(check.reports, [DOWN_REPORT], "no retries, no patience");

    let mut check = Check::new(settings());
    let began = check.now.instant;
    check.look();
    check.answer(Outcome::Refused);
    while check.reports.is_empty() {
        check.timer();
        check.answer(Outcome::Refused);
    }
    assert_eq!(
        check.now.instant - began,
        Duration::from_secs(1),
        "two retries with one second would bridge a restart; one second does here"
    );
}

#[test]
fn a_restart_of_the_server_is_not_a_failure() {
    let mut check = Check::new(settings());
    check.look();
    for outcome in [
        Outcome::NotAccepting,
        Outcome::NotAccepting,
        Outcome::Refused,
        Outcome::Refused,
        Outcome::NotAccepting,
        Outcome::NoAnswer { timed_out: false },
    ] {
        check.answer(outcome);
        check.timer();
    }
    check.answer(Outcome::Up);
    assert_eq!(check.reports, []);
    assert_eq!(
        check.log.last().map(String::as_str),
        Some("health check retrying on DB node: 1 succeeded")
    );
}

/// Looks until the node is reported; how long it took.
fn time_of(check: &mut Check, mut answer: impl FnMut(Duration) -> Outcome) -> Duration {
    let began = check.now.instant;
    check.answer(answer(Duration::ZERO));
    while check.reports.is_empty() {
        assert_eq!(check.pause(), Duration::from_millis(200));
        check.timer();
        check.answer(answer(check.now.instant - began));
    }
    check.now.instant - began
}

#[test]
fn a_server_that_recovers_from_a_crash_has_two_seconds_at_least() {
    for (max_retries, seconds) in [(0, 2), (2, 2), (5, 5)] {
        for cut in [false, true] {
            let mut check = Check::new(Settings {
                max_retries,
                ..settings()
            });
            if cut {
                check.handle(Event::Look(Cause::Cut { how: "EOF".into() }));
            } else {
                check.told("57P02");
            }
            let took = time_of(&mut check, |_| Outcome::NotAccepting);
            assert_eq!(took, Duration::from_secs(seconds));
        }
    }
}

/// 57P01 and then "not accepting connections": somebody stops it.
#[test]
fn a_server_that_is_stopped_is_down_within_two_seconds_however_long_it_takes() {
    for (max_retries, millis) in [(0, 0), (1, 1000), (5, 1600)] {
        let mut check = Check::new(Settings {
            max_retries,
            ..settings()
        });
        check.look();
        let took = time_of(&mut check, |_| Outcome::NotAccepting);
        assert_eq!(took, Duration::from_millis(millis));
    }
    for ends_after in [0, 200, 400, 800, 1200] {
        let mut check = Check::new(Settings {
            max_retries: 3,
            ..settings()
        });
        check.look();
        let took = time_of(&mut check, |since| {
            if since < Duration::from_millis(ends_after) {
                Outcome::NotAccepting
            } else {
                Outcome::Refused
            }
        });
        assert!(took <= Duration::from_millis(1600), "{took:?}");
        assert!(took >= Duration::from_secs(1), "{took:?}");
    }
}

#[test]
fn a_probe_that_nobody_could_follow_is_made_again_and_counts_for_nothing() {
    let mut check = Check::new(Settings {
        max_retries: 0,
        ..settings()
    });
    check.begin();
    check.answer(Outcome::HeldUp { seconds: 30 });
    assert_eq!(check.reports, []);
    check.answer(Outcome::Up);
    assert_eq!(check.reports, []);
    assert_eq!(check.stats(), [1, 1, 0, 0, 0]);
}

#[test]
fn silence_after_a_shutdown_gets_the_retries_of_the_operator() {
    let mut check = Check::new(settings());
    check.look();
    check.answer(Outcome::NoAnswer { timed_out: true });
    assert_eq!(check.reports, []);
    for _ in 0..2 {
        check.timer();
        check.answer(Outcome::NoAnswer { timed_out: true });
    }
    assert_eq!(check.reports, [Action::ReportDown { timed_out: true }]);
}

#[test]
fn a_connection_error_of_a_session_is_confirmed_by_one_look() {
    let error = || {
        Event::Look(Cause::Error {
            reason: "connection refused".into(),
        })
    };
    let mut check = Check::new(settings());
    check.handle(error());
    check.answer(Outcome::Up);
    assert_eq!(check.reports, []);
    check.handle(error());
    check.answer(Outcome::Refused);
    assert_eq!(check.reports, [DOWN_REPORT]);
}

#[test]
fn a_second_cause_during_a_look_leads_to_a_second_look() {
    let mut check = Check::new(Settings {
        max_retries: 0,
        ..settings()
    });
    check.look();
    check.look();
    check.look();
    check.answer(Outcome::Up);
    assert_eq!(check.pause(), Duration::from_millis(200));
    check.timer();
    check.answer(Outcome::Refused);
    assert_eq!(check.reports, [DOWN_REPORT]);
    assert_eq!(
        check
            .log
            .iter()
            .filter(|l| l.starts_with("looking at node 1"))
            .count(),
        1
    );
}

#[test]
fn nobody_looks_at_a_node_that_is_down() {
    let mut check = Check::new(settings());
    check.node = DOWN;
    check.look();
    assert_eq!(check.probe, None);
}

fn failback() -> Check {
    let mut check = Check::new(Settings {
        auto_failback: Some(Duration::from_secs(60)),
        ..settings()
    });
    check.node = NodeState::Down { streaming: true };
    check
}

#[test]
fn a_detached_standby_that_streams_again_is_attached() {
    let mut check = failback();
    check.begin();
    check.answer(Outcome::Up);
    assert_eq!(check.log, ["request auto failback, node id:1"]);
    assert_eq!(check.reports, [Action::ReportUp]);
}

#[test]
fn auto_failback_wants_streaming_no_failover_a_connection_and_its_interval() {
    let mut check = failback();
    check.node = DOWN;
    check.begin();
    assert_eq!(check.probe, None, "not streaming");

    let mut check = failback();
    check.busy = true;
    check.begin();
    assert_eq!(check.probe, None, "a failover is going on");

    let mut check = failback();
    check.begin();
    check.answer(Outcome::Refused);
    assert_eq!(check.reports, [], "no connection");
    check.timer();
    check.answer(Outcome::Up);
    assert_eq!(check.reports.len(), 1);
    for _ in 0..5 {
        check.timer();
        assert_eq!(check.probe, None, "60 seconds have not passed");
    }
    check.timer();
    check.answer(Outcome::Up);
    assert_eq!(check.reports.len(), 2);
}

#[test]
fn a_node_in_quarantine_is_checked_and_comes_back_but_is_not_reported_down() {
    let mut check = Check::new(Settings {
        max_retries: 0,
        ..settings()
    });
    check.node = NodeState::Checked { quarantine: true };
    check.begin();
    check.answer(Outcome::Refused);
    assert_eq!(check.reports, []);
    check.timer();
    check.answer(Outcome::Up);
    assert_eq!(check.reports, [Action::ReportUp]);
}

#[test]
fn the_state_of_a_node_follows_from_its_status() {
    for (status, quarantine, state, want) in [
        (NodeStatus::Waiting, false, "streaming", CHECKED),
        (NodeStatus::Up, false, "", CHECKED),
        (
            NodeStatus::Down,
            false,
            "streaming",
            NodeState::Down { streaming: true },
        ),
        (NodeStatus::Down, false, "catchup", DOWN),
        (
            NodeStatus::Down,
            true,
            "",
            NodeState::Checked { quarantine: true },
        ),
        (NodeStatus::Unused, false, "", NodeState::Unused),
    ] {
        assert_eq!(NodeState::of(status, quarantine, state), want);
    }
}

#[test]
fn one_look_without_an_answer_is_enough_when_the_watchdog_has_lost_the_host() {
    let mut check = Check::new(settings());
    check.begin();
    check.handle(Event::Look(Cause::HostSilent));
    assert_eq!(check.within, Some(PATIENCE_WITH_SILENT_HOST));
    check.answer(Outcome::NoAnswer { timed_out: true });
    assert_eq!(check.reports, [Action::ReportDown { timed_out: true }]);
    // Its pgpool was killed, and the server is well.
    let mut check = Check::new(settings());
    check.begin();
    check.handle(Event::Look(Cause::HostSilent));
    check.answer(Outcome::Up);
    assert_eq!(check.reports, []);
}

/// Nothing was seen to fail: the node has only been cut off from the others.
#[test]
fn after_a_cut_a_check_begins_anew_with_all_its_retries() {
    let looks: [fn(&mut Check); 3] = [
        |_| {},
        // A round in its retries.
        |check| {
            check.begin();
            check.answer(Outcome::Refused);
        },
        // A look through the cut.
        |check| check.handle(Event::Look(Cause::OtherNode)),
    ];
    for before in looks {
        let mut check = Check::new(settings());
        before(&mut check);
        let begun = check.stats()[0];
        check.handle(Event::Look(Cause::Returned));
        check.answer(Outcome::NoAnswer { timed_out: true });
        for _ in 0..2 {
            check.timer();
            assert_eq!(check.reports, []);
            check.answer(Outcome::Refused);
        }
        assert_eq!(check.reports, [DOWN_REPORT]);
        assert_eq!(check.stats()[0], begun.max(1), "one round");
    }
}

#[test]
fn what_another_node_has_seen_does_not_wait_for_the_retries_of_a_check_after_a_cut() {
    for refused in [false, true] {
        let mut check = Check::new(settings());
        check.handle(Event::Look(Cause::Returned));
        if refused {
            check.answer(Outcome::Refused);
        }
        check.handle(Event::Look(Cause::OtherNode));
        check.answer(Outcome::Refused);
        assert_eq!(check.reports, [DOWN_REPORT]);
    }
    // Nor does it end a look at a server that has said that it ends.
    let mut check = Check::new(settings());
    check.look();
    check.handle(Event::Look(Cause::Returned));
    check.answer(Outcome::Refused);
    check.timer();
    check.answer(Outcome::Refused);
    assert_eq!(check.reports, []);
}
