//! What a backend still owes: which ReadyForQuery messages are to come.
//!
//! A session is quiescent when nothing is owed: only then may its backend connection be reset and
//! cached, and only then may the proxy answer a statement itself without overtaking an answer.
//!
//! An error in the extended protocol makes PostgreSQL ignore everything up to the next Sync, a Query and
//! a FunctionCall included (`src/backend/tcop/postgres.c`, `ignore_till_sync`). Whether an error is one of
//! those tells the place in the queue: the answers before it have been counted off.

use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    /// So many Parse, Bind, Describe, Execute and Close, each with one message that ends its answer.
    Extended(usize),
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
    /// The backend ignores what it gets, and no Sync has gone out yet.
    skipping: bool,
    /// The backend has said CopyInResponse and waits for data.
    copy_in: bool,
}

impl Owed {
    /// A message of the client has been forwarded.
    pub fn sent(&mut self, kind: u8) {
        match kind {
            b'Q' | b'F' if self.skipping => {}
            b'Q' | b'F' => {
                self.forget_copy_ends();
                self.points.push_back(Point::Simple);
            }
            // PostgreSQL ignores Sync while it copies in (`src/backend/commands/copyfromparse.c`).
            b'S' if self.copy_in => {}
            b'S' => {
                self.points.push_back(Point::Sync);
                self.unsynced = false;
                self.skipping = false;
            }
            b'P' | b'B' | b'E' | b'D' | b'C' => {
                self.unsynced = true;
                if self.skipping {
                    return;
                }
                self.forget_copy_ends();
                match self.points.back_mut() {
                    Some(Point::Extended(messages)) => *messages += 1,
                    _ => self.points.push_back(Point::Extended(1)),
                }
            }
            b'c' | b'f' if self.copy_in => self.copy_in = false,
            // Sent ahead, before the backend has asked for data.
            b'c' | b'f' if !self.skipping && self.points.back() != Some(&Point::CopyEnd) => {
                self.points.push_back(Point::CopyEnd);
            }
            _ => {}
        }
    }

    /// A message of the backend has been seen.
    pub fn received(&mut self, kind: u8) {
        match kind {
            // The end of an answer: ParseComplete, BindComplete, CloseComplete; NoData or
            // RowDescription; CommandComplete, EmptyQueryResponse or PortalSuspended.
            b'1' | b'2' | b'3' | b'n' | b'T' | b'C' | b'I' | b's' => {
                self.pass_copy_ends();
                if let Some(Point::Extended(messages)) = self.points.front_mut() {
                    *messages -= 1;
                    if *messages == 0 {
                        self.points.pop_front();
                    }
                }
            }
            b'Z' => {
                self.copy_in = false;
                while let Some(point) = self.points.pop_front() {
                    if matches!(point, Point::Simple | Point::Sync) {
                        break;
                    }
                }
            }
            // CopyInResponse: the Syncs that went out behind the statement, up to the end of
            // the copy, are read by the backend while it copies, and ignored.
            b'G' => {
                self.pass_copy_ends();
                let rest = self.points.split_off(self.points.len().min(1));
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
                if self.points.front() != Some(&Point::Simple)
                    && !self.points.contains(&Point::Sync)
                {
                    self.unsynced = true;
                }
            }
            b'E' => {
                self.copy_in = false;
                self.pass_copy_ends();
                if matches!(self.points.front(), Some(Point::Extended(_))) {
                    let sync = self.points.iter().position(|p| *p == Point::Sync);
                    self.points.drain(..sync.unwrap_or(self.points.len()));
                    if sync.is_none() {
                        self.skipping = true;
                        self.unsynced = true;
                    }
                }
            }
            _ => {}
        }
    }

    /// Nothing is owed and no extended-protocol sequence is open.
    pub fn is_quiescent(&self) -> bool {
        !self.unsynced && !self.copy_in && !self.owes_ready()
    }

    /// A ReadyForQuery is to come.
    pub fn owes_ready(&self) -> bool {
        self.points
            .iter()
            .any(|p| matches!(p, Point::Simple | Point::Sync))
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

    /// The end of a copy that has failed long ago is not the end of the next one.
    fn forget_copy_ends(&mut self) {
        if self.points.iter().all(|p| *p == Point::CopyEnd) {
            self.points.clear();
        }
    }

    /// The backend is at something behind them: there was no copy for them to end.
    fn pass_copy_ends(&mut self) {
        while self.points.front() == Some(&Point::CopyEnd) {
            self.points.pop_front();
        }
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
    fn after_an_error_in_a_sequence_a_query_is_ignored_as_everything_else_up_to_sync() {
        // The error is known before the Query goes out, or comes when all is sent.
        assert!(after(&[("PBE", "12E"), ("QFPcQ", ""), ("S", "Z")]).is_quiescent());
        assert!(after(&[("PBEQS", "12EZ")]).is_quiescent());
        assert!(after(&[("PQFS", "EZ")]).is_quiescent());
        assert!(after(&[("PBDEPBDEQS", "12TDC12EZ")]).is_quiescent());
        // The next sequence is one of its own.
        let owed = after(&[("PQSPBESQ", "EZ12CZ")]);
        assert!(owed.owes_ready());
        assert!(after(&[("PQSPBESQ", "EZ12CZTDCZ")]).is_quiescent());
        // Nothing is owed until the Sync is sent.
        let owed = after(&[("PQ", "E")]);
        assert!(owed.needs_sync() && !owed.owes_ready());
    }

    #[test]
    fn a_query_before_sync_owes_its_ready_when_what_is_before_it_goes_well() {
        let owed = after(&[("PBEQS", "12CTDCZ")]);
        assert!(owed.owes_ready(), "that of the Sync");
        assert!(after(&[("PBEQS", "12CTDCZZ")]).is_quiescent());
        // Its own error ignores nothing.
        assert!(!after(&[("PBDEQS", "12TDCEZ")]).is_quiescent());
        assert!(after(&[("PBDEQS", "12TDCEZZ")]).is_quiescent());
        // Each kind of answer is counted once.
        assert!(!after(&[("PDBDECPBEBEQS", "1tT2nC312s2IEZ")]).is_quiescent());
        assert!(after(&[("PDBDECPBEBEQS", "1tT2nC312s2IEZZ")]).is_quiescent());
        assert!(after(&[("PDBDECPBEBEQS", "1tT2nC312s2EZ")]).is_quiescent());
    }

    #[test]
    fn a_copy_that_fails_in_a_sequence_skips_to_sync() {
        // libpq: the end of the copy and its Sync are on the way when the row is refused.
        assert!(after(&[("PBDES", "12nG"), ("dcS", "EZ")]).is_quiescent());
        // The error is known before: CopyDone and Query are ignored.
        assert!(after(&[("PBDES", "12nG"), ("d", "E"), ("cQS", "Z")]).is_quiescent());
        // There never was a copy: both Syncs are answered.
        let owed = after(&[("PBEScS", "12EZ")]);
        assert!(owed.owes_ready());
        assert!(after(&[("PBEScS", "12EZZ")]).is_quiescent());
        // The end that is left over does not end a later copy.
        let owed = after(&[("PBESc", "12EZ"), ("PBES", "12G")]);
        assert!(owed.is_copying_in());
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
