"""The settings of consensus and quorum, with a backend that only one pgpool's host cannot reach, and quarantine."""

from lib import env, proc, tools, wire
from lib.fleet import FleetCase


class ConsensusCase(FleetCase):
    """Three pgpools and two servers, each on a host of its own."""

    weight = 60

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for fleet in cls.all:
            fleet.launch()
        for fleet in cls.all:
            fleet.wait_started()

    def lose_sight(self, fleet, number, server):
        """What goes from one pgpool's host to a server, and back, is lost."""
        fleet.cable.lose([(f"pgpool{number}", f"server{server}"), (f"server{server}", f"pgpool{number}")])
        self.addCleanup(fleet.cable.heal)

    def a_follower(self, fleet):
        leader = fleet.wait_leader()
        return leader, next(number for number in range(3) if number != leader)

    def shown_by_tools(self, fleet, number):
        """(status, role) of each backend as pcp_node_info -a, its verbose form and SHOW pool_nodes have them; in words when they differ.

        Each looks at the servers, too, which takes its time when one does not answer.
        """
        pool = fleet.nodes[number]
        # host, port, status code, weight, status, live status, role, live role, ...
        short = [tuple(line.split()[4:7:2]) for line in tools.pcp(pool, "node_info", "-a").out.splitlines()]
        verbose = fleet.backends(pool)
        try:
            table = [(row["status"], row["role"]) for row in fleet.show_pool_nodes(number)]
        except (OSError, wire.ServerError, wire.Closed, TimeoutError) as error:
            # The session has to reach the primary, and may be ended by what happens to it.
            return f"SHOW pool_nodes: {error}"
        # A node is waiting until the first client has come, who may be the one that asks.
        short, verbose, table = ([("up" if status == "waiting" else status, role) for status, role in one] for one in (short, verbose, table))
        return table if short == verbose == table else f"pcp_node_info -a {short}, -v {verbose}, SHOW pool_nodes {table}"

    def wait_shown(self, fleet, number, *wanted, timeout=40):
        proc.wait_for(lambda: self.shown_by_tools(fleet, number) == list(wanted),
                      lambda: f"node {number} to show {wanted}; it shows {self.shown_by_tools(fleet, number)}\n{fleet.log()}", timeout=timeout, pause=0.2)


class OneVote(ConsensusCase):
    """A node alone cannot reach the standby: with the defaults, with failover_require_consensus off, and with
    allow_multiple_failover_requests_from_node on."""

    fleets = (
        {"servers": 2},
        {"servers": 2, "config": {"failover_require_consensus": False}},
        {"servers": 2, "config": {"allow_multiple_failover_requests_from_node": True}},
    )

    def test_1_one_vote_is_enough_only_where_that_is_set(self):
        places = [self.a_follower(fleet) for fleet in self.all]
        for fleet, (_, number) in zip(self.all, places):
            self.lose_sight(fleet, number, 1)
        for fleet, (leader, _) in list(zip(self.all, places))[1:]:
            fleet.wait_backends("up", "down", timeout=60)
            self.assertEqual(fleet.failovers(), [(1, f"pgpool{leader}")])
        fleet, (leader, odd) = self.fleet, places[0]
        self.wait_shown(fleet, odd, ("up", "primary"), ("quarantine", "standby"), timeout=60)
        for number in range(3):
            if number != odd:
                self.wait_shown(fleet, number, ("up", "primary"), ("up", "standby"))
        if env.SUBJECT == "ours":
            # In stock's the node is down.
            self.assertEqual(fleet.nodes[odd].status_words(), ["up", "up"], "pgpool_status does not keep a quarantine")
        fleet.cable.heal()
        self.wait_shown(fleet, odd, ("up", "primary"), ("up", "standby"))
        self.assertEqual(fleet.failovers(), [])

    def test_2_a_leader_that_alone_cannot_reach_the_primary_makes_way_for_another(self):
        fleet = self.fleet
        leader, _ = self.a_follower(fleet)
        seen = self.watch(fleet)
        self.lose_sight(fleet, leader, 0)
        self.wait_shown(fleet, leader, ("quarantine", "standby"), ("up", "standby"), timeout=60)
        # Its vote has found no consensus within the 15 seconds that a vote lives at least.
        new = fleet.wait_leader(but=leader, timeout=90)
        self.eventually(fleet.writes_through_address, "a client to write through the address", timeout=40)
        self.wait_shown(fleet, new, ("up", "primary"), ("up", "standby"))
        fleet.cable.heal()
        self.wait_shown(fleet, leader, ("up", "primary"), ("up", "standby"))
        self.assertEqual((fleet.failovers(), seen.doubled(), fleet.wait_leader()), ([], 0, new))


class WithoutQuorum(ConsensusCase):
    """Two of three pgpools are gone, and then a standby dies: with the defaults, and with failover_when_quorum_exists off."""

    fleets = (
        {"servers": 2},
        {"servers": 2, "config": {"failover_when_quorum_exists": False}},
    )

    def test_a_failover_needs_a_quorum_unless_that_is_set(self):
        leaders = [fleet.wait_leader() for fleet in self.all]
        for fleet, leader in zip(self.all, leaders):
            fleet.die(*(number for number in range(3) if number != leader))
            fleet.wait_quorum(leader, "QUORUM ABSENT", held=False)
            fleet.cluster[1].kill()
        with_quorum, without = self.all
        self.wait_shown(without, leaders[1], ("up", "primary"), ("down", "standby"), timeout=60)
        self.assertEqual(without.failovers(), [(1, f"pgpool{leaders[1]}")])
        self.wait_shown(with_quorum, leaders[0], ("up", "primary"), ("quarantine", "standby"), timeout=60)
        self.assertEqual(with_quorum.failovers(), [])
        # With the quorum the votes count.
        other = next(number for number in range(3) if number != leaders[0])
        with_quorum.launch(other)
        with_quorum.wait_started(other)
        with_quorum.wait_quorum(leaders[0], "QUORUM EXIST", held=True)
        for number in with_quorum.running():
            self.wait_shown(with_quorum, number, ("up", "primary"), ("down", "standby"), timeout=60)
        self.assertEqual(with_quorum.failovers(), [(1, f"pgpool{leaders[0]}")])
