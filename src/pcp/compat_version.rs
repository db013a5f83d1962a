//! Which release's reply layouts the PCP server speaks.
//!
//! Nothing on the wire tells the version of a client, so the layouts follow the tools that are
//! installed, not the age of pgpool.conf: the setting `compat_version`, else what the stock tool
//! says of itself, else the dialect of the file, else 4.3.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncReadExt, process::Command, time};

use crate::config::{Config, Release, settings::CompatVersion};

const TOOL: &str = "pcp_node_info";

/// A tool that does not answer within this is taken for absent.
const TOOL_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a tool's output that are looked at.
const MAX_OUTPUT: u64 = 4096;

/// Layouts in force with `config`; `tools` is what [`installed_tools`] found at start.
pub fn effective(config: &Config, tools: Option<CompatVersion>) -> CompatVersion {
    let from_dialect = || match config.dialect {
        dialect if dialect < Release::V4_0 => last_of_series(Release::V4_0),
        dialect => last_of_series(dialect),
    };
    config
        .settings
        .own
        .compat_version
        .or(tools)
        .unwrap_or_else(from_dialect)
}

/// Live words (`pg_status`, `pg_role`) are left empty for files older than they are, so that
/// scripts that read the words of `pcp_node_info` by position find each where it was.
pub fn hides_live_words(config: &Config) -> bool {
    config.dialect < Release::V4_3
}

/// Asks the installed `pcp_node_info` for its version. Called once, at start.
///
/// Looks beside our own binary, in `PATH`, then in `/usr/sbin` and `/usr/bin`; the first that
/// answers counts. Never blocks the thread.
pub async fn installed_tools() -> Option<CompatVersion> {
    tools_in(&folders()).await
}

/// As [`installed_tools`], in these folders.
pub async fn tools_in(folders: &[PathBuf]) -> Option<CompatVersion> {
    for folder in folders {
        let tool = folder.join(TOOL);
        if tokio::fs::metadata(&tool).await.is_ok_and(|m| m.is_file())
            && let Some(version) = ask(&tool).await
        {
            return Some(version);
        }
    }
    None
}

fn folders() -> Vec<PathBuf> {
    let beside = env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_owned));
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in beside
        .into_iter()
        .chain(env::split_paths(&path))
        .chain(["/usr/sbin".into(), "/usr/bin".into()])
    {
        if folder.is_absolute() && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

async fn ask(tool: &Path) -> Option<CompatVersion> {
    let mut child = Command::new(tool)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // The original's tools print their version here.
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let (stdout, stderr) = (child.stdout.take()?, child.stderr.take()?);
    let (mut text, mut more) = (Vec::new(), Vec::new());
    time::timeout(TOOL_TIMEOUT, async {
        let mut stdout = stdout.take(MAX_OUTPUT);
        let mut stderr = stderr.take(MAX_OUTPUT);
        let (read, read_more) =
            tokio::join!(stdout.read_to_end(&mut text), stderr.read_to_end(&mut more));
        read.ok()?;
        read_more.ok()?;
        text.append(&mut more);
        child.wait().await.ok()
    })
    .await
    .ok()??;
    parse_version_line(&String::from_utf8_lossy(&text))
}

/// `pcp_node_info (pgpool-II) 4.3.5`; a release after 4.7 is served as 4.7, one before 4.0 as 4.0.
fn parse_version_line(text: &str) -> Option<CompatVersion> {
    let word = text.lines().next()?.split_once("(pgpool-II)")?.1;
    let mut numbers = word.trim().split('.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit());
        part[..digits.unwrap_or(part.len())].parse::<u8>().ok()
    });
    let release = Release::new(numbers.next()??, numbers.next()??);
    if release < Release::V4_0 {
        return Some(CompatVersion {
            release: Release::V4_0,
            patch: 0,
        });
    }
    if release > Release::V4_7 {
        return Some(last_of_series(Release::V4_7));
    }
    Some(CompatVersion {
        release,
        // "4.4beta1" has no patch level.
        patch: numbers.next().flatten().unwrap_or(0),
    })
}

fn last_of_series(release: Release) -> CompatVersion {
    CompatVersion {
        release,
        patch: release.last_patch(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn version(major: u8, minor: u8, patch: u8) -> Option<CompatVersion> {
        Some(CompatVersion {
            release: Release::new(major, minor),
            patch,
        })
    }

    #[test]
    fn the_version_is_the_word_after_the_name_of_the_product() {
        for (text, expected) in [
            ("pcp_node_info (pgpool-II) 4.3.5\n", version(4, 3, 5)),
            ("pcp_node_info (pgpool-II) 4.0.25", version(4, 0, 25)),
            ("pcp_node_info (pgpool-II) 4.4beta1\n", version(4, 4, 0)),
            ("pcp_node_info (pgpool-II) 3.7.26\n", version(4, 0, 0)),
            ("pcp_node_info (pgpool-II) 5.0.1\n", version(4, 7, 2)),
            ("pcp_node_info (pgpool-II) \n", None),
            ("pgpool-II 4.3.5\n", None),
            ("", None),
        ] {
            assert_eq!(parse_version_line(text), expected, "{text:?}");
        }
    }

    fn tool(folder: &Path, script: &str) {
        let path = folder.join(TOOL);
        fs::write(&path, script).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[tokio::test]
    async fn the_first_tool_that_answers_counts() {
        let [silent, good, later] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        tool(silent.path(), "#!/bin/sh\nexit 1\n");
        tool(
            good.path(),
            "#!/bin/sh\necho 'pcp_node_info (pgpool-II) 4.1.9' >&2\n",
        );
        tool(
            later.path(),
            "#!/bin/sh\necho 'pcp_node_info (pgpool-II) 4.7.0'\n",
        );
        let folders = [
            PathBuf::from("/nonexistent"),
            silent.path().to_owned(),
            good.path().to_owned(),
            later.path().to_owned(),
        ];
        assert_eq!(tools_in(&folders).await, version(4, 1, 9));
        assert_eq!(tools_in(&folders[..2]).await, None);
    }
}
