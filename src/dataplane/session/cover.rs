//! Which answers of the primary tell a client that something is committed, and which of them wait until a
//! majority of the pgpool nodes was heard of after them.
//!
//! The write lease alone bounds for how long a host that was cut off goes on to commit; what it has told
//! its clients in that time is lost when another server is promoted. So such an answer is *covered* first: it
//! goes to the client when a majority has answered a question that was asked after the answer was read. What had been
//! read before the cut is covered, and so is anything that the primary had already sent to its standbys.
//! Without a write lease nothing waits and nothing is looked at.
//!
//! | answer | waits |
//! |---|---|
//! | CommandComplete of COMMIT, PREPARE TRANSACTION, COMMIT and ROLLBACK PREPARED | always |
//! | of what changes no data and settings only, of ROLLBACK | never |
//! | of SELECT and FETCH outside a transaction block | unless the statement calls no function and writes nothing |
//! | of anything else, a FunctionCall's answer | outside a transaction block |
//! | PortalSuspended | never, but see below |
//! | the ReadyForQuery that follows one of these, or a PortalSuspended outside a block | as they do: a pipeline commits there |
//!
//! Behind a ROLLBACK of the same message or pipeline a block has ended. What is not seen: a view, a rule or a policy
//! that calls a function which writes; the SELECT that uses it does not wait.

use crate::routing::facts::{Facts, Statement};

/// Of one session.
#[derive(Debug)]
pub struct Cover {
    /// A statement that answers with the tag SELECT and may write, since nothing was owed.
    select_may_write: bool,
    /// Some prepared statement may be one.
    prepared_may_write: bool,
    /// Since the last ReadyForQuery something was committed, or will be by it.
    acknowledged: bool,
    /// The transaction block of the last ReadyForQuery was rolled back since.
    left_block: bool,
}

/// An answer that waits, with all that came in the same read.
#[derive(Debug)]
pub struct Uncovered {
    /// What is the client's of it.
    pub bytes: Vec<u8>,
    pub read_at: u64,
    /// The client stands between two messages as long as it does not have it.
    pub between_messages: bool,
}

impl Cover {
    /// `from_the_start`: all that the session prepares is going to be looked at.
    pub fn new(from_the_start: bool) -> Cover {
        Cover {
            select_may_write: false,
            prepared_may_write: !from_the_start,
            acknowledged: false,
            left_block: false,
        }
    }

    /// Something goes to the primary while no lease is kept; its answer may come, or what it prepares may be used, when
    /// one is.
    pub fn missed(&mut self) {
        self.select_may_write = true;
        self.prepared_may_write = true;
    }

    /// A message of the client goes to the primary; `body` may have been cut.
    pub fn sent(&mut self, kind: u8, body: &[u8]) {
        match kind {
            b'Q' => self.select_may_write |= may_write(body.strip_suffix(b"\0")),
            b'P' => {
                let text = body.iter().position(|&b| b == 0).and_then(|end| {
                    let behind = body.get(end + 1..)?;
                    let len = behind.iter().position(|&b| b == 0)?;
                    behind.get(..len)
                });
                self.prepared_may_write |= may_write(text);
            }
            _ => {}
        }
    }

    /// A message of the primary; true: it tells of something committed. `transaction`: as its last ReadyForQuery had
    /// it. `owes_nothing`: this is the last answer.
    pub fn answered(&mut self, kind: u8, body: &[u8], transaction: u8, owes_nothing: bool) -> bool {
        let outside = transaction != b'T' || self.left_block;
        let tells = match kind {
            b'C' => {
                let tag = body.strip_suffix(b"\0").unwrap_or(body);
                self.left_block |= tag == b"ROLLBACK";
                self.completes(tag, outside)
            }
            b'V' => outside,
            b's' => {
                self.acknowledged |= outside;
                false
            }
            b'Z' => {
                let tells = self.acknowledged && body.first() != Some(&b'T');
                self.acknowledged = false;
                self.left_block = false;
                self.select_may_write &= !owes_nothing;
                return tells;
            }
            _ => false,
        };
        self.acknowledged |= tells;
        tells
    }

    fn completes(&self, tag: &[u8], outside: bool) -> bool {
        let word = tag.split(|&b| b == b' ').next().unwrap_or_default();
        match word {
            b"COMMIT" => true,
            b"PREPARE" => tag == b"PREPARE TRANSACTION",
            b"ROLLBACK" => tag == b"ROLLBACK PREPARED",
            // A cursor that outlasts its transaction has been read, and its functions called, when that ends.
            b"SELECT" | b"FETCH" | b"MOVE" | b"DECLARE" => {
                outside && (self.select_may_write || self.prepared_may_write)
            }
            b"BEGIN" | b"START" | b"SAVEPOINT" | b"RELEASE" | b"SET" | b"RESET" | b"SHOW"
            | b"CLOSE" | b"DEALLOCATE" | b"DISCARD" | b"LISTEN" | b"UNLISTEN" | b"LOCK"
            | b"LOAD" | b"CHECKPOINT" => false,
            _ => outside,
        }
    }
}

/// `None`: the text has not come whole. Names of functions are not looked up: each may write.
fn may_write(sql: Option<&[u8]>) -> bool {
    let Some(sql) = sql else { return true };
    let facts = Facts::of(sql);
    let answers_otherwise = |statement: &Statement| {
        !matches!(
            statement,
            Statement::Select | Statement::Execute(_) | Statement::Other | Statement::Prepare(_)
        )
    };
    facts.is_unknown()
        || facts.has_into()
        || facts.has_data_modifying_with()
        || !facts.functions().is_empty()
        || !facts
            .statements()
            .iter()
            .all(|statement| *statement == Statement::Select || answers_otherwise(statement))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(sql: &str) -> Vec<u8> {
        [sql.as_bytes(), b"\0"].concat()
    }

    /// Whether the answer with this tag to this query waits, and the ReadyForQuery behind it.
    fn waits(sql: &str, tag: &str, transaction: u8) -> (bool, bool) {
        let mut cover = Cover::new(true);
        cover.sent(b'Q', &query(sql));
        let first = cover.answered(b'C', &query(tag), transaction, false);
        let end = if transaction == b'T' && tag != "COMMIT" {
            b'T'
        } else {
            b'I'
        };
        (first, cover.answered(b'Z', &[end], transaction, true))
    }

    #[test]
    fn what_is_committed_waits() {
        for (sql, tag) in [
            ("INSERT INTO t VALUES (1)", "INSERT 0 1"),
            ("UPDATE t SET a = 1", "UPDATE 3"),
            ("CREATE TABLE x (a int)", "CREATE TABLE"),
            ("COPY t FROM STDIN", "COPY 3"),
            ("CALL p()", "CALL"),
            ("CREATE TABLE x AS SELECT 1", "SELECT 1"),
            ("SELECT 1 INTO x", "SELECT 1"),
            ("SELECT f(1)", "SELECT 1"),
            (
                "DECLARE c CURSOR WITH HOLD FOR SELECT f(1)",
                "DECLARE CURSOR",
            ),
            (
                "WITH a AS (INSERT INTO t VALUES (1) RETURNING 1) SELECT * FROM a",
                "SELECT 1",
            ),
            ("EXECUTE p", "SELECT 1"),
            ("COMMIT PREPARED 'x'", "COMMIT PREPARED"),
            ("ROLLBACK PREPARED 'x'", "ROLLBACK PREPARED"),
        ] {
            assert_eq!(waits(sql, tag, b'I'), (true, true), "{sql}");
        }
        for (sql, tag) in [
            ("COMMIT", "COMMIT"),
            ("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION"),
        ] {
            assert!(waits(sql, tag, b'T').0, "{sql}");
        }
    }

    #[test]
    fn what_changes_nothing_or_is_not_committed_yet_does_not_wait() {
        for (sql, tag, transaction) in [
            ("SELECT a FROM t WHERE b = 1", "SELECT 1", b'I'),
            ("SET a = 1", "SET", b'I'),
            ("BEGIN", "BEGIN", b'I'),
            ("PREPARE p AS SELECT 1", "PREPARE", b'I'),
            ("ROLLBACK", "ROLLBACK", b'T'),
            ("INSERT INTO t VALUES (1)", "INSERT 0 1", b'T'),
            ("SELECT f(1)", "SELECT 1", b'T'),
        ] {
            assert_eq!(waits(sql, tag, transaction), (false, false), "{sql}");
        }
    }

    #[test]
    fn a_pipeline_commits_with_its_ready_for_query() {
        let mut cover = Cover::new(true);
        cover.sent(b'P', b"\0INSERT INTO t VALUES ($1)\0\0\0");
        assert!(cover.answered(b'C', b"INSERT 0 1\0", b'I', false));
        assert!(cover.answered(b'Z', b"I", b'I', true));
        assert!(!cover.answered(b'C', b"SELECT 1\0", b'I', false));
        cover.sent(b'P', b"s\0SELECT f($1)\0\0\0");
        assert!(cover.answered(b'C', b"SELECT 1\0", b'I', false));
    }

    #[test]
    fn what_is_written_behind_a_rollback_of_the_same_message_waits() {
        let mut cover = Cover::new(true);
        cover.sent(b'Q', &query("ROLLBACK; INSERT INTO t VALUES (1)"));
        assert!(!cover.answered(b'C', b"ROLLBACK\0", b'T', false));
        assert!(cover.answered(b'C', b"INSERT 0 1\0", b'T', false));
        assert!(cover.answered(b'Z', b"I", b'T', true));
        assert!(
            !cover.answered(b'C', b"INSERT 0 1\0", b'T', false),
            "of the next block"
        );
    }

    #[test]
    fn what_a_suspended_portal_has_written_is_committed_with_the_ready_for_query() {
        let mut cover = Cover::new(true);
        cover.sent(b'P', b"\0INSERT INTO t VALUES (1) RETURNING a\0\0\0");
        assert!(!cover.answered(b's', b"", b'I', false));
        assert!(cover.answered(b'Z', b"I", b'I', true));
        assert!(!cover.answered(b's', b"", b'T', false));
        assert!(!cover.answered(b'Z', b"T", b'T', true));
    }

    #[test]
    fn what_went_out_while_no_lease_was_kept_may_write() {
        let mut cover = Cover::new(true);
        cover.missed();
        assert!(cover.answered(b'C', b"SELECT 1\0", b'I', false));
        assert!(cover.answered(b'Z', b"I", b'I', true));
        assert!(
            cover.answered(b'C', b"SELECT 1\0", b'I', false),
            "prepared then"
        );
    }

    #[test]
    fn a_text_that_is_not_there_whole_may_write() {
        let mut cover = Cover::new(true);
        cover.sent(b'Q', b"SELECT a FROM t WHERE b IN (1, 2");
        assert!(cover.answered(b'C', b"SELECT 1\0", b'I', false));
        let mut cover = Cover::new(false);
        assert!(
            cover.answered(b'C', b"SELECT 1\0", b'I', false),
            "prepared before it was looked at"
        );
    }

    #[test]
    fn one_statement_that_may_write_does_not_make_all_later_ones_wait() {
        let mut cover = Cover::new(true);
        cover.sent(b'Q', &query("SELECT f(1)"));
        cover.sent(b'Q', &query("SELECT 1"));
        assert!(cover.answered(b'C', b"SELECT 1\0", b'I', false));
        cover.answered(b'Z', b"I", b'I', false);
        assert!(
            cover.answered(b'C', b"SELECT 1\0", b'I', false),
            "which one this answers is not told"
        );
        cover.answered(b'Z', b"I", b'I', true);
        cover.sent(b'Q', &query("SELECT 1"));
        assert!(!cover.answered(b'C', b"SELECT 1\0", b'I', false));
    }
}
