//! One core among two other nodes, step by step. Node 1 is under test; its peers 0 and 1 are the nodes 0
//! and 2.

mod election;
mod failover;
mod hostile;
mod lease;
mod lease_adoption;
mod lease_members;
mod lease_pictures;
mod lease_reigns;
mod lease_successors;
mod lease_terms;
mod links;
mod replay;
mod returns;
mod services;
mod strangers;
mod summary;
mod texts;
mod troubles;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::*;
use crate::watchdog::{
    codec::{
        node_info::{NodeInfo, Standing},
        status::RemoteStatus,
    },
    settings::Settings,
    testing,
};

struct Bench {
    core: Core,
    now: Instant,
    /// What was done since it was last asked for: packets as `peer letter`, with `=` behind the letter of a
    /// reply, and other actions by a word.
    done: Vec<String>,
    actions: Vec<Action>,
    /// Id of the packet that is being handled.
    handling: u32,
    last_id: u32,
}

fn info(node: usize, state: State) -> NodeInfo {
    let member = testing::member(node);
    NodeInfo {
        version: "4.3.5".to_owned(),
        data_version: ("1".to_owned(), "2".to_owned()),
        state,
        wd_port: member.wd_port,
        pgpool_port: member.pgpool_port,
        priority: 1,
        node_id: member.node_id,
        name: format!("{}:9999 Linux stock", member.host),
        host: member.host,
        delegate_ip: "10.0.0.100".to_owned(),
        standing: Some(Standing::default()),
        authkey: None,
        write_lease_ms: None,
    }
}

fn node_of(peer: PeerId) -> usize {
    [0, 2][peer]
}

fn info_of(peer: PeerId, state: State) -> NodeInfo {
    info(node_of(peer), state)
}

/// One with the write lease.
fn ours(peer: PeerId, state: State) -> NodeInfo {
    NodeInfo {
        write_lease_ms: Some(10_000),
        ..info_of(peer, state)
    }
}

fn inbound(peer: PeerId) -> Conn {
    Conn::In(u64::try_from(peer).unwrap())
}

impl Bench {
    fn new() -> Bench {
        Bench::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Bench {
        let mut settings = testing::settings(1, 3);
        change(&mut settings);
        Bench::of(settings)
    }

    /// Of as many nodes as there are in them.
    fn of(settings: Settings) -> Bench {
        let now = Instant::now();
        let name = "10.0.0.1:9999 Linux test".to_owned();
        let mut bench = Bench {
            core: Core::new(Arc::new(settings), name, now),
            now,
            done: Vec::new(),
            actions: Vec::new(),
            handling: 0,
            last_id: 1000,
        };
        bench.backends(&[RemoteStatus::Up, RemoteStatus::Up], 0);
        bench
    }

    fn backends(&mut self, nodes: &[RemoteStatus], primary: i32) {
        self.event(Event::Backends(BackendStatus {
            nodes: nodes.to_vec(),
            primary,
            quarantined_primary: None,
            node_name: String::new(),
        }));
    }

    fn event(&mut self, event: Event) {
        for action in self.core.handle(event, self.now) {
            let word = match &action {
                Action::Send { conn, id, message } => {
                    let peer = match conn {
                        Conn::Out { peer, .. } => *peer,
                        Conn::In(number) => usize::try_from(*number).unwrap(),
                    };
                    message.encode(*id).expect("it can be sent");
                    let reply = if *id == self.handling { "=" } else { "" };
                    let kind = match message {
                        Message::Service(service) => format!("#{}", char::from(service.byte())),
                        other => char::from(other.kind()).to_string(),
                    };
                    format!("{peer}{kind}{reply}")
                }
                Action::Close { conn } => format!("close {conn:?}"),
                Action::Settled => "settled".to_owned(),
                Action::Escalate => "escalate".to_owned(),
                Action::DeEscalate => "de-escalate".to_owned(),
                Action::Failover(request) => format!("failover {}", request.node),
                Action::Answer { result, .. } => format!("answer {result:?}"),
                Action::Adopt { .. } => "adopt".to_owned(),
                Action::Exit { .. } => "exit".to_owned(),
                Action::LookAtBackends => "look".to_owned(),
                Action::CheckBackends => "check".to_owned(),
                Action::Serving(on) => format!("serving {on}"),
                _ => String::new(),
            };
            if !word.is_empty() {
                self.done.push(word);
            }
            self.actions.push(action);
        }
    }

    /// The supervisor has done what the last [`Action::Adopt`] wants.
    fn adopted(&mut self) {
        let adopt = self.actions.iter().rev().find_map(|action| match action {
            Action::Adopt { number, .. } => Some(*number),
            _ => None,
        });
        let number = adopt.expect("there is something to take over");
        self.event(Event::Adopted { number });
    }

    fn start(&mut self) {
        self.event(Event::Start {
            memory: Memory::default(),
        });
    }

    /// Time goes on, and every timer fires when it is due.
    fn after(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(wake) = self.core.wake.filter(|wake| *wake <= end) {
            self.now = self.now.max(wake);
            self.event(Event::Timer);
        }
        self.now = end;
        self.event(Event::Timer);
    }

    fn seconds(&mut self, seconds: u64) {
        self.after(Duration::from_secs(seconds));
    }

    /// Both connections of a pair, and the introduction of the peer.
    fn meet(&mut self, info: NodeInfo) {
        let peer = usize::from(info.node_id != Some(0));
        let attempt = self.core.peers[peer].attempts;
        self.event(Event::Connected {
            conn: Conn::Out { peer, attempt },
        });
        let conn = inbound(peer);
        self.event(Event::Accepted {
            conn,
            source: format!("10.0.0.{}", node_of(peer)),
        });
        self.packet(conn, Message::AddNode(Box::new(info)));
    }

    fn packet(&mut self, conn: Conn, message: Message) {
        self.last_id += 1;
        self.reply(conn, self.last_id, message);
    }

    fn reply(&mut self, conn: Conn, id: u32, message: Message) {
        self.handling = id;
        self.event(Event::Received { conn, id, message });
        self.handling = 0;
    }

    fn say(&mut self, peer: PeerId, message: Message) {
        self.packet(inbound(peer), message);
    }

    /// NODE INFO of its own accord.
    fn tell(&mut self, info: NodeInfo) {
        let peer = usize::from(info.node_id != Some(0));
        self.say(peer, Message::NodeInfo(Box::new(info)));
    }

    fn done(&mut self) -> String {
        self.actions.clear();
        std::mem::take(&mut self.done).join(" ")
    }

    /// Id of the last packet of this type to the peer.
    fn sent_id(&self, kind: u8) -> u32 {
        let sent = self.actions.iter().rev().find_map(|action| match action {
            Action::Send { id, message, .. } if message.kind() == kind => Some(*id),
            _ => None,
        });
        sent.expect("such a packet")
    }

    /// Alone until it leads, without quorum.
    fn lead_alone(&mut self) {
        self.start();
        self.seconds(20);
        assert_eq!(self.core.state(), State::Leader);
    }

    /// Leads, and this peer has joined.
    fn lead(&mut self, peers: &[NodeInfo]) {
        self.lead_alone();
        for info in peers {
            self.meet(info.clone());
            let peer = usize::from(info.node_id != Some(0));
            self.say(peer, Message::JoinLeader);
        }
        self.done();
    }

    /// A standby of peer 0.
    fn follow(&mut self, leader: NodeInfo) {
        self.start();
        self.meet(leader.clone());
        self.seconds(5);
        self.tell(leader);
        self.seconds(5);
        assert_eq!(self.core.state(), State::Standby);
        let id = self.sent_id(b'J');
        self.reply(inbound(0), id, Message::Accept);
        let asked = self.sent_id(b'd');
        self.reply(inbound(0), asked, Message::Data(all_up()));
        self.adopted();
        self.done();
    }
}

fn all_up() -> BackendStatus {
    BackendStatus {
        nodes: vec![RemoteStatus::Up, RemoteStatus::Up],
        primary: 0,
        quarantined_primary: None,
        node_name: String::new(),
    }
}

fn down(node: usize) -> FailoverRequest {
    use crate::watchdog::codec::function::{Credentials, FailoverKind, Flags};
    FailoverRequest {
        credentials: Credentials {
            shared_key: Some(7),
            auth_key: Some("secret".to_owned()),
        },
        kind: FailoverKind::Degenerate,
        flags: Flags::SWITCHOVER,
        node,
    }
}
