"""The stock pcp_* tools against the subject: what they print, and that it has happened."""

import re
import signal
import time

from lib import tools
from lib.case import CompatCase, ours_only


class Info(CompatCase):
    nodes = 3
    config = {"num_init_children": 4, "health_check_period": 5, "sr_check_period": 1}

    def pcp(self, tool, *args, **kwargs):
        return tools.pcp_ok(self.pool, tool, *args, **kwargs)

    def test_node_count(self):
        self.assertEqual(self.pcp("node_count").out, "3\n")

    def test_the_unix_socket_serves_too(self):
        self.assertEqual(self.pcp("node_count", host=self.pool.run_dir).out, "3\n")

    def test_node_info_of_one_node(self):
        self.client().value("SELECT 1")
        self.eventually(lambda: "streaming" in self.pcp("node_info", "-n", 1).out, "the replication state")
        line = self.pcp("node_info", "-n", 1).out
        self.assertRegex(line, rf"^127\.0\.0\.1 {self.cluster[1].port} 2 0\.333333 up up standby standby \d+ streaming async \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\n$")

    def test_node_info_of_all_nodes(self):
        for args in ((), ("-a",)):
            lines = self.pcp("node_info", *args).out.splitlines()
            self.assertEqual([line.split()[1] for line in lines], [str(s.port) for s in self.cluster.servers])

    def test_node_info_verbose(self):
        self.client().value("SELECT 1")
        info = tools.node_info(self.pool, 0)
        for name, value in (("Hostname", "127.0.0.1"), ("Port", str(self.cluster[0].port)), ("Status Name", "up"), ("Backend Status Name", "up"), ("Role", "primary"), ("Backend Role", "primary"), ("Weight", "0.333333")):
            self.assertEqual(info.get(name), value, (name, info))

    def test_node_info_of_a_node_that_is_not_there(self):
        done = tools.pcp(self.pool, "node_info", "-n", 9)
        self.assertIn("ERROR:  informing node info failed", done.err)
        self.assertIn("DETAIL:  invalid node ID : 9", done.err)

    def test_proc_count_lists_the_slots(self):
        pids = self.pcp("proc_count").out.split()
        self.assertEqual(len(pids), 4)
        self.assertEqual(len(set(pids)), 4)

    def test_proc_info_shows_the_connected_client(self):
        client = self.client()
        pid = client.pid()
        text = self.pcp("proc_info", "-a", "-v").out
        mine = [b for b in tools.verbose_blocks(text) if b.get("Backend PID") == str(pid)]
        self.assertEqual(len(mine), 1, text[:1500])
        self.assertEqual((mine[0]["Database"], mine[0]["Username"], mine[0]["Connected"]), ("app", "app", "1"))
        one = self.pcp("proc_info", "-P", mine[0]["PID"]).out
        self.assertIn("app app ", one)

    def test_proc_info_of_an_unknown_process(self):
        self.assertIn("invalid process ID : 77", tools.pcp(self.pool, "proc_info", "-P", 77).err)

    def test_pool_status(self):
        text = self.pcp("pool_status").out
        self.assertRegex(text, r"name : num_init_children\nvalue: 4\n")
        self.assertRegex(text, r"name : backend_hostname0\nvalue: 127\.0\.0\.1\n")

    def test_health_check_stats(self):
        self.eventually(lambda: int(tools.verbose_blocks(self.pcp("health_check_stats", "-v", "-n", 0).out)[0]["Success Count"]) > 0, "a health check to be counted")
        stats = tools.verbose_blocks(self.pcp("health_check_stats", "-v", "-n", 0).out)[0]
        self.assertEqual((stats["Node Id"], stats["Role"], stats["Fail Count"]), ("0", "primary", "0"))

    def test_watchdog_info_says_that_the_watchdog_is_off(self):
        done = tools.pcp(self.pool, "watchdog_info")
        self.assertIn("ERROR:  PCP: informing watchdog info failed", done.err)
        self.assertIn("DETAIL:  watchdog is not enabled", done.err)

    def test_a_wrong_password_is_refused_with_exit_status_1(self):
        self.pool.write(self.pool.file("wrong"), "*:*:*:nonsense\n", mode=0o600)
        done = tools.pcp(self.pool, "node_count", password_file=self.pool.file("wrong"))
        self.assertEqual(done.code, 1)
        self.assertIn('authentication failed for user "pcpadmin"', done.err)

    def test_an_unknown_user_is_refused(self):
        self.pool.write(self.pool.file("wrong2"), "*:*:*:pcp secret\n", mode=0o600)
        done = tools.pcp(self.pool, "node_count", user="nobody", password_file=self.pool.file("wrong2"))
        self.assertEqual(done.code, 1)
        self.assertIn('authentication failed for user "nobody"', done.err)

    def test_pcp_conf_is_read_at_each_login(self):
        from lib.subject import md5

        with open(self.pool.pcp_conf, "a") as conf:
            conf.write(f"second:{md5('another')}\n")
        self.pool.write(self.pool.file("second"), "*:*:second:another\n", mode=0o600)
        self.assertEqual(self.pcp("node_count", user="second", password_file=self.pool.file("second")).out, "3\n")


class DetachAttach(CompatCase):
    nodes = 3
    fresh = True
    weight = 40
    config = {"num_init_children": 4, "failover_command": lambda t: t.hook.command("failover"), "failback_command": lambda t: t.hook.command("failback")}

    def status(self, node):
        return tools.node_info(self.pool, node)["Status Name"]

    def wait_status(self, node, word):
        self.eventually(lambda: self.status(node) == word, f"node {node} to be {word}")

    def test_detach_of_a_standby_and_attach(self):
        client = self.client()
        client.value("SELECT 1")
        done = tools.pcp_ok(self.pool, "detach_node", "-n", 2)
        self.assertIn("pcp_detach_node -- Command Successful", done.out)
        self.wait_status(2, "down")
        self.pool.wait_log(rf"failover done\. shutdown host 127\.0\.0\.1\({self.cluster[2].port}\)")
        self.assertEqual(self.pool.status_words(), ["up", "up", "down"])
        self.assertEqual([c[0] for c in self.hook.calls("failover")], ["2"])
        self.assertEqual(client.value("SELECT 2"), "2", "the session did not need node 2")
        tools.pcp_ok(self.pool, "attach_node", "-n", 2)
        self.pool.wait_log(rf"failback done\. reconnect host 127\.0\.0\.1\({self.cluster[2].port}\)")
        self.assertEqual(self.status(2), "waiting")
        self.assertEqual([c[0] for c in self.hook.calls("failback")], ["2"])
        self.assertEqual(self.pool.status_words(), ["up", "up", "up"])
        self.eventually(self.can_connect, "sessions after the attach")
        with self.pool.client() as again:
            again.value("SELECT 1")
        self.eventually(lambda: self.can_connect() and self.status(2) == "up", "the first session to turn waiting into up")

    def test_detach_of_a_node_that_is_down_is_an_error(self):
        tools.pcp_ok(self.pool, "detach_node", "-n", 1)
        self.wait_status(1, "down")
        self.pool.wait_log(r"failover done")
        time.sleep(1.5)  # stock replaces its PCP process one second after a failover
        done = tools.pcp(self.pool, "detach_node", "-n", 1)
        self.assertIn("invalid degenerate backend request, node id : 1 status: [3] is not valid for failover", done.err)

    def test_attach_of_a_node_that_is_up_does_nothing_and_says_so_in_the_log(self):
        tools.pcp_ok(self.pool, "attach_node", "-n", 1)
        self.pool.wait_log(r"invalid failback request, status: \[[12]\] of node id : 1 is invalid for failback")

    def test_graceful_detach_waits_for_the_clients(self):
        client = self.client()
        client.value("SELECT 1")
        import threading

        done = []
        waiting = threading.Thread(target=lambda: done.append(tools.pcp(self.pool, "detach_node", "-g", "-n", 2, timeout=60)))
        waiting.start()
        time.sleep(2)
        self.assertEqual((done, self.pool.status_words()[2]), ([], "up"))
        client.close()
        waiting.join(40)
        self.assertIn("Command Successful", done[0].out)
        self.wait_status(2, "down")

    def test_detach_of_the_primary_is_a_failover(self):
        client = self.client()
        client.value("SELECT 1")
        tools.pcp_ok(self.pool, "detach_node", "-n", 0)
        self.pool.wait_log(r"failover done", timeout=30)
        call = self.hook.calls("failover")[0]
        self.assertEqual(call[:3] + [call[4], call[6], call[7]], ["0", "127.0.0.1", str(self.cluster[0].port), "1", "0", "0"])
        self.assertTrue(client.is_closed(within=10), "a failover of the primary cuts all sessions")


class Disallow(CompatCase):
    nodes = 2
    flags = {1: "DISALLOW_TO_FAILOVER"}
    config = {"num_init_children": 2}

    def test_a_node_with_disallow_to_failover_cannot_be_detached(self):
        done = tools.pcp(self.pool, "detach_node", "-n", 1)
        self.assertRegex(done.err, r"degenerate backend request for node_id: 1 from pid \[\d+\] is canceled because failover is disallowed on the node")
        self.assertEqual(self.pool.status_words(), ["up", "up"])


class Control(CompatCase):
    fresh = True
    config = {"num_init_children": 2}
    weight = 8

    def test_reload_config(self):
        self.pool.write_config(client_idle_limit=1)
        done = tools.pcp_ok(self.pool, "reload_config")
        self.assertIn("pcp_reload_config -- Command Successful", done.out)
        self.pool.wait_log("reload config files")
        time.sleep(1)
        client = self.client()
        client.value("SELECT 1")
        self.assertEqual(client.until_closed().error["C"], "57000")

    def test_stop_pgpool_fast(self):
        client = self.client()
        done = tools.pcp_ok(self.pool, "stop_pgpool", "-m", "fast")
        self.assertIn("pcp_stop_pgpool -- Command Successful", done.out)
        self.assertEqual(self.pool.wait_end(), 0)
        self.assertTrue(client.is_closed())

    def test_stop_pgpool_smart_waits_for_clients(self):
        client = self.client()
        tools.pcp_ok(self.pool, "stop_pgpool", "-m", "smart")
        time.sleep(1.5)
        self.assertTrue(self.pool.running)
        self.assertEqual(client.value("SELECT 1"), "1")
        client.close()
        self.assertEqual(self.pool.wait_end(), 0)

    def test_stop_pgpool_immediate(self):
        tools.pcp_ok(self.pool, "stop_pgpool", "-m", "immediate")
        self.assertEqual(self.pool.wait_end(), 0)


class OldFile(CompatCase):
    """A 4.0 file with the stock tools of this machine (4.3.5)."""

    dialect = "4.0"
    nodes = 2
    config = {"num_init_children": 2}

    def test_the_tools_of_this_machine_understand_the_answers(self):
        self.assertEqual(tools.pcp_ok(self.pool, "node_count").out, "2\n")
        self.assertTrue(re.match(r"127\.0\.0\.1 \d+ [12] 0\.500000 (up|waiting) ", tools.pcp_ok(self.pool, "node_info", "-n", 0).out))
        self.assertEqual(len(tools.pcp_ok(self.pool, "proc_count").out.split()), 2)

    @ours_only("with a 4.0 file pg_status and pg_role are empty, so that scripts find the role as the sixth word")
    def test_the_sixth_word_is_the_role(self):
        self.assertEqual(tools.pcp_ok(self.pool, "node_info", "-n", 0).out.split()[5], "primary")
        self.assertEqual(tools.pcp_ok(self.pool, "node_info", "-n", 1).out.split()[5], "standby")


class SignalsAreHarmless(CompatCase):
    config = {"num_init_children": 2}

    def test_sighup_while_clients_work(self):
        client = self.client()
        for _ in range(5):
            self.pool.signal(signal.SIGHUP)
            self.assertEqual(client.value("SELECT 1"), "1")
            time.sleep(0.1)
        self.assertEqual(tools.pcp_ok(self.pool, "node_count").out, "1\n")
