//! What a start does that fails before the watchdog runs: a process that was killed may have left the virtual
//! IP here, and nobody else is there to give it up.

use std::{thread::sleep, time::Duration};

use super::{host, listen};
use crate::{
    observe::{Reporter, Severity},
    watchdog::{guard::removal, settings::Settings, vip::Command},
};

/// Gives the address up if it is here and no pgpool of this node runs; blocks. Whoever calls has looked at the
/// pid file; here the watchdog's sockets have to be free, too, that the address of a pgpool without
/// a pid file stays.
pub fn give_up_left_over(settings: &Settings) {
    let ip = settings.delegate_ip.as_str();
    let Some(Command::Direct { program, arguments }) = Command::down(&settings.escalation, ip)
    else {
        return;
    };
    if host::has_address(ip) != Some(true) || listen::are_in_use(settings) {
        return;
    }
    let reporter = Reporter::new("watchdog_utility");
    reporter.emit(
        Severity::Warning,
        format_args!(
            "the virtual IP {ip} is on this host, left by a process that was killed, and pgpool could not start: giving it up"
        ),
        "other watchdog nodes may hold it, too",
        "",
    );
    let mut how = String::new();
    for attempt in 1..=removal::ATTEMPTS {
        if attempt > 1 {
            sleep(Duration::from_secs(1));
        }
        how = removal::run(&program, &arguments);
        if host::has_address(ip) == Some(false) {
            reporter.log(format_args!(
                "successfully released the delegate IP:\"{ip}\""
            ));
            return;
        }
    }
    reporter.emit(
        Severity::Warning,
        format_args!("the virtual IP {ip} is still on this host after if_down_cmd"),
        &format!("{how}; command: {}", arguments.join(" ")),
        "another node may hold it, too: remove it by hand (ip addr del) and correct if_down_cmd",
    );
}
