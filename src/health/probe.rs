//! One look at one server: connect, log in, wait until it is ready, say goodbye.
//!
//! No SQL statement is sent, and nothing is kept between looks.

use std::{fs, path::Path, time::Duration};

use super::core::Outcome;
use crate::{
    cluster::NodeId,
    config::{Config, settings::HealthCheckSettings},
    control::{
        Shared,
        backend_client::{Address, Client, Failure, Login, ServerError, failure_line},
    },
    observe::{Reporter, Severity},
};

/// Looks at `node` with the settings of now. A failure is logged as the original logs it, and told in
/// words behind the outcome. `within` shortens the time limits of the parameters.
pub async fn probe(
    shared: &Shared,
    node: NodeId,
    within: Option<Duration>,
    reporter: &Reporter,
) -> (Outcome, String) {
    let config = shared.config.load_full();
    let view = shared.view.load_full();
    let (Some(backend), Some(server)) = (config.settings.backends.get(node), view.node(node))
    else {
        let complaint = format!("node {node} is not configured any more");
        return (Outcome::Unknown { complaint }, String::new());
    };
    let check = &backend.health_check;
    let address = Address {
        hostname: server.hostname.clone(),
        port: server.port,
        connect_timeout: shorter(check.connect_timeout, within),
        tls: shared.tls.load().backend(node),
    };
    let login = Login::new(
        &check.user,
        &check.password,
        &check.database,
        &shared.passwd.load(),
    );
    match Client::connect(&address, &login, shorter(check.timeout, within)).await {
        Ok(client) => {
            client.close().await;
            if config.settings.health_check_test && is_down_by_request(&config, node, reporter) {
                let why = "backend_down_request wants it (health_check_test)".to_owned();
                return (Outcome::NoAnswer { timed_out: false }, why);
            }
            (Outcome::Up, String::new())
        }
        Err(failure) => {
            say(&address, &failure, reporter);
            let why = format!("{}({}): {failure}", address.hostname, address.port);
            (classify(failure, check), why)
        }
    }
}

/// Of two time limits; `None`: none.
fn shorter(limit: Option<Duration>, within: Option<Duration>) -> Option<Duration> {
    match (limit, within) {
        (Some(limit), Some(within)) => Some(limit.min(within)),
        (limit, within) => limit.or(within),
    }
}

/// What a failure says about the server.
fn classify(failure: Failure, check: &HealthCheckSettings) -> Outcome {
    match failure {
        Failure::Refused(_) => Outcome::Refused,
        Failure::Unreachable(_) => Outcome::NoAnswer { timed_out: false },
        Failure::TimedOut(_) => Outcome::NoAnswer { timed_out: true },
        Failure::NotAccepting(_) => Outcome::NotAccepting,
        Failure::Rejected(error) => Outcome::Alive {
            remedy: remedy(&error, check),
            complaint: error.to_string(),
        },
        Failure::Login(complaint) => Outcome::Alive {
            remedy: format!(
                "check health_check_user \"{}\" and health_check_password, or the user's entry in pool_passwd",
                check.user
            ),
            complaint,
        },
        Failure::Local(complaint) => Outcome::Unknown { complaint },
    }
}

fn remedy(error: &ServerError, check: &HealthCheckSettings) -> String {
    let HealthCheckSettings { user, database, .. } = check;
    match error.sqlstate.get(..2) {
        Some("28") => format!(
            "check health_check_user \"{user}\", health_check_password and pg_hba.conf of the server"
        ),
        Some("3D") => format!("check health_check_database \"{database}\""),
        Some("53") => "the server is out of connections or memory; see max_connections".to_owned(),
        _ => format!("try the same login by hand: user \"{user}\", database \"{database}\""),
    }
}

fn say(address: &Address, failure: &Failure, reporter: &Reporter) {
    // What a living server says is said by the core, once.
    if !matches!(
        failure,
        Failure::Rejected(_) | Failure::Login(_) | Failure::Local(_)
    ) {
        let (text, detail) = failure_line(address, failure);
        reporter.emit(Severity::Log, text, &detail, "");
    }
}

/// `health_check_test`: a line `N<TAB>down` in `backend_down_request` makes node N fail.
fn is_down_by_request(config: &Config, node: NodeId, reporter: &Reporter) -> bool {
    let path = config.settings.work_dir.join("backend_down_request");
    match read_lossy(&path) {
        Ok(text) => asks_for_down(&text, node),
        Err(e) => {
            reporter.emit(
                Severity::Warning,
                format_args!(
                    "check_backend_down_request: failed to open file {}",
                    path.display()
                ),
                &crate::sys::errors::message(&e),
                "",
            );
            false
        }
    }
}

fn read_lossy(path: &Path) -> std::io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

fn asks_for_down(text: &str, node: NodeId) -> bool {
    text.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next().and_then(|word| word.parse().ok()) == Some(node)
            && words.next() == Some("down")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> HealthCheckSettings {
        HealthCheckSettings {
            user: "hc".into(),
            database: "hcdb".into(),
            ..HealthCheckSettings::default()
        }
    }

    #[test]
    fn an_error_of_a_living_server_is_no_failure_and_names_the_setting_to_look_at() {
        for (code, hint) in [
            ("28000", "health_check_user \"hc\""),
            ("28P01", "health_check_password"),
            ("3D000", "health_check_database \"hcdb\""),
            ("53300", "max_connections"),
            ("XX000", "by hand"),
        ] {
            let error = ServerError {
                sqlstate: code.into(),
                message: "no".into(),
                severity: "FATAL".into(),
            };
            let Outcome::Alive { complaint, remedy } = classify(Failure::Rejected(error), &check())
            else {
                panic!("{code} is a failure");
            };
            assert_eq!(complaint, format!("FATAL: no (SQLSTATE {code})"));
            assert!(remedy.contains(hint), "{code}: {remedy}");
        }
    }

    #[test]
    fn what_shows_no_living_server_is_a_failure() {
        let text = || "text".to_owned();
        assert_eq!(
            classify(Failure::Refused(text()), &check()),
            Outcome::Refused
        );
        assert_eq!(
            classify(Failure::Unreachable(text()), &check()),
            Outcome::NoAnswer { timed_out: false }
        );
        assert_eq!(
            classify(Failure::TimedOut(text()), &check()),
            Outcome::NoAnswer { timed_out: true }
        );
        assert_eq!(
            classify(Failure::NotAccepting(ServerError::default()), &check()),
            Outcome::NotAccepting
        );
        assert!(matches!(
            classify(Failure::Local(text()), &check()),
            Outcome::Unknown { .. }
        ));
    }

    #[test]
    fn a_down_request_is_a_line_with_number_tab_down() {
        let text = "0\tup\n1\tdown\nrubbish\n2\talready_down\n3 down\n";
        assert_eq!(
            [0, 1, 2, 3, 4].map(|node| asks_for_down(text, node)),
            [false, true, false, true, false]
        );
    }
}
