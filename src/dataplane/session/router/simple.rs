//! Query, FunctionCall and Sync: what ReadyForQuery answers.

use super::{
    Entry, Env, Ledger, NONE, Plan, Router, STATEMENT_LIMIT, Sending, Step, give_back, ledger,
    nothing, statement_of, text,
};
use crate::{
    dataplane::session::client_side::Message,
    routing::{
        facts::{Facts, Statement},
        policy::{Catalog, Protocol},
        session::NodeSet,
    },
};

impl Router {
    pub(super) fn query<C: Catalog>(
        &mut self,
        message: Message<'_>,
        ledgers: &mut [Ledger],
        env: &mut Env<'_, C>,
    ) -> Step {
        if !message.is_whole() && message.body_len <= STATEMENT_LIMIT {
            return Step::NeedsMore;
        }
        if let Some(step) = self.wait_in_sequence(ledgers) {
            return step;
        }
        let facts = std::mem::take(env.facts);
        let step = self.query_with(message, facts, ledgers, env);
        step.unwrap_or_else(|step| step)
    }

    pub(super) fn query_with<C: Catalog>(
        &mut self,
        message: Message<'_>,
        mut facts: Facts,
        ledgers: &mut [Ledger],
        env: &mut Env<'_, C>,
    ) -> Result<Step, Step> {
        let sql = text(message.body());
        if message.body_len <= STATEMENT_LIMIT {
            facts.read(sql, self.standard_strings);
        } else {
            facts.read_too_long(sql, false);
        }
        // EXECUTE of what a Parse message made goes where that statement goes.
        let prepared = match facts.first() {
            // What its arguments call is not looked at.
            Statement::Execute(name) if facts.count() == 1 && facts.functions().is_empty() => {
                let name = facts.text(name);
                let parsed = self.state.prepared(name).and_then(|p| p.parsed.clone());
                parsed.map(|parsed| (Box::<[u8]>::from(name), parsed))
            }
            _ => None,
        };
        let plan = match &prepared {
            Some((_, parsed)) => {
                let sql = statement_of(parsed);
                self.plan(&parsed.facts, sql, Protocol::Simple, NONE, ledgers, env)
            }
            None => self.plan(&facts, sql, Protocol::Simple, NONE, ledgers, env),
        };
        let facts = match &prepared {
            Some(_) => {
                *env.facts = facts;
                None
            }
            None => Some(facts),
        };
        let mut plan = match plan {
            Ok(plan) => plan,
            Err(step) => {
                give_back(env, facts);
                return Err(step);
            }
        };
        if let Some(facts) = &facts {
            self.without_followers(facts, &mut plan);
        }
        if let Some((name, _)) = &prepared {
            self.stays_at_primary(name, &mut plan);
        }
        let taken = facts
            .as_ref()
            .map_or_else(Vec::new, |facts| self.taken(facts));
        let looked_at = prepared.as_ref().map(|(_, p)| &p.facts).or(facts.as_ref());
        let wait = looked_at.and_then(|facts| self.wait_to_settle(facts, ledgers));
        let name = prepared.as_ref().map(|(name, _)| &**name);
        let wait = wait.or_else(|| self.wait_to_make(name, facts.as_ref(), &plan, ledgers));
        if let Some(step) = wait.or_else(|| self.place(&plan, ledgers)) {
            give_back(env, facts);
            return Err(step);
        }
        let join = match looked_at {
            Some(facts) => self.join(facts, sql, Protocol::Simple, &plan, ledgers),
            None => Ok(None),
        };
        let join = match join {
            Ok(join) => join,
            Err(step) => {
                give_back(env, facts);
                return Err(step);
            }
        };
        self.end_sequences(&plan, ledgers);
        // It ends the transaction of the sequence that it stands in, unless it makes it one to stay.
        let begins = |facts: &Facts| matches!(facts.first(), Statement::Begin(_));
        if !self.state.is_in_transaction() && !facts.as_ref().is_some_and(begins) {
            self.portals.end();
        }
        let replay = facts
            .as_ref()
            .and_then(|facts| self.replay(facts, sql, &plan, ledgers));
        let told = replay.as_ref().map(|replay| replay.node);
        let mut executed = match (&prepared, &facts) {
            (Some((_, parsed)), _) => self.executed(&parsed.facts, statement_of(parsed), &plan),
            (None, Some(facts)) => self.executed(facts, sql, &plan),
            (None, None) => None,
        };
        if let Some(facts) = prepared.as_ref().map(|(_, p)| &p.facts).or(facts.as_ref()) {
            let nodes = plan.nodes();
            self.state
                .sent(facts, env.settings, plan.decision.writes, nodes);
            self.note_sent(facts, &plan, told, env.view);
            self.note_elsewhere(b'Q', facts, &plan);
            if prepared.is_some() {
                self.note_sql_execute(&plan);
            }
        }
        if let Some(executed) = &mut executed {
            executed.replay = replay;
            executed.is_query = true;
        }
        give_back(env, facts);
        self.commit(&plan, ledgers);
        // A failed transaction would refuse the Parse message, and the Query would be skipped with it.
        let failed = self.state.has_failed();
        let wanted = prepared.into_iter().chain(taken).filter(|_| !failed);
        let lacks = wanted.filter_map(|(name, parsed)| self.lacking(&name, &parsed, &plan));
        let mut before: Vec<_> = join.into_iter().chain(lacks).collect();
        self.before_query(&mut before, ledgers);
        self.executing = true;
        // PostgreSQL drops the unnamed statement and portal at each Query.
        let entry = executed.map_or(Entry::Unnamed(None), Entry::Executed);
        for (node, entry) in std::iter::once((plan.leader, entry)).chain(nothing(plan.followers)) {
            if let Some(ledger) = ledgers.get_mut(node) {
                ledger.owed.sent(b'Q', entry);
            }
        }
        self.compare(&plan);
        self.unnamed = None;
        self.portals.unnamed = None;
        self.end_sequence();
        Ok(Step::Send(Sending {
            leader: plan.leader,
            followers: plan.followers,
            before,
            plain_begin: plan.decision.plain_begin_on_standbys,
        }))
    }

    /// What the primary has is executed there rather than made on a node that lacks it: an error of our
    /// Parse message could not be told as that of the EXECUTE.
    fn stays_at_primary(&self, name: &[u8], plan: &mut Plan) {
        let have = self.state.prepared(name).map_or(NONE, |p| p.nodes);
        if !have.contains(plan.leader) && have.contains(self.primary) {
            plan.leader = self.primary;
            plan.followers = NONE;
        }
    }

    /// A function is called by its number: it may do anything.
    pub(super) fn function_call<C: Catalog>(
        &mut self,
        ledgers: &mut [Ledger],
        env: &mut Env<'_, C>,
    ) -> Step {
        let plan = self.to_primary(true);
        let wait = self.wait_in_sequence(ledgers);
        if let Some(step) = wait.or_else(|| self.place(&plan, ledgers)) {
            return step;
        }
        self.end_sequences(&plan, ledgers);
        env.facts.read_unknown();
        let executed = self.executed(env.facts, b"", &plan);
        self.state.sent(env.facts, env.settings, true, plan.nodes());
        self.commit(&plan, ledgers);
        self.executing = true;
        if let Some(ledger) = ledgers.get_mut(plan.leader) {
            let entry = executed.map_or(Entry::Nothing, Entry::Executed);
            ledger.owed.sent(b'F', entry);
        }
        // It ends the transaction of the sequence that it stands in.
        if !self.state.is_in_transaction() {
            self.portals.end();
        }
        self.end_sequence();
        Step::Send(Sending::to(plan.leader))
    }

    /// To all that have an open sequence; one of them answers the client.
    pub(super) fn sync(&mut self, ledgers: &mut [Ledger]) -> Step {
        // The primary says whether a write is committed. What has failed is not.
        let failed = ledger(ledgers, self.current).is_some_and(|l| l.owed.is_skipping());
        let commits = self.state.has_unsynced_write() && !self.state.is_in_transaction() && !failed;
        // So does it whether a transaction is open, if the other has no part in it.
        let apart = self.current != self.primary
            && self.state.is_node_in_transaction(self.current) != self.state.is_in_transaction();
        let leader = if commits && self.used.contains(self.primary) || apart {
            self.primary
        } else if self.used.is_empty() || self.used.contains(self.current) {
            self.current
        } else if self.used.contains(self.primary) {
            self.primary
        } else {
            self.used.first().unwrap_or(self.primary)
        };
        let plan = Plan {
            followers: self.used.without(NodeSet::of(leader)),
            leader,
            ..self.to_primary(false)
        };
        // In an open transaction nothing is done yet that the others could not undo.
        let hidden = ledger(ledgers, leader).is_some_and(|l| l.hidden);
        let waits = commits || hidden || leader != self.current;
        if waits && let Some(step) = self.place(&plan, ledgers) {
            return step;
        }
        self.commit(&plan, ledgers);
        for node in plan.nodes().iter() {
            if let Some(ledger) = ledgers.get_mut(node) {
                let entry = if node == leader && !plan.followers.is_empty() {
                    Entry::Compare
                } else {
                    Entry::Nothing
                };
                ledger.owed.sent(b'S', entry);
            }
        }
        self.compare(&plan);
        self.used = NodeSet::default();
        self.unnamed_here = false;
        self.end_sequence();
        if !self.state.is_in_transaction() {
            // Outside a transaction none outlives its sequence.
            self.portals.end();
        }
        Step::Send(Sending {
            followers: plan.followers,
            ..Sending::to(leader)
        })
    }
}
