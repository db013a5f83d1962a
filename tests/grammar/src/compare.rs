//! Facts against the truth: what is wrong, and what errs to the side of the primary.

use std::collections::BTreeSet;

use pgpool_rs::routing::facts::{
    Copy, CopySource, Discard, Facts, Ident, LockMode, Name, Set, Statement, TransactionModes,
};

use crate::tree::{Named, Truth};

/// How facts differ from the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    // These are failures.
    Count,
    Kind,
    MissedRelation,
    MissedTarget,
    MissedFunction,
    MissedLockingClause,
    MissedInto,
    MissedWrite,
    /// Of a command that must reach every node.
    UnknownSessionCommand,
    // These only cost a look-up in the catalog or a visit to the primary.
    Unknown,
    ExtraRelation,
    ExtraFunction,
    ExtraFlag,
}

impl Difference {
    pub fn is_failure(self) -> bool {
        self <= Difference::UnknownSessionCommand
    }

    pub fn title(self) -> &'static str {
        match self {
            Difference::Count => "another number of statements",
            Difference::Kind => "another kind of statement",
            Difference::MissedRelation => "a relation of a read is missed",
            Difference::MissedTarget => "a relation that is written is missed",
            Difference::MissedFunction => "a function of a read is missed",
            Difference::MissedLockingClause => "a locking clause is missed",
            Difference::MissedInto => "INTO is missed",
            Difference::MissedWrite => "a write inside a query is missed",
            Difference::UnknownSessionCommand => "a command for several nodes is not understood",
            Difference::Unknown => "not understood, so for the primary",
            Difference::ExtraRelation => "a relation too many",
            Difference::ExtraFunction => "a function too many",
            Difference::ExtraFlag => "taken for a read that writes or locks",
        }
    }
}

/// Functions behind syntax of its own, none of them volatile, that facts do not name:
/// `IS NORMALIZED`, `COLLATION FOR`, `XMLEXISTS`.
const HARMLESS: [&str; 3] = ["is_normalized", "pg_collation_for", "xmlexists"];

/// All differences of one statement, each with the name or kind that it is about.
pub fn differences(facts: &Facts, truth: &Truth) -> Vec<(Difference, String)> {
    let mut found = Vec::new();
    if facts.count() != 1 {
        found.push((Difference::Count, facts.count().to_string()));
        return found;
    }
    let kind = truth.statements.first().map_or("", String::as_str);
    if facts.is_unknown() {
        let everywhere = [
            "begin",
            "commit",
            "rollback",
            "savepoint",
            "release",
            "set ",
            "reset",
            "discard",
            "deallocate",
        ];
        let what = if everywhere.iter().any(|word| kind.starts_with(word)) {
            Difference::UnknownSessionCommand
        } else {
            Difference::Unknown
        };
        found.push((what, kind.to_owned()));
        return found;
    }
    let ours: Vec<String> = facts
        .statements()
        .iter()
        .map(|s| describe(*s, facts))
        .collect();
    if ours != truth.statements {
        found.push((
            Difference::Kind,
            format!("{ours:?}, the grammar says {:?}", truth.statements),
        ));
        return found;
    }
    let relations = names(facts, facts.relations());
    let functions = names(facts, facts.functions());
    let read = kind == "select" || kind.starts_with("copy from=false");
    let write = matches!(kind, "insert" | "update" | "delete" | "merge");
    if read {
        for missed in truth.relations.difference(&relations) {
            let common = missed.0.is_none() && truth.common_tables.contains(&missed.1);
            if !common {
                found.push((Difference::MissedRelation, shown(missed)));
            }
        }
        for missed in truth.functions.difference(&functions) {
            let harmless =
                missed.0.as_deref() == Some("pg_catalog") && HARMLESS.contains(&&*missed.1);
            // A name without its schema is looked up in all of them.
            if !harmless && !functions.contains(&(None, missed.1.clone())) {
                found.push((Difference::MissedFunction, shown(missed)));
            }
        }
        for (is, said, missed) in [
            (
                truth.locking,
                facts.has_locking_clause(),
                Difference::MissedLockingClause,
            ),
            (truth.into, facts.has_into(), Difference::MissedInto),
            (
                truth.data_modifying_with && !kind.ends_with("write"),
                facts.has_data_modifying_with(),
                Difference::MissedWrite,
            ),
        ] {
            if is && !said {
                found.push((missed, kind.to_owned()));
            } else if said && !is && !kind.ends_with("write") {
                found.push((Difference::ExtraFlag, kind.to_owned()));
            }
        }
        for extra in relations.difference(&truth.relations) {
            if !truth.common_tables.contains(&extra.1) {
                found.push((Difference::ExtraRelation, shown(extra)));
            }
        }
        for extra in functions.difference(&truth.functions) {
            let builtin = (Some("pg_catalog".to_owned()), extra.1.clone());
            if !truth.functions.contains(&builtin) {
                found.push((Difference::ExtraFunction, shown(extra)));
            }
        }
    }
    if write {
        for missed in truth.targets.difference(&relations) {
            found.push((Difference::MissedTarget, shown(missed)));
        }
        if truth.data_modifying_with && !facts.has_data_modifying_with() {
            found.push((Difference::MissedWrite, kind.to_owned()));
        }
    }
    found
}

fn names(facts: &Facts, of: &[Name]) -> BTreeSet<Named> {
    of.iter()
        .map(|name| (name.schema.map(|s| text(facts, s)), text(facts, name.name)))
        .collect()
}

fn text(facts: &Facts, ident: Ident) -> String {
    String::from_utf8_lossy(facts.text(ident)).into_owned()
}

fn shown((schema, name): &Named) -> String {
    match schema {
        Some(schema) => format!("{schema}.{name}"),
        None => name.clone(),
    }
}

fn describe(statement: Statement, facts: &Facts) -> String {
    match statement {
        Statement::Empty => "empty".into(),
        Statement::Select => "select".into(),
        Statement::Insert => "insert".into(),
        Statement::Update => "update".into(),
        Statement::Delete => "delete".into(),
        Statement::Merge => "merge".into(),
        Statement::Copy(Copy { from, file, source }) => {
            let source = match source {
                CopySource::Table => "table",
                CopySource::Select => "select",
                CopySource::Write => "write",
            };
            format!("copy from={from} file={file} {source}")
        }
        Statement::Lock(mode) => format!("lock {}", lock_number(mode)),
        Statement::Begin(modes) => format!("begin {}", described(modes)),
        Statement::Commit { chain } => format!("commit chain={chain}"),
        Statement::Rollback { chain } => format!("rollback chain={chain}"),
        Statement::Savepoint(name) => format!("savepoint {}", text(facts, name)),
        Statement::Release(name) => format!("release {}", text(facts, name)),
        Statement::RollbackTo(name) => format!("rollback to {}", text(facts, name)),
        Statement::PrepareTransaction => "prepare transaction".into(),
        Statement::FinishPrepared => "finish prepared".into(),
        Statement::Set(Set::Constraints) => "set constraints".into(),
        Statement::Set(set) => format!("set {}", parameter(set)),
        Statement::Reset(set) => format!("reset {}", parameter(set)),
        Statement::Show => "show".into(),
        Statement::Discard(Discard::All) => "discard all".into(),
        Statement::Discard(Discard::Plans) => "discard plans".into(),
        Statement::Discard(Discard::Sequences) => "discard sequences".into(),
        Statement::Discard(Discard::Temp) => "discard temp".into(),
        Statement::Prepare(name) => format!("prepare {}", text(facts, name)),
        Statement::Execute(name) => format!("execute {}", text(facts, name)),
        Statement::Deallocate(None) => "deallocate all".into(),
        Statement::Deallocate(Some(name)) => format!("deallocate {}", text(facts, name)),
        Statement::Declare(name) => format!("declare {}", text(facts, name)),
        Statement::Fetch(_) => "fetch".into(),
        Statement::ClosePortal(_) => "close".into(),
        Statement::Explain { analyze, select } => {
            format!("explain analyze={analyze} select={select}")
        }
        Statement::Truncate => "truncate".into(),
        Statement::CreateTemporary(name) => format!("create temporary {}", text(facts, name)),
        Statement::DropAtCommit(name) => format!("drop at commit {}", text(facts, name)),
        Statement::Drop(name) => format!("drop {}", text(facts, name)),
        Statement::Call => "call".into(),
        Statement::Do => "do".into(),
        Statement::Other => "other".into(),
    }
}

/// PostgreSQL's number of the lock.
fn lock_number(mode: LockMode) -> u8 {
    match mode {
        LockMode::AccessShare => 1,
        LockMode::RowShare => 2,
        LockMode::RowExclusive => 3,
        LockMode::ShareUpdateExclusive => 4,
        LockMode::Share => 5,
        LockMode::ShareRowExclusive => 6,
        LockMode::Exclusive => 7,
        LockMode::AccessExclusive => 8,
    }
}

fn described(modes: TransactionModes) -> String {
    format!(
        "read_only={:?} serializable={:?}",
        modes.read_only, modes.serializable
    )
}

fn parameter(set: Set) -> String {
    match set {
        Set::Transaction(modes) => format!("transaction {}", described(modes)),
        Set::TransactionReadOnly(value) => format!("transaction_read_only {value:?}"),
        Set::Characteristics(modes) => format!("characteristics {}", described(modes)),
        Set::DefaultIsolation { serializable } => {
            format!("default isolation serializable={serializable}")
        }
        Set::Snapshot => "snapshot".into(),
        Set::Constraints => "constraints".into(),
        Set::SearchPath { temporary, .. } => format!("search path temporary={temporary}"),
        Set::All => "all".into(),
        Set::Local | Set::Other => "other".into(),
    }
}
