use proptest::prelude::*;

use super::*;

fn lex(sql: &str) -> Vec<(TokenKind, String)> {
    lex_with(sql, true)
}

fn lex_with(sql: &str, standard: bool) -> Vec<(TokenKind, String)> {
    Lexer::new(sql.as_bytes(), standard)
        .map(|t| (t.kind, String::from_utf8_lossy(t.text).into_owned()))
        .collect()
}

fn texts(sql: &str) -> Vec<String> {
    lex(sql).into_iter().map(|(_, text)| text).collect()
}

fn name(sql: &str) -> String {
    let token = Lexer::new(sql.as_bytes(), true).next().unwrap();
    let mut out = Vec::new();
    identifier(token, b'\\', &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn strings_of_all_kinds_are_one_token() {
    for sql in [
        "'a'",
        "'it''s'",
        "E'it\\'s'",
        "e'\\\\'",
        "B'01'",
        "x'1F'",
        "N'a'",
        "U&'\\0041'",
        "''",
        "$$a'b$$",
        "$tag$ $$ ' $tag$",
        "'a\\'",
        "$ä$x$ä$",
    ] {
        assert_eq!(lex(sql), [(TokenKind::String, sql.to_owned())], "{sql}");
    }
}

#[test]
fn a_string_goes_on_behind_a_newline_and_only_there() {
    assert_eq!(lex("'a'\n  'b'").len(), 1);
    assert_eq!(lex("'a' -- c\n 'b'").len(), 1);
    assert_eq!(lex("E'a'\n'\\'' x").len(), 2);
    assert_eq!(lex("'a' 'b'").len(), 2);
    assert_eq!(lex("'a' /* \n */ 'b'").len(), 2);
}

#[test]
fn a_backslash_escapes_when_strings_do_not_conform_to_the_standard() {
    assert_eq!(lex_with("'a\\' b'", false).len(), 1);
    assert_eq!(lex_with("'a\\' b", true).len(), 2);
}

#[test]
fn comments_nest_and_begin_inside_operators() {
    assert_eq!(texts("a /* b /* c */ d */ e"), ["a", "e"]);
    assert_eq!(texts("a +/* x */ b"), ["a", "+", "b"]);
    assert_eq!(texts("a @-- b\nc"), ["a", "@", "c"]);
    assert_eq!(texts("a <=- 1"), ["a", "<=-", "1"]);
    assert_eq!(texts("-- x\r1"), ["1"]);
}

#[test]
fn what_does_not_end_is_said_so() {
    for sql in ["'a", "\"a", "$x$ a $y$", "/* a /* b */", "E'a\\'", "U&\"a"] {
        assert_eq!(
            lex(sql).last().map(|(kind, _)| *kind),
            Some(TokenKind::Unterminated),
            "{sql}"
        );
    }
}

#[test]
fn identifiers_are_folded_unquoted_and_cut_at_63_bytes() {
    assert_eq!(name("FooBar$1_é"), "foobar$1_é");
    assert_eq!(name("\"Foo \"\"Bar\""), "Foo \"Bar");
    assert_eq!(name("U&\"d\\0061t\\+000061\""), "data");
    assert_eq!(name("U&\"\\D83D\\DE00\""), "😀");
    assert_eq!(name(&"a".repeat(70)), "a".repeat(63));
    let long = format!("{}é", "a".repeat(62));
    assert_eq!(name(&long), "a".repeat(62));
    assert_eq!(name(&format!("\"{long}\"")), "a".repeat(62));
}

#[test]
fn numbers_parameters_and_casts() {
    assert_eq!(
        texts("1.5e-3 .5 $12 a::int4 1..2"),
        ["1.5e-3", ".5", "$12", "a", "::", "int4", "1", ".", ".2"]
    );
    assert_eq!(texts("foo$1$bar"), ["foo$1$bar"]);
    assert_eq!(texts("$1$2"), ["$1", "$2"]);
}

#[test]
fn a_nul_byte_ends_the_text() {
    assert_eq!(texts("a b\0c 'd"), ["a", "b"]);
}

/// A piece of SQL that is whole by itself.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_][a-z0-9_$]{0,8}",
        "[0-9]{1,4}",
        "'([a-z;\"\\\\$-]|''){0,8}'",
        "E'([a-z;\"$-]|''|\\\\'){0,8}'",
        "\"([a-z;'$-]|\"\"){1,8}\"",
        "\\$[a-z]?\\$[a-z';\" ]{0,8}",
        "[(),;.]",
        "[+<>=~!@]{1,3}",
    ]
    .prop_map(|text: String| match text.strip_prefix('$') {
        // The same tag ends a dollar quote.
        Some(rest) if text.starts_with('$') => {
            let tag = &text[..=rest.find('$').map_or(0, |at| at + 1)];
            format!("{text}{tag}")
        }
        _ => text,
    })
}

proptest! {
    #[test]
    fn any_bytes_are_lexed_to_their_end(sql in prop::collection::vec(any::<u8>(), 0..200), standard: bool) {
        let mut end = 0;
        let mut lexer = Lexer::new(&sql, standard);
        while let Some(token) = lexer.next() {
            prop_assert!(lexer.position() > end || token.text.is_empty());
            prop_assert!(lexer.position() <= sql.len());
            end = lexer.position();
            identifier(token, b'\\', &mut Vec::new());
        }
    }

    #[test]
    fn bytes_of_sql_are_lexed_to_their_end(sql in "[a-z0-9'\"$\\\\/*(),;.:&ueEUXbn \n-]{0,80}", standard: bool) {
        for token in Lexer::new(sql.as_bytes(), standard) {
            prop_assert!(!token.text.is_empty() || token.kind == TokenKind::Unterminated);
        }
    }

    /// Pieces that are set apart are lexed as by themselves.
    #[test]
    fn tokens_do_not_depend_on_their_neighbours(pieces in prop::collection::vec(piece(), 0..12), comment in prop::sample::select(vec![" ", " /* ' */ ", "/* $$ \" /* */ */"])) {
        let sql = pieces.join(comment);
        let alone: Vec<_> = pieces.iter().flat_map(|p| lex(p)).collect();
        prop_assert_eq!(lex(&sql), alone);
    }
}
