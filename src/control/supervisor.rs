//! The supervisor: the one task that changes the state of the cluster.
//!
//! It receives reports and commands, feeds the failover core, carries its actions out (status
//! file, views, hooks, questions to servers), and keeps the health checks and the replication check
//! running. It decides only what is done with a report; the rest is decided by the cores.

mod actions;
mod commands;
mod disk;
mod graceful;
mod reloading;
mod reports;
mod running;
mod told;
mod watchdog;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use self::{commands::answer, disk::Disk, reloading::settings};
use super::{
    Refusal, Shared, StopMode, SupervisorMessage,
    reload::{ConfigLoader, Reloaded},
};
use crate::{
    cluster::{ClusterView, NodeId, NodeReplication, initial, status_file},
    config::Config,
    failover::{
        consult::{Asked, Consult},
        core::{Core, Event, Now, Why},
        hooks,
        request::{Request, Source},
        search::Answer,
        unfinished,
    },
    health,
    observe::Reporter,
    recovery, replication,
    watchdog::shell::Near,
};

/// What tasks of the supervisor tell it.
enum Internal {
    HookFinished {
        call: u64,
    },
    Answered {
        sweep: u64,
        node: NodeId,
        answer: Answer,
    },
    /// The clients of a graceful detach or promotion are gone.
    Requested {
        request: Request,
        by: String,
        reply: Reply,
    },
    Reloaded {
        reloaded: Box<Reloaded>,
        by: String,
        reply: Reply,
    },
}

type Reply = oneshot::Sender<Result<(), Refusal>>;

pub struct Supervisor {
    shared: Arc<Shared>,
    messages: mpsc::UnboundedReceiver<SupervisorMessage>,
    internal: mpsc::UnboundedReceiver<Internal>,
    to_me: mpsc::UnboundedSender<Internal>,
    loader: Arc<dyn ConfigLoader>,
    stop: mpsc::UnboundedSender<StopMode>,
    core: Core,
    /// A failover goes on or waits.
    busy: watch::Sender<bool>,
    /// As `busy`, or a script works on nodes that are down: nothing shall attach them.
    hands_off: watch::Sender<bool>,
    /// `follow_primary_command` runs or is to run here.
    follows: watch::Sender<bool>,
    /// Of the `follow_primary_command` that runs.
    follow_group: hooks::Group,
    /// For the next start, should this process be killed.
    record: unfinished::Record,
    record_disk: Disk,
    status_disk: Disk,
    health: BTreeMap<NodeId, health::task::Handle>,
    replication: Option<replication::task::Handle>,
    recovery: Option<recovery::task::Handle>,
    /// Questions of the present round of the primary search.
    asking: JoinSet<()>,
    wake_at: Option<Instant>,
    search_done: Option<oneshot::Sender<()>>,
    start: watchdog::Start,
    watchdog: Option<Near>,
    /// What the watchdog was asked.
    consult: Consult,
    /// Who waits for what it says, by its tickets.
    replies: HashMap<u64, Reply>,
    /// The leader, another node, makes nodes follow a new primary.
    leader_follows: bool,
    reporter: Reporter,
}

/// Statuses from the status file, and the view to start with. Logs what the file says.
pub fn initial_view(config: &Config, discard_status: bool) -> ClusterView {
    let reporter = Reporter::new("main");
    let statuses = status_file::read(&config.settings.work_dir, discard_status, &reporter);
    if discard_status {
        running::discard_record(config);
    }
    initial::initial_view(&config.settings, &statuses, std::time::SystemTime::now())
}

impl Supervisor {
    /// `shared.view` is the [`initial_view`]; `messages` the other end of `shared.supervisor`;
    /// `stop` gets what `pcp_stop_pgpool` asks for.
    ///
    /// The receiver is told when the first primary search is over, so that
    /// `pgpool-II successfully started` can be said.
    pub fn new(
        shared: Arc<Shared>,
        messages: mpsc::UnboundedReceiver<SupervisorMessage>,
        loader: Arc<dyn ConfigLoader>,
        stop: mpsc::UnboundedSender<StopMode>,
    ) -> (Supervisor, oneshot::Receiver<()>) {
        let (to_me, internal) = mpsc::unbounded_channel();
        let (search_done, done) = oneshot::channel();
        let config = shared.config.load_full();
        let record = running::read_record(&config);
        let view = ClusterView::clone(&shared.view.load());
        let core = Core::new(settings(&config), view).resuming(record.unfinished.clone());
        let supervisor = Supervisor {
            shared,
            messages,
            internal,
            to_me,
            loader,
            stop,
            core,
            busy: watch::Sender::new(true),
            hands_off: watch::Sender::new(true),
            follows: watch::Sender::new(false),
            follow_group: hooks::Group::default(),
            record,
            record_disk: Disk::default(),
            status_disk: Disk::default(),
            health: BTreeMap::new(),
            replication: None,
            recovery: None,
            asking: JoinSet::new(),
            wake_at: None,
            search_done: Some(search_done),
            start: watchdog::Start::Joining,
            watchdog: None,
            consult: Consult::new(std::process::id()),
            replies: HashMap::new(),
            leader_follows: false,
            reporter: Reporter::new("main"),
        };
        (supervisor, done)
    }

    /// Runs for as long as the process; must be in a `LocalSet`.
    pub async fn run(mut self) {
        let slots = self.core.view().nodes.len();
        self.shared
            .replication
            .store(Arc::new(vec![NodeReplication::default(); slots]));
        self.tell_how_it_ended_before();
        self.start().await;
        loop {
            let timer = async {
                match self.wake_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let watchdog = self.watchdog_wakes();
            let due = async {
                match watchdog {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                internal = self.internal.recv() => match internal {
                    Some(internal) => self.internal(internal).await,
                    None => return,
                },
                () = timer => {
                    self.wake_at = None;
                    self.event(Event::Timer).await;
                }
                () = due => self.watchdog_is_due().await,
                message = self.messages.recv() => match message {
                    Some(SupervisorMessage::Report(report)) => self.report(report).await,
                    Some(SupervisorMessage::Command(command)) => {
                        self.command(command, String::new()).await;
                    }
                    Some(SupervisorMessage::Asked { by, command }) => self.command(command, by).await,
                    Some(SupervisorMessage::Watchdog(wish)) => self.wish(wish).await,
                    None => return,
                },
            }
        }
    }

    async fn event(&mut self, event: Event) {
        let actions = self.core.handle(event, Now::of_the_machine());
        self.carry_out(actions).await;
    }

    /// A report or a check wants it. With a watchdog the other nodes are asked first.
    async fn request(&mut self, request: Request, source: Source, why: Why, evidence: Option<u64>) {
        if self.watchdog.is_some() {
            let asked = Asked {
                request,
                source,
                why,
                evidence,
            };
            return self.consult(asked, None);
        }
        // A refusal has been logged by the core, and nobody waits for it.
        let _ = self.decided(request, source, why, evidence).await;
    }

    /// Nobody else has to be asked.
    async fn decided(
        &mut self,
        request: Request,
        source: Source,
        why: Why,
        evidence: Option<u64>,
    ) -> Result<(), Refusal> {
        if evidence.is_none()
            && source != Source::Watchdog
            && let Err(refusal) = self.recovery_allows(&request, source)
        {
            self.tell_dropped(&request);
            self.record_refusal(&request, why, &refusal);
            return Err(refusal);
        }
        let now = Now::of_the_machine();
        let (result, actions) = self
            .core
            .request_because(request, source, why, evidence, now);
        self.carry_out(actions).await;
        result
    }

    async fn internal(&mut self, internal: Internal) {
        match internal {
            Internal::HookFinished { call } => self.event(Event::HookFinished { call }).await,
            Internal::Answered {
                sweep,
                node,
                answer,
            } => {
                self.event(Event::Answered {
                    sweep,
                    node,
                    answer,
                })
                .await;
            }
            Internal::Requested { request, by, reply } => {
                self.operators_request(request, by, reply).await;
            }
            Internal::Reloaded {
                reloaded,
                by,
                reply,
            } => {
                let result = self.apply(*reloaded, by).await;
                answer(reply, result);
            }
        }
    }
}
