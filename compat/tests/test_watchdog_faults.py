"""Faults of nodes and of the network while a client writes through the address (lib/faults.py, where each is described).

The rules are the same for all: no acknowledged row is lost, no old primary is written to once there is a new one, and
two hosts never have the address for longer than the dead time. How long nobody outside can write has a limit as well, where
the issue of the watchdog sets one; with the system's own parameters the bench measures it.
"""

import os
import signal
import time

from lib import env, faults, proc, seed
from lib.case import ours_only, stock_differs
from lib.fault_case import DEADTIME, FaultCase


class Kills(FaultCase):
    @stock_differs("the address stays where the killed process had it, for ever")
    def test_kill_9_of_pgpool_on_the_leader(self):
        report = self.keeps_the_rules(self.stage.kill_pgpool())
        # Who is back before the others have elected another may lead on; but the address was given up first.
        self.assertIsNotNone(report.gone, report)

    @stock_differs("the address stays where the killed process had it, for ever")
    def test_kill_9_of_everything_on_the_leaders_host(self):
        self.keeps_the_rules(self.stage.kill_host())

    @stock_differs("the address stays where the killed process had it, for ever")
    def test_a_start_that_fails(self):
        self.stage.prepare()
        site, leader = self.site, seed.NAMES[faults.LEADER]
        self.assertNotEqual(site.starts_in_vain(faults.LEADER), 0)
        self.assertEqual(site.holders(), [leader], "another start beside a pgpool that runs leaves it its address")
        # With the guard.
        site.kill_host(faults.LEADER, at_once=True)
        self.assertIn(leader, site.holders(), "nobody is left who could give the address up")
        site.configure(faults.LEADER, "num_init_children = many")
        self.assertNotEqual(site.starts_in_vain(faults.LEADER), 0)
        self.assertNotIn(leader, site.holders(), site.log(faults.LEADER))

    def test_kill_9_of_the_primary(self):
        self.writes_again(self.keeps_the_rules(self.stage.kill_primary()), faults.PRIMARY_LIMIT * env.SLOW)


class Guard(FaultCase):
    """What a process cannot do that is killed or suspended: give up the address."""

    @stock_differs("the address stays where the killed process had it, for ever")
    def test_kill_9_of_pgpool_on_the_leader_without_a_restart(self):
        report = self.moves(self.stage.kill_for_good())
        self.assertIsNotNone(report.gone, report)
        self.assertLessEqual(report.gone, DEADTIME, f"seconds until the address was gone from the killed pgpool's host; {report}")
        self.assertIn("has ended: giving it up", self.site.log(faults.LEADER))

    @stock_differs("the address stays where the suspended process had it")
    def test_a_suspended_leader(self):
        report = self.moves(self.stage.suspend())
        self.assertIn("does not run on", self.site.log(faults.LEADER))
        self.assertIsNotNone(self.site.guard(faults.LEADER), "the guard goes on watching")
        self.assertEqual(self.site.holders(), report.heirs[-1:], report)

    @ours_only("a guard that was killed is started again, and ends with pgpool")
    def test_the_guard_of_the_address(self):
        self.stage.prepare()
        first = self.site.guard(faults.LEADER)
        os.kill(first, signal.SIGTERM)
        time.sleep(0.5)
        self.assertEqual(self.site.guard(faults.LEADER), first, "a signal for all of pgpool does not end it")
        os.kill(first, signal.SIGKILL)
        proc.wait_for(lambda: self.site.guard(faults.LEADER) not in (None, first), "another guard", timeout=15)
        self.assertIn("the guard of the virtual IP has ended", self.site.log(faults.LEADER))
        self.site.stop_pgpool(faults.LEADER)
        proc.wait_for(lambda: self.site.guard(faults.LEADER) is None, "the guard to end with pgpool", timeout=10)


class Clocks(FaultCase):
    """Nobody outside notices that the clock of any node is set, the leader's too."""

    @stock_differs("the others look dead for a moment, and the address is given up")
    def test_clocks_that_are_set_forward(self):
        self.stays(self.stage.clocks(3600))

    @stock_differs("heartbeats with an earlier time are not counted")
    def test_clocks_that_are_set_back(self):
        self.stays(self.stage.clocks(-3600))

    def stays(self, report):
        self.goes_on_undisturbed(report)
        self.assertEqual(self.site.wait_leader(), faults.LEADER)


class CutCase(FaultCase):
    def in_time(self, report):
        """The dead time has to pass before anybody may take the leader for dead."""
        self.writes_again(self.moves(report), DEADTIME + faults.CUT_LIMIT * env.SLOW)


class Cuts(CutCase):
    @stock_differs("who is cut off serves the old primary on")
    def test_the_leaders_host_with_the_primary(self):
        self.in_time(self.stage.cut())

    def test_a_followers_host(self):
        self.goes_on_undisturbed(self.stage.cut_others())

    @stock_differs("who is cut off serves the old primary on")
    def test_what_the_leaders_host_sends(self):
        self.in_time(self.stage.cut(("out",)))


class MoreCuts(CutCase):
    @stock_differs("who is cut off serves the old primary on")
    def test_what_the_leaders_host_is_sent(self):
        self.in_time(self.stage.cut(("in",)))

    def test_a_cable_that_flaps(self):
        self.keeps_the_rules(self.stage.flap())
