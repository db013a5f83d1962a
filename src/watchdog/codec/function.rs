//! Requests to fail over, their results, cluster commands: what one node asks others to do.

use super::{
    DecodeError, EncodeError,
    json::{Object, Writer},
};
use crate::cluster::NodeId;

/// Longest name and value of an argument of a cluster command.
const MAX_ARGUMENT: usize = 63;

/// Proof of a local caller. Stock nodes pass it on to others, `wd_authkey` in clear; nobody reads it
/// there, and we leave it out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Known to the processes of one pgpool only.
    pub shared_key: Option<i32>,
    pub auth_key: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("shared_key", &self.shared_key.is_some())
            .field("auth_key", &self.auth_key.is_some())
            .finish()
    }
}

impl Credentials {
    pub(super) fn write(&self, w: &mut Writer) {
        w.optional_int("IPCSharedKey", self.shared_key)
            .optional_text("IPCAuthKey", self.auth_key.as_deref());
    }

    pub(super) fn read(o: &Object) -> Result<Credentials, DecodeError> {
        Ok(Credentials {
            shared_key: o.optional_int("IPCSharedKey")?,
            auth_key: o.optional_text("IPCAuthKey")?,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailoverKind {
    Degenerate,
    Failback,
    Promote,
}

impl FailoverKind {
    /// On the wire, and in log lines.
    pub fn word(self) -> &'static str {
        match self {
            FailoverKind::Degenerate => "DEGENERATE_BACKEND_REQUEST",
            FailoverKind::Failback => "FAILBACK_REQUEST",
            FailoverKind::Promote => "PROMOTE_BACKEND_REQUEST",
        }
    }
}

/// Bits of `Flags`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub i32);

impl Flags {
    /// Sessions are to be told of a change on purpose, not of an error.
    pub const SWITCHOVER: Flags = Flags(0x01);
    /// The request comes from the watchdog, which is not to be asked again.
    pub const WATCHDOG: Flags = Flags(0x02);
    /// No consensus is needed: an operator has decided.
    pub const CONFIRMED: Flags = Flags(0x04);
    /// A change of status only, as for quarantined backends.
    pub const UPDATE: Flags = Flags(0x08);
    /// Promote the standby for real, in the place of the primary.
    pub const PROMOTE: Flags = Flags(0x10);

    pub fn has(self, bits: Flags) -> bool {
        self.0 & bits.0 == bits.0
    }

    #[must_use]
    pub fn with(self, bits: Flags) -> Flags {
        Flags(self.0 | bits.0)
    }
}

/// A vote or an order for one backend. A list of several crashes a stock leader and is never sent.
///
/// A promotion with [`Flags::PROMOTE`] (`pcp_promote_node --switchover`) is a request to degenerate with that flag on the
/// wire: the primary is what goes, and the backend that it names takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverRequest {
    pub credentials: Credentials,
    pub kind: FailoverKind,
    pub flags: Flags,
    pub node: NodeId,
}

impl FailoverRequest {
    pub(super) fn encode(&self) -> Result<String, EncodeError> {
        let mut w = Writer::new();
        self.credentials.write(&mut w);
        let kind = match self.kind {
            FailoverKind::Promote if self.flags.has(Flags::PROMOTE) => FailoverKind::Degenerate,
            kind => kind,
        };
        w.text("Function", kind.word())
            .int("Flags", self.flags.0)
            .int("NodeCount", 1)
            .ints(
                "NodeIdList",
                &[i64::try_from(self.node).unwrap_or(i64::MAX)],
            )?;
        w.end()
    }

    /// Errors other than [`DecodeError::UnknownFunction`] are answered with ERROR, that one with the
    /// result "invalid function".
    pub(super) fn decode(body: &[u8]) -> Result<FailoverRequest, DecodeError> {
        const LIST: &str = "NodeIdList";
        let o = Object::parse(body)?;
        let word = o.text("Function")?;
        let kinds = [
            FailoverKind::Degenerate,
            FailoverKind::Failback,
            FailoverKind::Promote,
        ];
        let kind = kinds
            .into_iter()
            .find(|kind| kind.word().eq_ignore_ascii_case(&word))
            .ok_or(DecodeError::UnknownFunction(word))?;
        let count = o.optional_int::<i64>("NodeCount")?.unwrap_or(0);
        let list: Vec<NodeId> = o.ints(LIST)?.unwrap_or_default();
        let [node] = list[..] else {
            return Err(match list.len() {
                0 => DecodeError::Missing(LIST),
                several => DecodeError::SeveralBackends(several),
            });
        };
        if count != 1 {
            return Err(DecodeError::Invalid {
                key: "NodeCount",
                expected: "the length of NodeIdList",
            });
        }
        let flags = Flags(o.optional_int("Flags")?.unwrap_or(0));
        let switches = kind == FailoverKind::Degenerate && flags.has(Flags::PROMOTE);
        Ok(FailoverRequest {
            credentials: Credentials::read(&o)?,
            kind: if switches {
                FailoverKind::Promote
            } else {
                kind
            },
            flags,
            node,
        })
    }
}

/// A second stage of online recovery begins or ends somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryRequest {
    pub credentials: Credentials,
    pub begins: bool,
    pub flags: Flags,
}

impl RecoveryRequest {
    pub(super) fn encode(&self) -> Result<String, EncodeError> {
        let mut w = Writer::new();
        self.credentials.write(&mut w);
        let word = if self.begins {
            "START_RECOVERY"
        } else {
            "END_RECOVERY"
        };
        w.text("Function", word)
            .int("Flags", self.flags.0)
            .int("NodeCount", 0);
        w.end()
    }

    pub(super) fn decode(body: &[u8]) -> Result<RecoveryRequest, DecodeError> {
        let o = Object::parse(body)?;
        let word = o.text("Function")?;
        let begins = match word.to_ascii_uppercase().as_str() {
            "START_RECOVERY" => true,
            "END_RECOVERY" => false,
            _ => return Err(DecodeError::UnknownFunction(word)),
        };
        Ok(RecoveryRequest {
            credentials: Credentials::read(&o)?,
            begins,
            flags: Flags(o.optional_int("Flags")?.unwrap_or(0)),
        })
    }
}

/// What becomes of a request, by the numbers of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailoverResult {
    Error = 0,
    /// Ask again in a second, up to ten times.
    Transition = 1,
    Success = 2,
    /// Do it yourself: for the leader's own requests.
    Proceed = 3,
    /// Quarantine the backend.
    NoQuorum = 4,
    /// The leader does it; FAILOVER END follows.
    WillBeDone = 5,
    NotAllowed = 6,
    InvalidFunction = 7,
    /// The leader would not hear of it.
    LeaderRejected = 8,
    /// The vote counts and others are missing.
    BuildingConsensus = 9,
    /// The same vote again: quarantine the backend.
    ConsensusMayFail = 10,
    /// No answer in time.
    Timeout = 11,
}

impl FailoverResult {
    pub(super) fn encode(self) -> Result<String, EncodeError> {
        let mut w = Writer::new();
        w.int("FAILOVER_COMMAND_RESULT", self as i32)
            .int("FAILOVER_COMMAND_ID", 0);
        w.end()
    }

    pub(super) fn decode(body: &[u8]) -> Result<FailoverResult, DecodeError> {
        const KEY: &str = "FAILOVER_COMMAND_RESULT";
        let number: i64 = Object::parse(body)?.int(KEY)?;
        Ok(match number {
            0 => FailoverResult::Error,
            1 => FailoverResult::Transition,
            2 => FailoverResult::Success,
            3 => FailoverResult::Proceed,
            4 => FailoverResult::NoQuorum,
            5 => FailoverResult::WillBeDone,
            6 => FailoverResult::NotAllowed,
            7 => FailoverResult::InvalidFunction,
            8 => FailoverResult::LeaderRejected,
            9 => FailoverResult::BuildingConsensus,
            10 => FailoverResult::ConsensusMayFail,
            11 => FailoverResult::Timeout,
            _ => {
                return Err(DecodeError::Invalid {
                    key: KEY,
                    expected: "a number from 0 to 11",
                });
            }
        })
    }
}

/// A command that every node carries out, as `RELOAD_CONFIG_CLUSTER`. Which ones there are is the
/// receiver's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterCommand {
    pub credentials: Credentials,
    pub command: String,
    pub arguments: Vec<(String, String)>,
}

impl ClusterCommand {
    pub fn new(command: &str, arguments: &[(&str, &str)]) -> ClusterCommand {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        ClusterCommand {
            credentials: Credentials::default(),
            command: command.to_owned(),
            arguments: arguments.iter().map(owned).collect(),
        }
    }

    pub fn argument(&self, name: &str) -> Option<&str> {
        let mut all = self.arguments.iter();
        all.find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn encode(&self) -> Result<String, EncodeError> {
        let mut w = Writer::new();
        self.credentials.write(&mut w);
        w.text("Command", &self.command).int(
            "nArgs",
            i64::try_from(self.arguments.len()).unwrap_or(i64::MAX),
        );
        let mut list = Vec::new();
        for (name, value) in &self.arguments {
            for (key, text) in [("arg_name", name), ("arg_value", value)] {
                if text.len() > MAX_ARGUMENT {
                    return Err(EncodeError::TooLong {
                        key,
                        bytes: text.len(),
                        max: MAX_ARGUMENT,
                    });
                }
            }
            let mut item = Writer::new();
            item.text("arg_name", name).text("arg_value", value);
            list.push(item);
        }
        if !list.is_empty() {
            w.objects("argument_list", list)?;
        }
        w.end()
    }

    pub(super) fn decode(body: &[u8]) -> Result<ClusterCommand, DecodeError> {
        let o = Object::parse(body)?;
        let count: usize = o.int("nArgs")?;
        let mut arguments = Vec::new();
        for item in o.objects("argument_list")?.unwrap_or_default() {
            arguments.push((item.text("arg_name")?, item.text("arg_value")?));
        }
        if arguments.len() != count {
            return Err(DecodeError::Invalid {
                key: "nArgs",
                expected: "the length of argument_list",
            });
        }
        Ok(ClusterCommand {
            credentials: Credentials::read(&o)?,
            command: o.text("Command")?,
            arguments,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switchover_is_what_stock_nodes_take_for_one() {
        // As a stock standby sends pcp_promote_node, with --switchover and without.
        let switchover = r#"{"Function":"DEGENERATE_BACKEND_REQUEST","Flags":21,"NodeCount":1,"NodeIdList": [1]}"#;
        let plain =
            r#"{"Function":"PROMOTE_BACKEND_REQUEST","Flags":4,"NodeCount":1,"NodeIdList": [1]}"#;
        for text in [switchover, plain] {
            let request = FailoverRequest::decode(text.as_bytes()).unwrap();
            assert_eq!((request.kind, request.node), (FailoverKind::Promote, 1));
            assert_eq!(request.flags.has(Flags::PROMOTE), text == switchover);
            assert_eq!(request.encode().unwrap(), text);
        }
        let detach = switchover.replace("21", "5");
        let request = FailoverRequest::decode(detach.as_bytes()).unwrap();
        assert_eq!(request.kind, FailoverKind::Degenerate);
    }
}
