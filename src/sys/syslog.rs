//! syslog(3) of the C library: it finds the daemon again after a restart, and knows the facilities.

use std::{
    ffi::CString,
    sync::{Mutex, PoisonError},
};

/// Priorities that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    Critical,
    Error,
    Warning,
    Notice,
    Info,
    Debug,
}

impl Priority {
    fn code(self) -> i32 {
        match self {
            Priority::Critical => libc::LOG_CRIT,
            Priority::Error => libc::LOG_ERR,
            Priority::Warning => libc::LOG_WARNING,
            Priority::Notice => libc::LOG_NOTICE,
            Priority::Info => libc::LOG_INFO,
            Priority::Debug => libc::LOG_DEBUG,
        }
    }
}

/// The C library keeps a pointer to the name given to openlog, so it must live here.
static IDENT: Mutex<Option<CString>> = Mutex::new(None);

/// Opens or changes the connection. `facility` is 0 to 7 for LOCAL0 to LOCAL7.
pub fn open(ident: &str, facility: u8) {
    let mut current = IDENT.lock().unwrap_or_else(PoisonError::into_inner);
    let name = CString::new(ident.replace('\0', "")).unwrap_or_default();
    let facility = libc::LOG_LOCAL0 + (i32::from(facility.min(7)) << 3);
    // SAFETY: closelog takes no argument. `name` is moved into IDENT below while the lock is held,
    // and its heap bytes do not move with it, so the pointer stays good until the next call of
    // this function, which closes the log before it drops the name.
    unsafe {
        libc::closelog();
        libc::openlog(
            name.as_ptr(),
            libc::LOG_PID | libc::LOG_NDELAY | libc::LOG_NOWAIT,
            facility,
        );
    }
    *current = Some(name);
}

/// Sends one line.
pub fn send(priority: Priority, line: &str) {
    let Ok(text) = CString::new(line.replace('\0', " ")) else {
        return;
    };
    let _open = IDENT.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: both strings end with NUL, and the format takes exactly one string.
    unsafe { libc::syslog(priority.code(), c"%s".as_ptr(), text.as_ptr()) };
}
