//! Socket calls that neither std nor tokio offers.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// Sets `SO_RCVLOWAT`: a TCP socket counts as readable only from `bytes` bytes on.
///
/// # Errors
///
/// As setsockopt gives them.
pub fn set_receive_low_water_mark(socket: &impl AsFd, bytes: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open while `socket` is borrowed, and the kernel reads
    // exactly the `c_int` that the pointer and the length describe.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            std::ptr::from_ref(&bytes).cast(),
            libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(4),
        )
    };
    check(done).map(|_| ())
}

/// Looks at the next byte of a stream and leaves it there; zero: the peer has closed.
///
/// # Errors
///
/// As recv gives them, `WouldBlock` included.
pub fn peek(socket: &impl AsFd) -> io::Result<usize> {
    let mut byte = 0u8;
    // SAFETY: the descriptor is open while `socket` is borrowed, and the buffer is one byte
    // that outlives the call.
    let got = unsafe {
        libc::recv(
            socket.as_fd().as_raw_fd(),
            std::ptr::from_mut(&mut byte).cast(),
            1,
            libc::MSG_PEEK | libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// Waits until one of `sockets` is readable; returns which are.
///
/// # Errors
///
/// As poll gives them; an interrupted call is tried again.
pub fn wait_readable(sockets: &[BorrowedFd<'_>]) -> io::Result<Vec<bool>> {
    let mut entries: Vec<libc::pollfd> = sockets
        .iter()
        .map(|fd| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    loop {
        let count = libc::nfds_t::try_from(entries.len()).unwrap_or(libc::nfds_t::MAX);
        // SAFETY: `entries` holds `count` initialised pollfd structures and is not moved during the call.
        let done = unsafe { libc::poll(entries.as_mut_ptr(), count, -1) };
        match check(done) {
            Ok(_) => return Ok(entries.iter().map(|e| e.revents != 0).collect()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Takes one connection off a listening socket; the new descriptor is non-blocking and close-on-exec.
///
/// # Errors
///
/// As accept4 gives them, `WouldBlock` included.
pub fn accept(listener: &impl AsFd) -> io::Result<(OwnedFd, socket2::SockAddr)> {
    let listener = listener.as_fd().as_raw_fd();
    // SAFETY: `storage` and `len` are what accept4 wants, and it returns how much it has filled.
    let (fd, address) = unsafe {
        socket2::SockAddr::try_init(|storage, len| {
            check(libc::accept4(
                listener,
                storage.cast(),
                len,
                libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
            ))
        })?
    };
    // SAFETY: accept4 has just returned this descriptor and nobody else knows it.
    Ok((unsafe { OwnedFd::from_raw_fd(fd) }, address))
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
