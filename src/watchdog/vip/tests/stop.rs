//! The end of pgpool: the address is given up, in time and for good.

use super::*;

#[test]
fn at_a_stop_nothing_is_waited_for_that_hangs() {
    let mut bench = Bench::new(|s| s.de_escalation_command = "/x/hangs".to_owned());
    bench.up();
    bench.event(Event::DeEscalate);
    bench.after(5);
    bench.event(Event::Stop);
    assert_eq!(bench.done(), "/x/hangs, leave, ip addr del");
    for _ in 0..3 {
        bench.after(4);
        bench.looked(true);
    }
    assert!(bench.done().ends_with("kill, look, rest"));
    assert!(bench.said.contains("still on this host"));
    let mut bench = Bench::new(|_| {});
    bench.event(Event::Escalate);
    bench.event(Event::Stop);
    assert_eq!(bench.done(), "ip addr add, kill, ip addr del");
}

#[test]
fn a_stop_tries_once_more_to_remove_what_could_not_be_removed() {
    let mut bench = Bench::new(|_| {});
    bench.up();
    bench.event(Event::DeEscalate);
    for _ in 0..3 {
        bench.ended(true);
        bench.looked(true);
    }
    bench.done.clear();
    bench.event(Event::Stop);
    assert_eq!(bench.done(), "ip addr del");
    bench.ended(true);
    bench.looked(false);
    assert_eq!(bench.done(), "look, rest");
    let mut bench = Bench::new(|_| {});
    bench.event(Event::Stop);
    assert_eq!(bench.done(), "rest");
}

#[test]
fn a_node_that_ends_does_not_take_the_address_any_more() {
    let mut bench = Bench::new(|_| {});
    bench.up();
    bench.event(Event::Stop);
    bench.event(Event::Escalate);
    bench.ended(true);
    bench.looked(false);
    assert_eq!(bench.done(), "ip addr del, look, rest");
    bench.event(Event::Escalate);
    bench.after(60);
    assert_eq!(bench.done(), "");
}

#[test]
fn what_a_stop_could_not_remove_is_left_to_the_guard_and_the_operator() {
    let mut bench = Bench::new(|_| {});
    bench.up();
    bench.event(Event::Stop);
    for _ in 0..3 {
        bench.ended(true);
        bench.looked(true);
    }
    assert!(bench.done().ends_with("ip addr del, look, rest"));
    assert!(bench.said.contains("pgpool ends without having removed it"));
    assert!(bench.vip.may_be_here());
    bench.after(60);
    bench.event(Event::Seen { present: true });
    assert_eq!(bench.done(), "");
}
