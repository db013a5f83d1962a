//! What pgpool is in the middle of, so that the next start can go on after a kill -9.
//!
//! The status file says which nodes are down, and is written before the hook is run; from it alone a
//! start does not know that a hook is due, or that nodes wait for their `follow_primary_command`. The
//! original forgets both. This record is written before each step that must not be lost or done
//! twice, and is gone when nothing goes on.
//!
//! It outlives the process, not the machine: it is not forced to the disk, because writers wait
//! meanwhile. When a machine crashes, its hooks end too, and an operator has to look in any case.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use super::core::HookKind;
use crate::{cluster::NodeId, sys::process};

const FILE_NAME: &str = "pgpool-rs.unfinished";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// The failover or failback that goes on.
    pub hook: Option<Hook>,
    /// The commands that have the standbys follow a new primary.
    pub follow: Option<Follow>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// [`HookKind::Failover`] or [`HookKind::Failback`].
    pub kind: HookKind,
    pub node: NodeId,
    /// Before it.
    pub old_primary: Option<NodeId>,
    pub stage: Stage,
    /// For the shell; empty: there is nothing to run.
    pub line: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The command has not begun.
    Due,
    Begun,
    /// It is over; what follows goes on.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follow {
    pub primary: NodeId,
    pub old_primary: Option<NodeId>,
    /// Nodes below have had their turn; `None`: all have, or shall not have one.
    pub next: Option<NodeId>,
    /// The node whose command has begun.
    pub running: Option<NodeId>,
}

impl Unfinished {
    pub fn is_empty(&self) -> bool {
        *self == Unfinished::default()
    }
}

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
    fn text(&self) -> String {
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
            ("hook_process", self.hook_process),
            ("follow_process", self.follow_process),
        ] {
            if let Some(Process { pid, started }) = process {
                let _ = writeln!(text, "{name} {pid} {started}");
            }
        }
        text
    }

    /// What makes no sense is left out: then there is nothing to go on with.
    fn interpret(text: &str) -> Record {
        let mut record = Record::default();
        for line in text.lines() {
            let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
            match name {
                "hook" => record.unfinished.hook = hook(rest),
                "follow" => record.unfinished.follow = follow(rest),
                "hook_process" => record.hook_process = known_process(rest),
                "follow_process" => record.follow_process = known_process(rest),
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

/// `pgpool-rs.unfinished` beside the status file.
pub fn path(work_dir: &Path) -> PathBuf {
    work_dir.join(FILE_NAME)
}

/// What an earlier pgpool was in the middle of; nothing when there is no file.
///
/// # Errors
///
/// The file is there and cannot be read.
pub fn read(work_dir: &Path) -> io::Result<Record> {
    match fs::read(path(work_dir)) {
        Ok(bytes) => Ok(Record::interpret(&String::from_utf8_lossy(&bytes))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Record::default()),
        Err(e) => Err(e),
    }
}

/// Replaces the file in one step; it is gone when nothing goes on.
///
/// # Errors
///
/// Whatever the file system says.
pub fn write(work_dir: &Path, record: &Record) -> io::Result<()> {
    if record.unfinished.is_empty() {
        return discard(work_dir);
    }
    let temporary = work_dir.join(format!("{FILE_NAME}.{}.tmp", std::process::id()));
    let result =
        fs::write(&temporary, record.text()).and_then(|()| fs::rename(&temporary, path(work_dir)));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// Forgets it, as `-D` forgets the statuses.
///
/// # Errors
///
/// The file is there and cannot be removed.
pub fn discard(work_dir: &Path) -> io::Result<()> {
    match fs::remove_file(path(work_dir)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
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
    fn what_is_written_is_read_back_and_nothing_is_left_when_nothing_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), Record::default());
        let record = record();
        assert!(record.hook_process.unwrap().is_alive());
        write(dir.path(), &record).unwrap();
        assert_eq!(read(dir.path()).unwrap(), record);
        write(dir.path(), &Record::default()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
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
