//! The history of decisions: what was done to the cluster, because of what, and how it ended.
//!
//! The cores make [`Note`]s; [`History`] numbers and dates them, keeps the latest in memory for
//! `SHOW POOL_EVENTS` and `pgpool events`, and hands them to a thread that writes them to a file
//! ([`journal`]). Nothing here ever makes a failover wait: not a slow disk, not a full one.

mod event;
pub mod history;
pub mod journal;
pub mod text;

pub use event::{ALREADY_ATTACHED, Event, HookRun, Kind, Note, Step};
pub use history::{History, Origin, Query};
