//! The command line of a hook: `%` placeholders replaced, nothing quoted.
//!
//! Rules of `trigger_failover_command` in `src/main/pgpool_main.c @ V4_3_5`: a node that does
//! not exist gives `-1` for its number and two double quotes for host, port and directory, so
//! that a shell argument stays in its place; an unknown `%x` and a `%` at the end vanish.

use crate::{
    cluster::{ClusterView, Node, NodeId},
    config::Release,
};

/// The nodes that a hook call speaks of.
///
/// For failover and failback `new_main`/`old_main` are main nodes; for follow_primary they are
/// the new and the old primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nodes {
    /// `%d %h %p %D`
    pub node: NodeId,
    /// `%m %H %r %R`
    pub new_main: Option<NodeId>,
    /// `%M`
    pub old_main: Option<NodeId>,
    /// `%P %N %S`
    pub old_primary: Option<NodeId>,
}

/// The text for the shell. `dialect`: `%N` and `%S` are known from 4.1 on.
pub fn expand(template: &str, nodes: Nodes, view: &ClusterView, dialect: Release) -> String {
    let mut line = String::with_capacity(template.len() + 64);
    let mut chars = template.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            line.push(c);
            continue;
        }
        match chars.next() {
            Some('%') => line.push('%'),
            Some('N' | 'S') if dialect < Release::V4_1 => {}
            Some(letter) => {
                if let Some(value) = value(letter, nodes, view) {
                    line.push_str(&value);
                }
            }
            None => {}
        }
    }
    line
}

/// `None`: not a placeholder.
fn value(letter: char, nodes: Nodes, view: &ClusterView) -> Option<String> {
    let number = |id: Option<NodeId>| id.map_or_else(|| "-1".to_owned(), |id| id.to_string());
    let of = |id: Option<NodeId>, field: fn(&Node) -> String| {
        id.and_then(|id| view.node(id))
            .map_or_else(|| "\"\"".to_owned(), field)
    };
    let host = |n: &Node| n.hostname.clone();
    let port = |n: &Node| n.port.to_string();
    let directory = |n: &Node| n.data_directory.clone();
    Some(match letter {
        'd' => nodes.node.to_string(),
        'h' => of(Some(nodes.node), host),
        'p' => of(Some(nodes.node), port),
        'D' => of(Some(nodes.node), directory),
        'm' => number(nodes.new_main),
        'H' => of(nodes.new_main, host),
        'r' => of(nodes.new_main, port),
        'R' => of(nodes.new_main, directory),
        'M' => number(nodes.old_main),
        'P' => number(nodes.old_primary),
        'N' => of(nodes.old_primary, host),
        'S' => of(nodes.old_primary, port),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::testing::view;

    const ALL: &str = "d=%d h=%h p=%p D=%D m=%m H=%H r=%r R=%R M=%M P=%P N=%N S=%S";

    fn nodes(node: NodeId, main: Option<NodeId>, old: Option<NodeId>, p: Option<NodeId>) -> Nodes {
        Nodes {
            node,
            new_main: main,
            old_main: old,
            old_primary: p,
        }
    }

    fn expanded(template: &str, nodes: Nodes) -> String {
        expand(template, nodes, &view(3), Release::V4_3)
    }

    #[test]
    fn all_twelve_placeholders_are_replaced() {
        assert_eq!(
            expanded(ALL, nodes(0, Some(1), Some(0), Some(0))),
            "d=0 h=host0 p=11002 D=/data0 m=1 H=host1 r=11003 R=/data1 M=0 P=0 N=host0 S=11002"
        );
    }

    #[test]
    fn a_node_that_does_not_exist_is_minus_one_and_two_quotes() {
        assert_eq!(
            expanded(ALL, nodes(2, None, Some(2), Some(2))),
            "d=2 h=host2 p=11004 D=/data2 m=-1 H=\"\" r=\"\" R=\"\" M=2 P=2 N=host2 S=11004"
        );
        assert_eq!(
            expanded(ALL, nodes(2, Some(0), Some(0), None)),
            "d=2 h=host2 p=11004 D=/data2 m=0 H=host0 r=11002 R=/data0 M=0 P=-1 N=\"\" S=\"\""
        );
    }

    #[test]
    fn an_existing_but_empty_value_is_replaced_by_nothing() {
        let mut view = view(3);
        view.nodes[1].data_directory.clear();
        assert_eq!(
            expand(
                "x %R y",
                nodes(0, Some(1), Some(0), Some(0)),
                &view,
                Release::V4_3
            ),
            "x  y"
        );
    }

    #[test]
    fn unknown_letters_and_a_percent_sign_at_the_end_vanish() {
        let n = nodes(0, Some(1), Some(0), Some(0));
        assert_eq!(expanded("unk=%x 100%% %d%", n), "unk= 100% 0");
        assert_eq!(expanded("%", n), "");
        assert_eq!(expanded("%ä%%", n), "%");
        assert_eq!(expanded("", n), "");
    }

    #[test]
    fn values_are_not_quoted_and_not_expanded_again() {
        let mut view = view(3);
        view.nodes[0].data_directory = "/my data/%d $HOME".into();
        assert_eq!(
            expand("cmd '%D'", nodes(0, None, None, None), &view, Release::V4_3),
            "cmd '/my data/%d $HOME'"
        );
    }

    #[test]
    fn before_4_1_host_and_port_of_the_old_primary_vanish() {
        let n = nodes(0, Some(1), Some(0), Some(0));
        assert_eq!(expand("[%N%S%P]", n, &view(3), Release::V4_0), "[0]");
        assert_eq!(
            expand("[%N:%S]", n, &view(3), Release::V4_1),
            "[host0:11002]"
        );
    }

    /// Every row of reference/hooks.md 1.2 as the values arrive here; that the core fills
    /// them in so is tested in `super::core`.
    #[test]
    fn rows_recorded_on_the_original() {
        let short = "%d %m %H/%r/%R %M %P %N/%S";
        for (row, want) in [
            (
                nodes(2, Some(0), Some(0), Some(0)),
                "2 0 host0/11002//data0 0 0 host0/11002",
            ),
            (
                nodes(1, Some(0), Some(0), Some(0)),
                "1 0 host0/11002//data0 0 0 host0/11002",
            ),
            (
                nodes(0, Some(1), Some(0), Some(0)),
                "0 1 host1/11003//data1 0 0 host0/11002",
            ),
            (
                nodes(2, Some(1), Some(1), Some(1)),
                "2 1 host1/11003//data1 1 1 host1/11003",
            ),
            (
                nodes(0, Some(1), Some(0), Some(2)),
                "0 1 host1/11003//data1 0 2 host2/11004",
            ),
            (
                nodes(1, Some(2), Some(1), Some(2)),
                "1 2 host2/11004//data2 1 2 host2/11004",
            ),
            (
                nodes(0, Some(0), Some(1), Some(1)),
                "0 0 host0/11002//data0 1 1 host1/11003",
            ),
            (
                nodes(2, None, Some(2), Some(2)),
                "2 -1 \"\"/\"\"/\"\" 2 2 host2/11004",
            ),
            (
                nodes(2, Some(0), Some(0), None),
                "2 0 host0/11002//data0 0 -1 \"\"/\"\"",
            ),
            // follow_primary with no old primary, and after pcp_promote_node
            (
                nodes(1, Some(0), None, None),
                "1 0 host0/11002//data0 -1 -1 \"\"/\"\"",
            ),
            (
                nodes(0, Some(2), Some(1), Some(1)),
                "0 2 host2/11004//data2 1 1 host1/11003",
            ),
        ] {
            assert_eq!(expanded(short, row), want);
        }
    }
}
