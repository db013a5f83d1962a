//! A unix socket of our own, for what PCP has no words for: the history of events, and what-if.
//!
//! It lies in the work directory beside `pgpool_status`, has mode 0600, and its name has the port in it,
//! since two pgpools may share the directory. One connection is one question: the client sends a line of
//! JSON ([`protocol::Ask`]), the server answers with lines of JSON ([`protocol::Line`]), of which the
//! last is `end` or `error`, and closes. Each side says which version of these words it speaks; members
//! that are not known are ignored.

pub mod client;
pub mod listen;
pub mod protocol;
pub mod serve;

use std::path::{Path, PathBuf};

/// `.s.pgpool-rs.PORT` in `logdir` (`work_dir` since 4.7).
pub fn path(work_dir: &Path, port: u16) -> PathBuf {
    work_dir.join(format!(".s.pgpool-rs.{port}"))
}
