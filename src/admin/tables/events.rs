//! `SHOW pool_events` (ours): the history of what was done to the cluster.

use std::sync::Arc;

use crate::{
    admin::Table,
    events::{Event, Step, text},
};

/// One row for each event, the oldest first.
pub fn table(events: &[Arc<Event>]) -> Table {
    let mut table = Table::new(&[
        "id",
        "time",
        "operation",
        "node_id",
        "event",
        "cause",
        "evidence",
        "command",
    ]);
    for event in events {
        let note = &event.note;
        let command = match (note.step, &note.hook) {
            (Step::Hook | Step::HookEnded, Some(hook)) => hook.command.clone(),
            _ => String::new(),
        };
        table.rows.push(vec![
            event.id.to_string(),
            text::time(event.time),
            event.operation.to_string(),
            note.node.map(|id| id.to_string()).unwrap_or_default(),
            text::sentence(note),
            note.cause.clone(),
            note.evidence.clone(),
            command,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{History, HookRun, Kind, Note, Query};

    #[test]
    fn an_event_is_a_row_of_text() {
        let history = History::default();
        let note = Note {
            hook: Some(HookRun::begins("failover_command", "failover 1")),
            ..Note::of_node(Kind::Failover, Step::Hook, 1).with_cause("c", "e")
        };
        history.record(None, note);
        let table = table(&history.events(Query::default()));
        let row = &table.rows[0];
        assert_eq!(table.columns.len(), row.len());
        assert_eq!(
            [&row[..1], &row[2..]].concat(),
            [
                "1",
                "1",
                "1",
                "failover_command for node 1 is run",
                "c",
                "e",
                "failover 1"
            ]
        );
    }
}
