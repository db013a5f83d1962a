//! What can be wrong with a packet.

/// A packet that cannot be read. The texts complete "packet from NODE: ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("unknown packet type 0x{0:02x}")]
    UnknownType(u8),
    #[error("its length field says {0} bytes; at most {max} are taken", max = super::frame::MAX_PAYLOAD)]
    Length(i64),
    #[error("a packet of type \"{kind}\" has an unexpected body of {bytes} bytes")]
    Body { kind: char, bytes: usize },
    #[error("its body is not a JSON object: {0}")]
    NotJson(String),
    #[error("member {0} is missing")]
    Missing(&'static str),
    #[error("member {key} is not {expected}")]
    Invalid {
        key: &'static str,
        expected: &'static str,
    },
    #[error("unknown service message 0x{0:02x}")]
    UnknownService(u8),
    #[error("unknown function \"{0}\"")]
    UnknownFunction(String),
    #[error("unknown kind of data \"{0}\" is asked for")]
    UnknownData(String),
    #[error("it names {0} backends; one is allowed, and a stock watchdog crashes on more")]
    SeveralBackends(usize),
    #[error("a heartbeat of {0} bytes; 224 and 352 are known")]
    HeartbeatSize(usize),
    #[error("the heartbeat's host name is not ended, or no text")]
    HeartbeatHost,
    #[error("the heartbeat's port is out of range")]
    HeartbeatPort,
}

/// A value that must not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// `src/utils/json.c` of every release frees what it never allocated.
    #[error("{0} would be empty, which crashes a stock watchdog")]
    Empty(&'static str),
    #[error("{key} has {bytes} bytes; at most {max} fit")]
    TooLong {
        key: &'static str,
        bytes: usize,
        max: usize,
    },
    #[error("{0} holds a NUL byte")]
    Nul(&'static str),
}
