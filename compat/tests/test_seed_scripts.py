"""The scripts in use, unchanged: failover, follow, recovery by ssh and repmgr on three hosts (lib/seed.py)."""

import os
import sys
import threading
import time
import unittest

from lib import env, room, seed, wire
from lib.case import CompatCase


class Writer(threading.Thread):
    """Writes one row after the other through pgpool and connects again whenever it is cut."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster, self.ended = cluster, False
        #: (monotonic time, number) of acknowledged rows; texts of what the servers refused.
        self.acknowledged, self.refused = [], []

    def run(self):
        number = 0
        with self.cluster.room.network():
            while not self.ended:
                try:
                    with wire.Client(host=seed.VIP, port=9999, user="cl_owner", password="cl_owner", database="critlib", timeout=10) as client:
                        while not self.ended:
                            number += 1
                            answer = client.query(f"insert into cl_owner.written(n) values ({number})")
                            if answer.error is not None:
                                self.refused.append(answer.error)
                                break
                            self.acknowledged.append((time.monotonic(), number))
                            time.sleep(0.02)
                except (OSError, wire.Closed, wire.ServerError, TimeoutError):
                    time.sleep(0.05)

    def end(self):
        self.ended = True
        self.join(30)

    def outage(self, kill):
        """Seconds from the last acknowledged row before the outage after `kill` (its begin and end) to the first one behind it."""
        times = [at for at, _ in self.acknowledged]
        return max(later - at for at, later in zip(times, times[1:]) if kill[0] < later and at < kill[1] + 1)

    def goes_on(self):
        """Waits for three more acknowledged rows."""
        since = len(self.acknowledged)
        return lambda: len(self.acknowledged) > since + 2


class ScriptsInUse(CompatCase):
    weight = 150

    @classmethod
    def _build(cls, where, home, add_cleanup):
        missing = seed.missing()
        if missing:
            raise unittest.SkipTest(f"{', '.join(missing)} not in {env.SEED}: the system in use is not part of this repository (PGPOOL_SEED names its folder)")
        reason = room.unavailable()
        if reason:
            raise unittest.SkipTest(reason)
        if not os.path.exists(os.path.join(env.PG_BIN, "repmgr")):
            raise unittest.SkipTest("repmgr is not installed: run compat/setup")
        where.cluster = seed.Seed(home, os.environ.get("COMPAT_BINARY_COPY") or env.subject_binary())
        add_cleanup(where.cluster.stop)
        where.cluster.start_pgpool()

    def log_tail(self):
        c = getattr(self, "cluster", None)
        if c is None:
            return ""
        return "\n".join(f"--- {name} ---\n{text[-3000:]}" for name, text in (("pgpool's log", c.log()), ("failover.log", self.failover_log()), ("follow_master.log", self.follow_log())))

    def failover_log(self):
        return self.cluster[0].read("/var/log/pgpool/failover.log")

    def follow_log(self):
        return self.cluster[0].read("/var/log/pgpool/follow_master.log")

    def wait_states(self, *wanted, timeout):
        self.eventually(lambda: self.cluster.states() == list(wanted), lambda: f"show pool_nodes to say {wanted}; says {self.cluster.states()}", timeout)

    def wait_standbys(self, node, *names):
        self.eventually(lambda: self.cluster.standbys_of(node) == list(names), lambda: f"{names} to stream; do {self.cluster.standbys_of(node)}")

    def pcp(self, tool, node):
        done = self.cluster[0].run(f"pcp_{tool} -h {seed.VIP} -p 9898 -w {node}")
        self.assertEqual((done.code, done.err), (0, ""), done)

    def test_the_whole_story(self):
        self.wait_states(("up", "primary"), ("up", "standby"), ("up", "standby"), timeout=20)
        self.killed, self.writer = [], Writer(self.cluster)
        self.writer.start()
        self.addCleanup(self.writer.end)
        self.a_standby_is_detached_and_attached()
        self.the_primary_dies()
        self.the_old_primary_comes_back_and_is_rebuilt()
        self.a_detached_standby_that_streams_is_attached_by_the_script()
        self.the_new_primary_dies_too()
        self.writer.end()
        self.nothing_is_lost()
        # `compat/run -v` shows it; a limit is kept where nothing else is busy (make bench).
        print(f"write outages: {', '.join(f'{self.writer.outage(kill):.1f} s' for kill in self.killed)}", file=sys.stderr)

    def a_standby_is_detached_and_attached(self):
        cluster = self.cluster
        self.eventually(self.writer.goes_on(), "rows before")
        self.pcp("detach_node", 2)
        self.wait_states(("up", "primary"), ("up", "standby"), ("down", "standby"), timeout=15)
        said = self.failover_log()
        for line in ("FALLING_NODE: 2", "FALLING_HOST: pg03.localnet", "OLD_PRIMARY_ID: 0", "NEW_PRIMARY_ID: 0", "NEW_PRIMARY_HOST: pg01.localnet", f"NEW_MASTER_PGDATA: {seed.PGDATA}"):
            self.assertIn(line + "\n", said)
        self.assertNotIn("standby promote", said, "a standby went")
        time.sleep(1.5)  # stock replaces its PCP process one second after a failover
        self.pcp("attach_node", 2)
        self.wait_states(("up", "primary"), ("up", "standby"), ("up", "standby"), timeout=15)
        self.eventually(lambda: f"failback 2 pg03.localnet 5432 {seed.PGDATA} 0 pg01.localnet 0 0\n" in cluster.log(), "the failback_command's echo")
        self.eventually(self.writer.goes_on(), "rows after the attach")

    def a_primary_dies(self, old, new, other, wanted):
        """Kills the server of node `old`; `new` takes its place and `other` follows, each by its script."""
        cluster, names = self.cluster, seed.NAMES
        failover, follow, log = len(self.failover_log()), len(self.follow_log()), len(cluster.log())
        began = time.monotonic()
        cluster.kill_server(old)
        self.killed.append((began, time.monotonic()))
        self.wait_states(*wanted, timeout=100)
        said = self.failover_log()[failover:]
        self.assertIn(f"FALLING_NODE: {old}\nFALLING_HOST: {names[old]}\nOLD_PRIMARY_ID: {old}\nNEW_PRIMARY_ID: {new}\nNEW_PRIMARY_HOST: {names[new]}\nNEW_MASTER_PGDATA: {seed.PGDATA}\n", said)
        self.assertIn("STANDBY PROMOTE successful", said)
        said = self.follow_log()[follow:]
        for node in (old, other):
            self.assertIn(f"NODEID={node}\nHOSTNAME={names[node]}\nNEW_MASTER_ID={new}\nPORT_NUMBER=5432\nNEW_MASTER_HOST={names[new]}\nOLD_MASTER_ID={old}\nOLD_PRIMARY_ID={old}\nPGDATA={seed.PGDATA}\n", said)
        for text in ("Do nothing as this is the failed master", f"pg_is_in_recovery on {names[other]} is t", "STANDBY FOLLOW successful", f"pcp_attach_node -h localhost -p 9898 -w {other}"):
            self.assertIn(text, said)
        self.assertEqual(said.count("executing follow_master.sh"), 2)
        self.wait_standbys(new, names[other])
        said = cluster.log()[log:]
        for text in (f"execute command: {seed.SCRIPTS}/failover.sh  {old} {names[old]} {old} {new} {names[new]} {seed.PGDATA}", f"failover: set new primary node: {new}",
                     f"execute command: {seed.SCRIPTS}/follow_master.sh {other} {names[other]} {new} 5432 {names[new]} {old} {old}"):
            self.assertIn(text, said)
        self.eventually(self.writer.goes_on(), "rows at the new primary")

    def the_primary_dies(self):
        self.a_primary_dies(old=0, new=1, other=2, wanted=(("down", "standby"), ("up", "primary"), ("up", "standby")))

    def the_new_primary_dies_too(self):
        """The rebuilt node is the lowest that lives."""
        self.a_primary_dies(old=1, new=0, other=2, wanted=(("up", "primary"), ("down", "standby"), ("up", "standby")))

    def the_old_primary_comes_back_and_is_rebuilt(self):
        cluster = self.cluster
        cluster[0].ok("sudo systemctl start postgresql")
        self.assertEqual(cluster.sql(0, "select pg_is_in_recovery()"), "f", "it still thinks that it is the primary")
        self.wait_states(("down", "standby"), ("up", "primary"), ("up", "standby"), timeout=5)
        done = cluster[0].run("/opt/postgres/scripts/recover_failed_node.sh --auto-recover-primary", timeout=120)
        self.assertEqual(done.code, 0, done)
        for text in ("Node pg01.localnet is down", "Primary node is pg02.localnet", "probably a degenerated master. Lets do pcp_recovery_node", "acquired lock 1", "Do pcp_recovery_node of 0",
                     "pcp_recovery_node -- Command Successful", "delete from recover_failed with id 1"):
            self.assertIn(text, done.out)
        self.wait_states(("up", "standby"), ("up", "primary"), ("up", "standby"), timeout=15)
        self.wait_standbys(1, "pg01.localnet", "pg03.localnet")
        said = cluster[1].read("/var/log/pgool/pgpool_recovery.log")
        for text in (f"primary_host: {seed.ADDRESSES[1]}", "replica_host: pg01.localnet", f"replica_path: {seed.PGDATA}", "Stopping postgres on pg01.localnet", "Register standby database"):
            self.assertIn(text, said)
        self.assertEqual(cluster.sql(1, "select count(*) from repmgr.nodes where active and type = 'standby' and upstream_node_id = 2", "repmgr"), "2")
        self.eventually(self.writer.goes_on(), "rows after the recovery")

    def a_detached_standby_that_streams_is_attached_by_the_script(self):
        cluster = self.cluster
        self.pcp("detach_node", 0)
        self.wait_states(("down", "standby"), ("up", "primary"), ("up", "standby"), timeout=15)
        time.sleep(1.5)  # as above
        self.what_the_script_asks_is_as_it_should_be(node=0, primary=1)
        done = cluster[0].run("/opt/postgres/scripts/recover_failed_node.sh", timeout=60)
        self.assertEqual(done.code, 0, done)
        # What it has read is part of a failure.
        read = "\n".join(cluster[0].read(f"/tmp/{name}") for name in ("pool_nodes.log", "stat_wal_receiver.tmp"))
        self.assertIn("attach node back since it is in recovery streaming from 1", done.out, read)
        self.wait_states(("up", "standby"), ("up", "primary"), ("up", "standby"), timeout=15)
        again = cluster[0].run("/opt/postgres/scripts/recover_failed_node.sh")
        self.assertRegex(again.out, r"pgpool status for node pg01\.localnet is (up|waiting) and role \w+, nothing to do")

    def what_the_script_asks_is_as_it_should_be(self, node, primary):
        """Waits for it: the script ends without a word of failure when the standby's receiver is between two connections,
        when the lock of the last recovery is still there, or when no line of the primary is free of the word "down". Stock
        says that in pg_status of a server that has not answered a ping within connect_timeout, as on a machine that stands still."""
        cluster, name = self.cluster, seed.NAMES[primary]

        def lines_of_the_primary():
            return [n["node_id"] for n in cluster.pool_nodes() if "primary" in n.values() and "down" not in n.values()]

        self.eventually(lambda: lines_of_the_primary() == [str(primary)], lambda: f"show pool_nodes to name the primary: {cluster.pool_nodes()}")
        self.eventually(lambda: f"host={name}" in cluster.sql(node, "select conninfo from pg_stat_wal_receiver where status = 'streaming'"), "the standby to stream")
        self.assertEqual(cluster.sql(primary, "select count(*) from repmgr.recover_failed_lock", "repmgr"), "0", "the recovery has given its lock back")

    def nothing_is_lost(self):
        """Replication is asynchronous here, so what was acknowledged in the last second before a kill may be."""
        there = set(map(int, self.cluster.sql(0, "select n from cl_owner.written", "critlib").split()))
        lost = [n for at, n in self.writer.acknowledged if n not in there and not any(began - 1 < at < ended + 0.5 for began, ended in self.killed)]
        self.assertEqual(lost, [])
        if env.SUBJECT != "stock":
            self.assertEqual(self.writer.refused, [], "no write goes to a standby (stock sends some, until it has found the new primary)")
