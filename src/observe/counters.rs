//! Counters since start. Each worker writes its own; readers sum them up.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

/// Statements and errors of one node, counted by one worker (`SHOW pool_backend_stats`).
#[derive(Debug, Default)]
pub struct NodeCounters {
    pub select: AtomicU64,
    pub insert: AtomicU64,
    pub update: AtomicU64,
    pub delete: AtomicU64,
    pub ddl: AtomicU64,
    pub other: AtomicU64,
    pub panic: AtomicU64,
    pub fatal: AtomicU64,
    pub error: AtomicU64,
}

/// The sum over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeTotals {
    pub select: u64,
    pub insert: u64,
    pub update: u64,
    pub delete: u64,
    pub ddl: u64,
    pub other: u64,
    pub panic: u64,
    pub fatal: u64,
    pub error: u64,
}

/// Adds one without a locked instruction: each counter has a single writer.
pub fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed) + 1, Relaxed);
}

impl NodeTotals {
    pub fn add(&mut self, c: &NodeCounters) {
        self.select += c.select.load(Relaxed);
        self.insert += c.insert.load(Relaxed);
        self.update += c.update.load(Relaxed);
        self.delete += c.delete.load(Relaxed);
        self.ddl += c.ddl.load(Relaxed);
        self.other += c.other.load(Relaxed);
        self.panic += c.panic.load(Relaxed);
        self.fatal += c.fatal.load(Relaxed);
        self.error += c.error.load(Relaxed);
    }
}

/// Health check statistics of one node (`SHOW pool_health_check_stats`, `pcp_health_check_stats`).
#[derive(Clone, Debug, Default)]
pub struct HealthStats {
    pub total: u64,
    pub success: u64,
    pub fail: u64,
    pub skip: u64,
    pub retry: u64,
    pub max_retry: u64,
    pub max_duration: Duration,
    /// `None` before the first check.
    pub min_duration: Option<Duration>,
    pub total_duration: Duration,
    pub last: Option<SystemTime>,
    pub last_success: Option<SystemTime>,
    pub last_skip: Option<SystemTime>,
    pub last_fail: Option<SystemTime>,
}
