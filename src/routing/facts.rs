//! What routing asks of a query string: its statements, and which relations and functions it names.
//!
//! One pass of the [`Lexer`], no tree. Where the text leaves a doubt, facts err to the side of the
//! primary: a name too many costs a look-up in the catalog, and what is no statement of PostgreSQL
//! for certain gets the flag [`Facts::is_unknown`].
//!
//! A [`Facts`] is a buffer to be used again for the next statement: names lie folded in one arena,
//! so that reading a statement allocates nothing once the buffer has grown.

mod keyword;
mod query;
mod utility;

use super::lexer::{Lexer, Token, TokenKind, identifier};

/// A part of the arena of names. Means something only to the [`Facts`] that made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ident {
    start: u32,
    end: u32,
}

/// A name with its schema, if one was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    pub schema: Option<Ident>,
    pub name: Ident,
    /// Inside parentheses: of a sub-select, a common table expression, an argument.
    pub nested: bool,
}

/// One statement, as far as its kind decides where it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Statement {
    /// Nothing but blanks, comments and semicolons.
    #[default]
    Empty,
    /// SELECT, VALUES, TABLE, WITH ... SELECT, also in parentheses.
    Select,
    Insert,
    Update,
    Delete,
    Merge,
    Copy(Copy),
    Lock(LockMode),
    /// BEGIN, START TRANSACTION.
    Begin(TransactionModes),
    /// COMMIT, END.
    Commit {
        chain: bool,
    },
    /// ROLLBACK, ABORT.
    Rollback {
        chain: bool,
    },
    Savepoint(Ident),
    Release(Ident),
    RollbackTo(Ident),
    PrepareTransaction,
    /// COMMIT PREPARED, ROLLBACK PREPARED.
    FinishPrepared,
    Set(Set),
    /// RESET name, RESET ALL.
    Reset(Set),
    Show,
    Discard(Discard),
    Prepare(Ident),
    Execute(Ident),
    /// `None`: DEALLOCATE ALL.
    Deallocate(Option<Ident>),
    Declare(Ident),
    /// FETCH, MOVE.
    Fetch(Option<Ident>),
    /// CLOSE; `None`: ALL.
    ClosePortal(Option<Ident>),
    Explain {
        analyze: bool,
        /// Of SELECT, VALUES, TABLE.
        select: bool,
    },
    Truncate,
    /// CREATE TEMPORARY TABLE, VIEW or SEQUENCE, also AS and SELECT INTO TEMPORARY.
    CreateTemporary(Ident),
    /// ON COMMIT DROP of the [`Statement::CreateTemporary`] before it.
    DropAtCommit(Ident),
    /// DROP TABLE, VIEW, SEQUENCE of one name; several are several of these.
    Drop(Ident),
    Call,
    Do,
    /// Everything else that PostgreSQL may know.
    Other,
}

impl Statement {
    /// Whether it ends the open transaction, or that of a pipeline; with AND CHAIN another one begins.
    pub fn ends_transaction(self) -> bool {
        matches!(
            self,
            Statement::Commit { .. } | Statement::Rollback { .. } | Statement::PrepareTransaction
        )
    }

    /// Whether it begins or ends a transaction, or undoes a part of one.
    pub fn begins_or_ends(self) -> bool {
        matches!(
            self,
            Statement::Begin(_)
                | Statement::Commit { .. }
                | Statement::Rollback { .. }
                | Statement::RollbackTo(_)
        )
    }

    /// Whether it begins, ends or divides transactions.
    pub fn is_transaction_command(self) -> bool {
        self.ends_transaction()
            || matches!(
                self,
                Statement::Begin(_)
                    | Statement::Savepoint(_)
                    | Statement::Release(_)
                    | Statement::RollbackTo(_)
            )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// FROM; else TO.
    pub from: bool,
    /// From or to a file or program of the server.
    pub file: bool,
    pub source: CopySource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopySource {
    Table,
    Select,
    /// A data-modifying query.
    Write,
}

/// Table lock modes, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockMode {
    AccessShare,
    RowShare,
    RowExclusive,
    ShareUpdateExclusive,
    Share,
    ShareRowExclusive,
    Exclusive,
    AccessExclusive,
}

/// Options of BEGIN, SET TRANSACTION and SET SESSION CHARACTERISTICS; `None`: not mentioned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionModes {
    pub read_only: Option<bool>,
    /// Whether the isolation level is SERIALIZABLE, or REPEATABLE READ in one SET with READ WRITE.
    pub serializable: Option<bool>,
}

/// What a SET changes, of the things that matter to routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// SET TRANSACTION, SET transaction_isolation.
    Transaction(TransactionModes),
    /// SET transaction_read_only; `None`: to DEFAULT, or to something that is no boolean.
    TransactionReadOnly(Option<bool>),
    /// SET SESSION CHARACTERISTICS.
    Characteristics(TransactionModes),
    /// SET default_transaction_isolation.
    DefaultIsolation {
        serializable: bool,
    },
    /// SET TRANSACTION SNAPSHOT.
    Snapshot,
    Constraints,
    SearchPath {
        /// It names pg_temp.
        temporary: bool,
        /// Up to the end of the transaction.
        local: bool,
    },
    /// SET LOCAL of a parameter that is none of the others.
    Local,
    /// RESET ALL.
    All,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    All,
    Plans,
    Sequences,
    Temp,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    statements: Vec<Statement>,
    relations: Vec<Name>,
    functions: Vec<Name>,
    operations: Vec<Name>,
    executes: Vec<Ident>,
    names: Vec<u8>,
    levels: Vec<query::Level>,
    /// Statements that are not empty.
    count: usize,
    /// The first byte that is no blank, 0 if there is none. Comments are no blanks here.
    first_byte: u8,
    first_written: u8,
    locking: bool,
    locking_outside: bool,
    into: bool,
    data_modifying_with: bool,
    catalog: bool,
    unknown: bool,
    unread: bool,
}

impl Facts {
    pub fn new() -> Facts {
        Facts::default()
    }

    /// Facts of one text, in a buffer of their own.
    pub fn of(sql: &[u8]) -> Facts {
        let mut facts = Facts::default();
        facts.read(sql, true);
        facts
    }

    /// Forgets the last text and reads this one. `standard_strings` is the session's
    /// standard_conforming_strings.
    pub fn read(&mut self, sql: &[u8], standard_strings: bool) {
        self.clear();
        let blanks = sql
            .iter()
            .take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c))
            .count();
        self.first_byte = sql.get(blanks).copied().unwrap_or(0);
        self.first_written = sql.first().copied().unwrap_or(0);
        Collector {
            lexer: Lexer::new(sql, standard_strings),
            facts: self,
        }
        .statements();
    }

    /// The statements of a query string, each without its semicolon.
    pub fn split(sql: &[u8], standard_strings: bool) -> Vec<&[u8]> {
        let mut lexer = Lexer::new(sql, standard_strings);
        let (mut parts, mut start) = (Vec::new(), 0);
        while let Some(token) = lexer.next() {
            if token.kind == TokenKind::Punctuation(b';') {
                let end = lexer.position();
                parts.push(sql.get(start..end - 1).unwrap_or_default());
                start = end;
            }
        }
        parts.push(sql.get(start..).unwrap_or_default());
        parts
    }

    /// Forgets the last text; of the next one, which is too long to be read, only the beginning is looked at.
    /// `single`: it is one statement.
    pub fn read_too_long(&mut self, beginning: &[u8], single: bool) {
        use super::lexer::{StatementKind as K, kind};
        self.read_unknown();
        let rows = matches!(
            kind(beginning),
            K::Select | K::Insert | K::Update | K::Delete
        );
        self.unread = !(single && rows);
    }

    /// Nobody knows what this changes.
    pub fn is_unread(&self) -> bool {
        self.unread
    }

    /// Forgets the last text; the next one is not there.
    pub fn read_unknown(&mut self) {
        self.clear();
        self.first_byte = 0;
        self.first_written = 0;
        self.count = 1;
        self.statements.push(Statement::Other);
        self.unknown = true;
    }

    fn clear(&mut self) {
        self.statements.clear();
        self.relations.clear();
        self.functions.clear();
        self.operations.clear();
        self.executes.clear();
        self.names.clear();
        self.levels.clear();
        self.count = 0;
        self.locking = false;
        self.locking_outside = false;
        self.into = false;
        self.data_modifying_with = false;
        self.catalog = false;
        self.unknown = false;
        self.unread = false;
    }

    /// How many statements there are, empty ones not counted.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The first statement: what the whole is taken for.
    pub fn first(&self) -> Statement {
        self.statements.first().copied().unwrap_or_default()
    }

    /// All statements in order. One statement may be several items: SELECT INTO TEMPORARY is a
    /// SELECT and a [`Statement::CreateTemporary`].
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// Tables and views that are named, in order, each as often as it is. Names of common table
    /// expressions are among them.
    pub fn relations(&self) -> &[Name] {
        &self.relations
    }

    /// Functions that are called.
    pub fn functions(&self) -> &[Name] {
        &self.functions
    }

    /// Operators, and types behind `::`, that are none of PostgreSQL's own by their names.
    pub fn operations(&self) -> &[Name] {
        &self.operations
    }

    /// Whether it calls code whose name it shows.
    pub fn calls_code(&self) -> bool {
        !self.functions.is_empty() || !self.operations.is_empty()
    }

    /// Prepared statements that EXECUTE names, also behind EXPLAIN and CREATE TABLE AS.
    pub fn executes(&self) -> &[Ident] {
        &self.executes
    }

    pub fn text(&self, ident: Ident) -> &[u8] {
        let range = ident.start as usize..ident.end as usize;
        self.names.get(range).unwrap_or_default()
    }

    /// Whether relations, functions and what else has a name here are ASCII all of them.
    pub fn has_ascii_names(&self) -> bool {
        self.names.is_ascii()
    }

    /// The byte that the text begins with; blanks are skipped if `skip_blanks`. 0: it is empty.
    pub fn first_byte(&self, skip_blanks: bool) -> u8 {
        if skip_blanks {
            self.first_byte
        } else {
            self.first_written
        }
    }

    /// FOR UPDATE, NO KEY UPDATE, SHARE, KEY SHARE, anywhere.
    pub fn has_locking_clause(&self) -> bool {
        self.locking
    }

    /// A locking clause of the statement itself, not of a part in parentheses.
    pub fn has_outer_locking_clause(&self) -> bool {
        self.locking_outside
    }

    /// SELECT INTO.
    pub fn has_into(&self) -> bool {
        self.into
    }

    /// INSERT, UPDATE, DELETE or MERGE in the WITH of the statement itself: deeper in, each server
    /// refuses it.
    pub fn has_data_modifying_with(&self) -> bool {
        self.data_modifying_with
    }

    /// CREATE, ALTER, DROP and the like: what the catalog says of names may be another thing now. A
    /// temporary table by itself, which changes one name, does not count.
    pub fn changes_catalog(&self) -> bool {
        self.catalog
    }

    /// What this is was not understood: PostgreSQL would refuse it, or knows more than we do.
    pub fn is_unknown(&self) -> bool {
        self.unknown
    }

    fn ident(&mut self, token: Token<'_>) -> Ident {
        self.ident_with(token, b'\\')
    }

    fn ident_with(&mut self, token: Token<'_>, escape: u8) -> Ident {
        let start = position(self.names.len());
        if !identifier(token, escape, &mut self.names) {
            self.unknown = true;
        }
        Ident {
            start,
            end: position(self.names.len()),
        }
    }
}

fn position(at: usize) -> u32 {
    // A message is shorter than 2 GiB, and so are its names.
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Reads a text into facts. What it knows of one statement lives in its methods' frames.
struct Collector<'a, 'f> {
    lexer: Lexer<'a>,
    facts: &'f mut Facts,
}

impl<'a> Collector<'a, '_> {
    fn statements(&mut self) {
        while let Some(token) = self.lexer.next() {
            if token.kind == TokenKind::Punctuation(b';') {
                continue;
            }
            self.facts.count += 1;
            let at = self.facts.statements.len();
            self.facts.statements.push(Statement::Other);
            let statement = self.statement(token);
            if let Some(place) = self.facts.statements.get_mut(at) {
                *place = statement;
            }
        }
    }

    /// The rest of a statement of which nothing more is asked, with its semicolon.
    fn skip_statement(&mut self) {
        let mut depth = 0;
        for token in self.lexer.by_ref() {
            match token.kind {
                TokenKind::Punctuation(b'(') => depth += 1,
                TokenKind::Punctuation(b')') => depth -= 1,
                TokenKind::Punctuation(b';') if depth <= 0 => return,
                TokenKind::Unterminated => self.facts.unknown = true,
                _ => {}
            }
        }
    }

    /// The next token without taking it.
    fn peek(&self) -> Option<Token<'a>> {
        let mut ahead = self.lexer;
        ahead.next()
    }

    /// Takes the next token if it is this word.
    fn take_word(&mut self, word: &str) -> bool {
        let mut ahead = self.lexer;
        let taken = ahead.next().is_some_and(|t| {
            t.kind == TokenKind::Word && t.text.eq_ignore_ascii_case(word.as_bytes())
        });
        if taken {
            self.lexer = ahead;
        }
        taken
    }

    /// Takes the next token if it is an identifier.
    fn take_ident(&mut self) -> Option<Ident> {
        let mut ahead = self.lexer;
        let token = ahead.next().filter(is_ident)?;
        self.lexer = ahead;
        Some(self.ident(token))
    }

    /// The identifier that `token`, which has just been taken, stands for.
    fn ident(&mut self, token: Token<'a>) -> Ident {
        if token.kind == TokenKind::UnicodeQuoted
            && let Some(escape) = self.take_uescape()
        {
            return self.facts.ident_with(token, escape);
        }
        self.facts.ident(token)
    }

    fn take_uescape(&mut self) -> Option<u8> {
        if !self.take_word("uescape") {
            return None;
        }
        match self.lexer.next().map(|t| t.text) {
            Some([b'\'', escape, b'\'']) => Some(*escape),
            _ => {
                self.facts.unknown = true;
                None
            }
        }
    }

    /// A name whose first part `token` is, with its schema. A third part in front is the database.
    fn name(&mut self, token: Token<'a>) -> Name {
        let mut schema = None;
        let mut name = self.ident(token);
        while self.lexer.peek_byte() == b'.' {
            let mut ahead = self.lexer;
            ahead.next();
            let Some(part) = ahead.next().filter(is_ident) else {
                break;
            };
            self.lexer = ahead;
            schema = Some(name);
            name = self.ident(part);
        }
        Name {
            schema,
            name,
            nested: false,
        }
    }

    fn take_name(&mut self) -> Option<Name> {
        let mut ahead = self.lexer;
        let token = ahead.next().filter(is_ident)?;
        self.lexer = ahead;
        Some(self.name(token))
    }

    /// Relations up to what is no list of names any more.
    fn relation_list(&mut self) {
        loop {
            self.take_word("only");
            let Some(name) = self.take_name() else { return };
            self.facts.relations.push(name);
            if self.lexer.peek_byte() == b'*' {
                self.lexer.next();
            }
            if self.lexer.peek_byte() != b',' {
                return;
            }
            self.lexer.next();
        }
    }
}

fn is_ident(token: &Token<'_>) -> bool {
    matches!(
        token.kind,
        TokenKind::Word | TokenKind::Quoted | TokenKind::UnicodeQuoted
    )
}

#[cfg(test)]
mod tests;
