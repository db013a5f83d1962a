//! Error texts as the C library says them.

use std::io;

/// The text of an error without std's ` (os error N)`, as stock prints it in DETAIL lines.
pub fn message(error: &io::Error) -> String {
    let Some(code) = error.raw_os_error() else {
        return error.to_string();
    };
    let mut buffer = [0u8; 256];
    // SAFETY: the buffer is writable for the length given, and strerror_r (the XSI form that
    // libc binds) writes at most that many bytes, with the terminating NUL.
    let rc = unsafe { libc::strerror_r(code, buffer.as_mut_ptr().cast(), buffer.len()) };
    if rc != 0 {
        return error.to_string();
    }
    let end = buffer.iter().position(|&b| b == 0).unwrap_or(buffer.len());
    String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_error_is_told_in_the_words_of_the_c_library() {
        let error = io::Error::from_raw_os_error(libc::EADDRINUSE);
        assert_eq!(message(&error), "Address already in use");
    }

    #[test]
    fn an_error_of_our_own_keeps_its_text() {
        assert_eq!(message(&io::Error::other("no name")), "no name");
    }
}
