//! The SQL that the model knows: as much of it as the texts of [`super::client`] need.

use std::rc::Rc;

/// What PostgreSQL would say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: &'static str,
    pub text: String,
}

pub fn failure<T>(code: &'static str, text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure {
        code,
        text: text.into(),
    })
}

/// Snapshots of the second are left out: it is there for who may set it when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    #[default]
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

/// Options of BEGIN and of SET TRANSACTION; `None`: not mentioned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    pub read_only: Option<bool>,
    pub isolation: Option<Isolation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sql {
    Select(Select),
    Show(String),
    Write(Write),
    CopyIn(String),
    CopyOut(Select),
    Begin(Modes),
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    PrepareTransaction,
    FinishPrepared {
        commit: bool,
    },
    Set {
        name: String,
        value: i64,
        local: bool,
    },
    SetModes(Modes),
    Characteristics(Modes),
    /// `None`: RESET ALL.
    Reset(Option<String>),
    Discard(String),
    Prepare(String, Rc<Sql>),
    Execute(String),
    Deallocate(Option<String>),
    Declare {
        name: String,
        hold: bool,
        select: Select,
    },
    Fetch {
        name: String,
        count: usize,
    },
    Close(String),
    CreateTemp(String),
    Create(String),
    Drop(String),
    Lock {
        strong: bool,
    },
    /// Only the router says it.
    Unlisten,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Select {
    pub tag: &'static str,
    pub relation: Option<String>,
    pub function: Option<String>,
    /// Fails when it is carried out.
    pub fails: bool,
    /// FOR UPDATE: a standby refuses it.
    pub locks: bool,
    /// Gives no row.
    pub empty: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub tag: &'static str,
    pub relation: String,
    pub fails: bool,
    /// Breaks a constraint that is looked at when the transaction is committed.
    pub deferred: bool,
    pub returning: bool,
}

impl Sql {
    /// What a failed transaction still takes.
    pub fn is_exit(&self) -> bool {
        matches!(
            self,
            Sql::Commit { .. }
                | Sql::Rollback { .. }
                | Sql::RollbackTo(_)
                | Sql::PrepareTransaction
        )
    }

    /// Whether it is analysed before it is carried out, which takes a snapshot.
    pub fn is_analysed(&self) -> bool {
        match self {
            Sql::Select(select) => select.tag != "COPY",
            Sql::Write(write) => write.tag != "TRUNCATE" && write.tag != "DO",
            Sql::Declare { .. } => true,
            _ => false,
        }
    }

    /// Whether carrying it out takes a snapshot.
    pub fn takes_snapshot(&self) -> bool {
        !self.is_transaction()
            && !matches!(
                self,
                Sql::Set { .. }
                    | Sql::SetModes(_)
                    | Sql::Characteristics(_)
                    | Sql::Reset(_)
                    | Sql::Show(_)
                    | Sql::Fetch { .. }
                    | Sql::Lock { .. }
                    | Sql::Unlisten
            )
    }

    /// The commands behind which PostgreSQL ends its part of the transaction at once.
    pub fn is_transaction(&self) -> bool {
        self.is_exit()
            || matches!(
                self,
                Sql::Begin(_) | Sql::Savepoint(_) | Sql::Release(_) | Sql::FinishPrepared { .. }
            )
    }

    pub fn returns_rows(&self) -> bool {
        match self {
            Sql::Select(_) | Sql::Show(_) | Sql::Fetch { .. } => true,
            Sql::Write(write) => write.returning,
            _ => false,
        }
    }
}

/// The statements of a query string.
pub fn parse(text: &str) -> Result<Vec<Sql>, Failure> {
    let text = text.trim_start();
    let text = match text.strip_prefix("/*") {
        Some(rest) => rest.split_once("*/").map_or("", |(_, rest)| rest),
        None => text,
    };
    text.split(';')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(statement)
        .collect()
}

fn statement(text: &str) -> Result<Sql, Failure> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let has = |word: &str| words.contains(&word);
    let name = |at: usize| words.get(at).copied().unwrap_or_default().to_owned();
    let behind = |word: &str| {
        words
            .iter()
            .position(|w| *w == word)
            .and_then(|at| words.get(at + 1))
            .map(|w| w.trim_matches(['(', ')']).to_owned())
    };
    let write = |tag, relation: String| {
        Sql::Write(Write {
            tag,
            relation,
            fails: has("(-1)"),
            deferred: has("(-2)"),
            returning: has("RETURNING"),
        })
    };
    let modes = Modes {
        read_only: if has("ONLY") {
            Some(true)
        } else if text.contains("READ WRITE") {
            Some(false)
        } else {
            None
        },
        isolation: has("ISOLATION").then(|| {
            if has("SERIALIZABLE") {
                Isolation::Serializable
            } else {
                Isolation::RepeatableRead
            }
        }),
    };
    let chain = has("CHAIN");
    Ok(match words[0] {
        "WITH" if has("INSERT") => match write("SELECT", name(6)) {
            Sql::Write(write) => Sql::Write(Write {
                returning: true,
                ..write
            }),
            other => other,
        },
        "SELECT" | "WITH" => Sql::Select(select(text, "SELECT")),
        "VALUES" => Sql::Select(Select {
            tag: "SELECT",
            ..Select::default()
        }),
        "EXPLAIN" => Sql::Select(select(text, "EXPLAIN")),
        "SHOW" => Sql::Show(name(1)),
        "INSERT" => write("INSERT", name(2)),
        "UPDATE" => write("UPDATE", name(1)),
        "DELETE" => write("DELETE", name(2)),
        "TRUNCATE" => write("TRUNCATE", name(1)),
        "DO" => write("DO", "w1".to_owned()),
        "COPY" if has("FROM") && has("STDIN") => Sql::CopyIn(name(1)),
        "COPY" => Sql::CopyOut(Select {
            tag: "COPY",
            relation: Some(behind("FROM").unwrap_or_else(|| name(1))),
            ..Select::default()
        }),
        "BEGIN" | "START" => Sql::Begin(modes),
        "COMMIT" if has("PREPARED") => Sql::FinishPrepared { commit: true },
        "ROLLBACK" if has("PREPARED") => Sql::FinishPrepared { commit: false },
        "COMMIT" | "END" => Sql::Commit { chain },
        "ROLLBACK" if has("TO") => Sql::RollbackTo(name(2)),
        "ABORT" if words.len() > 1 => return failure("42601", "syntax error at or near \"ALL\""),
        "ROLLBACK" | "ABORT" => Sql::Rollback { chain },
        "SAVEPOINT" => Sql::Savepoint(name(1)),
        "RELEASE" => Sql::Release(name(1)),
        "PREPARE" if has("TRANSACTION") => Sql::PrepareTransaction,
        "PREPARE" => {
            let inner = text.split_once(" AS ").map_or("", |(_, inner)| inner);
            Sql::Prepare(name(1), Rc::new(statement(inner)?))
        }
        "EXECUTE" => Sql::Execute(name(1)),
        "DEALLOCATE" => Sql::Deallocate((!has("ALL")).then(|| name(1))),
        "SET" if has("CHARACTERISTICS") => Sql::Characteristics(modes),
        "SET" if has("TRANSACTION") => Sql::SetModes(modes),
        "SET" if name(1) == "default_transaction_isolation" => Sql::Characteristics(Modes {
            read_only: None,
            isolation: Some(if text.contains("serializable") {
                Isolation::Serializable
            } else {
                Isolation::ReadCommitted
            }),
        }),
        "SET" => {
            let local = has("LOCAL");
            Sql::Set {
                name: name(if local { 2 } else { 1 }),
                value: words.last().and_then(|v| v.parse().ok()).unwrap_or(0),
                local,
            }
        }
        "RESET" => Sql::Reset((!has("ALL")).then(|| name(1))),
        "DISCARD" => Sql::Discard(name(1)),
        "DECLARE" => Sql::Declare {
            name: name(1),
            hold: has("HOLD"),
            select: select(text, "SELECT"),
        },
        "FETCH" => Sql::Fetch {
            count: name(1).parse().unwrap_or(1),
            name: name(3),
        },
        "CLOSE" => Sql::Close(name(1)),
        "CREATE" if has("TEMP") => Sql::CreateTemp(name(3)),
        "CREATE" => Sql::Create(name(2)),
        "DROP" => Sql::Drop(name(2)),
        "LOCK" => Sql::Lock {
            strong: !text.contains("ACCESS SHARE"),
        },
        "UNLISTEN" => Sql::Unlisten,
        word => return failure("42601", format!("syntax error at or near \"{word}\"")),
    })
}

fn select(text: &str, tag: &'static str) -> Select {
    let words: Vec<&str> = text.split_whitespace().collect();
    let relation = words
        .iter()
        .position(|w| *w == "FROM")
        .and_then(|at| words.get(at + 1))
        .map(|w| w.trim_matches(['(', ')']).to_owned());
    let function = words
        .iter()
        .find(|w| w.ends_with("()"))
        .map(|w| w.trim_end_matches("()").to_owned());
    Select {
        tag,
        relation,
        function,
        fails: tag == "SELECT" && text.contains("1/0"),
        locks: tag == "SELECT" && text.contains("FOR UPDATE"),
        empty: text.ends_with("WHERE false"),
    }
}
