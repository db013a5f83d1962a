//! Runs online recoveries: takes requests, carries out what the core wants, one work at a time.

use std::{future::Future, pin::Pin, sync::Arc};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{
    core::{Action, Answer, Core, Event, Settings, Work},
    request::Ongoing,
    servers::{self, Access},
    told::{self, Told},
};
use crate::{
    cluster::NodeId,
    control::{Command, Refusal, Shared, SupervisorMessage, backend_client::Client},
    failover::request::Request,
    observe::Reporter,
    watchdog::shell::Order,
};

type Reply = oneshot::Sender<Result<(), Refusal>>;

enum Message {
    Request {
        node: NodeId,
        by: String,
        reply: Reply,
    },
    ViewChanged,
}

/// The supervisor's end. Dropping it ends the recovery that goes on.
pub struct Handle {
    messages: mpsc::UnboundedSender<Message>,
    ongoing: watch::Receiver<Option<Ongoing>>,
    task: JoinHandle<()>,
}

impl Handle {
    /// Answered when the node is attached, or why not. `by`: who asks, for the history of events.
    pub fn request(&self, node: NodeId, by: String, reply: Reply) {
        // The task lives as long as the handle.
        let _ = self.messages.send(Message::Request { node, by, reply });
    }

    pub fn view_changed(&self) {
        if self.ongoing.borrow().is_some() {
            let _ = self.messages.send(Message::ViewChanged);
        }
    }

    pub fn ongoing(&self) -> Option<Ongoing> {
        *self.ongoing.borrow()
    }

    /// Why a request has to wait for the end of the recovery that goes on.
    pub fn objection(&self, request: &Request) -> Option<Refusal> {
        self.ongoing
            .borrow()
            .as_ref()
            .and_then(|ongoing| ongoing.objection(request))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for requests on the current thread.
pub fn spawn(shared: Arc<Shared>) -> Handle {
    let (messages, receiver) = mpsc::unbounded_channel();
    let (announce, ongoing) = watch::channel(None);
    let task = Task {
        shared,
        announce,
        core: Core::default(),
        access: None,
        source: None,
        work: None,
        wake_at: None,
        reply: None,
        told: Told::default(),
        reporter: Reporter::new("pcp_child"),
    };
    Handle {
        messages,
        ongoing,
        task: tokio::task::spawn_local(task.run(receiver)),
    }
}

/// Gives the connection to the source back with the result.
type Running = Pin<Box<dyn Future<Output = (u64, Option<Client>, Result<Answer, String>)>>>;

struct Task {
    shared: Arc<Shared>,
    /// For the supervisor.
    announce: watch::Sender<Option<Ongoing>>,
    core: Core,
    access: Option<Access>,
    /// The connection to the source, while no work uses it.
    source: Option<Client>,
    work: Option<Running>,
    wake_at: Option<Instant>,
    reply: Option<Reply>,
    told: Told,
    reporter: Reporter,
}

impl Task {
    async fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>) {
        loop {
            let timer = async {
                match self.wake_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let end_of_work = async {
                match &mut self.work {
                    Some(work) => work.await,
                    None => std::future::pending().await,
                }
            };
            // A change of the cluster must be known before what was done under the old one.
            tokio::select! {
                biased;
                message = messages.recv() => match message {
                    Some(Message::Request { node, by, reply }) => self.request(node, by, reply),
                    Some(Message::ViewChanged) => self.event(Event::ViewChanged),
                    None => return,
                },
                (step, client, result) = end_of_work => {
                    self.work = None;
                    self.told.script_ended(&self.shared.events, &result);
                    self.source = client;
                    self.event(Event::Done { step, result });
                }
                () = timer => {
                    self.wake_at = None;
                    self.event(Event::Timer);
                }
            }
        }
    }

    fn request(&mut self, node: NodeId, by: String, reply: Reply) {
        let begun = self
            .core
            .request(node, settings(&self.shared), &self.shared.view.load());
        match begun {
            Ok(actions) => {
                self.told
                    .begins(&self.shared.events, self.core.ongoing(), by);
                self.access = Some(Access::of(&self.shared));
                self.reply = Some(reply);
                self.carry_out(actions);
            }
            Err(refusal) => {
                told::refused(&self.shared.events, node, by, &refusal);
                // The asker may have gone.
                drop(reply.send(Err(refusal)));
            }
        }
    }

    fn event(&mut self, event: Event) {
        let clients = self
            .shared
            .dataplane()
            .map_or(0, |plane| plane.connected_clients());
        let view = self.shared.view.load_full();
        let actions = self
            .core
            .handle(event, &view, clients, std::time::Instant::now());
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        // First: an attach that is asked for below must not be objected to.
        let ongoing = self.core.ongoing();
        let goes_on = ongoing.is_some();
        let went_on = self.announce.send_replace(ongoing).is_some();
        if let Some(watchdog) = self.shared.watchdog.get().filter(|_| goes_on != went_on) {
            watchdog.send(Order::Recovering(goes_on));
        }
        for action in actions {
            match action {
                Action::Log(entry) => {
                    self.reporter
                        .emit(entry.severity, &entry.message, &entry.detail, &entry.hint)
                }
                Action::Do { step, work } => self.begin(step, work),
                Action::WakeAt(at) => self.wake_at = Some(at.into()),
                Action::HoldClients => self.hold(true),
                Action::ReleaseClients => self.hold(false),
                Action::Finished(result) => {
                    self.told.ended(&self.shared.events, &result);
                    self.work = None;
                    self.wake_at = None;
                    self.access = None;
                    if let Some(client) = self.source.take() {
                        tokio::task::spawn_local(client.close());
                    }
                    if let Some(reply) = self.reply.take() {
                        // The asker may have gone.
                        let _ = reply.send(result);
                    }
                }
            }
        }
    }

    fn hold(&self, held: bool) {
        if let Some(plane) = self.shared.dataplane() {
            plane.hold_clients(held);
        }
    }

    fn begin(&mut self, step: u64, work: Work) {
        self.told
            .script_begins(&self.shared.events, self.core.script(), &work);
        let (shared, access) = (Arc::clone(&self.shared), self.access.clone());
        let client = self.source.take();
        self.work = Some(Box::pin(async move {
            let (client, result) = carry_out(&shared, access, client, work).await;
            (step, client, result)
        }));
    }
}

async fn carry_out(
    shared: &Shared,
    access: Option<Access>,
    client: Option<Client>,
    work: Work,
) -> (Option<Client>, Result<Answer, String>) {
    let Some(access) = access else {
        return (client, Err("no recovery goes on".to_owned()));
    };
    match work {
        Work::Connect { source, scripts } => {
            match servers::connect(shared, &access, &source, &scripts).await {
                Ok((client, installed)) => (Some(client), Ok(Answer::Source(installed))),
                Err(why) => (None, Err(why)),
            }
        }
        Work::Run { statements } => match client {
            Some(mut client) => {
                let result = servers::run(&mut client, &statements).await;
                (Some(client), result)
            }
            None => (None, Err("the connection is lost".to_owned())),
        },
        Work::Reach { target, database } => {
            let result = servers::reach(shared, &access, &target, database).await;
            (client, result)
        }
        Work::Attach { node } => (client, attach(shared, node).await),
    }
}

/// As `pcp_attach_node` does it.
async fn attach(shared: &Shared, node: NodeId) -> Result<Answer, String> {
    let (reply, answer) = oneshot::channel();
    let message = SupervisorMessage::Asked {
        by: format!("the online recovery of node {node}, at its end"),
        command: Command::Attach { node, reply },
    };
    let ends = || "pgpool is shutting down".to_owned();
    shared.supervisor.send(message).map_err(|_| ends())?;
    match answer.await.map_err(|_| ends())? {
        Ok(()) => Ok(Answer::Done),
        Err(refusal) => Err(refusal.message),
    }
}

/// What decides in the core, of the configuration.
fn settings(shared: &Shared) -> Settings {
    let config = shared.config.load();
    let settings = &config.settings;
    Settings {
        dialect: config.dialect,
        user: settings.recovery_user.clone(),
        first_stage: settings.recovery_1st_stage_command.clone(),
        second_stage: settings.recovery_2nd_stage_command.clone(),
        timeout: settings.recovery_timeout,
    }
}
