//! Configuration files: grammar, parameter table, dialects, typed settings.
//!
//! [`Config::load`] reads pgpool.conf and pgpool-rs.conf; everything that is wrong or odd comes
//! back as [`Finding`]s with file, line and column. pool_hba.conf, pool_passwd and pcp.conf are
//! the business of [`crate::auth`].

mod checks;
pub mod dialect;
pub mod finding;
mod flags;
pub mod grammar;
mod load;
pub mod manual;
mod names;
mod not_built;
pub mod parameter;
mod paths;
mod release;
mod reload;
mod routing;
mod session;
pub mod settings;
mod source;
mod table;
mod typed;
pub mod value;

use std::path::PathBuf;

pub use finding::{Finding, Place, Severity as FindingSeverity};
pub use load::{LoadError, LoadMode};
pub use not_built::not_built;
pub use parameter::{PARAMETERS, Parameter, Value};
pub use paths::Paths;
pub use release::Release;
pub use routing::check_temp_table;
pub use session::{SetError, parse_session_value, session_parameters, settable};
pub use settings::Settings;

/// A configuration that has been read, checked and accepted.
///
/// Immutable; a reload makes a new one, which replaces this in [`crate::control::Shared`].
#[derive(Clone, Debug)]
pub struct Config {
    pub dialect: Release,
    pub settings: Settings,
    /// What was set (or defaulted) for each parameter, for SHOW.
    pub values: parameter::Values,
    /// pgpool.conf as named on the command line or found by default.
    pub path: PathBuf,
    pub hba_path: PathBuf,
    pub pcp_path: PathBuf,
    /// `None` when `pool_passwd = ''`.
    pub pool_passwd_path: Option<PathBuf>,
    pub pool_key_path: Option<PathBuf>,
}

impl Config {
    /// The value as `PGPOOL SHOW` of the file's dialect spells it; `None` for an unknown name.
    pub fn show(&self, name: &str, index: Option<usize>) -> Option<String> {
        let parameter = parameter::find_in(name, self.dialect)?;
        let value = self.values.get(name, index)?;
        Some(value.show_in(parameter, self.dialect))
    }

    /// Names of the parameters that have another value than in `old`, sorted.
    pub fn changed_since(&self, old: &Config) -> Vec<String> {
        self.values.changed_since(&old.values)
    }
}

#[cfg(test)]
mod tests;
