//! One client session: the relay between a client and its backends, and what it has to know for that.
//!
//! Where several pgpool nodes keep a write lease ([`crate::watchdog::write_lease`]), a session without it
//! stands still as far as the primary is concerned: nothing is written to that server, and nothing that
//! it has answered is read. What the client has sent for it waits, and so does the client, in a transaction
//! or not; reads of a session that balances go on until one has to wait behind such a message. Then either
//! the lease comes back and the primary is the same, and all goes on as if the server had been slow; or another
//! node is the primary, and the session ends as at every failover. A COMMIT that was sent in time and is
//! answered after the end of the lease is not acknowledged in the second case: the client knows as little
//! as after a lost connection, and nobody has promised that its rows are there. One that is answered in time
//! waits for a sign of a majority behind it ([`cover`]): when the network was cut before, no standby of the
//! primary has it. What is acknowledged then was committed before the cut; that it has reached a standby
//! in that moment is PostgreSQL's to promise, by synchronous replication.

mod admin;
pub mod backend_side;
pub mod bulk;
pub mod client_side;
pub mod control;
pub mod cover;
pub mod leftover;
mod links;
mod lookup;
pub mod owed;
mod passing;
pub mod relay;
mod routed;
pub mod router;
pub mod statements;

pub use control::{CancelTarget, Kill, SessionControl};
pub use relay::{Exit, LinkEnd, Parts, Relay, Start};
pub use routed::Balancing;
