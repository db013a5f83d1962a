//! `SHOW pool_backend_stats` (4.2 and later): statements and errors per node since start.

use super::node_fields;
use crate::admin::{Inputs, Table};

pub(super) fn table(inputs: &Inputs) -> Table {
    let mut table = Table::new(&[
        "node_id",
        "hostname",
        "port",
        "status",
        "role",
        "select_cnt",
        "insert_cnt",
        "update_cnt",
        "delete_cnt",
        "ddl_cnt",
        "other_cnt",
        "panic_cnt",
        "fatal_cnt",
        "error_cnt",
    ]);
    for node in &inputs.view.nodes {
        let n = inputs.totals.get(node.id).copied().unwrap_or_default();
        let mut row = node_fields(inputs, node).to_vec();
        row.extend(
            [
                n.select, n.insert, n.update, n.delete, n.ddl, n.other, n.panic, n.fatal, n.error,
            ]
            .map(|count| count.to_string()),
        );
        table.rows.push(row);
    }
    table
}
