"""Four and seven pgpools on hosts of their own: election, quorum, who has the virtual IP; and how they start."""

import signal

from lib import proc
from lib.case import stock_differs
from lib.fleet import FleetCase


class SizeCase(FleetCase):
    def start_at_once(self):
        """All nodes of all fleets at the same moment: one leads, has the address alone, and all list all."""
        for fleet in self.all:
            fleet.seen = self.watch(fleet)
            fleet.launch()
        for fleet in self.all:
            fleet.wait_started()
        leaders = [fleet.wait_leader() for fleet in self.all]
        for fleet, leader in zip(self.all, leaders):
            for number in range(len(fleet.nodes)):
                fleet.wait_listed(number, self.roles(fleet, leader))
            self.assertEqual(fleet.info(leader)[0]["Quorum state"], "QUORUM EXIST")
            self.eventually(fleet.writes_through_address, "a client to write through the address")
        return leaders

    @staticmethod
    def roles(fleet, leader):
        """As those that run are listed while one leads."""
        return {number: "LEADER" if number == leader else "STANDBY" for number in fleet.running()}

    def leaders_die(self, leaders):
        """Another one leads then, and has the address; returns who."""
        for fleet, leader in zip(self.all, leaders):
            fleet.die(leader)
        found = [fleet.wait_leader(but=leader) for fleet, leader in zip(self.all, leaders)]
        for fleet, leader in zip(self.all, found):
            for number in fleet.running():
                fleet.wait_listed(number, self.roles(fleet, leader))
            self.assertEqual(fleet.info(leader)[0]["Quorum state"], "QUORUM EXIST")
            self.eventually(fleet.writes_through_address, "a client to write through the address")
        return found

    @staticmethod
    def others(fleet, leader):
        return [number for number in fleet.running() if number != leader]

    def come_back(self, *who):
        """(fleet, number) of each."""
        for fleet, number in who:
            fleet.launch(number)
        for fleet, number in who:
            fleet.wait_started(number)

    def one_holder_at_any_time(self):
        for fleet in self.all:
            self.assertEqual(fleet.seen.doubled(), 0, f"seconds with two holders of the address: {fleet.seen.changes}")


class Four(SizeCase):
    """Without enable_consensus_with_half_votes, and with it."""

    fleets = ({"nodes": 4}, {"nodes": 4, "config": {"enable_consensus_with_half_votes": True}})

    def test_half_of_the_votes_is_a_quorum_where_that_is_set(self):
        leaders = self.leaders_die(self.start_at_once())
        without, half = self.all
        for fleet, leader in zip(self.all, leaders):
            self.assertEqual(fleet.info(leader)[0]["Nodes required for quorum"], "3" if fleet is without else "2")
            fleet.die(self.others(fleet, leader)[0])
        without.wait_quorum(leaders[0], "QUORUM ABSENT", held=False)
        half.wait_quorum(leaders[1], "QUORUM IS ON THE EDGE", held=True)
        self.eventually(half.writes_through_address, "a client to write through the address")
        # One of four is less than half.
        last = self.others(half, leaders[1])[0]
        half.die(last)
        half.wait_quorum(leaders[1], "QUORUM ABSENT", held=False)
        gone = next(number for number in range(4) if number not in without.running())
        self.come_back((without, gone), (half, last))
        without.wait_quorum(leaders[0], "QUORUM EXIST", held=True)
        half.wait_quorum(leaders[1], "QUORUM IS ON THE EDGE", held=True)
        self.assertEqual([fleet.wait_leader() for fleet in self.all], leaders, "who leads leads on")
        self.one_holder_at_any_time()


class Seven(SizeCase):
    fleets = ({"nodes": 7},)

    def test_the_address_is_held_by_four_of_seven_and_not_by_three(self):
        leaders = self.leaders_die(self.start_at_once())
        leader, fleet = leaders[0], self.fleet
        first, second, third = self.others(fleet, leader)[:3]
        fleet.die(first, second)
        fleet.wait_quorum(leader, "QUORUM EXIST", held=True)
        self.assertEqual(fleet.info(leader)[0]["Nodes required for quorum"], "4")
        fleet.die(third)
        fleet.wait_quorum(leader, "QUORUM ABSENT", held=False)
        self.come_back((fleet, second))
        fleet.wait_quorum(leader, "QUORUM EXIST", held=True)
        for number in fleet.running():
            fleet.wait_listed(number, self.roles(fleet, leader))
        # With four of seven left, the next one that leads has no quorum.
        fleet.die(leader)
        self.eventually(lambda: fleet.holders() == [] and sorted(fleet.shown(fleet.running()[0])).count("LEADER") == 1, fleet.log, timeout=60)
        self.come_back((fleet, first))
        fleet.wait_leader(but=leader)
        self.one_holder_at_any_time()


class StartsAndStops(SizeCase):
    """Four nodes are configured, and the last one does not appear until the end."""

    fleets = ({"nodes": 4},)

    def test_1_three_start_at_the_same_moment_again_and_again(self):
        fleet = self.fleet
        for _ in range(3):
            seen = self.watch(fleet)
            fleet.launch(0, 1, 2)
            fleet.wait_started(0, 1, 2)
            leader = fleet.wait_leader()
            for number in range(3):
                fleet.wait_listed(number, {**self.roles(fleet, leader), 3: "DEAD"})
            self.assertEqual((seen.doubled(), fleet.failovers()), (0, []))
            seen.end()
            fleet.end()
            self.assertEqual(fleet.holders(), [])

    @stock_differs("it judges nobody before it has heard of all configured nodes")
    def test_2_a_node_that_never_appears_does_not_switch_the_lifecheck_off(self):
        fleet = self.fleet
        fleet.launch(0, 1, 2)
        fleet.wait_started(0, 1, 2)
        leader = fleet.wait_leader()
        silent, other = self.others(fleet, leader)
        for number in (leader, other):
            # It is watched from its first heartbeat on.
            fleet.nodes[number].wait_log(rf"lifecheck of watchdog node {fleet.hosts[silent].address}:\d+ begins", since=fleet.nodes[number].mark)
        fleet.signal_all(silent, signal.SIGSTOP)
        for number in (leader, other):
            fleet.wait_listed(number, {silent: "LOST", 3: "DEAD"})
        self.assertIn("REPORTED BY LIFECHECK", fleet.nodes[leader].log(since=fleet.nodes[leader].mark))
        fleet.signal_all(silent, signal.SIGCONT)
        fleet.wait_listed(leader, {silent: "STANDBY", 3: "DEAD"})
        # And when it appears at last, it is one of them.
        fleet.launch(3)
        fleet.wait_started(3)
        leader = fleet.wait_leader()
        for number in range(4):
            fleet.wait_listed(number, self.roles(fleet, leader))

    @stock_differs("address and place are given up at once")
    def test_3_a_smart_stop_keeps_address_and_place_until_the_last_client_has_left(self):
        fleet = self.fleet
        leader = fleet.wait_leader()
        other = self.others(fleet, leader)[0]
        client = fleet.client_at_address()
        self.addCleanup(client.close)
        fleet.nodes[leader].signal(signal.SIGTERM)
        fleet.nodes[leader].wait_log(r"shutting down by signal 15", since=fleet.nodes[leader].mark)
        proc.never(lambda: fleet.holders() != [leader] or fleet.shown(other)[leader] not in ("LEADER", "?"), "the address or the place is given up", 4)
        self.assertEqual(client.value("SELECT pg_is_in_recovery()"), "f")
        client.close()
        self.assertEqual(fleet.nodes[leader].wait_end(30), 0)
        new = fleet.wait_leader(but=leader)
        for number in fleet.running():
            fleet.wait_listed(number, {**self.roles(fleet, new), leader: "SHUTDOWN"})
