//! What a node says of itself: the body of ADD NODE and NODE INFO, and the shorter one of a beacon.

use super::{
    AuthKey, DecodeError, EncodeError,
    json::{Object, Writer},
};

/// Where a node stands, by the numbers of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Never seen since the start of whoever says it.
    Dead = 0,
    Loading = 1,
    Joining = 2,
    Initializing = 3,
    Leader = 4,
    ParticipateInElection = 5,
    StandForLeader = 6,
    Standby = 7,
    Lost = 8,
    InNetworkTrouble = 9,
    Shutdown = 10,
    /// Of a remote node only: our announcement is on its way.
    AddMessageSent = 11,
    NetworkIsolation = 12,
}

impl State {
    const ALL: [State; 13] = [
        State::Dead,
        State::Loading,
        State::Joining,
        State::Initializing,
        State::Leader,
        State::ParticipateInElection,
        State::StandForLeader,
        State::Standby,
        State::Lost,
        State::InNetworkTrouble,
        State::Shutdown,
        State::AddMessageSent,
        State::NetworkIsolation,
    ];

    pub fn number(self) -> i32 {
        self as i32
    }

    pub fn numbered(number: i32) -> Option<State> {
        State::ALL
            .into_iter()
            .find(|state| state.number() == number)
    }

    /// As logs and tools show it. Before 4.2 the leader was called MASTER.
    pub fn name(self, master: bool) -> &'static str {
        match self {
            State::Dead => "DEAD",
            State::Loading => "LOADING",
            State::Joining => "JOINING",
            State::Initializing => "INITIALIZING",
            State::Leader if master => "MASTER",
            State::Leader => "LEADER",
            State::ParticipateInElection => "PARTICIPATING IN ELECTION",
            State::StandForLeader if master => "STANDING FOR MASTER",
            State::StandForLeader => "STANDING FOR LEADER",
            State::Standby => "STANDBY",
            State::Lost => "LOST",
            State::InNetworkTrouble => "IN NETWORK TROUBLE",
            State::Shutdown => "SHUTDOWN",
            State::AddMessageSent => "ADD MESSAGE SENT",
            State::NetworkIsolation => "NETWORK ISOLATION",
        }
    }

    /// A remote node in this state gets what goes to all.
    pub fn is_active(self) -> bool {
        !matches!(self, State::Dead | State::Lost | State::Shutdown)
    }
}

/// What changes while a node runs. Times are whole seconds, relative to the sending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub since_startup: i64,
    pub since_state: i64,
    /// 1 there is one, 0 on the edge, -1 none; of a leader.
    pub quorum: i32,
    /// Standbys joined to this node; of a leader.
    pub alive: i32,
    /// Runs the virtual IP.
    pub escalated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Of the program; for logs. Empty: not said.
    pub version: String,
    /// Of the messages, major and minor; 1.0 where it is not said.
    pub data_version: (String, String),
    pub state: State,
    pub wd_port: u16,
    pub pgpool_port: u16,
    /// -1 while a leader resigns.
    pub priority: i32,
    /// Releases before 4.2 send none.
    pub node_id: Option<u32>,
    pub name: String,
    pub host: String,
    pub delegate_ip: String,
    /// `None`: the form of releases before data version 1, which says none of it.
    pub standing: Option<Standing>,
    pub authkey: Option<String>,
    /// Ours only: this node keeps the write lease, of so many milliseconds. Others skip the member.
    pub write_lease_ms: Option<u32>,
}

impl NodeInfo {
    /// What is signed.
    fn signed(&self) -> String {
        format!("state={} wd_port={}", self.state.number(), self.wd_port)
    }

    #[must_use]
    pub fn sign(mut self, key: &AuthKey) -> NodeInfo {
        self.authkey = key.sign(&self.signed());
        self
    }

    pub fn is_signed_with(&self, key: &AuthKey) -> bool {
        key.accepts(&self.signed(), self.authkey.as_deref())
    }

    /// Understands `#I`, `#Y` and `#Z`: data version 1.1 and later. The test is the original's, to which
    /// 2.0 is not later.
    pub fn knows_reload(&self) -> bool {
        let number = |text: &str| text.parse::<i32>().unwrap_or_default();
        number(&self.data_version.0) >= 1 && number(&self.data_version.1) >= 1
    }

    pub(super) fn encode(&self) -> Result<String, EncodeError> {
        let mut w = Writer::new();
        if !self.version.is_empty() {
            w.text("PGPOOL_VERSION", &self.version);
        }
        w.text("DATA_VERSION_MAJOR", &self.data_version.0)
            .text("DATA_VERSION_MINOR", &self.data_version.1)
            .int("State", self.state.number())
            .int("WdPort", self.wd_port)
            .int("PgpoolPort", self.pgpool_port)
            .int("WdPriority", self.priority)
            .optional_int("PgpoolNodeId", self.node_id)
            .text("NodeName", &self.name)
            .text("HostName", &self.host)
            .text("VIP", &self.delegate_ip);
        match &self.standing {
            Some(standing) => standing.write(&mut w),
            None => {
                w.int("StartupTimeSecs", 0);
            }
        }
        w.optional_text("authkey", self.authkey.as_deref())
            .optional_int("PgpoolRsWriteLeaseMs", self.write_lease_ms);
        w.end()
    }

    pub(super) fn decode(body: &[u8]) -> Result<NodeInfo, DecodeError> {
        let o = Object::parse(body)?;
        let or = |text: Option<String>, default: &str| text.unwrap_or_else(|| default.to_owned());
        Ok(NodeInfo {
            version: or(o.optional_text("PGPOOL_VERSION")?, ""),
            data_version: (
                or(o.optional_text("DATA_VERSION_MAJOR")?, "1"),
                or(o.optional_text("DATA_VERSION_MINOR")?, "0"),
            ),
            state: state(&o)?,
            wd_port: o.int("WdPort")?,
            pgpool_port: o.int("PgpoolPort")?,
            priority: o.int("WdPriority")?,
            node_id: o.optional_int("PgpoolNodeId")?,
            name: o.text("NodeName")?,
            host: o.text("HostName")?,
            delegate_ip: o.text("VIP")?,
            standing: if o.has("StartupTimeSecs") {
                None
            } else {
                Some(Standing::read(&o)?)
            },
            authkey: o.optional_text("authkey")?,
            write_lease_ms: o.optional_int("PgpoolRsWriteLeaseMs")?,
        })
    }
}

/// What a leader says of itself every ten seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beacon {
    pub state: State,
    pub standing: Standing,
}

impl Beacon {
    pub(super) fn encode(&self) -> Result<String, EncodeError> {
        let mut w = Writer::new();
        w.int("State", self.state.number());
        self.standing.write(&mut w);
        w.end()
    }

    pub(super) fn decode(body: &[u8]) -> Result<Beacon, DecodeError> {
        let o = Object::parse(body)?;
        Ok(Beacon {
            state: state(&o)?,
            standing: Standing::read(&o)?,
        })
    }
}

impl Standing {
    fn write(&self, w: &mut Writer) {
        w.int("SecondsSinceStartup", self.since_startup)
            .int("SecondsSinceCurrentState", self.since_state)
            .int("QuorumStatus", self.quorum)
            .int("AliveNodeCount", self.alive)
            .bool("Escalated", self.escalated);
    }

    fn read(o: &Object) -> Result<Standing, DecodeError> {
        Ok(Standing {
            since_startup: o.int("SecondsSinceStartup")?,
            since_state: o.int("SecondsSinceCurrentState")?,
            quorum: o.int("QuorumStatus")?,
            alive: o.int("AliveNodeCount")?,
            escalated: o.bool("Escalated")?,
        })
    }
}

fn state(o: &Object) -> Result<State, DecodeError> {
    State::numbered(o.int("State")?).ok_or(DecodeError::Invalid {
        key: "State",
        expected: "the number of a state",
    })
}
