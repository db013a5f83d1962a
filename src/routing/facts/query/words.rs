//! When a keyword is a name: those that are not reserved name tables and functions as well.

use super::{super::keyword::Keyword, Before, Scan};

/// Whether a keyword before a parenthesis is the name of a function.
pub(super) fn names_function(scan: &Scan, word: Keyword) -> bool {
    use Keyword as K;
    match word {
        K::Side => true,
        K::Join => !matches!(scan.before, Before::Keyword(K::Side)) && begins_expression(scan),
        // GROUP BY (a), (b).
        K::By => !matches!(scan.before, Before::Keyword(K::Group)) && begins_expression(scan),
        K::Syntax
        | K::Operator
        | K::Sugar
        | K::Is
        | K::TableSample
        | K::Set
        | K::Recursive
        | K::Ordinality
        | K::Rows => begins_expression(scan),
        // At the beginning of parentheses they begin a statement.
        K::Insert | K::Update | K::Delete | K::Merge => {
            !scan.level.first && begins_expression(scan)
        }
        _ => begins_statement(word),
    }
}

/// Whether an expression, not an operator or clause, comes next.
fn begins_expression(scan: &Scan) -> bool {
    use Keyword as K;
    if scan.level.with {
        return false;
    }
    match scan.before {
        Before::Open | Before::Comma | Before::Other => true,
        Before::Keyword(word) => matches!(
            word,
            K::Select
                | K::Distinct
                | K::SetOperation
                | K::Clause
                | K::By
                | K::On
                | K::Not
                | K::Word
                | K::Operator
                | K::From
                | K::For
                | K::Lateral
        ),
        _ => false,
    }
}

/// Keywords with which other statements begin. They are not reserved: names in a query.
pub(super) fn begins_statement(word: Keyword) -> bool {
    use Keyword as K;
    matches!(
        word,
        K::Abort
            | K::Begin
            | K::Call
            | K::Close
            | K::Commit
            | K::Copy
            | K::Deallocate
            | K::Declare
            | K::Delete
            | K::Discard
            | K::Drop
            | K::Execute
            | K::Explain
            | K::Insert
            | K::Lock
            | K::Merge
            | K::Move
            | K::Prepare
            | K::Release
            | K::Reset
            | K::Rollback
            | K::Savepoint
            | K::Show
            | K::Start
            | K::Truncate
            | K::Update
    )
}
