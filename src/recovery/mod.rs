//! Online recovery: a node that is down is rebuilt by the operator's scripts and attached.
//!
//! The scripts lie in the data directory of the *source*, the server that the node is copied from,
//! which runs them itself: we call the SQL functions of the stock extension `pgpool_recovery` there.
//! [`core`] decides and has no I/O, [`task`] carries its actions out with [`servers`];
//! [`request`] says what is refused at once, and what nobody may do to the cluster meanwhile.

pub mod call;
pub mod core;
#[cfg(test)]
mod core_tests;
pub mod request;
pub mod servers;
#[cfg(test)]
mod sim;
pub mod task;
#[cfg(test)]
mod testing;
mod told;
