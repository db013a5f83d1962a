//! The parameters of routing, compiled.

use std::time::Duration;

use super::{balance::RedirectList, pattern::PatternList};

/// `disable_load_balance_on_write`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnWrite {
    Off,
    #[default]
    Transaction,
    TransTransaction,
    Always,
    DmlAdaptive,
}

/// `check_temp_table`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckTempTable {
    #[default]
    Catalog,
    Trace,
    None,
}

/// What one session may have of its own (PGPOOL SET).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    pub allow_sql_comments: bool,
    pub check_temp_table: CheckTempTable,
    pub check_unlogged_table: bool,
}

impl Default for Switches {
    fn default() -> Switches {
        Switches {
            allow_sql_comments: false,
            check_temp_table: CheckTempTable::Catalog,
            check_unlogged_table: true,
        }
    }
}

/// Defaults are those of 4.3.
#[derive(Debug)]
pub struct Settings {
    pub load_balance_mode: bool,
    pub statement_level_load_balance: bool,
    pub ignore_leading_white_space: bool,
    pub on_write: OnWrite,
    pub switches: Switches,
    pub read_only_functions: PatternList,
    pub write_functions: PatternList,
    /// `primary_routing_query_pattern_list`, `black_query_pattern_list` before 4.2.
    pub primary_patterns: PatternList,
    /// `dml_adaptive_object_relationship_list`.
    pub relationships: Vec<Relationship>,
    pub app_names: RedirectList,
    pub databases: RedirectList,
    pub users: RedirectList,
    /// Bytes of WAL.
    pub delay_threshold: Option<u64>,
    /// Beats the one in bytes.
    pub delay_threshold_by_time: Option<Duration>,
    pub prefer_lower_delay_standby: bool,
    pub relcache_size: usize,
    /// `None`: for ever.
    pub relcache_expire: Option<Duration>,
    pub enable_shared_relcache: bool,
    /// `relcache_query_target = load_balance_node`: what the caches do not know is asked there.
    pub asks_load_balance_node: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            load_balance_mode: true,
            statement_level_load_balance: false,
            ignore_leading_white_space: true,
            on_write: OnWrite::default(),
            switches: Switches::default(),
            read_only_functions: PatternList::default(),
            write_functions: PatternList::default(),
            primary_patterns: PatternList::default(),
            relationships: Vec::new(),
            app_names: RedirectList::default(),
            databases: RedirectList::default(),
            users: RedirectList::default(),
            delay_threshold: None,
            delay_threshold_by_time: None,
            prefer_lower_delay_standby: false,
            relcache_size: 256,
            relcache_expire: None,
            enable_shared_relcache: true,
            asks_load_balance_node: false,
        }
    }
}

/// `object:dependent`: a write to the one is a write to the other. Names in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relationship {
    pub object: Object,
    pub dependent: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    Relation(Vec<u8>),
    Function(Vec<u8>),
}

/// The entries of `dml_adaptive_object_relationship_list`; a schema in a name is dropped, as names
/// are compared without. Entries that are no pair are given back.
pub fn relationships(text: &str) -> (Vec<Relationship>, Vec<String>) {
    let (mut found, mut bad) = (Vec::new(), Vec::new());
    for entry in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
        let Some((object, dependent)) = entry.split_once(':') else {
            bad.push(entry.to_owned());
            continue;
        };
        let bare = |name: &str| {
            let name = name.trim().replace('"', "").to_ascii_lowercase();
            let name = name.rsplit('.').next().unwrap_or_default();
            name.as_bytes().to_vec()
        };
        let object = match object.trim().strip_suffix("()") {
            Some(function) => Object::Function(bare(function)),
            None => Object::Relation(bare(object)),
        };
        found.push(Relationship {
            object,
            dependent: bare(dependent.trim().trim_end_matches("()")),
        });
    }
    (found, bad)
}
