//! The state of a session's stream to one node.

use super::{backend_side::BackendSide, bulk::Bulk, leftover::Leftover};
use crate::{
    cluster::NodeId,
    dataplane::pool::{BackendConnection, PoolEntry},
};

#[derive(Debug, Default)]
pub struct Link {
    pub side: BackendSide,
    /// What the node has not taken yet.
    pub left: Leftover,
    pub bulk: Bulk,
    /// The node has sent a FATAL error: its end is announced.
    pub fatal_seen: bool,
    /// It has announced an immediate shutdown by a warning; counts when it closes.
    pub shutdown_warned: Option<Box<str>>,
    /// Nothing can be written to it any more; what it still sends is read.
    pub deaf: bool,
}

impl Link {
    /// A write has failed. The reason, a FATAL error, may wait to be read: the read decides.
    pub fn is_deaf(&mut self) {
        self.deaf = true;
        self.left.clear();
    }
}

pub fn backend(entry: &mut PoolEntry, node: NodeId) -> Option<&mut BackendConnection> {
    entry.backends.get_mut(node).and_then(Option::as_mut)
}

pub fn backend_pid(entry: &PoolEntry, node: NodeId) -> u32 {
    entry
        .backends
        .get(node)
        .and_then(Option::as_ref)
        .map_or(0, |b| b.pid)
}
