//! The supervisor: the one task that changes the state of the cluster.
//!
//! It receives reports and commands, feeds the failover core, carries its actions out (status
//! file, views, hooks, questions to servers), and keeps the health checks and the replication check
//! running. It decides only what is done with a report; the rest is decided by the cores.

mod running;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Command, Refusal, Report, Shared, StopMode, SupervisorMessage,
    reload::{ConfigLoader, Reloaded},
};
use crate::{
    cluster::{ClusterView, NodeId, NodeReplication, NodeStatus, initial, status_file},
    config::{Config, Release},
    events::{HookRun, Kind, Note, Origin, Step, text},
    failover::{
        ask,
        core::{
            Action, Core, Event, HookCall, HookKind, Now, Settings, Told, Why, cause_of, kind_of,
        },
        hooks, promotion,
        request::{Entry, Request, Source},
        search::Answer,
        unfinished, what_if,
    },
    health,
    observe::{Reporter, Severity},
    recovery, replication,
};

/// How often a graceful detach looks whether the clients are gone.
const CLIENTS_POLL: Duration = Duration::from_millis(500);

/// What tasks of the supervisor tell it.
enum Internal {
    HookBegun {
        kind: HookKind,
        process: Option<unfinished::Process>,
    },
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

/// See [`Supervisor::on_shutdown`].
enum OnShutdown {
    Nothing,
    Look,
    Detach,
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
    /// Of the `follow_primary_command` that runs.
    follow_group: hooks::Group,
    /// For the next start, should this process be killed.
    record: unfinished::Record,
    health: BTreeMap<NodeId, health::task::Handle>,
    replication: Option<replication::task::Handle>,
    recovery: Option<recovery::task::Handle>,
    /// Questions of the present round of the primary search.
    asking: JoinSet<()>,
    wake_at: Option<Instant>,
    search_done: Option<oneshot::Sender<()>>,
    reporter: Reporter,
}

/// Statuses from the status file, and the view to start with. Logs what the file says.
pub fn initial_view(config: &Config, discard_status: bool) -> ClusterView {
    let reporter = Reporter::new("main");
    let statuses = status_file::read(&config.settings.work_dir, discard_status, &reporter);
    if discard_status {
        running::discard_record(&config.settings.work_dir);
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
        let record = running::read_record(&config.settings.work_dir);
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
            follow_group: hooks::Group::default(),
            record,
            health: BTreeMap::new(),
            replication: None,
            recovery: None,
            asking: JoinSet::new(),
            wake_at: None,
            search_done: Some(search_done),
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
        let actions = self.core.handle(Event::Start, Now::of_the_machine());
        self.carry_out(actions).await;
        loop {
            let timer = async {
                match self.wake_at {
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
                message = self.messages.recv() => match message {
                    Some(SupervisorMessage::Report(report)) => self.report(report).await,
                    Some(SupervisorMessage::Command(command)) => {
                        self.command(command, String::new()).await;
                    }
                    Some(SupervisorMessage::Asked { by, command }) => self.command(command, by).await,
                    None => return,
                },
            }
        }
    }

    async fn event(&mut self, event: Event) {
        let actions = self.core.handle(event, Now::of_the_machine());
        self.carry_out(actions).await;
    }

    async fn request(
        &mut self,
        request: Request,
        source: Source,
        why: Why,
        evidence: Option<u64>,
    ) -> Result<(), Refusal> {
        if evidence.is_none()
            && let Err(refusal) = self.recovery_allows(&request, source)
        {
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

    /// Whether the online recovery that goes on leaves room for a request without evidence: the wish
    /// of an operator, or of `auto_failback`.
    fn recovery_allows(&self, request: &Request, source: Source) -> Result<(), Refusal> {
        if source == Source::Child {
            // A server has said that it shuts down.
            return Ok(());
        }
        match self.recovery.as_ref().and_then(|r| r.objection(request)) {
            None => Ok(()),
            Some(refusal) => {
                if source != Source::Pcp {
                    say(Entry::log(source, refusal.message.clone()).with_detail(&refusal.detail));
                }
                Err(refusal)
            }
        }
    }

    async fn operators_request(&mut self, request: Request, by: String) -> Result<(), Refusal> {
        let cause = if by.is_empty() {
            cause_of(Source::Pcp)
        } else {
            by
        };
        self.request(request, Source::Pcp, Why::new(cause, ""), None)
            .await
    }

    fn record_refusal(&self, request: &Request, why: Why, refusal: &Refusal) {
        let note = refusal_note(request, why, refusal);
        self.shared.events.record(None, note);
    }

    fn record_reload(&self, by: String, result: &str) {
        let note = Note::new(Kind::Reload, Step::Ended)
            .with_cause(by, "")
            .with_result(result);
        self.shared.events.record(None, note);
    }

    /// A pgpool that was killed has not told its end, and may have left an operation half done.
    fn tell_how_it_ended_before(&self) {
        let Some(last) = self.shared.events.last() else {
            return;
        };
        if last.note.kind == Kind::Stop && last.note.step == Step::Ended {
            return;
        }
        let mut evidence = format!(
            "its last event is #{} of {}",
            last.id,
            text::time(last.time)
        );
        for begun in self.shared.events.unfinished() {
            let operation = text::operation(&begun.note);
            evidence += &format!("; {operation} (#{}) has no end", begun.id);
        }
        let note = Note::new(Kind::Stop, Step::Ended)
            .with_result(format!(
                "the pgpool before (pid {}) did not end in order: it was killed, or the machine went down",
                last.pid
            ))
            .with_cause("", evidence);
        self.shared.events.record(None, note);
    }

    /// On a thread that may take its time. The clone of the core knows nobody who could do anything.
    fn what_if(&self, requests: Vec<Request>, reply: oneshot::Sender<Vec<String>>) {
        let asked = what_if::WhatIf {
            core: self.core.clone(),
            recovery: self.recovery.as_ref().and_then(|r| r.ongoing()),
            requests,
        };
        tokio::task::spawn_blocking(move || {
            // The asker may have gone.
            let _ = reply.send(asked.lines(Now::of_the_machine()));
        });
    }

    async fn internal(&mut self, internal: Internal) {
        match internal {
            Internal::HookBegun { kind, process } => {
                self.record.runs(kind, process);
                self.write_record().await;
            }
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
                let result = self.operators_request(request, by).await;
                answer(reply, result);
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

    /// What a report leads to. A refusal has been logged by the core, and nobody waits for it.
    async fn report(&mut self, report: Report) {
        let _refused = match report {
            Report::BackendError { node, reason } => {
                if self.shared.config.load().settings.failover_on_backend_error {
                    self.look(node, health::core::Cause::Error { reason }).await;
                }
                return;
            }
            Report::BackendCut { node, error } => {
                let on_error = self.shared.config.load().settings.failover_on_backend_error;
                match error {
                    Some(reason) if on_error => {
                        self.look(node, health::core::Cause::Error { reason }).await;
                    }
                    error if self.is_checked(node) => {
                        let how = error.unwrap_or_else(|| "it closed the connection".to_owned());
                        self.look(node, health::core::Cause::Cut { how }).await;
                    }
                    // Whoever has switched everything off wants nothing to be detached without an order.
                    _ => {}
                }
                return;
            }
            Report::BackendShutdown {
                node,
                sqlstate,
                fatal,
            } => {
                match self.on_shutdown(node) {
                    OnShutdown::Nothing => return,
                    // Anybody can raise a warning with this SQLSTATE: worth a look and no more.
                    OnShutdown::Detach if fatal => {}
                    OnShutdown::Look | OnShutdown::Detach => {
                        let cause = health::core::Cause::Shutdown { sqlstate };
                        self.look(node, cause).await;
                        return;
                    }
                }
                // Every session of the node reports it; the first one has done it.
                if !self.core.view().is_valid(node) {
                    return;
                }
                say(
                    Entry::log(Source::Child, "reading and processing packets").with_detail(
                        format!(
                            "postmaster on DB node {node} was shutdown by administrative command"
                        ),
                    ),
                );
                let why = Why::new(
                    cause_of(Source::Child),
                    format!(
                        "the server told it SQLSTATE {sqlstate}, that it shuts down (failover_on_backend_shutdown)"
                    ),
                );
                self.request(Request::Down { node }, Source::Child, why, None)
                    .await
            }
            Report::NodeUsed { node } => {
                self.event(Event::NodeUsed { node }).await;
                return;
            }
            Report::HealthCheckFailed {
                node,
                evidence,
                view_version,
                ..
            } => {
                let source = Source::HealthCheck(node);
                let why = Why::new(cause_of(source), evidence);
                self.request(Request::Down { node }, source, why, Some(view_version))
                    .await
            }
            Report::AutoFailback { node } => {
                let source = Source::HealthCheck(node);
                let why = Why::new(
                    "auto_failback",
                    "its server answers, and the primary says that it feeds it",
                );
                self.request(Request::Up { node }, source, why, None).await
            }
            Report::RolesDiffer { view_version } => {
                if self.core.view().version == view_version {
                    self.event(Event::RolesDiffer).await;
                }
                return;
            }
            Report::FalsePrimary {
                node,
                evidence,
                view_version,
            } => {
                // Roles seen before a change say nothing about the cluster of now.
                // While nodes are made to follow, which one feeds them says nothing either.
                if *self.hands_off.borrow() || self.core.view().version != view_version {
                    return;
                }
                let source = Source::ReplicationCheck;
                let why = Why::new("detach_false_primary", evidence);
                self.request(Request::Down { node }, source, why, Some(view_version))
                    .await
            }
        };
    }

    /// What the parameters want when a server tells a session that it shuts down.
    fn on_shutdown(&self, node: NodeId) -> OnShutdown {
        let config = self.shared.config.load();
        let settings = &config.settings;
        // Up to 4.2 there is no such parameter, so nobody has asked for more than a look.
        let asked = settings.failover_on_backend_shutdown;
        if asked == Some(true) {
            return OnShutdown::Detach;
        }
        let may_be_off = asked.is_some() || config.dialect >= Release::V4_3;
        if may_be_off && !self.is_checked(node) && !settings.failover_on_backend_error {
            // Whoever has switched everything off wants nothing to be detached without an order.
            OnShutdown::Nothing
        } else {
            OnShutdown::Look
        }
    }

    /// The node has a health check with a period.
    fn is_checked(&self, node: NodeId) -> bool {
        let config = self.shared.config.load();
        let backend = config.settings.backends.get(node);
        backend.is_some_and(|b| b.health_check.period.is_some())
    }

    /// Lets the health check of a valid node look at once.
    async fn look(&mut self, node: NodeId, cause: health::core::Cause) {
        let view = self.core.view();
        let Some(server) = view.node(node).filter(|n| view.takes_part(n.id)) else {
            return;
        };
        match self.health.get(&node) {
            Some(check) if !server.flag.disallow_to_failover => {
                check.send(health::core::Event::Look(cause));
            }
            // Refused in the words of the original: disallowed, or still starting up.
            _ => {
                let why = Why::new(cause_of(Source::Child), cause.in_words());
                let _refused = self
                    .request(Request::Down { node }, Source::Child, why, None)
                    .await;
            }
        }
    }

    /// `by`: who asks, if that is known.
    async fn command(&mut self, command: Command, by: String) {
        match command {
            Command::Attach { node, reply } => {
                let result = self.operators_request(Request::Up { node }, by).await;
                answer(reply, result);
            }
            Command::Detach {
                node,
                graceful: false,
                reply,
            } => {
                let result = self.operators_request(Request::Down { node }, by).await;
                answer(reply, result);
            }
            Command::Detach {
                node,
                graceful: true,
                reply,
            } => self.detach_gracefully(node, by, reply),
            Command::Recover { node, reply } => match &self.recovery {
                Some(recovery) => recovery.request(node, by, reply),
                None => answer(
                    reply,
                    Err(Refusal::error(
                        "ignoring the recovery request, since we are still starting up",
                    )),
                ),
            },
            Command::Promote {
                node,
                switchover,
                graceful,
                reply,
            } => {
                let request = if switchover {
                    Request::Switchover { node }
                } else {
                    Request::Promote { node }
                };
                self.promote(request, graceful, by, reply);
            }
            Command::Reload { reply } => self.reload(by, reply),
            Command::WhatIf { requests, reply } => self.what_if(requests, reply),
            Command::Stop { mode } => {
                // The process ends itself; if it is not there any more, it has ended.
                let _ = self.stop.send(mode);
            }
            Command::Stopping { done, signal } => {
                self.event(Event::Stopping).await;
                self.follow_group.end(signal);
                // The process may have ended without waiting.
                let _ = done.send(());
            }
        }
    }

    fn detach_gracefully(&mut self, node: NodeId, by: String, reply: Reply) {
        let request = Request::Down { node };
        let accepted = self.recovery_allows(&request, Source::Pcp);
        if let Err(refusal) = accepted.and_then(|()| self.core.would_accept(&request)) {
            self.record_refusal(&request, Why::new(by, ""), &refusal);
            answer(reply, Err(refusal));
            return;
        }
        let limit = self.shared.config.load().settings.recovery_timeout;
        let (shared, to_me) = (Arc::clone(&self.shared), self.to_me.clone());
        tokio::task::spawn_local(async move {
            if !clients_leave(&shared, limit, &format!("node {node} is not detached")).await {
                record_clients_stay(&shared, &request, by);
                answer(reply, Ok(()));
                return;
            }
            // The supervisor has ended: the process does.
            let _ = to_me.send(Internal::Requested { request, by, reply });
        });
    }

    /// Asks the server what it is before anything is changed.
    fn promote(&mut self, request: Request, graceful: bool, by: String, reply: Reply) {
        let node = request.node();
        let allowed = self.recovery_allows(&request, Source::Pcp);
        if let Err(refusal) = allowed.and_then(|()| self.core.would_accept(&request)) {
            self.record_refusal(&request, Why::new(by, ""), &refusal);
            answer(reply, Err(refusal));
            return;
        }
        let limit = self.shared.config.load().settings.recovery_timeout;
        let (shared, to_me) = (Arc::clone(&self.shared), self.to_me.clone());
        tokio::task::spawn_local(async move {
            let said = ask::ask(&shared, node).await;
            if let Err(refusal) = promotion::check_candidate(&request, &said) {
                let why = Why::new(by, "");
                shared
                    .events
                    .record(None, refusal_note(&request, why, &refusal));
                answer(reply, Err(refusal));
                return;
            }
            let not = format!("node {node} is not promoted");
            if graceful && !clients_leave(&shared, limit, &not).await {
                record_clients_stay(&shared, &request, by);
                answer(reply, Ok(()));
                return;
            }
            // The supervisor has ended: the process does.
            let _ = to_me.send(Internal::Requested { request, by, reply });
        });
    }

    fn reload(&mut self, by: String, reply: Reply) {
        self.reporter.log("reload config files.");
        let (loader, to_me) = (Arc::clone(&self.loader), self.to_me.clone());
        let current = self.shared.config.load_full();
        tokio::task::spawn_local(async move {
            let reading = tokio::task::spawn_blocking(move || loader.reload(&current));
            match reading.await {
                Ok(reloaded) => {
                    // The supervisor has ended: the process does.
                    let reloaded = Box::new(reloaded);
                    let _ = to_me.send(Internal::Reloaded {
                        reloaded,
                        by,
                        reply,
                    });
                }
                Err(e) => {
                    say(Entry::warning(
                        Source::Main,
                        format!("reading the configuration failed: {e}"),
                    )
                    .with_hint("the running settings stay"));
                    answer(
                        reply,
                        Err(Refusal::error("process reload config request failed")),
                    );
                }
            }
        });
    }

    async fn apply(&mut self, reloaded: Reloaded, by: String) -> Result<(), Refusal> {
        for (severity, text) in reloaded.findings {
            self.reporter.emit(severity, text, "", "");
        }
        if let Some(hba) = reloaded.hba {
            self.shared.hba.store(Arc::new(hba));
        }
        if let Some(passwd) = reloaded.passwd {
            self.shared.passwd.store(Arc::new(passwd));
        }
        if let Some(tls) = reloaded.tls {
            self.shared.tls.store(Arc::new(tls));
        }
        let Some(config) = reloaded.config else {
            let result = "nothing was changed; the log says why";
            self.record_reload(by, result);
            return Err(Refusal {
                detail: "the running settings stay; the log says why".to_owned(),
                ..Refusal::error("process reload config request failed")
            });
        };
        let config = Arc::new(config);
        let changed = config.changed_since(&self.shared.config.load());
        self.shared.config.store(Arc::clone(&config));
        self.record_reload(by, &changes_in_words(&changed));
        // A backend that was not there before has to be attached.
        let nodes = initial::nodes(
            &config.settings,
            |_| NodeStatus::Down,
            std::time::SystemTime::now(),
        );
        let actions = self
            .core
            .reload(settings(&config), nodes, Now::of_the_machine());
        self.carry_out(actions).await;
        for (&node, check) in &self.health {
            check.reload(&config, node);
            Reporter::new(format!("health_check{node}")).log("reloading config file");
        }
        if let Some(check) = &self.replication {
            check.restart();
            Reporter::new("sr_check_worker").log("reloading config file");
            self.start_health_checks();
        }
        if let Some(plane) = self.shared.dataplane() {
            plane.config_changed();
        }
        Ok(())
    }

    async fn carry_out(&mut self, actions: Vec<Action>) {
        // First: a replication check that is told to begin anew looks at this.
        let busy = self.core.is_busy();
        let hands_off = busy || self.core.is_following();
        for (watch, now) in [(&self.busy, busy), (&self.hands_off, hands_off)] {
            watch.send_if_modified(|old| std::mem::replace(old, now) != now);
        }
        for action in actions {
            match action {
                Action::Log(entry) => say(entry),
                Action::Record(Told { operation, note }) => {
                    let operation = operation.map(|number| (Origin::Failover, number));
                    self.shared.events.record(operation, note);
                }
                Action::WriteStatusFile(text) => self.write_status_file(text).await,
                Action::Publish(view) => self.publish(view),
                Action::RunHook(hook) => self.run_hook(hook),
                Action::Remember(unfinished) => {
                    self.record.remember(unfinished);
                    self.write_record().await;
                }
                Action::AwaitHook { call, kind } => self.await_hook(call, kind),
                Action::Ask { sweep, nodes } => self.ask(sweep, nodes),
                Action::WakeAt(at) => self.wake_at = Some(at.into()),
                Action::LookAgain { node } => {
                    if let Some(check) = self.health.get(&node) {
                        check.send(health::core::Event::Look(health::core::Cause::Waited));
                    }
                }
                // The core was not told that there is a watchdog.
                Action::AskToBegin { .. } => {}
                Action::RestartReplicationCheck => {
                    if let Some(check) = &self.replication {
                        check.restart();
                    }
                }
                Action::Started => self.started(),
            }
        }
    }

    /// On another thread: a slow disk must not delay health checks.
    async fn write_status_file(&self, text: String) {
        let config = self.shared.config.load_full();
        let work_dir = config.settings.work_dir.clone();
        let path = status_file::path(&work_dir);
        let written =
            tokio::task::spawn_blocking(move || status_file::write(&work_dir, &text)).await;
        let error = match written {
            Ok(Ok(())) => return,
            Ok(Err(e)) => crate::sys::errors::message(&e),
            Err(e) => e.to_string(),
        };
        say(Entry::warning(
            Source::Main,
            format!("failed to write status file at: \"{}\"", path.display()),
        )
        .with_detail(error)
        .with_hint("after a restart pgpool would begin with the statuses that the old file has"));
    }

    fn publish(&self, view: ClusterView) {
        let old = self.shared.view.swap(Arc::new(view));
        let new = self.shared.view.load();
        for node in &new.nodes {
            if node.is_valid()
                && !old.is_valid(node.id)
                && let Some(check) = self.health.get(&node.id)
            {
                check.send(health::core::Event::Attached);
            }
        }
        if old.version != new.version
            && let Some(plane) = self.shared.dataplane()
        {
            plane.view_changed();
        }
        if let Some(recovery) = &self.recovery {
            recovery.view_changed();
        }
    }

    fn ask(&mut self, sweep: u64, nodes: Vec<NodeId>) {
        self.asking.abort_all();
        self.asking = JoinSet::new();
        for node in nodes {
            let (shared, to_me) = (Arc::clone(&self.shared), self.to_me.clone());
            self.asking.spawn_local(async move {
                let answer = ask::ask(&shared, node).await;
                // The supervisor has ended: the process does.
                let _ = to_me.send(Internal::Answered {
                    sweep,
                    node,
                    answer,
                });
            });
        }
    }

    fn started(&mut self) {
        self.replication = Some(replication::task::spawn(
            Arc::clone(&self.shared),
            self.busy.subscribe(),
        ));
        self.recovery = Some(recovery::task::spawn(Arc::clone(&self.shared)));
        self.start_health_checks();
        if let Some(done) = self.search_done.take() {
            // Nobody waits any more: the process ends during its start.
            let _ = done.send(());
        }
    }

    /// For nodes that are down too: `auto_failback` is done by the health check.
    fn start_health_checks(&mut self) {
        let view = self.shared.view.load_full();
        for node in view.nodes.iter().filter(|n| n.status != NodeStatus::Unused) {
            let (shared, hands_off) = (&self.shared, &self.hands_off);
            self.health.entry(node.id).or_insert_with(|| {
                health::task::spawn(Arc::clone(shared), node.id, hands_off.subscribe())
            });
        }
    }
}

fn hook_note(name: &str, hook: &HookCall, ended: hooks::Ended) -> Note {
    let kind = match hook.kind {
        HookKind::Failover => Kind::Failover,
        HookKind::Failback => Kind::Failback,
        HookKind::Follow => Kind::Follow,
    };
    Note {
        hook: Some(HookRun {
            status: ended.status,
            signal: ended.signal,
            error: ended.error,
            ..HookRun::begins(name, &hook.line)
        }),
        seconds: Some(ended.seconds),
        ..Note::of_node(kind, Step::HookEnded, hook.node)
    }
}

fn refusal_note(request: &Request, why: Why, refusal: &Refusal) -> Note {
    Note::of_node(kind_of(request), Step::Refused, request.node())
        .with_cause(why.cause, why.evidence)
        .with_result(refusal.in_one_line())
}

/// A graceful request whose clients have not left in time; the tool was told of success.
fn record_clients_stay(shared: &Shared, request: &Request, by: String) {
    let note = Note::of_node(kind_of(request), Step::Dropped, request.node())
        .with_cause(by, "")
        .with_result("clients were still connected after recovery_timeout");
    shared.events.record(None, note);
}

/// Names only: values may be passwords.
fn changes_in_words(changed: &[String]) -> String {
    const SHOWN: usize = 20;
    match changed {
        [] => "no parameter has another value".to_owned(),
        few if few.len() <= SHOWN => format!("changed: {}", few.join(", ")),
        many => format!("{} parameters have changed", many.len()),
    }
}

/// What decides in the failover core, of the configuration.
fn settings(config: &Config) -> Settings {
    let settings = &config.settings;
    Settings {
        dialect: config.dialect,
        failover_command: settings.failover_command.clone(),
        failback_command: settings.failback_command.clone(),
        follow_primary_command: settings.follow_primary_command.clone(),
        search_primary_node_timeout: settings.search_primary_node_timeout,
        detach_false_primary: settings.detach_false_primary,
        pid: std::process::id(),
    }
}

/// Waits until no client is connected, at most `limit` (`recovery_timeout`); `false`: some still are,
/// and the log says so after `not`. The answer to the tool is success all the same, as with the
/// original: it cannot show anything else that scripts expect.
async fn clients_leave(shared: &Shared, limit: Duration, not: &str) -> bool {
    let end = Instant::now() + limit;
    let clients = || {
        shared
            .dataplane()
            .map_or(0, |plane| plane.connected_clients())
    };
    while clients() > 0 {
        if Instant::now() >= end {
            say(
                Entry::warning(Source::Pcp, format!("{not}: clients are still connected"))
                    .with_detail(format!(
                        "waited {} seconds (recovery_timeout) for {} clients",
                        limit.as_secs(),
                        clients()
                    ))
                    .with_hint("ask again without waiting, or end the sessions"),
            );
            return false;
        }
        sleep(CLIENTS_POLL).await;
    }
    true
}

/// The asker may have gone meanwhile.
fn answer(reply: Reply, result: Result<(), Refusal>) {
    let _ = reply.send(result);
}

/// Under the name that the original's process would have.
fn say(entry: Entry) {
    let reporter = match entry.source {
        Source::Main => Reporter::new("main"),
        Source::Child => Reporter::new("child"),
        Source::HealthCheck(node) => Reporter::new(format!("health_check{node}")),
        Source::ReplicationCheck => Reporter::new("sr_check_worker"),
        Source::Pcp => Reporter::new("pcp_child"),
        Source::FollowChild => Reporter::new("follow_child"),
        Source::Watchdog => Reporter::new("watchdog"),
    };
    let severity: Severity = entry.severity;
    reporter.emit(severity, &entry.message, &entry.detail, &entry.hint);
}
