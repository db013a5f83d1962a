//! The release that we say we are. Scripts cut the third word of `--version`.

use crate::{
    admin::words,
    config::{Release, settings::CompatVersion},
};

/// What `--version` says when nothing tells which release to be.
pub fn default() -> CompatVersion {
    words::last_of_series(Release::V4_3)
}

/// The line of `--version`.
pub fn line(version: CompatVersion) -> String {
    format!(
        "pgpool-II version {}, pgpool-rs {}",
        words::version_text(version),
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_word_is_a_bare_version_number() {
        let line = line(default());
        assert!(line.starts_with("pgpool-II version 4.3.20 (tamahomeboshi), pgpool-rs "));
        assert_eq!(line.split_whitespace().nth(2), Some("4.3.20"));
    }
}
