//! What a name in the file means in the file's dialect.

use super::{
    PARAMETERS, Release,
    parameter::{Indexed, Kind, Parameter, find, find_in},
    table::{find_prefix, rows_of},
};

/// What to do with a setting, going by its name.
#[derive(Clone, Debug)]
pub(super) enum Name {
    Known {
        parameter: &'static Parameter,
        index: Option<usize>,
        /// Another spelling or form than the dialect's own, which is understood all the same.
        note: Option<Note>,
    },
    /// Refused by the dialect, in the original's words: message, detail, remedy.
    Refused(String, &'static str, String),
    /// Dropped by the dialect: message and remedy.
    NoEffect(String, String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub text: String,
    pub remedy: String,
}

/// Spellings that a release keeps taking after it renamed a parameter.
fn alias(name: &str, dialect: Release) -> Option<&'static str> {
    match name {
        "fail_over_on_backend_error" => Some("failover_on_backend_error"),
        "delegate_IP" if dialect >= Release::V4_4 => Some("delegate_ip"),
        "logdir" if dialect >= Release::V4_7 => Some("work_dir"),
        _ => None,
    }
}

/// Resolves a name of pgpool.conf.
pub(super) fn resolve(name: &str, dialect: Release) -> Name {
    if let Some(new) = alias(name, dialect).and_then(|new| find_in(new, dialect)) {
        return Name::Known {
            parameter: new,
            index: None,
            note: Some(Note {
                text: format!("{name} is the old spelling of {}", new.name),
                remedy: format!("write {}", new.name),
            }),
        };
    }
    match find_in(name, dialect) {
        Some(p) if p.ours => return of_our_own_file(name),
        Some(p) if matches!(p.kind, Kind::Group) => return unknown(name),
        Some(p) if p.indexed == Indexed::Required => return without_index(p, dialect),
        Some(parameter) => {
            return Name::Known {
                parameter,
                index: None,
                note: None,
            };
        }
        None => {}
    }
    if let Some((parameter, rest)) = find_prefix(name, |p| p.known_in(dialect)) {
        if parameter.ours {
            return of_our_own_file(name);
        }
        return with_index(parameter, name, rest);
    }
    let any_release = find_prefix(name, |p| !p.ours)
        .filter(|(_, rest)| rest.bytes().all(|b| b.is_ascii_digit()))
        .map(|(p, _)| p);
    match find(name).or(any_release) {
        Some(p) if !matches!(p.kind, Kind::Group) => foreign(name, p, dialect),
        _ => unknown(name),
    }
}

fn of_our_own_file(name: &str) -> Name {
    Name::NoEffect(
        format!("{name} has no effect in pgpool.conf"),
        "it belongs into pgpool-rs.conf beside this file".to_owned(),
    )
}

fn without_index(parameter: &'static Parameter, dialect: Release) -> Name {
    let name = parameter.name;
    // The own port of a file from before 4.2, most often with the watchdog off.
    if name == "wd_port" {
        return Name::Known {
            parameter,
            index: None,
            note: Some(Note {
                text: format!(
                    "wd_port without an index is taken as the own watchdog port; \
                     {dialect} would not start with it"
                ),
                remedy: "write wd_port0, wd_port1, ... for the nodes, or remove the line"
                    .to_owned(),
            }),
        };
    }
    Name::Refused(
        format!("parameter \"{name}\" expects the index value"),
        "",
        format!("write {name}0, {name}1, ..."),
    )
}

fn with_index(parameter: &'static Parameter, name: &str, rest: &str) -> Name {
    let base = parameter.name;
    if !rest.bytes().all(|b| b.is_ascii_digit()) {
        return Name::Refused(
            format!("invalid index value for parameter \"{name}\" "),
            "index part contains the invalid non digit character",
            format!("names that begin with {base} must go on with a number"),
        );
    }
    // The original lets the maximum itself pass: as a number it acts on nothing, as a text it crashes.
    let is_text = matches!(parameter.kind, Kind::Text | Kind::List { .. });
    let index = rest.parse().ok();
    let last = parameter
        .max_index
        .saturating_sub(usize::from(is_text && index == Some(parameter.max_index)));
    match index {
        Some(index) if index <= last => Name::Known {
            parameter,
            index: Some(index),
            note: None,
        },
        _ => Name::Refused(
            format!("{rest} index outside the valid range for parameter \"{name}\" (0 .. {last})"),
            "",
            String::new(),
        ),
    }
}

fn foreign(name: &str, parameter: &Parameter, dialect: Release) -> Name {
    let rows = rows_of(parameter.name);
    let first = rows.iter().map(|p| p.first).min().flatten();
    let last = rows.iter().map(|p| p.last).max().unwrap_or(parameter.last);
    let known = match first {
        None => format!("known up to {last}"),
        Some(first) if first > dialect => format!("known since {first}"),
        Some(_) if last < dialect => format!("known up to {last}"),
        // Scalar in some releases, indexed in others.
        Some(_) => "known in this form to other releases".to_owned(),
    };
    let acts: Vec<&str> = parameter
        .counterparts
        .iter()
        .copied()
        .filter(|other| find_in(other, dialect).is_some())
        .collect();
    let remedy = match acts.as_slice() {
        [] => "remove the line".to_owned(),
        names => format!("the name that acts is {}", names.join(", ")),
    };
    Name::NoEffect(
        format!("{name} has no effect in a file of {dialect}: it is {known}"),
        remedy,
    )
}

fn unknown(name: &str) -> Name {
    let remedy = match nearest(name) {
        Some(known) => format!("no release knows it; did you mean {known}?"),
        None => "no release knows it".to_owned(),
    };
    Name::NoEffect(
        format!("unrecognized configuration parameter \"{name}\""),
        remedy,
    )
}

/// A known name that differs by one slip of the finger for every six letters or so.
fn nearest(name: &str) -> Option<&'static str> {
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let allowed = (base.len() / 6).clamp(1, 3);
    PARAMETERS
        .iter()
        .filter(|p| !p.ours && p.first.is_some() && !matches!(p.kind, Kind::Group))
        .map(|p| (distance(base, p.name), p.name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

/// Insertions, deletions and replacements that turn one text into the other, without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, above) in b.bytes().zip(row.iter_mut().skip(1)) {
            let here = (left + 1)
                .min(*above + 1)
                .min(diagonal + usize::from(x != y));
            diagonal = *above;
            *above = here;
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, dialect: Release) -> (&'static str, Option<usize>, bool) {
        match resolve(name, dialect) {
            Name::Known {
                parameter,
                index,
                note,
            } => (parameter.name, index, note.is_some()),
            other => panic!("{name} in {dialect}: {other:?}"),
        }
    }

    fn refused(name: &str, dialect: Release) -> String {
        match resolve(name, dialect) {
            Name::Refused(message, ..) => message,
            other => panic!("{name} in {dialect}: {other:?}"),
        }
    }

    fn dropped(name: &str, dialect: Release) -> (String, String) {
        match resolve(name, dialect) {
            Name::NoEffect(text, remedy) => (text, remedy),
            other => panic!("{name} in {dialect}: {other:?}"),
        }
    }

    #[test]
    fn names_are_case_sensitive() {
        let (text, remedy) = dropped("MAX_POOL", Release::V4_3);
        assert_eq!(text, "unrecognized configuration parameter \"MAX_POOL\"");
        assert_eq!(remedy, "no release knows it; did you mean max_pool?");
    }

    #[test]
    fn an_index_goes_up_to_and_with_the_maximum_unless_that_crashes_the_original() {
        assert_eq!(
            known("backend_port128", Release::V4_3),
            ("backend_port", Some(128), false)
        );
        assert_eq!(
            refused("backend_hostname128", Release::V4_3),
            "128 index outside the valid range for parameter \"backend_hostname128\" (0 .. 127)",
            "a text there crashes the original"
        );
        assert_eq!(
            known("heartbeat_device255", Release::V4_3),
            ("heartbeat_device", Some(255), false)
        );
        assert_eq!(
            refused("backend_port129", Release::V4_3),
            "129 index outside the valid range for parameter \"backend_port129\" (0 .. 128)"
        );
        assert!(
            refused("backend_port99999999999999999999", Release::V4_3).contains("index outside")
        );
    }

    #[test]
    fn a_missing_or_bad_index_is_refused_in_the_words_of_the_original() {
        assert_eq!(
            refused("backend_port", Release::V4_3),
            "parameter \"backend_port\" expects the index value"
        );
        assert_eq!(
            refused("backend_hostname_x", Release::V4_0),
            "invalid index value for parameter \"backend_hostname_x\" "
        );
        assert_eq!(
            refused("health_check_periodx", Release::V4_3),
            "invalid index value for parameter \"health_check_periodx\" "
        );
    }

    #[test]
    fn the_prefix_rule_belongs_to_releases_that_index_the_name() {
        assert_eq!(
            refused("hostname_foo", Release::V4_2),
            "invalid index value for parameter \"hostname_foo\" "
        );
        assert!(
            dropped("hostname_foo", Release::V4_1)
                .0
                .starts_with("unrecognized")
        );
    }

    #[test]
    fn wd_port_without_index_is_native_up_to_4_1_and_understood_later() {
        assert_eq!(known("wd_port", Release::V4_1), ("wd_port", None, false));
        assert_eq!(known("wd_port", Release::V4_2), ("wd_port", None, true));
        assert_eq!(
            known("wd_port0", Release::V4_2),
            ("wd_port", Some(0), false)
        );
        let (text, _) = dropped("wd_port0", Release::V4_1);
        assert!(text.contains("no effect in a file of 4.1"), "{text}");
    }

    #[test]
    fn old_spellings_that_a_release_takes_act_with_a_note() {
        assert_eq!(
            known("fail_over_on_backend_error", Release::V4_0),
            ("failover_on_backend_error", None, true)
        );
        assert_eq!(
            known("delegate_IP", Release::V4_3),
            ("delegate_IP", None, false)
        );
        assert_eq!(
            known("delegate_IP", Release::V4_4),
            ("delegate_ip", None, true)
        );
        assert_eq!(known("logdir", Release::V4_6), ("logdir", None, false));
        assert_eq!(known("logdir", Release::V4_7), ("work_dir", None, true));
    }

    #[test]
    fn a_foreign_name_is_dropped_with_the_name_that_acts() {
        for (name, dialect, acts) in [
            (
                "follow_master_command",
                Release::V4_3,
                "follow_primary_command",
            ),
            (
                "follow_primary_command",
                Release::V4_1,
                "follow_master_command",
            ),
            ("socket_dir", Release::V4_4, "unix_socket_directories"),
            ("other_pgpool_hostname0", Release::V4_2, "hostname"),
            (
                "heartbeat_destination0",
                Release::V4_5,
                "heartbeat_hostname",
            ),
            ("debug_level", Release::V4_0, "log_min_messages"),
            (
                "backend_clustering_mode",
                Release::V4_0,
                "master_slave_mode, master_slave_sub_mode, replication_mode",
            ),
        ] {
            let (text, remedy) = dropped(name, dialect);
            assert!(text.contains("has no effect"), "{text}");
            assert_eq!(remedy, format!("the name that acts is {acts}"), "{name}");
        }
        assert_eq!(dropped("parallel_mode", Release::V4_3).1, "remove the line");
    }

    #[test]
    fn names_of_show_groups_and_of_our_own_file_are_no_settings() {
        assert!(
            dropped("backend", Release::V4_3)
                .0
                .starts_with("unrecognized")
        );
        assert!(
            dropped("admin_database", Release::V4_3)
                .1
                .contains("pgpool-rs.conf")
        );
    }
}
