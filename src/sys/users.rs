//! The user and group databases.

use std::{
    ffi::{CStr, CString, OsStr},
    io,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// Home directory of the effective user, from the user database and not from `HOME`,
/// as stock looks for `~/.pgpoolkey`.
pub fn home_directory() -> Option<PathBuf> {
    let mut buffer = vec![0u8; 16 * 1024];
    // SAFETY: an all-zero passwd is valid (null pointers, zero numbers).
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found: *mut libc::passwd = std::ptr::null_mut();
    // SAFETY: all pointers are valid for the call, and the buffer has the length given.
    let rc = unsafe {
        libc::getpwuid_r(
            libc::geteuid(),
            &raw mut entry,
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            &raw mut found,
        )
    };
    if rc != 0 || found.is_null() || entry.pw_dir.is_null() {
        return None;
    }
    // SAFETY: pw_dir points to a string ended by NUL within `buffer`, which is still alive.
    let home = unsafe { CStr::from_ptr(entry.pw_dir) };
    Some(PathBuf::from(OsStr::from_bytes(home.to_bytes())))
}

/// Number of a group given by name or number (`unix_socket_group`); `None`: there is no such group.
pub fn group_id(group: &str) -> io::Result<Option<u32>> {
    if let Ok(number) = group.parse() {
        return Ok(Some(number));
    }
    let Ok(name) = CString::new(group) else {
        return Ok(None);
    };
    let mut size = 16 * 1024;
    loop {
        let mut buffer = vec![0u8; size];
        // SAFETY: an all-zero group is valid (null pointers, zero numbers).
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut found: *mut libc::group = std::ptr::null_mut();
        // SAFETY: all pointers are valid for the call, and the buffer has the length given.
        let rc = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                &raw mut entry,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &raw mut found,
            )
        };
        match rc {
            // A group with very many members.
            libc::ERANGE if size < 16 * 1024 * 1024 => size *= 4,
            0 if found.is_null() => return Ok(None),
            0 => return Ok(Some(entry.gr_gid)),
            code => return Err(io::Error::from_raw_os_error(code)),
        }
    }
}

/// The effective user id is 0.
pub fn is_root() -> bool {
    // SAFETY: takes no argument and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_name_and_by_number() {
        assert_eq!(group_id("root").unwrap(), Some(0));
        assert_eq!(group_id("1234").unwrap(), Some(1234));
        assert_eq!(group_id("no such group").unwrap(), None);
    }

    #[test]
    fn the_home_directory_is_absolute() {
        if let Some(home) = home_directory() {
            assert!(home.is_absolute());
        }
    }
}
