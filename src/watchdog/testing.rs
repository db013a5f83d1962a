//! Settings for tests.

use std::time::Duration;

use super::{
    codec::{
        AuthKey,
        config_data::{ConfigData, WatchdogNode},
        heartbeat::Size,
    },
    settings::{
        ConsensusSettings, EscalationSettings, HeartbeatSettings, LifecheckMethod,
        LifecheckSettings, Member, QuorumSettings, Settings,
    },
};

pub(crate) fn member(node: usize) -> Member {
    Member {
        node_id: u32::try_from(node).ok(),
        host: format!("10.0.0.{node}"),
        wd_port: 9000,
        pgpool_port: 9999,
    }
}

/// Node `own` of `count`, with the defaults of 4.3.
pub(crate) fn settings(own: usize, count: usize) -> Settings {
    Settings {
        own: member(own),
        others: (0..count).filter(|node| *node != own).map(member).collect(),
        node_id: u32::try_from(own).unwrap_or_default(),
        local_numbers: false,
        priority: 1,
        authkey: AuthKey::default(),
        delegate_ip: "10.0.0.100".to_owned(),
        listen_address: String::new(),
        listen_port: 9000,
        ipc_socket_dir: "/tmp".into(),
        monitored_interfaces: Vec::new(),
        heartbeat: HeartbeatSettings {
            size: Size::Long,
            destinations: Vec::new(),
            listen_addresses: Vec::new(),
            listen_port: 9694,
            keepalive: Duration::from_secs(2),
        },
        lifecheck: LifecheckSettings {
            method: LifecheckMethod::Heartbeat,
            interval: Duration::from_secs(10),
            deadtime: Duration::from_secs(30),
            life_point: 3,
            query: "SELECT 1".to_owned(),
            database: "template1".to_owned(),
            user: "nobody".to_owned(),
            password: String::new(),
            trusted_servers: Vec::new(),
            trusted_server_command: None,
            ping_path: "/bin".to_owned(),
        },
        quorum: QuorumSettings {
            half_votes: false,
            remove_shutdown_nodes: false,
            lost_removal: None,
            no_show_removal: None,
        },
        consensus: ConsensusSettings {
            when_quorum_exists: true,
            require_consensus: true,
            allow_multiple: false,
            vote_lifetime: Duration::from_secs(15),
        },
        escalation: EscalationSettings {
            escalation_command: String::new(),
            de_escalation_command: String::new(),
            clear_query_cache: false,
            if_cmd_path: "/sbin".to_owned(),
            if_up_cmd: "ip addr add $_IP_$/24 dev eth0".to_owned(),
            if_down_cmd: "ip addr del $_IP_$/24 dev eth0".to_owned(),
            arping_path: "/usr/sbin".to_owned(),
            arping_cmd: "/usr/sbin/arping -U $_IP_$ -w 1".to_owned(),
            ping_path: "/bin".to_owned(),
            always_prefix_path: false,
        },
        announced: ConfigData {
            backends: vec![("db".to_owned(), 5432)],
            nodes: vec![WatchdogNode {
                hostname: "10.0.0.1".to_owned(),
                wd_port: 9000,
                pgpool_port: 9999,
            }],
            ..ConfigData::default()
        },
        write_lease: Some(Duration::from_secs(10)),
    }
}
