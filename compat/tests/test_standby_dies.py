"""A standby that a session reads from goes away: an application of libpq gets an answer or an error, in time, and goes on."""

import time

from lib import libpq, wire
from lib.case import CompatCase, stock_differs

PATIENCE = 15.0
SLOW_READ = "SELECT count(*) FROM generate_series(1, 300000) a, generate_series(1, 300000) b"


class Reads:
    """Two nodes; what is balanced goes to node 1."""

    nodes = 2
    config = {"num_init_children": 4, "load_balance_mode": True}
    per_node = {0: {"backend_weight": 0}}


class StandbyDies(Reads, CompatCase):
    fresh = True
    weight = 25

    def setUp(self):
        super().setUp()
        self.cluster.primary.rows("CREATE TABLE kept(a int); ALTER TABLE kept OWNER TO app")
        self.eventually(lambda: self.cluster[1].value("SELECT count(*) FROM pg_class WHERE relname = 'kept'") == "1", "the table at the standby")

    def libpq(self):
        one = libpq.Connection(self.pool.port)
        self.addCleanup(one.close)
        return one

    def goes_on(self, one):
        """A read and a write work, at the latest after the second attempt, as an application makes it; counts the errors before."""
        began, errors = time.monotonic(), 0
        while True:
            try:
                self.assertEqual(one.value("SELECT 41 + 1"), "42")
                one.value("INSERT INTO kept VALUES (2)")
                break
            except libpq.Failed as error:
                errors += 1
                self.assertLess(errors, 4, str(error))
                if not one.alive:
                    self.eventually(lambda: self.resets(one), "a new connection", PATIENCE)
        self.assertLess(time.monotonic() - began, PATIENCE)
        self.assertIn("2", [r[0] for r in self.cluster.primary.rows("SELECT a FROM kept")])
        return errors

    def resets(self, one):
        try:
            one.reset()
            return True
        except libpq.Failed:
            return False

    def reading(self, sql="SELECT 1 AS first_read"):
        """A connection whose last statement was answered."""
        one = self.libpq()
        one.value(sql)
        return one

    def test_it_is_stopped_while_the_session_is_idle(self):
        one = self.reading()
        self.cluster[1].stop("fast")
        time.sleep(0.5)
        self.goes_on(one)

    def test_it_is_killed_while_the_session_is_idle(self):
        one = self.reading()
        self.cluster[1].kill()
        time.sleep(0.5)
        self.goes_on(one)

    def failure(self, action):
        """The error that `action` must end with, in time."""
        began = time.monotonic()
        with self.assertRaises(libpq.Failed) as caught:
            action()
        self.assertLess(time.monotonic() - began, PATIENCE)
        return caught.exception

    def test_it_is_stopped_while_it_answers(self):
        one = self.reading()
        one.send(SLOW_READ)
        self.starts_to_run(SLOW_READ[:30])
        self.node_of(SLOW_READ[:30]).stop("fast")
        self.failure(one.rest)
        self.goes_on_if_the_primary_lives(one)

    def test_it_is_killed_in_the_middle_of_its_rows(self):
        one = self.reading()
        text = "SELECT generate_series(1, 100000000), repeat('x', 1000)"
        one.send(text, by_rows=True)
        for n in range(1, 100):
            self.assertEqual(one.result(), str(n))
        self.node_of(text[:30]).kill()
        self.failure(one.rest)
        self.goes_on_if_the_primary_lives(one)

    def starts_to_run(self, text):
        self.eventually(lambda: self.node_of(text) is not None, "the read to run somewhere")

    def node_of(self, text):
        for server in reversed(self.cluster.servers):
            if server.value(f"SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active' AND strpos(query, $${text}$$) > 0") != "0":
                return server
        return None

    def goes_on_if_the_primary_lives(self, one):
        if self.cluster.primary.running:
            self.goes_on(one)

    def test_what_commit_says_in_a_transaction_that_has_read_from_it_is_true(self):
        one = self.libpq()
        one.value("BEGIN")
        one.value("SELECT count(*) FROM kept")
        one.value("INSERT INTO kept VALUES (1)")
        self.cluster[1].kill()
        time.sleep(0.3)
        try:
            one.value("COMMIT")
            committed = True
        except libpq.Failed:
            committed = False
        self.assertEqual(self.cluster.primary.value("SELECT count(*) FROM kept WHERE a = 1"), "1" if committed else "0")
        self.goes_on(one)

    def test_a_session_that_begins_afterwards_works(self):
        self.reading().close()
        self.cluster[1].kill()
        for _ in range(4):
            one = self.libpq()
            self.goes_on(one)
            one.close()


class Notified(Reads, CompatCase):
    """Notifications come from the primary, whatever the session has done since on another node."""

    def notified(self, client, within=5.0):
        got = client.receive(wait=within)
        self.assertEqual((got.kind, got.body[4:]), ("A", b"news\0word\0"))

    def test_while_idle_after_a_read_that_a_standby_has_answered(self):
        for read in (lambda c: c.query("SELECT 1"), lambda c: c.exchange(wire.extended("SELECT $1::int", [1]) + wire.sync())):
            client, speaker = self.client(), self.direct()
            client.query("LISTEN news").ok()
            read(client).ok()
            self.assertTrue(client.quiet(0.2))
            speaker.query("NOTIFY news, 'word'").ok()
            self.notified(client)
            read(client).ok()

    @stock_differs("4.3.5 does not pass it on until the primary says something else")
    def test_while_a_standby_answers(self):
        client, speaker = self.client(), self.direct()
        client.query("LISTEN news").ok()
        client.send(wire.query("SELECT count(*) FROM generate_series(1, 3000) a, generate_series(1, 1000) b"))
        speaker.query("NOTIFY news, 'word'").ok()
        seen = client.until()
        notes = [m for m in seen.messages if m.kind == "A"]
        if not notes:
            self.notified(client)
        else:
            self.assertEqual([m.body[4:] for m in notes], [b"news\0word\0"])
        self.assertEqual(seen.rows, [("3000000",)])
        self.assertTrue(client.quiet(0.3), "it comes once")

    def test_not_in_the_middle_of_a_transaction_that_reads(self):
        client, speaker = self.client(), self.direct()
        client.query("LISTEN news").ok()
        client.query("BEGIN").ok()
        client.query("SELECT 1").ok()
        speaker.query("NOTIFY news, 'word'").ok()
        time.sleep(0.3)
        self.assertEqual(client.query("SELECT 2").kinds, "TDCZ")
        seen = client.query("COMMIT").ok()
        if not seen.of("A"):
            self.notified(client)

    def test_after_unlisten_nothing_comes(self):
        client, speaker = self.client(), self.direct()
        client.query("LISTEN news").ok()
        client.query("SELECT 1").ok()
        client.query("UNLISTEN *").ok()
        client.query("SELECT 1").ok()
        speaker.query("NOTIFY news, 'word'").ok()
        self.assertTrue(client.quiet(0.5))
