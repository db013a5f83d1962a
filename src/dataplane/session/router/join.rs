//! What the primary has to have done before it carries out certain statements: a server alone would
//! have done it for the messages that went to a standby.
//!
//! `BEGIN ISOLATION LEVEL ...` is refused behind a query of the same pipeline, since that has taken
//! the snapshot; `DISCARD ALL`, `COMMIT PREPARED` and their like are refused once a pipeline has
//! executed something (`src/backend/commands/variable.c` and `PreventInTransactionBlock` in
//! `src/backend/access/transam/xact.c` of PostgreSQL 15).

use super::{Before, Ledger, NONE, Plan, Router, Step};
use crate::routing::{
    facts::{Discard, Facts, Set, Statement},
    lexer::{self, StatementKind},
    policy::Protocol,
    session::NodeSet,
};

/// What a transaction has done on standbys alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Elsewhere {
    /// A query was analysed or carried out.
    snapshot: bool,
    /// An Execute message has carried out something.
    executed: bool,
}

impl Elsewhere {
    fn or(self, other: Elsewhere) -> Elsewhere {
        Elsewhere {
            snapshot: self.snapshot || other.snapshot,
            executed: self.executed || other.executed,
        }
    }

    fn is_nothing(self) -> bool {
        !self.snapshot && !self.executed
    }
}

impl Router {
    /// A Parse, Bind or Execute message of this statement, or a Query, is sent.
    pub(super) fn note_elsewhere(&mut self, kind: u8, facts: &Facts, plan: &Plan) {
        let carried_out = matches!(kind, b'E' | b'Q');
        let first = facts.first();
        // DISCARD ALL is committed at once, also in a pipeline.
        let ends = first.ends_transaction() || first == Statement::Discard(Discard::All);
        if carried_out && ends {
            self.elsewhere = Elsewhere::default();
            self.elsewhere_earlier = Elsewhere::default();
            self.pipelining = false;
            return;
        }
        if plan.nodes().contains(self.primary) {
            return;
        }
        self.elsewhere.snapshot |= match first {
            Statement::Select | Statement::Explain { .. } | Statement::Declare(_) => true,
            Statement::Empty | Statement::Show | Statement::Fetch(_) => false,
            // Other commands are not analysed beforehand.
            _ => carried_out,
        };
        self.elsewhere.executed |= carried_out && first != Statement::Empty;
    }

    /// An EXECUTE is sent, which takes a snapshot whatever it carries out.
    pub(super) fn note_sql_execute(&mut self, plan: &Plan) {
        self.elsewhere.snapshot |= !plan.nodes().contains(self.primary);
    }

    /// A Sync or Query is sent: the transaction of the sequence ends, unless it is one to stay.
    pub(super) fn end_elsewhere(&mut self) {
        self.pipelining = false;
        let here = std::mem::take(&mut self.elsewhere);
        self.elsewhere_earlier = if self.state.is_in_transaction() {
            self.elsewhere_earlier.or(here)
        } else {
            Elsewhere::default()
        };
    }

    /// DISCARD ALL in a pipeline that has executed something is refused; who has executed nothing
    /// himself would carry it out, and for good.
    pub(super) fn without_followers(&self, facts: &Facts, plan: &mut Plan) {
        if self.pipelining && facts.first() == Statement::Discard(Discard::All) {
            plan.followers = NONE;
        }
    }

    /// What the primary has to do before it carries out this statement. The message waits until all
    /// is answered, if that may be anything.
    pub(super) fn join(
        &mut self,
        facts: &Facts,
        sql: &[u8],
        protocol: Protocol,
        plan: &Plan,
        ledgers: &mut [Ledger],
    ) -> Result<Option<(NodeSet, Before)>, Step> {
        let done = self.elsewhere.or(self.elsewhere_earlier);
        if done.is_nothing() || !plan.nodes().contains(self.primary) {
            return Ok(None);
        }
        let any = |wanted: fn(&Statement) -> bool| facts.statements().iter().any(wanted);
        let isolates = any(|statement| {
            matches!(
                statement,
                Statement::Begin(_)
                    | Statement::Set(
                        Set::Transaction(_) | Set::TransactionReadOnly(_) | Set::Snapshot
                    )
            )
        });
        let writes_rows = matches!(
            lexer::kind(sql),
            StatementKind::Insert | StatementKind::Update | StatementKind::Delete
        );
        let stands_alone = any(|statement| {
            matches!(
                statement,
                Statement::Discard(Discard::All) | Statement::FinishPrepared | Statement::Other
            )
        }) && !writes_rows;
        let concerned =
            |done: Elsewhere| isolates && done.snapshot || stands_alone && done.executed;
        if !concerned(done) {
            return Ok(None);
        }
        if let Some(step) = self.wait_for_all(ledgers) {
            return Err(step);
        }
        let open = self.state.is_in_transaction();
        let done = if open {
            // It refuses what stands alone as it is.
            Elsewhere {
                executed: false,
                ..done
            }
        } else {
            self.elsewhere
        };
        if !concerned(done) || self.state.has_failed() {
            return Ok(None);
        }
        self.elsewhere = Elsewhere::default();
        self.elsewhere_earlier = Elsewhere::default();
        let before = Before::Join {
            snapshot: done.snapshot,
            execute: done.executed,
            sync: open && protocol == Protocol::Simple,
        };
        Ok(Some((NodeSet::of(self.primary), before)))
    }
}
