//! DNS queries of types that getaddrinfo does not know, by the C library's resolver.

use std::ffi::{CString, c_char, c_int, c_uchar};

/// The class IN.
const CLASS_INTERNET: c_int = 1;

/// Largest message that DNS has over TCP.
const MAX_MESSAGE: usize = 65535;

// In the C library itself since glibc 2.34 and in musl.
#[link(name = "resolv")]
unsafe extern "C" {
    fn res_query(
        name: *const c_char,
        class: c_int,
        kind: c_int,
        answer: *mut c_uchar,
        length: c_int,
    ) -> c_int;
}

/// The DNS message that answers a question; `None`: there is no such name or no answer. Blocks,
/// as long as resolv.conf allows.
pub fn query(name: &str, kind: u16) -> Option<Vec<u8>> {
    let name = CString::new(name).ok()?;
    let mut answer = vec![0; MAX_MESSAGE];
    // SAFETY: the name ends with NUL and the answer is valid for its stated length.
    let length = unsafe {
        res_query(
            name.as_ptr(),
            CLASS_INTERNET,
            c_int::from(kind),
            answer.as_mut_ptr(),
            c_int::try_from(answer.len()).ok()?,
        )
    };
    // An answer that did not fit is said to be longer than the room for it.
    answer.truncate(usize::try_from(length).ok()?);
    Some(answer)
}
