//! The state of the cluster: one writer (the supervisor), many readers.

pub mod initial;
pub mod status_file;
pub mod view;

pub use initial::initial_view;
pub use view::{ClusterView, Node, NodeId, NodeReplication, NodeStatus};
