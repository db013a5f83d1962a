//! Sets of nodes.

use crate::cluster::NodeId;

/// A set of node ids; ids go up to 127.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeSet(u128);

impl NodeSet {
    pub const EMPTY: NodeSet = NodeSet(0);

    pub fn of(node: NodeId) -> NodeSet {
        let mut set = NodeSet::default();
        set.insert(node);
        set
    }

    pub fn insert(&mut self, node: NodeId) {
        self.0 |= bit(node);
    }

    pub fn remove(&mut self, node: NodeId) {
        self.0 &= !bit(node);
    }

    pub fn contains(self, node: NodeId) -> bool {
        self.0 & bit(node) != 0
    }

    pub fn union(self, other: NodeSet) -> NodeSet {
        NodeSet(self.0 | other.0)
    }

    pub fn without(self, other: NodeSet) -> NodeSet {
        NodeSet(self.0 & !other.0)
    }

    pub fn intersection(self, other: NodeSet) -> NodeSet {
        NodeSet(self.0 & other.0)
    }

    pub fn first(self) -> Option<NodeId> {
        (!self.is_empty()).then(|| self.0.trailing_zeros() as NodeId)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Ascending.
    pub fn iter(self) -> impl Iterator<Item = NodeId> {
        let mut left = self;
        std::iter::from_fn(move || {
            let node = left.first()?;
            left.remove(node);
            Some(node)
        })
    }
}

impl FromIterator<NodeId> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> NodeSet {
        let mut set = NodeSet::default();
        nodes.into_iter().for_each(|node| set.insert(node));
        set
    }
}

fn bit(node: NodeId) -> u128 {
    u32::try_from(node)
        .ok()
        .and_then(|shift| 1u128.checked_shl(shift))
        .unwrap_or(0)
}
