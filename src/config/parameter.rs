//! The one table of parameters, and the values that a configuration gives them.

use std::collections::HashMap;

use super::Release;

/// One parameter of pgpool.conf (or of pgpool-rs.conf) as any release from 3.7 to 4.7 knows it.
#[derive(Debug)]
pub struct Parameter {
    /// Name without index.
    pub name: &'static str,
    pub indexed: Indexed,
    pub kind: Kind,
    pub context: Context,
    /// Group of the manual; `backend`, `watchdog`, `heartbeat` and `health_check` are also SHOW groups.
    pub group: &'static str,
    /// `PGPOOL SHOW` prints `*****`.
    pub secret: bool,
    /// Left out of `PGPOOL SHOW ALL`.
    pub hidden: bool,
    /// `None`: before 3.7.
    pub first: Option<Release>,
    pub last: Release,
    /// The text of the third column of `PGPOOL SHOW`, as stock prints it; empty for parameters unknown to 4.3.
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
}

#[derive(Debug)]
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
    List(Vec<String>),
    Enum {
        word: &'static str,
        number: i64,
    },
    /// Stock's NULL string: shows as empty in `PGPOOL SHOW`, as `(null)` in `SHOW pool_status`.
    Null,
}

/// The value of every parameter, by name and index.
#[derive(Clone, Debug, Default)]
pub struct Values {
    pub(super) global: HashMap<&'static str, Value>,
    pub(super) indexed: HashMap<(&'static str, usize), Value>,
}

impl Values {
    /// The value of `name` (of slot `index`, if given); `None` for a name the dialect does not know.
    /// An unused slot gives the default of the parameter.
    pub fn get(&self, name: &str, index: Option<usize>) -> Option<&Value> {
        let _ = (name, index);
        None
    }
}

pub static PARAMETERS: &[Parameter] = &[];

/// Looks a parameter up by its name without index.
pub fn find(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|p| p.name == name)
}
