//! Admin SQL: `SHOW POOL_*`, `PGPOOL SHOW`, `PGPOOL SET`, `PGPOOL RESET`; tables shared with PCP.

pub mod inputs;
pub mod words;

pub use inputs::{Inputs, NodeProbe};
