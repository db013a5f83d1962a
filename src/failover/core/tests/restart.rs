//! A start after a kill -9 in the middle of something.

use super::*;
use crate::failover::unfinished::{Follow, Hook, Stage};

fn killed(stage: Stage) -> Unfinished {
    Unfinished {
        hook: Some(Hook {
            kind: HookKind::Failover,
            node: 0,
            old_primary: Some(0),
            stage,
            line: "the command".to_owned(),
        }),
        follow: None,
    }
}

/// Three nodes of which the status file says that 0 is down; node 1 is the primary by now.
fn restarted(left: Unfinished, follow_primary_command: &str) -> Cluster {
    let mut cluster = Cluster::with(
        Settings {
            follow_primary_command: follow_primary_command.to_owned(),
            ..settings()
        },
        view(3),
    );
    cluster.core.view.nodes[0].status = NodeStatus::Down;
    cluster.answers = vec![Answer::Unreachable("no".into()), Answer::Primary, standby()];
    cluster.unfinished = left.clone();
    cluster.core =
        std::mem::replace(&mut cluster.core, Core::new(settings(), view(1))).resuming(left);
    let actions = cluster.core.handle(Event::Start, cluster.now);
    cluster.carry_out(actions);
    cluster
}

#[test]
fn a_hook_that_had_not_begun_is_run_before_the_search() {
    let cluster = restarted(killed(Stage::Due), "");
    assert_eq!(cluster.hook_lines(), ["the command"]);
    assert_eq!(cluster.steps, ["file", "hook", "ask", "view", "started"]);
    assert_eq!(cluster.view().primary, Some(1));
    assert!(cluster.unfinished.is_empty());
    assert!(
        cluster.log.iter().any(|l| l
            == "pgpool was killed before failover_command for node 0 had begun: it is run now")
    );
}

#[test]
fn a_hook_that_had_begun_is_waited_for_and_never_run_again() {
    let mut cluster = restarted(killed(Stage::Begun), "follow %d %m %P");
    assert_eq!(cluster.hook_lines(), [""; 0]);
    let (call, kind) = cluster.awaited.take().expect("it may still run");
    assert_eq!(kind, HookKind::Failover);
    assert!(!cluster.steps.contains(&"ask"), "it may be promoting");
    assert_eq!(
        cluster.unfinished,
        killed(Stage::Begun),
        "as long as it is so"
    );
    cluster.handle(Event::HookFinished { call });
    assert_eq!(cluster.view().primary, Some(1));
    // What follows a failover follows it here, too.
    assert_eq!(cluster.hook_lines(), ["follow 0 1 0"]);
    assert_eq!(cluster.statuses(), [3, 2, 3]);
    cluster.follow_ends(false);
    assert_eq!(cluster.hook_lines(), ["follow 0 1 0", "follow 2 1 0"]);
    cluster.follow_ends(true);
    assert_eq!(cluster.statuses(), [3, 2, 1]);
    assert!(cluster.unfinished.is_empty());
}

#[test]
fn what_was_done_when_it_was_killed_is_not_done_again() {
    let cluster = restarted(killed(Stage::Ended), "");
    assert_eq!(cluster.hook_lines(), [""; 0]);
    assert_eq!(cluster.view().primary, Some(1));
    assert!(cluster.unfinished.is_empty());
}

#[test]
fn a_failover_of_which_the_status_file_knows_nothing_has_not_begun() {
    let mut cluster = Cluster::new(3);
    cluster.core = Core::new(settings(), view(3)).resuming(killed(Stage::Due));
    let actions = cluster.core.handle(Event::Start, cluster.now);
    cluster.carry_out(actions);
    assert_eq!(cluster.hook_lines(), [""; 0]);
    assert_eq!(cluster.view().primary, Some(0));
    assert!(cluster.unfinished.is_empty());
}

fn following(next: Option<NodeId>, running: Option<NodeId>) -> Unfinished {
    Unfinished {
        hook: None,
        follow: Some(Follow {
            primary: 1,
            old_primary: Some(0),
            next,
            running,
        }),
    }
}

#[test]
fn commands_that_had_not_begun_follow_the_end_of_the_one_that_had() {
    let mut cluster = restarted(following(Some(0), None), "follow %d %m %M %P");
    assert_eq!(cluster.hook_lines(), ["follow 0 1 0 0"]);
    cluster.follow_ends(false);

    let mut cluster = Cluster::new(3);
    for id in [0, 2] {
        cluster.core.view.nodes[id].status = NodeStatus::Down;
    }
    let (view, settings) = (
        cluster.core.view.clone(),
        Settings {
            follow_primary_command: "follow %d".into(),
            ..settings()
        },
    );
    cluster.answers[1] = Answer::Primary;
    cluster.core = Core::new(settings, view).resuming(following(Some(1), Some(0)));
    cluster.handle(Event::Start);
    assert_eq!(cluster.hook_lines(), [""; 0], "one after the other");
    assert!(cluster.core.is_following());
    let (call, kind) = cluster.awaited.take().expect("it may still run");
    assert_eq!(kind, HookKind::Follow);
    cluster.handle(Event::HookFinished { call });
    assert_eq!(
        cluster.hook_lines(),
        ["follow 2"],
        "node 0 has had its turn"
    );
    cluster.follow_ends(true);
    assert!(!cluster.core.is_following());
    assert!(cluster.unfinished.is_empty());
}

#[test]
fn nobody_is_made_to_follow_a_server_that_is_not_the_primary_any_more() {
    let mut left = following(Some(0), None);
    if let Some(follow) = &mut left.follow {
        follow.primary = 2;
    }
    let cluster = restarted(left, "follow %d");
    assert_eq!(cluster.hook_lines(), [""; 0]);
    assert!(!cluster.core.is_following());
    assert!(cluster.unfinished.is_empty());
    assert!(
        cluster
            .log
            .iter()
            .any(|l| l.contains("gets them none now: 0")),
        "{:?}",
        cluster.log
    );
}

#[test]
fn a_primary_that_was_about_to_be_detached_goes_at_the_start_unless_a_primary_answers() {
    let mut cluster = Cluster::new(3);
    cluster.core = Core::new(settings(), view(3)).resuming(killed(Stage::Due));
    cluster.answers[0] = Answer::Unreachable("no".into());
    cluster.hooks_hang = true;
    cluster.handle(Event::Start);
    assert_eq!(
        cluster.hook_lines(),
        ["failover 0 host0 11002 /data0 1 host1 0 0 11003 /data1 host0 11002"]
    );
    cluster.answers[1] = Answer::Primary;
    let call = cluster.hooks[0].call;
    cluster.handle(Event::HookFinished { call });
    assert_eq!(cluster.view().primary, Some(1));
    assert_eq!(cluster.statuses(), [3, 2, 2]);
    assert!(cluster.unfinished.is_empty());
}
