//! Log entries for syslog: numbered, and cut into pieces that every daemon takes.
//!
//! `[7] text`, or `[7-1] text`, `[7-2] text` when the text has several lines or is long.
//! Source: `src/utils/error/elog.c @ V4_3_5` (write_syslog).

use crate::{
    observe::Severity,
    sys::syslog::{self, Priority},
};

/// Longest piece in bytes.
const LIMIT: usize = 900;

#[derive(Debug)]
pub struct Syslog {
    ident: String,
    facility: u8,
    sequence: u64,
}

impl Syslog {
    /// `facility` as in `syslog_facility`: `LOCAL0` to `LOCAL7`.
    pub fn open(ident: &str, facility: &str) -> Syslog {
        let syslog = Syslog {
            ident: ident.to_owned(),
            facility: facility_number(facility),
            sequence: 0,
        };
        syslog::open(&syslog.ident, syslog.facility);
        syslog
    }

    /// Opens it anew if the settings have changed.
    pub fn reopen(&mut self, ident: &str, facility: &str) {
        let number = facility_number(facility);
        if self.ident != ident || self.facility != number {
            ident.clone_into(&mut self.ident);
            self.facility = number;
            syslog::open(ident, number);
        }
    }

    /// `text`: the lines of one entry, prefix and all.
    pub fn write(&mut self, severity: Severity, text: &str) {
        self.sequence += 1;
        for piece in pieces(self.sequence, text) {
            syslog::send(priority(severity), &piece);
        }
    }
}

fn facility_number(name: &str) -> u8 {
    name.trim()
        .to_ascii_uppercase()
        .strip_prefix("LOCAL")
        .and_then(|number| number.parse().ok())
        .filter(|&number| number <= 7)
        .unwrap_or(0)
}

fn priority(severity: Severity) -> Priority {
    match severity {
        Severity::Debug5
        | Severity::Debug4
        | Severity::Debug3
        | Severity::Debug2
        | Severity::Debug1 => Priority::Debug,
        Severity::Info | Severity::Log => Priority::Info,
        Severity::Notice | Severity::Warning => Priority::Notice,
        Severity::Error | Severity::FrontendError => Priority::Warning,
        Severity::Fatal => Priority::Error,
        Severity::Panic => Priority::Critical,
    }
}

fn pieces(sequence: u64, text: &str) -> Vec<String> {
    // Every entry ends with a newline, which makes it a text of several pieces in the original, too.
    text.split('\n')
        .flat_map(cut)
        .filter(|piece| !piece.is_empty())
        .enumerate()
        .map(|(index, piece)| format!("[{sequence}-{}] {piece}", index + 1))
        .collect()
}

/// Cuts a line at blanks where there are some, else between characters.
fn cut(line: &str) -> Vec<&str> {
    let mut rest = line;
    let mut pieces = Vec::new();
    while rest.len() > LIMIT {
        let mut end = LIMIT;
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (head, _) = rest.split_at(end);
        let end = match head.rfind(char::is_whitespace) {
            Some(blank) if blank > 0 => blank,
            _ => end,
        };
        let (piece, tail) = rest.split_at(end);
        pieces.push(piece);
        rest = tail;
    }
    pieces.push(rest);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_an_entry_are_pieces_with_one_number() {
        assert_eq!(
            pieces(7, "p: LOG:  a\np: DETAIL:  b\n"),
            ["[7-1] p: LOG:  a", "[7-2] p: DETAIL:  b"]
        );
        assert_eq!(pieces(1, "p: LOG:  a\n"), ["[1-1] p: LOG:  a"]);
    }

    #[test]
    fn a_long_line_is_cut_at_a_blank() {
        let text = format!("{} {}", "a".repeat(600), "b".repeat(600));
        let got = pieces(1, &text);
        assert_eq!(got.len(), 2);
        assert_eq!(got[0], format!("[1-1] {}", "a".repeat(600)));
        assert_eq!(got[1], format!("[1-2]  {}", "b".repeat(600)));
    }

    #[test]
    fn a_long_word_is_cut_between_characters() {
        let text = "ä".repeat(1000);
        let got = pieces(1, &text);
        assert!(got.iter().all(|piece| piece.len() <= LIMIT + 10));
        let glued: String = got
            .iter()
            .map(|piece| piece.split_once(' ').unwrap().1)
            .collect();
        assert_eq!(glued, text);
    }

    #[test]
    fn facilities_are_known_by_their_name() {
        assert_eq!(facility_number("LOCAL3"), 3);
        assert_eq!(facility_number("local7"), 7);
        assert_eq!(facility_number("LOCAL9"), 0);
        assert_eq!(facility_number("USER"), 0);
    }
}
