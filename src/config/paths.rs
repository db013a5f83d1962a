//! The files of one server, and what lies beside them.

use std::path::{Path, PathBuf};

/// Where Debian's package puts pgpool.conf; its build has default directories of its own.
const DEBIAN: &str = "/etc/pgpool2";

/// The files of this server, absolute, whether they are there or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    pub config: PathBuf,
    pub pcp: PathBuf,
    pub hba: PathBuf,
    /// Key of the AES entries in pool_passwd.
    pub key: Option<PathBuf>,
}

impl Paths {
    /// The optional file of our own settings, beside pgpool.conf.
    pub fn own(&self) -> PathBuf {
        self.config.with_file_name("pgpool-rs.conf")
    }

    /// Number of this watchdog node, beside pgpool.conf (4.2 and later).
    pub fn node_id(&self) -> PathBuf {
        self.config.with_file_name("pgpool_node_id")
    }

    /// A path of the configuration that may be relative to the directory of pgpool.conf.
    pub fn beside_config(&self, path: &str) -> PathBuf {
        match self.config.parent() {
            Some(folder) => folder.join(path),
            None => path.into(),
        }
    }

    /// Was the file written for Debian's build?
    pub fn debian(&self) -> bool {
        let lies_there = |path: &Path| path.parent() == Some(Path::new(DEBIAN));
        lies_there(&self.config)
            || self
                .config
                .canonicalize()
                .is_ok_and(|path| lies_there(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(config: &str) -> Paths {
        Paths {
            config: config.into(),
            pcp: PathBuf::new(),
            hba: PathBuf::new(),
            key: None,
        }
    }

    #[test]
    fn relative_paths_start_at_the_directory_of_pgpool_conf() {
        let paths = paths("/srv/etc/my.conf");
        assert_eq!(paths.own(), PathBuf::from("/srv/etc/pgpool-rs.conf"));
        assert_eq!(
            paths.beside_config("pool_passwd"),
            PathBuf::from("/srv/etc/pool_passwd")
        );
        assert_eq!(paths.beside_config("/x"), PathBuf::from("/x"));
    }

    #[test]
    fn debian_is_where_its_package_puts_the_file() {
        assert!(paths("/etc/pgpool2/pgpool.conf").debian());
        assert!(!paths("/etc/pgpool-II/pgpool.conf").debian());
        assert!(!paths("/etc/pgpool2/sub/pgpool.conf").debian());
    }
}
