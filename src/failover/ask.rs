//! Asks a server whether it is the primary, for [`super::search`].

use std::time::Duration;

use super::search::{Answer, Receiver, conninfo_host_port};
use crate::{
    cluster::NodeId,
    control::{
        Shared,
        backend_client::{Address, Client, Failure, Login, QueryError},
    },
    tls::BackendTls,
};

/// Limit of connect and login, and of each statement: the original waits for ever.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Connects with `sr_check_user` and asks. Always answers, at most after three times [`LIMIT`].
pub async fn ask(shared: &Shared, node: NodeId) -> Answer {
    match connect(shared, node).await {
        Ok(mut client) => {
            let detach_false_primary = shared.config.load().settings.detach_false_primary;
            let answer = question(&mut client, detach_false_primary).await;
            client.close().await;
            answer
        }
        Err((_, failure)) => match failure {
            Failure::Rejected(_) | Failure::Login(_) | Failure::Local(_) => {
                Answer::Refused(failure.to_string())
            }
            Failure::Refused(_)
            | Failure::Unreachable(_)
            | Failure::TimedOut(_)
            | Failure::NotAccepting(_) => Answer::Unreachable(failure.to_string()),
        },
    }
}

/// A connection as `sr_check_user` in `sr_check_database`.
///
/// # Errors
///
/// As [`Client::connect`], with the address that was tried.
pub async fn connect(shared: &Shared, node: NodeId) -> Result<Client, (Address, Failure)> {
    let config = shared.config.load_full();
    let settings = &config.settings;
    let view = shared.view.load_full();
    let (Some(server), Some(backend)) = (view.node(node), settings.backends.get(node)) else {
        let nowhere = Address {
            hostname: String::new(),
            port: 0,
            connect_timeout: None,
            tls: BackendTls::default(),
        };
        let why = format!("node {node} is not configured any more");
        return Err((nowhere, Failure::Local(why)));
    };
    let address = Address {
        hostname: server.hostname.clone(),
        port: server.port,
        connect_timeout: backend.health_check.connect_timeout,
        tls: shared.tls.load().backend(node),
    };
    let login = Login::new(
        &settings.sr_check_user,
        &settings.sr_check_password,
        &settings.sr_check_database,
        &shared.passwd.load(),
    );
    Client::connect(&address, &login, Some(LIMIT))
        .await
        .map_err(|failure| (address, failure))
}

/// `pg_is_in_recovery()`, and for a standby where its WAL comes from, if that is wanted.
pub async fn question(client: &mut Client, detach_false_primary: bool) -> Answer {
    match single(client, "SELECT pg_catalog.pg_is_in_recovery()").await {
        Ok(Some(value)) if value == "f" => Answer::Primary,
        Ok(Some(value)) if value == "t" => Answer::Standby(if detach_false_primary {
            receiver(client).await
        } else {
            Receiver::Unknown
        }),
        Ok(other) => Answer::Refused(format!("pg_is_in_recovery() gave {other:?}")),
        Err(QueryError::Server(e)) => Answer::Refused(e.to_string()),
        Err(QueryError::Lost(e)) => Answer::Unreachable(e),
    }
}

async fn receiver(client: &mut Client) -> Receiver {
    let version = single(
        client,
        "SELECT pg_catalog.current_setting('server_version_num')",
    )
    .await;
    match version.ok().flatten().and_then(|v| v.parse::<u32>().ok()) {
        Some(90_600..) => {}
        _ => return Receiver::Unknown,
    }
    let rows = client
        .query(
            "SELECT status, conninfo FROM pg_catalog.pg_stat_wal_receiver",
            LIMIT,
        )
        .await
        .unwrap_or_default();
    match rows.first().map(Vec::as_slice) {
        Some([Some(status), Some(conninfo)]) if status == "streaming" => {
            let (host, port) = conninfo_host_port(conninfo);
            Receiver::Streaming { host, port }
        }
        _ => Receiver::None,
    }
}

/// The only value of the only row.
///
/// # Errors
///
/// As [`Client::query`].
pub async fn single(client: &mut Client, sql: &str) -> Result<Option<String>, QueryError> {
    let rows = client.query(sql, LIMIT).await?;
    Ok(rows
        .into_iter()
        .next()
        .and_then(|row| row.into_iter().next().flatten()))
}
