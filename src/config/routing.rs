//! The parameters of routing: names by dialect, lists compiled, and what is wrong in them.

use std::time::Duration;

use super::{
    Release,
    finding::{Finding, Place},
    parameter::{Value, Values},
};
use crate::routing::{
    balance::{BadRedirect, RedirectList},
    pattern::PatternList,
    settings::{CheckTempTable, OnWrite, Settings, Switches, relationships},
};

/// What is wrong with a list; the place is that of the parameter.
struct Problem {
    name: &'static str,
    error: bool,
    text: String,
    detail: String,
    remedy: &'static str,
}

pub(super) fn settings(values: &Values, dialect: Release) -> Settings {
    compile(values, dialect).0
}

/// A pattern in a function or query list that cannot be compiled is left out with a warning, as
/// stock does; one in a redirect list, or a node that is none, stops the start, as there.
pub(super) fn findings(values: &Values, dialect: Release, first_line: &Place) -> Vec<Finding> {
    let problems = compile(values, dialect).1.into_iter();
    problems
        .map(|problem| {
            let place = values.place(problem.name, None).unwrap_or(first_line);
            let finding = if problem.error {
                Finding::error(place.clone(), problem.text)
            } else {
                Finding::warning(place.clone(), problem.text)
            };
            finding.detail(problem.detail).remedy(problem.remedy)
        })
        .collect()
}

fn compile(values: &Values, dialect: Release) -> (Settings, Vec<Problem>) {
    let mut problems = Vec::new();
    let newer = dialect >= Release::V4_2;
    let mut list = |name: &'static str| {
        let items = values.list(name);
        let (list, bad) = PatternList::new(items.iter().map(String::as_str));
        problems.extend(bad.into_iter().map(|bad| Problem {
            name,
            error: false,
            text: format!("invalid regex pattern in {name}: \"{}\"", bad.pattern),
            detail: bad.reason,
            remedy: "the entry is left out; correct the regular expression",
        }));
        list
    };
    let read_only_functions = list(if newer {
        "read_only_function_list"
    } else {
        "white_function_list"
    });
    let write_functions = list(if newer {
        "write_function_list"
    } else {
        "black_function_list"
    });
    let primary_patterns = list(if newer {
        "primary_routing_query_pattern_list"
    } else {
        "black_query_pattern_list"
    });
    let mut redirect = |name: &'static str, what: &str| {
        let (list, bad) = RedirectList::new(values.text(name, None));
        problems.extend(bad.into_iter().map(|bad| redirect_problem(name, what, bad)));
        list
    };
    let app_names = redirect("app_name_redirect_preference_list", "app name");
    let databases = redirect("database_redirect_preference_list", "dbname");
    let users = redirect("user_redirect_preference_list", "user name");
    let name = "dml_adaptive_object_relationship_list";
    let (relationships, bad) = relationships(values.text(name, None));
    problems.extend(bad.into_iter().map(|entry| Problem {
        name,
        error: false,
        text: format!("an entry of {name} is no pair"),
        detail: entry,
        remedy: "write object:dependent, functions with parentheses: f():t",
    }));
    let number = |name| u64::try_from(values.int(name, None)).unwrap_or_default();
    let positive = |name| Some(number(name)).filter(|n| *n > 0);
    let settings = Settings {
        load_balance_mode: values.bool("load_balance_mode"),
        statement_level_load_balance: values.bool("statement_level_load_balance"),
        ignore_leading_white_space: values.bool("ignore_leading_white_space"),
        on_write: on_write(values.word("disable_load_balance_on_write")),
        switches: Switches {
            allow_sql_comments: values.bool("allow_sql_comments"),
            check_temp_table: check_temp_table(values.get("check_temp_table", None)),
            check_unlogged_table: values.bool("check_unlogged_table"),
        },
        read_only_functions,
        write_functions,
        primary_patterns,
        relationships,
        app_names,
        databases,
        users,
        delay_threshold: positive("delay_threshold"),
        delay_threshold_by_time: positive("delay_threshold_by_time").map(|number| {
            if dialect >= Release::V4_5 {
                Duration::from_millis(number)
            } else {
                Duration::from_secs(number)
            }
        }),
        prefer_lower_delay_standby: values.bool("prefer_lower_delay_standby"),
        relcache_size: usize::try_from(number("relcache_size")).unwrap_or(usize::MAX),
        relcache_expire: positive("relcache_expire").map(Duration::from_secs),
        enable_shared_relcache: values.bool("enable_shared_relcache"),
        asks_load_balance_node: values.word("relcache_query_target") == "load_balance_node",
    };
    (settings, problems)
}

/// Texts of `src/config/pool_config.l @ V4_3_5`.
fn redirect_problem(name: &'static str, what: &str, bad: BadRedirect) -> Problem {
    let refused = |detail: String, remedy| Problem {
        name,
        error: true,
        text: format!("invalid configuration for key \"{name}\""),
        detail,
        remedy,
    };
    match bad {
        BadRedirect::Pattern(bad) => refused(
            format!(
                "wrong redirect {what} regular expression: \"{}\"",
                bad.pattern
            ),
            "correct the regular expression",
        ),
        BadRedirect::Target(node) => refused(
            format!("wrong redirect db node spec: \"{node}\""),
            "write primary, standby or a node id behind the colon",
        ),
        BadRedirect::NoTarget(entry) => Problem {
            name,
            error: false,
            text: format!("an entry of {name} has no colon"),
            detail: format!("\"{entry}\" and all entries behind it have no effect"),
            remedy: "write pattern:node",
        },
    }
}

fn on_write(word: &str) -> OnWrite {
    match word {
        "off" => OnWrite::Off,
        "trans_transaction" => OnWrite::TransTransaction,
        "always" => OnWrite::Always,
        "dml_adaptive" => OnWrite::DmlAdaptive,
        _ => OnWrite::Transaction,
    }
}

/// A boolean before 4.1; a session may have a value of its own.
pub fn check_temp_table(value: Option<&Value>) -> CheckTempTable {
    match value {
        Some(Value::Bool(false)) => CheckTempTable::None,
        Some(Value::Enum { word, .. }) => match *word {
            "none" | "off" => CheckTempTable::None,
            "trace" => CheckTempTable::Trace,
            _ => CheckTempTable::Catalog,
        },
        _ => CheckTempTable::Catalog,
    }
}
