//! The few SQL tokens that admin commands are made of.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Identifier or keyword, in lower case.
    Word(String),
    /// Identifier in double quotes, as written.
    Quoted(String),
    /// String constant.
    Text(String),
    /// Without a sign.
    Number(String),
    Symbol(u8),
    End,
}

#[derive(Clone)]
pub(super) struct Lexer<'a> {
    rest: &'a [u8],
}

impl<'a> Lexer<'a> {
    pub(super) fn new(sql: &'a [u8]) -> Lexer<'a> {
        Lexer { rest: sql }
    }

    /// The first byte of what comes next.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// All that is left, without blanks and comments in front.
    pub(super) fn rest(mut self) -> &'a [u8] {
        // A comment that does not end is a part of it.
        let _ = self.skip_blanks();
        self.rest
    }

    /// `None`: a comment does not end.
    pub(super) fn skip_blanks_and_semicolons(&mut self) -> Option<()> {
        loop {
            self.skip_blanks()?;
            match self.rest {
                [b';', rest @ ..] => self.rest = rest,
                _ => return Some(()),
            }
        }
    }

    pub(super) fn take_symbol(&mut self, symbol: u8) -> bool {
        let Some(rest) = self.rest.strip_prefix(&[symbol]) else {
            return false;
        };
        self.rest = rest;
        true
    }

    /// `None`: something that does not end, or no token of an admin command.
    pub(super) fn next(&mut self) -> Option<Token> {
        self.skip_blanks()?;
        let Some(&first) = self.rest.first() else {
            return Some(Token::End);
        };
        match first {
            b'"' => self.quoted(b'"').map(Token::Quoted),
            b'\'' => self.quoted(b'\'').map(Token::Text),
            b'0'..=b'9' => {
                let number = self.take_while(|b| b.is_ascii_alphanumeric() || b == b'.');
                Some(Token::Number(text(number)))
            }
            b if is_word_start(b) => {
                let word = self.take_while(|b| is_word_start(b) || b.is_ascii_digit() || b == b'$');
                Some(Token::Word(text(word).to_ascii_lowercase()))
            }
            symbol => {
                self.rest = &self.rest[1..];
                Some(Token::Symbol(symbol))
            }
        }
    }

    fn skip_blanks(&mut self) -> Option<()> {
        loop {
            match self.rest {
                [b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, rest @ ..] => self.rest = rest,
                [b'-', b'-', ..] => {
                    self.take_while(|b| b != b'\n' && b != b'\r');
                }
                [b'/', b'*', rest @ ..] => self.rest = comment_end(rest)?,
                // Nothing after a NUL belongs to the statement.
                [0, ..] => self.rest = &[],
                _ => return Some(()),
            }
        }
    }

    fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self
            .rest
            .iter()
            .position(|&b| !accept(b))
            .unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    /// A doubled quote stands for itself.
    fn quoted(&mut self, quote: u8) -> Option<String> {
        let mut content = Vec::new();
        self.take_symbol(quote);
        loop {
            content.extend_from_slice(self.take_while(|b| b != quote && b != 0));
            if !self.take_symbol(quote) {
                return None;
            }
            if !self.take_symbol(quote) {
                return Some(text(&content));
            }
            content.push(quote);
        }
    }
}

/// What follows the end of a comment, which may hold others.
fn comment_end(mut rest: &[u8]) -> Option<&[u8]> {
    let mut depth = 1;
    while depth > 0 {
        match rest {
            [b'*', b'/', after @ ..] => {
                depth -= 1;
                rest = after;
            }
            [b'/', b'*', after @ ..] => {
                depth += 1;
                rest = after;
            }
            [_, after @ ..] => rest = after,
            [] => return None,
        }
    }
    Some(rest)
}

fn is_word_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_' || b >= 0x80
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
