//! What the core wants of servers: the connection to the source, and attempts to reach the target.

use std::{collections::BTreeSet, time::Duration};

use super::{
    call::Place,
    core::{Answer, Installed, REMOTE_START},
};
use crate::{
    cluster::NodeId,
    config::Release,
    control::{
        Shared,
        backend_client::{Address, Client, Login, QueryError},
    },
    failover::ask::{LIMIT, single},
};

/// A script may copy terabytes.
const NO_LIMIT: Duration = Duration::MAX;

/// As whom the recovery logs in. Taken at its request, so that a reload does not change it midway.
#[derive(Clone)]
pub struct Access {
    source: Login,
    user: String,
    password: String,
}

impl Access {
    pub fn of(shared: &Shared) -> Access {
        let config = shared.config.load();
        let settings = &config.settings;
        let (user, password) = (&settings.recovery_user, &settings.recovery_password);
        // A parameter since 4.7; before that always this one.
        let database = if config.dialect < Release::V4_7 {
            "template1"
        } else {
            &settings.recovery_database
        };
        Access {
            source: Login::new(user, password, database, &shared.passwd.load()),
            user: user.clone(),
            password: password.clone(),
        }
    }
}

/// A connection to the source, and what was found there.
///
/// # Errors
///
/// Why there is no connection.
pub async fn connect(
    shared: &Shared,
    access: &Access,
    source: &Place,
    scripts: &[String],
) -> Result<(Client, Installed), String> {
    let address = address(shared, source.node, source);
    let connected = Client::connect(&address, &access.source, Some(LIMIT)).await;
    let mut client = connected.map_err(|failure| failure.to_string())?;
    let installed = look(&mut client, scripts)
        .await
        .map_err(|error| error.to_string())?;
    Ok((client, installed))
}

/// Runs statements until one fails.
///
/// # Errors
///
/// What the server said, or that the connection is lost.
pub async fn run(client: &mut Client, statements: &[String]) -> Result<Answer, String> {
    for sql in statements {
        client
            .query(sql, NO_LIMIT)
            .await
            .map_err(|error| error.to_string())?;
    }
    Ok(Answer::Done)
}

/// One attempt to log in at the recovered server.
///
/// # Errors
///
/// Why it has failed.
pub async fn reach(
    shared: &Shared,
    access: &Access,
    target: &Place,
    database: &str,
) -> Result<Answer, String> {
    let login = Login::new(
        &access.user,
        &access.password,
        database,
        &shared.passwd.load(),
    );
    let address = address(shared, target.node, target);
    let mut client = Client::connect(&address, &login, Some(LIMIT))
        .await
        .map_err(|failure| failure.to_string())?;
    let said = single(&mut client, "SELECT pg_catalog.pg_is_in_recovery()").await;
    client.close().await;
    let standby = match said {
        Ok(Some(word)) if word == "t" => Some(true),
        Ok(Some(word)) if word == "f" => Some(false),
        // It let us in, which is all that is asked.
        Ok(_) | Err(QueryError::Server(_)) => None,
        Err(QueryError::Lost(why)) => return Err(why),
    };
    Ok(Answer::Reached { standby })
}

fn address(shared: &Shared, node: NodeId, place: &Place) -> Address {
    let config = shared.config.load();
    let backend = config.settings.backends.get(node);
    Address {
        hostname: place.hostname.clone(),
        port: place.port,
        connect_timeout: backend.and_then(|b| b.health_check.connect_timeout),
        tls: shared.tls.load().backend(node),
    }
}

/// Functions and scripts. What cannot be found out is taken to be there: the call will tell.
async fn look(client: &mut Client, scripts: &[String]) -> Result<Installed, QueryError> {
    let mut installed = Installed::default();
    let functions = format!(
        "SELECT proname, pronargs FROM pg_catalog.pg_proc \
         WHERE proname IN ('pgpool_recovery', '{REMOTE_START}') \
         AND pg_catalog.pg_function_is_visible(oid)"
    );
    let mut forms = BTreeSet::new();
    for row in client.query(&functions, LIMIT).await? {
        let [Some(name), Some(count)] = row.as_slice() else {
            continue;
        };
        if name == REMOTE_START {
            installed.remote_start = true;
        } else {
            forms.extend(count.parse::<usize>());
        }
    }
    installed.recovery = forms.into_iter().collect();
    let directory = single(client, "SHOW data_directory").await;
    match directory {
        Ok(directory) => installed.data_directory = directory.unwrap_or_default(),
        // Not a superuser, for example; the functions say so themselves.
        Err(QueryError::Server(_)) => return Ok(installed),
        Err(lost) => return Err(lost),
    }
    for script in scripts {
        // The path that the extension makes of it. The function is of 9.5 and newer.
        let path = format!("{}/{script}", installed.data_directory);
        let sql = "SELECT (pg_catalog.pg_stat_file($1, true)).size";
        match client.query_with(sql, &[&path], LIMIT).await {
            Ok(rows) => {
                if let Some([None]) = rows.first().map(Vec::as_slice) {
                    installed.missing.push(script.clone());
                }
            }
            Err(QueryError::Server(_)) => {}
            Err(lost) => return Err(lost),
        }
    }
    Ok(installed)
}
