//! Addresses of this machine's network interfaces, and names of addresses.

use std::{
    ffi::{CStr, c_char},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ptr,
};

/// Address and network mask of each IPv4 and IPv6 interface (getifaddrs).
///
/// # Errors
///
/// When the system does not give the list.
pub fn addresses() -> io::Result<Vec<(IpAddr, IpAddr)>> {
    collect(|entry| {
        // SAFETY: the pointers of an element are null or point to an address of the stated family.
        let (address, mask) = unsafe { (ip_of(entry.ifa_addr), ip_of(entry.ifa_netmask)) };
        Some((address?, mask?))
    })
}

/// Names of the interfaces that are up and have a link.
///
/// # Errors
///
/// When the system does not give the list.
pub fn running() -> io::Result<Vec<String>> {
    const RUNS: libc::c_int = libc::IFF_UP | libc::IFF_RUNNING;
    let mut names = collect(|entry| {
        let flags = libc::c_int::try_from(entry.ifa_flags).ok()?;
        if flags & RUNS != RUNS || entry.ifa_name.is_null() {
            return None;
        }
        // SAFETY: not null, so it is a text that ends with NUL and lives as long as the list.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        Some(name.to_string_lossy().into_owned())
    })?;
    names.sort();
    names.dedup();
    Ok(names)
}

/// What `pick` makes of the elements of getifaddrs' list: one for each address of an interface.
fn collect<T>(pick: impl Fn(&libc::ifaddrs) -> Option<T>) -> io::Result<Vec<T>> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: getifaddrs writes one pointer; on success it is a list that freeifaddrs below frees.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = list;
    // SAFETY: `next` is null or points to an element of the list, which lives until freeifaddrs.
    while let Some(entry) = unsafe { next.as_ref() } {
        found.extend(pick(entry));
        next = entry.ifa_next;
    }
    // SAFETY: `list` came from getifaddrs and nothing refers to it any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}

/// The host name of `address` from the resolver; blocks.
pub fn name_of(address: IpAddr) -> Option<String> {
    let mut name: [c_char; 1025] = [0; 1025];
    let storage = socket2::SockAddr::from(std::net::SocketAddr::new(address, 0));
    // SAFETY: the address is valid for its stated length, `name` for its own; no service is asked for.
    let result = unsafe {
        libc::getnameinfo(
            storage.as_ptr().cast(),
            storage.len(),
            name.as_mut_ptr(),
            libc::socklen_t::try_from(name.len()).ok()?,
            ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    if result != 0 {
        return None;
    }
    // SAFETY: getnameinfo ended the name with a NUL within the buffer.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    Some(name.to_string_lossy().into_owned())
}

/// # Safety
///
/// `address` is null or points to a socket address as long as its family says.
unsafe fn ip_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: by the contract above.
    let family = i32::from(unsafe { address.as_ref() }?.sa_family);
    match family {
        libc::AF_INET => {
            // SAFETY: the family says that it is a sockaddr_in.
            let v4 = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in>()) };
            Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that it is a sockaddr_in6.
            let v6 = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in6>()) };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found_with_its_mask() {
        let found = addresses().unwrap();
        let loopback = (
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv4Addr::new(255, 0, 0, 0)),
        );
        assert!(found.contains(&loopback), "{found:?}");
    }
}
