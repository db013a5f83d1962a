//! THE table of parameters: everything that 3.7 to 4.7 know, names from before, and our own.
//!
//! Parsing, SHOW, the man page and the sample file all read it; nothing else knows a default,
//! a range or a unit. Source: `src/config/pool_config_variables.c` at the last tag of each series.

mod build;
mod connection;
mod extras;
mod failover;
mod logging;
mod own;
mod routing;
mod watchdog;

use std::{collections::HashMap, sync::LazyLock};

use super::{Release, parameter::Parameter};

const GROUPS: [&[Parameter]; 7] = [
    connection::ROWS,
    logging::ROWS,
    routing::ROWS,
    failover::ROWS,
    watchdog::ROWS,
    extras::ROWS,
    own::ROWS,
];

const COUNT: usize = {
    let mut count = 0;
    let mut group = 0;
    while group < GROUPS.len() {
        count += GROUPS[group].len();
        group += 1;
    }
    count
};

static ROWS: [Parameter; COUNT] = {
    let mut rows = [build::group(""); COUNT];
    let (mut at, mut group) = (0, 0);
    while group < GROUPS.len() {
        let mut row = 0;
        while row < GROUPS[group].len() {
            rows[at] = GROUPS[group][row];
            at += 1;
            row += 1;
        }
        group += 1;
    }
    rows
};

pub static PARAMETERS: &[Parameter] = &ROWS;

/// Rows by name, newest first.
static BY_NAME: LazyLock<HashMap<&'static str, Vec<&'static Parameter>>> = LazyLock::new(|| {
    let mut rows: HashMap<&'static str, Vec<&'static Parameter>> = HashMap::new();
    for row in PARAMETERS {
        rows.entry(row.name).or_default().insert(0, row);
    }
    rows
});

/// Looks a parameter up by its name without index, as the newest release that has it knows it.
pub fn find(name: &str) -> Option<&'static Parameter> {
    rows_of(name).first().copied()
}

/// As `release` knows it; `None` when the name is foreign to that release.
pub fn find_in(name: &str, release: Release) -> Option<&'static Parameter> {
    rows_of(name).iter().copied().find(|p| p.known_in(release))
}

/// All rows of one name, newest first.
pub(super) fn rows_of(name: &str) -> &'static [&'static Parameter] {
    BY_NAME.get(name).map_or(&[], Vec::as_slice)
}

/// The per-slot parameter whose name `name` begins with, and the rest; the longest one, as in the original.
///
/// `src/config/pool_config_variables.c @ V4_3_5` compares prefixes only, so `hostname_foo` is
/// `hostname` with a bad index and not an unknown name.
pub(super) fn find_prefix(
    name: &str,
    known: impl Fn(&Parameter) -> bool,
) -> Option<(&'static Parameter, &str)> {
    PARAMETERS
        .iter()
        .filter(|p| p.max_index > 0 && known(p))
        .filter_map(|p| Some((p, name.strip_prefix(p.name)?)))
        .max_by_key(|(p, _)| p.name.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{parameter::Kind, value};

    #[test]
    fn every_default_is_a_value_of_its_parameter() {
        for p in PARAMETERS {
            for (release, text) in p.defaults {
                let value = value::default(p, *release, false);
                assert!(value.is_some(), "{} = {text:?}", p.name);
            }
        }
    }

    #[test]
    fn each_parameter_has_a_default_in_every_release_that_knows_it() {
        for p in PARAMETERS {
            if matches!(p.kind, Kind::Group) || p.first.is_none() {
                continue;
            }
            assert!(!p.defaults.is_empty(), "{}", p.name);
            assert!(p.defaults.is_sorted_by(|a, b| a.0 < b.0), "{}", p.name);
            if let Some(first) = p.first {
                assert!(
                    p.ours || p.defaults[0].0 == first || first < Release::V3_7,
                    "{}: first default is of {:?}",
                    p.name,
                    p.defaults[0].0
                );
            }
        }
    }

    #[test]
    fn each_parameter_has_a_help_line_and_its_counterparts_exist() {
        for p in PARAMETERS {
            assert!(!p.help.is_empty(), "{}", p.name);
            for other in p.counterparts {
                assert!(find(other).is_some(), "{} names {other}", p.name);
            }
        }
    }

    #[test]
    fn one_release_has_one_row_per_name() {
        for release in Release::ALL {
            for p in PARAMETERS {
                let rows = rows_of(p.name).iter().filter(|r| r.known_in(release));
                assert!(rows.count() <= 1, "{} in {release}", p.name);
            }
        }
    }

    #[test]
    fn a_name_is_looked_up_in_its_release() {
        let old = find_in("wd_port", Release::V4_1).map(|p| p.max_index);
        let new = find_in("wd_port", Release::V4_2).map(|p| p.max_index);
        assert_eq!((old, new), (Some(0), Some(128)));
        assert!(find_in("follow_master_command", Release::V4_2).is_none());
    }
}
