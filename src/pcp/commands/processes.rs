//! Process count and process info: the slots of the data plane, shown as the child processes
//! of the original.

use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use chrono::{DateTime, Local};

use super::{Environment, Outcome};
use crate::{
    admin::Inputs,
    config::Release,
    dataplane::{PoolInfo, SlotInfo, SlotStatus},
    pcp::{codec, layout::unix_seconds, request::Number},
};

pub fn count(env: &Environment) -> Outcome {
    let pids = env
        .shared
        .dataplane()
        .map(|handle| handle.slot_pids())
        .unwrap_or_default();
    let mut texts = vec!["CommandComplete".to_owned(), pids.len().to_string()];
    texts.extend(pids.iter().map(u32::to_string));
    Outcome::made(|out| codec::put_texts(out, b'n', &texts))
}

pub async fn info(env: &Environment, number: &Number) -> Outcome {
    let mut inputs = Inputs::gather_with_slots(&env.shared).await;
    let mut slots = std::mem::take(&mut inputs.slots);
    if number.value != 0 {
        slots.retain(|slot| i64::from(slot.pid) == i64::from(number.value));
        if slots.is_empty() {
            return Outcome::error(
                "informing process info failed",
                format!("invalid process ID : {}", number.text),
            );
        }
    }
    let settings = &inputs.config.settings;
    let rows = Rows {
        release: env.compat().release,
        nodes: inputs.view.nodes.len(),
        max_pool: settings.max_pool,
        client_idle_limit: settings.client_idle_limit,
        statement_node: inputs.view.write_node().unwrap_or(0),
    };
    Outcome::Stream(Box::new(rows.into_reply(slots)))
}

/// How slots become rows: one per slot, pool and node.
#[derive(Clone, Copy, Debug)]
struct Rows {
    release: Release,
    nodes: usize,
    max_pool: usize,
    client_idle_limit: Option<Duration>,
    /// Shows the client's statement where no node is chosen for load balancing.
    statement_node: usize,
}

impl Rows {
    /// Makes one piece per slot and pool, when asked for it: thousands of slots with 128
    /// backends make hundreds of megabytes, which a slow reader must not cost us.
    fn into_reply(self, slots: Vec<SlotInfo>) -> impl Iterator<Item = BytesMut> + Send {
        let mut head = BytesMut::new();
        codec::put_array_size(&mut head, b'p', slots.len() * self.max_pool * self.nodes);
        let mut tail = BytesMut::new();
        codec::put_command_complete(&mut tail, b'p');
        let rows = slots.into_iter().flat_map(move |slot| {
            (0..self.max_pool).map(move |pool| {
                let mut out = BytesMut::new();
                for node in 0..self.nodes {
                    codec::put_texts(&mut out, b'p', &self.row(&slot, pool, node));
                }
                out
            })
        });
        [head].into_iter().chain(rows).chain([tail])
    }

    fn row(&self, slot: &SlotInfo, pool_id: usize, node: usize) -> Vec<String> {
        let pool = slot
            .pools
            .get(pool_id)
            .and_then(Option::as_ref)
            .map(|pool| (pool, pool.backend_pids.get(node).copied().flatten()))
            .and_then(|(pool, backend_pid)| Some((pool, backend_pid?)));
        let mut texts = vec!["ProcessInfo".to_owned()];
        if self.release < Release::V4_3 {
            texts.extend(self.old_fields(slot, pool, node));
        } else {
            texts.extend(self.fields(slot, pool_id, pool, node));
        }
        texts
    }

    /// 11 fields, up to 4.2.
    fn old_fields(
        &self,
        slot: &SlotInfo,
        pool: Option<(&PoolInfo, u32)>,
        node: usize,
    ) -> [String; 11] {
        let text = |f: &dyn Fn(&PoolInfo) -> String| pool.map(|(p, _)| f(p)).unwrap_or_default();
        let number = |f: &dyn Fn(&PoolInfo) -> u64| pool.map_or(0, |(p, _)| f(p)).to_string();
        [
            slot.pid.to_string(),
            text(&|p| p.database.clone()),
            text(&|p| p.username.clone()),
            unix_seconds(Some(slot.start_time)).to_string(),
            number(&|p| unix_seconds(Some(p.backend_connection_time))),
            number(&|p| p.major.into()),
            number(&|p| p.minor.into()),
            number(&|p| p.pool_counter),
            node.to_string(),
            pool.map_or(0, |(_, pid)| pid).to_string(),
            number(&|p| p.connected.into()),
        ]
    }

    /// 21 fields, as 4.7 sends them; tools from 4.3 on read as many as they know.
    fn fields(
        &self,
        slot: &SlotInfo,
        pool_id: usize,
        pool: Option<(&PoolInfo, u32)>,
        node: usize,
    ) -> [String; 21] {
        let text = |f: &dyn Fn(&PoolInfo) -> String| pool.map(|(p, _)| f(p)).unwrap_or_default();
        let number = |f: &dyn Fn(&PoolInfo) -> u64| pool.map_or(0, |(p, _)| f(p)).to_string();
        [
            slot.pid.to_string(),
            start_time(slot),
            slot.client_connection_count.to_string(),
            pool_id.to_string(),
            node.to_string(),
            text(&|p| p.database.clone()),
            text(&|p| p.username.clone()),
            text(&|p| local_time(Some(p.backend_connection_time))),
            text(&|p| local_time(p.client_connection_time)),
            text(&|p| local_time(p.client_disconnection_time)),
            pool.map_or_else(|| "0".to_owned(), |(p, _)| self.idle(p)),
            number(&|p| p.major.into()),
            number(&|p| p.minor.into()),
            number(&|p| p.pool_counter),
            pool.map_or(0, |(_, pid)| pid).to_string(),
            number(&|p| p.connected.into()),
            self.status(slot.status).to_owned(),
            number(&|p| (p.load_balance_node == Some(node)).into()),
            slot.client_host.clone(),
            slot.client_port.clone(),
            self.statement(slot, node),
        ]
    }

    /// Whole seconds, with the time left when `client_idle_limit` runs for a connected client.
    fn idle(&self, pool: &PoolInfo) -> String {
        let idle = pool.client_idle_duration.as_secs();
        match self.client_idle_limit {
            Some(limit) if pool.connected => {
                let left = limit.saturating_sub(pool.client_idle_duration).as_secs();
                format!(
                    "{idle} ({}:{:02} before client disconnected)",
                    left / 60,
                    left % 60
                )
            }
            _ => idle.to_string(),
        }
    }

    fn status(&self, status: SlotStatus) -> &'static str {
        match status {
            SlotStatus::Connecting if self.release < Release::V4_4 => {
                SlotStatus::ExecuteCommand.text()
            }
            status => status.text(),
        }
    }

    /// The original keeps the last statement per node; a session's statements go to one node
    /// mostly, so the row of that node shows it.
    fn statement(&self, slot: &SlotInfo, node: usize) -> String {
        let balanced = slot
            .pools
            .iter()
            .flatten()
            .find(|pool| pool.connected)
            .and_then(|pool| pool.load_balance_node);
        if balanced.unwrap_or(self.statement_node) == node {
            slot.statement.clone()
        } else {
            String::new()
        }
    }
}

fn start_time(slot: &SlotInfo) -> String {
    let start = local_time(Some(slot.start_time));
    match slot.restarts_in {
        Some(left) => {
            let left = left.as_secs();
            format!(
                "{start} ({}:{:02} before process restarting)",
                left / 60,
                left % 60
            )
        }
        None => start,
    }
}

/// Empty for a time that never was.
fn local_time(time: Option<SystemTime>) -> String {
    time.map(|time| {
        DateTime::<Local>::from(time)
            .format("%Y-%m-%d %H:%M:%S")
            .to_string()
    })
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(release: Release) -> Rows {
        Rows {
            release,
            nodes: 2,
            max_pool: 3,
            client_idle_limit: None,
            statement_node: 0,
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn slot() -> SlotInfo {
        SlotInfo {
            pid: 4_194_305,
            start_time: at(1_700_000_000),
            client_connection_count: 1,
            status: SlotStatus::Connecting,
            restarts_in: None,
            client_host: "127.0.0.1".into(),
            client_port: "39794".into(),
            statement: "select 42".into(),
            pools: vec![
                Some(PoolInfo {
                    database: "test".into(),
                    username: "postgres".into(),
                    backend_connection_time: at(1_700_000_100),
                    client_connection_time: Some(at(1_700_000_200)),
                    client_disconnection_time: None,
                    client_idle_duration: Duration::from_millis(2900),
                    major: 3,
                    minor: 0,
                    pool_counter: 3,
                    connected: true,
                    load_balance_node: Some(1),
                    backend_pids: vec![Some(22109), None],
                }),
                None,
                None,
            ],
        }
    }

    fn at_local(seconds: u64) -> String {
        local_time(Some(at(seconds)))
    }

    #[test]
    fn a_row_of_4_3_and_newer_has_21_fields() {
        let row = rows(Release::V4_3).row(&slot(), 0, 0);
        let (start, backend, client) = (
            at_local(1_700_000_000),
            at_local(1_700_000_100),
            at_local(1_700_000_200),
        );
        assert_eq!(
            row,
            [
                "ProcessInfo",
                "4194305",
                &start,
                "1",
                "0",
                "0",
                "test",
                "postgres",
                &backend,
                &client,
                "",
                "2",
                "3",
                "0",
                "3",
                "22109",
                "1",
                "Execute command",
                "0",
                "127.0.0.1",
                "39794",
                ""
            ]
        );
        assert_eq!(rows(Release::V4_4).row(&slot(), 0, 0)[17], "Connecting");
    }

    #[test]
    fn a_place_without_a_backend_connection_is_empty_but_for_the_slot() {
        for (pool, node) in [(0, 1), (1, 0), (2, 1)] {
            let row = rows(Release::V4_7).row(&slot(), pool, node);
            assert_eq!(row[6..11], ["", "", "", "", ""], "{pool} {node}");
            assert_eq!(row[11..17], ["0", "0", "0", "0", "0", "0"]);
            assert_eq!(row[19..21], ["127.0.0.1", "39794"]);
        }
    }

    #[test]
    fn the_statement_is_shown_for_the_node_of_the_session() {
        let row = |node| rows(Release::V4_7).row(&slot(), 2, node)[21].clone();
        assert_eq!((row(0).as_str(), row(1).as_str()), ("", "select 42"));
    }

    #[test]
    fn a_row_up_to_4_2_has_11_fields_with_times_in_seconds() {
        let row = rows(Release::V4_0).row(&slot(), 0, 0);
        assert_eq!(
            row,
            [
                "ProcessInfo",
                "4194305",
                "test",
                "postgres",
                "1700000000",
                "1700000100",
                "3",
                "0",
                "3",
                "0",
                "22109",
                "1"
            ]
        );
        let empty = rows(Release::V4_2).row(&slot(), 1, 1);
        assert_eq!(empty[2..6], ["", "", "1700000000", "0"]);
    }

    #[test]
    fn limits_that_run_are_shown_behind_the_times() {
        let mut rows = rows(Release::V4_3);
        rows.client_idle_limit = Some(Duration::from_secs(300));
        let mut slot = slot();
        slot.restarts_in = Some(Duration::from_secs(65));
        let row = rows.row(&slot, 0, 0);
        assert!(
            row[2].ends_with(" (1:05 before process restarting)"),
            "{}",
            row[2]
        );
        assert_eq!(row[11], "2 (4:57 before client disconnected)");
    }

    #[test]
    fn the_reply_announces_as_many_rows_as_it_has() {
        let mut reply = BytesMut::new();
        for piece in rows(Release::V4_3).into_reply(vec![slot(), slot()]) {
            reply.extend_from_slice(&piece);
        }
        let frames: Vec<_> = std::iter::from_fn(|| codec::take_reply(&mut reply)).collect();
        assert_eq!(frames[0].texts(), [&b"ArraySize"[..], b"12"]);
        assert_eq!(frames.len(), 1 + 12 + 1);
        assert_eq!(frames[13].texts(), [b"CommandComplete"]);
    }
}
