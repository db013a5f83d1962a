//! The shell of the watchdog: sockets, programs, timers, files. It carries out what the cores say, and
//! decides nothing.
//!
//! | file | subject |
//! |---|---|
//! | [`task`] | the one owner of the three cores: events in, actions out |
//! | [`listen`] | the sockets that are listened on |
//! | [`connection`] | one TCP connection |
//! | [`heartbeat`] | datagrams |
//! | [`local`] | the local socket |
//! | [`programs`] | commands of the virtual IP, pings |
//! | [`query`] | the lifecheck query |
//! | [`host`] | addresses and devices of this host, what is kept for the next start |
//! | [`handle`] | what the rest of pgpool has of all this |

mod connection;
mod handle;
mod heartbeat;
mod host;
mod listen;
mod local;
mod programs;
mod query;
mod task;

pub use self::{
    handle::{Handle, Order, Wish},
    task::{Watchdog, prepare},
};
