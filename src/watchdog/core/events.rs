//! What the core of the watchdog is told, and what it wants done.

use std::time::Instant;

use super::{PeerId, lease::Memory};
use crate::{
    observe::Severity,
    watchdog::codec::{
        Message,
        function::{ClusterCommand, FailoverRequest, FailoverResult},
        status::BackendStatus,
    },
};

/// A TCP connection: ours to a member, counted by attempts, or one that was accepted, by a number of the
/// shell that is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Conn {
    Out { peer: PeerId, attempt: u32 },
    In(u64),
}

#[derive(Clone, Debug)]
pub enum Event {
    /// Sent once, first. `memory`: the last [`Action::Remember`] of the process before.
    Start {
        memory: Memory,
    },
    /// The moment of [`Action::WakeAt`] has come; spurious ones are harmless.
    Timer,
    /// A connection came in, from this address in text form.
    Accepted {
        conn: Conn,
        source: String,
    },
    /// One from there was closed at once, as [`Core::place_for`](super::Core::place_for) wants it.
    TurnedAway {
        source: String,
    },
    /// The one of [`Action::Connect`] stands.
    Connected {
        conn: Conn,
    },
    /// It could not be made, has ended, or a write has failed.
    Closed {
        conn: Conn,
    },
    /// Why the one of [`Action::Connect`] could not be made; its end is told as for all others.
    Unreachable {
        conn: Conn,
        why: String,
    },
    /// Why a packet says nothing, or the connection has to end; told before [`Event::Garbled`] or
    /// [`Event::Closed`].
    Unreadable {
        conn: Conn,
        why: String,
    },
    Received {
        conn: Conn,
        id: u32,
        message: Message,
    },
    /// A packet that nobody understands. `kind` is its type.
    Garbled {
        conn: Conn,
        id: u32,
        kind: u8,
    },
    /// The lifecheck, or a program in its place, says so of a node.
    Lifecheck {
        peer: PeerId,
        alive: bool,
    },
    /// The lifecheck says that this node is cut off or broken: the end of this process.
    LocalDead {
        reason: String,
    },
    /// The virtual IP has come to this host, or has gone from it. False until said otherwise.
    Address {
        here: bool,
    },
    /// No monitored network device is up any more: likewise.
    NetworkLost,
    /// One of our own parts asks for a failover.
    Request {
        ticket: u64,
        request: FailoverRequest,
    },
    /// The supervisor begins or has ended a failover or failback that [`Action::Failover`] or
    /// [`FailoverResult::Proceed`] has led to.
    FailoverBegins,
    FailoverEnds,
    /// The supervisor does not do what [`Action::Failover`] or [`FailoverResult::Proceed`] has told it: it
    /// was refused, dropped, or there is nothing to do.
    FailoverDropped(FailoverRequest),
    /// A session has an answer of the primary that it may hand on when a majority was heard of after it
    /// ([`crate::watchdog::write_lease::WriteLease::wanted`]).
    Cover,
    /// [`Action::Adopt`] of this number has been carried out: written to the status file and published, as far
    /// as there was anything to change.
    Adopted {
        number: u64,
    },
    /// The backends as they are here now; first before [`Event::Start`], and before each new view is
    /// published: nobody may write to a new primary before enough nodes know of it.
    Backends(BackendStatus),
    /// An operator's command for all nodes; carried out here by the shell itself.
    ClusterCommand(ClusterCommand),
    /// The end, in order.
    Stop,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Log(Entry),
    /// Send [`Event::Timer`] then; replaces an earlier request.
    WakeAt(Instant),
    Connect {
        conn: Conn,
        peer: PeerId,
    },
    Send {
        conn: Conn,
        id: u32,
        message: Message,
    },
    Close {
        conn: Conn,
    },
    /// Leader or standby for the first time: clients may be let in.
    Settled,
    Escalate,
    DeEscalate,
    /// Take over the status of the backends: status 3 is down, 1 and 2 are up; quarantine ends. A primary of
    /// -1 with our own primary valid keeps ours (the leader has quarantined it). [`Event::Adopted`] says
    /// when that is done.
    Adopt {
        number: u64,
        status: BackendStatus,
    },
    /// Do this failover or failback, without a request to the watchdog; at the moment when it begins,
    /// ask [`Core::may_still_begin`](super::Core::may_still_begin).
    Failover(FailoverRequest),
    /// To [`Event::Request`]: what is to become of it. Proceed: do it, as [`Action::Failover`]. No quorum and consensus may
    /// fail: quarantine the backend, which takes it from sessions and runs no hook.
    Answer {
        ticket: u64,
        result: FailoverResult,
    },
    /// Ask again, with [`crate::watchdog::codec::function::Flags::UPDATE`], for the backends that are quarantined here.
    VoteForQuarantined,
    /// Give the quarantined backends back.
    ReleaseQuarantined,
    /// Somebody has seen a backend fail: let the health checks look at once.
    LookAtBackends,
    /// What health checks have seen may come from a cut of the network that is over: let them begin anew, with all
    /// their retries.
    CheckBackends,
    /// A command that was given at another node. `leader`: it comes from the leader, as locks must.
    Run {
        command: ClusterCommand,
        from_leader: bool,
    },
    /// May sessions write to the primary? True until said otherwise. For logs and tools; sessions go by
    /// [`Core::serving`](super::Core::serving).
    Serving(bool),
    /// Keep for the next start; on disk before any action behind it is carried out.
    Remember(Memory),
    /// End pgpool: this node has no business to go on.
    Exit {
        reason: String,
    },
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub severity: Severity,
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leader {
    Own,
    Peer(PeerId),
}
