//! SELECT, INSERT, UPDATE, DELETE, MERGE and what contains one: finds relations and functions.
//!
//! A stack of parentheses says whether a `FROM` is one of a query and whether a comma is followed
//! by a table. That is all the grammar there is.

mod operations;
mod syntax;
mod words;

use super::{
    Collector, Statement, is_ident,
    keyword::{Keyword, keyword},
};
use crate::routing::lexer::{Token, TokenKind};
use syntax::stands_for_comma;
use words::{begins_statement, names_function};

/// One open parenthesis, or the statement itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    /// A query: a FROM in it lists tables.
    query: bool,
    from: From,
    /// Words behind the current table that are no keywords; more than one is no SQL.
    aliases: u8,
    /// Nothing has been read in it.
    first: bool,
    /// Between WITH and the main statement.
    with: bool,
    /// INSERT or MERGE: INTO names a table.
    writes_into: bool,
    /// DELETE or MERGE: USING names tables.
    using: bool,
    /// A statement that writes: SET is a clause of it, elsewhere a name.
    writes: bool,
    /// Arguments of this function, whose name a word between them would make one of the grammar's own.
    syntax: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// Not in a FROM clause.
    No,
    /// A table comes next.
    Expect,
    /// Behind a table: its alias, another table, a join.
    After,
    /// In a join condition.
    Condition,
}

/// What stood before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Start,
    Keyword(Keyword),
    /// NOT behind an operand: `a NOT LIKE b`.
    NotInfix,
    /// Name, constant, parameter.
    Operand,
    Open,
    Close,
    Comma,
    /// `*` that stands for all columns.
    Star,
    Cast,
    Other,
}

impl Level {
    fn new(query: bool, from: From) -> Level {
        Level {
            query,
            from,
            aliases: 0,
            first: true,
            with: false,
            writes_into: false,
            using: false,
            writes: false,
            syntax: None,
        }
    }
}

struct Scan {
    level: Level,
    depth: usize,
    before: Before,
    /// What stood before `before`, as far as `IS NOT DISTINCT FROM` wants to know.
    negated: bool,
    /// The next parenthesis holds a function's arguments.
    arguments: bool,
    /// [`Level::syntax`] of the next parenthesis.
    syntax: Option<usize>,
    statement: Statement,
}

impl<'a> Collector<'a, '_> {
    /// The query that `token` begins, up to and with its semicolon; says what it is.
    pub(super) fn query(&mut self, token: Token<'a>) -> Statement {
        self.query_until(token, false)
    }

    /// `inner`: ends with the parenthesis that closes the one before it, as in COPY (query) TO.
    pub(super) fn query_until(&mut self, token: Token<'a>, inner: bool) -> Statement {
        let base = self.facts.levels.len();
        let mut scan = Scan {
            level: Level::new(true, From::No),
            depth: 0,
            before: Before::Start,
            negated: false,
            arguments: false,
            syntax: None,
            statement: Statement::Select,
        };
        let mut next = Some(token);
        while let Some(token) = next {
            match token.kind {
                TokenKind::Word => self.word(&mut scan, token),
                TokenKind::Quoted | TokenKind::UnicodeQuoted => {
                    self.operand_check(&scan);
                    self.named(&mut scan, token, Keyword::None);
                }
                TokenKind::String | TokenKind::Number | TokenKind::Parameter => {
                    self.operand_check(&scan);
                    scan.before = Before::Operand;
                }
                TokenKind::Operator => {
                    self.operator(token);
                    let all = token.text == b"*"
                        && matches!(
                            scan.before,
                            Before::Comma
                                | Before::Keyword(
                                    Keyword::Select | Keyword::Distinct | Keyword::SetOperation
                                )
                        );
                    scan.before = if all { Before::Star } else { Before::Other };
                }
                TokenKind::Cast => scan.before = Before::Cast,
                TokenKind::Punctuation(b'(') => self.open(&mut scan),
                TokenKind::Punctuation(b')') => {
                    if scan.depth == 0 {
                        if inner {
                            return scan.statement;
                        }
                        self.facts.unknown = true;
                    } else {
                        scan.depth -= 1;
                        scan.level = self.facts.levels.pop().unwrap_or(scan.level);
                    }
                    scan.level.first = false;
                    scan.before = Before::Close;
                }
                TokenKind::Punctuation(b',') => {
                    if matches!(scan.level.from, From::After | From::Condition) {
                        scan.level.from = From::Expect;
                    }
                    scan.before = Before::Comma;
                }
                TokenKind::Punctuation(b';') => {
                    if scan.depth > 0 || inner {
                        self.facts.unknown = true;
                    }
                    break;
                }
                TokenKind::Punctuation(b']') => scan.before = Before::Operand,
                TokenKind::Punctuation(_) => scan.before = Before::Other,
                TokenKind::Unterminated => self.facts.unknown = true,
            }
            scan.level.first = false;
            if scan.before == Before::Open {
                scan.level.first = true;
            }
            next = self.lexer.next();
        }
        if scan.depth > 0 || inner || scan.level.with {
            self.facts.unknown = true;
        }
        self.facts.levels.truncate(base);
        scan.statement
    }

    /// All columns and then a name or constant: a misspelt FROM.
    fn operand_check(&mut self, scan: &Scan) {
        if scan.before == Before::Star {
            self.facts.unknown = true;
        }
    }

    fn open(&mut self, scan: &mut Scan) {
        let arguments = std::mem::take(&mut scan.arguments);
        let from = if scan.level.from == From::Expect && !arguments {
            // A join in parentheses, or a query.
            From::Expect
        } else {
            From::No
        };
        if scan.level.from == From::Expect {
            scan.level.from = From::After;
            scan.level.aliases = 0;
        }
        self.facts.levels.push(scan.level);
        scan.depth += 1;
        scan.level = Level::new(from == From::Expect, from);
        scan.level.syntax = scan.syntax.take();
        scan.before = Before::Open;
    }

    fn word(&mut self, scan: &mut Scan, token: Token<'a>) {
        use Keyword as K;
        let word = keyword(token.text);
        if word == K::None {
            self.operand_check(scan);
            self.named(scan, token, word);
            return;
        }
        if scan.level.syntax.is_some() && stands_for_comma(token.text) {
            self.settle_syntax(scan);
        }
        let next = self.lexer.peek_byte();
        // Behind a dot a keyword is a name; `name` takes those. Before a dot it is one as well.
        if next == b'.' {
            self.named(scan, token, word);
            return;
        }
        if scan.level.from == From::Expect && self.names_table(word, next) {
            self.named(scan, token, K::None);
            return;
        }
        if next == b'(' && names_function(scan, word) {
            self.named(scan, token, K::None);
            return;
        }
        let level = &mut scan.level;
        match word {
            K::Select => {
                level.query = true;
                level.from = From::No;
                level.with = false;
            }
            // Else an alias, or a common table expression.
            K::Values
                if level.from != From::After && !(level.with && scan.before != Before::Close) =>
            {
                level.from = From::No;
                level.with = false;
            }
            K::Table => {
                let begins = matches!(
                    scan.before,
                    Before::Start | Before::Open | Before::Keyword(K::SetOperation)
                ) || level.with;
                if begins {
                    level.query = true;
                    level.from = From::Expect;
                    level.with = false;
                }
            }
            K::With if level.first => {
                level.with = true;
                level.from = From::No;
            }
            K::With => level.aliases = 0,
            K::From => {
                let distinct = scan.before == Before::Keyword(K::Distinct) && scan.negated;
                if level.query && !distinct {
                    level.from = From::Expect;
                }
            }
            K::Join if level.from != From::No => level.from = From::Expect,
            K::On if level.from != From::No => level.from = From::Condition,
            K::Using => {
                if level.using && next != b'(' {
                    level.from = From::Expect;
                } else if level.from != From::No {
                    level.from = From::Condition;
                }
            }
            // ROWS FROM (f(), g()): expressions, not tables.
            K::Rows if level.from == From::Expect && self.take_word("from") => {
                level.from = From::After;
                level.aliases = 0;
            }
            K::Clause | K::Group | K::SetOperation | K::Fetch => level.from = From::No,
            K::Set if level.writes => level.from = From::No,
            K::For => self.locking(scan),
            K::Into => {
                self.into(scan);
                return;
            }
            K::Insert | K::Update | K::Delete | K::Merge if self.begins_write(scan, word) => {}
            K::As => scan.level.aliases = 0,
            K::Sugar => self.sugar(token, next),
            // XMLTABLE, or an expression as a table.
            K::Construct if scan.level.from == From::Expect && next == b'(' => {
                scan.arguments = true;
            }
            // CURRENT_DATE, CAST (...) as a table.
            K::Word if scan.level.from == From::Expect => {
                scan.level.from = From::After;
                scan.level.aliases = 0;
            }
            K::SyntaxFunction if next == b'(' => {
                self.syntax_function(scan, token);
                return;
            }
            K::Syntax
                if token.text.eq_ignore_ascii_case(b"escape") && scan.before == Before::Operand =>
            {
                self.system_function(b"like_escape");
            }
            _ => {}
        }
        scan.negated = match word {
            K::Is | K::Not => true,
            K::Distinct => scan.negated,
            _ => false,
        };
        let infix = word == K::Not && matches!(scan.before, Before::Operand | Before::Close);
        scan.before = if infix {
            Before::NotInfix
        } else {
            Before::Keyword(word)
        };
    }

    /// Whether a keyword is the name of the table that is due.
    fn names_table(&self, word: Keyword, next: u8) -> bool {
        use Keyword as K;
        match word {
            K::Construct | K::SyntaxFunction => next != b'(',
            K::Sugar | K::Syntax | K::Operator | K::Set | K::By | K::Recursive | K::Ordinality => {
                true
            }
            K::Values => next != b'(',
            K::Rows => !self.peek_is("from"),
            _ => begins_statement(word),
        }
    }

    /// INSERT, UPDATE, DELETE, MERGE as the beginning of a statement: itself, inside parentheses,
    /// or behind WITH.
    fn begins_write(&mut self, scan: &mut Scan, word: Keyword) -> bool {
        let main = scan.depth == 0
            && (scan.level.first
                || (scan.level.with
                    && !matches!(
                        scan.before,
                        Before::Comma | Before::Keyword(Keyword::With | Keyword::Recursive)
                    )));
        let nested = scan.depth > 0 && scan.level.first
            || scan.depth > 0 && scan.level.with && scan.before == Before::Close;
        if !main && !nested {
            return false;
        }
        if nested {
            // Deeper in, each server refuses it (0A000), so that it need not go to the primary.
            let levels = &self.facts.levels;
            let outer = levels.get(levels.len() - scan.depth..).unwrap_or_default();
            if let Some((with, before)) = outer.split_last() {
                self.facts.data_modifying_with |= with.with && before.iter().all(|l| l.first);
            }
        } else {
            scan.statement = match word {
                Keyword::Insert => Statement::Insert,
                Keyword::Update => Statement::Update,
                Keyword::Delete => Statement::Delete,
                _ => Statement::Merge,
            };
        }
        let level = &mut scan.level;
        level.query = true;
        level.with = false;
        level.writes_into = matches!(word, Keyword::Insert | Keyword::Merge);
        level.using = matches!(word, Keyword::Delete | Keyword::Merge);
        level.writes = true;
        level.from = if word == Keyword::Update {
            From::Expect
        } else {
            From::No
        };
        true
    }

    /// FOR UPDATE, FOR NO KEY UPDATE, FOR SHARE, FOR KEY SHARE.
    fn locking(&mut self, scan: &mut Scan) {
        let strength = self
            .peek()
            .filter(|t| t.kind == TokenKind::Word)
            .is_some_and(|t| {
                [&b"update"[..], b"share", b"no", b"key"]
                    .iter()
                    .any(|w| t.text.eq_ignore_ascii_case(w))
            });
        if strength {
            self.facts.locking = true;
            self.facts.locking_outside |= scan.depth == 0;
            self.lexer.next();
            scan.level.from = From::No;
        }
    }

    fn into(&mut self, scan: &mut Scan) {
        scan.before = Before::Operand;
        scan.level.from = From::No;
        if scan.level.writes_into {
            scan.level.writes_into = false;
            self.take_word("only");
            if let Some(mut name) = self.take_name() {
                name.nested = scan.depth > 0;
                self.facts.relations.push(name);
            }
            // The columns are no arguments, and an alias is no function.
            return;
        }
        self.facts.into = true;
        let temporary = self.take_word("temporary") || self.take_word("temp");
        if !temporary {
            self.take_word("unlogged");
        }
        self.take_word("table");
        self.facts.catalog |= !temporary;
        let Some(name) = self.take_name() else { return };
        if temporary {
            self.facts
                .statements
                .push(Statement::CreateTemporary(name.name));
        }
    }

    /// A name: of a table, function, type, column or alias.
    fn named(&mut self, scan: &mut Scan, token: Token<'a>, word: Keyword) {
        let before = scan.before;
        scan.before = Before::Operand;
        scan.negated = false;
        // Most names are columns: only what may be a table or function goes into the arena.
        let next = self.byte_behind(token);
        let table = scan.level.from == From::Expect;
        if before == Before::Cast && next != b'.' {
            self.cast_to(token);
            return;
        }
        if !table && next != b'(' && next != b'.' {
            if token.kind == TokenKind::UnicodeQuoted {
                // Its UESCAPE is no name of its own.
                let names = self.facts.names.len();
                self.ident(token);
                self.facts.names.truncate(names);
            }
            if word == Keyword::None
                && scan.level.from == From::After
                && matches!(
                    before,
                    Before::Operand | Before::Close | Before::Keyword(Keyword::As)
                )
            {
                scan.level.aliases = scan.level.aliases.saturating_add(1);
                if scan.level.aliases > 1 {
                    self.facts.unknown = true;
                }
            }
            return;
        }
        let (names, mark) = (self.facts.names.len(), self.facts.unknown);
        let mut name = self.name(token);
        name.nested = scan.depth > 0;
        let next = self.lexer.peek_byte();
        if before == Before::Cast {
            self.facts.operations.push(name);
            return;
        }
        if next == b'.' {
            // `name.*`: all columns.
            self.lexer.next();
            scan.before = if self.peek().is_some_and(|t| t.text == b"*") {
                self.lexer.next();
                Before::Star
            } else {
                Before::Other
            };
            self.facts.names.truncate(names);
            return;
        }
        if table {
            scan.level.aliases = 0;
            if next == b'(' {
                self.facts.functions.push(name);
                scan.level.from = From::After;
                scan.arguments = true;
            } else {
                self.facts.relations.push(name);
                scan.level.from = From::After;
            }
            return;
        }
        let function = next == b'('
            && match before {
                Before::Cast | Before::Keyword(Keyword::As | Keyword::TableSample) => false,
                // An alias with its columns.
                Before::Operand | Before::Close => scan.level.from != From::After,
                Before::Keyword(Keyword::With | Keyword::Recursive) => !scan.level.with,
                Before::Comma => !scan.level.with,
                _ => true,
            };
        if function {
            self.facts.functions.push(name);
            scan.arguments = true;
        } else {
            self.facts.names.truncate(names);
            self.facts.unknown = mark;
        }
    }

    /// The first byte behind this name and its UESCAPE.
    fn byte_behind(&mut self, token: Token<'a>) -> u8 {
        if token.kind == TokenKind::UnicodeQuoted && self.peek_is("uescape") {
            let mut ahead = self.lexer;
            ahead.next();
            ahead.next();
            return ahead.peek_byte();
        }
        self.lexer.peek_byte()
    }

    /// Whether `token` begins a query.
    pub(super) fn begins_query(&self, token: Token<'a>) -> bool {
        let mut ahead = self.lexer;
        let mut token = Some(token);
        while token.is_some_and(|t| t.kind == TokenKind::Punctuation(b'(')) {
            token = ahead.next();
        }
        token.filter(is_ident).is_some_and(|t| {
            t.kind == TokenKind::Word
                && matches!(
                    keyword(t.text),
                    Keyword::Select | Keyword::With | Keyword::Values | Keyword::Table
                )
        })
    }
}
