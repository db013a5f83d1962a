"""Raw, logical replication and slony mode, without load balancing: the lowest living node gets everything."""

import re
import time

from lib import proc, tools, wire
from lib.case import CompatCase, ours_only
from lib.server import PASSWORDS

CHECKS = {"health_check_period": 1, "health_check_timeout": 5, "health_check_max_retries": 0, "health_check_retry_delay": 1, "sr_check_period": 1}
HOOKS = {"failover_command": lambda t: t.hook.command("failover"), "failback_command": lambda t: t.hook.command("failback")}
CHECKED = {"num_init_children": 4, **CHECKS, **HOOKS}


class Mode:
    """The tests of a mode, one after the other: what they leave is where the next begins."""

    nodes = 3
    streaming = False
    weight = 15
    #: The `%P` of hooks while node 0 is the main node: only logical replication has a primary.
    primary_of_hooks = "-1"
    #: Nodes that are not the main node are connected to, and checked.
    all_take_part = True

    def shown(self):
        with self.pool.client() as client:
            result = client.query("SHOW POOL_NODES").ok()
        return [dict(zip(result.columns, row)) for row in result.rows]

    def port_of_a_session(self):
        with self.pool.client() as client:
            return int(client.value("SELECT inet_server_port()"))

    def hook_line(self, gone, main):
        """What failover_command is told when `gone` goes and `main` is the main node then."""
        gone, main = self.cluster[gone], self.cluster[main]
        return [str(gone.node), "127.0.0.1", str(gone.port), gone.data, str(main.node), "127.0.0.1", "0", self.primary_of_hooks, str(main.port), main.data]

    def test_1_everything_goes_to_the_first_node(self):
        table = "t" + str(time.monotonic_ns())
        client = self.client()
        client.query(f"CREATE TABLE {table}(a int)").ok()
        client.query(f"INSERT INTO {table} VALUES (1)").ok()
        here = str(self.cluster[0].port)
        for _ in range(5):
            self.assertEqual(client.value("SELECT inet_server_port()"), here)
        self.assertEqual(client.exchange(wire.extended("SELECT inet_server_port()") + wire.sync()).rows, [(here,)])
        self.assertEqual(client.exchange(wire.extended(f"INSERT INTO {table} VALUES ($1)", [2]) + wire.sync()).tags, ["INSERT 0 1"])
        client.query("BEGIN").ok()
        self.assertEqual(client.value("SELECT inet_server_port()"), here)
        client.query("COMMIT").ok()
        self.assertEqual(client.copy_in(f"COPY {table} FROM STDIN", [b"3\n4\n"]).tags, ["COPY 2"])
        self.assertEqual(self.cluster[0].value(f"SELECT count(*) FROM {table}"), "4")
        self.assertEqual([s.value(f"SELECT count(*) FROM pg_class WHERE relname = '{table}'") for s in self.cluster.servers[1:]], ["0", "0"])
        self.assertEqual([bool(s.sessions()) for s in self.cluster.servers], [True, self.all_take_part, self.all_take_part])

    def test_2_pool_nodes_and_the_tool_show_the_words_of_the_mode(self):
        self.client().value("SELECT 1")
        rows = self.shown()
        self.assertEqual([r["role"] for r in rows], ["main", "replica", "replica"])
        others = "up" if self.all_take_part else "waiting"
        self.assertEqual([r["status"] for r in rows], ["up", others, others])
        self.assertEqual([r["select_cnt"] for r in rows][1:], ["0", "0"])
        self.assertEqual([r["load_balance_node"] for r in rows], ["true", "false", "false"])
        self.assertEqual({r["replication_delay"] for r in rows}, {"0"})
        self.assertEqual([tools.node_info(self.pool, n)["Role"] for n in range(3)], ["main", "replica", "replica"])
        self.assertEqual([r["pg_status"] for r in rows], ["up"] * 3)
        self.assertEqual([r["pg_role"] for r in rows], ["main", "replica", "replica"])
        self.assertEqual({(r["replication_state"], r["replication_sync_state"]) for r in rows}, {("", "")})

    def test_3_a_node_that_gets_no_statements_dies(self):
        mark = self.pool.log_size()
        self.cluster[2].stop("fast")
        self.pool.wait_log(r"failover done\. shutdown host", since=mark, timeout=30)
        self.pool.wait_log(r"failover: set new main node: 0", since=mark)
        self.assertEqual(self.hook.calls("failover")[-1:], [self.hook_line(2, 0)])
        self.eventually(self.can_connect, "sessions")
        self.assertEqual(self.port_of_a_session(), self.cluster[0].port)
        self.assertEqual([r["status"] for r in self.shown()], ["up", "up", "down"])

    def test_4_the_first_node_dies_and_the_next_takes_its_place(self):
        mark = self.pool.log_size()
        zero, one = self.cluster[0], self.cluster[1]
        client = self.client()
        client.value("SELECT 1")
        zero.stop("fast")
        self.assertTrue(client.is_closed(), "sessions of the node end")
        self.pool.wait_log(rf"failover done\. shutdown host 127\.0\.0\.1\({zero.port}\)", since=mark, timeout=30)
        self.pool.wait_log(r"failover: set new main node: 1", since=mark)
        self.assertEqual(self.hook.calls("failover")[-1:], [self.hook_line(0, 1)])
        self.eventually(self.can_connect, "sessions on node 1")
        self.assertEqual(self.port_of_a_session(), one.port)
        self.assertEqual([(r["status"], r["role"]) for r in self.shown()][:2], [("down", "replica"), ("up", "main")])

    def test_5_the_first_node_is_the_main_node_again_when_it_is_attached(self):
        mark = self.pool.log_size()
        zero = self.cluster[0]
        client = self.client()
        client.value("SELECT 1")
        zero.start()
        tools.pcp_ok(self.pool, "attach_node", "-n", 0)
        self.pool.wait_log(rf"failback done\. reconnect host 127\.0\.0\.1\({zero.port}\)", since=mark, timeout=30)
        self.pool.wait_log(r"failover: set new main node: 0", since=mark)
        self.assertEqual([c[0] for c in self.hook.calls("failback")], ["0"])
        self.assertTrue(client.is_closed(), "no session goes on writing to the node that was the main node")
        self.eventually(self.can_connect, "sessions")
        self.assertEqual(self.port_of_a_session(), zero.port)
        self.assertEqual([r["role"] for r in self.shown()][:2], ["main", "replica"])


class Raw(Mode, CompatCase):
    """Only the main node takes part; the others are spares, which need not even run."""

    config = {**CHECKED, "backend_clustering_mode": "raw"}
    all_take_part = False

    def test_3_a_node_that_gets_no_statements_dies(self):
        done = tools.pcp(self.pool, "detach_node", "-n", 2)
        self.assertIn("invalid degenerate backend request, node id : 2 status: [1] is not valid for failover", done.err)
        self.pool.wait_log("invalid degenerate backend request")
        mark = self.pool.log_size()
        self.cluster[2].stop("fast")
        proc.never(lambda: "degenerat" in self.pool.log(mark), "a failover of a spare", 4)
        self.assertEqual(self.port_of_a_session(), self.cluster[0].port)
        self.assertEqual([(r["status"], r["pg_status"]) for r in self.shown()], [("up", "up"), ("waiting", "up"), ("waiting", "down")])
        with self.pool.client() as client:
            self.assertEqual([r[6:8] for r in client.rows("SHOW POOL_HEALTH_CHECK_STATS")][1:], [("0", "0")] * 2)

    def test_3a_nobody_looks_for_a_primary(self):
        self.assertNotIn("find_primary_node", self.pool.log())


class RawSpare(CompatCase):
    """The health check goes where the main node goes."""

    nodes = 3
    streaming = False
    config = {**CHECKED, "backend_clustering_mode": "raw"}

    @ours_only("the main node is checked, whichever it is; 4.3.5 checks only nodes that were the main node at the start or were attached")
    def test_the_node_that_took_over_is_checked_too(self):
        for node in (0, 1):
            mark = self.pool.log_size()
            self.cluster[node].stop("fast")
            self.pool.wait_log(rf"failover done\. shutdown host 127\.0\.0\.1\({self.cluster[node].port}\)", since=mark, timeout=30)
        self.eventually(self.can_connect, "sessions on the last node")
        self.assertEqual(self.client().value("SELECT inet_server_port()"), str(self.cluster[2].port))


class Slony(Mode, CompatCase):
    """The main node is the writer by convention: slony's servers cannot be asked."""

    config = {**CHECKED, "backend_clustering_mode": "slony"}

    def test_2a_nobody_looks_for_a_primary(self):
        self.assertNotIn("find_primary_node", self.pool.log())


class Logical(Mode, CompatCase):
    """Servers that are all no standbys: the first is the primary."""

    config = {**CHECKED, "backend_clustering_mode": "logical_replication"}
    primary_of_hooks = "0"

    def test_2a_the_primary_is_looked_for(self):
        self.pool.wait_log(re.escape("find_primary_node: primary node is 0"))
        self.assertNotIn("node status[0]", self.pool.log())


class Publication(CompatCase):
    """A publisher and a subscriber as PostgreSQL makes them."""

    nodes = 2
    streaming = False
    server_settings = {"wal_level": "logical"}
    config = {**CHECKED, "backend_clustering_mode": "logical_replication"}

    def test_what_is_written_through_pgpool_reaches_the_subscriber(self):
        first, second = self.cluster[0], self.cluster[1]
        with self.pool.client() as client:
            client.query("CREATE TABLE published(a int PRIMARY KEY)").ok()
            client.query("CREATE PUBLICATION p FOR TABLE published").ok()
        second.rows("CREATE TABLE published(a int PRIMARY KEY); ALTER TABLE published OWNER TO app")
        # CREATE SUBSCRIPTION cannot run in the transaction that a query of two statements is.
        second.rows(f"CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port={first.port} user=repmgr password={PASSWORDS['repmgr']} dbname=app' PUBLICATION p")
        with self.pool.client() as client:
            client.query("INSERT INTO published VALUES (1), (2)").ok()
            client.exchange(wire.extended("INSERT INTO published VALUES ($1)", [3]) + wire.sync()).ok()
            self.assertEqual(client.value("SELECT count(*) FROM published"), "3")
        self.eventually(lambda: second.value("SELECT count(*) FROM published") == "3", "the rows to arrive at the subscriber", timeout=30)
        first.stop("fast")
        self.pool.wait_log(r"failover: set new main node: 1", timeout=30)
        self.eventually(self.can_connect, "sessions on the subscriber")
        with self.pool.client() as client:
            client.query("INSERT INTO published VALUES (4)").ok()
            self.assertEqual(client.rows("SELECT count(*), inet_server_port() FROM published"), [("4", str(second.port))])


class OldNames:
    """The same modes in the words of a 4.0 file."""

    dialect = "4.0"
    nodes = 2
    streaming = False
    weight = 10

    def test_the_first_node_gets_everything_and_the_next_takes_its_place(self):
        client = self.client()
        client.query("CREATE TABLE old_names(a int)").ok()
        self.assertEqual(client.value("SELECT inet_server_port()"), str(self.cluster[0].port))
        self.assertEqual(client.exchange(wire.extended("SELECT inet_server_port()") + wire.sync()).rows, [(str(self.cluster[0].port),)])
        self.assertEqual(self.cluster[1].value("SELECT count(*) FROM pg_class WHERE relname = 'old_names'"), "0")
        self.assertEqual(client.rows("SHOW POOL_NODES")[1][2:4], (str(self.cluster[1].port), "up"))
        self.cluster[0].stop("fast")
        self.pool.wait_log(r"failover: set new main node: 1", timeout=40)
        self.pool.wait_log(r"failover done\. shutdown host")
        self.assertEqual([c[:5] + c[6:7] for c in self.hook.calls("failover")], [["0", "127.0.0.1", str(self.cluster[0].port), self.cluster[0].data, "1", "0"]])
        self.eventually(self.can_connect, "sessions on node 1")
        self.assertEqual(self.client().value("SELECT inet_server_port()"), str(self.cluster[1].port))


class OldLogical(OldNames, CompatCase):
    config = {"enable_pool_hba": False, "master_slave_sub_mode": "logical", **CHECKS, **HOOKS}


class OldSlony(OldNames, CompatCase):
    config = {"enable_pool_hba": False, "master_slave_sub_mode": "slony", **CHECKS, **HOOKS}


class OldRoles(CompatCase):
    dialect = "4.0"
    nodes = 2
    streaming = False
    config = {"enable_pool_hba": False, "master_slave_sub_mode": "logical"}

    @ours_only("words follow the dialect of the file; stock 4.3.5 always says main and replica")
    def test_roles_are_master_and_slave(self):
        seen = self.client().query("SHOW POOL_NODES").ok()
        self.assertEqual([dict(zip(seen.columns, r))["role"] for r in seen.rows], ["master", "slave"])
