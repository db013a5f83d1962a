"""How the system in use was tested by who set it up (section 4 of its description), on its three hosts with its own files."""

import re
import time

from lib import seed
from lib.watchdog_case import WatchdogCase


class SectionFour(WatchdogCase):
    """pgpool.conf is the system's, but for the lines that its description says to change on each host."""

    settings = {}
    weight = 160

    def test_the_whole_of_it(self):
        self.pgpool_starts_on_all_hosts()
        seen = self.witness()
        self.pgpool_fails_over()
        self.postgres_fails_over()
        self.the_failed_node_is_recovered()
        self.a_failed_primary_comes_back_and_is_recovered_by_the_script()
        began, ended = self.killed
        seen.outside.wait_writes()
        seen.end()
        # Replication is asynchronous: what was acknowledged just before the kill may be lost.
        lost = [one for one in seen.lost()["outside"] if not began - 1 < one[0] < ended + 0.5]
        self.assertEqual((lost, seen.to_two_primaries()[0]), ([], 0))
        self.assertLess(seen.watch.doubled(), 1, seen.watch.told(seen.began))

    def pool_nodes(self):
        return self.site.states()

    def wait_states(self, *wanted, timeout):
        self.eventually(lambda: self.pool_nodes() == list(wanted), lambda: f"show pool_nodes to say {wanted}; says {self.pool_nodes()}\n{self.site.log()}", timeout)

    def wait_standbys(self, node, *names):
        self.eventually(lambda: self.site.standbys_of(node) == list(names), lambda: f"{names} to stream; do {self.site.standbys_of(node)}")

    def pcp(self, words, node=0, timeout=60):
        done = self.site.hosts[node].run(f"{words.split()[0]} -h {seed.VIP} -p 9898 -w {' '.join(words.split()[1:])}", timeout=timeout)
        self.assertEqual((done.code, done.err), (0, ""), done)
        return done.out

    def pgpool_starts_on_all_hosts(self):
        site = self.site
        site.start(0)
        self.assertEqual(site.holders(), [], "there is no quorum yet")
        site.start(1, 2)
        self.leader = site.wait_leader()
        self.assertEqual(self.leader, 0, "it led already")
        self.assertIn("inet 192.168.122.99/24 scope global secondary eth0:0", site.hosts[0].ok("ip addr"))
        site.wait_listed(self.roles(0))
        said = self.pcp("pcp_watchdog_info -v", node=2)
        self.assertRegex(said, r"Quorum state +: QUORUM EXIST")
        self.wait_states(("up", "primary"), ("up", "standby"), ("up", "standby"), timeout=20)

    def pgpool_fails_over(self):
        site = self.site
        site.stop_pgpool(0)
        self.leader = site.wait_leader(but=0)
        site.wait_listed(self.roles(self.leader, (0, "SHUTDOWN")))
        site.start(0)
        site.wait_listed(self.roles(self.leader))
        self.wait_states(("up", "primary"), ("up", "standby"), ("up", "standby"), timeout=20)

    def postgres_fails_over(self):
        site = self.site
        site.hosts[0].ok("sudo systemctl stop postgresql")
        self.wait_states(("down", "standby"), ("up", "primary"), ("up", "standby"), timeout=100)
        self.wait_standbys(1, "pg03.localnet")
        said = site.hosts[self.leader].read("/var/log/pgpool/failover.log")
        self.assertIn("FALLING_NODE: 0\nFALLING_HOST: pg01.localnet\nOLD_PRIMARY_ID: 0\nNEW_PRIMARY_ID: 1\nNEW_PRIMARY_HOST: pg02.localnet\n", said)
        self.assertIn("STANDBY PROMOTE successful", said)
        self.assertIn("STANDBY FOLLOW successful", site.hosts[self.leader].read("/var/log/pgpool/follow_master.log"))
        for name, calls in (("failover", 1), ("follow_master", 2)):
            texts = {"failover": "FALLING_NODE", "follow_master": "executing follow_master.sh"}
            ran = [len(re.findall(texts[name], host.read(f"/var/log/pgpool/{name}.log"))) for host in site.hosts]
            self.assertEqual(ran, [calls if number == self.leader else 0 for number in range(3)], f"calls of {name} by host: only the leader runs it")
        for number in range(3):
            site.wait_backends(number, "down", "up", "up")

    def the_failed_node_is_recovered(self):
        self.pcp("pcp_recovery_node 0", timeout=120)
        self.wait_states(("up", "standby"), ("up", "primary"), ("up", "standby"), timeout=30)
        self.wait_standbys(1, "pg01.localnet", "pg03.localnet")
        for number in range(3):
            self.site.wait_backends(number, "up", "up", "up")

    def a_failed_primary_comes_back_and_is_recovered_by_the_script(self):
        site, host = self.site, self.site.hosts[1]
        script = "/opt/postgres/scripts/recover_failed_node.sh"
        # "Take care that it must be adapted on pg02 and on pg03."
        host.write(script, host.read(script).replace("PGP_NODE_ID=0", "PGP_NODE_ID=1"), 0o755)
        began = time.monotonic()
        site.kill_server(1)
        self.killed = began, time.monotonic()
        self.wait_states(("up", "primary"), ("down", "standby"), ("up", "standby"), timeout=100)
        host.ok("sudo systemctl start postgresql")
        done = host.run(f"{script} --auto-recover-primary", timeout=120)
        self.assertEqual(done.code, 0, done)
        for text in ("Primary node is pg01.localnet", "probably a degenerated master. Lets do pcp_recovery_node", "pcp_recovery_node -- Command Successful"):
            self.assertIn(text, done.out)
        self.wait_states(("up", "primary"), ("up", "standby"), ("up", "standby"), timeout=30)
        self.wait_standbys(0, "pg02.localnet", "pg03.localnet")
        for number in range(3):
            site.wait_backends(number, "up", "up", "up")
