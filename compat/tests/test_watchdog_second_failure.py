"""A second failure in the middle of a failover: failover_command once for each that lasts, and one picture at all nodes.

Side by side, each on a cluster of its own with three pgpools, in which failover_command takes as long as the test wants.
"""

import time

from lib import proc
from lib.case import stock_differs
from lib.fleet import FleetCase

#: Seconds in which a call too many would come: several health checks and beacons.
AFTERWARDS = 6


class SecondFailureCase(FleetCase):
    weight = 70

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for fleet in cls.all:
            fleet.launch()
        for fleet in cls.all:
            fleet.wait_started()

    def setUp(self):
        for fleet in self.all:
            fleet.leads = fleet.wait_leader()
            running = fleet.running()
            for number in running:
                fleet.wait_listed(number, {n: "LEADER" if n == fleet.leads else "STANDBY" for n in running})

    def wait_picture(self, fleet, *wanted, timeout=60):
        """(status, role) of the servers, at each node that runs."""

        def seen():
            found = {}
            for number in fleet.running():
                found[number] = [("up" if status == "waiting" else status, role) for status, role in fleet.backends(fleet.nodes[number])]
            return found

        proc.wait_for(lambda: all(picture == list(wanted) for picture in seen().values()), lambda: f"all nodes to have {wanted}; they have {seen()}\n{fleet.log()}", timeout=timeout, pause=0.2)

    def comes_back(self, *fleets):
        """The node that led and died is started again, and learns what the others know."""
        for fleet in fleets:
            fleet.launch(fleet.leads)
        for fleet in fleets:
            fleet.wait_started(fleet.leads)
            fleet.wait_leader(but=fleet.leads)

    def calls(self, fleet, *wanted):
        self.assertEqual(fleet.failovers(), list(wanted), f"calls of failover_command\n{fleet.log()}")


class Servers(SecondFailureCase):
    """The second is a server's: the primary dies while the failover of a standby goes on, and the other way round;
    and while it goes on a pgpool that does not lead dies."""

    fleets = ({"servers": 3},) * 3

    @stock_differs("while it works, it counts the votes about the backend anew, and runs failover_command for it twice")
    def test_1_the_other_failover_follows_and_neither_is_lost_or_doubled(self):
        first = ((2, 0), (0, 2), (2, None))
        for fleet, (one, _) in zip(self.all, first):
            fleet.hold_hooks()
            fleet.cluster[one].kill()
        for fleet, (one, two) in zip(self.all, first):
            self.assertEqual(fleet.wait_hook(one), f"pgpool{fleet.leads}")
            if two is None:
                fleet.die(next(number for number in range(3) if number != fleet.leads))
            else:
                fleet.cluster[two].kill()
        # Long enough for the votes about the second to come while the first goes on.
        proc.never(lambda: any(len(fleet.failovers()) != 1 for fleet in self.all), "a failover beside the one that goes on", AFTERWARDS)
        for fleet in self.all:
            fleet.release_hooks()
        for fleet in self.all[:2]:
            self.wait_picture(fleet, ("down", "standby"), ("up", "primary"), ("down", "standby"))
            self.eventually(fleet.writes_through_address, "a client to write through the address", timeout=40)
        self.wait_picture(self.all[2], ("up", "primary"), ("up", "standby"), ("down", "standby"))
        time.sleep(AFTERWARDS)
        for fleet, (one, two) in zip(self.all, first):
            self.calls(fleet, *((backend, f"pgpool{fleet.leads}") for backend in (one, two) if backend is not None))
            self.assertEqual(fleet.settled(), fleet.leads)

    @stock_differs("it cannot be started while the hook of the killed one runs")
    def test_2_a_leader_that_is_killed_alone_comes_back_while_its_failover_command_still_runs(self):
        fleet = self.all[2]
        gone = next(number for number in range(3) if number not in fleet.running())
        fleet.launch(gone)
        fleet.wait_started(gone)
        fleet.leads, before = fleet.wait_leader(), fleet.failovers()
        fleet.hold_hooks()
        fleet.cluster[0].kill()
        self.assertEqual(fleet.wait_hook(0), f"pgpool{fleet.leads}")
        fleet.nodes[fleet.leads].kill()
        # The next leader cannot know how far it came.
        second = fleet.wait_hook(0, count=2)
        self.assertNotEqual(second, f"pgpool{fleet.leads}")
        fleet.launch(fleet.leads)
        fleet.wait_started(fleet.leads)
        fleet.release_hooks()
        self.wait_picture(fleet, ("down", "standby"), ("up", "primary"), ("down", "standby"), timeout=90)
        fleet.wait_leader(but=fleet.leads)
        self.eventually(fleet.writes_through_address, "a client to write through the address", timeout=40)
        time.sleep(AFTERWARDS)
        self.calls(fleet, *before, (0, f"pgpool{fleet.leads}"), (0, second))


class Leaders(SecondFailureCase):
    """The leader's host dies with the primary: at the same moment, in the middle of failover_command, and after it."""

    fleets = ({"servers": 2},) * 3

    def test_the_next_leader_does_what_the_dead_one_has_not_done(self):
        before, amid, after = self.all
        amid.hold_hooks()
        before.die(before.leads)
        for fleet in self.all:
            fleet.cluster[0].kill()
        self.assertEqual(amid.wait_hook(0), f"pgpool{amid.leads}")
        amid.die(amid.leads)
        amid.release_hooks()
        self.wait_picture(after, ("down", "standby"), ("up", "primary"))
        after.die(after.leads)
        new = [fleet.wait_leader(but=fleet.leads, timeout=90) for fleet in self.all]
        for fleet in self.all:
            self.wait_picture(fleet, ("down", "standby"), ("up", "primary"), timeout=90)
            self.eventually(fleet.writes_through_address, "a client to write through the address", timeout=40)
        self.comes_back(*self.all)
        for fleet in self.all:
            self.wait_picture(fleet, ("down", "standby"), ("up", "primary"))
        time.sleep(AFTERWARDS)
        self.calls(before, (0, f"pgpool{new[0]}"))
        # What the dead leader had begun, nobody else can know the end of.
        self.calls(amid, (0, f"pgpool{amid.leads}"), (0, f"pgpool{new[1]}"))
        self.calls(after, (0, f"pgpool{after.leads}"))
        self.assertEqual([fleet.settled() for fleet in self.all], new)
