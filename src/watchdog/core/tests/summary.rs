//! The line that says who leads.

use super::*;

/// Since it was last asked for.
fn lines(bench: &mut Bench) -> Vec<String> {
    let entries = bench.actions.iter().filter_map(|action| match action {
        Action::Log(entry) => entry.message.strip_prefix("watchdog: ").map(str::to_owned),
        _ => None,
    });
    let lines = entries.collect();
    bench.done();
    lines
}

#[test]
fn a_leader_says_whether_the_address_is_here_and_not_only_where_it_belongs() {
    let mut bench = Bench::new();
    bench.lead_alone();
    let alone = "this node leads, there is no quorum (0 of 2 other nodes have joined), the virtual IP 10.0.0.100 is not on this host, because there is no quorum";
    assert_eq!(lines(&mut bench).last().map(String::as_str), Some(alone));
    bench.meet(info_of(0, State::Standby));
    bench.say(0, Message::JoinLeader);
    assert_eq!(
        lines(&mut bench),
        [
            "this node leads, the quorum exists (1 of 2 other nodes have joined), the virtual IP 10.0.0.100 belongs here, because this node leads with quorum, and is not here yet"
        ]
    );
    bench.event(Event::Address { here: true });
    assert_eq!(
        lines(&mut bench),
        [
            "this node leads, the quorum exists (1 of 2 other nodes have joined), the virtual IP 10.0.0.100 is on this host, because this node leads with quorum"
        ]
    );
    bench.event(Event::Address { here: true });
    assert_eq!(lines(&mut bench), [""; 0], "nothing has changed");
    bench.say(0, Message::GoingDown);
    assert_eq!(
        lines(&mut bench),
        [
            "this node leads, there is no quorum (0 of 2 other nodes have joined), the virtual IP 10.0.0.100 is still on this host and is given up, because there is no quorum"
        ]
    );
}

#[test]
fn of_another_nodes_address_only_the_claim_is_known() {
    let leader = |escalated: bool| {
        let mut info = info_of(0, State::Leader);
        info.standing = Some(Standing {
            quorum: 1,
            escalated,
            ..Standing::default()
        });
        info
    };
    let mut bench = Bench::new();
    bench.start();
    bench.meet(leader(false));
    bench.tell(leader(false));
    bench.seconds(1);
    let by = "10.0.0.0:9999 Linux stock leads, the quorum exists, the virtual IP 10.0.0.100 is claimed by";
    assert_eq!(lines(&mut bench), [format!("{by} nobody")]);
    bench.tell(leader(true));
    assert_eq!(lines(&mut bench), [format!("{by} that node")]);
}

#[test]
fn when_nobody_leads_for_long_the_last_line_does_not_go_on_to_name_a_leader() {
    let mut bench = Bench::new();
    bench.follow(info_of(0, State::Leader));
    bench.event(Event::Lifecheck {
        peer: 0,
        alive: false,
    });
    // It is alone, and others are asked for a while before it leads.
    bench.meet(info_of(1, State::StandForLeader));
    bench.seconds(4);
    assert_eq!(lines(&mut bench), [""; 0], "an election is under way");
    bench.seconds(2);
    let said = lines(&mut bench);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("nobody leads, as far as this node knows (it is in state "),
        "{said:?}"
    );
}

#[test]
fn a_missing_write_lease_is_named_as_what_is_missing() {
    let mut bench = Bench::new();
    bench.lead(&[ours(0, State::Standby), ours(1, State::Standby)]);
    // They have joined and do not answer the questions of the lease.
    for _ in 0..10 {
        bench.seconds(2);
        for peer in 0..2 {
            bench.tell(ours(peer, State::Standby));
        }
    }
    assert!(
        lines(&mut bench).iter().any(|line| line.starts_with(
            "this node leads, there is no quorum without the write lease, which no majority has granted yet (2 of 2 other nodes have joined)"
        )),
    );
}
