//! Where the parts of the program meet the life of the process: one adapter function per part.
//!
//! [`super::start`] calls nothing else of configuration, authentication, control and data plane.

use std::{io, net::TcpListener, os::unix::net::UnixListener, path::Path, sync::Arc, thread};

use tokio::sync::{mpsc, oneshot};

use super::{fatal::Fatal, log_sink::LogSink, pid_file::PidFile, signals};
use crate::{
    auth::{
        hba::{Hba, HbaError},
        passwd::{self, PasswdError, PoolPasswd},
    },
    cli::{check, version},
    cluster::ClusterView,
    config::{
        Config, Finding, FindingSeverity, LoadMode, Paths, Value, not_built,
        settings::CompatVersion,
    },
    control::{Reloaded, Shared, Supervisor, SupervisorMessage, runtime, supervisor},
    dataplane,
    observe::{Reporter, Severity},
    pcp::{self, LogRotation, ServerContext, compat_version},
    sys::errors,
};

/// Reads the configuration. Errors in it are logged, the last one ends the program.
pub fn load_config(paths: &Paths, reporter: &Reporter) -> Result<(Config, Vec<Finding>), Fatal> {
    Config::load(paths, LoadMode::Start).map_err(|error| {
        let mut errors: Vec<Finding> = error
            .findings
            .into_iter()
            .filter(Finding::is_error)
            .collect();
        let last = errors.pop();
        for finding in &errors {
            emit(finding, Severity::Error, reporter);
        }
        last.map_or_else(|| Fatal::new("invalid configuration"), |last| fatal(&last))
    })
}

/// What is odd in a configuration that has been read goes to the log, and so does what has no
/// effect yet; what would be dangerous to ignore refuses the start.
pub fn report_findings(
    config: &Config,
    findings: &[Finding],
    reporter: &Reporter,
) -> Result<(), Fatal> {
    for finding in findings {
        let severity = match finding.severity {
            FindingSeverity::Info => Severity::Log,
            FindingSeverity::Warning | FindingSeverity::Error => Severity::Warning,
        };
        emit(finding, severity, reporter);
    }
    let mut refusals = Vec::new();
    for finding in not_built(config) {
        if finding.is_error() {
            refusals.push(finding);
        } else {
            emit(&finding, Severity::Warning, reporter);
        }
    }
    let Some(last) = refusals.pop() else {
        return Ok(());
    };
    for finding in &refusals {
        emit(finding, Severity::Error, reporter);
    }
    Err(fatal(&last))
}

/// `pgpool --check`: prints the findings; the exit status.
pub fn run_check(paths: &Paths) -> u8 {
    u8::try_from(check::check(paths, &mut io::stdout().lock())).unwrap_or(1)
}

/// The release to be, for `--version`: works without any configuration.
pub fn version_without_start(paths: &Paths) -> CompatVersion {
    let tools = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()
        .and_then(|runtime| runtime.block_on(compat_version::installed_tools()));
    let config = paths
        .config
        .exists()
        .then(|| Config::load(paths, LoadMode::Check).ok())
        .flatten();
    match config {
        Some((config, _)) => compat_version::effective(&config, tools),
        None => tools.unwrap_or_else(version::default),
    }
}

/// `pid_file_name` as it is written, for the messages.
pub fn pid_file(config: &Config) -> PidFile {
    let name = match config.values.get("pid_file_name", None) {
        Some(Value::Text(name)) if !name.is_empty() => Path::new(name),
        _ => &config.settings.pid_file_name,
    };
    PidFile::new(name, &config.path)
}

/// pool_hba.conf. A bad file refuses all logins and does not stop the start, as in the original;
/// a method that is not there yet does.
pub fn read_hba(config: &Config, reporter: &Reporter) -> Result<Result<Hba, String>, Fatal> {
    if !config.settings.enable_pool_hba {
        return Ok(Ok(Hba::default()));
    }
    let hba = match Hba::load(&config.hba_path) {
        Ok(hba) => hba,
        Err(errors) => {
            for error in &errors {
                emit_hba(error, Severity::Log, reporter);
            }
            return Ok(Err(all(&errors)));
        }
    };
    for warning in hba.warnings() {
        emit_hba(warning, Severity::Log, reporter);
    }
    if !config.settings.ssl {
        for line in hba.ssl_lines() {
            reporter.emit_with_context(
                Severity::Warning,
                "hostssl record cannot match because SSL is disabled",
                "",
                "set ssl = on",
                &hba_line(&config.hba_path, line),
            );
        }
    }
    match hba.unsupported().first() {
        None => Ok(Ok(hba)),
        Some((line, method)) => Err(Fatal::new(format!(
            "authentication method \"{}\" is not supported yet",
            method.word()
        ))
        .detail("clients of this line could not be checked")
        .hint("use scram-sha-256 or md5 in this line, or stay with the original")
        .context(hba_line(&config.hba_path, *line))),
    }
}

/// pool_passwd, made if it is missing, and the key of its AES entries.
pub fn read_passwd(config: &Config, reporter: &Reporter) -> Result<PoolPasswd, Fatal> {
    let refused = |error: PasswdError| {
        Fatal::new(format!(
            "initializing pool password, failed to open file:\"{}\"",
            error.path.display()
        ))
        .detail(format!(
            "file open failed with error:\"{}\"",
            errors::message(&error.source)
        ))
    };
    let path = config.pool_passwd_path.as_deref();
    if let Some(path) = path {
        passwd::create_if_missing(path).map_err(refused)?;
    }
    let passwd = PoolPasswd::load(path, config.pool_key_path.as_deref()).map_err(refused)?;
    for warning in passwd.warnings() {
        reporter.warning(warning);
    }
    Ok(passwd)
}

/// Nodes of the configuration, with the statuses of the status file unless that is to be discarded.
pub fn initial_view(config: &Config, discard_status: bool) -> ClusterView {
    supervisor::initial_view(config, discard_status)
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
    started: Option<oneshot::Receiver<Result<CompatVersion, Fatal>>>,
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

pub fn spawn_control(
    shared: Arc<Shared>,
    messages: mpsc::UnboundedReceiver<SupervisorMessage>,
    paths: Paths,
    sink: LogSink,
) -> io::Result<Control> {
    let (started_sender, started) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = runtime::start(move || async move {
        let result = start_control(shared, messages, paths, sink).await;
        // The process ends during its start.
        let _ = started_sender.send(result);
        let _ = stopped.await;
    })?;
    Ok(Control {
        started: Some(started),
        stop: Some(stop),
        thread: Some(thread),
    })
}

async fn start_control(
    shared: Arc<Shared>,
    messages: mpsc::UnboundedReceiver<SupervisorMessage>,
    paths: Paths,
    sink: LogSink,
) -> Result<CompatVersion, Fatal> {
    let (stop, mut stop_requests) = mpsc::unbounded_channel();
    let loader_sink = sink.clone();
    let loader = move |current: &Config| reload(current, &paths, &loader_sink);
    let (supervisor, search_done) =
        Supervisor::new(Arc::clone(&shared), messages, Arc::new(loader), stop);
    tokio::task::spawn_local(supervisor.run());
    tokio::task::spawn_local(async move {
        while let Some(mode) = stop_requests.recv().await {
            signals::request_stop(mode);
        }
    });
    let tools = compat_version::installed_tools().await;
    search_done
        .await
        .map_err(|_| Fatal::new("the supervisor has ended during the start"))?;

    let config = shared.config.load_full();
    let listeners = pcp::bind(&config)
        .await
        .map_err(|error| Fatal::new(error.message).detail(error.detail))?;
    let log_rotation = config
        .settings
        .logging_collector
        .then(|| Arc::new(Rotation(sink)) as Arc<dyn LogRotation>);
    let context = ServerContext {
        tools,
        log_rotation,
    };
    tokio::task::spawn_local(pcp::serve(listeners, shared, context));
    Ok(compat_version::effective(&config, tools))
}

impl Control {
    /// The primary has been searched and PCP answers. Waits for ever when called again.
    pub async fn started(&mut self) -> Result<CompatVersion, Fatal> {
        let Some(started) = &mut self.started else {
            return std::future::pending().await;
        };
        let result = started.await;
        self.started = None;
        result.unwrap_or_else(|_| Err(Fatal::new("the control plane has ended during the start")))
    }

    /// Ends checks, hooks and PCP.
    pub fn stop(mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has aborted the process.
            let _ = thread.join();
        }
    }
}

struct Rotation(LogSink);

impl LogRotation for Rotation {
    fn rotate(&self) -> Result<(), String> {
        self.0.rotate();
        Ok(())
    }
}

/// Reads everything again, on a thread that may block; the log changes at once.
fn reload(current: &Config, paths: &Paths, sink: &LogSink) -> Reloaded {
    let (config, found) = current.reload(paths);
    let known = not_built(current);
    let new = not_built(&config)
        .into_iter()
        .filter(|finding| !known.contains(finding));
    let mut findings: Vec<(Severity, String)> = found
        .into_iter()
        .chain(new)
        .map(|finding| {
            let severity = match finding.severity {
                FindingSeverity::Info => Severity::Log,
                FindingSeverity::Warning | FindingSeverity::Error => Severity::Warning,
            };
            (severity, plain(&finding))
        })
        .collect();
    let hba = reload_hba(&config, &mut findings);
    let passwd = match PoolPasswd::load(
        config.pool_passwd_path.as_deref(),
        config.pool_key_path.as_deref(),
    ) {
        Ok(passwd) => {
            let warnings = passwd.warnings().iter();
            findings.extend(warnings.map(|text| (Severity::Warning, text.clone())));
            Some(passwd)
        }
        Err(error) => {
            findings.push((Severity::Warning, error.to_string()));
            None
        }
    };
    sink.reconfigure(&config.settings);
    Reloaded {
        config: Some(config),
        hba,
        passwd,
        findings,
    }
}

/// A bad file leaves the old rules in force.
fn reload_hba(
    config: &Config,
    findings: &mut Vec<(Severity, String)>,
) -> Option<Result<Hba, String>> {
    if !config.settings.enable_pool_hba {
        return None;
    }
    match Hba::load(&config.hba_path) {
        Ok(hba) => match hba.unsupported().first() {
            None => Some(Ok(hba)),
            Some((line, method)) => {
                findings.push((
                    Severity::Warning,
                    format!(
                        "{}:{line}: authentication method \"{}\" is not supported yet; \
                         the old rules stay",
                        config.hba_path.display(),
                        method.word()
                    ),
                ));
                None
            }
        },
        Err(errors) => {
            findings.extend(
                errors
                    .iter()
                    .map(|error| (Severity::Log, error.to_string())),
            );
            findings.push((
                Severity::Warning,
                "pool_hba.conf has errors; the old rules stay".to_owned(),
            ));
            None
        }
    }
}

fn fatal(finding: &Finding) -> Fatal {
    Fatal::new(&finding.text)
        .detail(&finding.detail)
        .hint(&finding.remedy)
        .context(finding.place.to_string())
}

fn emit(finding: &Finding, severity: Severity, reporter: &Reporter) {
    reporter.emit_with_context(
        severity,
        &finding.text,
        &finding.detail,
        &finding.remedy,
        &finding.place.to_string(),
    );
}

fn plain(finding: &Finding) -> String {
    let mut text = format!("{}: {}", finding.place, finding.text);
    for (before, more, after) in [(": ", &finding.detail, ""), (" (", &finding.remedy, ")")] {
        if !more.is_empty() {
            text.push_str(before);
            text.push_str(more);
            text.push_str(after);
        }
    }
    text
}

fn emit_hba(error: &HbaError, severity: Severity, reporter: &Reporter) {
    reporter.emit_with_context(severity, &error.message, "", &error.hint, &error.context());
}

fn all(errors: &[HbaError]) -> String {
    let texts: Vec<String> = errors.iter().map(HbaError::to_string).collect();
    texts.join("; ")
}

fn hba_line(path: &Path, line: u32) -> String {
    format!("line {line} of configuration file \"{}\"", path.display())
}
