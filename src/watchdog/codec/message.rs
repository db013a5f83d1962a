//! Packets between nodes as values.

use super::{
    DecodeError, EncodeError, Frame, Service,
    config_data::ConfigData,
    function::{ClusterCommand, FailoverRequest, FailoverResult, RecoveryRequest},
    json::{Object, Writer},
    node_info::{Beacon, NodeInfo},
    status::{BackendStatus, DataRequest},
};

/// A packet without its command id. The letter is its type on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// `A`: first on every connection that the sender has opened.
    AddNode(Box<NodeInfo>),
    /// `B`
    RequestInfo,
    /// `C`: the sender is the new leader.
    DeclareLeader,
    /// `D`
    Data(BackendStatus),
    /// `E`
    Error,
    /// `F`
    FailoverStart,
    /// `G`
    Accept,
    /// `H`
    FailoverEnd,
    /// `I`
    NodeInfo(Box<NodeInfo>),
    /// `J`: the sender wants to be a standby of the receiver.
    JoinLeader,
    /// `K`: nodes with quarantined backends vote again.
    WaitingForConsensus,
    /// `M`; `None`: a body that says nothing, which makes a stock leader give up.
    Beacon(Option<Beacon>),
    /// `N`
    InNetworkTrouble,
    /// `Q`
    QuorumIsLost,
    /// `R`
    Reject,
    /// `S`
    StandForLeader,
    /// `X`
    GoingDown,
    /// `Y`
    AskConfig,
    /// `Z`
    Config(Box<ConfigData>),
    /// `-`
    FailoverResult(FailoverResult),
    /// `#`
    Service(Service),
    /// `!`
    ClusterCommand(ClusterCommand),
    /// `f`
    Failover(FailoverRequest),
    /// `r`
    Recovery(RecoveryRequest),
    /// `d`
    DataRequest(DataRequest),
    /// `V`, `s`: of releases before 4.0.
    Obsolete(u8),
    /// `w`, between nodes of ours: keep or be kept from the write lease.
    LeaseAsk(LeaseAsk),
    /// `W`, between nodes of ours.
    LeaseGrant(LeaseGrant),
}

/// See [`crate::watchdog::core::lease`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseAsk {
    /// Counts up; the grant repeats it.
    pub round: u32,
    /// The highest that the sender has heard of; a leader's is its own.
    pub reign: Reign,
    /// Of the sender.
    pub picture: Picture,
    /// By a leader: its standby shall serve no writes until it has asked for a share again.
    pub pause: bool,
    /// By a standby: the answer shall wait for a majority that answers behind this question.
    pub fresh: bool,
}

/// The time of one leader. Two nodes never have the same, and a later one is higher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reign {
    pub number: u32,
    /// Number of the node that leads.
    pub node: u32,
}

/// Which of the successive pictures of the backends, and of their primary above all, a node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Picture {
    pub reign: Reign,
    /// Counts the changes within a reign.
    pub change: u32,
}

impl Picture {
    fn write(self, w: &mut Writer) {
        w.int("PictureReign", self.reign.number)
            .int("PictureNode", self.reign.node)
            .int("PictureChange", self.change);
    }

    fn read(o: &Object) -> Result<Picture, DecodeError> {
        Ok(Picture {
            reign: Reign {
                number: o.int("PictureReign")?,
                node: o.int("PictureNode")?,
            },
            change: o.int("PictureChange")?,
        })
    }
}

impl Reign {
    fn write(self, w: &mut Writer) {
        w.int("Reign", self.number).int("ReignNode", self.node);
    }

    fn read(o: &Object) -> Result<Reign, DecodeError> {
        Ok(Reign {
            number: o.int("Reign")?,
            node: o.int("ReignNode")?,
        })
    }
}

/// See [`crate::watchdog::core::lease`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseGrant {
    pub round: u32,
    /// By a leader to its standby: how long it may still serve writes itself. The highest signed number:
    /// there is no lease.
    pub remaining_ms: u32,
    /// By a leader: how long before the question the round was sent that a majority has answered last.
    pub heard_before_ms: u32,
    /// By a standby to its leader: how long ago it last supported another leader, or has started.
    pub idle_ms: u32,
    /// As in [`LeaseAsk`]. One above the leader's refuses support.
    pub reign: Reign,
    pub picture: Picture,
    /// By a standby: it serves no writes, as it was asked.
    pub paused: bool,
}

impl Message {
    pub fn kind(&self) -> u8 {
        match self {
            Message::AddNode(_) => b'A',
            Message::RequestInfo => b'B',
            Message::DeclareLeader => b'C',
            Message::Data(_) => b'D',
            Message::Error => b'E',
            Message::FailoverStart => b'F',
            Message::Accept => b'G',
            Message::FailoverEnd => b'H',
            Message::NodeInfo(_) => b'I',
            Message::JoinLeader => b'J',
            Message::WaitingForConsensus => b'K',
            Message::Beacon(_) => b'M',
            Message::InNetworkTrouble => b'N',
            Message::QuorumIsLost => b'Q',
            Message::Reject => b'R',
            Message::StandForLeader => b'S',
            Message::GoingDown => b'X',
            Message::AskConfig => b'Y',
            Message::Config(_) => b'Z',
            Message::FailoverResult(_) => b'-',
            Message::Service(_) => b'#',
            Message::ClusterCommand(_) => b'!',
            Message::Failover(_) => b'f',
            Message::Recovery(_) => b'r',
            Message::DataRequest(_) => b'd',
            Message::Obsolete(kind) => *kind,
            Message::LeaseAsk(_) => b'w',
            Message::LeaseGrant(_) => b'W',
        }
    }

    /// # Errors
    ///
    /// What a stock peer could not bear.
    pub fn encode(&self, id: u32) -> Result<Frame, EncodeError> {
        let body = match self {
            Message::AddNode(info) | Message::NodeInfo(info) => info.encode()?,
            Message::Data(status) => status.encode()?,
            Message::Beacon(Some(beacon)) => beacon.encode()?,
            Message::Config(data) => data.encode()?,
            // The one body that ends with a NUL.
            Message::FailoverResult(result) => result.encode()? + "\0",
            Message::Service(service) => char::from(service.byte()).to_string(),
            Message::ClusterCommand(command) => command.encode()?,
            Message::Failover(request) => request.encode()?,
            Message::Recovery(request) => request.encode()?,
            Message::DataRequest(request) => request.encode()?,
            Message::LeaseAsk(ask) => {
                let mut w = Writer::new();
                w.int("Round", ask.round);
                ask.reign.write(&mut w);
                ask.picture.write(&mut w);
                w.int("Pause", i32::from(ask.pause))
                    .int("Fresh", i32::from(ask.fresh));
                w.end()?
            }
            Message::LeaseGrant(grant) => {
                let mut w = Writer::new();
                w.int("Round", grant.round)
                    .int("RemainingMs", grant.remaining_ms)
                    .int("HeardBeforeMs", grant.heard_before_ms)
                    .int("IdleMs", grant.idle_ms);
                grant.reign.write(&mut w);
                grant.picture.write(&mut w);
                w.int("Paused", i32::from(grant.paused));
                w.end()?
            }
            _ => String::new(),
        };
        Ok(Frame {
            kind: self.kind(),
            id,
            payload: body.into_bytes(),
        })
    }

    /// # Errors
    ///
    /// The packet says nothing that can be understood. The connection is good for more packets.
    pub fn decode(frame: &Frame) -> Result<Message, DecodeError> {
        let body = frame.payload.as_slice();
        Ok(match frame.kind {
            b'A' => Message::AddNode(Box::new(NodeInfo::decode(body)?)),
            b'B' => Message::RequestInfo,
            b'C' => Message::DeclareLeader,
            b'D' => Message::Data(BackendStatus::decode(body)?),
            b'E' => Message::Error,
            b'F' => Message::FailoverStart,
            b'G' => Message::Accept,
            b'H' => Message::FailoverEnd,
            b'I' => Message::NodeInfo(Box::new(NodeInfo::decode(body)?)),
            b'J' => Message::JoinLeader,
            b'K' => Message::WaitingForConsensus,
            b'M' => Message::Beacon(Beacon::decode(body).ok()),
            b'N' => Message::InNetworkTrouble,
            b'Q' => Message::QuorumIsLost,
            b'R' => Message::Reject,
            b'S' => Message::StandForLeader,
            b'X' => Message::GoingDown,
            b'Y' => Message::AskConfig,
            b'Z' => Message::Config(Box::new(ConfigData::decode(body)?)),
            b'-' => Message::FailoverResult(FailoverResult::decode(body)?),
            b'#' => Message::Service(Service::decode(body)?),
            b'!' => Message::ClusterCommand(ClusterCommand::decode(body)?),
            b'f' => Message::Failover(FailoverRequest::decode(body)?),
            b'r' => Message::Recovery(RecoveryRequest::decode(body)?),
            b'd' => Message::DataRequest(DataRequest::decode(body)?),
            kind @ (b'V' | b's') => Message::Obsolete(kind),
            b'w' => {
                let o = Object::parse(body)?;
                Message::LeaseAsk(LeaseAsk {
                    round: o.int("Round")?,
                    reign: Reign::read(&o)?,
                    picture: Picture::read(&o)?,
                    pause: o.bool("Pause")?,
                    fresh: o.bool("Fresh")?,
                })
            }
            b'W' => {
                let o = Object::parse(body)?;
                Message::LeaseGrant(LeaseGrant {
                    round: o.int("Round")?,
                    remaining_ms: o.int("RemainingMs")?,
                    heard_before_ms: o.int("HeardBeforeMs")?,
                    idle_ms: o.int("IdleMs")?,
                    reign: Reign::read(&o)?,
                    picture: Picture::read(&o)?,
                    paused: o.bool("Paused")?,
                })
            }
            unknown => return Err(DecodeError::UnknownType(unknown)),
        })
    }
}

/// The name of a packet type, for logs.
pub fn name(kind: u8) -> &'static str {
    match kind {
        b'A' => "ADD NODE",
        b'B' => "REQUEST INFO",
        b'C' => "DECLARE COORDINATOR",
        b'D' => "DATA",
        b'E' => "ERROR",
        b'F' => "FAILOVER START",
        b'G' => "ACCEPT",
        b'H' => "FAILOVER END",
        b'I' => "NODE INFO",
        b'J' => "JOIN COORDINATOR",
        b'K' => "FAILOVER WAITING FOR CONSENSUS",
        b'M' => "IAM COORDINATOR",
        b'N' => "I AM IN NETWORK TROUBLE",
        b'Q' => "QUORUM IS LOST",
        b'R' => "REJECT",
        b'S' => "STAND FOR COORDINATOR",
        b'V' => "REPLICATE FAILOVER REQUEST",
        b'X' => "INFORM I AM GOING DOWN",
        b'Y' => "ASK FOR POOL CONFIG",
        b'Z' => "CONFIG DATA",
        b'-' => "COMMAND REPLY IN DATA",
        b'#' => "CLUSTER SERVICE MESSAGE",
        b'!' => "WD EXECUTE COMMAND",
        b'f' => "FAILOVER FUNCTION COMMAND",
        b'r' => "ONLINE RECOVERY REQUEST",
        b'd' => "DATA REQUEST FOR LEADER",
        b's' => "FAILOVER LOCKING REQUEST",
        b'w' => "WRITE LEASE REQUEST",
        b'W' => "WRITE LEASE GRANT",
        _ => "UNKNOWN",
    }
}
