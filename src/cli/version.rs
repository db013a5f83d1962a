//! The release that we say we are. Scripts cut the third word of `--version`.

use std::fmt;

use crate::config::{Release, settings::CompatVersion};

/// What `--version` prints when nothing says which release to be.
pub const DEFAULT: CompatVersion = CompatVersion {
    release: Release::V4_3,
    patch: last_patch(Release::V4_3),
};

/// A release with its code name, as in `SHOW pool_version`: `4.3.20 (tamahomeboshi)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words(pub CompatVersion);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CompatVersion { release, patch } = self.0;
        write!(
            f,
            "{}.{}.{patch} ({})",
            release.major,
            release.minor,
            code_name(release)
        )
    }
}

/// The line of `--version`.
pub fn line(version: CompatVersion) -> String {
    format!(
        "pgpool-II version {}, pgpool-rs {}",
        Words(version),
        env!("CARGO_PKG_VERSION")
    )
}

/// Patch level of the last release of a series: what a version without patch level stands for.
pub const fn last_patch(release: Release) -> u8 {
    match (release.major, release.minor) {
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

fn code_name(release: Release) -> &'static str {
    match (release.major, release.minor) {
        (3, 7) => "amefuriboshi",
        (4, 0) => "torokiboshi",
        (4, 1) => "karasukiboshi",
        (4, 2) => "chichiriboshi",
        (4, 3) => "tamahomeboshi",
        (4, 4) => "nurikoboshi",
        (4, 5) => "hotooriboshi",
        (4, 6) => "chirikoboshi",
        _ => "tasukiboshi",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_word_is_a_bare_version_number() {
        let line = line(DEFAULT);
        assert!(line.starts_with("pgpool-II version 4.3.20 (tamahomeboshi), pgpool-rs "));
        assert_eq!(line.split_whitespace().nth(2), Some("4.3.20"));
    }

    #[test]
    fn a_release_is_told_with_its_own_code_name() {
        let words = Words(CompatVersion {
            release: Release::V4_7,
            patch: last_patch(Release::V4_7),
        });
        assert_eq!(words.to_string(), "4.7.2 (tasukiboshi)");
    }
}
