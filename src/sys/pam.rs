//! The delay that PAM modules want after a failure, recorded and not slept through.

use std::{
    cell::Cell,
    ffi::{c_int, c_uint, c_void},
    time::Duration,
};

use pam_client2::{Context, Error};

/// Source: `security/_pam_types.h` of Linux-PAM.
const PAM_FAIL_DELAY: c_int = 10;
const PAM_SUCCESS: c_int = 0;

thread_local! {
    /// Microseconds. libpam calls back on the thread that called it.
    static DELAY: Cell<c_uint> = const { Cell::new(0) };
}

/// From now on libpam does not sleep after failures of this context; see [`deferred_delay`].
///
/// # Errors
///
/// What libpam says.
pub fn defer_delays<T>(context: &mut Context<T>) -> Result<(), Error> {
    DELAY.set(0);
    // SAFETY: the value of the item PAM_FAIL_DELAY is a pointer to a function of this type, which
    // lives as long as the program.
    unsafe { context.set_item(PAM_FAIL_DELAY, record as *const c_void) }
}

/// How long the client of the last call on this thread is to wait for its refusal.
pub fn deferred_delay() -> Duration {
    Duration::from_micros(DELAY.get().into())
}

/// `pam_fail_delay(3)`: called at the end of `pam_authenticate`, also without a delay.
extern "C" fn record(status: c_int, microseconds: c_uint, _: *mut c_void) {
    if status != PAM_SUCCESS {
        DELAY.set(microseconds);
    }
}
