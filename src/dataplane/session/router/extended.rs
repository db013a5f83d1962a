//! The extended protocol: which node has which statement and portal.

use std::rc::Rc;

use super::{
    Before, Entry, Env, Ledger, Message, Parsing, Plan, Portal, Router, STATEMENT_LIMIT, Sending,
    Step, ledger, split_cstr, statement_of,
};
use crate::{
    cluster::NodeId,
    routing::{
        facts::{Facts, Statement},
        policy::{Catalog, Destination, Protocol, Rule},
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
            return self.extended(b'P', self.to_primary(true), None, ledgers);
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
        if name.is_empty() {
            if let Some(step) = self.place_extended(b'P', &plan, ledgers) {
                return step;
            }
            let before = self.named(&parsed, &plan);
            let entry = Entry::Unnamed(self.unnamed_turn.wrapping_add(1), self.unnamed.clone());
            let step = self.extended_with(b'P', plan, before, entry, ledgers);
            if matches!(step, Step::Send(_)) {
                self.set_unnamed(Some((parsed, plan.nodes())));
                self.unnamed_here = true;
            }
            return step;
        }
        // Whether it is, an earlier sequence may have to tell.
        if self.state.prepared(name).is_some()
            && let Some(step) = self.wait_for_current(ledgers)
        {
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
        if let Some(step) = self.place_extended(b'P', &plan, ledgers) {
            return step;
        }
        let old = taken.as_ref().filter(|_| !self.state.has_failed());
        let old = old.and_then(|taken| taken.parsed.as_ref());
        let before = old
            .and_then(|old| self.lacking(name, old, &plan))
            .or_else(|| self.named(&parsed, &plan))
            .or_else(|| self.doubtful(name, &plan));
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
            facts.read_unknown();
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

    pub(super) fn bind<C: Catalog>(
        &mut self,
        message: Message<'_>,
        ledgers: &mut [Ledger],
        env: &mut Env<'_, C>,
    ) -> Step {
        let names = split_cstr(message.body())
            .and_then(|(portal, rest)| split_cstr(rest).map(|(name, _)| (portal, name)));
        let Some((portal, name)) = names else {
            return if message.is_whole() || message.bytes.len() > STATEMENT_LIMIT {
                self.extended(b'B', self.to_primary(true), None, ledgers)
            } else {
                Step::NeedsMore
            };
        };
        if let Some(step) = self.wait_for_unnamed(name, ledgers) {
            return step;
        }
        let (parsed, known) = self.statement(name);
        let planned = match &parsed {
            Some(parsed) => {
                let have = match known {
                    Some(nodes) if name.is_empty() => nodes,
                    _ => NodeSet::EMPTY,
                };
                let sql = statement_of(parsed);
                self.plan(&parsed.facts, sql, Protocol::Extended, have, ledgers, env)
            }
            // Of PREPARE, or nobody's.
            None => {
                let mut plan = self.to_primary(true);
                plan.leader = known
                    .and_then(|nodes| self.preferred(nodes))
                    .unwrap_or(plan.leader);
                Ok(plan)
            }
        };
        let mut plan = match planned {
            Ok(plan) => plan,
            Err(step) => return step,
        };
        // A name that is taken is refused by the node that has it. It may be free after all, so a
        // write does not go to a standby for it.
        let writes = plan.decision.writes && plan.decision.destination == Destination::Primary;
        let mut fresh = true;
        if !portal.is_empty()
            && let Some(taken) = self.portals.get(portal)
            && (!writes || taken.leader == self.primary)
        {
            fresh = false;
            plan.leader = taken.leader;
            plan.followers = if writes {
                NodeSet::EMPTY
            } else {
                taken.followers
            };
        }
        // Only a Parse of the client's own is made a plain BEGIN.
        if plan.decision.plain_begin_on_standbys {
            plan.followers = plan.followers.intersection(known.unwrap_or_default());
        }
        if !plan.followers.is_empty() && !message.is_whole() {
            if message.body_len <= STATEMENT_LIMIT {
                return Step::NeedsMore;
            }
            plan.followers = NodeSet::EMPTY;
        }
        if let Some(step) = self.place_extended(b'B', &plan, ledgers) {
            return step;
        }
        let before = match &parsed {
            Some(parsed) => self
                .lacking(name, parsed, &plan)
                .or_else(|| self.named(parsed, &plan)),
            None if name.is_empty() => Some((NodeSet::of(plan.leader), Before::close_unnamed())),
            None => None,
        };
        self.binds = self.binds.wrapping_add(1);
        let new = Portal {
            number: self.binds,
            savepoints: self.state.savepoints(),
            parsed,
            decision: plan.decision,
            leader: plan.leader,
            followers: plan.followers,
        };
        if portal.is_empty() {
            match &mut self.portal {
                Some(old) => **old = new,
                none => *none = Some(Box::new(new)),
            }
            return self.extended(b'B', plan, before, ledgers);
        }
        let mut entry = Entry::Nothing;
        if fresh {
            self.portals.insert(portal.into(), new);
            entry = Entry::Bind(portal.into(), self.binds);
        }
        self.extended_with(b'B', plan, before, entry, ledgers)
    }

    pub(super) fn execute<C: Catalog>(
        &mut self,
        message: Message<'_>,
        ledgers: &mut [Ledger],
        env: &mut Env<'_, C>,
    ) -> Step {
        if let Some(step) = self.wait_for_whole(message, ledgers) {
            return step;
        }
        let name = super::text(message.body());
        let portal = if name.is_empty() {
            self.portal.as_deref()
        } else {
            self.portals.get(name)
        };
        // Another one is the server's: a cursor of DECLARE, or none.
        let Some(portal) = portal else {
            return self.extended(b'E', self.to_primary(true), None, ledgers);
        };
        let plan = Plan {
            decision: portal.decision,
            leader: portal.leader,
            followers: portal.followers,
        };
        let Some(parsed) = portal.parsed.clone() else {
            return self.execute_unknown(plan, ledgers, env);
        };
        if let Some(step) = self.place_extended(b'E', &plan, ledgers) {
            return step;
        }
        // It ends the transaction of a sequence, that of other nodes as well.
        if matches!(
            parsed.facts.first(),
            Statement::Commit { .. } | Statement::Rollback { .. } | Statement::PrepareTransaction
        ) && let Some(step) = self.end_sequences(&plan, ledgers)
        {
            return step;
        }
        let entry = self
            .executed(&parsed.facts, statement_of(&parsed), &plan)
            .map_or(Entry::Nothing, Entry::Executed);
        let nodes = plan.nodes();
        // Decided in a transaction that counts as one that writes, functions have not been looked at,
        // and by now it may be over.
        let unread = plan.decision.rule != Rule::Balanced && !parsed.facts.functions().is_empty();
        let writes = plan.decision.writes || unread;
        self.state.sent(&parsed.facts, env.settings, writes, nodes);
        self.note_sent(&parsed.facts, &plan, None, env.view);
        self.end_portals(&parsed.facts);
        self.extended_with(b'E', plan, None, entry, ledgers)
    }

    /// What was made by PREPARE, or is nobody's: it may write.
    fn execute_unknown<C>(
        &mut self,
        plan: Plan,
        ledgers: &mut [Ledger],
        env: &mut Env<'_, C>,
    ) -> Step {
        if let Some(step) = self.place_extended(b'E', &plan, ledgers) {
            return step;
        }
        env.facts.read_unknown();
        let entry = self
            .executed(env.facts, b"", &plan)
            .map_or(Entry::Nothing, Entry::Executed);
        self.state.sent(env.facts, env.settings, true, plan.nodes());
        self.extended_with(b'E', plan, None, entry, ledgers)
    }

    /// Portals end with their transaction or savepoint.
    pub(super) fn end_portals(&mut self, facts: &Facts) {
        if self.portals.is_empty() {
            return;
        }
        for statement in facts.statements() {
            match statement {
                Statement::Commit { .. }
                | Statement::Rollback { .. }
                | Statement::PrepareTransaction
                | Statement::ClosePortal(None) => self.portals.clear(),
                Statement::ClosePortal(Some(name)) => {
                    self.portals.remove(facts.text(*name));
                }
                Statement::RollbackTo(name) => {
                    if let Some(at) = self.state.savepoints_before(facts.text(*name)) {
                        self.portals.retain(|_, portal| portal.savepoints <= at);
                    }
                }
                _ => {}
            }
        }
    }

    pub(super) fn describe(&mut self, message: Message<'_>, ledgers: &mut [Ledger]) -> Step {
        if let Some(step) = self.wait_for_whole(message, ledgers) {
            return step;
        }
        let mut plan = self.to_primary(false);
        let mut before = None;
        let mut known = true;
        match message.body() {
            [b'S', name @ ..] => {
                let name = super::text(name);
                if let Some(step) = self.wait_for_unnamed(name, ledgers) {
                    return step;
                }
                let (parsed, nodes) = self.statement(name);
                known = nodes.is_some();
                let fit = |&node: &NodeId| {
                    node == self.primary
                        || (self.state.has_failed() || !self.unfit.contains(node))
                            && self.state.is_node_in_transaction(node)
                                == self.state.is_in_transaction()
                };
                let node = nodes.and_then(|nodes| self.preferred(nodes)).filter(fit);
                plan.leader = node.unwrap_or(plan.leader);
                if let Some(step) = self.place_extended(b'D', &plan, ledgers) {
                    return step;
                }
                if let Some(parsed) = parsed {
                    // The only node that had it may be gone.
                    before = self
                        .lacking(name, &parsed, &plan)
                        .or_else(|| self.named(&parsed, &plan));
                } else if nodes.is_none() && name.is_empty() {
                    before = Some((NodeSet::of(plan.leader), Before::close_unnamed()));
                }
            }
            [b'P', name @ ..] => {
                let name = super::text(name);
                let portal = if name.is_empty() {
                    self.portal.as_deref()
                } else {
                    self.portals.get(name)
                };
                known = portal.is_some();
                if let Some(portal) = portal {
                    plan.leader = portal.leader;
                }
            }
            _ => {}
        }
        // What is not there is an error.
        self.lone |= !known;
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
                let owes = ledger(ledgers, self.current).is_some_and(|l| l.owed.owes_ready());
                if owes && let Some(step) = self.wait_for_current(ledgers) {
                    return step;
                }
                let (_, known) = self.statement(name);
                let nodes = known.unwrap_or_default();
                if let Some(leader) = self.preferred(nodes) {
                    plan.leader = leader;
                    plan.followers = nodes.without(NodeSet::of(leader));
                }
                let entry = match self.state.prepared(name) {
                    Some(prepared) if !name.is_empty() => {
                        Entry::Close(Box::new((name.into(), prepared.clone())))
                    }
                    None if name.is_empty() => {
                        Entry::Unnamed(self.unnamed_turn.wrapping_add(1), self.unnamed.clone())
                    }
                    _ => Entry::Nothing,
                };
                let step = self.extended_with(b'C', plan, None, entry, ledgers);
                if matches!(step, Step::Send(_)) {
                    if name.is_empty() {
                        self.set_unnamed(None);
                    } else {
                        self.state.closed(name);
                    }
                }
                step
            }
            [b'P', name @ ..] => {
                let name = super::text(name);
                let portal = if name.is_empty() {
                    self.portal.as_deref()
                } else {
                    self.portals.get(name)
                };
                if let Some(portal) = portal {
                    plan.leader = portal.leader;
                    plan.followers = portal.followers;
                }
                if let Some(step) = self.place_extended(b'C', &plan, ledgers) {
                    return step;
                }
                let entry = if name.is_empty() {
                    self.portal = None;
                    Entry::Nothing
                } else {
                    let portal = self.portals.remove_entry(name);
                    portal.map_or(Entry::Nothing, |closed| Entry::Unbound(Box::new(closed)))
                };
                self.extended_with(b'C', plan, None, entry, ledgers)
            }
            _ => self.extended(b'C', plan, None, ledgers),
        }
    }

    /// Execute, Describe and Close are short; a longer one is for the server to refuse.
    fn wait_for_whole(&mut self, message: Message<'_>, ledgers: &mut [Ledger]) -> Option<Step> {
        if message.is_whole() {
            return None;
        }
        if message.body_len <= STATEMENT_LIMIT {
            return Some(Step::NeedsMore);
        }
        Some(self.extended(message.kind, self.to_primary(true), None, ledgers))
    }

    fn extended(
        &mut self,
        kind: u8,
        plan: Plan,
        before: Option<(NodeSet, Before)>,
        ledgers: &mut [Ledger],
    ) -> Step {
        self.extended_with(kind, plan, before, Entry::Nothing, ledgers)
    }

    fn place_extended(&mut self, kind: u8, plan: &Plan, ledgers: &mut [Ledger]) -> Option<Step> {
        // Whoever does not get to a Close of the same sequence has the name back.
        let lone = self.lone && kind != b'C';
        self.wait_for_earlier(lone, plan, ledgers)
            .or_else(|| self.place(plan, false, ledgers))
    }

    /// Sends a message of a sequence.
    fn extended_with(
        &mut self,
        kind: u8,
        plan: Plan,
        before: Option<(NodeSet, Before)>,
        entry: Entry,
        ledgers: &mut [Ledger],
    ) -> Step {
        if let Some(step) = self.place_extended(kind, &plan, ledgers) {
            return step;
        }
        self.commit(&plan, ledgers);
        self.before_sent(before.as_ref(), ledgers);
        let alone = plan.followers.is_empty();
        self.lone |= alone && matches!(kind, b'P' | b'B' | b'E');
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
