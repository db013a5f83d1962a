//! One client session: the relay between a client and its backends, and what it has to know for that.

pub mod backend_side;
pub mod bulk;
pub mod client_side;
pub mod control;
pub mod leftover;
pub mod owed;
pub mod relay;
pub mod statements;

pub use control::{Kill, SessionControl};
pub use relay::{Exit, Parts, Relay, Start};
