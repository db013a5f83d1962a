"""Online recovery in two stages, as the replication modes have it: the second one while no client works.

Ours refuses these modes until it has them, so that program runs here which is ours without the refusal
(compat/any_mode.rs). It writes to the main node alone; what these tests look at is the same in both.
"""

import threading
import time
import unittest

from lib import drivers, env, proc, tools, wire
from lib.case import CompatCase, ours_only
from lib.stages import ARCHIVING, FIRST, SECOND, START, Stages, now

NATIVE = {"backend_clustering_mode": "native_replication", "num_init_children": 6, "recovery_user": "repmgr", "recovery_password": "rep123",
          "recovery_1st_stage_command": FIRST, "recovery_2nd_stage_command": SECOND, "recovery_timeout": 30, "client_idle_limit_in_recovery": 0}
#: pgpool looks at its clients at once and then every so many seconds.
LOOK = 3
SECOND_STAGE = "node recovery, starting 2nd stage"
SECOND_FAILED = 'ERROR:  executing recovery, execution of command failed at "2nd stage"\nDETAIL:  command:"catch_up.sh"'
#: Ends when the holder of the lock lets go.
STATEMENT = "INSERT INTO kept SELECT 1 FROM pg_advisory_lock(7)"
LEFT = "node recovery, all connections from clients have been closed"


class Late(threading.Thread):
    """A client that comes during the second stage. `states`: how the nodes stand when it is let in, by id."""

    def __init__(self, pool):
        super().__init__(daemon=True)
        self.pool, self.served, self.states, self.error = pool, None, None, None
        self.start()

    def run(self):
        try:
            with self.pool.client(timeout=90) as client:
                self.served = now()
                shown = client.query("SHOW POOL_NODES").ok()
                self.states = [dict(zip(shown.columns, row))["status"] for row in shown.rows]
                client.query("SELECT 1").ok()
        except (OSError, wire.Closed, wire.ServerError, TimeoutError) as error:
            self.error = error

    def goes_on(self):
        """Waits for its end, which must be a good one."""
        self.join(90)
        if self.is_alive() or self.error or self.states is None:
            raise AssertionError(f"the client that has waited: {self.error or 'it still waits'}")
        return self


class StagesCase(CompatCase):
    fresh = True
    nodes = 2
    streaming = False
    server_settings = ARCHIVING
    config = NATIVE
    weight = 60
    waits = True

    @classmethod
    def make_pool(cls, where, home, **changes):
        ours = drivers.any_mode() if env.SUBJECT != "stock" else None
        return super().make_pool(where, home, ours=ours, **changes)

    def setUp(self):
        super().setUp()
        self.stages = Stages(self.cluster, self.pool.home)
        self.addCleanup(self.stages.stop)
        for server in self.cluster.servers:
            server.rows("CREATE TABLE kept(a int); GRANT ALL ON kept TO app; CREATE SEQUENCE numbers; GRANT ALL ON numbers TO app")

    def lose(self, node=1):
        """The node's server has ended, and it is detached."""
        self.cluster[node].stop("immediate")
        tools.pcp_ok(self.pool, "detach_node", "-n", node)
        self.pool.wait_log(r"failover done\. shutdown host")
        time.sleep(1.5)  # stock replaces its PCP process one second after a failover

    def recover(self, node=1):
        return tools.pcp(self.pool, "recovery_node", "-n", node, timeout=90)

    def begin(self, node=1):
        """A recovery in the background; returns what to wait with."""
        done = []
        thread = threading.Thread(target=lambda: done.append(self.recover(node)))
        thread.start()

        def end():
            thread.join(90)
            self.assertTrue(done, "the recovery goes on")
            return done[0]

        return end

    def second_stage(self):
        self.pool.wait_log(SECOND_STAGE, since=self.mark, timeout=40)

    def begin_second(self, node=1):
        """As `begin`, and the second stage has begun."""
        self.mark = self.pool.log_size()
        end = self.begin(node)
        self.second_stage()
        return end

    def holder(self):
        """Keeps STATEMENT waiting, until it is closed."""
        holder = self.cluster[0].client()
        self.addCleanup(holder.close)
        holder.query("SELECT pg_advisory_lock(7)").ok()
        return holder

    def status(self, node=1):
        return tools.node_info(self.pool, node)["Status Name"]

    def assert_works(self, done):
        self.assertEqual((done.out, done.err), ("pcp_recovery_node -- Command Successful\n", ""))
        # It may answer reads before it has read the archive to its end.
        self.eventually(lambda: not self.cluster[1].in_recovery(), "the new server to have read all WAL", timeout=30)

    def assert_failed(self, done, text):
        self.assertEqual(done.out, "")
        self.assertIn(text, done.err)
        self.assertEqual(self.status(), "down")
        self.assertEqual(self.pool.status_words()[:2], ["up", "down"])

    def assert_arguments(self, count=7):
        source, target = self.cluster[0], self.cluster[1]
        words = [source.data, "127.0.0.1", target.data, str(source.port), "1", str(target.port), "127.0.0.1"][:count]
        self.assertEqual([self.stages.of(script).words for script in (FIRST, SECOND)], [words, words])
        self.assertEqual(self.stages.of(START).words, ["127.0.0.1", target.data])

    def assert_in_order(self, texts, log):
        at = 0
        for text in texts:
            found = log.find(text, at)
            self.assertGreaterEqual(found, 0, f"{text!r} not in the log, or not in this place:\n{log}")
            at = found + len(text)


class Works(StagesCase):
    def test_clients_work_in_the_first_stage_and_none_does_in_the_second(self):
        self.stages.install(first="sleep 2", second="sleep 2")
        self.lose()
        stays = self.client()
        self.mark = self.pool.log_size()
        end = self.begin()
        self.eventually(lambda: self.stages.names == [FIRST], "the first stage", timeout=30)
        stays.query("INSERT INTO kept VALUES (1)").ok()
        self.assertTrue(self.can_connect(), "clients come and go in the first stage")
        self.second_stage()
        # Who is there goes on, in the middle of a transaction too; who comes waits.
        stays.query("INSERT INTO kept VALUES (2)").ok()
        stays.query("BEGIN; INSERT INTO kept VALUES (3)").ok()
        late = Late(self.pool)
        proc.never(lambda: late.served or SECOND in self.stages.names, "the second stage, or a session in it,", LOOK + 1)
        self.assertEqual(stays.query("SELECT nextval('numbers')").ok().rows, [("1",)])
        stays.query("COMMIT").ok()
        stays.close()
        self.assert_works(end())
        late.goes_on()
        self.assertEqual(self.stages.names, [FIRST, SECOND, SECOND + " done", START])
        self.assert_arguments()
        self.assertGreater(late.served, self.stages.of(START).at)
        self.assertIn(late.states[1], ("up", "waiting"), "it is let in when the node is attached")
        one = self.cluster[1]
        self.assertFalse(one.in_recovery())
        self.assertEqual(one.rows("SELECT a FROM kept ORDER BY a"), [("1",), ("2",), ("3",)])
        self.assertGreater(int(one.value("SELECT nextval('numbers')")), 1)
        self.assertEqual(self.pool.status_words(), ["up", "up"])
        source, target = self.cluster[0], self.cluster[1]
        call = f"', '127.0.0.1', '{target.data}', '{source.port}', 1, '{target.port}', '127.0.0.1')\""
        self.assert_in_order([
            "starting recovering node 1", "node recovery, CHECKPOINT in the 1st stage done",
            "executing recovery", f"starting recovery command: \"SELECT pgpool_recovery('{FIRST}{call}", "disabling statement_timeout",
            "node recovery, 1st stage is done", SECOND_STAGE, LEFT, "CHECKPOINT in the 2nd stage done",
            "executing recovery", f"starting recovery command: \"SELECT pgpool_recovery('{SECOND}{call}", "disabling statement_timeout",
            "checking if postmaster is started", "trying to connect to postmaster on hostname:127.0.0.1 database:postgres user:repmgr (retry 0 times)",
            "node recovery, node: 1 restarted", f"starting fail back. reconnect host 127.0.0.1({target.port})", "recovery done",
        ], self.pool.log(self.mark))

    def test_without_a_second_script_clients_are_held_all_the_same(self):
        self.stages.install()
        self.pool.reload(recovery_2nd_stage_command="")
        self.lose()
        stays = self.client()
        end = self.begin_second()
        late = Late(self.pool)
        proc.never(lambda: late.served, "a session in the second stage", 1)
        # The copy is complete by itself, so the start of the server waits for nothing.
        self.assertEqual(self.stages.names, [FIRST])
        stays.close()
        self.assert_works(end())
        late.goes_on()
        self.assertEqual(self.stages.names, [FIRST, START])
        self.assert_in_order([SECOND_STAGE, LEFT, "CHECKPOINT in the 2nd stage done", "node recovery, node: 1 restarted", "recovery done"], self.pool.log(self.mark))


class Snapshot(StagesCase):
    config = {**NATIVE, "backend_clustering_mode": "snapshot_isolation"}
    server_settings = {**ARCHIVING, "default_transaction_isolation": "repeatable read"}

    def test_snapshot_isolation_has_the_second_stage_too(self):
        self.stages.install()
        self.lose()
        stays = self.client()
        end = self.begin_second()
        proc.never(lambda: SECOND in self.stages.names, "the second stage", LOOK + 1)
        stays.query("INSERT INTO kept VALUES (1)").ok()
        stays.close()
        self.assert_works(end())
        self.assertEqual(self.stages.names, [FIRST, SECOND, SECOND + " done", START])
        self.assertEqual(self.cluster[1].rows("SELECT a FROM kept"), [("1",)])


class Cut(StagesCase):
    """`client_idle_limit_in_recovery`."""

    def assert_cut(self, client, message, detail):
        """The session ends by itself, with this and nothing else."""
        errors = client.until_closed().of("E")
        self.assertEqual([[e.fields.get(letter) for letter in "CMD"] for e in errors], [["57000", message, f"child connection forced to terminate due to {detail}"]])

    def test_minus_one_ends_idle_sessions_at_once(self):
        self.stages.install(first="sleep 2")
        self.pool.reload(client_idle_limit_in_recovery=-1)
        self.lose()
        idle, inside = self.client(), self.client()
        inside.query("BEGIN").ok()
        inside.query("INSERT INTO kept VALUES (1)").ok()
        end = self.begin_second()
        began = time.monotonic()
        for client in (idle, inside):
            self.assert_cut(client, "connection terminated due to online recovery", "client_idle_limit:-1")
        self.assertLess(time.monotonic() - began, 2.5)
        self.assert_works(end())
        self.assertEqual([s.value("SELECT count(*) FROM kept") for s in self.cluster.servers], ["0", "0"])

    def test_minus_one_waits_for_a_statement_and_then_ends_its_session(self):
        self.stages.install()
        self.pool.reload(client_idle_limit_in_recovery=-1)
        self.lose()
        holder, busy = self.holder(), self.client()
        busy.send(wire.query(STATEMENT))
        end = self.begin_second()
        proc.never(lambda: SECOND in self.stages.names, "the second stage", LOOK + 1)
        holder.close()
        said = busy.until_closed()
        self.assertEqual([e.fields["M"] for e in said.of("E")], ["connection terminated due to online recovery"])
        # Stock drops the answer, and the client does not know what was done.
        self.assertEqual(said.tags, [] if env.SUBJECT == "stock" else ["INSERT 0 1"])
        self.assert_works(end())
        self.assertEqual([s.value("SELECT count(*) FROM kept") for s in self.cluster.servers], ["1", "1"])

    def test_a_limit_counts_seconds_of_idleness(self):
        self.stages.install()
        self.pool.reload(client_idle_limit_in_recovery=4)
        self.lose()
        idle, working = self.client(), self.client()
        end = self.begin_second()
        began = time.monotonic()
        while idle.quiet(0.5):
            working.query("SELECT 1").ok()
            self.assertLess(time.monotonic() - began, 8, "nobody is cut")
        self.assertGreater(time.monotonic() - began, 3)
        self.assert_cut(idle, "unable to read data", "client_idle_limit_in_recovery:4 is reached")
        working.query("SELECT 1").ok()
        self.assertEqual(self.stages.names, [FIRST])
        working.close()
        self.assert_works(end())


class TimeOut(StagesCase):
    def test_a_client_that_stays_ends_the_recovery(self):
        self.stages.install()
        self.pool.reload(recovery_timeout=6)
        self.lose()
        stays = self.client()
        stays.query("BEGIN").ok()
        end = self.begin_second()
        began, late = time.monotonic(), Late(self.pool)
        done = end()
        # It looks recovery_timeout / 3 + 1 times, and not once more.
        took = time.monotonic() - began
        self.assertGreater(took, 7.5)
        self.assertLess(took, 11.5)
        late.goes_on()
        self.assert_failed(done, "ERROR:  node recovery failed, waiting connection closed in the other pgpools timeout\n")
        self.assertEqual(self.stages.names, [FIRST])
        self.assertIn("wait_connection_closed: existing connections did not close in 6 sec.", self.pool.log(self.mark))
        self.assertEqual(late.states[1], "down")
        # The session has noticed nothing, and the next recovery works when it has gone.
        self.assertEqual(stays.query("SELECT 1").ok().status, "T")
        stays.query("COMMIT").ok()
        stays.close()
        self.assert_works(self.recover())

    def outlasted(self):
        """A session whose statement goes on over the time-out although idle ones are cut, who holds it up, and the recovery."""
        self.stages.install()
        self.pool.reload(recovery_timeout=3, client_idle_limit_in_recovery=-1)
        self.lose()
        holder, busy = self.holder(), self.client()
        busy.send(wire.query(STATEMENT))
        return busy, holder, self.begin_second()

    @ours_only("a client that is not idle ends the recovery, too; stock goes on, and what the client writes is on one node only (see the next test)")
    def test_a_statement_that_outlasts_the_time_out_ends_the_recovery(self):
        busy, holder, end = self.outlasted()
        self.assert_failed(end(), "ERROR:  node recovery failed, waiting connection closed in the other pgpools timeout\nDETAIL:  1 clients are still connected after recovery_timeout (3 seconds)")
        self.assertEqual(self.stages.names, [FIRST])
        holder.close()
        self.assertEqual(busy.until().ok().tags, ["INSERT 0 1"])
        self.assertEqual(busy.value("SELECT 1"), "1", "nothing is recovered any more, so nobody is cut")

    @unittest.skipIf(env.SUBJECT != "stock", "only stock does this")
    def test_why_that_is_not_done_as_stock_does_it(self):
        busy, holder, end = self.outlasted()
        self.eventually(lambda: SECOND + " done" in self.stages.names, "the second script, which this client should have kept away", timeout=30)
        holder.close()
        busy.until_closed()
        self.assert_works(end())
        self.assertIn("malformed conn_counter (1) detected. reset it to 0", self.pool.log(self.mark))
        self.assertEqual([s.value("SELECT count(*) FROM kept") for s in self.cluster.servers], ["1", "0"])


class Fails(StagesCase):
    def test_a_second_script_that_fails(self):
        self.stages.install(second="sleep 2; exit 3")
        self.lose()
        stays = self.client()
        end = self.begin_second()
        late = Late(self.pool)
        stays.close()
        self.assert_failed(end(), SECOND_FAILED)
        self.assertEqual(self.stages.names, [FIRST, SECOND])
        late.goes_on()
        self.assertGreater(late.served, self.stages.of(SECOND).at + 1.9)
        self.assertEqual(late.states[1], "down")
        self.stages.write(SECOND)
        self.assert_works(self.recover())

    def test_a_start_script_that_fails(self):
        self.stages.install(start="sleep 2; exit 4")
        self.lose()
        end = self.begin_second()
        late = Late(self.pool)
        self.assert_failed(end(), 'ERROR:  executing remote start failed with error: "')
        self.assertEqual(self.stages.names, [FIRST, SECOND, SECOND + " done", START])
        late.goes_on()
        self.assertEqual(late.states[1], "down")

    def test_a_server_that_does_not_come_up(self):
        """Clients wait for as long as it may come."""
        self.stages.install(start='rm "$2/global/pg_control"')
        self.pool.reload(recovery_timeout=3)
        self.lose()
        end = self.begin_second()
        late = Late(self.pool)
        self.assert_failed(end(), 'ERROR:  recovery is checking if postmaster is started\nDETAIL:  postmaster on hostname:"127.0.0.1" database:"template1" user:"repmgr" failed to start in 3 second')
        late.goes_on()
        self.assertGreater(late.served, self.stages.of(START).at + 12)


class MeanwhileCase(StagesCase):
    """Three nodes, and failovers by health checks."""

    nodes = 3
    config = {**NATIVE, "health_check_period": 1, "health_check_timeout": 5, "failover_command": lambda t: t.hook.command("failover")}

    def lose(self, node=1):
        self.cluster[node].stop("immediate")
        self.pool.wait_log(r"failover done\. shutdown host", timeout=30)
        time.sleep(1.5)


class Meanwhile(MeanwhileCase):
    """What else is asked for, and happens, during the second stage."""

    def test_a_second_recovery_is_refused(self):
        self.stages.install(second="sleep 6")
        self.lose()
        stays = self.client()
        end = self.begin_second()
        refused = "FATAL:  process recovery request failed\nDETAIL:  pgpool-II is already processing another recovery request.\n\n"
        self.assertEqual(self.recover().err, refused)
        stays.close()
        self.eventually(lambda: SECOND in self.stages.names, "the second script", timeout=10)
        self.assertEqual(self.recover().err, refused)
        self.assert_works(end())

    def test_the_failover_of_another_node(self):
        self.stages.install(second="sleep 12")
        self.lose()
        end = self.begin_second()
        self.eventually(lambda: SECOND in self.stages.names, "the second script", timeout=10)
        late = Late(self.pool)
        self.cluster[2].kill()
        self.pool.wait_log(rf"failover done\. shutdown host 127\.0\.0\.1\({self.cluster[2].port}\)", since=self.mark, timeout=30)
        self.assertIsNone(late.served, "clients wait on")
        self.assert_works(end())
        self.assertEqual([call[0] for call in self.hook.calls("failover")], ["1", "2"])
        self.eventually(lambda: [self.status(n) for n in (0, 1, 2)] in (["up", "up", "down"], ["up", "waiting", "down"], ["waiting", "waiting", "down"]), "node 2 down, node 1 attached")
        late.join(90)
        if env.SUBJECT != "stock":
            # Stock's PCP, which has to be replaced after the failover, holds the attach up; it lets clients in, and then cuts them for the attach.
            self.assertIn(late.goes_on().states[1], ("up", "waiting"))

    @ours_only("the node is not attached, nor its source detached, while a recovery goes on")
    def test_requests_that_would_disturb_are_refused(self):
        self.stages.install()
        self.lose()
        stays = self.client()
        end = self.begin_second()
        self.assertIn("failback request for node_id: 1 is canceled because the node is being recovered", tools.pcp(self.pool, "attach_node", "-n", 1).err)
        self.assertIn("degenerate backend request for node_id: 0 is canceled because node 1 is being recovered from it", tools.pcp(self.pool, "detach_node", "-n", 0).err)
        stays.close()
        self.assert_works(end())


class SourceDies(MeanwhileCase):
    def test_in_the_second_script(self):
        self.stages.install(second="sleep 6")
        self.lose()
        end = self.begin_second()
        self.eventually(lambda: SECOND in self.stages.names, "the second script", timeout=10)
        self.cluster[0].kill()
        done = end()
        self.assertEqual(done.out, "")
        if SECOND_FAILED not in done.err:
            # Only ours says so: its health check may be faster than the end of the session at the source.
            self.assertIn("ERROR:  node recovery failed, node id: 1 is given up\nDETAIL:  a failover has taken node 0 away", done.err)
        self.pool.wait_log(rf"failover done\. shutdown host 127\.0\.0\.1\({self.cluster[0].port}\)", since=self.mark, timeout=30)
        self.eventually(self.can_connect, "clients at node 2")
        self.eventually(lambda: [self.status(n) for n in (0, 1)] == ["down", "down"], "PCP")
        self.assertNotIn(START, self.stages.names)

    @ours_only("a recovery whose source a failover takes away says so")
    def test_without_a_word(self):
        self.stages.install(second="sleep 60")
        self.lose()
        end = self.begin_second()
        self.eventually(lambda: SECOND in self.stages.names, "the second script", timeout=10)
        late = Late(self.pool)
        self.cluster[0].pause()
        self.addCleanup(self.cluster[0].resume)
        self.assertIn("ERROR:  node recovery failed, node id: 1 is given up\nDETAIL:  a failover has taken node 0 away", end().err)
        self.assertEqual(late.goes_on().states, ["down", "down", "up"])


class OldFile(StagesCase):
    dialect = "4.0"
    config = {**{k: v for k, v in NATIVE.items() if k != "backend_clustering_mode"}, "replication_mode": True, "master_slave_mode": False, "enable_pool_hba": False}

    @ours_only("the argument list is that of the file's release; a stock binary knows only its own")
    def test_a_file_of_4_0_gives_both_scripts_the_arguments_of_4_0(self):
        self.stages.install()
        self.lose()
        self.assert_works(self.recover())
        self.assert_arguments(5)
