//! Answers on the watchdog's local socket.

use super::{
    EncodeError, function::FailoverResult, ipc::IpcFrame, json::Writer, node_info::State,
    status::BackendStatus,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpcAnswer {
    /// Not stable: ask again.
    InTransition,
    Bad(Option<&'static str>),
    Ok,
    NodeList(NodeList),
    Variable(Variable),
    Result(FailoverResult),
    /// The leader's answer, handed on.
    Data(BackendStatus),
    Timeout,
}

/// Texts that a stock watchdog gives with [`IpcAnswer::Bad`].
pub const INVALID_KEY: &str = "authentication failed: invalid KEY";
pub const INVALID_DATA: &str = "authentication failed: invalid data";
pub const UNKNOWN_TYPE: &str = "unknown IPC command type";
pub const UNKNOWN_VARIABLE: &str = "unknown variable requested";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    Int(i32),
    Bool(bool),
}

/// The cluster as one node sees it; for `wd_cli` and `pcp_watchdog_info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeList {
    pub remote_nodes: i32,
    pub member_remote_nodes: i32,
    pub required_for_quorum: i32,
    /// As in [`super::node_info::Standing`]; -2 without a leader.
    pub quorum: i32,
    pub alive_nodes: i32,
    pub escalated: bool,
    /// Node name and host of the leader.
    pub leader: Option<(String, String)>,
    pub nodes: Vec<ListedNode>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedNode {
    pub id: i32,
    /// `None`: no such node.
    pub state: Option<State>,
    pub membership: Membership,
    /// `None`: not heard of yet.
    pub name: Option<String>,
    pub host: Option<String>,
    pub delegate_ip: Option<String>,
    pub wd_port: i32,
    pub pgpool_port: i32,
    pub priority: i32,
}

/// Does a node count for the quorum?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    Member,
    RevokedShutdown,
    RevokedNoShow,
    RevokedLost,
    /// Of a node that does not exist.
    NotSet,
}

impl Membership {
    fn number(self) -> i32 {
        match self {
            Membership::NotSet => -1,
            Membership::Member => 0,
            Membership::RevokedShutdown => 1,
            Membership::RevokedNoShow => 2,
            Membership::RevokedLost => 3,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Membership::Member => "MEMBER",
            Membership::RevokedShutdown => "REVOKED-SHUTDOWN",
            Membership::RevokedNoShow => "REVOKED-NO-SHOW",
            Membership::RevokedLost => "REVOKED-LOST",
            Membership::NotSet => "Not_Set",
        }
    }
}

impl IpcAnswer {
    /// # Errors
    ///
    /// An empty list.
    pub fn encode(&self) -> Result<IpcFrame, EncodeError> {
        let mut ends_with_nul = true;
        let (kind, body) = match self {
            IpcAnswer::InTransition => (b'5', String::new()),
            IpcAnswer::Bad(None) => (b'6', String::new()),
            IpcAnswer::Bad(Some(text)) => {
                let mut w = Writer::new();
                w.text("MESSAGE", text);
                (b'6', w.end()?)
            }
            IpcAnswer::Ok => (b'7', String::new()),
            IpcAnswer::NodeList(list) => (b'7', list.encode()?),
            IpcAnswer::Variable(value) => {
                let mut w = Writer::new();
                match value {
                    Variable::Int(number) => w.int("ValueDataType", 1).int("ValueData", *number),
                    Variable::Bool(on) => w.int("ValueDataType", 3).bool("ValueData", *on),
                };
                (b'7', w.end()?)
            }
            IpcAnswer::Result(result) => (b'7', result.encode()?),
            IpcAnswer::Data(status) => {
                ends_with_nul = false;
                (b'7', status.encode()?)
            }
            IpcAnswer::Timeout => (b'8', String::new()),
        };
        let mut payload = body.into_bytes();
        if ends_with_nul && !payload.is_empty() {
            payload.push(0);
        }
        Ok(IpcFrame { kind, payload })
    }
}

impl NodeList {
    fn encode(&self) -> Result<String, EncodeError> {
        self.write(&["Leader"], false)
    }

    /// For `pcp_watchdog_info`, whose tools of 4.0 and 4.1 look for other keys than the newer ones: both
    /// are there. `old`: states are called as in these releases.
    ///
    /// # Errors
    ///
    /// An empty list.
    pub fn for_pcp(&self, old: bool) -> Result<String, EncodeError> {
        self.write(&["Leader", "Master"], old)
    }

    fn write(&self, words: &[&str], old: bool) -> Result<String, EncodeError> {
        let (name, host) = match &self.leader {
            Some((name, host)) => (name.as_str(), host.as_str()),
            None => ("Not Set", "Not Set"),
        };
        let mut w = Writer::new();
        w.int("RemoteNodeCount", self.remote_nodes)
            .int("MemberRemoteNodeCount", self.member_remote_nodes)
            .int("NodesRequireForQuorum", self.required_for_quorum)
            .int("QuorumStatus", self.quorum)
            .int("AliveNodeCount", self.alive_nodes)
            .bool("Escalated", self.escalated);
        for word in words {
            w.text(&format!("{word}NodeName"), name)
                .text(&format!("{word}HostName"), host);
        }
        w.int(
            "NodeCount",
            i64::try_from(self.nodes.len()).unwrap_or(i64::MAX),
        );
        let nodes = self.nodes.iter().map(|node| node.writer(old));
        w.objects("WatchdogNodes", nodes.collect())?;
        w.end()
    }
}

impl ListedNode {
    /// What is listed for a number that no node has.
    pub fn unknown() -> ListedNode {
        ListedNode {
            id: -1,
            state: None,
            membership: Membership::NotSet,
            name: None,
            host: None,
            delegate_ip: None,
            wd_port: 0,
            pgpool_port: 0,
            priority: 0,
        }
    }

    fn writer(&self, old: bool) -> Writer {
        let text = |text: &Option<String>| match text.as_deref() {
            None | Some("") => "Not_Set".to_owned(),
            Some(text) => text.to_owned(),
        };
        let mut w = Writer::new();
        w.int("ID", self.id)
            .int("State", self.state.map_or(-1, State::number))
            .int("Membership", self.membership.number())
            .text("MembershipString", self.membership.name())
            .text("NodeName", &text(&self.name))
            .text("HostName", &text(&self.host))
            .text("StateName", self.state.map_or("Not_Set", |s| s.name(old)))
            .text("DelegateIP", &text(&self.delegate_ip))
            .int("WdPort", self.wd_port)
            .int("PgpoolPort", self.pgpool_port)
            .int("Priority", self.priority);
        w
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What tools of 4.0.25 and of 4.7.2 were seen to read (fixtures/pcp).
    #[test]
    fn the_answer_to_pcp_watchdog_info_is_one_that_old_and_new_tools_read() {
        let recorded: serde_json::Value = serde_json::from_str(include_str!(
            "../../../fixtures/pcp/mock_watchdog_both_key_sets_4_0_25.json"
        ))
        .unwrap();
        let body = recorded["server_frames"][2]["body"].as_str().unwrap();
        let (start, end) = (body.find('{').unwrap(), body.rfind('}').unwrap());
        let list = NodeList {
            remote_nodes: 1,
            member_remote_nodes: 1,
            required_for_quorum: 2,
            quorum: 1,
            alive_nodes: 1,
            escalated: true,
            leader: Some(("n0".to_owned(), "h0".to_owned())),
            nodes: vec![ListedNode {
                id: 0,
                state: Some(State::Leader),
                membership: Membership::Member,
                name: Some("n0".to_owned()),
                host: Some("h0".to_owned()),
                delegate_ip: None,
                wd_port: 9000,
                pgpool_port: 9999,
                priority: 1,
            }],
        };
        let read = body[start..=end].replace("\"DelegateIP\": \"\"", "\"DelegateIP\": \"Not_Set\"");
        let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(parsed(&list.for_pcp(false).unwrap()), parsed(&read));
        let of_4_0 = read.replace("\"StateName\": \"LEADER\"", "\"StateName\": \"MASTER\"");
        assert_eq!(parsed(&list.for_pcp(true).unwrap()), parsed(&of_4_0));
    }
}
