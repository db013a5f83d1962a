//! `follow_primary_command` after a new primary was found.

use super::*;

const ARGUMENTS: &str = "%d %h %p %D %m %H %M %P %r %R %N %S";

fn following() -> Settings {
    Settings {
        follow_primary_command: format!("follow {ARGUMENTS}"),
        ..settings()
    }
}

/// `count` nodes, started, node 0 is the primary; when it is lost, node 1 is promoted.
fn cluster(count: usize) -> Cluster {
    let mut cluster = Cluster::with(following(), view(count));
    cluster.start();
    cluster
}

fn lost_primary(count: usize) -> Cluster {
    let mut cluster = cluster(count);
    cluster.answers[1] = Answer::Primary;
    cluster.down(0);
    cluster.answers[0] = standby();
    cluster
}

fn lines_of(cluster: &Cluster, kind: HookKind) -> Vec<&str> {
    let of_kind = cluster.hooks.iter().filter(|h| h.kind == kind);
    of_kind.map(|h| h.line.as_str()).collect()
}

fn followed(cluster: &Cluster) -> Vec<NodeId> {
    let follows = cluster.hooks.iter().filter(|h| h.kind == HookKind::Follow);
    follows.map(|h| h.node).collect()
}

#[test]
fn the_steps_and_texts_are_those_of_the_original() {
    let mut cluster = lost_primary(3);
    assert_eq!(
        cluster.log[5..],
        [
            "find_primary_node_repeatedly: waiting for finding a primary node",
            "find_primary_node: primary node is 1",
            "find_primary_node: standby node is 2",
            "starting follow degeneration. shutdown host host0(11002)",
            "starting follow degeneration. shutdown host host2(11004)",
            "failover: 2 follow backends have been degenerated",
            "failover: set new primary node: 1",
            "failover: set new main node: 1",
            "worker process received restart request",
            "failover done. shutdown host host0(11002)",
            "start triggering follow command.",
            "execute command: follow 0 host0 11002 /data0 1 host1 0 0 11003 /data1 host0 11002",
        ]
    );
    assert_eq!(
        cluster.steps,
        [
            "file", "view", "hook", "ask", "file", "view", "sr check", "hook"
        ]
    );
    assert_eq!(cluster.files.last().unwrap(), "down\nup\ndown\n");
    assert_eq!(cluster.view().write_node(), Some(1));
    assert_eq!(cluster.statuses(), [3, 2, 3]);
    assert!(!cluster.core.is_busy() && cluster.core.is_following());

    cluster.follow_ends(true);
    cluster.follow_ends(true);
    // reference/hooks.md 1.2: the old primary first, %M is the old primary.
    assert_eq!(
        cluster.hook_lines(),
        [
            "failover 0 host0 11002 /data0 1 host1 0 0 11003 /data1 host0 11002",
            "follow 0 host0 11002 /data0 1 host1 0 0 11003 /data1 host0 11002",
            "failback 0 host0 11002 /data0 0 host0 1 1 11002 /data0 host1 11003",
            "follow 2 host2 11004 /data2 1 host1 0 0 11003 /data1 host0 11002",
            "failback 2 host2 11004 /data2 0 host0 0 1 11002 /data0 host1 11003",
        ]
    );
    assert!(
        cluster.said(
            "follow commands for node 1 as the primary have ended; nodes that are down: none"
        )
    );
    assert!(!cluster.core.is_following());
    assert_eq!(cluster.view().write_node(), Some(1));
}

#[test]
fn from_4_4_on_each_command_is_framed() {
    let settings = Settings {
        dialect: Release::V4_4,
        ..following()
    };
    let mut cluster = Cluster::with(settings, view(2));
    cluster.start();
    cluster.answers[1] = Answer::Primary;
    cluster.down(0);
    cluster.follow_ends(false);
    for line in [
        "=== Starting follow degeneration. shutdown host host0(11002) ===",
        "=== Starting follow primary command for node 0 ===",
        "=== Follow primary command for node 0 ended ===",
        "follow commands for node 1 as the primary have ended; nodes that are down: 0",
    ] {
        assert!(cluster.said(line), "{line}: {:#?}", cluster.log);
    }
    assert!(!cluster.said("start triggering follow command."));
}

#[test]
fn a_standby_that_fails_is_followed_by_nothing() {
    let mut cluster = cluster(3);
    cluster.down(2);
    assert_eq!(followed(&cluster), [0; 0]);
    assert_eq!(cluster.statuses(), [2, 2, 3]);
}

#[test]
fn nodes_that_were_down_before_get_their_command_too() {
    let mut cluster = cluster(4);
    cluster.down(3);
    cluster.answers[1] = Answer::Primary;
    cluster.down(0);
    cluster.follow_ends(false);
    cluster.follow_ends(true);
    cluster.follow_ends(false);
    assert_eq!(followed(&cluster), [0, 2, 3]);
    assert!(
        cluster.said(
            "follow commands for node 1 as the primary have ended; nodes that are down: 0, 3"
        )
    );
}

#[test]
fn a_node_that_was_attached_before_its_turn_gets_no_command() {
    let mut cluster = lost_primary(3);
    cluster.up(2);
    cluster.follow_ends(false);
    assert_eq!(followed(&cluster), [0]);
    assert!(!cluster.core.is_following());
}

#[test]
fn without_a_new_primary_nothing_follows() {
    let mut cluster = cluster(3);
    cluster.answers[0] = standby();
    cluster.down(0);
    cluster.pass(11);
    assert!(!cluster.core.is_busy());
    assert_eq!(cluster.statuses(), [3, 2, 2]);
    assert_eq!(followed(&cluster), [0; 0]);
}

/// reference/hooks.md 1.2: no primary known, the hook promotes node 0.
#[test]
fn a_primary_that_a_failover_finds_where_none_was_known_is_followed() {
    let mut cluster = cluster(3);
    cluster.answers[0] = standby();
    cluster.down(0);
    cluster.pass(11);
    cluster.up(0);
    cluster.pass(11);
    cluster.forget();
    cluster.answers[0] = Answer::Primary;
    cluster.down(2);
    cluster.follow_ends(true);
    cluster.follow_ends(true);
    assert_eq!(
        lines_of(&cluster, HookKind::Follow),
        [
            "follow 1 host1 11003 /data1 0 host0 -1 -1 11002 /data0 \"\" \"\"",
            "follow 2 host2 11004 /data2 0 host0 -1 -1 11002 /data0 \"\" \"\"",
        ]
    );
}

#[test]
fn requests_are_served_while_a_command_runs() {
    let mut cluster = lost_primary(4);
    cluster.up(3);
    assert_eq!(cluster.statuses(), [3, 2, 3, 1]);
    cluster.down(3);
    assert_eq!(cluster.statuses(), [3, 2, 3, 3]);
    cluster.follow_ends(true);
    cluster.follow_ends(true);
    cluster.follow_ends(true);
    assert_eq!(followed(&cluster), [0, 2, 3]);
    assert_eq!(cluster.statuses(), [1, 2, 1, 1]);
}

#[test]
fn when_the_new_primary_fails_too_its_run_ends_and_the_next_waits_for_the_command() {
    let mut cluster = lost_primary(4);
    cluster.up(2);
    cluster.answers[1] = Answer::Unreachable("gone".into());
    cluster.answers[2] = Answer::Primary;
    cluster.forget();
    cluster.down(1);
    assert_eq!(
        lines_of(&cluster, HookKind::Failover),
        ["failover 1 host1 11003 /data1 2 host2 1 1 11004 /data2 host1 11003"]
    );
    assert_eq!(cluster.view().write_node(), Some(2));
    assert!(cluster.said(
        "follow commands for node 1 as the primary are given up, because it is not any more; nodes without a command: 3"
    ));
    assert_eq!(followed(&cluster), [0; 0], "the old command still runs");
    // It points its node to a primary that is not one any more.
    cluster.follow_ends(true);
    assert_eq!(cluster.statuses(), [3, 3, 1, 3]);
    for _ in 0..3 {
        cluster.follow_ends(true);
    }
    assert_eq!(followed(&cluster), [0, 1, 3]);
    assert_eq!(
        lines_of(&cluster, HookKind::Follow)[0],
        "follow 0 host0 11002 /data0 2 host2 1 1 11004 /data2 host1 11003"
    );
    assert!(!cluster.core.is_following());
}

#[test]
fn when_the_new_primary_is_lost_for_good_no_further_command_begins() {
    let mut cluster = lost_primary(3);
    cluster.answers[1] = Answer::Unreachable("gone".into());
    cluster.down(1);
    assert_eq!(cluster.view().write_node(), None, "all are down");
    cluster.follow_ends(true);
    assert_eq!(followed(&cluster), [0]);
    assert!(!cluster.core.is_following());
    cluster.pass(20);
    assert!(!cluster.core.is_busy());
}

#[test]
fn a_primary_that_an_attach_finds_ends_the_run_of_the_other() {
    let mut cluster = lost_primary(3);
    // Node 1 was made a standby again by somebody, and node 2 promoted.
    cluster.answers = vec![standby(), standby(), Answer::Primary];
    cluster.up(2);
    assert_eq!(cluster.view().write_node(), Some(2));
    cluster.follow_ends(false);
    assert_eq!(followed(&cluster), [0]);
    assert!(!cluster.core.is_following());
}

#[test]
fn roles_are_not_doubted_while_nodes_are_made_to_follow() {
    let mut cluster = lost_primary(3);
    cluster.answers[1] = standby();
    cluster.forget();
    cluster.handle(Event::RolesDiffer);
    assert_eq!(cluster.steps, [""; 0]);
    cluster.follow_ends(false);
    cluster.follow_ends(false);
    cluster.handle(Event::RolesDiffer);
    assert_eq!(cluster.view().primary, None);
}

#[test]
fn at_the_end_of_pgpool_no_further_command_begins() {
    let mut cluster = lost_primary(3);
    cluster.handle(Event::Stopping);
    assert!(cluster.said("follow command for node 0 is ended, because pgpool is"));
    cluster.follow_ends(false);
    assert_eq!(followed(&cluster), [0]);
}

#[test]
fn a_command_that_expands_to_nothing_is_not_run() {
    let settings = Settings {
        follow_primary_command: "%x".into(),
        ..settings()
    };
    let mut cluster = Cluster::with(settings, view(3));
    cluster.start();
    cluster.answers[1] = Answer::Primary;
    cluster.down(0);
    assert_eq!(followed(&cluster), [0; 0]);
    assert!(!cluster.core.is_following());
    assert_eq!(cluster.statuses(), [3, 2, 3]);
}

#[test]
fn outside_streaming_replication_nothing_follows() {
    let mut logical = view(3);
    logical.mode = ClusteringMode::LogicalReplication;
    let mut cluster = Cluster::with(following(), logical);
    cluster.answers = vec![Answer::Primary; 3];
    cluster.start();
    cluster.down(0);
    assert_eq!(cluster.view().write_node(), Some(1));
    assert_eq!(cluster.statuses(), [3, 2, 2]);
}
