//! Words that operators look for in the log.

use super::*;

fn said(bench: &Bench) -> Vec<String> {
    let entries = bench.actions.iter().filter_map(|action| match action {
        Action::Log(entry) => Some(entry.message.clone()),
        _ => None,
    });
    entries.collect()
}

fn assert_said(bench: &mut Bench, words: &[&str]) {
    let said = said(bench);
    for words in words {
        assert!(
            said.iter().any(|line| line.contains(words)),
            "\"{words}\" is not in {said:#?}"
        );
    }
    bench.done();
}

#[test]
fn a_leader_and_its_failovers_are_logged_in_the_words_of_stock_nodes() {
    let mut bench = Bench::new();
    bench.lead_alone();
    assert_said(
        &mut bench,
        &[
            "watchdog node state changed from [DEAD] to [LOADING]",
            "watchdog node state changed from [INITIALIZING] to [LEADER]",
            "I am announcing my self as leader/coordinator watchdog node",
            "I am the cluster leader node but we do not have enough nodes in cluster",
        ],
    );
    bench.meet(info_of(0, State::Standby));
    bench.say(0, Message::JoinLeader);
    assert_said(
        &mut bench,
        &[
            "adding watchdog node \"10.0.0.0:9999 Linux stock\" to the standby list",
            "quorum found: starting escalation process",
        ],
    );
    bench.event(Event::Request {
        ticket: 1,
        request: down(1),
    });
    assert_said(
        &mut bench,
        &[
            "watchdog is processing the failover command [DEGENERATE_BACKEND_REQUEST] received from",
            "failover requires the majority vote, waiting for consensus: failover request noted",
        ],
    );
    bench.say(0, Message::Failover(down(1)));
    assert_said(
        &mut bench,
        &["we have got the consensus to perform the failover"],
    );
    bench.say(0, Message::GoingDown);
    assert_said(
        &mut bench,
        &[
            "remote node \"10.0.0.0:9999 Linux stock\" is shutting down",
            "removing watchdog node \"10.0.0.0:9999 Linux stock\" from the standby list",
            "We have lost the quorum",
        ],
    );
    bench.event(Event::Request {
        ticket: 2,
        request: down(0),
    });
    assert_said(&mut bench, &["Rejecting the failover request"]);
}

#[test]
fn a_standby_and_the_loss_of_its_leader_are_logged_in_the_words_of_stock_nodes() {
    let mut bench = Bench::new();
    bench.start();
    bench.meet(info_of(0, State::Leader));
    bench.tell(info_of(0, State::Leader));
    bench.seconds(1);
    let id = bench.sent_id(b'J');
    bench.reply(inbound(0), id, Message::Accept);
    assert_said(
        &mut bench,
        &[
            "watchdog node state changed from [INITIALIZING] to [STANDBY]",
            "successfully joined the watchdog cluster as standby node",
        ],
    );
    bench.event(Event::Lifecheck {
        peer: 0,
        alive: false,
    });
    assert_said(
        &mut bench,
        &[
            "remote node \"10.0.0.0:9999 Linux stock\" is lost: REPORTED BY LIFECHECK",
            "watchdog cluster has lost the coordinator node",
            "We have lost the cluster leader node \"10.0.0.0:9999 Linux stock\"",
        ],
    );
    bench.event(Event::Lifecheck {
        peer: 0,
        alive: true,
    });
    assert_said(&mut bench, &["became reachable again"]);
}

#[test]
fn a_leader_warns_of_each_setting_that_differs_and_a_standby_does_not() {
    let words = "\"backend_hostname0\" on this node is db while on";
    let mut other = testing::settings(1, 3).announced;
    other.backends[0].0 = "elsewhere".to_owned();
    let mut bench = Bench::new();
    bench.lead(&[info_of(0, State::Standby)]);
    bench.say(0, Message::Config(Box::new(other.clone())));
    assert_said(&mut bench, &[words]);
    let mut bench = Bench::new();
    bench.follow(info_of(0, State::Leader));
    bench.say(0, Message::Config(Box::new(other)));
    assert!(!said(&bench).iter().any(|line| line.contains(words)));
}

#[test]
fn with_an_old_file_the_leader_is_called_master() {
    let mut bench = Bench::with(|settings| settings.local_numbers = true);
    bench.lead_alone();
    assert_said(
        &mut bench,
        &[
            "to [MASTER]",
            "I am the cluster master node but we do not have enough nodes",
        ],
    );
}
