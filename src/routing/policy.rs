//! The decision procedure: to which nodes a statement goes, and by which rule.
//!
//! The rules and their numbers are in the module doc of [`crate::routing`]; they follow
//! `pool_where_to_send` and `is_select_query` (`src/context/pool_query_context.c`,
//! `src/protocol/pool_process_query.c
//! @ V4_3_5`). The order differs in one place: delay is looked at last, as from 4.5 on, so that
//! `prefer_lower_delay_standby` never sends a writing function to a standby.

use std::fmt;

use super::{
    balance::Situation,
    facts::{Copy, CopySource, Facts, Name, Set, Statement},
    relcache::{Question, Relation},
    session::{NodeSet, SessionState, is_read, is_weak_lock},
    settings::{CheckTempTable, OnWrite, Settings, Switches},
};
use crate::cluster::NodeId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Simple,
    Extended,
}

/// Where a statement goes, in the words of the rules; [`Decision::nodes`] says which nodes that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    Primary,
    LoadBalance,
    PrimaryAndLoadBalance,
    /// Every valid node of the session.
    All,
    /// The nodes that have the prepared statement.
    Nodes(NodeSet),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub destination: Destination,
    pub rule: Rule,
    /// Leave out standbys that have no transaction open: COMMIT and ROLLBACK of the simple protocol.
    pub skip_idle_standbys: bool,
    /// Standbys get a plain `BEGIN`: they would refuse READ WRITE and SERIALIZABLE.
    pub plain_begin_on_standbys: bool,
    /// Counts as a write of its transaction; for [`SessionState::sent`] and
    /// [`SessionState::succeeded`].
    pub writes: bool,
}

/// Why. Prints as what `PGPOOL EXPLAIN` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    NotBalancedMode,
    MultiStatement,
    TransactionOfMultiStatement,
    Unknown,
    LockingClause,
    Into,
    DataModifyingWith,
    CopyWrites,
    CopyFile,
    StrongLock,
    WeakLock,
    Transaction,
    TwoPhase,
    PrimaryOnlySet,
    Set,
    Prepare,
    Prepared,
    NotPrepared,
    WrittenBefore,
    BalancingOff,
    Beginning,
    Written,
    UnsyncedWrite,
    Failed,
    Serializable,
    ModesOfPrimary,
    NodeNotInTransaction,
    Delay,
    SystemCatalog,
    TemporaryTable,
    UnloggedTable,
    Sequence,
    PrimaryView,
    PrimaryPattern,
    WritingFunction,
    WrittenObject,
    CatalogSilent,
    PrimaryChosen,
    Balanced,
    NotARead,
}

impl Rule {
    /// The number in the module doc of [`crate::routing`].
    pub fn number(self) -> u8 {
        use Rule as R;
        match self {
            R::NotBalancedMode => 0,
            R::MultiStatement | R::TransactionOfMultiStatement => 1,
            R::Unknown => 2,
            R::LockingClause | R::Into => 3,
            R::DataModifyingWith => 4,
            R::CopyWrites | R::CopyFile => 5,
            R::StrongLock | R::WeakLock => 6,
            R::Transaction => 7,
            R::TwoPhase => 8,
            R::PrimaryOnlySet => 9,
            R::Set => 10,
            R::Prepare => 11,
            R::Prepared | R::NotPrepared => 12,
            R::WrittenBefore => 13,
            R::BalancingOff | R::Beginning => 14,
            R::Written
            | R::UnsyncedWrite
            | R::Failed
            | R::Serializable
            | R::ModesOfPrimary
            | R::NodeNotInTransaction => 15,
            R::Delay => 16,
            R::SystemCatalog => 17,
            R::TemporaryTable => 18,
            R::UnloggedTable | R::Sequence | R::PrimaryView => 19,
            R::PrimaryPattern => 20,
            R::WritingFunction => 21,
            R::WrittenObject => 22,
            // What the catalog does not say may be any of 17 to 21.
            R::CatalogSilent => 17,
            R::PrimaryChosen => 23,
            R::Balanced => 23,
            R::NotARead => 24,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Rule as R;
        f.write_str(match self {
            R::NotBalancedMode => "the clustering mode has no standby to balance to",
            R::MultiStatement => "several statements in one query",
            R::TransactionOfMultiStatement => {
                "the transaction was begun inside a query of several statements"
            }
            R::Unknown => "not understood as a statement of PostgreSQL",
            R::LockingClause => "SELECT locks rows (FOR UPDATE, FOR SHARE)",
            R::Into => "SELECT INTO makes a table",
            R::DataModifyingWith => "a query in WITH writes",
            R::CopyWrites => "COPY writes",
            R::CopyFile => "COPY to a file or program of the server",
            R::StrongLock => "LOCK in a mode that a standby refuses",
            R::WeakLock => "LOCK in a mode that a standby takes",
            R::Transaction => "transaction command",
            R::TwoPhase => "two-phase commit",
            R::PrimaryOnlySet => "SET that a standby refuses",
            R::Set => "command that changes the session",
            R::Prepare => "PREPARE",
            R::Prepared => "prepared statement, where it was prepared",
            R::NotPrepared => "no such prepared statement is known",
            R::WrittenBefore => "the session has written (disable_load_balance_on_write = always)",
            R::BalancingOff => "load_balance_mode is off",
            R::Beginning => "the text does not begin with SELECT, WITH, TABLE or a parenthesis",
            R::Written => "the transaction has written (disable_load_balance_on_write)",
            R::UnsyncedWrite => "an earlier statement of the same pipeline may have written",
            R::Failed => "the transaction has failed",
            R::Serializable => {
                "the isolation level is SERIALIZABLE, or REPEATABLE READ with READ WRITE"
            }
            R::ModesOfPrimary => "only the primary has the modes of the transaction",
            R::NodeNotInTransaction => "the load balance node has no part in the transaction",
            R::Delay => "the load balance node lags too much (delay_threshold)",
            R::SystemCatalog => "a system catalog is named",
            R::TemporaryTable => "a temporary table is named (check_temp_table)",
            R::UnloggedTable => "an unlogged table is named (check_unlogged_table)",
            R::Sequence => "a sequence is named, and the session has written",
            R::PrimaryView => {
                "a view, or the row security of a table, calls a function of the primary or locks rows"
            }
            R::PrimaryPattern => "it matches primary_routing_query_pattern_list",
            R::WritingFunction => "a function that writes is called",
            R::WrittenObject => "a table is named that the transaction has written (dml_adaptive)",
            R::CatalogSilent => "the catalog could not be asked what it names",
            R::PrimaryChosen => "the load balance node of this session is the primary",
            R::Balanced => "a read that can be balanced",
            R::NotARead => "not a statement that is balanced",
        })
    }
}

/// Answers from the relation cache; `None` is a miss.
pub trait Catalog {
    fn relation(&mut self, schema: Option<&[u8]>, name: &[u8]) -> Option<Relation>;
    /// Whether one of the functions of this name is volatile or belongs to the primary, or one behind an
    /// operator or type of this name.
    fn volatile(&mut self, schema: Option<&[u8]>, name: &[u8]) -> Option<bool>;
}

/// What a decision is made of.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    pub facts: &'a Facts,
    /// The text that `facts` were read from.
    pub sql: &'a [u8],
    pub protocol: Protocol,
    pub state: &'a SessionState,
    pub settings: &'a Settings,
    /// Of this session.
    pub switches: Switches,
    pub situation: Situation<'a>,
    /// The user of the session.
    pub user: &'a [u8],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Decided(Decision),
    /// Put these to the relation cache and ask again. Never empty.
    NeedCatalog(Vec<Question>),
}

/// Decides about one Query, Parse, or Bind whose statement was parsed before.
pub fn decide(inputs: &Inputs<'_>, catalog: &mut impl Catalog) -> Verdict {
    let mut procedure = Procedure {
        inputs,
        catalog,
        questions: Vec::new(),
    };
    let found = procedure.destination();
    if !procedure.questions.is_empty() {
        return Verdict::NeedCatalog(procedure.questions);
    }
    let (destination, rule) = found;
    let writes = procedure.writes(rule);
    if !procedure.questions.is_empty() {
        return Verdict::NeedCatalog(procedure.questions);
    }
    let first = inputs.facts.first();
    Verdict::Decided(Decision {
        destination,
        rule,
        skip_idle_standbys: inputs.protocol == Protocol::Simple
            && matches!(
                first,
                Statement::Commit { .. } | Statement::Rollback { .. } | Statement::RollbackTo(_)
            ),
        plain_begin_on_standbys: matches!(first, Statement::Begin(modes)
            if modes.read_only == Some(false) || modes.serializable == Some(true)),
        writes,
    })
}

struct Procedure<'i, 'a, C> {
    inputs: &'i Inputs<'a>,
    catalog: &'i mut C,
    questions: Vec<Question>,
}

const PRIMARY: fn(Rule) -> (Destination, Rule) = |rule| (Destination::Primary, rule);

impl<C: Catalog> Procedure<'_, '_, C> {
    fn destination(&mut self) -> (Destination, Rule) {
        let Inputs { facts, state, .. } = *self.inputs;
        if !self.inputs.situation.view.mode.balances() {
            return PRIMARY(Rule::NotBalancedMode);
        }
        // A Parse of several statements is refused by any node.
        if facts.count() > 1 && self.inputs.protocol == Protocol::Simple {
            return PRIMARY(Rule::MultiStatement);
        }
        if facts.is_unknown() {
            return PRIMARY(Rule::Unknown);
        }
        match facts.first() {
            Statement::Copy(Copy { from: true, .. })
            | Statement::Copy(Copy {
                source: CopySource::Write,
                ..
            }) => PRIMARY(Rule::CopyWrites),
            Statement::Empty | Statement::Select | Statement::Copy(_) => {
                if facts.has_locking_clause() {
                    return PRIMARY(Rule::LockingClause);
                }
                if facts.has_into() {
                    return PRIMARY(Rule::Into);
                }
                if facts.has_data_modifying_with() {
                    return PRIMARY(Rule::DataModifyingWith);
                }
                self.read()
            }
            Statement::Show => self.read(),
            // A standby may already hold a lock that this transaction has taken on the primary, and wait for it.
            Statement::Lock(mode) if is_weak_lock(mode) && state.is_changing() => {
                PRIMARY(Rule::WeakLock)
            }
            Statement::Lock(mode) if is_weak_lock(mode) => self.several(Rule::WeakLock),
            Statement::Lock(_) => PRIMARY(Rule::StrongLock),
            Statement::Begin(_)
            | Statement::Commit { .. }
            | Statement::Rollback { .. }
            | Statement::Savepoint(_)
            | Statement::Release(_)
            | Statement::RollbackTo(_) => self.several(Rule::Transaction),
            Statement::PrepareTransaction | Statement::FinishPrepared => PRIMARY(Rule::TwoPhase),
            Statement::Set(set) => match set {
                Set::Constraints => PRIMARY(Rule::NotARead),
                Set::TransactionReadOnly(Some(false)) | Set::Snapshot => {
                    PRIMARY(Rule::PrimaryOnlySet)
                }
                Set::DefaultIsolation { serializable: true } => PRIMARY(Rule::PrimaryOnlySet),
                Set::Transaction(modes) | Set::Characteristics(modes)
                    if modes.read_only == Some(false) || modes.serializable == Some(true) =>
                {
                    PRIMARY(Rule::PrimaryOnlySet)
                }
                _ => self.several(Rule::Set),
            },
            Statement::Reset(_) | Statement::Discard(_) => self.several(Rule::Set),
            Statement::Prepare(_) => PRIMARY(Rule::Prepare),
            Statement::Execute(name) => match state.prepared(facts.text(name)) {
                Some(prepared) => (Destination::Nodes(prepared.nodes), Rule::Prepared),
                None => PRIMARY(Rule::NotPrepared),
            },
            Statement::Deallocate(Some(name)) => match state.prepared(facts.text(name)) {
                Some(prepared) => (Destination::Nodes(prepared.nodes), Rule::Prepared),
                None => self.several(Rule::NotPrepared),
            },
            Statement::Deallocate(None) => self.several(Rule::Set),
            _ => PRIMARY(Rule::NotARead),
        }
    }

    /// Primary and load balance node, or what stands for them.
    fn several(&self, rule: Rule) -> (Destination, Rule) {
        let Inputs {
            state, settings, ..
        } = self.inputs;
        if !settings.load_balance_mode {
            return (Destination::Primary, rule);
        }
        let primary = self.inputs.situation.view.primary;
        let standbys_too = state
            .nodes_in_transaction()
            .iter()
            .any(|node| Some(node) != primary);
        if state.is_in_transaction() && !standbys_too {
            return (Destination::Primary, Rule::TransactionOfMultiStatement);
        }
        if settings.statement_level_load_balance {
            return (Destination::All, rule);
        }
        (Destination::PrimaryAndLoadBalance, rule)
    }

    /// A statement that may be balanced: rules 13 to 23.
    fn read(&mut self) -> (Destination, Rule) {
        let Inputs {
            facts,
            state,
            settings,
            situation,
            ..
        } = *self.inputs;
        if settings.on_write == OnWrite::Always && state.has_written() {
            return PRIMARY(Rule::WrittenBefore);
        }
        if !settings.load_balance_mode {
            return PRIMARY(Rule::BalancingOff);
        }
        if matches!(facts.first(), Statement::Copy(Copy { file: true, .. })) {
            return PRIMARY(Rule::CopyFile);
        }
        if !self.begins_right() {
            return PRIMARY(Rule::Beginning);
        }
        if let Some(rule) = self.transaction() {
            return PRIMARY(rule);
        }
        if let Some(rule) = self.names() {
            return PRIMARY(rule);
        }
        if state
            .load_balance_node
            .is_some_and(|node| situation.is_delayed(settings, node))
            && !settings.prefer_lower_delay_standby
        {
            return PRIMARY(Rule::Delay);
        }
        (Destination::LoadBalance, Rule::Balanced)
    }

    /// Rule 14: of SELECT and its like, how the text begins.
    fn begins_right(&self) -> bool {
        let Inputs {
            facts,
            settings,
            switches,
            ..
        } = self.inputs;
        if !matches!(facts.first(), Statement::Empty | Statement::Select)
            || switches.allow_sql_comments
        {
            return true;
        }
        matches!(
            facts.first_byte(settings.ignore_leading_white_space),
            b's' | b'S' | b'(' | b'w' | b'W' | b't' | b'T' | b';' | 0
        )
    }

    fn transaction(&mut self) -> Option<Rule> {
        let Inputs {
            state, settings, ..
        } = *self.inputs;
        let standby = self.serializable(state.standby_is_serializable());
        // The isolation level is the same everywhere, unless only the primary was told.
        let same_level = state.is_serializable() != Some(true) && !state.standbys_lack_level();
        let level = self.shows(b"isolation") && !self.shows(b"default");
        let shows_mode =
            state.is_in_transaction() && self.shows(b"transaction") && !(same_level && level);
        if self.shows(b"read_only") || shows_mode {
            return Some(Rule::ModesOfPrimary);
        }
        if !state.is_in_transaction() {
            // A lone write is over when the next query is read; in a pipeline it is not.
            if state.has_unsynced_write() {
                return Some(Rule::UnsyncedWrite);
            }
            return standby.then_some(Rule::Serializable);
        }
        if state.has_failed() {
            return Some(Rule::Failed);
        }
        let written = match settings.on_write {
            OnWrite::Off => false,
            OnWrite::DmlAdaptive => state.has_defined(),
            _ => state.has_written(),
        };
        if written {
            return Some(Rule::Written);
        }
        if state.has_unsynced_write() {
            return Some(Rule::UnsyncedWrite);
        }
        if standby || self.serializable(state.is_serializable()) {
            return Some(Rule::Serializable);
        }
        if state.standbys_lack_level() {
            return Some(Rule::ModesOfPrimary);
        }
        let node = state.load_balance_node?;
        let level = settings.statement_level_load_balance;
        (!level && !state.is_node_in_transaction(node)).then_some(Rule::NodeNotInTransaction)
    }

    fn serializable(&mut self, known: Option<bool>) -> bool {
        // What needs no snapshot is not refused, and the question would take the transaction's.
        let snapshot = !matches!(
            self.inputs.facts.first(),
            Statement::Show | Statement::Empty
        );
        if known.is_none() && snapshot {
            self.ask(Question::DefaultIsolation {
                user: self.inputs.user.into(),
            });
        }
        known.unwrap_or(false)
    }

    /// SHOW of a mode of the transaction: a standby may have another, and is always read only.
    fn shows(&self, word: &[u8]) -> bool {
        let mut windows = self.inputs.sql.windows(word.len());
        self.inputs.facts.first() == Statement::Show
            && windows.any(|window| window.eq_ignore_ascii_case(word))
    }

    fn ask(&mut self, question: Question) {
        if !self.questions.contains(&question) {
            self.questions.push(question);
        }
    }

    /// Rules 17 to 22: what the statement names. A rule that holds needs no more answers.
    fn names(&mut self) -> Option<Rule> {
        let Inputs {
            facts,
            state,
            settings,
            ..
        } = *self.inputs;
        // The relation caches are for all sessions, by the bytes of a name.
        if state.other_encoding && !facts.has_ascii_names() {
            self.questions.clear();
            return Some(Rule::CatalogSilent);
        }
        for &relation in facts.relations() {
            if let Some(rule) = self.relation(relation) {
                self.questions.clear();
                return Some(rule);
            }
        }
        if self.is_temporary_otherwise() {
            self.questions.clear();
            return Some(Rule::TemporaryTable);
        }
        if !settings.primary_patterns.is_empty() && self.matches_primary_pattern() {
            self.questions.clear();
            return Some(Rule::PrimaryPattern);
        }
        if self.calls_writing_function() {
            self.questions.clear();
            return Some(Rule::WritingFunction);
        }
        if settings.on_write == OnWrite::DmlAdaptive && state.is_in_transaction() {
            let written = facts
                .relations()
                .iter()
                .any(|r| state.has_written_object(facts.text(r.name)));
            if written {
                self.questions.clear();
                return Some(Rule::WrittenObject);
            }
        }
        None
    }

    fn relation(&mut self, relation: Name) -> Option<Rule> {
        let Inputs {
            facts,
            state,
            switches,
            ..
        } = *self.inputs;
        let name = facts.text(relation.name);
        let schema = relation.schema.map(|s| facts.text(s));
        let temporary = switches.check_temp_table != CheckTempTable::None;
        if temporary && state.is_temporary(name) {
            return Some(Rule::TemporaryTable);
        }
        // COPY of a catalog reads it like any table.
        let system = matches!(facts.first(), Statement::Empty | Statement::Select);
        let Some(known) = self.catalog.relation(schema, name) else {
            self.ask(Question::Relation {
                schema: schema.map(Into::into),
                name: name.into(),
            });
            return None;
        };
        if known.system && system {
            Some(Rule::SystemCatalog)
        } else if known.temporary && switches.check_temp_table == CheckTempTable::Catalog {
            Some(Rule::TemporaryTable)
        } else if known.unlogged && switches.check_unlogged_table {
            Some(Rule::UnloggedTable)
        } else if known.sequence && state.has_ever_written() {
            Some(Rule::Sequence)
        } else if known.primary_only {
            Some(Rule::PrimaryView)
        } else {
            None
        }
    }

    /// Temporary tables are seen through more than a name in FROM: a constant (`'t'::regclass`), their
    /// row type, a function that reads them. What a session has in its temporary schema besides
    /// tables needs the schema's name.
    fn is_temporary_otherwise(&mut self) -> bool {
        let Inputs {
            facts,
            sql,
            state,
            switches,
            ..
        } = *self.inputs;
        if switches.check_temp_table == CheckTempTable::None {
            return false;
        }
        // A type in it has its schema before it wherever it stands. Something that writes has made it.
        let names_schema = || {
            let word = b"pg_temp";
            let mut windows = sql.windows(word.len());
            windows.any(|w| w[2] == b'_' && w.eq_ignore_ascii_case(word))
        };
        let schema = |name: &Name| {
            let schema = name.schema.map(|s| facts.text(s));
            schema.is_some_and(|s| s.starts_with(b"pg_temp"))
        };
        if state.looks_into_temporary_schema()
            || facts.functions().iter().any(schema)
            || state.has_ever_written() && names_schema()
        {
            return true;
        }
        let names = !facts.relations().is_empty() || !facts.functions().is_empty();
        match state.has_untraced_tables() {
            None if names => self.ask(Question::Temporary {
                known: state.temporary_names(),
            }),
            Some(true) if names => return true,
            _ => {}
        }
        if !state.has_temporary_tables() {
            return false;
        }
        if state.mentions_temporary(sql) {
            return true;
        }
        for function in facts.functions() {
            let name = facts.text(function.name);
            let schema = function.schema.map(|s| facts.text(s));
            if matches!(name, b"pg_my_temp_schema" | b"pg_is_other_temp_schema") {
                return true;
            }
            match self.catalog.relation(schema, name) {
                Some(known) if known.own_function => return true,
                Some(_) => {}
                None => self.ask(Question::Relation {
                    schema: schema.map(Into::into),
                    name: name.into(),
                }),
            }
        }
        false
    }

    /// Quotes in the text do not count, as in stock.
    fn matches_primary_pattern(&self) -> bool {
        let Inputs { sql, settings, .. } = *self.inputs;
        if sql.contains(&b'"') {
            let text: Vec<u8> = sql.iter().copied().filter(|b| *b != b'"').collect();
            settings.primary_patterns.matches(&text)
        } else {
            settings.primary_patterns.matches(sql)
        }
    }

    /// Rule 21.
    fn calls_writing_function(&mut self) -> bool {
        let facts = self.inputs.facts;
        let settings = self.inputs.settings;
        let lists =
            !settings.read_only_functions.is_empty() || !settings.write_functions.is_empty();
        let mut written = Vec::new();
        for &function in facts.functions() {
            let name = facts.text(function.name);
            let schema = function.schema.map(|s| facts.text(s));
            let unknown = self.inputs.state.other_encoding && !facts.has_ascii_names();
            let writes = if lists {
                // As written, with its schema.
                let full = match schema {
                    Some(schema) => {
                        written.clear();
                        written.extend_from_slice(schema);
                        written.push(b'.');
                        written.extend_from_slice(name);
                        &written[..]
                    }
                    None => name,
                };
                if settings.read_only_functions.is_empty() {
                    settings.write_functions.matches(full)
                } else {
                    !settings.read_only_functions.matches(full)
                }
            } else if unknown {
                true
            } else {
                match self.catalog.volatile(schema, name) {
                    Some(volatile) => volatile,
                    None => {
                        self.ask(Question::Function {
                            schema: schema.map(Into::into),
                            name: name.into(),
                        });
                        false
                    }
                }
            };
            if writes {
                return true;
            }
        }
        !lists && self.operates_with_writing_function()
    }

    /// The same of functions that stand behind operators and casts.
    fn operates_with_writing_function(&mut self) -> bool {
        let facts = self.inputs.facts;
        for &operation in facts.operations() {
            let name = facts.text(operation.name);
            let schema = operation.schema.map(|s| facts.text(s));
            match self.catalog.volatile(schema, name) {
                Some(true) => return true,
                Some(false) => {}
                None => self.ask(Question::Function {
                    schema: schema.map(Into::into),
                    name: name.into(),
                }),
            }
        }
        false
    }

    /// Whether the statement counts as a write of its transaction.
    fn writes(&mut self, rule: Rule) -> bool {
        let facts = self.inputs.facts;
        if facts.count() > 1 {
            // Functions are not looked up for these: a call counts.
            return facts.calls_code()
                || facts
                    .statements()
                    .iter()
                    .any(|&s| !is_read(s, facts) && !s.begins_or_ends());
        }
        match facts.first() {
            statement if statement.begins_or_ends() => false,
            Statement::Set(Set::TransactionReadOnly(Some(true))) => false,
            Statement::Set(Set::Transaction(modes) | Set::Characteristics(modes)) => {
                // SERIALIZABLE is remembered by itself.
                modes.read_only != Some(true) && modes.serializable != Some(true)
            }
            Statement::Set(Set::DefaultIsolation { serializable: true }) => false,
            Statement::PrepareTransaction | Statement::FinishPrepared => false,
            statement if !is_read(statement, facts) => true,
            _ if !self.begins_right() => true,
            _ if rule == Rule::WritingFunction => true,
            _ if rule == Rule::Balanced => false,
            // Decided before functions were looked at, and only worth a look where it changes
            // something.
            _ => self.may_count() && self.calls_writing_function(),
        }
    }

    fn may_count(&self) -> bool {
        let Inputs {
            state, settings, ..
        } = self.inputs;
        !state.has_written()
            && match settings.on_write {
                OnWrite::Always => true,
                OnWrite::Off | OnWrite::DmlAdaptive => false,
                OnWrite::Transaction | OnWrite::TransTransaction => state.is_in_transaction(),
            }
    }
}

impl Decision {
    /// What is decided when the catalog cannot be asked.
    pub fn without_catalog(facts: &Facts) -> Decision {
        Decision {
            destination: Destination::Primary,
            rule: Rule::CatalogSilent,
            skip_idle_standbys: false,
            plain_begin_on_standbys: false,
            writes: facts.calls_code(),
        }
    }

    /// Whether [`super::balance::choose`] has to give another load balance node before
    /// [`Decision::nodes`]: for each balanced statement with `statement_level_load_balance`, when
    /// the node is gone, and when it lags and `prefer_lower_delay_standby` is on.
    pub fn wants_new_node(
        &self,
        state: &SessionState,
        settings: &Settings,
        situation: &Situation<'_>,
    ) -> bool {
        if self.destination != Destination::LoadBalance {
            return false;
        }
        let Some(node) = state.load_balance_node else {
            return true;
        };
        settings.statement_level_load_balance
            || !situation.view.is_valid(node)
            || settings.prefer_lower_delay_standby && situation.is_delayed(settings, node)
    }

    /// The nodes that this decision means now. Empty when the primary is not known.
    pub fn nodes(&self, state: &SessionState, situation: &Situation<'_>) -> NodeSet {
        let view = situation.view;
        let Some(primary) = view.write_node() else {
            return NodeSet::default();
        };
        let balance: NodeId = state
            .load_balance_node
            .filter(|&node| view.is_valid(node))
            .unwrap_or(primary);
        let mut nodes = match self.destination {
            Destination::Primary => NodeSet::of(primary),
            Destination::LoadBalance => NodeSet::of(balance),
            Destination::PrimaryAndLoadBalance => [primary, balance].into_iter().collect(),
            Destination::All => view.valid_nodes().collect(),
            Destination::Nodes(nodes) => nodes.iter().filter(|&n| view.is_valid(n)).collect(),
        };
        if self.skip_idle_standbys {
            for node in nodes.iter() {
                if node != primary && !state.is_node_in_transaction(node) {
                    nodes.remove(node);
                }
            }
        }
        if nodes.is_empty() {
            nodes.insert(primary);
        }
        nodes
    }
}

#[cfg(test)]
mod tests;
