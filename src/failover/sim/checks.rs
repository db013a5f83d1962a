//! What must hold at every step of a history, and when it has come to rest.

use super::*;

impl World {
    /// The log is the oracle's view of where the core is.
    pub(super) fn heard(&mut self, line: &str) {
        self.note(|| format!("log: {line}"));
        let node = || {
            let host = line.rsplit_once("host ")?.1;
            host.strip_prefix("host")?.split('(').next()?.parse().ok()
        };
        let down = line.starts_with("starting degeneration");
        if let Some(rest) = line.strip_prefix("degenerate backend request for node_id: ")
            && line.contains("is dropped because the server has answered since")
        {
            let node: NodeId = rest
                .split(' ')
                .next()
                .and_then(|n| n.parse().ok())
                .expect("a node");
            assert!(
                matches!(
                    self.servers[node].state,
                    ServerState::Running | ServerState::Full
                ) || self.answers.contains_key(&node),
                "it has answered"
            );
            self.wanted[node] = None;
        }
        if down || line.starts_with("starting fail back") {
            assert!(self.ongoing.is_none(), "one operation at a time");
            self.ongoing = Some(Ongoing {
                node: node().expect("a node"),
                up: !down,
                hook_calls: 0,
                before: self.published.clone(),
            });
        }
        if line.starts_with("failover done") || line.starts_with("failback done") {
            let ongoing = self.ongoing.take().expect("an operation");
            assert_eq!(Some(ongoing.node), node(), "the same node begins and ends");
            let wanted = if ongoing.up && self.settings.failback_command.is_empty() {
                0
            } else {
                1
            };
            assert_eq!(ongoing.hook_calls, wanted, "hook calls for {line}");
        }
        if let Some(main) = line.strip_prefix("failover: set new main node: ") {
            self.main = main.parse().ok();
        }
    }

    /// No report without evidence from after the last attach.
    pub(super) fn check_report(&self, node: NodeId) {
        let least = if self.looked[node] {
            1
        } else {
            self.health_settings.max_retries + 1
        };
        assert!(
            self.bad_probes[node] >= least,
            "node {node} is called down after {} bad probes",
            self.bad_probes[node]
        );
    }

    /// What holds whenever the core has nothing to do.
    pub(super) fn check_at_rest(&self) {
        let view = self.core.view();
        assert_eq!(view.version, self.published.version, "all is published");
        if self.core.is_busy() {
            return;
        }
        assert!(self.ongoing.is_none());
        assert!(!view.primary_search_running);
        for node in &view.nodes {
            if let Some(up) = self.wanted[node.id] {
                assert_eq!(
                    node.is_valid(),
                    up,
                    "a request for node {} was lost",
                    node.id
                );
            }
        }
        if let Some(text) = status_file::text(&view.nodes) {
            assert_eq!(self.file.as_ref(), Some(&text), "the file says what is");
        }
    }
}

/// The oracle's own opinion on the arguments, from the views alone.
pub(super) fn expected_line(
    ongoing: &Ongoing,
    now: &ClusterView,
    old_main: Option<NodeId>,
) -> String {
    let id = ongoing.node;
    let number = |id: Option<NodeId>| id.map_or("-1".to_owned(), |id| id.to_string());
    let host = |id: Option<NodeId>| id.map_or("\"\"".to_owned(), |id| format!("host{id}"));
    let port = |id: Option<NodeId>| id.map_or("\"\"".to_owned(), |id| (11002 + id).to_string());
    let data = |id: Option<NodeId>| id.map_or("\"\"".to_owned(), |id| format!("/data{id}"));
    let main = now.nodes.iter().find(|n| n.is_valid()).map(|n| n.id);
    let (name, primary) = if ongoing.up {
        ("failback", ongoing.before.primary.or(old_main))
    } else {
        ("failover", ongoing.before.primary)
    };
    [
        name.to_owned(),
        id.to_string(),
        host(Some(id)),
        port(Some(id)),
        data(Some(id)),
        number(main),
        host(main),
        number(old_main),
        number(primary),
        port(main),
        data(main),
        host(primary),
        port(primary),
    ]
    .join(" ")
}
