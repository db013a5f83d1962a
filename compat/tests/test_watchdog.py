"""Several pgpools on one host, ours and stock ones: they elect, agree on failovers, and stop together.

What needs hosts of its own (the virtual IP, cut cables) is tested elsewhere.
"""

import os
import re
import signal
import time

from lib import env, proc, tools
from lib.case import CompatCase, ours_only, promoting
from lib.fakeleader import FakeLeader
from lib.pgpools import KEY, Pgpools


class WatchdogCase(CompatCase):
    """A primary and a standby, and before them as many pgpools as `subjects` has words; "subject": the one under test."""

    nodes = 2
    fresh = True
    start = False
    weight = 20
    subjects = ("subject", "subject", "subject")
    watchdog = {}

    def setUp(self):
        super().setUp()
        subjects = [env.SUBJECT if word == "subject" else word for word in self.subjects]
        config = {"failover_command": promoting(self), "follow_primary_command": "", **self.watchdog}
        self.pgpools = Pgpools(self.pool.home, self.cluster.servers, subjects, config)
        self.addCleanup(self.pgpools.cleanup)

    def log_tail(self):
        return getattr(self, "_logs", "") or "\n".join(f"--- node {n} ---\n{pool.log()[-6000:]}" for n, pool in enumerate(self.pgpools))

    def doCleanups(self):
        if hasattr(self, "pgpools"):
            self._logs = self.log_tail()
        return super().doCleanups()

    def others(self, but):
        return [pool for number, pool in enumerate(self.pgpools) if number != but]

    def failovers(self):
        return [call[0] for call in self.hook.calls("failover")]

    def writes_through(self, pool):
        with pool.client(user="app", timeout=10) as client:
            return client.value("SELECT pg_is_in_recovery()") == "f"


class Election(WatchdogCase):
    def test_started_together_one_leads_and_all_know_it(self):
        self.pgpools.start()
        leader = self.pgpools.leader()
        self.assertIsNotNone(leader, self.log_tail())
        self.pgpools.wait_states(*("LEADER" if n == leader else "STANDBY" for n in range(3)))
        shown = tools.pcp_ok(self.pgpools[leader], "watchdog_info", "-v").out
        self.assertIn("Quorum state             : QUORUM EXIST", shown)
        self.assertIn("Total Nodes              : 3", shown)
        for pool in self.pgpools:
            self.assertTrue(self.writes_through(pool))

    def test_a_leader_that_stops_is_followed_by_another_and_comes_back_as_a_standby(self):
        self.pgpools.start()
        first = self.pgpools.leader()
        self.pgpools[first].stop()
        second = self.others(first)[0]
        self.eventually(lambda: sorted(self.pgpools.seen_by(second).values()) == ["LEADER", "SHUTDOWN", "STANDBY"], "another leader", timeout=40)
        self.pgpools[first].start(timeout=60)
        self.eventually(lambda: self.pgpools.states(first)[first] == "STANDBY" and sorted(self.pgpools.states(first)) == ["LEADER", "STANDBY", "STANDBY"], "all three")

    def test_a_leader_that_is_killed_is_followed_by_another_and_finds_its_sockets_free(self):
        self.pgpools.start()
        first = self.pgpools.leader()
        self.pgpools[first].kill()
        # A stock pgpool's other processes notice later, and would keep its ports.
        if env.SUBJECT == "stock":
            self.pgpools[first].cleanup()
        survivor = (first + 1) % 3

        def another_leads():
            seen = self.pgpools.seen_by(self.pgpools[survivor])
            # What is left of a stock one says that it goes.
            gone = seen.pop(self.pgpools[first].port, None) in (("LOST",) if env.SUBJECT == "ours" else ("LOST", "SHUTDOWN"))
            return gone and sorted(seen.values()) == ["LEADER", "STANDBY"]

        self.eventually(another_leads, "another leader, and the old one lost", timeout=40)
        second = self.pgpools.leader(seen_from=survivor)
        self.assertNotEqual(second, first)
        self.pgpools[first].start(timeout=60)
        self.eventually(lambda: sorted(self.pgpools.states(first)) == ["LEADER", "STANDBY", "STANDBY"], "all three", timeout=40)
        self.assertEqual(self.pgpools.states(first)[second], "LEADER", "who leads goes on to lead")

    def test_a_node_with_another_key_is_not_let_in(self):
        self.pgpools[2].write_config(wd_authkey="not " + KEY)
        for number in (0, 1):
            self.pgpools[number].launch()
        for number in (0, 1):
            self.pgpools[number].wait_log(r"successfully started", timeout=60)
        mark = self.pgpools[0].log_size()
        self.pgpools[2].launch()
        self.addCleanup(self.pgpools[2].cleanup)
        self.pgpools[2].wait_log(r"(?i)add to watchdog cluster request is rejected by node", timeout=30)
        if env.SUBJECT == "ours":
            self.pgpools[0].wait_log(r'add node from hostname:"127\.0\.0\.1" port:\d+ pgpool_port:\d+ rejected', since=mark, timeout=30)
        self.assertIn("LEADER", self.pgpools.states(0))
        proc.never(lambda: self.pgpools.states(0)[2] in ("STANDBY", "LEADER"), "the stranger joins", 8)
        self.pgpools[2].cleanup()
        self.pgpools[2].write_config(wd_authkey=KEY)
        self.pgpools[2].start(timeout=60)
        self.eventually(lambda: self.pgpools.states(0)[2] == "STANDBY", "it with the right key", timeout=40)

    def test_one_node_is_asked_for_by_its_node_id(self):
        self.pgpools.start()
        for asked in self.pgpools:
            for number, pool in enumerate(self.pgpools):
                shown = tools.pcp_ok(asked, "watchdog_info", "-n", str(number), "-w").out
                self.assertRegex(shown.splitlines()[-1], rf"^127\.0\.0\.1:{pool.port} ")
                self.assertEqual(tools.pcp_ok(asked, "watchdog_info", "-w", str(number)).out, shown, "the number alone is the same")
                long = tools.pcp_ok(asked, "watchdog_info", "-v", "-n", str(number), "-w").out
                self.assertRegex(long, rf"(?m)^Pgpool port +: {pool.port}$")
                self.assertEqual(long.count("Pgpool port"), 1)
            self.assertIn("Not_Set", tools.pcp_ok(asked, "watchdog_info", "-n", "3", "-w").out)

    def test_wd_cli_lists_the_nodes_and_needs_the_key(self):
        self.pgpools.start()
        pool = self.pgpools[0]
        ask = [tools.stock_tool("wd_cli"), "-i", "-f", pool.conf]
        done = proc.run([*ask, "-k", KEY])
        self.assertEqual(len(re.findall(r'^\d \d "(?:LEADER|STANDBY)"', done.out, re.M)), 3, repr(done))
        self.assertNotIn("LEADER", proc.run([*ask, "-k", "wrong"]).out)


class AllSwitchedOff(WatchdogCase):
    """Nothing of the parameters finds a server down: it is the operator who stops it, and who says so."""

    watchdog = {"health_check_period": 0, "failover_on_backend_error": False, "failover_on_backend_shutdown": False}

    def test_another_leader_and_a_node_that_comes_back_detach_nobody(self):
        self.pgpools.start()
        first = self.pgpools.leader()
        self.cluster[1].stop("immediate")
        self.pgpools[first].stop()
        second = self.others(first)[0]
        self.eventually(lambda: sorted(self.pgpools.seen_by(second).values()) == ["LEADER", "SHUTDOWN", "STANDBY"], "another leader", timeout=40)
        self.pgpools[first].start(timeout=60)
        self.eventually(lambda: sorted(self.pgpools.states(first)) == ["LEADER", "STANDBY", "STANDBY"], "all three", timeout=40)
        proc.never(lambda: any("down" in pool.status_words() for pool in self.pgpools), "somebody detaches the server", 10)
        self.assertEqual(self.failovers(), [])


class LogTexts(WatchdogCase):
    """What monitors and scripts look for in the log; the words are those of stock nodes."""

    def assert_logged(self, pool, *patterns, timeout=30):
        for pattern in patterns:
            pool.wait_log(pattern, timeout=timeout)

    def test_the_words_of_the_log_are_those_that_monitors_look_for(self):
        self.pgpools.start()
        number = self.pgpools.leader()
        leader, (first, second) = self.pgpools[number], self.others(number)
        self.assert_logged(
            leader,
            r"watchdog node state changed from \[[A-Z ]+\] to \[LEADER\]",
            r"I am announcing my self as leader/coordinator watchdog node",
            r"I am the cluster leader node",
            r"[Ss]tarting escalation process",
            r'adding watchdog node ".+" to the standby list',
        )
        if env.SUBJECT == "ours":
            self.assert_logged(leader, r"watchdog: this node leads, the quorum exists \(2 of 2 other nodes have joined\)")
            for pool in (first, second):
                self.assert_logged(pool, rf"watchdog: 127\.0\.0\.1:{leader.port} .* leads, the quorum exists")
        for pool in (first, second):
            self.assert_logged(pool, r"watchdog node state changed from \[[A-Z ]+\] to \[STANDBY\]", r"successfully joined the watchdog cluster as standby node")
        for pool in self.pgpools:
            self.assert_logged(pool, r"lifecheck started", timeout=60)
        self.cluster[1].stop("immediate")
        self.pgpools.wait_backends("up", "down")
        self.assert_logged(
            leader,
            r"watchdog is processing the failover command \[DEGENERATE_BACKEND_REQUEST\] received from",
            r"failover requires the majority vote, waiting for consensus",
            r"failover request noted",
            r"we have got the consensus to perform the failover",
        )
        first.stop()
        self.assert_logged(leader, r'remote node ".+" is shutting down', r'removing watchdog node ".+" from the standby list')
        second.stop()
        self.assert_logged(leader, r"We have lost the quorum")
        if env.SUBJECT == "ours":
            self.assert_logged(leader, r"watchdog: this node leads, there is no quorum")
        self.cluster[0].stop("immediate")
        self.assert_logged(leader, r"Rejecting the failover request", r"is changed to quarantine node request by watchdog")


class SilentLeader(WatchdogCase):
    """A leader that lets a node join and then tells it nothing, as one that dies at that moment."""

    subjects = ("subject", "ours")
    watchdog = {"wd_authkey": ""}

    def test_a_start_goes_on_with_what_is_known_here(self):
        pool = self.pgpools[0]
        pool.write(pool.status_file, "up\ndown\n")
        leader = FakeLeader(self.pgpools.listed, 1, pool)
        self.addCleanup(leader.stop)
        pool.launch()
        leader.wait_came("d")
        asked = time.monotonic()
        pool.wait_log(r"successfully started", timeout=30)
        waited = time.monotonic() - asked
        self.assertGreater(waited, 3)
        if env.SUBJECT == "ours":
            # Stock waits for eight seconds, ours for five.
            self.assertLess(waited, 5 * env.SLOW + 2.5)
            self.assertIn("the watchdog's leader has not told how the backends are: starting with what is known here", pool.log())
        self.assertEqual(self.pgpools.states()[1], "LEADER")
        self.assertEqual([status.replace("waiting", "up") for status, _ in self.pgpools.backends(pool)], ["up", "down"])
        self.assertTrue(self.writes_through(pool))


class Together(WatchdogCase):
    """Failovers, and what operators say to one node of several."""

    def test_a_dead_standby_is_detached_by_all_with_one_call_of_the_hook(self):
        self.pgpools.start()
        self.cluster[1].stop("immediate")
        self.pgpools.wait_backends("up", "down")
        self.assertEqual(self.failovers(), ["1"])

    def test_a_dead_primary_is_replaced_once_and_all_know_the_new_one(self):
        self.pgpools.start()
        self.cluster[0].stop("immediate")
        self.pgpools.wait_backends("down", "up", timeout=60)
        self.assertEqual(self.failovers(), ["0"])
        for pool in self.pgpools:
            self.eventually(lambda pool=pool: self.pgpools.roles(pool) == ["standby", "primary"], "the new primary at each node")
            self.eventually(lambda pool=pool: self.writes_through(pool), "writes through each node")

    def test_detach_and_attach_at_a_standby_are_done_by_the_leader(self):
        self.pgpools.start()
        leader = self.pgpools.leader()
        standby = self.others(leader)[0]
        tools.pcp_ok(standby, "detach_node", "-n", "1")
        self.pgpools.wait_backends("up", "down")
        self.assertEqual(self.failovers(), ["1"])
        tools.pcp_ok(standby, "attach_node", "-n", "1")
        self.pgpools.wait_backends("up", "up")

    def test_a_node_that_starts_takes_over_how_the_backends_are(self):
        for number in (0, 1):
            self.pgpools[number].launch()
        for number in (0, 1):
            self.pgpools[number].wait_log(r"successfully started", timeout=60)
        tools.pcp_ok(self.pgpools[0], "detach_node", "-n", "1")
        self.pgpools.wait_backends("up", "down")
        self.pgpools[2].start(timeout=60)
        self.pgpools.wait_backends("up", "down")

    def test_reload_and_stop_for_the_whole_cluster(self):
        self.pgpools.start()
        marks = [pool.log_size() for pool in self.pgpools]
        tools.pcp_ok(self.pgpools[0], "reload_config", "-s", "cluster")
        for pool, mark in zip(self.pgpools, marks):
            pool.wait_log(r"reload config files", since=mark)
        tools.pcp_ok(self.pgpools[1], "stop_pgpool", "-m", "fast", "-s", "cluster")
        for pool in self.pgpools:
            pool.wait_end(30)


@ours_only("nodes of ours among stock ones")
class AmongStock(WatchdogCase):
    """Two of ours, and a stock one that leads."""

    subjects = ("stock", "ours", "ours")
    # Stock looks each ten of these whether it has heard of all.
    watchdog = {"wd_interval": 1}

    def wait_done(self, what):
        """Whoever leads has said that it is done: what is shown is so before."""
        self.eventually(lambda: [pool for pool in self.pgpools if f"{what} host 127.0.0.1(" in pool.log()], f"{what} in a log", timeout=40)

    def test_a_mixed_cluster_elects_and_fails_over(self):
        self.pgpools.start()
        self.pgpools.wait_states(*self.pgpools.states())
        self.assertEqual(sorted(self.pgpools.states()), ["LEADER", "STANDBY", "STANDBY"])
        # Each has accepted signed heartbeats of all others.
        for pool in self.pgpools:
            pool.wait_log(r"lifecheck started", timeout=60)
        self.cluster[1].stop("immediate")
        self.pgpools.wait_backends("up", "down")
        self.wait_done("failover done. shutdown")
        self.assertEqual(self.failovers(), ["1"])

    def test_a_dead_primary_is_replaced_once_and_all_know_the_new_one(self):
        self.pgpools.start()
        self.cluster[0].stop("immediate")
        self.pgpools.wait_backends("down", "up", timeout=60)
        self.wait_done("failover done. shutdown")
        self.assertEqual(self.failovers(), ["0"])
        for pool in self.pgpools:
            self.eventually(lambda pool=pool: self.pgpools.roles(pool) == ["standby", "primary"], "the new primary at each node")

    def test_commands_for_the_whole_cluster_reach_all(self):
        self.pgpools.start()
        marks = [pool.log_size() for pool in self.pgpools]
        tools.pcp_ok(self.pgpools[0], "reload_config", "-s", "cluster")
        for pool, mark in zip(self.pgpools, marks):
            pool.wait_log(r"reload config files", since=mark)
        tools.pcp_ok(self.pgpools[2], "detach_node", "-n", "1")
        self.pgpools.wait_backends("up", "down")
        self.wait_done("failover done. shutdown")
        tools.pcp_ok(self.pgpools[1], "attach_node", "-n", "1")
        self.pgpools.wait_backends("up", "up")
        self.wait_done("failback done. reconnect")
        tools.pcp_ok(self.pgpools[1], "stop_pgpool", "-m", "fast", "-s", "cluster")
        for number in (1, 2):
            self.pgpools[number].wait_end(30)


@ours_only("nodes of ours among stock ones")
class LedByOurs(AmongStock):
    subjects = ("ours", "stock", "ours")


@ours_only("nodes of ours among stock ones")
class OneOfOurs(AmongStock):
    subjects = ("stock", "ours", "stock")


class Quarantine(WatchdogCase):
    """One node cannot reach a backend that the others reach."""

    def test_one_vote_is_no_consensus_and_takes_the_backend_from_that_node_only(self):
        # What this node takes for the standby is a port where nobody listens.
        nowhere = proc.free_port()
        odd = self.pgpools[2]
        odd.write_config(backend_port1=nowhere)
        text = odd.config_text().replace(f"backend_port1 = {self.cluster[1].port}\n", "")
        odd.write(odd.conf, text)
        self.pgpools.start()
        self.pgpools.wait_backends("up", "quarantine", nodes=[2], timeout=60)
        self.pgpools.wait_backends("up", "up", nodes=[0, 1])
        self.assertEqual(self.failovers(), [])


class LifecheckCase(WatchdogCase):
    def freeze(self, pool, sig):
        for pid in pool.pids():
            os.kill(pid, sig)

    def frozen_node_is_lost_and_comes_back(self):
        self.pgpools.start()
        leader = self.pgpools.leader()
        number = 2 if leader != 2 else 1
        frozen = self.pgpools[number]
        # Each is watched from its first sign of life on.
        for pool in self.others(number):
            pool.wait_log(r"lifecheck started", timeout=60)
        time.sleep(4)
        self.freeze(frozen, signal.SIGSTOP)
        self.addCleanup(lambda: frozen.running and self.freeze(frozen, signal.SIGCONT))
        self.eventually(lambda: self.pgpools.states(leader)[number] == "LOST", "the frozen node to be lost", timeout=60)
        self.freeze(frozen, signal.SIGCONT)
        self.eventually(lambda: self.pgpools.states(leader)[number] == "STANDBY", "it to come back", timeout=60)


class Lifecheck(LifecheckCase):
    """A node whose process does not run, and one that is cut off."""

    def test_a_node_that_sends_no_heartbeats_is_lost_and_comes_back(self):
        self.frozen_node_is_lost_and_comes_back()

    def test_a_node_whose_trusted_servers_are_gone_ends(self):
        self.pgpools.start()
        gone = self.pgpools[2]
        gone.stop()
        mark = gone.log_size()
        tools_folder = gone.file("tools")
        os.makedirs(tools_folder)
        ping = os.path.join(tools_folder, "ping")
        cut = gone.file("cut-off")
        answer = "rtt min/avg/max/mdev = 0.021/0.034/0.045/0.010 ms"
        gone.write(ping, f"#!/bin/sh\n[ -e {cut} ] && exit 1\necho '{answer}'\n", mode=0o755)
        gone.write_config(ping_path=tools_folder, trusted_servers="192.0.2.1,192.0.2.2")
        gone.launch()
        self.eventually(lambda: self.pgpools.states(0)[2] in ("STANDBY", "LEADER"), "it to join", timeout=40)
        time.sleep(5)
        self.assertIsNone(gone.process.poll(), "it lives while somebody answers")
        gone.write(cut, "")
        status = gone.wait_end(60)
        self.assertEqual(status, 3) if env.SUBJECT == "ours" else self.assertNotEqual(status, 0)
        gone.wait_log(r"trusted server", since=mark)
        self.eventually(lambda: self.pgpools.states(0)[2] in ("LOST", "SHUTDOWN"), "the others to see it", timeout=30)


class LifecheckByQuery(LifecheckCase):
    watchdog = {"wd_lifecheck_method": "query", "wd_lifecheck_user": "app", "wd_lifecheck_dbname": "app", "wd_life_point": 2, "wd_interval": 2}

    @ours_only("a node lost by query comes back; stock reports nobody alive again")
    def test_a_node_that_does_not_answer_is_lost_and_comes_back(self):
        self.frozen_node_is_lost_and_comes_back()
