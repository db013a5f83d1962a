//! The PCP server: what the stock `pcp_*` tools talk to.
//!
//! [`codec`] and [`request`] are bytes and values, [`dialogue`] decides, [`commands`] answers,
//! [`listen`], [`connection`] and [`task`] do the I/O. Watchdog info, promotion and online
//! recovery check their requests and then say that this release cannot do them.

pub mod codec;
pub mod commands;
pub mod compat_version;
mod connection;
pub mod dialogue;
pub mod layout;
pub mod listen;
pub mod login;
pub mod request;
pub mod task;

use std::sync::Arc;

use crate::config::settings::CompatVersion;

pub use listen::{Listeners, bind};
pub use task::serve;

/// What the server needs besides [`crate::control::Shared`].
#[derive(Clone, Default)]
pub struct ServerContext {
    /// Version of the tools of this machine, from [`compat_version::installed_tools`] at start.
    pub tools: Option<CompatVersion>,
    /// `None`: no log collector runs.
    pub log_rotation: Option<Arc<dyn LogRotation>>,
}

/// The log collector, as far as `pcp_log_rotate` needs it.
pub trait LogRotation: Send + Sync {
    /// Starts a new log file now, without waiting for it.
    ///
    /// # Errors
    ///
    /// Why it cannot, in words for the operator.
    fn rotate(&self) -> Result<(), String>;
}
