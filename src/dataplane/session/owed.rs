//! What a backend still owes: which ReadyForQuery messages are to come.
//!
//! A session is quiescent when nothing is owed: only then may its backend connection be reset and
//! cached, and only then may the proxy answer a statement itself without overtaking an answer.

use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    /// Query or FunctionCall: one ReadyForQuery.
    Simple,
    /// Sync: one ReadyForQuery, unless the backend reads it while it copies in.
    Sync,
    /// CopyDone or CopyFail: matters only if a copy in is open when the backend gets there.
    CopyEnd,
}

#[derive(Debug, Default)]
pub struct Owed {
    points: VecDeque<Point>,
    /// Extended-protocol messages have gone out since the last Sync.
    unsynced: bool,
    /// The backend has said CopyInResponse and waits for data.
    copy_in: bool,
}

impl Owed {
    /// A message of the client has been forwarded.
    pub fn sent(&mut self, kind: u8) {
        match kind {
            b'Q' | b'F' => {
                // The end of a copy that has failed long ago is not the end of the next one.
                if !self.owes_ready() {
                    self.points.clear();
                }
                self.points.push_back(Point::Simple);
            }
            // PostgreSQL ignores Sync while it copies in (`src/backend/commands/copyfromparse.c`).
            b'S' if self.copy_in => {}
            b'S' => {
                self.points.push_back(Point::Sync);
                self.unsynced = false;
            }
            b'P' | b'B' | b'E' | b'D' | b'C' => self.unsynced = true,
            b'c' | b'f' if self.copy_in => self.copy_in = false,
            // Sent ahead, before the backend has asked for data.
            b'c' | b'f' if self.points.back() != Some(&Point::CopyEnd) => {
                self.points.push_back(Point::CopyEnd);
            }
            _ => {}
        }
    }

    /// A message of the backend has been seen.
    pub fn received(&mut self, kind: u8) {
        match kind {
            b'Z' => {
                self.copy_in = false;
                while let Some(Point::CopyEnd) = self.points.front() {
                    self.points.pop_front();
                }
                self.points.pop_front();
            }
            // CopyInResponse: the Syncs that went out behind the statement, up to the end of
            // the copy, are read by the backend while it copies, and ignored.
            b'G' => {
                let simple = self.points.front() == Some(&Point::Simple);
                let rest = self.points.split_off(usize::from(simple));
                let mut ended = false;
                for point in rest {
                    match point {
                        Point::Sync if !ended => {}
                        Point::CopyEnd if !ended => ended = true,
                        later => self.points.push_back(later),
                    }
                }
                self.copy_in = !ended;
                // The Sync that belonged to the statement is used up.
                if !simple && self.points.is_empty() {
                    self.unsynced = true;
                }
            }
            b'E' => self.copy_in = false,
            _ => {}
        }
    }

    /// Nothing is owed and no extended-protocol sequence is open.
    pub fn is_quiescent(&self) -> bool {
        !self.unsynced && !self.copy_in && !self.owes_ready()
    }

    /// A ReadyForQuery is to come.
    pub fn owes_ready(&self) -> bool {
        self.points.iter().any(|p| *p != Point::CopyEnd)
    }

    /// A Query now would belong to a sequence that the backend is in the middle of.
    pub fn is_in_sequence(&self) -> bool {
        self.unsynced || self.copy_in
    }

    /// The backend waits for the client's data.
    pub fn is_copying_in(&self) -> bool {
        self.copy_in
    }

    /// An extended-protocol sequence waits for its Sync.
    pub fn needs_sync(&self) -> bool {
        self.unsynced && !self.copy_in
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Capital letters and `c` before the bar are the client's, those behind it the backend's.
    fn after(events: &[(&str, &str)]) -> Owed {
        let mut owed = Owed::default();
        for (sent, received) in events {
            sent.bytes().for_each(|k| owed.sent(k));
            received.bytes().for_each(|k| owed.received(k));
        }
        owed
    }

    #[test]
    fn each_query_and_each_sync_owes_one_ready() {
        assert!(after(&[]).is_quiescent());
        assert!(!after(&[("Q", "TD")]).is_quiescent());
        assert!(after(&[("Q", "TDCZ")]).is_quiescent());
        assert!(!after(&[("QQ", "CZ")]).is_quiescent());
        assert!(after(&[("PBDESPBES", "12TDCZ12DCZ")]).is_quiescent());
    }

    #[test]
    fn an_extended_sequence_without_sync_is_open() {
        let owed = after(&[("PBEH", "12DC")]);
        assert!(!owed.is_quiescent());
        assert!(owed.needs_sync());
    }

    #[test]
    fn a_sync_that_the_backend_reads_while_copying_in_is_not_owed() {
        // libpq: Sync at once, a second one behind the data.
        assert!(after(&[("PBDES", "12nG"), ("dcS", "CZ")]).is_quiescent());
        // All sent ahead, before the backend has answered.
        assert!(after(&[("PBESdcS", "12GCZ")]).is_quiescent());
        // Only the Sync in the middle of the data: the backend waits for another.
        let owed = after(&[("PBES", "12G"), ("dc", "C")]);
        assert!(owed.needs_sync());
        assert!(!owed.is_quiescent());
        // Syncs and Flushes inside the data.
        assert!(after(&[("Q", "G"), ("dSHdSc", "CZ")]).is_quiescent());
    }

    #[test]
    fn a_simple_copy_owes_the_ready_of_its_query() {
        assert!(!after(&[("Q", "G"), ("dd", "")]).is_quiescent());
        assert!(after(&[("Q", "G"), ("ddc", "CZ")]).is_quiescent());
        assert!(after(&[("Q", "G"), ("df", "EZ")]).is_quiescent());
        // The backend refuses a row before the client has finished; the rest is ignored.
        assert!(after(&[("Q", "G"), ("d", "EZ"), ("dc", "")]).is_quiescent());
    }

    #[test]
    fn copy_ends_outside_a_copy_are_forgotten() {
        let owed = after(&[("cccc", "")]);
        assert!(owed.is_quiescent());
        assert_eq!(owed.points.len(), 1, "a flood of them takes no memory");
    }

    #[test]
    fn the_end_of_a_failed_copy_does_not_end_the_next_one() {
        let owed = after(&[("Qdc", "EZ"), ("Q", "G")]);
        assert!(owed.is_copying_in());
    }

    #[test]
    fn a_sync_may_be_sent_behind_a_query_that_is_not_answered_yet() {
        assert!(after(&[("QPBE", "C")]).needs_sync());
    }
}
