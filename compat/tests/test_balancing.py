"""Load balancing: where statements go, and that the client cannot tell.

`inet_server_port()` is stable, so that a read which asks for it is balanced and says where it ran.
"""

from lib import proc, tools, wire
from lib.case import CompatCase, ours_only, stock_differs

HERE = "SELECT inet_server_port()"


class Base(CompatCase):
    nodes = 3
    config = {"load_balance_mode": True, "log_per_node_statement": True}
    per_node = {0: {"backend_weight": 0}, 1: {"backend_weight": 1}, 2: {"backend_weight": 0}}

    @classmethod
    def _build(cls, where, home, add_cleanup):
        super()._build(where, home, add_cleanup)
        where.cluster.primary.rows("CREATE TABLE b(i int); INSERT INTO b VALUES (1); GRANT ALL ON b TO PUBLIC", user="postgres", database="app")
        where.cluster.wait_streaming()
        cls.caught_up(where)

    def port(self, node):
        return str(self.cluster[node].port)

    def caught_up(self):
        """The standbys have replayed what the primary has written."""
        lsn = self.cluster.primary.value("SELECT pg_current_wal_lsn()", user="postgres")
        for standby in self.cluster.standbys:
            proc.wait_for(lambda s=standby: s.value(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'", user="postgres") == "t", "the standby to have replayed")


class Reads(Base):
    def test_reads_go_to_the_load_balance_node_and_writes_do_not(self):
        client = self.client()
        self.assertEqual(client.value(HERE), self.port(1))
        self.assertEqual(client.query("INSERT INTO b VALUES (2)").tags, ["INSERT 0 1"])
        self.assertEqual(client.query("DELETE FROM b WHERE i = 2").tags, ["DELETE 1"])
        self.assertEqual(client.value(HERE), self.port(1))

    def test_in_a_transaction_that_has_written_reads_see_it(self):
        client = self.client()
        client.query("BEGIN")
        self.assertEqual(client.value(HERE), self.port(1))
        client.query("INSERT INTO b VALUES (3)")
        self.assertEqual(client.value("SELECT count(*) FROM b WHERE i = 3"), "1")
        self.assertEqual(client.value(HERE), self.port(0))
        client.query("ROLLBACK")
        self.assertEqual(client.value(HERE), self.port(1))

    def test_what_is_set_is_set_where_reads_go(self):
        client = self.client()
        client.query("SET work_mem = '1234kB'")
        self.assertEqual(client.value("SELECT current_setting('work_mem')"), "1234kB")
        client.query("RESET ALL")
        self.assertNotEqual(client.value("SELECT current_setting('work_mem')"), "1234kB")

    @stock_differs("the writes of a transaction whose read failed on a standby are committed")
    def test_a_read_that_fails_on_a_standby_fails_the_whole_transaction(self):
        client = self.client()
        client.query("BEGIN")
        self.assertEqual(client.query("SELECT 1/0").error.get("C"), "22012")
        refused = client.query("INSERT INTO b VALUES (4)")
        self.assertEqual(refused.error.get("C"), "25P02")
        self.assertEqual(client.query("COMMIT").tags, ["ROLLBACK"])
        self.assertEqual(client.value("SELECT count(*) FROM b WHERE i = 4"), "0")

    @stock_differs("the answer 25P02 is pgpool's own and it does not look for the savepoint")
    def test_after_such_a_failure_a_savepoint_can_be_rolled_back_to(self):
        client = self.client()
        for sql in ("BEGIN", "SAVEPOINT a"):
            client.query(sql)
        client.query("SELECT 1/0")
        self.assertEqual(client.query("ROLLBACK TO a").status, "T")
        self.assertEqual(client.query("SELECT 1").status, "T")
        self.assertEqual(client.query("INSERT INTO b VALUES (5)").tags, ["INSERT 0 1"])
        self.assertEqual(client.query("ROLLBACK").tags, ["ROLLBACK"])

    def test_a_statement_prepared_on_a_standby_is_executed_on_the_primary_after_a_write(self):
        client = self.client()
        run = wire.bind((), "here") + wire.execute() + wire.sync()
        prepared = client.exchange(wire.parse(HERE, "here") + run)
        self.assertEqual(prepared.rows, [(self.port(1),)])
        client.query("BEGIN")
        client.query("INSERT INTO b VALUES (6)")
        again = client.exchange(run)
        self.assertEqual(("".join(again.kinds), again.rows), ("2DCZ", [(self.port(0),)]))
        client.query("ROLLBACK")

    @stock_differs("it stays on the primary")
    def test_after_that_transaction_it_is_read_from_the_standby_again(self):
        client = self.client()
        run = wire.bind((), "here") + wire.execute() + wire.sync()
        for sql in ("BEGIN", "INSERT INTO b VALUES (6)"):
            client.query(sql)
        self.assertEqual(client.exchange(wire.parse(HERE, "here") + run).rows, [(self.port(0),)])
        client.query("ROLLBACK")
        self.assertEqual(client.exchange(run).rows, [(self.port(1),)])

    def test_a_cancel_request_reaches_the_standby(self):
        client = self.client()
        client.value("SELECT count(*) FROM generate_series(1, 10)")
        client.send(wire.query("SELECT count(*) FROM generate_series(1, 1000000000)"))
        self.eventually(lambda: self.cluster[1].value("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%1000000000)' AND state = 'active' AND usename = 'app'", user="postgres") == "1", "it runs there")
        canceller = wire.Client(port=self.pool.port, startup=False)
        canceller.send(wire.cancel_packet(*client.key))
        self.assertEqual(client.until("Z").error.get("C"), "57014")
        canceller.abort()

    def test_show_pool_nodes_tells_the_load_balance_node(self):
        client = self.client()
        client.value(HERE)
        shown = client.query("SHOW pool_nodes")
        at = shown.columns.index("load_balance_node")
        self.assertEqual([row[at] for row in shown.rows], ["false", "true", "false"])

    @ours_only("PGPOOL EXPLAIN")
    def test_explain_tells_where_a_statement_would_go_and_why(self):
        client = self.client()

        def explain(sql):
            answer = client.query(f"PGPOOL EXPLAIN {sql}")
            self.assertTrue(answer.ok, answer)
            self.assertEqual(answer.columns, ["node_id", "role", "rule", "reason"])
            return [(row[0], row[1], row[2]) for row in answer.rows]

        standby, primary = ("1", "standby", "23"), ("0", "primary")
        self.assertEqual(explain("SELECT * FROM b"), [standby])
        self.assertEqual(explain("INSERT INTO b VALUES (1)"), [(*primary, "24")])
        self.assertEqual(explain("SELECT * FROM pg_class"), [(*primary, "17")])
        self.assertEqual(explain("SELECT random()"), [(*primary, "21")])
        self.assertEqual(explain("SET work_mem = '4MB'"), [(*primary, "10"), ("1", "standby", "10")])
        client.query("BEGIN")
        client.query("INSERT INTO b VALUES (7)")
        self.assertEqual(explain("SELECT * FROM b"), [(*primary, "15")])
        client.query("ROLLBACK")
        self.assertEqual(client.value("SELECT count(*) FROM b WHERE i = 7"), "0")

    @ours_only("each node forgets a transaction that the primary has not")
    def test_no_transaction_stays_open_on_a_standby(self):
        client = self.client()
        client.query("BEGIN")
        client.query("SELECT 1")
        # The insert fails, so that the primary ignores the COMMIT of the same pipeline.
        steps = b"".join(wire.parse(sql) + wire.bind() + wire.execute() for sql in ("INSERT INTO nosuch VALUES (1)", "COMMIT"))
        self.assertEqual(client.exchange(steps + wire.sync()).status, "E")
        self.assertEqual(client.query("ROLLBACK").status, "I")
        self.assertEqual(client.value(HERE), self.port(1))
        self.eventually(lambda: self.cluster[1].value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state LIKE 'idle in%'", user="postgres") == "0", "no transaction there")

    @stock_differs("what the relation cache knows of a function stays")
    def test_a_function_that_becomes_volatile_goes_to_a_standby_no_more(self):
        client = self.client()
        make = "CREATE OR REPLACE FUNCTION f_changing() RETURNS int LANGUAGE sql {} AS 'SELECT inet_server_port()'"
        client.query(make.format("STABLE"))
        self.caught_up()
        self.assertEqual(client.value("SELECT f_changing()"), self.port(1))
        client.query(make.format("VOLATILE"))
        self.assertEqual(client.value("SELECT f_changing()"), self.port(0))


class StatementLevel(Base):
    config = {**Base.config, "statement_level_load_balance": True}
    per_node = {n: {"backend_weight": 1} for n in range(3)}

    def test_each_read_has_its_own_node_and_all_know_the_settings(self):
        client = self.client()
        client.query("SET work_mem = '1234kB'")
        seen = {tuple(client.rows("SELECT inet_server_port(), current_setting('work_mem')")[0]) for _ in range(60)}
        self.assertEqual(seen, {(self.port(n), "1234kB") for n in range(3)})

    def test_prepared_statements_work_on_whatever_node(self):
        client = self.client()
        client.exchange(wire.parse(HERE, "here") + wire.sync())
        run = wire.bind((), "here") + wire.execute() + wire.sync()
        seen = set()
        for _ in range(60):
            answer = client.exchange(run)
            self.assertEqual("".join(answer.kinds), "2DCZ")
            seen.add(answer.rows[0][0])
        self.assertLessEqual(seen, {self.port(n) for n in range(3)})


class PrimaryIsLast(Base):
    """What is true of node 0 must not be true because it is node 0."""

    primary = 2
    per_node = {0: {"backend_weight": 1}, 1: {"backend_weight": 0}, 2: {"backend_weight": 0}}

    def test_reads_and_writes_find_their_nodes(self):
        client = self.client()
        self.assertEqual(client.value(HERE), self.port(0))
        client.query("BEGIN")
        client.query("INSERT INTO b VALUES (8)")
        self.assertEqual(client.value("SELECT count(*) FROM b WHERE i = 8"), "1")
        self.assertEqual(client.value(HERE), self.port(2))
        self.assertEqual(client.query("ROLLBACK").tags, ["ROLLBACK"])
        client.query("SET work_mem = '1234kB'")
        self.assertEqual(client.value("SELECT current_setting('work_mem')"), "1234kB")


class Slony(Base):
    """Routing is the same in the other modes with one node to write to."""

    config = {**Base.config, "backend_clustering_mode": "slony"}

    def test_reads_and_writes_find_their_nodes(self):
        client = self.client()
        self.assertEqual(client.value(HERE), self.port(1))
        client.query("BEGIN")
        client.query("INSERT INTO b VALUES (8)")
        self.assertEqual(client.value("SELECT count(*) FROM b WHERE i = 8"), "1")
        self.assertEqual(client.query("ROLLBACK").tags, ["ROLLBACK"])
        client.query("SET work_mem = '1234kB'")
        self.assertEqual(client.value("SELECT current_setting('work_mem')"), "1234kB")


class Logical(Slony):
    config = {**Base.config, "backend_clustering_mode": "logical_replication"}


class Off(Base):
    config = {"load_balance_mode": False}

    def test_everything_goes_to_the_primary(self):
        client = self.client()
        self.assertEqual(client.value(HERE), self.port(0))

    @ours_only("PGPOOL EXPLAIN")
    def test_explain_says_so(self):
        answer = self.client().query("PGPOOL EXPLAIN SELECT 1")
        self.assertEqual(answer.rows, [("0", "primary", "14", "load_balance_mode is off")])


class Delay(Base):
    fresh = True
    config = {**Base.config, "sr_check_period": 1, "delay_threshold": 1000}

    def test_a_standby_that_lags_is_not_read_from_until_it_has_caught_up(self):
        client = self.client()
        # The first check may have come while it replayed the table.
        self.eventually(lambda: client.value(HERE) == self.port(1), "reads go to the standby")
        self.cluster[1].rows("SELECT pg_wal_replay_pause()", user="postgres")
        self.cluster.primary.rows("INSERT INTO b SELECT generate_series(1, 10000)", user="postgres", database="app")
        self.eventually(lambda: client.value(HERE) == self.port(0), "reads go to the primary")
        self.cluster[1].rows("SELECT pg_wal_replay_resume()", user="postgres")
        self.eventually(lambda: client.value(HERE) == self.port(1), "reads go to the standby again")


class LowerDelay(Base):
    fresh = True
    config = {**Base.config, "sr_check_period": 1, "delay_threshold": 1000, "prefer_lower_delay_standby": True}
    per_node = {0: {"backend_weight": 0}, 1: {"backend_weight": 1}, 2: {"backend_weight": 0.0001}}

    def test_another_standby_takes_over(self):
        client = self.client()
        self.eventually(lambda: client.value(HERE) == self.port(1), "reads go to node 1")
        self.cluster[1].rows("SELECT pg_wal_replay_pause()", user="postgres")
        self.cluster.primary.rows("INSERT INTO b SELECT generate_series(1, 10000)", user="postgres", database="app")
        self.eventually(lambda: client.value(HERE) == self.port(2), "reads go to node 2")


class Redirected(Base):
    config = {**Base.config, "database_redirect_preference_list": "app:2", "app_name_redirect_preference_list": "chosen:primary"}

    def test_database_and_application_have_their_nodes(self):
        self.assertEqual(self.client().value(HERE), self.port(2))
        self.assertEqual(self.client(options={"application_name": "chosen"}).value(HERE), self.port(0))


@ours_only("reads of users whose default isolation level is SERIALIZABLE succeed")
class Serializable(Base):
    def test_reads_go_to_the_primary(self):
        self.cluster.primary.rows("ALTER ROLE app SET default_transaction_isolation = 'serializable'", user="postgres")
        self.caught_up()
        try:
            client = self.client()
            self.assertEqual(client.value(HERE), self.port(0))
            client.query("SET default_transaction_isolation = 'read committed'")
            self.assertEqual(client.value(HERE), self.port(1))
        finally:
            self.cluster.primary.rows("ALTER ROLE app RESET default_transaction_isolation", user="postgres")


class Detached(Base):
    fresh = True
    per_node = {n: {"backend_weight": w} for n, w in enumerate((0, 1, 0))}

    @stock_differs("the session ends")
    def test_a_session_goes_on_when_its_load_balance_node_is_detached(self):
        client = self.client()
        client.query("SET work_mem = '1234kB'")
        self.assertEqual(client.value(HERE), self.port(1))
        client.query("BEGIN")
        client.query("INSERT INTO b VALUES (9)")
        tools.pcp_ok(self.pool, "detach_node", "-n", 1)
        self.eventually(lambda: not self.cluster[1].sessions(), "its connection there is closed")
        self.assertEqual(client.query("COMMIT").tags, ["COMMIT"])
        # Node 2 was not told of the SET.
        self.assertEqual(client.rows("SELECT inet_server_port(), current_setting('work_mem')"), [(self.port(0), "1234kB")])
        self.assertEqual(client.value("SELECT count(*) FROM b WHERE i = 9"), "1")
