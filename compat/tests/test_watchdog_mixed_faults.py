"""Faults of the leader in a cluster of stock nodes and ours: a stock leader among nodes of ours, and one of ours among stock nodes.

What holds for nodes of ours alone (test_watchdog_faults.py) cannot be had of a stock leader, which leaves its address
where it is while it is suspended. What is asked for is that all come together again.
With the subject stock the same is done with stock nodes alone: how the tests are proved.
"""

import signal
import time

from lib import env, seed, watchdog
from lib.watchdog_case import WatchdogCase

DEADTIME = 5
#: The first host's pgpool leads, and the primary is there.
LEADER = 0
SITES = (("stock", "ours", "ours"), ("ours", "stock", "stock"))


class MixedFault(WatchdogCase):
    """Two sites, which go through it side by side."""

    sites = tuple(tuple("stock" if env.SUBJECT == "stock" else one for one in site) for site in SITES)
    settings = watchdog.VOTES
    weight = 90

    def begin(self, synchronous=False):
        """The first one leads, all watch each other, and a client writes through the address."""
        for site in self.all:
            if synchronous:
                site.synchronous()
            # Whoever leads already is not asked to go.
            site.launch(LEADER)
        for site in self.all:
            site.wait_started(LEADER)
            site.launch(1, 2)
        for site in self.all:
            site.wait_started(1, 2)
        self.assertEqual([site.wait_leader() for site in self.all], [LEADER] * len(self.all))
        for site in self.all:
            site.wait_watching(timeout=60)
        self.seen = [self.witness(site) for site in self.all]

    def another_leads(self, site):
        """The others agree on one of them, and it has the address, whoever else has it."""
        found = site.leader(1)
        return found in (1, 2) and site.leader(2) == found and seed.NAMES[found] in site.holders()

    def wait_another_leads(self):
        for site in self.all:
            self.eventually(lambda s=site: self.another_leads(s), lambda s=site: f"another leader with the address; holders {s.holders()}\n{s.log()}", timeout=60)

    def all_come_together(self, since):
        """Behind the fault: one leader, which alone has the address within the dead time, and all list all."""
        for site, seen in zip(self.all, self.seen):
            leader = site.wait_leader()
            site.wait_listed(self.roles(leader))
            seen.outside.wait_writes()
            double = self.last_doubled(seen.watch)
            self.assertLessEqual(double - since, DEADTIME * env.SLOW, f"seconds until one host alone had the address; {seen.watch.told(since)}")
            self.assertEqual(site.wait_leader(), leader, "who leads goes on to lead")

    @staticmethod
    def last_doubled(watch):
        """When two hosts had the address for the last time, which is over; 0 for never."""
        return max((until for (_, names), (until, _) in zip(watch.changes, watch.changes[1:]) if len(names) > 1), default=0)

    def no_row_is_lost(self):
        for seen in self.seen:
            seen.end()
            self.assertEqual(({who: len(rows) for who, rows in seen.lost().items()}, seen.to_two_primaries()[0]), ({"outside": 0}, 0))


class Suspended(MixedFault):
    def test_a_leader_that_is_suspended_and_goes_on(self):
        self.begin()
        for site in self.all:
            site.signal(LEADER, signal.SIGSTOP, "pgpool")
        self.wait_another_leads()
        since = time.monotonic()
        for site in self.all:
            site.signal(LEADER, signal.SIGCONT)
        self.all_come_together(since)
        for site, seen in zip(self.all, self.seen):
            if site.subjects[LEADER] == "ours":
                self.assertLessEqual(seen.watch.doubled(), DEADTIME * env.SLOW, seen.watch.told(since))
            for number in range(3):
                site.wait_backends(number, "up", "up", "up")
        self.no_row_is_lost()


class Cut(MixedFault):
    def test_a_leader_that_is_cut_off_with_the_primary_and_comes_back(self):
        self.begin(synchronous=True)
        for site in self.all:
            site.switch.cut(seed.NAMES[LEADER])
        self.wait_another_leads()
        for site, seen in zip(self.all, self.seen):
            writer = seen.outside
            self.eventually(lambda w=writer: w.acknowledged[-1][2] != seed.ADDRESSES[LEADER], lambda s=site, w=writer: f"writes at another primary; last errors {w.errors[-3:]}\n{s.log()}", timeout=60)
        since = time.monotonic()
        for site in self.all:
            site.switch.heal()
        self.all_come_together(since)
        for site, seen in zip(self.all, self.seen):
            self.assertLessEqual(seen.watch.doubled(), DEADTIME * env.SLOW, seen.watch.told(since))
            for number in range(3):
                site.wait_backends(number, "down", "up", "up")
        self.no_row_is_lost()
