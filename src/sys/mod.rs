//! The only unsafe code: safe functions around system calls.

pub mod socket;
