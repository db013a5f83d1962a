//! The lifecheck query: is a pgpool alive that does not answer as a server would?

use std::{sync::Arc, time::Duration};

use crate::{
    control::{
        Shared,
        backend_client::{Address, Client, Login},
    },
    tls::BackendTls,
    watchdog::{core::PeerId, settings::Settings},
};

/// Connects to the node as a client does and runs `wd_lifecheck_query`; `true`: it has answered.
/// An error counts as an answer of a dead node, as in the original.
pub async fn ask(shared: &Arc<Shared>, settings: &Settings, peer: PeerId) -> bool {
    let Some(member) = settings.others.get(peer) else {
        return false;
    };
    let lifecheck = &settings.lifecheck;
    // `src/watchdog/wd_lifecheck.c @ V4_3_5`
    let limit = lifecheck.interval / 2 + Duration::from_secs(1);
    let address = Address {
        hostname: member.host.clone(),
        port: member.pgpool_port,
        connect_timeout: Some(limit),
        tls: BackendTls::default(),
    };
    let passwd = shared.passwd.load_full();
    let login = Login::new(
        &lifecheck.user,
        &lifecheck.password,
        &lifecheck.database,
        &passwd,
    );
    let Ok(mut client) = Client::connect(&address, &login, Some(limit)).await else {
        return false;
    };
    let answered = client.query(&lifecheck.query, limit).await.is_ok();
    client.close().await;
    answered
}
