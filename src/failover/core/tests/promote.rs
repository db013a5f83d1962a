//! `pcp_promote_node`, with and without `--switchover`.

use super::*;

fn switchover(cluster: &mut Cluster, node: NodeId) -> Result<(), Refusal> {
    cluster.request(Request::Switchover { node })
}

fn promote(cluster: &mut Cluster, node: NodeId) -> Result<(), Refusal> {
    cluster.request(Request::Promote { node })
}

fn why(result: Result<(), Refusal>) -> String {
    let refusal = result.unwrap_err();
    format!("{}: {}", refusal.message, refusal.detail)
}

#[test]
fn a_switchover_is_a_failover_of_the_primary_whose_hook_gets_the_wanted_node() {
    let mut settings = settings();
    settings.follow_primary_command = "follow %d %m %M %P".into();
    let mut cluster = Cluster::with(settings, view(3));
    cluster.start();
    cluster.answers = vec![Answer::Primary, standby(), Answer::Primary];
    switchover(&mut cluster, 2).unwrap();
    assert_eq!(
        cluster.log,
        [
            "received degenerate backend request for node_id: 0 from pid [4711]",
            "Pgpool-II parent process has received failover request",
            "switching over from node 0 to node 2",
            "starting degeneration. shutdown host host0(11002)",
            "Restart all children",
            "execute command: failover 0 host0 11002 /data0 2 host2 0 0 11004 /data2 host0 11002",
            "find_primary_node_repeatedly: waiting for finding a primary node",
            "find_primary_node: standby node is 1",
            "find_primary_node: primary node is 2",
            "starting follow degeneration. shutdown host host0(11002)",
            "starting follow degeneration. shutdown host host1(11003)",
            "failover: 2 follow backends have been degenerated",
            "failover: set new primary node: 2",
            "failover: set new main node: 2",
            "worker process received restart request",
            "failover done. shutdown host host0(11002)",
            "start triggering follow command.",
            "execute command: follow 0 2 0 0",
        ]
    );
    let refusal = switchover(&mut cluster, 0).unwrap_err();
    assert_eq!(
        refusal.detail,
        "node id 0 is down, can't promote it; attach it first (pcp_attach_node)"
    );
    cluster.follow_ends(true);
    assert!(why(switchover(&mut cluster, 0)).contains(
        "follow_primary_command still runs for node id 1; wait until it has ended, or end it"
    ));
    cluster.follow_ends(true);
    assert_eq!(cluster.statuses(), [1, 1, 2]);
}

#[test]
fn without_a_follow_command_the_other_standbys_of_a_switchover_stay() {
    let mut cluster = Cluster::started(3);
    cluster.answers[2] = Answer::Primary;
    switchover(&mut cluster, 2).unwrap();
    assert_eq!(cluster.statuses(), [3, 2, 2]);
    assert_eq!(cluster.view().write_node(), Some(2));
    assert!(cluster.said("failover: set new main node: 1"));
}

#[test]
fn a_switchover_whose_node_is_not_promoted_is_told_and_the_old_primary_can_be_attached() {
    let mut cluster = Cluster::started(3);
    switchover(&mut cluster, 1).unwrap();
    assert_eq!(
        cluster.view().write_node(),
        None,
        "no writes to a standby meanwhile"
    );
    cluster.up(0);
    cluster.pass(10);
    assert!(cluster.said("the switchover to node 1 has failed: the primary node is -1"));
    assert_eq!(cluster.view().write_node(), Some(0));
    assert_eq!(cluster.statuses(), [1, 2, 2]);
}

#[test]
fn a_switchover_that_promotes_another_node_is_told() {
    let mut cluster = Cluster::started(3);
    cluster.answers[2] = Answer::Primary;
    switchover(&mut cluster, 1).unwrap();
    assert_eq!(cluster.view().write_node(), Some(2));
    assert!(cluster.said("the switchover to node 1 has failed: the primary node is 2"));
}

#[test]
fn a_promotion_follows_a_server_that_was_promoted() {
    let mut settings = settings();
    settings.follow_primary_command = "follow %d %h %p %D %m %H %M %P %r %R %N %S".into();
    let mut cluster = Cluster::with(settings, view(3));
    cluster.start();
    cluster.answers[2] = Answer::Primary;
    promote(&mut cluster, 2).unwrap();
    assert_eq!(
        cluster.log,
        [
            "received promote backend request for node_id: 2 from pid [4711]",
            "Pgpool-II parent process has received failover request",
            "starting promotion. promote host host2(11004)",
            "find_primary_node: primary node is 2",
            "Restart all children",
            "starting follow degeneration. shutdown host host0(11002)",
            "starting follow degeneration. shutdown host host1(11003)",
            "failover: 2 follow backends have been degenerated",
            "failover: set new primary node: 2",
            "failover: set new main node: 2",
            "worker process received restart request",
            "promotion done. promoted host host2(11004)",
            "start triggering follow command.",
            "execute command: follow 0 host0 11002 /data0 2 host2 0 0 11004 /data2 host0 11002",
        ]
    );
    assert_eq!(cluster.steps, ["ask", "file", "view", "sr check", "hook"]);
    assert_eq!(
        cluster.sweep.as_ref().unwrap().1,
        [2],
        "nobody else is asked"
    );
    assert_eq!(cluster.view().write_node(), Some(2));
}

#[test]
fn without_a_follow_command_a_promotion_takes_the_other_nodes_down_all_the_same() {
    let mut cluster = Cluster::started(3);
    cluster.answers[1] = Answer::Primary;
    promote(&mut cluster, 1).unwrap();
    assert_eq!(cluster.statuses(), [3, 2, 3]);
    assert_eq!(cluster.hooks, []);
    assert!(!cluster.core.is_following());
}

#[test]
fn a_standby_is_never_called_the_primary() {
    for answer in [
        standby(),
        Answer::Refused("no".into()),
        Answer::Unreachable("no".into()),
    ] {
        let mut cluster = Cluster::started(3);
        cluster.answers[1] = answer;
        promote(&mut cluster, 1).unwrap();
        assert!(cluster.said("the promotion of node 1 is given up, nothing has been changed"));
        assert_eq!(cluster.statuses(), [2, 2, 2]);
        assert_eq!(cluster.view().write_node(), Some(0));
        assert_eq!(cluster.steps, ["ask"]);
        assert!(!cluster.core.is_busy());
    }
}

#[test]
fn what_is_known_to_be_impossible_is_refused() {
    let with = |prepare: fn(&mut ClusterView), settings: Settings| {
        let mut view = view(4);
        view.nodes[3].status = NodeStatus::Down;
        prepare(&mut view);
        let mut cluster = Cluster::with(settings, view);
        cluster.start();
        cluster
    };
    let mut plain = with(|_| {}, settings());
    for (node, detail) in [
        (
            0,
            "invalid promote request: specified node is already primary node, can't promote node id 0",
        ),
        (
            3,
            "invalid promote request: node id 3 is down, can't promote it; attach it first (pcp_attach_node)",
        ),
        (
            4,
            "could not process promote request: node id 4 is not valid",
        ),
    ] {
        assert_eq!(why(switchover(&mut plain, node)), detail);
        assert_eq!(why(promote(&mut plain, node)), detail);
    }
    let mut flagged = with(|v| v.nodes[2].flag.always_primary = true, settings());
    assert!(why(promote(&mut flagged, 1)).contains("node id 2 has the flag ALWAYS_PRIMARY"));
    let mut disallowed = with(|v| v.nodes[0].flag.disallow_to_failover = true, settings());
    assert_eq!(
        switchover(&mut disallowed, 1).unwrap_err().message,
        "degenerate backend request for node_id: 0 from pid [4711] is canceled because failover is disallowed on the node"
    );
    let without = Settings {
        failover_command: String::new(),
        ..settings()
    };
    let mut without = with(|_| {}, without);
    assert!(why(switchover(&mut without, 1)).contains("failover_command is empty"));
    let mut logical = with(|v| v.mode = ClusteringMode::LogicalReplication, settings());
    assert!(why(promote(&mut logical, 1)).contains("not in streaming replication mode"));
    for cluster in [plain, flagged, disallowed, without, logical] {
        assert_eq!(cluster.hooks, []);
        assert!(!cluster.core.is_busy());
    }
}

#[test]
fn without_a_primary_there_is_nothing_to_switch_over_from() {
    let mut cluster = Cluster::new(2);
    cluster.answers = vec![standby(), standby()];
    cluster.start();
    cluster.pass(11);
    assert!(why(switchover(&mut cluster, 1)).contains("no primary node is known"));
    cluster.answers[1] = Answer::Primary;
    promote(&mut cluster, 1).unwrap();
    assert_eq!(cluster.view().write_node(), Some(1));
}

#[test]
fn a_promotion_that_waits_is_looked_at_again_and_only_one_waits() {
    let mut cluster = Cluster::started(4);
    cluster.hooks_hang = true;
    cluster.down(3);
    switchover(&mut cluster, 1).unwrap();
    switchover(&mut cluster, 1).unwrap();
    assert!(why(switchover(&mut cluster, 2)).contains("a promotion of node id 1 waits already"));
    cluster.down(1);
    assert!(why(promote(&mut cluster, 1)).contains("a failover waits that changes the nodes"));
    cluster.hooks_hang = false;
    cluster.answers[1] = Answer::Primary;
    let call = cluster.hooks[0].call;
    cluster.handle(Event::HookFinished { call });
    // The node is to be detached meanwhile: better no switchover than one without a successor.
    let failovers: Vec<_> = cluster.hooks.iter().map(|h| h.node).collect();
    assert_eq!(failovers, [3, 1]);
    assert!(cluster.said("invalid promote request"));
    assert_eq!(cluster.view().write_node(), Some(0));
}
