//! The events of now and before: numbered, dated, kept in memory, and written by a thread of their own.
//!
//! [`History::record`] takes a lock for a moment and never waits for a disk. When the writer is so far
//! behind that its queue is full, events are in memory only, and the log says so.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;

use super::{ALREADY_ATTACHED, Event, HookRun, Note, Step, journal, journal::Journal, text};
use crate::{
    observe::{Reporter, Severity},
    sys::errors,
};

/// Events in memory: what `SHOW POOL_EVENTS` shows at most.
pub const KEPT: usize = 1000;
/// Events that wait for the writer.
const QUEUE: usize = 1000;
/// Bytes of one text; a command line may be longer than anybody reads.
const LONGEST_TEXT: usize = 8192;
/// The same request in vain is kept once in this time: hundreds of sessions may report one dead node, and a
/// script may attach a node once a minute, for days. What was decided must not be pushed out by it.
const REFUSED_AGAIN: Duration = Duration::from_secs(3600);
/// Operations of which the first event is remembered: only the latest can go on.
const OPERATIONS: usize = 64;

/// Who counts the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Failover,
    Recovery,
    /// The end of the process.
    Process,
}

/// Which events are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// At most as many, the latest; `None`: all that are kept.
    pub last: Option<usize>,
    /// From then on.
    pub since: Option<SystemTime>,
    /// Later than this one.
    pub after: u64,
}

#[derive(Debug)]
pub struct History {
    state: Mutex<State>,
    /// Id of the latest event.
    latest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Arc<Event>>,
    last_id: u64,
    operations: VecDeque<(Origin, u64, u64)>,
    refused: VecDeque<(Note, Instant)>,
    writer: Option<Writer>,
}

#[derive(Debug)]
struct Writer {
    queue: SyncSender<ToWriter>,
    /// Said once, until there is room again.
    behind: bool,
}

enum ToWriter {
    Event(Arc<Event>),
    /// Answer when all before is done.
    Flush(SyncSender<()>),
}

impl Default for History {
    fn default() -> History {
        History {
            state: Mutex::default(),
            latest: watch::Sender::new(0),
        }
    }
}

impl History {
    /// With what the files of the work directory hold, which is continued. Nothing is written before
    /// [`History::start_writer`]. A file that cannot be read is a warning.
    pub fn load(work_dir: &Path, port: u16, reporter: &Reporter) -> History {
        let history = History::default();
        match journal::read(work_dir, port, KEPT) {
            Ok(events) => {
                let mut state = history.lock();
                state.last_id = events.iter().map(|e| e.id).max().unwrap_or(0);
                state.events = events.into_iter().map(Arc::new).collect();
                history.latest.send_replace(state.last_id);
                drop(state);
            }
            Err(error) => reporter.emit(
                Severity::Warning,
                "the history of events cannot be read and begins anew",
                &format!(
                    "{}: {}",
                    journal::path(work_dir, port).display(),
                    errors::message(&error)
                ),
                "give the file to the account that pgpool runs as, or remove it",
            ),
        }
        history
    }

    /// From now on events are written.
    ///
    /// # Errors
    ///
    /// When there is no thread to be had.
    pub fn start_writer(&self, journal: Journal) -> std::io::Result<()> {
        let (queue, receiver) = sync_channel(QUEUE);
        thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || write(journal, &receiver))?;
        self.lock().writer = Some(Writer {
            queue,
            behind: false,
        });
        Ok(())
    }

    /// Keeps the note. `operation`: its number in the core that counts them; `None`: the event stands for
    /// itself. Returns the event's id, or `None` for a refusal that was noted a moment ago.
    pub fn record(&self, operation: Option<(Origin, u64)>, mut note: Note) -> Option<u64> {
        shorten(&mut note);
        let mut state = self.lock();
        if is_in_vain(&note) && state.is_repeated(&note) {
            return None;
        }
        state.last_id += 1;
        let id = state.last_id;
        let event = Arc::new(Event {
            id,
            time: SystemTime::now(),
            pid: std::process::id(),
            operation: state.first_of(operation, id),
            note,
        });
        state.events.push_back(Arc::clone(&event));
        if state.events.len() > KEPT {
            state.events.pop_front();
        }
        let lagging = state.hand_to_writer(&event);
        drop(state);
        self.latest.send_replace(id);
        if lagging {
            Reporter::new("main").emit(
                Severity::Warning,
                "events are not written to the file, because the disk is too slow for them",
                "they are in memory: SHOW POOL_EVENTS shows them until pgpool ends",
                "look at the disk of the work directory (logdir)",
            );
        }
        say(&event);
        Some(id)
    }

    /// In their order.
    pub fn events(&self, query: Query) -> Vec<Arc<Event>> {
        let state = self.lock();
        let wanted: Vec<&Arc<Event>> = state
            .events
            .iter()
            .filter(|e| e.id > query.after && query.since.is_none_or(|since| e.time >= since))
            .collect();
        let surplus = query
            .last
            .map_or(0, |last| wanted.len().saturating_sub(last));
        wanted.into_iter().skip(surplus).cloned().collect()
    }

    pub fn last(&self) -> Option<Arc<Event>> {
        self.lock().events.back().cloned()
    }

    /// The beginnings of operations of the last process that have no end.
    pub fn unfinished(&self) -> Vec<Arc<Event>> {
        let state = self.lock();
        let Some(pid) = state.events.back().map(|e| e.pid) else {
            return Vec::new();
        };
        let ended = |id: u64| {
            let of = |e: &&Arc<Event>| e.operation == id && e.note.step == Step::Ended;
            state.events.iter().any(|e| of(&e))
        };
        state
            .events
            .iter()
            .filter(|e| e.pid == pid && e.note.step == Step::Began && !ended(e.operation))
            .cloned()
            .collect()
    }

    /// The id of the latest event, for those who wait for the next one.
    pub fn latest(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// Waits until all events are written, at most `limit`.
    pub fn flush(&self, limit: Duration) {
        let (done, wait) = sync_channel(1);
        let sent = match &self.lock().writer {
            Some(writer) => writer.queue.try_send(ToWriter::Flush(done)).is_ok(),
            None => false,
        };
        if sent {
            // Too late, or the writer has ended: the log has said what there was to say.
            let _ = wait.recv_timeout(limit);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The id of the first event of the operation.
    fn first_of(&mut self, operation: Option<(Origin, u64)>, id: u64) -> u64 {
        let Some((origin, number)) = operation else {
            return id;
        };
        let known = self
            .operations
            .iter()
            .find(|(o, n, _)| (*o, *n) == (origin, number));
        if let Some((_, _, first)) = known {
            return *first;
        }
        self.operations.push_back((origin, number, id));
        if self.operations.len() > OPERATIONS {
            self.operations.pop_front();
        }
        id
    }

    fn is_repeated(&mut self, note: &Note) -> bool {
        self.refused.retain(|(_, at)| at.elapsed() < REFUSED_AGAIN);
        let note = Note {
            cause: without_port(&note.cause).to_owned(),
            ..note.clone()
        };
        if self.refused.iter().any(|(known, _)| *known == note) {
            return true;
        }
        self.refused.push_back((note, Instant::now()));
        if self.refused.len() > OPERATIONS {
            self.refused.pop_front();
        }
        false
    }

    /// Whether the writer has just fallen behind.
    fn hand_to_writer(&mut self, event: &Arc<Event>) -> bool {
        let Some(writer) = &mut self.writer else {
            return false;
        };
        let was_behind = writer.behind;
        writer.behind = matches!(
            writer.queue.try_send(ToWriter::Event(Arc::clone(event))),
            Err(TrySendError::Full(_))
        );
        writer.behind && !was_behind
    }
}

fn write(mut journal: Journal, queue: &Receiver<ToWriter>) {
    let mut failing = false;
    while let Ok(message) = queue.recv() {
        let event = match message {
            ToWriter::Event(event) => event,
            ToWriter::Flush(done) => {
                // Nobody waits any more.
                let _ = done.send(());
                continue;
            }
        };
        match journal.append(&event) {
            Ok(()) if failing => {
                failing = false;
                Reporter::new("main").log("events are written to their file again");
            }
            Ok(()) => {}
            Err(error) if !failing => {
                failing = true;
                Reporter::new("main").emit(
                    Severity::Warning,
                    format_args!(
                        "failed to write events to \"{}\"",
                        journal.path().display()
                    ),
                    &format!(
                        "{}; they are in memory, and all else goes on",
                        errors::message(&error)
                    ),
                    "make room on the disk, or give the directory to the account that pgpool runs as; the next event writes those that are missing",
                );
            }
            Err(_) => {}
        }
    }
}

/// In the log: what begins, what ends and what comes to nothing. Hooks have lines of their own there,
/// and a refusal has one where it is made.
fn say(event: &Event) {
    let note = &event.note;
    if matches!(note.step, Step::Began | Step::Ended | Step::Waits) {
        Reporter::new("main").emit(
            Severity::Log,
            format_args!("event {}: {}", event.id, text::sentence(note)),
            &text::why(note),
            "",
        );
    }
}

/// Nothing was done, and nothing will be if it is asked for again.
fn is_in_vain(note: &Note) -> bool {
    note.step == Step::Refused || (note.step == Step::Dropped && note.result == ALREADY_ATTACHED)
}

/// A tool comes from another port each time.
fn without_port(cause: &str) -> &str {
    match cause.rsplit_once(':') {
        Some((before, port)) if port.parse::<u16>().is_ok() => before,
        _ => cause,
    }
}

fn shorten(note: &mut Note) {
    let mut texts = vec![
        &mut note.cause,
        &mut note.evidence,
        &mut note.rule,
        &mut note.result,
    ];
    if let Some(hook) = &mut note.hook {
        let HookRun {
            name,
            command,
            error,
            output,
            ..
        } = hook;
        texts.extend([name, command, error, output]);
    }
    for text in texts {
        if text.len() > LONGEST_TEXT {
            let end = (0..=LONGEST_TEXT)
                .rev()
                .find(|&at| text.is_char_boundary(at));
            text.truncate(end.unwrap_or(0));
            text.push('…');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Kind;

    const ENOUGH: Duration = Duration::from_secs(20);

    fn reload() -> Note {
        Note::new(Kind::Reload, Step::Ended)
    }

    fn ids(history: &History, query: Query) -> Vec<u64> {
        history.events(query).iter().map(|e| e.id).collect()
    }

    #[test]
    fn numbers_go_on_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let reporter = Reporter::new("main");
        for expected in [1, 3, 5] {
            let history = History::load(dir.path(), 1, &reporter);
            history.start_writer(Journal::new(dir.path(), 1)).unwrap();
            assert_eq!(history.record(None, reload()), Some(expected));
            assert_eq!(history.record(None, reload()), Some(expected + 1));
            history.flush(ENOUGH);
        }
        let history = History::load(dir.path(), 1, &reporter);
        assert_eq!(ids(&history, Query::default()), [1, 2, 3, 4, 5, 6]);
        assert_eq!(*history.latest().borrow(), 6);
    }

    #[test]
    fn events_of_an_operation_name_its_first_one() {
        let history = History::default();
        let in_operation = |number| Some((Origin::Failover, number));
        history.record(None, reload());
        history.record(
            in_operation(1),
            Note::of_node(Kind::Failover, Step::Began, 0),
        );
        history.record(
            Some((Origin::Recovery, 1)),
            Note::new(Kind::Recovery, Step::Began),
        );
        history.record(
            in_operation(1),
            Note::of_node(Kind::Failover, Step::Ended, 0),
        );
        let first: Vec<u64> = history
            .events(Query::default())
            .iter()
            .map(|e| e.operation)
            .collect();
        assert_eq!(first, [1, 2, 3, 2]);
    }

    #[test]
    fn a_query_cuts_by_number_time_and_count() {
        let history = History::default();
        for _ in 0..5 {
            history.record(None, reload());
        }
        let last = |last| Query {
            last: Some(last),
            ..Query::default()
        };
        assert_eq!(ids(&history, last(2)), [4, 5]);
        assert_eq!(ids(&history, last(0)), [0; 0]);
        let after = Query {
            after: 3,
            ..Query::default()
        };
        assert_eq!(ids(&history, after), [4, 5]);
        let later = Query {
            since: Some(SystemTime::now() + Duration::from_secs(60)),
            ..Query::default()
        };
        assert_eq!(ids(&history, later), [0; 0]);
    }

    #[test]
    fn memory_is_bounded_and_so_is_a_text() {
        let history = History::default();
        let mut note = reload();
        note.hook = Some(HookRun::begins("h", "ä".repeat(LONGEST_TEXT)));
        for _ in 0..KEPT + 10 {
            history.record(None, note.clone());
        }
        let events = history.events(Query::default());
        assert_eq!((events.len(), events[0].id), (KEPT, 11));
        let hook = events[0].note.hook.as_ref().unwrap();
        assert!(hook.command.len() <= LONGEST_TEXT + '…'.len_utf8());
    }

    #[test]
    fn a_refusal_that_hundreds_of_sessions_get_is_kept_once() {
        let history = History::default();
        let refused = |node| Note::of_node(Kind::Failover, Step::Refused, node).with_result("no");
        assert!(history.record(None, refused(1)).is_some());
        for _ in 0..100 {
            assert_eq!(history.record(None, refused(1)), None);
        }
        assert!(history.record(None, refused(2)).is_some());
        assert_eq!(history.events(Query::default()).len(), 2);
    }

    #[test]
    fn a_script_that_attaches_a_node_by_the_clock_does_not_push_the_rest_out() {
        let history = History::default();
        let attach = |port: u16, result: &str| {
            Note::of_node(Kind::Failback, Step::Dropped, 1)
                .with_cause(format!("PCP user \"a\" from 10.0.0.1:{port}"), "")
                .with_result(result)
        };
        assert!(
            history
                .record(None, attach(4001, ALREADY_ATTACHED))
                .is_some()
        );
        assert_eq!(history.record(None, attach(4002, ALREADY_ATTACHED)), None);
        // What was taken and came to nothing is told each time.
        for port in [4003, 4004] {
            assert!(history.record(None, attach(port, "for a reason")).is_some());
        }
        let other = Note {
            cause: "PCP user \"b\" from 10.0.0.1:4005".to_owned(),
            ..attach(0, ALREADY_ATTACHED)
        };
        assert!(history.record(None, other).is_some());
    }

    #[test]
    fn a_directory_that_cannot_be_written_to_costs_nothing_but_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let history = History::load(&gone, 1, &Reporter::new("main"));
        history.start_writer(Journal::new(&gone, 1)).unwrap();
        for _ in 0..3 {
            history.record(None, reload());
        }
        history.flush(ENOUGH);
        assert_eq!(ids(&history, Query::default()), [1, 2, 3]);
    }
}
