//! Which release a pgpool.conf was written for. Nothing in the file says so.
//!
//! What would not start elsewhere proves more than what would be ignored elsewhere: a name of
//! another release is silently dropped, so it may lie in a file for years, while a value or an
//! index form of another release stops the start and cannot be there by accident. Looks at
//! settings after "last wins", and at settings that are commented out only to break a tie.

use std::collections::BTreeSet;

use super::{
    Release,
    parameter::{Indexed, Kind, Parameter},
    table::{find_prefix, rows_of},
    value::parse_bool,
};

/// Names that are commented out or set in a file from which nobody removed anything.
const WHOLE_SAMPLE: usize = 120;

/// A setting as this module sees it.
#[derive(Clone, Copy, Debug)]
pub struct Fact<'a> {
    pub name: &'a str,
    pub value: &'a str,
    pub line: u32,
}

/// Before 4.2 or since: names, index forms and defaults of the two differ most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Up to 4.1.
    Old,
    /// 4.2 and later.
    New,
    /// Nothing in the file tells; treated as new.
    Unknown,
}

/// The outcome, with its reasons in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognition {
    pub release: Release,
    pub family: Family,
    /// Names of both families are set.
    pub mixed: bool,
    pub why: String,
}

/// What a name is, whatever the release.
#[derive(Clone, Copy, Debug)]
struct Known {
    rows: &'static [&'static Parameter],
    base: &'static str,
    index: bool,
}

/// Recognises the dialect of a file from its settings and the names that are commented out.
pub fn recognise(facts: &[Fact<'_>], commented_out: &[String]) -> Recognition {
    let facts = last_wins(facts);
    let (family, mixed, family_why) = family_of(&facts);
    let (oldest, newest) = match family {
        Family::Old => (Release::V4_0, Release::V4_1),
        Family::New | Family::Unknown => (Release::V4_2, Release::V4_7),
    };
    let mut bounds = Bounds {
        lower: oldest,
        upper: newest,
        lower_why: None,
        upper_why: None,
    };
    for fact in &facts {
        bounds.narrow(fact, oldest, newest);
    }
    if bounds.lower > bounds.upper {
        bounds.upper = bounds.lower;
    }
    let (release, tie_why) = break_tie(&bounds, family, &facts, commented_out);
    let mut why = family_why;
    let more = [bounds.lower_why, bounds.upper_why, tie_why];
    for reason in more.into_iter().flatten() {
        why.push_str("; ");
        why.push_str(&reason);
    }
    Recognition {
        release,
        family,
        mixed,
        why,
    }
}

fn last_wins<'a>(facts: &[Fact<'a>]) -> Vec<Fact<'a>> {
    let mut seen = BTreeSet::new();
    let mut kept: Vec<Fact<'a>> = facts
        .iter()
        .rev()
        .filter(|fact| seen.insert(fact.name))
        .copied()
        .collect();
    kept.reverse();
    kept
}

/// The parameter behind a name of any release; `None` for a name that no release knows.
fn known(name: &str) -> Option<Known> {
    if let [first, ..] = rows_of(name)
        && !first.ours
        && !matches!(first.kind, Kind::Group)
    {
        return Some(Known {
            rows: rows_of(name),
            base: first.name,
            index: false,
        });
    }
    let (parameter, rest) = find_prefix(name, |p| !p.ours)?;
    let digits = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    digits.then_some(Known {
        rows: rows_of(parameter.name),
        base: parameter.name,
        index: true,
    })
}

impl Known {
    /// Rows that fit the way the name was written.
    fn fitting(&self) -> impl Iterator<Item = &'static Parameter> {
        let index = self.index;
        self.rows.iter().copied().filter(move |p| match p.indexed {
            Indexed::No => !index,
            Indexed::Required => index,
            Indexed::Optional => true,
        })
    }

    /// The family that alone knows the name.
    fn family(&self) -> Option<Family> {
        let old = self
            .fitting()
            .any(|p| p.first.is_none() || p.first.is_some_and(|first| first <= Release::V4_1));
        let new = self.fitting().any(|p| p.last >= Release::V4_2);
        match (old, new) {
            (true, false) => Some(Family::Old),
            (false, true) => Some(Family::New),
            _ => None,
        }
    }
}

/// `include` is in no table, for it is no parameter; 4.3 brought it.
fn is_include(fact: &Fact<'_>) -> bool {
    fact.name == "include"
}

fn family_of(facts: &[Fact<'_>]) -> (Family, bool, String) {
    let mut names: [BTreeSet<&'static str>; 2] = Default::default();
    let mut hard: [Vec<String>; 2] = Default::default();
    for fact in facts {
        match known(fact.name).and_then(|known| Some((known.family()?, known.base))) {
            Some((Family::Old, base)) => names[0].insert(base),
            Some((_, base)) => names[1].insert(base),
            None if is_include(fact) => names[1].insert("include"),
            None => false,
        };
        if let Some((family, what)) = hard_evidence(fact) {
            let side = usize::from(family == Family::New);
            hard[side].push(format!("{what} in line {}", fact.line));
        }
    }
    let [old_names, new_names] = names;
    let mixed = !old_names.is_empty() && !new_names.is_empty();
    let conclude = |family, why: String| (family, mixed, why);
    match &hard {
        [old, new] if !old.is_empty() && new.is_empty() => {
            return conclude(
                Family::Old,
                format!("4.2 and later would not start with {}", old.join(", ")),
            );
        }
        [old, new] if old.is_empty() && !new.is_empty() => {
            return conclude(
                Family::New,
                format!("4.1 and earlier would not take {}", new.join(", ")),
            );
        }
        _ => {}
    }
    let list = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
    match (old_names.is_empty(), new_names.is_empty()) {
        (true, true) => {
            return conclude(
                Family::Unknown,
                "no setting tells 4.1 and earlier from 4.2 and later".to_owned(),
            );
        }
        (false, true) => {
            return conclude(
                Family::Old,
                format!("names of 4.1 and earlier only ({})", list(&old_names)),
            );
        }
        (true, false) => {
            return conclude(
                Family::New,
                format!("names of 4.2 and later only ({})", list(&new_names)),
            );
        }
        (false, false) => {}
    }
    let value = |name: &str| facts.iter().find(|f| f.name == name).map(|f| f.value);
    let old_mode = value("master_slave_mode").is_some()
        || value("replication_mode").is_some_and(|v| parse_bool(v) != Some(false));
    let new_mode = value("backend_clustering_mode").is_some();
    match (old_mode, new_mode) {
        (true, false) => {
            return conclude(
                Family::Old,
                "names of both kinds, and the mode is set as in 4.1 and earlier".to_owned(),
            );
        }
        (false, true) => {
            return conclude(
                Family::New,
                "names of both kinds, and the mode is set by backend_clustering_mode".to_owned(),
            );
        }
        _ => {}
    }
    let (old, new) = (old_names.len(), new_names.len());
    let family = if old > new { Family::Old } else { Family::New };
    conclude(
        family,
        format!("{old} names of 4.1 and earlier against {new} of 4.2 and later"),
    )
}

/// What stops the start of one family.
fn hard_evidence(fact: &Fact<'_>) -> Option<(Family, String)> {
    let found = |family| Some((family, format!("{} = {}", fact.name, fact.value)));
    let known = known(fact.name)?;
    let flags = || fact.value.split('|').map(str::trim);
    match known.base {
        "wd_port" if !known.index => found(Family::Old),
        "backend_flag" if flags().any(|f| f == "ALWAYS_MASTER") => found(Family::Old),
        "backend_flag" if flags().any(|f| f == "ALWAYS_PRIMARY") => found(Family::New),
        "relcache_query_target" if fact.value.eq_ignore_ascii_case("master") => found(Family::Old),
        "relcache_query_target" if fact.value.eq_ignore_ascii_case("primary") => found(Family::New),
        "disable_load_balance_on_write" if fact.value.eq_ignore_ascii_case("dml_adaptive") => {
            found(Family::New)
        }
        _ if has_unit(&known, fact.value) => found(Family::New),
        _ => None,
    }
}

fn has_unit(known: &Known, value: &str) -> bool {
    let int = known
        .rows
        .iter()
        .any(|p| matches!(p.kind, Kind::Int { .. }));
    let number = value.trim().trim_start_matches(['+', '-']);
    let unit = number.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    int && unit.len() < number.len()
        && [
            "us", "ms", "s", "min", "h", "d", "B", "kB", "MB", "GB", "TB",
        ]
        .contains(&unit.trim_start())
}

struct Bounds {
    lower: Release,
    upper: Release,
    lower_why: Option<String>,
    upper_why: Option<String>,
}

impl Bounds {
    fn narrow(&mut self, fact: &Fact<'_>, oldest: Release, newest: Release) {
        let line = fact.line;
        let (first, last) = match known(fact.name) {
            None if is_include(fact) => (Release::V4_3, Release::V4_7),
            None => return,
            Some(known) => {
                let fits = |p: &&Parameter| {
                    p.first.is_some_and(|first| first <= newest) && p.last >= oldest
                };
                let first = known.fitting().filter(fits).filter_map(|p| p.first).min();
                let last = known.fitting().filter(fits).map(|p| p.last).max();
                let (Some(first), Some(last)) = (first, last) else {
                    return;
                };
                let (value_first, value_last) = bounds_of_value(known.base, fact.value);
                (first.max(value_first), last.min(value_last))
            }
        };
        if first > self.lower && first <= newest {
            self.lower = first;
            self.lower_why = Some(format!(
                "{} in line {line} is of {first} or later",
                fact.name
            ));
        }
        if last < self.upper {
            self.upper = last;
            self.upper_why = Some(format!(
                "{} in line {line} is of {last} or earlier",
                fact.name
            ));
        }
    }
}

/// Releases that take this value of a parameter which others know, too.
fn bounds_of_value(base: &str, value: &str) -> (Release, Release) {
    let several = value.contains(',');
    let word = |word: &str| value.eq_ignore_ascii_case(word);
    let first = match base {
        "check_temp_table" if parse_bool(value).is_none() => Release::V4_1,
        "pcp_listen_addresses" if several => Release::V4_4,
        "pcp_socket_dir" if several => Release::V4_5,
        _ => Release::V3_7,
    };
    let last = match base {
        "backend_clustering_mode" if word("slony") => Release::V4_6,
        _ => Release::V4_7,
    };
    (first, last)
}

fn break_tie(
    bounds: &Bounds,
    family: Family,
    facts: &[Fact<'_>],
    commented_out: &[String],
) -> (Release, Option<String>) {
    let (lower, upper) = (bounds.lower, bounds.upper);
    if lower == upper {
        return (lower, None);
    }
    let first_of = |known: Known| known.fitting().filter_map(|p| p.first).min();
    let hint = commented_out
        .iter()
        .filter_map(|name| Some((first_of(known(name)?)?, name)))
        .filter(|(first, _)| (lower..=upper).contains(first))
        .max_by_key(|(first, _)| *first);
    if let Some((first, name)) = hint {
        let why = format!("{name} is commented out, which is of {first}");
        return (first, Some(why));
    }
    if family == Family::Old {
        return (lower, None);
    }
    let names: BTreeSet<&str> = facts
        .iter()
        .map(|f| f.name)
        .chain(commented_out.iter().map(String::as_str))
        .filter(|name| known(name).is_some())
        .collect();
    let of_4_3 = names
        .iter()
        .filter_map(|name| first_of(known(name)?))
        .any(|first| first == Release::V4_3);
    if family == Family::New && names.len() >= WHOLE_SAMPLE && !of_4_3 && lower == Release::V4_2 {
        let why = "a whole sample file without a name of 4.3".to_owned();
        return (Release::V4_2, Some(why));
    }
    if lower <= Release::V4_3 && Release::V4_3 <= upper {
        return (
            Release::V4_3,
            Some("4.3 where nothing tells more".to_owned()),
        );
    }
    (lower, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::grammar;

    fn release(text: &str) -> Release {
        recognised(text).release
    }

    fn recognised(text: &str) -> Recognition {
        let document = grammar::parse(text.as_bytes());
        let facts: Vec<Fact<'_>> = document
            .settings
            .iter()
            .map(|s| Fact {
                name: &s.name,
                value: &s.value,
                line: s.at.line,
            })
            .collect();
        recognise(&facts, &document.commented_out)
    }

    #[test]
    fn hard_evidence_decides_against_any_number_of_names() {
        for (line, family) in [
            ("wd_port = 9000", Family::Old),
            ("backend_flag0 = 'ALWAYS_MASTER'", Family::Old),
            (
                "backend_flag0 = 'ALLOW_TO_FAILOVER|ALWAYS_MASTER'",
                Family::Old,
            ),
            ("relcache_query_target = master", Family::Old),
            ("backend_flag1 = 'ALWAYS_PRIMARY'", Family::New),
            ("relcache_query_target = primary", Family::New),
            ("child_life_time = 10s", Family::New),
            ("memqcache_total_size = '64MB'", Family::New),
            (
                "disable_load_balance_on_write = 'dml_adaptive'",
                Family::New,
            ),
        ] {
            let others = match family {
                Family::Old => "hostname0 = 'a'\nfollow_primary_command = ''\nwork_dir = '/'\n",
                _ => "wd_hostname = 'a'\nfollow_master_command = ''\nmaster_slave_mode = on\n",
            };
            let got = recognised(&format!("{others}{line}\n"));
            assert_eq!(got.family, family, "{line}: {}", got.why);
        }
    }

    #[test]
    fn hard_evidence_that_contradicts_itself_leaves_it_to_the_names() {
        let both = "wd_port = 9000\nchild_life_time = 10s\n";
        assert_eq!(
            recognised(&format!(
                "{both}hostname0 = 'a'\nbackend_clustering_mode = raw\n"
            ))
            .family,
            Family::New
        );
    }

    #[test]
    fn names_of_one_kind_decide() {
        assert_eq!(release("master_slave_mode = on\n"), Release::V4_0);
        assert_eq!(release("debug_level = 0\n"), Release::V4_0);
        assert_eq!(release("follow_primary_command = ''\n"), Release::V4_3);
        assert_eq!(release("wd_port0 = 9000\n"), Release::V4_3);
    }

    #[test]
    fn with_names_of_both_kinds_the_mode_key_decides() {
        let mixed = "black_function_list = ''\nhostname0 = 'a'\n";
        let old = recognised(&format!(
            "{mixed}master_slave_mode = off\nwork_dir = '/tmp'\n"
        ));
        assert_eq!((old.family, old.mixed), (Family::Old, true));
        let replication = recognised(&format!("{mixed}replication_mode = on\n"));
        assert_eq!(replication.family, Family::Old);
        let new = recognised(&format!(
            "{mixed}wd_hostname = 'a'\nbackend_clustering_mode = 'raw'\n"
        ));
        assert_eq!(new.family, Family::New);
    }

    #[test]
    fn else_the_greater_number_of_names_decides_and_a_draw_is_new() {
        let draw = "black_function_list = ''\nhostname0 = 'a'\nhostname1 = 'b'\n";
        assert_eq!(recognised(draw).family, Family::New);
        let more = format!("{draw}white_function_list = ''\nreplication_mode = off\n");
        assert_eq!(recognised(&more).family, Family::Old);
    }

    #[test]
    fn nothing_telling_is_4_3() {
        for text in [
            "",
            "port = 9999\n",
            "delegate_IP = ''\ninsert_lock = on\nreplication_mode = off\n",
            "fail_over_on_backend_error = on\nlogdir = '/tmp'\n",
            "no_such_name = 3\nbackend = 1\n",
        ] {
            let got = recognised(text);
            assert_eq!(got.release, Release::V4_3, "{text:?}: {}", got.why);
            assert_eq!(got.family, Family::Unknown);
        }
    }

    #[test]
    fn the_latest_first_release_is_the_lower_bound() {
        for (line, want) in [
            (
                "master_slave_mode = on\nauto_failback = off\n",
                Release::V4_1,
            ),
            (
                "master_slave_mode = on\ncheck_temp_table = catalog\n",
                Release::V4_1,
            ),
            (
                "master_slave_mode = on\ncheck_temp_table = on\n",
                Release::V4_0,
            ),
            ("unix_socket_directories = '/tmp'\n", Release::V4_4),
            ("delegate_ip = ''\n", Release::V4_4),
            ("log_pcp_processes = off\n", Release::V4_5),
            (
                "hostname0 = 'a'\npcp_socket_dir = '/tmp,/run'\n",
                Release::V4_5,
            ),
            ("pcp_listen_addresses = 'a,b'\n", Release::V4_4),
            ("log_backend_messages = none\n", Release::V4_6),
            ("work_dir = '/tmp'\n", Release::V4_7),
            ("prefer_lower_delay_standby = on\n", Release::V4_3),
            ("include 'other.conf'\n", Release::V4_3),
        ] {
            let got = recognised(line);
            assert_eq!(got.release, want, "{line:?}: {}", got.why);
        }
    }

    #[test]
    fn the_earliest_last_release_is_the_upper_bound_and_a_higher_lower_bound_wins() {
        assert_eq!(
            release("socket_dir = '/tmp'\nbackend_clustering_mode = raw\n"),
            Release::V4_3
        );
        assert_eq!(
            release("socket_dir = '/tmp'\nunix_socket_directories = '/tmp'\n"),
            Release::V4_4
        );
        assert_eq!(
            release("log_backend_messages = none\nbackend_clustering_mode = slony\n"),
            Release::V4_6
        );
    }

    #[test]
    fn settings_commented_out_break_a_tie_only() {
        assert_eq!(
            release("hostname0 = 'a'\n#log_pcp_processes = on\n#unix_socket_group = ''\n"),
            Release::V4_5
        );
        assert_eq!(
            release("socket_dir = '/tmp'\nhostname0 = 'a'\n#work_dir = ''\n"),
            Release::V4_3
        );
        assert_eq!(
            release("master_slave_mode = on\n#auto_failback = off\n"),
            Release::V4_1
        );
    }

    #[test]
    fn the_last_of_several_settings_counts() {
        assert_eq!(
            recognised("relcache_query_target = master\nrelcache_query_target = primary\n").family,
            Family::New
        );
    }
}
