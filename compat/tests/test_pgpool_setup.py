"""Clusters of two to four servers as Debian's pgpool_setup makes them, with its own hook and recovery scripts."""

import os
import unittest

from lib import env, room
from lib import setup_cluster as made
from lib.case import CompatCase


class Story:
    """The life of such a cluster; the number of servers is `nodes`."""

    options = ""

    @classmethod
    def _build(cls, where, home, add_cleanup):
        missing = made.missing()
        if missing:
            raise unittest.SkipTest(f"{', '.join(missing)} missing: run compat/setup (images without /usr/share/doc lack the samples)")
        reason = room.unavailable()
        if reason:
            raise unittest.SkipTest(reason)
        where.cluster = made.SetupCluster(home, cls.nodes, os.environ.get("COMPAT_BINARY_COPY") or env.subject_binary(), cls.options)
        add_cleanup(where.cluster.stop)

    def log_tail(self):
        c = getattr(self, "cluster", None)
        return "" if c is None else "\n".join(f"--- {name} ---\n{c.log(name)[-3000:]}" for name in ("pgpool.log", "failover.log", "recovery.log"))

    def wait_states(self, primary, down=(), timeout=30):
        """All nodes are up but those of `down`."""
        self.cluster.wait_states([("down" if n in down else "up", "primary" if n == primary else "standby") for n in range(self.nodes)], timeout)

    def wait_streaming(self, primary, *standbys):
        self.eventually(lambda: self.cluster.standbys_of(primary) == [f"server{n}" for n in standbys], lambda: f"{standbys} to stream from {primary}; do {self.cluster.standbys_of(primary)}", timeout=20)

    def write(self, number):
        self.cluster.sql(made.PORT, f"insert into story values ({number})")

    def test_it_is_made_fails_over_and_is_recovered(self):
        cluster, others = self.cluster, range(2, self.nodes)
        self.assertEqual(cluster.made.count("pcp_recovery_node -- Command Successful"), self.nodes - 1, cluster.made)
        self.assertIn("pgpool-II setting for streaming replication mode is done.", cluster.made)
        self.assertEqual(cluster.processes(), [], "its shutdownall has ended everything")

        cluster.generated("startall")
        self.wait_states(primary=0)
        self.wait_streaming(0, *range(1, self.nodes))
        cluster.sql(made.PORT, "create table story(n int)")
        self.write(1)

        # A standby goes and comes: the script is called and promotes nobody.
        self.assertEqual(cluster.pcp("detach_node", "-n 1").out, "pcp_detach_node -- Command Successful\n")
        self.wait_states(primary=0, down=[1])
        called = cluster.log("failover.log")
        self.assertIn(f"failed_node_id 1 failed_host_name localhost failed_port 11003 failed_db_cluster {cluster.top}/data1 new_main_id 0 old_main_id 0", called)
        self.assertNotIn("promote", called)
        self.eventually(lambda: "Command Successful" in cluster.pcp("attach_node", "-n 1").out, "the attach")  # stock restarts PCP a second after a failover
        self.wait_states(primary=0)

        # The primary dies: node 1 is promoted, the others follow it.
        cluster.kill_server(0)
        self.wait_states(primary=1, down=[0], timeout=60)
        self.wait_streaming(1, *others)
        called = cluster.log("failover.log")
        self.assertIn(f"failed_node_id 0 failed_host_name localhost failed_port 11002 failed_db_cluster {cluster.top}/data0 new_main_id 1 old_main_id 0 new_main_host_name localhost old_primary_node_id 0 new_main_port_number 11003 new_main_db_cluster {cluster.top}/data1", called)
        self.assertIn(f"pg_ctl -D {cluster.top}/data1 promote", called)
        for node in (0, *others):
            self.assertIn(f"node_id {node} host_name localhost port {made.SERVER_PORT + node} db_cluster {cluster.top}/data{node} new_primary_id 1 old_main_id 0 new_main_host_name  old_primary_node_id 0 new_primary_port_number 11003 new_primary_db_cluster {cluster.top}/data1", called)
        self.assertIn(f"{cluster.top}/data0 is not running. skipping follow primary command.", called)
        self.eventually(lambda: cluster.log("failover.log").count("follow primary script ended") == 1 + len(others), "the follow scripts to end")
        self.write(2)

        # The lost node is recovered.
        done = cluster.pcp("recovery_node", "-n 0")
        self.assertEqual(done.out, "pcp_recovery_node -- Command Successful\n", done)
        self.wait_states(primary=1)
        self.wait_streaming(1, 0, *others)
        self.assertIn(f"source: {cluster.top}/data1 dest: {cluster.top}/data0", cluster.log("recovery.log"))
        self.write(3)
        self.eventually(lambda: cluster.sql(made.SERVER_PORT, "select string_agg(n::text, ',' order by n) from story") == "1,2,3", "the rows at the recovered node")

        cluster.generated("pgpool_reload")
        self.eventually(lambda: "reload config files" in cluster.log(), "the reload")
        cluster.generated("shutdownall")
        self.assertEqual(cluster.processes(), [])
        self.assertEqual(os.listdir(cluster.host.path(f"{cluster.top}/run")), [], "the pid file is gone")
        self.assertEqual(cluster.host.read(f"{cluster.top}/log/pgpool_status").split(), ["up"] * self.nodes)


class TwoNodes(Story, CompatCase):
    nodes = 2
    weight = 60


class ThreeNodes(Story, CompatCase):
    nodes = 3
    weight = 80


class FourNodes(Story, CompatCase):
    nodes = 4
    weight = 100
