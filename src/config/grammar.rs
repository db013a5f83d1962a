//! The shape of pgpool.conf: tokens, settings, comments, and where each of them stands.
//!
//! Knows no parameter. The rules are those of the scanner `src/config/pool_config.l`
//! (3.7 to 4.7): the longest token wins, `=` may be left out, line ends mean nothing between
//! settings, and any token at all may stand as a value. Two things are taken that the original
//! trips over: a byte order mark, and a comment on a last line without a line end.

use nom::{
    IResult, Parser,
    branch::alt,
    bytes::complete::{is_not, tag, take, take_while, take_while_m_n, take_while1},
    character::complete::{char, one_of},
    combinator::{fail, opt, recognize},
    sequence::{pair, preceded},
};

/// One-based place in a text; columns count bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

/// A name and its value as written, before any type is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    pub at: Position,
    /// Quotes are gone; nothing is unescaped, for the original does not either.
    pub value: String,
    pub form: Form,
    pub value_at: Position,
    /// The token of the value in the original's count, for messages.
    pub token: u8,
    /// The token as written.
    pub raw: String,
}

/// How a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Quoted,
    Bare,
    /// A single character that begins no token, such as `*`, `/` or an unclosed quote.
    Symbol,
    /// Nothing stands behind the name: the line end is the value.
    LineEnd,
    /// Nothing stands behind the name, and the file ends.
    FileEnd,
}

/// What no release can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    pub at: Position,
    /// The offending token, and its number in the original's message. `*****` behind the name of a
    /// password, whose value it may be.
    pub text: String,
    pub token: u8,
}

/// What is read otherwise than by the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// The original makes it part of the first name, which is lost.
    ByteOrderMark,
    /// A syntax error on the original.
    CommentAtFileEnd,
}

/// A file that has been taken apart. Always whole: errors do not end the reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    pub settings: Vec<Setting>,
    pub errors: Vec<SyntaxError>,
    pub oddities: Vec<(Position, Oddity)>,
    /// Names of `#name = value` at the start of a line.
    pub commented_out: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Key,
    Integer,
    Real,
    Quoted,
    Unquoted,
    Equals,
    LineEnd,
    Symbol,
}

impl Kind {
    /// The numbers that `parse error at line N 'TEXT' token = K` prints.
    fn number(self) -> u8 {
        match self {
            Kind::Key => 1,
            Kind::Integer => 2,
            Kind::Real => 3,
            Kind::Quoted => 4,
            Kind::Unquoted => 5,
            Kind::Equals => 6,
            Kind::LineEnd => 7,
            Kind::Symbol => 8,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a [u8],
}

/// Takes a file apart. Never fails: what cannot be read is in [`Document::errors`].
pub fn parse(bytes: &[u8]) -> Document {
    let mut document = Document::default();
    let lines = Lines::of(bytes);
    let mut rest = bytes;
    if let Some(behind) = bytes.strip_prefix(b"\xef\xbb\xbf") {
        document
            .oddities
            .push((lines.position(0), Oddity::ByteOrderMark));
        rest = behind;
    }
    document.commented_out = commented_out(rest);
    let mut reader = Reader {
        bytes,
        rest,
        lines,
        document,
    };
    while let Some((at, token)) = reader.next() {
        match token.kind {
            Kind::LineEnd => {}
            Kind::Key => reader.setting(at, token),
            _ => reader.error(at, token),
        }
    }
    reader.document
}

struct Reader<'a> {
    bytes: &'a [u8],
    rest: &'a [u8],
    lines: Lines,
    document: Document,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<(usize, Token<'a>)> {
        loop {
            let (behind, _) = blanks(self.rest).ok()?;
            self.rest = behind;
            let at = self.bytes.len() - self.rest.len();
            if let Ok((behind, _)) = comment(self.rest) {
                self.rest = behind;
                if behind.is_empty() {
                    let place = self.lines.position(at);
                    let oddity = (place, Oddity::CommentAtFileEnd);
                    self.document.oddities.push(oddity);
                }
                continue;
            }
            let (behind, token) = token(self.rest).ok()?;
            self.rest = behind;
            return Some((at, token));
        }
    }

    fn setting(&mut self, name_at: usize, name: Token<'a>) {
        let mut value = self.next();
        if value.is_some_and(|(_, token)| token.kind == Kind::Equals) {
            value = self.next();
        }
        let end = self.bytes.len();
        let (value_at, form, token, raw) = match value {
            None => (end, Form::FileEnd, 0, &b""[..]),
            Some((at, token)) => {
                let form = match token.kind {
                    Kind::Quoted => Form::Quoted,
                    Kind::LineEnd => Form::LineEnd,
                    Kind::Symbol | Kind::Equals => Form::Symbol,
                    Kind::Key | Kind::Integer | Kind::Real | Kind::Unquoted => Form::Bare,
                };
                (at, form, token.kind.number(), token.text)
            }
        };
        let inner = match (form, raw) {
            (Form::Quoted, [_, inner @ .., _]) => inner,
            _ => raw,
        };
        // The original keeps C strings.
        let inner = inner.split(|b| *b == 0).next().unwrap_or_default();
        let at = self.lines.position(name_at);
        // Behind an unclosed quote the words of a password are taken for names and values.
        let is_password = self.document.settings.last().is_some_and(|last| {
            let unclosed = last.form == Form::Symbol && names_a_password(last.name.as_bytes());
            last.at.line == at.line && (last.name == HIDDEN || unclosed)
        });
        let shown = |text: &[u8]| match is_password {
            true => HIDDEN.to_owned(),
            false => lossy(text),
        };
        self.document.settings.push(Setting {
            name: shown(name.text),
            at,
            value: shown(inner),
            form,
            value_at: self.lines.position(value_at),
            token,
            raw: shown(raw),
        });
    }

    /// Notes the error and goes on at the next line.
    fn error(&mut self, at: usize, token: Token<'a>) {
        let position = self.lines.position(at);
        let column = position.column as usize;
        let before = self.bytes.get((at + 1).saturating_sub(column)..at);
        let text = if names_a_password(before.unwrap_or_default()) {
            HIDDEN.to_owned()
        } else {
            lossy(token.text)
        };
        self.document.errors.push(SyntaxError {
            at: position,
            text,
            token: token.kind.number(),
        });
        let end = self.rest.iter().position(|b| *b == b'\n');
        self.rest = end.map_or(&[][..], |end| &self.rest[end..]);
    }
}

/// Whether a line that begins so may hold a secret: `health_check_password`, `wd_authkey` and their
/// like, misspelt or not.
/// In the place of what may be a password.
const HIDDEN: &str = "*****";

fn names_a_password(line: &[u8]) -> bool {
    let line = line.to_ascii_lowercase();
    let has = |word: &[u8]| line.windows(word.len()).any(|part| part == word);
    !line.starts_with(b"pool_passwd") && (has(b"passw") || has(b"pasw") || has(b"authkey"))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `\r` is a blank, which is why files with CRLF work.
fn blanks(i: &[u8]) -> IResult<&[u8], &[u8]> {
    take_while(|b| matches!(b, b' ' | b'\t' | b'\r')).parse(i)
}

fn comment(i: &[u8]) -> IResult<&[u8], &[u8]> {
    recognize(pair(char('#'), opt(is_not("\n")))).parse(i)
}

/// The longest token; the earlier rule wins a tie, so a plain word is a key.
fn token(i: &[u8]) -> IResult<&[u8], Token<'_>> {
    type Rule = for<'b> fn(&'b [u8]) -> IResult<&'b [u8], &'b [u8]>;
    const RULES: [(Kind, Rule); 8] = [
        (Kind::Key, key),
        (Kind::Quoted, quoted),
        (Kind::Unquoted, unquoted),
        (Kind::Integer, integer),
        (Kind::Real, real),
        (Kind::Equals, equals),
        (Kind::LineEnd, line_end),
        (Kind::Symbol, symbol),
    ];
    let mut longest: IResult<&[u8], Token<'_>> = Err(nom::Err::Error(nom::error::Error::new(
        i,
        nom::error::ErrorKind::Eof,
    )));
    for (kind, rule) in RULES {
        let Ok((rest, text)) = rule(i) else { continue };
        if !matches!(&longest, Ok((_, best)) if best.text.len() >= text.len()) {
            longest = Ok((rest, Token { kind, text }));
        }
    }
    longest
}

fn is_letter(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_' || b >= 0x80
}

fn letter(i: &[u8]) -> IResult<&[u8], &[u8]> {
    take_while_m_n(1, 1, is_letter).parse(i)
}

fn key(i: &[u8]) -> IResult<&[u8], &[u8]> {
    recognize(pair(
        letter,
        take_while(|b: u8| is_letter(b) || b.is_ascii_digit()),
    ))
    .parse(i)
}

fn unquoted(i: &[u8]) -> IResult<&[u8], &[u8]> {
    recognize(pair(
        letter,
        take_while(|b: u8| is_letter(b) || b.is_ascii_digit() || b"-._:/".contains(&b)),
    ))
    .parse(i)
}

/// With the letters of a unit behind it, as since 4.2; without them `10s` would be two tokens.
fn integer(i: &[u8]) -> IResult<&[u8], &[u8]> {
    let hex = pair(tag("0x"), take_while1(|b: u8| b.is_ascii_hexdigit()));
    let decimal = take_while1(|b: u8| b.is_ascii_digit());
    recognize((
        opt(one_of("+-")),
        alt((recognize(hex), decimal)),
        take_while(|b: u8| b.is_ascii_alphabetic()),
    ))
    .parse(i)
}

fn real(i: &[u8]) -> IResult<&[u8], &[u8]> {
    let digits = |i| take_while(|b: u8| b.is_ascii_digit()).parse(i);
    let exponent = (
        one_of("eE"),
        opt(one_of("+-")),
        take_while1(|b: u8| b.is_ascii_digit()),
    );
    recognize((opt(one_of("+-")), digits, char('.'), digits, opt(exponent))).parse(i)
}

/// On one line. A quote behind a backslash may be inside or the end: the longest reading wins.
fn quoted(i: &[u8]) -> IResult<&[u8], &[u8]> {
    let (inside, _) = char('\'').parse(i)?;
    let (_, line) = take_while(|b| b != b'\n').parse(inside)?;
    let mut end = None;
    for (at, _) in line.iter().enumerate().filter(|(_, b)| **b == b'\'') {
        end = Some(at);
        if at == 0 || line[at - 1] != b'\\' {
            break;
        }
    }
    match end {
        // Both quotes count.
        Some(end) => take(end + 2).parse(i),
        None => fail().parse(i),
    }
}

fn equals(i: &[u8]) -> IResult<&[u8], &[u8]> {
    tag("=").parse(i)
}

fn line_end(i: &[u8]) -> IResult<&[u8], &[u8]> {
    tag("\n").parse(i)
}

fn symbol(i: &[u8]) -> IResult<&[u8], &[u8]> {
    take(1usize).parse(i)
}

/// Settings that somebody has switched off, or that a sample shows: `#name = value`.
fn commented_out(bytes: &[u8]) -> Vec<String> {
    let setting = |i| {
        let name = preceded(char('#'), key);
        (name, blanks, equals).parse(i)
    };
    bytes
        .split(|b| *b == b'\n')
        .filter_map(|line| {
            let (_, (name, _, _)) = setting(line).ok()?;
            Some(lossy(name))
        })
        .collect()
}

/// Offsets at which lines begin.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn of(bytes: &[u8]) -> Lines {
        let ends = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n');
        let starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1));
        Lines {
            starts: starts.collect(),
        }
    }

    fn position(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self
            .starts
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or(0);
        Position {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(offset - start + 1).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests;
