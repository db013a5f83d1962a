//! Releases of the original, by which dialects and emulated layouts are named.

use std::{fmt, str::FromStr};

use super::settings::CompatVersion;

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

    /// All with a column in the parameter table.
    pub const ALL: [Release; 9] = [
        Release::V3_7,
        Release::V4_0,
        Release::V4_1,
        Release::V4_2,
        Release::V4_3,
        Release::V4_4,
        Release::V4_5,
        Release::V4_6,
        Release::V4_7,
    ];

    pub const fn new(major: u8, minor: u8) -> Release {
        Release { major, minor }
    }

    /// The patch level that a release without one means: the last of its series.
    pub fn last_patch(self) -> u8 {
        match (self.major, self.minor) {
            (3, 7) => 26,
            (4, 0) => 25,
            (4, 1) => 23,
            (4, 2) => 24,
            (4, 3) => 20,
            (4, 4) => 17,
            (4, 5) => 12,
            (4, 6) => 7,
            (4, 7) => 2,
            _ => 0,
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl fmt::Display for CompatVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.release, self.patch)
    }
}

/// Not a release from 4.0 to 4.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a release from 4.0 to 4.7")]
pub struct UnknownRelease;

impl FromStr for CompatVersion {
    type Err = UnknownRelease;

    /// `4.3` or `4.3.5`.
    fn from_str(text: &str) -> Result<CompatVersion, UnknownRelease> {
        let mut numbers = text.trim().split('.').map(str::parse::<u8>);
        let mut next = || numbers.next().transpose().map_err(|_| UnknownRelease);
        let (Some(major), Some(minor), patch, None) = (next()?, next()?, next()?, next()?) else {
            return Err(UnknownRelease);
        };
        let release = Release::new(major, minor);
        if !(Release::V4_0..=Release::V4_7).contains(&release) {
            return Err(UnknownRelease);
        }
        Ok(CompatVersion {
            release,
            patch: patch.unwrap_or_else(|| release.last_patch()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_without_patch_level_means_the_last_of_its_series() {
        let parsed: CompatVersion = "4.3".parse().unwrap();
        assert_eq!(parsed.to_string(), "4.3.20");
        let parsed: CompatVersion = "4.3.5".parse().unwrap();
        assert_eq!(parsed.to_string(), "4.3.5");
        for text in ["", "4", "3.7", "4.8", "4.3.5.1", "4.x", "latest"] {
            assert_eq!(text.parse::<CompatVersion>(), Err(UnknownRelease), "{text}");
        }
    }
}
