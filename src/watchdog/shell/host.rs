//! What the watchdog looks up on its host: names, addresses, network devices, what it has kept.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use crate::{sys::interfaces, watchdog::settings::Member};

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

/// Does one of these devices run still? `any`: any but loopback.
pub fn any_runs(monitored: &[String]) -> bool {
    // What cannot be read is no reason to end.
    let Ok(running) = interfaces::running() else {
        return true;
    };
    let any = monitored.iter().any(|name| name == "any");
    running
        .iter()
        .any(|name| monitored.contains(name) || any && name != "lo")
}

/// Whether the write lease was on, for the next start.
pub struct Lease {
    path: PathBuf,
}

impl Lease {
    /// Of the pgpool with this port; several may share a work directory.
    pub fn new(work_dir: &Path, port: u16) -> Lease {
        Lease {
            path: work_dir.join(format!("pgpool-rs.lease.{port}")),
        }
    }

    /// What cannot be read counts as on: that only costs time.
    pub fn was_on(&self) -> bool {
        match fs::read_to_string(&self.path) {
            Ok(text) => text.trim() != "off",
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// # Errors
    ///
    /// As the file system gives them.
    pub fn remember(&self, on: bool) -> io::Result<()> {
        let new = self.path.with_extension("new");
        fs::write(&new, if on { "on\n" } else { "off\n" })?;
        fs::rename(new, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_is_remembered_and_off_where_nothing_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let lease = Lease::new(folder.path(), 9999);
        assert!(!lease.was_on());
        lease.remember(true).unwrap();
        assert!(lease.was_on());
        assert!(!Lease::new(folder.path(), 9998).was_on());
        lease.remember(false).unwrap();
        assert!(!lease.was_on());
    }

    #[test]
    fn own_addresses_and_devices_are_known() {
        assert_eq!(has_address("127.0.0.1"), Some(true));
        assert_eq!(has_address("192.0.2.99"), Some(false));
        assert_eq!(has_address("vip.example"), None);
        assert!(any_runs(&["lo".to_owned()]));
        assert!(!any_runs(&["nosuch0".to_owned()]));
    }
}
