//! What this node shows of itself and the cluster.

use super::{Core, Leader, PeerId, State};
use crate::watchdog::codec::{
    Message,
    ipc_answer::{ListedNode, Membership, NodeList},
    node_info::{Beacon, NodeInfo, Standing},
    status::BackendStatus,
};

/// Releases from 4.2 on.
const DATA_VERSION: (&str, &str) = ("1", "2");

/// Told as PGPOOL_VERSION; stock nodes keep nine bytes of it, for their log.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Core {
    pub(super) fn standing(&self) -> Standing {
        let leads = self.state == State::Leader;
        Standing {
            since_startup: self.seconds(self.started),
            since_state: self.seconds(self.state_since),
            quorum: if leads { self.quorum.max(-1) } else { 0 },
            alive: if leads {
                i32::try_from(self.standbys.len()).unwrap_or(i32::MAX)
            } else {
                0
            },
            escalated: self.escalated,
        }
    }

    pub(super) fn info(&self) -> NodeInfo {
        let own = &self.settings.own;
        let (major, minor) = DATA_VERSION;
        let lease = self.settings.write_lease;
        NodeInfo {
            version: VERSION.to_owned(),
            data_version: (major.to_owned(), minor.to_owned()),
            state: self.state,
            wd_port: own.wd_port,
            pgpool_port: own.pgpool_port,
            priority: self.priority,
            node_id: Some(self.settings.node_id),
            name: self.name.clone(),
            host: own.host.clone(),
            delegate_ip: self.settings.delegate_ip.clone(),
            standing: Some(self.standing()),
            authkey: None,
            write_lease_ms: Some(lease.map_or(0, |length| {
                u32::try_from(length.as_millis()).unwrap_or(u32::MAX)
            })),
        }
        .sign(&self.settings.authkey)
    }

    pub(super) fn beacon(&self) -> Beacon {
        Beacon {
            state: self.state,
            standing: self.standing(),
        }
    }

    /// `None`: nothing that could be sent. Of what a failover has not done yet another node must not know: it would
    /// not begin it anew when this one is lost.
    pub(super) fn backend_status(&self) -> Option<BackendStatus> {
        let before = self.failovers.before();
        let mut status = before.unwrap_or(&self.backends).clone();
        status.node_name.clone_from(&self.name);
        (!status.nodes.is_empty()).then_some(status)
    }

    pub(super) fn answer_config(&mut self, peer: PeerId, id: u32) {
        let data = Message::Config(Box::new(self.settings.announced.clone()));
        self.send(peer, id, data);
    }

    /// For `wd_cli` and `pcp_watchdog_info`; `only`: one node, by the number that these tools use.
    pub fn node_list(&self, only: Option<i32>) -> NodeList {
        let leader = match self.leader {
            Some(Leader::Own) => Some((self.name.clone(), self.settings.own.host.clone())),
            Some(Leader::Peer(peer)) => {
                let record = &self.peers[peer];
                Some((record.label(), record.member.host.clone()))
            }
            None => None,
        };
        let (quorum, alive) = match self.leader {
            Some(Leader::Own) => {
                let own = self.standing();
                (own.quorum, own.alive)
            }
            Some(Leader::Peer(peer)) => {
                let theirs = self.peers[peer].standing;
                (theirs.quorum, theirs.alive)
            }
            None => (-2, 0),
        };
        let mut nodes = vec![self.listed_own()];
        nodes.extend((0..self.peers.len()).map(|peer| self.listed(peer)));
        if let Some(wanted) = only {
            nodes.retain(|node| node.id == wanted);
            if nodes.is_empty() {
                nodes.push(ListedNode::unknown());
            }
        }
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        NodeList {
            remote_nodes: count(self.peers.len()),
            member_remote_nodes: count(self.member_count()),
            required_for_quorum: count(self.votes_needed()),
            quorum,
            alive_nodes: alive,
            // Of the node that is asked, whoever leads: the column "VIP up on local node" of the tools.
            escalated: self.escalated,
            leader,
            nodes,
        }
    }

    fn listed_own(&self) -> ListedNode {
        let own = &self.settings.own;
        ListedNode {
            id: self.listed_id(None),
            state: Some(self.state),
            membership: Membership::Member,
            name: Some(self.name.clone()),
            host: Some(own.host.clone()),
            delegate_ip: Some(self.settings.delegate_ip.clone()),
            wd_port: own.wd_port.into(),
            pgpool_port: own.pgpool_port.into(),
            priority: self.priority,
        }
    }

    fn listed(&self, peer: PeerId) -> ListedNode {
        let record = &self.peers[peer];
        let info = record.info.as_ref();
        ListedNode {
            id: self.listed_id(Some(peer)),
            state: Some(record.state),
            membership: record.membership,
            name: info.map(|info| info.name.clone()),
            host: Some(record.member.host.clone()),
            delegate_ip: info.map(|info| info.delegate_ip.clone()),
            wd_port: record.member.wd_port.into(),
            pgpool_port: record.member.pgpool_port.into(),
            priority: record.priority(),
        }
    }

    /// `None`: this node.
    fn listed_id(&self, peer: Option<PeerId>) -> i32 {
        let number = match peer {
            None if self.settings.local_numbers => Some(0),
            None => usize::try_from(self.settings.node_id).ok(),
            Some(peer) if self.settings.local_numbers => Some(peer + 1),
            Some(peer) => {
                let id = self.peers[peer].member.node_id;
                id.and_then(|id| usize::try_from(id).ok())
            }
        };
        number.and_then(|n| i32::try_from(n).ok()).unwrap_or(-1)
    }

    /// The place of a node by the number that tools use; `Err`: it is this one.
    pub fn peer_numbered(&self, number: i32) -> Option<Result<PeerId, ()>> {
        if number == self.listed_id(None) {
            return Some(Err(()));
        }
        let mut all = 0..self.peers.len();
        all.find(|peer| self.listed_id(Some(*peer)) == number)
            .map(Ok)
    }
}
