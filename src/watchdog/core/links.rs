//! Connections: who is at the other end, dialling, sending.
//!
//! Every pair of nodes has two connections, one opened by each. A node sends on its own and reads from both.
//! Unlike stock nodes, which never dial one that they have not seen or that has stopped, all
//! members are dialled for ever: two halves of a cluster that started apart find each other.

use std::{collections::BTreeMap, time::Instant};

use super::{
    Action, Conn, Core, Leader, Message, PeerId, peer::LostReason, strangers::short, times,
};
use crate::watchdog::codec::{
    Service,
    ipc_answer::Membership,
    node_info::{NodeInfo, State},
};

const WRONG_KEY: &str = "its wd_authkey is not that of this node";

/// Accepted connections: address, and whose it is once that is known. Our own: whom they lead to, and whether
/// whoever has answered there has shown the key.
#[derive(Debug, Default)]
pub(super) struct Links {
    inbound: BTreeMap<Conn, Inbound>,
    outbound: BTreeMap<Conn, Outbound>,
}

#[derive(Debug)]
struct Outbound {
    peer: PeerId,
    has_shown_key: bool,
    /// Id of our introduction there.
    introduced_as: Option<u32>,
    /// When it was last asked to.
    asked: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Inbound {
    pub source: String,
    pub since: Instant,
    peer: Option<PeerId>,
}

impl Links {
    pub fn accepted(&mut self, conn: Conn, source: String, since: Instant) {
        let inbound = Inbound {
            source,
            since,
            peer: None,
        };
        self.inbound.insert(conn, inbound);
    }

    /// Accepted, and not known whose.
    pub fn strangers(&self) -> impl Iterator<Item = (Conn, &Inbound)> {
        let strangers = self.inbound.iter().filter(|(_, i)| i.peer.is_none());
        strangers.map(|(conn, inbound)| (*conn, inbound))
    }

    pub fn all(&self) -> Vec<Conn> {
        let outbound = self.outbound.keys();
        outbound.chain(self.inbound.keys()).copied().collect()
    }

    /// Whose connection it is; `None`: unknown, or not open any more.
    pub(super) fn peer(&self, conn: Conn) -> Option<PeerId> {
        match conn {
            Conn::Out { .. } => self.outbound.get(&conn).map(|out| out.peer),
            Conn::In(_) => self.inbound.get(&conn)?.peer,
        }
    }

    fn is_open(&self, conn: Conn) -> bool {
        self.outbound.contains_key(&conn) || self.inbound.contains_key(&conn)
    }

    fn remove(&mut self, conn: Conn) {
        self.outbound.remove(&conn);
        self.inbound.remove(&conn);
    }
}

impl Core {
    pub(super) fn dial(&mut self, peer: PeerId) {
        let record = &mut self.peers[peer];
        if record.out.is_some() || record.member.is_gap() {
            return;
        }
        record.attempts = record.attempts.wrapping_add(1);
        let conn = Conn::Out {
            peer,
            attempt: record.attempts,
        };
        record.out = Some(conn);
        record.out_is_up = false;
        record.dialled = Some(self.now);
        record.dial_soon = false;
        let outbound = Outbound {
            peer,
            has_shown_key: false,
            introduced_as: None,
            asked: None,
        };
        self.links.outbound.insert(conn, outbound);
        self.out.push(Action::Connect { conn, peer });
    }

    fn retry(&self, peer: PeerId) -> Option<Instant> {
        let record = &self.peers[peer];
        if record.out.is_some() || record.member.is_gap() {
            return None;
        }
        let pause = match record.state {
            _ if record.dial_soon => times::RETRY_SOON,
            State::Shutdown => times::RETRY_STOPPED,
            _ => times::RETRY,
        };
        record.dialled.map(|at| at + pause)
    }

    pub(super) fn redial(&mut self) {
        for peer in 0..self.peers.len() {
            if self.retry(peer).is_some_and(|at| at <= self.now) {
                self.dial(peer);
            }
        }
    }

    pub(super) fn next_dial(&self) -> Option<Instant> {
        (0..self.peers.len()).filter_map(|p| self.retry(p)).min()
    }

    /// Our own connection stands: introduce ourselves.
    pub(super) fn connected(&mut self, conn: Conn) {
        let Some(peer) = self.links.peer(conn) else {
            return self.out.push(Action::Close { conn });
        };
        self.reached(peer);
        self.peers[peer].out_is_up = true;
        self.peers[peer].dial_soon = false;
        self.peers[peer].send_failures = 0;
        let id = self.ticket();
        let message = Message::AddNode(Box::new(self.info()));
        self.out.push(Action::Send { conn, id, message });
        if let Some(outbound) = self.links.outbound.get_mut(&conn) {
            outbound.introduced_as = Some(id);
        }
        if self.peers[peer].state == State::Dead {
            self.peers[peer].state = State::AddMessageSent;
        }
        self.catch_up_with(peer);
    }

    /// Without a connection to the leader the end of a failover may have been missed.
    fn catch_up_with(&mut self, peer: PeerId) {
        if self.state == State::Standby && self.leader == Some(Leader::Peer(peer)) {
            self.ask_backends();
        }
    }

    pub(super) fn closed(&mut self, conn: Conn) {
        let peer = self.links.peer(conn);
        self.links.remove(conn);
        let Some(peer) = peer else { return };
        let record = &mut self.peers[peer];
        if record.out == Some(conn) {
            record.out = None;
            record.out_is_up = false;
        }
        if record.inbound == Some(conn) {
            record.inbound = None;
        }
    }

    pub(super) fn close(&mut self, conn: Conn) {
        self.closed(conn);
        self.out.push(Action::Close { conn });
    }

    pub(super) fn close_both(&mut self, peer: PeerId) {
        let record = &self.peers[peer];
        for conn in [record.out, record.inbound].into_iter().flatten() {
            self.close(conn);
        }
    }

    pub(super) fn drop_unreachable(&mut self) {
        for peer in 0..self.peers.len() {
            let record = &self.peers[peer];
            if record.state.is_active() && record.is_unreachable() {
                if record.state == State::AddMessageSent && record.info.is_none() {
                    // Never heard of: it is as it was.
                    self.peers[peer].state = State::Dead;
                } else {
                    self.lose(peer, LostReason::NotReachable);
                }
            }
        }
    }

    /// A packet came; whose it is decides the connection.
    pub(super) fn received(&mut self, conn: Conn, id: u32, message: Message) {
        if !self.links.is_open(conn) {
            return;
        }
        let Some(peer) = self.links.peer(conn) else {
            return match message {
                Message::AddNode(info) => self.introduced(conn, id, info),
                // The first packet must be an introduction.
                _ => self.close(conn),
            };
        };
        match &message {
            Message::AddNode(info) if !self.is_acceptable(peer, info) => {
                return self.reject(conn, id);
            }
            Message::NodeInfo(info) if !info.is_signed_with(&self.settings.authkey) => {
                return self.unreadable(conn, WRONG_KEY.to_owned());
            }
            Message::AddNode(_) | Message::NodeInfo(_) => self.has_shown_key(conn),
            Message::Reject if self.is_refusal(conn, id) => return self.refused(peer),
            _ if self.is_trusted(conn, peer) => {}
            _ => return self.ask_for_key(conn, peer),
        }
        self.peers[peer].heard = Some(self.now);
        self.packet(peer, id, message);
    }

    /// Who has connected to us has shown the key at once; where we have connected to, anybody may have
    /// answered who could take the port while pgpool does not run there. While a node is connected to us
    /// its port is its own.
    fn is_trusted(&self, conn: Conn, peer: PeerId) -> bool {
        !self.settings.authkey.is_set()
            || self.peers[peer].inbound.is_some()
            || self
                .links
                .outbound
                .get(&conn)
                .is_none_or(|out| out.has_shown_key)
    }

    fn is_refusal(&self, conn: Conn, id: u32) -> bool {
        let outbound = self.links.outbound.get(&conn);
        outbound.is_some_and(|outbound| outbound.introduced_as == Some(id))
    }

    /// It does not take us for a member. It is dialled on: its operator may mend that.
    fn refused(&mut self, peer: PeerId) {
        let member = self.peers[peer].member.clone();
        let text = format!(
            "add to watchdog cluster request is rejected by node \"{}:{}\"",
            member.host, member.wd_port
        );
        self.say_refusal(
            &member.label(),
            text,
            "compare wd_authkey, host names, ports and node ids in the files of both nodes; the log of that node says what differs",
        );
    }

    fn has_shown_key(&mut self, conn: Conn) {
        if let Some(outbound) = self.links.outbound.get_mut(&conn) {
            outbound.has_shown_key = true;
        }
    }

    /// Every node answers with NODE INFO, in which the key is shown.
    fn ask_for_key(&mut self, conn: Conn, peer: PeerId) {
        let now = self.now;
        let Some(outbound) = self.links.outbound.get_mut(&conn) else {
            return;
        };
        let recently = |at: Instant| now.saturating_duration_since(at) < times::REPLY;
        if !outbound.asked.is_some_and(recently) {
            outbound.asked = Some(now);
            self.send_new(peer, Message::RequestInfo);
        }
    }

    /// Stock nodes end another node's pgpool for some packets that they cannot read; we answer what the
    /// type of packet allows, and stay silent otherwise.
    pub(super) fn garbled(&mut self, conn: Conn, id: u32, kind: u8) {
        let Some(peer) = self.links.peer(conn) else {
            if kind == b'A' && self.links.is_open(conn) {
                self.reject(conn, id);
            } else {
                self.close(conn);
            }
            return;
        };
        if !self.is_trusted(conn, peer) {
            return;
        }
        self.peers[peer].heard = Some(self.now);
        match kind {
            b'f' | b'r' | b'd' => {
                self.send(peer, id, Message::Error);
            }
            b'A' => self.reject(conn, id),
            _ => {}
        }
    }

    fn reject(&mut self, conn: Conn, id: u32) {
        let message = Message::Reject;
        self.out.push(Action::Send { conn, id, message });
        self.close(conn);
    }

    /// The first packet of an accepted connection.
    fn introduced(&mut self, conn: Conn, id: u32, info: Box<NodeInfo>) {
        let source = self.links.inbound.get(&conn).map(|i| i.source.clone());
        let source = source.unwrap_or_default();
        let host = short(&info.host);
        // Before anything else: nobody learns more without it.
        let known = info.is_signed_with(&self.settings.authkey);
        if known && info.node_id == Some(self.settings.node_id) {
            let text = format!(
                "a node at {host} uses the same node id {} as this one",
                self.settings.node_id
            );
            // No answer, as by stock nodes; the end comes with that of the time for introductions.
            return self.say_refusal(
                &source,
                text,
                "give every node its own number in pgpool_node_id",
            );
        }
        let peer = (0..self.peers.len()).find(|peer| self.matches(*peer, &info, &source));
        let Some(peer) = peer.filter(|_| known) else {
            let (why, hint) = if known {
                let id = info.node_id.map_or("none".to_owned(), |id| id.to_string());
                (
                    format!("with the node id {id} it is none of the configured watchdog nodes"),
                    "host names, ports and node ids must be the same in the files of all nodes",
                )
            } else {
                (
                    "it has another wd_authkey".to_owned(),
                    "wd_authkey must be the same on all nodes",
                )
            };
            let text = format!(
                "add node from hostname:\"{host}\" port:{} pgpool_port:{} rejected, from {source}: {why}",
                info.wd_port, info.pgpool_port
            );
            self.say_refusal(&source, text, hint);
            return self.reject(conn, id);
        };
        if let Some(entry) = self.links.inbound.get_mut(&conn) {
            entry.peer = Some(peer);
        }
        if let Some(old) = self.peers[peer].inbound.replace(conn) {
            self.links.remove(old);
            self.out.push(Action::Close { conn: old });
        }
        self.introduced_anew(peer);
        self.is_welcome(&source);
        self.accept(peer, id, info);
    }

    fn matches(&self, peer: PeerId, info: &NodeInfo, source: &str) -> bool {
        let member = &self.peers[peer].member;
        member.wd_port == info.wd_port
            && member.pgpool_port == info.pgpool_port
            && (member.node_id.is_none() || member.node_id == info.node_id)
            && (member.host == source || member.host == info.host)
    }

    fn is_acceptable(&self, peer: PeerId, info: &NodeInfo) -> bool {
        let host = self.peers[peer].member.host.clone();
        info.is_signed_with(&self.settings.authkey) && self.matches(peer, info, &host)
    }

    /// Section 5.2 of the protocol: what an introduction means depends on what the node was before.
    fn accept(&mut self, peer: PeerId, id: u32, info: Box<NodeInfo>) {
        let before = self.peers[peer].state;
        let announced = info.state;
        let now = self.now;
        // Only an answer to a beacon shows that a standby still follows this node and not another one.
        let follows = self.standbys.contains(&peer);
        let record = &mut self.peers[peer];
        record.take_over(info, now);
        record.heard = Some(now);
        record.membership = Membership::Member;
        record.missed_beacons *= u32::from(follows);
        record.send_failures = 0;
        record.lost_since = None;
        self.lease_introduced();
        self.answer_introduction(peer);
        match before {
            State::Lost => {
                self.added(peer, id);
                self.found(peer);
            }
            State::Shutdown => self.added(peer, id),
            // A node that has restarted so fast that nobody has missed it.
            _ if announced != State::Standby && self.standbys.contains(&peer) => {
                self.remove_standby(peer);
            }
            _ if announced != State::Leader && self.leader == Some(Leader::Peer(peer)) => {
                self.leader = None;
                if self.state == State::Standby {
                    self.enter(State::Joining);
                }
            }
            _ => {}
        }
        if announced == State::Leader {
            self.leader_announced(peer);
        }
        self.introduction_answers(peer);
        self.catch_up_with(peer);
    }

    /// By an own connection, over which this node introduces itself: at once, or soon if that was just tried and the
    /// other one was not there yet. A joining node that hears of no leader within five seconds elects another.
    fn answer_introduction(&mut self, peer: PeerId) {
        let record = &mut self.peers[peer];
        record.dial_soon = !record.out_is_up;
        if self.retry(peer).is_none_or(|at| at <= self.now) {
            self.dial(peer);
        }
    }

    /// Sends one packet, if there is a way.
    pub(super) fn send(&mut self, peer: PeerId, id: u32, message: Message) -> bool {
        match self.peers[peer].best() {
            Some(conn) => {
                self.out.push(Action::Send { conn, id, message });
                true
            }
            None => {
                self.peers[peer].send_failures += 1;
                if self.peers[peer].send_failures > times::TOLERATED
                    && self.peers[peer].state.is_active()
                {
                    self.lose(peer, LostReason::SendFailures);
                }
                false
            }
        }
    }

    pub(super) fn send_new(&mut self, peer: PeerId, message: Message) -> u32 {
        let id = self.ticket();
        self.send(peer, id, message);
        id
    }

    /// To all that can be reached, under one id.
    pub(super) fn broadcast(&mut self, message: Message) {
        let id = self.ticket();
        self.broadcast_as(id, &message);
    }

    fn broadcast_as(&mut self, id: u32, message: &Message) {
        for peer in &self.peers {
            if let Some(conn) = peer.best() {
                self.out.push(Action::Send {
                    conn,
                    id,
                    message: message.clone(),
                });
            }
        }
    }

    pub(super) fn broadcast_info(&mut self) {
        let info = Message::NodeInfo(Box::new(self.info()));
        self.broadcast(info);
    }

    /// Not again within five seconds.
    pub(super) fn broadcast_service(&mut self, service: Service, id: Option<u32>) {
        let now = self.now;
        let recent = |at: Instant| now.saturating_duration_since(at) < times::SAME_SERVICE;
        self.said.retain(|(_, at)| recent(*at));
        if self.said.iter().any(|(known, _)| *known == service) {
            return;
        }
        self.said.push((service, now));
        let id = id.unwrap_or_else(|| self.ticket());
        self.broadcast_as(id, &Message::Service(service));
    }

    pub(super) fn active(&self) -> Vec<PeerId> {
        let is_active = |peer: &PeerId| self.peers[*peer].state.is_active();
        (0..self.peers.len()).filter(is_active).collect()
    }
}
