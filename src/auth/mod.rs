//! Authentication: pool_hba.conf, pool_passwd, pcp.conf, and the dialogues with clients and backends.
//!
//! Everything here decides and nothing sends: [`session_auth::SessionAuth`] takes the messages of a
//! starting session and returns what to do. It is made of [`frontend`] (we are the server that asks)
//! and [`backend`] (we are the client that answers).

pub mod backend;
pub mod check_auth;
pub mod credential;
pub mod error;
pub mod frontend;
pub mod hba;
pub mod keys;
pub mod messages;
pub mod passwd;
pub mod password;
pub mod pcp_conf;
pub mod scram;
pub mod session_auth;

pub use error::ErrorReport;
pub use password::Password;
