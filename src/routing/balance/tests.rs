use std::time::{Duration, SystemTime};

use super::*;
use crate::{
    cluster::{Node, NodeStatus},
    config::settings::BackendFlag,
};

fn view(weights: &[f64]) -> ClusterView {
    let nodes = weights.iter().enumerate().map(|(id, &weight)| Node {
        id,
        hostname: String::new(),
        port: 5432,
        data_directory: String::new(),
        application_name: String::new(),
        weight,
        flag: BackendFlag::default(),
        status: NodeStatus::Up,
        quarantine: false,
        status_changed: SystemTime::UNIX_EPOCH,
    });
    ClusterView {
        version: 1,
        mode: ClusteringMode::StreamingReplication,
        nodes: nodes.collect(),
        primary: Some(0),
        primary_search_running: false,
    }
}

fn with_databases(list: &str) -> Settings {
    Settings {
        databases: RedirectList::new(list).0,
        ..Settings::default()
    }
}

fn chosen(settings: &Settings, view: &ClusterView, delays: &[u64], random: f64) -> Option<NodeId> {
    let replication: Vec<NodeReplication> = delays
        .iter()
        .map(|&delay_bytes| NodeReplication {
            delay_bytes,
            delay_time: Duration::from_millis(delay_bytes),
            ..NodeReplication::default()
        })
        .collect();
    let situation = Situation {
        view,
        replication: &replication,
    };
    let who = Who {
        user: b"u",
        database: b"db",
        application_name: b"app",
    };
    choose(settings, &situation, &who, &mut || random)
}

#[test]
fn nodes_are_chosen_by_weight_and_a_weight_of_zero_never() {
    let settings = Settings::default();
    let nodes = view(&[1.0, 0.0, 3.0]);
    for (random, want) in [(0.0, 0), (0.24, 0), (0.26, 2), (0.999, 2)] {
        assert_eq!(chosen(&settings, &nodes, &[], random), Some(want));
    }
    // Nothing qualifies: the main node.
    assert_eq!(chosen(&settings, &view(&[0.0, 0.0]), &[], 0.5), Some(0));
    let mut down = view(&[0.0, 1.0]);
    down.nodes[0].status = NodeStatus::Down;
    down.nodes[1].status = NodeStatus::Down;
    assert_eq!(chosen(&settings, &down, &[], 0.5), None);
}

#[test]
fn redirect_lists_name_nodes_with_a_ratio() {
    let nodes = view(&[1.0, 1.0, 1.0]);
    for (list, random, want) in [
        ("db:2", 0.9, 2),
        ("DB:primary", 0.9, 0),
        ("d.*:standby", 0.1, 1),
        ("d.*:standby", 0.9, 2),
        ("db:standby(0.3)", 0.4, 0),
        ("db:2(0.5)", 0.4, 2),
        // Any other node by weight.
        ("db:2(0.5)", 0.6, 1),
        ("other:2,db:1", 0.9, 1),
        ("db:9", 0.9, 0),
        ("d:2", 0.4, 1),
    ] {
        assert_eq!(
            chosen(&with_databases(list), &nodes, &[], random),
            Some(want),
            "{list}"
        );
    }
    let mut down = view(&[1.0, 0.0, 1.0]);
    down.nodes[2].status = NodeStatus::Down;
    assert_eq!(chosen(&with_databases("db:2"), &down, &[], 0.9), Some(0));
}

#[test]
fn the_application_name_beats_the_database_and_that_the_user() {
    let nodes = view(&[1.0, 1.0, 1.0]);
    let mut settings = with_databases("db:1");
    settings.users = RedirectList::new("u:2").0;
    assert_eq!(chosen(&settings, &nodes, &[], 0.9), Some(1));
    settings.app_names = RedirectList::new("app:0").0;
    assert_eq!(chosen(&settings, &nodes, &[], 0.9), Some(0));
    settings.app_names = RedirectList::default();
    settings.databases = RedirectList::default();
    assert_eq!(chosen(&settings, &nodes, &[], 0.1), Some(2));
}

#[test]
fn a_delayed_standby_gives_way_to_the_least_delayed_one() {
    let nodes = view(&[0.0, 1.0, 1.0]);
    let mut settings = Settings {
        delay_threshold: Some(100),
        prefer_lower_delay_standby: true,
        ..Settings::default()
    };
    assert_eq!(chosen(&settings, &nodes, &[0, 200, 50], 0.1), Some(2));
    assert_eq!(chosen(&settings, &nodes, &[0, 200, 101], 0.1), Some(0));
    assert_eq!(chosen(&settings, &nodes, &[0, 100, 50], 0.1), Some(1));
    // Ten days, in milliseconds: nothing overflows.
    settings.delay_threshold_by_time = Some(Duration::from_millis(100));
    let days = 10 * 86_400_000;
    assert_eq!(chosen(&settings, &nodes, &[0, days, 100], 0.1), Some(2));
}

#[test]
fn entries_that_are_wrong_are_told() {
    let bad = |list: &str| RedirectList::new(list).1;
    assert_eq!(bad("a:foo"), [BadRedirect::Target("foo".into())]);
    assert_eq!(bad("a:-1"), [BadRedirect::Target("-1".into())]);
    assert_eq!(bad("a:1,b,c:2"), [BadRedirect::NoTarget("b".into())]);
    assert!(matches!(bad("(a:1")[..], [BadRedirect::Pattern(_)]));
    assert_eq!(bad("a:Primary,b:2(0.3)"), []);
}
