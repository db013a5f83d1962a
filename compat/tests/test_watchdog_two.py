"""Two pgpools: what the one that is left can do, without enable_consensus_with_half_votes and with it."""

from lib import env, fleet_writer, wire
from lib.fleet import FleetCase
from lib.witness import Watch


class Two(FleetCase):
    """The first fleet is without, the second with half votes. In the order of the file, as each test leaves both nodes running."""

    fleets = ({"nodes": 2}, {"nodes": 2, "config": {"enable_consensus_with_half_votes": True}})
    weight = 80

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.without, cls.half = cls.all
        for fleet in cls.all:
            fleet_writer.prepare(fleet)
            fleet.seen, fleet.row = Watch(fleet), 0
            fleet.seen.start()
            cls.addClassCleanup(fleet.seen.end)

    def tearDown(self):
        for fleet in self.all:
            self.assertEqual(fleet.failovers(), [])
            # With half of the votes a stock node that comes back may lead until it has found the other one.
            if fleet is self.without or env.SUBJECT == "ours":
                self.assertEqual(fleet.seen.doubled(), 0, f"seconds with two holders of the address: {fleet.seen.changes}")
        super().tearDown()

    def both_are_there(self):
        """One leads and has the address, and both list both; returns who leads."""
        leaders = [fleet.wait_leader() for fleet in self.all]
        for fleet, leader, needed in zip(self.all, leaders, ("2", "1")):
            for number in range(2):
                fleet.wait_listed(number, {leader: "LEADER", 1 - leader: "STANDBY"})
            fleet.wait_quorum(leader, "QUORUM EXIST", held=True)
            self.assertEqual(fleet.info(leader)[0]["Nodes required for quorum"], needed)
            self.writes_at_address(fleet)
            fleet.marks = [pool.log_size() for pool in fleet.nodes]
        return leaders

    @staticmethod
    def insert(fleet):
        fleet.row += 1
        return f"INSERT INTO written VALUES ({fleet.row})"

    def writes(self, fleet, client):
        """A row of this client is acknowledged, and the server has it."""
        with client:
            client.query(self.insert(fleet)).ok()
        self.assertEqual(fleet.cluster[0].value(f"SELECT count(*) FROM written WHERE n = {fleet.row}"), "1")

    def writes_at_address(self, fleet):
        # Of two stock nodes the one that comes back may have had the address for a moment, and clients ask there until they forget it.
        self.eventually(fleet.writes_through_address, "the address to be reached", timeout=60)
        self.writes(fleet, fleet.client_at_address())

    def one_is_left(self, gone, state):
        """The nodes `gone` have just ended: what the other one of each fleet does until they are back."""
        left = [1 - number for number in gone]
        for fleet, number, other in zip(self.all, left, gone):
            fleet.wait_listed(number, {number: "LEADER", other: state})
        self.half.wait_quorum(left[1], "QUORUM IS ON THE EDGE", held=True)
        self.without.wait_quorum(left[0], "QUORUM ABSENT", held=False)
        self.writes_at_address(self.half)
        self.alone_without_quorum(self.without, left[0], gone[0])
        for fleet, number in zip(self.all, gone):
            if not fleet.nodes[number].running:
                fleet.launch(number)
        for fleet, number in zip(self.all, gone):
            fleet.wait_started(number)
        self.assertEqual(self.both_are_there(), left, "who leads leads on")

    def alone_without_quorum(self, fleet, number, other):
        """Nobody has the address. A client that asks this node by its own one: stock serves it; ours, which cannot know
        whether the other one promotes another server, lets it wait until there is a majority again."""
        client = fleet.client_of(number, timeout=60)
        if env.SUBJECT == "stock":
            return self.writes(fleet, client)
        with client:
            fleet.nodes[number].wait_log("writes wait: no majority", since=fleet.marks[number])
            client.send(wire.query(self.insert(fleet)))
            self.assertTrue(client.quiet(6), "a write is acknowledged without a majority")
            self.assertEqual(fleet.cluster[0].value(f"SELECT count(*) FROM written WHERE n = {fleet.row}"), "0")
            fleet.launch(other)
            fleet.wait_started(other)
            client.until().ok()
        self.assertEqual(fleet.cluster[0].value(f"SELECT count(*) FROM written WHERE n = {fleet.row}"), "1")

    def start(self, *numbers):
        for fleet in self.all:
            fleet.launch(*numbers)
        for fleet in self.all:
            fleet.wait_started(*numbers)

    def test_1_one_starts_and_the_other_joins_it(self):
        self.start(0)
        self.half.wait_quorum(0, "QUORUM IS ON THE EDGE", held=True)
        self.without.wait_quorum(0, "QUORUM ABSENT", held=False)
        for fleet in self.all:
            fleet.wait_listed(0, {0: "LEADER", 1: "DEAD"})
        self.writes_at_address(self.half)
        self.start(1)
        self.assertEqual(self.both_are_there(), [0, 0], "who leads leads on")

    def test_2_the_standby_is_killed(self):
        gone = [1 - leader for leader in self.both_are_there()]
        for fleet, number in zip(self.all, gone):
            fleet.die(number)
        self.one_is_left(gone, "LOST")

    def test_3_the_leader_is_killed(self):
        leaders = self.both_are_there()
        for fleet, number in zip(self.all, leaders):
            fleet.die(number)
        self.one_is_left(leaders, "LOST")

    def test_4_the_leader_stops(self):
        leaders = self.both_are_there()
        for fleet, number in zip(self.all, leaders):
            fleet.nodes[number].stop()
        self.one_is_left(leaders, "SHUTDOWN")

    def test_5_both_start_at_the_same_moment(self):
        for fleet in self.all:
            fleet.end()
            self.assertEqual(fleet.holders(), [])
        self.start(0, 1)
        self.both_are_there()
