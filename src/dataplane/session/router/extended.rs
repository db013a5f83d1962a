//! The extended protocol: which node has which statement and portal.

use std::rc::Rc;

use super::{
    Before, Entry, Env, Ledger, Message, Parsing, Plan, Router, STATEMENT_LIMIT, Sending, Step,
    kinds::{gives_no_rows, is_taken_when_failed},
    ledger, split_cstr, statement_of,
};
use crate::{
    cluster::NodeId,
    routing::{
        facts::Facts,
        policy::{Catalog, Protocol},
        session::{NodeSet, Parsed},
    },
};

impl Router {
    pub(super) fn parse<C: Catalog>(
        &mut self,
        message: Message<'_>,
        ledgers: &mut [Ledger],
        env: &mut Env<'_, C>,
    ) -> Step {
        if !message.is_whole() && message.body_len <= STATEMENT_LIMIT {
            return Step::NeedsMore;
        }
        let Some((name, rest)) = split_cstr(message.body()) else {
            // No name ends in what has arrived: for the server to refuse.
            return self.extended(b'P', self.to_primary(true), Vec::new(), ledgers);
        };
        let parsed = self.parsed(message, rest);
        let sql = if parsed.message.is_empty() {
            &[]
        } else {
            statement_of(&parsed)
        };
        let plan = match self.plan(
            &parsed.facts,
            sql,
            Protocol::Extended,
            NodeSet::EMPTY,
            ledgers,
            env,
        ) {
            Ok(plan) => plan,
            Err(step) => return step,
        };
        if let Some(step) = self.wait_to_make(None, Some(&parsed.facts), &plan, ledgers) {
            return step;
        }
        if name.is_empty() {
            if let Some(step) = self.place(&plan, ledgers) {
                return step;
            }
            let before = self.named(&parsed, &plan).into_iter().collect();
            self.note_elsewhere(b'P', &parsed.facts, &plan);
            let unnamed = Some((parsed, plan.nodes()));
            let entry = Entry::Unnamed(unnamed.clone());
            let step = self.extended_with(b'P', plan, before, entry, ledgers);
            if matches!(step, Step::Send(_)) {
                self.unnamed = unnamed;
                self.unnamed_here = true;
            }
            return step;
        }
        // Whether it is, an earlier sequence may have to tell.
        let mut wait = self.wait_for_statement(name, ledgers);
        if wait.is_none() && self.state.prepared(name).is_some() {
            wait = self.wait_for_all(ledgers);
        }
        if let Some(step) = wait {
            return step;
        }
        // A name that is taken is refused where it is.
        let taken = self.state.prepared(name).cloned();
        let plan = match &taken {
            Some(taken) => Plan {
                leader: self.refusing(taken, &parsed),
                followers: NodeSet::EMPTY,
                ..plan
            },
            None => plan,
        };
        let entry = Parsing {
            name: name.into(),
            parsed: parsed.clone(),
            nodes: plan.nodes(),
            fresh: taken.is_none(),
        };
        if let Some(step) = self.place(&plan, ledgers) {
            return step;
        }
        // A failed transaction refuses what does not end it before it looks for the name.
        let looks = !self.state.has_failed() || is_taken_when_failed(&parsed.facts);
        let old = taken.as_ref().filter(|_| looks);
        let old = old.and_then(|taken| taken.parsed.as_ref());
        let mut before = Vec::new();
        before.extend(old.and_then(|old| {
            let stand_in = self.stand_in(name, old, &plan);
            stand_in.or_else(|| self.lacking(name, old, &plan))
        }));
        if before.is_empty() {
            before.extend(self.named(&parsed, &plan));
            before.extend(
                taken
                    .is_none()
                    .then(|| self.doubtful(name, &plan))
                    .flatten(),
            );
        }
        self.note_elsewhere(b'P', &parsed.facts, &plan);
        self.touched.add(name);
        let entry = Entry::Parse(Box::new(entry));
        let step = self.extended_with(b'P', plan, before, entry, ledgers);
        if matches!(step, Step::Send(_)) && taken.is_none() {
            self.state.parsed(name, plan.nodes(), parsed);
        }
        step
    }

    /// What a Parse message says; drivers send the same one again and again.
    fn parsed(&self, message: Message<'_>, rest: &[u8]) -> Rc<Parsed> {
        let whole = message.is_whole();
        if let Some((parsed, _)) = &self.unnamed
            && whole
            && *parsed.message == *message.bytes
        {
            return parsed.clone();
        }
        let mut facts = Facts::new();
        let keep = whole && message.body_len <= STATEMENT_LIMIT;
        if keep {
            facts.read(super::text(rest), self.standard_strings);
        } else {
            facts.read_too_long(super::text(rest), true);
        }
        Rc::new(Parsed {
            facts,
            message: if keep {
                message.bytes.into()
            } else {
                Box::default()
            },
        })
    }

    pub(super) fn describe(&mut self, message: Message<'_>, ledgers: &mut [Ledger]) -> Step {
        if let Some(step) = self.wait_for_whole(message, ledgers) {
            return step;
        }
        let mut plan = self.to_primary(false);
        let mut before = Vec::new();
        match message.body() {
            [b'S', name @ ..] => {
                let name = super::text(name);
                if let Some(step) = self.wait_for_statement(name, ledgers) {
                    return step;
                }
                let (parsed, nodes) = self.statement(name);
                // A failed transaction refuses to describe rows, and any parsing.
                let rows = !parsed.as_ref().is_some_and(|p| gives_no_rows(&p.facts));
                // A standby describes what was there before this transaction's own changes, or waits for a
                // lock of it for ever.
                let differs = self.state.is_changing()
                    || self.state.has_temporary_tables()
                    || self.state.has_untraced_tables() != Some(false);
                let fit = |&node: &NodeId| {
                    node == self.primary
                        || self.state.has_failed() && !rows
                        || (self.state.has_failed() || !self.unfit.contains(node) && !differs)
                            && self.state.is_node_in_transaction(node)
                                == self.state.is_in_transaction()
                };
                let node = nodes.and_then(|nodes| self.preferred(nodes)).filter(fit);
                plan.leader = node.unwrap_or(plan.leader);
                self.go_along(&mut plan, nodes.unwrap_or_default(), ledgers);
                let facts = parsed.as_ref().map(|p| &p.facts);
                let wait = self.wait_to_make(facts.map(|_| name), facts, &plan, ledgers);
                if let Some(step) = wait.or_else(|| self.place(&plan, ledgers)) {
                    return step;
                }
                if let Some(parsed) = parsed {
                    // The only node that had it may be gone.
                    before = self.lacking_all(name, &parsed, &plan, rows);
                } else if nodes.is_none() && name.is_empty() {
                    before = vec![(NodeSet::of(plan.leader), Before::close_unnamed())];
                }
            }
            [b'P', name @ ..] => {
                let name = super::text(name);
                if let Some(step) = self.wait_for_portal(name, ledgers) {
                    return step;
                }
                if let Some(portal) = self.portals.get(name) {
                    plan.leader = portal.leader;
                    plan.followers = portal.followers;
                }
            }
            _ => {}
        }
        self.extended(b'D', plan, before, ledgers)
    }

    pub(super) fn close(&mut self, message: Message<'_>, ledgers: &mut [Ledger]) -> Step {
        if let Some(step) = self.wait_for_whole(message, ledgers) {
            return step;
        }
        let mut plan = self.to_primary(false);
        match message.body() {
            [b'S', name @ ..] => {
                let name = super::text(name);
                // Whether it is there, an earlier sequence may have to tell.
                let owes = ledgers.iter().any(|l| l.owed.owes_ready());
                if owes && let Some(step) = self.wait_for_all(ledgers) {
                    return step;
                }
                let (_, known) = self.statement(name);
                let nodes = known.unwrap_or_default();
                if let Some(leader) = self.preferred(nodes) {
                    plan.leader = leader;
                    plan.followers = nodes.without(NodeSet::of(leader));
                }
                self.go_along(&mut plan, self.recent, ledgers);
                let entry = match self.state.prepared(name) {
                    Some(prepared) if !name.is_empty() => {
                        Entry::Close(Box::new((name.into(), prepared.clone())))
                    }
                    None if name.is_empty() => Entry::Unnamed(None),
                    _ => Entry::Nothing,
                };
                let step = self.extended_with(b'C', plan, Vec::new(), entry, ledgers);
                if matches!(step, Step::Send(_)) {
                    if name.is_empty() {
                        self.unnamed = None;
                        self.unnamed_here = true;
                    } else {
                        self.state.closed(name);
                        self.touched.add(name);
                    }
                }
                step
            }
            [b'P', name @ ..] => {
                let name = super::text(name);
                if let Some(step) = self.wait_for_portal(name, ledgers) {
                    return step;
                }
                if let Some(portal) = self.portals.get(name) {
                    plan.leader = portal.leader;
                    plan.followers = portal.followers.union(portal.occupied);
                }
                self.go_along(&mut plan, self.recent, ledgers);
                if let Some(step) = self.place(&plan, ledgers) {
                    return step;
                }
                let entry = if name.is_empty() {
                    self.portals.unnamed = None;
                    Entry::Nothing
                } else {
                    self.touched.add(name);
                    let portal = self.portals.named.remove_entry(name);
                    portal.map_or(Entry::Nothing, |closed| Entry::Unbound(Box::new(closed)))
                };
                self.extended_with(b'C', plan, Vec::new(), entry, ledgers)
            }
            _ => self.extended(b'C', plan, Vec::new(), ledgers),
        }
    }

    /// Execute, Describe and Close are short; a longer one is for the server to refuse.
    pub(super) fn wait_for_whole(
        &mut self,
        message: Message<'_>,
        ledgers: &mut [Ledger],
    ) -> Option<Step> {
        if message.is_whole() {
            return None;
        }
        if message.body_len <= STATEMENT_LIMIT {
            return Some(Step::NeedsMore);
        }
        Some(self.extended(message.kind, self.to_primary(true), Vec::new(), ledgers))
    }

    pub(super) fn extended(
        &mut self,
        kind: u8,
        plan: Plan,
        before: Vec<(NodeSet, Before)>,
        ledgers: &mut [Ledger],
    ) -> Step {
        self.extended_with(kind, plan, before, Entry::Nothing, ledgers)
    }

    /// A message that only the leader has to answer goes where what is unanswered has gone, so that it need
    /// not wait; as far as these nodes take it.
    fn go_along(&self, plan: &mut Plan, takers: NodeSet, ledgers: &[Ledger]) {
        let busy = ledger(ledgers, plan.leader).is_some_and(|l| !l.owed.is_settled());
        if plan.leader == self.current && busy {
            let along = self.recent.intersection(takers);
            plan.followers = plan
                .followers
                .union(along.without(NodeSet::of(plan.leader)));
        }
    }

    /// Sends a message of a sequence, when it may go to these nodes.
    pub(super) fn extended_with(
        &mut self,
        kind: u8,
        plan: Plan,
        before: Vec<(NodeSet, Before)>,
        entry: Entry,
        ledgers: &mut [Ledger],
    ) -> Step {
        if let Some(step) = self.place(&plan, ledgers) {
            return step;
        }
        self.send_extended(kind, plan, before, entry, ledgers)
    }

    pub(super) fn send_extended(
        &mut self,
        kind: u8,
        plan: Plan,
        before: Vec<(NodeSet, Before)>,
        entry: Entry,
        ledgers: &mut [Ledger],
    ) -> Step {
        self.commit(&plan, ledgers);
        self.before_sent(&before, ledgers);
        self.pipelining |= kind == b'E';
        self.executing |= kind == b'E';
        let alone = plan.followers.is_empty();
        let closing = match &entry {
            Entry::Close(closed) if !alone => Some(closed.0.clone()),
            _ => None,
        };
        let mut entry = Some(entry);
        for node in plan.nodes().iter() {
            self.used.insert(node);
            if let Some(ledger) = ledgers.get_mut(node) {
                ledger.flushed = false;
                let what = if node == plan.leader {
                    entry.take().unwrap_or_default()
                } else {
                    closing.clone().map_or(Entry::Nothing, Entry::Closing)
                };
                ledger.owed.sent(kind, what);
            }
        }
        debug_assert!(ledger(ledgers, plan.leader).is_none_or(|l| !l.hidden));
        Step::Send(Sending {
            followers: plan.followers,
            before,
            // Whether an extended BEGIN has to be a plain one is known when it is parsed.
            plain_begin: kind == b'P' && plan.decision.plain_begin_on_standbys,
            ..Sending::to(plan.leader)
        })
    }
}
