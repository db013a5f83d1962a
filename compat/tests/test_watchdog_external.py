"""wd_lifecheck_method = 'external': what is judged is what the stock wd_cli tells each node, and nothing else; and stops."""

import time

from lib import proc
from lib.fleet import FleetCase

#: Seconds of silence after which a standby looks for another leader without being told.
UNTOLD = 29


class External(FleetCase):
    """In the order of the file: the last ones lose nodes."""

    #: The dead time is for heartbeats; ours sends beacons by it, too, and so finds a silent node then at the latest.
    fleets = ({"config": {"wd_lifecheck_method": "external", "wd_heartbeat_deadtime": 30}},)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.fleet.launch()
        cls.fleet.wait_started()

    def tell(self, number, state, about):
        """At the host of `number`; the tool does not wait for what comes of it."""
        done = self.fleet.wd_cli(number, "-I", state, "-n", str(about), "-m", "the operator's own check")
        self.assertEqual((done.code, "ERROR" in done.out + done.err), (0, False), done)

    def cut(self, *names):
        self.fleet.cable.cut(*names)
        self.addCleanup(self.fleet.cable.heal)

    def test_1_a_follower_is_dead_and_alive_when_that_is_told(self):
        fleet = self.fleet
        leader = fleet.wait_leader()
        gone, other = [number for number in range(3) if number != leader]
        self.cut(f"pgpool{gone}")
        proc.never(lambda: fleet.shown(leader)[gone] not in ("STANDBY", "?"), "a silent node is judged by pgpool itself", 8)
        for number in (leader, other):
            self.tell(number, "DEAD", gone)
            fleet.wait_listed(number, {gone: "LOST"})
        fleet.wait_quorum(leader, "QUORUM EXIST", held=True)
        fleet.cable.heal()
        for number in (leader, other):
            self.tell(number, "ALIVE", gone)
        for number in range(3):
            fleet.wait_listed(number, {leader: "LEADER", gone: "STANDBY", other: "STANDBY"}, timeout=60)

    def test_2_a_leader_that_the_others_are_told_is_dead_is_replaced(self):
        fleet = self.fleet
        leader = fleet.wait_leader()
        others = [number for number in range(3) if number != leader]
        self.cut(f"pgpool{leader}")
        told = time.monotonic()
        for number in others:
            self.tell(number, "DEAD", leader)
        new = proc.wait_for(lambda: [n for n in others if n in fleet.holders() and all(fleet.shown(seer)[n] == "LEADER" for seer in others)],
                            lambda: f"another leader with the address; holders {fleet.holders()}\n{fleet.log()}", timeout=60)[0]
        self.assertLess(time.monotonic() - told, UNTOLD, "that may have come of itself")
        # The old one hears of nobody until it is told of them, too.
        for number in others:
            self.tell(leader, "DEAD", number)
        self.eventually(lambda: fleet.holders() == [new], lambda: f"the old leader to give the address up; holders {fleet.holders()}\n{fleet.log()}", timeout=40)
        fleet.cable.heal()
        for number in others:
            self.tell(number, "ALIVE", leader)
            self.tell(leader, "ALIVE", number)
        self.assertEqual(fleet.wait_leader(timeout=90), new)
        for number in range(3):
            fleet.wait_listed(number, {n: "LEADER" if n == new else "STANDBY" for n in range(3)})

    def test_3_a_node_that_is_told_that_it_is_dead_itself_ends_and_another_leads(self):
        fleet = self.fleet
        leader = fleet.wait_leader()
        self.tell(leader, "DEAD", leader)
        self.assertNotEqual(fleet.nodes[leader].wait_end(30), 0)
        self.assertNotEqual(fleet.wait_leader(but=leader), leader)
        fleet.launch(leader)
        fleet.wait_started(leader)
        fleet.wait_leader(but=leader)
