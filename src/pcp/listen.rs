//! The listening sockets of the PCP port, for the runtime that serves them.

use std::{net::SocketAddr, sync::Arc};

use tokio::net::{TcpListener, UnixListener};

use crate::{
    config::Config,
    observe::Reporter,
    process::{
        fatal::Fatal,
        listen::{self, SocketFiles, Wanted},
    },
};

/// The sockets; dropping it removes the socket files.
#[derive(Debug)]
pub struct Listeners {
    pub(super) unix: Vec<UnixListener>,
    pub(super) tcp: Vec<TcpListener>,
    _files: SocketFiles,
}

/// Opens all sockets of the PCP port: one unix socket per directory of `pcp_socket_dir`, and TCP on
/// `pcp_listen_addresses`.
///
/// # Errors
///
/// The first socket that cannot be opened; those opened before are closed again.
pub async fn bind(config: &Arc<Config>) -> Result<Listeners, Fatal> {
    let config = Arc::clone(config);
    // Looks names up.
    let bound = tokio::task::spawn_blocking(move || {
        listen::bind(&Wanted::for_pcp(&config), &Reporter::new("pcp_main"))
    });
    let bound = bound
        .await
        .unwrap_or_else(|_| Err(Fatal::new("opening the PCP port was interrupted")))?;
    let failed = |error| {
        Fatal::new("the PCP port cannot be served").detail(crate::sys::errors::message(&error))
    };
    let unix = bound.unix.into_iter().map(UnixListener::from_std);
    let tcp = bound.tcp.into_iter().map(TcpListener::from_std);
    Ok(Listeners {
        unix: unix.collect::<Result<_, _>>().map_err(failed)?,
        tcp: tcp.collect::<Result<_, _>>().map_err(failed)?,
        _files: bound.files,
    })
}

impl Listeners {
    /// Addresses of the TCP sockets; port 0 in the configuration lets the system choose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.tcp
            .iter()
            .filter_map(|l| l.local_addr().ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpStream, UnixStream};

    use super::*;

    #[tokio::test]
    async fn the_port_is_open_on_every_address_and_directory_until_the_listeners_go() {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .unwrap()
            .port();
        let text = format!(
            "pcp_listen_addresses = '127.0.0.1'\npcp_port = {port}\npcp_socket_dir = '{}'\n",
            folder.path().display()
        );
        let config = Arc::new(Config::from_text(&text).unwrap().0);
        let listeners = bind(&config).await.unwrap();
        assert_eq!(listeners.addresses(), [([127, 0, 0, 1], port).into()]);
        let path = folder.path().join(format!(".s.PGSQL.{port}"));
        UnixStream::connect(&path).await.unwrap();
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        assert!(bind(&config).await.is_err(), "both are taken");
        assert!(path.exists(), "a living server keeps its file");
        drop(listeners);
        assert!(!path.exists());
    }
}
