//! POSIX regular expressions of the C library.

use std::{
    ffi::{CStr, CString},
    fmt,
};

/// An extended, case-insensitive regular expression. Bytes are compared, not characters.
pub struct Regex {
    compiled: Box<libc::regex_t>,
    pattern: String,
}

// SAFETY: regexec() takes the expression as constant and is safe to call from many threads on the
// same one (POSIX; glibc and musl lock or do not write); nothing else changes it until the drop.
unsafe impl Send for Regex {}
// SAFETY: as above.
unsafe impl Sync for Regex {}

impl Regex {
    /// The C library's words say what is wrong with a bad pattern.
    pub fn new(pattern: &str) -> Result<Regex, String> {
        let text = CString::new(pattern).map_err(|_| "it contains a NUL byte".to_owned())?;
        // SAFETY: an all-zero regex_t is a valid place for regcomp() to fill.
        let mut compiled: Box<libc::regex_t> = Box::new(unsafe { std::mem::zeroed() });
        let flags = libc::REG_EXTENDED | libc::REG_ICASE | libc::REG_NOSUB;
        // SAFETY: both pointers are valid for the call, and the text ends with NUL.
        let code = unsafe { libc::regcomp(&raw mut *compiled, text.as_ptr(), flags) };
        if code != 0 {
            return Err(message(code, &compiled));
        }
        Ok(Regex {
            compiled,
            pattern: pattern.to_owned(),
        })
    }

    pub fn is_match(&self, text: &CStr) -> bool {
        // SAFETY: the expression was compiled; the text ends with NUL; no matches are asked for.
        let code = unsafe {
            libc::regexec(
                &raw const *self.compiled,
                text.as_ptr(),
                0,
                std::ptr::null_mut(),
                0,
            )
        };
        code == 0
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: it was compiled by regcomp() and is freed once.
        unsafe { libc::regfree(&raw mut *self.compiled) }
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Regex").field(&self.pattern).finish()
    }
}

fn message(code: libc::c_int, compiled: &libc::regex_t) -> String {
    let mut buffer = [0u8; 128];
    // SAFETY: the buffer has the length given, and regerror() ends its text with NUL within it.
    unsafe {
        libc::regerror(
            code,
            std::ptr::from_ref(compiled),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        );
    }
    CStr::from_bytes_until_nul(&buffer)
        .map(|text| text.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching_ignores_case_and_needs_anchors_to_be_whole() {
        let regex = Regex::new("^a.*(b|c)$").unwrap();
        assert!(regex.is_match(c"AxxC"));
        assert!(regex.is_match(c"a\nb"));
        assert!(!regex.is_match(c"xab"));
    }

    #[test]
    fn a_bad_pattern_says_why() {
        assert!(!Regex::new("(a").unwrap_err().is_empty());
        assert!(Regex::new("a\0").is_err());
    }
}
