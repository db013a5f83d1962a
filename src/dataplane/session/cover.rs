//! An answer that acknowledges a write waits until a majority of the watchdog nodes was heard of behind it
//! ([`crate::watchdog::write_lease`]).
//!
//! Which answers those are is told by the tags of CommandComplete: what changes something, outside a transaction
//! block; inside one nothing is acknowledged before its end. What cannot be told by its tag is not waited for: a
//! SELECT that calls a function which writes, `SELECT INTO` and `CREATE TABLE AS`, each outside a block.

/// An answer that waits, with all that came in the same read.
#[derive(Debug)]
pub struct Uncovered {
    /// What is the client's of it.
    pub bytes: Vec<u8>,
    pub read_at: u64,
    /// The client stands between two messages as long as it does not have it.
    pub between_messages: bool,
}

/// First words of the tags of statements that leave nothing behind. All others do.
const READS: [&[u8]; 24] = [
    b"SELECT",
    b"FETCH",
    b"MOVE",
    b"SHOW",
    b"SET",
    b"RESET",
    b"BEGIN",
    b"START",
    b"ROLLBACK",
    b"SAVEPOINT",
    b"RELEASE",
    b"DECLARE",
    b"CLOSE",
    b"LISTEN",
    b"UNLISTEN",
    b"DISCARD",
    b"DEALLOCATE",
    b"PREPARE",
    b"EXPLAIN",
    b"LOCK",
    b"LOAD",
    b"CHECKPOINT",
    b"VACUUM",
    b"ANALYZE",
];

/// Whether CommandComplete with this body acknowledges that something stays. `in_block`: the statement was one
/// of a transaction block.
pub fn acknowledges(body: &[u8], in_block: bool) -> bool {
    let tag = body.strip_suffix(b"\0").unwrap_or(body);
    let word = tag.split(|&b| b == b' ').next().unwrap_or_default();
    match word {
        b"COMMIT" => true,
        b"PREPARE" => tag == b"PREPARE TRANSACTION",
        b"ROLLBACK" => tag == b"ROLLBACK PREPARED",
        _ => !in_block && !READS.contains(&word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_is_acknowledged_by_its_end() {
        for (tag, outside, inside) in [
            ("INSERT 0 1", true, false),
            ("UPDATE 3", true, false),
            ("COPY 5", true, false),
            ("CREATE TABLE", true, false),
            ("DO", true, false),
            ("CALL", true, false),
            ("NOTIFY", true, false),
            ("TRUNCATE TABLE", true, false),
            ("COMMIT", true, true),
            ("COMMIT PREPARED", true, true),
            ("PREPARE TRANSACTION", true, true),
            ("ROLLBACK PREPARED", true, true),
            ("SELECT 1", false, false),
            ("PREPARE", false, false),
            ("ROLLBACK", false, false),
            ("BEGIN", false, false),
            ("START TRANSACTION", false, false),
            ("SET", false, false),
        ] {
            let body = [tag.as_bytes(), b"\0"].concat();
            assert_eq!(acknowledges(&body, false), outside, "{tag}");
            assert_eq!(acknowledges(&body, true), inside, "{tag} in a block");
        }
        assert!(acknowledges(b"SOMETHING NEW", false));
    }
}
