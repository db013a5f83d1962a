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
        self.it_is_made_by_recoveries()
        self.it_starts()
        self.a_standby_goes_and_comes()
        self.the_primary_dies(old=0, new=1, main=0)
        self.write(2)
        self.the_lost_node_is_recovered(0, primary=1)
        self.write(3)
        self.eventually(lambda: self.cluster.sql(made.SERVER_PORT, "select string_agg(n::text, ',' order by n) from story") == "1,2,3", "the rows at the recovered node")
        self.more()
        self.it_stops()

    def more(self):
        """What a class adds to the story before the end."""

    def it_is_made_by_recoveries(self):
        made_up = self.cluster.made
        self.assertEqual(made_up.count("pcp_recovery_node -- Command Successful"), self.nodes - 1, made_up)
        self.assertIn("pgpool-II setting for streaming replication mode is done.", made_up)
        self.nothing_runs()

    def nothing_runs(self):
        # pg_ctl goes by the pid file, which goes before its process does.
        self.eventually(lambda: not self.cluster.processes(), lambda: f"shutdownall to end everything; there are {self.cluster.processes()}")

    def it_starts(self):
        self.cluster.generated("startall")
        self.wait_states(primary=0)
        self.wait_streaming(0, *range(1, self.nodes))
        self.cluster.sql(made.PORT, "create table story(n int)")
        self.write(1)

    def a_standby_goes_and_comes(self):
        """The script is called and promotes nobody."""
        cluster = self.cluster
        self.assertEqual(cluster.pcp("detach_node", "-n 1").out, "pcp_detach_node -- Command Successful\n")
        self.wait_states(primary=0, down=[1])
        called = cluster.log("failover.log")
        self.assertIn(f"failed_node_id 1 failed_host_name localhost failed_port 11003 failed_db_cluster {cluster.top}/data1 new_main_id 0 old_main_id 0", called)
        self.assertNotIn("promote", called)
        self.eventually(lambda: "Command Successful" in cluster.pcp("attach_node", "-n 1").out, "the attach")  # stock restarts PCP a second after a failover
        self.wait_states(primary=0)

    def the_primary_dies(self, old, new, main):
        """Node `new` is promoted, the others follow it; `main` is the main node before."""
        cluster, others = self.cluster, [n for n in range(self.nodes) if n not in (old, new)]
        mark = len(cluster.log("failover.log"))
        cluster.kill_server(old)
        self.wait_states(primary=new, down=[old], timeout=60)
        self.wait_streaming(new, *others)
        self.eventually(lambda: cluster.log("failover.log")[mark:].count("follow primary script ended") == 1 + len(others), "the follow scripts to end")
        called = cluster.log("failover.log")[mark:]
        port, data = made.SERVER_PORT, f"{cluster.top}/data"
        self.assertIn(f"failed_node_id {old} failed_host_name localhost failed_port {port + old} failed_db_cluster {data}{old} new_main_id {new} old_main_id {main} "
                      f"new_main_host_name localhost old_primary_node_id {old} new_main_port_number {port + new} new_main_db_cluster {data}{new}\n", called)
        self.assertIn(f"pg_ctl -D {data}{new} promote\n", called)
        for node in (old, *others):
            self.assertIn(f"node_id {node} host_name localhost port {port + node} db_cluster {data}{node} new_primary_id {new} old_main_id {old} "
                          f"new_main_host_name  old_primary_node_id {old} new_primary_port_number {port + new} new_primary_db_cluster {data}{new}\n", called)
        self.assertIn(f"{data}{old} is not running. skipping follow primary command.\n", called)

    def the_lost_node_is_recovered(self, node, primary):
        cluster = self.cluster
        mark = len(cluster.log("recovery.log"))
        done = cluster.pcp("recovery_node", f"-n {node}")
        self.assertEqual(done.out, "pcp_recovery_node -- Command Successful\n", done)
        self.wait_states(primary=primary)
        self.wait_streaming(primary, *(n for n in range(self.nodes) if n != primary))
        said = cluster.log("recovery.log")[mark:]
        self.assertIn("pg_rewind: Done!" if "-r" in self.options else f"source: {cluster.top}/data{primary} dest: {cluster.top}/data{node}\n", said)

    def it_stops(self):
        cluster = self.cluster
        cluster.generated("pgpool_reload")
        self.eventually(lambda: "reload config files" in cluster.log(), "the reload")
        cluster.generated("shutdownall")
        self.nothing_runs()
        self.assertEqual(os.listdir(cluster.host.path(f"{cluster.top}/run")), [], "the pid file is gone")
        self.assertEqual(cluster.host.read(f"{cluster.top}/log/pgpool_status").split(), ["up"] * self.nodes)


class TwoNodes(Story, CompatCase):
    """With replication slots: the recovery script makes one at the primary of the day."""

    nodes = 2
    options = "-s"
    weight = 60


class ThreeNodes(Story, CompatCase):
    nodes = 3
    weight = 100

    def more(self):
        """And back again: the recovered node is the lowest that lives, so it is promoted."""
        self.the_primary_dies(old=1, new=0, main=0)
        self.write(4)
        self.the_lost_node_is_recovered(1, primary=0)


class FourNodes(Story, CompatCase):
    """The lost node is rewound."""

    nodes = 4
    options = "-r"
    weight = 100
