//! What the nodes say of themselves while `SHOW pool_nodes` or `pcp_node_info` runs.
//!
//! `pg_status` asks as PQping does: any answer of the server is `up`, wrong credentials included; no
//! answer, or one that it accepts nobody now, is `down`. `pg_role` needs a session. All nodes are
//! asked at the same time, so that one dead node costs one time-out and not one for each.

use std::{future::Future, time::Duration};

use tokio::{task::JoinSet, time};
use tokio_postgres::{NoTls, error::SqlState};

use super::{NodeProbe, words};
use crate::{
    auth::passwd::{PoolPasswd, Secret},
    cluster::{ClusterView, Node, NodeId},
    config::{
        Config,
        settings::{ClusteringMode, HealthCheckSettings},
    },
};

/// Where `connect_timeout` sets no limit: somebody waits for the answer.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// One entry per node of `view`.
pub async fn all(config: &Config, view: &ClusterView, passwd: &PoolPasswd) -> Vec<NodeProbe> {
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
        if let Some(probe) = of_node(config, view, node, passwd) {
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
) -> Option<impl Future<Output = (&'static str, Option<&'static str>)> + Send + use<>> {
    let health = &backend(config, node.id)?;
    health.period?;
    let limit = health
        .connect_timeout
        .unwrap_or(LONGEST_WAIT)
        .min(LONGEST_WAIT);
    let database = match health.database.as_str() {
        "" => "postgres",
        database => database,
    };
    let ping = connection(node, &health.user, &health.password, database, passwd);
    let settings = &config.settings;
    let ask_role =
        view.mode == ClusteringMode::StreamingReplication && settings.sr_check_period.is_some();
    let role = ask_role.then(|| {
        connection(
            node,
            &settings.sr_check_user,
            &settings.sr_check_password,
            &settings.sr_check_database,
            passwd,
        )
    });
    Some(async move {
        if !answers(&ping, limit).await {
            return ("down", None);
        }
        match role {
            Some(connection) => ("up", in_recovery(&connection, limit).await),
            None => ("up", None),
        }
    })
}

fn backend(config: &Config, node: NodeId) -> Option<&HealthCheckSettings> {
    let backend = config.settings.backends.get(node)?;
    backend.used.then_some(&backend.health_check)
}

fn connection(
    node: &Node,
    user: &str,
    password: &str,
    database: &str,
    passwd: &PoolPasswd,
) -> tokio_postgres::Config {
    let mut connection = tokio_postgres::Config::new();
    connection
        .host(host(&node.hostname))
        .port(node.port)
        .user(user)
        .dbname(database)
        .application_name("pgpool");
    if let Some(password) = clear_text(user, password, passwd) {
        connection.password(password);
    }
    connection
}

/// Empty stands for the socket directory of the system's PostgreSQL.
fn host(configured: &str) -> &str {
    match configured {
        "" if std::path::Path::new("/var/run/postgresql").is_dir() => "/var/run/postgresql",
        "" => "/tmp",
        host => host,
    }
}

/// The setting, else the user's entry of pool_passwd; `None` where only a hash is known.
fn clear_text(user: &str, setting: &str, passwd: &PoolPasswd) -> Option<String> {
    match setting {
        "" => match passwd.get(user)? {
            Secret::Clear(password) => Some(password),
            _ => None,
        },
        setting if setting.starts_with("AES") || is_md5(setting) => None,
        setting => Some(setting.strip_prefix("TEXT").unwrap_or(setting).to_owned()),
    }
}

fn is_md5(setting: &str) -> bool {
    setting
        .strip_prefix("md5")
        .is_some_and(|hash| hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

async fn answers(connection: &tokio_postgres::Config, limit: Duration) -> bool {
    match time::timeout(limit, connection.connect(NoTls)).await {
        Err(_) => false,
        // Dropping both ends closes the connection.
        Ok(Ok(_)) => true,
        Ok(Err(error)) => match error.code() {
            Some(code) => *code != SqlState::CANNOT_CONNECT_NOW,
            None => !never_answered(&error),
        },
    }
}

/// The socket failed or was closed; all other errors come from what the server said.
fn never_answered(error: &tokio_postgres::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    error.is_closed()
}

async fn in_recovery(connection: &tokio_postgres::Config, limit: Duration) -> Option<&'static str> {
    let ask = async {
        let (client, socket) = connection.connect(NoTls).await?;
        let question = client.query_one("SELECT pg_catalog.pg_is_in_recovery()", &[]);
        tokio::select! {
            answer = question => answer?.try_get::<_, bool>(0).map(Some),
            ended = socket => ended.map(|()| None),
        }
    };
    match time::timeout(limit, ask).await {
        Ok(Ok(Some(true))) => Some("standby"),
        Ok(Ok(Some(false))) => Some("primary"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn to_port(port: u16) -> tokio_postgres::Config {
        let mut connection = tokio_postgres::Config::new();
        connection.host("127.0.0.1").port(port).user("nobody");
        connection
    }

    /// A server that answers each start-up packet with `answer` and closes.
    async fn server(answer: &'static [u8]) -> u16 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

    const LIMIT: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn a_server_that_refuses_the_password_is_up() {
        let port = server(b"E\0\0\0\x1aSFATAL\0C28P01\0Mwrong\0\0").await;
        assert!(answers(&to_port(port), LIMIT).await);
        // It wants a password and we have none.
        let port = server(b"R\0\0\0\x08\0\0\0\x03").await;
        assert!(answers(&to_port(port), LIMIT).await);
    }

    #[tokio::test]
    async fn a_server_that_is_starting_up_silent_or_absent_is_down() {
        let port = server(b"E\0\0\0\x1aSFATAL\0C57P03\0Mwrong\0\0").await;
        assert!(!answers(&to_port(port), LIMIT).await);
        let port = server(b"").await;
        assert!(!answers(&to_port(port), LIMIT).await);
        let nobody = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = nobody.local_addr().unwrap().port();
        drop(nobody);
        assert!(!answers(&to_port(port), LIMIT).await);
    }

    #[test]
    fn the_password_is_the_setting_or_nothing_that_can_be_sent() {
        let passwd = PoolPasswd::default();
        let of = |setting| clear_text("u", setting, &passwd);
        assert_eq!(of("secret").as_deref(), Some("secret"));
        assert_eq!(of("TEXTsecret").as_deref(), Some("secret"));
        assert_eq!(of("AESxyz"), None);
        assert_eq!(of("md50123456789abcdef0123456789abcdef"), None);
        assert_eq!(of(""), None);
    }
}
