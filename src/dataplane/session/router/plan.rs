//! Where a statement goes: what routing decides, and what of it this session can do.

use super::{Env, Explanation, Ledger, NONE, Plan, Router, Step, ledger};
use crate::routing::{
    balance::{self, Situation},
    facts::{Facts, Statement},
    policy::{self, Catalog, Decision, Destination, Inputs, Protocol, Rule, Verdict},
    session::NodeSet,
};

impl Router {
    /// Where this statement goes.
    pub(super) fn plan<C: Catalog>(
        &mut self,
        facts: &Facts,
        sql: &[u8],
        protocol: Protocol,
        parsed_on: NodeSet,
        ledgers: &mut [Ledger],
        env: &mut Env<'_, C>,
    ) -> Result<Plan, Step> {
        if let Some(step) = self.wait_for_named(facts, ledgers) {
            return Err(step);
        }
        if let Some(plan) = self.at_portals(facts) {
            return Ok(plan);
        }
        let mut decision = self.decide(facts, sql, protocol, env)?;
        let unfit = |node| self.unfit.contains(node);
        if self.state.load_balance_node.is_some_and(unfit) {
            self.state.load_balance_node = Some(self.primary);
        }
        // A statement that was parsed a moment ago stays where it is.
        let stays = self.state.load_balance_node.is_some_and(|node| {
            parsed_on.contains(node) && env.view.is_valid(node) && !self.unfit.contains(node)
        });
        if !stays && decision.wants_new_node(&self.state, env.settings, &env.situation()) {
            // Another node would have no part in the transaction.
            if self.state.is_in_transaction() && !env.settings.statement_level_load_balance {
                decision.destination = Destination::Primary;
                decision.rule = Rule::Delay;
            } else {
                self.choose(env);
            }
        }
        if decision.destination == Destination::LoadBalance && self.stands_apart(ledgers) {
            decision.destination = Destination::Primary;
            decision.rule = Rule::NodeNotInTransaction;
        }
        // By protocol: what it does is not looked at. Whatever it names is made on the primary.
        if matches!(decision.destination, Destination::Nodes(_))
            && matches!(facts.first(), Statement::Execute(_))
        {
            decision.destination = Destination::Primary;
        }
        let nodes = decision.nodes(&self.state, &env.situation());
        // Only the primary knows of every transaction.
        let forgets = matches!(facts.first(), Statement::Deallocate(Some(_)));
        let leader = if nodes.contains(self.primary) || forgets {
            self.primary
        } else {
            nodes.first().unwrap_or(self.primary)
        };
        Ok(Plan {
            decision,
            leader,
            followers: nodes.without(NodeSet::of(leader)),
        })
    }

    /// FETCH, MOVE, CLOSE and DECLARE find the portals of the extended protocol by their names.
    fn at_portals(&self, facts: &Facts) -> Option<Plan> {
        if facts.count() != 1 || self.portals.named.is_empty() {
            return None;
        }
        let mut plan = self.to_primary(false);
        match facts.first() {
            Statement::Fetch(Some(name))
            | Statement::ClosePortal(Some(name))
            | Statement::Declare(name) => {
                plan.leader = self.portals.get(facts.text(name))?.leader;
            }
            Statement::ClosePortal(None) => {
                let nodes: NodeSet = self.portals.named.values().map(|p| p.leader).collect();
                plan.followers = nodes.without(NodeSet::of(plan.leader));
            }
            _ => return None,
        }
        Some(plan)
    }

    /// Whether the load balance node has no part in the open transaction, or one in a transaction that
    /// the primary has ended.
    pub(super) fn stands_apart(&self, ledgers: &[Ledger]) -> bool {
        let Some(node) = self.state.load_balance_node else {
            return false;
        };
        let Some(ledger) = ledger(ledgers, node) else {
            return false;
        };
        let part = self.state.is_node_in_transaction(node);
        // What has failed where it follows is no place to read from, either.
        node != self.primary
            && (ledger.failed || ledger.owed.is_settled() && part != self.state.is_in_transaction())
    }

    pub(super) fn decide<C: Catalog>(
        &self,
        facts: &Facts,
        sql: &[u8],
        protocol: Protocol,
        env: &mut Env<'_, C>,
    ) -> Result<Decision, Step> {
        let inputs = Inputs {
            facts,
            sql,
            protocol,
            state: &self.state,
            settings: env.settings,
            switches: env.switches,
            situation: Situation {
                view: env.view,
                replication: env.replication,
            },
            user: env.who.user,
        };
        match policy::decide(&inputs, &mut env.catalog) {
            Verdict::Decided(decision) => Ok(decision),
            // In the middle of a sequence a node cannot be asked.
            Verdict::NeedCatalog(_)
                if self.unanswered
                    || self.look_ups_fail && self.state.is_in_transaction()
                    || self.used.contains(self.catalog_node(env.settings)) =>
            {
                Ok(Decision::without_catalog(facts))
            }
            Verdict::NeedCatalog(questions) => Err(Step::LookUp(questions)),
        }
    }

    /// Takes another load balance node, if one is fit.
    pub(super) fn choose<C>(&mut self, env: &mut Env<'_, C>) {
        let situation = Situation {
            view: env.view,
            replication: env.replication,
        };
        let chosen = balance::choose(env.settings, &situation, &env.who, env.random)
            .filter(|&node| !self.unfit.contains(node));
        self.state.load_balance_node = Some(chosen.unwrap_or(self.primary));
    }

    /// Where a statement would go, without sending it.
    ///
    /// # Errors
    ///
    /// [`Step::LookUp`] or [`Step::Wait`]
    pub fn explain<C: Catalog>(
        &mut self,
        sql: &[u8],
        ledgers: &mut [Ledger],
        env: &mut Env<'_, C>,
    ) -> Result<Explanation, Step> {
        let mut facts = std::mem::take(env.facts);
        facts.read(sql, self.standard_strings);
        let chosen = self.state.load_balance_node;
        let plan = self.plan(&facts, sql, Protocol::Simple, NONE, ledgers, env);
        // Asking changes nothing.
        if !env.settings.statement_level_load_balance {
            self.state.load_balance_node = chosen;
        }
        *env.facts = facts;
        match plan {
            Ok(plan) => {
                self.unanswered = false;
                Ok(Explanation {
                    nodes: plan.nodes(),
                    rule: plan.decision.rule,
                })
            }
            Err(step) => Err(self.ask_when_free(step, ledgers)),
        }
    }
}
