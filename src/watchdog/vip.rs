//! Escalation and the virtual IP: which commands run, in which order, and whether they have worked.
//!
//! A core like [`super::core`], whose [`Escalate`](super::core::Action::Escalate) and
//! [`DeEscalate`](super::core::Action::DeEscalate) are its events. The shell runs one command at a time,
//! says how it ended, and looks through the machine's own addresses.
//!
//! Commands and their order are those of `src/watchdog/wd_escalation.c` and `wd_if.c @ V4_3_5`. Beyond these the
//! address is looked for after each command that adds or removes it; what has not worked is tried again;
//! and an address that a process before has left behind is given up at the start. A program that
//! cannot be run counts as failed; stock takes it for a success.

mod commands;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub use self::commands::Command;
use super::{core::Entry, settings::EscalationSettings};
use crate::observe::Severity;

/// An address that could not be had is tried for again.
const AGAIN: Duration = Duration::from_secs(10);
/// How long a command of the other direction may still run.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pings, and attempts to remove.
const ATTEMPTS: u32 = 3;

#[derive(Clone, Debug)]
pub enum Event {
    /// Sent once, first. The address may be here, left by a process that was killed.
    Start,
    Escalate,
    DeEscalate,
    /// The command has ended. `success`: with status 0; for a ping an average time could be read, too.
    Ended {
        call: u64,
        success: bool,
    },
    /// What [`Action::LookForAddress`] has found.
    Looked {
        call: u64,
        present: bool,
    },
    /// The kernel says that the address has gone.
    AddressRemoved,
    Timer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Log(Entry),
    WakeAt(Instant),
    /// Standard output may be thrown away, but for a ping's.
    Run {
        call: u64,
        command: Command,
    },
    /// Kill it with its process group; its end is of no interest.
    Abandon {
        call: u64,
    },
    LookForAddress {
        call: u64,
    },
    /// Results in the shared query cache may be older than what other nodes have served.
    ClearQueryCache,
    /// Nothing runs, and the address is given up: a process that ends may end.
    AtRest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Is the address here, before anything is done?
    Leftover,
    EscalationCommand,
    Up,
    /// `success`: of the command before, as its status says.
    UpLook {
        success: bool,
    },
    Arping,
    Ping {
        attempt: u32,
    },
    DeEscalationCommand,
    Down {
        attempt: u32,
    },
    DownLook {
        attempt: u32,
    },
}

impl Step {
    fn is_up(self) -> bool {
        matches!(
            self,
            Step::EscalationCommand
                | Step::Up
                | Step::UpLook { .. }
                | Step::Arping
                | Step::Ping { .. }
        )
    }
}

#[derive(Debug)]
pub struct Vip {
    settings: EscalationSettings,
    /// Empty: only the two commands run.
    ip: String,
    wanted: bool,
    /// The address may be here.
    dirty: bool,
    /// It was seen here, and announced.
    held: bool,
    running: Option<(u64, Step)>,
    /// A command of the other direction is waited for until then.
    patience: Option<Instant>,
    again: Option<Instant>,
    last_call: u64,
    now: Instant,
    out: Vec<Action>,
}

impl Vip {
    pub fn new(settings: EscalationSettings, ip: String, now: Instant) -> Vip {
        Vip {
            settings,
            ip,
            wanted: false,
            dirty: false,
            held: false,
            running: None,
            patience: None,
            again: None,
            last_call: 0,
            now,
            out: Vec::new(),
        }
    }

    /// The address is here, as far as was seen.
    pub fn is_held(&self) -> bool {
        self.held
    }

    #[must_use = "the caller has to carry the actions out"]
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        self.now = self.now.max(now);
        match event {
            Event::Start => {
                if !self.ip.is_empty() {
                    self.look(Step::Leftover);
                }
            }
            Event::Escalate => self.want(true),
            Event::DeEscalate => self.want(false),
            Event::Ended { call, success } => self.ended(call, success),
            Event::Looked { call, present } => self.looked(call, present),
            Event::AddressRemoved => {
                self.held = false;
                if self.wanted && self.running.is_none() {
                    self.log("the virtual IP has gone from this host: bringing it up again");
                    self.begin_up();
                }
            }
            Event::Timer => self.timer(),
        }
        std::mem::take(&mut self.out)
    }

    fn want(&mut self, wanted: bool) {
        if self.wanted == wanted {
            return;
        }
        self.wanted = wanted;
        self.again = None;
        match self.running {
            None => self.turn(),
            // What runs is of the other direction, unless that was wanted before.
            Some((_, step)) if step.is_up() != wanted => self.be_patient(),
            Some(_) => self.patience = None,
        }
    }

    fn be_patient(&mut self) {
        let until = self.now + PATIENCE;
        self.patience = Some(until);
        self.out.push(Action::WakeAt(until));
    }

    /// Nothing runs: begin what is wanted now.
    fn turn(&mut self) {
        self.patience = None;
        if self.wanted {
            if self.settings.clear_query_cache {
                self.out.push(Action::ClearQueryCache);
            }
            match Command::shell(&self.settings.escalation_command) {
                Some(command) => self.run(Step::EscalationCommand, command),
                None => self.begin_up(),
            }
        } else {
            match Command::shell(&self.settings.de_escalation_command) {
                Some(command) => self.run(Step::DeEscalationCommand, command),
                None => self.begin_down(1),
            }
        }
    }

    fn begin_up(&mut self) {
        match Command::up(&self.settings, &self.ip) {
            Some(command) => {
                self.dirty = true;
                self.run(Step::Up, command);
            }
            None => self.rest(),
        }
    }

    fn begin_down(&mut self, attempt: u32) {
        self.held = false;
        match Command::down(&self.settings, &self.ip).filter(|_| self.dirty) {
            Some(command) => self.run(Step::Down { attempt }, command),
            None => self.rest(),
        }
    }

    fn rest(&mut self) {
        self.running = None;
        if !self.wanted {
            self.out.push(Action::AtRest);
        }
    }

    fn run(&mut self, step: Step, command: Command) {
        let call = self.call(step);
        self.out.push(Action::Run { call, command });
    }

    fn look(&mut self, step: Step) {
        let call = self.call(step);
        self.out.push(Action::LookForAddress { call });
    }

    fn call(&mut self, step: Step) -> u64 {
        self.last_call += 1;
        self.running = Some((self.last_call, step));
        self.last_call
    }

    /// Takes what has ended, if it is what runs. `None`: of no interest, or something else is wanted now.
    fn take(&mut self, call: u64) -> Option<Step> {
        let (_, step) = self.running.filter(|(running, _)| *running == call)?;
        self.running = None;
        if step != Step::Leftover && step.is_up() != self.wanted {
            self.turn();
            return None;
        }
        Some(step)
    }

    fn ended(&mut self, call: u64, success: bool) {
        let Some(step) = self.take(call) else { return };
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
            Step::Down { attempt } => self.look(Step::DownLook { attempt }),
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

    fn looked(&mut self, call: u64, present: bool) {
        let Some(step) = self.take(call) else { return };
        match step {
            Step::Leftover if self.wanted => {
                self.dirty |= present;
                self.turn();
            }
            Step::Leftover if present => {
                self.dirty = true;
                self.warn(
                    format!("the virtual IP {} is on this host, left by a process that was killed: giving it up", self.ip),
                    "",
                );
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
            Step::DownLook { attempt } if attempt < ATTEMPTS => self.begin_down(attempt + 1),
            Step::DownLook { .. } => {
                self.warn(
                    format!("the virtual IP {} is still on this host after if_down_cmd; it is tried again", self.ip),
                    "another node may hold it, too: remove it by hand (ip addr del) and correct if_down_cmd",
                );
                self.retry_later();
                self.rest();
            }
            _ => {}
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

    fn retry_later(&mut self) {
        let at = self.now + AGAIN;
        self.again = Some(at);
        self.out.push(Action::WakeAt(at));
    }

    fn timer(&mut self) {
        if self.patience.is_some_and(|at| at <= self.now) {
            if let Some((call, _)) = self.running.take() {
                self.out.push(Action::Abandon { call });
            }
            self.turn();
        } else if self.again.is_some_and(|at| at <= self.now) && self.running.is_none() {
            self.again = None;
            if self.wanted {
                self.begin_up();
            } else {
                self.begin_down(1);
            }
        }
    }

    fn log(&mut self, message: impl Into<String>) {
        self.out.push(Action::Log(Entry {
            severity: Severity::Log,
            message: message.into(),
            hint: String::new(),
        }));
    }

    fn warn(&mut self, message: String, hint: &str) {
        self.out.push(Action::Log(Entry {
            severity: Severity::Warning,
            message,
            hint: hint.to_owned(),
        }));
    }
}
