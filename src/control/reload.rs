//! What a reload reads: the supervisor asks for it and applies it, reading is done elsewhere.

use crate::{
    auth::{hba::Hba, passwd::PoolPasswd},
    config::Config,
    observe::Severity,
    tls::Tls,
};

/// Reads pgpool.conf, pool_hba.conf, pool_passwd and the files of certificates again. May block.
pub trait ConfigLoader: Send + Sync {
    fn reload(&self, current: &Config) -> Reloaded;
}

/// The result; `None` keeps what is in use.
pub struct Reloaded {
    pub config: Option<Config>,
    /// `Err`: the file is bad, all logins are refused.
    pub hba: Option<Result<Hba, String>>,
    pub passwd: Option<PoolPasswd>,
    pub tls: Option<Tls>,
    /// For the log, in this order.
    pub findings: Vec<(Severity, String)>,
}

impl<F: Fn(&Config) -> Reloaded + Send + Sync> ConfigLoader for F {
    fn reload(&self, current: &Config) -> Reloaded {
        self(current)
    }
}
