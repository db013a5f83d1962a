//! The relation cache: what the catalog of a database says about names.
//!
//! A core without I/O and clock. Each worker has one of its own, which no lock guards; behind them,
//! with `enable_shared_relcache`, stands a [`SharedRelCache`] that is asked and told only on a miss.
//! What neither knows, the session asks the primary in the words of [`Question::sql`]; they take no
//! lock on what they ask about.
//!
//! Keys are database and name as written, folded, as in stock; search paths do not count, so that the
//! answer about a name without schema is about all that have it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Something that only the catalog knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// A table or view, or what else has its name; answered by [`Answer::Relation`].
    Relation {
        schema: Option<Box<[u8]>>,
        name: Box<[u8]>,
    },
    /// All functions of a name, and those that an operator or type of this name calls; answered by
    /// [`Answer::Function`].
    Function {
        schema: Option<Box<[u8]>>,
        name: Box<[u8]>,
    },
    /// Whether sessions of this user begin with default_transaction_isolation = serializable.
    DefaultIsolation { user: Box<[u8]> },
    /// Whether the session has temporary tables or views besides these; answered by [`Answer::Temporary`].
    /// Asked of the primary, and remembered by nobody but the session.
    Temporary { known: Vec<Box<[u8]>> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Relation(Relation),
    Function {
        /// At least one of these functions is volatile, or one that a standby answers otherwise.
        volatile: bool,
        /// Nothing has this name.
        missing: bool,
    },
    DefaultIsolation {
        serializable: bool,
    },
    Temporary {
        more: bool,
    },
}

impl Answer {
    /// Nothing has the name in question.
    fn is_missing(self) -> bool {
        match self {
            Answer::Relation(relation) => relation.missing,
            Answer::Function { missing, .. } => missing,
            Answer::DefaultIsolation { .. } | Answer::Temporary { .. } => false,
        }
    }
}

/// A relation that does not exist is only the last of these. For a name without schema each is true if it is
/// of one relation of this name, in whatever schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relation {
    /// The name without its schema is found in pg_catalog.
    pub system: bool,
    /// Some session has a temporary table of this name, or as a child or part of it.
    pub temporary: bool,
    /// It or a part of it.
    pub unlogged: bool,
    /// View or materialized view.
    pub view: bool,
    /// A sequence, or a view that reads one. Its numbers are written to the WAL in advance, so that
    /// a standby shows it up to 32 ahead.
    pub sequence: bool,
    /// A view, or a table with row security policies, that calls a function which belongs to the primary
    /// or locks rows.
    pub primary_only: bool,
    /// A function has this name, too, and is none of PostgreSQL's own: it may read any table.
    pub own_function: bool,
    /// There is no relation of this name.
    pub missing: bool,
}

/// Of a row `f` of pg_proc: volatile, or stable and one of those that tell about the server or
/// session, or that a standby refuses.
const OF_THE_PRIMARY: &str = "(f.provolatile OPERATOR(pg_catalog.=) 'v' OR f.pronamespace OPERATOR(pg_catalog.=) '11'::pg_catalog.oid \
     AND f.proname OPERATOR(pg_catalog.~) '^(pg_stat_get_.*|(txid|pg)_current_(xact_id|snapshot).*|txid_current.*|txid_status|pg_xact_status|\
     pg_listening_channels|pg_notification_queue_usage|pg_prepared_xact|\
     pg_prepared_statement|pg_cursor|pg_export_snapshot)$')";

/// Where a stored expression names a function by its number.
const CALLS: &str = ":(?:(?:op)?funcid|(?:agg|win)fnoid) ([1-9][0-9]*)";

/// FOR UPDATE and its like in a stored query.
const LOCKS: &str = "[{]ROWMARKCLAUSE ";

/// An answer about a name that nothing has lasts so long: what is made under it without this pgpool is noticed
/// then. The names of common table expressions, which nothing has, are not asked about all the time.
const NOTHING_LASTS: Duration = Duration::from_secs(10);

/// Rows `f`: a function `p` itself, what the defaults of its arguments call, and what it is made of if it
/// is an aggregate.
fn parts() -> String {
    format!(
        "LEFT JOIN pg_catalog.pg_aggregate a ON a.aggfnoid::pg_catalog.oid OPERATOR(pg_catalog.=) p.oid \
         JOIN LATERAL (SELECT pg_catalog.unnest(ARRAY[p.oid, a.aggtransfn::pg_catalog.oid, a.aggfinalfn::pg_catalog.oid, \
         a.aggmtransfn::pg_catalog.oid, a.aggminvtransfn::pg_catalog.oid, a.aggmfinalfn::pg_catalog.oid]) \
         UNION ALL SELECT found[1]::pg_catalog.oid FROM \
         pg_catalog.regexp_matches(p.proargdefaults::pg_catalog.text, '{CALLS}', 'g') AS found) AS part(oid) ON true \
         JOIN pg_catalog.pg_proc f ON f.oid OPERATOR(pg_catalog.=) part.oid"
    )
}

impl Question {
    /// One query with one row of booleans; [`Question::answer`] reads it.
    ///
    /// It runs with the client's search path and rights. So every function, type, table and operator
    /// is named with its schema: one that somebody else has put into that path must not be called
    /// (`=` between types for which pg_catalog has none of its own would be). The schema pg_catalog
    /// itself has number 11 in every database. Names are compared as text, since to_regclass() and
    /// its like raise errors about schemas that the client may not use.
    pub fn sql(&self) -> Vec<u8> {
        match self {
            Question::Relation { schema, name } => {
                // pg_temp is none of pg_namespace: whichever schema it stands for is among all.
                let schema = schema.as_deref().filter(|s| *s != b"pg_temp");
                fill(&relation_sql(schema.is_some()), schema, name)
            }
            Question::Function { schema, name } => {
                let schema = schema.as_deref().filter(|s| *s != b"pg_temp");
                fill(&function_sql(schema.is_some()), schema, name)
            }
            // What the session itself has set meanwhile is not what others of its user begin with.
            Question::DefaultIsolation { .. } => {
                b"SELECT EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'default_transaction_isolation' \
                  AND reset_val OPERATOR(pg_catalog.=) 'serializable')"
                    .to_vec()
            }
            Question::Temporary { known } => {
                let names: Vec<Vec<u8>> = known.iter().map(|name| literal(name)).collect();
                let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class \
                     WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() \
                     AND relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'v']::pg_catalog.\"char\"[]) \
                     AND relname OPERATOR(pg_catalog.<>) ALL (ARRAY[";
                [sql.as_bytes(), &names.join(&b", "[..]), b"]::pg_catalog.name[]))"].concat()
            }
        }
    }

    /// The columns of the row that [`Question::sql`] gives; missing ones are false.
    pub fn answer(&self, row: &[bool]) -> Answer {
        let column = |at: usize| row.get(at).copied().unwrap_or(false);
        match self {
            Question::Relation { .. } => Answer::Relation(Relation {
                system: column(0),
                temporary: column(1),
                unlogged: column(2),
                view: column(3),
                sequence: column(4),
                primary_only: column(5),
                own_function: column(6),
                missing: column(7),
            }),
            Question::Function { .. } => Answer::Function {
                volatile: column(0),
                missing: column(1),
            },
            Question::DefaultIsolation { .. } => Answer::DefaultIsolation {
                serializable: column(0),
            },
            Question::Temporary { .. } => Answer::Temporary { more: column(0) },
        }
    }

    fn key(&self, key: &mut Vec<u8>) {
        match self {
            Question::Relation { schema, name } => name_key(b'r', schema.as_deref(), name, key),
            Question::Function { schema, name } => name_key(b'f', schema.as_deref(), name, key),
            Question::DefaultIsolation { user } => name_key(b'i', None, user, key),
            Question::Temporary { .. } => name_key(b't', None, b"", key),
        }
    }
}

fn name_key(kind: u8, schema: Option<&[u8]>, name: &[u8], key: &mut Vec<u8>) {
    key.clear();
    key.push(kind);
    if let Some(schema) = schema {
        key.extend_from_slice(schema);
        key.push(0);
    }
    key.extend_from_slice(name);
}

/// [`Question::Function`] with `$name` and `$schema` for the names.
///
/// A cast calls a function of pg_cast, and the checks of a domain, also of one that it is made of.
fn function_sql(has_schema: bool) -> String {
    let of_schema = |column: &str| {
        if has_schema {
            format!(
                "JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) {column} AND n.nspname OPERATOR(pg_catalog.=) $schema"
            )
        } else {
            String::new()
        }
    };
    let (functions, operators, types) = (
        of_schema("s.pronamespace"),
        of_schema("o.oprnamespace"),
        of_schema("t.typnamespace"),
    );
    let parts = parts();
    format!(
        "WITH RECURSIVE named(oid) AS (SELECT t.oid FROM pg_catalog.pg_type t {types} WHERE t.typname OPERATOR(pg_catalog.=) $name), \
         read(oid) AS (SELECT oid FROM named UNION SELECT t.typbasetype FROM read \
         JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) read.oid), \
         code(oid) AS (SELECT s.oid FROM pg_catalog.pg_proc s {functions} WHERE s.proname OPERATOR(pg_catalog.=) $name \
         UNION ALL SELECT o.oprcode::pg_catalog.oid FROM pg_catalog.pg_operator o {operators} WHERE o.oprname OPERATOR(pg_catalog.=) $name \
         UNION ALL SELECT c.castfunc FROM named JOIN pg_catalog.pg_cast c \
         ON named.oid OPERATOR(pg_catalog.=) ANY (ARRAY[c.castsource, c.casttarget]) \
         UNION ALL SELECT found[1]::pg_catalog.oid FROM read \
         JOIN pg_catalog.pg_constraint k ON k.contypid OPERATOR(pg_catalog.=) read.oid, \
         LATERAL pg_catalog.regexp_matches(k.conbin::pg_catalog.text, '{CALLS}', 'g') AS found) \
         SELECT EXISTS (SELECT FROM code JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) code.oid {parts} \
         WHERE {OF_THE_PRIMARY}), NOT EXISTS (SELECT FROM code) AND NOT EXISTS (SELECT FROM named)"
    )
}

/// [`Question::Relation`] with `$name` and `$schema` for the names.
///
/// Without a schema the search path says which relation of the name is meant, and the answer is
/// remembered for sessions with other paths: so it is about all of them together.
fn relation_sql(has_schema: bool) -> String {
    let of_schema = if has_schema {
        "JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace AND n.nspname OPERATOR(pg_catalog.=) $schema"
    } else {
        ""
    };
    // Rules of views and row security policies name relations and functions by number.
    let trees = "SELECT r.ev_action::pg_catalog.text FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_rewrite r ON r.ev_class OPERATOR(pg_catalog.=) c.oid AND r.ev_type OPERATOR(pg_catalog.=) '1' \
         WHERE c.oid OPERATOR(pg_catalog.=) read.oid AND c.relkind OPERATOR(pg_catalog.=) 'v' \
         UNION ALL SELECT y.polqual::pg_catalog.text FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_policy y ON y.polrelid OPERATOR(pg_catalog.=) c.oid AND y.polcmd OPERATOR(pg_catalog.=) ANY ('{r,*}') \
         WHERE c.oid OPERATOR(pg_catalog.=) read.oid AND c.relrowsecurity";
    let parts = parts();
    // What reading it reads: partitions and children, and what such rules and policies name, to any
    // depth.
    format!(
        "WITH RECURSIVE named(oid) AS (SELECT c.oid FROM pg_catalog.pg_class c {of_schema} \
         WHERE c.relname OPERATOR(pg_catalog.=) $name), \
         read(oid) AS (SELECT oid FROM named UNION SELECT next.oid FROM read, LATERAL (\
         SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent OPERATOR(pg_catalog.=) read.oid \
         UNION ALL SELECT found[1]::pg_catalog.oid FROM ({trees}) AS code(tree), \
         LATERAL pg_catalog.regexp_matches(code.tree, ':relid ([1-9][0-9]*)', 'g') AS found) AS next(oid)), \
         seen AS (SELECT c.relpersistence, c.relkind FROM read JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) read.oid) \
         SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE relname OPERATOR(pg_catalog.=) $name \
         AND relnamespace OPERATOR(pg_catalog.=) '11'::pg_catalog.oid), \
         EXISTS (SELECT FROM pg_catalog.pg_class WHERE relname OPERATOR(pg_catalog.=) $name AND relpersistence OPERATOR(pg_catalog.=) 't') \
         OR EXISTS (SELECT FROM seen WHERE relpersistence OPERATOR(pg_catalog.=) 't'), \
         EXISTS (SELECT FROM seen WHERE relpersistence OPERATOR(pg_catalog.=) 'u'), \
         EXISTS (SELECT FROM named JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) named.oid \
         AND c.relkind OPERATOR(pg_catalog.=) ANY ('{{v,m}}')), \
         EXISTS (SELECT FROM seen WHERE relkind OPERATOR(pg_catalog.=) 'S'), \
         EXISTS (SELECT FROM read, LATERAL ({trees}) AS code(tree), \
         LATERAL pg_catalog.regexp_matches(code.tree, '{CALLS}', 'g') AS found \
         JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) found[1]::pg_catalog.oid {parts} WHERE {OF_THE_PRIMARY}) \
         OR EXISTS (SELECT FROM read, LATERAL ({trees}) AS code(tree) WHERE code.tree OPERATOR(pg_catalog.~) '{LOCKS}'), \
         EXISTS (SELECT FROM pg_catalog.pg_proc WHERE proname OPERATOR(pg_catalog.=) $name \
         AND pronamespace OPERATOR(pg_catalog.<>) '11'::pg_catalog.oid), \
         NOT EXISTS (SELECT FROM named)"
    )
}

/// Names as constants in the places of `$name` and `$schema`.
fn fill(sql: &str, schema: Option<&[u8]>, name: &[u8]) -> Vec<u8> {
    let schema = literal(schema.unwrap_or_default());
    let put_schema = |part: &str| {
        let parts: Vec<&[u8]> = part.split("$schema").map(str::as_bytes).collect();
        parts.join(&schema[..])
    };
    let parts: Vec<Vec<u8>> = sql.split("$name").map(put_schema).collect();
    parts.join(&literal(name)[..])
}

/// A string constant that is right whatever standard_conforming_strings says. The bytes are the
/// client's own, in its encoding, which the server knows.
fn literal(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 3);
    if text.contains(&b'\\') {
        out.push(b'E');
    }
    out.push(b'\'');
    for &byte in text {
        if matches!(byte, b'\\' | b'\'') {
            out.push(byte);
        }
        out.push(byte);
    }
    out.push(b'\'');
    out
}

#[derive(Debug)]
struct Entry {
    answer: Answer,
    learnt: Instant,
    used: u64,
}

/// By key.
type Entries = HashMap<Box<[u8]>, Entry>;

/// See the module. Holds at most `size` answers; the one that was not used for longest goes.
#[derive(Debug)]
pub struct RelCache {
    databases: HashMap<Box<[u8]>, Entries>,
    key: Vec<u8>,
    entries: usize,
    uses: u64,
    size: usize,
    expire: Option<Duration>,
}

impl RelCache {
    /// `relcache_size`, `relcache_expire` (`None`: never).
    pub fn new(size: usize, expire: Option<Duration>) -> RelCache {
        RelCache {
            databases: HashMap::new(),
            key: Vec::new(),
            entries: 0,
            uses: 0,
            size,
            expire,
        }
    }

    pub fn relation(
        &mut self,
        database: &[u8],
        schema: Option<&[u8]>,
        name: &[u8],
        now: Instant,
    ) -> Option<Relation> {
        name_key(b'r', schema, name, &mut self.key);
        match self.find(database, now)? {
            Answer::Relation(relation) => Some(relation),
            _ => None,
        }
    }

    /// Whether a function of this name is volatile.
    pub fn volatile(
        &mut self,
        database: &[u8],
        schema: Option<&[u8]>,
        name: &[u8],
        now: Instant,
    ) -> Option<bool> {
        name_key(b'f', schema, name, &mut self.key);
        match self.find(database, now)? {
            Answer::Function { volatile, .. } => Some(volatile),
            _ => None,
        }
    }

    pub fn get(&mut self, database: &[u8], question: &Question, now: Instant) -> Option<Answer> {
        let mut key = std::mem::take(&mut self.key);
        question.key(&mut key);
        self.key = key;
        self.find(database, now)
    }

    fn find(&mut self, database: &[u8], now: Instant) -> Option<Answer> {
        let entries = self.databases.get_mut(database)?;
        let entry = entries.get_mut(&self.key[..])?;
        let limit = if entry.answer.is_missing() {
            Some(self.expire.map_or(NOTHING_LASTS, |e| e.min(NOTHING_LASTS)))
        } else {
            self.expire
        };
        let old = |limit| now.saturating_duration_since(entry.learnt) >= limit;
        if limit.is_some_and(old) {
            entries.remove(&self.key[..]);
            self.entries -= 1;
            return None;
        }
        self.uses += 1;
        entry.used = self.uses;
        Some(entry.answer)
    }

    pub fn put(&mut self, database: &[u8], question: &Question, answer: Answer, now: Instant) {
        if self.size == 0 {
            return;
        }
        let mut key = Vec::new();
        question.key(&mut key);
        self.uses += 1;
        let entry = Entry {
            answer,
            learnt: now,
            used: self.uses,
        };
        let entries = self.databases.entry(database.into()).or_default();
        if entries.insert(key.into(), entry).is_none() {
            self.entries += 1;
            if self.entries > self.size {
                self.evict();
            }
        }
    }

    /// Misses are rare and caches small: a look at all entries is cheap enough.
    fn evict(&mut self) {
        let oldest = self
            .databases
            .iter()
            .flat_map(|(d, entries)| entries.iter().map(move |(k, e)| (e.used, d, k)))
            .min_by_key(|(used, ..)| *used)
            .map(|(_, d, k)| (d.clone(), k.clone()));
        if let Some((database, key)) = oldest
            && let Some(entries) = self.databases.get_mut(&database)
        {
            entries.remove(&key);
            self.entries -= 1;
            if entries.is_empty() {
                self.databases.remove(&database);
            }
        }
    }

    /// A temporary table or function was made or dropped: what was learnt of the name is doubtful.
    pub fn forget(&mut self, database: &[u8], name: &[u8]) {
        let Some(entries) = self.databases.get_mut(database) else {
            return;
        };
        let before = entries.len();
        entries.retain(|key, _| !key.ends_with(name));
        self.entries -= before - entries.len();
    }

    pub fn clear(&mut self) {
        self.databases.clear();
        self.entries = 0;
    }

    pub fn len(&self) -> usize {
        self.entries
    }

    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }
}

/// One for all workers. The lock is held for a look-up in memory and never across anything else.
#[derive(Debug)]
pub struct SharedRelCache {
    cache: Mutex<RelCache>,
}

impl SharedRelCache {
    pub fn new(size: usize, expire: Option<Duration>) -> SharedRelCache {
        SharedRelCache {
            cache: Mutex::new(RelCache::new(size, expire)),
        }
    }

    pub fn get(&self, database: &[u8], question: &Question, now: Instant) -> Option<Answer> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(database, question, now)
    }

    /// Puts an answer if, with nobody clearing meanwhile, it is still true.
    pub fn put_if(
        &self,
        database: &[u8],
        question: &Question,
        answer: Answer,
        now: Instant,
        still_true: impl FnOnce() -> bool,
    ) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if still_true() {
            cache.put(database, question, answer, now);
        }
    }

    /// `also` is done before anybody sees that it is empty.
    pub fn clear_and(&self, also: impl FnOnce()) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.clear();
        also();
    }

    pub fn forget(&self, database: &[u8], name: &[u8]) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.forget(database, name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> Question {
        Question::Relation {
            schema: None,
            name: name.as_bytes().into(),
        }
    }

    const PLAIN: Answer = Answer::Relation(Relation {
        system: false,
        temporary: false,
        unlogged: false,
        view: false,
        sequence: false,
        primary_only: false,
        own_function: false,
        missing: false,
    });

    #[test]
    fn answers_belong_to_a_database_and_expire() {
        let start = Instant::now();
        let mut cache = RelCache::new(8, Some(Duration::from_secs(10)));
        cache.put(b"a", &table("t"), PLAIN, start);
        let soon = start + Duration::from_secs(9);
        assert_eq!(cache.get(b"a", &table("t"), soon), Some(PLAIN));
        assert!(cache.relation(b"a", None, b"t", soon).is_some());
        assert_eq!(cache.get(b"b", &table("t"), soon), None);
        assert_eq!(cache.relation(b"a", Some(b"s"), b"t", soon), None);
        assert_eq!(
            cache.get(b"a", &table("t"), start + Duration::from_secs(10)),
            None
        );
        assert!(cache.is_empty());
    }

    #[test]
    fn that_nothing_has_a_name_is_asked_again_soon() {
        let start = Instant::now();
        let mut cache = RelCache::new(8, None);
        let row = [false, false, false, false, false, false, false, true];
        let missing = table("t").answer(&row);
        cache.put(b"a", &table("t"), missing, start);
        cache.put(b"a", &table("u"), PLAIN, start);
        let function = Question::Function {
            schema: None,
            name: b"f".as_slice().into(),
        };
        cache.put(b"a", &function, function.answer(&[false, true]), start);
        let soon = start + NOTHING_LASTS / 2;
        assert_eq!(cache.get(b"a", &table("t"), soon), Some(missing));
        assert_eq!(cache.volatile(b"a", None, b"f", soon), Some(false));
        let later = start + NOTHING_LASTS;
        assert_eq!(cache.get(b"a", &table("t"), later), None);
        assert_eq!(cache.volatile(b"a", None, b"f", later), None);
        assert_eq!(cache.get(b"a", &table("u"), later), Some(PLAIN));
    }

    #[test]
    fn a_full_cache_forgets_what_was_not_used_for_longest() {
        let now = Instant::now();
        let mut cache = RelCache::new(2, None);
        cache.put(b"d", &table("t1"), PLAIN, now);
        cache.put(b"e", &table("t2"), PLAIN, now);
        assert!(cache.get(b"d", &table("t1"), now).is_some());
        cache.put(b"d", &table("t3"), PLAIN, now);
        assert_eq!(cache.len(), 2);
        assert_eq!(cache.get(b"e", &table("t2"), now), None);
        assert!(cache.get(b"d", &table("t1"), now).is_some());
        cache.forget(b"d", b"t1");
        assert_eq!(cache.get(b"d", &table("t1"), now), None);
    }

    fn text(question: &Question) -> String {
        String::from_utf8(question.sql()).unwrap()
    }

    fn questions() -> Vec<Question> {
        let (schema, name) = (Some(b"s".as_slice().into()), b"n".as_slice());
        vec![
            table("n"),
            Question::Relation {
                schema: schema.clone(),
                name: name.into(),
            },
            Question::Function {
                schema: None,
                name: name.into(),
            },
            Question::Function {
                schema,
                name: name.into(),
            },
            Question::DefaultIsolation { user: name.into() },
        ]
    }

    #[test]
    fn names_are_quoted_for_the_server() {
        let question = Question::Relation {
            schema: Some(b"S$name".as_slice().into()),
            name: b"$schema'c\\".as_slice().into(),
        };
        let sql = text(&question);
        assert!(sql.contains(r"relname OPERATOR(pg_catalog.=) E'$schema''c\\'"));
        assert!(sql.contains("nspname OPERATOR(pg_catalog.=) 'S$name'"));
        for question in questions() {
            let sql = text(&question);
            assert!(!sql.contains("$name") && !sql.contains("$schema"), "{sql}");
        }
    }

    /// Of LATIN1, say: it is not UTF-8 and reaches the server as the client wrote it.
    #[test]
    fn names_keep_their_bytes() {
        let question = Question::Function {
            schema: None,
            name: b"f\xe9".as_slice().into(),
        };
        let sql = question.sql();
        assert!(sql.windows(4).any(|w| w == b"'f\xe9'"));
    }

    /// An operator, function, type or table without schema may be one that somebody has put into the
    /// client's search path.
    #[test]
    fn nothing_is_looked_up_in_the_search_path() {
        let own = [
            "named", "read", "seen", "code", "next", "found", "part", "lateral",
        ];
        for question in questions() {
            let sql = text(&question).to_lowercase();
            // Without constants and qualified operators no operator and no sugar for one is left.
            let bare: String = sql.split('\'').step_by(2).collect::<Vec<_>>().join("''");
            let bare = ["=", "<>", "~"].iter().fold(bare, |bare, operator| {
                bare.replace(&format!("operator(pg_catalog.{operator})"), " ")
            });
            assert!(!bare.contains(|c| "=<>~!+/|&^%#@?".contains(c)), "{bare}");
            let words: Vec<&str> = bare
                .split(|c: char| !(c.is_ascii_alphanumeric() || "_.:".contains(c)))
                .filter(|word| !word.is_empty())
                .collect();
            for pair in words.windows(2) {
                let sugar = ["in", "like", "between", "distinct", "similar", "using"];
                assert!(!sugar.contains(&pair[0]), "{bare}");
                if matches!(pair[0], "from" | "join") {
                    let known = pair[1].starts_with("pg_catalog.") || own.contains(&pair[1]);
                    assert!(known || pair[1] == "select", "{pair:?} in {bare}");
                }
            }
            for word in words.iter().filter_map(|w| w.split_once("::")) {
                assert!(word.1.starts_with("pg_catalog."), "{word:?}");
            }
            for (at, _) in bare.match_indices('(') {
                let before = bare[..at].trim_end();
                let word = before
                    .rsplit(|c: char| !(c.is_ascii_alphanumeric() || "_.".contains(c)))
                    .next()
                    .unwrap_or("");
                let grammar = ["", "exists", "as", "any", "lateral", "from", "and", "where"];
                let known = word.starts_with("pg_catalog.")
                    || grammar.contains(&word)
                    || own.contains(&word);
                assert!(known, "{word} is called in {bare}");
            }
        }
    }
}
