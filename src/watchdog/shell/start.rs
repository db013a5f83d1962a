//! The start of the watchdog: its sockets before anything else, then its tasks.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::Arc,
};

use arc_swap::ArcSwap;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    time::sleep,
};

use super::{
    guarding::Guarding,
    handle::{Handle, Order},
    heartbeat, host,
    keeping::Keeping,
    listen, local,
    near::Near,
    task::{self, Happened, Shell},
    told::Told,
};
use crate::{
    control::Shared,
    observe::Reporter,
    process::fatal::Fatal,
    watchdog::{
        clock,
        codec::status::BackendStatus,
        core::{self, Core},
        lifecheck::{self, Lifecheck},
        vip::{self, Vip},
    },
};

/// Events that wait. A flood from outside waits in the sockets.
const EVENTS: usize = 1024;

/// Its sockets are open, and nothing runs yet.
pub struct Watchdog {
    near: Near,
    listeners: listen::Listeners,
    events: mpsc::Sender<Happened>,
    happened: mpsc::Receiver<Happened>,
    orders: mpsc::UnboundedReceiver<Order>,
}

/// Opens all sockets, and puts the handle into [`Shared`]. `None`: there is no watchdog.
///
/// # Errors
///
/// A socket cannot be had.
pub async fn prepare(shared: &Arc<Shared>) -> Result<Option<Watchdog>, Fatal> {
    let config = shared.config.load_full();
    let Some(settings) = config.settings.watchdog.clone() else {
        return Ok(None);
    };
    let reporter = Reporter::new("watchdog");
    let listeners = listen::bind(&settings, &reporter).await?;
    let (sender, orders) = mpsc::unbounded_channel();
    let (events, happened) = mpsc::channel(EVENTS);
    let (unwritten, written) = mpsc::channel(1);
    let now = clock::now();
    let core = Core::new(Arc::clone(&settings), host::node_name(&settings.own), now);
    let picture = Arc::new(ArcSwap::from_pointee(core.node_list(None)));
    let handle = Handle {
        orders: sender,
        picture: Arc::clone(&picture),
        end: Arc::default(),
    };
    if shared.watchdog.set(handle).is_err() {
        return Err(Fatal::new("the watchdog is started twice"));
    }
    let utility = Reporter::new("watchdog_utility");
    let shell = Shell {
        guard: Guarding::new(&settings, &config.settings, utility.clone()),
        core,
        lifecheck: Lifecheck::new(Arc::clone(&settings), now),
        vip: Vip::new(&settings, now),
        wakes: [None; 3],
        links: BTreeMap::new(),
        accepted: 0,
        heartbeats: heartbeat::Sender::new(&settings, Reporter::new("life_check")),
        kept: Arc::new(host::Kept::new(
            &host::state_directory(&config.settings.work_dir),
            config.settings.port,
        )),
        touched: None,
        keeping: Keeping::default(),
        address_is_here: false,
        running: HashMap::new(),
        leader: (None, false),
        stopping: None,
        events: events.clone(),
        unwritten,
        written: Some(written),
        picture,
        shown: None,
        told: Told::default(),
        reporter,
        utility,
        life_check: Reporter::new("life_check"),
        settings,
        shared: Arc::clone(shared),
    };
    let near = Near {
        shell: Rc::new(RefCell::new(shell)),
        changed: Rc::new(Notify::new()),
    };
    Ok(Some(Watchdog {
        near,
        listeners,
        events,
        happened,
        orders,
    }))
}

impl Watchdog {
    /// For the supervisor.
    pub fn near(&self) -> Near {
        self.near.clone()
    }

    /// Runs for as long as the process; must be in a `LocalSet`. `backends`: as they are known at the
    /// start.
    pub async fn run(self, backends: BackendStatus) {
        let Watchdog {
            near,
            listeners,
            events,
            happened,
            orders,
        } = self;
        for listener in listeners.tcp {
            drop(tokio::task::spawn_local(accept(listener, events.clone())));
        }
        let settings = Arc::clone(&near.shell.borrow().settings);
        for socket in listeners.heartbeats {
            let receiving = heartbeat::receive(socket, Arc::clone(&settings), events.clone());
            drop(tokio::task::spawn_local(receiving));
        }
        drop(tokio::task::spawn_local(local::serve(
            listeners.ipc,
            events,
        )));
        {
            let mut shell = near.shell.borrow_mut();
            shell.core(core::Event::Backends(backends));
            shell.tell_guard();
            shell.vip(vip::Event::Start);
            let memory = shell.memory();
            shell.warn_of_swept_memory();
            shell.core(core::Event::Start { memory });
            shell.lifecheck(lifecheck::Event::Start);
        }
        task::serve(&near, orders, happened).await;
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
            Err(_) => sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}
