//! What kinds of statements there are for the router.

use crate::routing::facts::{Copy, Discard, Facts, Set, Statement};

/// Whether it changes the session as long as that lasts, wherever it is sent.
pub fn changes_session(statement: &Statement) -> bool {
    match statement {
        Statement::Reset(_) | Statement::Discard(_) | Statement::Deallocate(None) => true,
        Statement::Set(set) => {
            !matches!(set, Set::Transaction(_) | Set::Constraints | Set::Snapshot)
                && !changes_transaction(statement)
        }
        _ => false,
    }
}

/// Whether it changes the session up to the end of the open transaction, for who has a part in that.
pub fn changes_transaction(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Set(Set::Local | Set::SearchPath { local: true, .. })
    )
}

/// Whether it changes what decisions about later messages rest on: which transaction there is, which
/// statements and portals, whether a copy takes what comes. It is sent when whatever was to be carried
/// out before it is answered, and what comes behind it when it is answered itself.
pub fn settles(facts: &Facts) -> bool {
    facts.is_unread()
        || facts.statements().iter().any(|statement| {
            statement.is_transaction_command() && !matches!(statement, Statement::Begin(_))
                || copies_in(statement)
                || matches!(
                    statement,
                    Statement::Prepare(_)
                        | Statement::Deallocate(_)
                        | Statement::Discard(Discard::All)
                        | Statement::ClosePortal(_)
                )
        })
}

pub fn copies_in(statement: &Statement) -> bool {
    matches!(statement, Statement::Copy(Copy { from: true, .. }))
}

/// A change that a standby refuses, and that changes nothing for reads.
pub fn is_for_the_primary(statement: Statement) -> bool {
    match statement {
        Statement::Set(Set::TransactionReadOnly(Some(false))) => true,
        Statement::Set(Set::DefaultIsolation { serializable }) => serializable,
        Statement::Set(Set::Characteristics(modes)) => {
            modes.read_only == Some(false) || modes.serializable == Some(true)
        }
        _ => false,
    }
}

/// What a failed transaction still parses and carries out.
pub fn is_taken_when_failed(facts: &Facts) -> bool {
    let first = facts.first();
    first.ends_transaction() || matches!(first, Statement::RollbackTo(_) | Statement::Empty)
}

/// Of those that a standby may be the only one to have.
pub fn gives_no_rows(facts: &Facts) -> bool {
    matches!(
        facts.first(),
        Statement::Copy(_) | Statement::Empty | Statement::Declare(_) | Statement::ClosePortal(_)
    )
}
