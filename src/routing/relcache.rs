//! The relation cache: what the catalog of a database says about names.
//!
//! A core without I/O and clock. Each worker has one of its own, which no lock guards; behind them,
//! with `enable_shared_relcache`, stands a [`SharedRelCache`] that is asked and told only on a miss.
//! What neither knows, the session asks the primary in the words of [`Question::sql`]; they take no
//! lock on what they ask about.
//!
//! Keys are database and name as written, folded, as in stock; search paths do not count.

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
    /// All functions of a name; answered by [`Answer::Function`].
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
        /// At least one function of the name is volatile, or one that a standby answers otherwise.
        volatile: bool,
    },
    DefaultIsolation {
        serializable: bool,
    },
    Temporary {
        more: bool,
    },
}

/// A relation that does not exist is none of these.
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
    /// A view that calls a function which belongs to the primary.
    pub primary_only: bool,
    /// A function has this name, too, and is none of PostgreSQL's own: it may read any table.
    pub own_function: bool,
}

/// Of a row `p` of pg_proc: volatile, or stable and one of those that tell about the server or
/// session, or that a standby refuses.
const PRIMARY_FUNCTION: &str = "(p.provolatile = 'v' OR p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace \
     AND p.proname OPERATOR(pg_catalog.~) '^(pg_stat_get_.*|(txid|pg)_current_(xact_id|snapshot).*|txid_current.*|txid_status|pg_xact_status|\
     pg_listening_channels|pg_notification_queue_usage|pg_prepared_xact|\
     pg_prepared_statement|pg_cursor|pg_export_snapshot)$')";

impl Question {
    /// One query with one row of booleans; [`Question::answer`] reads it.
    pub fn sql(&self) -> String {
        match self {
            Question::Relation { schema, name } => {
                let bare = literal(&quoted(name));
                let full = match schema {
                    Some(schema) => literal(&[&quoted(schema)[..], b".", &quoted(name)].concat()),
                    None => bare.clone(),
                };
                let plain = literal(name);
                // What reading it reads: partitions and children, and what a view names, to any depth.
                // A view's rule names relations and functions by their numbers.
                format!(
                    "WITH RECURSIVE read(oid) AS (\
                     SELECT pg_catalog.to_regclass({full})::pg_catalog.oid \
                     UNION SELECT next.oid FROM read, LATERAL (\
                     SELECT inhrelid AS oid FROM pg_catalog.pg_inherits WHERE inhparent = read.oid \
                     UNION ALL SELECT found[1]::pg_catalog.oid FROM pg_catalog.pg_class c \
                     JOIN pg_catalog.pg_rewrite r ON r.ev_class = c.oid AND r.ev_type = '1', \
                     LATERAL pg_catalog.regexp_matches(r.ev_action::pg_catalog.text, ':relid ([1-9][0-9]*)', 'g') AS found \
                     WHERE c.oid = read.oid AND c.relkind = 'v') AS next), \
                     named AS (SELECT relpersistence, relkind FROM read JOIN pg_catalog.pg_class c ON c.oid = read.oid) \
                     SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass({bare}) \
                     AND relnamespace = 'pg_catalog'::pg_catalog.regnamespace), \
                     EXISTS (SELECT FROM pg_catalog.pg_class WHERE relname = {plain} AND relpersistence = 't') \
                     OR EXISTS (SELECT FROM named WHERE relpersistence = 't'), \
                     EXISTS (SELECT FROM named WHERE relpersistence = 'u'), \
                     EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass({full}) AND relkind IN ('v', 'm')), \
                     EXISTS (SELECT FROM named WHERE relkind = 'S'), \
                     EXISTS (SELECT FROM read JOIN pg_catalog.pg_class c ON c.oid = read.oid AND c.relkind = 'v' \
                     JOIN pg_catalog.pg_rewrite r ON r.ev_class = c.oid AND r.ev_type = '1', \
                     LATERAL pg_catalog.regexp_matches(r.ev_action::pg_catalog.text, ':(?:op)?funcid ([1-9][0-9]*)', 'g') AS found \
                     JOIN pg_catalog.pg_proc p ON p.oid = found[1]::pg_catalog.oid WHERE {PRIMARY_FUNCTION}), \
                     EXISTS (SELECT FROM pg_catalog.pg_proc WHERE proname = {plain} \
                     AND pronamespace <> 'pg_catalog'::pg_catalog.regnamespace)"
                )
            }
            Question::Function { schema, name } => {
                let name = literal(name);
                let of_schema = schema.as_ref().map_or_else(String::new, |schema| {
                    format!(" AND n.nspname = {}", literal(schema))
                });
                format!(
                    "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
                     WHERE p.proname = {name} AND {PRIMARY_FUNCTION}{of_schema})"
                )
            }
            Question::DefaultIsolation { .. } => {
                "SELECT pg_catalog.current_setting('default_transaction_isolation') = 'serializable'"
                    .to_owned()
            }
            Question::Temporary { known } => {
                let names: Vec<String> = known.iter().map(|name| literal(name)).collect();
                format!(
                    "SELECT EXISTS (SELECT FROM pg_catalog.pg_class \
                     WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() \
                     AND relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'v']::pg_catalog.\"char\"[]) \
                     AND relname OPERATOR(pg_catalog.<>) ALL (ARRAY[{}]::pg_catalog.name[]))",
                    names.join(", ")
                )
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
            }),
            Question::Function { .. } => Answer::Function {
                volatile: column(0),
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

fn quoted(name: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for &byte in name {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
    out
}

/// A string constant that is right whatever standard_conforming_strings says.
fn literal(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    if text.contains('\\') {
        format!("E'{escaped}'")
    } else {
        format!("'{escaped}'")
    }
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
            Answer::Function { volatile } => Some(volatile),
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
        let old = |limit| now.saturating_duration_since(entry.learnt) >= limit;
        if self.expire.is_some_and(old) {
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

    pub fn put(&self, database: &[u8], question: &Question, answer: Answer, now: Instant) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.put(database, question, answer, now);
    }

    pub fn clear(&self) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.clear();
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

    #[test]
    fn names_are_quoted_for_the_server() {
        let question = Question::Relation {
            schema: Some(b"S".as_slice().into()),
            name: b"a\"b'c\\".as_slice().into(),
        };
        let sql = question.sql();
        assert!(sql.contains(r#"E'"S"."a""b''c\\"'"#), "{sql}");
        assert!(sql.contains(r#"relname = E'a"b''c\\'"#), "{sql}");
    }
}
