//! Several pgpool nodes: quarantine, the leader's picture, who may act.

use super::*;
use crate::{
    events::{Kind, Step},
    watchdog::codec::status::{BackendStatus, RemoteStatus},
};

fn why() -> Why {
    Why::new("the health check of node 0", "no answer")
}

/// With a watchdog and its start behind it, as leader or not.
fn cluster(leads: bool) -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.core = cluster.core.with_watchdog();
    cluster.handle(Event::Coordinates(leads));
    cluster.start();
    cluster
}

fn quarantined(node: NodeId) -> Cluster {
    let mut cluster = cluster(true);
    cluster.handle(Event::Quarantine { node, why: why() });
    cluster
}

fn adopt(down: [bool; 3], primary: AdoptedPrimary) -> Event {
    Event::Adopt(Adopted {
        down: down.to_vec(),
        primary,
        from: "a:9999 Linux a".to_owned(),
    })
}

#[test]
fn a_quarantined_node_is_down_here_and_nowhere_else() {
    let cluster = quarantined(2);
    assert!(cluster.view().nodes[2].quarantine);
    assert_eq!(cluster.statuses(), [2, 2, 3]);
    assert_eq!(cluster.view().primary, Some(0));
    assert_eq!(cluster.steps, ["view"], "no file, no hook");
    let status = cluster.core.backend_status();
    assert_eq!(status.nodes[2], RemoteStatus::Waiting);
    assert_eq!(status.primary, 0);
    assert_eq!(
        (cluster.told[0].note.kind, cluster.told[0].note.step),
        (Kind::Quarantine, Step::Began)
    );
}

#[test]
fn a_quarantined_primary_is_none_until_it_answers_and_then_has_its_role_again() {
    let mut cluster = quarantined(0);
    assert_eq!(cluster.view().primary, None);
    assert_eq!(cluster.core.backend_status().primary, -1);
    cluster.handle(Event::Release { node: 0 });
    assert_eq!(cluster.view().primary, Some(0));
    assert!(!cluster.view().nodes[0].quarantine);
    assert!(cluster.said(
        "failback request from pid [4711] is changed to update status request because node_id: 0 was quarantined"
    ));
    assert!(cluster.hooks.is_empty());
    assert!(!cluster.steps.contains(&"ask"));
}

#[test]
fn the_quorum_ends_all_quarantine() {
    let mut cluster = quarantined(0);
    cluster.handle(Event::Quarantine {
        node: 2,
        why: why(),
    });
    cluster.handle(Event::ReleaseAll);
    assert_eq!(cluster.statuses(), [1, 2, 1]);
    assert_eq!(cluster.view().primary, Some(0));
}

#[test]
fn a_standby_that_fails_while_the_primary_is_in_quarantine_needs_no_search() {
    let mut cluster = quarantined(0);
    cluster.forget();
    cluster.down(2);
    assert!(!cluster.steps.contains(&"ask"), "{:?}", cluster.steps);
    cluster.handle(Event::Release { node: 0 });
    assert_eq!(cluster.view().primary, Some(0));
}

#[test]
fn a_primary_that_fails_out_of_quarantine_is_called_the_primary_in_its_hook() {
    let mut cluster = quarantined(0);
    cluster.answers = vec![Answer::Primary, Answer::Primary, standby()];
    cluster.forget();
    cluster.down(0);
    let (ask, _) = cluster.asked.pop().expect("it leads to a promotion");
    cluster.handle(Event::MayBegin { ask, yes: true });
    assert_eq!(
        cluster.hook_lines(),
        ["failover 0 host0 11002 /data0 1 host1 0 0 11003 /data1 host0 11002"]
    );
    assert_eq!(cluster.view().primary, Some(1));
    assert!(!cluster.view().nodes[0].quarantine);
}

#[test]
fn what_leads_to_a_promotion_begins_when_the_watchdog_says_so() {
    let mut cluster = cluster(true);
    cluster.down(2);
    assert!(cluster.asked.is_empty(), "a standby is nobody's concern");
    cluster.forget();
    cluster.down(0);
    let (ask, request) = cluster.asked.pop().expect("asked");
    assert_eq!(request, Request::Down { node: 0 });
    assert!(cluster.core.is_busy());
    assert!(cluster.hooks.is_empty());
    cluster.handle(Event::MayBegin { ask, yes: false });
    assert!(!cluster.core.is_busy());
    assert_eq!(cluster.view().primary, Some(0));
    assert_eq!(cluster.told.last().unwrap().note.step, Step::Dropped);
    cluster.handle(Event::MayBegin { ask, yes: true });
    assert_eq!(cluster.view().primary, Some(0), "an old answer");
}

#[test]
fn the_leaders_picture_is_taken_over_whole() {
    let mut cluster = cluster(false);
    cluster.handle(Event::Quarantine {
        node: 2,
        why: why(),
    });
    cluster.forget();
    cluster.handle(adopt([true, false, false], AdoptedPrimary::Node(1)));
    assert_eq!(cluster.statuses(), [3, 2, 1]);
    assert_eq!(cluster.view().primary, Some(1));
    assert_eq!(cluster.view().write_node(), Some(1));
    assert!(cluster.view().nodes.iter().all(|node| !node.quarantine));
    assert_eq!(cluster.files, ["down\nup\nup\n"]);
    assert!(cluster.hooks.is_empty());
    assert_eq!(cluster.told[0].note.kind, Kind::Adoption);
    let views = cluster.views.len();
    cluster.handle(adopt([true, false, false], AdoptedPrimary::Node(1)));
    assert_eq!(cluster.views.len(), views, "nothing new");
}

#[test]
fn a_primary_that_is_no_node_here_is_not_taken_over() {
    let mut cluster = cluster(false);
    cluster.handle(adopt([false, false, false], AdoptedPrimary::Node(7)));
    assert_eq!(cluster.view().primary, Some(0), "ours stays");
    assert!(cluster.said("the leader \"a:9999 Linux a\" takes node 7 for the primary, which is no node here: not taken over"));
    cluster.handle(adopt([false, true, false], AdoptedPrimary::Node(1)));
    assert_eq!(cluster.view().primary, Some(0));
    assert!(cluster.said("the leader \"a:9999 Linux a\" takes node 1 for the primary, which is down here: not taken over"));
    cluster.handle(adopt([true, false, false], AdoptedPrimary::Node(7)));
    assert_eq!(cluster.view().primary, None, "ours is down");
}

#[test]
fn a_leader_that_has_the_primary_in_quarantine_takes_ours_from_nobody() {
    let mut cluster = cluster(false);
    cluster.handle(adopt([false, false, false], AdoptedPrimary::Nobody));
    assert_eq!(cluster.view().primary, Some(0));
    cluster.handle(adopt([true, false, false], AdoptedPrimary::Nobody));
    assert_eq!(cluster.view().primary, None);
}

#[test]
fn a_leader_of_ours_tells_which_primary_it_has_in_quarantine() {
    let leader = quarantined(0);
    let adopted = Adopted::from(&leader.core.backend_status());
    assert_eq!(adopted.primary, AdoptedPrimary::Node(0));
    let mut standby = cluster(false);
    standby.handle(adopt([false, false, false], AdoptedPrimary::Node(2)));
    standby.handle(Event::Adopt(adopted));
    assert_eq!(standby.view().primary, Some(0));
}

#[test]
fn a_leader_adopts_nothing() {
    let mut cluster = cluster(true);
    cluster.handle(adopt([true, true, true], AdoptedPrimary::Node(2)));
    assert_eq!(cluster.statuses(), [2, 2, 2]);
}

#[test]
fn who_loses_the_lead_drops_what_waits_and_begins_no_follow_command() {
    let mut settings = settings();
    settings.follow_primary_command = "follow %d".to_owned();
    let mut cluster = Cluster::with(settings, view(4));
    cluster.core = cluster.core.with_watchdog();
    cluster.handle(Event::Coordinates(true));
    cluster.start();
    cluster.answers[1] = Answer::Primary;
    cluster.down(0);
    let (ask, _) = cluster.asked.pop().unwrap();
    cluster.handle(Event::MayBegin { ask, yes: true });
    assert!(cluster.core.is_following());
    cluster.down(1);
    cluster.handle(Event::Coordinates(false));
    assert!(!cluster.core.is_busy());
    assert_eq!(cluster.view().primary, Some(1));
    cluster.follow_ends(false);
    assert!(cluster.follow.is_none());
    assert!(!cluster.core.is_following());
}

#[test]
fn a_failover_in_the_middle_of_which_another_node_leads_ends_with_that_nodes_picture() {
    let mut cluster = cluster(true);
    cluster.hooks_hang = true;
    cluster.down(0);
    let (ask, _) = cluster.asked.pop().unwrap();
    cluster.handle(Event::MayBegin { ask, yes: true });
    let call = cluster.hooks[0].call;
    cluster.handle(Event::Coordinates(false));
    assert!(cluster.core.is_busy(), "nobody else has said anything yet");
    cluster.handle(adopt([false, false, false], AdoptedPrimary::Node(0)));
    assert!(!cluster.core.is_busy());
    assert_eq!(cluster.view().primary, Some(0));
    assert_eq!(cluster.view().write_node(), Some(0));
    assert_eq!(cluster.unfinished, Unfinished::default());
    cluster.handle(Event::HookFinished { call });
    assert_eq!(cluster.view().primary, Some(0));
}

#[test]
fn a_standby_starts_with_the_leaders_picture_and_asks_no_server() {
    let mut cluster = Cluster::new(3);
    cluster.core = cluster.core.with_watchdog();
    cluster.handle(adopt([true, false, false], AdoptedPrimary::Node(1)));
    let actions = cluster.core.handle(Event::Start, cluster.now);
    cluster.carry_out(actions);
    assert!(!cluster.steps.contains(&"ask"), "{:?}", cluster.steps);
    assert!(cluster.steps.contains(&"started"));
    assert_eq!(cluster.view().primary, Some(1));
    assert_eq!(cluster.view().write_node(), Some(1));
    assert_eq!(cluster.statuses(), [3, 2, 2]);
}

#[test]
fn a_new_leader_without_a_primary_searches_one() {
    let mut cluster = Cluster::new(3);
    cluster.core = cluster.core.with_watchdog();
    cluster.handle(adopt([false, false, false], AdoptedPrimary::Nobody));
    cluster.start();
    assert_eq!(cluster.view().primary, None);
    cluster.handle(Event::Coordinates(true));
    assert_eq!(cluster.view().primary, Some(0));
}

#[test]
fn the_wire_says_which_primary_there_is() {
    let status = |primary| BackendStatus {
        nodes: vec![RemoteStatus::Up, RemoteStatus::Down, RemoteStatus::Waiting],
        primary,
        quarantined_primary: None,
        node_name: "b".to_owned(),
    };
    let adopted = Adopted::from(&status(2));
    assert_eq!(adopted.down, [false, true, false]);
    assert_eq!(adopted.primary, AdoptedPrimary::Node(2));
    assert_eq!(Adopted::from(&status(-1)).primary, AdoptedPrimary::Nobody);
    assert_eq!(Adopted::from(&status(-2)).primary, AdoptedPrimary::Unknown);
}
