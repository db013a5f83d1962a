//! The only unsafe code: safe functions around system calls.

pub mod interfaces;
pub mod socket;
