"""The same faults of one node after the other (lib/faults.py): of followers, of a follower with the primary, between two.

Most of it should not keep anybody from writing. So a scenario has steps, one behind the other in the same cluster, and
`gaps` says for how long nobody outside could write in each.
"""

import contextlib
import signal
import time

from . import faults, proc, seed
from .faults import LEADER


class Stage(faults.Stage):
    def prepare(self, *args, **kwargs):
        self.gaps = {}
        super().prepare(*args, **kwargs)

    @contextlib.contextmanager
    def step(self, what):
        since = time.monotonic()
        yield
        self.witness.outside.wait_writes()
        self.gaps[what] = round(self.witness.outside.outage(since), 1)

    # What others say of a node

    def state(self, node, seer=None):
        """As the leader, or `seer`, lists it."""
        seen = self.site.watchdog_info(self.leads if seer is None else seer)
        return {one["Host Name"]: one["Status Name"] for one in seen[1]}.get(seed.NAMES[node]) if seen else None

    def missed(self, node, seer=None, state="LOST"):
        proc.wait_for(lambda: self.state(node, seer) == state, lambda: f"{seed.NAMES[node]} to be {state}; it is {self.state(node, seer)}\n{self.site.log()}", timeout=60, pause=0.2)

    def together(self):
        """Until all that run list all: one leads, the others are its standbys. Returns who leads."""

        def agreed():
            lists = [self.site.watchdog_info(seer) for seer in range(3) if self.site.running(seer)]
            states = [sorted((one["Host Name"], one["Status Name"]) for one in seen[1]) if seen else None for seen in lists]
            same = states[0] and all(one == states[0] for one in states) and sorted(state for _, state in states[0]) == ["LEADER", "STANDBY", "STANDBY"]
            return same and [number for number, (_, state) in enumerate(states[0]) if state == "LEADER"]

        return proc.wait_for(agreed, lambda: f"all to list one leader and two standbys\n{self.site.log()}", timeout=90, pause=0.2)[0]

    def cut_for_a_while(self):
        """Longer than all that counts the silence: the dead time, and what looks each second."""
        time.sleep(2 * self.deadtime + 2)

    # Scenarios

    def follower_fails(self, node):
        """kill -9, SIGSTOP and stop of pgpool on a host that does not lead, each until the leader has noticed; then it is back."""
        self.prepare()
        name, site = seed.NAMES[node], self.site
        with self.step("kill -9"):
            site.kill_pgpool(node)
            self.missed(node)
        with self.step("back after kill -9"):
            site.start(node)
            self.together()
        with self.step("SIGSTOP"):
            site.signal(node, signal.SIGSTOP)
            self.missed(node)
        with self.step("back after SIGSTOP"):
            site.signal(node, signal.SIGCONT)
            self.together()
        with self.step("stop"):
            site.stop_pgpool(node)
            self.missed(node, state="SHUTDOWN")
        with self.step("back after the stop"):
            site.start(node)
            self.together()
        return self.report(f"kill -9, SIGSTOP and stop of pgpool on {name}")

    def followers_host_fails(self, node, ways):
        """The host of a follower and a standby is cut off, in one direction or in both; a client on it tries to write."""
        self.prepare(inside=(node,))
        host = self.site.hosts[node].name
        for way in ways:
            with self.step(f"cut {' and '.join(way)}"):
                self.site.switch.cut(host, ways=way)
                self.cut_for_a_while()
                if "out" in way:
                    self.missed(node)
            with self.step(f"back after {' and '.join(way)}"):
                self.site.switch.heal()
                self.together()
        self.witness.inside[node].wait_writes()
        with self.step("kill -9 of everything"):
            self.site.kill_host(node)
            self.missed(node)
        with self.step("back after kill -9 of everything"):
            self.site.start(node)
            self.together()
        return self.report(f"cuts and kill -9 of the host {host}")

    def primary_beside_a_follower_killed(self, leader):
        """kill -9 of all that runs on the primary's host, where pgpool is a standby; pgpool is started again at the end."""
        self.prepare(synchronous=True, leader=leader)
        self.site.kill_host(LEADER)
        self.goes_on_elsewhere(90)
        self.missed(LEADER)
        self.site.start(LEADER)
        self.together()
        return self.report(f"kill -9 of everything on the primary's host while {seed.NAMES[leader]} leads")

    def primary_beside_a_follower_cut(self, leader, ways=("out", "in")):
        """The primary's host, where pgpool is a standby, is cut off; a client on it writes on as long as it can."""
        self.prepare(inside=(LEADER,), leader=leader)
        self.cut_primary(ways)
        self.goes_on_elsewhere(120)
        time.sleep(2)
        self.site.switch.heal()
        self.together()
        self.witness.outside.wait_writes()
        return self.report(f"cut of the primary's host while {seed.NAMES[leader]} leads")

    def pairs(self):
        """Two hosts do not hear each other, and both hear the third: each two in turn. A client writes on each host."""
        self.prepare(inside=(0, 1, 2), pause=0.1)
        names = [host.name for host in self.site.hosts]
        for one, other in ((0, 1), (0, 2), (1, 2)):
            with self.step(f"between {names[one]} and {names[other]}"):
                self.site.switch.lose([(names[one], names[other]), (names[other], names[one])])
                self.cut_for_a_while()
            with self.step(f"back between {names[one]} and {names[other]}"):
                self.site.switch.heal()
                self.together()
        for writer in self.witness.inside.values():
            writer.wait_writes()
        return self.report("cuts between two hosts")

    def flap_until_lost(self, nodes, times=2):
        """Hosts are cut off and back again, one after the other, each time until they are lost and until they are found."""
        self.prepare(inside=(nodes[0],))
        for node in nodes:
            for count in range(times):
                with self.step(f"{seed.NAMES[node]} lost {count + 1}"):
                    if node == LEADER:
                        self.cut_primary()
                    else:
                        self.site.switch.cut(self.site.hosts[node].name)
                    self.missed(node, seer=next(n for n in (1, 2, 0) if n != node))
                with self.step(f"{seed.NAMES[node]} found {count + 1}"):
                    self.site.switch.heal()
                    self.together()
        return self.report("a cable that flaps, each time for longer than the dead time")
