//! Temporary tables that a session has made, as its statements show (`check_temp_table = trace`).

/// Names in lower case as folded, without schema.
#[derive(Clone, Debug, Default)]
pub(super) struct TemporaryTables {
    tables: Vec<Table>,
}

#[derive(Clone, Debug)]
struct Table {
    name: Box<[u8]>,
    /// Made in the transaction that is open.
    fresh: bool,
    /// Dropped in it.
    dropped: bool,
}

impl TemporaryTables {
    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.tables.iter().any(|t| !t.dropped && *t.name == *name)
    }

    /// In a transaction, which may be rolled back.
    pub(super) fn create(&mut self, name: &[u8]) {
        self.tables.push(Table {
            name: name.into(),
            fresh: true,
            dropped: false,
        });
    }

    pub(super) fn drop(&mut self, name: &[u8]) {
        for table in self.tables.iter_mut().filter(|t| *t.name == *name) {
            table.dropped = true;
        }
    }

    pub(super) fn drop_all(&mut self) {
        for table in &mut self.tables {
            table.dropped = true;
        }
    }

    /// What was dropped may be there again.
    pub(super) fn rolled_back_to_savepoint(&mut self) {
        for table in &mut self.tables {
            table.dropped = false;
        }
    }

    /// The end of the transaction.
    pub(super) fn end(&mut self, committed: bool) {
        if committed {
            self.tables.retain(|t| !t.dropped);
        } else {
            self.tables.retain(|t| !t.fresh);
        }
        for table in &mut self.tables {
            table.fresh = false;
            table.dropped = false;
        }
    }
}
