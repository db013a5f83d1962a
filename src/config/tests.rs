//! Whole files: fixtures of every dialect, what each odd text means, reload.

use std::{fs, path::Path, time::Duration};

use super::{
    finding::Severity,
    settings::{ClusteringMode, CompatVersion, LogStandbyDelay},
    *,
};
use crate::observe;

fn fixture(name: &str) -> (Config, Vec<Finding>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/config")
        .join(name);
    let paths = Paths {
        config: path,
        pcp: "/etc/pcp.conf".into(),
        hba: "/etc/pool_hba.conf".into(),
        key: None,
    };
    Config::load(&paths, LoadMode::Check).unwrap_or_else(|e| panic!("{name}: {:#?}", e.findings))
}

fn read(text: &str) -> (Config, Vec<Finding>) {
    Config::from_text(text).unwrap_or_else(|e| panic!("{text}: {:#?}", e.findings))
}

fn settings(text: &str) -> Settings {
    read(text).0.settings
}

/// The only warning or error that a text gives.
fn one(text: &str) -> Finding {
    let findings = match Config::from_text(text) {
        Ok((_, findings)) => findings,
        Err(error) => error.findings,
    };
    let mut loud: Vec<Finding> = findings
        .into_iter()
        .filter(|f| f.severity > Severity::Info && f.text != "no backend is configured")
        .collect();
    assert_eq!(loud.len(), 1, "{text}: {loud:#?}");
    loud.remove(0)
}

fn loud(findings: &[Finding]) -> Vec<String> {
    let loud = findings.iter().filter(|f| f.severity > Severity::Info);
    loud.map(ToString::to_string).collect()
}

fn seconds(n: u64) -> Option<Duration> {
    Some(Duration::from_secs(n))
}

#[test]
fn each_fixture_is_recognised_and_has_the_mode_that_its_dialect_says() {
    for (name, release, mode) in [
        ("dialect-3.7.conf", Release::V4_0, ClusteringMode::Slony),
        (
            "dialect-4.0.conf",
            Release::V4_0,
            ClusteringMode::StreamingReplication,
        ),
        (
            "dialect-4.1.conf",
            Release::V4_1,
            ClusteringMode::LogicalReplication,
        ),
        (
            "dialect-4.2.conf",
            Release::V4_2,
            ClusteringMode::NativeReplication,
        ),
        (
            "dialect-4.3.conf",
            Release::V4_3,
            ClusteringMode::StreamingReplication,
        ),
        ("dialect-4.4.conf", Release::V4_4, ClusteringMode::Raw),
        (
            "dialect-4.5.conf",
            Release::V4_5,
            ClusteringMode::LogicalReplication,
        ),
        ("dialect-4.6.conf", Release::V4_6, ClusteringMode::Slony),
        (
            "dialect-4.7.conf",
            Release::V4_7,
            ClusteringMode::SnapshotIsolation,
        ),
    ] {
        let (config, findings) = fixture(name);
        assert_eq!(config.dialect, release, "{name}: {findings:#?}");
        assert_eq!(config.settings.clustering_mode, mode, "{name}");
        assert_eq!(config.settings.backends.len(), 3, "{name}");
        // The 3.7 file has names from before; that of 4.0 has two watchdog nodes, and half of them is
        // enough; the 4.3 and later ones lack nothing but the node id.
        if name != "dialect-3.7.conf" {
            let odd = loud(&findings);
            let meant = ["node id", "no write lease is kept"];
            let is_odd = |f: &&String| !meant.iter().any(|text| f.contains(text));
            let odd: Vec<&String> = odd.iter().filter(is_odd).collect();
            assert_eq!(odd, [] as [&String; 0], "{name}");
        }
    }
}

#[test]
fn a_4_0_file_gets_the_meaning_that_4_0_gave_it() {
    let (config, _) = fixture("dialect-4.0.conf");
    let s = &config.settings;
    assert_eq!(s.listen_addresses, ["*"]);
    assert_eq!(s.unix_socket_directories, [Path::new("/var/run/pgpool")]);
    assert_eq!(s.unix_socket_permissions, 0o777);
    assert!(s.enable_pool_hba);
    assert_eq!((s.num_init_children, s.max_pool, s.port), (100, 5, 9999));
    assert_eq!(s.connection_life_time, seconds(600));
    assert_eq!(s.reset_query_list, ["ABORT", "DISCARD ALL"]);
    assert_eq!(s.delay_threshold, Some(10_000_000));
    assert_eq!(
        s.follow_primary_command,
        "/etc/pgpool-II/follow_master.sh %d %h %m %p %H %M %P"
    );
    assert!(!s.failover_on_backend_error);
    assert_eq!(s.failover_on_backend_shutdown, None);
    assert!(s.detach_false_primary);
    assert_eq!(s.search_primary_node_timeout, None, "0 searches for ever");
    let periods: Vec<_> = s.backends.iter().map(|b| b.health_check.period).collect();
    assert_eq!(periods, [seconds(40), seconds(40), seconds(5)]);
    let check = &s.backends[0].health_check;
    assert_eq!(check.timeout, seconds(10));
    assert_eq!(check.max_retries, 3);
    assert_eq!(check.connect_timeout, Some(Duration::from_secs(10)));
    assert_eq!(check.user, "nobody");
    // Defaults that 4.3 changed.
    assert!(!s.load_balance_mode);
    assert_eq!(s.authentication_timeout, None);
    assert_eq!(s.listen_backlog_multiplier, 32);
    assert_eq!(s.log_line_prefix, "%t: pid %p: ");
    assert_eq!(s.log_standby_delay, LogStandbyDelay::None);
    assert_eq!(config.show("child_life_time", None), Some("300".into()));
    assert_eq!(config.show("wd_port", None), Some("9000".into()));
    assert_eq!(config.show("other_wd_port", Some(0)), Some("9000".into()));
}

#[test]
fn a_4_3_file_gets_units_and_the_defaults_of_4_3() {
    let (config, _) = fixture("dialect-4.3.conf");
    let s = &config.settings;
    assert_eq!(s.authentication_timeout, seconds(60));
    assert_eq!(s.child_life_time, seconds(300));
    assert_eq!(s.client_idle_limit, seconds(1800));
    assert_eq!(s.log_file_mode, 0o640);
    assert_eq!(s.log_rotation_age, seconds(86_400));
    assert_eq!(s.log_rotation_size, Some(10 << 20));
    assert_eq!(s.log_min_messages, observe::Severity::Debug1);
    assert_eq!(s.client_min_messages, observe::Severity::Notice);
    assert!(s.backends[0].flag.always_primary);
    assert!(!s.backends[1].flag.always_primary);
    let periods: Vec<_> = s.backends.iter().map(|b| b.health_check.period).collect();
    assert_eq!(periods, [seconds(30), seconds(10), None]);
    assert_eq!(s.failover_on_backend_shutdown, Some(true));
    assert_eq!(s.delay_threshold, Some(16 << 20));
    assert!(s.load_balance_mode);
    assert_eq!(s.sr_check_period, seconds(10));
    assert_eq!(s.listen_backlog_multiplier, 2);
    assert_eq!(s.work_dir, Path::new("/tmp"));
    assert_eq!(config.show("delay_threshold", None), Some("16MB".into()));
    assert_eq!(
        config.show("health_check_period", Some(0)),
        Some("30".into())
    );
    assert_eq!(config.show("backend_port", Some(9)), Some("0".into()));
    assert_eq!(config.show("work_dir", None), None);
}

#[test]
fn newer_files_get_their_own_parameters() {
    let s = fixture("dialect-4.4.conf").0.settings;
    assert_eq!(s.listen_addresses, ["127.0.0.1", "::1"]);
    assert_eq!(s.unix_socket_directories.len(), 2);
    assert_eq!(s.unix_socket_group, "postgres");
    assert_eq!(s.unix_socket_permissions, 0o770);
    assert_eq!(s.delay_threshold_by_time, seconds(5), "seconds in 4.4");
    let s = fixture("dialect-4.5.conf").0.settings;
    assert_eq!(s.pcp_socket_dirs.len(), 2);
    assert_eq!(s.delay_threshold_by_time, seconds(5));
    let s = fixture("dialect-4.7.conf").0.settings;
    assert_eq!(s.work_dir, Path::new("/var/lib/pgpool"));
    assert_eq!(s.backends[0].health_check.user, "");
}

#[test]
fn debian_s_directories_belong_to_files_in_etc_pgpool2() {
    let values = load::defaults(Release::V4_3, true);
    assert_eq!(values.text("socket_dir", None), "/var/run/postgresql");
    assert_eq!(values.text("logdir", None), "/var/log/postgresql");
    let values = load::defaults(Release::V4_7, true);
    assert_eq!(
        values.list("unix_socket_directories"),
        ["/var/run/postgresql"]
    );
    let s = settings("");
    assert_eq!(s.unix_socket_directories, [Path::new("/tmp")]);
    assert_eq!(s.pid_file_name, Path::new("/var/run/pgpool/pgpool.pid"));
}

#[test]
fn what_the_original_takes_in_silence_is_taken_with_a_word() {
    let (config, findings) = fixture("odd.conf");
    let s = &config.settings;
    assert_eq!(s.max_pool, 7, "the byte order mark swallows nothing");
    assert_eq!((s.num_init_children, s.reserved_connections), (12, 3));
    assert!(s.load_balance_mode, "a misspelt boolean means on");
    assert!(s.log_statement, "so does an empty one");
    assert_eq!(s.backends[0].hostname, "\"");
    assert_eq!(s.backends[0].weight, 0.0);
    assert!(s.backends[0].flag.always_primary);
    assert_eq!(s.failover_command, "");
    assert_eq!(s.syslog_ident, "'");
    assert_eq!(s.follow_primary_command, "/new.sh");
    assert_eq!(s.clustering_mode, ClusteringMode::Raw);
    assert_eq!(s.child_life_time, seconds(8));
    assert_eq!(s.client_idle_limit, seconds(4));
    assert_eq!(s.listen_addresses, ["localhost", "127.0.0.1"]);
    let mut lines: Vec<u32> = findings
        .iter()
        .filter(|f| f.severity > Severity::Info)
        .map(|f| f.place.line)
        .collect();
    lines.dedup();
    assert_eq!(
        lines,
        [1, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 16, 21, 22],
        "{:#?}",
        loud(&findings)
    );
}

#[test]
fn all_errors_of_a_file_are_reported_and_nothing_starts() {
    let error = Config::from_text(
        "max_pool = 3;\nport = 80\nbackend_port = 5432\nlog_min_messages = loud\nmax_pool = x\n",
    )
    .unwrap_err();
    let errors: Vec<String> = error
        .findings
        .iter()
        .filter(|f| f.is_error())
        .map(ToString::to_string)
        .collect();
    assert_eq!(errors.len(), 5, "{errors:#?}");
    assert_eq!(
        errors[1],
        "/etc/pgpool.conf:2:8: error: 80 is outside the valid range for parameter \"port\" (1024 .. 65535) (write a whole number from 1024 to 65535)"
    );
    assert!(
        error
            .to_string()
            .starts_with("/etc/pgpool.conf:1:13: error: ")
    );
}

#[test]
fn a_syntax_error_comes_before_what_follows_from_it() {
    let finding = one("max_pool == 3\n");
    assert!(finding.text.starts_with("syntax error"), "{finding}");
    let error = Config::from_text("port = 80\nmax_pool = 3;\n").unwrap_err();
    assert!(error.to_string().contains("syntax error"), "{error}");
}

#[test]
fn the_last_setting_of_a_name_wins() {
    assert_eq!(settings("max_pool = 3\nmax_pool = 7\n").max_pool, 7);
}

#[test]
fn the_form_without_index_sets_all_slots_at_its_place_in_the_file() {
    let text = "backend_port0 = 5432\nbackend_port1 = 5433\n\
                health_check_timeout1 = 7\nhealth_check_timeout = 9\nhealth_check_timeout0 = 5\n";
    let s = settings(text);
    let timeouts: Vec<_> = s.backends.iter().map(|b| b.health_check.timeout).collect();
    assert_eq!(timeouts, [seconds(5), seconds(9)]);
}

#[test]
fn gaps_between_backends_are_unused_slots() {
    let s = settings("backend_port2 = 5432\nbackend_hostname0 = 'a'\nbackend_hostname2 = 'c'\n");
    let used: Vec<bool> = s.backends.iter().map(|b| b.used).collect();
    assert_eq!(used, [false, false, true]);
    let finding = one("backend_port1 = 5432\nbackend_hostname0 = 'a'\n");
    assert_eq!(finding.text, "backend 0 is not used, for it has no port");
}

#[test]
fn the_mode_of_an_old_file_comes_from_three_booleans() {
    for (text, mode) in [
        ("black_function_list = ''\n", ClusteringMode::Raw),
        ("master_slave_mode = off\n", ClusteringMode::Raw),
        (
            "master_slave_mode = on\n",
            ClusteringMode::StreamingReplication,
        ),
        (
            "master_slave_mode = on\nmaster_slave_sub_mode = 'logical'\n",
            ClusteringMode::LogicalReplication,
        ),
        (
            "master_slave_mode = on\nreplication_mode = on\n",
            ClusteringMode::NativeReplication,
        ),
        (
            "replication_mode = on\nhostname0 = 'a'\nfailover_when_quorum_exists = off\nwd_hostname = 'a'\n",
            ClusteringMode::NativeReplication,
        ),
    ] {
        assert_eq!(settings(text).clustering_mode, mode, "{text}");
    }
}

#[test]
fn foreign_names_do_not_act() {
    let (config, findings) = read(
        "backend_clustering_mode = 'streaming_replication'\nmaster_slave_sub_mode = 'logical'\n\
         follow_master_command = '/old.sh'\n",
    );
    assert_eq!(config.settings.follow_primary_command, "");
    assert_eq!(
        config.settings.clustering_mode,
        ClusteringMode::StreamingReplication
    );
    let text = loud(&findings).join("\n");
    assert!(
        text.contains(":3:1: warning: follow_master_command has no effect in a file of 4.3: it is known up to 4.1 (the name that acts is follow_primary_command)"),
        "{text}"
    );
}

#[test]
fn a_name_with_a_typing_slip_is_answered_with_the_right_one() {
    assert_eq!(
        one("log_min_message = debug1\n").to_string(),
        "/etc/pgpool.conf:1:1: warning: unrecognized configuration parameter \"log_min_message\" (no release knows it; did you mean log_min_messages?)"
    );
}

#[test]
fn a_unit_on_an_index_free_health_check_parameter_is_an_error_with_a_way_out() {
    let finding = one("health_check_period = 30s\n");
    assert!(finding.is_error());
    assert_eq!(
        finding.text,
        "invalid value for parameter \"health_check_period\": \"30s\""
    );
    assert!(finding.remedy.contains("health_check_period0 = 30s"));
}

#[test]
fn whole_file_checks_are_those_of_the_original() {
    for (text, message, detail) in [
        (
            "recovery_1st_stage_command = 'x'\nbackend_port0 = 5432\n",
            "invalid configuration, recovery_1st_stage_command and recovery_2nd_stage_command requires backend_data_directory to be set",
            "",
        ),
        (
            "backend_clustering_mode = raw\nreplication_mode = on\n",
            "invalid configuration, failover_when_quorum_exists is not allowed in native replication mode",
            "",
        ),
        (
            "memqcache_total_size = 0\n",
            "invalid memory cache configuration",
            "memqcache_total_size 0 should be greater or equal to memqcache_cache_block_size 1048576",
        ),
        (
            "memqcache_maxcache = 2000000\n",
            "invalid memory cache configuration",
            "memqcache_cache_block_size 1048576 should be greater or equal to memqcache_maxcache 2000000",
        ),
        (
            "process_management_mode = dynamic\nmax_spare_children = 5\n",
            "max_spare_children:5 must be greater than min_spare_children:5",
            "",
        ),
        (
            "process_management_mode = dynamic\nnum_init_children = 8\n",
            "max_spare_children:10 can't be greater than num_init_children:8",
            "",
        ),
    ] {
        let finding = one(text);
        assert!(finding.is_error(), "{text}");
        assert!(finding.place.line > 0, "{text}");
        assert_eq!((&*finding.text, &*finding.detail), (message, detail));
    }
    let native = read("backend_clustering_mode = 'native_replication'\n");
    assert_eq!(
        loud(&native.1),
        [
            "/etc/pgpool.conf: warning: no backend is configured (set backend_hostname0 and backend_port0)"
        ]
    );
}

#[test]
fn a_spare_limit_means_nothing_in_static_mode() {
    assert_eq!(
        read("max_spare_children = 1\nbackend_port0 = 5432\n")
            .0
            .dialect,
        Release::V4_4
    );
}

mod in_a_folder {
    use super::*;

    struct Folder {
        dir: tempfile::TempDir,
        paths: Paths,
    }

    impl Folder {
        fn with(text: &str) -> Folder {
            let dir = tempfile::tempdir().unwrap();
            let paths = Paths {
                config: dir.path().join("pgpool.conf"),
                pcp: dir.path().join("pcp.conf"),
                hba: dir.path().join("pool_hba.conf"),
                key: None,
            };
            let folder = Folder { dir, paths };
            folder.write("pgpool.conf", text);
            folder
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.dir.path().join(name), text).unwrap();
        }

        fn load(&self, mode: LoadMode) -> Result<(Config, Vec<Finding>), LoadError> {
            Config::load(&self.paths, mode)
        }

        fn start(&self) -> Config {
            self.load(LoadMode::Start).unwrap().0
        }
    }

    #[test]
    fn our_own_settings_come_from_the_file_beside() {
        let folder = Folder::with("backend_port0 = 5432\n");
        let own = folder.start().settings.own;
        assert_eq!(own.admin_database, "pgpool_admin");
        assert_eq!(own.compat_version, None);
        assert!(own.worker_threads > 0);
        folder.write(
            "pgpool-rs.conf",
            "admin_database = 'adm'\ncompat_version = '4.3.5'\nworker_threads = 3\n",
        );
        let own = folder.start().settings.own;
        assert_eq!(own.admin_database, "adm");
        assert_eq!(
            own.compat_version,
            Some(CompatVersion {
                release: Release::V4_3,
                patch: 5
            })
        );
        assert_eq!(own.worker_threads, 3);
    }

    #[test]
    fn the_two_files_do_not_take_each_other_s_names() {
        let folder = Folder::with("backend_port0 = 5432\nadmin_database = 'x'\n");
        folder.write("pgpool-rs.conf", "port = 9998\ncompat_version = 'new'\n");
        let findings = folder.load(LoadMode::Start).unwrap_err().findings;
        let text = loud(&findings).join("\n");
        for part in [
            "pgpool.conf:2:1: warning: admin_database has no effect in pgpool.conf",
            "pgpool-rs.conf:1:1: warning: port has no effect in pgpool-rs.conf",
            "pgpool-rs.conf:2:18: error: invalid value for parameter \"compat_version\": \"new\"",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn with_the_watchdog_the_node_id_file_is_needed_to_start_and_not_to_check() {
        let folder = Folder::with("use_watchdog = on\nwd_port1 = 9000\nbackend_port0 = 5432\n");
        let error = folder.load(LoadMode::Start).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("Pgpool node id file"), "{text}");
        assert!(
            text.contains("If watchdog is enable, pgpool_node_id file is required"),
            "{text}"
        );
        let (_, findings) = folder.load(LoadMode::Check).unwrap();
        assert_eq!(loud(&findings).len(), 1);
        folder.write("pgpool_node_id", "0\n");
        let error = folder.load(LoadMode::Start).unwrap_err();
        assert!(error.to_string().contains("invalid watchdog configuration"));
        folder.write("pgpool_node_id", "1\n");
        assert!(folder.load(LoadMode::Start).is_ok());
    }

    #[test]
    fn an_own_port_without_index_in_a_new_file_is_that_of_the_own_node() {
        let folder = Folder::with(
            "use_watchdog = on\nwd_port = 9001\nchild_life_time = 10s\nhostname0 = 'a'\nbackend_port0 = 5432\n",
        );
        folder.write("pgpool_node_id", "2\n");
        let config = folder.start();
        assert_eq!(config.dialect, Release::V4_3);
        assert_eq!(config.show("wd_port", Some(2)), Some("9001".into()));
        assert_eq!(config.show("wd_port", Some(0)), Some("0".into()));
    }

    #[test]
    fn an_old_watchdog_needs_no_node_id() {
        let folder = Folder::with("use_watchdog = on\nwd_port = 9000\nbackend_port0 = 5432\n");
        assert!(folder.load(LoadMode::Start).is_ok());
    }

    #[test]
    fn pool_passwd_and_pid_file_lie_beside_the_file_unless_absolute() {
        let folder = Folder::with("pid_file_name = 'run/p.pid'\nbackend_port0 = 5432\n");
        let config = folder.start();
        let beside = |name: &str| folder.dir.path().join(name);
        assert_eq!(config.settings.pid_file_name, beside("run/p.pid"));
        assert_eq!(config.pool_passwd_path, Some(beside("pool_passwd")));
        folder.write("pgpool.conf", "pool_passwd = ''\n");
        assert_eq!(folder.start().pool_passwd_path, None);
    }

    #[test]
    fn a_reload_applies_what_the_original_can_reload_and_names_the_rest() {
        let folder = Folder::with("max_pool = 2\nlog_connections = off\nbackend_port0 = 5432\n");
        let running = folder.start();
        folder.write(
            "pgpool.conf",
            "max_pool = 7\nlog_connections = on\nbackend_port0 = 5432\nbackend_port1 = 5433\n",
        );
        let (config, findings) = running.reload(&folder.paths);
        assert_eq!(config.settings.max_pool, 2);
        assert!(config.settings.log_connections);
        assert_eq!(config.settings.backends.len(), 2);
        let text = loud(&findings);
        assert_eq!(text.len(), 1, "{text:?}");
        assert!(
            text[0]
                .ends_with("pgpool.conf:1:1: warning: max_pool has changed, which needs a restart")
        );
    }

    /// Its tasks have them from the start: a new value must not be shown as if it counted.
    #[test]
    fn a_reload_says_that_parameters_of_the_watchdog_need_a_restart() {
        let start = "wd_authkey = 'a'\nwd_escalation_command = 'a'\nwd_remove_shutdown_nodes = off\nhostname0 = 'a'\nbackend_port0 = 5432\n";
        let folder = Folder::with(start);
        let running = folder.start();
        folder.write(
            "pgpool.conf",
            "wd_authkey = 'b'\nwd_escalation_command = 'b'\nwd_remove_shutdown_nodes = on\nhostname0 = 'b'\nbackend_port0 = 5432\n",
        );
        let (config, findings) = running.reload(&folder.paths);
        assert_eq!(config.values.text("wd_authkey", None), "a");
        let text = loud(&findings);
        assert_eq!(text.len(), 4, "{text:?}");
        assert!(
            text.iter()
                .all(|line| line.ends_with("has changed, which needs a restart"))
        );
        assert!(!text.concat().contains("'b'"), "a key is not for the log");
    }

    #[test]
    fn a_bad_setting_keeps_its_running_value_and_the_others_take_effect() {
        let folder =
            Folder::with("recovery_timeout = 77\nlog_connections = off\nbackend_port0 = 5432\n");
        let running = folder.start();
        folder.write(
            "pgpool.conf",
            "recovery_timeout = abc\nlog_connections = on\nbackend_port0 = 5432\n",
        );
        let (config, findings) = running.reload(&folder.paths);
        assert_eq!(config.settings.recovery_timeout, Duration::from_secs(77));
        assert!(config.settings.log_connections);
        assert!(findings.iter().any(Finding::is_error));
    }

    #[test]
    fn after_a_syntax_error_nothing_takes_effect() {
        let folder = Folder::with("log_connections = off\nbackend_port0 = 5432\n");
        let running = folder.start();
        folder.write("pgpool.conf", "log_connections = on\nmax_pool = 3;\n");
        let (config, findings) = running.reload(&folder.paths);
        assert!(!config.settings.log_connections);
        assert!(findings.iter().any(Finding::is_error));
        // A contradiction between settings is no better.
        folder.write(
            "pgpool.conf",
            "log_connections = on\nbackend_port0 = 5432\nrecovery_1st_stage_command = 'x'\n",
        );
        let (config, _) = running.reload(&folder.paths);
        assert!(!config.settings.log_connections);
    }

    /// Seen on 4.3.5.
    #[test]
    fn a_setting_that_left_the_file_keeps_its_running_value() {
        let folder = Folder::with("log_connections = on\nport = 9999\nbackend_port0 = 5432\n");
        let running = folder.start();
        folder.write("pgpool.conf", "backend_port0 = 5432\nbackend_weight0 = 1\n");
        let (config, findings) = running.reload(&folder.paths);
        assert!(config.settings.log_connections);
        let text: Vec<String> = findings.iter().map(|f| f.text.clone()).collect();
        assert_eq!(
            text,
            [
                "log_connections is no longer in the file and keeps its running value until the restart"
            ]
        );
        let (_, again) = config.reload(&folder.paths);
        assert_eq!(again.len(), 1, "still said at the next reload");
    }

    #[test]
    fn a_reload_does_not_change_the_dialect() {
        let folder = Folder::with("backend_clustering_mode = raw\nbackend_port0 = 5432\n");
        let running = folder.start();
        folder.write("pgpool.conf", "wd_port = 9000\nbackend_port0 = 5432\n");
        let (config, findings) = running.reload(&folder.paths);
        assert_eq!(config.dialect, Release::V4_3);
        assert_eq!(config.settings.clustering_mode, ClusteringMode::Raw);
        assert!(
            loud(&findings)
                .iter()
                .any(|f| f.contains("now reads as a file of 4.0"))
        );
    }

    #[test]
    fn a_missing_file_means_defaults() {
        let folder = Folder::with("");
        fs::remove_file(&folder.paths.config).unwrap();
        let (config, findings) = folder.load(LoadMode::Start).unwrap();
        assert_eq!(config.settings.port, 9999);
        assert!(loud(&findings)[0].contains("could not open configuration file"));
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reading_panic(text in "([a-z_]{1,12}[0-9]{0,3} ?=? ?['\"#a-z0-9. \n-]{0,12}\n?){0,6}") {
        let _ = Config::from_text(&text);
    }

    #[test]
    fn every_parameter_takes_any_text_or_says_why_not(
        at in 0..PARAMETERS.len(),
        value in "[0-9a-zA-Z.|+ -]{0,10}",
    ) {
        let name = PARAMETERS[at].name;
        let text = format!("{name} = '{value}'\n{name}0 = '{value}'\n");
        if let Err(error) = Config::from_text(&text) {
            proptest::prop_assert!(error.findings.iter().all(|f| !f.is_error() || f.place.line > 0));
        }
    }

    /// What SHOW prints can be written into a file and means the same.
    #[test]
    fn a_shown_number_reads_as_itself(at in 0..PARAMETERS.len(), number in 0i64..5_000_000) {
        let p = &PARAMETERS[at];
        if let parameter::Kind::Int { min, max, .. } = p.kind
            && (min..=max).contains(&number)
        {
            let index = (p.max_index > 0).then_some(0);
            let shown = Value::Int(number).show(p);
            let read = value::parse(p, index, &shown, Release::V4_7).map(|p| p.value);
            proptest::prop_assert_eq!(read, Ok(Value::Int(number)));
        }
    }
}
