use std::time::Duration;

use crate::{
    config::Config,
    watchdog::{codec::heartbeat::Size, settings::Settings},
};

/// Reads pgpool.conf, pgpool-rs.conf and pgpool_node_id (empty: not there) as one text each.
fn load(conf: &str, own: &str, node_id: &str) -> (Option<Settings>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        if !text.is_empty() {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
    };
    file("pgpool.conf", conf);
    file("pgpool-rs.conf", own);
    file("pgpool_node_id", node_id);
    let paths = crate::config::Paths {
        config: folder.path().join("pgpool.conf"),
        pcp: folder.path().join("pcp.conf"),
        hba: folder.path().join("pool_hba.conf"),
        key: None,
    };
    let (config, findings) = match Config::load(&paths, crate::config::LoadMode::Start) {
        Ok((config, findings)) => (Some(config), findings),
        Err(error) => (None, error.findings),
    };
    let said = findings
        .iter()
        .filter(|f| f.severity != crate::config::FindingSeverity::Info)
        .map(|f| {
            let text = f.to_string();
            text.split_once("pgpool.conf:")
                .map_or(text.clone(), |(_, rest)| rest.to_owned())
        })
        .collect();
    let settings = config.and_then(|c| c.settings.watchdog.as_deref().cloned());
    (settings, said)
}

const NEW: &str = "\
    use_watchdog = on\n\
    failover_on_backend_error = on\n\
    backend_clustering_mode = 'streaming_replication'\n\
    backend_hostname0 = 'db'\nbackend_port0 = 5432\n\
    hostname0 = 'a'\nwd_port0 = 9000\npgpool_port0 = 9999\n\
    hostname1 = 'b'\nwd_port1 = 9000\npgpool_port1 = 9999\n\
    hostname2 = 'c'\nwd_port2 = 9000\npgpool_port2 = 9999\n\
    heartbeat_hostname0 = 'a'\nheartbeat_port0 = 9694\n\
    heartbeat_hostname1 = 'b;b2'\nheartbeat_port1 = 9695\nheartbeat_device1 = 'eth0;eth1'\n\
    heartbeat_hostname2 = 'c'\nheartbeat_port2 = 9696\n";

fn old(extra: &str) -> String {
    format!(
        "use_watchdog = on\nmaster_slave_mode = on\nmaster_slave_sub_mode = 'stream'\n\
         wd_hostname = 'c'\nwd_port = 9000\nport = 9999\n\
         backend_hostname0 = 'c'\nbackend_port0 = 5432\n\
         backend_hostname1 = 'a'\nbackend_port1 = 5432\n\
         backend_hostname2 = 'b'\nbackend_port2 = 5432\n\
         other_pgpool_hostname0 = 'a'\nother_pgpool_port0 = 9999\nother_wd_port0 = 9000\n\
         other_pgpool_hostname1 = 'b'\nother_pgpool_port1 = 9999\nother_wd_port1 = 9000\n\
         wd_heartbeat_port = 9694\n\
         heartbeat_destination0 = 'a'\nheartbeat_destination_port0 = 9695\n\
         heartbeat_destination1 = 'b'\nheartbeat_destination_port1 = 9696\nheartbeat_device1 = 'eth0'\n\
         {extra}"
    )
}

fn destinations(settings: &Settings) -> Vec<String> {
    settings
        .heartbeat
        .destinations
        .iter()
        .map(|d| format!("{}:{}%{}", d.host, d.port, d.device))
        .collect()
}

#[test]
fn a_new_file_lists_all_nodes_and_the_number_says_which_is_this_one() {
    let (settings, said) = load(NEW, "", "1\n");
    assert_eq!(said, Vec::<String>::new());
    let settings = settings.unwrap();
    assert_eq!(settings.own.label(), "b:9999");
    assert_eq!((settings.node_id, settings.local_numbers), (1, false));
    let others: Vec<_> = settings.others.iter().map(|m| m.node_id).collect();
    assert_eq!(others, [Some(0), Some(2)]);
    assert_eq!(destinations(&settings), ["a:9694%", "c:9696%"]);
    assert_eq!(settings.heartbeat.listen_port, 9695);
    assert_eq!(settings.heartbeat.size, Size::Long);
    let (settings, _) = load(NEW, "", "0\n");
    assert_eq!(
        destinations(&settings.unwrap()),
        ["b:9695%eth0", "b2:9695%eth1", "c:9696%"]
    );
}

#[test]
fn an_old_file_names_the_own_node_by_itself() {
    let (settings, said) = load(&old(""), "", "");
    assert_eq!(said, Vec::<String>::new());
    let settings = settings.unwrap();
    assert_eq!(settings.own.label(), "c:9999");
    let others: Vec<_> = settings.others.iter().map(|m| m.label()).collect();
    assert_eq!(others, ["a:9999", "b:9999"]);
    assert!(settings.others.iter().all(|m| m.node_id.is_none()));
    assert!(settings.local_numbers);
    assert_eq!(destinations(&settings), ["a:9695%", "b:9696%eth0"]);
    assert_eq!(settings.heartbeat.listen_port, 9694);
}

#[test]
fn in_an_old_file_the_number_is_found_in_four_ways() {
    let number = |conf: &str, own: &str, file: &str| load(conf, own, file).0.unwrap().node_id;
    assert_eq!(number(&old(""), "node_id = 7\n", "5\n"), 5);
    assert_eq!(number(&old(""), "node_id = 7\n", ""), 7);
    assert_eq!(number(&old(""), "", ""), 0, "the backend on the own host");
    // Somebody is no backend's host, or two share one: by rank.
    let rank = old("backend_hostname2 = 'z'\n");
    assert_eq!(number(&rank, "", ""), 2);
    let shared = old("other_pgpool_hostname1 = 'a'\nother_wd_port1 = 9001\n");
    assert_eq!(number(&shared, "", ""), 2);
}

#[test]
fn a_node_id_file_that_is_there_and_wrong_is_not_passed_over() {
    let (settings, said) = load(&old(""), "", "two\n");
    assert!(settings.is_none());
    assert!(
        said.iter()
            .any(|line| line.contains("pgpool_node_id is not a numeric value")),
        "{said:?}"
    );
}

#[test]
fn the_check_says_which_number_an_old_file_gives_and_why() {
    let told = |conf: &str, own: &str, file: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("pgpool.conf"), conf).unwrap();
        std::fs::write(path("pgpool-rs.conf"), own).unwrap();
        if !file.is_empty() {
            std::fs::write(path("pgpool_node_id"), file).unwrap();
        }
        let paths = crate::config::Paths {
            config: path("pgpool.conf"),
            pcp: path("pcp.conf"),
            hba: path("pool_hba.conf"),
            key: None,
        };
        let (_, findings) = Config::load(&paths, crate::config::LoadMode::Check).unwrap();
        let lines = findings.iter().map(ToString::to_string);
        lines
            .filter_map(|l| {
                l.split_once("this node is watchdog node ")
                    .map(|(_, t)| t.to_owned())
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        told(&old(""), "", ""),
        ["0: the number of the backend on its host"]
    );
    assert_eq!(
        told(&old("backend_hostname2 = 'z'\n"), "", ""),
        ["2: its place among all nodes sorted by host name and wd_port"]
    );
    assert_eq!(
        told(&old(""), "node_id = 7\n", ""),
        ["7: so says node_id in pgpool-rs.conf"]
    );
    assert_eq!(
        told(&old(""), "", "5\n"),
        ["5: so says the file pgpool_node_id"]
    );
    assert!(told(NEW, "", "1\n").is_empty());
}

#[test]
fn a_patch_level_that_had_short_heartbeats_is_honoured() {
    let size = |own: &str| load(&old(""), own, "").0.unwrap().heartbeat.size;
    assert_eq!(size("compat_version = '4.0.10'\n"), Size::Short);
    assert_eq!(size("compat_version = '4.0'\n"), Size::Long);
    assert_eq!(size(""), Size::Long);
}

#[test]
fn a_host_name_that_no_heartbeat_holds_is_told_by_the_size_that_is_sent() {
    let said = |length: usize, own: &str| {
        let name = "h".repeat(length);
        let (_, said) = load(&old(&format!("wd_hostname = '{name}'\n")), own, "");
        said.iter()
            .any(|line| line.contains("the host name of this node is longer than"))
    };
    let short = "compat_version = '4.0.10'\n";
    assert_eq!(
        [
            said(127, short),
            said(128, short),
            said(253, ""),
            said(254, "")
        ],
        [false, true, false, true]
    );
}

#[test]
fn without_watchdog_there_are_no_settings() {
    let off = NEW.replace("use_watchdog = on", "use_watchdog = off");
    assert!(load(&off, "", "1\n").0.is_none());
}

#[test]
fn an_old_node_without_a_name_has_no_watchdog_and_hears_why() {
    let (settings, said) = load(&old("wd_hostname = ''\n"), "", "");
    assert!(settings.is_none());
    assert!(said[0].contains("wd_hostname is empty"), "{said:?}");
}

#[test]
fn a_gap_counts_as_a_node_that_never_appears() {
    let gap = NEW.replace("wd_port0 = 9000\n", "");
    let (settings, said) = load(&gap, "", "1\n");
    assert_eq!(settings.unwrap().others.len(), 2);
    assert!(said[0].contains("node 0 counts for the quorum"), "{said:?}");
}

#[test]
fn a_virtual_ip_needs_commands_that_name_it() {
    let with = |line: &str| {
        load(
            &format!("{NEW}delegate_IP = '10.0.0.9'\n{line}\n"),
            "",
            "1\n",
        )
    };
    let (settings, said) = with("if_up_cmd = ''");
    assert!(settings.is_none(), "the start is refused");
    assert!(
        said.iter()
            .any(|s| s.contains("error: invalid configuration for if_up_cmd parameter")),
        "{said:?}"
    );
    let (_, said) = with("if_down_cmd = 'ip addr del 10.0.0.9/24 dev eth0'");
    assert!(said[0].contains("if_down_cmd does not name the virtual IP"));
    let (_, said) = with(&format!(
        "arping_cmd = '/sbin/arping $_IP_${}'",
        " x".repeat(22)
    ));
    assert!(said[0].contains("has 24 words, and 23 are run"), "{said:?}");
    let (settings, said) = with("delegate_IP = '10.0.0.9/24'");
    assert!(settings.is_some(), "the original takes any text");
    assert!(said[0].contains("no IP address"), "{said:?}");
    let (_, said) = with("");
    assert_eq!(said, Vec::<String>::new());
}

#[test]
fn what_cannot_work_is_said_with_its_line() {
    for (line, expected) in [
        (
            "pgpool_port2 = 0\npgpool_port1 = 9998",
            "pgpool_port1 is 9998",
        ),
        (
            "wd_heartbeat_deadtime = 2",
            "is not longer than wd_heartbeat_keepalive",
        ),
        (
            "wd_heartbeat_deadtime = 10",
            "wd_write_lease (10 s) is not shorter",
        ),
        (
            "hostname2 = 'b'",
            "two watchdog nodes have the address b:9000",
        ),
        (
            "heartbeat_hostname2 = ''",
            "node 2 gets no heartbeats from this node",
        ),
    ] {
        let (_, said) = load(&format!("{NEW}{line}\n"), "", "1\n");
        assert!(
            said.iter().any(|s| s.contains(expected)),
            "{line}: {said:?}"
        );
    }
    let long = format!("{NEW}wd_authkey = '{}'\n", "k".repeat(1025));
    let (_, said) = load(&long, "", "1\n");
    assert!(said[0].contains("error: wd_authkey length can't be larger than 1024"));
}

#[test]
fn a_vote_outlives_a_round_of_every_health_check() {
    let lifetime = |lines: &str| {
        let (settings, _) = load(&format!("{NEW}{lines}"), "", "1\n");
        settings.unwrap().consensus.vote_lifetime
    };
    assert_eq!(
        lifetime("health_check_period = 4\n"),
        Duration::from_secs(15)
    );
    assert_eq!(
        lifetime(
            "health_check_period0 = 20\nhealth_check_max_retries0 = 3\nhealth_check_retry_delay0 = 5\n"
        ),
        Duration::from_secs(35)
    );
}

#[test]
fn half_votes_are_always_enough_in_a_file_of_4_0() {
    let half_votes = |line: &str| load(&old(line), "", "").0.unwrap().quorum.half_votes;
    assert!(half_votes(""));
    let of_4_1 = "enable_consensus_with_half_votes";
    assert!(!half_votes(&format!("{of_4_1} = off\n")));
    assert!(half_votes(&format!("{of_4_1} = on\n")));
}

#[test]
fn where_half_is_enough_an_even_cluster_is_told_that_it_keeps_no_lease() {
    let said = |line: &str, own: &str| {
        let (_, said) = load(&format!("{NEW}{line}\n"), own, "1\n");
        said.iter().any(|s| s.contains("no write lease is kept"))
    };
    let four = "hostname3 = 'd'\nwd_port3 = 9000\npgpool_port3 = 9999\nheartbeat_hostname3 = 'd'\nheartbeat_port3 = 9696\n";
    let half = "enable_consensus_with_half_votes = on\n";
    assert!(said(&format!("{four}{half}"), ""));
    assert!(!said(&format!("{four}{half}"), "wd_write_lease = 0\n"));
    assert!(!said(four, ""));
    assert!(!said(half, ""), "three nodes have no half");
}

#[test]
fn the_lease_is_on_unless_it_is_switched_off() {
    let (settings, _) = load(NEW, "", "1\n");
    let settings = settings.unwrap();
    assert!(!settings.quorum.half_votes);
    assert_eq!(settings.write_lease, Some(Duration::from_secs(10)));
    let (settings, _) = load(NEW, "wd_write_lease = 0\n", "1\n");
    assert_eq!(settings.unwrap().write_lease, None);
}

#[test]
fn what_is_told_to_a_leader_can_be_sent_and_is_whole() {
    use crate::watchdog::codec::{Message, config_data::required_settings};
    for (conf, id) in [(NEW.to_owned(), "1\n"), (old(""), "")] {
        let (settings, _) = load(&conf, "", id);
        let announced = settings.unwrap().announced;
        assert!(required_settings().all(|name| announced.number(name).is_some()));
        assert_eq!(announced.number("use_watchdog"), Some(1));
        assert_eq!(announced.nodes.len(), 3);
        assert!(Message::Config(Box::new(announced)).encode(1).is_ok());
    }
    let (settings, _) = load(NEW, "", "2\n");
    assert_eq!(
        settings.unwrap().announced.number("pgpool_node_id"),
        Some(2)
    );
}
