//! Calls of the SQL functions of the extension `pgpool_recovery`, as text.
//!
//! Which arguments a script gets depends on the release (`exec_recovery()` and
//! `exec_remote_start()` in `src/pcp_con/recovery.c`); the extension tells the forms apart by their
//! number.

use crate::{
    cluster::{Node, NodeId},
    config::Release,
};

/// A server as scripts are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub node: NodeId,
    pub hostname: String,
    pub port: u16,
    pub data_directory: String,
}

impl Place {
    pub fn of(node: &Node) -> Place {
        Place {
            node: node.id,
            hostname: node.hostname.clone(),
            port: node.port,
            data_directory: node.data_directory.clone(),
        }
    }

    /// For a script, which may run elsewhere: a socket directory means nothing there.
    fn host(&self) -> &str {
        if self.hostname.is_empty() || self.hostname.starts_with('/') {
            "localhost"
        } else {
            &self.hostname
        }
    }
}

/// Number of arguments of `pgpool_recovery` that a release calls it with.
pub fn argument_count(release: Release) -> usize {
    if release < Release::V4_0 {
        4
    } else if release < Release::V4_1 {
        5
    } else if release < Release::V4_3 {
        6
    } else {
        7
    }
}

/// The form to call when a server has those of `available` argument counts: the wanted one, else
/// the nearest with fewer (what an older extension has), else the nearest with more.
pub fn choose(wanted: usize, available: &[usize]) -> Option<usize> {
    let usable = || available.iter().copied().filter(|n| (3..=7).contains(n));
    usable()
        .filter(|&n| n <= wanted)
        .max()
        .or_else(|| usable().min())
}

/// `SELECT pgpool_recovery(...)` with `count` arguments.
pub fn recovery(script: &str, target: &Place, source: &Place, count: usize) -> String {
    let arguments = [
        literal(script),
        literal(target.host()),
        literal(&target.data_directory),
        literal(&source.port.to_string()),
        target.node.to_string(),
        literal(&target.port.to_string()),
        literal(source.host()),
    ];
    let arguments: Vec<String> = arguments.into_iter().take(count).collect();
    format!("SELECT pgpool_recovery({})", arguments.join(", "))
}

/// `SELECT pgpool_remote_start(...)`.
pub fn remote_start(target: &Place) -> String {
    format!(
        "SELECT pgpool_remote_start({}, {})",
        literal(target.host()),
        literal(&target.data_directory)
    )
}

/// A string constant, whatever `standard_conforming_strings` says. The original pastes the bare
/// text between quotes.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(node: NodeId, hostname: &str) -> Place {
        Place {
            node,
            hostname: hostname.to_owned(),
            port: 14002 + u16::try_from(node).expect("few nodes"),
            data_directory: format!("/data{node}"),
        }
    }

    fn call(release: Release) -> String {
        let count = argument_count(release);
        recovery("base.sh", &place(2, "c"), &place(0, "a"), count)
    }

    #[test]
    fn each_release_has_its_argument_list() {
        let lists = [
            (Release::V3_7, "'base.sh', 'c', '/data2', '14002'"),
            (Release::V4_0, "'base.sh', 'c', '/data2', '14002', 2"),
            (
                Release::V4_1,
                "'base.sh', 'c', '/data2', '14002', 2, '14004'",
            ),
            (
                Release::V4_2,
                "'base.sh', 'c', '/data2', '14002', 2, '14004'",
            ),
            (
                Release::V4_3,
                "'base.sh', 'c', '/data2', '14002', 2, '14004', 'a'",
            ),
            (
                Release::V4_7,
                "'base.sh', 'c', '/data2', '14002', 2, '14004', 'a'",
            ),
        ];
        for (release, arguments) in lists {
            assert_eq!(
                call(release),
                format!("SELECT pgpool_recovery({arguments})"),
                "{release:?}"
            );
        }
    }

    #[test]
    fn socket_directories_are_localhost_for_the_scripts() {
        let (target, source) = (place(1, ""), place(0, "/var/run/postgresql"));
        assert_eq!(
            recovery("b", &target, &source, 7),
            "SELECT pgpool_recovery('b', 'localhost', '/data1', '14002', 1, '14003', 'localhost')"
        );
        assert_eq!(
            remote_start(&source),
            "SELECT pgpool_remote_start('localhost', '/data0')"
        );
    }

    #[test]
    fn quotes_and_backslashes_stay_within_their_argument() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"\'); DROP"), r"E'\\''); DROP'");
    }

    #[test]
    fn an_extension_of_another_release_is_called_as_it_can_be() {
        let all = [3, 4, 5, 6, 7];
        assert_eq!(choose(5, &all), Some(5));
        assert_eq!(choose(7, &[3, 4, 5]), Some(5));
        assert_eq!(choose(4, &[6, 7]), Some(6));
        assert_eq!(choose(7, &[]), None);
        assert_eq!(choose(7, &[2, 9]), None);
    }
}
