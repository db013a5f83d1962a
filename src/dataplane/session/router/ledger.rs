//! What each node has been sent and not answered, and what its answers mean.

use std::rc::Rc;

use super::portals::Portal;
use crate::{
    cluster::NodeId,
    dataplane::session::owed::Owed,
    routing::{
        facts::Facts,
        session::{NodeSet, Parsed, Prepared},
    },
};

/// Of one node.
#[derive(Debug, Default)]
pub struct Ledger {
    pub owed: Owed<Entry>,
    /// What is owed is nobody's: the answers of a follower, or to something of our own.
    pub hidden: bool,
    /// A Flush has gone out behind the last message of the open sequence.
    pub flushed: bool,
    /// An error has come since the last ReadyForQuery.
    pub failed: bool,
}

impl Ledger {
    /// Whether a Flush is needed for its answers to come; counts as sent.
    pub fn wants_flush(&mut self) -> bool {
        let wants = self.owed.needs_sync() && !self.flushed && !self.owed.is_settled();
        self.flushed |= wants;
        wants
    }
}

/// What to do when a message is answered.
#[derive(Debug, Default)]
pub enum Entry {
    #[default]
    Nothing,
    /// The leader's part of a statement that followers have been sent, too.
    Compare,
    Parse(Box<Parsing>),
    /// A message that makes or drops the unnamed statement: what there is of it then.
    Unnamed(Option<(Rc<Parsed>, NodeSet)>),
    /// A Parse message of our own that this node gets for the statement of this name.
    Lacked(Box<[u8]>),
    /// A follower's part of closing the statement of this name.
    Closing(Box<[u8]>),
    /// A Bind message of this number, which makes a portal of this name.
    Bind(Box<[u8]>, u64),
    /// A portal that is closed, and its name.
    Unbound(Box<(Box<[u8]>, Portal)>),
    Close(Box<(Box<[u8]>, Prepared)>),
    Executed(Box<Executed>),
}

/// A Parse message of a named statement.
#[derive(Debug)]
pub struct Parsing {
    pub name: Box<[u8]>,
    pub parsed: Rc<Parsed>,
    pub nodes: NodeSet,
    /// There was none of this name.
    pub fresh: bool,
}

/// A statement that was executed, or several of one Query.
#[derive(Debug)]
pub struct Executed {
    pub facts: Facts,
    pub writes: bool,
    pub nodes: NodeSet,
    /// It changes the catalog.
    pub catalog: bool,
    /// It is one, which drops the unnamed statement.
    pub is_query: bool,
    pub replay: Option<Replay>,
}

/// What a string of several statements, which went to the primary alone, has changed in the session:
/// the load balance node is told when it has succeeded.
#[derive(Debug)]
pub struct Replay {
    pub node: NodeId,
    /// Its SET, RESET and DEALLOCATE statements.
    pub sql: Box<[u8]>,
}
