//! What the watchdog looks up on its host: names, addresses, network devices, what it has kept.

use std::{
    fs,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::{
    sys::interfaces,
    watchdog::{core::lease::Memory, settings::Member},
};

/// How other nodes show this one: `host:port system host`, as `uname` has the last two.
pub fn node_name(own: &Member) -> String {
    let uname = |what: &str| {
        let text = fs::read_to_string(format!("/proc/sys/kernel/{what}")).unwrap_or_default();
        text.trim().to_owned()
    };
    format!("{} {} {}", own.label(), uname("ostype"), uname("hostname"))
}

/// Is the virtual IP on one of this host's devices? `None`: that cannot be told.
pub fn has_address(ip: &str) -> Option<bool> {
    let ip: IpAddr = ip.parse().ok()?;
    let all = interfaces::addresses().ok()?;
    Some(all.iter().any(|(address, _)| *address == ip))
}

/// Does none of the devices run any more that are to be monitored? Without any nobody is to know.
pub fn network_is_lost(monitored: &[String]) -> bool {
    !monitored.is_empty() && !any_runs(monitored)
}

/// Does one of these devices run still? `any`: any but loopback.
fn any_runs(monitored: &[String]) -> bool {
    // What cannot be read is no reason to end.
    let Ok(running) = interfaces::running() else {
        return true;
    };
    let any = monitored.iter().any(|name| name == "any");
    running
        .iter()
        .any(|name| monitored.contains(name) || any && name != "lo")
}

/// Where what is kept outlives a restart of the machine: the unit's `StateDirectory`, or else the work directory.
pub fn state_directory(work_dir: &Path) -> PathBuf {
    // Several are separated by colons (systemd.exec(5)).
    let of_unit = std::env::var_os("STATE_DIRECTORY").unwrap_or_default();
    let first = std::env::split_paths(&of_unit).next();
    first
        .filter(|path| path.is_absolute())
        .unwrap_or_else(|| work_dir.to_owned())
}

/// Emptied when the machine starts, or of what nobody has written to for days.
fn is_swept(folder: &Path) -> bool {
    ["/tmp", "/var/tmp", "/run", "/var/run", "/dev/shm"]
        .iter()
        .any(|swept| folder.starts_with(swept))
}

/// What the watchdog keeps for the next start.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
}

impl Kept {
    /// Of the pgpool with this port; several may share a work directory.
    pub fn new(work_dir: &Path, port: u16) -> Kept {
        Kept {
            path: work_dir.join(format!("pgpool-rs.watchdog.{port}")),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does it lie where it may be gone at the next start?
    pub fn may_be_swept(&self) -> bool {
        self.path.parent().is_none_or(is_swept)
    }

    /// Keeps what sweeps old files away from it.
    ///
    /// # Errors
    ///
    /// As the file system gives them.
    pub fn touch(&self) -> io::Result<()> {
        match fs::File::options().append(true).open(&self.path) {
            Ok(file) => file.set_modified(std::time::SystemTime::now()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Nothing is known where there is no file. One that cannot be read counts as a lease that was on: that only
    /// costs time.
    ///
    /// With it, why it could not be read.
    pub fn read(&self) -> (Memory, Option<io::Error>) {
        let unknown = Memory {
            lease_is_on: true,
            ..Memory::default()
        };
        match fs::read_to_string(&self.path) {
            Ok(text) => match Memory::parse(&text) {
                Some(memory) => (memory, None),
                None => (unknown, Some(io::ErrorKind::InvalidData.into())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Memory::default(), None),
            Err(error) => (unknown, Some(error)),
        }
    }

    /// On disk when it returns.
    ///
    /// # Errors
    ///
    /// As the file system gives them.
    pub fn remember(&self, memory: &Memory) -> io::Result<()> {
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        // Others may write to the folder, too: no link of theirs is followed.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(memory.text().as_bytes())?;
        file.sync_all()?;
        fs::rename(new, &self.path)?;
        match self.path.parent() {
            Some(folder) => fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_what_cannot_be_read_is_a_lease() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path(), 9999);
        assert_eq!(kept.read().0, Memory::default());
        let memory = Memory {
            lease_is_on: true,
            ..Memory::default()
        };
        kept.remember(&memory).unwrap();
        assert_eq!(kept.read().0, memory);
        assert_eq!(Kept::new(folder.path(), 9998).read().0, Memory::default());
        kept.remember(&Memory::default()).unwrap();
        assert_eq!(kept.read().0, Memory::default());
        fs::write(kept.path(), "half a li").unwrap();
        let (memory, error) = kept.read();
        assert!(memory.lease_is_on && error.is_some());
    }

    #[test]
    fn a_link_of_somebody_else_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path(), 9999);
        let other = folder.path().join("other");
        fs::write(&other, "theirs").unwrap();
        std::os::unix::fs::symlink(&other, folder.path().join("pgpool-rs.watchdog.9999.new"))
            .unwrap();
        kept.remember(&Memory::default()).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "theirs");
        assert_eq!(kept.read().0, Memory::default());
        kept.touch().unwrap();
    }

    #[test]
    fn what_is_swept_at_a_start_of_the_machine_is_known() {
        assert!(Kept::new(Path::new("/tmp"), 9999).may_be_swept());
        assert!(Kept::new(Path::new("/var/run/pgpool"), 9999).may_be_swept());
        assert!(!Kept::new(Path::new("/var/lib/pgpool"), 9999).may_be_swept());
        assert!(!Kept::new(Path::new("/tmpfiles"), 9999).may_be_swept());
    }

    #[test]
    fn own_addresses_and_devices_are_known() {
        assert_eq!(has_address("127.0.0.1"), Some(true));
        assert_eq!(has_address("192.0.2.99"), Some(false));
        assert_eq!(has_address("vip.example"), None);
        assert!(any_runs(&["lo".to_owned()]));
        assert!(!any_runs(&["nosuch0".to_owned()]));
    }

    #[test]
    fn only_monitored_devices_are_missed() {
        let lost = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            network_is_lost(&names)
        };
        assert!(lost(&["nosuch0"]) && lost(&["nosuch0", "nosuch1"]));
        assert!(!lost(&["nosuch0", "lo"]));
        // Whatever has become of all of them.
        assert!(!lost(&[]));
    }
}
