//! The write lease: no two sides of a divided cluster serve writes, and no two servers are written to.
//!
//! Stock nodes of a minority go on serving the old primary while the majority promotes another: what is
//! written there is lost. A node of ours serves writes only until its lease ends, and a leader promotes
//! only when nobody else can serve writes any more.
//!
//! **The lease** ([`rounds`]).
//!
//! * The leader asks its standbys in rounds. A standby's answer supports the leader; with it the standby says
//!   how long ago it last supported another leader, or has started.
//! * A round that a majority of all configured nodes answers, the leader among them, gives it the lease from
//!   the moment when the round was *sent*, for `wd_write_lease`; but only those answers count whose nodes
//!   have supported nobody else for the length of a lease. So no two leaders ever hold it at a time:
//!   the one that is cut off has got it by one of this majority, and longer ago than it lasts.
//! * A standby asks its leader, which answers for how long its own lease still holds. That, counted from
//!   the sending of the question, is the standby's share, half a lease at most: it never ends after the leader's.
//! * Who has neither lease nor share lets no writes through, and a leader without lease promotes nobody.
//!
//! **The picture** ([`picture`]): which server is the primary, numbered, so that who knows less can be told from
//! who knows more.
//!
//! * Each leader has a *reign*, higher than all that a majority has heard of; who has heard of a higher one
//!   supports no lower one. In a reign each change of the primary makes a new picture. It begins when a
//!   majority has joined, so that who leads a minority does not raise the number. A leader that hears of
//!   a higher one goes on above it, and keeps quorum and address meanwhile.
//! * With its first rounds a leader learns which of the majority has the newest picture, and takes it over.
//!   Then it makes its own, and all others take that over.
//! * A node has a picture when its supervisor has it on disk and has published it, not when it has come.
//! * Neither the leader nor a standby serves writes before a majority has the leader's present picture,
//!   and a standby that has an older one gets no share. So what was written to a new primary was
//!   written when a majority knew of it: no later leader takes the old one for the primary.
//! * Before a promotion begins the leader *pauses* all others: it gives no shares and asks them to give up
//!   those that they have. It begins when each has said so or its share has ended, so the old primary
//!   is not written to any more by anybody. A leader that is cut off in the middle of it leaves at most a promoted
//!   server that nobody has written to.
//!
//! A leader that has lost the quorum has it again with a lease that was granted since then.
//!
//! After a change of leaders the old shares last while the new leader waits for them to end: writes stand
//! still for five eighths of a lease at most and some rounds, not for the election.
//!
//! **On and off.** The lease is on while every configured node has announced itself as ours with a lease,
//! and half of the votes is not enough. A node that was refused (another key, another configuration) is one that
//! was not heard of. What was on at the end of a process is on at its next start, until a stock node
//! appears: one that starts alone must not serve. A leader that has it off because it has not heard of all yet
//! has it on as soon as a standby has; else the leader's word counts for its standbys. When it goes on, a
//! node that is cut off at that moment serves without limit until it has lost its leader: no promotion begins before
//! all have taken notice of the lease, or that time is over. A leader that takes
//! a lost or stopped node out of the quorum (`wd_lost_node_removal_timeout` and its like) goes by a smaller majority
//! than a lease needs: it keeps the lease for as long as one of that node can last, and has none from then
//! on, as the operator wants it. A node that is removed and alive, with others on its side, is then not
//! held back by anything; that is what these parameters mean.
//!
//! All times are differences on one node's clock that only runs forward; an eighth is added for clocks that
//! run unevenly.

mod memory;
mod picture;
mod rounds;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

pub use self::memory::Memory;
use super::{Action, Core, Leader, PeerId, State};
use crate::watchdog::{
    codec::message::{LeaseAsk, Picture, Reign},
    write_lease::Serving,
};

/// More rounds than this are not under way.
const KEPT_ROUNDS: usize = 32;
/// A round that was asked for does not wait longer for the end of the one before.
const COVER_PATIENCE: Duration = Duration::from_millis(50);

/// Why writes wait although a majority may well be in sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// A failover of the primary waits or goes on.
    Pause,
    /// This node has to take over what another one knows, or a majority what this one knows.
    Picture,
    /// No answer could be there yet, or none counts any more.
    Beginning,
}

#[derive(Debug)]
pub(super) struct Lease {
    /// Of the own setting; `None`: never.
    own: Option<Duration>,
    on: bool,
    /// A member was removed: the lease ends then, unless it is back.
    off_at: Option<Instant>,
    /// Shortest and longest of all members.
    shortest: Duration,
    longest: Duration,
    started: Instant,
    round: u32,
    next_round: Option<Instant>,
    rounds: Vec<Round>,
    /// End of the lease of this node as leader: a majority supports nobody else until then.
    held_until: Option<Instant>,
    /// Until then a leader without lease has not had the time to get one.
    patience: Option<Instant>,
    /// End of what this node may serve, whoever gave it.
    serve_until: Option<Instant>,
    /// Why writes wait since then.
    held: Option<Held>,
    source: Option<Leader>,
    /// When the last round was sent that a majority has answered, or a moment before that.
    heard: Option<Instant>,
    /// Somebody waits for a round that is sent from now on.
    cover: bool,
    /// Standbys that are answered when such a round has its majority.
    waiting: Vec<Waiting>,
    /// When each leader was last supported; the own rounds by `own_support`.
    supported: BTreeMap<PeerId, Instant>,
    own_support: Option<Instant>,
    /// From when on a standby's support stands in nobody's way.
    ready: BTreeMap<PeerId, Instant>,
    /// Who keeps the lease, too, since it is on here: the others may still serve without limit.
    bound: BTreeSet<PeerId>,
    /// Then they have been lost for so long that they have noticed.
    bound_at: Option<Instant>,
    /// Who can keep no lease, because it knows a stock node that this one may have missed.
    unable: BTreeSet<PeerId>,
    /// As standby: the leader was told that this node can keep none.
    refused: bool,
    joined: bool,
    /// As standby: when the last question was sent that the leader has answered.
    answered: Option<Instant>,
    /// The highest that was heard of; a leader's is its own.
    reign: Reign,
    /// Of this node.
    picture: Picture,
    /// Of the others, as they have said last in this reign.
    pictures: BTreeMap<PeerId, Picture>,
    /// As standby: that of the leader.
    leaders_picture: Option<Picture>,
    /// The primary of the present picture.
    primary: Option<i32>,
    /// As leader: has a reign of its own.
    reigns: bool,
    /// As leader: has heard of a higher reign while it held the lease.
    renumbers: bool,
    /// As leader: has learned what a majority knows, and has made its own picture.
    established: bool,
    /// Whose picture is being taken over, and which that is.
    learning: Option<(PeerId, Picture)>,
    /// The last that the supervisor was told to take over, and has not yet.
    adopting: Option<Adopting>,
    adoptions: u64,
    /// When the share that was given to a standby has ended for sure.
    shares: BTreeMap<PeerId, Instant>,
    /// As leader: since which round nobody shall serve.
    paused: Option<u32>,
    /// As standby: what was asked for until then gives no share any more.
    refused_before: Option<Instant>,
}

/// What the supervisor takes over.
#[derive(Debug)]
struct Adopting {
    number: u64,
    /// `None`: that which is known already, anew.
    picture: Option<Picture>,
    /// Who has asked for the status of the backends meanwhile, in which packet.
    asked: Vec<(PeerId, u32)>,
}

#[derive(Debug)]
struct Waiting {
    peer: PeerId,
    id: u32,
    ask: LeaseAsk,
    came: Instant,
}

#[derive(Debug)]
struct Round {
    number: u32,
    sent: Instant,
    answered: BTreeSet<PeerId>,
    /// By a majority, or by the leader.
    done: bool,
}

impl Lease {
    pub fn new(own: Option<Duration>, now: Instant) -> Lease {
        let length = own.unwrap_or_default();
        Lease {
            own,
            on: false,
            off_at: None,
            shortest: length,
            longest: length,
            started: now,
            round: 0,
            next_round: None,
            rounds: Vec::new(),
            held_until: None,
            patience: None,
            serve_until: None,
            held: None,
            source: None,
            heard: None,
            cover: false,
            waiting: Vec::new(),
            supported: BTreeMap::new(),
            own_support: None,
            ready: BTreeMap::new(),
            bound: BTreeSet::new(),
            bound_at: None,
            unable: BTreeSet::new(),
            refused: false,
            joined: false,
            answered: None,
            reign: Reign::default(),
            picture: Picture::default(),
            pictures: BTreeMap::new(),
            leaders_picture: None,
            primary: None,
            reigns: false,
            renumbers: false,
            established: false,
            learning: None,
            adopting: None,
            adoptions: 0,
            shares: BTreeMap::new(),
            paused: None,
            refused_before: None,
        }
    }

    pub fn start(&mut self, memory: Memory, now: Instant) {
        self.on = memory.lease_is_on && self.own.is_some();
        self.reign = memory.reign;
        self.picture = memory.picture;
        self.started = now;
    }

    pub fn is_on(&self) -> bool {
        self.on
    }

    pub fn serves(&self, now: Instant) -> bool {
        self.serve_until.is_some_and(|until| now < until)
    }

    pub fn serving(&self) -> Serving {
        match self.serve_until {
            _ if !self.on => Serving::Unlimited,
            Some(until) => Serving::Until {
                until,
                heard: self.heard.unwrap_or(self.started),
            },
            None => Serving::Held,
        }
    }

    /// Whose picture is being taken over.
    pub fn learning(&self) -> Option<(PeerId, Picture)> {
        self.learning
    }

    pub fn source(&self) -> Option<Leader> {
        self.source
    }

    fn serve(&mut self, until: Instant, heard: Instant, source: Leader) {
        self.heard = self.heard.max(Some(heard));
        if self.serve_until.is_none_or(|known| until > known) {
            self.serve_until = Some(until);
            self.source = Some(source);
            self.held = None;
        }
    }

    /// At once; what was given before counts no more.
    pub fn stop_serving(&mut self, held: Held) {
        self.serve_until = None;
        self.held = Some(held);
    }

    /// Why writes wait, where it is not for want of a majority.
    pub fn held(&self) -> Option<Held> {
        self.held
    }

    /// As leader: a majority supports nobody else, whatever the number of the reign.
    pub fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// As leader that knows what a majority knows.
    pub fn holds(&self, now: Instant) -> bool {
        self.established && self.is_held(now)
    }

    /// Decides about the backends. Who only changes its number may go on: while it holds the lease nobody else
    /// can have decided anything.
    pub fn decides(&self, now: Instant) -> bool {
        self.established || (self.renumbers && self.is_held(now))
    }

    /// As leader: it has had the time to get a lease, and has none. Standbys that do not answer are none.
    pub fn is_missing(&self, now: Instant) -> bool {
        self.on && !self.is_held(now) && self.patience.is_none_or(|at| at <= now)
    }

    /// As leader: no majority has supported it since then.
    pub fn is_from_before(&self, moment: Instant) -> bool {
        self.on && self.heard.is_none_or(|heard| heard <= moment)
    }

    pub fn stop_leading(&mut self) {
        self.end_reign();
        // Only a leader goes by the nodes that its settings have removed.
        self.off_at = None;
        self.paused = None;
        self.waiting.clear();
        self.unable.clear();
    }

    /// What was given to standbys is good until its end, and so is our own.
    fn end_reign(&mut self) {
        self.reigns = false;
        self.renumbers = false;
        self.held_until = None;
        self.forget_answers();
    }

    fn forget_answers(&mut self) {
        self.established = false;
        self.learning = None;
        self.rounds.clear();
        self.ready.clear();
        self.pictures.clear();
    }

    /// The round that was asked for last has no answer yet, and may still have one.
    fn cover_waits_until(&self) -> Option<Instant> {
        let last = self.rounds.last().filter(|round| !round.done)?;
        Some(last.sent + COVER_PATIENCE)
    }

    /// In no state but STANDBY, after its leader has accepted it, another node is supported.
    pub fn stop_following(&mut self) {
        self.joined = false;
        self.refused = false;
        self.answered = None;
        self.learning = None;
        self.leaders_picture = None;
    }

    /// How soon a leader must have its lease, waiting for older ones to end included.
    pub fn acquisition(&self) -> Duration {
        self.surely_over() + 3 * self.pace()
    }

    fn pace(&self) -> Duration {
        (self.shortest / 4).max(Duration::from_millis(250))
    }

    /// Time after which a lease of any node has ended for sure.
    fn surely_over(&self) -> Duration {
        self.longest + self.longest / 8
    }

    /// When this node last supported somebody other than `leader`, or lost its memory.
    fn other_support(&self, leader: Leader) -> Instant {
        let peers = self.supported.iter();
        let peers = peers.filter(|(peer, _)| leader != Leader::Peer(**peer));
        let own = self.own_support.filter(|_| leader != Leader::Own);
        let last = peers.map(|(_, at)| *at).chain(own).max();
        last.unwrap_or(self.started).max(self.started)
    }

    pub fn next(&self, state: State, now: Instant) -> Option<Instant> {
        if !self.on {
            return None;
        }
        let round = self
            .next_round
            .filter(|_| matches!(state, State::Leader | State::Standby));
        let shares = self
            .paused
            .and_then(|_| self.shares.values().max().copied());
        let cover = self.cover_waits_until().filter(|_| self.cover);
        let ends = [
            cover,
            self.held_until,
            self.serve_until,
            self.patience,
            self.off_at,
            self.bound_at,
            shares,
        ];
        let ends = ends.into_iter().flatten().filter(|at| *at > now);
        ends.chain(round).min()
    }
}

impl Core {
    /// Who belongs to the cluster has changed, or what a node says of itself.
    pub(super) fn lease_members_changed(&mut self) {
        let Some(own) = self.lease.own else { return };
        let unknown = self.peers.iter().any(|p| p.info.is_none());
        let lengths = self.peers.iter().filter_map(super::Peer::write_lease);
        let lengths: Vec<Duration> = lengths.chain([own]).collect();
        self.lease.shortest = lengths.iter().copied().min().unwrap_or(own);
        self.lease.longest = lengths.iter().copied().max().unwrap_or(own);
        if self.cannot_keep_lease() {
            self.switch_lease(false);
        } else if self.has_removed_members() {
            if self.lease.on && self.lease.off_at.is_none() {
                self.lease.off_at = Some(self.now + self.lease.surely_over());
            }
        } else {
            self.lease.off_at = None;
            // Its leader waits for the word of a node that could keep none.
            if !unknown
                && (!self.follows_without_lease() || std::mem::take(&mut self.lease.refused))
            {
                self.switch_lease(true);
            }
            // Until all have been heard of it is as it was.
        }
    }

    /// Half of the votes is enough, or a stock node is there.
    fn cannot_keep_lease(&self) -> bool {
        let half = self.settings.quorum.half_votes && self.peers.len() % 2 == 1;
        let stock = |peer: &super::Peer| peer.info.is_some() && peer.write_lease().is_none();
        let told = self.state == State::Leader && !self.lease.unable.is_empty();
        self.lease.own.is_none() || half || told || self.peers.iter().any(stock)
    }

    /// As leader, whose settings alone count.
    fn has_removed_members(&self) -> bool {
        self.state == State::Leader && self.peers.iter().any(|p| !p.is_member())
    }

    /// A standby has the lease on, and so it was when this leader was away or had not heard of all yet.
    fn keep_lease_as_standbys_do(&mut self) {
        if !self.cannot_keep_lease() && !self.has_removed_members() {
            self.switch_lease(true);
        }
    }

    /// All have taken notice that the lease is on, or of the loss of their leader.
    fn all_are_bound(&self) -> bool {
        let lease = &self.lease;
        let mut peers = 0..self.peers.len();
        lease.bound_at.is_none_or(|at| at <= self.now)
            || peers.all(|peer| lease.bound.contains(&peer))
    }

    /// Its leader has said that there is no lease.
    fn follows_without_lease(&self) -> bool {
        self.state == State::Standby && self.lease.joined && !self.lease.on
    }

    fn switch_lease(&mut self, on: bool) {
        if on == self.lease.on {
            return;
        }
        let why_off = self.why_there_is_no_lease();
        let lifecheck = &self.settings.lifecheck;
        // By then a node that is cut off has lost its leader: rounds of the lifecheck are one interval apart.
        let noticed = lifecheck.silence() + lifecheck.interval;
        self.lease.on = on;
        self.lease.bound.clear();
        self.lease.bound_at = on.then(|| self.now + noticed);
        self.lease.off_at = None;
        self.lease.patience = Some(self.now + self.lease.acquisition());
        self.lease.next_round = Some(self.now);
        self.lease.stop_serving(Held::Beginning);
        if on && self.leader_is_own() && self.state == State::Leader {
            self.lease.end_reign();
        }
        self.remember();
        if on {
            self.log("all watchdog nodes keep the write lease, which is on from now");
        } else {
            self.log(format!(
                "the write lease is off, and writes no longer wait for a majority: {why_off}"
            ));
            if self.state == State::Standby {
                // What the leader said of the backends before may have been passed over.
                self.ask_backends();
            }
        }
    }

    fn why_there_is_no_lease(&self) -> String {
        let is_stock = |peer: &PeerId| {
            self.peers[*peer].info.is_some() && self.peers[*peer].write_lease().is_none()
        };
        let has_none = |peer: &PeerId| is_stock(peer) || self.lease.unable.contains(peer);
        let all = 0..self.peers.len();
        let without: Vec<String> = all
            .filter(has_none)
            .map(|peer| self.peer_label(peer))
            .collect();
        if !without.is_empty() {
            format!(
                "not kept by \"{}\", or by a node that is known there",
                without.join("\", \"")
            )
        } else if self.has_removed_members() {
            "a node is no member of the cluster any more (wd_remove_shutdown_nodes, wd_lost_node_removal_timeout, wd_no_show_node_removal_timeout)".to_owned()
        } else if let Some(Leader::Peer(leader)) = self.leader {
            format!("the leader \"{}\" keeps none", self.peer_label(leader))
        } else {
            "half of the votes is enough (enable_consensus_with_half_votes)".to_owned()
        }
    }

    fn remember(&mut self) {
        self.out.push(Action::Remember(Memory {
            lease_is_on: self.lease.on,
            reign: self.lease.reign,
            picture: self.lease.picture,
        }));
    }

    /// Somebody waits for a majority that is heard of from now on. Many wishes share one round.
    pub(super) fn lease_cover(&mut self) {
        self.lease.cover = self.lease.on;
    }

    /// A round at once, unless one is under way.
    fn cover_if_due(&mut self) {
        let waits = self.lease.cover_waits_until();
        if self.lease.cover && waits.is_none_or(|at| at <= self.now) {
            self.lease.next_round = Some(self.now);
        }
    }

    pub(super) fn lease_joined(&mut self) {
        self.lease.joined = true;
        self.lease.answered = Some(self.now);
        self.lease.next_round = Some(self.now);
    }

    /// As standby: the leader, and when it has left our questions unanswered for so long that it cannot hear us.
    /// It may still be heard itself, by packets and heartbeats, when the network is cut one way.
    pub(super) fn lease_silence(&self) -> Option<(PeerId, Instant)> {
        let (State::Standby, Some(Leader::Peer(leader)), true) =
            (self.state, self.leader, self.lease.on)
        else {
            return None;
        };
        self.peers[leader].write_lease()?;
        let patience = self.settings.lifecheck.silence().max(3 * self.lease.pace());
        Some((leader, self.lease.answered? + patience))
    }

    /// A node has introduced itself: the one that could keep no lease may have been replaced.
    pub(super) fn lease_introduced(&mut self) {
        self.lease.unable.clear();
        self.lease_members_changed();
    }

    /// Of a leader: ask it at once.
    pub(super) fn lease_new_standby(&mut self, peer: PeerId) {
        self.lease.unable.remove(&peer);
        self.lease.ready.remove(&peer);
        self.lease.pictures.remove(&peer);
        self.lease.next_round = Some(self.now);
    }

    /// A member that was removed can have no lease any more.
    fn end_lease_if_due(&mut self) {
        if self.lease.off_at.is_some_and(|at| at <= self.now) {
            self.switch_lease(false);
        }
    }
}

#[cfg(test)]
impl Core {
    /// Of the last question, whoever was asked.
    pub(super) fn lease_round(&self) -> u32 {
        self.lease.round
    }

    pub(super) fn lease_reign(&self) -> Reign {
        self.lease.reign
    }

    /// Until when a majority supports it, as far as it knows, and whether a majority has joined it.
    pub fn majority(&self) -> (Option<Instant>, bool) {
        let all = self.peers.len() + 1;
        let joined = !self.ended && 1 + self.standbys.len() >= super::quorum::majority(all);
        (self.lease.held_until.filter(|_| self.lease.on), joined)
    }

    /// As leader: a majority has its present picture.
    pub fn is_known(&self) -> bool {
        self.lease.on && self.picture_is_known()
    }

    /// Those that have taken no notice of the lease are not waited for any more.
    pub fn bound_by_time(&self) -> bool {
        self.lease.bound_at.is_none_or(|at| at <= self.now)
    }

    pub(super) fn lease_picture(&self) -> Picture {
        self.lease.picture
    }
}
