//! Where a statement goes. Without load balancing everything goes to the primary (or main node);
//! the lexer so far tells admin commands apart and names the kind of a statement for the counters.

pub mod lexer;

pub use lexer::StatementKind;
