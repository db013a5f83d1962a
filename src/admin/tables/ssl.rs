//! `SHOW pool_ssl`, ours: one row per connected client, in the way of PostgreSQL's `pg_stat_ssl`.

use crate::{
    admin::{Inputs, Table},
    dataplane::SlotStatus,
};

pub(super) fn table(inputs: &Inputs) -> Table {
    let mut table = Table::new(&[
        "pool_pid",
        "database",
        "username",
        "client_host",
        "client_port",
        "ssl",
        "version",
        "cipher",
        "client_cn",
    ]);
    let connected = inputs
        .slots
        .iter()
        .filter(|slot| slot.status != SlotStatus::WaitForConnection);
    for slot in connected {
        let pool = slot.pools.iter().flatten().rfind(|pool| pool.connected);
        let tls = slot.client_tls.as_ref();
        table.rows.push(vec![
            slot.pid.to_string(),
            pool.map(|p| p.database.clone()).unwrap_or_default(),
            pool.map(|p| p.username.clone()).unwrap_or_default(),
            slot.client_host.clone(),
            slot.client_port.clone(),
            if tls.is_some() { "on" } else { "off" }.to_owned(),
            tls.map(|t| t.version.clone()).unwrap_or_default(),
            tls.map(|t| t.cipher.clone()).unwrap_or_default(),
            tls.and_then(|t| t.client_name.clone()).unwrap_or_default(),
        ]);
    }
    table
}
