//! Whether the address may be here, of which this process need not have seen anything.

use super::*;

#[test]
fn an_address_left_by_a_killed_process_is_given_up_at_the_start() {
    let mut bench = Bench::new(|_| {});
    bench.event(Event::Start);
    bench.looked(true);
    bench.ended(true);
    bench.looked(false);
    assert_eq!(bench.done(), "look, ip addr del, look, rest");
    let mut bench = Bench::new(|_| {});
    bench.event(Event::Start);
    bench.looked(false);
    assert_eq!(bench.done(), "look, rest");
}

/// The next leader was found before the look.
#[test]
fn an_address_left_by_a_killed_process_is_known_of_while_the_operators_command_runs() {
    let mut bench = Bench::new(|s| s.escalation_command = "/x/escalate".to_owned());
    bench.event(Event::Start);
    bench.event(Event::Escalate);
    bench.looked(true);
    assert_eq!(bench.done(), "look, /x/escalate");
    assert!(bench.vip.may_be_here(), "if this process is killed, too");
    bench.event(Event::DeEscalate);
    bench.ended(true);
    assert_eq!(bench.done(), "ip addr del");
}

#[test]
fn an_address_may_be_here_from_the_first_command_until_it_was_seen_to_be_gone() {
    let mut bench = Bench::new(|_| {});
    assert!(!bench.vip.may_be_here());
    bench.event(Event::Escalate);
    assert!(bench.vip.may_be_here(), "whatever becomes of the command");
    bench.after(10);
    bench.looked(false);
    assert!(bench.vip.may_be_here(), "it was killed, and may work yet");
    bench.event(Event::DeEscalate);
    for _ in 0..3 {
        bench.ended(true);
        bench.looked(true);
        assert!(bench.vip.may_be_here());
    }
    bench.after(3);
    bench.ended(true);
    assert!(bench.vip.may_be_here(), "before the look");
    bench.looked(false);
    assert!(!bench.vip.may_be_here());
    assert!(bench.done().ends_with("ip addr del, look, rest"));
    bench.event(Event::Stop);
    assert_eq!(bench.done(), "rest", "there is nothing to remove");
}

#[test]
fn an_address_that_came_by_itself_may_be_here_until_it_is_gone() {
    let mut bench = Bench::new(|_| {});
    bench.event(Event::Seen { present: true });
    assert!(bench.vip.may_be_here());
    bench.ended(true);
    bench.looked(false);
    assert!(!bench.vip.may_be_here());
    assert_eq!(bench.done(), "ip addr del, look, rest");
}
