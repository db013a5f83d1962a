"""Who is primary and who is let back in: auto_failback, detach_false_primary, ALWAYS_PRIMARY."""

import datetime

from lib import proc, tools
from lib.case import CompatCase

CHECKED = {"num_init_children": 4, "health_check_period": 1, "health_check_timeout": 5, "health_check_max_retries": 0, "health_check_retry_delay": 1, "sr_check_period": 1}


def shown(client):
    """The rows of SHOW POOL_NODES by column name."""
    result = client.query("SHOW POOL_NODES").ok()
    return [dict(zip(result.columns, row)) for row in result.rows]


class AutoFailback(CompatCase):
    nodes = 3
    config = {**CHECKED, "auto_failback": True, "auto_failback_interval": 2, "failback_command": lambda t: t.hook.command("failback")}
    weight = 15

    def test_a_standby_that_streams_again_is_attached_by_itself_and_sessions_go_on(self):
        client = self.client()
        client.value("SELECT 1")
        standby, port = self.cluster[2], self.cluster[2].port
        standby.stop("fast")
        self.pool.wait_log(rf"failover done\. shutdown host 127\.0\.0\.1\({port}\)", timeout=30)
        mark = self.pool.log_size()
        proc.never(lambda: "failback" in self.pool.log(mark), "a failback of a server that is not there", 3)
        standby.start()
        self.pool.wait_log(r"request auto failback, node id:2", since=mark, timeout=30)
        self.pool.wait_log(r"received failback request for node_id: 2 from pid \[\d+\]", since=mark)
        self.pool.wait_log(rf"failback done\. reconnect host 127\.0\.0\.1\({port}\)", since=mark)
        self.assertEqual(self.pool.status_words(), ["up", "up", "up"])
        self.assertEqual(self.hook.calls("failback")[-1:], [["2", "127.0.0.1", str(port), standby.data, "0", "127.0.0.1", "0", "0", str(self.cluster[0].port), self.cluster[0].data]])
        self.assertEqual(client.value("SELECT 2"), "2", "a session of the primary lives on")

    def test_a_node_that_an_operator_detached_comes_back_too(self):
        self.eventually(lambda: tools.node_info(self.pool, 1)["Replication State"] == "streaming", "node 1 to be known as streaming")
        mark = self.pool.log_size()
        tools.pcp_ok(self.pool, "detach_node", "-n", 1)
        self.pool.wait_log(r"failover done\. shutdown host", since=mark)
        self.pool.wait_log(r"request auto failback, node id:1", since=mark, timeout=30)
        self.pool.wait_log(r"failback done\. reconnect host", since=mark)


class AutoFailbackInterval(CompatCase):
    nodes = 2
    config = {**CHECKED, "auto_failback": True, "auto_failback_interval": 8}
    weight = 20

    def test_the_interval_lies_between_two_automatic_failbacks(self):
        self.eventually(lambda: tools.node_info(self.pool, 1)["Replication State"] == "streaming", "node 1 to be known as streaming")
        times = []
        for _ in range(2):
            mark = self.pool.log_size()
            tools.pcp_ok(self.pool, "detach_node", "-n", 1)
            self.pool.wait_log(r"failover done\. shutdown host", since=mark)
            # When it was, and not when we see it.
            found = self.pool.wait_log(r"(?m)^(\S+ \S+): [^\n]*request auto failback, node id:1", since=mark, timeout=30)
            times.append(datetime.datetime.fromisoformat(found[1]))
            self.pool.wait_log(r"failback done\. reconnect host", since=mark)
        self.assertGreaterEqual((times[1] - times[0]).total_seconds(), 7)


class NoAutoFailback(CompatCase):
    nodes = 3
    fresh = True
    config = CHECKED
    weight = 15

    def stays_detached(self, node, seconds=6):
        mark = self.pool.log_size()
        tools.pcp_ok(self.pool, "detach_node", "-n", node)
        self.pool.wait_log(r"failover done\. shutdown host", since=mark)
        mark = self.pool.log_size()
        proc.never(lambda: "received failback request" in self.pool.log(mark), "a failback", seconds)

    def test_without_the_setting_nothing_comes_back(self):
        self.stays_detached(2)

    def test_a_standby_whose_application_name_is_not_that_of_the_configuration_stays_detached(self):
        pool = self.pool = self.another_pool(config={"auto_failback": True, "auto_failback_interval": 1}, per_node={1: {"backend_application_name": "somebody_else"}}).start()
        self.assertTrue(pool.running)
        self.stays_detached(1)

    def test_without_a_replication_check_nobody_is_known_to_stream(self):
        self.pool = self.another_pool(config={"auto_failback": True, "auto_failback_interval": 1, "sr_check_period": 0}).start()
        self.stays_detached(1)


class FalsePrimary(CompatCase):
    """Node 2 was promoted by mistake, while node 1 goes on streaming from node 0."""

    nodes = 3
    fresh = True
    start = False
    config = {**CHECKED, "detach_false_primary": True, "failover_command": lambda t: t.hook.command("failover")}
    weight = 20

    def test_a_primary_that_owns_no_standby_is_detached_by_the_replication_check(self):
        self.pool.start()
        client = self.client()
        client.value("SELECT 1")
        self.cluster[2].promote()
        self.pool.wait_log(r"verify_backend_node_status: primary 2 does not connect to standby 1", timeout=30)
        self.pool.wait_log(r"verify_backend_node_status: primary 2 owns only 0 standbys out of 1")
        self.pool.wait_log(r"pgpool_worker_child: invalid node found 2")
        self.pool.wait_log(rf"failover done\. shutdown host 127\.0\.0\.1\({self.cluster[2].port}\)")
        self.assertEqual([c[0] for c in self.hook.calls("failover")], ["2"])
        self.assertEqual(self.pool.status_words(), ["up", "up", "down"])
        self.assertEqual([tools.node_info(self.pool, n)["Role"] for n in range(3)], ["primary", "standby", "standby"])
        self.assertEqual(self.client().value("SELECT inet_server_port()"), str(self.cluster[0].port))

    def test_it_is_found_at_the_start_too(self):
        self.cluster[2].promote()
        self.pool.start()
        self.pool.wait_log(r"invalid node found 2", timeout=30)
        self.pool.wait_log(rf"failover done\. shutdown host 127\.0\.0\.1\({self.cluster[2].port}\)")
        self.assertEqual(self.pool.status_words(), ["up", "up", "down"])
        self.assertEqual(tools.node_info(self.pool, 0)["Role"], "primary")

    def test_a_standby_that_streams_from_an_unknown_address_keeps_everybody_attached(self):
        # No candidate owns all standbys: nobody can tell which one is true.
        pool = self.pool = self.another_pool(hosts={0: "localhost"}).start()
        self.cluster[2].promote()
        pool.wait_log(r"verify_backend_node_status: primary 2 owns only 0 standbys out of 1", timeout=30)
        proc.never(lambda: "starting degeneration" in pool.log(), "a degeneration", 4)

    def test_switched_off_it_detaches_nobody(self):
        pool = self.pool = self.another_pool(config={"detach_false_primary": False}).start()
        self.cluster[2].promote()
        proc.never(lambda: "starting degeneration" in pool.log() or "invalid node" in pool.log(), "a degeneration", 5)
        self.assertEqual(self.client().value("SELECT inet_server_port()"), str(self.cluster[0].port))


class AlwaysPrimary(CompatCase):
    """The flag wins over what the server says: node 1 is a standby."""

    nodes = 3
    fresh = True
    flags = {1: "ALWAYS_PRIMARY"}
    config = {**CHECKED, "failover_command": lambda t: t.hook.command("failover")}
    weight = 20

    def roles(self):
        return [tools.node_info(self.pool, n)["Role"] for n in range(3)]

    def test_the_node_is_primary_without_a_question(self):
        self.assertNotIn("find_primary_node: primary node is", self.pool.log())
        self.assertEqual(self.roles(), ["standby", "primary", "standby"])
        client = self.client()
        self.assertEqual(client.value("SELECT inet_server_port()"), str(self.cluster[1].port))
        rows = shown(client)
        self.assertEqual([r["role"] for r in rows], ["standby", "primary", "standby"])
        self.assertEqual([r["pg_role"] for r in rows], ["primary", "standby", "standby"])
        # Writes go where the flag points, and the server has its word.
        self.assertEqual(client.query("CREATE TABLE x(a int)").error["C"], "25006")

    def test_the_failover_of_another_node_leaves_it_primary(self):
        client = self.client()
        client.value("SELECT 1")
        self.cluster[2].stop("fast")
        self.pool.wait_log(r"failover: set new primary node: 1", timeout=30)
        self.pool.wait_log(r"failover: set new main node: 0")
        self.pool.wait_log(r"failover done\. shutdown host")
        two, zero = self.cluster[2], self.cluster[0]
        self.assertEqual(self.hook.calls("failover"), [["2", "127.0.0.1", str(two.port), two.data, "0", "127.0.0.1", "0", "1", str(zero.port), zero.data]])
        self.assertEqual(client.value("SELECT 2"), "2")
        self.assertEqual(self.roles(), ["standby", "primary", "standby"])

    def test_when_it_goes_itself_the_flag_still_names_it(self):
        self.cluster[1].stop("fast")
        self.pool.wait_log(r"failover: set new primary node: 1", timeout=40)
        self.pool.wait_log(r"failover: set new main node: 0")
        self.pool.wait_log(r"failover done\. shutdown host")
        self.assertEqual(self.hook.calls("failover")[0][:5], ["1", "127.0.0.1", str(self.cluster[1].port), self.cluster[1].data, "0"])
        self.assertEqual(self.pool.status_words(), ["up", "down", "up"])
        self.assertEqual(self.roles(), ["standby", "primary", "standby"])
        self.eventually(self.can_connect, "reads on a living node")


class AlwaysPrimaryAndDisallowed(CompatCase):
    nodes = 2
    flags = {1: "ALWAYS_PRIMARY|DISALLOW_TO_FAILOVER"}
    config = {**CHECKED, "failover_command": lambda t: t.hook.command("failover")}

    def test_it_is_primary_and_never_detached(self):
        self.assertEqual([tools.node_info(self.pool, n)["Role"] for n in range(2)], ["standby", "primary"])
        done = tools.pcp(self.pool, "detach_node", "-n", 1)
        self.assertIn("failover is disallowed on the node", done.err)
        self.cluster[1].stop("fast")
        self.pool.wait_log(r"health check failed on node 1 but failover is disallowed for the node", timeout=30)
        self.assertEqual(self.pool.status_words(), ["up", "up"])
        self.assertEqual(self.hook.calls(), [])
