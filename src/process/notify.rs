//! Notices to systemd (sd_notify(3)): READY, RELOADING, STOPPING.
//!
//! The original sends none in any release; a unit of `Type=simple` does not ask for them, and
//! without `NOTIFY_SOCKET` nothing is done here.

use std::{
    ffi::OsString,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use crate::{observe::Reporter, sys::clock};

#[derive(Debug)]
pub struct Notifier {
    target: Option<SocketAddr>,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET`: a path, or an abstract name after `@`.
    pub fn from_env() -> Notifier {
        Notifier {
            target: std::env::var_os("NOTIFY_SOCKET").and_then(|name| address(&name)),
        }
    }

    /// Clients can connect and PCP answers. The pid is told for `NotifyAccess=all` with a daemon start.
    pub fn ready(&self) {
        self.send(&format!("READY=1\nMAINPID={}", std::process::id()));
    }

    /// A reload has begun; [`Notifier::ready`] follows when it is done, successful or not.
    pub fn reloading(&self) {
        self.send(&format!(
            "RELOADING=1\nMONOTONIC_USEC={}",
            clock::monotonic_usec()
        ));
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// A line for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', " ")));
    }

    fn send(&self, message: &str) {
        let Some(target) = &self.target else {
            return;
        };
        if let Err(error) = send(target, message) {
            Reporter::new("main").warning(format_args!(
                "could not notify the service manager: {}",
                crate::sys::errors::message(&error)
            ));
        }
    }
}

fn send(target: &SocketAddr, message: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // A service manager that does not read must not stop us.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), target)?;
    Ok(())
}

fn address(name: &OsString) -> Option<SocketAddr> {
    match name.as_bytes().split_first()? {
        (b'@', rest) => SocketAddr::from_abstract_name(rest).ok(),
        (b'/', _) => SocketAddr::from_pathname(name).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 200];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn notices_reach_a_socket_in_the_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier {
            target: address(&path.into()),
        };
        notifier.ready();
        notifier.reloading();
        notifier.stopping();

        assert!(received(&socket).starts_with("READY=1\nMAINPID="));
        let reloading = received(&socket);
        let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        assert!(usec.unwrap().parse::<u64>().unwrap() > 0);
        assert_eq!(received(&socket), "STOPPING=1");
    }

    #[test]
    fn notices_reach_an_abstract_socket() {
        let name = format!("pgpool-rs-test-{}", std::process::id());
        let bound = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let socket = UnixDatagram::bind_addr(&bound).unwrap();
        let notifier = Notifier {
            target: address(&OsString::from(format!("@{name}"))),
        };
        notifier.stopping();
        assert_eq!(received(&socket), "STOPPING=1");
    }

    #[test]
    fn without_a_service_manager_nothing_happens() {
        Notifier { target: None }.ready();
        assert!(address(&OsString::from("vsock:2:1234")).is_none());
        assert!(address(&OsString::new()).is_none());
    }
}
