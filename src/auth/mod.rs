//! Authentication: pool_hba.conf, pool_passwd, pcp.conf, and the dialogues with clients and backends.
//!
//! Everything here decides and nothing sends: [`session_auth::SessionAuth`] takes the messages of a
//! starting session and returns what to do. It is made of [`frontend`] (we are the server that asks)
//! and [`backend`] (we are the client that answers).

pub mod auth_query;
pub mod backend;
pub mod check_auth;
pub mod client_keys;
pub mod credential;
pub mod error;
pub mod external;
pub mod frontend;
pub mod hba;
pub mod keys;
#[cfg(feature = "ldap")]
pub mod ldap;
pub mod messages;
#[cfg(feature = "pam")]
pub mod pam;
pub mod passwd;
pub mod password;
pub mod pcp_conf;
pub mod scram;
pub mod session_auth;
pub mod throttle;

pub use error::ErrorReport;
pub use password::Password;
