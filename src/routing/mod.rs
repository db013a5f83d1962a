//! Where a statement goes.

pub mod facts;
mod first_word;
pub mod lexer;

pub use lexer::StatementKind;
