//! Pool status, watchdog info, stop, reload, log rotation, query cache.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time;

use super::{Environment, Outcome};
use crate::{
    config::Release,
    control::{Command, StopMode},
    observe::Reporter,
    pcp::{
        codec,
        request::{Number, Scope},
    },
    watchdog::{
        codec::{
            function::ClusterCommand,
            ipc_answer::{ListedNode, NodeList},
        },
        shell::Order,
    },
};

/// A reload that waits longer behind other work of the supervisor is answered as queued.
const RELOAD_PATIENCE: Duration = Duration::from_secs(10);

pub async fn pool_status(env: &Environment) -> Outcome {
    let rows = env.inputs().await.pool_status_rows();
    Outcome::made(|out| {
        codec::put_binary_array_size(out, b'b', rows.len());
        for [name, value, description] in &rows {
            codec::put_texts(out, b'b', &["ProcessConfig", name, value, description]);
        }
        codec::put_command_complete(out, b'b');
    })
}

/// `number`: -1 all nodes; else one, by its node id, or with a file of 4.0 and 4.1 0 this one, k the k-th other.
pub fn watchdog_info(env: &Environment, number: &Number) -> Outcome {
    let Some(watchdog) = env.shared.watchdog.get() else {
        return no_watchdog(env);
    };
    let mut list = NodeList::clone(&watchdog.picture());
    if number.value != -1 {
        keep_only(&mut list, number.value);
    }
    match list.for_pcp(env.emulates_before(Release::V4_2)) {
        Ok(json) => Outcome::made(|out| codec::put_texts(out, b'w', &["CommandComplete", &json])),
        Err(error) => Outcome::error(
            "PCP: informing watchdog info failed",
            format!("no tool could read it: {error}"),
        ),
    }
}

fn keep_only(list: &mut NodeList, id: i32) {
    list.nodes.retain(|node| node.id == id);
    if list.nodes.is_empty() {
        list.nodes.push(ListedNode::unknown());
    }
}

fn no_watchdog(env: &Environment) -> Outcome {
    Outcome::error(
        "PCP: informing watchdog info failed",
        // The misspelling is what the tools of these releases' users have always seen.
        if env.emulates_before(Release::V4_3) {
            "watcdhog is not enabled"
        } else {
            "watchdog is not enabled"
        },
    )
}

/// Tells all other watchdog nodes; nothing without a watchdog, when the cluster is this pgpool alone.
fn tell_cluster(env: &Environment, scope: Scope, command: &str, arguments: &[(&str, &str)]) {
    if scope == Scope::Cluster
        && let Some(watchdog) = env.shared.watchdog.get()
    {
        let command = ClusterCommand::new(command, arguments);
        watchdog.send(Order::ClusterCommand(command));
    }
}

fn scope_in_words(env: &Environment, scope: Scope) -> &'static str {
    match scope {
        Scope::Local => "",
        Scope::Cluster if env.shared.watchdog.get().is_some() => " of the cluster",
        Scope::Cluster => " of the cluster (no watchdog: of this pgpool)",
    }
}

pub fn stop(env: &Environment, mode: u8, scope: Scope) -> Outcome {
    let (mode, word, letter) = match mode {
        b's' => (StopMode::Smart, "smart", "s"),
        b'f' => (StopMode::Fast, "fast", "f"),
        b'i' => (StopMode::Immediate, "immediate", "i"),
        other => {
            let shown = match other {
                0 => String::new(),
                other => char::from(other).to_string(),
            };
            return Outcome::error(
                "PCP: error while processing shutdown request",
                format!("invalid shutdown mode \"{shown}\""),
            );
        }
    };
    env.log(&format!("{word} stop{}", scope_in_words(env, scope)));
    tell_cluster(env, scope, "SHUTDOWN_CLUSTER", &[("mode", letter)]);
    let mut reply = BytesMut::new();
    codec::put_command_complete(&mut reply, b't');
    Outcome::Stop { reply, mode }
}

pub async fn reload(env: &Environment, scope: Scope) -> Outcome {
    env.log(&format!(
        "reload of the configuration{}",
        scope_in_words(env, scope)
    ));
    tell_cluster(env, scope, "RELOAD_CONFIG_CLUSTER", &[]);
    match time::timeout(RELOAD_PATIENCE, env.ask(|reply| Command::Reload { reply })).await {
        Ok(result) => Outcome::of(result, b'z'),
        Err(_) => {
            Reporter::new("pcp_child")
                .log("PCP: the reload waits behind other work and is answered as queued");
            Outcome::complete(b'z')
        }
    }
}

pub fn rotate_log(env: &Environment, scope: Scope) -> Outcome {
    const FAILED: &str = "process log rotation request failed";
    if !env.config().settings.logging_collector {
        return Outcome::error(FAILED, "logging_collector is disabled");
    }
    env.log(&format!("log rotation{}", scope_in_words(env, scope)));
    tell_cluster(env, scope, "LOGROTATE_CLUSTER", &[]);
    match &env.context.log_rotation {
        None => Outcome::error(FAILED, "the log collector is not running"),
        Some(rotation) => match rotation.rotate() {
            Ok(()) => Outcome::complete(b'v'),
            Err(why) => Outcome::error(FAILED, why),
        },
    }
}

pub fn invalidate_query_cache() -> Outcome {
    Outcome::error("query cache is not enabled", "")
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use super::*;
    use crate::watchdog::{core::Core, testing};

    #[test]
    fn one_watchdog_node_is_asked_for_by_the_number_that_it_is_listed_with() {
        let hosts = |local_numbers: bool| {
            let mut settings = testing::settings(1, 3);
            settings.local_numbers = local_numbers;
            let core = Core::new(Arc::new(settings), "own".to_owned(), Instant::now());
            [0, 1, 2, 3].map(|id| {
                let mut list = core.node_list(None);
                keep_only(&mut list, id);
                assert_eq!(list.nodes.len(), 1);
                list.nodes.remove(0).host
            })
        };
        let host = |n: u32| Some(format!("10.0.0.{n}"));
        assert_eq!(hosts(false), [host(0), host(1), host(2), None]);
        assert_eq!(hosts(true), [host(1), host(0), host(2), None]);
    }
}
