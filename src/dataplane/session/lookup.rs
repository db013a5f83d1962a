//! A look-up in the catalog: what the relation caches do not know is asked on the session's own
//! connection to the primary, between two statements, as the original does.
//!
//! There the search path, the uncommitted tables and the privileges are the client's, and no
//! password is needed. Statement and portal have a name of ours, so that the client's unnamed ones
//! stay. Nothing is held while a server is asked: neither a lock nor another session.

use crate::{
    cluster::NodeId,
    protocol::{
        ErrorFields,
        messages::{self, SYNC},
    },
    routing::relcache::{Answer, Question},
};

/// Of our statement and portal; the client has none of this name.
const NAME: &[u8] = b"pgpool_rs_catalog";
/// For each question: Parse, Bind, Execute, Close of the portal, Close of the statement.
const MESSAGES: usize = 5;

/// A look-up that waits for its answers.
#[derive(Debug)]
pub struct LookUp {
    pub node: NodeId,
    questions: Vec<Question>,
    /// One row of booleans for each question that is answered.
    rows: Vec<Vec<bool>>,
    row: Vec<bool>,
    refusal: String,
}

impl LookUp {
    pub fn new(node: NodeId, questions: Vec<Question>) -> LookUp {
        LookUp {
            node,
            questions,
            rows: Vec::new(),
            row: Vec::new(),
            refusal: String::new(),
        }
    }

    /// What the server has said that it does not answer.
    pub fn refusal(&self) -> &str {
        &self.refusal
    }

    /// How many messages [`LookUp::encode`] gives before the Sync.
    pub fn message_count(&self) -> usize {
        1 + self.questions.len() * MESSAGES
    }

    /// The messages for the server.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // A question that was refused before it was closed has left its statement.
        messages::close_statement(NAME, &mut out);
        for question in &self.questions {
            messages::parse(NAME, &question.sql(), &mut out);
            messages::bind(NAME, NAME, &mut out);
            messages::execute(NAME, &mut out);
            messages::close_portal(NAME, &mut out);
            messages::close_statement(NAME, &mut out);
        }
        out.extend_from_slice(&SYNC);
        out
    }

    /// A message of the server. True: it was the last one.
    pub fn received(&mut self, kind: u8, body: &[u8]) -> bool {
        match kind {
            b'D' => self.row = booleans(body),
            b'C' => self.rows.push(std::mem::take(&mut self.row)),
            b'E' => {
                self.refusal = String::from_utf8_lossy(ErrorFields::parse(body).message).into();
            }
            _ => {}
        }
        kind == b'Z'
    }

    /// The answers; `None`: the server has refused.
    pub fn answers(self) -> Option<Vec<(Question, Answer)>> {
        if self.rows.len() != self.questions.len() {
            return None;
        }
        let answers = self.questions.into_iter().zip(self.rows);
        Some(
            answers
                .map(|(question, row)| {
                    let answer = question.answer(&row);
                    (question, answer)
                })
                .collect(),
        )
    }
}

/// The columns of a DataRow, each `t` or `f` as text.
fn booleans(body: &[u8]) -> Vec<bool> {
    let mut row = Vec::new();
    let mut rest = body.get(2..).unwrap_or_default();
    while let Some((len, behind)) = rest.split_first_chunk::<4>() {
        let len = usize::try_from(i32::from_be_bytes(*len)).unwrap_or(0);
        row.push(behind.first() == Some(&b't') && len > 0);
        rest = behind.get(len..).unwrap_or_default();
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str) -> Question {
        Question::Function {
            schema: None,
            name: name.as_bytes().into(),
        }
    }

    #[test]
    fn rows_answer_the_questions_in_order() {
        let mut look_up = LookUp::new(0, vec![function("f"), function("g")]);
        assert_eq!(look_up.message_count(), 11);
        for (kind, body) in [
            (b'D', &b"\0\x01\0\0\0\x01t"[..]),
            (b'C', b""),
            (b'D', b"\0\x01\0\0\0\x01f"),
            (b'C', b""),
        ] {
            assert!(!look_up.received(kind, body));
        }
        assert!(look_up.received(b'Z', b"T"));
        let answers = look_up.answers().unwrap();
        let volatile = |v| Answer::Function {
            volatile: v,
            missing: false,
        };
        assert_eq!(answers[0], (function("f"), volatile(true)));
        assert_eq!(answers[1], (function("g"), volatile(false)));
    }

    /// An error skips the Close of its statement, and the next Parse of that name would make the
    /// client's transaction fail.
    #[test]
    fn what_an_earlier_look_up_has_left_is_closed_first() {
        let bytes = LookUp::new(0, vec![function("f")]).encode();
        let mut close = Vec::new();
        messages::close_statement(NAME, &mut close);
        assert!(bytes.starts_with(&close));
    }

    #[test]
    fn an_error_is_no_answer() {
        let mut look_up = LookUp::new(0, vec![function("f")]);
        look_up.received(b'E', b"SERROR\0C42501\0Mpermission denied\0\0");
        assert!(look_up.received(b'Z', b"E"));
        assert_eq!(look_up.refusal(), "permission denied");
        assert_eq!(look_up.answers(), None);
    }

    #[test]
    fn nonsense_in_a_row_is_false() {
        for body in [
            &b""[..],
            b"\0\x02\xff\xff\xff\xff",
            b"\0\x01\x7f\xff\xff\xfft",
        ] {
            assert!(booleans(body).len() <= 1);
        }
    }
}
