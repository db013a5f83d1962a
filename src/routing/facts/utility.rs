//! Statements that are no queries: transactions, SET, PREPARE, COPY, LOCK, DDL on temporary tables.

use super::{
    Collector, Copy, CopySource, Discard, Ident, LockMode, Set, Statement, TransactionModes,
    is_ident,
    keyword::{Keyword, keyword},
};
use crate::routing::lexer::{Token, TokenKind};

impl<'a> Collector<'a, '_> {
    /// The statement that `token` begins, up to and with its semicolon.
    pub(super) fn statement(&mut self, token: Token<'a>) -> Statement {
        use Keyword as K;
        if token.kind == TokenKind::Punctuation(b'(') {
            if !self.begins_query(token) {
                self.facts.unknown = true;
            }
            return self.query(token);
        }
        if token.kind != TokenKind::Word {
            self.facts.unknown = true;
            self.skip_statement();
            return Statement::Other;
        }
        let word = keyword(token.text);
        let statement = match word {
            K::Select
            | K::With
            | K::Values
            | K::Table
            | K::Insert
            | K::Update
            | K::Delete
            | K::Merge => return self.query(token),
            K::Begin => {
                let _ = self.take_word("work") || self.take_word("transaction");
                Statement::Begin(self.transaction_modes())
            }
            K::Start if self.take_word("transaction") => Statement::Begin(self.transaction_modes()),
            K::Commit | K::End => {
                if word == K::Commit && self.take_word("prepared") {
                    Statement::FinishPrepared
                } else {
                    Statement::Commit {
                        chain: self.chain(),
                    }
                }
            }
            K::Rollback | K::Abort => self.rollback(word),
            K::Savepoint => self.with_name(Statement::Savepoint),
            K::Release => {
                self.take_word("savepoint");
                self.with_name(Statement::Release)
            }
            K::Set => self.set(),
            K::Reset => self.reset(),
            K::Show => Statement::Show,
            K::Discard => self.discard(),
            K::Prepare => return self.prepare(),
            K::Execute => self.execute(),
            K::Deallocate => {
                self.take_word("prepare");
                // A name in quotes may be "all".
                if self
                    .peek()
                    .is_some_and(|t| t.text.eq_ignore_ascii_case(b"all"))
                {
                    Statement::Deallocate(None)
                } else {
                    self.with_name(|name| Statement::Deallocate(Some(name)))
                }
            }
            K::Declare => return self.declare(),
            K::Fetch | K::Move => return Statement::Fetch(self.last_name()),
            K::Close => return Statement::ClosePortal(self.last_name()),
            K::Explain => return self.explain(),
            K::Copy => self.copy(),
            K::Lock => self.lock(),
            K::Truncate => {
                self.take_word("table");
                self.relation_list();
                Statement::Truncate
            }
            K::Create => return self.create(),
            K::Drop => return self.drop(),
            K::Call => Statement::Call,
            K::Do => Statement::Do,
            _ => {
                let words = ["alter", "import"];
                self.facts.catalog |= words
                    .iter()
                    .any(|word| token.text.eq_ignore_ascii_case(word.as_bytes()));
                Statement::Other
            }
        };
        self.skip_statement();
        statement
    }

    /// The name that the statement ends with, up to and with its semicolon; `None`: ALL, or none.
    fn last_name(&mut self) -> Option<Ident> {
        let mut last = None;
        for token in self.lexer.by_ref() {
            match token.kind {
                TokenKind::Punctuation(b';') => break,
                TokenKind::Unterminated => self.facts.unknown = true,
                _ => last = Some(token),
            }
        }
        let name = last.filter(|t| is_ident(t) && !t.text.eq_ignore_ascii_case(b"all"))?;
        Some(self.ident(name))
    }

    fn with_name(&mut self, statement: impl FnOnce(Ident) -> Statement) -> Statement {
        match self.take_ident() {
            Some(name) => statement(name),
            None => {
                self.facts.unknown = true;
                Statement::Other
            }
        }
    }

    /// `ISOLATION LEVEL ...`, `READ ONLY`, `[NOT] DEFERRABLE`, in any order, with or without commas.
    fn transaction_modes(&mut self) -> TransactionModes {
        self.modes().0
    }

    /// Of SET, which goes to the primary alone if it has READ WRITE: REPEATABLE READ that stands beside it counts
    /// as SERIALIZABLE, since standbys lack both.
    fn modes_of_set(&mut self) -> TransactionModes {
        let (mut modes, repeatable) = self.modes();
        if repeatable && modes.read_only == Some(false) {
            modes.serializable = Some(true);
        }
        modes
    }

    /// True: REPEATABLE READ is among them.
    fn modes(&mut self) -> (TransactionModes, bool) {
        let mut modes = TransactionModes::default();
        let mut repeatable = false;
        loop {
            if self.take_word("isolation") {
                self.take_word("level");
                modes.serializable = Some(self.take_word("serializable"));
                if modes.serializable == Some(false) {
                    // READ COMMITTED, REPEATABLE READ and so on.
                    repeatable = self.take_word("repeatable");
                    if !repeatable {
                        self.lexer.next();
                    }
                    self.lexer.next();
                }
            } else if self.take_word("read") {
                if self.take_word("only") {
                    modes.read_only = Some(true);
                } else if self.take_word("write") {
                    modes.read_only = Some(false);
                }
            } else if self.lexer.peek_byte() == b',' {
                self.lexer.next();
            } else if !(self.take_word("not") || self.take_word("deferrable")) {
                return (modes, repeatable);
            }
        }
    }

    fn chain(&mut self) -> bool {
        let _ = self.take_word("work") || self.take_word("transaction");
        self.take_word("and") && self.take_word("chain")
    }

    fn rollback(&mut self, word: Keyword) -> Statement {
        if word == Keyword::Rollback && self.take_word("prepared") {
            return Statement::FinishPrepared;
        }
        let _ = self.take_word("work") || self.take_word("transaction");
        if word == Keyword::Rollback && self.take_word("to") {
            self.take_word("savepoint");
            return self.with_name(Statement::RollbackTo);
        }
        Statement::Rollback {
            chain: self.chain(),
        }
    }

    fn set(&mut self) -> Statement {
        if self.take_word("constraints") {
            return Statement::Set(Set::Constraints);
        }
        // SESSION and LOCAL may be the beginning of a name of two parts, or of other commands.
        let session = self.take_word("session");
        let local = !session && self.take_word("local");
        if session && self.take_word("characteristics") {
            self.take_word("as");
            self.take_word("transaction");
            return Statement::Set(Set::Characteristics(self.modes_of_set()));
        }
        if self.take_word("transaction") {
            if self.take_word("snapshot") {
                return Statement::Set(Set::Snapshot);
            }
            return Statement::Set(Set::Transaction(self.modes_of_set()));
        }
        let Some(token) = self.lexer.next() else {
            self.facts.unknown = true;
            return Statement::Other;
        };
        let parameter = Parameter::of(token.text);
        if parameter == Parameter::Other {
            return Statement::Set(if local { Set::Local } else { Set::Other });
        }
        if !self.take_word("to") {
            self.lexer.next();
        }
        if parameter == Parameter::SearchPath {
            return Statement::Set(Set::SearchPath {
                temporary: self.names_temporary_schema(),
                local,
            });
        }
        let value = self.peek();
        let text = value.map_or(&b""[..], |t| unquoted(t.text));
        Statement::Set(match parameter {
            Parameter::ReadOnly => Set::TransactionReadOnly(boolean(text)),
            Parameter::Isolation => Set::Transaction(TransactionModes {
                read_only: None,
                serializable: Some(text.eq_ignore_ascii_case(b"serializable")),
            }),
            _ => Set::DefaultIsolation {
                serializable: text.eq_ignore_ascii_case(b"serializable"),
            },
        })
    }

    /// Whether pg_temp is in the list that comes next.
    fn names_temporary_schema(&self) -> bool {
        self.lexer
            .take_while(|t| t.kind != TokenKind::Punctuation(b';'))
            .any(|t| unquoted(t.text).eq_ignore_ascii_case(b"pg_temp"))
    }

    fn reset(&mut self) -> Statement {
        let Some(token) = self.peek() else {
            return Statement::Reset(Set::Other);
        };
        Statement::Reset(match Parameter::of(token.text) {
            Parameter::ReadOnly => Set::TransactionReadOnly(None),
            Parameter::Isolation => Set::Transaction(TransactionModes::default()),
            Parameter::DefaultIsolation => Set::DefaultIsolation {
                serializable: false,
            },
            Parameter::SearchPath => Set::SearchPath {
                temporary: false,
                local: false,
            },
            Parameter::Other if token.text.eq_ignore_ascii_case(b"all") => Set::All,
            Parameter::Other => Set::Other,
        })
    }

    fn discard(&mut self) -> Statement {
        let kind = if self.take_word("all") {
            Discard::All
        } else if self.take_word("plans") {
            Discard::Plans
        } else if self.take_word("sequences") {
            Discard::Sequences
        } else if self.take_word("temp") || self.take_word("temporary") {
            Discard::Temp
        } else {
            self.facts.unknown = true;
            return Statement::Other;
        };
        Statement::Discard(kind)
    }

    fn prepare(&mut self) -> Statement {
        if self.peek_is("transaction") {
            // `PREPARE transaction AS ...` is possible as well.
            let mut ahead = self.lexer;
            ahead.next();
            if ahead.next().is_some_and(|t| t.kind == TokenKind::String) {
                self.skip_statement();
                return Statement::PrepareTransaction;
            }
        }
        let statement = self.with_name(Statement::Prepare);
        if self.lexer.peek_byte() == b'(' {
            self.skip_parentheses();
        }
        self.take_word("as");
        self.rest_of_query();
        statement
    }

    /// The name, and the functions that its arguments call.
    fn execute(&mut self) -> Statement {
        let statement = self.with_name(Statement::Execute);
        if let Statement::Execute(name) = statement {
            self.facts.executes.push(name);
        }
        if self.lexer.peek_byte() != b'(' {
            return statement;
        }
        let mut depth = 0;
        while let Some(token) = self.lexer.next() {
            match token.kind {
                TokenKind::Punctuation(b'(') => depth += 1,
                TokenKind::Punctuation(b')') => {
                    depth -= 1;
                    if depth == 0 {
                        return statement;
                    }
                }
                TokenKind::Unterminated => self.facts.unknown = true,
                _ if is_ident(&token) => {
                    let name = self.name(token);
                    if self.lexer.peek_byte() == b'(' {
                        self.facts.functions.push(name);
                    }
                }
                _ => {}
            }
        }
        self.facts.unknown = true;
        statement
    }

    /// The rest of a CREATE, of which nothing more is asked than whether it is filled by an EXECUTE. True:
    /// it has ON COMMIT DROP.
    fn rest_of_create(&mut self) -> bool {
        let mut depth = 0;
        let (mut drops, mut query) = (false, false);
        while let Some(token) = self.lexer.next() {
            match token.kind {
                TokenKind::Punctuation(b'(') => depth += 1,
                TokenKind::Punctuation(b')') => depth -= 1,
                TokenKind::Punctuation(b';') if depth <= 0 => return drops,
                TokenKind::Unterminated => self.facts.unknown = true,
                TokenKind::Word if depth <= 0 && token.text.eq_ignore_ascii_case(b"as") => {
                    query = true;
                    if self.take_word("execute") {
                        self.execute();
                    }
                }
                TokenKind::Word
                    if depth <= 0 && !query && token.text.eq_ignore_ascii_case(b"on") =>
                {
                    drops |= self.take_word("commit") && self.take_word("drop");
                }
                _ => {}
            }
        }
        drops
    }

    fn declare(&mut self) -> Statement {
        let statement = self.with_name(Statement::Declare);
        loop {
            match self.lexer.next() {
                Some(t) if t.kind == TokenKind::Punctuation(b';') => return statement,
                Some(t) if t.text.eq_ignore_ascii_case(b"for") => break,
                Some(_) => {}
                None => return statement,
            }
        }
        self.rest_of_query();
        statement
    }

    /// The query in the rest of the statement, for the names in it.
    fn rest_of_query(&mut self) -> Statement {
        match self.lexer.next() {
            Some(token) => self.inner_statement(token),
            None => {
                self.facts.unknown = true;
                Statement::Other
            }
        }
    }

    fn inner_statement(&mut self, token: Token<'a>) -> Statement {
        let write = token.kind == TokenKind::Word
            && matches!(
                keyword(token.text),
                Keyword::Insert | Keyword::Update | Keyword::Delete | Keyword::Merge
            );
        if write || self.begins_query(token) {
            return self.query(token);
        }
        match token.kind {
            TokenKind::Word if keyword(token.text) == Keyword::Execute => {
                self.execute();
                self.skip_statement();
            }
            // EXPLAIN ANALYZE makes the table.
            TokenKind::Word if keyword(token.text) == Keyword::Create => {
                self.facts.catalog = true;
                self.create();
            }
            TokenKind::Punctuation(b';') => {}
            _ => self.skip_statement(),
        }
        Statement::Other
    }

    fn explain(&mut self) -> Statement {
        let mut analyze = false;
        let options = self.lexer.peek_byte() == b'(' && {
            let mut ahead = self.lexer;
            ahead.next().is_some_and(|open| !self.begins_query_at(open))
        };
        if options {
            self.lexer.next();
            for token in self.lexer.by_ref() {
                match token.kind {
                    TokenKind::Punctuation(b')') => break,
                    TokenKind::Word if keyword(token.text) == Keyword::Analyze => analyze = true,
                    _ => {}
                }
            }
        } else {
            while let Some(token) = self.peek() {
                if keyword(token.text) == Keyword::Analyze {
                    analyze = true;
                } else if !token.text.eq_ignore_ascii_case(b"verbose") {
                    break;
                }
                self.lexer.next();
            }
        }
        let inner = self.rest_of_query();
        Statement::Explain {
            analyze,
            select: inner == Statement::Select,
        }
    }

    fn begins_query_at(&self, open: Token<'a>) -> bool {
        let mut ahead = Collector {
            lexer: self.lexer,
            facts: &mut super::Facts::default(),
        };
        ahead.lexer.next();
        ahead.begins_query(open)
    }

    fn copy(&mut self) -> Statement {
        let mut source = CopySource::Table;
        if self.lexer.peek_byte() == b'(' {
            self.lexer.next();
            let Some(token) = self.lexer.next() else {
                self.facts.unknown = true;
                return Statement::Other;
            };
            source = if self.query_until(token, true) == Statement::Select {
                CopySource::Select
            } else {
                CopySource::Write
            };
        } else {
            self.take_word("binary");
            match self.take_name() {
                Some(name) => self.facts.relations.push(name),
                None => self.facts.unknown = true,
            }
            if self.lexer.peek_byte() == b'(' {
                self.skip_parentheses();
            }
        }
        let from = self.take_word("from");
        if !from && !self.take_word("to") {
            self.facts.unknown = true;
        }
        let file = !(self.peek_is("stdin") || self.peek_is("stdout"));
        Statement::Copy(Copy { from, file, source })
    }

    fn lock(&mut self) -> Statement {
        self.take_word("table");
        self.relation_list();
        if !self.take_word("in") {
            return Statement::Lock(LockMode::AccessExclusive);
        }
        let mode = if self.take_word("access") {
            if self.take_word("share") {
                LockMode::AccessShare
            } else {
                LockMode::AccessExclusive
            }
        } else if self.take_word("row") {
            if self.take_word("share") {
                LockMode::RowShare
            } else {
                LockMode::RowExclusive
            }
        } else if self.take_word("share") {
            if self.take_word("update") {
                LockMode::ShareUpdateExclusive
            } else if self.take_word("row") {
                LockMode::ShareRowExclusive
            } else {
                LockMode::Share
            }
        } else {
            LockMode::Exclusive
        };
        Statement::Lock(mode)
    }

    fn create(&mut self) -> Statement {
        if self.take_word("or") {
            self.take_word("replace");
        }
        let _ = self.take_word("global") || self.take_word("local");
        let temporary = self.take_word("temporary") || self.take_word("temp");
        self.facts.catalog |= !temporary || self.joins_a_table();
        if !temporary {
            self.take_word("unlogged");
        }
        self.take_word("recursive");
        if self.take_word("function") || self.take_word("procedure") {
            self.skip_routine();
            return Statement::Other;
        }
        let object =
            self.take_word("table") || self.take_word("view") || self.take_word("sequence");
        if !object {
            self.skip_statement();
            return Statement::Other;
        }
        if self.take_word("if") {
            self.take_word("not");
            self.take_word("exists");
        }
        let name = self.take_name();
        let statement = name.map_or(Statement::Other, |name| {
            let schema = name.schema.map_or(&b""[..], |s| self.facts.text(s));
            if temporary || schema == b"pg_temp" {
                Statement::CreateTemporary(name.name)
            } else {
                Statement::Other
            }
        });
        let drops = self.rest_of_create();
        if let Statement::CreateTemporary(name) = statement
            && drops
        {
            self.facts.statements.push(Statement::DropAtCommit(name));
        }
        statement
    }

    /// INHERITS or PARTITION OF, which change what the other table is made of.
    fn joins_a_table(&self) -> bool {
        let mut partition = false;
        self.lexer
            .take_while(|t| t.kind != TokenKind::Punctuation(b';'))
            .any(|token| {
                let word = |word: &[u8]| token.text.eq_ignore_ascii_case(word);
                let joins = word(b"inherits") || partition && word(b"of");
                partition = word(b"partition");
                joins
            })
    }

    /// The rest of CREATE FUNCTION or PROCEDURE. `BEGIN ATOMIC ... END` holds statements with their
    /// semicolons.
    fn skip_routine(&mut self) {
        // Open parentheses; and, in the body, BEGIN and CASE that wait for their END.
        let (mut depth, mut open) = (0, 0);
        let mut label = false;
        while let Some(token) = self.lexer.next() {
            let word = |word: &[u8]| {
                token.kind == TokenKind::Word && !label && token.text.eq_ignore_ascii_case(word)
            };
            match token.kind {
                TokenKind::Punctuation(b'(') => depth += 1,
                TokenKind::Punctuation(b')') => depth -= 1,
                TokenKind::Punctuation(b';') if depth <= 0 && open == 0 => return,
                TokenKind::Unterminated => self.facts.unknown = true,
                _ if open > 0 && word(b"case") => open += 1,
                _ if open > 0 && word(b"end") => open -= 1,
                _ if open == 0 && depth <= 0 && word(b"begin") => {
                    open += i32::from(self.peek_is("atomic"));
                }
                _ => {}
            }
            // Behind these any word is a name.
            label = token.kind == TokenKind::Punctuation(b'.') || word(b"as");
        }
    }

    fn drop(&mut self) -> Statement {
        self.facts.catalog = true;
        let object =
            self.take_word("table") || self.take_word("view") || self.take_word("sequence");
        if !object {
            self.skip_statement();
            return Statement::Other;
        }
        if self.take_word("if") {
            self.take_word("exists");
        }
        let mut first = None;
        while let Some(name) = self.take_name() {
            let drop = Statement::Drop(name.name);
            match first {
                None => first = Some(drop),
                Some(_) => self.facts.statements.push(drop),
            }
            if self.lexer.peek_byte() != b',' {
                break;
            }
            self.lexer.next();
        }
        self.skip_statement();
        first.unwrap_or(Statement::Other)
    }

    pub(super) fn peek_is(&self, word: &str) -> bool {
        self.peek().is_some_and(|t| {
            t.kind == TokenKind::Word && t.text.eq_ignore_ascii_case(word.as_bytes())
        })
    }

    fn skip_parentheses(&mut self) {
        let mut depth = 0;
        for token in self.lexer.by_ref() {
            match token.kind {
                TokenKind::Punctuation(b'(') => depth += 1,
                TokenKind::Punctuation(b')') => {
                    depth -= 1;
                    if depth == 0 {
                        return;
                    }
                }
                TokenKind::Unterminated => self.facts.unknown = true,
                _ => {}
            }
        }
        self.facts.unknown = true;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Parameter {
    ReadOnly,
    Isolation,
    DefaultIsolation,
    SearchPath,
    Other,
}

impl Parameter {
    fn of(name: &[u8]) -> Parameter {
        let name = unquoted(name);
        if name.eq_ignore_ascii_case(b"transaction_read_only") {
            Parameter::ReadOnly
        } else if name.eq_ignore_ascii_case(b"transaction_isolation") {
            Parameter::Isolation
        } else if name.eq_ignore_ascii_case(b"default_transaction_isolation") {
            Parameter::DefaultIsolation
        } else if name.eq_ignore_ascii_case(b"search_path") {
            Parameter::SearchPath
        } else {
            Parameter::Other
        }
    }
}

fn unquoted(text: &[u8]) -> &[u8] {
    match text {
        [b'\'' | b'"', inner @ .., b'\'' | b'"'] => inner,
        _ => text,
    }
}

/// As PostgreSQL's parse_bool: unique beginnings of the words count.
fn boolean(text: &[u8]) -> Option<bool> {
    let begins = |word: &str, least: usize| {
        text.len() >= least
            && text.len() <= word.len()
            && word.as_bytes()[..text.len()].eq_ignore_ascii_case(text)
    };
    if begins("true", 1) || begins("yes", 1) || begins("on", 2) || text == b"1" {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || text == b"0" {
        Some(false)
    } else {
        None
    }
}
