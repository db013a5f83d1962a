"""Load balancing where a standby knows less than the session: its open transaction, its temporary tables, its statements.

Each test says what PostgreSQL alone would answer. Reads that could go to the standby do: it has all the weight.
"""

import time

from lib import wire
from lib.case import stock_differs

from .test_balancing import HERE, Base

STOCK = "4.3.5 hangs or answers otherwise in these"


class _Two(Base):
    nodes = 2
    per_node = {0: {"backend_weight": 0}}

    @classmethod
    def _build(cls, where, home, add_cleanup):
        super()._build(where, home, add_cleanup)
        where.cluster.primary.rows(
            "CREATE FUNCTION mk() RETURNS int LANGUAGE plpgsql AS 'BEGIN CREATE TEMP TABLE tmpx(i int); RETURN 1; END'; GRANT CREATE ON SCHEMA public TO PUBLIC; ALTER TABLE b OWNER TO app;"
            "CREATE FUNCTION f_w() RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO b VALUES (99); RETURN 99; END'; GRANT ALL ON FUNCTION mk(), f_w() TO PUBLIC; CREATE TABLE other(i int); GRANT ALL ON other TO PUBLIC", user="postgres", database="app")

    def setUp(self):
        super().setUp()
        self.caught_up()

    def committed_elsewhere(self):
        """Another session commits, which takes the locks of open transactions to the standby."""
        self.cluster.primary.rows("INSERT INTO other VALUES (1)", user="postgres", database="app")
        self.caught_up()


@stock_differs(STOCK)
class Locked(_Two):
    """The standby holds the lock of this session's own ALTER TABLE, and waits for its end."""

    def altered(self, **kwargs):
        client = self.client(**kwargs)
        client.exchange(wire.parse("SELECT i FROM b", "d") + wire.sync())
        client.query("BEGIN")
        self.assertEqual(client.query("ALTER TABLE b ADD COLUMN z int").tags, ["ALTER TABLE"])
        self.committed_elsewhere()
        return client

    def test_a_statement_is_described(self):
        client = self.altered()
        client.send(wire.describe("d", "S") + wire.sync())
        self.assertEqual(client.until("Z").kinds, "tTZ")
        client.query("ROLLBACK")

    def test_a_weak_lock_is_taken(self):
        client = self.altered()
        self.assertEqual(client.query("LOCK TABLE b IN ACCESS SHARE MODE").tags, ["LOCK TABLE"])
        self.assertEqual(client.query("SAVEPOINT a").tags, ["SAVEPOINT"])
        self.assertEqual(client.query("ROLLBACK").tags, ["ROLLBACK"])


@stock_differs(STOCK)
class Adaptive(_Two):
    config = {**Base.config, "disable_load_balance_on_write": "dml_adaptive"}

    def test_reads_behind_ddl_see_it(self):
        client = self.client()
        client.query("BEGIN")
        client.query("ALTER TABLE b ADD COLUMN z int")
        self.committed_elsewhere()
        self.assertEqual(client.value("SELECT count(z) FROM b"), "0")
        client.query("CREATE TABLE nn(i int)")
        self.assertEqual(client.value("SELECT count(*) FROM nn"), "0")
        client.query("ROLLBACK")
        client.query("BEGIN")
        client.query("INSERT INTO other VALUES (2)")
        self.assertEqual(client.value(HERE), self.port(1))
        client.query("ROLLBACK")


@stock_differs(STOCK)
class Snapshots(_Two):
    def test_repeatable_read_with_read_write_has_one_snapshot(self):
        client = self.client()
        count = "SELECT count(*) FROM other"
        for before, begin in [("SELECT 1", "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE"), ("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE", "BEGIN")]:
            with self.subTest(begin):
                client.query(before)
                client.query(begin)
                first = client.value(count)
                self.committed_elsewhere()
                self.assertEqual(client.value(count), first)
                client.query("COMMIT")

    def test_show_and_nothing_take_no_snapshot(self):
        for harmless in ("SHOW work_mem", ""):
            client = self.client(options={"options": "-c work_mem=2MB"})
            client.query("BEGIN")
            client.query(harmless)
            self.assertEqual(client.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").tags, ["SET"])


@stock_differs(STOCK)
class TemporaryTables(_Two):
    def test_one_of_a_do_block_hides_a_table(self):
        client = self.client()
        self.assertNotEqual(client.value("SELECT count(*) FROM b"), "0")
        client.query("DO $$BEGIN CREATE TEMP TABLE b(i int); END$$")
        self.assertEqual(client.value("SELECT count(*) FROM b"), "0")
        client.query("DISCARD TEMP")
        self.assertNotEqual(client.value("SELECT count(*) FROM b"), "0")
        self.assertEqual(client.value(HERE), self.port(1))

    def test_one_of_a_function_is_found(self):
        client = self.client()
        self.assertEqual(client.query("SELECT * FROM tmpx").error["C"], "42P01")
        client.query("SELECT mk()")
        self.assertEqual(client.value("SELECT count(*) FROM tmpx"), "0")
        client.query("DROP TABLE tmpx")
        self.assertEqual(client.query("SELECT * FROM tmpx").error["C"], "42P01")
        self.assertEqual(client.value(HERE), self.port(1))

    @stock_differs(STOCK)
    def test_types_of_the_temporary_schema_are_found(self):
        client = self.client()
        client.query("CREATE TYPE pg_temp.mood AS ENUM ('good', 'bad'); CREATE DOMAIN pg_temp.small AS int")
        for sql, value in (("SELECT 'bad'::pg_temp.mood", "bad"), ("SELECT CAST(2 AS pg_temp.small)", "2"), ("SELECT PG_TEMP.small '3'", "3")):
            self.assertEqual(client.value(sql), value)
        self.assertEqual(client.value(HERE), self.port(1))

    def test_in_a_long_string_as_well(self):
        client = self.client()
        self.assertNotEqual(client.value("SELECT count(*) FROM b"), "0")
        client.query(f"SELECT 1; CREATE TEMP TABLE b(i int) /* {'x' * 270000} */")
        self.assertEqual(client.value("SELECT count(*) FROM b"), "0")


class Leaving(_Two):
    """A client that reads no answer and goes."""

    @stock_differs(STOCK)
    def test_what_it_has_sent_is_carried_out(self):
        read, write = wire.extended("SELECT 1") + wire.sync(), wire.extended("INSERT INTO other VALUES (7)") + wire.sync()
        for sent in (read + write + wire.terminate(), read + write, wire.query("SELECT count(*) FROM b") + wire.query("INSERT INTO other VALUES (7)")):
            before = int(self.primary_value("SELECT count(*) FROM other"))
            client = self.client()
            client.send(sent)
            client.abort()
            self.eventually(lambda n=before: int(self.primary_value("SELECT count(*) FROM other")) == n + 1, "the row to be there")

    @stock_differs(STOCK)
    def test_a_function_that_nobody_knows_yet_is_called(self):
        self.primary_value("CREATE FUNCTION f_first() RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO other VALUES (8); RETURN 8; END'")
        client = self.client()
        client.send(wire.query("SELECT f_first()"))
        client.abort()
        self.eventually(lambda: self.primary_value("SELECT count(*) FROM other WHERE i = 8") == "1", "the row to be there")

    def primary_value(self, sql):
        rows = self.cluster.primary.rows(sql, user="postgres", database="app")
        return rows[0][0] if rows else None


@stock_differs(STOCK)
class Executes(_Two):
    def prepared(self, sql):
        client = self.client()
        client.exchange(wire.parse(sql, "p") + wire.sync())
        return client

    def test_what_a_parse_message_has_made_on_the_standby(self):
        for sql in ("EXPLAIN EXECUTE p", "CREATE TEMP TABLE zz AS EXECUTE p", "EXECUTE p; SELECT 2"):
            with self.subTest(sql):
                self.assertIsNone(self.prepared("SELECT i FROM b").query(sql).error)

    def test_its_arguments_may_write(self):
        client = self.prepared("SELECT $1::int")
        self.assertEqual(client.value("EXECUTE p(f_w())"), "99")


class Idling(_Two):
    @stock_differs(STOCK)
    def test_the_primary_does_not_cut_off_a_client_that_works_on_the_standby(self):
        client = self.client(timeout=120)
        client.query("SET idle_session_timeout = '2500ms'")
        end = time.monotonic() + 5
        while time.monotonic() < end:
            self.assertEqual(client.value(HERE), self.port(1))
            time.sleep(0.5)
        client.query("SET idle_session_timeout = 0")
        client.query("SET idle_in_transaction_session_timeout = '2500ms'")
        client.query("BEGIN")
        client.query("SELECT count(*) FROM generate_series(1, 20000000)")
        self.assertEqual(client.query("COMMIT").tags, ["COMMIT"])


class SetLocal(_Two):
    def test_in_a_string_it_ends_with_its_transaction(self):
        client = self.client()
        client.query("BEGIN; SET LOCAL work_mem = '1MB'; SELECT 1; COMMIT")
        self.assertEqual(client.value(HERE), self.port(1))
