//! `pgpool events`: prints the history, from the running pgpool, or from its file when none runs.

use std::{
    io::{self, Write},
    thread,
    time::{Duration, Instant, SystemTime},
};

use chrono::{DateTime, Local, SecondsFormat};

use super::{args::EventsArgs, since};
use crate::{
    config::Config,
    events::{Event, Kind, Step, journal, text},
    local::{
        self,
        client::{self, NoAnswer},
        protocol::{Line, Question},
    },
    process::{fatal::Fatal, wiring},
    sys::{errors, process},
};

/// How long a pgpool that ends may take to write its last event; one that was killed writes none.
const END_TIME: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Prints on standard output; notices and errors go to standard error. The exit status: 0 when the
/// history was printed, also when it is empty, else 1.
///
/// # Errors
///
/// A time that cannot be read.
pub fn run(config: &Config, args: &EventsArgs) -> Result<u8, Fatal> {
    let since = match &args.since {
        None => None,
        Some(text) => Some(since::parse(text, SystemTime::now()).ok_or_else(|| {
            Fatal::new(format!("{text:?} is no time"))
                .hint(format!("--since takes {}", since::FORMS))
                .exit_code(1)
        })?),
    };
    let work_dir = &config.settings.work_dir;
    let path = local::path(work_dir, config.settings.port);
    let question = Question::Events {
        last: args.last,
        since: since
            .map(|at| DateTime::<Local>::from(at).to_rfc3339_opts(SecondsFormat::Millis, false)),
        after: 0,
        follow: args.follow,
    };
    let mut out = io::stdout().lock();
    let mut seen = 0;
    let printed = client::ask(&path, question, |line| match line {
        Line::Event(event) => {
            seen = event.id;
            print(&event, args.json, &mut out).and_then(|()| out.flush())
        }
        _ => Ok(()),
    });
    let why = match printed {
        Ok(()) => {
            if args.follow {
                print_end(config, args.json, seen, &mut out);
                eprintln!("pgpool has ended");
            }
            return Ok(0);
        }
        // Whoever has closed the pipe has seen enough.
        Err(NoAnswer::Stopped(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
        Err(why) => why,
    };
    eprintln!("{}", reason(&why, config));
    if args.follow || !matches!(why, NoAnswer::NobodyRuns | NoAnswer::Silent(_)) {
        return Ok(1);
    }
    from_file(config, args, since, &mut out)
}

/// The last events of a pgpool come when its socket is closed already; they are in the file.
fn print_end(config: &Config, json: bool, mut seen: u64, out: &mut impl Write) {
    let (work_dir, port) = (&config.settings.work_dir, config.settings.port);
    let limit = Instant::now() + END_TIME;
    loop {
        // The file has been told about by the running pgpool, if it is not to be had.
        let events = journal::read(work_dir, port, usize::MAX).unwrap_or_default();
        let mut ended = false;
        for event in events.iter().filter(|event| event.id > seen) {
            if print(event, json, out).is_err() {
                return;
            }
            ended |= (event.note.kind, event.note.step) == (Kind::Stop, Step::Ended);
        }
        seen = events.last().map_or(seen, |event| event.id.max(seen));
        if ended || Instant::now() >= limit {
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn from_file(
    config: &Config,
    args: &EventsArgs,
    since: Option<SystemTime>,
    out: &mut impl Write,
) -> Result<u8, Fatal> {
    let (work_dir, port) = (&config.settings.work_dir, config.settings.port);
    let path = journal::path(work_dir, port);
    let events = journal::read(work_dir, port, usize::MAX).map_err(|error| {
        Fatal::new(format!("cannot read \"{}\"", path.display()))
            .detail(errors::message(&error))
            .hint("run it as the account that pgpool runs as, or as root")
            .exit_code(1)
    })?;
    eprintln!("from the file \"{}\"", path.display());
    let wanted: Vec<&Event> = events
        .iter()
        .filter(|event| since.is_none_or(|since| event.time >= since))
        .collect();
    let surplus = args
        .last
        .map_or(0, |last| wanted.len().saturating_sub(last));
    for event in wanted.into_iter().skip(surplus) {
        if print(event, args.json, out).is_err() {
            break;
        }
    }
    // Nobody reads any more.
    let _ = out.flush();
    Ok(0)
}

fn print(event: &Event, json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        let line = serde_json::to_string(event).map_err(io::Error::other)?;
        return writeln!(out, "{line}");
    }
    text::lines(event)
        .iter()
        .try_for_each(|line| writeln!(out, "{line}"))
}

/// Why there was no answer, for an operator.
pub fn reason(why: &NoAnswer, config: &Config) -> String {
    let path = local::path(&config.settings.work_dir, config.settings.port);
    let path = path.display();
    match why {
        NoAnswer::NobodyRuns => match running(config) {
            Some(pid) => format!(
                "pgpool runs (pid {pid}) but has no socket at \"{path}\": its log says why, or it was started with another port or logdir"
            ),
            None => format!("no pgpool runs that has its socket at \"{path}\""),
        },
        NoAnswer::NotAllowed => format!(
            "\"{path}\" belongs to another account: run this as the account that pgpool runs as, or as root"
        ),
        NoAnswer::Silent(why) => format!("pgpool does not answer at \"{path}\": {why}"),
        NoAnswer::Stranger => format!("what answers at \"{path}\" is no pgpool of ours"),
        NoAnswer::Refused { message, hint } if hint.is_empty() => message.clone(),
        NoAnswer::Refused { message, hint } => format!("{message}\n{hint}"),
        NoAnswer::Stopped(error) => format!("cannot print: {}", errors::message(error)),
    }
}

fn running(config: &Config) -> Option<process::Pid> {
    let pid = wiring::pid_file(config).read().ok().flatten()?;
    process::is_alive(pid).then_some(pid)
}
