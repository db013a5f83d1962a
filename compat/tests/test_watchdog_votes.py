"""Failovers by votes in fleets of four and seven pgpools, while a client writes rows through the address: failover_command
runs once, and no acknowledged row is lost."""

import time

from lib import fleet_writer
from lib.fleet import FleetCase
from lib.fleet_writer import FleetWriter

#: Seconds in which a second call of failover_command would come: several health checks.
AFTERWARDS = 5


class VotesCase(FleetCase):
    """A primary and a standby for all pgpools, which start at the same moment, and then the client begins to write."""

    weight = 70

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for fleet in cls.all:
            fleet_writer.prepare(fleet)
            fleet.launch()
        for fleet in cls.all:
            fleet.wait_started()

    def setUp(self):
        for fleet in self.all:
            fleet.leads = fleet.wait_leader()
            for number in fleet.running():
                fleet.wait_listed(number, {n: "LEADER" if n == fleet.leads else "STANDBY" for n in fleet.running()})
            fleet.seen = self.watch(fleet)
            fleet.writer = FleetWriter(fleet).begin()
            self.addCleanup(fleet.writer.end)

    def followers_die(self, fleet, count):
        fleet.die(*[number for number in fleet.running() if number != fleet.leads][:count])

    def standby_dies(self):
        """Those that are left agree, and the leader runs failover_command for all, once."""
        for fleet in self.all:
            fleet.cluster[1].kill()
        for fleet in self.all:
            self.assertEqual(fleet.wait_hook(1), f"pgpool{fleet.leads}")
        for fleet in self.all:
            fleet.wait_backends("up", "down")
            fleet.writer.wait_writes()
        time.sleep(AFTERWARDS)
        for fleet in self.all:
            self.assertEqual(fleet.failovers(), [(1, f"pgpool{fleet.leads}")], fleet.log())

    def nothing_lost(self):
        for fleet in self.all:
            fleet.writer.wait_writes()
            self.assertEqual(fleet.writer.missing(fleet.cluster[0]), [], "acknowledged rows that the primary does not have")
            self.assertEqual(fleet.seen.doubled(), 0, f"seconds with two holders of the address: {fleet.seen.changes}")
            self.assertEqual(fleet.settled(), fleet.leads)


class Four(VotesCase):
    """Three of four vote; and where half of the votes is enough, two of four."""

    fleets = ({"nodes": 4, "servers": 2}, {"nodes": 4, "servers": 2, "config": {"enable_consensus_with_half_votes": True}})

    def test_a_standby_dies(self):
        without, half = self.all
        self.followers_die(without, 1)
        self.followers_die(half, 2)
        without.wait_quorum(without.leads, "QUORUM EXIST", held=True)
        half.wait_quorum(half.leads, "QUORUM IS ON THE EDGE", held=True)
        self.standby_dies()
        self.nothing_lost()


class Seven(VotesCase):
    fleets = ({"nodes": 7, "servers": 2},)

    def test_the_leader_dies_and_then_a_standby_of_which_four_are_left_to_tell(self):
        fleet = self.fleet
        since = time.monotonic()
        fleet.die(fleet.leads)
        fleet.leads = fleet.wait_leader(but=fleet.leads)
        fleet.writer.wait_writes()
        self.assertEqual(fleet.seen.heirs(since), [f"pgpool{fleet.leads}"])
        self.followers_die(fleet, 2)
        fleet.wait_quorum(fleet.leads, "QUORUM EXIST", held=True)
        self.assertEqual((len(fleet.running()), fleet.info(fleet.leads)[0]["Nodes required for quorum"]), (4, "4"))
        self.standby_dies()
        self.nothing_lost()
