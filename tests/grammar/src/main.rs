//! Compares what routing reads from a statement with what PostgreSQL's own grammar says of it.
//!
//!     grammar-check [-v] FILE_OR_FOLDER...
//!
//! Every statement of the `*.sql` files below is parsed twice: by `pgpool_rs::routing::facts` and by
//! the grammar of PostgreSQL (crate pg_query). Queries are also tried in parentheses, as sub-select,
//! common table expression, COPY and EXPLAIN; neighbours are tried together in one text. Of a
//! `kwlist.h`, PostgreSQL's list of keywords, each is tried as a name. What the grammar refuses is left out.
//!
//! A difference that could send a write to a standby, or a session command to too few nodes, is a
//! failure; one that costs a look-up or a visit to the primary is counted. `-v` shows every
//! difference and what was left out, else some of each sort. The last line is `N passed, N failed`; exit status 1 on failures.

mod compare;
mod keywords;
mod script;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use compare::Difference;
use pgpool_rs::routing::facts::Facts;

const KEYWORDS: &str = "kwlist.h";
/// Examples of each sort of difference.
const SHOWN: usize = 12;
/// Statements in one text when counts are compared.
const TOGETHER: usize = 20;

#[derive(Default)]
struct Report {
    passed: usize,
    failed: usize,
    refused: usize,
    refusals: Vec<String>,
    /// Of the statements that passed, those with a harmless difference.
    cautious: usize,
    examples: BTreeMap<Difference, (usize, Vec<String>)>,
}

fn main() -> ExitCode {
    let mut places: Vec<String> = std::env::args().skip(1).collect();
    let all = places.iter().any(|a| a == "-v");
    places.retain(|a| a != "-v");
    let mut files = Vec::new();
    for place in &places {
        if let Err(error) = collect(Path::new(place), &mut files) {
            eprintln!("grammar-check: {place}: {error}");
            return ExitCode::from(2);
        }
    }
    files.sort();
    let mut report = Report::default();
    let mut seen = BTreeSet::new();
    for file in &files {
        match fs::read(file) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let statements = if file.ends_with(KEYWORDS) {
                    keywords::statements(&text)
                } else {
                    script::statements(&text)
                };
                check_all(statements, &mut seen, &mut report);
            }
            Err(error) => {
                eprintln!("grammar-check: {}: {error}", file.display());
                return ExitCode::from(2);
            }
        }
    }
    if report.passed + report.failed == 0 {
        eprintln!("grammar-check: no statement found: name a file or folder with *.sql files");
        return ExitCode::from(2);
    }
    for (difference, (count, examples)) in &report.examples {
        let sort = if difference.is_failure() {
            "FAILURE"
        } else {
            "cautious"
        };
        println!("\n{sort}: {}: {count}", difference.title());
        for example in examples.iter().take(if all { usize::MAX } else { SHOWN }) {
            println!("  {example}");
        }
    }
    if all {
        println!("\nrefused by the grammar: {}", report.refused);
        for refusal in &report.refusals {
            println!("  {refusal}");
        }
    }
    println!(
        "\n{} files; {} statements refused by the grammar; {} of those that passed err to the side of the primary",
        files.len(),
        report.refused,
        report.cautious
    );
    println!("{} passed, {} failed", report.passed, report.failed);
    ExitCode::from(u8::from(report.failed > 0))
}

fn collect(place: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if place.is_dir() {
        for entry in fs::read_dir(place)? {
            let path = entry?.path();
            let sql = path.extension().is_some_and(|e| e == "sql") || path.ends_with(KEYWORDS);
            if path.is_dir() || sql {
                collect(&path, files)?;
            }
        }
    } else {
        files.push(place.to_owned());
    }
    Ok(())
}

fn check_all(statements: Vec<String>, seen: &mut BTreeSet<String>, report: &mut Report) {
    let mut accepted = Vec::new();
    for statement in statements {
        if !seen.insert(statement.clone()) {
            continue;
        }
        let filled = script::without_variables(&statement);
        let Some(text) = [&statement, &filled]
            .into_iter()
            .find(|text| is_one(text))
            .cloned()
        else {
            report.refused += 1;
            report.refusals.push(one_line(&filled));
            continue;
        };
        check(&text, report);
        for variant in variants(&text) {
            if is_one(&variant) {
                check(&variant, report);
            }
        }
        accepted.push(text);
    }
    for group in accepted.chunks(TOGETHER) {
        check_count(group, report);
    }
}

fn is_one(text: &str) -> bool {
    pg_query::parse(text, 0).is_ok_and(|parsed| parsed.protobuf.stmts.len() == 1)
}

/// The same query in other surroundings. A comment at its end needs a newline.
fn variants(text: &str) -> Vec<String> {
    let begins =
        |word: &str| text.len() > word.len() && text[..word.len()].eq_ignore_ascii_case(word);
    if !text.is_char_boundary(6)
        || !["select", "with", "values", "table", "("]
            .iter()
            .any(|w| text.is_char_boundary(w.len()) && begins(w))
    {
        return Vec::new();
    }
    [
        ("(", "\n)"),
        ("SELECT * FROM (", "\n) AS outer_alias, one_more"),
        ("SELECT 1 WHERE EXISTS (", "\n) AND outer_function()"),
        (
            "WITH outer_cte AS (",
            "\n) SELECT * FROM outer_cte JOIN one_more USING (i)",
        ),
        (
            "WITH outer_cte AS MATERIALIZED (",
            "\n), second (a, b) AS (SELECT 1, 2) DELETE FROM target",
        ),
        ("COPY (", "\n) TO STDOUT"),
        ("EXPLAIN (ANALYZE, COSTS OFF) ", ""),
        ("PREPARE outer_name (int, text) AS ", ""),
        ("/* a comment */ ", " -- another"),
        ("INSERT INTO target ", ""),
    ]
    .iter()
    .map(|(before, after)| format!("{before}{text}{after}"))
    .collect()
}

fn check(text: &str, report: &mut Report) {
    let Ok(parsed) = pg_query::parse(text, 0) else {
        return;
    };
    let Some(truth) = parsed.protobuf.stmts.first().and_then(tree::truth) else {
        return;
    };
    let found = compare::differences(&Facts::of(text.as_bytes()), &truth);
    if found.iter().any(|(difference, _)| difference.is_failure()) {
        report.failed += 1;
    } else {
        report.passed += 1;
        report.cautious += usize::from(!found.is_empty());
    }
    for (difference, what) in found {
        note(report, difference, &what, text);
    }
}

/// Semicolons are found where the grammar finds them.
fn check_count(group: &[String], report: &mut Report) {
    let text = group.join("\n;");
    let facts = Facts::of(text.as_bytes());
    if facts.count() == group.len() {
        report.passed += 1;
    } else {
        report.failed += 1;
        note(
            report,
            Difference::Count,
            &format!("{} of {}", facts.count(), group.len()),
            &text,
        );
    }
}

fn note(report: &mut Report, difference: Difference, what: &str, text: &str) {
    let (count, examples) = report.examples.entry(difference).or_default();
    *count += 1;
    examples.push(format!("{what}: {}", one_line(text)));
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(400).collect()
}
