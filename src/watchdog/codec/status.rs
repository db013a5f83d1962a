//! Asking the leader for the state of the backends, and its answer.

use super::{
    DecodeError, EncodeError,
    function::Credentials,
    json::{Object, Writer},
};

const QUARANTINED: &str = "PgpoolRsQuarantinedPrimary";
const BACKEND_STATUS: &str = "BackendStatus";

/// The one kind of data there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataRequest {
    pub credentials: Credentials,
}

impl DataRequest {
    pub(super) fn encode(&self) -> Result<String, EncodeError> {
        let mut w = Writer::new();
        self.credentials.write(&mut w);
        w.text("DataRequestType", BACKEND_STATUS);
        w.end()
    }

    pub(super) fn decode(body: &[u8]) -> Result<DataRequest, DecodeError> {
        let o = Object::parse(body)?;
        let kind = o.text("DataRequestType")?;
        if !kind.eq_ignore_ascii_case(BACKEND_STATUS) {
            return Err(DecodeError::UnknownData(kind));
        }
        Ok(DataRequest {
            credentials: Credentials::read(&o)?,
        })
    }
}

/// Quarantined backends are reported as [`RemoteStatus::Waiting`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendStatus {
    pub nodes: Vec<RemoteStatus>,
    /// -1: there is none, or the leader has quarantined it; -2: not known yet.
    pub primary: i32,
    /// Of a node of ours: the primary that it has in quarantine, which is the primary for everybody else.
    /// Stock nodes neither tell nor read it.
    pub quarantined_primary: Option<i32>,
    pub node_name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteStatus {
    Unused = 0,
    Waiting = 1,
    Up = 2,
    Down = 3,
}

impl BackendStatus {
    /// Quarantined or not; `None`: there is none, or it is not known.
    pub fn known_primary(&self) -> Option<i32> {
        let visible = Some(self.primary).filter(|primary| *primary >= 0);
        visible.or(self.quarantined_primary)
    }

    pub(super) fn encode(&self) -> Result<String, EncodeError> {
        let numbers: Vec<i64> = self.nodes.iter().map(|status| *status as i64).collect();
        let mut w = Writer::new();
        w.ints("BackendNodeStatusList", &numbers)?
            .int("PrimaryNodeId", self.primary)
            .optional_int(QUARANTINED, self.quarantined_primary)
            .text("NodeName", &self.node_name);
        w.end()
    }

    pub(super) fn decode(body: &[u8]) -> Result<BackendStatus, DecodeError> {
        const LIST: &str = "BackendNodeStatusList";
        let o = Object::parse(body)?;
        let numbers: Vec<i64> = o.ints(LIST)?.ok_or(DecodeError::Missing(LIST))?;
        let status = |number: i64| match number {
            0 => Ok(RemoteStatus::Unused),
            1 => Ok(RemoteStatus::Waiting),
            2 => Ok(RemoteStatus::Up),
            3 => Ok(RemoteStatus::Down),
            _ => Err(DecodeError::Invalid {
                key: LIST,
                expected: "a list of status numbers from 0 to 3",
            }),
        };
        let nodes: Result<Vec<RemoteStatus>, DecodeError> =
            numbers.into_iter().map(status).collect();
        Ok(BackendStatus {
            nodes: nodes?,
            primary: o.int("PrimaryNodeId")?,
            quarantined_primary: o.optional_int(QUARANTINED)?,
            node_name: o.text("NodeName")?,
        })
    }
}
