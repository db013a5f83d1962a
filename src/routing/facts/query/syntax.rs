//! What the grammar turns into calls of functions: SUBSTRING(a FROM b), AT TIME ZONE and the like.

use super::{
    super::{Collector, Ident, Name, keyword::Keyword, position},
    Before, Scan,
};
use crate::routing::lexer::Token;

impl<'a> Collector<'a, '_> {
    /// The grammar turns these into calls of functions of pg_catalog.
    pub(super) fn syntax_function(&mut self, scan: &mut Scan, token: Token<'a>) {
        if token.text.eq_ignore_ascii_case(b"trim") {
            let mut ahead = self.lexer;
            ahead.next();
            let side = ahead.next().map_or(&b""[..], |t| t.text);
            self.system_function(if side.eq_ignore_ascii_case(b"leading") {
                b"ltrim"
            } else if side.eq_ignore_ascii_case(b"trailing") {
                b"rtrim"
            } else {
                b"btrim"
            });
        } else {
            // SUBSTRING(a, b) is a call like any other: of a function in the search path. SUBSTRING(a FROM b)
            // is not; a look ahead for the FROM would cost the square of the depth of such calls.
            let at = self.facts.functions.len();
            self.named(scan, token, Keyword::None);
            scan.syntax = (self.facts.functions.len() > at).then_some(at);
        }
        scan.arguments = true;
        scan.before = Before::Operand;
    }

    /// A word stands between the arguments: the function is the one of pg_catalog.
    pub(super) fn settle_syntax(&mut self, scan: &mut Scan) {
        let start = self.facts.names.len();
        self.facts.names.extend_from_slice(PG_CATALOG);
        let schema = ident(start, self.facts.names.len());
        let function = scan.level.syntax.take();
        if let Some(function) = function.and_then(|at| self.facts.functions.get_mut(at)) {
            function.schema = Some(schema);
        }
    }

    pub(super) fn sugar(&mut self, token: Token<'a>, next: u8) {
        match token.text.first().map(u8::to_ascii_lowercase) {
            Some(b's') => self.system_function(b"similar_to_escape"),
            Some(b'o') if next == b'(' => self.system_function(b"overlaps"),
            Some(b'a') if matches!(next, b't' | b'T') => self.system_function(b"timezone"),
            _ => {}
        }
    }

    pub(super) fn system_function(&mut self, name: &[u8]) {
        let names = &mut self.facts.names;
        let start = names.len();
        names.extend_from_slice(PG_CATALOG);
        let middle = names.len();
        names.extend(name.iter().map(u8::to_ascii_lowercase));
        let end = names.len();
        self.facts.functions.push(Name {
            schema: Some(ident(start, middle)),
            name: ident(middle, end),
            nested: false,
        });
    }
}

const PG_CATALOG: &[u8] = b"pg_catalog";

/// Whether a word separates the arguments of EXTRACT, POSITION, SUBSTRING or OVERLAY.
pub(super) fn stands_for_comma(word: &[u8]) -> bool {
    ["from", "for", "in", "placing", "similar"]
        .iter()
        .any(|separator| word.eq_ignore_ascii_case(separator.as_bytes()))
}

fn ident(start: usize, end: usize) -> Ident {
    Ident {
        start: position(start),
        end: position(end),
    }
}
