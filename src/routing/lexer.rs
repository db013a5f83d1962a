//! PostgreSQL's lexical rules in one pass over the bytes of a query string, without a copy.
//!
//! Knows what decides where a token ends: nested comments, `''`, `E''`, `B''`, `X''`, `N''` and
//! `U&''` strings with their continuation over a newline, dollar quotes, quoted and Unicode
//! identifiers, operators that contain the start of a comment, parameters, numbers
//! (`src/backend/parser/scan.l` of PostgreSQL). Any bytes are accepted; a string, identifier or
//! comment that does not end is a [`TokenKind::Unterminated`]. A NUL byte ends the text, as in a
//! message of the protocol.

pub use super::first_word::{FirstWord, StatementKind, first_word, kind, may_be_admin};

/// PostgreSQL cuts identifiers to this many bytes (NAMEDATALEN - 1).
pub const IDENTIFIER_LIMIT: usize = 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Keyword or unquoted identifier.
    Word,
    /// `"..."`.
    Quoted,
    /// `U&"..."`; the escape character is a backslash unless `UESCAPE` follows.
    UnicodeQuoted,
    /// Any string constant.
    String,
    Number,
    /// `$1`.
    Parameter,
    /// One or more operator characters.
    Operator,
    /// `::`
    Cast,
    /// One of `( ) [ ] , ; . :` or a byte that begins nothing.
    Punctuation(u8),
    /// The text ends inside a string, identifier or comment.
    Unterminated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: TokenKind,
    /// As written, quotes included.
    pub text: &'a [u8],
}

/// Reads tokens; cheap to copy, so that a look ahead is a copy.
#[derive(Clone, Copy, Debug)]
pub struct Lexer<'a> {
    sql: &'a [u8],
    at: usize,
    standard_strings: bool,
    /// A comment has no end.
    open_comment: bool,
}

const BLANK: u8 = 1;
const WORD_START: u8 = 2;
const DIGIT: u8 = 3;
const OPERATOR: u8 = 4;
const QUOTE: u8 = 5;
const DOUBLE_QUOTE: u8 = 6;
const DOLLAR: u8 = 7;
const DOT: u8 = 8;
const COLON: u8 = 9;
const END: u8 = 10;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0u8;
    loop {
        table[byte as usize] = match byte {
            0 => END,
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => BLANK,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => WORD_START,
            b'0'..=b'9' => DIGIT,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*'
            | b'/' | b'%' | b'<' | b'>' | b'=' => OPERATOR,
            b'\'' => QUOTE,
            b'"' => DOUBLE_QUOTE,
            b'$' => DOLLAR,
            b'.' => DOT,
            b':' => COLON,
            _ => 0,
        };
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
    }
}

fn class(byte: u8) -> u8 {
    CLASS[usize::from(byte)]
}

fn continues_word(byte: u8) -> bool {
    matches!(class(byte), WORD_START | DIGIT | DOLLAR)
}

impl<'a> Lexer<'a> {
    /// `standard_strings`: the session's standard_conforming_strings, on by default.
    pub fn new(sql: &'a [u8], standard_strings: bool) -> Lexer<'a> {
        Lexer {
            sql,
            at: 0,
            standard_strings,
            open_comment: false,
        }
    }

    /// The position behind the last token.
    pub fn position(&self) -> usize {
        self.at
    }

    #[inline]
    fn byte(&self, at: usize) -> u8 {
        self.sql.get(at).copied().unwrap_or(0)
    }

    /// The first byte of the next token, 0 at the end: what a caller mostly needs to look ahead.
    #[inline]
    pub fn peek_byte(&mut self) -> u8 {
        self.skip_blanks();
        self.byte(self.at)
    }

    /// Blanks and comments.
    #[inline]
    pub fn skip_blanks(&mut self) {
        loop {
            match self.byte(self.at) {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'-' if self.byte(self.at + 1) == b'-' => self.at = self.line_end(self.at + 2),
                b'/' if self.byte(self.at + 1) == b'*' => self.block_comment(),
                _ => return,
            }
        }
    }

    fn line_end(&self, mut at: usize) -> usize {
        while !matches!(self.byte(at), 0 | b'\n' | b'\r') {
            at += 1;
        }
        at
    }

    #[cold]
    fn block_comment(&mut self) {
        self.at += 2;
        let mut depth = 1;
        while depth > 0 {
            match (self.byte(self.at), self.byte(self.at + 1)) {
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                }
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                }
                (0, _) => {
                    self.open_comment = true;
                    return;
                }
                _ => self.at += 1,
            }
        }
    }

    fn token(&self, kind: TokenKind, start: usize) -> Option<Token<'a>> {
        let text = self.sql.get(start..self.at).unwrap_or_default();
        Some(Token { kind, text })
    }

    /// Up to the quote that ends it; behind an escape quote `\'` goes on.
    fn quoted(
        &mut self,
        start: usize,
        quote: u8,
        escapes: bool,
        kind: TokenKind,
    ) -> Option<Token<'a>> {
        loop {
            let byte = self.byte(self.at);
            if byte == 0 {
                return self.token(TokenKind::Unterminated, start);
            }
            self.at += 1;
            if byte == quote {
                if self.byte(self.at) == quote {
                    self.at += 1;
                } else if quote == b'\'' && self.continued() {
                    continue;
                } else {
                    return self.token(kind, start);
                }
            } else if byte == b'\\' && escapes && self.byte(self.at) != 0 {
                self.at += 1;
            }
        }
    }

    /// Whether another quote follows behind blanks that contain a newline: the string goes on there.
    fn continued(&mut self) -> bool {
        let mut at = self.at;
        let mut newline = false;
        loop {
            match self.byte(at) {
                b'\n' | b'\r' => newline = true,
                b' ' | b'\t' | 0x0b | 0x0c => {}
                b'-' if self.byte(at + 1) == b'-' => {
                    at = self.line_end(at + 2);
                    continue;
                }
                b'\'' if newline => {
                    self.at = at + 1;
                    return true;
                }
                _ => return false,
            }
            at += 1;
        }
    }

    fn word(&mut self, start: usize) -> Option<Token<'a>> {
        let second = self.byte(start + 1);
        if second == b'\'' {
            let escapes = match self.byte(start) {
                b'e' | b'E' => Some(true),
                b'b' | b'B' | b'x' | b'X' => Some(false),
                b'n' | b'N' => Some(!self.standard_strings),
                _ => None,
            };
            if let Some(escapes) = escapes {
                self.at = start + 2;
                return self.quoted(start, b'\'', escapes, TokenKind::String);
            }
        }
        if second == b'&' && matches!(self.byte(start), b'u' | b'U') {
            let quote = self.byte(start + 2);
            if quote == b'\'' || quote == b'"' {
                self.at = start + 3;
                let kind = if quote == b'"' {
                    TokenKind::UnicodeQuoted
                } else {
                    TokenKind::String
                };
                return self.quoted(start, quote, false, kind);
            }
        }
        self.at = start + 1;
        while continues_word(self.byte(self.at)) {
            self.at += 1;
        }
        self.token(TokenKind::Word, start)
    }

    fn number(&mut self, start: usize) -> Option<Token<'a>> {
        let digits = |at: &mut usize, lexer: &Lexer<'a>| {
            while lexer.byte(*at).is_ascii_digit() || lexer.byte(*at) == b'_' {
                *at += 1;
            }
        };
        let mut at = start;
        digits(&mut at, self);
        // `1..2` is a range, not a number with two points.
        if self.byte(at) == b'.' && self.byte(at + 1) != b'.' {
            at += 1;
            digits(&mut at, self);
        }
        if matches!(self.byte(at), b'e' | b'E') {
            let sign = usize::from(matches!(self.byte(at + 1), b'+' | b'-'));
            if self.byte(at + 1 + sign).is_ascii_digit() {
                at += 1 + sign;
                digits(&mut at, self);
            }
        }
        self.at = at;
        self.token(TokenKind::Number, start)
    }

    fn dollar(&mut self, start: usize) -> Option<Token<'a>> {
        self.at = start + 1;
        if self.byte(self.at).is_ascii_digit() {
            while self.byte(self.at).is_ascii_digit() {
                self.at += 1;
            }
            return self.token(TokenKind::Parameter, start);
        }
        let mut end = self.at;
        if class(self.byte(end)) == WORD_START {
            while matches!(class(self.byte(end)), WORD_START | DIGIT) {
                end += 1;
            }
        }
        if self.byte(end) != b'$' {
            return self.token(TokenKind::Punctuation(b'$'), start);
        }
        let tag = self.sql.get(start..=end).unwrap_or_default();
        self.at = end + 1;
        loop {
            match self.byte(self.at) {
                0 => return self.token(TokenKind::Unterminated, start),
                b'$' if self.sql[self.at..].starts_with(tag) => {
                    self.at += tag.len();
                    return self.token(TokenKind::String, start);
                }
                _ => self.at += 1,
            }
        }
    }

    fn operator(&mut self, start: usize) -> Option<Token<'a>> {
        self.at = start + 1;
        loop {
            let (byte, next) = (self.byte(self.at), self.byte(self.at + 1));
            let comment = (byte == b'-' && next == b'-') || (byte == b'/' && next == b'*');
            if comment || class(byte) != OPERATOR {
                return self.token(TokenKind::Operator, start);
            }
            self.at += 1;
        }
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    /// The next token; `None` at the end of the text.
    #[inline]
    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blanks();
        let start = self.at;
        let byte = self.byte(start);
        if byte == 0 {
            return std::mem::take(&mut self.open_comment)
                .then(|| self.token(TokenKind::Unterminated, start))
                .flatten();
        }
        match class(byte) {
            WORD_START => self.word(start),
            DIGIT => self.number(start),
            DOT if self.byte(start + 1).is_ascii_digit() => self.number(start),
            OPERATOR => self.operator(start),
            QUOTE => {
                self.at = start + 1;
                self.quoted(start, b'\'', !self.standard_strings, TokenKind::String)
            }
            DOUBLE_QUOTE => {
                self.at = start + 1;
                self.quoted(start, b'"', false, TokenKind::Quoted)
            }
            DOLLAR => self.dollar(start),
            COLON if self.byte(start + 1) == b':' => {
                self.at = start + 2;
                self.token(TokenKind::Cast, start)
            }
            COLON if self.byte(start + 1) == b'=' => {
                self.at = start + 2;
                self.token(TokenKind::Operator, start)
            }
            _ => {
                self.at = start + 1;
                self.token(TokenKind::Punctuation(byte), start)
            }
        }
    }
}

/// Appends the identifier that `token` stands for to `out`: folded or unquoted, and cut as
/// PostgreSQL cuts it. `escape` is the character of `UESCAPE`. False if an escape is wrong.
pub fn identifier(token: Token<'_>, escape: u8, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let mut right = true;
    match token.kind {
        TokenKind::Quoted => unquote(token.text, out),
        TokenKind::UnicodeQuoted => {
            right = unescape(token.text.get(2..).unwrap_or_default(), escape, out);
        }
        _ => out.extend(token.text.iter().map(u8::to_ascii_lowercase)),
    }
    cut(start, out);
    right
}

/// On a character boundary: multi-byte characters stay whole.
fn cut(start: usize, out: &mut Vec<u8>) {
    let limit = start + IDENTIFIER_LIMIT;
    if out.len() > limit {
        let mut end = limit;
        while end > start && out[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        out.truncate(end);
    }
}

fn inner(quoted: &[u8]) -> &[u8] {
    let end = quoted.len().saturating_sub(1);
    quoted.get(1..end).unwrap_or_default()
}

fn unquote(quoted: &[u8], out: &mut Vec<u8>) {
    let mut rest = inner(quoted);
    while let Some(at) = rest.iter().position(|&b| b == b'"') {
        out.extend_from_slice(&rest[..=at]);
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

fn unescape(quoted: &[u8], escape: u8, out: &mut Vec<u8>) -> bool {
    let mut plain = Vec::new();
    unquote(quoted, &mut plain);
    let mut rest = &plain[..];
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != escape {
            out.push(byte);
            continue;
        }
        if tail.first() == Some(&escape) {
            out.push(escape);
            rest = &tail[1..];
            continue;
        }
        let (skip, len) = if tail.first() == Some(&b'+') {
            (1, 6)
        } else {
            (0, 4)
        };
        let digits = tail
            .get(skip..skip + len)
            .and_then(|d| std::str::from_utf8(d).ok());
        let Some(code) = digits.and_then(|d| u32::from_str_radix(d, 16).ok()) else {
            return false;
        };
        rest = &tail[skip + len..];
        let mut code = code;
        if (0xd800..0xdc00).contains(&code) {
            // The second half of a surrogate pair.
            let low = rest
                .strip_prefix(&[escape])
                .and_then(|r| r.get(..4))
                .and_then(|d| std::str::from_utf8(d).ok())
                .and_then(|d| u32::from_str_radix(d, 16).ok())
                .filter(|low| (0xdc00..0xe000).contains(low));
            let Some(low) = low else { return false };
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            rest = &rest[5..];
        }
        let Some(character) = char::from_u32(code) else {
            return false;
        };
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    true
}

#[cfg(test)]
mod tests;
