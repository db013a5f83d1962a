//! `pgpool_status`: which nodes were down when pgpool ended, so that it does not
//! bring a detached node back by itself.
//!
//! One line per slot, `up`, `down` or `unused`. Read as the original reads it
//! (`read_status_file` in `src/main/pgpool_main.c @ V4_3_5`), the binary record of 3.x
//! included, except that the configuration alone decides which slots are in use: a backend
//! without a line, or with `unused`, starts as waiting.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{Node, NodeStatus};
use crate::{
    observe::{Reporter, Severity},
    sys::errors,
};

const FILE_NAME: &str = "pgpool_status";
/// Slots of the binary record: one C `int` each.
const OLD_SLOTS: usize = 128;
const OLD_RECORD: usize = OLD_SLOTS * size_of::<i32>();

/// `pgpool_status` in `logdir` (`work_dir` since 4.7).
pub fn path(work_dir: &Path) -> PathBuf {
    work_dir.join(FILE_NAME)
}

/// What a slot's line said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Up,
    /// From a binary record, where `up` is not told from `waiting`.
    Waiting,
    Down,
    Unused,
    Invalid,
}

/// Statuses to start with, one per slot number; a slot beyond the end starts as waiting.
///
/// Logs what it finds, with the texts of the original. `discard` (option `-D`) removes the file.
pub fn read(work_dir: &Path, discard: bool, reporter: &Reporter) -> Vec<NodeStatus> {
    let path = path(work_dir);
    if discard {
        match fs::remove_file(&path) {
            Ok(()) => reporter.log(format_args!(
                "Backend status file {} discarded",
                path.display()
            )),
            Err(e) if e.kind() == io::ErrorKind::NotFound => does_not_exist(&path, reporter),
            Err(e) => reporter.emit(
                Severity::Warning,
                format_args!(
                    "failed to discard backend status file: \"{}\"",
                    path.display()
                ),
                &errors::message(&e),
                "",
            ),
        }
        return Vec::new();
    }
    match fs::read(&path) {
        Ok(bytes) => interpret(&bytes, reporter),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            does_not_exist(&path, reporter);
            Vec::new()
        }
        Err(e) => {
            reporter.emit(
                Severity::Warning,
                format_args!("failed to open status file at: \"{}\"", path.display()),
                &format!(
                    "{}; all nodes are taken as if the file did not exist",
                    errors::message(&e)
                ),
                "",
            );
            Vec::new()
        }
    }
}

fn does_not_exist(path: &Path, reporter: &Reporter) {
    reporter.log(format_args!(
        "Backend status file {} does not exist",
        path.display()
    ));
}

/// Statuses from the contents of a file.
pub(crate) fn interpret(bytes: &[u8], reporter: &Reporter) -> Vec<NodeStatus> {
    let (lines, text) = match parse_old(bytes) {
        Some(lines) => (lines, "read_status_file:"),
        None => (parse(bytes, reporter), "reading status file:"),
    };
    let someone_up = lines
        .iter()
        .any(|line| matches!(line, Line::Up | Line::Waiting));
    lines
        .into_iter()
        .enumerate()
        .map(|(id, line)| match line {
            Line::Down => {
                reporter.log(format_args!("{text} {id} th backend is set to down status"));
                NodeStatus::Down
            }
            Line::Up => NodeStatus::Up,
            Line::Waiting | Line::Unused | Line::Invalid => NodeStatus::Waiting,
        })
        // A file in which nobody is up is bogus: all nodes are tried.
        .map(|status| {
            if someone_up {
                status
            } else {
                NodeStatus::Waiting
            }
        })
        .collect()
}

fn parse(bytes: &[u8], reporter: &Reporter) -> Vec<Line> {
    String::from_utf8_lossy(bytes)
        .lines()
        .take(OLD_SLOTS)
        .enumerate()
        .map(|(id, text)| {
            let begins = |word: &str| {
                text.get(..word.len())
                    .is_some_and(|head| head.eq_ignore_ascii_case(word))
            };
            if begins("up") {
                Line::Up
            } else if begins("down") {
                Line::Down
            } else if begins("unused") {
                Line::Unused
            } else {
                reporter.emit(
                    Severity::Warning,
                    "invalid data in status file, ignoring...",
                    &format!("backend:{id} status is invalid: \"{text}\""),
                    "",
                );
                Line::Invalid
            }
        })
        .collect()
}

/// The record of 3.x: 128 numbers in the byte order of the machine. `None`: not such a record.
fn parse_old(bytes: &[u8]) -> Option<Vec<Line>> {
    let record = bytes.get(..OLD_RECORD)?;
    record
        .chunks_exact(size_of::<i32>())
        .map(
            |chunk| match i32::from_ne_bytes(<[u8; 4]>::try_from(chunk).ok()?) {
                0 => Some(Line::Unused),
                1 | 2 => Some(Line::Waiting),
                3 => Some(Line::Down),
                _ => None,
            },
        )
        .collect()
}

/// The file's text; `None` when every node is down, because then the file keeps
/// naming the last survivor ([pgpool-general: 4721]).
pub fn text(nodes: &[Node]) -> Option<String> {
    let mut used = nodes
        .iter()
        .filter(|n| n.status != NodeStatus::Unused)
        .peekable();
    if used.peek().is_some() && used.all(|n| n.status == NodeStatus::Down) {
        return None;
    }
    Some(
        nodes
            .iter()
            .map(|n| match n.status {
                NodeStatus::Waiting | NodeStatus::Up => "up\n",
                // Quarantine is local and temporary; it is not written.
                NodeStatus::Down if n.quarantine => "up\n",
                NodeStatus::Down => "down\n",
                NodeStatus::Unused => "unused\n",
            })
            .collect(),
    )
}

/// Replaces the file in one step, so that a crash leaves the old or the new one.
///
/// # Errors
///
/// Whatever the file system says, with the step that failed.
pub fn write(work_dir: &Path, text: &str) -> io::Result<()> {
    let path = path(work_dir);
    let temporary = work_dir.join(format!("{FILE_NAME}.{}.tmp", std::process::id()));
    let result = (|| {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        // The rename itself is durable only when the directory is.
        fs::File::open(work_dir)?.sync_all()
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use NodeStatus::{Down, Unused, Up, Waiting};

    fn reporter() -> Reporter {
        Reporter::new("main")
    }

    fn nodes(statuses: &[NodeStatus]) -> Vec<Node> {
        statuses
            .iter()
            .enumerate()
            .map(|(id, &status)| Node {
                id,
                hostname: "h".into(),
                port: 5432,
                data_directory: String::new(),
                application_name: String::new(),
                weight: 0.5,
                flag: crate::config::settings::BackendFlag::default(),
                status,
                quarantine: false,
                status_changed: SystemTime::UNIX_EPOCH,
            })
            .collect()
    }

    #[test]
    fn lines_are_read_by_prefix_and_in_any_case() {
        assert_eq!(
            interpret(b"UP\ndownward\nUnused\nup", &reporter()),
            [Up, Down, Waiting, Up]
        );
    }

    #[test]
    fn a_file_without_a_living_node_is_ignored() {
        assert_eq!(
            interpret(b"down\ndown\nunused\n", &reporter()),
            [Waiting, Waiting, Waiting]
        );
        assert_eq!(interpret(b"", &reporter()), []);
    }

    #[test]
    fn a_line_that_makes_no_sense_is_skipped_and_keeps_its_place() {
        assert_eq!(
            interpret(b"up\n???\ndown\n", &reporter()),
            [Up, Waiting, Down]
        );
    }

    #[test]
    fn the_binary_record_of_3_x_is_understood() {
        let mut record = Vec::new();
        for status in [2, 3, 1].into_iter().chain([0; 125]) {
            record.extend_from_slice(&i32::to_ne_bytes(status));
        }
        let read = interpret(&record, &reporter());
        assert_eq!(read.get(..3), Some(&[Waiting, Down, Waiting][..]));
    }

    #[test]
    fn a_long_text_is_not_taken_for_a_binary_record() {
        let text = "up\ndown\n".repeat(100);
        assert_eq!(
            interpret(text.as_bytes(), &reporter()).get(..2),
            Some(&[Up, Down][..])
        );
    }

    #[test]
    fn bytes_of_any_kind_do_no_harm() {
        for seed in 0_u8..200 {
            let bytes: Vec<u8> = (0..600_u16)
                .map(|i| seed.wrapping_mul(31).wrapping_add(i.to_le_bytes()[0]))
                .collect();
            let _ = interpret(&bytes, &reporter());
        }
    }

    #[test]
    fn waiting_is_written_as_up() {
        assert_eq!(
            text(&nodes(&[Waiting, Down, Unused, Up])).as_deref(),
            Some("up\ndown\nunused\nup\n")
        );
    }

    #[test]
    fn nothing_is_written_when_every_node_is_down() {
        assert_eq!(text(&nodes(&[Down, Unused, Down])), None);
    }

    #[test]
    fn what_is_written_is_read_back_and_no_other_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "up\ndown\n").unwrap();
        write(dir.path(), "down\nup\n").unwrap();
        assert_eq!(read(dir.path(), false, &reporter()), [Down, Up]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn discarding_removes_the_file() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "up\ndown\n").unwrap();
        assert_eq!(read(dir.path(), true, &reporter()), []);
        assert!(!path(dir.path()).exists());
        assert_eq!(read(dir.path(), true, &reporter()), []);
    }
}
