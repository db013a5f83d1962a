//! What operators see: log entries, counters, health check statistics.

pub mod counters;
pub mod report;

pub use counters::{HealthStats, NodeCounters};
pub use report::{OwnLog, Reporter, Severity, in_one_line};
