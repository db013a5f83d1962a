//! A start that fails before the watchdog runs, on a host where a killed process has left the virtual IP. The
//! loopback address stands for that: no command of these tests removes it, so that each attempt is seen.

mod common;

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::PathBuf};

use common::{Outcome, Scratch, free_port, ours};

struct Node {
    scratch: Scratch,
    wd_port: u16,
    /// What `if_down_cmd` has been told, a line each time.
    removed: PathBuf,
}

fn node() -> Node {
    let scratch = Scratch::new("");
    let wd_port = free_port();
    let (dir, port) = (scratch.dir().display().to_string(), scratch.port);
    for line in [
        "use_watchdog = on",
        "hostname0 = '127.0.0.1'",
        &format!("wd_port0 = {wd_port}"),
        &format!("pgpool_port0 = {port}"),
        "hostname1 = '127.0.0.2'",
        &format!("wd_port1 = {wd_port}"),
        &format!("pgpool_port1 = {port}"),
        "wd_lifecheck_method = 'external'",
        &format!("wd_ipc_socket_dir = '{dir}'"),
        "delegate_IP = '127.0.0.1'",
        &format!("if_up_cmd = '{dir}/up'"),
        &format!("if_down_cmd = '{dir}/down $_IP_$'"),
        &format!("arping_cmd = '{dir}/up'"),
    ] {
        scratch.append(line);
    }
    fs::write(scratch.path("pgpool_node_id"), "0\n").unwrap();
    let removed = scratch.path("removed");
    for (name, text) in [
        ("up", "exit 0".to_owned()),
        ("down", format!("echo \"$1\" >> {}", removed.display())),
    ] {
        let path = scratch.path(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    Node {
        scratch,
        wd_port,
        removed,
    }
}

impl Node {
    fn start(&self) -> Outcome {
        self.scratch.run(ours(), &["-n"])
    }

    fn removals(&self) -> usize {
        let told = fs::read_to_string(&self.removed).unwrap_or_default();
        told.lines().filter(|line| *line == "127.0.0.1").count()
    }
}

const LEFT: &str = "the virtual IP 127.0.0.1 is on this host, left by a process that was killed, and pgpool could not start: giving it up";

#[test]
fn with_a_mistake_in_the_configuration_the_address_is_given_up() {
    let node = node();
    node.scratch.append("num_init_children = many");
    let got = node.start();
    assert_eq!((got.status, node.removals()), (3, 3), "{}", got.stderr);
    assert!(got.stderr.contains(LEFT), "{}", got.stderr);
    assert!(
        got.stderr
            .contains("the virtual IP 127.0.0.1 is still on this host after if_down_cmd"),
        "{}",
        got.stderr
    );
}

#[test]
fn with_the_port_of_the_clients_taken_by_another_program_the_address_is_given_up() {
    let node = node();
    let _taken = TcpListener::bind(("127.0.0.1", node.scratch.port)).unwrap();
    // As a process leaves it that was killed.
    fs::write(node.scratch.path("pgpool.pid"), "4194304\0").unwrap();
    let got = node.start();
    assert_eq!((got.status, node.removals()), (3, 3), "{}", got.stderr);
}

#[test]
fn the_address_of_a_pgpool_that_runs_stays() {
    let node = node();
    let pid = format!("{}\0", std::process::id());
    fs::write(node.scratch.path("pgpool.pid"), pid).unwrap();
    let got = node.start();
    assert_eq!((got.status, node.removals()), (1, 0), "{}", got.stderr);
    // A mistake that came into the file since is no reason either.
    node.scratch.append("num_init_children = many");
    let got = node.start();
    assert_eq!((got.status, node.removals()), (3, 0), "{}", got.stderr);
}

#[test]
fn without_a_pid_file_the_sockets_of_the_watchdog_tell_that_a_pgpool_runs() {
    let node = node();
    let _pgpool = TcpListener::bind(("0.0.0.0", node.wd_port)).unwrap();
    let got = node.start();
    assert_eq!((got.status, node.removals()), (3, 0), "{}", got.stderr);
    assert!(
        got.stderr
            .contains("failed to create watchdog receive socket"),
        "{}",
        got.stderr
    );
    node.scratch.append("num_init_children = many");
    let got = node.start();
    assert_eq!((got.status, node.removals()), (3, 0), "{}", got.stderr);
}
