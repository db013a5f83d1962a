"""follow_primary_command and pcp_promote_node against real servers: who follows, what scripts are told, what is refused."""

import os
import shutil
import time

from lib import env, proc, server, tools
from lib.case import CompatCase, ours_only, promoting, stock_differs

CHECKED = {"num_init_children": 6, "health_check_period": 1, "health_check_timeout": 5, "health_check_max_retries": 1, "health_check_retry_delay": 1, "sr_check_period": 1, "failover_command": promoting}
ARGUMENTS = "%d %h %p %D %m %H %M %P %r %R"


def script(case, mode="leave"):
    """Our script of the usual interface, copied where the servers' account can read it."""
    path = os.path.join(os.path.dirname(case.failover_sh), "follow_primary.sh")
    shutil.copy(os.path.join(env.TOP, "compat", "hooks", "follow_primary.sh"), path)
    os.chmod(path, 0o755)
    pool = os.path.join(os.path.dirname(case.failover_sh), "p")
    return f"{path} %d %h %m %p %H %M %P %D %r {pool} {mode}"


def recorded(case, mode="leave"):
    return case.hook.command("follow", ARGUMENTS) + "; " + script(case, mode)


class FollowCase(CompatCase):
    """Words for tests in which scripts start servers."""

    nodes = 3
    weight = 20

    def tearDown(self):
        # A server that a script has started is no child of ours.
        for one in self.cluster.servers:
            proc.run([server.pg("pg_ctl"), "stop", "-m", "immediate", "-D", one.data])

    def words(self, node):
        """How a hook is told the node."""
        one = self.cluster[node]
        return [str(node), "127.0.0.1", str(one.port), one.data]

    def call(self, node, new, old, primary):
        """A recorded call: about `node`, for `new`, with %M and %P."""
        n = self.cluster[new]
        return self.words(node) + [str(new), "127.0.0.1", str(old), str(primary), str(n.port), n.data]

    def statuses(self):
        return self.pool.status_words()

    def streams_from(self, node, primary):
        names = [r[0] for r in self.cluster[primary].rows("SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'")]
        return f"server{node}" in names

    def wait_up(self, *statuses, timeout=40):
        self.eventually(lambda: self.statuses() == list(statuses), lambda: f"{statuses}; are {self.statuses()}", timeout=timeout)

    def writes_go_to(self, node):
        self.eventually(self.can_connect, "sessions")
        with self.pool.client(user="postgres") as client:
            client.query("CREATE TABLE IF NOT EXISTS written(a int)").ok()
            client.query("INSERT INTO written VALUES (1)").ok()
            self.assertEqual(client.value("SELECT inet_server_port()"), str(self.cluster[node].port))


class PrimaryDies(FollowCase):
    config = {**CHECKED, "follow_primary_command": recorded}

    def test_standbys_follow_the_new_primary_and_the_old_one_gets_its_call_too(self):
        self.cluster[0].stop("fast")
        self.pool.wait_log(r"failover: set new primary node: 1", timeout=40)
        self.pool.wait_log(r"failover done\. shutdown host 127\.0\.0\.1", timeout=40)
        self.wait_up("down", "up", "up")
        self.assertEqual(self.hook.calls("failover"), [self.call(0, 1, 0, 0)])
        self.assertEqual(self.hook.calls("follow"), [self.call(0, 1, 0, 0), self.call(2, 1, 0, 0)])
        log = self.pool.log()
        for node in (0, 2):
            self.assertIn(f"starting follow degeneration. shutdown host 127.0.0.1({self.cluster[node].port})", log)
        self.assertIn("failover: 2 follow backends have been degenerated", log)
        self.assertIn("start triggering follow command.", log)
        self.assertEqual(log.count("execute command: "), 3)
        self.eventually(lambda: self.streams_from(2, 1), "node 2 to follow", timeout=30)
        self.assertEqual(self.pool.status_words(), ["down", "up", "up"])
        self.writes_go_to(1)
        # The next failure of a standby is followed by nothing.
        self.cluster[2].stop("fast")
        self.wait_up("down", "up", "down")
        self.assertEqual(len(self.hook.calls("follow")), 2)


class SeedInterface(FollowCase):
    """The names of a 4.0 file: follow_master_command, with the arguments of the usual script."""

    dialect = "4.0"
    config = {"failover_command": lambda t: f"{t.failover_sh} %d %h %P %m %H %R", "follow_master_command": recorded}

    @ours_only("the words of a 4.0 file act; stock 4.3.5 does not know follow_master_command")
    def test_follow_master_command_acts_in_a_4_0_file(self):
        self.cluster[0].kill()
        self.pool.wait_log(r"failover: set new primary node: 1", timeout=40)
        self.wait_up("down", "up", "up")
        self.assertEqual(self.hook.calls("follow"), [self.call(0, 1, 0, 0), self.call(2, 1, 0, 0)])
        self.assertNotIn("no effect yet: standbys", self.pool.log())


class Switchover(FollowCase):
    fresh = True
    server_settings = {"full_page_writes": "on"}  # for pg_rewind
    config = {**CHECKED, "follow_primary_command": lambda t: recorded(t, "rewind")}

    def test_the_primary_changes_places_with_the_node_and_all_are_up_again(self):
        client = self.client()
        client.value("SELECT 1")
        done = tools.pcp_ok(self.pool, "promote_node", "--switchover", "-n", 2)
        self.assertEqual(done.out, "pcp_promote_node -- Command Successful\n")
        self.pool.wait_log(r"failover: set new primary node: 2", timeout=40)
        self.assertTrue(client.is_closed(), "sessions of the old primary end")
        self.assertEqual(self.hook.calls("failover"), [self.call(0, 2, 0, 0)])
        self.wait_up("up", "up", "up")
        self.assertEqual(self.hook.calls("follow"), [self.call(0, 2, 0, 0), self.call(1, 2, 0, 0)])
        self.eventually(lambda: self.streams_from(0, 2) and self.streams_from(1, 2), "both to follow", timeout=30)
        self.writes_go_to(2)
        self.assertEqual([tools.node_info(self.pool, n)["Role"] for n in range(3)], ["standby", "standby", "primary"])

    def test_graceful_waits_for_the_clients(self):
        client = self.client()
        client.value("SELECT 1")
        run = proc.start([tools.stock_tool("pcp_promote_node"), "-h", "127.0.0.1", "-p", str(self.pool.pcp_port), "-U", "pcpadmin", "-w", "-g", "-s", "-n", "1"], extra_env={"PCPPASSFILE": self.pool.pcppass})
        self.addCleanup(run.kill)
        time.sleep(3)
        self.assertIsNone(run.poll(), "it waits")
        self.assertEqual(client.value("SELECT 2"), "2")
        client.close()
        self.pool.wait_log(r"failover: set new primary node: 1", timeout=40)
        self.wait_up("up", "up", "up")
        self.writes_go_to(1)


class Promote(FollowCase):
    fresh = True
    config = {**CHECKED, "follow_primary_command": recorded}

    def test_a_server_that_was_promoted_becomes_the_primary_node_and_the_others_follow(self):
        self.cluster[2].promote()
        tools.pcp_ok(self.pool, "promote_node", "-n", 2)
        self.pool.wait_log(rf"starting promotion\. promote host 127\.0\.0\.1\({self.cluster[2].port}\)", timeout=30)
        self.pool.wait_log(r"failover: set new primary node: 2", timeout=30)
        self.pool.wait_log(rf"promotion done\. promoted host 127\.0\.0\.1\({self.cluster[2].port}\)", timeout=30)
        self.assertEqual(self.hook.calls("failover"), [])
        self.wait_up("down", "up", "up")
        self.assertEqual(self.hook.calls("follow"), [self.call(0, 2, 0, 0), self.call(1, 2, 0, 0)])
        self.writes_go_to(2)

    @stock_differs("4.3.5 calls a standby the primary and sends writes to it")
    def test_a_standby_is_not_called_the_primary(self):
        done = tools.pcp(self.pool, "promote_node", "-n", 1)
        self.assertRegex(done.err, r"^ERROR:  invalid promote request\nDETAIL:  the server of node id 1 is a standby, .*--switchover")
        self.assertEqual(self.statuses(), ["up", "up", "up"])
        self.assertEqual(self.hook.calls(), [])
        self.writes_go_to(0)

    def test_what_is_no_standby_is_refused(self):
        for node, text in ((0, "FATAL:  invalid promote request\nDETAIL:  specified node is already primary node, can't promote node id 0"), (7, "ERROR:  could not process promote request\nDETAIL:  node id 7 is not valid")):
            for option in ((), ("--switchover",)):
                self.assertIn(text, tools.pcp(self.pool, "promote_node", *option, "-n", node).err)
        self.assertEqual(self.statuses(), ["up", "up", "up"])

    @stock_differs("4.3.5 answers success, and nothing comes of it, or an outage")
    def test_what_cannot_work_is_refused(self):
        tools.pcp_ok(self.pool, "detach_node", "-n", 2)
        self.wait_up("up", "up", "down")
        done = tools.pcp(self.pool, "promote_node", "--switchover", "-n", 2)
        self.assertIn("DETAIL:  node id 2 is down, can't promote it; attach it first (pcp_attach_node)", done.err)
        self.pool.reload(failover_command="")
        self.eventually(lambda: "failover_command is empty" in tools.pcp(self.pool, "promote_node", "-s", "-n", 1).err, "a refusal")
        self.assertEqual(self.statuses(), ["up", "up", "down"])
        self.writes_go_to(0)


class FailedSwitchover(FollowCase):
    config = {**CHECKED, "search_primary_node_timeout": 30, "failover_command": "exit 3"}

    @stock_differs("4.3.5 says nothing of it")
    def test_a_promotion_that_fails_is_told_and_nobody_writes_to_a_standby(self):
        tools.pcp_ok(self.pool, "promote_node", "-s", "-n", 1)
        self.pool.wait_log(r"WARNING: .*failover_command ended after .* seconds with exit status 3", timeout=20)
        tools.pcp_ok(self.pool, "attach_node", "-n", 0)
        self.pool.wait_log(r"WARNING: .*the switchover to node 1 has failed: the primary node is -1", timeout=40)
        self.wait_up("up", "up", "up")
        self.writes_go_to(0)


class DuringTheRun(FollowCase):
    fresh = True
    config = {**CHECKED, "follow_primary_command": lambda t: t.hook.command("follow", "%d %m") + f"; test %d = 0 && {{ {t.hook.hold()}; }}; " + script(t)}

    def failed_over(self):
        self.cluster[0].stop("fast")
        self.pool.wait_log(r"failover: set new primary node: 1", timeout=40)
        self.eventually(lambda: self.hook.calls("follow"), "the first command")

    def test_requests_are_served_meanwhile(self):
        self.failed_over()
        self.writes_go_to(1)
        tools.pcp_ok(self.pool, "attach_node", "-n", 2)
        self.wait_up("down", "up", "up")
        self.hook.release()
        time.sleep(3)
        self.assertEqual(self.hook.calls("follow"), [["0", "1"]], "node 2 was up when its turn came")

    @stock_differs("4.3.5 promotes anyway, while the script works on a node")
    def test_a_promotion_is_refused_meanwhile(self):
        self.failed_over()
        tools.pcp_ok(self.pool, "attach_node", "-n", 2)
        self.wait_up("down", "up", "up")
        self.assertIn("follow_primary_command still runs for node id 0", tools.pcp(self.pool, "promote_node", "-s", "-n", 2).err)
        self.writes_go_to(1)

    @stock_differs("4.3.5 keeps the primary that has gone")
    def test_the_new_primary_may_fail_too(self):
        self.failed_over()
        tools.pcp_ok(self.pool, "attach_node", "-n", 2)
        self.wait_up("down", "up", "up")
        self.cluster[1].stop("fast")
        self.pool.wait_log(r"failover: set new primary node: 2", timeout=40)
        self.hook.release()
        self.writes_go_to(2)
        self.eventually(lambda: len(self.hook.calls("follow")) == 3, lambda: f"three calls: {self.hook.calls('follow')}", timeout=30)
        self.assertEqual(self.hook.calls("follow"), [["0", "1"], ["0", "2"], ["1", "2"]])
        self.assertEqual(self.statuses(), ["down", "down", "up"])


class Stop(FollowCase):
    fresh = True
    config = {**CHECKED, "follow_primary_command": lambda t: t.hook.command("follow", "%d") + f"; echo $$ >> {t.hook.calls_dir}/../pids; (sleep 120 & echo $! >> {t.hook.calls_dir}/../pids; wait); true"}

    def pids(self):
        try:
            with open(os.path.join(self.hook.calls_dir, "..", "pids")) as file:
                return [int(line) for line in file]
        except OSError:
            return []

    def test_the_script_and_what_it_has_started_end_with_pgpool(self):
        self.cluster[0].stop("fast")
        self.eventually(lambda: len(self.pids()) == 2, "the command", timeout=40)
        pids = self.pids()
        self.assertTrue(all(proc.alive(p) for p in pids))
        self.assertEqual(os.getpgid(pids[1]), os.getpgid(pids[0]))
        self.assertNotEqual(os.getpgid(pids[0]), os.getpgid(self.pool.process.pid), "a group of its own")
        self.pool.stop()
        self.eventually(lambda: not any(proc.alive(p) for p in pids), "the script to end", timeout=10)
        self.assertEqual(self.hook.calls("follow"), [["0"]], "no further command begins")
