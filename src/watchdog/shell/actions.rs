//! Carries out what the three cores say, at once and in order; the actions of one are events of another.

use std::{sync::Arc, time::Duration};

use super::{
    connection,
    handle::Wish,
    host,
    keeping::TOO_LONG,
    programs::{self, Running},
    query,
    task::{Happened, Shell},
};
use crate::{
    control::SupervisorMessage,
    observe::{Reporter, Severity},
    sys::errors,
    watchdog::{
        clock,
        codec::Message,
        core::{self, Conn, Entry, Leader, lease::Memory},
        lifecheck, vip,
    },
};

/// How long the last packets may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Shell {
    pub(super) fn core(&mut self, event: core::Event) {
        let actions = self.core.handle(event, clock::now());
        // Before anything else: some of the actions promise others that nothing is written here any more.
        if self.shared.write_lease.set(self.core.serving())
            && let Some(plane) = self.shared.dataplane()
        {
            plane.serving_again();
        }
        let coordinates = self.core.coordinates();
        let leader = (self.core.leader(), coordinates);
        if std::mem::replace(&mut self.leader, leader) != leader {
            self.wish(Wish::Leader { coordinates });
        }
        for action in actions {
            // What the file of the memory says must be on disk before others are told what rests on it, and before
            // anything is decided by it.
            if let Some(action) = self.keeping.pass(action) {
                self.act(action);
            }
        }
        self.cut_off_if_disk_hangs();
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
            Action::Adopt { number, status } => self.wish(Wish::Adopt { number, status }),
            Action::Failover(request) => self.wish(Wish::Failover(request)),
            Action::Answer { ticket, result } => self.wish(Wish::Answer { ticket, result }),
            Action::VoteForQuarantined => self.wish(Wish::VoteForQuarantined),
            Action::ReleaseQuarantined => self.wish(Wish::ReleaseQuarantined),
            Action::LookAtBackends => self.wish(Wish::LookAtBackends),
            Action::CheckBackends => self.wish(Wish::CheckBackends),
            Action::Run {
                command,
                from_leader,
            } => self.wish(Wish::Run {
                command,
                from_leader,
            }),
            Action::Serving(_) => {}
            Action::Remember(memory) => self.remember(memory),
            Action::Exit { reason } => {
                if let Some(handle) = self.shared.watchdog.get() {
                    // The first reason counts.
                    let _ = handle.end.set(reason.clone());
                }
                self.wish(Wish::Exit { reason });
            }
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

    fn remember(&mut self, memory: Memory) {
        self.keeping.begin(clock::now());
        let kept = Arc::clone(&self.kept);
        self.later(async move {
            let done = tokio::task::spawn_blocking(move || kept.remember(&memory)).await;
            // A panic there is the program's end.
            Happened::Kept(done.unwrap_or_else(|error| Err(error.into())))
        });
    }

    pub(super) fn memory_is_kept(&mut self, done: std::io::Result<()>) {
        if let Err(error) = done {
            self.say_unkept(&error);
        }
        if self.keeping.is_cut_off() {
            self.reporter.log(format_args!(
                "the file \"{}\" is on disk: this node connects to the other watchdog nodes again",
                self.kept.path().display()
            ));
        }
        self.keeping.end();
        while let Some(action) = self.keeping.next() {
            self.act(action);
        }
    }

    /// What an earlier process has kept.
    pub(super) fn memory(&self) -> Memory {
        let (memory, error) = self.kept.read();
        if let Some(error) = error {
            self.say_unkept(&error);
        }
        memory
    }

    /// Others need not wait for a node that can promise nothing, and what they are told too late means nothing.
    pub(super) fn cut_off_if_disk_hangs(&mut self) {
        if !self.keeping.cut_off_if_late(clock::now()) {
            return;
        }
        self.reporter.emit(
            Severity::Warning,
            format_args!(
                "the file \"{}\" is not on disk after {} s: until it is, this node has no connection to the other watchdog nodes, and begins no failover",
                self.kept.path().display(),
                TOO_LONG.as_secs()
            ),
            "what it tells them must not be forgotten by its next start",
            "look at the disk: it may be full of work, or hang",
        );
        let links = std::mem::take(&mut self.links);
        for conn in links.into_keys() {
            self.core(core::Event::Closed { conn });
        }
    }

    pub(super) fn warn_of_swept_memory(&self) {
        if self.settings.write_lease.is_some() && self.kept.may_be_swept() {
            self.reporter.emit(
                Severity::Warning,
                format_args!(
                    "the watchdog keeps what its next start has to know in \"{}\", which may be gone after a restart of the machine",
                    self.kept.path().display()
                ),
                "without it a node that starts alone, cut off from the others, serves writes that are lost",
                "put StateDirectory=pgpool-rs into the [Service] section of the unit, or logdir where files stay",
            );
        }
    }

    fn say_unkept(&self, error: &std::io::Error) {
        self.reporter.emit(
            Severity::Warning,
            format_args!(
                "cannot use the file \"{}\", in which the watchdog keeps what its next start has to know",
                self.kept.path().display()
            ),
            &errors::message(error),
            "give the work directory (logdir) to the account that pgpool runs as; without the file a node that is cut off may serve writes after a restart",
        );
    }

    fn wish(&self, wish: Wish) {
        // The supervisor lives as long as the process.
        let _ = self
            .shared
            .supervisor
            .send(SupervisorMessage::Watchdog(wish));
    }

    pub(super) fn lifecheck(&mut self, event: lifecheck::Event) {
        use lifecheck::{Action, Event};
        for action in self.lifecheck.handle(event, clock::now()) {
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
                    let reporter = self.life_check.clone();
                    self.later(async move {
                        let any = programs::ping_trusted(settings, reporter).await;
                        Happened::Lifecheck(Event::Pinged { any })
                    });
                }
                Action::Report { peer, alive } => {
                    self.core(core::Event::Lifecheck { peer, alive });
                    // Its host may be cut off, and the server there would let each try to connect wait.
                    if let Some(member) = self.settings.others.get(peer).filter(|_| !alive) {
                        self.wish(Wish::LookAtHost(member.host.clone()));
                    }
                }
                Action::LocalDead { reason } => self.core(core::Event::LocalDead { reason }),
            }
        }
    }

    pub(super) fn vip(&mut self, event: vip::Event) {
        use vip::{Action, Event};
        for action in self.vip.handle(event, clock::now()) {
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
                Action::Abandon { call, kill } => {
                    if let Some(running) = self.running.remove(&call).filter(|_| kill) {
                        running.kill(&self.utility);
                    }
                }
                Action::LookForAddress { call } => {
                    let present = host::has_address(&self.settings.delegate_ip);
                    self.vip(Event::Looked { call, present });
                }
                // There is no query cache yet.
                Action::ClearQueryCache => {}
                Action::AtRest => self.at_rest(),
            }
        }
        if let Some(guard) = &mut self.guard {
            guard.note(self.vip.may_be_here(), clock::now());
        }
    }

    pub(super) fn at_rest(&mut self) {
        let Some(done) = self.stopping.take() else {
            return;
        };
        // What was sent last has to reach the others: that this node goes.
        self.links.clear();
        let written = self.written.take();
        self.unwritten = tokio::sync::mpsc::channel(1).0;
        drop(tokio::task::spawn_local(async move {
            if let Some(mut written) = written {
                let _ = tokio::time::timeout(LAST_WORDS, written.recv()).await;
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
