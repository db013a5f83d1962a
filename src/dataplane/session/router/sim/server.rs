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
    sql::{self, Failure, Sql, failure},
    state::{Database, PARAMETERS, State},
    transaction::{Block, Change, Level, Transaction},
};
use crate::protocol::{
    Header,
    frame::HEADER_LEN,
    messages::{frame, ready_for_query},
};

pub(super) type Done<T = ()> = Result<T, Failure>;

/// What a statement of a name stands for; `None`: an empty query.
pub(super) type Prepared = Option<Rc<Sql>>;

#[derive(Debug)]
pub(super) struct Portal {
    pub(super) sql: Prepared,
    pub(super) level: Level,
    pub(super) snapshot: State,
    /// Once it has begun.
    pub(super) rows: Option<VecDeque<String>>,
    pub(super) done: bool,
    pub(super) failed: bool,
    pub(super) hold: bool,
    pub(super) from_declare: bool,
}

pub(super) enum Outcome {
    Rows(Vec<String>, &'static str),
    Tag(String),
    CopyIn(String),
    CopyOut(Vec<String>),
}

#[derive(Debug)]
pub struct Server {
    pub transaction: Transaction,
    pub(super) database: Rc<RefCell<Database>>,
    input: Vec<u8>,
    out: Vec<u8>,
    flushed: Vec<u8>,
    pub(super) statements: HashMap<String, Prepared>,
    pub(super) portals: HashMap<String, Portal>,
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

    pub(super) fn say(&mut self, kind: u8, text: &str) {
        frame(kind, &mut self.out, |out| {
            out.extend_from_slice(text.as_bytes())
        });
    }

    pub(super) fn complete(&mut self, tag: &str) {
        self.say(b'C', &format!("{tag}\0"));
    }

    pub(super) fn warn(&mut self, code: &str) {
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

    pub(super) fn portals_follow(&mut self, change: Change) {
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

    pub(super) fn finish(&mut self) -> Done {
        if self.transaction.block == Block::Single {
            self.keep_held_cursors()?;
        }
        let change = self.transaction.finish()?;
        self.portals_follow(change);
        Ok(())
    }

    pub(super) fn keep_held_cursors(&mut self) -> Done {
        let names: Vec<String> = self
            .portals
            .iter()
            .filter(|(_, p)| p.hold && p.level > 0)
            .map(|(name, _)| name.clone())
            .collect();
        names.iter().try_for_each(|name| self.fill(name))
    }

    pub(super) fn failed_block(&self, sql: Option<&Sql>) -> Done {
        if self.transaction.block == Block::Failed && !sql.is_some_and(Sql::is_exit) {
            return failure("25P02", "current transaction is aborted");
        }
        Ok(())
    }

    /// What is found out before a statement is carried out.
    pub(super) fn analyse(&mut self, sql: &Sql) -> Done {
        self.transaction.snapshot |= sql.is_analysed();
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

    fn sync(&mut self) -> Done {
        self.finish()?;
        self.ready();
        Ok(())
    }

    pub(super) fn begin_copy(&mut self, table: String) {
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
            self.transaction.pipelining = true;
            self.complete(&tag);
            return Ok(());
        };
        let last = left.is_empty();
        self.end_of_query(&Sql::CopyIn(table), last)?;
        self.complete(&tag);
        self.go_on()
    }

    pub(super) fn copy_out(&mut self, rows: &[String]) {
        self.say(b'H', "\0\0\0");
        for row in rows {
            self.say(b'd', row);
        }
        self.say(b'c', "");
    }

    pub(super) fn describe_rows(&mut self) {
        self.say(b'T', "\0\x01row\0");
    }

    pub(super) fn rows(&mut self, rows: &[String]) {
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
}

pub(super) fn rows_tag(tag: &str, rows: usize) -> String {
    match tag {
        "SHOW" | "EXPLAIN" => tag.to_owned(),
        "INSERT" => format!("INSERT 0 {rows}"),
        _ => format!("{tag} {rows}"),
    }
}

pub(super) fn cstr(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.iter().position(|&b| b == 0).expect("a string");
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    (text, &bytes[end + 1..])
}
