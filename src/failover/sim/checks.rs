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
        if let Some(rest) = line.strip_prefix("switching over from node ") {
            let (from, to) = rest.split_once(" to node ").expect("two nodes");
            let (from, to): (NodeId, NodeId) =
                (from.parse().expect("a node"), to.parse().expect("a node"));
            assert_eq!(self.published.primary, Some(from));
            self.begins(&Request::Switchover { node: to });
            self.wish = Some(to);
            self.wanted[from] = None;
        }
        if line.starts_with("starting follow degeneration") {
            self.wanted[node().expect("a node")] = None;
        }
        let begun = [
            ("starting degeneration", What::Down),
            ("starting fail back", What::Up),
            ("starting promotion", What::Promote),
        ];
        if let Some((_, what)) = begun.iter().find(|(text, _)| line.starts_with(text)) {
            assert!(self.ongoing.is_none(), "one operation at a time");
            let node = node().expect("a node");
            if *what == What::Promote {
                self.begins(&Request::Promote { node });
            }
            let mut before = self.published.clone();
            if self.was_to_go.take() == Some(node) && *what == What::Down {
                before.primary = Some(node);
            }
            self.ongoing = Some(Ongoing {
                node,
                what: *what,
                wish: self.wish.take(),
                hook_calls: 0,
                written: false,
                before,
            });
        }
        if line.starts_with("the promotion of node") {
            let ongoing = self.ongoing.take().expect("an operation");
            assert_eq!(ongoing.what, What::Promote);
            let version = self.published.version;
            assert_eq!(version, ongoing.before.version, "nothing was changed");
        }
        if ["failover done", "failback done", "promotion done"]
            .iter()
            .any(|text| line.starts_with(text))
        {
            let ongoing = self.ongoing.take().expect("an operation");
            assert_eq!(Some(ongoing.node), node(), "the same node begins and ends");
            let wanted = match ongoing.what {
                What::Up => u32::from(!self.settings.failback_command.is_empty()),
                What::Down => 1,
                What::Promote => 0,
            };
            assert_eq!(ongoing.hook_calls, wanted, "hook calls for {line}");
            self.expect_following(&ongoing);
        }
        self.heard_of_following(line);
        if let Some(main) = line.strip_prefix("failover: set new main node: ") {
            self.main = main.parse().ok();
        }
    }

    /// Each was asked for, and begins once.
    fn begins(&mut self, request: &Request) {
        let place = self.promotions.iter().position(|r| r == request);
        self.promotions
            .remove(place.expect("nobody has asked for it"));
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
        self.check_following();
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

/// What a hook is to be told.
pub(super) struct Arguments {
    pub name: &'static str,
    pub node: NodeId,
    pub new_main: Option<NodeId>,
    pub old_main: Option<NodeId>,
    pub old_primary: Option<NodeId>,
}

/// The oracle's own opinion on the arguments, from the views alone.
pub(super) fn arguments(
    ongoing: &Ongoing,
    now: &ClusterView,
    old_main: Option<NodeId>,
) -> Arguments {
    let lowest = now.nodes.iter().find(|n| n.is_valid()).map(|n| n.id);
    let (name, old_primary) = match ongoing.what {
        What::Up => ("failback", ongoing.before.primary.or(old_main)),
        What::Down | What::Promote => ("failover", ongoing.before.primary),
    };
    Arguments {
        name,
        node: ongoing.node,
        new_main: ongoing.wish.or(lowest),
        old_main,
        old_primary,
    }
}

pub(super) fn expected_line(arguments: &Arguments) -> String {
    let number = |id: Option<NodeId>| id.map_or("-1".to_owned(), |id| id.to_string());
    let host = |id: Option<NodeId>| id.map_or("\"\"".to_owned(), |id| format!("host{id}"));
    let port = |id: Option<NodeId>| id.map_or("\"\"".to_owned(), |id| (11002 + id).to_string());
    let data = |id: Option<NodeId>| id.map_or("\"\"".to_owned(), |id| format!("/data{id}"));
    let (id, main) = (Some(arguments.node), arguments.new_main);
    [
        arguments.name.to_owned(),
        number(id),
        host(id),
        port(id),
        data(id),
        number(main),
        host(main),
        number(arguments.old_main),
        number(arguments.old_primary),
        port(main),
        data(main),
        host(arguments.old_primary),
        port(arguments.old_primary),
    ]
    .join(" ")
}
