//! Operators and casts: they call functions whose names do not stand in the statement.
//!
//! PostgreSQL's own are told by their names alone, so that ordinary statements ask the catalog nothing
//! more. A name that is missing here costs a question, whose answer is remembered.

use super::super::{Collector, Name, is_ident, position};
use crate::routing::{
    facts::Ident,
    lexer::{Token, TokenKind},
};

impl<'a> Collector<'a, '_> {
    pub(super) fn operator(&mut self, token: Token<'a>) {
        let symbol = without_sign(token.text);
        if is_system_operator(symbol) {
            return;
        }
        let start = position(self.facts.names.len());
        self.facts.names.extend_from_slice(symbol);
        let name = Ident {
            start,
            end: position(self.facts.names.len()),
        };
        self.facts.operations.push(Name {
            schema: None,
            name,
            nested: false,
        });
    }

    /// A type without a schema, behind `::`.
    pub(super) fn cast_to(&mut self, token: Token<'a>) {
        debug_assert!(is_ident(&token));
        if token.kind == TokenKind::Word && is_system_type(token.text) {
            return;
        }
        let name = self.name(token);
        self.facts.operations.push(name);
    }
}

/// A sign behind an operator belongs to its operand, unless the operator has a character that is none of
/// SQL's own (`a<-1`; `src/backend/parser/scan.l` of PostgreSQL 15).
fn without_sign(symbol: &[u8]) -> &[u8] {
    if symbol.iter().any(|byte| b"~!@#^&|`?%".contains(byte)) {
        return symbol;
    }
    let end = symbol.iter().rposition(|byte| !b"+-".contains(byte));
    symbol.get(..=end.unwrap_or(0)).unwrap_or(symbol)
}

fn is_system_operator(symbol: &[u8]) -> bool {
    match symbol {
        [one] => !matches!(one, b'`' | b'!'),
        _ => OPERATORS.contains(&symbol),
    }
}

fn is_system_type(name: &[u8]) -> bool {
    TYPES.iter().any(|system| name.eq_ignore_ascii_case(system))
}

/// Of pg_operator of PostgreSQL 15, those of two characters and more, and what the lexer turns into one.
const OPERATORS: [&[u8]; 60] = [
    b"<=", b">=", b"<>", b"!=", b"||", b"->", b"~~", b"!~", b"~*", b"@>", b"<@", b"&&", b"=>",
    b"<<", b">>", b"##", b"#-", b"#>", b"&<", b"&>", b"*<", b"*=", b"*>", b"<^", b">^", b"?#",
    b"?&", b"?-", b"?|", b"@?", b"@@", b"^@", b"|/", b"~=", b"!!", b"->>", b"#>>", b"!~*", b"!~~",
    b"&<|", b"*<=", b"*<>", b"*>=", b"-|-", b"<->", b"<<=", b"<<|", b">>=", b"?-|", b"?||", b"@-@",
    b"@@@", b"|&>", b"|>>", b"||/", b"~<~", b"~>~", b"~~*", b"!~~*", b"~<=~",
];

/// Those that statements cast to.
const TYPES: [&[u8]; 48] = [
    b"text",
    b"int",
    b"integer",
    b"int4",
    b"int8",
    b"bigint",
    b"int2",
    b"smallint",
    b"date",
    b"numeric",
    b"timestamp",
    b"timestamptz",
    b"varchar",
    b"bool",
    b"boolean",
    b"uuid",
    b"jsonb",
    b"json",
    b"regclass",
    b"time",
    b"timetz",
    b"interval",
    b"float8",
    b"float4",
    b"float",
    b"real",
    b"double",
    b"decimal",
    b"char",
    b"character",
    b"bpchar",
    b"name",
    b"bytea",
    b"oid",
    b"xml",
    b"inet",
    b"cidr",
    b"money",
    b"bit",
    b"varbit",
    b"point",
    b"tsvector",
    b"tsquery",
    b"regproc",
    b"regtype",
    b"regrole",
    b"regnamespace",
    b"regprocedure",
];

#[cfg(test)]
mod tests {
    use crate::routing::facts::Facts;

    fn operations(sql: &str) -> Vec<String> {
        let facts = Facts::of(sql.as_bytes());
        let text = |name| String::from_utf8_lossy(facts.text(name)).into_owned();
        let shown = |n: &super::Name| match n.schema {
            Some(schema) => format!("{}.{}", text(schema), text(n.name)),
            None => text(n.name),
        };
        facts.operations().iter().map(shown).collect()
    }

    #[test]
    fn operators_and_casts_that_are_none_of_postgresqls_own_are_named() {
        for (sql, want) in [
            (
                "SELECT a <#> b FROM t WHERE c = 1 AND d->>'x' ~* 'y'",
                &["<#>"][..],
            ),
            ("SELECT ! a, b || c", &["!"]),
            ("SELECT a::int, b::TEXT, c::positive FROM t", &["positive"]),
            (
                "SELECT '1'::app.Positive[], 2::\"Big\"",
                &["app.positive", "Big"],
            ),
            ("SELECT a::numeric(10, 2), b::small(3)", &["small"]),
            ("SELECT a -1, b <-1, c * -1, d.* FROM d", &[]),
            ("SELECT now()::date - interval '1 day'", &[]),
            ("INSERT INTO t VALUES (1::positive)", &["positive"]),
        ] {
            assert_eq!(operations(sql), want, "{sql}");
        }
    }

    #[test]
    fn the_table_behind_a_cast_is_a_table() {
        let facts = Facts::of(b"SELECT a::positive FROM t, u WHERE b::app.small = 1");
        assert_eq!(facts.relations().len(), 2);
        assert!(facts.functions().is_empty() && !facts.is_unknown());
    }
}
