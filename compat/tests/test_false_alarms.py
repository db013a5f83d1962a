"""What is no failure of a node: none of it detaches one, and no hook runs."""

import os
import signal
import time

from lib import proc, tools, wire
from lib.case import CompatCase, needs_root, ours_only, promoting, slow, stock_differs
from lib.shim import Shim

#: As strict as health checks can be: the first bad answer counts.
STRICT = {"num_init_children": 8, "health_check_period": 1, "health_check_timeout": 5, "health_check_max_retries": 0, "health_check_retry_delay": 1, "sr_check_period": 1,
          "connect_timeout": 1000, "failover_command": promoting}
#: Waits within which a false alarm would have been raised.
A_WHILE = 4


class FalseAlarm(CompatCase):
    nodes = 3
    weight = 20

    def setUp(self):
        super().setUp()
        self.mark, self.calls = self.pool.log_size(), self.hook.calls()

    def nothing_happened(self):
        """Neither now nor a few health checks later."""
        time.sleep(A_WHILE)
        log = self.pool.log(self.mark)
        self.assertNotIn("degeneration", log)
        self.assertNotIn("received degenerate backend request", log)
        self.assertEqual(self.hook.calls(), self.calls)
        self.assertEqual(self.pool.status_words(), ["up"] * self.nodes)
        self.eventually(self.can_connect, "sessions")
        with self.pool.client(user="postgres") as client:
            self.assertEqual(client.value("SELECT inet_server_port()"), str(self.cluster.primary.port))


class Suspended(FalseAlarm):
    config = {**STRICT, "health_check_timeout": 3}

    def suspend(self, seconds):
        for pid in self.pool.pids():
            os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        for pid in self.pool.pids():
            os.kill(pid, signal.SIGCONT)

    @ours_only("a suspended machine detaches nothing, whichever time-out has passed meanwhile")
    def test_pgpool_sleeps_longer_than_all_its_time_outs(self):
        client = self.client()
        self.assertEqual(client.value("SELECT 1"), "1")
        # At several phases of the checks, with a probe under way or without.
        for pause in (0.0, 0.3, 0.55, 0.8, 0.95):
            time.sleep(pause)
            self.suspend(4.5)
        self.assertEqual(client.value("SELECT 2"), "2", "the session lives on")
        self.nothing_happened()

    @ours_only("as above, in the middle of a probe")
    def test_it_falls_asleep_while_a_server_is_slow_to_answer(self):
        """The answer comes while nobody reads it, and the time-out passes."""
        pids = self.pool.pids()
        for one in self.cluster.servers:
            one.pause()
        # The checks of all nodes have begun and wait. None may have waited for health_check_timeout when we go on.
        time.sleep(1.1)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for one in self.cluster.servers:
            one.resume()
        time.sleep(4)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        self.nothing_happened()


class Clock(FalseAlarm):
    config = {**STRICT, "child_life_time": 0, "authentication_timeout": 5}
    start = False

    def test_a_wall_clock_that_jumps(self):
        """By an hour, a day and ten years, forward and back; that of the process alone."""
        shim = Shim(self.pool.home)
        self.pool.extra_env = shim.environment()
        self.pool.start()
        client = self.client()
        client.query("BEGIN").ok()
        for seconds in (3600, -3600, 86400, 0, 315_360_000, -86400, 0):
            shim.set_clock(seconds)
            time.sleep(1.2)
            self.assertEqual(client.value("SELECT 1"), "1")
            self.assertTrue(self.can_connect())
        client.query("COMMIT").ok()
        self.nothing_happened()

    def tearDown(self):
        self.assertTrue(self.pool.running)


@needs_root
class Names(FalseAlarm):
    """Servers are known by names, which cannot be told for a while."""

    fresh = True
    start = False
    config = STRICT
    per_node = {n: {"backend_hostname": f"db{n}.test"} for n in range(3)}

    def file(self, name, text):
        """In its place: the process has it mounted."""
        path = os.path.join(self.pool.home, name)
        with open(path, "w") as out:
            out.write(text)
        return path

    def started(self, where):
        self.hosts = "127.0.0.1 localhost\n" + "".join(f"127.0.0.1 db{n}.test\n" for n in range(3))
        files = {"/etc/hosts": self.file("hosts", self.hosts), "/etc/nsswitch.conf": self.file("nsswitch.conf", f"passwd: files\ngroup: files\nhosts: {where}\n"),
                 # Nobody listens there.
                 "/etc/resolv.conf": self.file("resolv.conf", "nameserver 127.0.0.66\noptions timeout:1 attempts:1\n")}
        self.pool.mounts = "; ".join(f"mount --bind '{ours}' {theirs}" for theirs, ours in files.items())
        self.pool.start()
        self.eventually(self.all_are_checked, "a check of each node")

    def all_are_checked(self):
        with self.pool.client() as client:
            shown = client.query("SHOW POOL_HEALTH_CHECK_STATS").ok()
        return all(int(dict(zip(shown.columns, row))["success_count"]) > 0 for row in shown.rows)

    def hiccup(self):
        client = self.client()
        client.query("BEGIN").ok()
        self.file("hosts", "127.0.0.1 localhost\n")
        time.sleep(A_WHILE)
        self.assertEqual(client.value("SELECT 1"), "1")
        self.assertEqual(self.pool.status_words(), ["up"] * 3)
        self.file("hosts", self.hosts)
        client.query("COMMIT").ok()
        self.nothing_happened()

    @stock_differs("4.3.5 detaches a node whose name cannot be told")
    def test_no_name_server_answers(self):
        self.started("files dns")
        self.hiccup()

    @stock_differs("as above")
    def test_the_names_are_denied_for_a_moment(self):
        """As while somebody writes /etc/hosts, or a zone, anew."""
        self.started("files")
        self.hiccup()


class FullTable(FalseAlarm):
    config = STRICT
    start = False

    @stock_differs("4.3.5 detaches a node whose connections are all in use")
    def test_a_primary_that_is_out_of_connections(self):
        primary = self.cluster.primary
        primary.stop("fast")
        primary.set(max_connections=25, max_wal_senders=5)
        primary.start()
        self.cluster.wait_streaming()
        self.pool.start()
        hogs, refused = [], 0
        # A health check may have had the last place, for a moment.
        while refused < 20:
            try:
                hogs.append(self.direct(timeout=5))
                self.assertLess(len(hogs), 40)
                refused = 0
            except wire.ServerError as error:
                self.assertEqual(error.fields["C"], "53300")
                refused += 1
                time.sleep(0.1)
        with self.assertRaises(wire.ServerError):
            self.pool.client()
        time.sleep(A_WHILE)
        self.assertIn("53300", self.pool.log(self.mark))
        for hog in hogs:
            hog.close()
        self.nothing_happened()


class SeedDialect(FalseAlarm):
    """A 4.0 file, which has no failover_on_backend_shutdown."""

    dialect = "4.0"
    config = {"failover_command": promoting, "health_check_max_retries": 3}

    def session(self):
        return self.client(user="md5user", password="md5pw")

    def can_connect(self, **_):
        return super().can_connect(user="md5user", password="md5pw")

    def nothing_happened(self):
        time.sleep(A_WHILE)
        self.assertNotIn("degeneration", self.pool.log(self.mark))
        self.assertEqual(self.hook.calls(), self.calls)
        self.eventually(self.can_connect, "sessions")

    @stock_differs("up to 4.2, and in 4.3.5 without the parameter, one terminated session fails the primary over")
    def test_one_terminated_session(self):
        client, other = self.session(), self.session()
        self.cluster.primary.rows(f"SELECT pg_terminate_backend({client.pid()})")
        client.until_closed()
        self.assertEqual(other.value("SELECT 1"), "1")
        self.nothing_happened()

    @stock_differs("as above")
    def test_all_sessions_terminated(self):
        clients = [self.session() for _ in range(4)]
        for client in clients:
            client.value("SELECT 1")
        self.cluster.primary.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'md5user'")
        for client in clients:
            client.until_closed()
        self.nothing_happened()

    @stock_differs("57P02 fails the primary over as well")
    def test_a_backend_process_that_is_killed(self):
        """PostgreSQL ends all others and recovers."""
        client, other = self.session(), self.session()
        other.value("SELECT 1")
        os.kill(client.pid(), signal.SIGKILL)
        client.until_closed()
        self.eventually(self.can_connect, "sessions after the recovery", timeout=30)
        self.nothing_happened()

    def test_a_server_that_is_slow(self):
        """Nobody answers for longer than a period, but not than health_check_timeout (10 s)."""
        client = self.session()
        client.value("SELECT 1")
        for one in self.cluster.servers:
            one.pause()
        time.sleep(5)
        for one in self.cluster.servers:
            one.resume()
        self.assertEqual(client.value("SELECT 2"), "2")
        self.nothing_happened()


class Restarted(FalseAlarm):
    config = STRICT

    def test_a_restart_of_pgpool_keeps_every_node(self):
        for how in ("stop", "kill"):
            client = self.pool.client()
            client.value("SELECT 1")
            if how == "stop":
                self.pool.stop()
            else:
                pids = self.pool.pids()
                self.pool.kill()
                # What stock leaves behind would keep the port.
                for pid in pids:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except OSError:
                        pass
                proc.wait_for(lambda p=pids: not any(proc.alive(pid) for pid in p), "its processes to be gone")
            client.abort()
            self.pool.start()
        self.nothing_happened()
        self.assertEqual([tools.node_info(self.pool, n)["Role"] for n in range(3)], ["primary", "standby", "standby"])


@slow
class BusyMachine(FalseAlarm):
    config = {**STRICT, "health_check_timeout": 5, "num_init_children": 32}

    @ours_only("a false failover is the worst that can happen; stock is not asked for its timing")
    def test_logins_and_ends_of_many_sessions(self):
        done = tools.pgbench(self.pool.port, "-i", "-q", "-s", "1", timeout=60)
        self.assertEqual(done.code, 0, done)
        done = tools.pgbench(self.pool.port, "-n", "-S", "-C", "-c", "24", "-j", "2", "-T", "5", timeout=60)
        self.assertEqual(done.code, 0, done)
        self.nothing_happened()
