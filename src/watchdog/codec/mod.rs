//! The watchdog's wire formats: bytes to values and back, nothing else.
//!
//! TCP packets between nodes ([`frame`], [`message`]), heartbeats over UDP ([`heartbeat`]) and the local
//! socket that `wd_cli` and external lifechecks use ([`ipc`]). Decoding is total: whatever arrives gives a
//! value or a [`DecodeError`]. Encoding refuses what is known to crash a stock watchdog (an empty array or
//! object anywhere, more than one backend in a request); the types leave little room for it anyway.
//!
//! What a stock 4.3.5 writes is reproduced byte for byte from its value (`fixtures/watchdog`).

pub mod auth;
pub mod config_data;
mod error;
pub mod frame;
pub mod function;
pub mod heartbeat;
pub mod ipc;
pub mod ipc_answer;
mod json;
pub mod message;
pub mod node_info;
#[cfg(test)]
mod random_tests;
pub mod service;
pub mod status;
#[cfg(test)]
mod vectors;

pub use auth::AuthKey;
pub use error::{DecodeError, EncodeError};
pub use frame::{Frame, take_frame};
pub use message::Message;
pub use service::Service;
