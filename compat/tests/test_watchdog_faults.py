"""Faults of nodes and of the network while a client writes through the address (lib/faults.py, where each is described).

The rules are the same for all: no acknowledged row is lost, no old primary is written to once there is a new one, and
two hosts never have the address for longer than the dead time. How long it takes is measured by the bench.
"""

import sys

from lib import env, faults
from lib.case import stock_differs
from lib.watchdog_case import WatchdogCase

DEADTIME = 5


class FaultCase(WatchdogCase):
    weight = 100

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.stage = faults.Stage(cls.site, DEADTIME)

    def tearDown(self):
        if self.stage.witness is not None:
            self.stage.witness.end()

    def keeps_the_rules(self, report):
        # `compat/run -v` shows it.
        print(report, file=sys.stderr)
        self.assertEqual(set(report.lost.values()), {0}, f"acknowledged rows that the primary of the end does not have; {report}")
        self.assertEqual(report.two_primaries, 0, report)
        self.assertLessEqual(report.doubled, DEADTIME * env.SLOW, report)
        return report


class Kills(FaultCase):
    @stock_differs("the address stays where the killed process had it, for ever")
    def test_kill_9_of_pgpool_on_the_leader(self):
        self.keeps_the_rules(self.stage.kill_pgpool())

    @stock_differs("the address stays where the killed process had it, for ever")
    def test_kill_9_of_everything_on_the_leaders_host(self):
        self.keeps_the_rules(self.stage.kill_host())

    def test_kill_9_of_the_primary(self):
        self.keeps_the_rules(self.stage.kill_primary())


class Pauses(FaultCase):
    def test_a_suspended_leader(self):
        self.keeps_the_rules(self.stage.suspend())

    @stock_differs("the others look dead for a moment, and the address is given up")
    def test_clocks_that_are_set_forward(self):
        self.goes_on_undisturbed(self.stage.clocks(3600))

    @stock_differs("heartbeats with an earlier time are not counted")
    def test_clocks_that_are_set_back(self):
        self.goes_on_undisturbed(self.stage.clocks(-3600))

    def goes_on_undisturbed(self, report):
        self.keeps_the_rules(report)
        self.assertEqual(report.orphaned, 0, report)
        self.assertEqual(self.site.wait_leader(), faults.LEADER)


class Cuts(FaultCase):
    @stock_differs("who is cut off serves the old primary on")
    def test_the_leaders_host_with_the_primary(self):
        self.keeps_the_rules(self.stage.cut())

    def test_a_followers_host(self):
        report = self.keeps_the_rules(self.stage.cut_others())
        self.assertEqual((report.orphaned, report.doubled), (0, 0), report)

    @stock_differs("who is cut off serves the old primary on")
    def test_what_the_leaders_host_sends(self):
        self.keeps_the_rules(self.stage.cut(("out",)))


class MoreCuts(FaultCase):
    @stock_differs("who is cut off serves the old primary on")
    def test_what_the_leaders_host_is_sent(self):
        self.keeps_the_rules(self.stage.cut(("in",)))

    def test_a_cable_that_flaps(self):
        self.keeps_the_rules(self.stage.flap())
