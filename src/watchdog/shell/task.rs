//! The one owner of the three cores: hands events to them and carries their actions out, at once and in
//! order.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::{interval, sleep, sleep_until, timeout},
};

use super::{
    connection::{self, Link, Unwritten},
    handle::{Handle, Order, Wish},
    heartbeat, host, listen, local,
    programs::{self, Running},
    query,
};
use crate::{
    control::{Shared, SupervisorMessage},
    observe::{Reporter, Severity},
    process::fatal::Fatal,
    sys::errors,
    watchdog::{
        codec::{
            Message, function::FailoverResult, ipc::IpcFrame, ipc_answer::NodeList,
            status::BackendStatus,
        },
        core::{self, Conn, Core, Entry, Leader},
        ipc::{self, Verdict},
        lifecheck::{self, Lifecheck},
        settings::Settings,
        vip::{self, Vip},
    },
};

/// Events that wait. A flood from outside waits in the sockets.
const EVENTS: usize = 1024;
/// Accepted connections at a time; each of 127 other nodes has one, and one that it replaces.
const ACCEPTED: usize = 512;
/// How long the last packets may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Between two looks at the devices and addresses of this host.
const LOOK: Duration = Duration::from_secs(1);

/// What comes from the tasks around.
#[derive(Debug)]
pub enum Happened {
    Accepted {
        stream: TcpStream,
        source: String,
    },
    Core(core::Event),
    Lifecheck(lifecheck::Event),
    Vip(vip::Event),
    /// A tool asks at the local socket. `None` as an answer: the connection is just closed.
    Asked {
        request: IpcFrame,
        reply: oneshot::Sender<Option<IpcFrame>>,
    },
}

/// Its sockets are open, and nothing runs yet.
pub struct Watchdog {
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    listeners: listen::Listeners,
    orders: mpsc::UnboundedReceiver<Order>,
    picture: Arc<ArcSwap<NodeList>>,
}

/// Opens all sockets, and puts the handle into [`Shared`]. `None`: there is no watchdog.
///
/// # Errors
///
/// A socket cannot be had.
pub async fn prepare(shared: &Arc<Shared>) -> Result<Option<Watchdog>, Fatal> {
    let Some(settings) = shared.config.load().settings.watchdog.clone() else {
        return Ok(None);
    };
    let listeners = listen::bind(&settings, &Reporter::new("watchdog")).await?;
    let (sender, orders) = mpsc::unbounded_channel();
    let now = Instant::now();
    let core = Core::new(Arc::clone(&settings), host::node_name(&settings.own), now);
    let picture = Arc::new(ArcSwap::from_pointee(core.node_list(None)));
    let handle = Handle {
        orders: sender,
        picture: Arc::clone(&picture),
    };
    if shared.watchdog.set(handle).is_err() {
        return Err(Fatal::new("the watchdog is started twice"));
    }
    Ok(Some(Watchdog {
        shared: Arc::clone(shared),
        settings,
        listeners,
        orders,
        picture,
    }))
}

impl Watchdog {
    /// Runs until [`Order::Stop`]; must be in a `LocalSet`. `backends`: as they are known at the start.
    pub async fn run(self, backends: BackendStatus) {
        let Watchdog {
            shared,
            settings,
            listeners,
            orders,
            picture,
        } = self;
        let (events, happened) = mpsc::channel(EVENTS);
        let (unwritten, written) = mpsc::channel(1);
        for listener in listeners.tcp {
            drop(tokio::task::spawn_local(accept(listener, events.clone())));
        }
        for socket in listeners.heartbeats {
            let receiving = heartbeat::receive(socket, Arc::clone(&settings), events.clone());
            drop(tokio::task::spawn_local(receiving));
        }
        drop(tokio::task::spawn_local(local::serve(
            listeners.ipc,
            events.clone(),
        )));
        let now = Instant::now();
        let reporter = Reporter::new("watchdog");
        let own = &shared.config.load().settings;
        let mut shell = Shell {
            core: Core::new(Arc::clone(&settings), host::node_name(&settings.own), now),
            lifecheck: Lifecheck::new(Arc::clone(&settings), now),
            vip: Vip::new(
                settings.escalation.clone(),
                settings.delegate_ip.clone(),
                now,
            ),
            wakes: [None; 3],
            links: BTreeMap::new(),
            accepted: 0,
            heartbeats: heartbeat::Sender::new(&settings, Reporter::new("life_check")),
            lease: host::Lease::new(&own.work_dir, own.port),
            running: HashMap::new(),
            answers: HashMap::new(),
            last_ticket: 0,
            stopping: None,
            events,
            unwritten,
            written: Some(written),
            picture,
            reporter,
            utility: Reporter::new("watchdog_utility"),
            life_check: Reporter::new("life_check"),
            settings,
            shared: Arc::clone(&shared),
        };
        shell.core(core::Event::Backends(backends));
        shell.vip(vip::Event::Start);
        let lease_was_on = shell.lease.was_on();
        shell.core(core::Event::Start { lease_was_on });
        shell.lifecheck(lifecheck::Event::Start);
        shell.serve(orders, happened).await;
        drop(listeners.file);
    }
}

/// Hands accepted connections on, for as long as the process lives.
async fn accept(listener: TcpListener, events: mpsc::Sender<Happened>) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let source = from.ip().to_string();
                let event = Happened::Accepted { stream, source };
                if events.send(event).await.is_err() {
                    return;
                }
            }
            // Out of descriptors, most likely.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

struct Shell {
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    core: Core,
    lifecheck: Lifecheck,
    vip: Vip,
    /// Of the three cores.
    wakes: [Option<Instant>; 3],
    links: BTreeMap<Conn, Link>,
    /// Numbers accepted connections.
    accepted: u64,
    heartbeats: heartbeat::Sender,
    lease: host::Lease,
    /// Commands of the virtual IP that run, by their calls.
    running: HashMap<u64, Running>,
    /// Who waits for the results of requests, by their tickets.
    answers: HashMap<u64, oneshot::Sender<FailoverResult>>,
    last_ticket: u64,
    stopping: Option<oneshot::Sender<()>>,
    events: mpsc::Sender<Happened>,
    unwritten: Unwritten,
    /// The other end of `unwritten`, until the end.
    written: Option<mpsc::Receiver<()>>,
    picture: Arc<ArcSwap<NodeList>>,
    reporter: Reporter,
    utility: Reporter,
    life_check: Reporter,
}

impl Shell {
    async fn serve(
        &mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut happened: mpsc::Receiver<Happened>,
    ) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.show();
            let wake = self.wakes.iter().flatten().min().copied();
            let timer = async {
                match wake {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => return,
                },
                () = timer => self.fire(),
                event = happened.recv() => match event {
                    Some(event) => self.happened(event),
                    None => return,
                },
                _ = look.tick() => self.look_at_host(),
            }
        }
    }

    /// For tools, which read it without asking.
    fn show(&self) {
        let list = self.core.node_list(None);
        if **self.picture.load() != list {
            self.picture.store(Arc::new(list));
        }
    }

    fn fire(&mut self) {
        let now = Instant::now();
        let mut due = |which: usize| {
            let wake = self.wakes.get_mut(which);
            wake.is_some_and(|wake| wake.take_if(|at| *at <= now).is_some())
        };
        let [core, lifecheck, vip] = [due(0), due(1), due(2)];
        if core {
            self.core(core::Event::Timer);
        }
        if lifecheck {
            self.lifecheck(lifecheck::Event::Timer);
        }
        if vip {
            self.vip(vip::Event::Timer);
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Request { request, answer } => {
                self.last_ticket += 1;
                let ticket = self.last_ticket;
                self.answers.insert(ticket, answer);
                self.core(core::Event::Request { ticket, request });
            }
            Order::FailoverBegins => self.core(core::Event::FailoverBegins),
            Order::FailoverEnds => self.core(core::Event::FailoverEnds),
            Order::Backends(status) => self.core(core::Event::Backends(status)),
            Order::ClusterCommand(command) => self.core(core::Event::ClusterCommand(command)),
            Order::Recovering(on) => self.lifecheck(lifecheck::Event::Recovering(on)),
            Order::Stop { done } => {
                self.stopping = Some(done);
                self.core(core::Event::Stop);
                // Without an escalation there is nothing to give up, and nothing says so.
                if self.running.is_empty() && !self.vip.is_held() {
                    self.at_rest();
                }
            }
        }
    }

    fn happened(&mut self, event: Happened) {
        match event {
            Happened::Accepted { stream, source } => self.accepted(stream, source),
            Happened::Core(event) => {
                if let core::Event::Closed { conn } = &event {
                    self.links.remove(conn);
                }
                self.core(event);
            }
            Happened::Lifecheck(event) => self.lifecheck(event),
            Happened::Vip(event) => {
                if let vip::Event::Ended { call, .. } = &event {
                    self.running.remove(call);
                }
                self.vip(event);
            }
            Happened::Asked { request, reply } => self.asked(&request, reply),
        }
    }

    fn accepted(&mut self, stream: TcpStream, source: String) {
        let inbound = |conn: &&Conn| matches!(conn, Conn::In(_));
        if self.links.keys().filter(inbound).count() >= ACCEPTED
            || connection::prepare(&stream).is_err()
        {
            return;
        }
        self.accepted += 1;
        let conn = Conn::In(self.accepted);
        self.core(core::Event::Accepted { conn, source });
        let link = connection::accepted(conn, stream, self.events.clone(), self.unwritten.clone());
        self.links.insert(conn, link);
    }

    fn asked(&mut self, request: &IpcFrame, reply: oneshot::Sender<Option<IpcFrame>>) {
        let verdict = ipc::judge(&self.core, &self.settings.authkey, request);
        let answer = match verdict {
            Verdict::Answer(answer) => answer.encode().ok(),
            Verdict::Silence => None,
            Verdict::Lifecheck { peer, alive } => {
                self.core(core::Event::Lifecheck { peer, alive });
                None
            }
            Verdict::LocalDead { reason } => {
                self.core(core::Event::LocalDead { reason });
                None
            }
        };
        // The tool may have gone.
        let _ = reply.send(answer);
    }

    fn look_at_host(&mut self) {
        let monitored = &self.settings.monitored_interfaces;
        if !monitored.is_empty() && !host::any_runs(monitored) {
            self.core(core::Event::NetworkLost);
        }
        if self.vip.is_held() && host::has_address(&self.settings.delegate_ip) == Some(false) {
            self.vip(vip::Event::AddressRemoved);
        }
    }

    fn core(&mut self, event: core::Event) {
        for action in self.core.handle(event, Instant::now()) {
            self.act(action);
        }
    }

    fn act(&mut self, action: core::Action) {
        use core::Action;
        match action {
            Action::Log(entry) => say(&self.reporter, &entry),
            Action::WakeAt(at) => self.wakes[0] = Some(at),
            Action::Connect { conn, peer } => {
                if let Some(member) = self.settings.others.get(peer) {
                    let link = connection::dial(
                        conn,
                        member.clone(),
                        self.events.clone(),
                        self.unwritten.clone(),
                    );
                    self.links.insert(conn, link);
                }
            }
            Action::Send { conn, id, message } => self.send(conn, id, &message),
            Action::Close { conn } => drop(self.links.remove(&conn)),
            Action::Settled => {
                let leads = self.core.leader() == Some(Leader::Own);
                self.wish(Wish::Settled { leads });
            }
            Action::Escalate => self.vip(vip::Event::Escalate),
            Action::DeEscalate => self.vip(vip::Event::DeEscalate),
            Action::Adopt(status) => self.wish(Wish::Adopt(status)),
            Action::Failover(request) => self.wish(Wish::Failover(request)),
            Action::Answer { ticket, result } => {
                if let Some(answer) = self.answers.remove(&ticket) {
                    // Whoever has asked may have gone.
                    let _ = answer.send(result);
                }
            }
            Action::VoteForQuarantined => self.wish(Wish::VoteForQuarantined),
            Action::ReleaseQuarantined => self.wish(Wish::ReleaseQuarantined),
            Action::LookAtBackends => self.wish(Wish::LookAtBackends),
            Action::Run {
                command,
                from_leader,
            } => self.wish(Wish::Run {
                command,
                from_leader,
            }),
            Action::Serving(_) => {}
            Action::Remember { lease_is_on } => self.remember(lease_is_on),
            Action::Exit { reason } => self.wish(Wish::Exit { reason }),
        }
    }

    fn send(&mut self, conn: Conn, id: u32, message: &Message) {
        let packet = match message.encode(id) {
            Ok(frame) => frame.bytes(),
            Err(error) => {
                self.reporter.emit(
                    Severity::Warning,
                    format_args!("a packet to another watchdog node cannot be sent: {error}"),
                    "",
                    "look at the watchdog's parameters: one of their texts does not fit",
                );
                return;
            }
        };
        let sent = self.links.get(&conn).is_some_and(|link| link.send(packet));
        if !sent && self.links.remove(&conn).is_some() {
            // The core learns of it when all that came before has been read.
            self.reporter
                .debug1(format_args!("{conn:?} takes no more packets"));
        }
    }

    /// On this thread: it is one small file, and what it says must be true before a write is served.
    fn remember(&self, on: bool) {
        if let Err(error) = self.lease.remember(on) {
            self.reporter.emit(
                Severity::Warning,
                "whether the write lease is on cannot be kept for the next start",
                &errors::message(&error),
                "give the work directory (logdir) to the account that pgpool runs as",
            );
        }
    }

    fn wish(&self, wish: Wish) {
        // The supervisor lives as long as the process.
        let _ = self
            .shared
            .supervisor
            .send(SupervisorMessage::Watchdog(wish));
    }

    fn lifecheck(&mut self, event: lifecheck::Event) {
        use lifecheck::{Action, Event};
        for action in self.lifecheck.handle(event, Instant::now()) {
            match action {
                Action::Log(entry) => say(&self.life_check, &entry),
                Action::WakeAt(at) => self.wakes[1] = Some(at),
                Action::SendHeartbeats => self.heartbeats.send(&self.settings),
                Action::Query { peer } => {
                    let (shared, settings) = (Arc::clone(&self.shared), Arc::clone(&self.settings));
                    self.later(async move {
                        let answered = query::ask(&shared, &settings, peer).await;
                        Happened::Lifecheck(Event::Queried { peer, answered })
                    });
                }
                Action::PingTrusted => {
                    let settings = Arc::clone(&self.settings);
                    self.later(async move {
                        let any = programs::ping_trusted(settings).await;
                        Happened::Lifecheck(Event::Pinged { any })
                    });
                }
                Action::Report { peer, alive } => {
                    self.core(core::Event::Lifecheck { peer, alive });
                }
                Action::LocalDead { reason } => self.core(core::Event::LocalDead { reason }),
            }
        }
    }

    fn vip(&mut self, event: vip::Event) {
        use vip::{Action, Event};
        for action in self.vip.handle(event, Instant::now()) {
            match action {
                Action::Log(entry) => say(&self.utility, &entry),
                Action::WakeAt(at) => self.wakes[2] = Some(at),
                Action::Run { call, command } => {
                    let running = Running::default();
                    self.running.insert(call, running.clone());
                    let reporter = self.utility.clone();
                    self.later(async move {
                        let success = programs::run(command, running, reporter).await;
                        Happened::Vip(Event::Ended { call, success })
                    });
                }
                Action::Abandon { call } => {
                    if let Some(running) = self.running.remove(&call) {
                        running.kill();
                    }
                }
                Action::LookForAddress { call } => {
                    let present = host::has_address(&self.settings.delegate_ip);
                    let present = present.unwrap_or(false);
                    self.vip(Event::Looked { call, present });
                }
                // There is no query cache yet.
                Action::ClearQueryCache => {}
                Action::AtRest => self.at_rest(),
            }
        }
    }

    fn at_rest(&mut self) {
        let Some(done) = self.stopping.take() else {
            return;
        };
        // What was sent last has to reach the others: that this node goes.
        let written = self.written.take();
        self.unwritten = mpsc::channel(1).0;
        drop(tokio::task::spawn_local(async move {
            if let Some(mut written) = written {
                let _ = timeout(LAST_WORDS, written.recv()).await;
            }
            // Whoever waits may have given up.
            let _ = done.send(());
        }));
    }

    fn later(&self, work: impl Future<Output = Happened> + 'static) {
        let events = self.events.clone();
        drop(tokio::task::spawn_local(async move {
            let happened = work.await;
            // The watchdog has ended: so does the process.
            let _ = events.send(happened).await;
        }));
    }
}

fn say(reporter: &Reporter, entry: &Entry) {
    reporter.emit(entry.severity, &entry.message, "", &entry.hint);
}
