//! The core against the sequences recorded on the original.

mod follow;
mod promote;
mod record;
mod restart;
mod together;

use super::*;
use crate::{
    config::settings::ClusteringMode,
    control::Refusal,
    failover::{
        request::Request,
        search::Receiver,
        testing::{settings, view},
    },
};

/// A cluster with fake time; servers answer as `answers` says.
struct Cluster {
    core: Core,
    now: Now,
    answers: Vec<Answer>,
    /// Hooks end at once unless this is set.
    hooks_hang: bool,
    log: Vec<String>,
    told: Vec<Told>,
    hooks: Vec<HookCall>,
    /// The one that runs; ended by [`Cluster::follow_ends`].
    follow: Option<HookCall>,
    views: Vec<ClusterView>,
    files: Vec<String>,
    /// Order of everything but log lines.
    steps: Vec<&'static str>,
    wake_at: Option<Instant>,
    sweep: Option<(u64, Vec<NodeId>)>,
    /// What a start after a kill would be told.
    unfinished: Unfinished,
    /// The hook of an earlier life whose end is waited for.
    awaited: Option<(u64, HookKind)>,
    /// What the watchdog was asked.
    asked: Vec<(u64, Request)>,
}

fn standby() -> Answer {
    Answer::Standby(Receiver::Unknown)
}

impl Cluster {
    fn new(count: usize) -> Cluster {
        Cluster::with(settings(), view(count))
    }

    fn with(settings: Settings, view: ClusterView) -> Cluster {
        let count = view.nodes.len();
        let mut answers = vec![standby(); count];
        answers[0] = Answer::Primary;
        Cluster {
            core: Core::new(settings, view),
            now: Now {
                instant: Instant::now(),
                wall: SystemTime::UNIX_EPOCH,
            },
            answers,
            hooks_hang: false,
            log: Vec::new(),
            told: Vec::new(),
            hooks: Vec::new(),
            follow: None,
            views: Vec::new(),
            files: Vec::new(),
            steps: Vec::new(),
            wake_at: None,
            sweep: None,
            unfinished: Unfinished::default(),
            awaited: None,
            asked: Vec::new(),
        }
    }

    /// Started, with node 0 as primary and all history forgotten.
    fn started(count: usize) -> Cluster {
        let mut cluster = Cluster::new(count);
        cluster.start();
        cluster
    }

    fn start(&mut self) {
        let actions = self.core.handle(Event::Start, self.now);
        self.carry_out(actions);
        self.forget();
    }

    fn forget(&mut self) {
        self.log.clear();
        self.told.clear();
        self.hooks.clear();
        self.views.clear();
        self.files.clear();
        self.steps.clear();
    }

    fn request(&mut self, request: Request) -> Result<(), Refusal> {
        let (result, actions) = self.core.request(request, Source::Pcp, None, self.now);
        self.carry_out(actions);
        result
    }

    fn down(&mut self, node: NodeId) {
        self.request(Request::Down { node }).unwrap();
    }

    fn up(&mut self, node: NodeId) {
        self.request(Request::Up { node }).unwrap();
    }

    fn handle(&mut self, event: Event) {
        let actions = self.core.handle(event, self.now);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Log(entry) => self.log.push(entry.message),
                Action::Record(told) => self.told.push(told),
                Action::WriteStatusFile(text) => {
                    self.steps.push("file");
                    self.files.push(text);
                }
                Action::Publish(view) => {
                    self.steps.push("view");
                    self.views.push(view);
                }
                Action::RunHook { hook, begun } => {
                    self.steps.push("hook");
                    self.unfinished = begun;
                    let call = hook.call;
                    self.hooks.push(hook.clone());
                    if hook.kind == HookKind::Follow {
                        assert!(self.follow.is_none(), "one after the other");
                        self.follow = Some(hook);
                    } else if !self.hooks_hang {
                        self.handle(Event::HookFinished { call });
                    }
                }
                Action::Ask { sweep, nodes } => {
                    self.steps.push("ask");
                    self.sweep = Some((sweep, nodes.clone()));
                    for node in nodes {
                        let answer = self.answers[node].clone();
                        self.handle(Event::Answered {
                            sweep,
                            node,
                            answer,
                        });
                    }
                }
                Action::WakeAt(at) => self.wake_at = Some(at),
                Action::LookAgain { .. } => self.steps.push("look again"),
                Action::RestartReplicationCheck => self.steps.push("sr check"),
                Action::AskToBegin { ask, request } => self.asked.push((ask, request)),
                Action::Started => self.steps.push("started"),
                Action::Remember(unfinished) => self.unfinished = unfinished,
                Action::AwaitHook { call, kind } => self.awaited = Some((call, kind)),
            }
        }
    }

    /// The command that follows a new primary has attached its node, or not, and ends.
    fn follow_ends(&mut self, attaches: bool) {
        let HookCall { call, node, .. } = self.follow.clone().expect("a command runs");
        if attaches {
            self.up(node);
        }
        self.follow = None;
        self.handle(Event::HookFinished { call });
    }

    fn statuses(&self) -> Vec<u8> {
        self.view().nodes.iter().map(|n| n.status.code()).collect()
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.now.instant + Duration::from_secs(seconds);
        while let Some(at) = self.wake_at.filter(|&at| at <= end) {
            self.wake_at = None;
            self.now.instant = at;
            self.handle(Event::Timer);
        }
        self.now.instant = end;
    }

    fn hook_lines(&self) -> Vec<&str> {
        self.hooks.iter().map(|h| h.line.as_str()).collect()
    }

    fn view(&self) -> &ClusterView {
        self.core.view()
    }

    fn said(&self, text: &str) -> bool {
        self.log.iter().any(|line| line == text)
    }
}

#[test]
fn the_start_writes_the_file_finds_the_primary_and_says_what_it_found() {
    let mut cluster = Cluster::new(3);
    let actions = cluster.core.handle(Event::Start, cluster.now);
    cluster.carry_out(actions);
    assert_eq!(cluster.view().primary, Some(0));
    assert_eq!(cluster.steps, ["file", "ask", "view", "started"]);
    assert_eq!(
        cluster.log,
        [
            "find_primary_node_repeatedly: waiting for finding a primary node",
            "find_primary_node: primary node is 0",
            "find_primary_node: standby node is 1",
            "find_primary_node: standby node is 2",
            "node status[0]: 1",
            "node status[1]: 2",
            "node status[2]: 2",
        ]
    );
}

#[test]
fn a_primary_failure_goes_through_the_steps_in_the_order_of_the_original() {
    let mut cluster = Cluster::started(3);
    cluster.answers = vec![Answer::Primary, Answer::Primary, standby()];
    cluster.down(0);
    assert_eq!(
        cluster.log,
        [
            "received degenerate backend request for node_id: 0 from pid [4711]",
            "Pgpool-II parent process has received failover request",
            "starting degeneration. shutdown host host0(11002)",
            "Restart all children",
            "execute command: failover 0 host0 11002 /data0 1 host1 0 0 11003 /data1 host0 11002",
            "find_primary_node_repeatedly: waiting for finding a primary node",
            "find_primary_node: primary node is 1",
            "find_primary_node: standby node is 2",
            "failover: set new primary node: 1",
            "failover: set new main node: 1",
            "worker process received restart request",
            "failover done. shutdown host host0(11002)",
        ]
    );
    assert_eq!(
        cluster.steps,
        ["file", "view", "hook", "ask", "view", "sr check"]
    );
    assert_eq!(cluster.files, ["down\nup\nup\n"]);
    let [first, second] = &cluster.views[..] else {
        panic!("two views: {:?}", cluster.views);
    };
    assert_eq!(second.version, first.version + 1);
    assert_eq!((first.primary, first.write_node()), (None, None));
    assert!(first.primary_search_running);
    assert_eq!((second.primary, second.write_node()), (Some(1), Some(1)));
}

#[test]
fn a_standby_failure_keeps_the_primary_and_asks_nobody() {
    let mut cluster = Cluster::started(3);
    cluster.down(2);
    assert_eq!(
        cluster.hook_lines(),
        ["failover 2 host2 11004 /data2 0 host0 0 0 11002 /data0 host0 11002"]
    );
    assert_eq!(cluster.steps, ["file", "view", "hook", "sr check"]);
    assert_eq!(cluster.view().write_node(), Some(0));
    assert!(cluster.said(
        "Do not restart children because we are switching over node id 2 host: host2 port: 11004 and we are in streaming replication mode"
    ));
    assert!(cluster.said("failover: set new primary node: 0"));
}

#[test]
fn from_4_4_on_begin_and_end_are_framed() {
    let mut settings = settings();
    settings.dialect = Release::V4_4;
    let mut cluster = Cluster::with(settings, view(2));
    cluster.start();
    cluster.down(1);
    cluster.up(1);
    for line in [
        "=== Starting degeneration. shutdown host host1(11003) ===",
        "=== Failover done. shutdown host host1(11003) ===",
        "=== Starting fail back. reconnect host host1(11003) ===",
        "=== Failback done. reconnect host host1(11003) ===",
    ] {
        assert!(cluster.said(line), "{line}: {:#?}", cluster.log);
    }
}

#[test]
fn a_failback_says_and_does_what_the_original_does() {
    let mut cluster = Cluster::started(3);
    cluster.down(2);
    cluster.forget();
    cluster.up(2);
    assert_eq!(
        cluster.log,
        [
            "received failback request for node_id: 2 from pid [4711]",
            "Pgpool-II parent process has received failover request",
            "starting fail back. reconnect host host2(11004)",
            "Node 0 is not down (status: 2)",
            "execute command: failback 2 host2 11004 /data2 0 host0 0 0 11002 /data0 host0 11002",
            "Do not restart children because we are failing back node id 2 host: host2 port: 11004 and we are in streaming replication mode and not all backends were down",
            "find_primary_node_repeatedly: waiting for finding a primary node",
            "find_primary_node: primary node is 0",
            "find_primary_node: standby node is 1",
            "find_primary_node: standby node is 2",
            "failover: set new primary node: 0",
            "failover: set new main node: 0",
            "worker process received restart request",
            "failback done. reconnect host host2(11004)",
        ]
    );
    assert_eq!(cluster.view().nodes[2].status, NodeStatus::Waiting);
    assert!(cluster.views.iter().all(|v| v.write_node() == Some(0)));
}

/// The rows of reference/hooks.md 1.2 in the order in which they can be reached.
#[test]
fn hooks_get_the_values_that_the_original_gives() {
    let mut cluster = Cluster::started(3);
    // A standby behind the primary dies, comes back.
    cluster.down(2);
    cluster.up(2);
    // The primary dies, its follower 1 is promoted.
    cluster.answers[1] = Answer::Primary;
    cluster.down(0);
    // 2 is attached to the new primary; then 0 is recovered: it is its own new main node.
    cluster.down(2);
    cluster.up(2);
    cluster.answers[0] = standby();
    cluster.up(0);
    assert_eq!(
        cluster.hook_lines(),
        [
            "failover 2 host2 11004 /data2 0 host0 0 0 11002 /data0 host0 11002",
            "failback 2 host2 11004 /data2 0 host0 0 0 11002 /data0 host0 11002",
            "failover 0 host0 11002 /data0 1 host1 0 0 11003 /data1 host0 11002",
            "failover 2 host2 11004 /data2 1 host1 1 1 11003 /data1 host1 11003",
            "failback 2 host2 11004 /data2 1 host1 1 1 11003 /data1 host1 11003",
            "failback 0 host0 11002 /data0 0 host0 1 1 11002 /data0 host1 11003",
        ]
    );
}

#[test]
fn hooks_get_the_values_when_the_primary_is_not_the_main_node() {
    let mut cluster = Cluster::new(3);
    cluster.answers = vec![standby(), standby(), Answer::Primary];
    cluster.start();
    cluster.down(0);
    cluster.down(1);
    cluster.down(2);
    assert_eq!(
        cluster.hook_lines(),
        [
            "failover 0 host0 11002 /data0 1 host1 0 2 11003 /data1 host2 11004",
            "failover 1 host1 11003 /data1 2 host2 1 2 11004 /data2 host2 11004",
            "failover 2 host2 11004 /data2 -1 \"\" 2 2 \"\" \"\" host2 11004",
        ]
    );
}

#[test]
fn hooks_get_minus_one_when_no_primary_is_known() {
    let mut cluster = Cluster::new(3);
    cluster.answers = vec![standby(), standby(), standby()];
    cluster.start();
    cluster.pass(11);
    assert_eq!(cluster.view().primary, None);
    cluster.down(2);
    assert_eq!(
        cluster.hook_lines(),
        ["failover 2 host2 11004 /data2 0 host0 0 -1 11002 /data0 \"\" \"\""]
    );
    assert!(
        cluster.said("find_primary_node_repeatedly: waiting for finding a primary node"),
        "the hook may have promoted somebody"
    );
}

#[test]
fn raw_mode_has_no_primary_and_a_failback_hook_gets_the_main_node_for_it() {
    let mut raw = view(2);
    raw.mode = ClusteringMode::Raw;
    let mut cluster = Cluster::with(settings(), raw);
    cluster.start();
    cluster.down(0);
    cluster.up(0);
    assert_eq!(
        cluster.hook_lines(),
        [
            "failover 0 host0 11002 /data0 1 host1 0 -1 11003 /data1 \"\" \"\"",
            "failback 0 host0 11002 /data0 0 host0 1 1 11002 /data0 host1 11003",
        ]
    );
    assert!(cluster.said("failover: set new primary node: -1"));
    assert!(!cluster.steps.contains(&"ask"));
    let targets: Vec<_> = cluster.views.iter().map(|v| v.write_node()).collect();
    assert_eq!(targets.last(), Some(&Some(0)));
    assert!(targets.contains(&Some(1)));
}

#[test]
fn an_empty_hook_is_skipped() {
    let mut settings = settings();
    settings.failover_command = "%x%".to_owned();
    let mut cluster = Cluster::with(settings, view(2));
    cluster.start();
    cluster.down(1);
    assert_eq!(cluster.hook_lines(), [""; 0]);
    assert!(cluster.said("failover done. shutdown host host1(11003)"));
}

#[test]
fn requests_during_a_hook_wait_and_are_worked_off_one_by_one() {
    let mut cluster = Cluster::started(3);
    cluster.hooks_hang = true;
    cluster.down(1);
    cluster.down(2);
    cluster.down(2);
    cluster.up(1);
    assert_eq!(cluster.hooks.len(), 1, "{:?}", cluster.hook_lines());
    assert_eq!(cluster.view().nodes[2].status, NodeStatus::Up);
    for _ in 0..3 {
        let call = cluster.hooks.last().unwrap().call;
        cluster.handle(Event::HookFinished { call });
    }
    assert_eq!(
        cluster
            .hook_lines()
            .iter()
            .map(|l| &l[..10])
            .collect::<Vec<_>>(),
        ["failover 1", "failover 2", "failback 1"],
        "one call per event, not repeated for the nodes before"
    );
    assert!(!cluster.core.is_busy());
}

#[test]
fn an_end_of_an_older_hook_does_nothing() {
    let mut cluster = Cluster::started(2);
    cluster.hooks_hang = true;
    cluster.down(1);
    let call = cluster.hooks[0].call;
    cluster.handle(Event::HookFinished { call: call - 1 });
    assert!(cluster.core.is_busy());
    cluster.handle(Event::HookFinished { call });
    cluster.handle(Event::HookFinished { call });
    assert!(!cluster.core.is_busy());
}

#[test]
fn nobody_writes_while_the_primary_is_searched_and_the_promoted_one_is_found() {
    let mut cluster = Cluster::started(3);
    cluster.down(0);
    assert!(cluster.core.is_busy());
    cluster.pass(7);
    assert_eq!(cluster.view().write_node(), None, "both are standbys");
    assert_eq!(
        cluster
            .log
            .iter()
            .filter(|l| l.contains("standby node is 1"))
            .count(),
        1,
        "what has been said is not said every second"
    );
    cluster.answers[2] = Answer::Primary;
    cluster.pass(1);
    assert_eq!(cluster.view().write_node(), Some(2));
    assert!(!cluster.core.is_busy());
}

#[test]
fn a_search_ends_after_its_time_and_the_main_node_stands_in() {
    let mut cluster = Cluster::started(3);
    cluster.down(0);
    cluster.pass(11);
    assert!(!cluster.core.is_busy());
    assert!(cluster.said("failed to find primary node"));
    assert!(cluster.said("failover: set new primary node: -1"));
    assert!(cluster.said("failover: set new main node: 1"));
    assert_eq!(cluster.view().write_node(), Some(1));
}

#[test]
fn sessions_do_not_wait_for_a_primary_when_no_server_lets_us_ask() {
    let mut cluster = Cluster::started(3);
    cluster.answers = vec![Answer::Refused("password authentication failed".into()); 3];
    cluster.down(0);
    assert!(cluster.core.is_busy());
    assert_eq!(cluster.view().write_node(), Some(1));
}

#[test]
fn at_start_sessions_wait_for_the_first_round_only() {
    let mut cluster = Cluster::new(2);
    cluster.answers = vec![Answer::Unreachable("refused".into()), standby()];
    cluster.start();
    assert!(cluster.core.is_busy());
    assert!(!cluster.view().primary_search_running);
    cluster.answers[0] = Answer::Primary;
    cluster.pass(1);
    assert_eq!(cluster.view().primary, Some(0));
}

#[test]
fn when_all_nodes_are_down_the_search_is_given_up_at_once_and_the_file_is_kept() {
    let mut cluster = Cluster::started(2);
    cluster.down(1);
    cluster.forget();
    cluster.down(0);
    assert_eq!(cluster.files, [""; 0]);
    for line in [
        "All the DB nodes are in down status and skip writing status file.",
        "failover: no valid backend node found",
        "find_primary_node_repeatedly: all of the backends are down. Giving up finding primary node",
        "failover: set new primary node: -1",
    ] {
        assert!(cluster.said(line), "{line}");
    }
    assert!(!cluster.log.iter().any(|l| l.contains("set new main node")));
    assert_eq!(cluster.view().write_node(), None);
    assert!(!cluster.view().primary_search_running);

    cluster.forget();
    cluster.up(0);
    assert!(cluster.views[0].primary_search_running);
    assert_eq!(cluster.view().write_node(), Some(0));
    assert!(cluster.said("Restart all children"));
    assert_eq!(
        cluster.hook_lines(),
        ["failback 0 host0 11002 /data0 0 host0 0 0 11002 /data0 host0 11002"]
    );
}

#[test]
fn requests_before_the_end_of_the_start_are_refused_aloud() {
    let mut cluster = Cluster::new(2);
    cluster.answers = vec![standby(), standby()];
    cluster.start();
    let refusal = cluster.request(Request::Down { node: 1 }).unwrap_err();
    assert_eq!(
        refusal.message,
        "ignoring the failover request, since we are still starting up"
    );
    assert!(cluster.said("ignoring the failover request, since we are still starting up"));
    cluster.pass(11);
    cluster.down(1);
}

#[test]
fn always_primary_wins_without_a_question() {
    let mut flagged = view(3);
    flagged.nodes[1].flag.always_primary = true;
    let mut cluster = Cluster::with(settings(), flagged);
    cluster.start();
    assert_eq!(cluster.view().primary, Some(1));
    assert!(cluster.sweep.is_none());
}

#[test]
fn a_false_primary_found_at_the_start_is_detached() {
    let mut settings = settings();
    settings.detach_false_primary = true;
    let mut cluster = Cluster::with(settings, view(3));
    cluster.answers[1] = Answer::Standby(Receiver::Streaming {
        host: "host0".into(),
        port: "11002".into(),
    });
    cluster.answers[2] = Answer::Primary;
    let actions = cluster.core.handle(Event::Start, cluster.now);
    cluster.carry_out(actions);
    assert!(cluster.said("node status[2]: 3"));
    assert!(cluster.said("pgpool_main: invalid node found 2"));
    assert_eq!(cluster.view().nodes[2].status, NodeStatus::Down);
    assert_eq!(cluster.view().primary, Some(0));
    assert_eq!(cluster.hooks.len(), 1);
}

#[test]
fn an_attached_server_that_claims_to_be_primary_does_not_take_the_writes() {
    let mut cluster = Cluster::started(3);
    cluster.down(2);
    cluster.answers[2] = Answer::Primary;
    cluster.up(2);
    assert_eq!(cluster.view().write_node(), Some(0));
}

#[test]
fn in_logical_replication_the_lowest_node_is_the_primary_again_when_it_is_attached() {
    let mut logical = view(2);
    logical.mode = ClusteringMode::LogicalReplication;
    let mut cluster = Cluster::with(settings(), logical);
    cluster.answers = vec![Answer::Primary, Answer::Primary];
    cluster.start();
    cluster.down(0);
    assert_eq!(cluster.view().write_node(), Some(1));
    cluster.up(0);
    assert_eq!(cluster.view().write_node(), Some(0));
    cluster.down(1);
    cluster.answers[0] = Answer::Refused("sorry, too many clients already".into());
    cluster.up(1);
    assert_eq!(
        cluster.view().write_node(),
        Some(0),
        "that it did not answer now is no reason to write to the other"
    );
}

#[test]
fn a_primary_that_does_not_answer_during_an_attach_stays_primary() {
    let mut cluster = Cluster::started(3);
    cluster.down(2);
    cluster.answers[0] = Answer::Refused("sorry, too many clients already".into());
    cluster.up(2);
    assert!(!cluster.core.is_busy());
    assert_eq!(cluster.view().write_node(), Some(0));
}

#[test]
fn a_primary_that_turns_out_to_be_a_standby_gets_no_writes() {
    let mut cluster = Cluster::started(3);
    cluster.down(2);
    cluster.answers[0] = standby();
    cluster.up(2);
    assert_eq!(cluster.view().write_node(), None);
    cluster.answers[1] = Answer::Primary;
    cluster.pass(1);
    assert_eq!(cluster.view().write_node(), Some(1));
}

#[test]
fn a_search_is_given_up_when_the_node_to_be_promoted_dies_too() {
    let mut cluster = Cluster::started(3);
    cluster.down(0);
    cluster.answers[1] = Answer::Unreachable("connection refused".into());
    cluster.down(1);
    cluster.pass(1);
    cluster.answers[2] = Answer::Primary;
    cluster.pass(1);
    assert_eq!(
        cluster.hook_lines(),
        [
            "failover 0 host0 11002 /data0 1 host1 0 0 11003 /data1 host0 11002",
            "failover 1 host1 11003 /data1 2 host2 1 -1 11004 /data2 \"\" \"\"",
        ]
    );
    assert_eq!(cluster.view().write_node(), Some(2));
}

#[test]
fn a_search_in_vain_makes_way_for_an_attach() {
    let mut settings = settings();
    settings.search_primary_node_timeout = None;
    let mut cluster = Cluster::with(settings, view(3));
    cluster.start();
    cluster.down(0);
    cluster.up(0);
    cluster.pass(5);
    assert_eq!(cluster.view().nodes[0].status, NodeStatus::Down);
    cluster.pass(6);
    assert_eq!(cluster.view().write_node(), Some(0));
}

#[test]
fn a_reason_from_before_an_attach_does_not_detach_the_node_again() {
    let mut cluster = Cluster::started(3);
    let seen = cluster.view().version;
    let report = |cluster: &mut Cluster, seen| {
        let (result, actions) = cluster.core.request(
            Request::Down { node: 1 },
            Source::HealthCheck(1),
            Some(seen),
            cluster.now,
        );
        cluster.carry_out(actions);
        result
    };
    cluster.hooks_hang = true;
    cluster.down(1);
    cluster.up(1);
    assert!(report(&mut cluster, seen).is_err(), "the attach is queued");
    for _ in 0..2 {
        let call = cluster.hooks.last().unwrap().call;
        cluster.handle(Event::HookFinished { call });
    }
    assert!(report(&mut cluster, seen).is_err(), "the attach is done");
    assert!(cluster.view().is_valid(1));
    let seen = cluster.view().version;
    assert!(report(&mut cluster, seen).is_ok());
    assert!(!cluster.view().is_valid(1));
}

fn health_check_reports(cluster: &mut Cluster, node: NodeId) {
    let version = cluster.view().version;
    let (result, actions) = cluster.core.request(
        Request::Down { node },
        Source::HealthCheck(node),
        Some(version),
        cluster.now,
    );
    result.unwrap();
    cluster.carry_out(actions);
}

#[test]
fn a_health_checks_request_that_waited_is_looked_at_again_and_an_operators_is_not() {
    let mut cluster = Cluster::started(3);
    cluster.hooks_hang = true;
    cluster.down(0);
    health_check_reports(&mut cluster, 1);
    cluster.down(2);
    cluster.pass(6);
    cluster.answers = vec![Answer::Unreachable("no".into()); 3];
    let call = cluster.hooks[0].call;
    cluster.handle(Event::HookFinished { call });
    cluster.pass(1);
    assert!(cluster.steps.contains(&"look again"));
    assert_eq!(cluster.view().nodes[1].status, NodeStatus::Up);
    assert_eq!(cluster.view().nodes[2].status, NodeStatus::Down);
}

#[test]
fn a_server_that_has_answered_since_is_not_detached_for_an_older_reason() {
    let mut cluster = Cluster::started(3);
    cluster.hooks_hang = true;
    cluster.down(0);
    health_check_reports(&mut cluster, 1);
    cluster.answers[1] = Answer::Primary;
    let call = cluster.hooks[0].call;
    cluster.handle(Event::HookFinished { call });
    assert_eq!(cluster.view().write_node(), Some(1));
    assert!(cluster.said(
        "degenerate backend request for node_id: 1 is dropped because the server has answered since"
    ));
    assert!(!cluster.core.is_busy());
}

#[test]
fn a_primary_that_others_have_promoted_is_found() {
    let mut cluster = Cluster::new(2);
    cluster.answers = vec![standby(), standby()];
    cluster.start();
    cluster.pass(11);
    cluster.answers[1] = Answer::Primary;
    cluster.handle(Event::RolesDiffer);
    assert_eq!(cluster.view().write_node(), Some(1));
    assert_eq!(cluster.hooks, []);

    cluster.answers = vec![Answer::Primary, standby()];
    cluster.handle(Event::RolesDiffer);
    assert_eq!(cluster.view().write_node(), Some(0));
    assert!(cluster.said("failover: set new primary node: 0"));
}

#[test]
fn a_slow_server_does_not_hold_up_a_primary_that_has_answered() {
    let mut cluster = Cluster::started(3);
    let (_, actions) =
        cluster
            .core
            .request(Request::Down { node: 0 }, Source::Pcp, None, cluster.now);
    let call = actions.iter().find_map(|a| match a {
        Action::RunHook { hook, .. } => Some(hook.call),
        _ => None,
    });
    let actions = cluster.core.handle(
        Event::HookFinished {
            call: call.unwrap(),
        },
        cluster.now,
    );
    let sweep = actions.iter().find_map(|a| match a {
        Action::Ask { sweep, .. } => Some(*sweep),
        _ => None,
    });
    cluster.handle(Event::Answered {
        sweep: sweep.unwrap(),
        node: 1,
        answer: Answer::Primary,
    });
    assert!(cluster.core.is_busy(), "the other one has a second");
    cluster.pass(1);
    assert_eq!(cluster.view().write_node(), Some(1));
}

#[test]
fn answers_to_older_questions_are_ignored() {
    let mut cluster = Cluster::started(3);
    cluster.down(0);
    let (old, _) = cluster.sweep.clone().unwrap();
    cluster.pass(1);
    cluster.handle(Event::Answered {
        sweep: old,
        node: 2,
        answer: Answer::Primary,
    });
    assert_eq!(cluster.view().primary, None);
}

#[test]
fn the_first_session_turns_waiting_into_up_without_a_new_version() {
    let mut cluster = Cluster::started(2);
    cluster.down(1);
    cluster.up(1);
    let version = cluster.view().version;
    cluster.forget();
    cluster.handle(Event::NodeUsed { node: 1 });
    assert_eq!(cluster.view().nodes[1].status, NodeStatus::Up);
    assert_eq!(cluster.view().version, version);
    assert_eq!(cluster.steps, ["view", "file"]);
    cluster.forget();
    cluster.handle(Event::NodeUsed { node: 1 });
    cluster.handle(Event::NodeUsed { node: 9 });
    assert_eq!(cluster.steps, [""; 0]);
}

#[test]
fn a_reload_changes_hooks_and_weights_but_not_the_address_of_a_node_in_use() {
    let mut cluster = Cluster::started(2);
    let mut nodes = view(3).nodes;
    nodes[1].hostname = "elsewhere".into();
    nodes[1].weight = 0.25;
    nodes[2].status = NodeStatus::Down;
    let mut settings = settings();
    settings.failover_command = "new %d".into();
    let version = cluster.view().version;
    let actions = cluster.core.reload(settings, nodes.clone(), cluster.now);
    cluster.answers.push(standby());
    cluster.carry_out(actions);
    let node = &cluster.view().nodes[1];
    assert_eq!((node.hostname.as_str(), node.weight), ("host1", 0.25));
    assert_eq!(node.status, NodeStatus::Up);
    assert_eq!(
        cluster.view().nodes[2].status,
        NodeStatus::Down,
        "needs attach"
    );
    assert_eq!(cluster.view().version, version + 1);
    cluster.down(1);
    assert_eq!(cluster.hook_lines(), ["new 1"]);
    let actions = cluster
        .core
        .reload(cluster.core.settings.clone(), nodes, cluster.now);
    cluster.carry_out(actions);
    assert_eq!(cluster.view().nodes[1].hostname, "elsewhere");
}

#[test]
fn no_request_is_dropped_however_many_wait() {
    let mut cluster = Cluster::started(30);
    cluster.hooks_hang = true;
    for node in 1..30 {
        cluster.down(node);
    }
    cluster.hooks_hang = false;
    let call = cluster.hooks[0].call;
    cluster.handle(Event::HookFinished { call });
    assert_eq!(cluster.hooks.len(), 29, "one call for each");
    assert_eq!(cluster.view().valid_nodes().collect::<Vec<_>>(), [0]);
}

#[test]
fn a_start_ends_though_its_search_is_to_have_no_end() {
    let endless = Settings {
        search_primary_node_timeout: None,
        ..settings()
    };
    let mut cluster = Cluster::with(endless, view(2));
    cluster.answers = vec![standby(), standby()];
    cluster.handle(Event::Start);
    cluster.pass(299);
    assert!(!cluster.core.has_started());
    cluster.pass(2);
    assert!(cluster.core.has_started());
    assert_eq!(cluster.view().primary, None);
    // The replication check finds the one that comes later.
    cluster.answers[1] = Answer::Primary;
    cluster.handle(Event::RolesDiffer);
    assert_eq!(cluster.view().primary, Some(1));
}
