//! The tables of `SHOW POOL_...`, each with the columns of the release whose layout is emulated.

mod backend_stats;
mod events;
mod health_check;
mod nodes;
mod pools;
mod processes;
mod ssl;
mod status;
mod status_items;

use super::{Inputs, SessionFacts, Table, command::ShowTable, words};
use crate::{
    cluster::{Node, NodeId},
    config::Release,
};

pub use pools::fields as pool_fields;

pub(super) use events::table as events_table;
pub(super) use health_check::row as health_check_row;
pub(super) use status::rows as status_rows;

/// Makes the table from facts that were gathered as the table needs them.
pub fn table(show: ShowTable, inputs: &Inputs, facts: &SessionFacts) -> Table {
    match show {
        ShowTable::Nodes => nodes::table(inputs, facts.load_balance_node),
        ShowTable::Processes => processes::table(inputs),
        ShowTable::Pools => pools::table(inputs),
        ShowTable::Status => Table::of_settings(inputs.pool_status_rows()),
        ShowTable::Version => version(inputs),
        ShowTable::Cache => cache(),
        ShowTable::HealthCheckStats => health_check::table(inputs),
        ShowTable::BackendStats => backend_stats::table(inputs),
        // Made where the data plane and the history can be asked.
        ShowTable::Clients | ShowTable::Events => Table::default(),
        ShowTable::Ssl => ssl::table(inputs),
    }
}

fn version(inputs: &Inputs) -> Table {
    let mut table = Table::new(&["pool_version"]);
    table.rows.push(vec![words::version_text(inputs.version())]);
    table
}

/// The query cache is off, which the original shows as zeros.
fn cache() -> Table {
    let mut table = Table::new(&[
        "num_cache_hits",
        "num_selects",
        "cache_hit_ratio",
        "num_hash_entries",
        "used_hash_entries",
        "num_cache_entries",
        "used_cache_entries_size",
        "free_cache_entries_size",
        "fragment_cache_entries_size",
    ]);
    table.rows.push(
        ["0", "0", "0.00", "0", "0", "0", "0", "0", "0"]
            .map(str::to_owned)
            .to_vec(),
    );
    table
}

/// A column or field that exists from one release to another.
struct Since<T>(Release, T);

/// Those of `all` that `release` has.
fn of_release<T>(release: Release, all: impl IntoIterator<Item = Since<T>>) -> Vec<T> {
    all.into_iter()
        .filter(|Since(first, _)| *first <= release)
        .map(|Since(_, item)| item)
        .collect()
}

/// Number, host, port, status and role: how the rows about nodes begin.
fn node_fields(inputs: &Inputs, node: &Node) -> [String; 5] {
    [
        node.id.to_string(),
        node.hostname.clone(),
        node.port.to_string(),
        words::status_word(node).to_owned(),
        role(inputs, node.id).to_owned(),
    ]
}

fn role(inputs: &Inputs, node: NodeId) -> &'static str {
    words::role_word(&inputs.view, node, inputs.config.dialect)
}
