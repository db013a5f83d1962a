//! One recovery at a time: the order of its steps, its failures, and who is told what.

use std::time::{Duration, Instant};

use super::{
    core::{Action, Answer, Core, Event, Installed, REMOTE_START, Settings, Work},
    request::Ongoing,
    testing::{installed, replicating, settings, view, without},
};
use crate::{
    cluster::{ClusterView, NodeStatus},
    control::Refusal,
    observe::Severity,
};

struct Lab {
    core: Core,
    view: ClusterView,
    clients: usize,
    now: Instant,
    log: Vec<String>,
    /// The work that goes on.
    work: Option<(u64, Work)>,
    wake_at: Option<Instant>,
    held: bool,
    finished: Option<Result<(), Refusal>>,
}

impl Lab {
    fn new(view: ClusterView) -> Lab {
        Lab {
            core: Core::default(),
            view,
            clients: 0,
            now: Instant::now(),
            log: Vec::new(),
            work: None,
            wake_at: None,
            held: false,
            finished: None,
        }
    }

    /// Node 1 is being recovered with these settings.
    fn begun(view: ClusterView, settings: Settings) -> Lab {
        let mut lab = Lab::new(view);
        let actions = lab.core.request(1, settings, &lab.view).expect("taken");
        lab.carry_out(actions);
        lab
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Log(entry) if entry.detail.is_empty() => self.log.push(entry.message),
                Action::Log(entry) => self.log.push(format!("{}|{}", entry.message, entry.detail)),
                Action::Do { step, work } => self.work = Some((step, work)),
                Action::WakeAt(at) => self.wake_at = Some(at),
                Action::HoldClients => self.held = true,
                Action::ReleaseClients => self.held = false,
                Action::Finished(result) => self.finished = Some(result),
            }
        }
    }

    fn event(&mut self, event: Event) {
        let actions = self.core.handle(event, &self.view, self.clients, self.now);
        self.carry_out(actions);
    }

    fn answer(&mut self, result: Result<Answer, &str>) -> &mut Lab {
        let (step, _) = self.work.take().expect("a work goes on");
        let result = result.map_err(str::to_owned);
        self.event(Event::Done { step, result });
        self
    }

    /// The next work ends well.
    fn good(&mut self) -> &mut Lab {
        let answer = match self.work() {
            Work::Connect { .. } => Answer::Source(installed()),
            Work::Reach { .. } => Answer::Reached {
                standby: Some(true),
            },
            Work::Run { .. } | Work::Attach { .. } => Answer::Done,
        };
        self.answer(Ok(answer))
    }

    fn wake(&mut self) -> &mut Lab {
        self.now = self.wake_at.take().expect("a time to wake up");
        self.event(Event::Timer);
        self
    }

    fn work(&self) -> &Work {
        &self.work.as_ref().expect("a work goes on").1
    }

    fn statements(&self) -> Vec<&str> {
        match self.work() {
            Work::Run { statements } => statements.iter().map(String::as_str).collect(),
            other => panic!("no statements: {other:?}"),
        }
    }

    fn attached(&mut self) {
        self.view.nodes[1].status = NodeStatus::Waiting;
        self.event(Event::ViewChanged);
    }

    fn failure(&self) -> (String, String) {
        match &self.finished {
            Some(Err(refusal)) => (refusal.message.clone(), refusal.detail.clone()),
            other => panic!("no failure: {other:?}, {:?}", self.work),
        }
    }

    fn assert_over(&self) {
        assert_eq!(self.core.ongoing(), None);
        assert!(!self.held);
        assert!(self.finished.is_some());
    }
}

const CALL: &str =
    "SELECT pgpool_recovery('first.sh', 'host1', '/data1', '11002', 1, '11003', 'host0')";

#[test]
fn a_standby_is_rebuilt_started_reached_and_attached() {
    let mut lab = Lab::begun(view(), settings());
    let Work::Connect { source, scripts } = lab.work() else {
        panic!("{:?}", lab.work)
    };
    assert_eq!(source.node, 0);
    assert_eq!(scripts, &["first.sh", REMOTE_START], "not the second stage");
    assert_eq!(
        lab.good().statements(),
        ["SET statement_timeout To 0", CALL]
    );
    assert_eq!(
        lab.good().statements(),
        ["SELECT pgpool_remote_start('host1', '/data1')"]
    );
    assert!(matches!(
        lab.good().work(),
        Work::Reach { database: "postgres", target } if target.node == 1
    ));
    assert_eq!(lab.good().work(), &Work::Attach { node: 1 });
    lab.good();
    assert!(lab.finished.is_none(), "the attach is not done yet");
    lab.attached();
    assert_eq!(lab.finished, Some(Ok(())));
    lab.assert_over();
    assert_eq!(
        lab.log,
        [
            "starting recovering node 1",
            &format!("executing recovery|starting recovery command: \"{CALL}\""),
            "executing recovery|disabling statement_timeout",
            "node recovery, 1st stage is done",
            "checking if postmaster is started|trying to connect to postmaster on hostname:host1 database:postgres user:postgres (retry 0 times)",
            "node recovery, node: 1 restarted",
            "recovery done",
        ]
    );
}

#[test]
fn in_a_replication_mode_clients_are_held_from_the_second_stage_to_the_attach() {
    let mut lab = Lab::begun(replicating(), settings());
    lab.clients = 2;
    assert_eq!(lab.good().statements(), ["CHECKPOINT"]);
    assert_eq!(lab.good().statements()[1], CALL);
    assert!(!lab.held, "clients work during the first stage");
    lab.good();
    assert!(lab.held && lab.work.is_none());
    lab.wake().wake();
    lab.clients = 0;
    assert_eq!(lab.wake().statements(), ["CHECKPOINT"]);
    assert_eq!(
        lab.good().statements()[1],
        CALL.replace("first.sh", "second.sh")
    );
    lab.good().good();
    lab.answer(Ok(Answer::Reached {
        standby: Some(false),
    }));
    lab.good();
    assert!(lab.held);
    lab.attached();
    assert_eq!(lab.finished, Some(Ok(())));
    lab.assert_over();
}

#[test]
fn clients_that_stay_end_a_recovery_after_its_timeout() {
    let mut lab = Lab::begun(replicating(), settings());
    lab.clients = 1;
    let began = lab.now;
    lab.good().good().good();
    while lab.finished.is_none() {
        lab.wake();
    }
    assert_eq!(lab.now - began, Duration::from_secs(9));
    assert_eq!(
        lab.failure().0,
        "node recovery failed, waiting connection closed in the other pgpools timeout"
    );
    assert!(lab.log.contains(
        &"wait_connection_closed: existing connections did not close in 6 sec.".to_owned()
    ));
    lab.assert_over();
}

#[test]
fn scripts_that_are_not_set_are_left_out() {
    let none = Settings {
        first_stage: String::new(),
        second_stage: String::new(),
        ..settings()
    };
    let mut lab = Lab::begun(view(), none);
    assert!(lab.good().statements().is_empty());
    assert_eq!(
        lab.good().statements(),
        ["SELECT pgpool_remote_start('host1', '/data1')"]
    );
}

#[test]
fn a_source_that_lets_nobody_in_is_named() {
    let mut lab = Lab::begun(view(), settings());
    lab.answer(Err("password authentication failed"));
    assert_eq!(
        lab.failure(),
        (
            "node recovery failed, unable to connect to main node: 0 ".to_owned(),
            "password authentication failed".to_owned()
        )
    );
    lab.assert_over();
}

#[test]
fn what_is_missing_at_the_source_is_found_before_the_first_script_runs() {
    let nothing = Answer::Source(Installed {
        recovery: Vec::new(),
        ..installed()
    });
    let no_start = Answer::Source(Installed {
        remote_start: false,
        ..installed()
    });
    let first =
        "executing recovery, execution of command failed at \"1st stage\"|command:\"first.sh\": ";
    let start = "executing remote start failed with error: \"";
    let cases = [
        (
            without("first.sh"),
            format!("{first}/data0/first.sh does not exist at node 0"),
        ),
        (
            nothing,
            format!(
                "{first}there is no function pgpool_recovery: run CREATE EXTENSION pgpool_recovery in the database that recovery uses"
            ),
        ),
        (
            without(REMOTE_START),
            format!("{start}/data0/pgpool_remote_start does not exist at node 0\"|"),
        ),
        (
            no_start,
            format!(
                "{start}there is no function pgpool_remote_start: run CREATE EXTENSION pgpool_recovery in the database that recovery uses\"|"
            ),
        ),
    ];
    for (answer, text) in cases {
        let mut lab = Lab::begun(view(), settings());
        lab.answer(Ok(answer));
        let (message, detail) = lab.failure();
        assert_eq!(format!("{message}|{detail}"), text);
        lab.assert_over();
    }
    let mut lab = Lab::begun(view(), settings());
    lab.answer(Ok(without("second.sh")));
    assert!(lab.finished.is_none(), "nobody needs it here");
    let mut lab = Lab::begun(replicating(), settings());
    lab.answer(Ok(without("second.sh")));
    assert!(lab.failure().0.contains("2nd stage"));
}

#[test]
fn an_older_extension_is_called_with_what_it_has() {
    let mut lab = Lab::begun(view(), settings());
    lab.answer(Ok(Answer::Source(Installed {
        recovery: vec![3, 4],
        ..installed()
    })));
    assert_eq!(
        lab.statements()[1],
        "SELECT pgpool_recovery('first.sh', 'host1', '/data1', '11002')"
    );
    assert!(
        lab.log[1].contains("4 arguments instead of 7"),
        "{:?}",
        lab.log
    );
}

#[test]
fn a_script_that_fails_ends_the_recovery_with_the_words_of_the_server() {
    let mut lab = Lab::begun(view(), settings());
    lab.good()
        .answer(Err("ERROR: pgpool_recovery failed (SQLSTATE XX000)"));
    assert_eq!(
        lab.failure(),
        (
            "executing recovery, execution of command failed at \"1st stage\"".to_owned(),
            "command:\"first.sh\": ERROR: pgpool_recovery failed (SQLSTATE XX000)".to_owned()
        )
    );
    lab.assert_over();

    let mut lab = Lab::begun(view(), settings());
    lab.good().good().answer(Err("pgpool_remote_start failed"));
    assert_eq!(
        lab.failure().0,
        "executing remote start failed with error: \"pgpool_remote_start failed\""
    );

    let mut lab = Lab::begun(replicating(), settings());
    lab.good().good().good().wake().good().answer(Err("no"));
    assert!(lab.failure().0.contains("2nd stage"));
    lab.assert_over();
}

#[test]
fn a_server_that_does_not_come_up_is_waited_for_as_long_as_recovery_timeout_says() {
    let mut lab = Lab::begun(view(), settings());
    lab.good().good().good();
    let began = lab.now;
    let mut databases = Vec::new();
    while lab.finished.is_none() {
        if let Work::Reach { database, .. } = lab.work() {
            databases.push(*database);
        }
        lab.answer(Err("connection refused"));
        if lab.finished.is_none() {
            lab.wake();
        }
    }
    assert_eq!(
        databases,
        [
            "postgres",
            "postgres",
            "postgres",
            "postgres",
            "template1",
            "template1",
            "template1"
        ]
    );
    assert_eq!(lab.now - began, Duration::from_secs(18));
    assert_eq!(
        lab.failure(),
        (
            "recovery is checking if postmaster is started".to_owned(),
            "postmaster on hostname:\"host1\" database:\"template1\" user:\"postgres\" failed to start in 6 second: connection refused".to_owned()
        )
    );
    lab.assert_over();
}

#[test]
fn a_server_that_comes_up_as_a_primary_is_not_attached() {
    let mut lab = Lab::begun(view(), settings());
    lab.good().good().good();
    lab.answer(Ok(Answer::Reached {
        standby: Some(false),
    }));
    assert_eq!(
        lab.failure().0,
        "node recovery failed, node id: 1 is not a standby"
    );
    lab.assert_over();
}

#[test]
fn an_attach_that_waits_for_a_failover_does_not_keep_the_operator_waiting() {
    let mut lab = Lab::begun(view(), settings());
    lab.good().good().good().good().good();
    lab.view.primary_search_running = true;
    lab.event(Event::ViewChanged);
    assert!(lab.finished.is_none());
    lab.wake();
    assert_eq!(lab.finished, Some(Ok(())));
    assert!(
        lab.log
            .iter()
            .any(|line| line == "node recovery|waiting for wake up request is timeout(5 seconds)")
    );
    lab.assert_over();
}

#[test]
fn a_failover_that_takes_the_source_away_ends_the_recovery() {
    let changes: [fn(&mut ClusterView); 3] = [
        |view| {
            view.primary = None;
            view.primary_search_running = true;
        },
        |view| view.primary = Some(2),
        |view| {
            view.nodes[0].status = NodeStatus::Down;
            view.primary = None;
        },
    ];
    for change in changes {
        let mut lab = Lab::begun(view(), settings());
        lab.good();
        change(&mut lab.view);
        lab.event(Event::ViewChanged);
        let (message, detail) = lab.failure();
        assert_eq!(message, "node recovery failed, node id: 1 is given up");
        assert!(
            detail.contains("a failover has taken node 0 away"),
            "{detail}"
        );
        lab.assert_over();
    }
}

#[test]
fn a_failover_elsewhere_does_not_disturb() {
    let mut lab = Lab::begun(view(), settings());
    lab.good();
    lab.view.nodes[2].status = NodeStatus::Down;
    lab.event(Event::ViewChanged);
    assert!(lab.finished.is_none());
}

#[test]
fn a_node_that_is_attached_meanwhile_is_left_alone() {
    let mut lab = Lab::begun(view(), settings());
    lab.good();
    lab.attached();
    assert!(lab.failure().1.starts_with("node 1 was attached meanwhile"));
    lab.assert_over();
}

#[test]
fn a_second_recovery_is_refused_and_the_first_goes_on() {
    let mut two = view();
    two.nodes[2].status = NodeStatus::Down;
    let mut lab = Lab::begun(two, settings());
    let refusal = lab
        .core
        .request(2, settings(), &lab.view)
        .expect_err("refused");
    assert_eq!(refusal.severity, Severity::Fatal);
    assert_eq!(
        refusal.detail,
        "pgpool-II is already processing another recovery request."
    );
    assert_eq!(
        lab.core.ongoing(),
        Some(Ongoing {
            target: 1,
            source: 0,
            attaching: false
        })
    );
    lab.good().good().good().good();
    assert!(lab.core.ongoing().expect("goes on").attaching);
    lab.good().attached();
    assert!(lab.core.request(2, settings(), &lab.view).is_ok());
}

#[test]
fn the_end_of_a_work_that_was_dropped_is_ignored() {
    let mut lab = Lab::begun(view(), settings());
    let old = lab.work.as_ref().expect("connecting").0;
    lab.view.primary = Some(2);
    lab.event(Event::ViewChanged);
    lab.view.primary = Some(0);
    let again = lab.core.request(1, settings(), &lab.view).expect("taken");
    lab.carry_out(again);
    lab.event(Event::Done {
        step: old,
        result: Err("late".to_owned()),
    });
    assert!(matches!(lab.work(), Work::Connect { .. }));
    assert!(lab.core.ongoing().is_some());
}
