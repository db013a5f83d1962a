//! pgpool-rs: a drop-in replacement of Pgpool-II.
//!
//! The library holds everything; `src/main.rs` only hands the command line
//! over. `docs/architecture.md` names the planes, the tasks and the channels
//! between them.

pub mod admin;
pub mod auth;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod events;
pub mod failover;
pub mod health;
pub mod local;
pub mod observe;
pub mod pcp;
pub mod process;
pub mod protocol;
pub mod recovery;
pub mod replication;
pub mod routing;
pub mod sys;
pub mod tls;
