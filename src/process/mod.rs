//! The life of the process: start, pid file, daemon, signals, sockets, log, end.

pub mod client;
pub mod collector;
pub mod daemon;
pub mod fatal;
pub mod limits;
pub mod listen;
pub mod log_entry;
mod log_output;
pub mod log_sink;
pub mod notify;
pub mod pid_file;
pub mod prefix;
pub mod shutdown;
pub mod signals;
pub mod start;
pub mod syslog;
pub mod wiring;

pub use fatal::Fatal;
