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
    /// ON COMMIT DROP.
    brief: bool,
}

impl TemporaryTables {
    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.tables.iter().any(|t| !t.dropped && *t.name == *name)
    }

    pub(super) fn names(&self) -> Vec<Box<[u8]>> {
        let there = self.tables.iter().filter(|t| !t.dropped);
        there.map(|t| t.name.clone()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.iter().all(|t| t.dropped)
    }

    /// Whether a name stands anywhere in a text as a word. `regclass` stands for all names: indexes and
    /// views on temporary tables are temporary as well and not known here.
    pub(super) fn is_mentioned(&self, text: &[u8]) -> bool {
        let of_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | 0x80..);
        let mut words = text.split(|b| !of_word(b)).filter(|word| !word.is_empty());
        let plain = |t: &&Table| t.name.iter().all(of_word);
        let tables = self.tables.iter().filter(|t| !t.dropped);
        // In quotes a name can be anything; such a one is looked for as it is.
        tables
            .clone()
            .filter(|t| !plain(t))
            .any(|t| contains(text, &t.name))
            || words.any(|word| {
                tables.clone().any(|t| t.name.eq_ignore_ascii_case(word))
                    || (word.eq_ignore_ascii_case(b"regclass") && !self.is_empty())
            })
    }

    /// In a transaction, which may be rolled back.
    pub(super) fn create(&mut self, name: &[u8]) {
        // IF NOT EXISTS.
        if self.contains(name) {
            return;
        }
        self.tables.push(Table {
            name: name.into(),
            fresh: true,
            dropped: false,
            brief: false,
        });
    }

    /// The table that was just made goes with this transaction.
    pub(super) fn drop_at_commit(&mut self, name: &[u8]) {
        if let Some(last) = self.tables.last_mut() {
            last.brief |= last.fresh && *last.name == *name;
        }
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
            self.tables.retain(|t| !t.dropped && !t.brief);
        } else {
            self.tables.retain(|t| !t.fresh);
        }
        for table in &mut self.tables {
            table.fresh = false;
            table.dropped = false;
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len().max(1)).any(|w| w == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_there_is_there_once() {
        let mut tables = TemporaryTables::default();
        for _ in 0..3 {
            tables.create(b"t");
            tables.end(true);
        }
        assert_eq!(tables.tables.len(), 1);
        tables.drop(b"t");
        tables.create(b"t");
        assert!(tables.contains(b"t"));
        tables.end(true);
        assert_eq!(tables.tables.len(), 1);
        tables.drop(b"t");
        tables.end(true);
        assert!(tables.is_empty());
    }

    #[test]
    fn a_table_with_on_commit_drop_goes_with_its_transaction() {
        let mut tables = TemporaryTables::default();
        tables.create(b"old");
        tables.end(true);
        for name in [b"old".as_slice(), b"t"] {
            tables.create(name);
            tables.drop_at_commit(name);
        }
        assert!(tables.contains(b"t"));
        tables.end(true);
        assert!(!tables.contains(b"t") && tables.contains(b"old"));
    }
}
