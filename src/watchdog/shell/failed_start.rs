//! What a start does that fails before the watchdog runs: a process that was killed may have left the virtual
//! IP here, and nobody else is there to give it up.

use std::{thread::sleep, time::Duration};

use super::{host, listen};
use crate::{
    observe::{Reporter, Severity},
    watchdog::{guard::removal, settings::Settings, vip::Command},
};

/// A process that was killed a moment ago has its pid and its sockets until the kernel has taken all apart.
const LOOKS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(500);

/// Gives the address up if it is here and no pgpool of this node runs; blocks. `runs`: the pid file says so. The
/// watchdog's sockets have to be free, too, so that the address of a pgpool without a pid file stays.
pub fn give_up_left_over(settings: &Settings, runs: impl Fn() -> bool) {
    let ip = settings.delegate_ip.as_str();
    let Some(Command::Direct { program, arguments }) = Command::down(&settings.escalation, ip)
    else {
        return;
    };
    let runs = || runs() || listen::are_in_use(settings);
    if host::has_address(ip) != Some(true) || goes_on(runs) {
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

fn goes_on(runs: impl Fn() -> bool) -> bool {
    for look in 0..LOOKS {
        if look > 0 {
            sleep(PAUSE);
        }
        if !runs() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn who_was_killed_a_moment_ago_does_not_go_on() {
        let looks = Cell::new(0);
        let until = |last: u32| {
            looks.set(0);
            goes_on(|| {
                looks.set(looks.get() + 1);
                looks.get() <= last
            })
        };
        assert!(!until(0));
        assert_eq!(looks.get(), 1);
        assert!(!until(2));
        assert_eq!(looks.get(), 3);
        assert!(until(100));
        assert_eq!(looks.get(), LOOKS);
    }
}
