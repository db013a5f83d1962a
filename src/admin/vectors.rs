//! Replays what the original answered (`fixtures/admin-sql`) and compares our answers with it.
//!
//! RowDescription and CommandComplete are compared byte by byte, rows as text, errors by severity,
//! SQLSTATE, message, detail and hint. What differs on purpose is in `docs/differences.md`.

use std::{fs, path::PathBuf};

/// One query and what came back.
#[derive(Debug, Default)]
struct Exchange {
    query: String,
    messages: Vec<Message>,
    /// The recording left rows out.
    shortened: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Message {
    /// RowDescription: the columns' names.
    Columns(Vec<String>),
    Row(Vec<String>),
    Complete(String),
    /// Fields by their letters.
    Error(Vec<(char, String)>),
    Ready(char),
}

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fixtures/admin-sql", name]
        .iter()
        .collect()
}

fn recording(name: &str) -> Vec<Exchange> {
    let text = fs::read_to_string(fixture(name)).unwrap();
    let mut exchanges: Vec<Exchange> = Vec::new();
    for line in text.lines() {
        if let Some(query) = line.strip_prefix(">>> Query ") {
            exchanges.push(Exchange {
                query: literals(query).remove(0),
                ..Exchange::default()
            });
            continue;
        }
        let Some(exchange) = exchanges.last_mut() else {
            continue;
        };
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let message = match kind.split('[').next().unwrap_or_default() {
            "RowDescription" => Message::Columns(
                rest.split("; ")
                    .map(|column| column.split('(').next().unwrap_or_default().to_owned())
                    .collect(),
            ),
            "DataRow" => Message::Row(literals(rest)),
            "CommandComplete" => Message::Complete(literals(rest).remove(0)),
            "ErrorResponse" => Message::Error(
                rest.split(" | ")
                    .map(|field| {
                        let (code, text) = field.split_at(1);
                        (code.chars().next().unwrap(), text.to_owned())
                    })
                    .collect(),
            ),
            "ReadyForQuery" => Message::Ready(rest.chars().next().unwrap()),
            _ => {
                exchange.shortened |= line.contains("DataRows in all");
                if let Some(hex) = line.strip_prefix("    hex ") {
                    check_against_hex(exchange.messages.last().unwrap(), hex);
                }
                continue;
            }
        };
        exchange.messages.push(message);
    }
    exchanges
}

/// The strings of a line like `'a', "it's", 'b\n'`.
fn literals(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut chars = text.chars();
    while let Some(quote) = chars.by_ref().find(|c| matches!(c, '\'' | '"')) {
        let mut literal = String::new();
        while let Some(c) = chars.next() {
            match c {
                '\\' => literal.push(match chars.next().unwrap() {
                    'n' => '\n',
                    't' => '\t',
                    c => c,
                }),
                c if c == quote => break,
                c => literal.push(c),
            }
        }
        found.push(literal);
    }
    found
}

/// Our encoders make of the decoded message exactly the bytes that were recorded.
fn check_against_hex(message: &Message, hex: &str) {
    let mut ours = Vec::new();
    match message {
        Message::Columns(names) => super::wire::row_description(&mut ours, names),
        Message::Complete(tag) => super::wire::command_complete(&mut ours, tag),
        // Ours have the field V and no file and line.
        _ => return,
    }
    let ours: String = ours.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(ours, hex, "{message:?}");
}

#[test]
fn columns_and_tags_are_encoded_byte_by_byte_as_recorded() {
    let mut exchanges = 0;
    for entry in fs::read_dir(fixture("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".txt") {
            exchanges += recording(&name).len();
        }
    }
    assert!(exchanges > 80, "{exchanges}");
}
