"""Health checks: what detaches a node, what does not, and what the log says."""

import os
import re
import time

from lib import proc, tools
from lib.case import CompatCase, ours_only, promoting, stock_differs

FAST = {"num_init_children": 4, "health_check_period": 1, "health_check_timeout": 3, "health_check_max_retries": 2, "health_check_retry_delay": 1, "failover_command": promoting}


class StandbyDies(CompatCase):
    nodes = 3
    config = FAST

    def test_a_dead_standby_is_detached_after_its_retries_and_sessions_go_on(self):
        client = self.client()
        client.value("SELECT 1")
        port = self.cluster[2].port
        self.cluster[2].stop("fast")
        self.pool.wait_log(r"health check retrying on DB node: 2 \(round:1\)")
        self.pool.wait_log(r"health check retrying on DB node: 2 \(round:2\)")
        self.pool.wait_log(r"health check failed on node 2 \(timeout:0\)")
        self.pool.wait_log(r"received degenerate backend request for node_id: 2 from pid \[\d+\]")
        self.pool.wait_log(rf"starting degeneration\. shutdown host 127\.0\.0\.1\({port}\)")
        self.pool.wait_log(r"execute command: .*record\.sh failover 2 127\.0\.0\.1")
        self.pool.wait_log(r"failover: set new primary node: 0")
        self.pool.wait_log(r"failover: set new main node: 0")
        self.pool.wait_log(rf"failover done\. shutdown host 127\.0\.0\.1\({port}\)")
        primary, standby = self.cluster[0], self.cluster[2]
        self.assertEqual(self.hook.calls("failover"), [["2", "127.0.0.1", str(port), standby.data, "0", "127.0.0.1", "0", "0", str(primary.port), primary.data]])
        self.assertEqual(client.value("SELECT 2"), "2")
        self.assertEqual(self.pool.status_words(), ["up", "up", "down"])
        self.assertEqual(tools.node_info(self.pool, 2)["Status Name"], "down")
        # Detached nodes are not asked again, and nothing re-attaches by itself.
        mark = self.pool.log_size()
        standby.start()
        time.sleep(2.5)
        self.assertNotIn("failback", self.pool.log(mark))
        tools.pcp_ok(self.pool, "attach_node", "-n", 2)
        self.pool.wait_log(r"failback done\. reconnect host", since=mark)
        self.assertEqual(self.pool.status_words(), ["up", "up", "up"])


class ShortOutage(CompatCase):
    nodes = 2
    config = {**FAST, "health_check_max_retries": 20}

    def test_a_node_that_comes_back_within_its_retries_is_not_detached(self):
        standby = self.cluster[1]
        standby.stop("fast")
        self.pool.wait_log(r"health check retrying on DB node: 1 \(round:1\)")
        standby.start()
        self.pool.wait_log(r"health check retrying on DB node: 1 succeeded")
        self.assertEqual(self.pool.status_words(), ["up", "up"])
        self.assertEqual(self.hook.calls(), [])


class HungServer(CompatCase):
    nodes = 2
    config = {**FAST, "health_check_timeout": 2, "health_check_max_retries": 1}
    weight = 12

    def test_a_hung_standby_is_detached_after_health_check_timeout(self):
        self.cluster[1].pause()
        self.pool.wait_log(r"health check failed on node 1 \(timeout:1\)", timeout=30)
        self.pool.wait_log(r"failover done\. shutdown host")
        self.eventually(self.can_connect, "new sessions to be served")
        self.assertEqual(self.pool.status_words(), ["up", "down"])


class HungPrimary(CompatCase):
    nodes = 3
    config = {**FAST, "health_check_timeout": 2, "health_check_max_retries": 1}
    weight = 12

    def test_a_hung_primary_is_failed_over(self):
        self.cluster[0].pause()
        self.pool.wait_log(r"failover: set new primary node: 1", timeout=40)
        self.pool.wait_log(r"failover done")
        self.eventually(self.can_connect, "new sessions to be served")
        with self.pool.client(user="postgres") as client:
            client.query("CREATE TABLE after_failover(a int)").ok()
        self.assertFalse(self.cluster[1].in_recovery())


class NotAnOutage(CompatCase):
    nodes = 2
    fresh = True
    start = False
    config = {**FAST, "health_check_max_retries": 1}
    weight = 25

    def stays_up(self, **config):
        self.pool.write_config(**config)
        self.pool.start()
        time.sleep(6)
        self.assertNotIn("starting degeneration", self.pool.log())
        self.assertEqual(self.pool.status_words(), ["up", "up"])
        self.assertTrue(self.can_connect())

    @stock_differs("4.3.5 detaches every node for a wrong health_check_user, and does not say why")
    def test_a_wrong_health_check_user_detaches_nothing_and_is_named_in_the_log(self):
        self.stays_up(health_check_user="nouser")
        self.pool.wait_log(re.escape("nouser"))

    @stock_differs("4.3.5 detaches every node for a wrong health_check_password")
    def test_a_wrong_health_check_password_detaches_nothing(self):
        self.stays_up(health_check_password="wrong")

    @stock_differs("4.3.5 detaches every node for a wrong health_check_database")
    def test_a_wrong_health_check_database_detaches_nothing(self):
        self.stays_up(health_check_database="no_such_database")

    def test_an_empty_health_check_database_means_postgres(self):
        self.stays_up(health_check_database="")

    def test_an_empty_password_is_taken_from_pool_passwd(self):
        self.stays_up(health_check_password="")

    def test_period_zero_means_no_checks(self):
        self.pool.write_config(health_check_period=0)
        self.pool.start()
        self.cluster[1].stop("fast")
        time.sleep(4)
        self.assertNotIn("degenerat", self.pool.log())


class PerNode(CompatCase):
    nodes = 3
    config = {**FAST, "health_check_period": 0}
    per_node = {1: {"health_check_period": 1, "health_check_max_retries": 0, "health_check_user": "hcuser"}}

    def test_settings_of_one_node_override_the_global_ones(self):
        self.cluster[2].stop("fast")
        self.cluster[1].stop("fast")
        self.pool.wait_log(r"health check failed on node 1 \(timeout:0\)")
        self.pool.wait_log(r"failover done\. shutdown host")
        self.assertEqual(self.pool.status_words(), ["up", "down", "up"])


class Disallowed(CompatCase):
    nodes = 2
    config = FAST
    flags = {1: "DISALLOW_TO_FAILOVER"}

    def test_disallow_to_failover_is_reported_and_nothing_is_detached(self):
        self.cluster[1].stop("fast")
        self.pool.wait_log(r"health check failed on node 1 but failover is disallowed for the node", timeout=30)
        self.assertEqual(self.pool.status_words(), ["up", "up"])
        self.assertEqual(self.hook.calls(), [])
        self.assertTrue(self.can_connect())


class TestAid(CompatCase):
    nodes = 2
    config = {**FAST, "health_check_test": True, "health_check_max_retries": 0}

    def test_the_file_backend_down_request_rehearses_a_failure(self):
        path = os.path.join(self.pool.log_dir, "backend_down_request")
        self.pool.wait_log(r"check_backend_down_request: failed to open file " + re.escape(path) + r"\n.*DETAIL:  .*No such file or directory", timeout=20)
        self.pool.write(path, "1\tdown\n")
        self.pool.wait_log(r"health check failed on node 1", timeout=20)
        self.pool.wait_log(r"failover done\. shutdown host")
        self.assertEqual(self.pool.status_words(), ["up", "down"])
        self.assertTrue(self.cluster[1].running)
        self.assertNotIn("os error", self.pool.log())


class NotLate(CompatCase):
    """A false failover is the worst bug: busy sessions must not make checks late."""

    nodes = 2
    config = {**FAST, "health_check_timeout": 4, "health_check_max_retries": 0, "num_init_children": 32}
    weight = 10

    @ours_only("measured with a short time limit on a busy machine; stock is not asked for its timing")
    def test_checks_stay_in_time_under_load(self):
        before = self.health_count()
        done = tools.pgbench(self.pool.port, "-i", "-q", "-s", "1", timeout=60)
        self.assertEqual(done.code, 0, done)
        done = tools.pgbench(self.pool.port, "-n", "-S", "-c", "24", "-j", "2", "-T", "6", timeout=60)
        self.assertEqual(done.code, 0, done)
        self.assertGreaterEqual(self.health_count() - before, 3)
        self.assertNotIn("health check failed", self.pool.log())

    def health_count(self):
        with self.pool.client() as client:
            seen = client.query("SHOW pool_health_check_stats")
            return int(dict(zip(seen.columns, seen.rows[0]))["success_count"])


class ReplicationCheck(CompatCase):
    nodes = 2
    config = {"num_init_children": 4, "sr_check_period": 1, "health_check_period": 2, "delay_threshold": 1, "log_standby_delay": "if_over_threshold"}

    def test_a_standby_that_lags_is_measured_and_logged(self):
        primary, standby = self.cluster[0], self.cluster[1]
        standby.rows("SELECT pg_wal_replay_pause()")
        try:
            primary.rows("CREATE TABLE lag AS SELECT repeat('x', 100) FROM generate_series(1, 5000)")
            self.pool.wait_log(r"Replication of node: ?1 is behind \d+ bytes from the primary server \(node: ?0\)")
            # The check that has said so may have come in the middle of it.
            self.eventually(lambda: self.delay() > 100_000, "the whole delay to be measured")
        finally:
            standby.rows("SELECT pg_wal_replay_resume()")

    def delay(self):
        with self.pool.client() as client:
            seen = client.query("SHOW pool_nodes")
            return int(dict(zip(seen.columns, seen.rows[1]))["replication_delay"])


class WrongSrCheckUser(CompatCase):
    nodes = 2
    start = False
    config = {"num_init_children": 2, "sr_check_period": 1, "sr_check_user": "nouser", "search_primary_node_timeout": 2}

    def test_a_wrong_sr_check_user_is_no_failover(self):
        self.pool.start()
        time.sleep(3)
        self.assertNotIn("starting degeneration", self.pool.log())
        self.assertTrue(self.can_connect())

    @stock_differs("4.3.5 ends and forks its worker in a tight loop")
    def test_a_wrong_sr_check_user_does_not_flood_the_log(self):
        if not self.pool.running:
            self.pool.start()
        mark = self.pool.log_size()
        time.sleep(4)
        lines = self.pool.log(mark).count("\n")
        self.assertLess(lines, 60, re.sub(r"(?m)^.*\n", "", self.pool.log(mark), count=0))

    def tearDown(self):
        self.pool.stop()
        proc.wait_for(lambda: not self.pool.leftovers(), "files to go")
        super().tearDown()
