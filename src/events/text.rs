//! Events in words: one sentence for the log and tables, a few lines for `pgpool events`.

use std::time::SystemTime;

use chrono::{DateTime, Local};

use super::{Event, HookRun, Kind, Note, Step};

/// What the operation is called.
pub fn operation(note: &Note) -> String {
    let word = match note.kind {
        Kind::Start => "start of pgpool",
        Kind::Stop => "stop of pgpool",
        Kind::Reload => "reload of the configuration",
        Kind::Failover => "failover",
        Kind::Failback => "failback",
        Kind::Switchover => "switchover",
        Kind::Promotion => "promotion",
        Kind::Search => "search for the primary node",
        Kind::Follow => "following a new primary",
        Kind::Recovery => "online recovery",
        Kind::Quarantine => "quarantine",
        Kind::Watchdog => "watchdog",
        Kind::Adoption => "taking over the leader's picture of the nodes",
        Kind::Unknown => "an operation that this release does not know",
    };
    match (note.kind, note.node) {
        (_, None) => word.to_owned(),
        (Kind::Switchover, Some(node)) => format!("{word} to node {node}"),
        (Kind::Follow, Some(node)) => format!("following the new primary node {node}"),
        (_, Some(node)) => format!("{word} of node {node}"),
    }
}

/// The event in one sentence, without its cause and evidence.
pub fn sentence(note: &Note) -> String {
    let operation = operation(note);
    let because = |word: &str| {
        if note.result.is_empty() {
            format!("{operation} {word}")
        } else {
            format!("{operation} {word}: {}", note.result)
        }
    };
    match note.step {
        Step::Refused => because("is refused"),
        Step::Waits => because("has to wait"),
        Step::Dropped => because("is dropped"),
        Step::Began => because("begins"),
        Step::Hook => {
            let name = note.hook.as_ref().map_or("a command", |hook| &hook.name);
            match note.node {
                Some(node) => format!("{name} for node {node} is run"),
                None => format!("{name} is run"),
            }
        }
        Step::HookEnded => hook_ended(note),
        Step::Ended => ended(note, &operation),
        Step::Unknown => because("has come to a step that this release does not know"),
    }
}

fn hook_ended(note: &Note) -> String {
    let nothing = HookRun::default();
    let hook = note.hook.as_ref().unwrap_or(&nothing);
    let after = after(note.seconds);
    match (hook.status, hook.signal) {
        (Some(status), _) => format!("{} ended{after} with exit status {status}", hook.name),
        (None, Some(signal)) => format!("{} was ended{after} by signal {signal}", hook.name),
        (None, None) if hook.error.is_empty() => format!("{} ended{after}", hook.name),
        (None, None) => format!("{} failed{after}: {}", hook.name, hook.error),
    }
}

fn ended(note: &Note, operation: &str) -> String {
    let result = if note.result.is_empty() {
        "done"
    } else {
        &note.result
    };
    let mut text = format!("{operation}: {result}{}", after(note.seconds));
    if !note.rule.is_empty() {
        match note.primary {
            Some(primary) => text += &format!("; primary node {primary} ({})", note.rule),
            None => text += &format!("; no primary node ({})", note.rule),
        }
    }
    if let Some(main) = note.main {
        text += &format!("; main node {main} (the lowest that is up)");
    }
    text
}

fn after(seconds: Option<f64>) -> String {
    seconds.map_or_else(String::new, |seconds| format!(" after {seconds:.3} s"))
}

/// Cause and evidence, for the DETAIL of the log line.
pub fn why(note: &Note) -> String {
    let parts = [("cause", &note.cause), ("evidence", &note.evidence)];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| format!("{name}: {text}"))
        .collect();
    parts.join("; ")
}

/// `2026-11-28 07:23:46.123`, local time.
pub fn time(at: SystemTime) -> String {
    DateTime::<Local>::from(at)
        .format("%Y-%m-%d %H:%M:%S%.3f")
        .to_string()
}

/// As `pgpool events` prints it: time, number and sentence, then what belongs to it, indented. Control
/// characters are shown as `?`: a terminal must not obey what a hook's command line holds.
pub fn lines(event: &Event) -> Vec<String> {
    let note = &event.note;
    let mut number = format!("#{}", event.id);
    if event.operation != event.id {
        number += &format!(" of #{}", event.operation);
    }
    let mut lines = vec![format!(
        "{}  {number}  {}",
        time(event.time),
        sentence(note)
    )];
    let mut more = |name: &str, text: &str| {
        for (n, line) in text.lines().enumerate() {
            let name = if n == 0 { name } else { "" };
            lines.push(format!("    {name:<9} {line}"));
        }
    };
    more("cause:", &note.cause);
    more("evidence:", &note.evidence);
    if let (Step::Hook, Some(hook)) = (note.step, &note.hook) {
        more("command:", &hook.command);
    }
    if let Some(hook) = &note.hook {
        more("output:", &hook.output);
    }
    lines.iter().map(|line| clean(line)).collect()
}

/// Without control characters.
pub fn clean(line: &str) -> String {
    line.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(kind: Kind, step: Step) -> Note {
        Note::of_node(kind, step, 1)
    }

    #[test]
    fn every_step_has_its_sentence() {
        for (note, want) in [
            (
                note(Kind::Failover, Step::Began),
                "failover of node 1 begins",
            ),
            (
                note(Kind::Switchover, Step::Refused).with_result("failover_command is empty"),
                "switchover to node 1 is refused: failover_command is empty",
            ),
            (
                Note {
                    seconds: Some(2.0),
                    primary: Some(2),
                    main: Some(0),
                    rule: "its server says so".into(),
                    ..note(Kind::Failover, Step::Ended)
                },
                "failover of node 1: done after 2.000 s; primary node 2 (its server says so); main node 0 (the lowest that is up)",
            ),
            (
                Note {
                    rule: "all nodes are down".into(),
                    ..note(Kind::Failover, Step::Ended)
                },
                "failover of node 1: done; no primary node (all nodes are down)",
            ),
            (
                Note {
                    hook: Some(HookRun {
                        signal: Some(9),
                        ..HookRun::begins("failover_command", "x")
                    }),
                    seconds: Some(0.5),
                    ..note(Kind::Failover, Step::HookEnded)
                },
                "failover_command was ended after 0.500 s by signal 9",
            ),
            (Note::new(Kind::Stop, Step::Began), "stop of pgpool begins"),
        ] {
            assert_eq!(sentence(&note), want);
        }
    }

    #[test]
    fn what_belongs_to_an_event_stands_below_it_without_control_characters() {
        let event = Event {
            id: 8,
            time: SystemTime::UNIX_EPOCH,
            pid: 1,
            operation: 7,
            note: Note {
                hook: Some(HookRun::begins("failover_command", "a\u{1b}[2J\nb")),
                ..note(Kind::Failover, Step::Hook).with_cause("pcp", "")
            },
        };
        let lines = lines(&event);
        assert!(
            lines[0].ends_with("#8 of #7  failover_command for node 1 is run"),
            "{lines:?}"
        );
        assert_eq!(
            lines[1..],
            [
                "    cause:    pcp",
                "    command:  a?[2J",
                "              b"
            ]
        );
    }
}
