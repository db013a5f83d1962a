//! What each statement does in a model server.

use std::rc::Rc;

use super::{
    server::{Done, Outcome, Server},
    sql::{Select, Sql, failure},
    state::{PARAMETERS, State},
    transaction::{Block, Change, Transaction},
};

impl Server {
    pub(super) fn select(&mut self, select: &Select, snapshot: &State) -> Done<Outcome> {
        let standby = self.transaction.standby;
        if standby && (select.locks || self.calls_writer(select)) {
            self.misled = Some(format!("{select:?}"));
        }
        let rows = self.transaction.state.rows(select, snapshot, standby)?;
        self.transaction.state.touch(select);
        if select.tag != "EXPLAIN"
            && let Some(function) = &select.function
        {
            self.write_by(function)?;
        }
        Ok(Outcome::Rows(rows, select.tag))
    }

    fn calls_writer(&self, select: &Select) -> bool {
        select.tag != "EXPLAIN" && select.function.as_deref() == Some("f_write")
    }

    pub(super) fn write_by(&mut self, function: &str) -> Done {
        if function != "f_write" {
            return Ok(());
        }
        if self.transaction.state.read_only {
            return failure("25006", "cannot execute INSERT");
        }
        self.transaction.state.add("w1", 1)
    }

    pub(super) fn current(&mut self, select: &Select) -> Done<Outcome> {
        let now = self.transaction.state.clone();
        self.select(select, &now)
    }

    /// Rows of a cursor, if it has not begun.
    pub(super) fn fill(&mut self, name: &str) -> Done {
        let Some(portal) = self.portals.get(name) else {
            return failure("34000", format!("cursor {name} does not exist"));
        };
        if portal.rows.is_some() {
            return Ok(());
        }
        let Some(Sql::Select(select)) = portal.sql.as_deref().cloned() else {
            return failure("55000", format!("portal {name} cannot be run"));
        };
        if let Outcome::Rows(rows, _) = self.portal_rows(name, &select)?
            && let Some(portal) = self.portals.get_mut(name)
        {
            portal.rows = Some(rows.into());
        }
        Ok(())
    }

    pub(super) fn carry_out(&mut self, sql: &Sql) -> Done<Outcome> {
        let tag = |tag: &str| Ok(Outcome::Tag(tag.to_owned()));
        self.transaction.snapshot |= sql.takes_snapshot();
        let transaction = &mut self.transaction;
        match sql {
            Sql::Select(select) => self.current(select),
            Sql::Show(name) => {
                let question = self.database.borrow().questions.get(name).cloned();
                if let Some(question) = question {
                    if std::mem::take(&mut self.refuses_question) {
                        return failure("57014", "canceling statement due to statement timeout");
                    }
                    let row = self.database.borrow().answer(&question);
                    let row: String = row.iter().map(|&b| if b { 't' } else { 'f' }).collect();
                    return Ok(Outcome::Rows(vec![format!("columns {row}")], "SELECT"));
                }
                let row = format!("{name} {}", transaction.state.shown());
                Ok(Outcome::Rows(vec![row], "SHOW"))
            }
            Sql::Write(write) => {
                if transaction.standby {
                    self.misled = Some(format!("{write:?}"));
                }
                transaction.state.write(write)?;
                if write.returning {
                    return Ok(Outcome::Rows(vec!["1".to_owned()], write.tag));
                }
                tag(write.tag)
            }
            Sql::CopyIn(table) => {
                if transaction.standby {
                    self.misled = Some(format!("COPY {table}"));
                }
                if transaction.state.read_only {
                    return failure("25006", "cannot execute COPY FROM");
                }
                transaction.state.find(table)?;
                Ok(Outcome::CopyIn(table.clone()))
            }
            Sql::CopyOut(select) => {
                let name = select.relation.as_deref().unwrap_or_default();
                transaction.state.find(name)?;
                match self.current(select)? {
                    Outcome::Rows(rows, _) => Ok(Outcome::CopyOut(rows)),
                    other => Ok(other),
                }
            }
            Sql::Begin(modes) => {
                if transaction.begin_block(*modes)? {
                    self.warn("25001");
                }
                tag("BEGIN")
            }
            Sql::Commit { chain } => {
                if transaction.block != Block::Failed {
                    self.keep_held_cursors()?;
                }
                self.end(|t| t.end_block(true, *chain))
            }
            Sql::Rollback { chain } => self.end(|t| t.end_block(false, *chain)),
            Sql::PrepareTransaction => self.end(Transaction::prepare),
            Sql::FinishPrepared { commit } => {
                transaction.finish_prepared(*commit)?;
                tag("FINISH PREPARED")
            }
            Sql::Savepoint(name) => {
                transaction.savepoint(name)?;
                tag("SAVEPOINT")
            }
            Sql::Release(name) => {
                let change = transaction.release(name)?;
                self.portals_follow(change);
                tag("RELEASE")
            }
            Sql::RollbackTo(name) => {
                let change = transaction.roll_back_to(name)?;
                self.portals_follow(change);
                tag("ROLLBACK")
            }
            Sql::Set { name, value, local } => {
                self.set(name, *value, *local);
                tag("SET")
            }
            Sql::SetModes(modes) => {
                transaction.modes(*modes)?;
                tag("SET")
            }
            Sql::Characteristics(modes) => {
                let state = &mut transaction.state;
                state.default_read_only = modes.read_only.unwrap_or(state.default_read_only);
                state.default_isolation = modes.isolation.unwrap_or(state.default_isolation);
                tag("SET")
            }
            Sql::Reset(Some(name)) => {
                self.set(name, 0, false);
                tag("RESET")
            }
            Sql::Reset(None) => {
                self.reset_all();
                tag("RESET")
            }
            Sql::Discard(what) => {
                self.discard(what)?;
                tag("DISCARD")
            }
            Sql::Prepare(name, inner) => {
                if self.statements.contains_key(name) {
                    return failure("42P05", format!("prepared statement {name} already exists"));
                }
                self.statements.insert(name.clone(), Some(inner.clone()));
                tag("PREPARE")
            }
            Sql::Execute(name) => match self.prepared(name)? {
                Some(inner) => self.carry_out_prepared(&inner),
                None => failure("0A000", "EXECUTE of an empty statement"),
            },
            Sql::Deallocate(Some(name)) => {
                self.prepared(name)?;
                self.statements.remove(name);
                tag("DEALLOCATE")
            }
            Sql::Deallocate(None) => {
                self.statements.retain(|name, _| name.is_empty());
                tag("DEALLOCATE ALL")
            }
            Sql::Declare { name, hold, select } => {
                if !*hold && !matches!(transaction.block, Block::Open | Block::Implicit) {
                    return failure("25P01", "DECLARE CURSOR can only be used in transactions");
                }
                transaction.state.has_hold_cursor |= *hold;
                self.new_portal(name, Some(Rc::new(Sql::Select(select.clone()))), true)?;
                if let Some(portal) = self.portals.get_mut(name) {
                    portal.hold = *hold;
                }
                tag("DECLARE CURSOR")
            }
            Sql::Fetch { name, count } => {
                self.fill(name)?;
                let portal = self.portals.get_mut(name);
                let rows = portal.and_then(|p| p.rows.as_mut()).expect("rows");
                let rows = rows.drain(..rows.len().min(*count)).collect();
                Ok(Outcome::Rows(rows, "FETCH"))
            }
            Sql::Close(name) => {
                if self.portals.remove(name).is_none() {
                    return failure("34000", format!("cursor {name} does not exist"));
                }
                tag("CLOSE CURSOR")
            }
            Sql::CreateTemp(name) => {
                if transaction.standby {
                    self.misled = Some("CREATE TEMP TABLE".to_owned());
                    return failure("25006", "cannot execute CREATE TABLE");
                }
                if transaction.state.temporary.contains_key(name) {
                    return failure("42P07", format!("relation {name} already exists"));
                }
                transaction.state.temporary.insert(name.clone(), 0);
                transaction.state.temporary_touched = true;
                transaction.publish();
                tag("CREATE TABLE")
            }
            Sql::Create(name) => {
                if transaction.standby {
                    self.misled = Some("CREATE TABLE".to_owned());
                }
                if transaction.state.read_only {
                    return failure("25006", "cannot execute CREATE TABLE");
                }
                if transaction.state.tables.contains_key(name) {
                    return failure("42P07", format!("relation {name} already exists"));
                }
                transaction.state.tables.insert(name.clone(), 0);
                tag("CREATE TABLE")
            }
            Sql::Drop(name) => {
                if transaction.standby {
                    self.misled = Some("DROP TABLE".to_owned());
                }
                if transaction.state.temporary.remove(name).is_some() {
                    transaction.state.temporary_touched = true;
                } else {
                    return failure("42P01", format!("table {name} does not exist"));
                }
                transaction.publish();
                tag("DROP TABLE")
            }
            Sql::Unlisten => tag("UNLISTEN"),
            Sql::Lock { strong } => {
                if *strong && transaction.standby {
                    self.misled = Some("LOCK".to_owned());
                }
                transaction.lock(*strong)?;
                tag("LOCK TABLE")
            }
        }
    }

    pub(super) fn carry_out_prepared(&mut self, inner: &Sql) -> Done<Outcome> {
        // PostgreSQL takes more, in ways of its own: nobody does that.
        if !matches!(inner, Sql::Select(_) | Sql::Show(_) | Sql::Write(_)) {
            return failure("0A000", "EXECUTE of a command");
        }
        self.analyse(inner)?;
        self.carry_out(inner)
    }

    pub(super) fn end(
        &mut self,
        end: impl FnOnce(&mut Transaction) -> Done<(&'static str, bool, Change)>,
    ) -> Done<Outcome> {
        let (tag, warns, change) = end(&mut self.transaction)?;
        self.portals_follow(change);
        if warns {
            self.warn("25P01");
        }
        Ok(Outcome::Tag(tag.to_owned()))
    }

    pub(super) fn set(&mut self, name: &str, value: i64, local: bool) {
        let state = &mut self.transaction.state;
        if name == "default_transaction_isolation" {
            state.default_isolation = self.database.borrow().default_isolation();
            return;
        }
        let at = usize::from(name == PARAMETERS[1]);
        if local && !matches!(self.transaction.block, Block::Open | Block::Implicit) {
            self.warn("25P01");
        }
        let state = &mut self.transaction.state;
        state.parameters[at] = value;
        if !local {
            state.lasting[at] = value;
        }
    }

    pub(super) fn reset_all(&mut self) {
        let isolation = self.database.borrow().default_isolation();
        let state = &mut self.transaction.state;
        state.parameters = [0; 2];
        state.lasting = [0; 2];
        state.default_read_only = false;
        state.default_isolation = isolation;
    }

    pub(super) fn discard(&mut self, what: &str) -> Done {
        if what == "ALL" {
            self.transaction.prevent_in_block("DISCARD ALL")?;
            self.reset_all();
            self.statements.retain(|name, _| name.is_empty());
            self.portals.clear();
        }
        if what != "PLANS" {
            self.transaction.state.temporary.clear();
            self.transaction.publish();
        }
        Ok(())
    }
}
