//! Socket calls that neither std nor tokio offers.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};

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

/// Puts a descriptor on the runtime of this thread, to be told when it is readable.
///
/// # Errors
///
/// As epoll gives them.
pub fn watch_readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and stays the same descriptor until it is dropped, which the
    // `AsyncFd` that owns it does after taking it off the runtime.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.map_err(io::Error::from)
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
