//! Where the configuration files are: the command line, the environment, the default folders.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::args::Args;
use crate::{config::Paths, sys::users};

/// Searched in this order for a pgpool.conf: Debian's build, the RPM packages, a build from source.
const CONFIG_DIRECTORIES: [&str; 3] = ["/etc/pgpool2", "/etc/pgpool-II", "/usr/local/etc"];

/// The files that this command line means.
///
/// # Errors
///
/// When the start directory is gone and a path is relative to it.
pub fn resolve(args: &Args) -> io::Result<Paths> {
    let directory = config_directory();
    let choose = |given: &Option<PathBuf>, name: &str| match given {
        Some(path) => std::path::absolute(path),
        None => Ok(directory.join(name)),
    };
    // `-k`, else PGPOOLKEYFILE, else the home directory of the user database.
    let key = match &args.key_file {
        Some(path) => Some(std::path::absolute(path)?),
        None => match std::env::var_os("PGPOOLKEYFILE").filter(|path| !path.is_empty()) {
            Some(path) => Some(std::path::absolute(path)?),
            None => default_key_file(),
        },
    };
    Ok(Paths {
        config: choose(&args.config_file, "pgpool.conf")?,
        hba: choose(&args.hba_file, "pool_hba.conf")?,
        pcp: choose(&args.pcp_file, "pcp.conf")?,
        key,
    })
}

/// The default folder of all three files, also when `-f` names a file elsewhere.
/// A build can fix it with the environment variable `PGPOOL_RS_CONFDIR`.
pub fn config_directory() -> PathBuf {
    match option_env!("PGPOOL_RS_CONFDIR") {
        Some(fixed) => PathBuf::from(fixed),
        None => first_with_config(CONFIG_DIRECTORIES.map(Path::new)),
    }
}

pub fn default_key_file() -> Option<PathBuf> {
    users::home_directory().map(|home| home.join(".pgpoolkey"))
}

fn first_with_config<const N: usize>(candidates: [&Path; N]) -> PathBuf {
    candidates
        .iter()
        .find(|directory| directory.join("pgpool.conf").exists())
        .or_else(|| candidates.iter().find(|directory| directory.is_dir()))
        .or(candidates.last())
        .map(|directory| directory.to_path_buf())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_folder_that_holds_a_pgpool_conf_is_taken() {
        let scratch = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| scratch.path().join(name));
        assert_eq!(first_with_config([&*a, &*b, &*c]), c, "nothing is there");
        std::fs::create_dir(&b).unwrap();
        assert_eq!(
            first_with_config([&*a, &*b, &*c]),
            b,
            "a folder without a file"
        );
        std::fs::create_dir(&c).unwrap();
        std::fs::write(c.join("pgpool.conf"), "").unwrap();
        assert_eq!(first_with_config([&*a, &*b, &*c]), c);
    }
}
