//! The watchdog's decisions: who belongs to the cluster, who leads it, whether a failover may be.
//!
//! Feed [`Core`] what happens and the time; do what it returns, in order. It knows no socket, no process
//! and no clock. States, timers and answers are those of `src/watchdog/watchdog.c @ V4_3_5`; what differs on
//! purpose is said where it happens. Lifecheck ([`super::lifecheck`]) and virtual IP ([`super::vip`]) are
//! cores of their own, joined to this one by the shell:
//!
//! | this core says | the shell |
//! |---|---|
//! | [`Action::Connect`] | opens a TCP connection to the member, without waiting |
//! | [`Action::Send`], [`Action::Close`] | one write per packet; drains what has come before it closes on a write error |
//! | [`Action::Escalate`], [`Action::DeEscalate`] | are events of the virtual IP's core |
//! | [`Action::Failover`], [`Action::Adopt`], quarantine | are requests to the supervisor |
//! | [`Action::Serving`] | lets sessions write to the primary, or holds them |
//! | [`Action::Exit`] | stops pgpool, after de-escalation |

mod commands;
mod config;
pub mod consensus;
mod events;
mod failover;
mod leader;
pub mod lease;
mod links;
mod packets;
mod peer;
mod picture;
pub mod quorum;
mod split_brain;
mod states;
mod strangers;
mod summary;
#[cfg(test)]
mod tests;
mod texts;
mod troubles;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    commands::Pending,
    consensus::Votes,
    failover::Failovers,
    lease::{Held, Lease, Memory},
    links::Links,
    peer::Peer,
    strangers::Refusals,
    summary::Summaries,
};
pub use self::{
    events::{Action, Conn, Entry, Event, Leader},
    strangers::Place,
};
use super::{
    codec::{Message, Service, function::FailoverRequest, node_info::State, status::BackendStatus},
    settings::Settings,
    write_lease::Serving,
};
use crate::observe::Severity;

/// Place in [`Settings::others`].
pub type PeerId = usize;

/// What is done may make more due at once, as a lost leader that is dialled anew; never for long.
const TICKS: usize = 4;

#[derive(Debug)]
pub struct Core {
    settings: Arc<Settings>,
    /// `host:port system host`, as others show this node.
    name: String,
    now: Instant,
    started: Instant,
    state: State,
    state_since: Instant,
    /// The one timer of a state.
    timer: Option<Instant>,
    peers: Vec<Peer>,
    links: Links,
    /// Announced to be of this node. Anybody else's may be `None` for a while, as ours after a start.
    leader: Option<Leader>,
    last_id: u32,
    pending: Vec<Pending>,
    /// Of a leader: who has joined.
    standbys: Vec<PeerId>,
    /// As last announced by this node as leader.
    quorum: i32,
    /// As leader: when it was lost that is not there now.
    quorum_lost: Option<Instant>,
    /// -1 while this node resigns.
    priority: i32,
    escalated: bool,
    settled: bool,
    votes: Votes,
    failovers: Failovers,
    lease: Lease,
    backends: BackendStatus,
    /// When a service message was last sent to all, by its byte.
    said: Vec<(Service, Instant)>,
    /// The silent leader was asked: when.
    asked_leader: Option<Instant>,
    serving: bool,
    refusals: Refusals,
    /// Lines about who leads.
    summaries: Summaries,
    /// As last looked at by [`Core::begin_to_decide`].
    decides: bool,
    wake: Option<Instant>,
    ended: bool,
    out: Vec<Action>,
}

impl Core {
    /// `name`: `host:port system host`, see [`super::settings::Member::label`].
    pub fn new(settings: Arc<Settings>, name: String, now: Instant) -> Core {
        let peers = settings.others.iter().cloned().map(Peer::new).collect();
        Core {
            name,
            now,
            started: now,
            state: State::Dead,
            state_since: now,
            timer: None,
            peers,
            links: Links::default(),
            leader: None,
            last_id: 1,
            pending: Vec::new(),
            standbys: Vec::new(),
            quorum: 0,
            quorum_lost: None,
            priority: settings.priority,
            escalated: false,
            settled: false,
            votes: Votes::new(settings.consensus.vote_lifetime),
            failovers: Failovers::default(),
            lease: Lease::new(settings.write_lease, now),
            backends: BackendStatus {
                nodes: Vec::new(),
                primary: -2,
                quarantined_primary: None,
                node_name: String::new(),
            },
            said: Vec::new(),
            asked_leader: None,
            serving: true,
            refusals: Refusals::default(),
            summaries: Summaries::default(),
            decides: false,
            wake: None,
            ended: false,
            out: Vec::new(),
            settings,
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<Leader> {
        self.leader
    }

    pub fn is_escalated(&self) -> bool {
        self.escalated
    }

    /// Leads, has said so, and has the quorum.
    pub fn leads_with_quorum(&self) -> bool {
        self.leader == Some(Leader::Own) && self.quorum >= 0
    }

    /// May sessions write to the primary at this moment? The answer can change without an event; a
    /// session that was stopped in between asks again before it writes.
    pub fn may_serve(&self, now: Instant) -> bool {
        !self.lease.is_on() || self.lease.serves(now)
    }

    /// What [`crate::control::Shared::write_lease`] is to be set to after every event, before the actions are
    /// carried out: some of them promise others that nothing is written here any more.
    pub fn serving(&self) -> Serving {
        self.lease.serving()
    }

    /// The write lease is on, as far as this node knows.
    pub fn keeps_lease(&self) -> bool {
        self.lease.is_on()
    }

    /// Holds the lease as leader.
    pub fn holds_lease(&self, now: Instant) -> bool {
        self.lease.is_on() && self.lease.holds(now)
    }

    /// Who has given what this node may serve by.
    pub fn lease_source(&self) -> Option<Leader> {
        self.lease.source()
    }

    #[must_use = "the caller has to carry the actions out"]
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        self.now = self.now.max(now);
        if self.ended {
            return Vec::new();
        }
        self.notice_suspension();
        match event {
            Event::Start { memory } => self.start(memory),
            Event::Timer => {}
            Event::Accepted { conn, source } => self.links.accepted(conn, source, self.now),
            Event::TurnedAway { source } => self.turned_away(&source),
            Event::Connected { conn } => self.connected(conn),
            Event::Closed { conn } => self.closed(conn),
            Event::Unreachable { conn, why } => self.unreachable(conn, why),
            Event::Unreadable { conn, why } => self.unreadable(conn, why),
            Event::Received { conn, id, message } => self.received(conn, id, message),
            Event::Garbled { conn, id, kind } => self.garbled(conn, id, kind),
            Event::Lifecheck { peer, alive } => self.lifecheck(peer, alive),
            Event::LocalDead { reason } => self.exit(State::Lost, reason),
            Event::Address { here } => self.summaries.address_is_here = here,
            Event::NetworkLost => self.exit(
                State::InNetworkTrouble,
                "system has lost the network".to_owned(),
            ),
            Event::Request { ticket, request } => self.request(ticket, request),
            Event::FailoverBegins => self.failover_begins(),
            Event::FailoverEnds => self.failover_ends(),
            Event::FailoverDropped(request) => self.failover_dropped(&request),
            Event::Cover => self.lease_cover(),
            Event::Adopted { number } => self.adopted(number),
            Event::Backends(status) => self.backends_came(status),
            Event::ClusterCommand(command) => self.broadcast(Message::ClusterCommand(command)),
            Event::Stop => self.stop(),
        }
        self.tick();
        std::mem::take(&mut self.out)
    }

    fn start(&mut self, memory: Memory) {
        self.started = self.now;
        self.lease.start(memory, self.now);
        if memory.lease_is_on {
            self.say_serving();
        }
        self.log(format!(
            "watchdog node {} \"{}\" starts, {} other nodes are configured",
            self.settings.node_id,
            self.name,
            self.peers.len()
        ));
        for peer in 0..self.peers.len() {
            self.dial(peer);
        }
        self.enter(State::Loading);
    }

    fn tick(&mut self) {
        for _ in 0..TICKS {
            if self.state == State::Dead || self.ended {
                return;
            }
            self.do_what_is_due();
            if self.next_wake().is_none_or(|at| at > self.now) {
                break;
            }
        }
        self.begin_to_decide();
        self.say_serving();
        self.summarise();
        let wake = self.next_wake();
        if wake != self.wake {
            self.wake = wake;
            self.out.extend(wake.map(Action::WakeAt));
        }
    }

    /// In the order of the original's loop.
    fn do_what_is_due(&mut self) {
        self.expire_commands();
        if self.timer.is_some_and(|at| at <= self.now) {
            self.timer = None;
            self.state_timeout();
        }
        self.close_strangers();
        self.redial();
        self.drop_unreachable();
        self.watch_leader();
        self.remove_members();
        self.tick_failovers();
        self.tick_lease();
        self.update_quorum();
    }

    /// Was this process stopped for so long that others must have given it up? Then it must not go on as if
    /// nothing had happened.
    fn notice_suspension(&mut self) {
        let patience = self.settings.lifecheck.silence();
        let late = self
            .wake
            .is_some_and(|wake| self.now.saturating_duration_since(wake) >= patience);
        if late && matches!(self.state, State::Leader | State::Standby) {
            self.warn(
                format!(
                    "this process did not run for {} seconds: looking for the cluster anew",
                    patience.as_secs()
                ),
                "was it stopped, or the machine? Other nodes have taken it for dead meanwhile",
            );
            self.enter(State::Joining);
        }
    }

    fn stop(&mut self) {
        self.lease.stop_serving(Held::Beginning);
        self.broadcast(Message::GoingDown);
        self.deescalate();
        for conn in self.links.all() {
            self.out.push(Action::Close { conn });
        }
        self.ended = true;
    }

    fn exit(&mut self, state: State, reason: String) {
        self.warn(
            format!(
                "this watchdog node ends in state {}: {reason}",
                state.name(false)
            ),
            "pgpool stops, and the virtual IP is given up; start it again when the cause is gone",
        );
        self.state = state;
        self.lease.stop_serving(Held::Beginning);
        self.broadcast_info();
        self.deescalate();
        self.serving = false;
        self.out.push(Action::Serving(false));
        self.out.push(Action::Exit { reason });
        self.ended = true;
    }

    fn next_wake(&self) -> Option<Instant> {
        let mut wake = self.timer;
        let mut add = |at: Option<Instant>| {
            wake = match (wake, at) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        };
        add(self.pending.iter().map(|p| p.deadline).min());
        add(self.next_dial());
        add(self.next_silence());
        add(self.next_removal());
        add(self.votes.next());
        add(self.summaries.next());
        add(self.next_stranger());
        add(self.failovers.next(self.now));
        add(self.lease.next(self.state, self.now));
        wake
    }

    fn say_serving(&mut self) {
        let serving = self.may_serve(self.now);
        if serving != self.serving {
            self.serving = serving;
            self.out.push(Action::Serving(serving));
            match self.lease.held() {
                // That the lease is off has been said.
                _ if serving && !self.lease.is_on() => {}
                _ if serving => self.log("writes are served: a majority of the watchdog nodes is in sight"),
                Some(Held::Pause) => self.log("writes wait until the failover of the primary node is over"),
                Some(Held::Picture) => {
                    self.log("writes wait until a majority of the watchdog nodes knows the same of the backends");
                }
                Some(Held::Beginning) => self.log("writes wait for the first answers about the write lease"),
                None => self.warn(
                    "writes wait: no majority of the watchdog nodes is in sight, and another node may be making a new primary",
                    "look at the network between the pgpool nodes, and whether their pgpools run",
                ),
            }
        }
    }

    fn log(&mut self, message: impl Into<String>) {
        self.out.push(Action::Log(Entry {
            severity: Severity::Log,
            message: message.into(),
            hint: String::new(),
        }));
    }

    fn warn(&mut self, message: impl Into<String>, hint: &str) {
        self.out.push(Action::Log(Entry {
            severity: Severity::Warning,
            message: message.into(),
            hint: hint.to_owned(),
        }));
    }

    fn ticket(&mut self) -> u32 {
        // Stock nodes treat ids as signed in places.
        self.last_id = if self.last_id >= 0x7fff_fffe {
            1
        } else {
            self.last_id + 1
        };
        self.last_id
    }

    fn peer_label(&self, peer: PeerId) -> String {
        self.peers[peer].label()
    }

    /// Seconds since then, as the wire counts them.
    fn seconds(&self, since: Instant) -> i64 {
        let seconds = self.now.saturating_duration_since(since).as_secs();
        i64::try_from(seconds).unwrap_or(i64::MAX)
    }
}

/// Times of the protocol.
pub(crate) mod times {
    use super::Duration;

    pub const REPLY: Duration = Duration::from_secs(5);
    pub const COMMAND: Duration = Duration::from_secs(4);
    pub const LONG_COMMAND: Duration = Duration::from_secs(5);
    pub const INITIALIZING: Duration = Duration::from_secs(1);
    pub const BEACON: Duration = Duration::from_secs(10);
    pub const STANDBY: Duration = Duration::from_secs(10);
    pub const ISOLATION: Duration = Duration::from_secs(10);
    pub const LEADER_QUIET: Duration = Duration::from_secs(20);
    pub const LEADER_SILENT: Duration = Duration::from_secs(30);
    pub const RETRY: Duration = Duration::from_secs(10);
    pub const RETRY_SOON: Duration = Duration::from_secs(1);
    /// A node that has stopped in order is dialled rarely; stock nodes do not at all.
    pub const RETRY_STOPPED: Duration = Duration::from_secs(30);
    pub const SAME_SERVICE: Duration = Duration::from_secs(5);
    /// Beacons or sends that may fail in a row.
    pub const TOLERATED: u32 = 3;
}
