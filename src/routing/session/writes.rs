//! What the session has written, as far as reads depend on it.

use super::{SessionState, TransactionStatus};
use crate::routing::{
    facts::{Copy, CopySource, Facts, LockMode, Statement},
    settings::{Object, OnWrite, Settings},
};

impl SessionState {
    /// dml_adaptive: a write of this transaction concerns `name`.
    pub fn has_written_object(&self, name: &[u8]) -> bool {
        self.written_objects
            .iter()
            .any(|written| written.eq_ignore_ascii_case(name))
    }

    pub(super) fn remember_objects(&mut self, facts: &Facts, settings: &Settings, writes: bool) {
        let read = facts.statements().iter().all(|s| is_read(*s, facts));
        if !read && !matches!(facts.first(), Statement::Lock(_)) {
            // What a sub-select reads is not written; what a query in WITH writes is not told apart.
            let all = facts.has_data_modifying_with();
            // These write the first of them. What else UPDATE and DELETE name counts as in stock.
            let target = !all && facts.count() <= 1;
            let only_first =
                target && matches!(facts.first(), Statement::Insert | Statement::Merge);
            let rows = matches!(facts.first(), Statement::Update | Statement::Delete);
            let relations = facts.relations().iter().filter(|r| all || !r.nested);
            for (at, relation) in relations.enumerate() {
                if at > 0 && only_first {
                    break;
                }
                let name = facts.text(relation.name);
                self.remember(name);
                if at > 0 && target && rows {
                    continue;
                }
                self.remember_dependents(settings, |o| match o {
                    Object::Relation(r) => r.eq_ignore_ascii_case(name),
                    Object::Function(_) => false,
                });
            }
        }
        if !writes && !read {
            return;
        }
        for function in facts.functions() {
            let name = facts.text(function.name);
            self.remember_dependents(settings, |o| match o {
                Object::Function(f) => f.eq_ignore_ascii_case(name),
                Object::Relation(_) => false,
            });
        }
    }

    fn remember_dependents(&mut self, settings: &Settings, matches: impl Fn(&Object) -> bool) {
        for relationship in &settings.relationships {
            if matches(&relationship.object) {
                self.remember(&relationship.dependent);
            }
        }
    }

    fn remember(&mut self, name: &[u8]) {
        if !self.has_written_object(name) {
            self.written_objects.push(name.into());
        }
    }

    pub(super) fn note_write(&mut self, on_write: OnWrite) {
        match on_write {
            OnWrite::Off | OnWrite::DmlAdaptive => {}
            OnWrite::Always => self.written = true,
            OnWrite::Transaction | OnWrite::TransTransaction => {
                self.written |= self.status != TransactionStatus::Idle;
            }
        }
    }

    /// With `trans_transaction` a write of an earlier transaction goes on to count, with `always`
    /// every write.
    pub(super) fn forget_writes(&mut self, on_write: OnWrite) {
        if !matches!(on_write, OnWrite::Always | OnWrite::TransTransaction) {
            self.written = false;
        }
        self.defined = false;
        self.written_objects.clear();
        self.savepoints.clear();
    }
}

/// Functions of PostgreSQL that make no tables.
const HARMLESS: [&[u8]; 40] = [
    b"nextval",
    b"currval",
    b"setval",
    b"lastval",
    b"random",
    b"setseed",
    b"clock_timestamp",
    b"timeofday",
    b"gen_random_uuid",
    b"set_config",
    b"pg_notify",
    b"pg_sleep",
    b"txid_current",
    b"pg_current_xact_id",
    b"pg_advisory_lock",
    b"pg_advisory_xact_lock",
    b"pg_advisory_unlock",
    b"pg_try_advisory_lock",
    b"pg_try_advisory_xact_lock",
    b"pg_advisory_unlock_all",
    b"lo_creat",
    b"lo_unlink",
    // Not volatile, but called by much that counts as a write for other reasons.
    b"count",
    b"sum",
    b"min",
    b"max",
    b"avg",
    b"array_agg",
    b"string_agg",
    b"now",
    b"lower",
    b"upper",
    b"length",
    b"to_char",
    b"date_trunc",
    b"extract",
    b"unnest",
    b"generate_series",
    b"format_type",
    b"current_setting",
];

/// Whether a statement that may write runs code that can make a temporary table which no statement shows.
pub(super) fn may_make_tables(facts: &Facts) -> bool {
    let runs = |s: &Statement| matches!(s, Statement::Do | Statement::Call | Statement::Execute(_));
    // What was called by its number, or made by PREPARE.
    // After what was not read no standby is.
    facts.is_unknown() && !facts.is_unread()
        || facts.statements().iter().any(runs)
        || facts
            .functions()
            .iter()
            .any(|f| !HARMLESS.contains(&facts.text(f.name)))
}

/// Whether it may change the catalog, or lock a table as no read does.
pub(super) fn defines(statement: Statement) -> bool {
    match statement {
        Statement::Lock(mode) => mode == LockMode::AccessExclusive,
        Statement::Explain { analyze, select } => analyze && !select,
        _ => matches!(
            statement,
            Statement::Truncate
                | Statement::CreateTemporary(_)
                | Statement::Drop(_)
                | Statement::Call
                | Statement::Do
                | Statement::Other
        ),
    }
}

/// Whether the statement leaves its transaction one that has not written, leaving functions aside (`is_select_query` of
/// `src/protocol/pool_process_query.c @ V4_3_5`; the look at the text's beginning is the policy's).
pub fn is_read(statement: Statement, facts: &Facts) -> bool {
    match statement {
        Statement::Empty | Statement::Select => {
            !facts.has_outer_locking_clause()
                && !facts.has_into()
                && !facts.has_data_modifying_with()
                && !facts.is_unknown()
        }
        Statement::Copy(Copy {
            from: false,
            file: false,
            source,
        }) => source != CopySource::Write && !facts.has_data_modifying_with(),
        // ANALYZE carries it out.
        Statement::Explain { analyze, select } => {
            !analyze || select && !facts.has_data_modifying_with()
        }
        Statement::Show => true,
        _ => false,
    }
}

/// Whether a statement that goes to several nodes is one that a standby takes.
pub fn is_weak_lock(mode: LockMode) -> bool {
    mode < LockMode::RowExclusive
}
