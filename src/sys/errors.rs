//! Error texts as the C library says them.

use std::io;

/// The text of an error without std's ` (os error N)`, as stock prints it in DETAIL lines.
pub fn message(error: &io::Error) -> String {
    let Some(code) = error.raw_os_error() else {
        return without_number(error.to_string());
    };
    let mut buffer = [0u8; 256];
    // SAFETY: the buffer is writable for the length given, and strerror_r (the XSI form that
    // libc binds) writes at most that many bytes, with the terminating NUL.
    let rc = unsafe { libc::strerror_r(code, buffer.as_mut_ptr().cast(), buffer.len()) };
    if rc != 0 {
        return without_number(error.to_string());
    }
    let end = buffer.iter().position(|&b| b == 0).unwrap_or(buffer.len());
    String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).into_owned()
}

/// An error of our own that quotes one of the system.
fn without_number(mut text: String) -> String {
    if let Some(at) = text.find(" (os error") {
        text.truncate(at);
    }
    text
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
        let wrapped = io::Error::other(io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(message(&wrapped), "No such file or directory");
    }

    /// Whoever prints an `io::Error` as it is prints std's number with it. What is printed so on purpose
    /// is none of the system's.
    #[test]
    fn no_source_prints_an_error_of_the_system_as_std_does() {
        fn walk(folder: &std::path::Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let own = path.ends_with("sys/errors.rs");
                    if !own && text.contains("(os error") {
                        found.push(path.display().to_string());
                    }
                }
            }
        }
        let mut found = Vec::new();
        walk(
            &std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut found,
        );
        assert!(found.is_empty(), "use sys::errors::message: {found:?}");
    }
}
