//! Admin SQL: `SHOW POOL_*`, `PGPOOL SHOW`, `PGPOOL SET`, `PGPOOL RESET`; tables shared with PCP.
//!
//! A session hands the text of each simple query to [`command::parse`]; what that recognises goes to
//! [`execute::execute`], everything else to PostgreSQL. Answered in the simple query protocol only, as
//! the original does. The columns, words and texts are those of the release whose dialect the
//! configuration file is in.

pub mod command;
pub mod execute;
pub mod inputs;
pub mod probe;
pub mod session;
pub mod show;
pub mod tables;
pub mod text;
pub mod wire;
pub mod words;

mod table;
#[cfg(test)]
mod vectors;

pub use command::{AdminCommand, parse};
pub use execute::{SessionFacts, aborted_transaction, execute, explanation};
pub use inputs::{Inputs, NodeProbe};
pub use session::SessionSettings;
pub use table::Table;
