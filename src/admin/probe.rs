//! What the nodes say of themselves while `SHOW pool_nodes` or `pcp_node_info` runs.
//!
//! `pg_status` asks as PQping does: any answer of the server is `up`, wrong credentials included; no
//! answer, or one that it accepts nobody now, is `down`. `pg_role` needs a session. All nodes are
//! asked at the same time, so that one dead node costs one time-out and not one for each.

use std::{future::Future, time::Duration};

use tokio::task::JoinSet;

use super::{NodeProbe, words};
use crate::{
    auth::passwd::PoolPasswd,
    cluster::{ClusterView, Node, NodeId},
    config::{
        Config,
        settings::{ClusteringMode, HealthCheckSettings},
    },
    control::backend_client::{Address, Client, Failure, Login},
    tls::Tls,
};

/// Where `connect_timeout` sets no limit: somebody waits for the answer.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// One entry per node of `view`.
pub async fn all(
    config: &Config,
    view: &ClusterView,
    passwd: &PoolPasswd,
    tls: &Tls,
) -> Vec<NodeProbe> {
    let mut probes: Vec<NodeProbe> = view
        .nodes
        .iter()
        .map(|node| NodeProbe {
            pg_status: "unknown",
            pg_role: match view.mode {
                ClusteringMode::StreamingReplication => "unknown",
                // No question of PostgreSQL's: the role is what we make of the node.
                _ => words::role_word(view, node.id, config.dialect),
            },
        })
        .collect();
    let mut running = JoinSet::new();
    for node in &view.nodes {
        if let Some(probe) = of_node(config, view, node, passwd, tls) {
            let id = node.id;
            running.spawn(async move { (id, probe.await) });
        }
    }
    while let Some(finished) = running.join_next().await {
        if let Ok((id, (pg_status, pg_role))) = finished
            && let Some(probe) = probes.get_mut(id)
        {
            probe.pg_status = pg_status;
            if let Some(pg_role) = pg_role {
                probe.pg_role = pg_role;
            }
        }
    }
    probes
}

/// The words for one node; `None`: it is not asked, because health checks are off for it.
fn of_node(
    config: &Config,
    view: &ClusterView,
    node: &Node,
    passwd: &PoolPasswd,
    tls: &Tls,
) -> Option<impl Future<Output = (&'static str, Option<&'static str>)> + Send + use<>> {
    let health = &backend(config, node.id)?;
    health.period?;
    let limit = health
        .connect_timeout
        .unwrap_or(LONGEST_WAIT)
        .min(LONGEST_WAIT);
    let address = Address {
        hostname: node.hostname.clone(),
        port: node.port,
        connect_timeout: Some(limit),
        tls: tls.backend(node.id),
    };
    let ping = Login::new(&health.user, &health.password, &health.database, passwd);
    let settings = &config.settings;
    let ask_role =
        view.mode == ClusteringMode::StreamingReplication && settings.sr_check_period.is_some();
    let role = ask_role.then(|| {
        Login::new(
            &settings.sr_check_user,
            &settings.sr_check_password,
            &settings.sr_check_database,
            passwd,
        )
    });
    Some(async move {
        let pg_status = status(&address, &ping, limit).await;
        match role {
            Some(login) if pg_status == "up" => {
                (pg_status, in_recovery(&address, &login, limit).await)
            }
            _ => (pg_status, None),
        }
    })
}

fn backend(config: &Config, node: NodeId) -> Option<&HealthCheckSettings> {
    let backend = config.settings.backends.get(node)?;
    backend.used.then_some(&backend.health_check)
}

async fn status(address: &Address, login: &Login, limit: Duration) -> &'static str {
    match Client::connect(address, login, Some(limit)).await {
        Ok(client) => {
            client.close().await;
            "up"
        }
        Err(Failure::Rejected(_) | Failure::Login(_)) => "up",
        Err(
            Failure::Refused(_)
            | Failure::Unreachable(_)
            | Failure::TimedOut(_)
            | Failure::NotAccepting(_),
        ) => "down",
        Err(Failure::Local(_)) => "unknown",
    }
}

async fn in_recovery(address: &Address, login: &Login, limit: Duration) -> Option<&'static str> {
    let mut client = Client::connect(address, login, Some(limit)).await.ok()?;
    let rows = client
        .query("SELECT pg_catalog.pg_is_in_recovery()", limit)
        .await;
    client.close().await;
    match rows.ok()?.first()?.first()?.as_deref()? {
        "t" => Some("standby"),
        "f" => Some("primary"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time,
    };

    use super::*;

    const LIMIT: Duration = Duration::from_millis(300);

    /// A server that answers each start-up packet with `answer` and closes, or keeps silent.
    async fn server(answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let _ = socket.read(&mut [0; 1024]).await;
                let _ = socket.write_all(answer).await;
                if answer.is_empty() {
                    time::sleep(Duration::from_secs(60)).await;
                }
            }
        });
        port
    }

    async fn status_at(port: u16) -> &'static str {
        let address = Address {
            hostname: "127.0.0.1".to_owned(),
            port,
            connect_timeout: Some(LIMIT),
            tls: crate::tls::BackendTls::default(),
        };
        let login = Login::new("nobody", "", "", &PoolPasswd::default());
        status(&address, &login, LIMIT).await
    }

    #[tokio::test]
    async fn a_server_that_refuses_the_login_is_up() {
        assert_eq!(
            status_at(server(b"E\0\0\0\x1aSFATAL\0C28P01\0Mwrong\0\0").await).await,
            "up"
        );
        // It wants a password and we have none.
        assert_eq!(
            status_at(server(b"R\0\0\0\x08\0\0\0\x03").await).await,
            "up"
        );
    }

    #[tokio::test]
    async fn a_server_that_is_starting_up_silent_or_absent_is_down() {
        assert_eq!(
            status_at(server(b"E\0\0\0\x1aSFATAL\0C57P03\0Mwrong\0\0").await).await,
            "down"
        );
        assert_eq!(status_at(server(b"").await).await, "down");
        let nobody = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = nobody.local_addr().unwrap().port();
        drop(nobody);
        assert_eq!(status_at(port).await, "down");
    }
}
