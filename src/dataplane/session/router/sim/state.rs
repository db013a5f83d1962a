//! What a session of a model server can change, and what a transaction undoes of it.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
};

use super::sql::{Failure, Isolation, Select, Write, failure};
use crate::routing::relcache::{Question, Relation};

/// The parameters that the session may set; each row of a result shows them.
pub const PARAMETERS: [&str; 2] = ["work_mem", "statement_timeout"];

/// Rows of a table that this session alone writes are one number.
pub type Contents = BTreeMap<String, u64>;

/// What is committed; the standbys have it at once. Replication that lags is none of the router's
/// business.
#[derive(Debug, Default)]
pub struct Database {
    pub tables: Contents,
    /// What a prepared transaction adds.
    pub prepared: Option<Contents>,
    /// Temporary tables of the session on the primary, its uncommitted ones as well.
    pub temporary: BTreeSet<String>,
    /// Texts that the router's shell asks the catalog with.
    pub questions: HashMap<String, Question>,
    pub serializable: bool,
}

impl Database {
    pub fn new(serializable: bool) -> Rc<RefCell<Database>> {
        let tables = ["w1", "w2"].map(|name| (name.to_owned(), 0));
        Rc::new(RefCell::new(Database {
            tables: tables.into(),
            serializable,
            ..Database::default()
        }))
    }

    pub fn default_isolation(&self) -> Isolation {
        if self.serializable {
            Isolation::Serializable
        } else {
            Isolation::ReadCommitted
        }
    }

    /// The row of booleans that answers a question about the catalog.
    pub fn answer(&self, question: &Question) -> Vec<bool> {
        match question {
            Question::Relation { name, .. } => {
                let name = String::from_utf8_lossy(name);
                let relation = Relation {
                    system: name == "pg_class",
                    temporary: self.temporary.contains(&*name),
                    unlogged: name == "u1",
                    view: false,
                    ..Relation::default()
                };
                vec![
                    relation.system,
                    relation.temporary,
                    relation.unlogged,
                    relation.view,
                ]
            }
            Question::Function { name, .. } => {
                vec![matches!(&name[..], b"f_vol" | b"f_write")]
            }
            Question::DefaultIsolation { .. } => vec![self.serializable],
        }
    }
}

/// What a rollback puts back.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub parameters: [i64; 2],
    /// What is left of them at the end of the transaction: those of SET LOCAL are not.
    pub lasting: [i64; 2],
    pub tables: Contents,
    pub temporary: Contents,
    pub default_read_only: bool,
    pub default_isolation: Isolation,
    /// Of the transaction.
    pub read_only: bool,
    pub isolation: Isolation,
    pub deferred_failure: bool,
    pub temporary_touched: bool,
    pub has_hold_cursor: bool,
}

impl State {
    pub fn shown(&self) -> String {
        format!("{:?}", self.parameters)
    }

    /// Whether the relation is there.
    pub fn find(&self, name: &str) -> Result<(), Failure> {
        let fixed = ["fixed1", "fixed2", "rows3", "u1", "pg_class"];
        if fixed.contains(&name)
            || self.temporary.contains_key(name)
            || self.tables.contains_key(name)
        {
            return Ok(());
        }
        failure("42P01", format!("relation \"{name}\" does not exist"))
    }

    /// Which rows a query gives. `snapshot` is what it sees of the tables.
    pub fn rows(
        &self,
        select: &Select,
        snapshot: &State,
        standby: bool,
    ) -> Result<Vec<String>, Failure> {
        if standby && self.isolation == Isolation::Serializable {
            return failure("0A000", "cannot use serializable mode in a hot standby");
        }
        if select.locks && self.read_only {
            return failure("25006", "cannot execute SELECT FOR UPDATE");
        }
        if select.fails {
            return failure("22012", "division by zero");
        }
        if select.empty {
            return Ok(Vec::new());
        }
        let Some(name) = &select.relation else {
            let what = select.function.as_deref().unwrap_or("constant");
            return Ok(vec![format!("{what} {}", self.shown())]);
        };
        if let Some(contents) = snapshot.temporary.get(name) {
            return Ok(vec![format!("temporary {contents} {}", self.shown())]);
        }
        if name == "u1" && standby {
            return failure("0A000", "cannot access unlogged relations during recovery");
        }
        let contents = snapshot.tables.get(name).copied().unwrap_or(0);
        let count = if name == "rows3" { 3 } else { 1 };
        Ok((0..count)
            .map(|row| format!("{name} {contents} {row} {}", self.shown()))
            .collect())
    }

    /// What [`State::rows`] leaves behind.
    pub fn touch(&mut self, select: &Select) {
        if let Some(name) = &select.relation {
            self.temporary_touched |= self.temporary.contains_key(name);
        }
    }

    pub fn write(&mut self, write: &Write) -> Result<(), Failure> {
        let temporary = self.temporary.contains_key(&write.relation);
        if self.read_only && !temporary {
            return failure("25006", format!("cannot execute {}", write.tag));
        }
        if write.fails {
            return failure("23505", "duplicate key value");
        }
        self.deferred_failure |= write.deferred;
        self.add(&write.relation, 1)
    }

    pub fn add(&mut self, relation: &str, rows: u64) -> Result<(), Failure> {
        if let Some(contents) = self.temporary.get_mut(relation) {
            *contents += rows;
            self.temporary_touched = true;
            return Ok(());
        }
        match self.tables.get_mut(relation) {
            Some(contents) => {
                *contents += rows;
                Ok(())
            }
            None => failure("42501", format!("permission denied for {relation}")),
        }
    }
}
