mod leftover;
mod stop;

use super::*;
use crate::watchdog::testing;

struct Bench {
    vip: Vip,
    now: Instant,
    /// What was done, in words; numbers of calls left out.
    done: Vec<String>,
    /// The last warning.
    said: String,
    call: u64,
}

fn word(command: &Command) -> String {
    match command {
        Command::Shell(line) => line.clone(),
        Command::Direct { arguments, .. } => arguments
            .iter()
            .take(3)
            .cloned()
            .collect::<Vec<_>>()
            .join(" "),
    }
}

impl Bench {
    fn new(change: impl FnOnce(&mut EscalationSettings)) -> Bench {
        let mut settings = testing::settings(0, 3);
        change(&mut settings.escalation);
        Bench::with(settings)
    }

    fn with(settings: Settings) -> Bench {
        let now = Instant::now();
        Bench {
            vip: Vip::new(&settings, now),
            now,
            said: String::new(),
            done: Vec::new(),
            call: 0,
        }
    }

    fn event(&mut self, event: Event) {
        for action in self.vip.handle(event, self.now) {
            match action {
                Action::Run { call, command } => {
                    self.call = call;
                    self.done.push(word(&command));
                }
                Action::LookForAddress { call } => {
                    self.call = call;
                    self.done.push("look".to_owned());
                }
                Action::Abandon { kill: true, .. } => self.done.push("kill".to_owned()),
                Action::Abandon { kill: false, .. } => self.done.push("leave".to_owned()),
                Action::ClearQueryCache => self.done.push("clear".to_owned()),
                Action::AtRest => self.done.push("rest".to_owned()),
                Action::Log(entry) if entry.severity == Severity::Warning => {
                    self.said = entry.message;
                }
                Action::Log(_) => {}
                Action::WakeAt(at) => assert!(at > self.now, "it would spin"),
            }
        }
    }

    fn ended(&mut self, success: bool) {
        let call = self.call;
        self.event(Event::Ended { call, success });
    }

    fn looked(&mut self, present: bool) {
        let call = self.call;
        let present = Some(present);
        self.event(Event::Looked { call, present });
    }

    fn cannot_look(&mut self) {
        let call = self.call;
        self.event(Event::Looked {
            call,
            present: None,
        });
    }

    fn after(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.event(Event::Timer);
    }

    fn done(&mut self) -> String {
        std::mem::take(&mut self.done).join(", ")
    }

    fn up(&mut self) {
        self.event(Event::Escalate);
        self.ended(true);
        self.looked(true);
        self.ended(true);
        self.ended(true);
        assert!(self.vip.is_held());
        self.done.clear();
    }
}

#[test]
fn escalation_runs_its_command_then_brings_the_address_up_and_verifies_it() {
    let mut bench = Bench::new(|s| {
        s.escalation_command = "/x/escalate".to_owned();
        s.clear_query_cache = true;
    });
    bench.event(Event::Escalate);
    bench.ended(false);
    bench.ended(true);
    bench.looked(true);
    bench.ended(true);
    bench.ended(false);
    bench.ended(true);
    assert!(bench.vip.is_held());
    assert_eq!(
        bench.done(),
        "clear, /x/escalate, ip addr add, look, /usr/sbin/arping -U 10.0.0.100, ping -q -c3, ping -q -c3"
    );
}

#[test]
fn de_escalation_removes_the_address_until_it_is_gone() {
    let mut bench = Bench::new(|s| s.de_escalation_command = "/x/down".to_owned());
    bench.up();
    bench.event(Event::DeEscalate);
    bench.ended(true);
    bench.ended(false);
    bench.looked(true);
    bench.ended(true);
    bench.looked(false);
    assert!(!bench.vip.is_held());
    assert_eq!(
        bench.done(),
        "/x/down, ip addr del, look, ip addr del, look, rest"
    );
}

/// As a shell does it, which looks at once.
fn carried_out(
    vip: &mut Vip,
    event: Event,
    now: Instant,
    present: bool,
    last: &mut Instant,
) -> u64 {
    let mut running = 0;
    for action in vip.handle(event, now) {
        match action {
            Action::WakeAt(at) => *last = at,
            Action::Run { call, .. } => running = call,
            Action::LookForAddress { call } => {
                let seen = Event::Looked {
                    call,
                    present: Some(present),
                };
                running = carried_out(vip, seen, now, present, last);
            }
            _ => {}
        }
    }
    running
}

#[test]
fn the_last_wish_to_be_woken_is_that_of_the_command_that_runs() {
    let mut bench = Bench::new(|_| {});
    bench.up();
    let (now, mut last) = (bench.now, bench.now);
    let call = carried_out(&mut bench.vip, Event::DeEscalate, now, true, &mut last);
    let now = now + Duration::from_millis(300);
    let failed = Event::Ended {
        call,
        success: false,
    };
    carried_out(&mut bench.vip, failed, now, true, &mut last);
    assert_eq!(last, now + Duration::from_secs(5));
}

#[test]
fn an_address_that_cannot_be_had_or_removed_is_tried_for_again() {
    let mut bench = Bench::new(|_| {});
    bench.event(Event::Escalate);
    bench.ended(false);
    bench.looked(false);
    assert_eq!(bench.done(), "ip addr add, look");
    bench.after(9);
    assert_eq!(bench.done(), "");
    bench.after(1);
    bench.ended(true);
    bench.looked(false);
    assert_eq!(bench.done(), "ip addr add, look");
    bench.event(Event::DeEscalate);
    for _ in 0..3 {
        bench.ended(true);
        bench.looked(true);
    }
    assert!(bench.done().ends_with("look, rest"));
    bench.after(2);
    assert_eq!(bench.done(), "");
    bench.after(1);
    assert_eq!(bench.done(), "ip addr del");
}

#[test]
fn an_address_that_does_not_answer_to_ping_is_brought_up_anew() {
    let mut bench = Bench::new(|_| {});
    bench.event(Event::Escalate);
    bench.ended(true);
    bench.looked(true);
    bench.ended(true);
    bench.done.clear();
    for _ in 0..3 {
        bench.ended(false);
    }
    assert_eq!(bench.done(), "ping -q -c3, ping -q -c3");
    assert!(bench.said.contains("does not answer to ping"));
    assert!(!bench.vip.is_held());
    bench.after(9);
    assert_eq!(bench.done(), "");
    bench.after(1);
    assert_eq!(bench.done(), "ip addr add");
}

/// `ip addr add` fails for an address that is here already.
#[test]
fn an_address_that_is_here_already_is_announced_and_verified() {
    let mut bench = Bench::new(|_| {});
    bench.event(Event::Escalate);
    bench.ended(true);
    bench.looked(true);
    bench.ended(false);
    assert_eq!(
        bench.done(),
        "ip addr add, look, /usr/sbin/arping -U 10.0.0.100"
    );
    bench.after(10);
    bench.ended(false);
    bench.looked(true);
    bench.ended(true);
    bench.ended(true);
    assert!(bench.vip.is_held());
    assert_eq!(
        bench.done(),
        "ip addr add, look, /usr/sbin/arping -U 10.0.0.100, ping -q -c3"
    );
}

#[test]
fn a_command_that_hangs_does_not_keep_the_address() {
    let mut bench = Bench::new(|s| s.escalation_command = "/x/hangs".to_owned());
    bench.event(Event::Escalate);
    bench.event(Event::DeEscalate);
    bench.after(4);
    assert_eq!(bench.done(), "/x/hangs");
    bench.after(1);
    assert_eq!(bench.done(), "leave, rest");
}

#[test]
fn no_command_that_hangs_holds_up_the_next_step() {
    let mut bench = Bench::new(|s| {
        s.escalation_command = "/x/hangs".to_owned();
        s.de_escalation_command = "/x/hangs too".to_owned();
    });
    bench.event(Event::Escalate);
    bench.after(29);
    assert_eq!(bench.done(), "/x/hangs");
    bench.after(1);
    assert_eq!(bench.done(), "leave, ip addr add");
    assert!(bench.said.contains("command failed"));
    bench.after(10);
    assert_eq!(bench.done(), "kill, look");
    assert!(
        bench
            .said
            .contains("not ended after 10 s, it is killed: /sbin/ip addr add 10.0.0.100/24")
    );
    bench.looked(true);
    bench.after(10);
    assert_eq!(bench.done(), "/usr/sbin/arping -U 10.0.0.100, kill");
    bench.after(10);
    bench.ended(false);
    bench.looked(true);
    bench.ended(true);
    bench.after(20);
    bench.ended(true);
    assert!(bench.vip.is_held());
    assert!(bench.done().ends_with("ping -q -c3, kill, ping -q -c3"));

    // Others take the address after a dead time of 30 s.
    bench.event(Event::DeEscalate);
    bench.after(15);
    assert_eq!(bench.done(), "/x/hangs too, leave, ip addr del");
    bench.after(5);
    bench.looked(true);
    bench.after(5);
    bench.looked(false);
    assert_eq!(bench.done(), "kill, look, ip addr del, kill, look, rest");
}

#[test]
fn a_change_of_mind_is_heeded_when_the_command_ends() {
    let mut bench = Bench::new(|_| {});
    bench.event(Event::Escalate);
    bench.event(Event::DeEscalate);
    bench.ended(true);
    assert_eq!(bench.done(), "ip addr add, ip addr del");
    bench.event(Event::Escalate);
    bench.ended(true);
    assert_eq!(bench.done(), "ip addr add");
}

#[test]
fn an_address_that_vanishes_is_brought_up_again() {
    let mut bench = Bench::new(|_| {});
    bench.up();
    bench.event(Event::Seen { present: false });
    assert!(!bench.vip.is_held());
    assert_eq!(bench.done(), "ip addr add");
}

/// A command that could not be killed has worked in the end.
#[test]
fn an_address_that_appears_where_it_is_not_wanted_is_given_up() {
    let mut bench = Bench::new(|_| {});
    bench.event(Event::Escalate);
    bench.event(Event::DeEscalate);
    // What runs is waited for.
    bench.event(Event::Seen { present: true });
    bench.after(5);
    bench.ended(true);
    bench.looked(false);
    assert_eq!(bench.done(), "ip addr add, kill, ip addr del, look, rest");
    bench.event(Event::Seen { present: false });
    assert_eq!(bench.done(), "");
    bench.event(Event::Seen { present: true });
    assert_eq!(bench.done(), "ip addr del");
    assert!(bench.said.contains("does not belong here"));
    bench.ended(true);
    bench.looked(false);
    bench.done.clear();

    bench.event(Event::Escalate);
    bench.event(Event::Seen { present: true });
    assert_eq!(bench.done(), "ip addr add");
}

#[test]
fn after_a_suspension_the_address_does_not_come_back_at_once() {
    let mut bench = Bench::new(|_| {});
    bench.up();
    bench.event(Event::Seen { present: true });
    bench.after(20);
    bench.event(Event::Seen { present: false });
    bench.after(1);
    bench.event(Event::Seen { present: false });
    bench.after(8);
    assert_eq!(bench.done(), "");
    bench.after(1);
    assert_eq!(bench.done(), "ip addr add");
}

#[test]
fn an_address_that_cannot_be_looked_for_is_taken_for_one_that_is_here() {
    let mut bench = Bench::new(|_| {});
    bench.event(Event::Start);
    bench.cannot_look();
    assert!(bench.said.contains("may be on this host"));
    bench.ended(true);
    bench.cannot_look();
    bench.ended(true);
    bench.looked(false);
    assert_eq!(
        bench.done(),
        "look, ip addr del, look, ip addr del, look, rest"
    );
    bench.event(Event::Escalate);
    bench.ended(true);
    bench.cannot_look();
    assert!(bench.done().ends_with("/usr/sbin/arping -U 10.0.0.100"));
}

/// Stock takes any text.
#[test]
fn of_what_is_no_address_the_commands_know_whether_it_is_here() {
    let mut settings = testing::settings(0, 3);
    settings.delegate_ip = "vip.example".to_owned();
    let mut bench = Bench::with(settings);
    bench.event(Event::Start);
    bench.cannot_look();
    assert_eq!(bench.done(), "look, rest");
    bench.event(Event::Escalate);
    bench.ended(true);
    bench.cannot_look();
    bench.ended(true);
    bench.ended(true);
    assert!(bench.vip.is_held());
    bench.done.clear();
    bench.event(Event::DeEscalate);
    bench.ended(false);
    bench.cannot_look();
    bench.ended(true);
    bench.cannot_look();
    assert_eq!(bench.done(), "ip addr del, look, ip addr del, look, rest");
}
