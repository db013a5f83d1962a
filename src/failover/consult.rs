//! Requests that go to the watchdog before anything is done: how they look on the wire, and what its answer
//! means for whoever asks.
//!
//! A wish or an observation here becomes a vote or an order for the leader
//! ([`crate::watchdog::core::Event::Request`]); what comes back says whether this pgpool does it, another does,
//! or the node goes into quarantine here. Rules and texts of `src/main/pool_internal_comms.c @ V4_3_5`, with
//! one difference: a health check whose vote is under way votes no second time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    core::Why,
    request::{Request, Source},
};
use crate::{
    cluster::NodeId,
    control::Refusal,
    watchdog::codec::function::{
        Credentials, FailoverKind, FailoverRequest, FailoverResult, Flags,
    },
};

/// As in the original: ten times, a second apart, while an operator waits.
const TRIES: u32 = 10;
/// Nobody waits for those that health checks and sessions ask for, and they must not be lost in an election: it may
/// take some rounds, and then the leader waits until the write lease of the one before has ended.
pub const PATIENT_TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);
/// Whoever has not been able to ask again for so long was suspended meanwhile: what it saw is no reason any more.
pub const STALE: Duration = Duration::from_secs(5);
/// The watchdog answers within eight seconds, unless this process was suspended meanwhile, or its disk hangs.
pub const LATE: Duration = Duration::from_secs(10);

/// What a request was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub request: Request,
    pub source: Source,
    pub why: Why,
    /// Version of the view in which the reason was seen.
    pub evidence: Option<u64>,
}

/// What the watchdog's answer comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This pgpool does it: hand it to the failover core.
    Do(Asked),
    /// It is asked again by itself, see [`Consult::due`].
    Later,
    /// The leader does it, or other votes are waited for: for the one who asks that is success. With a line
    /// for the log.
    Elsewhere(String),
    /// The node goes into quarantine here. With a line for the log.
    Quarantine {
        node: NodeId,
        why: Why,
        line: String,
    },
    Refused(Refusal),
}

/// For [`crate::watchdog::core::Event::Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub ticket: u64,
    pub request: FailoverRequest,
}

#[derive(Debug)]
struct Open {
    asked: Asked,
    flags: Flags,
    tries: u32,
    /// When it was asked last.
    put: Instant,
    /// Asked again then; `None`: the answer is to come.
    again: Option<Instant>,
}

/// Requests whose answers are to come.
#[derive(Debug)]
pub struct Consult {
    pid: u32,
    last_ticket: u64,
    open: BTreeMap<u64, Open>,
}

impl Consult {
    /// `pid` is shown in texts.
    pub fn new(pid: u32) -> Consult {
        Consult {
            pid,
            last_ticket: 0,
            open: BTreeMap::new(),
        }
    }

    /// `None`: the same is under way already, and nobody waits for its answer.
    pub fn ask(&mut self, asked: Asked, now: Instant) -> Option<Question> {
        let flags = flags_of(&asked.request, asked.source);
        self.ask_with(asked, flags, now)
    }

    /// The vote for a backend in quarantine, at
    /// [`crate::watchdog::core::Action::VoteForQuarantined`].
    pub fn vote_again(&mut self, node: NodeId, now: Instant) -> Option<Question> {
        let asked = Asked {
            request: Request::Down { node },
            source: Source::HealthCheck(node),
            why: Why::new(
                "the health check of a quarantined node",
                "another pgpool node does not reach a node either",
            ),
            evidence: None,
        };
        self.ask_with(asked, Flags::UPDATE, now)
    }

    fn ask_with(&mut self, asked: Asked, flags: Flags, now: Instant) -> Option<Question> {
        let mut open = self.open.values();
        let same = |other: &Open| {
            other.asked.request == asked.request && other.asked.source == asked.source
        };
        if asked.source != Source::Pcp && open.any(same) {
            return None;
        }
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let request = to_wire(&asked.request, flags);
        self.open.insert(
            ticket,
            Open {
                asked,
                flags,
                tries: 0,
                put: now,
                again: None,
            },
        );
        Some(Question { ticket, request })
    }

    /// To [`crate::watchdog::core::Action::Answer`]. `None`: nobody has asked that.
    pub fn answered(
        &mut self,
        ticket: u64,
        result: FailoverResult,
        now: Instant,
    ) -> Option<Verdict> {
        let mut open = self.open.remove(&ticket)?;
        let depends = matches!(result, FailoverResult::Transition | FailoverResult::Proceed);
        if depends && now >= open.put + LATE {
            return Some(self.outdated(&open.asked));
        }
        let tries = match open.asked.source {
            Source::Pcp => TRIES,
            _ => PATIENT_TRIES,
        };
        if result == FailoverResult::Transition && open.tries < tries {
            open.tries += 1;
            open.again = Some(now + PAUSE);
            self.open.insert(ticket, open);
            return Some(Verdict::Later);
        }
        Some(self.verdict(open.asked, result))
    }

    /// What is asked for with this ticket.
    pub fn request(&self, ticket: u64) -> Option<&Request> {
        self.open.get(&ticket).map(|open| &open.asked.request)
    }

    /// What is not asked again, because this process has not run for too long: tickets and what they come to.
    pub fn stale(&mut self, now: Instant) -> Vec<(u64, Verdict)> {
        let is_late = |open: &Open| open.again.is_some_and(|at| now >= at + STALE);
        let (late, kept) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|(_, open)| is_late(open));
        self.open = kept;
        let late: BTreeMap<u64, Open> = late;
        late.into_iter()
            .map(|(ticket, open)| (ticket, self.outdated(&open.asked)))
            .collect()
    }

    /// What is to be asked again, after [`Consult::stale`].
    pub fn due(&mut self, now: Instant) -> Vec<Question> {
        let mut questions = Vec::new();
        for (ticket, open) in &mut self.open {
            if open.again.take_if(|at| *at <= now).is_some() {
                open.put = now;
                questions.push(Question {
                    ticket: *ticket,
                    request: to_wire(&open.asked.request, open.flags),
                });
            }
        }
        questions
    }

    /// When [`Consult::due`] has something to say.
    pub fn next(&self) -> Option<Instant> {
        self.open.values().filter_map(|open| open.again).min()
    }

    fn outdated(&self, asked: &Asked) -> Verdict {
        let (kind, pid) = (asked.request.kind(), self.pid);
        Verdict::Refused(Refusal {
            detail: "this process, or the disk of its work directory, has stood still for some seconds, and what was seen before that is no reason any more; a node that is down is found again by the next health check, an order of an operator has to be given again".to_owned(),
            ..Refusal::error(format!(
                "{kind} request for 1 node(s) from pid [{pid}] is dropped"
            ))
        })
    }

    fn verdict(&self, asked: Asked, result: FailoverResult) -> Verdict {
        let (kind, node, pid) = (asked.request.kind(), asked.request.node(), self.pid);
        let begin = format!("{kind} request for node_id: {node} from pid [{pid}]");
        // These two are known without the number; the pcp tools print the second.
        let counted = format!("{kind} request for 1 node(s) from pid [{pid}]");
        match result {
            FailoverResult::Proceed => Verdict::Do(asked),
            FailoverResult::WillBeDone => {
                Verdict::Elsewhere(format!("{begin}, will be handled by watchdog"))
            }
            FailoverResult::BuildingConsensus => Verdict::Elsewhere(format!(
                "{begin}, will be handled by watchdog, which is building consensus for request"
            )),
            FailoverResult::NoQuorum | FailoverResult::ConsensusMayFail
                if matches!(asked.request, Request::Down { .. }) && asked.source != Source::Pcp =>
            {
                let reason = reason(result);
                Verdict::Quarantine {
                    node,
                    line: format!(
                        "{counted}, is changed to quarantine node request by watchdog: node {node}, {reason}"
                    ),
                    why: Why {
                        evidence: format!("{}; {reason}", asked.why.evidence),
                        ..asked.why
                    },
                }
            }
            _ => Verdict::Refused(Refusal {
                detail: reason(result).to_owned(),
                ..Refusal::error(format!("{counted} is canceled by other pgpool"))
            }),
        }
    }
}

fn reason(result: FailoverResult) -> &'static str {
    match result {
        FailoverResult::NoQuorum => {
            "the watchdog nodes that see each other are too few to decide anything"
        }
        FailoverResult::ConsensusMayFail => {
            "the other watchdog nodes have not voted for it in time"
        }
        FailoverResult::Transition => {
            "the watchdog nodes have no leader at the moment; ask again when they have"
        }
        FailoverResult::LeaderRejected => "the watchdog's leader has refused it",
        FailoverResult::Timeout => "the watchdog's leader has not answered; ask again",
        FailoverResult::NotAllowed => "the watchdog does not allow it now",
        FailoverResult::InvalidFunction => "the watchdog's leader does not know such a request",
        _ => "the watchdog's leader could not do it; its log says why",
    }
}

fn flags_of(request: &Request, source: Source) -> Flags {
    let confirmed = if source == Source::Pcp {
        Flags::CONFIRMED
    } else {
        Flags::default()
    };
    match request {
        Request::Down { .. } => Flags::SWITCHOVER.with(confirmed),
        // Of auto_failback too: that a server answers needs no consensus.
        Request::Up { .. } | Request::Promote { .. } => Flags::CONFIRMED,
        Request::Switchover { .. } => Flags::SWITCHOVER
            .with(Flags::CONFIRMED)
            .with(Flags::PROMOTE),
    }
}

/// As other nodes are told of it.
pub fn to_wire(request: &Request, flags: Flags) -> FailoverRequest {
    FailoverRequest {
        credentials: Credentials::default(),
        kind: match request {
            Request::Down { .. } => FailoverKind::Degenerate,
            Request::Up { .. } => FailoverKind::Failback,
            Request::Switchover { .. } | Request::Promote { .. } => FailoverKind::Promote,
        },
        flags,
        node: request.node(),
    }
}

/// What a request of the watchdog wants here ([`crate::watchdog::core::Action::Failover`]).
pub fn from_wire(request: &FailoverRequest) -> Request {
    let node = request.node;
    match request.kind {
        FailoverKind::Degenerate => Request::Down { node },
        FailoverKind::Failback => Request::Up { node },
        FailoverKind::Promote if request.flags.has(Flags::PROMOTE) => Request::Switchover { node },
        FailoverKind::Promote => Request::Promote { node },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = 1;

    fn asked(request: Request, source: Source) -> Asked {
        Asked {
            request,
            source,
            why: Why::new("the health check of node 1", "no answer"),
            evidence: Some(3),
        }
    }

    fn vote() -> Asked {
        asked(Request::Down { node: NODE }, Source::HealthCheck(NODE))
    }

    fn answer(asked: Asked, result: FailoverResult) -> Verdict {
        let mut consult = Consult::new(77);
        let question = consult.ask(asked, Instant::now()).unwrap();
        let now = Instant::now();
        consult.answered(question.ticket, result, now).unwrap()
    }

    #[test]
    fn what_was_seen_before_this_process_was_suspended_is_not_asked_for_again() {
        for late in [FailoverResult::Transition, FailoverResult::Proceed] {
            let mut consult = Consult::new(77);
            let now = Instant::now();
            let Question { ticket, .. } = consult.ask(vote(), now).unwrap();
            let verdict = consult.answered(ticket, late, now + LATE);
            assert!(matches!(verdict, Some(Verdict::Refused(_))), "{verdict:?}");
        }
        let mut consult = Consult::new(77);
        let now = Instant::now();
        let Question { ticket, .. } = consult.ask(vote(), now).unwrap();
        consult.answered(ticket, FailoverResult::Transition, now);
        let late = now + PAUSE + STALE;
        assert!(consult.stale(late - PAUSE).is_empty());
        let stale = consult.stale(late);
        assert!(matches!(&stale[..], [(number, Verdict::Refused(_))] if *number == ticket));
        assert!(consult.due(late).is_empty());
        assert!(
            consult.ask(vote(), Instant::now()).is_some(),
            "what is seen now is"
        );
    }

    #[test]
    fn flags_are_those_of_the_original() {
        let flags = |request, source| {
            Consult::new(1)
                .ask(asked(request, source), Instant::now())
                .unwrap()
                .request
                .flags
                .0
        };
        let node = NODE;
        assert_eq!(flags(Request::Down { node }, Source::HealthCheck(node)), 1);
        assert_eq!(flags(Request::Down { node }, Source::Pcp), 5);
        assert_eq!(flags(Request::Up { node }, Source::Pcp), 4);
        assert_eq!(flags(Request::Switchover { node }, Source::Pcp), 0x15);
        assert_eq!(
            Consult::new(1)
                .vote_again(node, Instant::now())
                .unwrap()
                .request
                .flags
                .0,
            8
        );
    }

    #[test]
    fn a_request_comes_back_from_the_wire_as_it_was() {
        let node = NODE;
        for request in [
            Request::Down { node },
            Request::Up { node },
            Request::Switchover { node },
            Request::Promote { node },
        ] {
            let flags = flags_of(&request, Source::Pcp);
            assert_eq!(from_wire(&to_wire(&request, flags)), request);
        }
    }

    #[test]
    fn a_vote_that_the_others_do_not_share_becomes_quarantine() {
        for result in [FailoverResult::NoQuorum, FailoverResult::ConsensusMayFail] {
            let Verdict::Quarantine { node, line, .. } = answer(vote(), result) else {
                panic!("{result:?}");
            };
            assert_eq!(node, NODE);
            assert!(line.contains("is changed to quarantine node request by watchdog"));
        }
    }

    #[test]
    fn an_operators_order_is_done_here_or_at_the_leader_and_never_quarantine() {
        let order = || asked(Request::Down { node: NODE }, Source::Pcp);
        assert_eq!(
            answer(order(), FailoverResult::Proceed),
            Verdict::Do(order())
        );
        assert!(matches!(
            answer(order(), FailoverResult::WillBeDone),
            Verdict::Elsewhere(_)
        ));
        let Verdict::Refused(refusal) = answer(order(), FailoverResult::NoQuorum) else {
            panic!();
        };
        assert!(refusal.detail.contains("too few"), "{refusal:?}");
    }

    #[test]
    fn during_an_election_a_request_is_made_again_each_second_and_longer_when_nobody_waits() {
        let order = asked(Request::Down { node: NODE }, Source::Pcp);
        for (asked, tries) in [(order, 10), (vote(), 30)] {
            let mut consult = Consult::new(77);
            let Question { ticket, .. } = consult.ask(asked, Instant::now()).unwrap();
            let mut now = Instant::now();
            for _ in 0..tries {
                let verdict = consult.answered(ticket, FailoverResult::Transition, now);
                assert_eq!(verdict, Some(Verdict::Later));
                assert!(consult.due(now).is_empty());
                assert_eq!(consult.next(), Some(now + PAUSE));
                now += PAUSE;
                assert_eq!(consult.due(now)[0].ticket, ticket);
                assert!(consult.due(now).is_empty(), "once");
            }
            let verdict = consult.answered(ticket, FailoverResult::Transition, now);
            assert!(matches!(verdict, Some(Verdict::Refused(_))));
            assert_eq!(consult.next(), None);
            assert_eq!(consult.answered(ticket, FailoverResult::Proceed, now), None);
        }
    }

    #[test]
    fn a_health_check_votes_once_and_an_operator_is_answered_each_time() {
        let mut consult = Consult::new(77);
        assert!(consult.ask(vote(), Instant::now()).is_some());
        assert!(consult.ask(vote(), Instant::now()).is_none());
        let order = || asked(Request::Down { node: NODE }, Source::Pcp);
        assert!(consult.ask(order(), Instant::now()).is_some());
        assert!(consult.ask(order(), Instant::now()).is_some());
    }
}
