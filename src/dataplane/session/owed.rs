//! What a backend still owes: which ReadyForQuery messages are to come.
//!
//! A session is quiescent when nothing is owed: only then may its backend connection be reset and
//! cached, and only then may the proxy answer a statement itself without overtaking an answer.
//!
//! An error in the extended protocol makes PostgreSQL ignore everything up to the next Sync, a Query and
//! a FunctionCall included (`src/backend/tcop/postgres.c`, `ignore_till_sync`). Whether an error is one of
//! those tells the place in the queue: the answers before it have been counted off.

use std::collections::VecDeque;

/// Something that the backend has been sent. `T` is what the sender wants back when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point<T> {
    /// Parse, Bind, Describe, Execute or Close: one message ends its answer.
    Extended(T),
    /// One of these that the client has not sent: its answer is not the client's.
    Ours(T),
    /// Query or FunctionCall: one ReadyForQuery.
    Simple(T),
    /// Sync: one ReadyForQuery, unless the backend reads it while it copies in.
    Sync(T),
    /// A Sync that the client has not sent.
    OurSync,
    /// CopyDone or CopyFail: matters only if a copy in is open when the backend gets there.
    CopyEnd,
}

/// What a message of the backend is to what it has been sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// A part of an answer, or no answer at all.
    Part,
    /// The end of the answer to this.
    End(T),
    /// The end of the answer to something that the client has not sent.
    Ours,
    /// The failure of something that the client has not sent, and of nothing that he has.
    OursFailed(Vec<T>),
    /// An error in the extended protocol: these are not carried out, the first of them because it
    /// has failed. `ours`: what failed is something that the client has not sent.
    Failed { skipped: Vec<T>, ours: bool },
    /// ReadyForQuery; to this Query or Sync, if it was one.
    Ready(Option<T>),
}

#[derive(Debug)]
pub struct Owed<T = ()> {
    points: VecDeque<Point<T>>,
    /// Extended-protocol messages have gone out since the last Sync.
    unsynced: bool,
    /// The backend ignores what it gets, and no Sync has gone out yet.
    skipping: bool,
    /// The backend has said CopyInResponse and waits for data.
    copy_in: bool,
}

impl<T> Default for Owed<T> {
    fn default() -> Owed<T> {
        Owed {
            points: VecDeque::new(),
            unsynced: false,
            skipping: false,
            copy_in: false,
        }
    }
}

impl<T> Owed<T> {
    /// A message of the client has been forwarded. The sender of what the backend will ignore is
    /// given his back.
    pub fn sent(&mut self, kind: u8, what: T) -> Option<T> {
        match kind {
            b'Q' | b'F' if self.skipping => return Some(what),
            // PostgreSQL reads it as a part of the copy, which fails with it.
            b'Q' | b'F' | b'P' | b'B' | b'E' | b'D' | b'C' if self.copy_in => {
                self.copy_in = false;
                return Some(what);
            }
            b'Q' | b'F' => {
                self.forget_copy_ends();
                self.points.push_back(Point::Simple(what));
            }
            // PostgreSQL ignores Sync while it copies in (`src/backend/commands/copyfromparse.c`).
            b'S' if self.copy_in => {}
            b'S' => {
                self.points.push_back(Point::Sync(what));
                self.unsynced = false;
                self.skipping = false;
            }
            b'P' | b'B' | b'E' | b'D' | b'C' => {
                self.unsynced = true;
                if self.skipping {
                    return Some(what);
                }
                self.forget_copy_ends();
                self.points.push_back(Point::Extended(what));
            }
            b'c' | b'f' if self.copy_in => self.copy_in = false,
            // Sent ahead, before the backend has asked for data.
            b'c' | b'f' if !self.skipping && !self.last_is_copy_end() => {
                self.points.push_back(Point::CopyEnd);
            }
            _ => {}
        }
        None
    }

    /// A message of the extended protocol that the client does not know of has been sent.
    pub fn sent_ours(&mut self, what: T) {
        self.unsynced = true;
        if !self.skipping {
            self.forget_copy_ends();
            self.points.push_back(Point::Ours(what));
        }
    }

    /// A Sync that the client does not know of has been sent.
    pub fn sent_our_sync(&mut self) {
        self.points.push_back(Point::OurSync);
        self.unsynced = false;
        self.skipping = false;
    }

    /// A message of the backend has been seen.
    pub fn received(&mut self, kind: u8) -> Answer<T> {
        match kind {
            // The end of an answer: ParseComplete, BindComplete, CloseComplete; NoData or
            // RowDescription; CommandComplete, EmptyQueryResponse or PortalSuspended.
            b'1' | b'2' | b'3' | b'n' | b'T' | b'C' | b'I' | b's' => {
                self.pass_copy_ends();
                match self.points.pop_front() {
                    Some(Point::Extended(what)) => return Answer::End(what),
                    Some(Point::Ours(_)) => return Answer::Ours,
                    Some(other) => self.points.push_front(other),
                    None => {}
                }
            }
            b'Z' => {
                self.copy_in = false;
                while let Some(point) = self.points.pop_front() {
                    match point {
                        Point::Simple(what) | Point::Sync(what) => {
                            return Answer::Ready(Some(what));
                        }
                        Point::OurSync => return Answer::Ours,
                        _ => {}
                    }
                }
                return Answer::Ready(None);
            }
            // CopyInResponse: the Syncs that went out behind the statement, up to the end of
            // the copy, are read by the backend while it copies, and ignored.
            b'G' => {
                self.pass_copy_ends();
                let rest = self.points.split_off(self.points.len().min(1));
                let mut ended = false;
                for point in rest {
                    match point {
                        Point::Sync(_) | Point::OurSync if !ended => {}
                        // The end, or what does not belong into a copy.
                        _ if !ended => ended = true,
                        later => self.points.push_back(later),
                    }
                }
                self.copy_in = !ended;
                // The Sync that belonged to the statement is used up.
                if !matches!(self.points.front(), Some(Point::Simple(_))) && !self.has_sync() {
                    self.unsynced = true;
                }
            }
            b'E' => {
                self.copy_in = false;
                self.pass_copy_ends();
                let ours = matches!(self.points.front(), Some(Point::Ours(_)));
                if ours || matches!(self.points.front(), Some(Point::Extended(_))) {
                    let is_theirs =
                        |p: &Point<T>| matches!(p, Point::Extended(_) | Point::Simple(_));
                    let is_sync = |p: &Point<T>| matches!(p, Point::Sync(_) | Point::OurSync);
                    let sync = self.points.iter().position(is_sync);
                    let end = sync.unwrap_or(self.points.len());
                    let theirs = self.points.iter().take(end).any(is_theirs);
                    let skipped = self.points.drain(..end);
                    let skipped: Vec<T> = skipped
                        .filter_map(|point| match point {
                            Point::Extended(what) | Point::Ours(what) | Point::Simple(what) => {
                                Some(what)
                            }
                            _ => None,
                        })
                        .collect();
                    if sync.is_none() {
                        self.skipping = true;
                        self.unsynced = true;
                    }
                    if ours && !theirs && matches!(self.points.front(), Some(Point::OurSync)) {
                        return Answer::OursFailed(skipped);
                    }
                    return Answer::Failed { skipped, ours };
                }
            }
            _ => {}
        }
        Answer::Part
    }

    /// Whether a message of this kind, if it comes next, answers something that the client has not
    /// sent.
    pub fn next_is_ours(&self, kind: u8) -> bool {
        let mut points = self.points.iter();
        let mut points = points.by_ref().skip_while(|p| matches!(p, Point::CopyEnd));
        match kind {
            b'1' | b'2' | b'3' | b'n' | b'T' | b'C' | b'I' | b's' => {
                matches!(points.next(), Some(Point::Ours(_)))
            }
            b'E' => {
                matches!(points.next(), Some(Point::Ours(_)))
                    && matches!(
                        points.find(|p| !matches!(p, Point::Ours(_))),
                        Some(Point::OurSync)
                    )
            }
            b'Z' => matches!(
                points.find(|p| matches!(p, Point::Simple(_) | Point::Sync(_) | Point::OurSync)),
                Some(Point::OurSync)
            ),
            _ => false,
        }
    }

    /// A Sync has to come yet, though perhaps not before the end of a copy.
    pub fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Nothing is owed and no extended-protocol sequence is open.
    pub fn is_quiescent(&self) -> bool {
        !self.unsynced && !self.copy_in && !self.owes_ready()
    }

    /// A ReadyForQuery is to come.
    pub fn owes_ready(&self) -> bool {
        self.points
            .iter()
            .any(|p| matches!(p, Point::Simple(_) | Point::Sync(_) | Point::OurSync))
    }

    /// Whatever was sent is answered, though an extended-protocol sequence may be open.
    pub fn is_settled(&self) -> bool {
        !self.copy_in && self.points.iter().all(|p| matches!(p, Point::CopyEnd))
    }

    /// An error has made the backend ignore all it gets up to a Sync, which has not been sent.
    pub fn is_skipping(&self) -> bool {
        self.skipping
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
        if self.points.iter().all(|p| matches!(p, Point::CopyEnd)) {
            self.points.clear();
        }
    }

    fn last_is_copy_end(&self) -> bool {
        matches!(self.points.back(), Some(Point::CopyEnd))
    }

    fn has_sync(&self) -> bool {
        self.points.iter().any(|p| matches!(p, Point::Sync(_)))
    }

    /// The backend is at something behind them: there was no copy for them to end.
    fn pass_copy_ends(&mut self) {
        while matches!(self.points.front(), Some(Point::CopyEnd)) {
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
            for kind in sent.bytes() {
                owed.sent(kind, ());
            }
            for kind in received.bytes() {
                owed.received(kind);
            }
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

    /// PostgreSQL takes it for a part of the copy and answers the copy alone.
    #[test]
    fn a_message_that_does_not_belong_into_a_copy_is_not_answered() {
        assert!(after(&[("Q", "G"), ("dP", "EZ")]).is_quiescent());
        assert!(after(&[("Q", "G"), ("Q", "EZ")]).is_quiescent());
        assert!(after(&[("Q", "G"), ("PBES", "E")]).owes_ready());
        assert!(after(&[("PBE", "12G"), ("QBES", "EZ")]).is_quiescent());
        // Sent ahead.
        assert!(after(&[("QQ", "GEZ")]).is_quiescent());
        assert!(after(&[("QdcQ", "GCZ")]).owes_ready());
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
    fn answers_go_to_what_was_sent_and_an_error_tells_what_is_not_carried_out() {
        let mut owed = Owed::default();
        for (at, kind) in b"PBEQ".iter().enumerate() {
            owed.sent(*kind, at);
        }
        owed.sent_ours(9);
        owed.sent(b'S', 4);
        owed.sent(b'B', 5);
        assert_eq!(owed.received(b'1'), Answer::End(0));
        let failed = Answer::Failed {
            skipped: vec![1, 2, 3, 9],
            ours: false,
        };
        assert_eq!(owed.received(b'E'), failed);
        assert_eq!(owed.received(b'Z'), Answer::Ready(Some(4)));
        assert_eq!(owed.received(b'N'), Answer::Part);
        assert_eq!(owed.received(b'2'), Answer::End(5));
        assert!(owed.is_settled() && owed.needs_sync());
        owed.sent_ours(9);
        assert!(!owed.is_settled());
        assert_eq!(owed.received(b'1'), Answer::Ours);
        owed.sent_ours(9);
        let failed = Answer::Failed {
            skipped: vec![9],
            ours: true,
        };
        assert_eq!(owed.received(b'E'), failed);
        assert!(owed.is_skipping());
        assert_eq!(owed.sent(b'E', 6), Some(6), "ignored");
        owed.sent(b'S', 7);
        owed.sent(b'Q', 8);
        owed.received(b'Z');
        assert_eq!(owed.received(b'Z'), Answer::Ready(Some(8)));
    }

    #[test]
    fn a_sync_may_be_sent_behind_a_query_that_is_not_answered_yet() {
        assert!(after(&[("QPBE", "C")]).needs_sync());
    }
}
