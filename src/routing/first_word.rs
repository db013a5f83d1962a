//! The first word of a statement, of which only the beginning may have arrived.
//!
//! Skips blanks and comments as PostgreSQL does (block comments nest) and never looks
//! further than it must.

/// What a statement begins with, as far as `SHOW pool_backend_stats` tells statements apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatementKind {
    Select,
    Insert,
    Update,
    Delete,
    Ddl,
    #[default]
    Other,
}

/// The first word of `sql`, as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstWord<'a> {
    Word(&'a [u8]),
    /// Something else than a letter comes first, or nothing at all.
    None,
    /// The text ended inside blanks, a comment or the word: more may follow.
    Cut,
}

/// Finds the first word of `sql`, which may be the beginning of a longer text.
/// A NUL byte ends the text: it is the end of a Query message.
pub fn first_word(sql: &[u8]) -> FirstWord<'_> {
    let mut rest = sql;
    loop {
        rest = rest.trim_ascii_start();
        // Vertical tab is a blank for PostgreSQL and not for `trim_ascii_start`.
        match rest {
            [0x0b, tail @ ..] => rest = tail,
            [b'-', b'-', tail @ ..] => {
                match tail
                    .iter()
                    .position(|&b| b == b'\n' || b == b'\r' || b == 0)
                {
                    Some(end) => rest = &tail[end..],
                    None => return FirstWord::Cut,
                }
            }
            [b'/', b'*', tail @ ..] => match comment_end(tail) {
                Some(tail) => rest = tail,
                None => return FirstWord::Cut,
            },
            [] | [b'-'] | [b'/'] => return FirstWord::Cut,
            _ => break,
        }
    }
    let len = rest
        .iter()
        .position(|b| !(b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80))
        .unwrap_or(rest.len());
    match rest.split_at_checked(len) {
        Some((word, tail)) if len > 0 => {
            if tail.is_empty() {
                FirstWord::Cut
            } else {
                FirstWord::Word(word)
            }
        }
        _ => FirstWord::None,
    }
}

/// Behind the `*/` that ends a block comment whose `/*` has been read.
fn comment_end(mut rest: &[u8]) -> Option<&[u8]> {
    let mut depth = 1;
    loop {
        match rest {
            [b'*', b'/', tail @ ..] => {
                depth -= 1;
                if depth == 0 {
                    return Some(tail);
                }
                rest = tail;
            }
            [b'/', b'*', tail @ ..] => {
                depth += 1;
                rest = tail;
            }
            [_, tail @ ..] => rest = tail,
            [] => return None,
        }
    }
}

/// Whether a Query text that begins with `sql` may be an admin command; `None`: not enough text to tell.
pub fn may_be_admin(sql: &[u8]) -> Option<bool> {
    match first_word(sql) {
        FirstWord::Word(word) => {
            Some(word.eq_ignore_ascii_case(b"show") || word.eq_ignore_ascii_case(b"pgpool"))
        }
        FirstWord::None => Some(false),
        FirstWord::Cut => None,
    }
}

/// The kind of the (first) statement of `sql`.
pub fn kind(sql: &[u8]) -> StatementKind {
    let FirstWord::Word(word) = first_word(sql) else {
        return StatementKind::Other;
    };
    let is = |w: &str| word.eq_ignore_ascii_case(w.as_bytes());
    // By the first letter first: this runs for every statement.
    match word[0].to_ascii_lowercase() {
        b's' if is("select") => StatementKind::Select,
        b'w' if is("with") => StatementKind::Select,
        b't' if is("table") => StatementKind::Select,
        b'v' if is("values") => StatementKind::Select,
        b'i' if is("insert") => StatementKind::Insert,
        b'u' if is("update") => StatementKind::Update,
        b'd' if is("delete") => StatementKind::Delete,
        b'c' if is("create") || is("comment") => StatementKind::Ddl,
        b'a' if is("alter") => StatementKind::Ddl,
        b'd' if is("drop") => StatementKind::Ddl,
        b't' if is("truncate") => StatementKind::Ddl,
        b'g' if is("grant") => StatementKind::Ddl,
        b'r' if is("revoke") || is("reindex") => StatementKind::Ddl,
        _ => StatementKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_nested_comments_are_skipped() {
        for sql in [
            "select 1\0",
            " \t\r\n\x0bselect 1\0",
            "-- x\nselect 1\0",
            "/* a /* b */ c */select 1\0",
            "--\r/**/ select\0",
        ] {
            assert_eq!(
                first_word(sql.as_bytes()),
                FirstWord::Word(b"select"),
                "{sql:?}"
            );
        }
    }

    #[test]
    fn a_cut_text_is_not_decided() {
        for sql in ["", "  ", "sho", "/* sh", "-- show", "-", "/"] {
            assert_eq!(may_be_admin(sql.as_bytes()), None, "{sql:?}");
        }
        assert_eq!(may_be_admin(b"ShOw pool_nodes\0"), Some(true));
        assert_eq!(may_be_admin(b"PGPOOL SET"), Some(true));
        assert_eq!(may_be_admin(b"showy()\0"), Some(false));
        assert_eq!(may_be_admin(b"\0"), Some(false));
        assert_eq!(may_be_admin(b";\0"), Some(false));
    }

    #[test]
    fn the_kind_is_that_of_the_first_statement() {
        let cases = [
            ("SELECT 1;\0", StatementKind::Select),
            (
                "with x as (select 1) select * from x\0",
                StatementKind::Select,
            ),
            ("Insert into t values (1)\0", StatementKind::Insert),
            ("update t set a = 1\0", StatementKind::Update),
            ("delete from t\0", StatementKind::Delete),
            ("drop table t\0", StatementKind::Ddl),
            ("discard all\0", StatementKind::Other),
            ("(select 1)\0", StatementKind::Other),
            ("\0", StatementKind::Other),
        ];
        for (sql, want) in cases {
            assert_eq!(kind(sql.as_bytes()), want, "{sql:?}");
        }
    }
}
