//! The socket file: made with mode 0600, never taken from a pgpool that answers on it.
//!
//! Whatever goes wrong here is a warning. Nothing of a failover depends on this socket.

use std::{
    fs::{self, File, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::{
    process::listen::{SocketFiles, has_server},
    sys::errors,
};

/// Connections that the kernel holds for us until they are accepted.
const BACKLOG: i32 = 16;

/// The socket; the file goes when it is dropped, unless another one has taken its place.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: tokio::net::UnixListener,
    _file: SocketFiles,
}

/// Why there is no socket, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSocket {
    pub path: PathBuf,
    pub detail: String,
    pub hint: &'static str,
}

/// Must be called within a runtime.
///
/// # Errors
///
/// For a warning.
pub fn bind(path: &Path) -> Result<Listener, NoSocket> {
    let failed = |error: io::Error| NoSocket {
        path: path.to_owned(),
        detail: errors::message(&error),
        hint: "give the work directory (logdir) to the account that pgpool runs as, and restart pgpool",
    };
    let found = fs::symlink_metadata(path).map(|m| m.file_type().is_socket());
    match found {
        Ok(true) if has_server(path) => {
            return Err(NoSocket {
                path: path.to_owned(),
                detail: "another pgpool answers there".to_owned(),
                hint: "two pgpools with the same port share the work directory (logdir): give each its own",
            });
        }
        // Left by a pgpool that was killed.
        Ok(true) => fs::remove_file(path).map_err(failed)?,
        // A file of another kind is not ours to remove: bind says that the name is taken.
        Ok(false) | Err(_) => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    // Linux makes the file with the mode that the socket has, so that nobody gets in for a moment.
    let socket = File::from(OwnedFd::from(socket));
    socket
        .set_permissions(Permissions::from_mode(0o600))
        .map_err(failed)?;
    let socket = Socket::from(OwnedFd::from(socket));
    let address = SockAddr::unix(path).map_err(failed)?;
    socket.bind(&address).map_err(failed)?;
    let mut file = SocketFiles::default();
    file.add(path.to_owned());
    // Where the mode of the socket does not count.
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let socket = UnixListener::from(OwnedFd::from(socket));
    Ok(Listener {
        socket: tokio::net::UnixListener::from_std(socket).map_err(failed)?,
        _file: file,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_file_is_the_accounts_alone_and_goes_with_the_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = super::super::path(dir.path(), 9999);
        let listener = bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        tokio::net::UnixStream::connect(&path).await.unwrap();
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_file_is_replaced_and_that_of_a_server_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = super::super::path(dir.path(), 9999);
        let first = bind(&path).unwrap();
        let error = bind(&path).unwrap_err();
        assert_eq!(error.detail, "another pgpool answers there");
        // As after a kill: nobody removes the file.
        std::mem::forget(first._file);
        drop(first.socket);
        assert!(path.exists());
        let _again = bind(&path).unwrap();
        tokio::net::UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_in_the_way_is_left_alone_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = super::super::path(dir.path(), 9999);
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path).unwrap_err().detail, "Address already in use");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let gone = bind(&dir.path().join("gone/socket")).unwrap_err();
        assert_eq!(gone.detail, "No such file or directory");
        let long = dir.path().join("x".repeat(120));
        assert!(bind(&long).is_err());
    }
}
