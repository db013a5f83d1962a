//! System calls that std does not offer. The only unsafe code of the crate is in this folder;
//! every function here is safe to call.

pub mod at_exec;
pub mod clock;
pub mod errors;
pub mod interfaces;
pub mod limits;
pub mod memory;
#[cfg(feature = "pam")]
pub mod pam;
pub mod process;
pub mod regex;
#[cfg(feature = "ldap")]
pub mod resolver;
pub mod socket;
pub mod syslog;
pub mod users;
