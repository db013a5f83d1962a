//! What a hook has printed, as far as it can be found: for the event of one that failed.
//!
//! A hook prints where pgpool itself does, as with the original, and nothing stands in between: a pipe of
//! ours would break when pgpool ends, and with it a hook that promotes, or a server that a hook has
//! started. So this looks afterwards. Where standard error is a file the last lines are there; of the
//! journal, a terminal or a pipe only the place can be told.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::events::text;

/// Lines of the end that are told.
const LINES: usize = 10;
/// Bytes at the end of the file in which they are looked for.
const LOOKED_AT: u64 = 16 * 1024;

/// Where standard error stood when a hook began.
#[derive(Clone, Debug)]
pub struct Mark {
    place: Place,
    began: SystemTime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// `/dev/null`, or closed.
    Nowhere,
    Journal,
    File {
        path: PathBuf,
        /// Its length.
        from: u64,
    },
    Elsewhere,
}

impl Mark {
    /// Standard error as it is now.
    pub fn now() -> Mark {
        let journal = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        Mark {
            place: place(&journal).unwrap_or(Place::Nowhere),
            began: SystemTime::now(),
        }
    }

    /// What has come since, in words. Reads a file, so it may block.
    pub fn since(&self) -> String {
        match &self.place {
            Place::Nowhere => {
                "none is kept: standard error of pgpool leads nowhere (logging_collector, or the option -n, would keep it)".to_owned()
            }
            Place::Journal => format!(
                "in the journal of the unit, from {} on",
                text::time(self.began)
            ),
            Place::Elsewhere => "where standard error of pgpool leads".to_owned(),
            Place::File { path, from } => match printed(*from) {
                Ok((lines, _)) if lines.is_empty() => "it has printed nothing".to_owned(),
                Ok((lines, to)) => format!(
                    "{}\n(of bytes {from} to {to} of {})",
                    lines.join("\n"),
                    path.display()
                ),
                Err(_) => format!("in {}, from byte {from} on", path.display()),
            },
        }
    }
}

fn place(journal: &str) -> io::Result<Place> {
    let file = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    Ok(if kind.is_file() {
        Place::File {
            path: std::fs::read_link("/proc/self/fd/2")?,
            from: metadata.len(),
        }
    } else if kind.is_char_device()
        && metadata.rdev() == File::open("/dev/null")?.metadata()?.rdev()
    {
        Place::Nowhere
    } else if journal == format!("{}:{}", metadata.dev(), metadata.ino()) {
        Place::Journal
    } else {
        Place::Elsewhere
    })
}

/// The last lines that are not of our log, and how long the file is.
fn printed(from: u64) -> io::Result<(Vec<String>, u64)> {
    // By its number: the file may have been renamed.
    lines_since(Path::new("/proc/self/fd/2"), from, std::process::id())
}

fn lines_since(path: &Path, from: u64, pid: u32) -> io::Result<(Vec<String>, u64)> {
    let mut file = File::open(path)?;
    let to = file.metadata()?.len();
    let end = to.saturating_sub(LOOKED_AT);
    // A file that was emptied, or another one by now, has nothing of before.
    let begin = if to < from { end } else { from.max(end) };
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(LOOKED_AT).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // Our own lines have the number of the process in their prefix, unless somebody has changed that.
    let ours = format!("pid {pid}: ");
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.contains(&ours) && !line.trim().is_empty())
        .map(str::to_owned)
        .collect();
    let surplus = lines.len().saturating_sub(LINES);
    lines.drain(..surplus);
    Ok((lines, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_others_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let many: String = (0..20).map(|n| format!("line {n}\n")).collect();
        let before = "of before\n";
        let text = format!("{before}{many}2026: main pid 77: LOG:  ours\n\nthe last\n");
        std::fs::write(&path, &text).unwrap();
        let from = before.len() as u64;
        let (lines, to) = lines_since(&path, from, 77).unwrap();
        assert_eq!(to, text.len() as u64);
        assert_eq!(lines.len(), LINES);
        assert_eq!(
            (&*lines[0], &*lines[8], &*lines[9]),
            ("line 11", "line 19", "the last")
        );
        assert_eq!(lines_since(&path, to, 77).unwrap().0, [""; 0]);
        // A file that was emptied meanwhile.
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(lines_since(&path, to, 77).unwrap().0, ["new"]);
    }

    #[test]
    fn what_cannot_be_found_is_named_by_its_place() {
        let since = |place| {
            let began = SystemTime::UNIX_EPOCH;
            Mark { place, began }.since()
        };
        assert!(since(Place::Nowhere).contains("logging_collector"));
        assert!(since(Place::Journal).starts_with("in the journal of the unit, from 19"));
        assert!(since(Place::Elsewhere).contains("standard error"));
    }
}
