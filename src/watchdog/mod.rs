//! The watchdog: several pgpool nodes, ours and stock ones, that act as one.
pub mod codec;
pub mod core;
pub mod lifecheck;
pub mod settings;
#[cfg(test)]
mod sim;
#[cfg(test)]
pub(crate) mod testing;
pub mod vip;
