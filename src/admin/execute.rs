//! Carries an admin command out and answers it.

use super::{AdminCommand, Inputs, SessionSettings, Table, command::ShowTable, show, tables, wire};
use crate::{cluster::NodeId, config::Release, control::Shared, protocol::messages::ErrorMessage};

/// What only the session knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionFacts {
    /// Where this session's reads go; `None` without backend connections.
    pub load_balance_node: Option<NodeId>,
}

/// The whole answer except ReadyForQuery, which the session appends: it knows the transaction's state.
///
/// `SHOW pool_nodes` may take as long as an attempt to connect to a node that does not answer.
pub async fn execute(
    command: &AdminCommand,
    shared: &Shared,
    session: &mut SessionSettings,
    facts: &SessionFacts,
) -> Vec<u8> {
    let mut out = Vec::new();
    let config = shared.config.load_full();
    match command {
        AdminCommand::Show(show) => return show_table(*show, shared, facts).await.encode(),
        AdminCommand::PgpoolShowAll => return show::all(&config, session).encode(),
        AdminCommand::PgpoolShow(name) => match show::one(name, &config, session) {
            Ok(table) => return table.encode(),
            Err(error) => error.encode(&mut out),
        },
        AdminCommand::PgpoolSet { name, value } => {
            match session.set(name, value.as_deref(), &config) {
                Ok(()) => wire::command_complete(&mut out, "SET"),
                Err(error) => error.encode(&mut out),
            }
        }
        // SET is what the original answers here.
        AdminCommand::PgpoolReset(name) => match session.reset(name, &config) {
            Ok(()) => wire::command_complete(&mut out, "SET"),
            Err(error) => error.encode(&mut out),
        },
        AdminCommand::PgpoolResetAll => {
            session.reset_all();
            wire::command_complete(&mut out, "RESET");
        }
    }
    out
}

/// What admin commands get in an aborted transaction, instead of [`execute`].
pub fn aborted_transaction(statement: &[u8]) -> ErrorMessage {
    ErrorMessage::error(
        "25P02",
        "current transaction is aborted, commands ignored until end of transaction block",
    )
    .detail(format!("statement: {}", String::from_utf8_lossy(statement)))
}

async fn show_table(show: ShowTable, shared: &Shared, facts: &SessionFacts) -> Table {
    let inputs = match show {
        // Older layouts have no column for what the nodes say of themselves.
        ShowTable::Nodes if shared.config.load().dialect >= Release::V4_3 => {
            Inputs::gather_with_probes(shared).await
        }
        ShowTable::Processes | ShowTable::Pools => Inputs::gather_with_slots(shared).await,
        _ => Inputs::gather(shared).await,
    };
    tables::table(show, &inputs, facts)
}
