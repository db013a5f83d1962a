//! What pgpool is in the middle of, so that the next start can go on after a kill -9.
//!
//! The status file says which nodes are down, and is written before the hook is run; from it alone a
//! start does not know that a hook is due, or that nodes wait for their `follow_primary_command`. The
//! original forgets both. The record ([`file`]) is written before each step that must not be lost or
//! done twice, and is gone when nothing goes on.

pub mod file;
mod record;

pub use self::record::{Process, Record};
use crate::{cluster::NodeId, failover::core::HookKind};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// The failover or failback that goes on.
    pub hook: Option<Hook>,
    /// The commands that have the standbys follow a new primary.
    pub follow: Option<Follow>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// [`HookKind::Failover`] or [`HookKind::Failback`].
    pub kind: HookKind,
    pub node: NodeId,
    /// Before it.
    pub old_primary: Option<NodeId>,
    pub stage: Stage,
    /// For the shell; empty: there is nothing to run.
    pub line: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The command has not begun.
    Due,
    Begun,
    /// It is over; what follows goes on.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follow {
    pub primary: NodeId,
    pub old_primary: Option<NodeId>,
    /// Nodes below have had their turn; `None`: all have, or shall not have one.
    pub next: Option<NodeId>,
    /// The node whose command has begun.
    pub running: Option<NodeId>,
}

impl Unfinished {
    pub fn is_empty(&self) -> bool {
        *self == Unfinished::default()
    }
}
