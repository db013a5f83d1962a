//! Authentication: pool_hba.conf, pool_passwd, and the dialogues with clients and backends.

pub mod hba;
pub mod passwd;
