//! The units of compat/systemd, checked by `systemd-analyze verify` where systemd is installed.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// What the RPM packages install, as far as our drop-in touches it.
const RPM_UNIT: &str = "\
[Unit]
Description=PGPool-II Middleware Between PostgreSQL Servers And PostgreSQL Database Clients
After=syslog.target network.target

[Service]
User=postgres
Group=postgres
EnvironmentFile=-/etc/sysconfig/pgpool
ExecStart=/usr/bin/pgpool -f /etc/pgpool-II/pgpool.conf $OPTS
ExecStop=/usr/bin/pgpool -f /etc/pgpool-II/pgpool.conf $STOP_OPTS stop
ExecReload=/usr/bin/pgpool -f /etc/pgpool-II/pgpool.conf reload

[Install]
WantedBy=multi-user.target
";

const DEBIAN_UNIT: &str = "\
[Unit]
Description=pgpool-II
Wants=postgresql.service
After=network.target

[Service]
User=postgres
ExecStart=/usr/sbin/pgpool -n
ExecReload=/bin/kill -HUP $MAINPID
KillSignal=SIGINT
SyslogFacility=local0

[Install]
WantedBy=multi-user.target
";

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/systemd")
}

/// Verifies `unit` with `drop_in`; `None` where there is no systemd-analyze.
fn verify(unit: &str, text: &str, drop_in: Option<&str>) -> Option<String> {
    let found = Command::new("systemd-analyze").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: systemd-analyze is not installed (Debian: package systemd)");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    // The paths of the units are those of an installation; verify wants programs that are there.
    let program = folder.path().join("pgpool");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let placed = |text: &str| {
        [
            "/usr/local/lib/pgpool-rs/pgpool",
            "/usr/sbin/pgpool",
            "/usr/bin/pgpool",
        ]
        .iter()
        .fold(text.to_owned(), |text, path| {
            text.replace(path, program.to_str().unwrap())
        })
    };
    let path = folder.path().join(unit);
    fs::write(&path, placed(text)).unwrap();
    if let Some(drop_in) = drop_in {
        let directory = folder.path().join(format!("{unit}.d"));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("pgpool-rs.conf"), placed(drop_in)).unwrap();
    }
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&path)
        .env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()))
        .output()
        .unwrap();
    let complaints: String = String::from_utf8_lossy(&output.stderr)
        .lines()
        // Units of the machine itself are not our business.
        .filter(|line| line.contains(unit) || line.contains("pgpool-rs.conf"))
        .map(|line| format!("{line}\n"))
        .collect();
    Some(complaints)
}

fn read(name: &str) -> String {
    fs::read_to_string(units().join(name)).unwrap()
}

#[test]
fn the_unit_of_its_own_is_in_order() {
    if let Some(complaints) = verify("pgpool-rs.service", &read("pgpool-rs.service"), None) {
        assert_eq!(complaints, "");
    }
}

#[test]
fn the_drop_in_for_debian_is_in_order() {
    let installed = fs::read_to_string("/lib/systemd/system/pgpool2.service");
    let unit = installed.unwrap_or_else(|_| DEBIAN_UNIT.to_owned());
    // Debian's unit says StandardOutput=syslog, which systemd calls obsolete.
    let unit = unit.replace("StandardOutput=syslog\n", "");
    let drop_in = read("pgpool2.service.d/pgpool-rs.conf");
    if let Some(complaints) = verify("pgpool2.service", &unit, Some(&drop_in)) {
        assert_eq!(complaints, "");
    }
}

#[test]
fn the_drop_in_for_rpm_is_in_order() {
    let drop_in = read("pgpool.service.d/pgpool-rs.conf");
    if let Some(complaints) = verify("pgpool.service", RPM_UNIT, Some(&drop_in)) {
        assert_eq!(complaints, "");
    }
}

/// Else the guard of the virtual IP is killed after a crash before it has removed the address ("mixed"), or what it runs
/// outlives the unit ("process").
#[test]
fn the_guard_of_the_address_outlives_a_pgpool_that_has_crashed() {
    for name in [
        "pgpool-rs.service",
        "pgpool.service.d/pgpool-rs.conf",
        "pgpool2.service.d/pgpool-rs.conf",
    ] {
        let text = read(name);
        let modes: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("KillMode="))
            .collect();
        assert_eq!(modes, ["control-group"], "{name}");
    }
}

/// The test would not be worth much otherwise.
#[test]
fn a_drop_in_with_a_mistake_is_noticed() {
    let drop_in = "[Service]\nExecStart=/usr/bin/pgpool -n\nTypo=notify\n";
    if let Some(complaints) = verify("pgpool.service", RPM_UNIT, Some(drop_in)) {
        assert!(
            complaints.contains("more than one ExecStart"),
            "{complaints}"
        );
        assert!(complaints.contains("Typo"), "{complaints}");
    }
}

/// A drop-in replaces each command that the unit of the package has, and none else.
#[test]
fn every_command_that_names_the_program_is_replaced() {
    let drop_in = read("pgpool.service.d/pgpool-rs.conf");
    for key in ["ExecStart", "ExecStop", "ExecReload"] {
        let lines: Vec<&str> = drop_in
            .lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .collect();
        assert_eq!(lines.len(), 2, "{key}");
        assert_eq!(lines[0], "", "{key} is emptied first");
        let stock = RPM_UNIT
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .unwrap();
        assert_eq!(
            lines[1].replace("/usr/local/lib/pgpool-rs/pgpool", "/usr/bin/pgpool"),
            stock
        );
    }
}
