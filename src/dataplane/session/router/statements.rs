//! Which node has which statement, and what is remembered of those that are carried out.

use std::rc::Rc;

use super::{
    Before, Entry, Ledger, NONE, Plan, Router, Step, Unnamed,
    kinds::{
        changes_session, changes_transaction, copies_in, is_for_the_primary, is_taken_when_failed,
        settles,
    },
    ledger,
    ledger::{Executed, Replay},
    split_cstr, statement_of,
};
use crate::{
    cluster::{ClusterView, NodeId},
    protocol::{frame::HEADER_LEN, messages::frame},
    routing::{
        facts::{Facts, Ident, Statement},
        lexer::{self, StatementKind},
        policy::Rule,
        session::{NodeSet, Parsed, Prepared},
    },
};

impl Router {
    /// What has to be known of a statement when it is answered; `None`: nothing.
    pub(super) fn executed(&self, facts: &Facts, sql: &[u8], plan: &Plan) -> Option<Box<Executed>> {
        let plain = facts.count() <= 1
            && matches!(
                facts.first(),
                Statement::Empty
                    | Statement::Select
                    | Statement::Show
                    | Statement::Copy(_)
                    | Statement::Explain { .. }
            );
        if plain && !plan.decision.writes && plan.followers.is_empty() {
            return None;
        }
        // That a temporary table of this session has gone is news of one name.
        let own = |statement: &Statement| matches!(*statement, Statement::Drop(name) if self.state.is_temporary(facts.text(name)));
        let changes = facts.changes_catalog() && !facts.statements().iter().all(own);
        // Of what was too long to be read the first word is known.
        let catalog = changes
            || facts.is_unread()
            || facts.is_unknown() && lexer::kind(sql) == StatementKind::Ddl;
        Some(Box::new(Executed {
            facts: facts.clone(),
            writes: plan.decision.writes,
            nodes: plan.nodes(),
            catalog,
            is_query: false,
            replay: None,
        }))
    }

    /// What the load balance node has to be told when this string of several statements has
    /// succeeded. `None`: nothing, or that cannot be done, and it lags behind for good.
    pub(super) fn replay(
        &self,
        facts: &Facts,
        sql: &[u8],
        plan: &Plan,
        ledgers: &[Ledger],
    ) -> Option<Replay> {
        let node = self.state.load_balance_node?;
        // Whoever has a statement has to forget it.
        let forgets = |statement: &Statement| match *statement {
            Statement::Deallocate(Some(name)) => self
                .state
                .prepared(facts.text(name))
                .is_some_and(|p| p.nodes.contains(node)),
            _ => false,
        };
        let concerns = |statement: &Statement| changes_session(statement) || forgets(statement);
        if facts.count() < 2
            || !facts.statements().iter().any(concerns)
            || facts
                .statements()
                .iter()
                .any(|s| s.is_transaction_command())
            || self.state.is_in_transaction()
            || plan.leader != self.primary
            || node == self.primary
            || self.unfit.union(self.lost).contains(node)
            || !ledger(ledgers, node)?.owed.is_quiescent()
        {
            return None;
        }
        let mut changes = Vec::new();
        for part in Facts::split(sql, self.standard_strings) {
            let facts = Facts::of(part);
            let first = facts.first();
            let named = matches!(first, Statement::Deallocate(Some(_)));
            if (changes_session(&first) || named) && !is_for_the_primary(first) {
                changes.extend_from_slice(part);
                changes.push(b';');
            }
        }
        let sql = changes.into();
        Some(Replay { node, sql })
    }

    /// A statement is sent. Nodes that are not told of a change of the session lag behind it for
    /// good.
    pub(super) fn note_sent(
        &mut self,
        facts: &Facts,
        plan: &Plan,
        replayed: Option<NodeId>,
        view: &ClusterView,
    ) {
        let mut told = plan.nodes();
        if let Some(node) = replayed {
            told.insert(node);
        }
        let changes = facts.statements().iter().any(changes_session);
        self.in_doubt |= settles(facts);
        self.copy_ahead |= facts.statements().iter().any(copies_in);
        let several = facts.count() > 1;
        let mut missed = NONE;
        // What only the primary takes changes nothing for reads.
        if changes && plan.decision.rule != Rule::PrimaryOnlySet {
            missed = view.valid_nodes().collect();
            self.changes = self.changes.wrapping_add(1);
        }
        // A SET, a temporary table or the end of the transaction may be in it.
        if facts.is_unread() {
            missed = view.valid_nodes().collect();
        }
        // What becomes of the transaction is the primary's secret.
        let commands = several
            && facts
                .statements()
                .iter()
                .any(|s| s.is_transaction_command());
        if commands || facts.statements().iter().any(changes_transaction) {
            missed = missed.union(self.state.nodes_in_transaction());
        }
        // It keeps what the others lose, or the other way round.
        if facts.first() == Statement::PrepareTransaction && self.changes != self.settled_changes {
            missed = view.valid_nodes().collect();
        }
        missed = missed.without(told).without(NodeSet::of(self.primary));
        self.unfit = self.unfit.union(missed);
    }

    /// A message has made the unnamed statement, or dropped it.
    pub(super) fn has_unnamed(&mut self, unnamed: Unnamed) {
        self.unnamed_known = unnamed.map(|(parsed, nodes)| (parsed, nodes.without(self.lost)));
    }

    /// The node does not have the unnamed statement, or not any more.
    pub(super) fn has_no_unnamed(&mut self, node: NodeId) {
        let both = [&mut self.unnamed, &mut self.unnamed_known];
        for (_, nodes) in both.into_iter().flatten() {
            nodes.remove(node);
        }
    }

    /// These nodes get the unnamed statement as well.
    fn has_unnamed_also(&mut self, parsed: &Rc<Parsed>, also: NodeSet) {
        let both = [&mut self.unnamed, &mut self.unnamed_known];
        for (one, nodes) in both.into_iter().flatten() {
            if Rc::ptr_eq(one, parsed) {
                *nodes = nodes.union(also);
            }
        }
    }

    /// The nodes of a plan that do not have the statement; they have it from now on.
    pub(super) fn lacking(
        &mut self,
        name: &[u8],
        parsed: &Rc<Parsed>,
        plan: &Plan,
    ) -> Option<(NodeSet, Before)> {
        let have = if name.is_empty() {
            self.unnamed.as_ref().map(|(_, nodes)| *nodes)
        } else {
            self.state.prepared(name).map(|p| p.nodes)
        };
        let lacking = plan.nodes().without(have.unwrap_or_default());
        if lacking.is_empty() || parsed.message.is_empty() {
            return None;
        }
        if name.is_empty() {
            self.has_unnamed_also(parsed, lacking);
        } else {
            self.state.parsed_also(name, lacking);
        }
        self.doubtful(name, plan);
        let parsed = parsed.clone();
        let name = name.into();
        let sync = false;
        Some((lacking, Before::Parse { name, parsed, sync }))
    }

    /// `Some`: these nodes lack the statement, or one that it names, and the open transaction may have
    /// failed, so that it would refuse what makes them.
    pub(super) fn wait_to_make(
        &mut self,
        name: Option<&[u8]>,
        facts: Option<&Facts>,
        plan: &Plan,
        ledgers: &mut [Ledger],
    ) -> Option<Step> {
        if !self.state.is_in_transaction() {
            return None;
        }
        let lacking = |nodes: NodeSet| !plan.nodes().without(nodes).is_empty();
        let known = name.and_then(|name| self.statement(name).1);
        let named = facts.map_or_else(Vec::new, |facts| self.taken(facts));
        let mut named = named.iter().filter_map(|(name, _)| self.statement(name).1);
        if known.is_some_and(lacking) || named.any(lacking) {
            return self.wait_for_all(ledgers);
        }
        None
    }

    /// The same, and what the statement names. `rows`: they are to be described.
    pub(super) fn lacking_all(
        &mut self,
        name: &[u8],
        parsed: &Rc<Parsed>,
        plan: &Plan,
        rows: bool,
    ) -> Vec<(NodeSet, Before)> {
        let named = self.named(parsed, plan);
        let stand_in = if rows {
            None
        } else {
            self.stand_in(name, parsed, plan)
        };
        let lacking = stand_in.or_else(|| self.lacking(name, parsed, plan));
        named.into_iter().chain(lacking).collect()
    }

    /// A failed transaction parses nothing but the empty string (and its own end). Under the name of a
    /// statement that the nodes of a plan do not have, and with its types of parameters, that is
    /// described as one without rows, and refused as any other. `None`: the transaction has not failed, or
    /// how many parameters there are is not known.
    pub(super) fn stand_in(
        &mut self,
        name: &[u8],
        parsed: &Parsed,
        plan: &Plan,
    ) -> Option<(NodeSet, Before)> {
        if !self.state.has_failed()
            || is_taken_when_failed(&parsed.facts)
            || statement_of(parsed).contains(&b'$')
        {
            return None;
        }
        let lacking = plan.nodes().without(self.statement(name).1?);
        let types = parsed.message.get(HEADER_LEN..)?;
        let types = split_cstr(split_cstr(types)?.1)?.1;
        if lacking.is_empty() {
            return None;
        }
        let mut message = Vec::new();
        frame(b'P', &mut message, |out| {
            out.extend_from_slice(name);
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(types);
        });
        // It goes when the statement is made there, or another one of this name.
        self.doubtful(name, plan);
        if !name.is_empty() {
            self.may_have(name.into(), lacking);
        }
        let before = Before::Parse {
            name: name.into(),
            parsed: Rc::new(Parsed {
                facts: Facts::new(),
                message: message.into(),
            }),
            sync: false,
        };
        Some((lacking, before))
    }

    /// A Query comes next: a Sync ends what goes out before it, unless that belongs to a sequence or
    /// to the transaction of one.
    pub(super) fn before_query(
        &mut self,
        befores: &mut [(NodeSet, Before)],
        ledgers: &mut [Ledger],
    ) {
        for one in befores {
            let (nodes, before) = one;
            let amid = !nodes.intersection(self.used).is_empty();
            match before {
                Before::Parse { sync, .. } => *sync = !amid,
                // Within the transaction of a sequence it would end that.
                Before::Join { sync, .. } => *sync &= !amid,
                Before::Close { .. } | Before::Occupy { .. } => {}
            }
            self.before_sent(std::slice::from_ref(one), ledgers);
        }
    }

    pub(super) fn before_sent(&mut self, befores: &[(NodeSet, Before)], ledgers: &mut [Ledger]) {
        for (nodes, before) in befores {
            let (messages, sync) = match before {
                Before::Close { .. } => (1, false),
                Before::Parse { sync, .. } => (1, *sync),
                Before::Occupy { .. } => (3, false),
                Before::Join { execute, sync, .. } => (if *execute { 5 } else { 2 }, *sync),
            };
            for node in nodes.iter() {
                let Some(ledger) = ledgers.get_mut(node) else {
                    continue;
                };
                for _ in 0..messages {
                    ledger.owed.sent_ours(Entry::Nothing);
                }
                if let Before::Parse { name, .. } = before {
                    self.lacked = true;
                    ledger.owed.sent_ours(Entry::Lacked(name.clone()));
                }
                if sync {
                    ledger.owed.sent_our_sync();
                } else {
                    self.used.insert(node);
                    ledger.flushed = false;
                }
            }
        }
    }

    /// Statements of Parse messages that an EXECUTE or DEALLOCATE names, or a PREPARE, which is refused
    /// where that is. The same one may be there twice.
    pub(super) fn taken(&self, facts: &Facts) -> Vec<(Box<[u8]>, Rc<Parsed>)> {
        let named = |statement: &Statement| match *statement {
            Statement::Prepare(name) if facts.count() == 1 => Some(name),
            // In a string of several as well, which the primary alone gets.
            Statement::Deallocate(Some(name)) => Some(name),
            _ => None,
        };
        let names = facts.statements().iter().filter_map(named);
        let parsed = |name: Ident| {
            let name = facts.text(name);
            let parsed = self.state.prepared(name)?.parsed.clone()?;
            Some((name.into(), parsed))
        };
        let executes = facts.executes().iter().copied();
        names.chain(executes).filter_map(parsed).collect()
    }

    /// What a PREPARE or EXECUTE names is made where it is carried out. A failed transaction carries
    /// none of them out, and refuses all Parse messages: the client's own must be the first, as it drops
    /// the unnamed statement all the same.
    pub(super) fn named(&mut self, parsed: &Parsed, plan: &Plan) -> Option<(NodeSet, Before)> {
        if self.state.has_failed() {
            return None;
        }
        let (name, taken) = self.taken(&parsed.facts).into_iter().next()?;
        self.lacking(&name, &taken, plan)
    }

    /// What a node may have of this name is closed first.
    pub(super) fn doubtful(&mut self, name: &[u8], plan: &Plan) -> Option<(NodeSet, Before)> {
        let nodes = self.doubtful.get_mut(name)?;
        let here = nodes.intersection(plan.nodes());
        *nodes = nodes.without(here);
        if nodes.is_empty() {
            self.doubtful.remove(name);
        }
        (!here.is_empty()).then(|| (here, Before::Close { name: name.into() }))
    }

    /// Who refuses a Parse of a name that is taken as PostgreSQL alone would.
    pub(super) fn refusing(&self, taken: &Prepared, parsed: &Parsed) -> NodeId {
        let ends = is_taken_when_failed(&parsed.facts);
        if taken.parsed.is_some() && !(self.state.has_failed() && ends) {
            return self.primary;
        }
        self.preferred(taken.nodes).unwrap_or(self.primary)
    }

    /// What a Parse message made, and which nodes have it.
    pub(super) fn statement(&self, name: &[u8]) -> (Option<Rc<Parsed>>, Option<NodeSet>) {
        if name.is_empty() {
            return match &self.unnamed {
                Some((parsed, nodes)) => (Some(parsed.clone()), Some(*nodes)),
                None => (None, None),
            };
        }
        match self.state.prepared(name) {
            Some(prepared) => (prepared.parsed.clone(), Some(prepared.nodes)),
            None => (None, None),
        }
    }

    /// Which of these nodes answers the client without waiting, if one does.
    pub(super) fn preferred(&self, nodes: NodeSet) -> Option<NodeId> {
        [self.current, self.primary]
            .into_iter()
            .find(|&node| nodes.contains(node))
            .or(nodes.first())
    }
}
