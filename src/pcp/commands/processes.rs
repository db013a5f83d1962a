//! Process count and process info: the slots of the data plane, shown as the child processes
//! of the original.

use bytes::BytesMut;

use super::{Environment, Outcome};
use crate::{
    admin::{Inputs, tables},
    config::Release,
    dataplane::{SlotInfo, SlotStatus},
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
    if number.value != 0 {
        inputs
            .slots
            .retain(|slot| i64::from(slot.pid) == i64::from(number.value));
        if inputs.slots.is_empty() {
            return Outcome::error(
                "informing process info failed",
                format!("invalid process ID : {}", number.text),
            );
        }
    }
    Outcome::Stream(Box::new(reply(inputs, env.compat().release)))
}

/// One row per slot, pool and node, made one slot and pool at a time, when asked for: thousands
/// of slots with 128 backends make hundreds of megabytes, which a slow reader must not cost us.
fn reply(inputs: Inputs, release: Release) -> impl Iterator<Item = BytesMut> + Send {
    let (slots, nodes) = (inputs.slots.len(), inputs.view.nodes.len());
    let pools = inputs.config.settings.max_pool;
    let mut head = BytesMut::new();
    codec::put_array_size(&mut head, b'p', slots * pools * nodes);
    let mut tail = BytesMut::new();
    codec::put_command_complete(&mut tail, b'p');
    let places = (0..slots).flat_map(move |slot| (0..pools).map(move |pool| (slot, pool)));
    let rows = places.map(move |(slot, pool)| {
        let mut out = BytesMut::new();
        if let Some(slot) = inputs.slots.get(slot) {
            for node in 0..nodes {
                let fields = fields(&inputs, release, slot, pool, node);
                codec::put_texts(&mut out, b'p', &fields);
            }
        }
        out
    });
    [head].into_iter().chain(rows).chain([tail])
}

fn fields(
    inputs: &Inputs,
    release: Release,
    slot: &SlotInfo,
    pool: usize,
    node: usize,
) -> Vec<String> {
    let mut fields = vec!["ProcessInfo".to_owned()];
    if release < Release::V4_3 {
        fields.extend(old_fields(slot, pool, node));
        return fields;
    }
    // All 21 fields, as 4.7 sends them: tools from 4.3 on read as many as they know, and none
    // is content with fewer than it knows.
    fields.extend(tables::pool_fields(inputs, Release::V4_7, slot, pool, node));
    if slot.status == SlotStatus::Connecting
        && release < Release::V4_4
        && let Some(status) = fields.get_mut(STATUS)
    {
        SlotStatus::ExecuteCommand.text().clone_into(status);
    }
    fields
}

/// Place of the status in a row of 4.3 and newer.
const STATUS: usize = 17;

/// The 11 fields up to 4.2; times are seconds since 1970.
fn old_fields(slot: &SlotInfo, pool: usize, node: usize) -> [String; 11] {
    let pool = slot.pools.get(pool).and_then(Option::as_ref);
    let backend_pid = pool.and_then(|pool| pool.backend_pids.get(node).copied().flatten());
    // A set without a connection to this node is shown like an empty place.
    let pool = pool.filter(|_| backend_pid.is_some());
    [
        slot.pid.to_string(),
        pool.map(|p| p.database.clone()).unwrap_or_default(),
        pool.map(|p| p.username.clone()).unwrap_or_default(),
        unix_seconds(Some(slot.start_time)).to_string(),
        unix_seconds(pool.map(|p| p.backend_connection_time)).to_string(),
        pool.map_or(0, |p| p.major).to_string(),
        pool.map_or(0, |p| p.minor).to_string(),
        pool.map_or(0, |p| p.pool_counter).to_string(),
        node.to_string(),
        backend_pid.unwrap_or(0).to_string(),
        u8::from(pool.is_some_and(|p| p.connected)).to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, SystemTime},
    };

    use super::*;
    use crate::{admin::text, cluster::initial::initial_view, config::Config, dataplane::PoolInfo};

    const CONF: &str = "backend_clustering_mode = 'streaming_replication'\n\
        backend_hostname0 = 'a'\nbackend_port0 = 5432\n\
        backend_hostname1 = 'b'\nbackend_port1 = 5433\nmax_pool = 3\n";

    fn inputs(slots: Vec<SlotInfo>) -> Inputs {
        let (config, _) = Config::from_text(CONF).unwrap();
        Inputs {
            view: Arc::new(initial_view(&config.settings, &[], at(0))),
            replication: Arc::default(),
            health: vec![],
            totals: vec![],
            slots,
            probes: vec![],
            compat: crate::config::settings::CompatVersion {
                release: Release::V4_3,
                patch: 5,
            },
            start_time: at(0),
            config: Arc::new(config),
        }
    }

    fn row(release: Release, slot: &SlotInfo, pool: usize, node: usize) -> Vec<String> {
        fields(&inputs(vec![]), release, slot, pool, node)
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
            client_tls: None,
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
        text::time(at(seconds))
    }

    #[test]
    fn a_row_of_4_3_and_newer_has_21_fields() {
        let new = row(Release::V4_3, &slot(), 0, 0);
        let (start, backend, client) = (
            at_local(1_700_000_000),
            at_local(1_700_000_100),
            at_local(1_700_000_200),
        );
        assert_eq!(
            new,
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
        assert_eq!(row(Release::V4_4, &slot(), 0, 0)[17], "Connecting");
    }

    #[test]
    fn a_place_without_a_backend_connection_is_empty_but_for_the_slot() {
        for (pool, node) in [(0, 1), (1, 0), (2, 1)] {
            let row = row(Release::V4_7, &slot(), pool, node);
            assert_eq!(row[6..11], ["", "", "", "", ""], "{pool} {node}");
            assert_eq!(row[11..17], ["0", "0", "0", "0", "0", "0"]);
            assert_eq!(row[19..21], ["127.0.0.1", "39794"]);
        }
    }

    #[test]
    fn the_statement_is_shown_for_the_node_of_the_session() {
        let statement = |node| row(Release::V4_7, &slot(), 2, node)[21].clone();
        assert_eq!(
            (statement(0).as_str(), statement(1).as_str()),
            ("", "select 42")
        );
    }

    #[test]
    fn a_row_up_to_4_2_has_11_fields_with_times_in_seconds() {
        let old = row(Release::V4_0, &slot(), 0, 0);
        assert_eq!(
            old,
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
        let empty = row(Release::V4_2, &slot(), 1, 1);
        assert_eq!(empty[2..6], ["", "", "1700000000", "0"]);
    }

    #[test]
    fn the_reply_announces_as_many_rows_as_it_has() {
        let mut reply = BytesMut::new();
        for piece in super::reply(inputs(vec![slot(), slot()]), Release::V4_3) {
            reply.extend_from_slice(&piece);
        }
        let frames: Vec<_> = std::iter::from_fn(|| codec::take_reply(&mut reply)).collect();
        assert_eq!(frames[0].texts(), [&b"ArraySize"[..], b"12"]);
        assert_eq!(frames.len(), 1 + 12 + 1);
        assert_eq!(frames[13].texts(), [b"CommandComplete"]);
    }
}
