//! The text of the record: what goes on, and the processes of the hooks.

use std::fmt::Write as _;

use super::{Follow, Hook, Stage, Unfinished};
use crate::{cluster::NodeId, failover::core::HookKind, sys::process};

/// A process that a number alone does not name, since numbers are given out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: process::Pid,
    /// As the kernel counts it; see [`process::start_time`].
    started: u64,
}

impl Process {
    /// `None`: it has ended already.
    pub fn of(pid: process::Pid) -> Option<Process> {
        let started = process::start_time(pid)?;
        Some(Process { pid, started })
    }

    pub fn is_alive(&self) -> bool {
        process::start_time(self.pid) == Some(self.started)
    }
}

/// First words of the lines that name a process.
pub(super) const HOOK_PROCESS: &str = "hook_process";
pub(super) const FOLLOW_PROCESS: &str = "follow_process";

/// The file, with the processes of the hooks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub unfinished: Unfinished,
    /// That runs the failover or failback hook.
    pub hook_process: Option<Process>,
    pub follow_process: Option<Process>,
}

impl Record {
    /// A process that belongs to nothing that goes on is forgotten.
    pub fn remember(&mut self, unfinished: Unfinished) {
        if unfinished.hook.as_ref().map(|h| h.stage) != Some(Stage::Begun) {
            self.hook_process = None;
        }
        let running = |u: &Unfinished| u.follow.and_then(|f| f.running);
        if running(&unfinished) != running(&self.unfinished) {
            self.follow_process = None;
        }
        self.unfinished = unfinished;
    }

    pub fn process(&self, kind: HookKind) -> Option<Process> {
        match kind {
            HookKind::Failover | HookKind::Failback => self.hook_process,
            HookKind::Follow => self.follow_process,
        }
    }

    pub fn runs(&mut self, kind: HookKind, process: Option<Process>) {
        match kind {
            HookKind::Failover | HookKind::Failback => self.hook_process = process,
            HookKind::Follow => self.follow_process = process,
        }
    }

    /// Lines of words; a command is the last one of its line.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        if let Some(hook) = &self.unfinished.hook {
            let kind = match hook.kind {
                HookKind::Failover => "failover",
                HookKind::Failback => "failback",
                HookKind::Follow => "follow",
            };
            let stage = match hook.stage {
                Stage::Due => "due",
                Stage::Begun => "begun",
                Stage::Ended => "ended",
            };
            let line = hook.line.replace('\\', "\\\\").replace('\n', "\\n");
            let (node, primary) = (hook.node, word(hook.old_primary));
            let _ = writeln!(text, "hook {kind} {node} {primary} {stage} {line}");
        }
        if let Some(follow) = self.unfinished.follow {
            let Follow {
                primary,
                old_primary,
                next,
                running,
            } = follow;
            let (old, next, running) = (word(old_primary), word(next), word(running));
            let _ = writeln!(text, "follow {primary} {old} {next} {running}");
        }
        for (name, process) in [
            (HOOK_PROCESS, self.hook_process),
            (FOLLOW_PROCESS, self.follow_process),
        ] {
            if let Some(Process { pid, started }) = process {
                let _ = writeln!(text, "{name} {pid} {started}");
            }
        }
        text
    }

    /// What makes no sense is left out: then there is nothing to go on with.
    pub(super) fn interpret(text: &str) -> Record {
        let mut record = Record::default();
        for line in text.lines() {
            let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
            match name {
                "hook" => record.unfinished.hook = hook(rest),
                "follow" => record.unfinished.follow = follow(rest),
                HOOK_PROCESS => record.hook_process = known_process(rest),
                FOLLOW_PROCESS => record.follow_process = known_process(rest),
                _ => {}
            }
        }
        record
    }
}

fn word(number: Option<NodeId>) -> String {
    number.map_or_else(|| "-".to_owned(), |n| n.to_string())
}

/// The outer `None`: no number.
fn number(word: &str) -> Option<Option<NodeId>> {
    if word == "-" {
        return Some(None);
    }
    word.parse().ok().map(Some)
}

fn hook(rest: &str) -> Option<Hook> {
    let mut words = rest.splitn(5, ' ');
    let kind = match words.next()? {
        "failover" => HookKind::Failover,
        "failback" => HookKind::Failback,
        _ => return None,
    };
    let node = words.next()?.parse().ok()?;
    let old_primary = number(words.next()?)?;
    let stage = match words.next()? {
        "due" => Stage::Due,
        "begun" => Stage::Begun,
        "ended" => Stage::Ended,
        _ => return None,
    };
    let mut line = String::new();
    let mut letters = words.next()?.chars();
    while let Some(letter) = letters.next() {
        line.push(match letter {
            '\\' => match letters.next()? {
                'n' => '\n',
                other => other,
            },
            other => other,
        });
    }
    Some(Hook {
        kind,
        node,
        old_primary,
        stage,
        line,
    })
}

fn follow(rest: &str) -> Option<Follow> {
    let mut words = rest.split(' ');
    Some(Follow {
        primary: words.next()?.parse().ok()?,
        old_primary: number(words.next()?)?,
        next: number(words.next()?)?,
        running: number(words.next()?)?,
    })
}

fn known_process(rest: &str) -> Option<Process> {
    let (pid, started) = rest.split_once(' ')?;
    Some(Process {
        pid: pid.parse().ok().filter(|&pid| pid > 1)?,
        started: started.parse().ok()?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn record() -> Record {
        Record {
            unfinished: Unfinished {
                hook: Some(Hook {
                    kind: HookKind::Failover,
                    node: 0,
                    old_primary: None,
                    stage: Stage::Begun,
                    line: "/x/failover.sh 0  \\n 'two\nlines'".to_owned(),
                }),
                follow: Some(Follow {
                    primary: 1,
                    old_primary: Some(0),
                    next: Some(2),
                    running: None,
                }),
            },
            hook_process: Process::of(std::process::id().try_into().unwrap()),
            follow_process: None,
        }
    }

    #[test]
    fn a_damaged_file_is_nothing_to_go_on_with() {
        let text = record().text();
        for end in 0..text.len() {
            let _ = Record::interpret(&text[..end]);
        }
        for text in [
            "hook",
            "hook failover x - due a",
            "follow 1",
            "\0\u{fffd}",
            "hook follow 1 - due a",
        ] {
            assert_eq!(Record::interpret(text), Record::default(), "{text:?}");
        }
    }

    #[test]
    fn a_process_is_forgotten_with_its_hook() {
        let mut record = record();
        record.follow_process = record.hook_process;
        let mut next = record.unfinished.clone();
        next.hook.as_mut().unwrap().stage = Stage::Ended;
        record.remember(next.clone());
        assert_eq!(record.hook_process, None);
        assert!(record.follow_process.is_some());
        next.follow.as_mut().unwrap().running = Some(2);
        record.remember(next);
        assert_eq!(record.follow_process, None);
    }

    #[test]
    fn a_number_that_is_another_processes_by_now_is_not_alive() {
        let mine = Process::of(std::process::id().try_into().unwrap()).unwrap();
        let other = Process {
            started: mine.started + 1,
            ..mine
        };
        assert!(!other.is_alive());
    }
}
