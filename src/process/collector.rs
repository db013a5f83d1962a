//! The files of `logging_collector`: names by strftime, rotation by age, by size and on request.
//!
//! The original pipes everything into a process of its own. We write the file ourselves, and put
//! stdout and stderr on it as well: what hooks print lands there as it does with the original, and
//! a program that a hook has left behind can go on printing when we are gone.
//! Source: `src/main/pgpool_logger.c @ V4_7_2`.

use std::{
    fmt::Write as _,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    },
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use chrono::{DateTime, Local, format::StrftimeItems};

use crate::sys::{
    errors,
    process::{self, Standard},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorConfig {
    /// Absolute. Made if missing, one level, mode 0700.
    pub directory: PathBuf,
    /// strftime pattern.
    pub filename: String,
    /// Permission bits; the owner can always write.
    pub mode: u32,
    pub truncate_on_rotation: bool,
    /// `None`: not by age.
    pub rotation_age: Option<Duration>,
    /// Bytes; `None`: not by size.
    pub rotation_size: Option<u64>,
}

#[derive(Debug)]
pub struct Collector {
    config: CollectorConfig,
    file: File,
    path: PathBuf,
    size: u64,
    next_rotation: Option<SystemTime>,
    /// A new file could not be opened; nothing more is tried until a reload.
    disabled: bool,
    /// stdout and stderr are on the file.
    has_output: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Age,
    Size,
    Request,
}

impl Collector {
    /// Opens the file of `now`, appending. The error is the text of the FATAL message.
    pub fn open(config: CollectorConfig, now: SystemTime) -> Result<Collector, String> {
        make_directory(&config);
        let path = config.path_at(now);
        let file = config
            .open(&path, false)
            .map_err(|error| cannot_open(&path, &error))?;
        let size = file.metadata().map_or(0, |m| m.len());
        Ok(Collector {
            next_rotation: config.next_rotation(now),
            config,
            file,
            path,
            size,
            disabled: false,
            has_output: false,
        })
    }

    /// Puts stdout and stderr on the file, now and after each rotation.
    pub fn take_output(&mut self) -> io::Result<()> {
        self.has_output = true;
        process::redirect(self.file.as_fd(), Standard::Output)?;
        process::redirect(self.file.as_fd(), Standard::Error)
    }

    pub fn config(&self) -> &CollectorConfig {
        &self.config
    }

    pub fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.file.write_all(text)?;
        self.size += text.len() as u64;
        Ok(())
    }

    /// When [`Collector::rotate_if_due`] has to be called next, whatever is written.
    pub fn next_rotation(&self) -> Option<SystemTime> {
        self.next_rotation.filter(|_| !self.disabled)
    }

    /// Rotates by age or size. The error is for the log: the old file stays in use.
    pub fn rotate_if_due(&mut self, now: SystemTime) -> Result<(), String> {
        if self.disabled {
            return Ok(());
        }
        if self.next_rotation.is_some_and(|at| at <= now) {
            return self.rotate(Reason::Age, now);
        }
        match self.config.rotation_size {
            Some(limit) if self.size >= limit => {
                // Hooks write past our count.
                self.size = self.file.metadata().map_or(self.size, |m| m.len());
                self.rotate(Reason::Size, now)
            }
            _ => Ok(()),
        }
    }

    pub fn rotate(&mut self, reason: Reason, now: SystemTime) -> Result<(), String> {
        // Named after the planned time, so that a late rotation does not shift the names.
        let named_after = match (reason, self.next_rotation) {
            (Reason::Age, Some(planned)) => planned.min(now),
            _ => now,
        };
        let path = self.config.path_at(named_after);
        let truncate =
            self.config.truncate_on_rotation && reason == Reason::Age && path != self.path;
        match self.config.open(&path, truncate) {
            Ok(file) => {
                // A pattern without a time gives the old name again, and the file stays as large as
                // it is: look again after the same amount, not after each entry.
                self.size = if path == self.path {
                    0
                } else {
                    file.metadata().map_or(0, |m| m.len())
                };
                self.file = file;
                self.path = path;
                self.next_rotation = self.config.next_rotation(now);
                if self.has_output {
                    self.take_output()
                        .map_err(|error| cannot_open(&self.path, &error))?;
                }
                Ok(())
            }
            Err(error) => {
                let mut text = cannot_open(&path, &error);
                if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
                    // Passes; tried again at the next occasion.
                    self.next_rotation = self.config.next_rotation(now);
                    self.size = 0;
                } else {
                    text.push_str("; disabling automatic rotation (use SIGHUP to re-enable)");
                    self.disabled = true;
                }
                Err(text)
            }
        }
    }

    /// A reload: another place or name takes effect at once, a rotation that had failed is tried again.
    pub fn reconfigure(&mut self, config: CollectorConfig, now: SystemTime) -> Result<(), String> {
        let moved =
            config.directory != self.config.directory || config.filename != self.config.filename;
        let retry = std::mem::take(&mut self.disabled);
        self.config = config;
        self.next_rotation = self.config.next_rotation(now);
        if moved {
            make_directory(&self.config);
        }
        if moved || retry {
            return self.rotate(Reason::Request, now);
        }
        Ok(())
    }
}

impl CollectorConfig {
    fn path_at(&self, time: SystemTime) -> PathBuf {
        self.directory.join(strftime(&self.filename, time))
    }

    fn open(&self, path: &PathBuf, truncate: bool) -> io::Result<File> {
        let mode = (self.mode | 0o200) & 0o777;
        let is_new = !path.exists();
        let file = OpenOptions::new()
            // Append even after truncation: hooks write to the same file.
            .append(true)
            .create(true)
            .mode(mode)
            .open(path)?;
        if truncate {
            file.set_len(0)?;
        }
        if is_new {
            // The umask of whoever started us has no say.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        Ok(file)
    }

    /// The next multiple of the age in local time: with a day, midnight.
    fn next_rotation(&self, now: SystemTime) -> Option<SystemTime> {
        let age = i64::try_from(self.rotation_age?.as_secs()).ok()?.max(1);
        let offset = i64::from(DateTime::<Local>::from(now).offset().local_minus_utc());
        let now = i64::try_from(now.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
        let next = next_multiple(now, age, offset)?;
        UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(next).ok()?))
    }
}

fn next_multiple(now: i64, age: i64, offset: i64) -> Option<i64> {
    let local = now.checked_add(offset)?;
    local
        .checked_sub(local.rem_euclid(age))?
        .checked_add(age)?
        .checked_sub(offset)
}

/// A conversion that chrono does not know is copied, as the C library does.
fn strftime(pattern: &str, time: SystemTime) -> String {
    let time = DateTime::<Local>::from(time);
    let mut name = String::new();
    if write!(
        name,
        "{}",
        time.format_with_items(StrftimeItems::new(pattern))
    )
    .is_ok()
    {
        return name;
    }
    name.clear();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let one = match (c, chars.clone().next()) {
            ('%', Some(letter)) => {
                chars.next();
                format!("%{letter}")
            }
            _ => c.to_string(),
        };
        let start = name.len();
        if write!(name, "{}", time.format_with_items(StrftimeItems::new(&one))).is_err() {
            name.truncate(start);
            name.push_str(&one);
        }
    }
    name
}

fn make_directory(config: &CollectorConfig) {
    // If it cannot be made, opening the file tells why.
    let _ = DirBuilder::new().mode(0o700).create(&config.directory);
}

fn cannot_open(path: &std::path::Path, error: &io::Error) -> String {
    format!(
        "could not open log file \"{}\": {}",
        path.display(),
        errors::message(error)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(directory: PathBuf, filename: &str) -> CollectorConfig {
        CollectorConfig {
            directory,
            filename: filename.into(),
            mode: 0o600,
            truncate_on_rotation: false,
            rotation_age: None,
            rotation_size: None,
        }
    }

    fn read(folder: &std::path::Path, name: &str) -> String {
        fs::read_to_string(folder.join(name)).unwrap()
    }

    #[test]
    fn the_directory_and_the_file_are_made_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("logs");
        let collector =
            Collector::open(config(directory.clone(), "pgpool.log"), SystemTime::now()).unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&collector.path), 0o600);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error_with_its_name() {
        let error = Collector::open(config("/no/such/place".into(), "x.log"), SystemTime::now())
            .unwrap_err();
        assert_eq!(
            error,
            "could not open log file \"/no/such/place/x.log\": No such file or directory"
        );
    }

    #[test]
    fn age_rotation_takes_the_planned_name_and_overwrites_only_then() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path().into(), "%s.log");
        config.rotation_age = Some(Duration::from_secs(60));
        config.truncate_on_rotation = true;
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
        fs::write(folder.path().join("1000000010.log"), "old\n").unwrap();
        fs::write(folder.path().join("1000000020.log"), "old\n").unwrap();
        let mut collector = Collector::open(config, at(1_000_000_010)).unwrap();
        collector.write(b"a\n").unwrap();
        assert_eq!(collector.next_rotation(), Some(at(1_000_000_020)));

        collector.rotate_if_due(at(1_000_000_019)).unwrap();
        collector.write(b"b\n").unwrap();
        collector.rotate_if_due(at(1_000_000_025)).unwrap();
        collector.write(b"c\n").unwrap();
        assert_eq!(read(folder.path(), "1000000010.log"), "old\na\nb\n");
        assert_eq!(read(folder.path(), "1000000020.log"), "c\n");
        assert_eq!(collector.next_rotation(), Some(at(1_000_000_080)));
    }

    #[test]
    fn size_and_request_rotate_without_overwriting() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path().into(), "%s.log");
        config.rotation_size = Some(4);
        config.truncate_on_rotation = true;
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
        fs::write(folder.path().join("2.log"), "old\n").unwrap();
        let mut collector = Collector::open(config, at(1)).unwrap();
        collector.write(b"aaaa").unwrap();
        collector.rotate_if_due(at(2)).unwrap();
        collector.write(b"b").unwrap();
        collector.rotate(Reason::Request, at(3)).unwrap();
        collector.write(b"c").unwrap();
        assert_eq!(read(folder.path(), "1.log"), "aaaa");
        assert_eq!(read(folder.path(), "2.log"), "old\nb");
        assert_eq!(read(folder.path(), "3.log"), "c");
    }

    #[test]
    fn a_failed_rotation_keeps_the_old_file_and_waits_for_a_reload() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path().into(), "%s.log");
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
        let mut collector = Collector::open(config.clone(), at(1)).unwrap();
        fs::create_dir(folder.path().join("2.log")).unwrap();
        let error = collector.rotate(Reason::Request, at(2)).unwrap_err();
        assert!(
            error.ends_with(
                "Is a directory; disabling automatic rotation (use SIGHUP to re-enable)"
            )
        );
        collector.write(b"a").unwrap();
        assert_eq!(collector.next_rotation(), None);

        collector.reconfigure(config, at(3)).unwrap();
        collector.write(b"b").unwrap();
        assert_eq!(read(folder.path(), "1.log"), "a");
        assert_eq!(read(folder.path(), "3.log"), "b");
    }

    #[test]
    fn rotation_by_the_day_happens_at_local_midnight() {
        let two_hours_east = 7200;
        // 1970-01-02 23:30 there.
        let now = 86_400 + 23 * 3600 + 1800 - two_hours_east;
        assert_eq!(
            next_multiple(now, 86_400, two_hours_east),
            Some(2 * 86_400 - two_hours_east)
        );
        assert_eq!(next_multiple(i64::MAX, 60, 3600), None);
    }

    #[test]
    fn an_unknown_conversion_is_copied() {
        let time = UNIX_EPOCH + Duration::from_secs(7);
        assert_eq!(strftime("a-%s-%Q.log%", time), "a-7-%Q.log%");
        assert_eq!(strftime("pgpool-%s.log", time), "pgpool-7.log");
    }
}
