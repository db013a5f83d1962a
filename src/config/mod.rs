//! Configuration files: grammar, parameter table, dialects, typed settings.

pub mod parameter;
pub mod settings;

use std::path::PathBuf;

pub use parameter::{PARAMETERS, Parameter, Value};
pub use settings::Settings;

/// A minor release of Pgpool-II; a file's dialect and the emulated layouts are named by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    pub major: u8,
    pub minor: u8,
}

impl Release {
    pub const V3_7: Release = Release::new(3, 7);
    pub const V4_0: Release = Release::new(4, 0);
    pub const V4_1: Release = Release::new(4, 1);
    pub const V4_2: Release = Release::new(4, 2);
    pub const V4_3: Release = Release::new(4, 3);
    pub const V4_4: Release = Release::new(4, 4);
    pub const V4_5: Release = Release::new(4, 5);
    pub const V4_6: Release = Release::new(4, 6);
    pub const V4_7: Release = Release::new(4, 7);

    pub const fn new(major: u8, minor: u8) -> Release {
        Release { major, minor }
    }
}

/// A configuration that has been read, checked and accepted.
///
/// Immutable; a reload makes a new one, which replaces this in [`crate::control::Shared`].
#[derive(Debug)]
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
