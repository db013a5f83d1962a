//! Requests on the watchdog's local socket, as `wd_cli`, external lifechecks and a stock pgpool's own
//! processes make them.
//!
//! One request per connection: type, length, body, without a command id.

use bytes::{Buf, BytesMut};

use super::{
    DecodeError, EncodeError,
    function::{ClusterCommand, Credentials, FailoverRequest, RecoveryRequest},
    json::{Object, Writer},
    status::DataRequest,
};

/// Largest body of a request. The longest that a tool sends has some hundred bytes.
const MAX_REQUEST: usize = 1 << 16;

const HEADER: usize = 5;

/// A request or an answer as it is on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpcFrame {
    pub kind: u8,
    pub payload: Vec<u8>,
}

impl IpcFrame {
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        [&[self.kind], &length.to_be_bytes()[..], &self.payload].concat()
    }
}

/// Takes a request out of what has been received; `None` while it is not complete.
///
/// # Errors
///
/// The length is negative or too large.
pub fn take_ipc_frame(buffer: &mut BytesMut) -> Result<Option<IpcFrame>, DecodeError> {
    let Some([kind, length @ ..]) = buffer.first_chunk::<HEADER>().copied() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(length);
    let wanted = usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_REQUEST)
        .ok_or(DecodeError::Length(length.into()))?;
    if buffer.len() < HEADER + wanted {
        return Ok(None);
    }
    buffer.advance(HEADER);
    Ok(Some(IpcFrame {
        kind,
        payload: buffer.split_to(wanted).to_vec(),
    }))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpcRequest {
    /// Gets no answer, and nothing is ever sent to who has asked.
    Register {
        credentials: Credentials,
    },
    /// A lifecheck says that a node is dead or alive. No answer but to an error.
    NodeStatus {
        credentials: Credentials,
        node: i32,
        alive: bool,
        message: String,
    },
    /// `node` -1: all.
    NodeList {
        credentials: Credentials,
        node: i32,
    },
    Variable {
        credentials: Credentials,
        name: String,
    },
    Failover(FailoverRequest),
    /// The process that fails over says that it begins or is done.
    Indication {
        credentials: Credentials,
        ends: bool,
    },
    Data(DataRequest),
    Recovery(RecoveryRequest),
    Command(ClusterCommand),
}

impl IpcRequest {
    pub fn credentials(&self) -> &Credentials {
        match self {
            IpcRequest::Register { credentials }
            | IpcRequest::NodeStatus { credentials, .. }
            | IpcRequest::NodeList { credentials, .. }
            | IpcRequest::Variable { credentials, .. }
            | IpcRequest::Indication { credentials, .. } => credentials,
            IpcRequest::Failover(request) => &request.credentials,
            IpcRequest::Data(request) => &request.credentials,
            IpcRequest::Recovery(request) => &request.credentials,
            IpcRequest::Command(command) => &command.credentials,
        }
    }

    /// `wd_authkey` is enough for these; the others are for the processes of one pgpool.
    pub fn is_for_tools(&self) -> bool {
        matches!(
            self,
            IpcRequest::Register { .. }
                | IpcRequest::NodeStatus { .. }
                | IpcRequest::NodeList { .. }
                | IpcRequest::Variable { .. }
        )
    }

    /// # Errors
    ///
    /// A text that does not fit.
    pub fn encode(&self) -> Result<IpcFrame, EncodeError> {
        let mut w = Writer::new();
        let (kind, body) = match self {
            IpcRequest::Register { credentials } => {
                credentials.write(&mut w);
                (b'0', w.end()?)
            }
            IpcRequest::NodeStatus {
                credentials,
                node,
                alive,
                message,
            } => {
                credentials.write(&mut w);
                w.int("NodeID", *node)
                    .int("NodeStatus", if *alive { 2 } else { 1 })
                    .text("Message", message);
                (b'2', w.end()?)
            }
            IpcRequest::NodeList { credentials, node } => {
                w.int("NodeID", *node);
                credentials.write(&mut w);
                (b'3', w.end()?)
            }
            IpcRequest::Variable { credentials, name } => {
                credentials.write(&mut w);
                w.text("VarName", name);
                (b'v', w.end()?)
            }
            IpcRequest::Failover(request) => (b'f', request.encode()?),
            IpcRequest::Indication { credentials, ends } => {
                credentials.write(&mut w);
                w.bool("FailoverFuncState", *ends);
                (b'i', w.end()?)
            }
            IpcRequest::Data(request) => (b'd', request.encode()?),
            IpcRequest::Recovery(request) => (b'r', request.encode()?),
            IpcRequest::Command(command) => (b'c', command.encode()?),
        };
        Ok(IpcFrame {
            kind,
            payload: body.into_bytes(),
        })
    }

    /// # Errors
    ///
    /// [`DecodeError::UnknownType`] is answered with another text than the rest.
    pub fn decode(frame: &IpcFrame) -> Result<IpcRequest, DecodeError> {
        let body = frame.payload.as_slice();
        if !matches!(
            frame.kind,
            b'0' | b'2' | b'3' | b'v' | b'f' | b'i' | b'd' | b'r' | b'c'
        ) {
            return Err(DecodeError::UnknownType(frame.kind));
        }
        if frame.kind == b'0' && body.is_empty() {
            return Ok(IpcRequest::Register {
                credentials: Credentials::default(),
            });
        }
        let o = Object::parse(body)?;
        let credentials = Credentials::read(&o)?;
        Ok(match frame.kind {
            b'0' => IpcRequest::Register { credentials },
            b'2' => IpcRequest::NodeStatus {
                credentials,
                node: o.int("NodeID")?,
                alive: match o.int("NodeStatus")? {
                    1_i64 => false,
                    2 => true,
                    _ => {
                        return Err(DecodeError::Invalid {
                            key: "NodeStatus",
                            expected: "1 or 2",
                        });
                    }
                },
                message: o.optional_text("Message")?.unwrap_or_default(),
            },
            b'3' => IpcRequest::NodeList {
                credentials,
                node: o.int("NodeID")?,
            },
            b'v' => IpcRequest::Variable {
                credentials,
                name: o.text("VarName")?,
            },
            b'i' => IpcRequest::Indication {
                credentials,
                ends: o.bool("FailoverFuncState")?,
            },
            b'f' => IpcRequest::Failover(FailoverRequest::decode(body)?),
            b'd' => IpcRequest::Data(DataRequest::decode(body)?),
            b'r' => IpcRequest::Recovery(RecoveryRequest::decode(body)?),
            _ => IpcRequest::Command(ClusterCommand::decode(body)?),
        })
    }
}
