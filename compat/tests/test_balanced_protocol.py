"""Messages whose answers depend on what other nodes know: each conversation has PostgreSQL's answers, whatever went where.

Found by the random conversations (test_random) and the drivers (test_workloads); here they stand by name.
Everything balanced goes to the standby, and commits wait until it has replayed them.
"""

import random

from lib import talk, wire
from lib.case import CompatCase, compared, stock_differs
from lib.talk import COPY_DONE, SYNC, b, c, copy_data, d, e, function_call, p, q

ITEMS, WORK = "SELECT count(*) FROM r", "SELECT count(*) FROM w"
STOCK = "4.3.5 ends the session, hangs or answers otherwise in these (known-defects 1 to 6)"


def one(sql, params=()):
    """A statement by the unnamed statement and portal."""
    return [p(sql), b(params), e()]


class _Talks(CompatCase):
    nodes = 2
    config = {"num_init_children": 4, "load_balance_mode": True}
    per_node = {0: {"backend_weight": 0}}
    server_settings = {"synchronous_commit": "remote_apply", "synchronous_standby_names": "1 (*)"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.primary.rows(talk.FIXTURE)

    def same(self, *bursts):
        heard = []
        for connect in (self.direct, self.client):
            self.cluster.primary.rows(talk.RESET)
            client = connect()
            heard.append(talk.play(client, list(bursts), random.Random(1), 10))
            client.close()
        self.assertEqual(heard[1], heard[0], "through pgpool (first) and directly (second):\n" + talk.shown(bursts))


@stock_differs(STOCK)
class Writes(_Talks):
    def test_a_write_whose_rows_are_fetched_in_part_is_a_write(self):
        self.same([p("INSERT INTO w VALUES (1, 'x') RETURNING a", "s1"), SYNC], [q("BEGIN")], [b((), "s1"), e("", 1), SYNC], [*one(WORK), SYNC], [q(WORK)], [q("COMMIT")])

    def test_what_comes_behind_a_read_that_fails_on_the_standby_is_not_run(self):
        self.same([*one("SELECT 1/0 FROM r"), *one("INSERT INTO w VALUES (1, 'x')"), SYNC], [q(WORK)])

    def test_a_read_behind_a_write_in_a_pipeline_sees_it(self):
        self.same([*one(ITEMS), *one("INSERT INTO w VALUES (1, 'x')"), *one(WORK), SYNC, *one(WORK), SYNC])

    def test_a_commit_that_fails_ends_the_transaction_everywhere(self):
        self.same([q("BEGIN")], [q(ITEMS)], [q("INSERT INTO u VALUES (1), (1)")], [q("COMMIT")], [q(ITEMS)], [*one(ITEMS), SYNC])


@stock_differs(STOCK)
class Names(_Talks):
    def test_sql_fetches_from_a_portal_of_the_protocol(self):
        opened = [p("SELECT a FROM r ORDER BY a"), b((), "", "p1"), e("p1", 2), SYNC]
        self.same([q("BEGIN")], opened, [q("MOVE 2 IN p1")], [*one("FETCH 2 FROM p1"), SYNC], [e("p1", 1), SYNC], [q("CLOSE p1")], [e("p1", 1), SYNC], [q("ROLLBACK")])

    def test_a_cursor_cannot_take_the_name_of_a_portal(self):
        self.same([q("BEGIN")], [p("SELECT a FROM r ORDER BY a"), b((), "", "p1"), e("p1", 2), SYNC], [q("DECLARE p1 CURSOR FOR SELECT 1")], [q("ROLLBACK")])

    def test_an_open_portal_goes_on_where_it_is_after_a_write(self):
        self.same([q("BEGIN")], [p("SELECT a FROM r ORDER BY a", "s1"), b((), "s1", "p1"), e("p1", 2), SYNC], [q("INSERT INTO w VALUES (1, 'x')")], [e("p1", 2), SYNC], [*one(WORK), SYNC],
                  [d("p1", "P"), e("p1", 2), c("p1", "P"), SYNC], [e("p1", 1), SYNC], [q("ROLLBACK")])

    def test_a_portal_that_is_bound_behind_a_sync_is_still_there_after_its_ready_for_query(self):
        def conversation(client):
            client.send(wire.extended(ITEMS, name="s1") + wire.sync() + wire.bind((), "s1", "p1") + wire.flush())
            # ReadyForQuery of the Sync ends only what was there before it.
            first, bound = client.until(), client.until("2")
            return [first, bound, client.exchange(wire.execute("p1") + wire.sync())]

        self.same_as_direct(compared(conversation))

    def test_prepare_cannot_take_the_name_of_a_statement_of_the_protocol(self):
        self.same([p(ITEMS, "s1"), SYNC], [q("PREPARE s1 AS SELECT 5")], [q("EXECUTE s1")], [b((), "s1"), e(), SYNC])

    def test_parse_cannot_take_the_name_of_a_statement_of_sql(self):
        self.same([q("PREPARE s1 AS SELECT 5")], [p(ITEMS, "s1"), SYNC], [b((), "s1"), e(), SYNC])

    def test_deallocate_and_execute_find_a_statement_of_the_protocol(self):
        self.same([p("SELECT b FROM r WHERE a = $1", "s1"), SYNC], [q("EXECUTE s1(3)")], [q("BEGIN")], [q("INSERT INTO w VALUES (1, 'x')")], [q("EXECUTE s1(4)")], [q("COMMIT")],
                  [q("SELECT 1; DEALLOCATE s1")], [b((1,), "s1"), e(), SYNC], [p(ITEMS, "s1"), SYNC])


@stock_differs(STOCK)
class Skipped(_Talks):
    """From an error to Sync nothing happens, so nothing of it may be remembered."""

    FAILS = e("never")

    def test_a_query_does_not_forget_the_unnamed_statement(self):
        self.same([p(ITEMS), SYNC], [self.FAILS, q("SELECT 2"), SYNC], [b(), e(), SYNC])

    def test_a_query_does_not_forget_the_unnamed_statement_of_the_same_sequence(self):
        self.same([p("DEALLOCATE q1"), self.FAILS, q(""), SYNC, d("", "S")])

    def test_parse_makes_no_statement(self):
        self.same([self.FAILS, p("END", "s3"), SYNC], [b((), "s3"), SYNC], [p(ITEMS, "s3"), SYNC], [b((), "s3"), e(), SYNC])

    def test_parse_replaces_no_unnamed_statement(self):
        self.same([p("SHOW work_mem"), b((), "never"), p("DEALLOCATE q1"), SYNC], [b(), e(), SYNC])

    def test_close_closes_nothing(self):
        self.same([p(ITEMS, "s3"), SYNC], [self.FAILS, c("s3", "S"), SYNC], [b((), "s3"), e(), SYNC])

    def test_begin_begins_nothing(self):
        self.same([self.FAILS, *one("BEGIN"), SYNC], [q("INSERT INTO w VALUES (1, 'x')")], [q(WORK)])

    def test_set_sets_nothing(self):
        self.same([self.FAILS, *one("SET work_mem = '9MB'"), SYNC], [q("SHOW work_mem")])


@stock_differs(STOCK)
class States(_Talks):
    """ReadyForQuery tells the state of the session, not that of a node."""

    def test_after_a_function_call_that_fails(self):
        self.same([q("BEGIN")], [p(ITEMS), function_call(4, 1)], [SYNC], [q("SELECT 1")], [q("ROLLBACK")])

    def test_after_a_query_that_fails_behind_a_parse(self):
        self.same([q("BEGIN")], [p(ITEMS), q("INSERT INTO nowhere VALUES (1)"), SYNC], [q("ROLLBACK")])

    def test_after_a_string_of_several_that_begins_a_transaction(self):
        self.same([q("ROLLBACK; BEGIN"), p(ITEMS)], [*one(ITEMS), SYNC], [q("COMMIT")])

    def test_after_a_string_of_several_that_ends_a_failed_transaction_and_begins_another(self):
        self.same([q("BEGIN")], [q(ITEMS)], [q("SELECT 1/0")], [q("ROLLBACK; BEGIN")], [*one(ITEMS), SYNC], [q(ITEMS)], [q("COMMIT")], [q(ITEMS)])

    def test_in_a_failed_copy_and_after_it(self):
        self.same([q("BEGIN")], [q(ITEMS)], [q("COPY w FROM STDIN"), copy_data(b"bad\n"), COPY_DONE], [q(ITEMS)], [q("COMMIT")], [q(ITEMS)])


@stock_differs(STOCK)
class Settings(_Talks):
    """What is set is set where reads go, and what is rolled back is rolled back there."""

    def test_in_a_string_of_several(self):
        self.same([q("SET work_mem = '8MB'; SELECT 1")], [q("SHOW work_mem")], [q("SELECT 1; RESET work_mem")], [*one("SHOW work_mem"), SYNC])

    def test_in_a_string_of_several_that_fails(self):
        self.same([q("SET work_mem = '8MB'; SELECT 1/0")], [q("SHOW work_mem")])

    def test_the_search_path_in_a_string_of_several(self):
        self.same([q("SELECT 1; SET search_path = nowhere")], [q(ITEMS)])

    def test_in_a_pipeline_that_fails_on_the_primary(self):
        self.same([*one("SET work_mem = '9MB'"), *one("INSERT INTO nowhere VALUES (1)"), SYNC], [q("SHOW work_mem")])

    def test_in_a_pipeline_that_fails_in_a_read(self):
        self.same([*one("SET work_mem = '9MB'"), *one("SELECT 1/0 FROM r"), SYNC], [q("SHOW work_mem")], [q("BEGIN")], [q("INSERT INTO w VALUES (1, 'x')")], [q("SHOW work_mem")], [q("ROLLBACK")])

    def test_in_a_transaction_that_is_rolled_back(self):
        self.same([q("BEGIN")], [q("SET work_mem = '9MB'")], [q("SAVEPOINT s")], [q("SET work_mem = '7MB'")], [q("ROLLBACK TO s")], [q("SHOW work_mem")], [q("ROLLBACK")], [q("SHOW work_mem")])


@stock_differs(STOCK)
class CopyBegunAgain(_Talks):
    """Alone: a session that hangs here keeps the lock on its table."""

    def test_a_query_in_a_copy_that_the_same_portal_has_begun_again(self):
        self.same([p("COPY w FROM STDIN"), b(), e(), COPY_DONE, b(), e(), SYNC, q("SELECT 1")])
