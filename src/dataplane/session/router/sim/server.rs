//! A model of one PostgreSQL backend process: bytes in, bytes out
//! (`src/backend/tcop/postgres.c` of PostgreSQL 15).
//!
//! The answers are held back until PostgreSQL would flush them. Only what statements of this
//! session can notice is there: no other session, no clock, no locks.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    rc::Rc,
};

use super::{
    sql::{self, Failure, Select, Sql, failure},
    state::{Database, PARAMETERS, State},
    transaction::{Block, Change, Level, Transaction},
};
use crate::protocol::{
    Header,
    frame::HEADER_LEN,
    messages::{frame, ready_for_query},
};

type Done<T = ()> = Result<T, Failure>;

/// What a statement of a name stands for; `None`: an empty query.
type Prepared = Option<Rc<Sql>>;

#[derive(Debug)]
struct Portal {
    sql: Prepared,
    level: Level,
    snapshot: State,
    /// Once it has begun.
    rows: Option<VecDeque<String>>,
    done: bool,
    failed: bool,
    hold: bool,
    from_declare: bool,
}

enum Outcome {
    Rows(Vec<String>, &'static str),
    Tag(String),
    CopyIn(String),
    CopyOut(Vec<String>),
}

#[derive(Debug)]
pub struct Server {
    pub transaction: Transaction,
    database: Rc<RefCell<Database>>,
    input: Vec<u8>,
    out: Vec<u8>,
    flushed: Vec<u8>,
    statements: HashMap<String, Prepared>,
    portals: HashMap<String, Portal>,
    skipping: bool,
    extended: bool,
    /// The statements of a Query that are left, and how many there were.
    query: Option<(VecDeque<Sql>, usize)>,
    copy: Option<(String, u64)>,
    reported: [i64; 2],
    /// The client's own writes that a standby was sent.
    pub misled: Option<String>,
    /// The next question about the catalog is refused.
    pub refuses_question: bool,
}

impl Server {
    pub fn new(standby: bool, database: Rc<RefCell<Database>>) -> Server {
        Server {
            transaction: Transaction::new(standby, database.clone()),
            database,
            input: Vec::new(),
            out: Vec::new(),
            flushed: Vec::new(),
            statements: HashMap::new(),
            portals: HashMap::new(),
            skipping: false,
            extended: false,
            query: None,
            copy: None,
            reported: [0; 2],
            misled: None,
            refuses_question: false,
        }
    }

    pub fn take_flushed(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.flushed)
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some(header) = Header::read(rest).expect("a message") {
            let len = HEADER_LEN + header.body_len;
            if rest.len() < len {
                break;
            }
            self.message(header.kind, &rest[HEADER_LEN..len]);
            rest = &rest[len..];
        }
        self.input = rest.to_vec();
    }

    fn message(&mut self, kind: u8, body: &[u8]) {
        if self.copy.is_some() {
            return self.copy_message(kind, body);
        }
        if kind == b'S' {
            self.skipping = false;
        }
        if self.skipping {
            return;
        }
        self.extended = b"PBDECH".contains(&kind);
        let done = match kind {
            b'Q' => self.simple_query(body),
            b'F' => self.function_call(),
            b'P' => self.parse(body),
            b'B' => self.bind(body),
            b'D' => self.describe(body),
            b'E' => self.execute(body),
            b'C' => self.close(body),
            b'S' => self.sync(),
            b'H' => {
                self.flush();
                Ok(())
            }
            // The rest of a copy that has failed.
            _ => Ok(()),
        };
        if let Err(failure) = done {
            self.failed(&failure);
        }
    }

    fn flush(&mut self) {
        self.flushed.append(&mut self.out);
    }

    fn ready(&mut self) {
        for (at, name) in PARAMETERS.iter().enumerate() {
            let value = self.transaction.state.parameters[at];
            if self.reported[at] != value {
                self.reported[at] = value;
                self.say(b'S', &format!("{name}\0{value}\0"));
            }
        }
        ready_for_query(self.transaction.status(), &mut self.out);
        self.flush();
    }

    fn say(&mut self, kind: u8, text: &str) {
        frame(kind, &mut self.out, |out| {
            out.extend_from_slice(text.as_bytes())
        });
    }

    fn complete(&mut self, tag: &str) {
        self.say(b'C', &format!("{tag}\0"));
    }

    fn warn(&mut self, code: &str) {
        self.say(b'N', &format!("SWARNING\0C{code}\0Mwarning\0\0"));
        self.flush();
    }

    fn failed(&mut self, failure: &Failure) {
        let Failure { code, text } = failure;
        self.say(b'E', &format!("SERROR\0C{code}\0M{text}\0\0"));
        self.flush();
        let change = self.transaction.fail();
        self.portals_follow(change);
        if self.transaction.block == Block::None {
            // Of a COMMIT that has failed.
            self.portals_follow(Change::RolledBack);
        }
        self.query = None;
        self.copy = None;
        if self.extended {
            self.skipping = true;
        } else {
            self.ready();
        }
    }

    fn portals_follow(&mut self, change: Change) {
        match change {
            Change::None => {}
            Change::Committed => {
                for portal in self.portals.values_mut().filter(|p| p.hold) {
                    portal.level = 0;
                }
                self.portals.retain(|_, p| p.level == 0);
            }
            Change::RolledBack => self.portals.retain(|_, p| p.level == 0),
            Change::RolledBackTo(level) if self.transaction.block == Block::Failed => {
                // They go when the transaction does; until then they are of no use.
                for portal in self.portals.values_mut().filter(|p| p.level > level) {
                    portal.failed = true;
                }
            }
            Change::RolledBackTo(level) => self.portals.retain(|_, p| p.level <= level),
            Change::Released(level) => {
                for portal in self.portals.values_mut() {
                    portal.level = portal.level.min(level);
                }
            }
        }
    }

    fn finish(&mut self) -> Done {
        if self.transaction.block == Block::Single {
            self.keep_held_cursors()?;
        }
        let change = self.transaction.finish()?;
        self.portals_follow(change);
        Ok(())
    }

    fn keep_held_cursors(&mut self) -> Done {
        let names: Vec<String> = self
            .portals
            .iter()
            .filter(|(_, p)| p.hold && p.level > 0)
            .map(|(name, _)| name.clone())
            .collect();
        names.iter().try_for_each(|name| self.fill(name))
    }

    fn failed_block(&self, sql: Option<&Sql>) -> Done {
        if self.transaction.block == Block::Failed && !sql.is_some_and(Sql::is_exit) {
            return failure("25P02", "current transaction is aborted");
        }
        Ok(())
    }

    /// What is found out before a statement is carried out.
    fn analyse(&self, sql: &Sql) -> Done {
        let state = &self.transaction.state;
        match sql {
            Sql::Select(select) | Sql::Declare { select, .. } => {
                select.relation.as_ref().map_or(Ok(()), |r| state.find(r))
            }
            Sql::Write(write) if write.tag != "TRUNCATE" && write.tag != "DO" => {
                state.find(&write.relation)
            }
            Sql::Prepare(_, inner) => self.analyse(inner),
            _ => Ok(()),
        }
    }

    fn simple_query(&mut self, body: &[u8]) -> Done {
        let sql = cstr(body).0;
        self.transaction.start();
        self.statements.remove("");
        // PostgreSQL keeps it where the text is empty or not understood; nobody relies on that, and
        // the router does not copy it.
        self.portals.remove("");
        let statements: VecDeque<Sql> = sql::parse(&sql)?.into();
        if statements.is_empty() {
            self.say(b'I', "");
        }
        let count = statements.len();
        self.query = Some((statements, count));
        self.go_on()
    }

    /// The statements of a Query up to the end or to a copy.
    fn go_on(&mut self) -> Done {
        while let Some((statements, count)) = &mut self.query {
            let several = *count > 1;
            let Some(sql) = statements.pop_front() else {
                self.query = None;
                self.finish()?;
                self.ready();
                return Ok(());
            };
            let last = statements.is_empty();
            self.failed_block(Some(&sql))?;
            self.transaction.start();
            if several && self.transaction.block == Block::Single {
                self.transaction.block = Block::Implicit;
            }
            self.analyse(&sql)?;
            match self.carry_out(&sql)? {
                Outcome::Rows(rows, tag) => {
                    self.describe_rows();
                    self.rows(&rows);
                    self.end_of_query(&sql, last)?;
                    self.complete(&rows_tag(tag, rows.len()));
                }
                Outcome::Tag(tag) => {
                    self.end_of_query(&sql, last)?;
                    self.complete(&tag);
                }
                Outcome::CopyOut(rows) => {
                    self.copy_out(&rows);
                    self.end_of_query(&sql, last)?;
                    self.complete(&rows_tag("COPY", rows.len()));
                }
                Outcome::CopyIn(table) => {
                    self.begin_copy(table);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn end_of_query(&mut self, sql: &Sql, last: bool) -> Done {
        if last && self.transaction.block == Block::Implicit {
            self.transaction.block = Block::Single;
        }
        if last || sql.is_transaction() {
            self.finish()?;
        }
        Ok(())
    }

    fn function_call(&mut self) -> Done {
        self.transaction.start();
        self.failed_block(None)?;
        if self.transaction.standby {
            self.misled = Some("a function call".to_owned());
        }
        self.write_by("f_write")?;
        self.say(b'V', "\0\0\0\0");
        self.finish()?;
        self.ready();
        Ok(())
    }

    fn parse(&mut self, body: &[u8]) -> Done {
        let (name, rest) = cstr(body);
        let (text, _) = cstr(rest);
        self.transaction.start();
        if name.is_empty() {
            self.statements.remove("");
        }
        let question = self.database.borrow().questions.get(&text).cloned();
        let mut statements = match question {
            Some(_) => vec![Sql::Show(text)],
            None => sql::parse(&text)?,
        };
        if statements.len() > 1 {
            return failure("42601", "cannot insert multiple commands");
        }
        let sql = statements.pop();
        if let Some(sql) = &sql {
            self.failed_block(Some(sql))?;
            self.analyse(sql)?;
        }
        if self.statements.contains_key(&name) {
            return failure("42P05", format!("prepared statement {name} already exists"));
        }
        self.statements.insert(name, sql.map(Rc::new));
        self.say(b'1', "");
        Ok(())
    }

    fn prepared(&self, name: &str) -> Done<Prepared> {
        match self.statements.get(name) {
            Some(sql) => Ok(sql.clone()),
            None => failure("26000", format!("prepared statement {name} does not exist")),
        }
    }

    fn bind(&mut self, body: &[u8]) -> Done {
        let (portal, rest) = cstr(body);
        let (name, _) = cstr(rest);
        self.transaction.start();
        let sql = self.prepared(&name)?;
        if let Some(sql) = &sql {
            self.failed_block(Some(sql))?;
        }
        if portal.is_empty() {
            self.portals.remove("");
        }
        if let Some(sql) = &sql {
            self.analyse(sql)?;
        }
        self.new_portal(&portal, sql, false)?;
        self.say(b'2', "");
        Ok(())
    }

    fn new_portal(&mut self, name: &str, sql: Prepared, from_declare: bool) -> Done {
        if self.portals.contains_key(name) {
            return failure("42P03", format!("cursor {name} already exists"));
        }
        let portal = Portal {
            sql,
            level: self.transaction.level(),
            snapshot: self.transaction.state.clone(),
            rows: None,
            done: false,
            failed: false,
            hold: false,
            from_declare,
        };
        self.portals.insert(name.to_owned(), portal);
        Ok(())
    }

    fn describe(&mut self, body: &[u8]) -> Done {
        let (name, _) = cstr(&body[1..]);
        self.transaction.start();
        let sql = if body[0] == b'S' {
            let sql = self.prepared(&name)?;
            self.failed_rows(&sql)?;
            self.say(b't', "\0\0");
            sql
        } else {
            match self.portals.get(&name) {
                Some(portal) => {
                    let sql = portal.sql.clone();
                    self.failed_rows(&sql)?;
                    sql
                }
                None => return failure("34000", format!("portal {name} does not exist")),
            }
        };
        if self.gives_rows(&sql) {
            self.describe_rows();
        } else {
            self.say(b'n', "");
        }
        Ok(())
    }

    fn gives_rows(&self, sql: &Prepared) -> bool {
        match sql.as_deref() {
            Some(Sql::Execute(name)) => self
                .statements
                .get(name)
                .is_some_and(|inner| inner.as_deref().is_some_and(Sql::returns_rows)),
            Some(Sql::Fetch { name, .. }) => self.portals.contains_key(name),
            Some(sql) => sql.returns_rows(),
            None => false,
        }
    }

    fn failed_rows(&self, sql: &Prepared) -> Done {
        if self.gives_rows(sql) {
            return self.failed_block(None);
        }
        Ok(())
    }

    fn execute(&mut self, body: &[u8]) -> Done {
        let (name, rest) = cstr(body);
        let limit = i32::from_be_bytes(rest[..4].try_into().expect("four bytes"));
        let limit = usize::try_from(limit).unwrap_or(0);
        let Some(portal) = self.portals.get(&name) else {
            return failure("34000", format!("portal {name} does not exist"));
        };
        let sql = portal.sql.clone();
        let (failed, done) = (portal.failed, portal.done);
        let begun = portal.rows.is_some();
        let Some(sql) = sql else {
            self.say(b'I', "");
            return Ok(());
        };
        self.transaction.start();
        self.failed_block((!failed).then_some(&*sql))?;
        if failed || done {
            return failure("55000", format!("portal {name} cannot be run"));
        }
        if !begun {
            let outcome = match (&*sql, portal.from_declare) {
                (Sql::Select(select), _) => self.portal_rows(&name, select)?,
                (sql, _) => self.carry_out(sql)?,
            };
            match outcome {
                Outcome::Rows(rows, _) => {
                    if let Some(portal) = self.portals.get_mut(&name) {
                        portal.rows = Some(rows.into());
                    }
                }
                Outcome::Tag(tag) => {
                    if let Some(portal) = self.portals.get_mut(&name) {
                        portal.done = true;
                    }
                    self.executed(&sql)?;
                    self.complete(&tag);
                    return Ok(());
                }
                Outcome::CopyOut(rows) => {
                    if let Some(portal) = self.portals.get_mut(&name) {
                        portal.done = true;
                    }
                    self.copy_out(&rows);
                    self.executed(&sql)?;
                    self.complete(&rows_tag("COPY", rows.len()));
                    return Ok(());
                }
                Outcome::CopyIn(table) => {
                    if let Some(portal) = self.portals.get_mut(&name) {
                        portal.done = true;
                    }
                    self.begin_copy(table);
                    return Ok(());
                }
            }
        }
        let portal = self.portals.get_mut(&name);
        let rows = portal.and_then(|p| p.rows.as_mut()).expect("rows");
        let take = if limit == 0 {
            rows.len()
        } else {
            limit.min(rows.len())
        };
        let now: Vec<String> = rows.drain(..take).collect();
        self.rows(&now);
        if limit > 0 && now.len() == limit {
            self.say(b's', "");
            return Ok(());
        }
        self.executed(&sql)?;
        let tag = match &*sql {
            Sql::Show(_) => "SHOW",
            Sql::Fetch { .. } => "FETCH",
            Sql::Write(write) => write.tag,
            Sql::Select(select) => select.tag,
            _ => "SELECT",
        };
        self.complete(&rows_tag(tag, now.len()));
        Ok(())
    }

    fn executed(&mut self, sql: &Sql) -> Done {
        if sql.is_transaction() || matches!(sql, Sql::Discard(what) if what == "ALL") {
            return self.finish();
        }
        Ok(())
    }

    fn portal_rows(&mut self, name: &str, select: &Select) -> Done<Outcome> {
        let Some(portal) = self.portals.get(name) else {
            return failure("34000", "gone");
        };
        let snapshot = portal.snapshot.clone();
        self.select(select, &snapshot)
    }

    fn close(&mut self, body: &[u8]) -> Done {
        let (name, _) = cstr(&body[1..]);
        if body[0] == b'S' {
            self.statements.remove(&name);
        } else {
            self.portals.remove(&name);
        }
        self.say(b'3', "");
        Ok(())
    }

    fn sync(&mut self) -> Done {
        self.finish()?;
        self.ready();
        Ok(())
    }

    fn begin_copy(&mut self, table: String) {
        self.say(b'G', "\0\0\0");
        self.flush();
        self.copy = Some((table, 0));
    }

    fn copy_message(&mut self, kind: u8, body: &[u8]) {
        let done = match kind {
            b'd' if body == b"bad" => failure("22P02", "invalid input syntax"),
            b'd' => {
                if let Some((_, rows)) = &mut self.copy {
                    *rows += 1;
                }
                return;
            }
            b'c' => self.end_copy(),
            b'f' => failure("57014", "COPY from stdin failed"),
            b'H' | b'S' => return,
            _ => failure("08P01", "unexpected message type during COPY from stdin"),
        };
        if let Err(failure) = done {
            self.failed(&failure);
        }
    }

    fn end_copy(&mut self) -> Done {
        let Some((table, rows)) = self.copy.take() else {
            return Ok(());
        };
        self.transaction.state.add(&table, rows)?;
        let tag = format!("COPY {rows}");
        let Some((left, _)) = &self.query else {
            self.complete(&tag);
            return Ok(());
        };
        let last = left.is_empty();
        self.end_of_query(&Sql::CopyIn(table), last)?;
        self.complete(&tag);
        self.go_on()
    }

    fn copy_out(&mut self, rows: &[String]) {
        self.say(b'H', "\0\0\0");
        for row in rows {
            self.say(b'd', row);
        }
        self.say(b'c', "");
    }

    fn describe_rows(&mut self) {
        self.say(b'T', "\0\x01row\0");
    }

    fn rows(&mut self, rows: &[String]) {
        for row in rows {
            // The answers to the router's questions are columns already.
            if let Some(columns) = row.strip_prefix("columns ") {
                let count = u16::try_from(columns.len()).expect("few columns");
                frame(b'D', &mut self.out, |out| {
                    out.extend_from_slice(&count.to_be_bytes());
                    for column in columns.bytes() {
                        out.extend_from_slice(&[0, 0, 0, 1, column]);
                    }
                });
            } else {
                self.say(b'D', row);
            }
        }
    }

    fn select(&mut self, select: &Select, snapshot: &State) -> Done<Outcome> {
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

    fn write_by(&mut self, function: &str) -> Done {
        if function != "f_write" {
            return Ok(());
        }
        if self.transaction.state.read_only {
            return failure("25006", "cannot execute INSERT");
        }
        self.transaction.state.add("w1", 1)
    }

    fn current(&mut self, select: &Select) -> Done<Outcome> {
        let now = self.transaction.state.clone();
        self.select(select, &now)
    }

    /// Rows of a cursor, if it has not begun.
    fn fill(&mut self, name: &str) -> Done {
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

    fn carry_out(&mut self, sql: &Sql) -> Done<Outcome> {
        let tag = |tag: &str| Ok(Outcome::Tag(tag.to_owned()));
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
                state.default_serializable =
                    modes.serializable.unwrap_or(state.default_serializable);
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
            Sql::Lock { strong } => {
                if *strong && transaction.standby {
                    self.misled = Some("LOCK".to_owned());
                }
                transaction.lock(*strong)?;
                tag("LOCK TABLE")
            }
        }
    }

    fn carry_out_prepared(&mut self, inner: &Sql) -> Done<Outcome> {
        // PostgreSQL takes more, in ways of its own: nobody does that.
        if !matches!(inner, Sql::Select(_) | Sql::Show(_) | Sql::Write(_)) {
            return failure("0A000", "EXECUTE of a command");
        }
        self.analyse(inner)?;
        self.carry_out(inner)
    }

    fn end(
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

    fn set(&mut self, name: &str, value: i64, local: bool) {
        let state = &mut self.transaction.state;
        if name == "default_transaction_isolation" {
            state.default_serializable = self.database.borrow().serializable;
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

    fn reset_all(&mut self) {
        let serializable = self.database.borrow().serializable;
        let state = &mut self.transaction.state;
        state.parameters = [0; 2];
        state.lasting = [0; 2];
        state.default_read_only = false;
        state.default_serializable = serializable;
    }

    fn discard(&mut self, what: &str) -> Done {
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

fn rows_tag(tag: &str, rows: usize) -> String {
    match tag {
        "SHOW" | "EXPLAIN" => tag.to_owned(),
        "INSERT" => format!("INSERT 0 {rows}"),
        _ => format!("{tag} {rows}"),
    }
}

fn cstr(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.iter().position(|&b| b == 0).expect("a string");
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    (text, &bytes[end + 1..])
}
