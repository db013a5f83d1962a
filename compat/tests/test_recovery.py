"""Online recovery with the stock extension and tools: a standby is rebuilt by scripts of the primary and attached."""

import threading
import time

from lib import tools
from lib.case import CompatCase, ours_only, promoting, slow, stock_differs
from lib.recovery import Scripts
from lib.subject import md5

RECOVERY = {"num_init_children": 4, "sr_check_period": 1, "recovery_user": "repmgr", "recovery_password": "rep123",
            "recovery_1st_stage_command": "basebackup.sh", "recovery_2nd_stage_command": "echo second", "recovery_timeout": 30}
#: The first message of a recovery whose stage has not worked.
STAGE_FAILED = 'ERROR:  executing recovery, execution of command failed at "1st stage"\nDETAIL:  command:"basebackup.sh"'


class RecoveryCase(CompatCase):
    fresh = True
    nodes = 2
    config = RECOVERY

    def setUp(self):
        super().setUp()
        self.scripts = Scripts(self.cluster, self.pool.home)
        self.addCleanup(self.scripts.stop)

    def lose(self, node=1):
        """The node's server has ended, and it is detached."""
        self.cluster[node].stop("immediate")
        tools.pcp_ok(self.pool, "detach_node", "-n", node)
        self.pool.wait_log(r"failover done\. shutdown host")
        time.sleep(1.5)  # stock replaces its PCP process one second after a failover

    def recover(self, node=1, **kwargs):
        return tools.pcp(self.pool, "recovery_node", "-n", node, **{"timeout": 90, **kwargs})

    def begin(self, node=1):
        """A recovery in the background; returns what to wait with."""
        done = []
        thread = threading.Thread(target=lambda: done.append(self.recover(node)))
        thread.start()
        self.eventually(lambda: self.scripts.call is not None, "the first stage to run", timeout=30)

        def end():
            thread.join(90)
            self.assertTrue(done, "the recovery goes on")
            return done[0]

        return end

    def status(self, node=1):
        return tools.node_info(self.pool, node)["Status Name"]


class Works(RecoveryCase):
    weight = 20

    def test_a_standby_is_rebuilt_started_and_attached_while_clients_work(self):
        self.scripts.install()
        self.cluster.primary.rows("CREATE TABLE kept(a int); GRANT ALL ON kept TO app")
        self.lose()
        client = self.client()
        client.query("INSERT INTO kept VALUES (1)").ok()
        done = self.recover()
        self.assertEqual((done.out, done.err), ("pcp_recovery_node -- Command Successful\n", ""))
        primary, standby = self.cluster[0], self.cluster[1]
        self.assertEqual(self.scripts.call, [primary.data, "127.0.0.1", standby.data, str(primary.port), "1", str(standby.port), "127.0.0.1"])
        self.assertEqual(self.scripts.start_call, ["127.0.0.1", standby.data])
        self.assertEqual(self.status(), "waiting")
        self.assertEqual(self.pool.status_words(), ["up", "up"])
        self.assertTrue(standby.in_recovery())
        self.assertEqual(client.value("SELECT count(*) FROM kept"), "1", "the session has gone on")
        self.eventually(lambda: standby.value("SELECT count(*) FROM kept") == "1", "the row at the new standby")
        log = self.pool.log()
        for text in ("starting recovering node 1", "executing recovery",
                     f"starting recovery command: \"SELECT pgpool_recovery('basebackup.sh', '127.0.0.1', '{standby.data}', '{primary.port}', 1, '{standby.port}', '127.0.0.1')\"",
                     "disabling statement_timeout", "node recovery, 1st stage is done", "checking if postmaster is started",
                     "trying to connect to postmaster on hostname:127.0.0.1 database:postgres user:repmgr (retry 0 times)",
                     "node recovery, node: 1 restarted", f"starting fail back. reconnect host 127.0.0.1({standby.port})", "recovery done"):
            self.assertIn(text, log)

    def test_other_operators_are_served_and_a_second_recovery_is_refused(self):
        self.scripts.install(before="sleep 4")
        self.lose()
        end = self.begin()
        self.assertEqual(tools.pcp_ok(self.pool, "node_count").out, "2\n")
        second = self.recover()
        self.assertEqual(second.err, "FATAL:  process recovery request failed\nDETAIL:  pgpool-II is already processing another recovery request.\n\n")
        self.assertIn("Command Successful", end().out)


class Md5Password(RecoveryCase):
    config = {**RECOVERY, "recovery_password": f"md5{md5('rep123' + 'repmgr')}"}

    @stock_differs("it refuses the hash")
    def test_a_hash_does_for_servers_that_ask_for_md5(self):
        self.scripts.install()
        self.lose()
        done = self.recover()
        self.assertEqual((done.out, done.err), ("pcp_recovery_node -- Command Successful\n", ""))
        self.eventually(lambda: self.status() == "waiting", "the node to be attached")
        self.assertEqual(self.cluster[0].value("SHOW password_encryption"), "scram-sha-256")
        self.assertEqual(self.cluster[0].value("SELECT left(rolpassword, 3) FROM pg_authid WHERE rolname = 'repmgr'"), "md5")



class Refused(CompatCase):
    nodes = 2
    config = RECOVERY

    def refusal(self, node):
        return tools.pcp(self.pool, "recovery_node", "-n", node).err

    def test_the_primary(self):
        self.assertEqual(self.refusal(0), "ERROR:  process recovery request failed\nDETAIL:  primary server cannot be recovered by online recovery.\n\n")

    def test_a_node_that_is_up(self):
        self.assertEqual(self.refusal(1), "ERROR:  node recovery failed, node id: 1 is alive\n\n")

    def test_a_number_without_a_node(self):
        self.assertEqual(self.refusal(5), "ERROR:  process recovery request failed\nDETAIL:  node id 5 is not valid\n\n")


class OtherMode(CompatCase):
    nodes = 2
    streaming = False
    config = {**RECOVERY, "backend_clustering_mode": "raw"}

    def test_raw_mode_has_no_recovery(self):
        self.assertEqual(tools.pcp(self.pool, "recovery_node", "-n", 1).err,
                         "ERROR:  process recovery request failed\nDETAIL:  recovery request is only allowed in replication and streaming replication modes.\n\n")


class Fails(RecoveryCase):
    weight = 30

    def assert_failed(self, done, text):
        self.assertEqual(done.out, "")
        self.assertIn(text, done.err)
        self.assertEqual(self.status(), "down")
        self.assertEqual(self.pool.status_words(), ["up", "down"])

    def test_a_script_that_fails(self):
        self.scripts.install(before="exit 3")
        self.lose()
        done = self.recover()
        self.assert_failed(done, STAGE_FAILED)
        self.assertIsNone(self.scripts.start_call)
        # Nothing is left of it: the next one works.
        self.scripts.write_stage()
        self.assertIn("Command Successful", self.recover().out)

    def test_a_script_that_is_not_there(self):
        self.scripts.install()
        self.scripts.remove("basebackup.sh")
        self.lose()
        self.assert_failed(self.recover(), STAGE_FAILED)

    def test_the_extension_is_not_there(self):
        self.scripts.install(extension=False)
        self.lose()
        self.assert_failed(self.recover(), STAGE_FAILED)

    def test_no_start_script(self):
        self.scripts.install(start=False)
        self.lose()
        self.assert_failed(self.recover(), 'ERROR:  executing remote start failed with error: "')

    def test_a_user_that_the_primary_does_not_let_in(self):
        self.scripts.install()
        self.pool.reload(recovery_password="wrong")
        self.lose()
        self.assert_failed(self.recover(), "ERROR:  node recovery failed, unable to connect to main node: 0 \n")

    @slow
    def test_a_server_that_does_not_come_up(self):
        self.scripts.install(after='rm "$3/global/pg_control"')
        self.pool.reload(recovery_timeout=3)
        self.lose()
        began = time.monotonic()
        self.assert_failed(self.recover(), "ERROR:  recovery is checking if postmaster is started\nDETAIL:  postmaster on hostname:\"127.0.0.1\" database:\"template1\" user:\"repmgr\" failed to start in 3 second")
        self.assertGreater(time.monotonic() - began, 12)


class Ours(RecoveryCase):
    weight = 30

    @ours_only("the detail says why a stage has failed")
    def test_the_reason_is_told(self):
        self.scripts.install(before="exit 3")
        self.lose()
        self.assertIn('command:"basebackup.sh": ERROR: pgpool_recovery failed', self.recover().err)
        self.scripts.remove("basebackup.sh")
        self.assertIn(f'command:"basebackup.sh": {self.cluster[0].data}/basebackup.sh does not exist at node 0', self.recover().err)

    @ours_only("what is missing is found before the first script has touched the node")
    def test_nothing_is_begun_without_a_start_script_or_the_extension(self):
        self.scripts.install(start=False)
        self.lose()
        self.assertIn("pgpool_remote_start does not exist at node 0", self.recover().err)
        self.cluster.primary.rows("DROP EXTENSION pgpool_recovery", database="template1")
        self.assertIn("run CREATE EXTENSION pgpool_recovery", self.recover().err)
        self.assertIsNone(self.scripts.call)

    @ours_only("a server that comes up as a primary is not attached")
    def test_a_copy_that_takes_writes_is_not_attached(self):
        self.scripts.install(after="")
        self.lose()
        self.assertIn("ERROR:  node recovery failed, node id: 1 is not a standby\n", self.recover().err)
        self.assertEqual(self.status(), "down")

    @ours_only("the node is not attached, nor its source detached, while a recovery goes on")
    def test_requests_that_would_disturb_are_refused(self):
        self.scripts.install(before="sleep 4")
        self.lose()
        end = self.begin()
        self.assertIn("failback request for node_id: 1 is canceled because the node is being recovered", tools.pcp(self.pool, "attach_node", "-n", 1).err)
        for how in ((), ("-g",)):
            self.assertIn("degenerate backend request for node_id: 0 is canceled because node 1 is being recovered from it",
                          tools.pcp(self.pool, "detach_node", "-n", 0, *how).err)
        self.assertIn("Command Successful", end().out)
        self.assertEqual(self.status(), "waiting")


class PrimaryDies(RecoveryCase):
    nodes = 3
    weight = 30
    config = {**RECOVERY, "health_check_period": 1, "health_check_timeout": 5, "failover_command": promoting}

    def test_a_failover_is_done_at_once_and_the_recovery_ends(self):
        self.scripts.install(before="sleep 6")
        self.cluster[1].stop("immediate")
        self.pool.wait_log(r"failover done\. shutdown host", timeout=30)
        time.sleep(1.5)
        end = self.begin()
        self.cluster[0].kill()
        self.pool.wait_log(r"failover: set new primary node: 2", timeout=40)
        self.assertIn("ERROR:  ", end().err)
        self.eventually(lambda: self.status(2) in ("up", "waiting"), "PCP")
        self.assertEqual([self.status(0), self.status(1)], ["down", "down"])
        self.eventually(self.can_connect, "sessions")

    @ours_only("a recovery whose source a failover takes away says so")
    def test_the_reason_is_told(self):
        self.scripts.install(before="sleep 6")
        self.cluster[1].stop("immediate")
        self.pool.wait_log(r"failover done\. shutdown host", timeout=30)
        end = self.begin()
        self.cluster[0].pause()
        self.addCleanup(self.cluster[0].resume)
        self.assertIn("ERROR:  node recovery failed, node id: 1 is given up\nDETAIL:  a failover has taken node 0 away", end().err)


class OldFile(RecoveryCase):
    dialect = "4.0"
    config = RECOVERY

    @ours_only("the argument list is that of the file's release; a stock binary knows only its own")
    def test_a_file_of_4_0_gives_the_arguments_of_4_0(self):
        self.scripts.install()
        self.cluster[1].stop("immediate")
        self.pool.wait_log(r"failover done\. shutdown host", timeout=30)
        self.assertIn("Command Successful", self.recover().out)
        primary = self.cluster[0]
        self.assertEqual(self.scripts.call, [primary.data, "127.0.0.1", self.cluster[1].data, str(primary.port), "1"])


class FileOf41(RecoveryCase):
    dialect = "4.0"
    config = {**RECOVERY, "statement_level_load_balance": False}

    @ours_only("the argument list is that of the file's release; a stock binary knows only its own")
    def test_a_file_of_4_1_gives_the_arguments_of_4_1(self):
        self.scripts.install()
        self.cluster[1].stop("immediate")
        self.pool.wait_log(r"failover done\. shutdown host", timeout=30)
        self.assertIn("Command Successful", self.recover().out)
        primary, target = self.cluster[0], self.cluster[1]
        self.assertEqual(self.scripts.call, [primary.data, "127.0.0.1", target.data, str(primary.port), "1", str(target.port)])
