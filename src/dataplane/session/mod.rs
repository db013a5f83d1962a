//! One client session: the relay between a client and its backends, and what it has to know for that.

mod admin;
pub mod backend_side;
pub mod bulk;
pub mod client_side;
pub mod control;
pub mod leftover;
mod links;
mod lookup;
pub mod owed;
pub mod relay;
mod routed;
pub mod router;
pub mod statements;

pub use control::{CancelTarget, Kill, SessionControl};
pub use relay::{Exit, LinkEnd, Parts, Relay, Start};
pub use routed::Balancing;
