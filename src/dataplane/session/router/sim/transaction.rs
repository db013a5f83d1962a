//! Transactions of a model server (`src/backend/access/transam/xact.c` of PostgreSQL).

use std::{cell::RefCell, rc::Rc};

use super::{
    sql::{Failure, Isolation, Modes, failure},
    state::{Contents, Database, State},
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Block {
    /// No transaction at all.
    #[default]
    None,
    /// Of one statement, or of a pipeline up to its Sync.
    Single,
    /// Of a Query of several statements.
    Implicit,
    Open,
    Failed,
}

/// How deep in savepoints something was made: 1 is the transaction itself, 0 outlives it.
pub type Level = usize;

/// What has happened to the transaction, for portals to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    Committed,
    RolledBack,
    /// What was made deeper than this is gone.
    RolledBackTo(Level),
    /// What was made deeper than this belongs to this level now.
    Released(Level),
}

#[derive(Debug)]
pub struct Transaction {
    pub standby: bool,
    pub block: Block,
    pub state: State,
    /// A query has been analysed or carried out: modes are settled.
    pub snapshot: bool,
    /// An Execute message has carried out something in this transaction.
    pub pipelining: bool,
    /// The state at the begin of the transaction, then at each savepoint.
    saved: Vec<(String, State)>,
    database: Rc<RefCell<Database>>,
}

impl Transaction {
    pub fn new(standby: bool, database: Rc<RefCell<Database>>) -> Transaction {
        let default_isolation = database.borrow().default_isolation();
        Transaction {
            standby,
            block: Block::None,
            state: State {
                default_isolation,
                ..State::default()
            },
            snapshot: false,
            pipelining: false,
            saved: Vec::new(),
            database,
        }
    }

    pub fn status(&self) -> u8 {
        match self.block {
            Block::None | Block::Single | Block::Implicit => b'I',
            Block::Open => b'T',
            Block::Failed => b'E',
        }
    }

    pub fn level(&self) -> Level {
        self.saved.len()
    }

    pub fn start(&mut self) {
        if self.block == Block::None {
            self.begin(Block::Single);
        }
        if self.standby {
            // Each statement sees what is committed by then.
            self.state.tables = self.database.borrow().tables.clone();
        }
    }

    fn begin(&mut self, block: Block) {
        self.block = block;
        self.state.tables = self.database.borrow().tables.clone();
        self.state.read_only = self.standby || self.state.default_read_only;
        self.state.isolation = self.state.default_isolation;
        self.snapshot = false;
        self.pipelining = false;
        self.state.deferred_failure = false;
        self.state.temporary_touched = false;
        self.state.has_hold_cursor = false;
        self.saved = vec![(String::new(), self.state.clone())];
    }

    /// A message or statement is done: ends the transaction of a single one.
    pub fn finish(&mut self) -> Result<Change, Failure> {
        if self.block == Block::Single {
            return self.commit();
        }
        Ok(Change::None)
    }

    fn commit(&mut self) -> Result<Change, Failure> {
        if self.state.deferred_failure {
            self.roll_back();
            return failure("23503", "violates foreign key constraint");
        }
        self.state.parameters = self.state.lasting;
        if !self.standby {
            self.database.borrow_mut().tables = self.state.tables.clone();
        }
        self.end();
        Ok(Change::Committed)
    }

    fn roll_back(&mut self) {
        if let Some((_, state)) = self.saved.first() {
            self.state = state.clone();
        }
        self.end();
    }

    fn end(&mut self) {
        self.block = Block::None;
        self.saved.clear();
        self.publish();
    }

    /// Other statements of the session see its temporary tables at once.
    pub fn publish(&mut self) {
        if !self.standby {
            let names = self.state.temporary.keys().cloned().collect();
            self.database.borrow_mut().temporary = names;
        }
    }

    /// A statement has failed.
    pub fn fail(&mut self) -> Change {
        match self.block {
            Block::None | Block::Failed => Change::None,
            Block::Single | Block::Implicit => {
                self.roll_back();
                Change::RolledBack
            }
            Block::Open => {
                self.block = Block::Failed;
                let level = self.saved.len() - 1;
                if let Some((_, state)) = self.saved.last() {
                    self.state = state.clone();
                }
                self.publish();
                Change::RolledBackTo(level)
            }
        }
    }

    /// True: it warns that there is one.
    pub fn begin_block(&mut self, modes: Modes) -> Result<bool, Failure> {
        let again = self.block == Block::Open;
        self.modes(modes)?;
        self.block = Block::Open;
        Ok(again)
    }

    pub fn modes(&mut self, modes: Modes) -> Result<(), Failure> {
        if let Some(isolation) = modes.isolation
            && isolation != self.state.isolation
        {
            if self.snapshot {
                return failure("25001", "isolation level must be set before any query");
            }
            if self.saved.len() > 1 {
                return failure(
                    "25001",
                    "isolation level must not be set in a subtransaction",
                );
            }
            if self.standby && isolation == Isolation::Serializable {
                return failure("0A000", "cannot use serializable mode in a hot standby");
            }
        }
        if modes.read_only == Some(false) && self.state.read_only {
            if self.saved.len() > 1 {
                return failure("25001", "cannot set read-write mode in a subtransaction");
            }
            if self.snapshot {
                return failure("25001", "read-write mode must be set before any query");
            }
            if self.standby {
                return failure("0A000", "cannot set read-write mode during recovery");
            }
        }
        self.state.read_only = modes.read_only.unwrap_or(self.state.read_only);
        self.state.isolation = modes.isolation.unwrap_or(self.state.isolation);
        Ok(())
    }

    /// COMMIT and ROLLBACK: tag, whether it warns that there is none, what has happened.
    pub fn end_block(
        &mut self,
        commit: bool,
        chain: bool,
    ) -> Result<(&'static str, bool, Change), Failure> {
        let open = matches!(self.block, Block::Open | Block::Failed);
        if chain && !open {
            return failure("25P01", "AND CHAIN can only be used in transaction blocks");
        }
        let modes = (self.state.read_only, self.state.isolation);
        let commits = commit && self.block != Block::Failed;
        let change = if commits {
            self.commit()?
        } else {
            self.roll_back();
            Change::RolledBack
        };
        if chain {
            self.begin(Block::Open);
            (self.state.read_only, self.state.isolation) = modes;
        }
        let tag = if commits { "COMMIT" } else { "ROLLBACK" };
        Ok((tag, !open, change))
    }

    fn require_block(&self, what: &str) -> Result<(), Failure> {
        if self.block == Block::Open {
            return Ok(());
        }
        failure(
            "25P01",
            format!("{what} can only be used in transaction blocks"),
        )
    }

    pub fn savepoint(&mut self, name: &str) -> Result<(), Failure> {
        self.require_block("SAVEPOINT")?;
        self.saved.push((name.to_owned(), self.state.clone()));
        Ok(())
    }

    fn find(&self, name: &str) -> Result<usize, Failure> {
        match self.saved.iter().rposition(|(n, _)| n == name) {
            Some(at) => Ok(at),
            None => failure("3B001", format!("savepoint \"{name}\" does not exist")),
        }
    }

    pub fn release(&mut self, name: &str) -> Result<Change, Failure> {
        self.require_block("RELEASE SAVEPOINT")?;
        let at = self.find(name)?;
        self.saved.truncate(at);
        Ok(Change::Released(at))
    }

    pub fn roll_back_to(&mut self, name: &str) -> Result<Change, Failure> {
        if self.block != Block::Failed {
            self.require_block("ROLLBACK TO SAVEPOINT")?;
        }
        let at = self.find(name)?;
        self.saved.truncate(at + 1);
        self.state = self.saved[at].1.clone();
        self.block = Block::Open;
        self.publish();
        Ok(Change::RolledBackTo(at))
    }

    /// PREPARE TRANSACTION.
    pub fn prepare(&mut self) -> Result<(&'static str, bool, Change), Failure> {
        if self.block != Block::Open {
            let (_, warns, change) = self.end_block(false, false)?;
            return Ok(("ROLLBACK", warns, change));
        }
        if self.standby {
            return failure(
                "25006",
                "cannot execute PREPARE TRANSACTION during recovery",
            );
        }
        let taken = self.database.borrow().prepared.is_some();
        let refusal = if self.state.deferred_failure {
            Some(("23503", "violates foreign key constraint"))
        } else if self.state.temporary_touched {
            Some((
                "0A000",
                "cannot PREPARE a transaction that has operated on temporary objects",
            ))
        } else if self.state.has_hold_cursor {
            Some((
                "55000",
                "cannot PREPARE a transaction that has created a cursor WITH HOLD",
            ))
        } else {
            taken.then_some(("42710", "transaction identifier is already in use"))
        };
        if let Some((code, text)) = refusal {
            self.roll_back();
            return failure(code, text);
        }
        let before = self.database.borrow().tables.clone();
        let more = |(name, rows): (&String, &u64)| {
            let old = before.get(name).copied().unwrap_or(0);
            (name.clone(), rows - old)
        };
        let added: Contents = self.state.tables.iter().map(more).collect();
        self.database.borrow_mut().prepared = Some(added);
        self.state.parameters = self.state.lasting;
        self.end();
        Ok(("PREPARE TRANSACTION", false, Change::Committed))
    }

    pub fn finish_prepared(&mut self, commit: bool) -> Result<(), Failure> {
        self.prevent_in_block("COMMIT PREPARED")?;
        if self.standby {
            return failure("25006", "cannot execute COMMIT PREPARED during recovery");
        }
        let mut database = self.database.borrow_mut();
        let Some(added) = database.prepared.take() else {
            return failure("42704", "prepared transaction does not exist");
        };
        if commit {
            for (name, rows) in added {
                *self.state.tables.entry(name.clone()).or_default() += rows;
                *database.tables.entry(name).or_default() += rows;
            }
        }
        Ok(())
    }

    pub fn prevent_in_block(&self, what: &str) -> Result<(), Failure> {
        if self.block == Block::Single && !self.pipelining {
            return Ok(());
        }
        failure(
            "25001",
            format!("{what} cannot run inside a transaction block"),
        )
    }

    pub fn lock(&self, strong: bool) -> Result<(), Failure> {
        if !matches!(self.block, Block::Open | Block::Implicit) {
            return failure("25P01", "LOCK TABLE can only be used in transaction blocks");
        }
        if strong && self.standby {
            return failure("55000", "cannot acquire lock mode during recovery");
        }
        Ok(())
    }
}
