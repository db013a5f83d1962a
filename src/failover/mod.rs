//! Failover: what happens to the cluster when a node goes down, comes back or becomes the primary.
//!
//! [`core`] decides and has no I/O; [`crate::control::supervisor`] carries its actions out with
//! [`hooks`] and [`ask`]; [`unfinished`] is what the next start has to know after a kill -9.

pub mod ask;
pub mod consult;
pub mod core;
pub mod hook_line;
pub mod hook_output;
pub mod hooks;
pub mod promotion;
pub mod request;
pub mod search;
#[cfg(test)]
pub(crate) mod sim;
#[cfg(test)]
pub(crate) mod testing;
pub mod unfinished;
pub mod what_if;
