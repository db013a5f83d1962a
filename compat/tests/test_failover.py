"""Failover against real servers: who dies, what the hook is told, what clients see, what is remembered."""

import os
import threading
import time

from lib import env, tools, wire
from lib.case import CompatCase, ours_only, promoting, stock_differs

CHECKED = {"num_init_children": 6, "health_check_period": 1, "health_check_timeout": 5, "health_check_max_retries": 1, "health_check_retry_delay": 1, "sr_check_period": 1, "failover_command": promoting}


class PrimaryDies(CompatCase):
    nodes = 3
    config = CHECKED
    weight = 20

    def test_the_whole_story(self):
        """The primary stops, the script promotes node 1, the same connection string goes on; then the old primary comes back."""
        idle, busy = self.client(), self.client()
        idle.value("SELECT 1")
        busy.query("BEGIN").ok()
        self.cluster.primary.rows("CREATE TABLE story(a int); GRANT ALL ON story TO app")
        with self.pool.client() as writer:
            writer.query("INSERT INTO story VALUES (1)").ok()
        old, new = self.cluster[0], self.cluster[1]
        old.stop("fast")
        self.pool.wait_log(r"failover: set new primary node: 1", timeout=40)
        self.pool.wait_log(rf"failover done\. shutdown host 127\.0\.0\.1\({old.port}\)")
        self.assertEqual(self.hook.calls("failover"), [["0", "127.0.0.1", str(old.port), old.data, "1", "127.0.0.1", "0", "0", str(new.port), new.data]])
        for client in (idle, busy):
            self.assertTrue(client.is_closed(), "sessions of the old primary end")
        self.eventually(self.can_connect, "the same connection string to work")
        with self.pool.client() as writer:
            writer.query("INSERT INTO story VALUES (2)").ok()
            self.assertEqual(writer.value("SELECT count(*) FROM story"), "2")
            self.assertEqual(writer.value("SELECT inet_server_port()"), str(new.port))
        self.assertEqual(self.pool.status_words(), ["down", "up", "up"])
        info = [tools.node_info(self.pool, n) for n in range(3)]
        self.assertEqual([(i["Status Name"], i["Role"]) for i in info], [("down", "standby"), ("up", "primary"), (info[2]["Status Name"], "standby")])
        self.assertIn(info[2]["Status Name"], ("up", "waiting"))
        # The old primary comes back as a standby and is attached by the operator.
        old.rebuild_from(new)
        tools.pcp_ok(self.pool, "attach_node", "-n", 0)
        self.pool.wait_log(rf"failback done\. reconnect host 127\.0\.0\.1\({old.port}\)")
        self.assertEqual(self.pool.status_words(), ["up", "up", "up"])
        self.eventually(self.can_connect, "sessions after the failback")
        with self.pool.client() as writer:
            writer.query("INSERT INTO story VALUES (3)").ok()
        self.assertEqual(tools.node_info(self.pool, 1)["Role"], "primary")


class SeedDialect(CompatCase):
    """The 4.0 file of the manual's three-node example, with a script of the same interface."""

    dialect = "4.0"
    nodes = 3
    config = {"failover_command": lambda t: f"{t.failover_sh} %d %h %P %m %H %R", "failback_command": "echo failback %d %h %p %D %m %H %M %P"}
    weight = 20

    def test_it_fails_over_with_a_script_of_that_interface(self):
        client = self.client(user="md5user", password="md5pw")
        self.assertEqual(client.value("SELECT 1"), "1")
        self.cluster[0].kill()
        self.pool.wait_log(r"execute command: \S*failover\.sh 0 127\.0\.0\.1 0 1 127\.0\.0\.1 \S+n1/data", timeout=40)
        self.pool.wait_log(r"failover: set new primary node: 1", timeout=40)
        self.eventually(lambda: self.can_connect(user="md5user", password="md5pw"), "the same connection string to work")
        self.assertFalse(self.cluster[1].in_recovery())
        with self.pool.client(user="repmgr", password="rep123") as writer:
            writer.query("CREATE TABLE after(a int)").ok()


class WithoutPromotion(CompatCase):
    nodes = 2
    config = {**CHECKED, "search_primary_node_timeout": 3, "failover_command": ""}
    weight = 12

    def test_without_a_new_primary_reads_go_on_and_writes_are_refused_by_the_server(self):
        self.cluster[0].stop("fast")
        self.pool.wait_log(r"failover: set new primary node: -1", timeout=40)
        self.eventually(self.can_connect, "reads on the remaining standby")
        with self.pool.client(user="postgres") as client:
            self.assertEqual(client.query("CREATE TABLE x(a int)").error["C"], "25006")
        # Promoted by hand, it is found at the next failover or failback.
        self.cluster[1].promote()
        self.cluster[0].rebuild_from(self.cluster[1])
        tools.pcp_ok(self.pool, "attach_node", "-n", 0)
        self.pool.wait_log(r"failover: set new primary node: 1", timeout=30)


class AllDown(CompatCase):
    nodes = 2
    config = {**CHECKED, "failover_command": lambda t: t.hook.command("failover"), "search_primary_node_timeout": 3}
    weight = 20

    def test_all_nodes_down_and_back(self):
        data, ports = [s.data for s in self.cluster.servers], [str(s.port) for s in self.cluster.servers]
        self.cluster[1].stop("fast")
        self.pool.wait_log(r"failover done\. shutdown host", timeout=30)
        self.cluster[0].stop("fast")
        self.pool.wait_log(r"failover: no valid backend node found", timeout=30)
        self.pool.wait_log(r"failover: set new primary node: -1", timeout=30)
        self.assertEqual(self.hook.calls("failover"), [["1", "127.0.0.1", ports[1], data[1], "0", "127.0.0.1", "0", "0", ports[0], data[0]], ["0", "127.0.0.1", ports[0], data[0], "-1", "", "0", "0", "", ""]])
        fields = self.eventually(self._refusal, "new clients to be refused")
        self.assertEqual((fields["C"], fields["M"]), ("08S01", "pgpool is not accepting any new connections"))
        self.assertEqual(fields["D"], "all backend nodes are down, pgpool requires at least one valid node")
        self.assertEqual(fields["H"], "repair the backend nodes and restart pgpool")
        self.assertEqual(self.pool.status_words(), ["up", "down"], "the file keeps naming the last survivor")
        self.cluster[0].start()
        time.sleep(2)
        self.assertFalse(self.can_connect(), "nothing re-attaches by itself")
        tools.pcp_ok(self.pool, "attach_node", "-n", 0)
        self.eventually(self.can_connect, "sessions after the attach", timeout=20)
        self.eventually(lambda: tools.node_info(self.pool, 0)["Role"] == "primary", "node 0 to be primary again")

    def _refusal(self):
        try:
            self.pool.client().close()
        except wire.ServerError as error:
            return error.fields
        except (OSError, wire.Closed, TimeoutError):
            return None
        return None


class OtherSessionsGoOn(CompatCase):
    nodes = 3
    config = CHECKED
    weight = 20

    def test_a_transaction_lives_through_the_failover_and_the_failback_of_a_standby(self):
        """Sessions of the primary do not use the standby."""
        clients = [self.client(), self.client()]
        for number, client in enumerate(clients):
            client.query("BEGIN").ok()
            client.query(f"CREATE TEMP TABLE mine{number}(a int)").ok()
        self.cluster[2].stop("fast")
        self.pool.wait_log(rf"failover done\. shutdown host 127\.0\.0\.1\({self.cluster[2].port}\)", timeout=40)
        for number, client in enumerate(clients):
            client.query(f"INSERT INTO mine{number} VALUES (1)").ok()
        self.cluster[2].start()
        tools.pcp_ok(self.pool, "attach_node", "-n", 2)
        self.pool.wait_log(rf"failback done\. reconnect host 127\.0\.0\.1\({self.cluster[2].port}\)", timeout=40)
        for number, client in enumerate(clients):
            client.query(f"INSERT INTO mine{number} VALUES (2)").ok()
            client.query("COMMIT").ok()
            self.assertEqual(client.value(f"SELECT count(*) FROM mine{number}"), "2")


class SecondFailure(CompatCase):
    nodes = 3
    config = {**CHECKED, "failover_command": lambda t: t.hook.command("failover", "%d %m %P") + f"; test %d = %P && sleep 6; {t.failover_sh} %d %h %P %m %H %R"}
    weight = 20

    @stock_differs("4.3.5 calls the hook of the first failure once more with the second")
    def test_a_standby_that_fails_during_the_hook_has_its_own_failover_after_it(self):
        self.cluster[0].stop("fast")
        self.eventually(self.hook.calls, "the hook", timeout=40)
        self.cluster[2].stop("fast")
        self.pool.wait_log(r"failover: set new primary node: 1", timeout=60)
        self.pool.wait_log(rf"failover done\. shutdown host 127\.0\.0\.1\({self.cluster[2].port}\)", timeout=60)
        self.assertEqual(self.hook.calls(), [["0", "1", "0"], ["2", "1", "1"]])
        self.assertEqual(self.pool.status_words(), ["down", "up", "down"])
        self.eventually(self.can_connect, "sessions")
        with self.pool.client(user="postgres") as client:
            client.query("CREATE TABLE after_both(a int)").ok()


class OldPrimaryComesBack(CompatCase):
    nodes = 3
    config = CHECKED
    weight = 20

    def test_restarted_as_a_primary_it_does_not_take_the_writes_when_it_is_attached(self):
        self.cluster[0].stop("fast")
        self.pool.wait_log(r"failover: set new primary node: 1", timeout=40)
        self.cluster[0].start()
        time.sleep(2)
        self.assertEqual(self.pool.status_words(), ["down", "up", "up"], "nothing attaches it by itself")
        tools.pcp_ok(self.pool, "attach_node", "-n", 0)
        self.pool.wait_log(r"failback done\. reconnect host", timeout=40)
        self.eventually(self.can_connect, "sessions")
        with self.pool.client(user="postgres") as client:
            client.query("CREATE TABLE for_the_new_one(a int)").ok()
            self.assertEqual(client.value("SELECT inet_server_port()"), str(self.cluster[1].port))


class StandbyUnderSessions(CompatCase):
    nodes = 3
    fresh = True
    config = {"num_init_children": 4}
    weight = 20

    def test_a_standby_that_stops_does_not_disturb_sessions_of_the_primary(self):
        idle, inside = self.client(), self.client()
        idle.value("SELECT 1")
        inside.query("BEGIN").ok()
        inside.query("CREATE TEMP TABLE mine(a int)").ok()
        self.cluster[2].stop("fast")
        time.sleep(0.5)
        self.assertEqual(idle.value("SELECT 2"), "2")
        inside.query("INSERT INTO mine VALUES (1)").ok()
        inside.query("COMMIT").ok()
        self.assertEqual(inside.value("SELECT count(*) FROM mine"), "1")

    @stock_differs("4.3.5 hangs for ever in a blocking read of the dead standby's socket")
    def test_a_standby_that_is_killed_does_not_hang_sessions_of_the_primary(self):
        idle = self.client()
        idle.value("SELECT 1")
        self.cluster[2].stop("immediate")
        time.sleep(0.5)
        for n in range(5):
            self.assertEqual(idle.value(f"SELECT {n}"), str(n))

    def test_a_new_session_works_without_a_standby_that_does_not_answer(self):
        self.cluster[2].stop("fast")
        self.assertEqual(self.client().value("SELECT 1"), "1")

    def test_a_primary_that_stops_ends_sessions_with_an_error(self):
        client = self.client()
        client.value("SELECT 1")
        self.cluster[0].stop("fast")
        seen = client.until_closed()
        self.assertEqual(seen.error["S"], "FATAL")
        self.assertEqual(tools.node_info(self.pool, 0)["Status Name"], "up")

    def test_a_new_session_without_primary_is_refused_and_says_why(self):
        self.cluster[0].stop("fast")
        with self.assertRaises((wire.ServerError, wire.Closed)) as caught:
            self.pool.client()
        if isinstance(caught.exception, wire.ServerError):
            fields = caught.exception.fields
            self.assertEqual(fields["M"], "failed to create a backend 0 connection")
            self.assertEqual(fields["D"], "not executing failover because failover_on_backend_error is off")
        else:
            self.fail("closed without a word")


class OnBackendError(CompatCase):
    nodes = 3
    fresh = True
    config = {"num_init_children": 4, "failover_on_backend_error": True, "failover_command": promoting}
    weight = 20

    def test_a_session_that_cannot_connect_starts_the_failover(self):
        self.cluster[2].stop("fast")
        if env.SUBJECT == "ours":
            # Nothing is sent to this node: its end is no reason to refuse the client (docs/differences.md).
            self.client().close()
        else:
            fields = self.refused()
            self.assertEqual((fields["S"], fields["M"], fields["D"]), ("FATAL", "failed to create a backend connection", "executing failover on backend"))
        self.pool.wait_log(r"failover done\. shutdown host")
        self.assertEqual(self.pool.status_words(), ["up", "up", "down"])
        self.eventually(self.can_connect, "the next session to work")

    def test_it_also_fails_over_the_primary(self):
        self.cluster[0].stop("fast")
        self.refused()
        self.pool.wait_log(r"failover: set new primary node: 1", timeout=30)
        self.eventually(self.can_connect, "the next session to work")
        self.assertFalse(self.cluster[1].in_recovery())

    def test_a_killed_session_of_the_server_is_no_failover(self):
        client = self.client()
        pid = client.pid()
        self.cluster[0].rows(f"SELECT pg_terminate_backend({pid})")
        client.until_closed()
        time.sleep(1)
        self.assertNotIn("starting degeneration", self.pool.log())
        self.assertTrue(self.can_connect())

    def test_with_disallow_to_failover_nothing_is_detached(self):
        pool = self.another_pool(flags={2: "DISALLOW_TO_FAILOVER"}, config={"failover_command": self.hook.command("failover")}).start()
        self.cluster[2].stop("fast")
        try:
            pool.client().close()
        except wire.ServerError as error:
            self.assertEqual(error.message, "failed to create a backend connection")
        time.sleep(1)
        self.assertEqual(pool.status_words()[2], "up")
        self.assertEqual(self.hook.calls(), [])


class OnBackendShutdown(CompatCase):
    nodes = 2
    fresh = True
    config = {"num_init_children": 4, "failover_on_backend_shutdown": True, "failover_command": promoting}
    weight = 12

    def test_a_primary_that_is_shut_down_under_a_session_is_failed_over_at_once(self):
        client = self.client()
        client.value("SELECT 1")
        self.cluster[0].stop("fast")
        self.pool.wait_log(r"failover: set new primary node: 1", timeout=30)
        self.eventually(self.can_connect, "the next session to work")

    def test_off_in_the_file_means_that_a_terminated_backend_detaches_nothing(self):
        self.pool.reload(failover_on_backend_shutdown=False)
        client = self.client()
        pid = client.pid()
        self.cluster[0].rows(f"SELECT pg_terminate_backend({pid})")
        client.until_closed()
        time.sleep(1)
        self.assertNotIn("starting degeneration", self.pool.log())


class StatusFile(CompatCase):
    nodes = 3
    fresh = True
    start = False
    config = {"num_init_children": 4}
    weight = 20

    def statuses(self):
        return [tools.node_info(self.pool, n)["Status Name"] for n in range(3)]

    def test_nodes_that_were_down_start_as_down(self):
        self.pool.write(self.pool.status_file, "up\nup\ndown\n")
        self.pool.start()
        self.pool.wait_log(r"reading status file: 2 th backend is set to down status")
        self.assertEqual(self.statuses()[2], "down")
        self.assertTrue(self.can_connect())

    def test_d_discards_the_file(self):
        self.pool.write(self.pool.status_file, "up\nup\ndown\n")
        self.pool.start("-D")
        self.pool.wait_log(r"Backend status file .*pgpool_status discarded")
        self.assertNotIn("down", self.statuses())

    def test_a_file_without_any_living_node_is_ignored(self):
        self.pool.write(self.pool.status_file, "down\ndown\ndown\n")
        self.pool.start()
        self.assertNotIn("down", self.statuses())
        self.assertTrue(self.can_connect())

    def test_rubbish_in_the_file_does_not_stop_the_start(self):
        self.pool.write(self.pool.status_file, "up\nwhat is this\nDOWN\n")
        self.pool.start()
        self.assertTrue(self.can_connect())

    def test_a_restart_remembers_a_detached_node(self):
        self.pool.start()
        tools.pcp_ok(self.pool, "detach_node", "-n", 1)
        self.pool.wait_log(r"failover done")
        self.pool.stop()
        self.pool.start()
        self.assertEqual(self.statuses()[1], "down")

    def test_the_file_survives_a_kill_9(self):
        self.pool.start()
        tools.pcp_ok(self.pool, "detach_node", "-n", 1)
        self.pool.wait_log(r"failover done")
        self.pool.cleanup()
        self.assertEqual(self.pool.status_words(), ["up", "down", "up"])

    def test_the_primary_may_be_any_node(self):
        self.cluster[0].stop("fast")
        self.cluster[2].promote()
        self.pool.write(self.pool.status_file, "down\nup\nup\n")
        self.pool.start()
        self.assertEqual(tools.node_info(self.pool, 2)["Role"], "primary")
        self.assertEqual(self.client().value("SELECT inet_server_port()"), str(self.cluster[2].port))


class ServersLate(CompatCase):
    nodes = 2
    start = False
    config = {**CHECKED, "search_primary_node_timeout": 60, "health_check_period": 30}
    weight = 10

    def test_pgpool_may_be_started_before_the_servers(self):
        for server in self.cluster.servers:
            server.stop("fast")
        self.pool.launch()
        self.pool.wait_log(r"find_primary_node_repeatedly: waiting for finding a primary node")
        time.sleep(1)
        self.cluster[0].start()
        self.cluster[1].start()
        self.pool.wait_log(r"find_primary_node: primary node is 0", timeout=30)
        self.pool.wait_log(r"successfully started", timeout=30)
        self.eventually(self.can_connect, "sessions")


class DuringTheHook(CompatCase):
    nodes = 3
    config = {**CHECKED, "failover_command": lambda t: "sleep 3; " + promoting(t)}
    weight = 15

    def test_clients_that_come_during_the_hook_wait_and_are_served_by_the_new_primary(self):
        self.cluster[0].stop("fast")
        self.pool.wait_log(r"execute command: sleep 3", timeout=30)
        results = []

        def late():
            for _ in range(100):
                try:
                    with self.pool.client(timeout=20) as client:
                        results.append(client.value("SELECT inet_server_port()"))
                        return
                except (OSError, wire.ServerError, wire.Closed, TimeoutError):
                    time.sleep(0.3)

        threads = [threading.Thread(target=late) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
        self.assertEqual(set(results), {str(self.cluster[1].port)})
        self.assertEqual(len(results), 4)


class HookText(CompatCase):
    nodes = 2
    fresh = True
    config = {"num_init_children": 2}
    weight = 10

    def detach(self, command):
        self.pool.reload(failover_command=command)
        time.sleep(0.5)
        tools.pcp_ok(self.pool, "detach_node", "-n", 1)
        self.pool.wait_log(r"failover done")

    def test_placeholders_unknown_letters_and_percent_signs(self):
        self.detach(self.hook.command("failover", "a%%b unk=%x d=%d N=%N S=%S end%"))
        self.assertEqual(self.hook.calls(), [["a%b", "unk=", "d=1", "N=127.0.0.1", f"S={self.cluster[0].port}", "end"]])

    def test_the_text_is_run_by_a_shell(self):
        out = os.path.join(self.pool.log_dir, "shell")
        self.detach(f"x=%d; (echo one; echo two) | while read word; do echo $word-$x >> {out}; done")
        with open(out) as seen:
            self.assertEqual(seen.read(), "one-1\ntwo-1\n")

    def test_the_exit_status_does_not_matter(self):
        self.detach("exit 7")
        self.assertTrue(self.can_connect())

    @ours_only("the exit status of a hook is recorded in the log")
    def test_the_exit_status_is_in_the_log(self):
        self.detach("exit 7")
        self.pool.wait_log(r"(?i)(status|code)[^\n]*\b7\b")

    def test_the_hook_runs_in_the_folder_pgpool_was_started_in_and_sees_its_environment(self):
        out = os.path.join(self.pool.log_dir, "where")
        self.detach(f"echo $(pwd) $PATH > {out}")
        with open(out) as seen:
            words = seen.read().split()
        self.assertEqual(os.path.realpath(words[0]), os.path.realpath(self.pool.home))
        self.assertTrue(words[1:])


class Raw(CompatCase):
    nodes = 2
    config = {"num_init_children": 4, "backend_clustering_mode": "raw", "failover_command": lambda t: t.hook.command("failover")}

    def test_raw_mode_uses_the_main_node_and_fails_over_to_the_next(self):
        self.assertEqual(self.client().value("SELECT inet_server_port()"), str(self.cluster[0].port))
        tools.pcp_ok(self.pool, "detach_node", "-n", 0)
        self.pool.wait_log(r"failover done")
        self.eventually(self.can_connect, "sessions on node 1")
        self.assertEqual(self.client().value("SELECT inet_server_port()"), str(self.cluster[1].port))
        self.assertEqual([c[6:8] for c in self.hook.calls()], [["0", "-1"]])
