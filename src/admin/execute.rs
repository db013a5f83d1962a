//! Carries an admin command out and answers it.

use super::{
    AdminCommand, Inputs, SessionSettings, Table,
    command::ShowTable,
    show, tables,
    wire::{self, ErrorFields},
};
use crate::{cluster::NodeId, config::Release, control::Shared, observe::Severity};

/// What only the session knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionFacts<'a> {
    /// Where this session's reads go; `None` without backend connections.
    pub load_balance_node: Option<NodeId>,
    /// The transaction is aborted: the command is refused.
    pub in_failed_transaction: bool,
    /// The text of the query, for the refusal.
    pub statement: &'a [u8],
}

/// The whole answer except ReadyForQuery, which the session appends: it knows the transaction's state.
///
/// `SHOW pool_nodes` may take as long as an attempt to connect to a node that does not answer.
pub async fn execute(
    command: &AdminCommand,
    shared: &Shared,
    session: &mut SessionSettings,
    facts: &SessionFacts<'_>,
) -> Vec<u8> {
    let mut out = Vec::new();
    if facts.in_failed_transaction {
        wire::error_response(&mut out, &aborted_transaction(facts.statement));
        return out;
    }
    let config = shared.config.load_full();
    match command {
        AdminCommand::Show(show) => return show_table(*show, shared, facts).await.encode(),
        AdminCommand::PgpoolShowAll => return show::all(&config, session).encode(),
        AdminCommand::PgpoolShow(name) => match show::one(name, &config, session) {
            Ok(table) => return table.encode(),
            Err(error) => wire::error_response(&mut out, &error),
        },
        AdminCommand::PgpoolSet { name, value } => {
            match session.set(name, value.as_deref(), &config) {
                Ok(()) => wire::command_complete(&mut out, "SET"),
                Err(error) => wire::error_response(&mut out, &error),
            }
        }
        // SET is what the original answers here.
        AdminCommand::PgpoolReset(name) => match session.reset(name, &config) {
            Ok(()) => wire::command_complete(&mut out, "SET"),
            Err(error) => wire::error_response(&mut out, &error),
        },
        AdminCommand::PgpoolResetAll => {
            session.reset_all();
            wire::command_complete(&mut out, "RESET");
        }
    }
    out
}

/// What any statement that is not sent on gets in an aborted transaction.
pub fn aborted_transaction(statement: &[u8]) -> ErrorFields {
    ErrorFields {
        severity: Severity::Error,
        sqlstate: "25P02",
        message: "current transaction is aborted, commands ignored until end of transaction block"
            .to_owned(),
        detail: format!("statement: {}", String::from_utf8_lossy(statement)),
        hint: String::new(),
    }
}

async fn show_table(show: ShowTable, shared: &Shared, facts: &SessionFacts<'_>) -> Table {
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
