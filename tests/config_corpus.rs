//! Files and recordings that are not part of this project. Configurations from public installations: each is read in the dialect it was written in, and
//! what the original refuses for no good reason is accepted.
//!
//! Without them the tests say so and pass.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use pgpool_rs::config::{Config, Finding, LoadError, LoadMode, Paths, Release};

fn shared() -> PathBuf {
    env::var_os("PGPOOL_RS_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    )
}

fn load(path: &Path, mode: LoadMode) -> Result<(Config, Vec<Finding>), LoadError> {
    let paths = Paths {
        config: path.to_owned(),
        pcp: "/nonexistent".into(),
        hba: "/nonexistent".into(),
        key: None,
    };
    Config::load(&paths, mode)
}

/// How each file was recognised by hand.
fn expected(name: &str) -> Release {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|p| name.starts_with(p));
    if begins(&["gcca", "kustikov112"]) {
        Release::V4_5
    } else if begins(&["rellik24"]) {
        Release::V4_6
    } else if begins(&["alazycoder101", "hiendt2907", "jtorral", "postgreshelp"]) {
        Release::V4_4
    } else if begins(&[
        "Bivas-Biswas",
        "Rafarelos",
        "lunna21",
        "mmishv4",
        "pgpool__",
        "ppoz21",
        "riggiogradiant",
    ]) {
        Release::V4_3
    } else {
        Release::V4_0
    }
}

/// Files that no release of their own dialect starts with, and why.
const IMPOSSIBLE: [(&str, &str); 2] = [
    (
        "eliotjordan",
        "invalid value for parameter \"other_pgpool_port0\"",
    ),
    (
        "valmorsecco",
        "failover_when_quorum_exists is not allowed in native replication mode",
    ),
];

#[test]
fn every_file_of_the_corpus_is_read_in_its_dialect() {
    let folder = shared().join("corpus");
    let Ok(entries) = fs::read_dir(&folder) else {
        eprintln!("SKIPPED: no corpus at {}", folder.display());
        return;
    };
    let mut count = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let endings = ["pgpool.conf", "pgpool.conf.sample", "pgpool-nodo1.conf"];
        if !endings.iter().any(|ending| name.ends_with(ending)) {
            continue;
        }
        count += 1;
        let impossible = IMPOSSIBLE.iter().find(|(file, _)| name.starts_with(file));
        let findings = match (load(&path, LoadMode::Check), impossible) {
            (Ok((config, findings)), None) => {
                assert_eq!(config.dialect, expected(&name), "{name}: {findings:#?}");
                findings
            }
            (Err(error), Some((_, why))) => {
                assert!(error.to_string().contains(why), "{name}: {error}");
                error.findings
            }
            (Ok(_), Some(_)) => panic!("{name} was accepted"),
            (Err(error), None) => panic!("{name}: {:#?}", error.findings),
        };
        let read_as = format!("read as a file of {}", expected(&name));
        assert!(
            findings.iter().any(|f| f.text.starts_with(&read_as)),
            "{name}: {findings:#?}"
        );
    }
    assert!(count >= 30, "only {count} files found");
}

#[test]
fn the_seed_is_a_file_of_4_0_with_three_backends() {
    let path = shared().join("seed/pgpool.conf");
    if !path.exists() {
        eprintln!("SKIPPED: no seed at {}", path.display());
        return;
    }
    let (config, _) = load(&path, LoadMode::Start).unwrap();
    assert_eq!(config.dialect, Release::V4_0);
    let settings = &config.settings;
    assert_eq!(settings.backends.len(), 3);
    assert!(settings.follow_primary_command.contains("follow_master.sh"));
    assert!(!settings.failover_on_backend_error);
}

/// Debian's own file, where its package is installed.
#[test]
fn debian_s_file_is_of_4_3_and_gets_debian_s_directories() {
    let path = PathBuf::from("/etc/pgpool2/pgpool.conf");
    if !path.exists() {
        eprintln!("SKIPPED: {} is not there", path.display());
        return;
    }
    let (config, findings) = load(&path, LoadMode::Check).unwrap();
    assert_eq!(config.dialect, Release::V4_3, "{findings:#?}");
    assert_eq!(
        config.settings.unix_socket_directories,
        [PathBuf::from("/var/run/postgresql")]
    );
}

/// What `PGPOOL SHOW ALL` of Debian's 4.3.5 printed with an otherwise empty file.
#[test]
fn defaults_of_4_3_show_as_recorded() {
    let path = shared().join("reference/parameters.tsv");
    let Ok(table) = fs::read_to_string(&path) else {
        eprintln!("SKIPPED: no recording at {}", path.display());
        return;
    };
    let (config, _) =
        Config::from_text("backend_clustering_mode = streaming_replication\n").unwrap();
    let mut lines = table
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let column = |name| header.iter().position(|h| *h == name).unwrap();
    let (name, shown, flags) = (
        column("name"),
        column("shown_4.3.5_debian"),
        column("flags"),
    );
    let mut compared = 0;
    for row in lines {
        let recorded = row[shown];
        let elsewhere = recorded.contains("/var/run/postgresql")
            || recorded.contains("/var/log/postgresql")
            // Its default was on until 4.3.8.
            || row[name] == "failover_on_backend_shutdown";
        let hidden = row[flags].contains("not in SHOW ALL");
        if elsewhere || hidden || recorded.is_empty() {
            continue;
        }
        let ours = config.show(row[name], None);
        // Trailing blanks are lost in the table.
        assert_eq!(
            ours.as_deref().map(str::trim_end),
            Some(recorded.trim_end()),
            "{}",
            row[name]
        );
        compared += 1;
    }
    assert!(compared > 80, "only {compared} compared");
}
