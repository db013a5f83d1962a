//! Portals of the extended protocol: which node has which.

use std::{collections::HashMap, rc::Rc};

use super::{
    Before, Entry, Env, Ledger, Plan, Router, STATEMENT_LIMIT, Step, kinds::is_taken_when_failed,
    split_cstr, statement_of, text,
};
use crate::{
    cluster::NodeId,
    dataplane::session::client_side::Message,
    routing::{
        facts::{Discard, Facts, Statement},
        policy::{Catalog, Decision, Protocol, Rule},
        session::{NodeSet, Parsed},
    },
};

/// A portal of the extended protocol.
#[derive(Debug)]
pub struct Portal {
    /// Which Bind message has made it.
    number: u64,
    /// How many savepoints there were.
    savepoints: usize,
    parsed: Option<Rc<Parsed>>,
    decision: Decision,
    pub(super) leader: NodeId,
    pub(super) followers: NodeSet,
    /// Where the name was occupied, so that a Bind message was refused.
    pub(super) occupied: NodeSet,
}

/// The portals of a session.
#[derive(Debug, Default)]
pub struct Portals {
    pub unnamed: Option<Box<Portal>>,
    pub named: HashMap<Box<[u8]>, Portal>,
    /// Number of the last Bind message.
    binds: u64,
    /// Portals up to this one have ended with their transaction.
    ended: u64,
    /// Number of the last Bind message before the sequence that is open.
    earlier: u64,
}

impl Portals {
    pub fn get(&self, name: &[u8]) -> Option<&Portal> {
        if name.is_empty() {
            return self.unnamed.as_deref();
        }
        self.named.get(name)
    }

    /// The transaction ends, and all of them with it.
    pub fn end(&mut self) {
        self.named.clear();
        self.ended = self.binds;
    }

    /// The sequence ends.
    pub fn end_sequence(&mut self) {
        self.earlier = self.binds;
    }

    /// No transaction was open when the last sequence ended.
    pub fn end_earlier(&mut self) {
        self.ended = self.ended.max(self.earlier);
        self.named.retain(|_, portal| portal.number > self.ended);
    }

    /// The Bind message of this number was not carried out.
    pub fn not_bound(&mut self, name: &[u8], number: u64) {
        if self.named.get(name).is_some_and(|p| p.number == number) {
            self.named.remove(name);
        }
    }

    /// A Close message was not carried out; connections to the nodes in `lost` are gone meanwhile.
    pub fn not_closed(&mut self, name: Box<[u8]>, mut portal: Portal, lost: NodeSet) {
        portal.followers = portal.followers.without(lost);
        portal.occupied = portal.occupied.without(lost);
        if portal.number > self.ended && !lost.contains(portal.leader) {
            self.named.entry(name).or_insert(portal);
        }
    }

    pub fn node_lost(&mut self, node: NodeId) {
        self.named.retain(|_, portal| portal.leader != node);
        if self.unnamed.as_ref().is_some_and(|p| p.leader == node) {
            self.unnamed = None;
        }
        for portal in self.named.values_mut().chain(self.unnamed.as_deref_mut()) {
            portal.followers.remove(node);
            portal.occupied.remove(node);
        }
    }
}

impl Router {
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
                self.extended(b'B', self.to_primary(true), Vec::new(), ledgers)
            } else {
                Step::NeedsMore
            };
        };
        let wait = self.wait_for_statement(name, ledgers);
        if let Some(step) = wait.or_else(|| self.wait_for_portal(portal, ledgers)) {
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
        let taken = self.portals.named.get(portal).map(|p| p.leader);
        if taken.is_some_and(|node| node != plan.leader)
            && let Some(step) = self.wait_for_all(ledgers)
        {
            return step;
        }
        let occupy = taken.and_then(|node| self.refuse_at(node, portal, &mut plan));
        // A failed transaction refuses to parse.
        if self.state.has_failed()
            && !parsed
                .as_ref()
                .is_some_and(|p| is_taken_when_failed(&p.facts))
            && let Some(known) = known
            && !known.contains(plan.leader)
            && let Some(node) =
                self.preferred(known.intersection(self.state.nodes_in_transaction()))
        {
            plan.leader = node;
            plan.followers = NodeSet::EMPTY;
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
        let facts = parsed.as_ref().map(|p| &p.facts);
        let wait = self.wait_to_make(facts.map(|_| name), facts, &plan, ledgers);
        if let Some(step) = wait.or_else(|| self.place(&plan, ledgers)) {
            return step;
        }
        let lacks = match &parsed {
            Some(parsed) => self.lacking_all(name, parsed, &plan, false),
            None if name.is_empty() => {
                vec![(NodeSet::of(plan.leader), Before::close_unnamed())]
            }
            None => Vec::new(),
        };
        if let Some((nodes, _)) = &occupy
            && let Some(taken) = self.portals.named.get_mut(portal)
        {
            taken.occupied = taken.occupied.union(*nodes);
        }
        let before = lacks.into_iter().chain(occupy).collect();
        if let Some(parsed) = &parsed {
            self.note_elsewhere(b'B', &parsed.facts, &plan);
        }
        self.portals.binds += 1;
        let number = self.portals.binds;
        let new = Portal {
            number,
            savepoints: self.state.savepoints(),
            parsed,
            decision: plan.decision,
            leader: plan.leader,
            followers: plan.followers,
            occupied: NodeSet::EMPTY,
        };
        if portal.is_empty() {
            match &mut self.portals.unnamed {
                Some(old) => **old = new,
                none => *none = Some(Box::new(new)),
            }
            return self.extended(b'B', plan, before, ledgers);
        }
        self.touched.add(portal);
        let mut entry = Entry::Nothing;
        if taken.is_none() {
            self.portals.named.insert(portal.into(), new);
            entry = Entry::Bind(portal.into(), number);
        }
        self.extended_with(b'B', plan, before, entry, ledgers)
    }

    /// The name of a portal that is taken at this node: the Bind message goes to where it is refused.
    fn refuse_at(&self, node: NodeId, portal: &[u8], plan: &mut Plan) -> Option<(NodeSet, Before)> {
        // What may write does not go to a standby for that.
        let at_primary = plan.nodes().contains(self.primary) && !self.state.has_failed();
        plan.followers = NodeSet::EMPTY;
        plan.leader = if at_primary { self.primary } else { node };
        let occupy = Before::Occupy {
            portal: portal.into(),
        };
        (plan.leader != node).then(|| (NodeSet::of(plan.leader), occupy))
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
        let name = text(message.body());
        if let Some(step) = self.wait_for_portal(name, ledgers) {
            return step;
        }
        // Another one is the server's: a cursor of DECLARE, or none.
        let Some(portal) = self.portals.get(name) else {
            return self.extended(b'E', self.to_primary(true), Vec::new(), ledgers);
        };
        let mut plan = Plan {
            decision: portal.decision,
            leader: portal.leader,
            followers: portal.followers,
        };
        let Some(parsed) = portal.parsed.clone() else {
            return self.execute_unknown(plan, ledgers, env);
        };
        self.without_followers(&parsed.facts, &mut plan);
        if let Some(step) = self.place(&plan, ledgers) {
            return step;
        }
        if let Some(step) = self.wait_to_settle(&parsed.facts, ledgers) {
            return step;
        }
        let sql = statement_of(&parsed);
        let before = match self.join(&parsed.facts, sql, Protocol::Extended, &plan, ledgers) {
            Ok(before) => before.into_iter().collect(),
            Err(step) => return step,
        };
        if parsed.facts.first().ends_transaction() {
            self.end_sequences(&plan, ledgers);
        }
        let entry = self
            .executed(&parsed.facts, sql, &plan)
            .map_or(Entry::Nothing, Entry::Executed);
        let nodes = plan.nodes();
        // Decided in a transaction that counts as one that writes, functions have not been looked at,
        // and by now it may be over.
        let unread = plan.decision.rule != Rule::Balanced && parsed.facts.calls_code();
        let writes = plan.decision.writes || unread;
        // Several statements in one Parse message are refused: none of them is carried out.
        if parsed.facts.count() <= 1 {
            self.state.sent(&parsed.facts, env.settings, writes, nodes);
        }
        self.note_sent(&parsed.facts, &plan, None, env.view);
        self.note_elsewhere(b'E', &parsed.facts, &plan);
        self.send_extended(b'E', plan, before, entry, ledgers)
    }

    /// What was made by PREPARE, or is nobody's: it may write.
    fn execute_unknown<C>(
        &mut self,
        plan: Plan,
        ledgers: &mut [Ledger],
        env: &mut Env<'_, C>,
    ) -> Step {
        if let Some(step) = self.place(&plan, ledgers) {
            return step;
        }
        env.facts.read_unknown();
        let entry = self
            .executed(env.facts, b"", &plan)
            .map_or(Entry::Nothing, Entry::Executed);
        self.state.sent(env.facts, env.settings, true, plan.nodes());
        self.extended_with(b'E', plan, Vec::new(), entry, ledgers)
    }

    /// Portals end with their transaction or savepoint.
    pub(super) fn end_portals(&mut self, facts: &Facts) {
        if self.portals.named.is_empty() {
            return;
        }
        for statement in facts.statements() {
            match statement {
                Statement::ClosePortal(None) | Statement::Discard(Discard::All) => {
                    self.portals.end();
                }
                statement if statement.ends_transaction() => self.portals.end(),
                Statement::ClosePortal(Some(name)) => {
                    self.portals.named.remove(facts.text(*name));
                }
                Statement::RollbackTo(name) => {
                    if let Some(at) = self.state.savepoints_before(facts.text(*name)) {
                        let named = &mut self.portals.named;
                        named.retain(|_, portal| portal.savepoints <= at);
                    }
                }
                Statement::Release(name) => {
                    if let Some(at) = self.state.savepoints_before(facts.text(*name)) {
                        for portal in self.portals.named.values_mut() {
                            portal.savepoints = portal.savepoints.min(at);
                        }
                    }
                }
                _ => {}
            }
        }
    }
}
