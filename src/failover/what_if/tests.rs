//! What is printed, for clusters of three nodes with node 0 as the primary.

use super::*;
use crate::failover::{
    core::Settings,
    testing::{settings, view},
};

fn now() -> Now {
    Now::of_the_machine()
}

/// A core that has started; each server says what it is.
fn core(settings: Settings) -> Core {
    let mut core = Core::new(settings, view(3));
    let _ = core.handle(Event::Start, now());
    let Waits::Answers { sweep, nodes } = core.waits_for() else {
        panic!("it asks");
    };
    for node in nodes {
        let answer = if node == 0 {
            Answer::Primary
        } else {
            standby()
        };
        let _ = core.handle(
            Event::Answered {
                sweep,
                node,
                answer,
            },
            now(),
        );
    }
    core
}

fn short() -> Settings {
    Settings {
        failover_command: "failover %d %m %P".into(),
        failback_command: "failback %d %m".into(),
        ..settings()
    }
}

fn asked(core: &Core, text: &str) -> Vec<String> {
    let before = format!("{core:?}");
    let lines = WhatIf {
        core: core.clone(),
        recovery: None,
        requests: parse(text).unwrap(),
    }
    .lines(now());
    assert_eq!(format!("{core:?}"), before, "nothing is changed");
    lines
}

fn has(lines: &[String], text: &str) {
    assert!(
        lines.iter().any(|line| line.contains(text)),
        "{text:?} in {lines:#?}"
    );
}

#[test]
fn requests_are_words_with_a_number_and_semicolons_between_them() {
    assert_eq!(
        parse(" down 0; UP 1;promote 2 ; switchover 3;"),
        Ok(vec![
            Request::Down { node: 0 },
            Request::Up { node: 1 },
            Request::Promote { node: 2 },
            Request::Switchover { node: 3 },
        ])
    );
    for (text, want) in [
        ("", "no request is given; a request is \"down N\""),
        (" ; ", "no request is given"),
        ("down", "\"down\" has no node"),
        ("down x", "\"x\" is no number of a node"),
        ("down -1", "\"-1\" is no number of a node"),
        ("down 0 1", "\"down 0 1\" has too many words"),
        ("kill 0", "\"kill\" is no request"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(want), "{text:?}: {error}");
    }
    assert!(parse(&"down 0;".repeat(17)).is_err());
}

#[test]
fn the_loss_of_the_primary_is_told_step_by_step() {
    let lines = asked(&core(short()), "down 0");
    assert_eq!(
        lines,
        [
            "now: node 0 up, primary; node 1 up; node 2 up",
            "assumed: servers have the roles that are known now; commands do their work",
            "",
            "down 0:",
            "  pgpool_status says: down up up",
            "  failover of node 0 begins",
            "  sessions: all end (SQLSTATE 57P01), because they write to node 0",
            "  sessions: new ones, and statements for the primary, wait for a primary node",
            "  failover_command is run: failover 0 1 0",
            "  assumed: it promotes the server of node 1",
            "  writes go to node 1 from now on",
            "  failover of node 0: done; primary node 1 (its server says that it takes writes); main node 1 (the lowest that is up)",
            "  then: node 0 down; node 1 up, primary; node 2 up",
        ]
    );
}

#[test]
fn a_standby_goes_without_a_search_and_comes_back() {
    let lines = asked(&core(short()), "down 1; up 1");
    has(
        &lines,
        "that work on node 1 at that moment, the others go on",
    );
    has(&lines, "failover_command is run: failover 1 0 0");
    has(&lines, "primary node 0 (the primary node is not concerned)");
    has(&lines, "failback_command is run: failback 1 0");
    has(&lines, "sessions: none ends; new ones may use node 1");
    has(
        &lines,
        "primary node 0 (it was the primary, and its server says so)",
    );
    assert_eq!(
        lines.last().unwrap(),
        "  then: node 0 up, primary; node 1 up; node 2 up"
    );
}

#[test]
fn two_failures_in_a_row_go_on_from_each_other() {
    let lines = asked(&core(short()), "down 0; down 1");
    has(&lines, "failover_command is run: failover 0 1 0");
    has(&lines, "failover_command is run: failover 1 2 1");
    assert_eq!(
        lines.last().unwrap(),
        "  then: node 0 down; node 1 down; node 2 up, primary"
    );
}

#[test]
fn standbys_that_follow_have_their_commands_told() {
    let settings = Settings {
        follow_primary_command: "follow %d %m".into(),
        ..short()
    };
    let lines = asked(&core(settings), "down 0");
    has(&lines, "following the new primary node 1 begins");
    has(&lines, "follow_primary_command is run: follow 0 1");
    has(&lines, "follow_primary_command is run: follow 2 1");
    has(
        &lines,
        "following the new primary node 1: all commands have ended",
    );
    has(&lines, "then: node 0 down; node 1 up, primary; node 2 down");
}

#[test]
fn a_switchover_promotes_the_node_that_it_names() {
    let lines = asked(&core(short()), "switchover 2");
    has(&lines, "switchover to node 2 begins");
    has(&lines, "failover_command is run: failover 0 2 0");
    has(&lines, "assumed: it promotes the server of node 2");
    has(&lines, "then: node 0 down; node 1 up; node 2 up, primary");
}

#[test]
fn a_promotion_needs_a_server_that_was_promoted_and_that_is_said() {
    let lines = asked(&core(short()), "promote 1");
    has(&lines, "assumed: the server of node 1 has been promoted");
    has(&lines, "promotion of node 1: done; primary node 1");
}

#[test]
fn what_is_refused_says_why() {
    let core = core(short());
    has(
        &asked(&core, "down 7"),
        "failover of node 7 is refused: invalid degenerate backend request, node id: 7 is out of range",
    );
    has(
        &asked(&core, "switchover 0"),
        "specified node is already primary node",
    );
    has(&asked(&core, "up 1"), "the node is attached already");
    let recovered = WhatIf {
        core,
        recovery: Some(Ongoing {
            target: 2,
            source: 0,
            attaching: false,
        }),
        requests: parse("down 0").unwrap(),
    };
    has(
        &recovered.lines(now()),
        "refused: degenerate backend request for node_id: 0 is canceled because node 2 is being recovered",
    );
}

#[test]
fn without_a_command_nobody_is_promoted_and_a_search_without_end_is_called_so() {
    let nobody = Settings {
        failover_command: String::new(),
        ..short()
    };
    let lines = asked(&core(nobody.clone()), "down 0");
    has(
        &lines,
        "no primary node was found; no primary node (no server said",
    );
    assert!(!lines.iter().any(|line| line.contains("promotes")));
    let for_ever = Settings {
        search_primary_node_timeout: None,
        ..nobody
    };
    let lines = asked(&core(for_ever), "down 0; down 1");
    has(&lines, "what comes after it is not known");
    assert!(!lines.iter().any(|line| line == "down 1:"), "{lines:#?}");
}

#[test]
fn what_is_at_work_is_told_to_its_end_first() {
    let mut core = core(short());
    let (result, _) = core.request(Request::Down { node: 0 }, Source::Pcp, None, now());
    result.unwrap();
    let lines = asked(&core, "down 2");
    has(&lines, "at work now, and told to its end first:");
    has(&lines, "assumed: it promotes the server of node 1");
    has(&lines, "failover_command is run: failover 2 1 1");
}

#[test]
fn during_the_start_everything_is_refused() {
    let starting = Core::new(short(), view(3));
    has(&asked(&starting, "down 0"), "still starting up");
}

#[test]
fn a_name_of_a_directory_cannot_talk_to_the_terminal() {
    let settings = Settings {
        failover_command: "failover\u{1b}[2J".into(),
        ..short()
    };
    has(&asked(&core(settings), "down 0"), "is run: failover?[2J");
}
