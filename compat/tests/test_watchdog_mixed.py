"""Stock nodes and ours in one cluster, in each order of joining; and a cluster that is migrated node by node, and back.

With the subject stock the same is done with stock nodes alone: how the tests are proved.
"""

import re
import time

from lib import env, seed, watchdog
from lib.case import slow
from lib.watchdog_case import WatchdogCase


def hosts(*subjects):
    return tuple("stock" if env.SUBJECT == "stock" else one for one in subjects)


class MixedCase(WatchdogCase):
    """Three sites, which go through it side by side; the hosts join in the order of their numbers."""

    settings = watchdog.VOTES
    # Not the numbers of the backends on these hosts, by which a file of 4.0 tells a node's id unless something else does:
    # pgpool-rs.conf on the second site, and pgpool_node_id, which goes before it, on the third one.
    ids = (None, (2, 0, 1), (1, 2, 0))
    weight = 90

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        site = cls.all[2]
        for host, own in zip(site.hosts, site.ids):
            host.write("/etc/pgpool-II/pgpool_node_id", f"{own}\n")
            host.write("/etc/pgpool-II/pgpool-rs.conf", re.sub("^node_id = .*$", f"node_id = {(own + 1) % 3}", host.read("/etc/pgpool-II/pgpool-rs.conf"), flags=re.M))

    def leaders(self, **kwargs):
        return [site.wait_leader(**kwargs) for site in self.all]

    def all_goes_well(self):
        for number in range(3):
            for site in self.all:
                site.launch(number)
            for site in self.all:
                site.wait_started(number)
            # Alone the first has no quorum; the address comes with the second.
            if number:
                self.leaders()
        leaders = self.leaders()
        self.assertEqual(leaders, [0, 0, 0], "who came first leads")
        for site in self.all:
            site.wait_listed(self.roles(0))
            for number in range(3):
                for place, own in enumerate(site.ids or range(3)):
                    # In a file of 4.0 tools count from the node that is asked.
                    if site.subjects[number] == "stock":
                        self.assertEqual(site.watchdog_info(number, "-n", own)[1][0]["Host Name"], seed.NAMES[place])
                self.assertEqual(site.watchdog_info(number)[0]["Quorum state"], "QUORUM EXIST")
                self.assertEqual([role for _, role in site.backends(number)], ["primary", "standby", "standby"])
            # Stock says so when it has accepted heartbeats of all others.
            site.wait_watching(timeout=60)
        self.a_standby_dies_and_all_agree()
        self.the_leader_stops_and_comes_back()
        self.the_new_leader_is_killed()

    def a_standby_dies_and_all_agree(self):
        """By votes, one call of failover_command, at the leader."""
        for site in self.all:
            site.kill_server(2)
        for site in self.all:
            for number in range(3):
                site.wait_backends(number, "up", "up", "down")
            self.assertEqual([host.read("/var/log/pgpool/failover.log").count("FALLING_NODE: 2") for host in site.hosts], [1, 0, 0], "calls of failover_command by host")
            site.hosts[2].ok("sudo systemctl start postgresql")
            time.sleep(1.5)  # stock replaces its PCP process one second after a failover
            site.hosts[1].ok("pcp_attach_node -h localhost -p 9898 -w 2")
        for site in self.all:
            for number in range(3):
                site.wait_backends(number, "up", "up", "up")

    def the_leader_stops_and_comes_back(self):
        seen = [self.witness(site) for site in self.all]
        for site in self.all:
            site.stop_pgpool(0)
        self.second = [site.wait_leader(but=0) for site in self.all]
        for site, leader, one in zip(self.all, self.second, seen):
            site.wait_listed(self.roles(leader, (0, "SHUTDOWN")))
            one.outside.wait_writes()
        for site in self.all:
            site.launch(0)
        for site, leader, one in zip(self.all, self.second, seen):
            site.wait_started(0)
            site.wait_listed(self.roles(leader))
            self.nothing_lost_or_doubled(one, deadtime=1)

    def the_new_leader_is_killed(self):
        """kill -9, and it comes back only later: its address stays where it was until then, and with stock also after that."""
        for site, leader in zip(self.all, self.second):
            site.kill_pgpool(leader)
        for site, leader in zip(self.all, self.second):
            others = [number for number in range(3) if number != leader]
            self.eventually(lambda s=site, o=others: s.leader(o[0]) == s.leader(o[1]) and s.leader(o[0]) in o and seed.NAMES[s.leader(o[0])] in s.holders(),
                            lambda s=site: f"another leader with the address; holders {s.holders()}\n{s.log()}", timeout=40)
            if site.subjects[leader] == "stock":
                site.drop_address(leader)
            site.launch(leader)
        for site, leader in zip(self.all, self.second):
            site.wait_started(leader)
            new = site.wait_leader(but=leader)
            site.wait_listed(self.roles(new))


class OneOfOurs(MixedCase):
    sites = (hosts("ours", "stock", "stock"), hosts("stock", "ours", "stock"), hosts("stock", "stock", "ours"))

    def test_one_of_ours_and_two_of_stock_in_each_order_of_joining(self):
        self.all_goes_well()


class TwoOfOurs(MixedCase):
    sites = (hosts("ours", "ours", "stock"), hosts("ours", "stock", "ours"), hosts("stock", "ours", "ours"))

    def test_two_of_ours_and_one_of_stock_in_each_order_of_joining(self):
        self.all_goes_well()


class Migration(WatchdogCase):
    """The binary of one host after the other is replaced, and then put back; the files stay as they are."""

    sites = (("stock", "stock", "stock"),)
    dialect = "4.3"
    weight = 100

    @slow
    def test_node_by_node_and_back_while_a_client_writes(self):
        site = self.site
        site.start_all()
        seen = self.witness()
        moves = 0
        for subject in (env.SUBJECT, "stock"):
            for number in range(3):
                leader = site.wait_leader()
                site.stop_pgpool(number)
                if number == leader:
                    moves += 1
                site.wait_leader(but=number)
                site.install(number, subject)
                site.start(number)
                site.wait_listed(self.roles(site.wait_leader()))
                seen.outside.wait_writes()
        self.assertGreaterEqual(moves, 2)
        for number in range(3):
            self.assertEqual(site.backends(number), [("up", "primary"), ("up", "standby"), ("up", "standby")])
        self.nothing_lost_or_doubled(seen, deadtime=1)
