//! What the end of a step leads to.

use std::net::IpAddr;

use super::{ATTEMPTS, Command, Step, Vip};

impl Vip {
    pub(super) fn ended(&mut self, call: u64, success: bool) {
        if let Some(step) = self.take(call) {
            self.has_ended(step, success);
        }
    }

    pub(super) fn has_ended(&mut self, step: Step, success: bool) {
        match step {
            Step::EscalationCommand => {
                self.judge_command("escalation", success);
                self.begin_up();
            }
            Step::DeEscalationCommand => {
                self.judge_command("de-escalation", success);
                self.begin_down(1);
            }
            // Whatever its status: `ip addr add` fails for an address that is here already, as it is after
            // an attempt of which only a later step has failed.
            Step::Up => self.look(Step::UpLook { success }),
            Step::Arping if success => self.ping(1),
            Step::Arping => self.failed("arping_cmd has failed"),
            Step::Ping { .. } if success => {
                self.held = true;
                self.log(format!(
                    "successfully acquired the delegate IP:\"{}\"",
                    self.ip
                ));
            }
            Step::Ping { attempt } if attempt < ATTEMPTS => self.ping(attempt + 1),
            Step::Ping { .. } => self.failed("it does not answer to ping"),
            // Whatever its status: what counts is whether the address is still here.
            Step::Down { attempt } => self.look(Step::DownLook { attempt, success }),
            Step::UpLook { .. } | Step::DownLook { .. } | Step::Leftover => {}
        }
    }

    fn ping(&mut self, attempt: u32) {
        let command = Command::ping(&self.settings, &self.ip);
        self.run(Step::Ping { attempt }, command);
    }

    fn judge_command(&mut self, what: &str, success: bool) {
        if success {
            self.log(format!("watchdog {what} successful"));
        } else {
            self.warn(
                format!("watchdog {what} command failed"),
                "its status changes nothing else",
            );
        }
    }

    pub(super) fn looked(&mut self, call: u64, seen: Option<bool>) {
        let Some(step) = self.take(call) else { return };
        let present = seen.unwrap_or_else(|| self.suppose(step));
        match step {
            Step::Leftover if self.wanted => {
                self.dirty |= present;
                self.turn();
            }
            Step::Leftover if present => {
                self.dirty = true;
                let how = match seen {
                    Some(_) => "is on this host, left by a process that was killed: giving it up",
                    None => "may be on this host, which cannot be told: giving it up",
                };
                self.warn(format!("the virtual IP {} {how}", self.ip), "");
                self.turn();
            }
            Step::Leftover => self.rest(),
            Step::UpLook { .. } if present => match Command::arping(&self.settings, &self.ip) {
                Some(command) => self.run(Step::Arping, command),
                None => self.ping(1),
            },
            Step::UpLook { success: true } => self
                .failed("if_up_cmd says that it has worked, and the address is not on this host"),
            Step::UpLook { success: false } => self.failed("if_up_cmd has failed"),
            Step::DownLook { .. } if !present => {
                self.dirty = false;
                self.log(format!(
                    "successfully released the delegate IP:\"{}\"",
                    self.ip
                ));
                self.rest();
            }
            Step::DownLook { attempt, .. } if attempt < ATTEMPTS => self.begin_down(attempt + 1),
            Step::DownLook { .. } => {
                let how = match seen {
                    Some(_) => "is still on this host after if_down_cmd",
                    None => "may still be on this host after if_down_cmd, which cannot be told",
                };
                let next = if self.stopping {
                    "pgpool ends without having removed it"
                } else {
                    "it is tried again"
                };
                self.warn(
                    format!("the virtual IP {} {how}; {next}", self.ip),
                    "another node may hold it, too: remove it by hand (ip addr del) and correct if_down_cmd",
                );
                self.retry_later();
                self.rest();
            }
            _ => {}
        }
    }

    /// The address cannot be looked for. What is no address (a name: the commands may understand it) never can, and
    /// the commands' status has to do. Otherwise (out of descriptors) the ping tells whether it is here, and
    /// it is removed to be sure.
    fn suppose(&self, step: Step) -> bool {
        let never = self.ip.parse::<IpAddr>().is_err();
        match step {
            Step::UpLook { success } => success,
            Step::DownLook { success, .. } => !(never && success),
            _ => !never,
        }
    }

    fn failed(&mut self, why: &str) {
        self.warn(
            format!(
                "failed to acquire the delegate IP address {}: {why}",
                self.ip
            ),
            "it is tried again in ten seconds; run the command by hand as the user of pgpool",
        );
        self.retry_later();
    }
}
