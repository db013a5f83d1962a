//! Where the parts of the program meet the life of the process: one adapter function per part.
//!
//! [`super::start`] calls nothing else of configuration, authentication, control and data plane.

use std::{fs, io, net::TcpListener, os::unix::net::UnixListener, path::Path, sync::Arc, thread};

use tokio::sync::{mpsc, oneshot};

use super::{fatal::Fatal, log_sink::LogSink, pid_file::PidFile, signals};
use crate::{
    admin::words,
    auth::{
        hba::{Hba, HbaError},
        passwd::{self, PasswdError, PoolPasswd},
    },
    cli::version,
    cluster::ClusterView,
    config::{
        Config, Finding, FindingSeverity, LoadMode, Paths, Place, Value, not_built,
        settings::CompatVersion,
    },
    control::{self, Shared, SupervisorMessage, reload::Reloaded, supervisor},
    dataplane,
    events::{History, journal::Journal},
    local,
    observe::{Reporter, Severity},
    pcp,
    sys::errors,
    tls::{Passphrase, Tls},
    watchdog,
};

/// Reads the configuration. `stop` and `reload` only look at a few of its values; a start goes on
/// with [`report_findings`] when the log is where the configuration wants it.
pub fn read_config(paths: &Paths, reporter: &Reporter) -> Result<(Config, Vec<Finding>), Fatal> {
    read_what_can_be(paths, reporter).map_err(|(fatal, _)| fatal)
}

/// The same for a start: with an error comes what could be read of a configuration that cannot be used.
pub fn read_what_can_be(
    paths: &Paths,
    reporter: &Reporter,
) -> Result<(Config, Vec<Finding>), (Fatal, Box<Config>)> {
    Config::load(paths, LoadMode::Start).map_err(|error| {
        tell(&error.findings, reporter);
        let fatal = refuse_errors(&error.findings)
            .err()
            .unwrap_or_else(|| Fatal::new("the configuration cannot be used"));
        (fatal, error.read)
    })
}

/// Findings go to the log, all of them, and so does what has no effect yet. What would be
/// dangerous to ignore refuses the start.
pub fn report_findings(
    config: &Config,
    findings: Vec<Finding>,
    reporter: &Reporter,
) -> Result<(), Fatal> {
    tell(&findings, reporter);
    refuse_errors(&findings)?;
    let mut not_built = not_built(config);
    tell(&not_built, reporter);
    // Texts of our own: nobody searches for them, so the place comes first, as in `--check`.
    for finding in &mut not_built {
        finding.text = format!("{}: {}", finding.place, finding.text);
    }
    refuse_errors(&not_built)
}

fn tell(findings: &[Finding], reporter: &Reporter) {
    for finding in findings.iter().filter(|f| !f.is_error()) {
        reporter.emit(
            log_severity(finding.severity),
            format_args!("{}: {}", finding.place, finding.text),
            &finding.detail,
            &finding.remedy,
        );
    }
}

fn log_severity(severity: FindingSeverity) -> Severity {
    match severity {
        FindingSeverity::Info => Severity::Info,
        FindingSeverity::Warning => Severity::Warning,
        FindingSeverity::Error => Severity::Fatal,
    }
}

/// One FATAL per error: an operator mends all of them at once. The last one ends the program.
fn refuse_errors(findings: &[Finding]) -> Result<(), Fatal> {
    let mut errors = findings.iter().filter(|f| f.is_error()).map(|finding| {
        // The original's words first: that is what people search for.
        let place = with_its_line(&finding.place);
        let detail = if finding.detail.is_empty() {
            place
        } else {
            format!("{} at {place}", finding.detail)
        };
        Fatal::new(&finding.text)
            .detail(detail)
            .hint(&finding.remedy)
    });
    let Some(last) = errors.next_back() else {
        return Ok(());
    };
    let reporter = Reporter::new("main");
    errors.for_each(|error| error.report(&reporter));
    Err(last)
}

/// `path:line:column: the line`, so that nobody has to open the file to see what is meant.
fn with_its_line(place: &Place) -> String {
    let line = usize::try_from(place.line)
        .ok()
        .and_then(|number| number.checked_sub(1))
        .and_then(|index| {
            let text = fs::read(&place.path).ok()?;
            let line = text.split(|&b| b == b'\n').nth(index)?;
            Some(String::from_utf8_lossy(line).trim().to_owned())
        })
        .filter(|line| !line.is_empty() && line.len() <= LONGEST_LINE && !holds_a_secret(line));
    match line {
        Some(line) => format!("{place}: {line}"),
        None => place.to_string(),
    }
}

const LONGEST_LINE: usize = 200;

/// Passwords stay in the file that they are in.
fn holds_a_secret(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["password", "passphrase", "authkey"]
        .iter()
        .any(|word| line.contains(word))
}

/// The release to be, for `--version`: works without any configuration.
pub fn version_without_start(paths: &Paths) -> CompatVersion {
    if !paths.config.exists() {
        return version::default();
    }
    Config::load(paths, LoadMode::Check)
        .map_or_else(|_| version::default(), |(config, _)| version(&config))
}

/// The release to be: what `compat_version` says, else that of the file, as `SHOW pool_version` shows
/// it. The tools of this machine have a say in the form of PCP replies only.
pub fn version(config: &Config) -> CompatVersion {
    let own = config.settings.own.compat_version;
    own.unwrap_or_else(|| words::last_of_series(config.dialect))
}

/// `pid_file_name` as it is written: messages show it so.
pub fn pid_file(config: &Config) -> PidFile {
    let name = match config.values.get("pid_file_name", None) {
        Some(Value::Text(name)) if !name.is_empty() => Path::new(name),
        _ => &config.settings.pid_file_name,
    };
    PidFile::new(name, &config.path)
}

/// pool_hba.conf. A bad file refuses all logins and does not stop the start; a method that this
/// release does not have does.
pub fn read_hba(config: &Config, reporter: &Reporter) -> Result<Result<Hba, String>, Fatal> {
    if !config.settings.enable_pool_hba {
        return Ok(Ok(Hba::default()));
    }
    let hba = match Hba::load(&config.hba_path) {
        Ok(hba) => hba,
        Err(errors) => {
            for error in &errors {
                log_hba(reporter, error);
            }
            return Ok(Err(summary(&errors)));
        }
    };
    for warning in hba.warnings() {
        log_hba(reporter, warning);
    }
    if !config.settings.ssl {
        for line in hba.ssl_lines() {
            reporter.emit_with_context(
                Severity::Warning,
                "hostssl record cannot match because SSL is disabled",
                "",
                "Set ssl = on in pgpool.conf",
                &format!(
                    "line {line} of configuration file \"{}\"",
                    config.hba_path.display()
                ),
            );
        }
    }
    match unsupported(&hba, &config.hba_path) {
        None => Ok(Ok(hba)),
        Some(fatal) => Err(fatal),
    }
}

fn unsupported(hba: &Hba, path: &Path) -> Option<Fatal> {
    let (line, method) = *hba.unsupported().first()?;
    let word = method.word();
    Some(
        Fatal::new(format!("invalid authentication method \"{word}\""))
            .detail(format!(
                "{}:{line}: this pgpool was built without the feature \"{word}\"",
                path.display()
            ))
            .hint(format!(
                "Use another method in this line, or a pgpool built with \"--features {word}\"."
            )),
    )
}

fn log_hba(reporter: &Reporter, error: &HbaError) {
    reporter.emit_with_context(
        Severity::Log,
        &error.message,
        "",
        &error.hint,
        &error.context(),
    );
}

fn summary(errors: &[HbaError]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

/// The files of certificates. What is wrong with them stops no start, as in the original.
pub fn read_tls(config: &Config, reporter: &Reporter) -> Tls {
    let (tls, findings) = Tls::load(config, Passphrase::Ask);
    tell(&findings, reporter);
    tls
}

/// pool_passwd and the key of its AES entries. A missing file is made, as by the original.
pub fn read_passwd(config: &Config, reporter: &Reporter) -> Result<PoolPasswd, Fatal> {
    if let Some(path) = &config.pool_passwd_path {
        passwd::create_if_missing(path).map_err(|e| unreadable(&e))?;
    }
    let entries = load_passwd(config).map_err(|e| unreadable(&e))?;
    for warning in entries.warnings() {
        reporter.warning(warning);
    }
    Ok(entries)
}

fn unreadable(error: &PasswdError) -> Fatal {
    Fatal::new(format!(
        "initializing pool password, failed to open file:\"{}\"",
        error.path.display()
    ))
    .detail(format!(
        "file open failed with error:\"{}\"",
        errors::message(&error.source)
    ))
}

fn load_passwd(config: &Config) -> Result<PoolPasswd, PasswdError> {
    PoolPasswd::load(
        config.pool_passwd_path.as_deref(),
        config.pool_key_path.as_deref(),
    )
}

/// Nodes of the configuration, with the statuses of the status file unless that is to be discarded.
pub fn initial_view(config: &Config, discard_status: bool) -> ClusterView {
    supervisor::initial_view(config, discard_status)
}

/// The history of what was done to the cluster, and the thread that goes on with it. What is wrong with
/// its file stops no start.
pub fn events(config: &Config, reporter: &Reporter) -> History {
    let (work_dir, port) = (&config.settings.work_dir, config.settings.port);
    let history = History::load(work_dir, port, reporter);
    if let Err(error) = history.start_writer(Journal::new(work_dir, port)) {
        reporter.emit(
            Severity::Warning,
            "events are kept in memory only",
            &format!("no thread to write them: {}", errors::message(&error)),
            "look at the limits of processes and memory, and restart pgpool",
        );
    }
    history
}

/// Serves clients from now on.
pub fn start_dataplane(
    shared: &Arc<Shared>,
    tcp: Vec<TcpListener>,
    unix: Vec<UnixListener>,
) -> io::Result<dataplane::Handle> {
    let tcp = tcp.into_iter().map(dataplane::Listener::Tcp);
    let unix = unix.into_iter().map(dataplane::Listener::Unix);
    dataplane::start(shared, tcp.chain(unix).collect())
}

/// The control plane's thread: supervisor, checks, PCP.
pub struct Control {
    started: Option<oneshot::Receiver<Result<(), Fatal>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

pub fn spawn_control(
    shared: Arc<Shared>,
    messages: mpsc::UnboundedReceiver<SupervisorMessage>,
    paths: Paths,
) -> io::Result<Control> {
    let (started_sender, started) = oneshot::channel();
    let (stop, stopped) = oneshot::channel();
    let thread = control::runtime::start(move || async move {
        let work = async {
            let started = run_control(Arc::clone(&shared), messages, paths).await;
            let failed = started.is_err();
            if failed {
                // It may lead already, and have the virtual IP.
                end_watchdog(&shared).await;
            }
            // The main thread has gone if it does not listen.
            let _ = started_sender.send(started);
            if failed {
                return;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = work => {}
            _ = stopped => {}
        }
    })?;
    Ok(Control {
        started: Some(started),
        stop: Some(stop),
        thread: Some(thread),
    })
}

/// Until the virtual IP is given up, or for as long as that may take.
async fn end_watchdog(shared: &Shared) {
    if let Some(watchdog) = shared.watchdog.get() {
        let (done, ended) = oneshot::channel();
        watchdog.send(watchdog::shell::Order::Stop { done });
        // What is still there is told by the next start, which finds it.
        let _ = tokio::time::timeout(super::start::WATCHDOG_TIME, ended).await;
    }
}

/// Starts supervisor, primary search and PCP, in this order; returns when all run.
async fn run_control(
    shared: Arc<Shared>,
    messages: mpsc::UnboundedReceiver<SupervisorMessage>,
    paths: Paths,
) -> Result<(), Fatal> {
    let in_force = Arc::clone(&shared);
    let loader = Arc::new(move |current: &Config| reload(current, &paths, &in_force.tls.load()));
    let watchdog = watchdog::shell::prepare(&shared).await?;
    let (stop_sender, mut stop_wishes) = mpsc::unbounded_channel();
    let (mut supervisor, search_done) =
        supervisor::Supervisor::new(Arc::clone(&shared), messages, loader, stop_sender);
    serve_events(&shared);
    if let Some(watchdog) = watchdog {
        supervisor = supervisor.with_watchdog(watchdog.near());
        let backends = supervisor.backend_status();
        drop(tokio::task::spawn_local(watchdog.run(backends)));
    }
    drop(tokio::task::spawn_local(supervisor.run()));
    drop(tokio::task::spawn_local(async move {
        while let Some(mode) = stop_wishes.recv().await {
            signals::request_stop(mode);
        }
    }));
    let tools = pcp::compat_version::installed_tools().await;
    // Ended without an answer, it has panicked, and the process is about to abort.
    let _ = search_done.await;
    let config = shared.config.load_full();
    let listeners = pcp::bind(&config).await?;
    let context = pcp::ServerContext {
        tools,
        log_rotation: LogSink::global()
            .filter(|sink| sink.has_collector())
            .map(|sink| Arc::new(sink.clone()) as Arc<dyn pcp::LogRotation>),
    };
    drop(tokio::task::spawn_local(pcp::serve(
        listeners, shared, context,
    )));
    Ok(())
}

/// From the beginning, since the search for the primary may take minutes. Without the socket all else
/// goes on.
fn serve_events(shared: &Arc<Shared>) {
    let settings = &shared.config.load().settings;
    match local::listen::bind(&local::path(&settings.work_dir, settings.port)) {
        Ok(listener) => drop(tokio::task::spawn_local(local::serve::serve(
            listener,
            Arc::clone(shared),
        ))),
        Err(local::listen::NoSocket { path, detail, hint }) => Reporter::new("main").emit(
            Severity::Warning,
            format_args!(
                "\"pgpool events\" and \"pgpool --what-if\" cannot ask this pgpool: no socket at \"{}\"",
                path.display()
            ),
            &detail,
            hint,
        ),
    }
}

impl pcp::LogRotation for LogSink {
    fn rotate(&self) -> Result<(), String> {
        LogSink::rotate(self);
        Ok(())
    }
}

/// Reads everything again that a reload applies. Runs on a thread that may block.
fn reload(current: &Config, paths: &Paths, tls: &Tls) -> Reloaded {
    let reporter = Reporter::new("main");
    let (config, mut findings) = current.reload(paths);
    // What the first start has told already is not told again.
    let known = not_built(current);
    findings.extend(
        not_built(&config)
            .into_iter()
            .filter(|f| !known.contains(f)),
    );
    let (tls, about_tls) = tls.renewed(&config);
    findings.extend(about_tls);
    let mut log: Vec<(Severity, String)> = findings
        .iter()
        .map(|f| {
            // An error of a reload keeps the running value: a WARNING, as by the original.
            let severity = log_severity(f.severity).min(Severity::Warning);
            (severity, f.to_string())
        })
        .collect();
    let hba = config
        .settings
        .enable_pool_hba
        .then(|| match Hba::load(&config.hba_path) {
            Err(errors) => {
                errors.iter().for_each(|e| log_hba(&reporter, e));
                log.push((
                    Severity::Warning,
                    "pool_hba.conf is not used because of its errors; the rules in use stay".into(),
                ));
                None
            }
            Ok(hba) => match unsupported(&hba, &config.hba_path) {
                None => Some(Ok(hba)),
                Some(fatal) => {
                    log.push((
                        Severity::Warning,
                        format!("{}: {}; the rules in use stay", fatal.detail, fatal.message),
                    ));
                    None
                }
            },
        })
        .flatten();
    let passwd = match load_passwd(&config) {
        Ok(entries) => {
            log.extend(
                entries
                    .warnings()
                    .iter()
                    .map(|w| (Severity::Warning, w.clone())),
            );
            Some(entries)
        }
        Err(error) => {
            log.push((
                Severity::Warning,
                format!("{error}; the entries in use stay"),
            ));
            None
        }
    };
    if let Some(sink) = LogSink::global() {
        sink.reconfigure(&config.settings);
    }
    Reloaded {
        config: Some(config),
        hba,
        passwd,
        tls: Some(tls),
        findings: log,
    }
}

impl Control {
    /// The primary has been searched and PCP answers. Waits for ever when called again.
    pub async fn started(&mut self) -> Result<(), Fatal> {
        let Some(started) = &mut self.started else {
            return std::future::pending().await;
        };
        let result = started.await;
        self.started = None;
        result.unwrap_or_else(|_| Err(Fatal::new("the control plane has ended during the start")))
    }

    /// Ends checks and PCP. A hook that runs goes on by itself.
    pub fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread has ended by itself if it does not listen.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_line_unless_that_holds_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpool.conf");
        fs::write(&path, "port = 1\nssl = on  # no\nsr_check_password = 'x\n").unwrap();
        let at = |line| with_its_line(&Place::new(&path, line, 1));
        let path = path.display();
        assert_eq!(at(2), format!("{path}:2:1: ssl = on  # no"));
        assert_eq!(at(3), format!("{path}:3:1"));
        assert_eq!(at(9), format!("{path}:9:1"));
        assert_eq!(at(0), format!("{path}"));
    }
}
