//! Regular expressions of the routing lists.
//!
//! They are the C library's (`regcomp`, REG_EXTENDED and REG_ICASE), as stock's are: back
//! references, `\<`, `\w` and the brackets of POSIX mean in a pgpool.conf what
//! they meant before. The crate regex would be faster and refuse or read differently some of what
//! works today. Names without a special character, which most entries are, never reach the C
//! library.

use std::{cell::RefCell, ffi::CStr, fmt};

use crate::sys::regex::Regex;

/// One entry of a list; anchored at both ends, whether the anchors were written or not.
#[derive(Debug)]
pub struct Pattern {
    matcher: Matcher,
}

enum Matcher {
    /// In lower case.
    Literal(Box<[u8]>),
    Regex(Regex),
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Matcher::Literal(text) => write!(f, "{:?}", String::from_utf8_lossy(text)),
            Matcher::Regex(regex) => regex.fmt(f),
        }
    }
}

/// A pattern that the C library refuses: it matches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPattern {
    /// As written.
    pub pattern: String,
    /// In the C library's words.
    pub reason: String,
}

impl Pattern {
    /// `^` and `$` are added where they are missing (`add_regex_pattern` of
    /// `src/config/pool_config.l`, `add_regex_array` of `src/utils/regex_array.c @ V4_3_5`).
    pub fn new(written: &str) -> Result<Pattern, BadPattern> {
        let bare = written.strip_prefix('^').unwrap_or(written);
        let bare = bare.strip_suffix('$').unwrap_or(bare);
        let literal = bare
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b' ' | b'-'));
        if literal {
            let lower = bare.to_ascii_lowercase().into_bytes();
            return Ok(Pattern {
                matcher: Matcher::Literal(lower.into()),
            });
        }
        let begin = if written.starts_with('^') { "" } else { "^" };
        let end = if written.ends_with('$') { "" } else { "$" };
        match Regex::new(&format!("{begin}{written}{end}")) {
            Ok(regex) => Ok(Pattern {
                matcher: Matcher::Regex(regex),
            }),
            Err(reason) => Err(BadPattern {
                pattern: written.to_owned(),
                reason,
            }),
        }
    }

    /// A NUL byte ends `text`.
    pub fn matches(&self, text: &[u8]) -> bool {
        match &self.matcher {
            Matcher::Literal(literal) => literal.eq_ignore_ascii_case(text),
            Matcher::Regex(regex) => with_nul(text, |text| regex.is_match(text)),
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// `text` as a C string, in a buffer of the thread.
fn with_nul<R>(text: &[u8], f: impl FnOnce(&CStr) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        scratch.extend(text.iter().take_while(|b| **b != 0));
        scratch.push(0);
        f(CStr::from_bytes_until_nul(scratch).unwrap_or_default())
    })
}

/// The patterns of one parameter.
#[derive(Debug, Default)]
pub struct PatternList {
    patterns: Vec<Pattern>,
    written: usize,
}

impl PatternList {
    /// Bad patterns are told and left out.
    pub fn new<'a>(items: impl IntoIterator<Item = &'a str>) -> (PatternList, Vec<BadPattern>) {
        let (mut list, mut bad) = (PatternList::default(), Vec::new());
        for item in items {
            list.written += 1;
            match Pattern::new(item) {
                Ok(pattern) => list.patterns.push(pattern),
                Err(error) => bad.push(error),
            }
        }
        (list, bad)
    }

    /// Nothing was written. A list whose only entry is bad is not empty, it matches nothing.
    pub fn is_empty(&self) -> bool {
        self.written == 0
    }

    pub fn matches(&self, text: &[u8]) -> bool {
        self.patterns.iter().any(|p| p.matches(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> PatternList {
        PatternList::new(items.iter().copied()).0
    }

    #[test]
    fn anchors_are_added_where_they_are_missing() {
        let l = list(&["f_vol", "^get_.*", "rite$", "a.*b"]);
        for (text, want) in [
            ("F_Vol", true),
            ("f_vol2", false),
            ("xf_vol", false),
            ("get_thing", true),
            ("forget_thing", false),
            ("rite", true),
            ("write", false),
            ("axxB", true),
            ("axxbc", false),
        ] {
            assert_eq!(l.matches(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn what_posix_allows_works() {
        let l = list(&["(a|b)\\1", "[[:digit:]]+"]);
        for text in ["aa", "42"] {
            assert!(l.matches(text.as_bytes()), "{text}");
        }
        assert!(!l.matches(b"ab"));
    }

    #[test]
    fn a_bad_pattern_is_told_and_left_out() {
        let (l, bad) = PatternList::new(["(bad", "good"]);
        assert_eq!(bad.len(), 1);
        assert_eq!(bad[0].pattern, "(bad");
        assert!(l.matches(b"good") && !l.is_empty());
        assert!(!PatternList::new(["(bad"]).0.is_empty());
    }
}
