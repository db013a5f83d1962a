//! What routing remembers of a session: its transaction, its writes, its prepared statements and
//! temporary tables.
//!
//! Writes count from the moment they are sent ([`SessionState::sent`]), since statements of a
//! pipeline are decided before the earlier ones are answered. Everything that lets statements go
//! to a standby again counts from the answer only: [`SessionState::succeeded`],
//! [`SessionState::failed`], [`SessionState::ready`].

mod node_set;
mod tables;
mod transaction;
mod writes;

use std::{collections::HashMap, rc::Rc};

use super::{
    facts::{Facts, Set, Statement},
    settings::{OnWrite, Settings},
};
use crate::cluster::NodeId;
pub use node_set::NodeSet;
use tables::TemporaryTables;
pub use writes::{is_read, is_weak_lock};

/// The byte of ReadyForQuery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransactionStatus {
    #[default]
    Idle,
    Active,
    Failed,
}

impl TransactionStatus {
    pub fn from_byte(byte: u8) -> TransactionStatus {
        match byte {
            b'T' => TransactionStatus::Active,
            b'E' => TransactionStatus::Failed,
            _ => TransactionStatus::Idle,
        }
    }
}

/// A prepared statement, of PREPARE or of a Parse message.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Nodes that have it.
    pub nodes: NodeSet,
    /// What a Parse message said. `None`: made by PREPARE, so it cannot be made on another node
    /// without the client noticing.
    pub parsed: Option<Rc<Parsed>>,
}

/// A Parse message, kept to prepare its statement on another node.
#[derive(Debug)]
pub struct Parsed {
    pub facts: Facts,
    /// The whole message; empty if it was too long to be kept.
    pub message: Box<[u8]>,
}

#[derive(Clone, Debug)]
struct Savepoint {
    name: Box<[u8]>,
    /// Whether the transaction had written when it was set.
    written: bool,
    /// How many objects had been written.
    objects: usize,
    default_serializable: Option<bool>,
}

/// Temporary tables that no statement shows: of DO, CALL, or a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Untraced {
    #[default]
    None,
    /// The server has to be asked.
    Doubtful,
    /// It has said that there are none, in a transaction that may be rolled back.
    NoneSoFar,
    Some,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct SessionState {
    /// The load balance node of the session; with `statement_level_load_balance`, of the last
    /// statement.
    pub load_balance_node: Option<NodeId>,
    /// Whether sessions of this user begin with a default isolation level of SERIALIZABLE, once
    /// it is known.
    pub begins_serializable: Option<bool>,
    /// The client_encoding is not UTF8: names beyond ASCII have other bytes than in other sessions.
    pub other_encoding: bool,
    status: TransactionStatus,
    /// A BEGIN was sent and not answered.
    opening: bool,
    /// Written, as `disable_load_balance_on_write` counts it.
    written: bool,
    /// The open transaction may have changed or locked tables, besides their rows.
    defined: bool,
    /// Something that may write was sent since the last ReadyForQuery: a pipeline is one
    /// transaction up to its Sync.
    unsynced_write: bool,
    /// The isolation level of this transaction, if it was set.
    serializable: Option<bool>,
    /// Standbys were sent a plain BEGIN for one that sets an isolation level.
    level_missing: bool,
    /// default_transaction_isolation, if this session has set it.
    default_serializable: Option<bool>,
    /// The same before the transaction, or pipeline, if that has set it.
    default_before: Option<Option<bool>>,
    /// Nodes whose last ReadyForQuery was not idle, or to which BEGIN is on its way.
    in_transaction: NodeSet,
    savepoints: Vec<Savepoint>,
    /// dml_adaptive: what was written in this transaction, in lower case, without schema.
    written_objects: Vec<Box<[u8]>>,
    temporary: TemporaryTables,
    /// Whether there are others: code that nobody sees has run since this was known.
    untraced: Untraced,
    /// Something was sent that may have written, in this or an earlier transaction.
    ever_written: bool,
    /// search_path has named the temporary schema: functions, types and operators in it are found.
    temporary_path: bool,
    prepared: HashMap<Box<[u8]>, Prepared>,
}

impl SessionState {
    pub fn new() -> SessionState {
        SessionState::default()
    }

    /// Inside an explicit transaction, or about to be.
    pub fn is_in_transaction(&self) -> bool {
        self.status != TransactionStatus::Idle || self.opening
    }

    pub fn has_failed(&self) -> bool {
        self.status == TransactionStatus::Failed
    }

    /// The transaction, or with `always` the session, has written.
    pub fn has_written(&self) -> bool {
        self.written
    }

    /// The open transaction may have defined something, or hold a lock that standbys take over from it: whoever
    /// reads there misses it, or waits for this transaction's own end.
    pub fn has_defined(&self) -> bool {
        self.defined
    }

    /// What a standby says may be what was before this transaction's own statements.
    pub fn is_changing(&self) -> bool {
        self.written || self.defined || self.unsynced_write
    }

    pub fn has_unsynced_write(&self) -> bool {
        self.unsynced_write
    }

    /// Whether this transaction is SERIALIZABLE; `None`: the session's default decides and is not
    /// known yet.
    pub fn is_serializable(&self) -> Option<bool> {
        self.serializable
            .or(self.default_at_begin())
            .or(self.begins_serializable)
    }

    /// Whether the standbys lack the isolation level of this transaction: READ WRITE, which they would
    /// refuse, stood beside it.
    pub fn standbys_lack_level(&self) -> bool {
        self.level_missing
    }

    /// default_transaction_isolation when this transaction began, if this session has set it.
    fn default_at_begin(&self) -> Option<bool> {
        match self.default_before {
            Some(before) if self.is_in_transaction() => before,
            _ => self.default_serializable,
        }
    }

    /// Whether every statement on a standby would run SERIALIZABLE, which a standby refuses: the
    /// default of the database or user says so, and this session has not changed it everywhere.
    /// `None`: not known yet.
    pub fn standby_is_serializable(&self) -> Option<bool> {
        match self.default_at_begin() {
            Some(false) => Some(false),
            _ => self.begins_serializable,
        }
    }

    pub fn is_node_in_transaction(&self, node: NodeId) -> bool {
        self.in_transaction.contains(node)
    }

    /// Nodes that have a transaction open, as far as they have answered.
    pub fn nodes_in_transaction(&self) -> NodeSet {
        self.in_transaction
    }

    /// How many savepoints are open, as far as they have been answered.
    pub fn savepoints(&self) -> usize {
        self.savepoints.len()
    }

    /// How many savepoints are older than the one that this name means now.
    pub fn savepoints_before(&self, name: &[u8]) -> Option<usize> {
        self.savepoint(name)
    }

    pub fn is_temporary(&self, name: &[u8]) -> bool {
        self.temporary.contains(name)
    }

    /// Whether the session may have moved a sequence.
    pub fn has_ever_written(&self) -> bool {
        self.ever_written
    }

    pub fn has_temporary_tables(&self) -> bool {
        !self.temporary.is_empty()
    }

    /// Whether there are temporary tables that no statement has shown; `None`: the server has to be asked,
    /// whose answer [`SessionState::set_untraced`] takes.
    pub fn has_untraced_tables(&self) -> Option<bool> {
        match self.untraced {
            Untraced::Doubtful => None,
            untraced => Some(untraced == Untraced::Some),
        }
    }

    pub fn set_untraced(&mut self, more: bool) {
        self.untraced = if more {
            Untraced::Some
        } else if self.is_in_transaction() {
            Untraced::NoneSoFar
        } else {
            Untraced::None
        };
    }

    /// Names of the temporary tables that statements have shown.
    pub fn temporary_names(&self) -> Vec<Box<[u8]>> {
        self.temporary.names()
    }

    /// Whether `sql` contains the name of a temporary table of this session, anywhere.
    pub fn mentions_temporary(&self, sql: &[u8]) -> bool {
        self.temporary.is_mentioned(sql)
    }

    /// Whether names without a schema may mean something in the temporary schema that is no table.
    pub fn looks_into_temporary_schema(&self) -> bool {
        self.temporary_path
    }

    pub fn prepared(&self, name: &[u8]) -> Option<&Prepared> {
        self.prepared.get(name)
    }

    /// A Parse message makes `name` on these nodes.
    pub fn parsed(&mut self, name: &[u8], nodes: NodeSet, parsed: Rc<Parsed>) {
        let prepared = Prepared {
            nodes,
            parsed: Some(parsed),
        };
        self.prepared.insert(name.into(), prepared);
    }

    /// The node does not have it after all.
    pub fn not_parsed(&mut self, name: &[u8], node: NodeId) {
        if let Some(prepared) = self.prepared.get_mut(name) {
            prepared.nodes.remove(node);
        }
    }

    /// The same Parse message has gone to these nodes as well.
    pub fn parsed_also(&mut self, name: &[u8], nodes: NodeSet) {
        if let Some(prepared) = self.prepared.get_mut(name) {
            prepared.nodes = prepared.nodes.union(nodes);
        }
    }

    /// What was closed is there again: the message that closed it was not carried out.
    pub fn reopened(&mut self, name: &[u8], prepared: Prepared) {
        self.prepared.insert(name.into(), prepared);
    }

    /// The node is lost, and what was prepared on it.
    pub fn node_lost(&mut self, node: NodeId) {
        self.in_transaction.remove(node);
        for prepared in self.prepared.values_mut() {
            prepared.nodes.remove(node);
        }
    }

    /// A Close message, or a Parse message that has failed.
    pub fn closed(&mut self, name: &[u8]) -> Option<Prepared> {
        self.prepared.remove(name)
    }

    /// A Query or an Execute was sent to these nodes.
    pub fn sent(&mut self, facts: &Facts, settings: &Settings, writes: bool, nodes: NodeSet) {
        if writes {
            self.unsynced_write = true;
            self.ever_written = true;
            if writes::may_make_tables(facts) {
                self.untraced = Untraced::Doubtful;
            }
        }
        for statement in facts.statements() {
            if let Statement::Begin(_) = statement {
                self.opening = true;
                self.in_transaction = self.in_transaction.union(nodes);
            }
            // For good: a rollback may bring the old path back.
            self.temporary_path |= matches!(
                statement,
                Statement::Set(Set::SearchPath {
                    temporary: true,
                    ..
                })
            );
        }
        if settings.on_write == OnWrite::DmlAdaptive {
            self.remember_objects(facts, settings, writes);
        }
    }

    /// The statements were executed: CommandComplete of an Execute, or the end of a Query without
    /// an error. `nodes` are those it was sent to.
    pub fn succeeded(&mut self, facts: &Facts, settings: &Settings, writes: bool, nodes: NodeSet) {
        let on_write = settings.on_write;
        for &statement in facts.statements() {
            self.apply(statement, facts, on_write, nodes);
        }
        if writes && (facts.count() > 1 || !facts.first().begins_or_ends()) {
            self.note_write(on_write);
            let any = facts.statements().iter().any(|&s| writes::defines(s));
            self.defined |= self.status != TransactionStatus::Idle && (any || facts.has_into());
        }
    }

    /// A string of several statements has failed, perhaps behind a COMMIT of its own: temporary tables that
    /// it makes may be there.
    pub fn partly_succeeded(&mut self, facts: &Facts) {
        for statement in facts.statements() {
            if let Statement::CreateTemporary(name) = statement {
                self.temporary.create(facts.text(*name));
            }
        }
    }

    /// Whatever was sent is answered: a BEGIN that did not succeed has opened nothing.
    pub fn settled(&mut self) {
        self.opening = false;
    }

    /// ErrorResponse, of any node that the statement was sent to. What it means shows in the next
    /// [`SessionState::ready`]; until then nothing is balanced.
    pub fn failed(&mut self) {
        if self.is_in_transaction() {
            self.status = TransactionStatus::Failed;
            self.opening = false;
        } else {
            self.unsynced_write = true;
            self.end_undoable(false);
        }
    }

    /// ReadyForQuery of the node that decides about the transaction: the primary. A standby tells
    /// [`SessionState::node_ready`] only.
    pub fn ready(&mut self, status: TransactionStatus, settings: &Settings) {
        self.unsynced_write = false;
        self.opening = false;
        if status == TransactionStatus::Idle {
            self.written_objects.clear();
        }
        self.ready_amid(status, settings);
    }

    /// The same, but the node has been sent more behind it: that goes on to count.
    pub fn ready_amid(&mut self, status: TransactionStatus, settings: &Settings) {
        if status == TransactionStatus::Idle && self.status != TransactionStatus::Idle {
            // The end was not noticed, as that of a statement that failed and ended it.
            self.end(false, settings.on_write, false);
        }
        self.status = status;
        if status == TransactionStatus::Idle {
            self.end_undoable(true);
        }
    }

    /// ReadyForQuery of any node.
    pub fn node_ready(&mut self, node: NodeId, status: TransactionStatus) {
        if status == TransactionStatus::Idle {
            self.in_transaction.remove(node);
        } else {
            self.in_transaction.insert(node);
        }
    }
}

#[cfg(test)]
mod tests;
