"""Nodes that the settings of 4.3 take out of the quorum: stopped ones, lost ones, and those that never appear."""

import time

from lib import env, proc
from lib.fleet import FleetCase

#: Seconds, for a node that is lost and for one that never appears.
LOST, NO_SHOW = 8, 12


class Membership(FleetCase):
    """Of three nodes one is left. With wd_remove_shutdown_nodes, wd_lost_node_removal_timeout and
    wd_no_show_node_removal_timeout, in this order, it has the quorum by itself."""

    fleets = (
        {"config": {"wd_remove_shutdown_nodes": True}},
        {"config": {"wd_lost_node_removal_timeout": LOST}},
        {"config": {"wd_no_show_node_removal_timeout": NO_SHOW}},
    )
    weight = 70

    def membership(self, fleet, number):
        """By number of the node, as one of them shows it."""
        seen = fleet.info(number)
        words = {int(node["Pgpool port"]): node["Membership Status"] for node in seen[1]} if seen else {}
        return [words.get(pool.port, "?") for pool in fleet.nodes]

    def wait_members(self, fleet, leader, word, needed):
        """The leader shows the others so, has the quorum and the address, and takes writes there."""
        wanted = ["MEMBER" if number == leader else word for number in range(3)]
        proc.wait_for(lambda: self.membership(fleet, leader) == wanted, lambda: f"{wanted}; node {leader} shows {self.membership(fleet, leader)}\n{fleet.log()}", timeout=60, pause=0.2)
        fleet.wait_quorum(leader, "QUORUM EXIST", held=True)
        self.assertEqual(fleet.info(leader)[0]["Nodes required for quorum"], needed)
        self.eventually(fleet.writes_through_address, "a client to write through the address", timeout=40)

    def test_who_is_left_has_the_quorum_when_the_others_are_removed_and_shares_it_when_they_are_back(self):
        stopped, lost, never = self.all
        began = time.monotonic()
        for fleet, nodes in ((stopped, range(3)), (lost, range(3)), (never, (0,))):
            fleet.seen = self.watch(fleet)
            fleet.launch(*nodes)
        for fleet, nodes in ((stopped, range(3)), (lost, range(3)), (never, (0,))):
            fleet.wait_started(*nodes)
        leaders = [stopped.wait_leader(), lost.wait_leader(), 0]
        for fleet, leader in zip((stopped, lost), leaders):
            fleet.wait_listed(leader, {n: "LEADER" if n == leader else "STANDBY" for n in range(3)})
            self.wait_members(fleet, leader, "MEMBER", "2")

        gone = [[number for number in range(3) if number != leader] for leader in leaders]
        cut = time.monotonic()
        lost.die(*gone[1])
        lost.wait_quorum(leaders[1], "QUORUM ABSENT", held=False)
        for number in gone[0]:
            stopped.nodes[number].stop()
        self.wait_members(stopped, leaders[0], "REVOKED-SHUTDOWN", "1")
        self.wait_members(lost, leaders[1], "REVOKED-LOST", "1")
        self.wait_members(never, leaders[2], "REVOKED-NO-SHOW", "1")
        stopped.wait_listed(leaders[0], {number: "SHUTDOWN" for number in gone[0]})
        lost.wait_listed(leaders[1], {number: "LOST" for number in gone[1]})
        never.wait_listed(leaders[2], {number: "DEAD" for number in gone[2]})
        # Not before its time.
        self.assertGreater(self.back_at(lost, cut), LOST - 1)
        self.assertGreater(self.back_at(never, began), NO_SHOW - 1)

        for fleet, numbers in zip(self.all, gone):
            fleet.marks = [pool.log_size() for pool in fleet.nodes]
            fleet.launch(*numbers)
        for fleet, leader, numbers in zip(self.all, leaders, gone):
            fleet.wait_started(*numbers)
            self.assertEqual(fleet.wait_leader(), leader, "who leads leads on")
            fleet.wait_listed(leader, {n: "LEADER" if n == leader else "STANDBY" for n in range(3)})
            self.wait_members(fleet, leader, "MEMBER", "2")
            if env.SUBJECT == "ours":
                fleet.nodes[leader].wait_log("all watchdog nodes keep the write lease", since=fleet.marks[leader])
            self.assertEqual((fleet.seen.doubled(), fleet.failovers()), (0, []))

    @staticmethod
    def back_at(fleet, since):
        """Seconds from then until the address was there for the last time."""
        return [at for at, names in fleet.seen.changes if names][-1] - since
