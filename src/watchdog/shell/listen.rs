//! The sockets of the watchdog: `wd_port`, the heartbeat port and the local socket.
//!
//! Any that cannot be had ends the start, as in the original: a node that others cannot reach would look
//! like one that is dead.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    time::Duration,
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UdpSocket, UnixListener};

use crate::{
    observe::Reporter,
    process::{
        fatal::Fatal,
        listen::{SocketFiles, has_server},
    },
    sys::errors,
    watchdog::settings::{LifecheckMethod, Settings},
};

const BACKLOG: i32 = 256;
/// The heartbeat port is tried for this often, a second apart, as by the original.
const ATTEMPTS: u32 = 5;

/// All that a watchdog listens on. The file of the local socket goes when this is dropped.
#[derive(Debug)]
pub struct Listeners {
    pub tcp: Vec<TcpListener>,
    pub heartbeats: Vec<UdpSocket>,
    pub ipc: UnixListener,
    pub file: SocketFiles,
}

/// Opens all sockets; may take some seconds.
///
/// # Errors
///
/// The first one that cannot be opened.
pub async fn bind(settings: &Settings, reporter: &Reporter) -> Result<Listeners, Fatal> {
    let tcp = bind_tcp(settings)?.into_iter().map(TcpListener::from_std);
    let tcp = tcp.collect::<io::Result<_>>();
    let tcp = tcp.map_err(|error| no_tcp(settings, &error))?;
    let heartbeats = bind_heartbeats(settings, reporter).await?;
    let (ipc, file) = bind_ipc(&ipc_path(settings))?;
    Ok(Listeners {
        tcp,
        heartbeats,
        ipc,
        file,
    })
}

/// Tries the ports, so that one in use is told to whoever starts pgpool; blocks.
///
/// # Errors
///
/// The first one that cannot be had.
pub fn probe(settings: &Settings) -> Result<(), Fatal> {
    drop(bind_tcp(settings)?);
    if settings.lifecheck.method == LifecheckMethod::Heartbeat {
        let heartbeat = &settings.heartbeat;
        let opened = each_address(
            &heartbeat.listen_addresses,
            heartbeat.listen_port,
            |address| udp_socket(address, ""),
        );
        drop(opened.map_err(|error| no_heartbeats(settings, &error))?);
    }
    Ok(())
}

/// Does a pgpool of this node run, or whoever else has taken its watchdog's sockets?
pub fn are_in_use(settings: &Settings) -> bool {
    bind_tcp(settings).is_err() || has_server(&ipc_path(settings))
}

/// Where tools look for the local socket.
pub fn ipc_path(settings: &Settings) -> PathBuf {
    let name = format!(".s.PGPOOLWD_CMD.{}", settings.own.wd_port);
    settings.ipc_socket_dir.join(name)
}

fn bind_tcp(settings: &Settings) -> Result<Vec<std::net::TcpListener>, Fatal> {
    let port = settings.listen_port;
    each_address(&words(&settings.listen_address), port, |address| {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    })
    .map_err(|error| no_tcp(settings, &error))
}

fn no_tcp(settings: &Settings, error: &io::Error) -> Fatal {
    Fatal::new(format!(
        "failed to create watchdog receive socket on port {}",
        settings.listen_port
    ))
    .detail(errors::message(error))
    .hint("look who listens there (ss -ltnp); wd_port must be free on this host")
}

fn no_heartbeats(settings: &Settings, error: &io::Error) -> Fatal {
    Fatal::new(format!(
        "failed to create watchdog heartbeat receive socket on port {}",
        settings.heartbeat.listen_port
    ))
    .detail(errors::message(error))
    .hint("look who listens there (ss -lunp); the heartbeat port must be free on this host")
}

async fn bind_heartbeats(
    settings: &Settings,
    reporter: &Reporter,
) -> Result<Vec<UdpSocket>, Fatal> {
    if settings.lifecheck.method != LifecheckMethod::Heartbeat {
        return Ok(Vec::new());
    }
    let heartbeat = &settings.heartbeat;
    let devices = receiving_devices(settings, reporter);
    let mut attempt = 1;
    loop {
        let mut sockets = Vec::new();
        let mut bound = Ok(());
        for device in &devices {
            let addresses = &heartbeat.listen_addresses;
            match each_address(addresses, heartbeat.listen_port, |a| udp(a, device)) {
                Ok(some) => sockets.extend(some),
                Err(error) => bound = Err(error),
            }
        }
        match bound {
            Ok(()) => return Ok(sockets),
            Err(_) if attempt < ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(no_heartbeats(settings, &error)),
        }
    }
}

/// One socket for each device, if all heartbeats have one; else one for all (an empty name).
fn receiving_devices(settings: &Settings, reporter: &Reporter) -> Vec<String> {
    let destinations = &settings.heartbeat.destinations;
    let mut devices: Vec<String> = destinations.iter().map(|d| d.device.clone()).collect();
    devices.sort();
    devices.dedup();
    let all_have_one = !devices.is_empty() && devices.iter().all(|d| !d.is_empty());
    if devices.iter().any(|d| !d.is_empty()) && !may_use_devices() {
        reporter.log("failed to create watchdog heartbeat receive socket as much intended: heartbeat_device has no effect, because binding to a device is for root only");
        return vec![String::new()];
    }
    if all_have_one {
        devices
    } else {
        vec![String::new()]
    }
}

/// Only root may bind a socket to a network device, and stock nodes do so as root only.
pub fn may_use_devices() -> bool {
    crate::sys::users::is_root()
}

/// An empty `device`: any.
pub fn udp(address: SocketAddr, device: &str) -> io::Result<UdpSocket> {
    UdpSocket::from_std(udp_socket(address, device)?)
}

fn udp_socket(address: SocketAddr, device: &str) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if !device.is_empty() {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

fn words(text: &str) -> Vec<String> {
    let words = text.split([',', ' ']).map(str::trim);
    words.filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

/// On each of `hosts`; without any, or with `*`, on all addresses: IPv4, and IPv6 where there is some.
fn each_address<T>(
    hosts: &[String],
    port: u16,
    mut open: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<Vec<T>> {
    if hosts.is_empty() || hosts.iter().any(|host| host == "*") {
        let v4 = open((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port).into())?;
        return Ok(
            match open((IpAddr::V6(Ipv6Addr::UNSPECIFIED), port).into()) {
                Ok(v6) => vec![v4, v6],
                // Without IPv6 on this host nobody misses it.
                Err(_) => vec![v4],
            },
        );
    }
    let mut opened = Vec::new();
    for host in hosts {
        for address in (host.as_str(), port).to_socket_addrs()? {
            opened.push(open(address)?);
        }
    }
    Ok(opened)
}

/// A file that a process before has left is removed; one that somebody answers on is not.
fn bind_ipc(path: &Path) -> Result<(UnixListener, SocketFiles), Fatal> {
    let failed = |error: io::Error| {
        Fatal::new(format!(
            "failed to create watchdog command server socket \"{}\"",
            path.display()
        ))
        .detail(errors::message(&error))
        .hint("give wd_ipc_socket_dir to the account that pgpool runs as; another pgpool with the same wd_port must not use it")
    };
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() && has_server(path) => {
            return Err(failed(ErrorKind::AddrInUse.into()));
        }
        // The original removes whatever has the name; a file that is no socket is not ours to remove.
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path).map_err(failed)?,
        Ok(_) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    let mut file = SocketFiles::default();
    file.add(path.to_owned());
    Ok((listener, file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::{settings::Destination, testing};

    fn settings(folder: &Path) -> Settings {
        let mut settings = testing::settings(0, 3);
        settings.ipc_socket_dir = folder.to_owned();
        settings.listen_address = "127.0.0.1".to_owned();
        settings.listen_port = 0;
        settings.heartbeat.listen_addresses = vec!["127.0.0.1".to_owned()];
        settings.heartbeat.listen_port = 0;
        settings
    }

    #[tokio::test]
    async fn a_socket_file_that_nobody_answers_on_is_replaced_and_goes_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let path = folder.path().join(".s.PGPOOLWD_CMD.9000");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(
            path.exists(),
            "left behind, as by a process that was killed"
        );
        let first = bind(&settings, &Reporter::new("watchdog")).await.unwrap();
        assert!(bind(&settings, &Reporter::new("watchdog")).await.is_err());
        assert!(path.exists(), "one that is in use stays");
        drop(first);
        assert!(!path.exists());
    }

    /// Stock nodes before 4.3.16 ignore it.
    #[tokio::test]
    async fn a_single_heartbeat_device_is_used() {
        let mut settings = testing::settings(0, 2);
        settings.heartbeat.destinations = vec![Destination {
            host: "127.0.0.1".to_owned(),
            port: 9694,
            device: "lo".to_owned(),
        }];
        let devices = receiving_devices(&settings, &Reporter::new("watchdog"));
        if !may_use_devices() {
            assert_eq!(devices, [""]);
            eprintln!("skipped: only root may bind to a device");
            return;
        }
        assert_eq!(devices, ["lo"]);
        let any = "127.0.0.1:0".parse().unwrap();
        let socket = udp(any, &devices[0]).unwrap();
        let bound = socket2::SockRef::from(&socket).device().unwrap();
        assert_eq!(bound.as_deref(), Some(&b"lo"[..]));
        assert!(udp(any, "nosuch0").is_err());
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path());
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        settings.listen_port = taken.local_addr().unwrap().port();
        let error = bind(&settings, &Reporter::new("watchdog"))
            .await
            .unwrap_err();
        let port = settings.listen_port.to_string();
        assert!(error.message.ends_with(&port), "{error:?}");
    }
}
