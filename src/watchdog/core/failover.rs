//! Requests for failovers: on a standby they go to the leader, on the leader they are decided, section 11
//! of the protocol.
//!
//! A request that nobody can decide now is answered with "ask again" and not refused as by stock nodes,
//! so that none is lost in an election. A leader does not vote twice about a backend that is down.

use std::time::{Duration, Instant};

use super::{
    Action, Core, Leader, Message, PeerId, State,
    consensus::{Outcome, Voter},
    peer::LostReason,
    quorum::majority,
    times,
};
use crate::watchdog::codec::{
    function::{Credentials, FailoverKind, FailoverRequest, FailoverResult, Flags},
    status::{BackendStatus, RemoteStatus},
};

/// The supervisor takes this long at most to begin what it is told to.
const HAND_OVER: Duration = Duration::from_secs(15);
/// A vote of ours that the leader has just told everybody of.
const JUST_ASKED: Duration = Duration::from_secs(3);
/// As the clients of a stock watchdog's local socket.
const PATIENCE: Duration = Duration::from_secs(8);
/// Those that are asked again at the same time are at most two for each backend.
const MOST_DEFERRED: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Failovers {
    forwards: Vec<Forward>,
    /// Decided, and waiting until no other side can serve writes.
    waiting: Vec<Waiting>,
    /// Decided and told to the supervisor, whose view does not show it yet.
    handed: Vec<Handed>,
    /// Of our own parts, answered with "ask again".
    deferred: Vec<Deferred>,
    /// The leader that this node has followed last.
    followed: Option<PeerId>,
    running: bool,
    /// What is known of the backends without the failover that takes the primary away and is not over.
    before: Option<BackendStatus>,
    /// When one of our own parts last asked.
    asked: Option<Instant>,
    /// The leader was asked for the backends' status, in this packet: when. Two answers can come by two
    /// connections, and the older one last; only that to the last question counts.
    asked_backends: Option<(u32, Instant)>,
}

#[derive(Debug)]
struct Waiting {
    request: FailoverRequest,
    /// All shares have ended long before.
    until: Instant,
}

#[derive(Debug)]
struct Handed {
    kind: FailoverKind,
    node: usize,
    at: Instant,
    promotes: bool,
}

impl Handed {
    fn is(&self, request: &FailoverRequest) -> bool {
        (self.kind, self.node) == (request.kind, request.node)
    }
}

/// What was seen for it may come from a cut of the network around this node, which others do not notice.
#[derive(Debug)]
struct Deferred {
    ticket: u64,
    at: Instant,
    /// At that time this node saw too few others for a majority.
    alone: bool,
    /// It is back at the leader that it had: there was no other, so it was away itself.
    outdated: bool,
}

#[derive(Debug)]
struct Forward {
    ticket: u64,
    id: u32,
    leader: PeerId,
    sent: Instant,
}

impl Failovers {
    /// This node has a quorum as leader: the one that it has followed before leads anew if it does so again.
    pub fn led(&mut self) {
        self.followed = None;
    }

    pub fn next(&self, now: Instant) -> Option<Instant> {
        let forwards = self.forwards.iter().map(|f| {
            let quiet = f.sent + times::REPLY;
            if quiet > now {
                quiet
            } else {
                f.sent + PATIENCE
            }
        });
        let handed = self.handed.iter().map(|handed| handed.at + HAND_OVER);
        let asked = self.asked_backends.map(|(_, at)| at + times::REPLY);
        let waiting = self.waiting.iter().map(|waiting| waiting.until);
        forwards.chain(handed).chain(asked).chain(waiting).min()
    }

    /// A promotion is decided, and not over.
    pub fn pauses(&self) -> bool {
        !self.waiting.is_empty() || self.handed.iter().any(|handed| handed.promotes)
    }

    pub fn is_under_way(&self) -> bool {
        self.running || self.pauses()
    }

    pub fn before(&self) -> Option<&BackendStatus> {
        self.before.as_ref()
    }

    /// The backends were so, and are so now.
    pub fn backends_came(&mut self, old: BackendStatus, new: &BackendStatus) {
        if new.known_primary().is_some() || !self.is_under_way() {
            self.before = None;
        } else if old.known_primary().is_some() {
            self.before = Some(old);
        }
    }

    pub fn asked(&mut self, id: u32, now: Instant) {
        self.asked_backends = Some((id, now));
    }
}

impl Core {
    /// One of our own parts asks.
    pub(super) fn request(&mut self, ticket: u64, request: FailoverRequest) {
        self.failovers.asked = Some(self.now);
        if !request.flags.has(Flags::CONFIRMED) && self.is_outdated(ticket) {
            self.log(format!(
                "the request about backend {} is dropped, and this node looks at the backends again: it was cut off from the others when it made the request",
                request.node
            ));
            let result = FailoverResult::NotAllowed;
            self.out.push(Action::Answer { ticket, result });
            self.out.push(Action::CheckBackends);
            return;
        }
        match (self.state, self.leader) {
            (State::Leader, Some(Leader::Own)) if self.may_decide(&request) => {
                let result = match self.decide(Voter::Own, &request) {
                    FailoverResult::Proceed if !self.may_begin(&request) => {
                        self.wait(request);
                        FailoverResult::WillBeDone
                    }
                    FailoverResult::Proceed => {
                        self.hand_over(&request);
                        FailoverResult::Proceed
                    }
                    other => other,
                };
                self.answer(ticket, result);
            }
            (State::Standby, Some(Leader::Peer(leader))) => {
                let mut forwarded = request;
                // The key would travel in clear, and nobody reads it there.
                forwarded.credentials = Credentials::default();
                let id = self.send_new(leader, Message::Failover(forwarded));
                self.failovers.forwards.push(Forward {
                    ticket,
                    id,
                    leader,
                    sent: self.now,
                });
            }
            _ => self.answer(ticket, FailoverResult::Transition),
        }
    }

    fn answer(&mut self, ticket: u64, result: FailoverResult) {
        let alone = self.is_alone();
        let deferred = &mut self.failovers.deferred;
        let place = deferred.iter().position(|d| d.ticket == ticket);
        match (result, place) {
            (FailoverResult::Transition, Some(place)) => deferred[place].alone |= alone,
            (FailoverResult::Transition, None) => {
                deferred.truncate(MOST_DEFERRED);
                deferred.insert(
                    0,
                    Deferred {
                        ticket,
                        at: self.now,
                        alone,
                        outdated: false,
                    },
                );
            }
            (_, Some(place)) => {
                deferred.remove(place);
            }
            (_, None) => {}
        }
        self.out.push(Action::Answer { ticket, result });
    }

    /// Fewer than a majority, this node included.
    fn is_alone(&self) -> bool {
        self.active().len() + 1 < majority(self.peers.len() + 1)
    }

    fn is_outdated(&mut self, ticket: u64) -> bool {
        let alone = self.is_alone();
        let deferred = &mut self.failovers.deferred;
        let outdated = |d: &Deferred| d.ticket == ticket && (d.outdated || (d.alone && !alone));
        let place = deferred.iter().position(outdated);
        if let Some(place) = place {
            deferred.remove(place);
        }
        place.is_some()
    }

    /// Where it was the leader who was away, there is a new one, and what was seen of the backends still counts.
    pub(super) fn follows(&mut self, leader: PeerId) {
        if self.failovers.followed.replace(leader) == Some(leader) {
            let age = self.peers[leader].age(self.now);
            for deferred in &mut self.failovers.deferred {
                // If it has started again since, it was the leader who was away.
                let asked = self.now.saturating_duration_since(deferred.at).as_secs();
                deferred.outdated |= i64::try_from(asked).is_ok_and(|asked| asked < age);
            }
            // A health check that is under way begins anew as well.
            self.out.push(Action::CheckBackends);
        }
    }

    /// Another node asks us as leader.
    pub(super) fn voted(&mut self, peer: PeerId, id: u32, request: FailoverRequest) {
        if self.state != State::Leader || !self.leader_is_own() {
            self.send(peer, id, Message::Error);
            return;
        }
        if !self.standbys.contains(&peer) || !self.may_decide(&request) {
            // It has not joined, or not yet anew: its vote would count for two leaders.
            let result = Message::FailoverResult(FailoverResult::Transition);
            self.send(peer, id, result);
            return;
        }
        let result = match self.decide(Voter::Peer(peer), &request) {
            FailoverResult::Proceed => {
                if self.may_begin(&request) {
                    self.hand_over(&request);
                    self.begin_failover(request);
                } else {
                    self.wait(request);
                }
                FailoverResult::WillBeDone
            }
            other => other,
        };
        self.send(peer, id, Message::FailoverResult(result));
    }

    /// A leader that does not know yet what a majority knows decides nothing; one that has no majority knows
    /// that much.
    fn may_decide(&self, request: &FailoverRequest) -> bool {
        let needs_quorum =
            self.settings.consensus.when_quorum_exists && !request.flags.has(Flags::CONFIRMED);
        let needs_lease = self.lease.is_on() && !self.lease.is_held(self.now);
        self.coordinates() || (self.quorum < 0 && (needs_quorum || needs_lease))
    }

    /// A promotion that has no lease to wait with is not decided: its reason may be long gone when there
    /// is one. Nothing is decided where a majority may decide otherwise.
    fn lacks_lease(&self, request: &FailoverRequest) -> Option<FailoverResult> {
        let decides = !self.promotes(request) && self.coordinates();
        let lacks = self.lease.is_on() && !self.lease.is_held(self.now) && !decides;
        lacks.then(|| {
            if self.lease.is_missing(self.now) {
                FailoverResult::NoQuorum
            } else {
                FailoverResult::Transition
            }
        })
    }

    fn decide(&mut self, voter: Voter, request: &FailoverRequest) -> FailoverResult {
        let settings = self.settings.consensus;
        let from = match voter {
            Voter::Own => None,
            Voter::Peer(peer) => Some(peer),
        };
        self.say_processing(request, from);
        if request.kind == FailoverKind::Degenerate && self.is_settled(request.node) {
            if let Voter::Peer(peer) = voter {
                // It has missed how the backend went down.
                self.send_new(peer, Message::FailoverEnd);
            }
            return FailoverResult::WillBeDone;
        }
        if let Some(result) = self.lacks_lease(request) {
            if result == FailoverResult::NoQuorum {
                self.log("Rejecting the failover request: it requires the write lease, which a majority of the watchdog nodes gives, and this node has none at the moment");
            }
            return result;
        }
        if !settings.when_quorum_exists || request.flags.has(Flags::CONFIRMED) {
            return FailoverResult::Proceed;
        }
        if self.quorum < 0 {
            self.log("Rejecting the failover request: failover requires the quorum to hold, which is not present at the moment");
            return FailoverResult::NoQuorum;
        }
        if !settings.require_consensus {
            return FailoverResult::Proceed;
        }
        let (needed, now) = (self.votes_needed(), self.now);
        let outcome = self
            .votes
            .cast(request, voter, needed, settings.allow_multiple, now);
        let votes = self.votes.count(request);
        match outcome {
            Outcome::Passed => {
                self.log(format!(
                    "we have got the consensus to perform the failover: {needed} node(s) voted in the favor"
                ));
                FailoverResult::Proceed
            }
            Outcome::Duplicate => {
                let label = from.map_or_else(|| self.name.clone(), |peer| self.peer_label(peer));
                self.log(format!(
                    "Duplicate failover request from \"{label}\" node: request ignored"
                ));
                FailoverResult::ConsensusMayFail
            }
            Outcome::Building { .. } => {
                self.log(format!(
                    "failover requires the majority vote, waiting for consensus: failover request noted, {votes} of {needed} votes"
                ));
                self.broadcast(Message::WaitingForConsensus);
                if voter != Voter::Own {
                    self.consensus_is_missing();
                }
                FailoverResult::BuildingConsensus
            }
        }
    }

    /// Somebody has voted: those that have not noticed yet shall look at once, and not wait for their
    /// next health check. Whoever has voted himself would only do so twice.
    pub(super) fn consensus_is_missing(&mut self) {
        self.out.push(Action::VoteForQuarantined);
        let recently = |at: Instant| self.now.saturating_duration_since(at) < JUST_ASKED;
        if !self.failovers.asked.is_some_and(recently) {
            self.out.push(Action::LookAtBackends);
        }
    }

    /// Nobody could decide until now, and the lease may have taken longer than anybody asks again: all look at
    /// the backends at once.
    pub(super) fn begin_to_decide(&mut self) {
        let decides = self.coordinates();
        let before = std::mem::replace(&mut self.decides, decides);
        if decides && !before && self.lease.is_on() {
            self.broadcast(Message::WaitingForConsensus);
            self.consensus_is_missing();
        }
    }

    /// Down, or about to be.
    fn is_settled(&self, node: usize) -> bool {
        let is_it = |kind: FailoverKind, n: usize| kind == FailoverKind::Degenerate && n == node;
        self.backends.nodes.get(node) == Some(&RemoteStatus::Down)
            || self
                .failovers
                .waiting
                .iter()
                .any(|w| is_it(w.request.kind, w.request.node))
            || self.failovers.handed.iter().any(|h| is_it(h.kind, h.node))
    }

    /// Does it lead to a promotion? When the primary is not known, anything may.
    fn promotes(&self, request: &FailoverRequest) -> bool {
        match request.kind {
            FailoverKind::Promote => true,
            FailoverKind::Failback => false,
            FailoverKind::Degenerate => {
                let primary = self.backends.known_primary();
                let primary = primary.and_then(|primary| usize::try_from(primary).ok());
                primary.is_none_or(|primary| primary == request.node)
            }
        }
    }

    /// Asked by the supervisor at the moment when it begins a failover: others may have been before it in the
    /// queue, and this process may have been stopped since it was decided. What may not begin any
    /// more is dropped; who sees the backend fail votes again.
    pub fn may_still_begin(&mut self, request: &FailoverRequest, now: Instant) -> bool {
        self.now = self.now.max(now);
        // The others do not wait for a node that has said that it goes down.
        !self.ended
            && self.state == State::Leader
            && self.leader_is_own()
            && self.may_begin(request)
    }

    /// The supervisor does not do what it was told to, for whatever reason.
    pub(super) fn failover_dropped(&mut self, request: &FailoverRequest) {
        self.failovers.handed.retain(|handed| !handed.is(request));
        self.watch_pause();
    }

    fn may_begin(&self, request: &FailoverRequest) -> bool {
        !self.promotes(request) || self.lease_allows_promotion()
    }

    fn wait(&mut self, request: FailoverRequest) {
        self.log(format!(
            "the failover of backend {} begins when no other watchdog node can serve writes any more",
            request.node
        ));
        let until = self.now + self.lease.acquisition();
        self.failovers.waiting.push(Waiting { request, until });
        self.watch_pause();
    }

    /// Who sees the reason asks again, and finds out what the network is like then.
    fn drop_waiting(&mut self, which: impl Fn(&Waiting) -> bool, why: &str) {
        let waiting = std::mem::take(&mut self.failovers.waiting);
        let (dropped, kept) = waiting.into_iter().partition(|waiting| which(waiting));
        self.failovers.waiting = kept;
        let dropped: Vec<Waiting> = dropped;
        for Waiting { request, .. } in dropped {
            self.warn(
                format!(
                    "the {} of backend {} does not begin: {why}",
                    match request.kind {
                        FailoverKind::Promote => "promotion",
                        _ => "failover",
                    },
                    request.node
                ),
                "health checks and sessions that find the backend down ask again; an order of pcp_detach_node or pcp_promote_node has to be given again",
            );
        }
    }

    fn hand_over(&mut self, request: &FailoverRequest) {
        self.failovers.handed.push(Handed {
            kind: request.kind,
            node: request.node,
            at: self.now,
            promotes: self.promotes(request),
        });
    }

    /// Those that wait go on; forwarded ones are watched.
    pub(super) fn tick_failovers(&mut self) {
        let waiting = std::mem::take(&mut self.failovers.waiting);
        for waiting in waiting {
            if self.may_begin(&waiting.request) {
                self.hand_over(&waiting.request);
                self.begin_failover(waiting.request);
            } else {
                self.failovers.waiting.push(waiting);
            }
        }
        let now = self.now;
        let lost = self.lease.is_on() && !self.lease.is_held(now);
        self.drop_waiting(
            |waiting| lost || waiting.until <= now,
            "this node has not heard of a majority of the watchdog nodes for too long",
        );
        let running = self.failovers.running;
        let fresh = |at: Instant| running || now.saturating_duration_since(at) < HAND_OVER;
        self.failovers.handed.retain(|handed| fresh(handed.at));
        if running {
            for handed in &mut self.failovers.handed {
                handed.at = now;
            }
        }
        self.watch_pause();
        self.watch_forwards();
        self.expire_votes();
        let late = |(_, at): (u32, Instant)| now.saturating_duration_since(at) >= times::REPLY;
        if self.failovers.asked_backends.is_some_and(late) {
            self.failovers.asked_backends = None;
            if self.state == State::Standby {
                self.ask_backends();
            } else if let Some((peer, _)) = self.lease.learning() {
                self.ask_backends_of(peer);
            }
        }
    }

    fn watch_forwards(&mut self) {
        let now = self.now;
        let mut quiet = Vec::new();
        let mut given_up = Vec::new();
        for forward in &self.failovers.forwards {
            let waited = now.saturating_duration_since(forward.sent);
            let heard = self.peers[forward.leader].heard;
            if waited >= times::REPLY && heard.is_none_or(|at| at <= forward.sent) {
                quiet.push(forward.leader);
            } else if waited >= PATIENCE {
                given_up.push(forward.ticket);
            }
        }
        for ticket in given_up {
            self.failovers.forwards.retain(|f| f.ticket != ticket);
            self.answer(ticket, FailoverResult::Timeout);
        }
        for leader in quiet {
            if self.peers[leader].state.is_active() {
                self.lose(leader, LostReason::ReceiveTimeout);
            }
            // It may have been lost before; whoever waits asks again.
            self.forget_forwards(leader);
        }
    }

    fn expire_votes(&mut self) {
        if self.state != State::Leader {
            return;
        }
        for expired in self.votes.expire(self.now) {
            self.log(format!(
                "the votes about backend {} have found no consensus in time",
                expired.node
            ));
            let quarantined = self.backends.quarantined_primary;
            let is_it = self.backends.primary < 0
                && quarantined.is_some_and(|id| usize::try_from(id) == Ok(expired.node));
            if expired.own_vote && expired.kind == FailoverKind::Degenerate && is_it {
                return self.resign();
            }
        }
    }

    /// REPLY, ACCEPT, REJECT or ERROR for a request of ours that the leader has.
    pub(super) fn is_forwarded_answer(&mut self, peer: PeerId, id: u32, message: &Message) -> bool {
        let result = match message {
            Message::FailoverResult(result) => *result,
            Message::Accept => FailoverResult::Proceed,
            Message::Reject | Message::Error => FailoverResult::LeaderRejected,
            _ => return false,
        };
        let mut forwards = self.failovers.forwards.iter();
        let Some(place) = forwards.position(|f| f.leader == peer && f.id == id) else {
            return false;
        };
        let ticket = self.failovers.forwards.remove(place).ticket;
        self.answer(ticket, result);
        true
    }

    /// The leader is gone: whoever waits for its answer asks the next one.
    pub(super) fn forget_forwards(&mut self, peer: PeerId) {
        let (gone, kept) = std::mem::take(&mut self.failovers.forwards)
            .into_iter()
            .partition(|f: &Forward| f.leader == peer);
        self.failovers.forwards = kept;
        for forward in gone {
            let gone: Forward = forward;
            self.answer(gone.ticket, FailoverResult::Transition);
        }
        self.votes.drop_voter(Voter::Peer(peer));
    }

    /// We lead no more; what was decided and not begun is voted on again. What the supervisor was told to do
    /// may go on, and this node may lead again before it ends: that is forgotten when the supervisor says so.
    pub(super) fn drop_failovers(&mut self) {
        self.drop_waiting(|_| true, "this node leads no more");
    }

    /// What another node knows of the backends is taken over: whatever the supervisor was in the middle of is over
    /// with that.
    pub(super) fn give_up_failovers(&mut self) {
        self.drop_waiting(
            |_| true,
            "this node takes over what another one knows of the backends",
        );
        self.failovers.running = false;
        self.failovers.before = None;
        self.failovers.handed.clear();
    }

    pub(super) fn failover_begins(&mut self) {
        self.failovers.running = true;
        self.tell_failover(Message::FailoverStart);
    }

    pub(super) fn failover_ends(&mut self) {
        self.failovers.running = false;
        // Others may wait for their turn.
        let backends = &self.backends.nodes;
        self.failovers.handed.retain(|handed| {
            let is_down = backends.get(handed.node) == Some(&RemoteStatus::Down);
            is_down != (handed.kind == FailoverKind::Degenerate)
        });
        if !self.failovers.is_under_way() {
            self.failovers.before = None;
        }
        self.note_primary();
        self.watch_pause();
        if self.state == State::Standby {
            // It has led when this began; what the new leader thinks of the backends counts now.
            self.ask_backends();
        }
        self.tell_failover(Message::FailoverEnd);
    }

    /// Our picture of the backends shall be the leader's.
    pub(super) fn ask_backends(&mut self) {
        if let Some(Leader::Peer(leader)) = self.leader {
            self.ask_backends_of(leader);
        }
    }

    pub(super) fn data_came(&mut self, peer: PeerId, id: u32, status: BackendStatus) {
        let is_last = self
            .failovers
            .asked_backends
            .is_some_and(|(asked, _)| asked == id);
        if is_last && self.lease_believes(peer) {
            self.failovers.asked_backends = None;
            self.adopt(status, peer);
        }
    }
}
