"""wd_priority: who leads after a leader has stopped, and who does not take over from one."""

from lib import env, proc
from lib.fleet import FleetCase


def nodes(*subjects):
    return {"subjects": ["stock" if env.SUBJECT == "stock" else one for one in subjects], "per_pool": {n: {"wd_priority": priority} for n, priority in enumerate((5, 2, 9))}}


class Priority(FleetCase):
    """The first node has the middle priority, the second the lowest, the last the highest: no order of numbers or of starts
    leads to the same. With the subject stock all fleets are stock ones: how the test is proved."""

    fleets = (nodes("ours", "ours", "ours"), nodes("ours", "ours", "stock"), nodes("ours", "stock", "ours"), nodes("stock", "ours", "ours"))
    weight = 70

    def start(self, number):
        for fleet in self.all:
            fleet.launch(number)
        for fleet in self.all:
            fleet.wait_started(number)

    def lead(self, number, **others):
        """In each fleet this one leads, with the address, and the others are listed as they are."""
        self.assertEqual([fleet.wait_leader(timeout=60) for fleet in self.all], [number] * len(self.all))
        states = {n: "LEADER" if n == number else others.get(f"node{n}", "STANDBY") for n in range(3)}
        for fleet in self.all:
            for seer in fleet.running():
                fleet.wait_listed(seer, states)

    def test_the_highest_priority_leads_after_a_stop_and_takes_nothing_from_a_leader(self):
        self.start(0)
        self.start(1)
        self.lead(0, node2="DEAD")
        self.start(2)
        self.lead(0)
        # Several beacons and rounds of the lifecheck.
        proc.never(lambda: any(fleet.holders() != [0] or fleet.shown(2)[2] != "STANDBY" for fleet in self.all), "a node with a higher priority takes over", 6)
        for fleet in self.all:
            fleet.nodes[0].stop()
        self.lead(2, node0="SHUTDOWN")
        self.start(0)
        self.lead(2)
        for fleet in self.all:
            fleet.nodes[2].stop()
        self.lead(0, node2="SHUTDOWN")
