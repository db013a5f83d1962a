//! The server log: takes records from the `log` facade and writes them as the original would.
//!
//! Before the process has detached entries are written by whoever logs. After
//! [`LogSink::start_writer`] they go through a bounded queue to a thread of its own, so that a slow
//! disk or a reader that has stopped holds up nobody; what does not fit into the queue is counted,
//! and the count is logged.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::{
    collector::CollectorConfig,
    fatal::Fatal,
    log_entry::{self, Entry, severity_from},
    log_output::Outputs,
    prefix,
};
use crate::{
    config::{Settings, settings::Verbosity},
    observe::Severity,
};

/// Memory that waiting entries may take.
const QUEUE_BYTES: usize = 16 * 1024 * 1024;
/// One statement of a gigabyte is no reason to lose the log.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
const WRITER_STACK: usize = 256 * 1024;

/// What the configuration says about the log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    pub line_prefix: String,
    pub min_messages: Severity,
    pub verbosity: Verbosity,
    pub to_stderr: bool,
    pub to_syslog: bool,
    pub syslog_facility: String,
    pub syslog_ident: String,
    /// `None`: stderr is stderr.
    pub collector: Option<CollectorConfig>,
}

impl LogConfig {
    /// Until the configuration has been read: to stderr in the default form of 4.3.
    pub fn early() -> LogConfig {
        LogConfig {
            line_prefix: prefix::DEFAULT.into(),
            min_messages: Severity::Warning,
            verbosity: Verbosity::Default,
            to_stderr: true,
            to_syslog: false,
            syslog_facility: "LOCAL0".into(),
            syslog_ident: "pgpool".into(),
            collector: None,
        }
    }

    /// `base`: what a relative `log_directory` is relative to.
    pub fn of(settings: &Settings, base: &Path) -> LogConfig {
        LogConfig {
            line_prefix: settings.log_line_prefix.clone(),
            min_messages: settings.log_min_messages,
            verbosity: settings.log_error_verbosity,
            to_stderr: settings.log_to_stderr,
            to_syslog: settings.log_to_syslog,
            syslog_facility: settings.syslog_facility.clone(),
            syslog_ident: settings.syslog_ident.clone(),
            collector: settings.logging_collector.then(|| CollectorConfig {
                directory: base.join(&settings.log_directory),
                filename: settings.log_filename.clone(),
                mode: settings.log_file_mode,
                truncate_on_rotation: settings.log_truncate_on_rotation,
                rotation_age: settings.log_rotation_age,
                rotation_size: settings.log_rotation_size,
            }),
        }
    }
}

/// A handle on the log; all clones are the same.
#[derive(Clone, Debug)]
pub struct LogSink {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    min_messages: AtomicU64,
    /// `-d` was given: DEBUG1 at least, also after a reload.
    debug: AtomicBool,
    /// Records of libraries that a developer has asked for with `RUST_LOG`.
    developer: Option<env_logger::Logger>,
    /// The start directory.
    base: PathBuf,
    queue: Mutex<Queue>,
    /// Something is in the queue.
    filled: Condvar,
    /// The queue is empty and everything is written.
    written: Condvar,
    outputs: Mutex<Outputs>,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    dropped: u64,
    /// The writer holds items that it has taken out.
    busy: bool,
    /// There is a writer.
    threaded: bool,
}

#[derive(Debug)]
enum Item {
    Entry(Box<Entry>),
    Configure(Box<LogConfig>),
    Rotate,
}

static GLOBAL: OnceLock<LogSink> = OnceLock::new();

impl LogSink {
    /// Makes the sink of this process and registers it with `log`. Call once, first of all.
    pub fn install() -> LogSink {
        let sink = GLOBAL.get_or_init(LogSink::new).clone();
        // Fails only if another logger is in place, which then serves us as well.
        let _ = log::set_boxed_logger(Box::new(sink.clone()));
        sink.apply_level();
        sink
    }

    /// The sink of this process, once installed.
    pub fn global() -> Option<&'static LogSink> {
        GLOBAL.get()
    }

    fn new() -> LogSink {
        let developer = std::env::var_os("RUST_LOG")
            .is_some()
            .then(|| env_logger::Builder::from_default_env().build());
        LogSink {
            inner: Arc::new(Inner {
                min_messages: AtomicU64::new(Severity::Warning as u64),
                debug: AtomicBool::new(false),
                developer,
                base: std::env::current_dir().unwrap_or_default(),
                queue: Mutex::default(),
                filled: Condvar::new(),
                written: Condvar::new(),
                outputs: Mutex::new(Outputs::new(LogConfig::early())),
            }),
        }
    }

    /// `-d`: log_min_messages is DEBUG1 or lower from now on.
    pub fn set_debug(&self) {
        self.inner.debug.store(true, Relaxed);
        self.apply_level();
    }

    /// The settings of the start; opens the collector's file. For `stop` and `reload` leave
    /// `collector` out: they talk to their caller.
    pub fn configure(&self, settings: &Settings, collector: bool) -> Result<(), Fatal> {
        let mut config = LogConfig::of(settings, &self.inner.base);
        if !collector {
            config.collector = None;
        }
        self.set_level(config.min_messages);
        lock(&self.inner.outputs)
            .configure(config, SystemTime::now())
            .map_err(|error| {
                Fatal::new(error)
                    .hint("Check log_directory, its permissions and the user pgpool runs as.")
            })
    }

    /// For a process that has no configuration of its own. What cannot be opened is left out.
    pub fn adopt(&self, config: LogConfig) {
        self.set_level(config.min_messages);
        let _ = lock(&self.inner.outputs).configure(config, SystemTime::now());
    }

    /// The settings of a reload. Never blocks; errors go to the log.
    pub fn reconfigure(&self, settings: &Settings) {
        let config = LogConfig::of(settings, &self.inner.base);
        self.set_level(config.min_messages);
        self.put(Item::Configure(Box::new(config)));
    }

    /// The collector goes on in a new file (SIGUSR1, `pcp_log_rotate`). Never blocks.
    pub fn rotate(&self) {
        self.put(Item::Rotate);
    }

    /// The start is over, as far as the caller waits for it: with a collector, stdout and stderr
    /// go into its file now. Without, they stay where they are.
    pub fn redirect_output(&self) -> io::Result<()> {
        lock(&self.inner.outputs).take_output()
    }

    /// stdout and stderr belong to the collector.
    pub fn has_collector(&self) -> bool {
        lock(&self.inner.outputs).has_collector()
    }

    /// From now on a thread writes. Not before a fork: threads do not survive it.
    pub fn start_writer(&self) -> io::Result<()> {
        let inner = Arc::clone(&self.inner);
        thread::Builder::new()
            .name("log writer".into())
            .stack_size(WRITER_STACK)
            .spawn(move || inner.write_for_ever())?;
        lock(&self.inner.queue).threaded = true;
        Ok(())
    }

    /// Waits until everything logged so far is written, two seconds at most.
    pub fn flush(&self) {
        let deadline = Instant::now() + LONGEST_WAIT;
        let mut queue = lock(&self.inner.queue);
        while queue.threaded && (queue.busy || !queue.items.is_empty() || queue.dropped > 0) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return;
            };
            queue = self
                .inner
                .written
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn put(&self, item: Item) {
        let mut queue = lock(&self.inner.queue);
        if queue.threaded {
            queue.items.push_back(item);
            drop(queue);
            self.inner.filled.notify_one();
        } else {
            drop(queue);
            lock(&self.inner.outputs).handle(std::iter::once(item), SystemTime::now());
        }
    }

    fn set_level(&self, severity: Severity) {
        self.inner.min_messages.store(severity as u64, Relaxed);
        self.apply_level();
    }

    /// Lets `log` skip early what no setting lets through.
    fn apply_level(&self) {
        let level = match self.inner.min_messages() {
            Severity::Debug5 | Severity::Debug4 | Severity::Debug3 | Severity::Debug2 => {
                log::LevelFilter::Trace
            }
            Severity::Debug1 => log::LevelFilter::Debug,
            // LOG travels as Info and ranks above ERROR.
            Severity::Info
            | Severity::Notice
            | Severity::Warning
            | Severity::Error
            | Severity::Log => log::LevelFilter::Info,
            Severity::FrontendError | Severity::Fatal | Severity::Panic => log::LevelFilter::Error,
        };
        let developer = self
            .inner
            .developer
            .as_ref()
            .map_or(log::LevelFilter::Off, env_logger::Logger::filter);
        log::set_max_level(level.max(developer));
    }
}

impl Inner {
    fn min_messages(&self) -> Severity {
        let set = severity_from(self.min_messages.load(Relaxed)).unwrap_or(Severity::Warning);
        if self.debug.load(Relaxed) {
            set.min(Severity::Debug1)
        } else {
            set
        }
    }

    fn wants(&self, record: &log::Record<'_>, severity: Severity) -> bool {
        severity >= log_entry::own_min_messages(record).unwrap_or_else(|| self.min_messages())
            || self
                .developer
                .as_ref()
                .is_some_and(|filter| filter.matches(record))
    }

    fn write_for_ever(&self) {
        loop {
            let (items, dropped) = self.next_batch();
            let now = SystemTime::now();
            let mut outputs = lock(&self.outputs);
            outputs.handle(items.into_iter(), now);
            if dropped > 0 {
                let text =
                    format!("{dropped} log entries were dropped because the log is too slow");
                let entry = Entry::own(Severity::Warning, text);
                outputs.handle(std::iter::once(Item::Entry(Box::new(entry))), now);
            }
        }
    }

    /// Waits for something to write, or for the time of a rotation.
    fn next_batch(&self) -> (VecDeque<Item>, u64) {
        let deadline = lock(&self.outputs).next_rotation();
        let mut queue = lock(&self.queue);
        queue.busy = false;
        loop {
            if !queue.items.is_empty() || queue.dropped > 0 {
                queue.busy = true;
                queue.bytes = 0;
                let dropped = std::mem::take(&mut queue.dropped);
                return (std::mem::take(&mut queue.items), dropped);
            }
            self.written.notify_all();
            queue = match deadline {
                None => self
                    .filled
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let Ok(left) = at.duration_since(SystemTime::now()) else {
                        queue.busy = true;
                        return (VecDeque::new(), 0);
                    };
                    // The clock may be set back meanwhile; look again now and then.
                    let left = left.min(Duration::from_secs(60)) + Duration::from_millis(1);
                    self.filled
                        .wait_timeout(queue, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }
}

impl log::Log for LogSink {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        let severity = log_entry::severity_of(record);
        if !self.inner.wants(record, severity) {
            return;
        }
        let entry = Box::new(Entry::of(record, severity));
        let mut queue = lock(&self.inner.queue);
        if !queue.threaded {
            drop(queue);
            self.put(Item::Entry(entry));
            return;
        }
        let size = entry.size();
        if !queue.items.is_empty() && queue.bytes.saturating_add(size) > QUEUE_BYTES {
            queue.dropped += 1;
            return;
        }
        queue.bytes += size;
        let was_empty = queue.items.is_empty();
        queue.items.push_back(Item::Entry(entry));
        drop(queue);
        if was_empty {
            self.inner.filled.notify_one();
        }
    }

    fn flush(&self) {
        LogSink::flush(self);
    }
}

impl Outputs {
    fn handle(&mut self, items: impl Iterator<Item = Item>, now: SystemTime) {
        for item in items {
            match item {
                Item::Entry(entry) => self.add(&entry),
                Item::Rotate => self.rotate(now),
                Item::Configure(config) => {
                    if let Err(error) = self.configure(*config, now) {
                        self.add(&Entry::own(Severity::Log, error));
                    }
                }
            }
        }
        self.flush(now);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use log::Log;

    use super::*;
    use crate::process::collector::CollectorConfig;

    /// A sink with a file of its own, apart from the one that the tests share through `log`.
    fn sink(folder: &Path) -> LogSink {
        let sink = LogSink::new();
        let config = LogConfig {
            line_prefix: "%a: ".into(),
            collector: Some(CollectorConfig {
                directory: folder.into(),
                filename: "pgpool.log".into(),
                mode: 0o600,
                truncate_on_rotation: false,
                rotation_age: None,
                rotation_size: None,
            }),
            ..LogConfig::early()
        };
        lock(&sink.inner.outputs)
            .configure(config, SystemTime::now())
            .unwrap();
        sink
    }

    fn say(sink: &LogSink, severity: Severity, text: &str) {
        let fields = [("severity", log::kv::Value::from(severity as u64))];
        sink.log(
            &log::Record::builder()
                .level(log::Level::Info)
                .target("pgpool")
                .args(format_args!("{text}"))
                .key_values(&fields.as_slice())
                .build(),
        );
    }

    fn written(folder: &Path) -> String {
        std::fs::read_to_string(folder.join("pgpool.log")).unwrap()
    }

    #[test]
    fn entries_below_log_min_messages_are_not_written_and_log_ranks_above_error() {
        let folder = tempfile::tempdir().unwrap();
        let sink = sink(folder.path());
        sink.inner.min_messages.store(Severity::Log as u64, Relaxed);
        for severity in [
            Severity::Warning,
            Severity::Error,
            Severity::Log,
            Severity::Fatal,
        ] {
            say(&sink, severity, "x");
        }
        assert_eq!(written(folder.path()), "main: LOG:  x\nmain: FATAL:  x\n");
    }

    #[test]
    fn a_session_may_have_a_level_and_a_verbosity_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let sink = sink(folder.path());
        let say = |own: Severity, severity: Severity| {
            let fields = [
                ("severity", log::kv::Value::from(severity as u64)),
                ("detail", log::kv::Value::from("why")),
                ("min_messages", log::kv::Value::from(own as u64)),
                ("verbosity", log::kv::Value::from(Verbosity::Terse as u64)),
            ];
            sink.log(
                &log::Record::builder()
                    .args(format_args!("x"))
                    .key_values(&fields.as_slice())
                    .build(),
            );
        };
        say(Severity::Debug1, Severity::Debug1);
        say(Severity::Debug1, Severity::Debug2);
        say(Severity::Fatal, Severity::Log);
        assert_eq!(written(folder.path()), "main: DEBUG:  x\n");
    }

    #[test]
    fn entries_of_many_threads_are_all_written_by_the_writer() {
        let folder = tempfile::tempdir().unwrap();
        let sink = sink(folder.path());
        say(&sink, Severity::Log, "before");
        sink.start_writer().unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..250).for_each(|_| say(&sink, Severity::Log, "x")));
            }
        });
        say(&sink, Severity::Log, "after");
        LogSink::flush(&sink);
        let text = written(folder.path());
        assert!(text.starts_with("main: LOG:  before\n"));
        assert!(text.ends_with("main: LOG:  after\n"));
        assert_eq!(text.lines().count(), 1002);
    }

    #[test]
    fn a_log_that_is_stuck_holds_up_nobody_and_tells_what_was_lost() {
        let folder = tempfile::tempdir().unwrap();
        let sink = sink(folder.path());
        sink.start_writer().unwrap();
        // As if the disk did not answer.
        let stuck = lock(&sink.inner.outputs);
        let megabyte = "m".repeat(1024 * 1024);
        for _ in 0..64 {
            say(&sink, Severity::Log, &megabyte);
        }
        let held = lock(&sink.inner.queue).bytes;
        assert!(held <= QUEUE_BYTES, "{held}");
        drop(stuck);
        LogSink::flush(&sink);
        LogSink::flush(&sink);
        let text = written(folder.path());
        let last = text.lines().last().unwrap_or_default();
        assert!(
            last.ends_with(" log entries were dropped because the log is too slow"),
            "{}",
            &last[..last.len().min(100)]
        );
        let dropped: usize = last.split_whitespace().nth(2).unwrap().parse().unwrap();
        assert_eq!(text.lines().count() - 1 + dropped, 64);
    }

    #[test]
    fn a_reload_changes_the_form_from_the_next_entry_on() {
        let folder = tempfile::tempdir().unwrap();
        let sink = sink(folder.path());
        sink.start_writer().unwrap();
        say(&sink, Severity::Log, "a");
        let mut config = lock(&sink.inner.outputs).config().clone();
        config.line_prefix = "new ".into();
        sink.put(Item::Configure(Box::new(config)));
        say(&sink, Severity::Log, "b");
        LogSink::flush(&sink);
        assert_eq!(written(folder.path()), "main: LOG:  a\nnew LOG:  b\n");
    }
}
