//! `pgpool -n` without the refusal of modes that are not there yet, for tests of what is: the
//! second stage of online recovery runs in the replication modes only. Every part is that of
//! the program; sessions write to the main node alone, which is why the program refuses.
//!
//! `-f`, `-F` and `-a` as there, HUP reloads, any other end is an immediate one. Never installed.

use std::{
    process::ExitCode,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use pgpool_rs::{
    cli::{args, paths},
    cluster::NodeReplication,
    control::{Command, Shared, StopMode, SupervisorMessage},
    dataplane::MAX_BACKENDS,
    observe::{HealthStats, Reporter},
    process::{
        Fatal,
        listen::{self, Listeners, Wanted},
        log_sink::LogSink,
        signals::{Event, Signals},
        wiring,
    },
};
use tokio::sync::{mpsc, oneshot};

fn main() -> ExitCode {
    let sink = LogSink::install();
    let result = run(&sink);
    let code = result.err().map_or(0, |fatal| {
        fatal.report(&Reporter::new("main"));
        fatal.exit_code
    });
    sink.flush();
    ExitCode::from(code)
}

fn run(sink: &LogSink) -> Result<(), Fatal> {
    let args = args::parse(std::env::args_os())
        .map_err(|error| Fatal::new(error.message.unwrap_or_default()))?;
    let paths = paths::resolve(&args).map_err(|error| Fatal::new(error.to_string()))?;
    let reporter = Reporter::new("main");
    // `wiring::report_findings` would refuse, and is the only step of a start in the foreground that
    // is left out, besides the pid file.
    let (config, _) = wiring::read_config(&paths, &reporter)?;
    sink.configure(&config.settings, false)?;
    let hba = wiring::read_hba(&config, &reporter)?;
    let tls = wiring::read_tls(&config, &reporter);
    let passwd = wiring::read_passwd(&config, &reporter)?;
    let Listeners { tcp, unix, files } = listen::bind(&Wanted::for_clients(&config), &reporter)?;
    let view = wiring::initial_view(&config, args.discard_status);
    let broken = |error: std::io::Error| Fatal::new(error.to_string());
    sink.start_writer().map_err(broken)?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(broken)?;
    let _inside = runtime.enter();
    let signals = Signals::install().map_err(broken)?;
    let events = wiring::events(&config, &reporter);
    let (supervisor, messages) = mpsc::unbounded_channel();
    let nodes = config.settings.backends.len();
    let shared = Arc::new(Shared {
        config: ArcSwap::from_pointee(config),
        view: ArcSwap::from_pointee(view),
        replication: ArcSwap::from_pointee(vec![NodeReplication::default(); nodes]),
        health: (0..MAX_BACKENDS)
            .map(|_| Mutex::new(HealthStats::default()))
            .collect(),
        hba: ArcSwap::from_pointee(hba),
        passwd: ArcSwap::from_pointee(passwd),
        tls: ArcSwap::from_pointee(tls),
        write_lease: Default::default(),
        dataplane: RwLock::new(None),
        supervisor,
        watchdog: OnceLock::new(),
        started: AtomicBool::new(false),
        start_time: SystemTime::now(),
        events,
    });
    let dataplane = wiring::start_dataplane(&shared, tcp, unix).map_err(broken)?;
    *shared
        .dataplane
        .write()
        .unwrap_or_else(PoisonError::into_inner) = Some(dataplane.clone());
    let mut control =
        wiring::spawn_control(Arc::clone(&shared), messages, paths).map_err(broken)?;

    let ended = runtime.block_on(async {
        control.started().await?;
        shared.started.store(true, Relaxed);
        reporter.log("pgpool-II successfully started");
        serve(&shared, signals).await;
        Ok(())
    });
    dataplane.stop(StopMode::Immediate);
    control.stop();
    drop(files);
    ended
}

/// Returns at the first signal that ends.
async fn serve(shared: &Shared, mut signals: Signals) {
    loop {
        match signals.next().await {
            Event::Reload => {
                let (reply, _) = oneshot::channel();
                let command = Command::Reload { reply };
                // The supervisor lives as long as the process.
                let _ = shared.supervisor.send(SupervisorMessage::Command(command));
            }
            Event::RotateLog => {}
            Event::Stop(_) => return,
        }
    }
}
