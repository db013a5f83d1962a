//! The one owner of the three cores, and the loop that hands events to them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{interval, sleep},
};

use super::{
    connection::{self, Link, Unwritten},
    guarding::Guarding,
    handle::Order,
    heartbeat, host,
    keeping::Keeping,
    near::Near,
    programs::Running,
    told::Told,
};
use crate::{
    control::Shared,
    observe::Reporter,
    watchdog::{
        clock,
        codec::{ipc::IpcFrame, ipc_answer::NodeList},
        core::{self, Conn, Core, Leader, Place},
        ipc::{self, Verdict},
        lifecheck::{self, Lifecheck},
        settings::Settings,
        vip::{self, Vip},
    },
};

/// Between two looks at the devices and addresses of this host.
const LOOK: Duration = Duration::from_secs(1);
/// What nobody has written to for ten days is swept from some folders.
const TOUCH: Duration = Duration::from_secs(12 * 3600);
/// Making the picture for tools costs more than most events, of which waiting answers make many.
const SHOW: Duration = Duration::from_millis(20);

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
    /// What the next start has to know is on disk, or cannot be written.
    Kept(std::io::Result<()>),
    /// A tool asks at the local socket. `None` as an answer: the connection is just closed.
    Asked {
        request: IpcFrame,
        reply: oneshot::Sender<Option<IpcFrame>>,
    },
}

pub(super) struct Shell {
    pub settings: Arc<Settings>,
    pub shared: Arc<Shared>,
    pub core: Core,
    pub lifecheck: Lifecheck,
    pub vip: Vip,
    /// There with a virtual IP.
    pub guard: Option<Guarding>,
    /// Of the three cores, in the time of [`clock::now`].
    pub wakes: [Option<Instant>; 3],
    pub links: BTreeMap<Conn, Link>,
    /// Numbers accepted connections.
    pub accepted: u64,
    pub heartbeats: heartbeat::Sender,
    pub kept: Arc<host::Kept>,
    /// When the file of it was, that nobody takes it for forgotten.
    pub touched: Option<Instant>,
    /// The memory is being written, and others wait for it.
    pub keeping: Keeping,
    /// As the core was told last.
    pub address_is_here: bool,
    /// Commands of the virtual IP that run, by their calls.
    pub running: HashMap<u64, Running>,
    /// Who leads, and whether this node decides, as the supervisor was told last.
    pub leader: (Option<Leader>, bool),
    pub stopping: Option<oneshot::Sender<()>>,
    pub events: mpsc::Sender<Happened>,
    pub unwritten: Unwritten,
    /// The other end of `unwritten`, until the end.
    pub written: Option<mpsc::Receiver<()>>,
    pub picture: Arc<ArcSwap<NodeList>>,
    /// When `picture` was made last.
    pub shown: Option<Instant>,
    pub told: Told,
    pub reporter: Reporter,
    pub utility: Reporter,
    pub life_check: Reporter,
}

/// Runs for as long as the process.
pub(super) async fn serve(
    near: &Near,
    mut orders: mpsc::UnboundedReceiver<Order>,
    mut happened: mpsc::Receiver<Happened>,
) {
    let shared = Arc::clone(&near.shell.borrow().shared);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let pause = {
            let mut shell = near.shell.borrow_mut();
            let now = clock::now();
            let show = shell.show_if_due(now);
            let wake = shell.wakes.iter().flatten().chain(&show).min();
            wake.map(|at| at.saturating_duration_since(now))
        };
        let timer = async {
            match pause {
                Some(pause) => sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(order) => near.shell.borrow_mut().order(order),
                None => return,
            },
            () = timer => near.shell.borrow_mut().fire(),
            () = near.changed.notified() => {}
            // A session has an answer of the primary that it may not hand on yet.
            () = shared.write_lease.wanted() => near.shell.borrow_mut().core(core::Event::Cover),
            // Before what comes from outside, of which there may always be more.
            _ = look.tick() => {
                let mut shell = near.shell.borrow_mut();
                // The runtime's timers do not count the time for which the machine was suspended.
                shell.fire();
                shell.look_at_host();
            }
            event = happened.recv() => match event {
                Some(event) => near.shell.borrow_mut().happened(event),
                None => return,
            },
        }
    }
}

impl Shell {
    /// After an event. Returned: when it is due.
    fn show_if_due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.shown.map(|shown| shown + SHOW);
        let early = due.filter(|due| *due > now);
        if early.is_none() {
            self.shown = Some(now);
            self.tell_address();
            self.show(now);
        }
        early
    }

    /// Not at once: the core may be in the middle of the actions that have led to it.
    fn tell_address(&mut self) {
        let here = self.vip.is_held();
        if std::mem::replace(&mut self.address_is_here, here) != here {
            self.core(core::Event::Address { here });
        }
    }

    /// For tools, which read it without asking.
    fn show(&mut self, now: Instant) {
        let list = self.core.node_list(None);
        let ip = self.settings.delegate_ip.as_str();
        let address = (!ip.is_empty()).then(|| (ip, self.vip.is_held()));
        self.told.tell(&list, address, &self.shared.events, now);
        if **self.picture.load() != list {
            self.picture.store(Arc::new(list));
        }
    }

    fn fire(&mut self) {
        let now = clock::now();
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
            Order::ClusterCommand(command) => self.core(core::Event::ClusterCommand(command)),
            Order::Recovering(on) => self.lifecheck(lifecheck::Event::Recovering(on)),
            Order::Stop { done } => {
                self.stopping = Some(done);
                self.core(core::Event::Stop);
                self.vip(vip::Event::Stop);
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
            Happened::Kept(done) => self.memory_is_kept(done),
            Happened::Asked { request, reply } => self.asked(&request, reply),
        }
    }

    fn accepted(&mut self, stream: TcpStream, source: String) {
        if self.keeping.is_cut_off() {
            return;
        }
        match self.core.place_for(&source, clock::now()) {
            Place::Free => {}
            Place::Instead(oldest) => {
                self.links.remove(&oldest);
                self.core(core::Event::Closed { conn: oldest });
            }
            Place::None => return self.core(core::Event::TurnedAway { source }),
        }
        if connection::prepare(&stream).is_err() {
            return;
        }
        self.accepted += 1;
        let conn = Conn::In(self.accepted);
        self.core(core::Event::Accepted { conn, source });
        let (events, unwritten) = (self.events.clone(), self.unwritten.clone());
        let link = connection::accepted(conn, stream, events, unwritten);
        self.links.insert(conn, link);
    }

    fn asked(&mut self, request: &IpcFrame, reply: oneshot::Sender<Option<IpcFrame>>) {
        let answer = match ipc::judge(&self.core, &self.settings.authkey, request) {
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

    pub(super) fn tell_guard(&mut self) {
        if let Some(guard) = &mut self.guard {
            guard.tell(self.vip.may_be_here(), clock::now());
        }
    }

    fn look_at_host(&mut self) {
        self.tell_guard();
        self.cut_off_if_disk_hangs();
        let now = clock::now();
        if self.touched.is_none_or(|last| now >= last + TOUCH) {
            self.touched = Some(now);
            let kept = Arc::clone(&self.kept);
            // What fails here fails aloud when something has to be kept.
            drop(tokio::task::spawn_blocking(move || kept.touch()));
        }
        if host::network_is_lost(&self.settings.monitored_interfaces) {
            self.core(core::Event::NetworkLost);
        }
        if let Some(present) = host::has_address(&self.settings.delegate_ip) {
            self.vip(vip::Event::Seen { present });
        }
    }
}
