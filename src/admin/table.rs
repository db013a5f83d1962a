//! A result: column names and rows of text.

use std::borrow::Cow;

use super::wire;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub columns: Vec<Cow<'static, str>>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[&'static str]) -> Table {
        Table {
            columns: columns.iter().map(|&c| Cow::Borrowed(c)).collect(),
            rows: Vec::new(),
        }
    }

    /// `item`, `value`, `description`.
    pub fn of_settings(rows: Vec<[String; 3]>) -> Table {
        Table {
            rows: rows.into_iter().map(Vec::from).collect(),
            ..Table::new(&["item", "value", "description"])
        }
    }

    /// RowDescription, rows and `SELECT n`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        wire::row_description(&mut out, &self.columns);
        for row in &self.rows {
            wire::data_row(&mut out, row);
        }
        wire::command_complete(&mut out, &format!("SELECT {}", self.rows.len()));
        out
    }
}
