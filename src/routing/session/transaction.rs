//! What a statement that has succeeded does to the transaction and to the session.

use super::{Prepared, Savepoint, SessionState, TransactionStatus, Untraced};
use crate::routing::{
    facts::{Discard, Facts, Set, Statement, TransactionModes},
    session::NodeSet,
    settings::OnWrite,
};

impl SessionState {
    pub(super) fn savepoint(&self, name: &[u8]) -> Option<usize> {
        self.savepoints.iter().rposition(|s| *s.name == *name)
    }

    pub(super) fn apply(
        &mut self,
        statement: Statement,
        facts: &Facts,
        on_write: OnWrite,
        nodes: NodeSet,
    ) {
        match statement {
            Statement::Begin(modes) => self.begin(modes, on_write),
            Statement::Commit { chain } | Statement::Rollback { chain } => {
                let committed = matches!(statement, Statement::Commit { .. })
                    && self.status != TransactionStatus::Failed;
                self.end(committed, on_write, chain);
            }
            Statement::PrepareTransaction => {
                let prepared = self.status == TransactionStatus::Active;
                self.end(prepared, on_write, false);
            }
            Statement::Savepoint(name) => {
                let savepoint = Savepoint {
                    name: facts.text(name).into(),
                    written: self.written,
                    objects: self.written_objects.len(),
                    default_serializable: self.default_serializable,
                };
                self.savepoints.push(savepoint);
            }
            Statement::Release(name) => {
                if let Some(at) = self.savepoint(facts.text(name)) {
                    self.savepoints.truncate(at);
                }
            }
            Statement::RollbackTo(name) => {
                if self.status == TransactionStatus::Failed {
                    self.status = TransactionStatus::Active;
                }
                self.temporary.rolled_back_to_savepoint();
                if let Some(at) = self.savepoint(facts.text(name)) {
                    self.savepoints.truncate(at + 1);
                    let savepoint = &self.savepoints[at];
                    self.default_serializable = savepoint.default_serializable;
                    self.written_objects.truncate(savepoint.objects);
                    if !matches!(on_write, OnWrite::Always | OnWrite::TransTransaction) {
                        self.written = savepoint.written;
                    }
                }
            }
            Statement::Set(set) => self.set(set),
            Statement::Reset(Set::All | Set::DefaultIsolation { .. }) => self.set_default(None),
            Statement::Discard(kind) => {
                if kind == Discard::All {
                    self.prepared.clear();
                    self.set_default(None);
                    self.temporary_path = false;
                }
                if matches!(kind, Discard::All | Discard::Temp) {
                    self.temporary.drop_all();
                    self.untraced = Untraced::None;
                }
                if kind == Discard::All {
                    // It is committed at once, also in a pipeline.
                    self.end_undoable(true);
                }
            }
            Statement::Prepare(name) => {
                self.prepared.insert(
                    facts.text(name).into(),
                    Prepared {
                        nodes,
                        parsed: None,
                    },
                );
            }
            Statement::Deallocate(None) => self.prepared.clear(),
            Statement::Deallocate(Some(name)) => drop(self.closed(facts.text(name))),
            Statement::CreateTemporary(name) => {
                self.temporary.create(facts.text(name));
            }
            Statement::DropAtCommit(name) => self.temporary.drop_at_commit(facts.text(name)),
            Statement::Drop(name) => {
                self.temporary.drop(facts.text(name));
                if self.untraced == Untraced::Some {
                    self.untraced = Untraced::Doubtful;
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, modes: TransactionModes, on_write: OnWrite) {
        self.opening = false;
        if self.status != TransactionStatus::Idle {
            // Only a warning: the transaction goes on.
            self.serializable = modes.serializable.or(self.serializable);
            return;
        }
        self.status = TransactionStatus::Active;
        self.serializable = modes.serializable;
        self.level_missing = modes.serializable.is_some() && modes.read_only == Some(false);
        self.savepoints.clear();
        // What was written is of this transaction: behind the BEGIN, before its answer, or before it in
        // the same pipeline.
        if self.unsynced_write {
            self.note_write(on_write);
            self.defined = true;
        }
    }

    pub(super) fn end(&mut self, committed: bool, on_write: OnWrite, chain: bool) {
        if self.status == TransactionStatus::Idle {
            // It ends that of a pipeline.
            self.end_undoable(committed);
            return;
        }
        let level = self.is_serializable();
        self.forget_writes(on_write);
        self.end_undoable(committed);
        // They may be gone (ON COMMIT DROP), or there again.
        if self.untraced != Untraced::None {
            self.untraced = Untraced::Doubtful;
        }
        if chain {
            self.status = TransactionStatus::Active;
            // Also where that was the default, which the transaction may have changed for those behind it.
            self.serializable = level;
        } else {
            self.status = TransactionStatus::Idle;
            self.serializable = None;
            self.level_missing = false;
        }
    }

    fn set(&mut self, set: Set) {
        match set {
            Set::Transaction(modes) if self.status != TransactionStatus::Idle => {
                self.serializable = modes.serializable.or(self.serializable);
            }
            Set::Characteristics(modes) => {
                self.set_default(modes.serializable.or(self.default_serializable));
            }
            Set::DefaultIsolation { serializable } => self.set_default(Some(serializable)),
            _ => {}
        }
    }

    fn set_default(&mut self, serializable: Option<bool>) {
        self.default_before.get_or_insert(self.default_serializable);
        self.default_serializable = serializable;
    }

    /// The end of a transaction, also of one that nobody has begun.
    pub(super) fn end_undoable(&mut self, committed: bool) {
        self.temporary.end(committed);
        if let Some(before) = self.default_before.take()
            && !committed
        {
            self.default_serializable = before;
        }
    }
}
