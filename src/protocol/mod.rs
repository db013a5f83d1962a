//! PostgreSQL's wire protocol 3.0: bytes to values and back. Knows nothing of sessions.

pub mod fields;
pub mod frame;
pub mod messages;
pub mod startup;

pub use fields::ErrorFields;
pub use frame::{Header, HeaderError};
pub use startup::{FirstPacket, StartupPacket};

/// `3.0`, the only protocol version spoken towards backends.
pub const PROTOCOL_3_0: u32 = 3 << 16;
