//! What nodes say to each other of who leads and who is lost.

use super::*;

fn service(bench: &mut Bench, peer: PeerId, service: Service) -> String {
    bench.done();
    bench.say(peer, Message::Service(service));
    bench.done()
}

/// About to be a standby of peer 0.
fn joining() -> Bench {
    let mut bench = Bench::new();
    bench.start();
    bench.meet(info_of(0, State::Leader));
    bench
}

fn refused(bench: &mut Bench) -> State {
    bench.tell(info_of(0, State::Leader));
    for _ in 0..10 {
        if bench.core.state() == State::Standby {
            break;
        }
        bench.seconds(1);
    }
    assert_eq!(bench.core.state(), State::Standby);
    let id = bench.sent_id(b'J');
    bench.reply(inbound(0), id, Message::Reject);
    bench.core.state()
}

#[test]
fn a_node_that_its_leader_has_lost_and_refuses_keeps_away_until_it_is_found() {
    assert_eq!(
        refused(&mut joining()),
        State::Joining,
        "for another reason"
    );

    let mut bench = joining();
    service(&mut bench, 0, Service::YouAppearLost);
    assert_eq!(refused(&mut bench), State::NetworkIsolation);
    bench.seconds(9);
    assert_eq!(bench.core.state(), State::NetworkIsolation);
    service(&mut bench, 0, Service::YouAreFoundAgain);
    assert_eq!(bench.core.state(), State::Joining);
    assert_eq!(
        refused(&mut bench),
        State::Joining,
        "it is not lost any more"
    );

    let mut bench = joining();
    service(&mut bench, 0, Service::YouAppearLost);
    assert_eq!(refused(&mut bench), State::NetworkIsolation);
    bench.seconds(10);
    assert_eq!(bench.core.state(), State::Joining, "it asks again");
}

#[test]
fn a_leader_gives_way_to_the_true_one_and_says_so() {
    let mut bench = Bench::new();
    bench.lead(&[info_of(0, State::Standby)]);
    let done = service(&mut bench, 0, Service::IAmTrueLeader);
    assert!(
        done.starts_with("0#R") && done.contains("de-escalate"),
        "{done}"
    );
    assert_eq!(bench.core.state(), State::Joining);
    assert_eq!(bench.core.leader(), None);
}

#[test]
fn a_standby_that_hears_of_a_true_leader_besides_its_own_wants_an_election() {
    let mut bench = Bench::new();
    bench.follow(info_of(0, State::Leader));
    bench.meet(info_of(1, State::Leader));
    assert_eq!(service(&mut bench, 0, Service::IAmTrueLeader), "");
    assert_eq!(service(&mut bench, 1, Service::IAmTrueLeader), "0#E 1#E");
    assert_eq!(bench.core.state(), State::Standby);
}
