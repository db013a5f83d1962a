//! System calls that std does not offer. The only unsafe code of the crate is in this folder;
//! every function here is safe to call.

pub mod clock;
pub mod errors;
pub mod interfaces;
pub mod limits;
pub mod process;
pub mod regex;
pub mod socket;
pub mod syslog;
pub mod users;
