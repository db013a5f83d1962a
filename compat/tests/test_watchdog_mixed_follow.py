"""follow_master_command in a cluster of stock nodes and ours: run by the leader alone, while the others keep their hands off.

With the subject stock the same is done with stock nodes alone: how the tests are proved.
"""

import os

from lib import env, proc, seed, watchdog
from lib.watchdog_case import WatchdogCase

_SCRIPT = f"{seed.SCRIPTS}/follow_master.sh"
_HOLD = "/tmp/hold"
#: The first host's pgpool leads, and the primary is there; the second one's detaches false primaries.
LEADER, WATCHFUL = 0, 1
#: Seconds: three times sr_check_period.
CHECKS = 6


class FollowMaster(WatchdogCase):
    """The system's script, but for its sleep, which lasts as long as the test says."""

    sites = tuple(tuple("stock" if env.SUBJECT == "stock" else one for one in site) for site in (("stock", "ours", "stock"), ("ours", "stock", "ours")))
    # One node's word is enough, as it is one alone that detaches false primaries.
    settings = {**watchdog.SHORT, "failover_when_quorum_exists": "on", "failover_require_consensus": "off"}
    weight = 80

    def start(self):
        for site in self.all:
            for host in site.hosts:
                text = host.read(_SCRIPT)
                self.assertEqual(text.count("  sleep 10\n"), 1)
                host.write(_SCRIPT, text.replace("  sleep 10\n", f"  while [ -e {_HOLD} ]; do sleep 0.1; done\n"), 0o755)
                host.write(_HOLD, "")
            site.configure(WATCHFUL, "detach_false_primary = on")
        for number in range(3):
            for site in self.all:
                site.launch(number)
            for site in self.all:
                site.wait_started(number)
        self.assertEqual([site.wait_leader() for site in self.all], [LEADER] * len(self.all))

    def wait_backends(self, *wanted):
        for site in self.all:
            for number in range(3):
                site.wait_backends(number, *wanted, timeout=60)

    def test_it_runs_at_the_leader_once_for_each_node_and_nobody_detaches_a_false_primary_meanwhile(self):
        self.start()
        for site in self.all:
            site.kill_server(0)
        self.wait_backends("down", "up", "down")
        for site in self.all:
            self.eventually(lambda s=site: "Sleep 10" in s.hosts[LEADER].read("/var/log/pgpool/follow_master.log"), lambda s=site: f"the script to wait\n{s.log()}", timeout=60)
        # The old primary comes back as one, and while node 2 is down it looks like the only one.
        for site in self.all:
            site.hosts[0].ok("sudo systemctl start postgresql")
            site.hosts[LEADER].ok("pcp_attach_node -h localhost -p 9898 -w 0")
        self.wait_backends("up", "up", "down")
        kept = [("up", "standby"), ("up", "primary"), ("down", "standby")]
        proc.never(lambda: [site.backends(WATCHFUL) for site in self.all] != [kept] * len(self.all), "a primary is detached, or another one chosen, while nodes are made to follow", CHECKS)
        for site in self.all:
            # Of what repmgr has written here pg_stat_wal_receiver shows no port, and without it pgpool knows no standby.
            site.sql(2, f"alter system set primary_conninfo = 'host={seed.NAMES[1]} port=5432 user=repmgr password=rep123 application_name={seed.NAMES[2]}'")
            site.sql(2, "select pg_reload_conf()")
            self.eventually(lambda s=site: s.standbys_of(1) == [seed.NAMES[2]] and "port=5432" in s.sql(2, "select conninfo from pg_catalog.pg_stat_wal_receiver"), "the standby to stream", timeout=30)
            os.remove(site.hosts[LEADER].path(_HOLD))
        # Now node 2 is attached by the script, and then it tells who is the true one.
        self.wait_backends("down", "up", "up")
        for site in self.all:
            for number in range(3):
                self.assertEqual([role for _, role in site.backends(number)], ["standby", "primary", "standby"])
            said = [host.read("/var/log/pgpool/follow_master.log") for host in site.hosts]
            self.assertEqual([[text.count(f"NODEID={node}\n") for node in range(3)] for text in said], [[1, 0, 1], [0, 0, 0], [0, 0, 0]], f"calls by host and node\n{site.log()}")
            promoted = [host.read("/var/log/pgpool/failover.log").count("standby promote -v") for host in site.hosts]
            self.assertEqual(promoted[1:], [0, 0])
            self.assertIn("verify_backend_node_status: primary 0 owns only 0 standbys out of 1", site.said(WATCHFUL), "why it was detached in the end")
