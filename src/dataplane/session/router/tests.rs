//! What the module promises, in a session of two nodes: 0 is the primary, 1 the load balance node.

mod pipelines;

use super::*;
use crate::{
    failover::testing,
    protocol::messages::{self, SYNC, frame},
    routing::{relcache::Relation, settings::OnWrite},
};

/// Knows every name: functions that begin with `f_vol` are volatile.
struct Known;

impl Catalog for Known {
    fn relation(&mut self, _: Option<&[u8]>, _: &[u8]) -> Option<Relation> {
        Some(Relation::default())
    }

    fn volatile(&mut self, _: Option<&[u8]>, name: &[u8]) -> Option<bool> {
        Some(name.starts_with(b"f_vol"))
    }
}

struct Session {
    router: Router,
    ledgers: Vec<Ledger>,
    view: ClusterView,
    settings: Settings,
}

impl Session {
    fn new() -> Session {
        Session::with(2, Settings::default())
    }

    fn with(nodes: usize, settings: Settings) -> Session {
        let mut view = testing::view(nodes);
        view.primary = Some(0);
        let mut router = Router::new(0, Some(1));
        router.set_begins_serializable(false);
        Session {
            router,
            ledgers: (0..nodes).map(|_| Ledger::default()).collect(),
            view,
            settings,
        }
    }

    /// Where a message goes: the leader, then `+` each follower, or `wait`. What is put before it
    /// comes first.
    fn send(&mut self, bytes: &[u8]) -> String {
        let message = Message {
            kind: bytes[0],
            body_len: bytes.len() - HEADER_LEN,
            bytes,
        };
        let mut env = Env {
            view: &self.view,
            replication: &[],
            settings: &self.settings,
            switches: Switches::default(),
            who: Who::default(),
            catalog: Known,
            facts: &mut Facts::new(),
            random: &mut || 0.9,
        };
        match self.router.step(message, &mut self.ledgers, &mut env) {
            Step::Send(sending) => {
                let mut text = String::new();
                for (nodes, before) in &sending.before {
                    let what = match before {
                        Before::Parse { .. } => "parse",
                        Before::Close { .. } => "close",
                        Before::Occupy { .. } => "occupy",
                        Before::Join { .. } => "join",
                    };
                    text += &format!("{what} on {}, ", list(*nodes));
                }
                text += &sending.leader.to_string();
                for node in sending.followers.iter() {
                    text += &format!("+{node}");
                }
                text
            }
            Step::Wait => "wait".to_owned(),
            other => format!("{other:?}"),
        }
    }

    fn query(&mut self, sql: &str) -> String {
        let mut bytes = Vec::new();
        messages::query(sql, &mut bytes);
        self.send(&bytes)
    }

    fn parse(&mut self, name: &str, sql: &str) -> String {
        let mut bytes = Vec::new();
        messages::parse(name.as_bytes(), sql.as_bytes(), &mut bytes);
        self.send(&bytes)
    }

    fn message(&mut self, kind: u8, body: &str) -> String {
        let mut bytes = Vec::new();
        frame(kind, &mut bytes, |out| {
            out.extend_from_slice(body.as_bytes())
        });
        self.send(&bytes)
    }

    fn bind(&mut self, portal: &str, name: &str) -> String {
        self.message(b'B', &format!("{portal}\0{name}\0\0\0\0\0\0\0"))
    }

    fn execute(&mut self, portal: &str) -> String {
        self.message(b'E', &format!("{portal}\0\0\0\0\0"))
    }

    /// Parse, Bind and Execute.
    fn run(&mut self, sql: &str) -> [String; 3] {
        [self.parse("", sql), self.bind("", ""), self.execute("")]
    }

    fn sync(&mut self) -> String {
        self.send(&SYNC)
    }

    /// A node says messages of these kinds; behind a Z stands its status.
    fn says(&mut self, node: NodeId, kinds: &str) -> &mut Session {
        let mut kinds = kinds.bytes();
        while let Some(kind) = kinds.next() {
            let status = if kind == b'Z' { kinds.next() } else { None };
            let body = status.as_slice();
            self.router
                .answer(node, kind, body, &mut self.ledgers, &self.settings);
        }
        self
    }

    fn orders(&mut self) -> Vec<(NodeId, Order)> {
        self.router.take_effects().orders
    }

    fn diverged(&mut self) -> Vec<NodeId> {
        self.router.take_effects().diverged
    }

    fn may_go_on(&self) -> bool {
        self.router.may_go_on(&self.ledgers)
    }

    /// In a transaction on both nodes, all answered.
    fn begin(&mut self) -> &mut Session {
        assert_eq!(self.query("BEGIN"), "0+1");
        self.says(0, "CZT").says(1, "CZT")
    }
}

fn list(nodes: NodeSet) -> String {
    let nodes: Vec<String> = nodes.iter().map(|node| node.to_string()).collect();
    nodes.join("+")
}

const READ: &str = "SELECT * FROM t";
const WRITE: &str = "INSERT INTO t VALUES (1)";
const FLUSH: Order = Order::Flush;
const ABORT: Order = Order::Abort { sync: true };
const ABORT_IN_SEQUENCE: Order = Order::Abort { sync: false };

// The answers of one node at a time are the client's.

#[test]
fn a_message_for_another_node_waits_until_the_node_before_it_has_answered() {
    let mut s = Session::new();
    assert_eq!(s.query(READ), "1");
    assert_eq!(s.query(WRITE), "wait");
    assert!(!s.says(1, "TDC").may_go_on());
    assert!(s.router.shows(1, b'Z', &s.ledgers) && !s.router.shows(0, b'C', &s.ledgers));
    assert!(s.says(1, "ZI").may_go_on());
    assert_eq!(s.query(WRITE), "0");
    assert!(s.router.shows(0, b'C', &s.ledgers) && !s.router.shows(1, b'C', &s.ledgers));
}

#[test]
fn amid_a_pipeline_a_flush_makes_the_answers_come() {
    let mut s = Session::new();
    assert_eq!(s.run(READ), ["1", "1", "1"]);
    assert_eq!(s.parse("", WRITE), "wait");
    assert_eq!(s.orders(), [(1, FLUSH)]);
    assert_eq!(s.parse("", WRITE), "wait");
    assert_eq!(s.orders(), [], "one is enough");
    s.says(1, "12DC");
    assert_eq!(s.run(WRITE), ["0", "0", "0"]);
    assert_eq!(
        s.sync(),
        "wait",
        "if the write fails, so has the other part to"
    );
    assert_eq!(s.orders(), [(0, FLUSH)]);
    s.says(0, "12C");
    assert_eq!(s.sync(), "0+1", "both have a sequence open");
}

#[test]
fn an_error_is_known_before_anything_behind_it_goes_elsewhere() {
    let mut s = Session::new();
    s.run(READ);
    assert_eq!(s.parse("", WRITE), "wait");
    s.says(1, "12E");
    assert_eq!(s.parse("", WRITE), "1", "for that node to ignore");
    assert_eq!(s.sync(), "1");
}

#[test]
fn what_waits_behind_a_copy_goes_on_when_the_copy_begins() {
    let mut s = Session::new();
    assert_eq!(s.query("COPY t FROM STDIN"), "0");
    assert_eq!(s.query(READ), "wait");
    assert!(s.says(0, "G").may_go_on());
    assert_eq!(s.query(READ), "0", "the copy fails with it");
    s.says(0, "EZI");
    assert_eq!(s.query(READ), "1");
}

#[test]
fn a_sync_that_a_copy_swallows_ends_no_sequence() {
    let mut s = Session::new();
    s.run("COPY t FROM STDIN");
    assert_eq!(s.sync(), "wait", "whether it is the copy's");
    assert_eq!(s.orders(), [(0, FLUSH)]);
    assert!(s.says(0, "12G").may_go_on());
    assert_eq!(s.sync(), "0");
    assert_eq!(s.message(b'c', ""), "0");
    assert_eq!(s.parse("", "DISCARD ALL"), "wait");
    assert_eq!(s.orders(), [(0, FLUSH)]);
    s.says(0, "C");
    assert_eq!(s.parse("", "DISCARD ALL"), "0+1");
    assert_eq!(s.bind("", ""), "0+1");
    s.says(0, "12").says(1, "12");
    assert_eq!(s.execute(""), "0", "the standby has executed nothing");
}

#[test]
fn a_statement_that_settles_what_there_is_has_the_pipeline_to_itself() {
    let mut s = Session::new();
    s.run(WRITE);
    assert_eq!(s.parse("", "PREPARE p AS SELECT 1"), "0");
    assert_eq!(s.bind("", ""), "0", "nothing is carried out yet");
    assert_eq!(s.execute(""), "wait");
    s.says(0, "12C12");
    assert_eq!(s.execute(""), "0");
    assert_eq!(s.parse("", WRITE), "wait");
    assert_eq!(s.sync(), "0");
}

#[test]
fn what_follows_a_command_of_several_nodes_waits_for_all_of_them() {
    let mut s = Session::new();
    assert_eq!(s.query("BEGIN"), "0+1");
    s.says(0, "CZT");
    assert_eq!(s.query(WRITE), "wait");
    s.says(1, "CZT");
    assert_eq!(s.query(WRITE), "0");
}

#[test]
fn the_unnamed_statement_of_an_earlier_sequence_is_waited_for() {
    let mut s = Session::new();
    s.parse("", "SELECT nonsense");
    s.sync();
    assert_eq!(s.bind("", ""), "wait");
    s.says(1, "EZI");
    assert_eq!(s.bind("", ""), "close on 0, 0", "there is none");
}

#[test]
fn which_statements_are_left_is_known_before_the_next_one_is_named() {
    let mut s = Session::new();
    s.parse("s", READ);
    s.sync();
    s.says(1, "1ZI");
    assert_eq!(s.query("DEALLOCATE ALL"), "0+1");
    assert_eq!(s.bind("", "s"), "wait");
    s.says(0, "CZI").says(1, "CZI");
    assert_eq!(s.bind("", "s"), "0", "for the primary to refuse");
}

// What goes to several nodes is answered by one.

#[test]
fn the_primary_answers_what_goes_to_several_nodes() {
    let mut s = Session::new();
    assert_eq!(s.query("SET a = 1"), "0+1");
    assert!(s.router.shows(0, b'C', &s.ledgers) && !s.router.shows(1, b'C', &s.ledgers));
    s.says(0, "CZI");
    assert_eq!(s.query(READ), "wait", "node 1 has not answered the SET");
    s.says(1, "CZI");
    assert_eq!(s.query(READ), "1");
}

#[test]
fn a_follower_that_fails_where_the_leader_did_not_is_not_read_from() {
    let mut s = Session::new();
    s.query("SET a = 1");
    s.says(0, "CZI").says(1, "EZI");
    assert_eq!(s.diverged(), [1]);
    assert_eq!(s.query(READ), "0");
}

#[test]
fn a_follower_that_has_done_what_the_leader_has_undone_is_not_read_from() {
    let mut s = Session::new();
    assert_eq!(s.run("SET a = 1"), ["0+1", "0+1", "0+1"]);
    assert_eq!(s.sync(), "0+1");
    // A constraint that is looked at when the transaction is committed.
    s.says(0, "12CEZI").says(1, "12CZI");
    assert_eq!(s.diverged(), [1]);
}

#[test]
fn the_load_balance_node_is_told_what_a_string_of_statements_has_set() {
    let mut s = Session::new();
    assert_eq!(s.query("SET a = 1; SELECT 1; RESET b"), "0");
    s.says(0, "CTDCCZI");
    assert_eq!(
        s.orders(),
        [(1, Order::Replay(b"SET a = 1; RESET b;".as_slice().into()))]
    );
    assert_eq!(s.query(READ), "wait");
    s.says(1, "CCZI");
    assert_eq!(s.query(READ), "1");
}

#[test]
fn who_is_not_told_of_a_set_is_not_read_from() {
    let mut s = Session::new();
    assert_eq!(s.query("BEGIN; SET a = 1; COMMIT"), "0");
    s.says(0, "CCCZI");
    assert_eq!(s.query(READ), "0");
    // What a standby refuses changes nothing for what it is asked.
    let mut s = Session::new();
    assert_eq!(
        s.query("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"),
        "0"
    );
    s.says(0, "CZI");
    assert_eq!(s.query(READ), "1");
}

#[test]
fn what_several_nodes_carry_out_waits_for_what_went_to_one_alone() {
    let mut s = Session::new();
    s.begin();
    assert_eq!(s.query(WRITE), "0");
    assert_eq!(s.query("COMMIT"), "wait");
    s.says(0, "EZE");
    assert_eq!(s.orders(), [(1, ABORT)], "before the COMMIT");
    assert_eq!(s.query("COMMIT"), "wait", "the answer to that");
    s.says(1, "EZE");
    assert_eq!(s.query("COMMIT"), "0+1");
}

#[test]
fn the_primary_answers_the_sync_that_commits_a_write() {
    let mut s = Session::new();
    s.parse("s", READ);
    s.bind("p", "s");
    s.says(1, "12");
    s.run(WRITE);
    s.says(0, "12C");
    assert_eq!(s.message(b'D', "Pp\0"), "1", "where it is");
    assert_eq!(s.sync(), "wait");
    s.says(1, "T");
    assert_eq!(
        s.sync(),
        "0+1",
        "that the commit fails must not be swallowed"
    );
}

#[test]
fn a_query_ends_the_sequences_of_other_nodes() {
    let mut s = Session::new();
    s.run(READ);
    s.says(1, "12DC");
    assert_eq!(s.query(WRITE), "0");
    assert_eq!(s.orders(), [(1, Order::Sync)]);
}

// A transaction fails as a whole.

#[test]
fn an_error_of_a_standby_makes_the_part_of_the_primary_fail() {
    let mut s = Session::new();
    s.begin();
    assert_eq!(s.query(READ), "1");
    s.says(1, "EZE");
    assert_eq!(s.orders(), [(0, ABORT)]);
    assert!(!s.router.shows(0, b'E', &s.ledgers) && !s.router.shows(0, b'Z', &s.ledgers));
    s.says(0, "EZE");
    assert_eq!(
        s.query(WRITE),
        "0",
        "which says that the transaction has failed"
    );
}

#[test]
fn an_error_of_the_primary_makes_the_part_of_the_standby_fail() {
    let mut s = Session::new();
    s.begin();
    assert_eq!(s.query(WRITE), "0");
    s.says(0, "EZE");
    assert_eq!(s.orders(), [(1, ABORT)], "else COMMIT would keep its SETs");
}

#[test]
fn a_pipeline_is_a_transaction_as_well() {
    let mut s = Session::new();
    s.run("SET a = 1");
    s.says(0, "12C").says(1, "12C");
    assert_eq!(s.parse("", WRITE), "0");
    s.says(0, "E");
    assert_eq!(
        s.orders(),
        [(1, ABORT_IN_SEQUENCE)],
        "the client's Sync follows"
    );
    assert_eq!(s.sync(), "0+1");
}

#[test]
fn an_error_of_an_earlier_sequence_does_not_reach_the_next_transaction() {
    let mut s = Session::new();
    s.parse("", "INSERT INTO nothing VALUES (1)");
    s.sync();
    assert_eq!(s.query("BEGIN"), "wait");
    s.says(0, "EZI");
    assert_eq!(s.query("BEGIN"), "0+1");
    assert_eq!(s.orders(), []);
}

#[test]
fn a_standby_whose_transaction_the_primary_has_ended_is_rolled_back() {
    let mut s = Session::new();
    s.begin();
    assert_eq!(s.query("PREPARE TRANSACTION 'x'"), "0");
    s.says(0, "CZI");
    assert_eq!(s.orders(), [(1, Order::Rollback)]);
}

#[test]
fn reads_stay_out_of_transactions_that_their_node_has_no_part_in() {
    let settings = Settings {
        statement_level_load_balance: true,
        ..Settings::default()
    };
    let mut s = Session::with(3, settings);
    assert_eq!(s.query("SELECT 1; BEGIN"), "0");
    s.says(0, "TDCCZT");
    assert_eq!(s.query(READ), "0");
}

// Statements follow the client.

#[test]
fn a_statement_is_prepared_where_it_is_bound() {
    let mut s = Session::new();
    assert_eq!(s.parse("s", READ), "1");
    s.sync();
    s.says(1, "1ZI").begin();
    s.query(WRITE);
    s.says(0, "CZT");
    assert_eq!(s.bind("", "s"), "parse on 0, 0");
    assert!(s.router.shows(1, b'2', &s.ledgers) || !s.router.shows(0, b'3', &s.ledgers));
    s.says(0, "312");
    assert_eq!(s.bind("", "s"), "0", "once");
}

#[test]
fn what_an_error_has_skipped_is_not_there() {
    let mut s = Session::new();
    s.parse("s", READ);
    s.sync();
    s.says(1, "1ZI").begin();
    s.query(WRITE);
    s.says(0, "CZT");
    // Our own Parse fails with the client's transaction.
    assert_eq!(s.bind("", "s"), "parse on 0, 0");
    s.says(0, "3E");
    s.sync();
    s.says(0, "ZE").says(1, "EZE");
    assert_eq!(s.query("ROLLBACK"), "0+1");
    s.says(0, "CZI").says(1, "CZI").begin();
    s.query(WRITE);
    s.says(0, "CZT");
    assert_eq!(s.bind("", "s"), "parse on 0, 0");
}

#[test]
fn a_name_that_is_taken_on_another_node_is_refused() {
    let mut s = Session::new();
    s.parse("s", READ);
    s.sync();
    s.says(1, "1ZI");
    assert_eq!(s.query("PREPARE s AS SELECT 1"), "parse on 0, 0");
    s.says(0, "31ZIEZI");
    assert_eq!(s.parse("s", WRITE), "0");
}

#[test]
fn a_name_that_only_a_follower_may_have_is_closed_before_it_is_made() {
    let mut s = Session::new();
    assert_eq!(s.parse("s", "SET a = 1"), "0+1");
    // The leader refuses what the follower takes.
    s.says(0, "E").says(1, "1");
    s.sync();
    s.says(0, "ZI").says(1, "EZI");
    assert_eq!(s.parse("s", READ), "close on 1, 1");
}

#[test]
fn a_statement_of_a_lost_node_is_described_elsewhere() {
    let mut s = Session::with(3, Settings::default());
    s.parse("s", READ);
    s.sync();
    s.says(1, "1ZI");
    s.router.node_lost(1, &mut s.ledgers);
    assert_eq!(s.message(b'D', "Ss\0"), "parse on 0, 0");
}

#[test]
fn a_portal_ends_with_the_savepoint_that_it_was_made_behind() {
    let mut s = Session::new();
    s.begin();
    s.query("SAVEPOINT a");
    s.says(0, "CZT").says(1, "CZT");
    s.parse("", READ);
    s.bind("p", "");
    s.sync();
    // SAVEPOINT counts as a write: reads of this transaction are the primary's.
    s.says(0, "12ZT");
    s.query("ROLLBACK TO a");
    s.says(0, "CZT").says(1, "CZT");
    assert!(s.router.portals.named.is_empty());
}

#[test]
fn what_prepare_has_made_may_write() {
    let mut s = Session::new();
    s.query("PREPARE s AS INSERT INTO t VALUES (1)");
    s.says(0, "CZI");
    s.bind("", "s");
    s.execute("");
    s.says(0, "2C");
    assert_eq!(s.parse("", READ), "0", "the write is not committed yet");
}

#[test]
fn a_lost_node_is_not_asked_about_the_catalog() {
    let settings = Settings {
        asks_load_balance_node: true,
        ..Settings::default()
    };
    let mut s = Session::with(3, settings);
    assert_eq!(s.router.catalog_node(&s.settings), 1);
    s.router.node_lost(1, &mut s.ledgers);
    assert_eq!(s.router.catalog_node(&s.settings), 0);
}

#[test]
fn reads_of_a_pipeline_see_its_writes_also_when_an_earlier_answer_comes_late() {
    let mut s = Session::new();
    s.run(WRITE);
    s.sync();
    s.run(WRITE);
    s.says(0, "12CZI");
    assert_eq!(s.parse("", READ), "0");
}

// What a standby cannot know of the open transaction, or would wait for.

#[test]
fn behind_a_write_the_primary_describes_statements() {
    let mut s = Session::new();
    assert_eq!(s.parse("d", READ), "1");
    assert_eq!(s.sync(), "1");
    s.says(1, "1ZI");
    assert_eq!(s.message(b'D', "Sd\0"), "1");
    assert_eq!(s.sync(), "1");
    s.says(1, "tTZI").begin();
    assert_eq!(s.query("ALTER TABLE t ADD COLUMN z int"), "0");
    s.says(0, "CZT");
    assert_eq!(s.message(b'D', "Sd\0"), "parse on 0, 0");
}

#[test]
fn in_the_pipeline_of_a_write_as_well() {
    let mut s = Session::new();
    assert_eq!(s.parse("d", READ), "1");
    assert_eq!(s.sync(), "1");
    s.says(1, "1ZI");
    assert_eq!(s.run("ALTER TABLE t ADD COLUMN z int"), ["0", "0", "0"]);
    assert_eq!(s.message(b'D', "Sd\0"), "parse on 0, 0");
}

#[test]
fn a_table_that_the_transaction_has_locked_is_not_locked_on_a_standby() {
    let mut s = Session::new();
    s.begin();
    assert_eq!(s.query("LOCK TABLE t IN ACCESS SHARE MODE"), "0+1");
    s.says(0, "CZT").says(1, "CZT");
    assert_eq!(s.query("ALTER TABLE t ADD COLUMN z int"), "0");
    s.says(0, "CZT");
    assert_eq!(s.query("LOCK TABLE t IN ACCESS SHARE MODE"), "0");
}

#[test]
fn dml_adaptive_reads_from_the_primary_behind_what_is_no_dml() {
    let adaptive = || Settings {
        on_write: OnWrite::DmlAdaptive,
        ..Settings::default()
    };
    for sql in [
        "ALTER TABLE u ADD COLUMN z int",
        "DO 'BEGIN END'",
        "CALL p()",
        "LOCK TABLE u",
        "SELECT 1 INTO u",
    ] {
        let mut s = Session::with(2, adaptive());
        s.begin();
        assert_eq!(s.query("INSERT INTO u VALUES (1)"), "0");
        s.says(0, "CZT");
        assert_eq!(s.query(READ), "1");
        s.says(1, "TDCZT");
        assert_eq!(s.query(sql), "0");
        s.says(0, "CZT");
        assert_eq!(s.query(READ), "0", "{sql}");
        s.says(0, "TDCZT");
        assert_eq!(s.query("COMMIT"), "0+1");
        s.says(0, "CZI").says(1, "CZI");
        s.router.set_untraced(false);
        assert_eq!(s.query(READ), "1", "{sql}");
    }
}

#[test]
fn behind_a_string_that_is_too_long_to_be_read_the_primary_reads() {
    let filler = "x".repeat(270 * 1024);
    let mut s = Session::new();
    assert_eq!(
        s.query(&format!(
            "INSERT INTO t VALUES ('{filler}'); SET search_path = s"
        )),
        "0"
    );
    s.says(0, "CCZI");
    assert!(s.router.take_effects().catalog_changed);
    assert_eq!(s.query(READ), "0");
}

#[test]
fn one_that_is_a_single_write_of_rows_changes_nothing_else() {
    let filler = "x".repeat(270 * 1024);
    let mut s = Session::new();
    assert_eq!(
        s.run(&format!("INSERT INTO t VALUES ('{filler}')")),
        ["0", "0", "0"]
    );
    assert_eq!(s.sync(), "0");
    s.says(0, "12CZI");
    assert!(s.query(READ).starts_with("LookUp([Temporary"));
    s.router.set_untraced(false);
    assert_eq!(s.query(READ), "1");
    s.says(1, "TDCZI");
    assert_eq!(
        s.run(&format!("SET search_path = s /* {filler} */")),
        ["0", "0", "0"]
    );
    assert_eq!(s.sync(), "0");
    s.says(0, "12CZI");
    assert_eq!(s.query(READ), "0");
}

#[test]
fn repeatable_read_with_read_write_is_for_the_primary_alone() {
    let mut s = Session::new();
    assert_eq!(
        s.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE"),
        "0+1"
    );
    s.says(0, "CZT").says(1, "CZT");
    assert_eq!(s.query(READ), "0");
    s.says(0, "TDCZT");
    assert_eq!(s.query("COMMIT"), "0+1");
    s.says(0, "CZI").says(1, "CZI");
    let default =
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE";
    assert_eq!(s.query(default), "0");
    s.says(0, "CZI");
    assert_eq!(s.query("BEGIN"), "0+1");
    s.says(0, "CZT").says(1, "CZT");
    assert_eq!(s.query(READ), "0");
}

#[test]
fn what_needs_no_snapshot_asks_nothing() {
    let mut s = Session::new();
    s.router.state.begins_serializable = None;
    s.begin();
    assert_eq!(s.query("SHOW work_mem"), "1");
    s.says(1, "TDCZT");
    assert_eq!(s.query(""), "1");
    s.says(1, "IZT");
    assert!(s.query(READ).starts_with("LookUp"));
}

#[test]
fn every_execute_finds_its_statement_on_the_primary() {
    for (sql, want) in [
        ("EXPLAIN EXECUTE p", "parse on 0, 0"),
        ("CREATE TEMP TABLE zz AS EXECUTE p", "parse on 0, 0"),
        ("CREATE TABLE zz (a) AS EXECUTE p(1)", "parse on 0, 0"),
        (
            "EXPLAIN ANALYZE CREATE TABLE zz AS EXECUTE p",
            "parse on 0, 0",
        ),
        ("EXECUTE p; EXECUTE p2", "parse on 0, parse on 0, 0"),
        ("SELECT 2; EXECUTE p", "parse on 0, 0"),
        ("EXECUTE p(f_vol())", "parse on 0, 0"),
        ("EXECUTE p(1)", "1"),
    ] {
        let mut s = Session::new();
        assert_eq!(s.parse("p", READ), "1");
        assert_eq!(s.parse("p2", READ), "1");
        assert_eq!(s.sync(), "1");
        s.says(1, "11ZI");
        assert_eq!(s.query(sql), want, "{sql}");
    }
}

#[test]
fn set_local_in_a_string_ends_with_its_transaction() {
    for set in ["SET LOCAL work_mem = '1MB'", "SET LOCAL search_path = s"] {
        let settings = Settings {
            on_write: OnWrite::Off,
            ..Settings::default()
        };
        let mut s = Session::with(2, settings);
        assert_eq!(s.query(&format!("BEGIN; {set}; SELECT 1; COMMIT")), "0");
        s.says(0, "CCTDCCZI");
        assert_eq!(s.query(READ), "1");
        s.says(1, "TDCZI");
        assert_eq!(s.query(&format!("{set}; SELECT 1")), "0");
        s.says(0, "CTDCZI");
        assert_eq!(s.query(READ), "1");
        s.says(1, "TDCZI").begin();
        assert_eq!(s.query(set), "0+1");
        s.says(0, "CZT").says(1, "CZT");
        assert_eq!(s.query(READ), "1");
        s.says(1, "TDCZT");
        assert_eq!(s.query(&format!("{set}; SELECT 1")), "0");
        s.says(0, "CTDCZT");
        assert_eq!(s.query(READ), "0", "the standby was not told");
    }
}

#[test]
fn names_in_doubt_are_forgotten_when_all_statements_go() {
    let mut s = Session::new();
    assert_eq!(s.parse("s", "SET a = 1"), "0+1");
    s.says(0, "E").says(1, "1");
    s.sync();
    s.says(0, "ZI").says(1, "EZI");
    assert!(!s.router.doubtful.is_empty());
    assert_eq!(s.query("DEALLOCATE ALL"), "0+1");
    s.says(0, "CZI").says(1, "CZI");
    assert!(s.router.doubtful.is_empty());
}

#[test]
fn there_is_a_bound_to_names_in_doubt() {
    let mut s = Session::new();
    for at in 0..2000 {
        let sent = s.parse(&format!("s{at}"), "SET a = 1");
        if sent == "0" {
            break;
        }
        s.says(0, "E").says(1, "1");
        s.sync();
        s.says(0, "ZI").says(1, "EZI");
    }
    assert!(s.router.doubtful.len() < 1100);
    s.sync();
    s.says(0, "1ZI");
    assert_eq!(s.query(READ), "0");
}

#[test]
fn code_that_nobody_sees_may_have_made_temporary_tables() {
    for sql in [
        "DO 'BEGIN END'",
        "CALL p()",
        "SELECT f_vol()",
        "INSERT INTO t SELECT f_any()",
    ] {
        let mut s = Session::new();
        assert_eq!(s.query(sql), "0");
        s.says(0, "CZI");
        assert_eq!(s.query("SELECT 1"), "1", "it names nothing");
        s.says(1, "TDCZI");
        assert!(s.query(READ).starts_with("LookUp([Temporary"), "{sql}");
        s.router.set_untraced(false);
        assert_eq!(s.query(READ), "1", "once is enough");
        s.says(1, "TDCZI");
        assert_eq!(s.query(sql), "0");
        s.says(0, "CZI");
        assert!(s.query(READ).starts_with("LookUp([Temporary"), "{sql}");
        s.router.set_untraced(true);
        assert_eq!(s.query(READ), "0", "{sql}");
        s.says(0, "TDCZI");
        assert_eq!(s.query("DISCARD ALL"), "0+1");
        s.says(0, "CZI").says(1, "CZI");
        assert_eq!(s.query(READ), "1", "{sql}");
    }
}

#[test]
fn functions_of_postgresql_make_none() {
    let mut s = Session::new();
    assert_eq!(s.query("INSERT INTO t VALUES (nextval('s'))"), "0");
    s.says(0, "CZI");
    assert_eq!(s.query(READ), "1");
}

#[test]
fn the_primary_does_not_take_a_client_for_idle_that_works_on_a_standby() {
    let mut s = Session::new();
    s.begin();
    assert_eq!(s.query(READ), "1");
    s.router.keep_awake(&mut s.ledgers);
    assert_eq!(s.orders(), [(0, Order::Sync)]);
    s.router.keep_awake(&mut s.ledgers);
    assert_eq!(s.orders(), [], "the first is not answered");
    assert!(!s.router.shows(0, b'Z', &s.ledgers));
    s.says(1, "TDCZT");
    assert_eq!(s.query(WRITE), "wait");
    s.says(0, "ZT");
    assert_eq!(s.query(WRITE), "0");
    s.router.keep_awake(&mut s.ledgers);
    assert_eq!(s.orders(), [], "it has something to do");
}
