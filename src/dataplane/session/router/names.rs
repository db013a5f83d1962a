//! Names that the next message cannot rely on: what an unanswered message of an earlier sequence has
//! made or closed, an error before it may turn out to have skipped.

use super::{Ledger, Router, Step};
use crate::routing::facts::{Facts, Statement};

/// More names are not told apart: all are taken for touched.
const NAMES: usize = 64;

/// Names of statements and portals that were made or closed.
#[derive(Debug, Default)]
pub struct Touched {
    /// In the sequence that is open.
    here: Vec<Box<[u8]>>,
    /// In earlier ones, since all was answered last.
    earlier: Vec<Box<[u8]>>,
}

impl Touched {
    pub fn add(&mut self, name: &[u8]) {
        if self.here.len() < NAMES {
            self.here.push(name.into());
        }
    }

    /// The sequence ends.
    pub fn end_sequence(&mut self) {
        if self.earlier.len() < NAMES {
            self.earlier.append(&mut self.here);
        }
        self.here.clear();
    }

    /// Whatever was sent is answered.
    pub fn settled(&mut self) {
        self.earlier.clear();
    }

    fn is_doubtful(&self, name: &[u8]) -> bool {
        self.earlier.len() >= NAMES || self.earlier.iter().any(|earlier| **earlier == *name)
    }
}

impl Router {
    /// What the name of a statement stands for, if an earlier sequence has changed that, the answers
    /// tell.
    pub(super) fn wait_for_statement(
        &mut self,
        name: &[u8],
        ledgers: &mut [Ledger],
    ) -> Option<Step> {
        if !name.is_empty() {
            return self.wait_for_portal(name, ledgers);
        }
        if self.unnamed_here {
            return None;
        }
        if ledgers.iter().any(|l| l.owed.owes_ready()) {
            return self.wait_for_all(ledgers);
        }
        self.unnamed.clone_from(&self.unnamed_known);
        None
    }

    /// The same of a portal. The unnamed one is used where it is made.
    pub(super) fn wait_for_portal(&mut self, name: &[u8], ledgers: &mut [Ledger]) -> Option<Step> {
        if !self.touched.is_doubtful(name) {
            return None;
        }
        self.wait_for_all(ledgers)
    }

    /// The same of what a statement names.
    pub(super) fn wait_for_named(&mut self, facts: &Facts, ledgers: &mut [Ledger]) -> Option<Step> {
        let names = |statement: &Statement| {
            matches!(
                statement,
                Statement::Prepare(_)
                    | Statement::Execute(_)
                    | Statement::Deallocate(_)
                    | Statement::Declare(_)
                    | Statement::Fetch(_)
                    | Statement::ClosePortal(_)
            )
        };
        let any = facts.statements().iter().any(names) || !facts.executes().is_empty();
        if self.touched.earlier.is_empty() || !any {
            return None;
        }
        self.wait_for_all(ledgers)
    }

    /// A Sync or Query is sent.
    pub(super) fn end_sequence(&mut self) {
        self.touched.end_sequence();
        self.portals.end_sequence();
        self.end_elsewhere();
    }
}
