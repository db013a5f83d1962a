//! What one parameter is, and the values that a configuration gives to all of them.
//!
//! The rows themselves are in [`super::table`]; texts are turned into values by [`super::value`].

use std::collections::{BTreeMap, HashMap};

use super::{Release, finding::Place};

pub use super::table::{PARAMETERS, find, find_in};

/// One parameter of pgpool.conf (or of pgpool-rs.conf) as any release from 3.7 to 4.7 knows it.
///
/// Three names have two rows, since a release changed what they are: `wd_port` (scalar, later
/// one per node), `check_temp_table` (boolean, later words), `delay_threshold_by_time`
/// (seconds, later milliseconds).
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Name without index.
    pub name: &'static str,
    pub indexed: Indexed,
    /// Largest index; the original checks `<=` and not `<`. Zero where there is no index.
    pub max_index: usize,
    pub kind: Kind,
    /// In the newest release.
    pub context: Context,
    /// What `context` was before that release.
    pub context_before: Option<(Release, Context)>,
    /// Group of the manual; `backend`, `watchdog`, `heartbeat` and `health_check` are also SHOW groups.
    pub group: &'static str,
    /// `PGPOOL SHOW` prints `*****`.
    pub secret: bool,
    /// Left out of `PGPOOL SHOW ALL`.
    pub hidden: bool,
    /// Of pgpool-rs.conf; no release of the original knows it.
    pub ours: bool,
    /// `None`: before 3.7.
    pub first: Option<Release>,
    pub last: Release,
    /// Default as one would write it, from that release on; `None` is the original's NULL string.
    /// In ascending order.
    pub defaults: &'static [(Release, Option<&'static str>)],
    /// Default of Debian's build where that is another (directories only).
    pub debian_default: Option<&'static str>,
    /// Names with the same job in other releases.
    pub counterparts: &'static [&'static str],
    /// The text of the third column of `PGPOOL SHOW`, as stock prints it; empty where none was seen.
    pub description: &'static str,
    /// One line for the man page and the sample file, in our own words.
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexed {
    No,
    /// `name0` ... `name128`; the bare name is an error.
    Required,
    /// The bare name sets the default of all slots.
    Optional,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Takes effect at start only.
    Startup,
    /// Also at reload.
    Reload,
    /// Also by `PGPOOL SET` in a session.
    Session,
    /// Not settable (SHOW groups and the like).
    Internal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    None,
    Milliseconds,
    Seconds,
    Minutes,
    Bytes,
    Kilobytes,
    /// Permission bits, shown in octal.
    Mode,
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Bool,
    Int {
        min: i64,
        max: i64,
        unit: Unit,
    },
    Real {
        min: f64,
        max: f64,
    },
    Text,
    List {
        separator: char,
    },
    /// Word, and the number that `SHOW pool_status` prints for it (stock's internal value).
    Enum(&'static [(&'static str, i64)]),
    /// A name that only groups others for `PGPOOL SHOW`.
    Group,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bool(bool),
    Int(i64),
    Real(f64),
    Text(String),
    /// Split at the separator, nothing trimmed; empty items are there (stock shows them) and mean nothing.
    List(Vec<String>),
    Enum {
        word: &'static str,
        number: i64,
    },
    /// Stock's NULL string: shows as empty in `PGPOOL SHOW`, as `(null)` in `SHOW pool_status`.
    Null,
}

impl Parameter {
    /// Does this release know the parameter under this name?
    pub fn known_in(&self, release: Release) -> bool {
        self.ours || self.first.is_some_and(|first| first <= release) && release <= self.last
    }

    /// Those of the watchdog are read at the start alone, as the manual says of the original, too, whose table
    /// has other contexts for some of them.
    pub fn needs_restart(&self, release: Release) -> bool {
        let of_watchdog = matches!(self.group, "watchdog" | "watchdog_lifecheck");
        self.context_in(release) == Context::Startup
            || (of_watchdog && self.context_in(release) == Context::Reload)
    }

    pub fn context_in(&self, release: Release) -> Context {
        match self.context_before {
            Some((changed, before)) if release < changed => before,
            _ => self.context,
        }
    }

    /// The default as one would write it; outer `None`: there is none (groups, names before 3.7).
    pub fn default_in(&self, release: Release, debian: bool) -> Option<Option<&'static str>> {
        let (_, text) = self
            .defaults
            .iter()
            .rev()
            .find(|(since, _)| *since <= release)
            .or(self.defaults.first())?;
        match self.debian_default {
            Some(path) if debian => Some(Some(path)),
            _ => Some(*text),
        }
    }
}

/// Slot of an indexed parameter: name and index; index `None` for the global value.
pub(super) type Key = (&'static str, Option<usize>);

/// The value of every parameter, by name and index.
#[derive(Clone, Debug, Default)]
pub struct Values {
    pub(super) global: HashMap<&'static str, Value>,
    pub(super) indexed: HashMap<(&'static str, usize), Value>,
    /// The own watchdog port in a file of 4.2 or later that names it without index.
    pub(super) own_wd_port: Option<Value>,
    /// What the file `pgpool_node_id` says, if it is there and right.
    pub(super) node_id: Option<u32>,
    /// Where a value was set; defaults have no place. Sorted, so that reports are too.
    pub(super) places: BTreeMap<Key, Place>,
}

impl Values {
    /// The value of `name` (of slot `index`, if given); `None` for a name the dialect does not know.
    /// An unused slot gives the default of the parameter, or what the form without index set.
    pub fn get(&self, name: &str, index: Option<usize>) -> Option<&Value> {
        index
            .and_then(|index| {
                let (name, _) = self.global.get_key_value(name)?;
                self.indexed.get(&(*name, index))
            })
            .or_else(|| self.global.get(name))
    }

    /// Was it set in a file, and where?
    pub fn place(&self, name: &str, index: Option<usize>) -> Option<&Place> {
        let (name, _) = self.global.get_key_value(name)?;
        self.places.get(&(*name, index))
    }

    /// Indexes of `name` that were set, ascending.
    pub fn indexes(&self, name: &str) -> Vec<usize> {
        let mut found: Vec<usize> = self
            .indexed
            .keys()
            .filter(|(n, _)| *n == name)
            .map(|(_, index)| *index)
            .collect();
        found.sort_unstable();
        found
    }

    /// Names, with the number of the slot, whose values differ.
    pub(super) fn changed_since(&self, old: &Values) -> Vec<String> {
        let global = self.global.keys().chain(old.global.keys());
        let global = global
            .filter(|name| self.global.get(*name) != old.global.get(*name))
            .map(ToString::to_string);
        let indexed = self.indexed.keys().chain(old.indexed.keys());
        let indexed = indexed
            .filter(|key| self.indexed.get(*key) != old.indexed.get(*key))
            .map(|(name, index)| format!("{name}{index}"));
        let mut names: Vec<String> = global.chain(indexed).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Sets a value; the form without index of a per-slot parameter overrides the slots set so far.
    pub(super) fn set(&mut self, key: Key, value: Value, place: Option<Place>) {
        let (name, index) = key;
        match index {
            Some(index) => {
                self.indexed.insert((name, index), value);
            }
            None => {
                if find(name).is_some_and(|p| p.indexed == Indexed::Optional) {
                    self.indexed.retain(|(n, _), _| *n != name);
                    self.places.retain(|(n, i), _| *n != name || i.is_none());
                }
                self.global.insert(name, value);
            }
        }
        if let Some(place) = place {
            self.places.insert(key, place);
        }
    }

    pub(super) fn bool(&self, name: &str) -> bool {
        matches!(self.get(name, None), Some(Value::Bool(true)))
    }

    pub(super) fn int(&self, name: &str, index: Option<usize>) -> i64 {
        match self.get(name, index) {
            Some(Value::Int(n)) => *n,
            _ => 0,
        }
    }

    pub(super) fn real(&self, name: &str, index: Option<usize>) -> f64 {
        match self.get(name, index) {
            Some(Value::Real(x)) => *x,
            _ => 0.0,
        }
    }

    pub(super) fn text(&self, name: &str, index: Option<usize>) -> &str {
        match self.get(name, index) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        match self.get(name, None) {
            Some(Value::List(items)) => items.iter().filter(|i| !i.is_empty()).cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// The word of an enum parameter; empty for a name the dialect does not know.
    pub(super) fn word(&self, name: &str) -> &'static str {
        match self.get(name, None) {
            Some(Value::Enum { word, .. }) => word,
            _ => "",
        }
    }
}
