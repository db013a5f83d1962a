//! Health check: one per backend, each on its own schedule.
//!
//! [`core`] decides, [`probe`] looks once, [`task`] joins the two.

pub mod core;
mod evidence;
pub mod probe;
pub mod task;
