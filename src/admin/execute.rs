//! Carries an admin command out and answers it.

use super::{
    AdminCommand, Inputs, SessionSettings, Table,
    command::{SettingsCommand, ShowTable},
    show, tables, wire,
};
use crate::{
    cluster::{ClusterView, NodeId},
    config::{Config, Release},
    control::Shared,
    events::Query,
    protocol::messages::ErrorMessage,
    routing::policy::Rule,
};

/// What only the session knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionFacts {
    /// Where this session's reads go; `None` without backend connections.
    pub load_balance_node: Option<NodeId>,
}

/// The whole answer except ReadyForQuery, which the session appends: it knows the transaction's state.
///
/// `SHOW pool_nodes` may take as long as an attempt to connect to a node that does not answer.
///
/// # Errors
///
/// What the client is told instead, for the log as well.
pub async fn execute(
    command: &AdminCommand,
    shared: &Shared,
    session: &mut SessionSettings,
    facts: &SessionFacts,
) -> Result<Vec<u8>, ErrorMessage> {
    match command {
        AdminCommand::Show(ShowTable::Clients) => Ok(clients(shared).encode()),
        AdminCommand::Show(ShowTable::Events) => {
            let events = shared.events.events(Query::default());
            Ok(tables::events_table(&events).encode())
        }
        AdminCommand::Show(show) => Ok(show_table(*show, shared, facts).await.encode()),
        AdminCommand::Settings(command) => settings_answer(command, &shared.config.load(), session),
        // A session that has backends answers it itself.
        AdminCommand::Explain(_) => Err(ErrorMessage::error(
            "55000",
            "PGPOOL EXPLAIN: statements of this session go to no node",
        )
        .hint("Connect to another database than admin_database.")),
    }
}

/// `PGPOOL SHOW`, `SET` and `RESET`: nothing but the configuration and the session is needed.
pub(super) fn settings_answer(
    command: &SettingsCommand,
    config: &Config,
    session: &mut SessionSettings,
) -> Result<Vec<u8>, ErrorMessage> {
    let done = |tag| {
        let mut out = Vec::new();
        wire::command_complete(&mut out, tag);
        out
    };
    match command {
        SettingsCommand::Show(name) => show::one(name, config, session).map(|table| table.encode()),
        SettingsCommand::ShowAll => Ok(show::all(config, session).encode()),
        SettingsCommand::Set { name, value } => session
            .set(name, value.as_deref(), config)
            .map(|()| done("SET")),
        // SET is what the original answers here.
        SettingsCommand::Reset(name) => session.reset(name, config).map(|()| done("SET")),
        SettingsCommand::ResetAll => {
            session.reset_all();
            Ok(done("RESET"))
        }
    }
}

/// The answer to `PGPOOL EXPLAIN`, without ReadyForQuery.
pub fn explanation(nodes: &[NodeId], view: &ClusterView, rule: Rule) -> Vec<u8> {
    let mut table = Table::new(&["node_id", "role", "rule", "reason"]);
    for &node in nodes {
        let role = if view.write_node() == Some(node) {
            "primary"
        } else {
            "standby"
        };
        table.rows.push(vec![
            node.to_string(),
            role.to_owned(),
            rule.number().to_string(),
            rule.to_string(),
        ]);
    }
    table.encode()
}

/// What admin commands get in an aborted transaction, instead of [`execute`].
pub fn aborted_transaction(statement: &[u8]) -> ErrorMessage {
    ErrorMessage::error(
        "25P02",
        "current transaction is aborted, commands ignored until end of transaction block",
    )
    .detail(format!("statement: {}", String::from_utf8_lossy(statement)))
}

/// `SHOW pool_clients`: the queue that the original leaves in the kernel, where nobody can see it.
fn clients(shared: &Shared) -> Table {
    let mut table = Table::new(&["num_init_children", "connected_clients", "waiting_clients"]);
    let (connected, waiting) = shared.dataplane().map_or((0, 0), |plane| {
        (plane.connected_clients(), plane.waiting_clients())
    });
    table.rows.push(vec![
        shared.config.load().settings.num_init_children.to_string(),
        connected.to_string(),
        waiting.to_string(),
    ]);
    table
}

async fn show_table(show: ShowTable, shared: &Shared, facts: &SessionFacts) -> Table {
    let inputs = match show {
        // Older layouts have no column for what the nodes say of themselves.
        ShowTable::Nodes if shared.config.load().dialect >= Release::V4_3 => {
            Inputs::gather_with_probes(shared).await
        }
        ShowTable::Processes | ShowTable::Pools | ShowTable::Ssl => {
            Inputs::gather_with_slots(shared).await
        }
        _ => Inputs::gather(shared).await,
    };
    tables::table(show, &inputs, facts)
}
