//! The start of the process, its main loop, and its end.
//!
//! Order of the start: configuration, log, pid file check, pool_hba.conf, TLS, pool_passwd, limit of open
//! files, sockets; then the process detaches and writes its pid file; then status file, log
//! collector, data plane, control plane (primary search, PCP), "successfully started".
//! The original binds its sockets after it has detached, and its caller never learns of a port in use.
//! Source: `src/main/main.c`, `src/main/pgpool_main.c @ V4_3_5`.

use std::{
    io,
    sync::{
        Arc, Mutex, OnceLock, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{mpsc, oneshot},
    time,
};

use super::{
    daemon,
    fatal::Fatal,
    limits,
    listen::{self, Listeners, SocketFiles, Wanted},
    log_sink::LogSink,
    notify::Notifier,
    pid_file::{Occupant, PidFile},
    shutdown::{Shutdown, Step, signal_of},
    signals::{Event, Signals},
    wiring::{self, Control},
};
use crate::{
    admin::words,
    auth::{hba::Hba, passwd::PoolPasswd},
    cli::args::Args,
    cluster::{ClusterView, NodeReplication},
    config::{Config, Paths},
    control::{Command, Shared, StopMode, SupervisorMessage},
    dataplane,
    events::{self, History, Kind, Note, Origin},
    observe::{HealthStats, Reporter, Severity},
    sys::{errors, memory, process},
    tls::Tls,
    watchdog::{
        self,
        shell::{self, Order},
        write_lease::WriteLease,
    },
};

/// Backend slots that a configuration can have (`MAX_NUM_BACKENDS`).
const MAX_BACKENDS: usize = 128;
/// How long a fast shutdown waits for sessions that it has cut.
const CUT_TIME: Duration = Duration::from_secs(10);
/// How long an end waits until it is written down what is left of a failover.
const RECORD_TIME: Duration = Duration::from_secs(1);
/// How long the end waits for the commands that give up the virtual IP.
pub(super) const WATCHDOG_TIME: Duration = Duration::from_secs(20);
/// How long the end waits for the file of events: a dead disk must not hold it up.
const EVENTS_TIME: Duration = Duration::from_secs(2);

/// Runs `pgpool` until it is told to stop; returns the exit status.
pub fn run(args: &Args, paths: &Paths, sink: &LogSink) -> u8 {
    if !args.foreground {
        process::close_inherited();
    }
    let reporter = Reporter::new("main");
    let mut left_over = None;
    let status = match prepare(paths, sink, &reporter, &mut left_over).and_then(|ready| match ready
    {
        Ready::Refused(status) => Ok(status),
        Ready::Start(prepared) => prepared.start(args, paths, sink).map(|()| 0),
    }) {
        Ok(status) => status,
        Err(fatal) => {
            fatal.report(&Reporter::new("main"));
            if let Some(left_over) = left_over {
                left_over.give_up();
            }
            fatal.exit_code
        }
    };
    sink.flush();
    status
}

enum Ready {
    Start(Box<Prepared>),
    /// Another pgpool runs.
    Refused(u8),
}

/// Everything that can fail is done, and nothing but sockets has been made.
struct Prepared {
    config: Config,
    hba: Result<Hba, String>,
    passwd: PoolPasswd,
    tls: Tls,
    pid_file: PidFile,
    listeners: Listeners,
    notifier: Notifier,
}

/// What a pgpool that was killed may have left on this host: the virtual IP. A watchdog that runs sees to that.
struct LeftOver {
    watchdog: Arc<watchdog::settings::Settings>,
    pid_file: PidFile,
}

impl LeftOver {
    fn of(config: &Config) -> Option<LeftOver> {
        Some(LeftOver {
            watchdog: config.settings.watchdog.clone()?,
            pid_file: wiring::pid_file(config),
        })
    }

    fn give_up(self) {
        let runs = || matches!(self.pid_file.occupant(), Ok(Occupant::Alive(_)));
        shell::give_up_left_over(&self.watchdog, runs);
    }
}

fn prepare(
    paths: &Paths,
    sink: &LogSink,
    reporter: &Reporter,
    left_over: &mut Option<LeftOver>,
) -> Result<Ready, Fatal> {
    let (config, findings) =
        wiring::read_what_can_be(paths, reporter).map_err(|(fatal, read)| {
            *left_over = LeftOver::of(&read);
            fatal
        })?;
    *left_over = LeftOver::of(&config);
    sink.configure(&config.settings, true)?;

    let pid_file = wiring::pid_file(&config);
    match pid_file.occupant()? {
        Occupant::Nobody => {}
        // Both without prefix, as the original writes them.
        Occupant::Alive(pid) => {
            eprintln!("ERROR: pid file found. is another pgpool({pid}) is running?");
            return Ok(Ready::Refused(1));
        }
        Occupant::Dead => {
            eprintln!("NOTICE: pid file found but it seems bogus. Trying to start pgpool anyway...")
        }
    }
    wiring::report_findings(&config, findings, reporter)?;
    let hba = wiring::read_hba(&config, reporter)?;
    let tls = wiring::read_tls(&config, reporter);
    let passwd = wiring::read_passwd(&config, reporter)?;
    limits::raise_open_files(&config.settings, reporter)?;
    let listeners = listen::bind(&Wanted::for_clients(&config), reporter)?;
    listen::probe(&Wanted::for_pcp(&config))?;
    if let Some(settings) = &config.settings.watchdog {
        shell::probe(settings)?;
    }
    Ok(Ready::Start(Box::new(Prepared {
        config,
        hba,
        passwd,
        tls,
        pid_file,
        listeners,
        notifier: Notifier::from_env(),
    })))
}

/// Removes the pid file at every way out.
struct PidFileGuard(PidFile);

impl Drop for PidFileGuard {
    fn drop(&mut self) {
        self.0.remove_own();
    }
}

impl Prepared {
    fn start(self, args: &Args, paths: &Paths, sink: &LogSink) -> Result<(), Fatal> {
        let parent = (!args.foreground).then(daemon::detach).transpose()?;
        // The pid has changed.
        let reporter = Reporter::new("main");
        self.pid_file.write()?;
        let _pid_file = PidFileGuard(self.pid_file);
        // Reported to the caller's terminal, if anything.
        let view = wiring::initial_view(&self.config, args.discard_status);
        take_leave(parent, sink)?;
        sink.start_writer()
            .map_err(|error| cannot("start the log writer", &error))?;
        report_panics();

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| cannot("make a runtime", &error))?;
        let _inside = runtime.enter();
        // Before the planes: a stop signal that comes now must not find the default action.
        let signals = Signals::install().map_err(|error| cannot("handle signals", &error))?;

        let events = wiring::events(&self.config, &reporter);
        let (supervisor, messages) = mpsc::unbounded_channel();
        let shared = share(
            self.config,
            view,
            (self.hba, self.passwd, self.tls),
            supervisor,
            events,
        );
        let Listeners { tcp, unix, files } = self.listeners;
        let dataplane = wiring::start_dataplane(&shared, tcp, unix)
            .map_err(|error| cannot("start the data plane", &error))?;
        *shared
            .dataplane
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(dataplane.clone());
        let control = wiring::spawn_control(Arc::clone(&shared), messages, paths.clone())
            .map_err(|error| cannot("start the control plane", &error))?;

        let main = Main {
            shared,
            dataplane,
            control,
            signals,
            notifier: Arc::new(self.notifier),
            sink: sink.clone(),
            reporter,
            shutdown: Shutdown::default(),
            files,
            watchdog_ends: None,
        };
        runtime.block_on(main.run())
    }
}

/// Lets the caller go: nothing that fails from here on is on his terminal.
fn take_leave(parent: Option<daemon::Parent>, sink: &LogSink) -> Result<(), Fatal> {
    sink.redirect_output()
        .map_err(|error| cannot("redirect output to the log file", &error))?;
    if let Some(parent) = parent {
        daemon::leave_terminal(sink.has_collector())
            .map_err(|error| cannot("leave the terminal", &error))?;
        parent.release();
    }
    Ok(())
}

fn share(
    config: Config,
    view: ClusterView,
    (hba, passwd, tls): (Result<Hba, String>, PoolPasswd, Tls),
    supervisor: mpsc::UnboundedSender<SupervisorMessage>,
    events: History,
) -> Arc<Shared> {
    let nodes = config.settings.backends.len();
    Arc::new(Shared {
        config: ArcSwap::from_pointee(config),
        view: ArcSwap::from_pointee(view),
        replication: ArcSwap::from_pointee(vec![NodeReplication::default(); nodes]),
        health: (0..MAX_BACKENDS)
            .map(|_| Mutex::new(HealthStats::default()))
            .collect(),
        hba: ArcSwap::from_pointee(hba),
        passwd: ArcSwap::from_pointee(passwd),
        tls: ArcSwap::from_pointee(tls),
        write_lease: WriteLease::default(),
        dataplane: RwLock::new(None),
        supervisor,
        watchdog: OnceLock::new(),
        started: AtomicBool::new(false),
        start_time: SystemTime::now(),
        events,
    })
}

struct Main {
    shared: Arc<Shared>,
    dataplane: dataplane::Handle,
    control: Control,
    signals: Signals,
    notifier: Arc<Notifier>,
    sink: LogSink,
    reporter: Reporter,
    shutdown: Shutdown,
    /// Removed after the last session, as in the original.
    files: SocketFiles,
    /// The watchdog was told to end.
    watchdog_ends: Option<oneshot::Receiver<()>>,
}

impl Main {
    async fn run(mut self) -> Result<(), Fatal> {
        let result = self.serve().await;
        if result.is_err() {
            self.dataplane.stop(StopMode::Immediate);
        }
        let watchdog = self.watchdog_ends.take().or_else(|| self.end_watchdog());
        self.watchdog_has_ended(watchdog).await;
        self.control.stop();
        drop(self.files);
        let how = if result.is_ok() {
            "all sessions have ended, or were left behind"
        } else {
            "pgpool could not start"
        };
        record_end(&self.shared.events, events::Step::Ended, String::new(), how);
        self.shared.events.flush(EVENTS_TIME);
        if result.is_ok() {
            self.reporter.log("Pgpool-II system is shutdown");
        }
        // Whoever watches over the service shall see that nobody wanted this end.
        match self
            .shared
            .watchdog
            .get()
            .and_then(|watchdog| watchdog.end())
        {
            Some(reason) => Err(Fatal::new("the watchdog has ended pgpool")
                .detail(reason)
                .hint("start it again when the cause is gone; the log says more")),
            None => result,
        }
    }

    async fn serve(&mut self) -> Result<(), Fatal> {
        loop {
            tokio::select! {
                started = self.control.started() => {
                    started?;
                    let version = wiring::version(&self.shared.config.load());
                    self.shared.started.store(true, Relaxed);
                    self.reporter.log(format_args!(
                        "pgpool-II successfully started. version {}",
                        words::version_text(version)
                    ));
                    self.notifier.ready();
                    memory::release_start_code();
                }
                event = self.signals.next() => match event {
                    Event::Reload => self.reload(),
                    Event::RotateLog => self.sink.rotate(),
                    Event::Stop(mode) => {
                        self.stop(mode).await;
                        return Ok(());
                    }
                },
            }
        }
    }

    /// Reloads in the background: signals are taken meanwhile.
    fn reload(&self) {
        let (reply, answer) = oneshot::channel();
        self.notifier.reloading();
        let command = SupervisorMessage::Asked {
            by: "the signal SIGHUP".to_owned(),
            command: Command::Reload { reply },
        };
        // The supervisor lives as long as the process.
        let _ = self.shared.supervisor.send(command);
        let notifier = Arc::clone(&self.notifier);
        let started = self.shared.has_started();
        tokio::spawn(async move {
            // The supervisor has logged what was wrong.
            let _ = answer.await;
            if started {
                notifier.ready();
            }
        });
    }

    /// Hands the signal on to the `follow_primary_command` that runs; the receiver is told when that
    /// is done, and written down.
    fn end_hooks(&self, mode: StopMode) -> oneshot::Receiver<()> {
        let signal = signal_of(mode);
        let (done, told) = oneshot::channel();
        let command = SupervisorMessage::Command(Command::Stopping { done, signal });
        // The supervisor lives as long as the process.
        let _ = self.shared.supervisor.send(command);
        told
    }

    /// Sessions that are cut have no use of the virtual IP, and clients want the next leader. With a smart
    /// shutdown the sessions go on, and so does their address.
    fn hand_over(&mut self, mode: StopMode) {
        if mode != StopMode::Smart && self.watchdog_ends.is_none() {
            self.watchdog_ends = self.end_watchdog();
        }
    }

    /// Gives up the virtual IP, and tells the other nodes that this one goes. The receiver is told when that
    /// is done.
    fn end_watchdog(&self) -> Option<oneshot::Receiver<()>> {
        let watchdog = self.shared.watchdog.get()?;
        let (done, ended) = oneshot::channel();
        watchdog.send(Order::Stop { done });
        Some(ended)
    }

    async fn watchdog_has_ended(&self, ends: Option<oneshot::Receiver<()>>) {
        let Some(ends) = ends else {
            return;
        };
        if time::timeout(WATCHDOG_TIME, ends).await.is_err() {
            self.reporter.emit(
                Severity::Warning,
                "the virtual IP may still be on this host: its commands do not end",
                "",
                "look whether the address is there (ip addr), and remove it by hand",
            );
        }
    }

    /// Returns when the sessions have ended.
    async fn stop(&mut self, mode: StopMode) {
        self.shutdown.signal(mode);
        self.reporter
            .log(format_args!("shutting down by signal {}", signal_of(mode)));
        self.reporter.log("terminating all child processes");
        record_end(
            &self.shared.events,
            events::Step::Began,
            format!("signal {} ({mode:?} shutdown)", signal_of(mode)),
            "",
        );
        let told = self.end_hooks(mode);
        self.notifier.stopping();
        self.dataplane.stop(mode);
        self.hand_over(mode);
        let mut deadline = deadline(mode);
        let dataplane = self.dataplane.clone();
        let mut stopped = std::pin::pin!(dataplane.stopped());
        loop {
            tokio::select! {
                () = &mut stopped => break,
                () = time::sleep_until(deadline) => {
                    self.reporter.emit(
                        Severity::Warning,
                        "sessions do not end; ending without them",
                        &format!("{} clients are connected", self.dataplane.connected_clients()),
                        "",
                    );
                    break;
                }
                event = self.signals.next() => match event {
                    Event::Stop(mode) => {
                        self.reporter.log(format_args!(
                            "exit handler (signal: {}) called. but exit handler is already in progress",
                            signal_of(mode)
                        ));
                        drop(self.end_hooks(mode));
                        if let Step::Hurry(mode) = self.shutdown.signal(mode) {
                            self.dataplane.stop(mode);
                            self.hand_over(mode);
                            deadline = self::deadline(mode);
                        }
                    }
                    Event::RotateLog => self.sink.rotate(),
                    Event::Reload => {}
                },
            }
        }
        // A supervisor that a disk holds up does not hold up the end.
        let _ = time::timeout(RECORD_TIME, told).await;
    }
}

fn record_end(events: &History, step: events::Step, cause: String, result: &str) {
    let note = Note::new(Kind::Stop, step)
        .with_cause(cause, "")
        .with_result(result);
    events.record(Some((Origin::Process, 0)), note);
}

/// A smart shutdown waits as long as its clients stay.
fn deadline(mode: StopMode) -> time::Instant {
    let now = time::Instant::now();
    match mode {
        StopMode::Smart => now + Duration::from_secs(60 * 60 * 24 * 365 * 10),
        StopMode::Fast | StopMode::Immediate => now + CUT_TIME,
    }
}

fn cannot(what: &str, error: &io::Error) -> Fatal {
    Fatal::new(format!("could not {what}")).detail(errors::message(error))
}

/// A panic is told in the log, with its place; what it ends is decided by whoever catches it.
fn report_panics() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let place = info
            .location()
            .map(|place| format!("{}:{}", place.file(), place.line()))
            .unwrap_or_default();
        let payload = info.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Reporter::new("main").emit(
            Severity::Panic,
            format_args!("internal error: {text}"),
            &format!(
                "at {place} in thread \"{}\"",
                std::thread::current().name().unwrap_or("?")
            ),
            "This is a defect of pgpool-rs; please report it with the lines before.",
        );
        // The process may be about to abort, and panics are rare.
        if let Some(sink) = LogSink::global() {
            sink.flush();
        }
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            told(info);
        }
    }));
}
