//! What PostgreSQL's grammar says of a statement, in the words that `compare` uses for facts.

use std::collections::BTreeSet;

use pg_query::{NodeEnum, protobuf as pb};
use serde_json::Value;

/// Schema and name.
pub type Named = (Option<String>, String);

/// See the module.
#[derive(Debug, Default)]
pub struct Truth {
    /// One item, and one more for each further thing that facts say of it.
    pub statements: Vec<String>,
    pub relations: BTreeSet<Named>,
    /// What INSERT, UPDATE, DELETE and MERGE write, at any depth.
    pub targets: BTreeSet<Named>,
    pub common_tables: BTreeSet<String>,
    pub functions: BTreeSet<Named>,
    pub locking: bool,
    pub into: bool,
    /// In its own WITH.
    pub data_modifying_with: bool,
}

/// Of one statement, as the parser gives it.
pub fn truth(statement: &pb::RawStmt) -> Option<Truth> {
    let node = statement.stmt.as_ref()?.node.as_ref()?;
    let mut truth = Truth {
        statements: describe(node),
        ..Truth::default()
    };
    let tree = serde_json::to_value(node).ok()?;
    walk(&tree, &mut truth);
    truth.data_modifying_with = writes_in_with(&tree);
    Some(truth)
}

/// INSERT, UPDATE, DELETE or MERGE in the WITH of the statement itself, or of the one inside COPY and
/// the like. Deeper in, PostgreSQL refuses it after parsing.
fn writes_in_with(node: &Value) -> bool {
    let Some((_, statement)) = node.as_object().and_then(|fields| fields.iter().next()) else {
        return false;
    };
    if let Some(inner) = statement.pointer("/query/node") {
        return writes_in_with(inner);
    }
    let tables = statement
        .pointer("/with_clause/ctes")
        .and_then(Value::as_array);
    tables.into_iter().flatten().any(|table| {
        table
            .pointer("/node/CommonTableExpr/ctequery/node")
            .and_then(Value::as_object)
            .is_some_and(|query| WRITES.iter().any(|write| query.contains_key(*write)))
    })
}

const WRITES: [&str; 4] = ["InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"];

/// Finds tables, functions and clauses by the shape of their nodes: complete, whatever node holds them.
fn walk(value: &Value, truth: &mut Truth) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, truth)),
        Value::Object(fields) => {
            if fields.contains_key("relname") && fields.contains_key("relpersistence") {
                truth.relations.extend(relation(value));
            }
            if let (Some(parts), true) = (fields.get("funcname"), fields.contains_key("agg_star")) {
                truth.functions.extend(name_of(parts));
            }
            if fields.contains_key("ctename") {
                truth.common_tables.insert(text(fields.get("ctename")));
            }
            truth.locking |= fields.contains_key("LockingClause");
            truth.into |= fields
                .get("into_clause")
                .is_some_and(|into| !into.is_null());
            for write in WRITES {
                if let Some(inner) = fields.get(write) {
                    truth
                        .targets
                        .extend(inner.get("relation").and_then(relation));
                }
            }
            for (name, inner) in fields {
                // What is locked goes by its alias; the target of INTO is not read.
                if name == "LockingClause" || name == "into_clause" {
                    continue;
                }
                walk(inner, truth);
            }
        }
        _ => {}
    }
}

fn relation(value: &Value) -> Option<Named> {
    let name = text(value.get("relname"));
    let schema = text(value.get("schemaname"));
    (!name.is_empty()).then_some(((!schema.is_empty()).then_some(schema), name))
}

fn name_of(parts: &Value) -> Option<Named> {
    let mut parts: Vec<String> = parts
        .as_array()?
        .iter()
        .map(|part| text(part.pointer("/node/String/sval")))
        .collect();
    let name = parts.pop()?;
    Some((parts.pop(), name))
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn describe(node: &NodeEnum) -> Vec<String> {
    let one = match node {
        NodeEnum::SelectStmt(select) => {
            let mut found = vec!["select".to_owned()];
            let mut leftmost = select;
            while let Some(left) = &leftmost.larg {
                leftmost = left;
            }
            if let Some(target) = leftmost
                .into_clause
                .as_ref()
                .and_then(|into| into.rel.as_ref())
                && target.relpersistence == "t"
            {
                found.push(format!("create temporary {}", target.relname));
            }
            return found;
        }
        NodeEnum::DropStmt(drop) => return dropped(drop),
        NodeEnum::InsertStmt(_) => "insert".into(),
        NodeEnum::UpdateStmt(_) => "update".into(),
        NodeEnum::DeleteStmt(_) => "delete".into(),
        NodeEnum::MergeStmt(_) => "merge".into(),
        NodeEnum::CopyStmt(copy) => {
            let source = match copy.query.as_ref().and_then(|q| q.node.as_ref()) {
                None => "table",
                Some(NodeEnum::SelectStmt(_)) => "select",
                Some(_) => "write",
            };
            let file = copy.is_program || !copy.filename.is_empty();
            let mut found = vec![format!("copy from={} file={file} {source}", copy.is_from)];
            // PostgreSQL refuses this one later.
            if let Some(query) = copy.query.as_ref().and_then(|q| q.node.as_ref()) {
                found.extend(describe(query).into_iter().skip(1));
            }
            return found;
        }
        NodeEnum::LockStmt(lock) => format!("lock {}", lock.mode),
        NodeEnum::TransactionStmt(transaction) => self::transaction(transaction),
        NodeEnum::VariableSetStmt(set) => variable(set),
        NodeEnum::ConstraintsSetStmt(_) => "set constraints".into(),
        NodeEnum::VariableShowStmt(_) => "show".into(),
        NodeEnum::DiscardStmt(discard) => match discard.target() {
            pb::DiscardMode::DiscardAll => "discard all".into(),
            pb::DiscardMode::DiscardPlans => "discard plans".into(),
            pb::DiscardMode::DiscardSequences => "discard sequences".into(),
            _ => "discard temp".into(),
        },
        NodeEnum::PrepareStmt(prepare) => format!("prepare {}", prepare.name),
        NodeEnum::ExecuteStmt(execute) => format!("execute {}", execute.name),
        NodeEnum::DeallocateStmt(all) if all.isall => "deallocate all".into(),
        NodeEnum::DeallocateStmt(deallocate) => format!("deallocate {}", deallocate.name),
        NodeEnum::DeclareCursorStmt(declare) => format!("declare {}", declare.portalname),
        NodeEnum::FetchStmt(_) => "fetch".into(),
        NodeEnum::ClosePortalStmt(_) => "close".into(),
        NodeEnum::ExplainStmt(explain) => {
            let analyze = explain.options.iter().any(|option| {
                matches!(option.node.as_ref(), Some(NodeEnum::DefElem(o)) if o.defname == "analyze")
            });
            let inner = explain.query.as_ref().and_then(|q| q.node.as_ref());
            let select = matches!(inner, Some(NodeEnum::SelectStmt(_)));
            format!("explain analyze={analyze} select={select}")
        }
        NodeEnum::TruncateStmt(_) => "truncate".into(),
        NodeEnum::CreateStmt(create) => {
            return at_commit(temporary(create.relation.as_ref()), create.oncommit());
        }
        NodeEnum::ViewStmt(view) => temporary(view.view.as_ref()),
        NodeEnum::CreateSeqStmt(sequence) => temporary(sequence.sequence.as_ref()),
        NodeEnum::CreateTableAsStmt(create) => {
            let into = create.into.as_ref();
            let action = into.map_or(pb::OnCommitAction::Undefined, |into| into.on_commit());
            return at_commit(temporary(into.and_then(|into| into.rel.as_ref())), action);
        }
        NodeEnum::CallStmt(_) => "call".into(),
        NodeEnum::DoStmt(_) => "do".into(),
        _ => "other".into(),
    };
    vec![one]
}

fn temporary(relation: Option<&pb::RangeVar>) -> String {
    match relation {
        Some(r) if r.relpersistence == "t" || r.schemaname == "pg_temp" => {
            format!("create temporary {}", r.relname)
        }
        _ => "other".into(),
    }
}

/// What is made, and that the end of the transaction drops it.
fn at_commit(made: String, action: pb::OnCommitAction) -> Vec<String> {
    let name = made.strip_prefix("create temporary ");
    let drop = name
        .filter(|_| action == pb::OnCommitAction::OncommitDrop)
        .map(|name| format!("drop at commit {name}"));
    [Some(made.clone()), drop].into_iter().flatten().collect()
}

fn dropped(drop: &pb::DropStmt) -> Vec<String> {
    use pb::ObjectType as T;
    if !matches!(
        drop.remove_type(),
        T::ObjectTable | T::ObjectView | T::ObjectSequence
    ) {
        return vec!["other".into()];
    }
    drop.objects
        .iter()
        .filter_map(|object| match object.node.as_ref()? {
            NodeEnum::List(list) => match list.items.last()?.node.as_ref()? {
                NodeEnum::String(name) => Some(format!("drop {}", name.sval)),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

fn transaction(statement: &pb::TransactionStmt) -> String {
    use pb::TransactionStmtKind as T;
    let name = &statement.savepoint_name;
    match statement.kind() {
        T::TransStmtBegin | T::TransStmtStart => format!("begin {}", modes(&statement.options)),
        T::TransStmtCommit => format!("commit chain={}", statement.chain),
        T::TransStmtRollback => format!("rollback chain={}", statement.chain),
        T::TransStmtSavepoint => format!("savepoint {name}"),
        T::TransStmtRelease => format!("release {name}"),
        T::TransStmtRollbackTo => format!("rollback to {name}"),
        T::TransStmtPrepare => "prepare transaction".into(),
        _ => "finish prepared".into(),
    }
}

/// `read_only` and `serializable` of the options of BEGIN or SET TRANSACTION; the last one counts.
fn modes(options: &[pb::Node]) -> String {
    let (mut read_only, mut serializable) = (None, None);
    for option in options {
        let Some(NodeEnum::DefElem(option)) = option.node.as_ref() else {
            continue;
        };
        let value = option
            .arg
            .as_ref()
            .map_or_else(String::new, |arg| constant(arg));
        match option.defname.as_str() {
            "transaction_read_only" => read_only = Some(value == "1"),
            "transaction_isolation" => serializable = Some(value == "serializable"),
            _ => {}
        }
    }
    format!("read_only={read_only:?} serializable={serializable:?}")
}

fn constant(node: &pb::Node) -> String {
    use pb::a_const::Val;
    match node.node.as_ref() {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(Val::Sval(text)) => text.sval.clone(),
            Some(Val::Ival(number)) => number.ival.to_string(),
            Some(Val::Boolval(truth)) => truth.boolval.to_string(),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

fn variable(set: &pb::VariableSetStmt) -> String {
    use pb::VariableSetKind as K;
    let verb = match set.kind() {
        K::VarReset | K::VarResetAll => "reset",
        _ => "set",
    };
    let value = match set.kind() {
        K::VarSetValue => set
            .args
            .first()
            .map(|arg| constant(arg).to_ascii_lowercase()),
        _ => None,
    };
    let what = match (set.kind(), set.name.to_ascii_lowercase().as_str()) {
        (K::VarResetAll, _) => "all".into(),
        (_, "transaction snapshot") => "snapshot".into(),
        (K::VarSetMulti, "session characteristics") => {
            format!("characteristics {}", modes(&set.args))
        }
        (K::VarSetMulti, _) => format!("transaction {}", modes(&set.args)),
        (_, "transaction_read_only") => format!(
            "transaction_read_only {:?}",
            value.as_deref().and_then(boolean)
        ),
        (K::VarReset, "transaction_isolation") => format!("transaction {}", modes(&[])),
        (_, "transaction_isolation") => {
            format!(
                "transaction read_only=None serializable={:?}",
                Some(value.as_deref() == Some("serializable"))
            )
        }
        // SET SCHEMA is written otherwise.
        (_, "search_path") => {
            let temporary = set
                .args
                .iter()
                .any(|arg| constant(arg).eq_ignore_ascii_case("pg_temp"));
            format!("search path temporary={temporary}")
        }
        (_, "default_transaction_isolation") => {
            format!(
                "default isolation serializable={}",
                value.as_deref() == Some("serializable")
            )
        }
        _ => "other".into(),
    };
    format!("{verb} {what}")
}

/// As parse_bool.
fn boolean(text: &str) -> Option<bool> {
    let is = |word: &str, least: usize| text.len() >= least && word.starts_with(text);
    if text == "1" || is("true", 1) || is("yes", 1) || is("on", 2) {
        Some(true)
    } else if text == "0" || is("false", 1) || is("no", 1) || is("off", 2) {
        Some(false)
    } else {
        None
    }
}
