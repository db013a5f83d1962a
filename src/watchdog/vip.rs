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
mod outcome;
mod step;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use self::step::Step;

pub use self::commands::Command;
use super::{
    core::Entry,
    settings::{EscalationSettings, Settings},
};
use crate::observe::Severity;

/// An address that could not be had is tried for again.
const AGAIN: Duration = Duration::from_secs(10);
/// One that could not be removed may be another host's by now.
const DOWN_AGAIN: Duration = Duration::from_secs(3);
/// How long a command of the other direction may still run. As in the original.
const PATIENCE: Duration = Duration::from_secs(5);
/// Looks at the addresses come once a second: this process, or the machine, was suspended.
const PAUSE: Duration = Duration::from_secs(4);
/// Pings, and attempts to remove.
const ATTEMPTS: u32 = 3;

#[derive(Clone, Debug)]
pub enum Event {
    /// Sent once, first. The address may be here, left by a process that was killed.
    Start,
    Escalate,
    DeEscalate,
    /// pgpool ends, and waits for [`Action::AtRest`].
    Stop,
    /// The command has ended. `success`: with status 0; for a ping an average time could be read, too.
    Ended {
        call: u64,
        success: bool,
    },
    /// What [`Action::LookForAddress`] has found.
    ///
    /// `None`: that cannot be told.
    Looked {
        call: u64,
        present: Option<bool>,
    },
    /// From a look at the kernel's addresses, once a second.
    Seen {
        present: bool,
    },
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
    /// Its end is of no interest any more; `kill` it with its process group, or let it go on.
    Abandon {
        call: u64,
        kill: bool,
    },
    LookForAddress {
        call: u64,
    },
    /// Results in the shared query cache may be older than what other nodes have served.
    ClearQueryCache,
    /// Nothing runs, and the address is given up: a process that ends may end.
    AtRest,
}

#[derive(Debug)]
struct Running {
    call: u64,
    step: Step,
    /// The command line; empty while the address is looked for.
    line: String,
    since: Instant,
    /// It is waited for until then.
    until: Instant,
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
    /// So long after the last sign of life of this node others take the address.
    deadtime: Duration,
    stopping: bool,
    running: Option<Running>,
    again: Option<Instant>,
    /// When [`Event::Seen`] came last.
    looked: Option<Instant>,
    last_call: u64,
    now: Instant,
    wake: Option<Instant>,
    out: Vec<Action>,
}

impl Vip {
    pub fn new(settings: &Settings, now: Instant) -> Vip {
        Vip {
            settings: settings.escalation.clone(),
            ip: settings.delegate_ip.clone(),
            wanted: false,
            dirty: false,
            held: false,
            deadtime: settings.lifecheck.silence(),
            stopping: false,
            running: None,
            again: None,
            looked: None,
            last_call: 0,
            now,
            wake: None,
            out: Vec::new(),
        }
    }

    /// The address is here, as far as was seen.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// By what was done, the address may be here.
    pub fn may_be_here(&self) -> bool {
        self.dirty
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
            Event::Escalate => self.want(!self.stopping),
            Event::DeEscalate => self.want(false),
            Event::Stop => self.stop(),
            Event::Ended { call, success } => self.ended(call, success),
            Event::Looked { call, present } => self.looked(call, present),
            Event::Seen { present } => self.seen(present),
            Event::Timer => self.wake = None,
        }
        self.timer();
        self.wake_when_due();
        std::mem::take(&mut self.out)
    }

    fn want(&mut self, wanted: bool) {
        if self.wanted == wanted {
            return;
        }
        self.wanted = wanted;
        self.again = None;
        match &mut self.running {
            None => self.turn(),
            Some(running) => {
                running.until = running.since + running.step.limit(self.deadtime, self.stopping);
                if running.step.is_up() != wanted {
                    running.until = running.until.min(self.now + PATIENCE);
                }
            }
        }
    }

    /// The address is given up within what an end of pgpool may take: what hangs is not waited for.
    fn stop(&mut self) {
        self.stopping = true;
        self.want(false);
        self.again = None;
        match &mut self.running {
            Some(running) if running.step.is_up() => running.until = self.now,
            Some(running) => {
                let limit = running.step.limit(self.deadtime, true);
                running.until = running.until.min(running.since + limit);
            }
            None => self.begin_down(1),
        }
    }

    fn seen(&mut self, present: bool) {
        let before = self.looked.replace(self.now);
        let paused = before.is_some_and(|at| self.now.saturating_duration_since(at) >= PAUSE);
        let idle = self.running.is_none() && self.again.is_none() && !self.stopping;
        if !present && self.held {
            self.held = false;
            if self.wanted && idle && paused {
                // Others may lead by now, and what they say is not read yet.
                self.log("the virtual IP has gone from this host while this process stood still: it is brought up again in ten seconds if this node leads still");
                self.retry_later();
            } else if self.wanted && idle {
                self.log("the virtual IP has gone from this host: bringing it up again");
                self.begin_up();
            }
        } else if present && !self.wanted && idle {
            // A command that was given up has worked after all (nobody but root can kill what sudo runs), or
            // somebody else has added it.
            self.warn(
                format!(
                    "the virtual IP {} is on this host, and does not belong here: giving it up",
                    self.ip
                ),
                "another node may hold it, too",
            );
            self.dirty = true;
            self.begin_down(1);
        }
    }

    /// Nothing runs: begin what is wanted now.
    fn turn(&mut self) {
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
        let call = self.call(step, command.line());
        self.out.push(Action::Run { call, command });
    }

    fn look(&mut self, step: Step) {
        let call = self.call(step, String::new());
        self.out.push(Action::LookForAddress { call });
    }

    fn call(&mut self, step: Step, line: String) -> u64 {
        self.last_call += 1;
        self.running = Some(Running {
            call: self.last_call,
            step,
            line,
            since: self.now,
            until: self.now + step.limit(self.deadtime, self.stopping),
        });
        self.last_call
    }

    /// Takes what has ended, if it is what runs. `None`: of no interest, or something else is wanted now.
    fn take(&mut self, call: u64) -> Option<Step> {
        let step = self.running.take_if(|running| running.call == call)?.step;
        if step != Step::Leftover && step.is_up() != self.wanted {
            self.turn();
            return None;
        }
        Some(step)
    }

    fn retry_later(&mut self) {
        let pause = if self.wanted { AGAIN } else { DOWN_AGAIN };
        self.again = (!self.stopping).then(|| self.now + pause);
    }

    fn timer(&mut self) {
        let now = self.now;
        if let Some(late) = self.running.take_if(|running| running.until <= now) {
            self.abandon(&late);
            // An end like any other: after a step that changes something the address is looked for.
            if late.step != Step::Leftover && late.step.is_up() != self.wanted {
                self.turn();
            } else {
                self.has_ended(late.step, false);
            }
        } else if self.again.is_some_and(|at| at <= now) && self.running.is_none() {
            self.again = None;
            if self.wanted {
                self.begin_up();
            } else {
                self.begin_down(1);
            }
        }
    }

    fn abandon(&mut self, late: &Running) {
        let kill = !late.step.is_the_operators();
        self.out.push(Action::Abandon {
            call: late.call,
            kill,
        });
        let seconds = self.now.saturating_duration_since(late.since).as_secs_f32();
        let what = if kill {
            "it is killed"
        } else {
            "it runs on, and the virtual IP does not wait for it"
        };
        self.warn(
            format!("a command of the watchdog has not ended after {seconds:.0} s, {what}: {}", late.line),
            "run the command by hand as the user of pgpool, and look what it waits for: a name server, a password for sudo",
        );
    }

    fn wake_when_due(&mut self) {
        let due = self.running.as_ref().map(|running| running.until);
        let wake = due.into_iter().chain(self.again).min();
        if wake != self.wake {
            self.wake = wake;
            // First: whoever carries the others out may come back with their end at once, and with a later wish.
            self.out.splice(..0, wake.map(Action::WakeAt));
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
