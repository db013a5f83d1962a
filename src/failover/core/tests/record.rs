//! What the history of events is told.

use super::*;
use crate::events::{Kind, Note, Step, text};

/// The sentences of the notes, without durations.
fn sentences(cluster: &Cluster) -> Vec<String> {
    cluster
        .told
        .iter()
        .map(|told| {
            text::sentence(&Note {
                seconds: None,
                ..told.note.clone()
            })
        })
        .collect()
}

#[test]
fn a_failover_is_told_with_cause_evidence_hook_and_who_became_primary() {
    let mut cluster = Cluster::started(3);
    cluster.answers = vec![
        Answer::Unreachable("refused".into()),
        Answer::Primary,
        standby(),
    ];
    let (result, actions) = cluster.core.request_because(
        Request::Down { node: 0 },
        Source::HealthCheck(0),
        Why::new("the health check of node 0", "3 attempts failed"),
        Some(cluster.view().version),
        cluster.now,
    );
    result.unwrap();
    cluster.carry_out(actions);
    assert_eq!(
        sentences(&cluster),
        [
            "failover of node 0 begins",
            "failover_command for node 0 is run",
            "failover of node 0: done; primary node 1 (its server says that it takes writes); main node 1 (the lowest that is up)",
        ]
    );
    let notes: Vec<&Note> = cluster.told.iter().map(|told| &told.note).collect();
    assert_eq!(
        (&*notes[0].cause, &*notes[0].evidence),
        ("the health check of node 0", "3 attempts failed")
    );
    let line = &notes[1].hook.as_ref().unwrap().command;
    assert_eq!(line, &cluster.hooks[0].line);
    assert!(notes[2].seconds.is_some());
    let number = cluster.told[0].operation;
    assert!(number.is_some() && cluster.told.iter().all(|told| told.operation == number));
    assert_eq!(Some(cluster.hooks[0].operation), number);
}

#[test]
fn what_waits_is_refused_or_dropped_is_told_with_its_reason() {
    let mut cluster = Cluster::started(3);
    cluster.hooks_hang = true;
    cluster.down(2);
    cluster.request(Request::Switchover { node: 1 }).unwrap();
    cluster.request(Request::Down { node: 7 }).unwrap_err();
    cluster.up(1);
    let told = sentences(&cluster);
    assert_eq!(
        told[2..],
        [
            "switchover to node 1 has to wait: another operation goes on",
            "failover of node 7 is refused: invalid degenerate backend request, node id: 7 is out of range. node id must be between [0 and 2]",
            "failback of node 1 is dropped: the node is attached already",
        ]
    );
    assert_eq!(cluster.told[2].operation, None);
    // The candidate goes down while the switchover waits.
    cluster.forget();
    cluster.core.view.nodes[1].status = NodeStatus::Down;
    let call = cluster.hooks_call();
    cluster.handle(Event::HookFinished { call });
    let told = sentences(&cluster);
    assert_eq!(
        told.last().unwrap(),
        "switchover to node 1 is dropped: invalid promote request: node id 1 is down, can't promote it; attach it first (pcp_attach_node)"
    );
}

impl Cluster {
    /// The hook that the core waits for.
    fn hooks_call(&self) -> u64 {
        match self.core.waits_for() {
            Waits::Hook { call } => call,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn following_is_an_operation_of_its_own() {
    let mut settings = settings();
    settings.follow_primary_command = "follow %d %m".into();
    let mut cluster = Cluster::with(settings, view(3));
    cluster.start();
    cluster.answers = vec![standby(), Answer::Primary, standby()];
    cluster.down(0);
    cluster.follow_ends(true);
    cluster.follow_ends(true);
    let follow: Vec<&Told> = cluster
        .told
        .iter()
        .filter(|told| told.note.kind == Kind::Follow)
        .collect();
    let steps: Vec<Step> = follow.iter().map(|told| told.note.step).collect();
    assert_eq!(steps, [Step::Began, Step::Hook, Step::Hook, Step::Ended]);
    assert_eq!(follow[0].note.cause, "nodes to be pointed to it: 0, 2");
    assert_eq!(
        (&*follow[3].note.result, &*follow[3].note.evidence),
        ("all commands have ended", "nodes that are down: none")
    );
    assert!(
        follow
            .iter()
            .all(|told| told.operation == follow[0].operation)
    );
    assert_ne!(follow[0].operation, cluster.told[0].operation);
}

#[test]
fn a_search_in_vain_and_a_wish_that_failed_are_told() {
    let mut cluster = Cluster::started(3);
    cluster.answers = vec![standby(); 3];
    cluster.request(Request::Switchover { node: 2 }).unwrap();
    cluster.pass(11);
    assert_eq!(
        sentences(&cluster).last().unwrap(),
        "switchover to node 2: failed: the primary node is -1, not 2; no primary node (no server said that it is the primary, searched for 10 s (search_primary_node_timeout)); main node 1 (the lowest that is up)"
    );
}

#[test]
fn a_promotion_that_is_given_up_has_an_end() {
    let mut cluster = Cluster::started(3);
    cluster.request(Request::Promote { node: 1 }).unwrap();
    let last = cluster.told.last().unwrap();
    assert_eq!(last.note.step, Step::Ended);
    assert!(
        last.note
            .result
            .starts_with("given up, nothing has been changed: the server of node id 1"),
        "{}",
        last.note.result
    );
}

#[test]
fn the_start_tells_what_it_found() {
    let mut cluster = Cluster::new(2);
    let actions = cluster.core.handle(Event::Start, cluster.now);
    cluster.carry_out(actions);
    assert_eq!(cluster.told[0].note.evidence, "node 0 up; node 1 up");
    assert_eq!(
        sentences(&cluster),
        [
            "start of pgpool begins",
            "start of pgpool: done; primary node 0 (its server says that it takes writes); main node 0 (the lowest that is up)",
        ]
    );
}
