//! The shell of the watchdog: sockets, programs, timers, files. It carries out what the cores say, and
//! decides nothing.
//!
//! | file | subject |
//! |---|---|
//! | [`start`] | sockets, then tasks |
//! | [`task`] | the one owner of the three cores, and the loop that hands events to them |
//! | [`actions`] | what they say |
//! | [`keeping`] | what waits while the memory of the write lease is being written |
//! | [`listen`] | the sockets that are listened on |
//! | [`connection`] | one TCP connection |
//! | [`heartbeat`] | datagrams |
//! | [`local`] | the local socket |
//! | [`programs`] | commands of the virtual IP, pings |
//! | [`query`] | the lifecheck query |
//! | [`failed_start`] | the virtual IP when a start fails before all this runs |
//! | [`guarding`] | the line to the guard of the virtual IP |
//! | [`host`] | addresses and devices of this host, what is kept for the next start |
//! | [`told`] | changes of the cluster for the history |
//! | [`near`] | what the supervisor has of all this |
//! | [`handle`] | what the rest of pgpool has |

mod actions;
mod connection;
mod failed_start;
mod guarding;
mod handle;
mod heartbeat;
mod host;
mod keeping;
mod listen;
mod local;
mod near;
mod programs;
mod query;
mod start;
mod task;
mod told;

pub(in crate::watchdog) use self::host::has_address;
pub use self::{
    failed_start::give_up_left_over,
    handle::{Handle, Order, Wish},
    listen::probe,
    near::Near,
    start::{Watchdog, prepare},
};
