//! What is known of another node.

use std::time::{Duration, Instant};

use super::{Conn, troubles::Troubles};
use crate::watchdog::{
    codec::{
        ipc_answer::Membership,
        node_info::{NodeInfo, Standing, State},
    },
    settings::Member,
};

/// Why a node is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostReason {
    Lifecheck,
    SendFailures,
    MissingBeaconReplies,
    ReceiveTimeout,
    NotReachable,
    Shutdown,
    Silence,
}

impl LostReason {
    pub fn text(self) -> &'static str {
        match self {
            LostReason::Lifecheck => "REPORTED BY LIFECHECK",
            LostReason::SendFailures => "SEND MESSAGE FAILURES",
            LostReason::MissingBeaconReplies => "MISSING BEACON REPLIES",
            LostReason::ReceiveTimeout => "RECEIVE TIMEOUT",
            LostReason::NotReachable => "NOT REACHABLE",
            LostReason::Shutdown => "SHUTDOWN",
            LostReason::Silence => "SILENT LEADER",
        }
    }

    pub fn hint(self) -> &'static str {
        match self {
            LostReason::Lifecheck => {
                "its heartbeats or answers to the lifecheck have ended: look at that host"
            }
            LostReason::NotReachable => {
                "its connections have ended without a word: was its pgpool killed?"
            }
            LostReason::Shutdown => "",
            LostReason::SendFailures
            | LostReason::MissingBeaconReplies
            | LostReason::ReceiveTimeout
            | LostReason::Silence => "its pgpool or the network to it hangs",
        }
    }
}

#[derive(Debug)]
pub(super) struct Peer {
    pub member: Member,
    pub state: State,
    pub info: Option<Box<NodeInfo>>,
    /// When the fields with times were taken over.
    pub told_at: Option<Instant>,
    pub standing: Standing,
    pub out: Option<Conn>,
    pub out_is_up: bool,
    pub inbound: Option<Conn>,
    pub attempts: u32,
    pub dialled: Option<Instant>,
    /// It has introduced itself, and this node could not yet.
    pub dial_soon: bool,
    pub heard: Option<Instant>,
    pub send_failures: u32,
    pub missed_beacons: u32,
    pub lost: Option<LostReason>,
    /// It has told us that we appear lost to it.
    pub has_lost_us: bool,
    pub membership: Membership,
    /// Since when it is lost, for its removal.
    pub lost_since: Option<Instant>,
    pub troubles: Troubles,
}

impl Peer {
    pub fn new(member: Member) -> Peer {
        Peer {
            member,
            state: State::Dead,
            info: None,
            told_at: None,
            standing: Standing::default(),
            out: None,
            out_is_up: false,
            inbound: None,
            attempts: 0,
            dialled: None,
            dial_soon: false,
            heard: None,
            send_failures: 0,
            missed_beacons: 0,
            lost: None,
            has_lost_us: false,
            membership: Membership::Member,
            lost_since: None,
            troubles: Troubles::default(),
        }
    }

    /// As the log names it.
    pub fn label(&self) -> String {
        match &self.info {
            Some(info) => info.name.clone(),
            None => self.member.label(),
        }
    }

    pub fn priority(&self) -> i32 {
        self.info.as_ref().map_or(0, |info| info.priority)
    }

    pub fn is_member(&self) -> bool {
        self.membership == Membership::Member
    }

    pub fn knows_reload(&self) -> bool {
        self.info.as_ref().is_some_and(|info| info.knows_reload())
    }

    pub fn write_lease(&self) -> Option<Duration> {
        let ms = self.info.as_ref()?.write_lease_ms?;
        (ms > 0).then(|| Duration::from_millis(ms.into()))
    }

    /// The connection to send on: the one that we have opened, if it stands.
    pub fn best(&self) -> Option<Conn> {
        self.out.filter(|_| self.out_is_up).or(self.inbound)
    }

    /// Neither connected nor about to be.
    pub fn is_unreachable(&self) -> bool {
        self.out.is_none() && self.inbound.is_none()
    }

    /// What it says of itself. Its own priority and name count, whatever the configuration.
    pub fn take_over(&mut self, info: Box<NodeInfo>, now: Instant) {
        self.state = info.state;
        self.standing = info.standing.unwrap_or_default();
        self.told_at = Some(now);
        self.info = Some(info);
    }

    fn seconds_since_told(&self, now: Instant) -> i64 {
        let told = self.told_at.unwrap_or(now);
        i64::try_from(now.saturating_duration_since(told).as_secs()).unwrap_or(i64::MAX)
    }

    /// Seconds since its start.
    pub fn age(&self, now: Instant) -> i64 {
        self.standing
            .since_startup
            .saturating_add(self.seconds_since_told(now))
    }

    /// Seconds since it is in its state; `None`: an old release, which does not say.
    pub fn state_age(&self, now: Instant) -> Option<i64> {
        self.info.as_ref()?.standing?;
        Some(
            self.standing
                .since_state
                .saturating_add(self.seconds_since_told(now)),
        )
    }
}
