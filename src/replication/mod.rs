//! Replication check (`sr_check_*`): how far standbys are behind, what state they are in, and
//! whether a server only believes that it is the primary.
//!
//! [`core`] interprets, [`task`] asks.

pub mod core;
pub mod task;
